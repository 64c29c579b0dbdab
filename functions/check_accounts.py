"""Check a batch of accounts for root access keys."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from rootsweep import logs, root_access, sweeps, words
from rootsweep.accounts import AccountState
from rootsweep.calls import CALLS
from rootsweep.pace import Pace

if TYPE_CHECKING:
    from aws_lambda_context import LambdaContext

BUCKET = os.environ["BUCKET"]
# Its part of what all batches that are checked at once may do together.
CONCURRENT_BATCHES = int(os.environ["MAX_CONCURRENT_BATCHES"])
CONCURRENCY = max(1, int(os.environ["MAX_CONCURRENT_SESSIONS"]) // CONCURRENT_BATCHES)
SESSIONS_A_SECOND = int(os.environ["MAX_SESSIONS_PER_SECOND"]) / CONCURRENT_BATCHES
# What one account may take at the worst, two calls with all their retries (CALLS),
# before the function itself must end.
RESERVE_MILLISECONDS = 90_000
log = logging.getLogger()
s3 = boto3.client("s3", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])
reader = root_access.SummaryReader(
    table,
    partition=os.environ["PARTITION"],
    audit_role_name=os.environ.get("AUDIT_ROLE_NAME") or None,
)
pace = Pace(SESSIONS_A_SECOND)


@logs.invocation
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """`{"sweep_id", "batch", "account_ids"}` -> a file of results, one for each account.

    An account that cannot be checked is UNKNOWN with the reason, and so is what is left when the
    time runs out; neither ever fails the batch.
    """

    def check(account_id: str) -> sweeps.CheckResult:
        result = sweeps.CheckResult(account_id, AccountState.UNKNOWN, words.TIME_RAN_OUT)
        # A second look is cheaper than an alert.
        for _ in range(2):
            left = context.get_remaining_time_in_millis() - RESERVE_MILLISECONDS
            if left < 0 or not pace.wait(at_most=left / 1000):
                break
            with logs.about(sweep_id=event["sweep_id"], account_id=account_id):
                result = check_account(account_id, sweep_id=event["sweep_id"])
            if result.state != AccountState.UNKNOWN:
                break
        return result

    with ThreadPoolExecutor(max_workers=CONCURRENCY) as pool:
        results = list(pool.map(check, event["account_ids"]))
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    files.write_check_results(event["batch"], results)


def check_account(account_id: str, *, sweep_id: str) -> sweeps.CheckResult:
    """What one account came to: CLEAN only if AWS said that the root user has no access key."""
    try:
        summary = reader.read(account_id, opened_for=sweep_id)
    except (ClientError, BotoCoreError) as error:
        return sweeps.CheckResult(account_id, AccountState.UNKNOWN, root_access.reason(error))
    except Exception as error:  # An answer of a shape that nobody foresaw must not cost the batch.
        log.exception("the check of the account failed")
        return sweeps.CheckResult(account_id, AccountState.UNKNOWN, root_access.reason(error))
    state = AccountState.ROOT_KEYS if summary.access_keys else AccountState.CLEAN
    return sweeps.CheckResult(account_id, state)
