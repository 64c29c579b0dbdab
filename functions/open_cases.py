"""Open a case for each account with root access keys that has none open and no exception."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from rootsweep import cases, escalation, exceptions, logs, root_access, sweeps, words
from rootsweep.accounts import SKIPPED_STATES, Account, AccountState
from rootsweep.calls import CALLS, PATIENT_CALLS
from rootsweep.errors import CaseEndedError, RootSessionDeniedError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
BUCKET = os.environ["BUCKET"]
GOVCLOUD = "aws-us-gov"
GOVCLOUD_EXCEPTION_REASON = os.environ["GOVCLOUD_EXCEPTION_REASON"]
KEEP = timedelta(days=int(os.environ["CASE_RETENTION_DAYS"]))
MAIL_WINDOW_SECONDS = int(os.environ["MAIL_WINDOW_SECONDS"])
PARTITION = os.environ["PARTITION"]
REMEDIATE_ARN = os.environ["REMEDIATE_ARN"]
CONCURRENCY = 64
# How much longer the mails wait for each case that has to be opened and gathered first.
SECONDS_A_CASE = 0.3
LOOKS = 3
MOST_FAILED = 5
# A sweep takes minutes; one that is redriven goes on days later with what it saw at first.
TOO_OLD = timedelta(hours=6)
log = logging.getLogger()
s3 = boto3.client("s3", config=PATIENT_CALLS)
sts = boto3.client("sts", config=CALLS)
stepfunctions = boto3.client("stepfunctions", config=PATIENT_CALLS)
table = boto3.resource("dynamodb", config=PATIENT_CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The sweep -> the sweep and `cases_opened`. With `detect_only` it reads and opens nothing.

    `not_seen_to` is there if open cases could not be woken or ended, and says why.
    """
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    found = files.read_check_results()
    everyone = files.read_accounts(event["parts"])
    with_keys = [
        account
        for account in everyone
        if account.id in found and found[account.id].state == AccountState.ROOT_KEYS
    ]
    seconds = MAIL_WINDOW_SECONDS + SECONDS_A_CASE * len(with_keys)
    opening = Opening(
        sweep_id=event["sweep_id"],
        ladder=tuple(escalation.Rung.from_dict(rung) for rung in event["escalation_policy"]),
        ask_at=datetime.now(UTC) + timedelta(seconds=seconds),
    )

    def look_into(account: Account) -> tuple[dict[str, Any], cases.Case | None]:
        with logs.about(sweep_id=event["sweep_id"], account_id=account.id):
            try:
                return until_it_passes(
                    lambda: look_into_account(
                        account,
                        None if event["detect_only"] else opening,
                        sweep_id=event["sweep_id"],
                    )
                )
            except Exception as error:  # One account must not cost the others their cases.
                log.exception("the account has root access keys, but no case")
                reason = words.no_case(root_access.reason(error))
                return {"keys": [], "state": AccountState.UNKNOWN, "reason": reason}, None

    with ThreadPoolExecutor(max_workers=CONCURRENCY) as pool:
        results = list(pool.map(look_into, with_keys))
    files.write_cases(
        {
            account.id: row | {"case": case_row(case) if case else None}
            for account, (row, case) in zip(with_keys, results, strict=True)
        }
    )
    not_seen_to = ""
    if not event["detect_only"]:
        settled: dict[str, AccountState] = {
            id: each.state for id, each in found.items() if each.state == AccountState.CLEAN
        }
        settled |= {
            account.id: AccountState.EXCEPTED
            for account, (row, case) in zip(with_keys, results, strict=True)
            if case and row.get("state") == AccountState.EXCEPTED
        }
        seen_to = {
            account.id
            for account, (row, _) in zip(with_keys, results, strict=True)
            if row.get("state") != AccountState.UNKNOWN
        }
        not_seen_to = wake_cases(
            settled,
            unknown={account.id for account in everyone} - seen_to,
            organization=files.read_organization(event["parts"]),
            started_at=event["started_at"],
        )
    # Counted by the sweep that opened them, so that a retry of this function counts the same.
    opened = sum(case is not None and case.sweep_id == event["sweep_id"] for _, case in results)
    output = {**event, "cases_opened": opened}
    return output | {"not_seen_to": not_seen_to} if not_seen_to else output


