"""Read what was decided, or close the case to decisions if the time is up."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"answer": "APPROVED" | "DECLINED" | "NONE", "by", "reason"}`.

    Raises CaseEndedError.
    """
    decision = cases.close_to_decisions(table, case_id=event["case_id"], now=datetime.now(UTC))
    if decision is None:
        return {"answer": "NONE", "by": "", "reason": "nobody answered in time"}
    return {"answer": decision.answer, "by": decision.by, "reason": decision.reason}
