from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import read_decision

from rootsweep import cases
from rootsweep.cases import Answer, Outcome
from rootsweep.errors import CaseEndedError

from .builders import (
    APPROVER,
    DEPUTY,
    NOW,
    TWO_PEOPLE,
    a_decided_case,
    a_decision,
    a_waiting_case,
    item_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


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
        cases.decide(table, case=case, decision=a_decision(case))


def test_a_decision_of_two_names_both(table: Any) -> None:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    assert read(case) == {"answer": "APPROVED", "by": f"{APPROVER}, {DEPUTY}", "reason": ""}


def test_a_decline_after_an_approval_names_who_declined(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    case = cases.decide(table, case=case, decision=a_decision(case))
    declined = a_decision(case, Answer.DECLINED, by=DEPUTY)
    cases.decide(table, case=case, decision=declined)

    assert read(case) == {"answer": "DECLINED", "by": DEPUTY, "reason": "migrating in May"}


def test_one_approval_of_two_is_no_decision_and_who_gave_it_is_told(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    cases.decide(table, case=case, decision=a_decision(case))

    for _ in range(2):
        assert read(case) == {
            "answer": "NONE",
            "by": "",
            "reason": (
                f"approved in time by {APPROVER} only, and 2 people have to approve, because a key "
                "was used in the last 90 days"
            ),
        }
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, by=DEPUTY))


@pytest.mark.parametrize("make", [a_waiting_case, a_decided_case])
def test_the_token_has_done_its_work(table: Any, make: Callable[[Any], cases.Case]) -> None:
    case = make(table)

    read(case)

    assert "task_token" not in item_of(table, case)


def test_a_case_that_ended_without_a_decision_has_none_to_read(table: Any) -> None:
    case = a_waiting_case(table)
    cases.record_outcome(table, case_id=case.id, outcome=Outcome.FAILED, reason="r", now=NOW)

    with pytest.raises(CaseEndedError):
        read(case)


def test_a_woken_case_looks_again_and_stays_open(table: Any) -> None:
    case = a_waiting_case(table)
    cases.wake(table, case_id=case.id)

    for _ in range(2):
        assert read(case)["answer"] == "LOOK_AGAIN"
    assert "decided" not in item_of(table, case)


def test_whom_no_mail_reached_is_told_when_nobody_decided(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY))
    cases.note_unreachable(table, case_id=case.id, approvers={DEPUTY})

    assert read(case)["reason"] == f"nobody answered in time; no mail reached {DEPUTY}"