class Opening(NamedTuple):
    """What the cases that a sweep opens have in common."""

    sweep_id: str
    ladder: escalation.Ladder
    ask_at: datetime


def wake_cases(
    settled: dict[str, AccountState],
    *,
    unknown: set[str],
    organization: dict[str, str],
    started_at: str,
) -> str:
    """Have those cases look again whose accounts are `settled`, CLEAN or EXCEPTED, or gone.

    `organization` has the state of each account there is. Of those that the sweep came to nothing
    about, the `unknown` that are not settled, it is only seen to that their cases run. A case that
    is younger than the sweep is none of its business, and none is that of a sweep which is TOO_OLD:
    an account that was shut or clean then may be neither now. It never fails: the sweep has a
    report to write, and the next one wakes them as well. Returns why some were not seen to, or "",
    and somebody is told.
    """
    if datetime.now(UTC) - datetime.fromisoformat(started_at) > TOO_OLD:
        return words.sweep_is_old(started_at)
    stamp = started_at[:19].replace("-", "").replace(":", "")
    try:
        opened = cases.open_case_ids(table)
    except Exception as error:
        log.exception("no case was woken whose account is settled or gone")
        return root_access.reason(error)
    failed: list[str] = []
    for account_id, case_id in opened.items():
        if case_id.partition("-")[2] > stamp:
            continue
        gone = why_gone(organization.get(account_id))
        state = None if gone else settled.get(account_id, AccountState.UNKNOWN)
        with logs.about(case_id=case_id):
            try:
                if state != AccountState.UNKNOWN:
                    until_it_passes(partial(wake_case, case_id, state=state, gone=gone))
                elif account_id in unknown:
                    until_it_passes(partial(see_that_it_runs, case_id, state=state))
            except Exception as error:  # One case must not cost the others their end,
                log.exception("the case was not woken, or not seen to")
                failed.append(f"{case_id}: {root_access.reason(error)}")
        if len(failed) == MOST_FAILED:  # nor an outage, with all its retries, the sweep its report.
            log.error("the other cases are left to the next sweep")
            break
    return "; ".join(failed)


def wake_case(case_id: str, *, state: AccountState | None, gone: str) -> None:
    """Have a case look again: its account is `gone`, for that reason, or in this `state`."""
    reason = gone or words.was_settled(str(state))
    woken = cases.wake(table, case_id=case_id, account_gone=gone)
    log.info("the case was woken: %s (%s)", woken, reason)
    see_that_it_runs(case_id, state=state, reason=f"{reason}; ")


def see_that_it_runs(case_id: str, *, state: AccountState | None, reason: str = "") -> None:
    """Start a case that never was started, and end one whose execution is over.

    Nobody else will: no sweep comes to it by its keys. `state` is None for an account that is gone.
    With one that cannot be checked the case is FAILED, and a sweep that finds keys opens another
    where it ended.
    """
    case = cases.load(table, case_id=case_id)
    if case.ended_at or start(case):
        return
    outcome = cases.Outcome.RESOLVED
    if state == AccountState.UNKNOWN:
        outcome = cases.Outcome.FAILED
    elif state == AccountState.CLEAN and case.deletion_started_at:
        outcome = cases.Outcome.REMEDIATED
    log.error("the execution of the case is over, and it ends %s", outcome)
    with contextlib.suppress(CaseEndedError):
        cases.record_outcome(
            table,
            case_id=case_id,
            outcome=outcome,
            reason=reason + words.EXECUTION_IS_OVER,
            now=datetime.now(UTC),
            keep=KEEP,
            has_keys=state != AccountState.CLEAN,
        )


