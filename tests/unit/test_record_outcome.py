from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import record_outcome

from rootsweep import cases, console, holds
from rootsweep.cases import Outcome
from rootsweep.errors import CaseEndedError

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    HOSTILE,
    LATER,
    NOW,
    TWO_PEOPLE,
    TWO_RUNGS,
    a_decided_case,
    a_decision,
    a_waiting_case,
    asked,
    contents,
)

LAMBDA_CAUSE = json.dumps({"errorMessage": "account 3: no", "errorType": "X", "stackTrace": ["…"]})


def record(case: cases.Case, outcome: str = "FAILED", reason: Any = "because") -> dict[str, Any]:
    event = {"case_id": case.id, "outcome": outcome, "reason": reason}
    return record_outcome.handler(event, None)


def test_an_outcome_is_recorded_and_told(table: Any) -> None:
    case = a_decided_case(table)

    assert record(case, "REMEDIATED") == {
        "case_id": case.id,
        "account_id": ACCOUNT,
        "account_name": "payments-prod",
        "outcome": "REMEDIATED",
        "reason": "because",
        "decided_by": "payments-leads@example.com",
        "rung": 1,
        "reopened": 0,
        "execution_arn": case.execution_arn,
        "execution": console.link_or_arn(case.execution_arn),
    }
    assert cases.load(table, case_id=case.id).outcome == Outcome.REMEDIATED


def test_an_alert_says_on_which_rung_it_ended_and_how_often_before(table: Any) -> None:
    first = a_waiting_case(table, ladder=TWO_RUNGS)
    asked(table, first, now=NOW + timedelta(days=8))
    told = [record(first, "ESCALATED")]
    told += [record(a_waiting_case(table, ladder=TWO_RUNGS, now=LATER), "ESCALATED")]

    assert [(each["rung"], each["reopened"]) for each in told] == [(2, 0), (2, 1)]


@pytest.mark.parametrize("outcome", list(Outcome)[2:])
def test_whoever_was_alone_among_the_first_deletions_makes_room_and_counts_once(
    table: Any, outcome: Outcome
) -> None:
    case = a_decided_case(table)
    holds.enter_canary(table, case=case, release="r1", deletions=5)

    for _ in range(2):
        record(case, outcome)

    [place] = [item for item in contents(table) if item["pk"] == "CANARY"]
    assert "running" not in place
    assert place.get("confirmed", 0) == (outcome == Outcome.REMEDIATED)


def test_an_outcome_that_was_recorded_and_not_told_still_makes_room(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_decided_case(table)
    holds.enter_canary(table, case=case, release="r1", deletions=1)
    with monkeypatch.context() as dying:
        dying.setattr(holds, "leave_canary", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            record(case, "REMEDIATED")

    record(case, "REMEDIATED")

    [place] = [item for item in contents(table) if item["pk"] == "CANARY"]
    assert place["confirmed"] == 1
    assert "running" not in place


def test_an_outcome_that_nobody_decided_says_so(table: Any) -> None:
    assert record(a_waiting_case(table), "ESCALATED")["decided_by"] == "nobody"


def test_an_outcome_that_two_approved_names_both(table: Any) -> None:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    assert record(case, "REMEDIATED")["decided_by"] == f"{APPROVER}, {DEPUTY}"


def test_an_outcome_that_only_one_of_two_approved_was_decided_by_nobody(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    cases.decide(table, case=case, decision=a_decision(case))

    assert record(case, "ESCALATED")["decided_by"] == "nobody"


def test_recording_again_tells_the_same_and_changes_nothing(table: Any) -> None:
    case = a_waiting_case(table)
    first = record(case)
    before = contents(table)

    assert record(case, reason="something else") == first
    assert contents(table) == before


def test_another_outcome_afterwards_is_refused(table: Any) -> None:
    case = a_waiting_case(table)
    record(case, "ESCALATED")

    with pytest.raises(CaseEndedError):
        record(case, "REMEDIATED")


def test_an_outcome_that_does_not_exist_is_not_recorded(table: Any) -> None:
    case = a_waiting_case(table)
    before = contents(table)

    with pytest.raises(ValueError, match="FINE"):
        record(case, "FINE")

    assert contents(table) == before


def test_what_is_told_holds_no_task_token(table: Any) -> None:
    assert "a-token" not in json.dumps(record(a_waiting_case(table)))


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_an_alert_about_a_hostile_account_name_is_one_plain_line(table: Any, name: str) -> None:
    told = record(a_waiting_case(table, name=name), reason=name)

    for text in (told["account_name"], told["reason"]):
        assert text.isprintable()
        assert len(text) <= 1000


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("because", "because"),
        (None, "None"),
        ({"Error": "KeysChangedError", "Cause": LAMBDA_CAUSE}, "KeysChangedError: account 3: no"),
        (
            {"Error": "States.Timeout", "Cause": "too slow"},
            "States.Timeout: too slow",
        ),
        ({"Error": "States.Timeout", "Cause": ""}, "States.Timeout: "),
        ({"Error": "States.Timeout"}, "States.Timeout: "),
        ({"Error": "E", "Cause": "[1]"}, "E: [1]"),
        ({"Error": "E", "Cause": "{}"}, "E: {}"),
        ({"Error": "E", "Cause": None}, "E: None"),
        ({}, "None: "),
    ],
)
def test_a_reason_is_one_line_from_whatever_step_functions_caught(reason: Any, text: str) -> None:
    assert record_outcome.reason_text(reason) == text


def test_a_huge_cause_is_cut(table: Any) -> None:
    case = a_waiting_case(table)
    record(case, reason={"Error": "E", "Cause": "x" * 100_000})

    assert len(cases.load(table, case_id=case.id).reason) == 2000
