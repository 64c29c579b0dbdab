"""Open a case for each account with root access keys that has none open and no exception."""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rootsweep import cases, root_access, sweeps
from rootsweep.accounts import Account, AccountState
from rootsweep.errors import CaseEndedError, RootSessionDeniedError

BUCKET = os.environ["BUCKET"]
MAIL_WINDOW_SECONDS = int(os.environ["MAIL_WINDOW_SECONDS"])
PARTITION = os.environ["PARTITION"]
REMEDIATE_ARN = os.environ["REMEDIATE_ARN"]
CONCURRENCY = 16
# How much longer the mails wait for each case that has to be opened and gathered first.
SECONDS_A_CASE = 0.3
calls = Config(
    retries={"mode": "standard", "total_max_attempts": 10}, max_pool_connections=CONCURRENCY
)
log = logging.getLogger()
s3 = boto3.client("s3", config=calls)
sts = boto3.client("sts", config=root_access.CALLS)
stepfunctions = boto3.client("stepfunctions", config=calls)
table = boto3.resource("dynamodb", config=calls).Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The sweep -> the sweep and `cases_opened`. With `detect_only` it reads and opens nothing."""
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    found = files.read_findings()
    with_keys = [
        account
        for account in files.read_accounts()
        if account.id in found and found[account.id].state == AccountState.ROOT_KEYS
    ]
    seconds = MAIL_WINDOW_SECONDS + SECONDS_A_CASE * len(with_keys)
    ask_at = datetime.now(UTC) + timedelta(seconds=seconds)

    def look_into(account: Account) -> tuple[dict[str, Any], cases.Case | None]:
        try:
            return look_into_account(
                account,
                sweep_id=event["sweep_id"],
                detect_only=event["detect_only"],
                ask_at=ask_at,
            )
        except Exception as error:  # One account must not cost the others their cases.
            log.exception("no case for account %s", account.id)
            reason = f"it has root access keys, but no case: {root_access.reason(error)}"
            return {"keys": [], "state": AccountState.UNKNOWN, "reason": reason}, None

    with ThreadPoolExecutor(max_workers=CONCURRENCY) as pool:
        results = list(pool.map(look_into, with_keys))
    files.write_cases(
        {
            account.id: row | {"case": case_row(case) if case else None}
            for account, (row, case) in zip(with_keys, results, strict=True)
        }
    )
    if not event["detect_only"]:
        wake_cases_without_keys(found)
    # Counted by the sweep that opened them, so that a retry of this function counts the same.
    opened = sum(case is not None and case.sweep_id == event["sweep_id"] for _, case in results)
    return {**event, "cases_opened": opened}


def wake_cases_without_keys(found: dict[str, sweeps.Finding]) -> None:
    """Have those cases look again whose accounts have no root access key any more.

    It never fails: the sweep has a report to write, and the next one wakes them as well.
    """
    try:
        for account_id, case_id in cases.open_case_ids(table).items():
            finding = found.get(account_id)
            if finding and finding.state == AccountState.CLEAN:
                woken = cases.wake(table, case_id=case_id)
                log.info("account %s is clean, case %s was woken: %s", account_id, case_id, woken)
    except Exception:
        log.exception("not every case was woken whose keys are gone")


def look_into_account(
    account: Account, *, sweep_id: str, detect_only: bool, ask_at: datetime
) -> tuple[dict[str, Any], cases.Case | None]:
    """What the report says of an account with keys, and its case."""
    keys, reason = read_keys(account.id)
    row: dict[str, Any] = {"keys": [key.to_dict() for key in keys], "reason": reason}
    now = datetime.now(UTC)
    exception = cases.find_exception(table, account_id=account.id, now=now)
    if exception and reason:
        # Nobody is asked again because of a hiccup; nor are the keys taken for the excepted ones.
        case = cases.load(table, case_id=exception.case_id)
        return row | {"state": AccountState.UNKNOWN}, case
    if exception and exception.fingerprint == root_access.fingerprint(account.id, keys):
        why = f"until {exception.until}, by {exception.owner}: {exception.reason}"
        case = cases.load(table, case_id=exception.case_id)
        return row | {"state": AccountState.EXCEPTED, "reason": why}, case
    if detect_only:
        return row, cases.find_open_case(table, account_id=account.id)
    return row, ensure_case(account, sweep_id=sweep_id, now=now, ask_at=ask_at)


def ensure_case(account: Account, *, sweep_id: str, now: datetime, ask_at: datetime) -> cases.Case:
    """The open case of the account, with its execution running; a new one if there is none."""
    case = open_case(account, sweep_id=sweep_id, now=now, ask_at=ask_at)
    if start(case):
        return case
    try:
        cases.record_outcome(
            table,
            case_id=case.id,
            outcome=cases.Outcome.FAILED,
            reason="its execution was stopped or failed before it recorded an outcome",
            now=now,
        )
    except CaseEndedError:
        return cases.load(table, case_id=case.id)  # It ended properly this very moment.
    case = open_case(account, sweep_id=sweep_id, now=now, ask_at=ask_at)
    start(case)
    return case


def open_case(account: Account, *, sweep_id: str, now: datetime, ask_at: datetime) -> cases.Case:
    """`cases.open_case`, tried again when it met another sweep at the same account."""
    for attempt in range(1, 4):
        try:
            return cases.open_case(
                table,
                account=account,
                sweep_id=sweep_id,
                remediate_arn=REMEDIATE_ARN,
                now=now,
                ask_at=ask_at,
            )
        except table.meta.client.exceptions.TransactionCanceledException:
            if attempt == 3:
                raise
            time.sleep(0.2 * attempt)
    raise AssertionError("the loop above returns or raises")


def read_keys(account_id: str) -> tuple[list[root_access.RootKey], str]:
    """The keys of an account, and why they could not be read if they could not."""
    try:
        iam = root_access.audit_session(sts, account_id=account_id, partition=PARTITION)
        return root_access.list_root_keys(iam, account_id=account_id), ""
    except (RootSessionDeniedError, ClientError, BotoCoreError) as error:
        return [], f"its keys could not be read: {root_access.reason(error)}"


def start(case: cases.Case) -> bool:
    """Make sure that the case's execution runs; False if it has run and ended.

    Starting it again is how a case is found whose execution was never started: Step Functions
    answers the same name and input with the running execution (API, StartExecution).
    """
    account = {"id": case.account_id, "name": case.account_name, "ou": case.ou}
    try:
        stepfunctions.start_execution(
            stateMachineArn=REMEDIATE_ARN,
            name=case.id,
            input=json.dumps({"case_id": case.id, "sweep_id": case.sweep_id, "account": account}),
        )
    except stepfunctions.exceptions.ExecutionAlreadyExists:
        return False
    return True


def case_row(case: cases.Case) -> dict[str, Any]:
    """A case as the report shows it."""
    return {
        "id": case.id,
        "outcome": case.outcome,
        "execution_arn": case.execution_arn,
        "opened_at": case.opened_at,
        "rung": 1,
    }