def why_gone(state: str | None) -> str:
    """Why an account in this state needs nobody any more; empty if it does."""
    if state is None:
        return words.HAS_LEFT
    return words.is_shut(state) if state in SKIPPED_STATES else ""


def until_it_passes(do: Callable[[], T]) -> T:
    """What `do` returns, tried again after what the SDK takes for final, and may yet pass.

    So is a meeting with another sweep at the same account, or a denial.
    """
    for attempt in range(1, LOOKS + 1):
        try:
            return do()
        except ClientError as error:
            tried_again = error.response.get("ResponseMetadata", {}).get("RetryAttempts")
            if attempt == LOOKS or tried_again:
                raise
            time.sleep(0.2 * attempt)
    raise AssertionError("the loop above returns or raises")


def look_into_account(
    account: Account, opening: Opening | None, *, sweep_id: str
) -> tuple[dict[str, Any], cases.Case | None]:
    """What the report says of an account with keys, and its case. Opens none without an opening."""
    keys, reason = read_keys(account.id, sweep_id=sweep_id)
    row: dict[str, Any] = {"keys": [key.to_dict() for key in keys], "reason": reason}
    now = datetime.now(UTC)
    if PARTITION == GOVCLOUD and GOVCLOUD_EXCEPTION_REASON:
        why = words.govcloud(GOVCLOUD_EXCEPTION_REASON)
        return row | {"state": AccountState.EXCEPTED, "reason": why}, None
    exception = exceptions.find(table, account_id=account.id)
    if exception and exception.is_in_force(now.date()):
        if reason:
            # Nobody is asked again because of a hiccup; nor are the keys taken for excepted ones.
            case = cases.load(table, case_id=exception.case_id)
            return row | {"state": AccountState.UNKNOWN}, case
        if exception.covers(keys):
            why = words.excepted(
                until=exception.until,
                owner=exception.owner,
                why=exception.reason,
                ticket=exception.ticket,
            )
            case = cases.load(table, case_id=exception.case_id)
            return row | {"state": AccountState.EXCEPTED, "reason": why}, case
    if opening is None:
        return row, cases.find_latest_case(table, account_id=account.id)
    case = ensure_case(
        account, opening, key_ids=[key.id for key in keys], exception=exception, now=now
    )
    if case.reopened:
        given_up = words.given_up_before(case.reopened, last=case.reopened_after)
        row["reason"] = f"{reason}; {given_up}" if reason else given_up
    return row, case


def ensure_case(
    account: Account,
    opening: Opening,
    *,
    key_ids: list[str],
    exception: exceptions.AccountException | None,
    now: datetime,
) -> cases.Case:
    """The open case of the account, with its execution running; a new one if there is none."""

    def opened() -> cases.Case:
        return cases.open_case(
            table,
            account=account,
            sweep_id=opening.sweep_id,
            remediate_arn=REMEDIATE_ARN,
            ladder=opening.ladder,
            key_ids=key_ids,
            old_exception=exception,
            now=now,
            ask_at=opening.ask_at,
        )

    case = opened()
    if start(case):
        cases.move(table, case=case, account=account)
        return case
    try:
        cases.record_outcome(
            table,
            case_id=case.id,
            outcome=cases.Outcome.FAILED,
            reason=words.EXECUTION_IS_OVER,
            now=now,
            keep=KEEP,
        )
    except CaseEndedError:
        return cases.load(table, case_id=case.id)  # It ended properly this very moment.
    case = opened()
    start(case)
    return case


def read_keys(account_id: str, *, sweep_id: str) -> tuple[list[root_access.RootKey], str]:
    """The keys of an account, and why they could not be read if they could not."""
    try:
        iam = root_access.audit_session(
            sts, table, account_id=account_id, partition=PARTITION, opened_for=sweep_id
        )
        return root_access.list_root_keys(iam, account_id=account_id), ""
    except (RootSessionDeniedError, ClientError, BotoCoreError) as error:
        return [], words.keys_unread(root_access.reason(error))


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
        "rung": case.rung + 1,
    }
