"""Ask a person to remove root access keys that Rootsweep cannot remove."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config

from rootsweep import accounts, cases, messages

APPROVER_TAG = os.environ["APPROVER_TAG"]
DEFAULT_APPROVER = os.environ["DEFAULT_APPROVER"]
MANUAL_REMOVAL_CHECK_SECONDS = int(os.environ["MANUAL_REMOVAL_CHECK_SECONDS"])
MANUAL_REMOVAL_TIMEOUT_SECONDS = int(os.environ["MANUAL_REMOVAL_TIMEOUT_SECONDS"])
# Each look is some ten events, and an execution fails at 25,000 (Step Functions quotas).
MOST_LOOKS = 1000
SENDER = os.environ["SENDER"]
calls = Config(retries={"mode": "standard", "total_max_attempts": 5})
organizations = boto3.client("organizations", config=calls)
account_client = boto3.client("account", config=calls)
ses = boto3.client("sesv2", config=calls)
table = boto3.resource("dynamodb", config=calls).Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id", "cause"}` -> `{"deadline", "wait_seconds"}`, and a mail with the steps.

    `cause` is what Step Functions caught: the JSON of a Lambda error. Raises CaseEndedError.
    """
    now = datetime.now(UTC)
    case = cases.load(table, case_id=event["case_id"])
    management_account = organizations.describe_organization()["Organization"]["MasterAccountId"]
    is_management_account = case.account_id == management_account
    approver, _ = accounts.find_approver(
        organizations,
        account_client,
        account_id=case.account_id,
        tag_key=APPROVER_TAG,
        default=DEFAULT_APPROVER,
    )
    case = cases.await_removal(
        table,
        case_id=case.id,
        approver=approver,
        reason=why(event["cause"], is_management_account=is_management_account),
        deadline=now + timedelta(seconds=MANUAL_REMOVAL_TIMEOUT_SECONDS),
    )
    about = "manual removal"
    if case.mailed_for != about:
        messages.manual_removal_mail(
            case, is_management_account=is_management_account, now=now
        ).send(ses, sender=SENDER)
        cases.mark_mailed(table, case_id=case.id, about=about)
    return {
        "deadline": case.deadline,
        "wait_seconds": max(
            MANUAL_REMOVAL_CHECK_SECONDS, MANUAL_REMOVAL_TIMEOUT_SECONDS // MOST_LOOKS
        ),
    }


def why(cause: str, *, is_management_account: bool) -> str:
    """Why we cannot, for the case and the mail."""
    if is_management_account:
        return "AWS opens no root session in the management account of an organization."
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return cause
