"""Ask people to remove root access keys that Rootsweep cannot remove."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

from rootsweep import cases, mailing

MANUAL_REMOVAL_CHECK_SECONDS = int(os.environ["MANUAL_REMOVAL_CHECK_SECONDS"])
MANUAL_REMOVAL_TIMEOUT_SECONDS = int(os.environ["MANUAL_REMOVAL_TIMEOUT_SECONDS"])
# Each look is some ten events, and an execution fails at 25,000 (Step Functions quotas).
MOST_LOOKS = 1000
calls = Config(retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=16)
dynamodb = boto3.resource("dynamodb", config=calls)
table = dynamodb.Table(os.environ["TABLE"])
post = mailing.Post(
    dynamodb=dynamodb,
    table=table,
    ses=boto3.client("sesv2", config=calls),
    sender=os.environ["SENDER"],
    approval_url=os.environ["APPROVAL_URL"],
)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"deadline", "wait_seconds"}`, and each approver has a mail with the steps.

    Raises MailPendingError, ClientError.
    """
    case = cases.load(table, case_id=event["case_id"])
    mailing.see_to_it(post, case)
    return {
        "deadline": case.deadline,
        "wait_seconds": max(
            MANUAL_REMOVAL_CHECK_SECONDS, MANUAL_REMOVAL_TIMEOUT_SECONDS // MOST_LOOKS
        ),
    }
