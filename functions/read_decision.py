"""Read what was decided, or close the case to decisions if the time is up."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from rootsweep import cases, logs, words
from rootsweep.calls import CALLS
from rootsweep.table import iso

A_MOMENT = timedelta(seconds=10)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"answer", "by", "reason", "timeout_seconds"?}`.

    The answer is APPROVED; QUARANTINE if the root user is to be blocked first, for so long;
    DECLINED; LOOK_AGAIN if the case was woken or the next mail is due; ACCOUNT_GONE; or NONE at the
    end of the ladder. Raises CaseEndedError.
    """
    now = datetime.now(UTC)
    if cases.was_woken(table, case_id=event["case_id"]):
        return {"answer": "LOOK_AGAIN", "by": "", "reason": words.SOMETHING_IS_NEW}
    case = cases.load(table, case_id=event["case_id"])
    if not case.decided and not case.account_gone and iso(now) < case.deadline:
        return {"answer": "LOOK_AGAIN", "by": "", "reason": words.MAIL_IS_DUE}
    case = cases.close_to_decisions(table, case_id=event["case_id"], now=now)
    is_declined = case.decision and case.decision.answer == cases.Answer.DECLINED
    # Of a deletion that was begun, its end is known soon; one of an earlier request is no reason.
    is_begun = case.decision and case.deletion_started_at
    if case.account_gone and not is_declined and not is_begun:
        return {"answer": "ACCOUNT_GONE", "by": "", "reason": case.account_gone}
    if case.decision:
        answer: dict[str, Any] = {
            "answer": case.decision.answer,
            "by": case.decided_by,
            "reason": case.decision.reason,
        }
        left = time_in_quarantine(case, now=now)
        if case.decision.answer == cases.Answer.APPROVED and left:
            answer |= {"answer": "QUARANTINE", "timeout_seconds": left}
        return answer
    return {"answer": "NONE", "by": "", "reason": silence(case)}


def time_in_quarantine(case: cases.Case, *, now: datetime) -> int:
    """For how many seconds the root user still is to be blocked before the deletion."""
    if not case.quarantine:
        return 0
    if not case.quarantine_until:
        return int(case.quarantine.total_seconds())
    left = datetime.fromisoformat(case.quarantine_until) - now
    # The wait began before the function that noted its end; that much is no time to wait again.
    return math.ceil(left.total_seconds()) if left > A_MOMENT else 0


def silence(case: cases.Case) -> str:
    """What happened instead of a decision."""
    reason = words.NOBODY_ANSWERED
    if case.nobody_since:
        reason = words.nobody_answers(case.approver_notes)
    if case.approvals:
        people = [approval.by for approval in case.approvals]
        reason = words.too_few_approved(people, quorum=case.quorum, why=case.quorum_reason)
    if case.unreachable:
        reason += words.no_mail_reached(sorted(case.unreachable))
    if case.reopened:
        reason += words.given_up_in_a_row(case.reopened)
    return reason
