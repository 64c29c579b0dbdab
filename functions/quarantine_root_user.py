"""Block the root user of an account for a while, before its keys are deleted."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases, logs, quarantine
from rootsweep.calls import CALLS
from rootsweep.errors import CaseEndedError, QuarantineImpossibleError

POLICY_NAME = os.environ["QUARANTINE_POLICY_NAME"]
organizations = boto3.client("organizations", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> None:
    """`{"case_id", "task_token"}` -> the root user is blocked; the token ends it early.

    Run again, it keeps the new token and the end of the quarantine. If AWS does not let it, what
    was decided becomes history, so that people are asked anew, and it raises
    QuarantineImpossibleError. Raises CaseEndedError, ClientError.
    """
    now = datetime.now(UTC)
    case = cases.load(table, case_id=event["case_id"])
    if case.ended_at:
        raise CaseEndedError(f"case {case.id} has ended, so its root user is not blocked")
    if case.decision is None:  # By an attempt whose answer was lost: nobody would end this wait.
        raise QuarantineImpossibleError(case.quarantine_refused)
    until = datetime.fromisoformat(case.quarantine_until) if case.quarantine_until else None
    until = until or now + case.quarantine
    if case.is_deleting:  # Else somebody has lifted it already, and the new token ends the wait.
        try:
            quarantine.begin(organizations, table, case=case, policy_name=POLICY_NAME, until=until)
        except QuarantineImpossibleError as error:
            if cases.refuse_quarantine(table, case=case, reason=str(error)):
                raise
    cases.record_quarantined(
        table, case_id=case.id, until=until, task_token=event["task_token"], now=now
    )
