from __future__ import annotations

from typing import Any

import pytest
import read_decision

from rootsweep import cases
from rootsweep.cases import Answer, Outcome
from rootsweep.errors import CaseEndedError

from .builders import NOW, a_decided_case, a_decision, a_waiting_case


def read(case: cases.Case) -> dict[str, Any]:
    return read_decision.handler({"case_id": case.id}, None)


@pytest.mark.parametrize("answer", list(Answer))
def test_what_was_decided_is_read_from_the_table(table: Any, answer: Answer) -> None:
    case = a_decided_case(table, answer)
    decision = a_decision(case, answer)

    for _ in range(2):
        assert read(case) == {"answer": answer, "by": decision.by, "reason": decision.reason}


def test_silence_is_final(table: Any) -> None:
    case = a_waiting_case(table)

    for _ in range(2):
        assert read(case) == {"answer": "NONE", "by": "", "reason": "nobody answered in time"}
    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id=case.id, decision=a_decision(case))


def test_a_case_that_ended_without_a_decision_has_none_to_read(table: Any) -> None:
    case = a_waiting_case(table)
    cases.record_outcome(table, case_id=case.id, outcome=Outcome.FAILED, reason="r", now=NOW)

    with pytest.raises(CaseEndedError):
        read(case)
