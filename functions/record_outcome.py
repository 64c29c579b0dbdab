"""Record how a case ended, and free its account for a next one."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from rootsweep import cases, console, holds, logs
from rootsweep.calls import CALLS
from rootsweep.text import plain, unlinked

KEEP = timedelta(days=int(os.environ["CASE_RETENTION_DAYS"]))
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id", "outcome", "reason"}` -> what an auditor reads at the end of the execution.

    `reason` is text, or an error that Step Functions caught. Recording the same outcome again
    changes nothing; raises CaseEndedError if the case ended differently.
    """
    case = cases.record_outcome(
        table,
        case_id=event["case_id"],
        outcome=cases.Outcome(event["outcome"]),
        reason=reason_text(event["reason"]),
        now=datetime.now(UTC),
        keep=KEEP,
    )
    holds.leave_canary(table, case=case)
    return {
        "case_id": case.id,
        "account_id": case.account_id,
        "account_name": unlinked(plain(case.account_name)),
        "outcome": case.outcome,
        "reason": plain(case.reason, 1000),
        "decided_by": case.decided_by,
        "rung": case.rung + 1,
        "reopened": case.reopened,
        "execution_arn": case.execution_arn,
        "execution": console.link_or_arn(case.execution_arn),
    }


def reason_text(reason: Any) -> str:
    """One line for people from a text or from `{"Error", "Cause"}`."""
    if not isinstance(reason, dict):
        return str(reason)
    cause = str(reason.get("Cause", ""))
    with contextlib.suppress(ValueError, KeyError, TypeError):
        cause = str(json.loads(cause)["errorMessage"])
    return f"{reason.get('Error')}: {cause}"[:2000]
