from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import read_decision

from rootsweep import cases, escalation
from rootsweep.cases import Answer, Outcome
from rootsweep.errors import CaseEndedError

from .builders import (
    A_WEEK,
    APPROVER,
    DEPUTY,
    FIRST,
    NOW,
    ONE_PERSON,
    TWO_PEOPLE,
    TWO_RUNGS,
    a_decided_case,
    a_decision,
    a_key,
    a_waiting_case,
    asked,
    end_case,
    item_of,
)
from .builders import SECOND as SECOND_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


SECOND = timedelta(seconds=1)
# The end of the week that a case waits here.
END = NOW + timedelta(days=7)


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still, at first when the time is over."""

    def set_clock(now: datetime) -> None:
        stop_clock(read_decision, now)

    set_clock(END)
    return set_clock


def read(case: cases.Case) -> dict[str, Any]:
    return read_decision.handler({"case_id": case.id}, None)


def nobody_is_asked(table: Any, case: cases.Case) -> None:
    """What is noted when no source names anybody."""
    cases.ask(
        table,
        case=case,
        approvers=[],
        notes=["no source names anybody"],
        first_rung=case.first_rung,
        since=NOW,
        position=escalation.position(case.ladder, first=case.first_rung, since=NOW, now=NOW),
        now=NOW,
    )


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
    end_case(table, case.id, Outcome.FAILED)

    with pytest.raises(CaseEndedError):
        read(case)


@pytest.mark.parametrize("ladder", [A_WEEK, TWO_RUNGS], ids=["one rung", "two rungs"])
def test_before_the_end_of_the_ladder_a_case_looks_again_and_stays_decidable(
    table: Any, at: Callable[[datetime], None], ladder: Any
) -> None:
    case = a_waiting_case(table, ladder=ladder)
    before = item_of(table, case)
    end = NOW + timedelta(days=7 * len(ladder))

    for now in (NOW, END - SECOND, end - SECOND):
        at(now)
        assert read(case) == {
            "answer": "LOOK_AGAIN",
            "by": "",
            "reason": "the next mail is due",
        }
    assert item_of(table, case) == before
    assert cases.load(table, case_id=case.id).takes_decision_of(APPROVER)
    at(end)
    assert read(case)["answer"] == "NONE"


@pytest.mark.parametrize("answer", list(Answer))
def test_a_decision_is_read_however_long_the_ladder_still_is(
    table: Any, at: Callable[[datetime], None], answer: Answer
) -> None:
    at(NOW)

    assert read(a_decided_case(table, answer, ladder=TWO_RUNGS))["answer"] == answer


def test_one_approval_of_two_stays_while_the_ladder_goes_on(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    case = cases.decide(table, case=case, decision=a_decision(case))
    at(END - SECOND)

    assert read(case)["answer"] == "LOOK_AGAIN"
    assert cases.decide(table, case=case, decision=a_decision(case, by=DEPUTY)).decision


@pytest.mark.parametrize("now", [NOW, END])
def test_an_account_that_is_gone_ends_the_wait_for_a_decision(
    table: Any, at: Callable[[datetime], None], now: datetime
) -> None:
    case = a_waiting_case(table)
    cases.wake(table, case_id=case.id, account_gone="the account is SUSPENDED")
    at(now)

    for _ in range(2):
        assert read(case) == {
            "answer": "ACCOUNT_GONE",
            "by": "",
            "reason": "the account is SUSPENDED",
        }
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case))


@pytest.mark.parametrize(
    ("decided", "answer"), [(Answer.APPROVED, "ACCOUNT_GONE"), (Answer.DECLINED, "DECLINED")]
)
def test_where_the_account_is_gone_nothing_is_deleted_but_a_decline_counts(
    table: Any, decided: Answer, answer: str
) -> None:
    case = a_waiting_case(table)
    cases.wake(table, case_id=case.id, account_gone="the account is SUSPENDED")
    cases.decide(table, case=case, decision=a_decision(case, decided))

    assert read(case)["answer"] == answer


@pytest.mark.parametrize("gone", ["", "the account is CLOSED"])
def test_an_approved_deletion_that_waits_is_not_waited_for_when_there_is_nothing_left_to_delete(
    table: Any, gone: str
) -> None:
    case = a_decided_case(table)
    read(case)
    assert not cases.wake(table, case_id=case.id, account_gone=gone)
    cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)

    assert cases.wake(table, case_id=case.id, account_gone=gone)

    assert read(case)["answer"] == ("ACCOUNT_GONE" if gone else "LOOK_AGAIN")
    after = cases.load(table, case_id=case.id)
    assert (after.decision, after.approvals) == (case.decision, case.approvals)


def test_an_approved_deletion_that_waits_can_be_taken_back_and_not_while_it_begins(
    table: Any,
) -> None:
    case = a_decided_case(table)
    read(case)
    held = cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    decline = a_decision(held, Answer.DECLINED)
    assert read(case)["answer"] == "APPROVED"
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=cases.load(table, case_id=case.id), decision=decline)
    held = cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)

    cases.decide(table, case=held, decision=decline)

    with pytest.raises(CaseEndedError):
        cases.record_deletion_started(table, case_id=case.id, now=NOW)
    assert read(case)["answer"] == "DECLINED"


def test_a_deletion_that_waits_looks_again_also_when_the_answer_of_the_table_was_lost(
    table: Any,
) -> None:
    case = a_decided_case(table)
    read(case)
    cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    cases.wake(table, case_id=case.id)

    for _ in range(2):
        assert read(case)["answer"] == "LOOK_AGAIN"


@pytest.mark.parametrize("is_looked_for", [False, True])
def test_who_has_approved_takes_it_back_while_nobody_is_asked(
    table: Any, is_looked_for: bool
) -> None:
    case = a_decided_case(table)
    read(case)
    cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    cases.wake(table, case_id=case.id)
    read(case)
    if is_looked_for:  # And nobody is found.
        nobody_is_asked(table, cases.load(table, case_id=case.id))
    held = cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    assert not held.approvers

    cases.decide(table, case=held, decision=a_decision(held, Answer.DECLINED))

    assert cases.load(table, case_id=case.id).decision == a_decision(held, Answer.DECLINED)


def test_a_decision_that_the_table_never_takes_is_refused(table: Any) -> None:
    case = a_decided_case(table)
    read(case)
    held = cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    # As no version has written it.
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="SET request_number = :text",
        ExpressionAttributeValues={":text": str(held.request_number)},
    )

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=held, decision=a_decision(held, Answer.DECLINED))


def test_an_account_that_is_gone_after_a_deletion_and_new_keys_ends_the_wait_for_them(
    table: Any,
) -> None:
    case = a_decided_case(table)
    read(case)
    cases.record_deletion_started(table, case_id=case.id, now=NOW)
    cases.record_deleted(table, case_id=case.id, key_id=FIRST, now=NOW)
    case = cases.load(table, case_id=case.id)
    cases.record_evidence(table, case=case, keys=[a_key(SECOND_KEY)], quorum=ONE_PERSON, now=NOW)
    case = asked(table, cases.load(table, case_id=case.id))
    cases.await_approval(table, case_id=case.id, task_token="a-token")

    cases.wake(table, case_id=case.id, account_gone="the account is CLOSED")

    found = {"answer": "ACCOUNT_GONE", "by": "", "reason": "the account is CLOSED"}
    assert read(case) == found


def test_how_often_it_was_given_up_before_is_told_when_nobody_decided(
    table: Any, at: Callable[[datetime], None]
) -> None:
    for now in (NOW, NOW + SECOND):
        case = a_waiting_case(table, now=now)
        end_case(table, case.id, Outcome.ESCALATED, now=END)
    case = a_waiting_case(table, now=END)
    at(END + timedelta(days=7))

    assert read(case)["reason"] == "nobody answered in time; given up before, 2 times in a row"


def test_a_woken_case_looks_again_and_stays_open(table: Any) -> None:
    case = a_waiting_case(table)
    cases.wake(table, case_id=case.id)

    for _ in range(2):
        assert read(case)["answer"] == "LOOK_AGAIN"
    assert "decided" not in item_of(table, case)


def test_where_nobody_answers_for_the_account_the_sources_that_were_tried_are_told(
    table: Any,
) -> None:
    case = a_waiting_case(table)
    cases.ask(
        table,
        case=case,
        approvers=[],
        notes=["the account's tag: there is none", "the default approver: there is none"],
        first_rung=case.first_rung,
        since=NOW,
        position=case.position(NOW),
        now=NOW,
    )

    assert read(case)["reason"] == (
        "nobody answers for this account: the account's tag: there is none; "
        "the default approver: there is none"
    )


def test_whom_no_mail_reached_is_told_when_nobody_decided(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY))
    cases.note_unreachable(table, case_id=case.id, approvers={DEPUTY})

    assert read(case)["reason"] == f"nobody answered in time; no mail reached {DEPUTY}"
