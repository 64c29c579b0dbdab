"""Tell the security team about a root session that Rootsweep did not open.

On CloudTrail's events of `AssumeRoot`, in this account and in the ones that forward theirs.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import boto3

from rootsweep import logs, root_sessions
from rootsweep.calls import CALLS
from rootsweep.text import plain

ALERT_TOPIC_ARN = os.environ["ALERT_TOPIC_ARN"]
OUR_ROLES = os.environ["OUR_ROLES"].split(",")
# CloudTrail's event takes minutes as a rule. Should it be faster than the note, it waits for that.
LOOKS = 4
SECONDS_BETWEEN_LOOKS = 3
log = logging.getLogger()
sns = boto3.client("sns", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> None:
    """CloudTrail's event of `AssumeRoot`, of which only the rule's transformer took something away.

    One of ours that failed is the business of its case. Doing it again tells again.
    """
    detail = event["detail"]
    if "errorCode" in detail:
        if role_of(detail) not in OUR_ROLES:
            tell("Somebody tried to open a root session", event)
        return
    access_key_id = detail["responseElements"]["credentials"]["accessKeyId"]
    opened_for = what_for(access_key_id)
    if opened_for:
        log.info("root session %s was opened for %s", access_key_id, opened_for)
    else:
        tell("A root session that no case explains", event)


def what_for(access_key_id: str) -> str:
    """The case or sweep that a session was opened for; empty if it is none of ours."""
    for look in range(LOOKS):
        if look:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if found := root_sessions.why_opened(table, access_key_id=access_key_id):
            return found
    return ""


def role_of(detail: dict[str, Any]) -> str:
    """The ARN of the role whose session the caller was in, if in one."""
    issuer = detail["userIdentity"].get("sessionContext", {}).get("sessionIssuer", {})
    return str(issuer.get("arn", ""))


def tell(what: str, event: dict[str, Any]) -> None:
    """An alert: who, where, with which task policy, when. The metric filter counts its log line."""
    detail = event["detail"]
    request = detail.get("requestParameters") or {}
    credentials = (detail.get("responseElements") or {}).get("credentials", {})
    facts = {
        "Caller": detail["userIdentity"].get("arn", detail["userIdentity"].get("type")),
        "Account of the root user": request.get("targetPrincipal", "not in the event"),
        "Task policy": (request.get("taskPolicyArn") or {}).get("arn", "not in the event"),
        "Time": detail.get("eventTime"),
        "Account and Region of the call": f"{event['account']}, {event['region']}",
        "Access key id of the session": credentials.get("accessKeyId"),
        "Error": detail.get("errorMessage", detail.get("errorCode")),
    }
    lines = [f"{name}: {plain(fact, 500)}" for name, fact in facts.items() if fact]
    # Before the alert, so that the alarm rings if that cannot be sent.
    log.error("root session unexplained: %s", "; ".join(lines))
    sns.publish(
        TopicArn=ALERT_TOPIC_ARN,
        Subject=f"Rootsweep: {what}",
        Message="\n".join([f"{what}. docs/runbook.md says what to do.", *lines]),
    )
