"""Ask the people who answer for an account whether its root access keys may be deleted."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import approvers, cases, logs, mailing
from rootsweep.calls import CALLS

dynamodb = boto3.resource("dynamodb", config=CALLS)
table = dynamodb.Table(os.environ["TABLE"])
post = mailing.Post(
    dynamodb=dynamodb,
    table=table,
    ses=boto3.client("sesv2", config=CALLS),
    sender=os.environ["SENDER"],
    configuration_set=os.environ["CONFIGURATION_SET"],
    approval_url=os.environ["APPROVAL_URL"],
)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> None:
    """`{"case_id", "task_token"}` -> each approver has a mail; the token ends the wait later.

    Run again, it keeps the new token and sends nothing twice. Raises CaseEndedError,
    MailPendingError, ClientError.
    """
    case = cases.await_approval(table, case_id=event["case_id"], task_token=event["task_token"])
    if case.is_decidable:
        mailing.see_to_it(post, case)
    now = datetime.now(UTC)
    if any(approvers.has_bounced(table, approver=each, now=now) for each in case.approvers):
        # The bounce came before the token, so that it could not end the wait.
        cases.wake(table, case_id=case.id)
