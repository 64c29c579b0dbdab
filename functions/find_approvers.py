"""Find who answers for an account, and note who is asked for what, until when."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config

from rootsweep import accounts, cases
from rootsweep.cases import Obstacle
from rootsweep.table import iso

APPROVAL_TIMEOUT_SECONDS = int(os.environ["APPROVAL_TIMEOUT_SECONDS"])
APPROVER_TAG = os.environ["APPROVER_TAG"]
DEFAULT_APPROVER = os.environ["DEFAULT_APPROVER"]
MANUAL_REMOVAL_TIMEOUT_SECONDS = int(os.environ["MANUAL_REMOVAL_TIMEOUT_SECONDS"])
SECOND_APPROVER = os.environ["SECOND_APPROVER"]
calls = Config(retries={"mode": "standard", "total_max_attempts": 5})
organizations = boto3.client("organizations", config=calls)
account_client = boto3.client("account", config=calls)
table = boto3.resource("dynamodb", config=calls).Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id", "denied"?}` -> `{"ask_at", "by_hand", "timeout_seconds"}`: when, what, how long.

    `denied` is what Step Functions caught if AWS refused a root session: the JSON of a Lambda
    error. Then people have to remove the keys. Raises ApproverUnknownError, CaseEndedError.
    """
    now = datetime.now(UTC)
    case = cases.load(table, case_id=event["case_id"])
    denied = event.get("denied")
    found = accounts.find_approvers(
        organizations,
        account_client,
        account_id=case.account_id,
        tag_key=APPROVER_TAG,
        default=DEFAULT_APPROVER,
        second=SECOND_APPROVER,
        at_least=1 if denied else case.quorum,
    )
    ask_at = max(now, datetime.fromisoformat(case.ask_at) if case.ask_at else now)
    if denied:
        obstacle, reason = why(denied, account_id=case.account_id)
        seconds = MANUAL_REMOVAL_TIMEOUT_SECONDS
    else:
        obstacle, reason = None, ""
        seconds = APPROVAL_TIMEOUT_SECONDS
    deadline = ask_at + timedelta(seconds=seconds)
    if case.deadline and case.obstacle == obstacle:
        # People were asked about this already: looking again does not give them more time.
        deadline = min(deadline, datetime.fromisoformat(case.deadline))
    cases.ask(
        table,
        case=case,
        approvers=found,
        now=now,
        deadline=deadline,
        obstacle=obstacle,
        reason=reason,
    )
    return {
        "ask_at": iso(ask_at),
        "by_hand": obstacle is not None,
        "timeout_seconds": max(1, round((deadline - ask_at).total_seconds())),
    }


def why(denied: str, *, account_id: str) -> tuple[Obstacle, str]:
    """What keeps Rootsweep from deleting the keys, for the case and the mail."""
    management_account = organizations.describe_organization()["Organization"]["MasterAccountId"]
    if account_id == management_account:
        return (
            Obstacle.MANAGEMENT_ACCOUNT,
            "AWS opens no root session in the management account of an organization.",
        )
    try:
        reason = str(json.loads(denied)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        reason = denied
    if "service control policy" in reason:
        return Obstacle.SERVICE_CONTROL_POLICY, reason
    return Obstacle.ROOT_SESSION_DENIED, reason
