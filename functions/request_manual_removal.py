"""Ask people to remove root access keys that Rootsweep cannot remove."""

from __future__ import annotations

import math
import os
from datetime import datetime
from typing import Any

import boto3

from rootsweep import cases, logs, mailing
from rootsweep.calls import CALLS

# Each look is some ten events, and an execution fails at 25,000 (Step Functions quotas).
MOST_LOOKS = 1000
MANUAL_REMOVAL_CHECK_SECONDS = int(os.environ["MANUAL_REMOVAL_CHECK_SECONDS"])
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
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"wait_seconds"}` between looks; each approver has a mail with the steps.

    Raises MailPendingError, ClientError.
    """
    case = cases.load(table, case_id=event["case_id"])
    mailing.see_to_it(post, case)
    return {"wait_seconds": wait_seconds(case)}


def wait_seconds(case: cases.Case) -> int:
    """How long to wait between two looks: as the stack says, but not for too many of them."""
    # Of the whole climb, for each mail on the way asks this again.
    since = case.ladder_since or case.opened_at
    climb = datetime.fromisoformat(case.deadline) - datetime.fromisoformat(since)
    return max(MANUAL_REMOVAL_CHECK_SECONDS, math.ceil(climb.total_seconds() / MOST_LOOKS))
