"""Tell the security team about a root session that Rootsweep did not open.

On CloudTrail's events of `AssumeRoot`, in this account and in the ones that forward theirs.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import boto3

from rootsweep import logs, root_sessions, words
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
            tell(words.SOMEBODY_TRIED, event)
        return
    access_key_id = detail["responseElements"]["credentials"]["accessKeyId"]
    opened_for = what_for(access_key_id)
    if opened_for:
        log.info("root session %s was opened for %s", access_key_id, opened_for)
    else:
        tell(words.NO_CASE_EXPLAINS, event)


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
        words.CALLER: detail["userIdentity"].get("arn", detail["userIdentity"].get("type")),
        words.ROOT_USER_OF: request.get("targetPrincipal", words.NOT_IN_THE_EVENT),
        words.TASK_POLICY: (request.get("taskPolicyArn") or {}).get("arn", words.NOT_IN_THE_EVENT),
        words.TIME: detail.get("eventTime"),
        words.CALLED_IN: f"{event['account']}, {event['region']}",
        words.SESSION_KEY: credentials.get("accessKeyId"),
        words.ERROR: detail.get("errorMessage", detail.get("errorCode")),
    }
    lines = [f"{name}: {plain(fact, 500)}" for name, fact in facts.items() if fact]
    # Before the alert, so that the alarm rings if that cannot be sent.
    log.error("root session unexplained: %s", "; ".join(lines))
    sns.publish(
        TopicArn=ALERT_TOPIC_ARN,
        Subject=words.subject(what),
        Message="\n".join([words.see_the_runbook(what), *lines]),
    )
