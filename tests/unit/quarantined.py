"""Cases whose approvers want the root user blocked first, on each step of the way."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rootsweep import cases
from rootsweep.cases import Answer, Case, Outcome

from .builders import APPROVER, NOW, a_decision, a_waiting_case, contents, end_case

if TYPE_CHECKING:
    from collections.abc import Sequence

TWO_WEEKS = timedelta(days=14)
UNTIL = NOW + TWO_WEEKS
POLICY = "rootsweep-quarantine"
# The approval page is to show no token; its tests look for one with this beginning.
TOKEN, NEXT_TOKEN = "a-token-of-the-quarantine", "a-token-of-the-next-attempt"


def to_block(
    table: Any,
    *,
    wanted: Sequence[str] = ("14d",),
    approvers: Sequence[str] = (APPROVER,),
    **given: Any,
) -> Case:
    """A case in the table whose approvers have approved, one after the other, as is `wanted`."""
    case = a_waiting_case(table, approvers=approvers, **given)
    for approver, quarantine in zip(approvers, wanted, strict=False):
        decision = a_decision(case, by=approver, quarantine=quarantine)
        case = cases.decide(table, case=case, decision=decision)
    return case


def closed(table: Any, case: Case, *, now: datetime = NOW) -> Case:
    """The case after its decision was read."""
    return cases.close_to_decisions(table, case_id=case.id, now=now)


def blocked(table: Any, *, until: datetime = UNTIL, **given: Any) -> Case:
    """A case in the table whose root user is blocked, as far as the table knows."""
    case = closed(table, to_block(table, **given))
    cases.record_quarantined(table, case_id=case.id, until=until, task_token=TOKEN, now=NOW)
    return now_in(table, case)


def lifted(table: Any, case: Case, *, by: str = APPROVER, **fields: Any) -> Case:
    """The case after somebody decided to keep its keys."""
    decision = a_decision(case, Answer.DECLINED, by=by, **fields)
    return cases.decide(table, case=case, decision=decision)


def ended(table: Any, case: Case, outcome: Outcome = Outcome.REMEDIATED) -> Case:
    """The case after its end."""
    return end_case(table, case.id, outcome)


def now_in(table: Any, case: Case) -> Case:
    return cases.load(table, case_id=case.id)


def quarantines(table: Any) -> dict[str, str]:
    """The case for which each account is in quarantine, as the table has it."""
    items = [item for item in contents(table) if item["pk"] == "QUARANTINE"]
    return {item["account_id"]: item["case_id"] for item in items}
