"""Ask the person who answers for an account whether its root access keys may be deleted."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config

from rootsweep import accounts, approvals, cases, messages

APPROVAL_URL = os.environ["APPROVAL_URL"]
APPROVAL_TIMEOUT_SECONDS = int(os.environ["APPROVAL_TIMEOUT_SECONDS"])
APPROVER_TAG = os.environ["APPROVER_TAG"]
DEFAULT_APPROVER = os.environ["DEFAULT_APPROVER"]
SENDER = os.environ["SENDER"]
# The state that waits for a human is not retried as a whole, so its calls are persistent.
calls = Config(retries={"mode": "standard", "total_max_attempts": 5})
organizations = boto3.client("organizations", config=calls)
account_client = boto3.client("account", config=calls)
ses = boto3.client("sesv2", config=calls)
table = boto3.resource("dynamodb", config=calls).Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> None:
    """`{"case_id", "task_token"}` -> a mail to the approver; the token ends the wait later.

    Run again for the same evidence, it keeps the new token and sends nothing. Raises
    CaseEndedError, ClientError.
    """
    now = datetime.now(UTC)
    case = cases.load(table, case_id=event["case_id"])
    approver, source = accounts.find_approver(
        organizations,
        account_client,
        account_id=case.account_id,
        tag_key=APPROVER_TAG,
        default=DEFAULT_APPROVER,
    )
    deadline = now + timedelta(seconds=APPROVAL_TIMEOUT_SECONDS)
    case = cases.await_approval(
        table,
        case_id=case.id,
        task_token=event["task_token"],
        approver=approver,
        source=source,
        deadline=deadline,
    )
    if case.mailed_for != case.fingerprint:
        secret = approvals.new_link_secret()
        # The link outlives the wait, to tell late visitors how the case ended.
        expires_at = f"{deadline + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
        cases.save_link(
            table, secret=secret, link=cases.Link(approver, case.id, expires_at=expires_at)
        )
        mail = messages.approval_mail(case, page_url=f"{APPROVAL_URL}/{secret}", now=now)
        mail.send(ses, sender=SENDER)
        cases.mark_mailed(table, case_id=case.id, about=case.fingerprint)
