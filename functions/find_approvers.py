"""Find who answers for an account, and note who is asked for what, on which rung, until when."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from rootsweep import approvers, cases, console, directory, escalation, logs, words
from rootsweep.calls import CALLS
from rootsweep.cases import Obstacle
from rootsweep.table import iso
from rootsweep.text import plain

MAIL_WINDOW_SECONDS = int(os.environ["MAIL_WINDOW_SECONDS"])
organizations = boto3.client("organizations", config=CALLS)
sources = directory.Directory(
    organizations=organizations,
    account_client=boto3.client("account", config=CALLS),
    tag_key=os.environ["APPROVER_TAG"],
    default=os.environ["DEFAULT_APPROVER"],
    second=os.environ["SECOND_APPROVER"],
)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id", "denied", "entered_at"}` -> who is asked is in the table, and what to do next.

    Which is `{"ask_at", "by_hand", "execution", "reason", "tell", "timeout_seconds"}`. `tell` says
    that nobody answers for the account, for `reason`, and that nobody was told; retries of a state,
    which Step Functions entered at `entered_at` (ISO 8601), say the same as the attempt that was
    lost. `execution` is where people see it.
    `denied` is what Step Functions caught if AWS refused a root session: the JSON of a Lambda
    error. Then people have to remove the keys. The time is over when the next mail is due. Raises
    ApproverUnknownError, CaseEndedError.
    """
    now = datetime.now(UTC)
    case = cases.load(table, case_id=event["case_id"])
    denied = event["denied"]
    entered_at = datetime.fromisoformat(event["entered_at"])
    obstacle, reason = why(denied, account_id=case.account_id) if denied else (None, "")
    ask_at = max(now, datetime.fromisoformat(case.ask_at) if case.ask_at else now)
    if case.ladder_since and case.obstacle == obstacle:
        # Looking again does not give people more time.
        first, since = case.first_rung, datetime.fromisoformat(case.ladder_since)
    else:
        first, since = case.rung, ask_at
    position = escalation.position(case.ladder, first=first, since=since, now=now)
    at_least = 1 if obstacle else case.quorum
    found = find(case, rung=position.rung, at_least=at_least, now=now)
    last = len(case.ladder) - 1
    if not found.approvers and position.rung < last:
        # Nobody answers for the account, so no time is lost on the rungs between.
        first, since = last, ask_at
        position = escalation.position(case.ladder, first=first, since=since, now=now)
        found = find(case, rung=last, at_least=at_least, now=now)
    if position.reminder:
        # A moment for the other cases that have this mail at the same time, so that they share it.
        ask_at = max(ask_at, position.mail_at + timedelta(seconds=MAIL_WINDOW_SECONDS))
    is_news = not found.approvers and case.nobody_since in ("", iso(entered_at))
    cases.ask(
        table,
        case=case,
        approvers=found.approvers,
        notes=found.notes,
        first_rung=first,
        since=since,
        position=position,
        now=entered_at,
        obstacle=obstacle,
        reason=reason,
    )
    return {
        "ask_at": iso(ask_at),
        "by_hand": obstacle is not None,
        "execution": console.link_or_arn(case.execution_arn),
        "reason": plain("; ".join(found.notes), 1000),
        "tell": is_news,
        "timeout_seconds": max(1, math.ceil((position.next_mail_at - ask_at).total_seconds())),
    }


def find(case: cases.Case, *, rung: int, at_least: int, now: datetime) -> directory.Found:
    """Who is asked on this rung, as things are now."""
    return directory.find_approvers(
        sources,
        account_id=case.account_id,
        parents=case.parents,
        notify=escalation.notified(case.ladder, rung=rung),
        at_least=at_least,
        has_bounced=lambda address: approvers.has_bounced(table, approver=address, now=now),
    )


def why(denied: str, *, account_id: str) -> tuple[Obstacle, str]:
    """What keeps Rootsweep from deleting the keys, for the case and the mail.

    Nothing but the words for people goes by what AWS says here.
    """
    management_account = organizations.describe_organization()["Organization"]["MasterAccountId"]
    if account_id == management_account:
        return Obstacle.MANAGEMENT_ACCOUNT, words.MANAGEMENT_ACCOUNT
    try:
        reason = str(json.loads(denied)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        reason = denied
    # As recorded from AWS: the feature is off, or IAM has no trusted access to the organization.
    if "feature is not enabled" in reason or "Service not enabled" in reason:
        return Obstacle.ROOT_CREDENTIALS_MANAGEMENT_OFF, reason
    if "service control policy" in reason:
        return Obstacle.SERVICE_CONTROL_POLICY, reason
    return Obstacle.ROOT_SESSION_DENIED, reason
