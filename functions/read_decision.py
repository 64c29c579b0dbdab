"""Read what was decided, or close the case to decisions if the time is up."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"answer", "by", "reason"}`.

    The answer is APPROVED, DECLINED, LOOK_AGAIN if the case was woken, or NONE. Raises
    CaseEndedError.
    """
    if cases.was_woken(table, case_id=event["case_id"]):
        return {"answer": "LOOK_AGAIN", "by": "", "reason": "a sweep saw no root access key"}
    case = cases.close_to_decisions(table, case_id=event["case_id"], now=datetime.now(UTC))
    if case.decision is None:
        return {"answer": "NONE", "by": "", "reason": silence(case)}
    return {
        "answer": case.decision.answer,
        "by": case.decided_by,
        "reason": case.decision.reason,
    }


def silence(case: cases.Case) -> str:
    """What happened instead of a decision."""
    reason = "nobody answered in time"
    if case.approvals:
        people = ", ".join(approval.by for approval in case.approvals)
        reason = (
            f"approved in time by {people} only, and {case.quorum} people have to approve, because "
            f"{case.quorum_reason}"
        )
    if case.unreachable:
        reason += f"; no mail reached {', '.join(sorted(case.unreachable))}"
    return reason
