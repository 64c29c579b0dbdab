from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

from rootsweep import approvers, cases, exceptions
from rootsweep.approvals import Quorum
from rootsweep.cases import Answer, Case, Decision, Obstacle, Outcome
from rootsweep.errors import CaseEndedError, NotApprovedError
from rootsweep.escalation import Rung
from rootsweep.exceptions import AccountException
from rootsweep.root_access import fingerprint
from rootsweep.table import SCHEMA_VERSION, NewerItemError, case_key, open_case_key

from .builders import (
    A_WEEK,
    ACCOUNT,
    APPROVER,
    DEPUTY,
    FIRST,
    KEEP,
    LATER,
    NOW,
    ONE_PERSON,
    REMEDIATE,
    SECOND,
    THIRD,
    TWO_PEOPLE,
    TWO_RUNGS,
    a_case,
    a_decided_case,
    a_decision,
    a_gathered_case,
    a_key,
    a_waiting_case,
    asked,
    contents,
    end_case,
    item_of,
    open_a_case,
    with_link,
)
from .conftest import DYNAMODB

if TYPE_CHECKING:
    from collections.abc import Callable

ENDS = [
    Outcome.REMEDIATED,
    Outcome.RESOLVED,
    Outcome.DECLINED,
    Outcome.ESCALATED,
    Outcome.FAILED,
]


def end(table: Any, case: Case, outcome: Outcome = Outcome.RESOLVED) -> Case:
    return end_case(table, case.id, outcome, now=LATER, reason="because")


def test_an_opened_case_is_the_open_one_of_its_account(table: Any) -> None:
    case = open_a_case(table)

    assert case == cases.load(table, case_id=case.id)
    assert case == cases.find_open_case(table, account_id=ACCOUNT)
    assert case.id == "333333333333-20260304T050607Z"
    assert case.outcome == Outcome.AWAITING_APPROVAL
    assert case.opened_at == case.ask_at == "2026-03-04T05:06:07Z"
    assert case.parents == ("r-ab12", "ou-ab12-workload", "ou-ab12-prodprod")
    assert case.execution_arn == (
        "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-remediate:" + case.id
    )
    assert not case.is_decidable


@pytest.mark.parametrize("seconds", [0, 1, 86_400])
def test_opening_twice_gives_one_case(table: Any, seconds: int) -> None:
    first = open_a_case(table)
    before = contents(table)

    second = open_a_case(table, now=NOW + timedelta(seconds=seconds), name="renamed")

    assert second == first
    assert contents(table) == before


def test_a_case_opened_by_somebody_else_this_very_moment_is_the_one(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_a_case(table)
    before = contents(table)
    find, looks = cases.find_open_case, iter([lambda *_, **__: None])
    monkeypatch.setattr(
        cases, "find_open_case", lambda *args, **kwargs: next(looks, find)(*args, **kwargs)
    )

    assert open_a_case(table, now=NOW + timedelta(seconds=1)) == first
    assert contents(table) == before


def test_a_case_opened_when_the_one_before_is_given_up_this_very_moment_goes_on_where_it_ended(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_a_case(table)
    find = cases.find_open_case

    def ends_before_the_look(*args: Any, **kwargs: Any) -> Case | None:
        end(table, first, Outcome.FAILED)
        return find(*args, **kwargs)

    monkeypatch.setattr(cases, "find_open_case", ends_before_the_look)

    assert open_a_case(table, now=LATER).reopened_after == Outcome.FAILED


def test_a_case_that_ends_while_it_is_looked_for_is_not_open(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_a_case(table)
    load = cases.load

    def ends_before_it_is_loaded(*args: Any, **kwargs: Any) -> Case:
        monkeypatch.setattr(cases, "load", load)
        end(table, first)
        return load(*args, **kwargs)

    monkeypatch.setattr(cases, "load", ends_before_it_is_loaded)

    assert cases.find_open_case(table, account_id=ACCOUNT) is None


def test_a_case_of_a_newer_version_is_not_written_to(table: Any) -> None:
    case = a_waiting_case(table)
    newer = {**item_of(table, case), "schema": SCHEMA_VERSION + 1}
    table.put_item(Item=newer)

    with pytest.raises(NewerItemError, match=f"CASE#{case.id} CASE has schema"):
        cases.close_to_decisions(table, case_id=case.id, now=LATER)
    with pytest.raises(NewerItemError, match="Deploy the version that wrote it"):
        cases.wake(table, case_id=case.id)

    assert item_of(table, case) == newer


def test_cases_of_different_accounts_do_not_meet(table: Any) -> None:
    one, two = open_a_case(table), open_a_case(table, id="333333333334")

    assert one.id != two.id
    assert cases.find_open_case(table, account_id="333333333334") == two


def test_after_a_case_has_ended_a_new_one_is_opened(table: Any) -> None:
    first = open_a_case(table)
    end(table, first)

    second = open_a_case(table, now=LATER)

    assert second.id != first.id
    assert cases.load(table, case_id=first.id).outcome == Outcome.RESOLVED


def test_a_case_that_ends_while_another_sweep_opens_one_is_no_silent_nothing(table: Any) -> None:
    end(table, open_a_case(table))

    # The same second again: the case id is taken, and no case is open.
    with pytest.raises(ClientError, match="TransactionCanceled"):
        open_a_case(table)


def test_an_account_without_a_case_has_none(table: Any) -> None:
    assert cases.find_open_case(table, account_id=ACCOUNT) is None
    with pytest.raises(KeyError, match="nothing"):
        cases.load(table, case_id="nothing")


def test_a_case_of_an_older_version_is_read_with_what_it_has() -> None:
    item = {
        "case_id": "c",
        "account_id": ACCOUNT,
        "outcome": "AWAITING_APPROVAL",
        "opened_at": "2026-03-04T05:06:07Z",
        "execution_arn": "arn",
        "something": "else",
    }

    assert Case.from_item(item).keys == ()
    with pytest.raises(ValueError, match="NEARLY"):
        Case.from_item({**item, "outcome": "NEARLY"})


def test_a_case_as_it_was_written_before_quorums_needs_one_person_and_has_asked_nobody() -> None:
    case = Case.from_item(
        {
            "case_id": "c",
            "account_id": ACCOUNT,
            "outcome": "AWAITING_APPROVAL",
            "opened_at": "2026-03-04T05:06:07Z",
            "execution_arn": "arn",
        }
    )

    assert (case.quorum, case.missing_approvals, case.request_number) == (1, 1, 0)
    assert (case.approvers, case.asked, case.approvals) == ((), frozenset(), ())
    assert case.obstacle is None
    assert not case.is_decidable


def test_a_case_as_it_was_written_before_ladders_has_the_week_that_it_had(table: Any) -> None:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    new = [
        *("ladder", "rung", "first_rung", "ladder_since", "reminder"),
        *("answer_by", "next_mail_at", "reopened", "approver_notes"),
    ]
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression=f"REMOVE {', '.join(new)}, decision.ticket, approvals[0].ticket",
    )

    old = cases.load(table, case_id=case.id)

    assert old.deadline == old.answer_by == old.next_mail_at == case.deadline
    assert (old.ladder, old.rung, old.reminder) == (A_WEEK, 0, 0)
    assert (old.reopened, old.old_exception, old.account_gone) == (0, None, "")
    assert (old.approvals, old.decision) == (case.approvals, case.decision)
    assert old.early_reminder(LATER) is None
    ended = end(table, old, Outcome.ESCALATED)
    assert open_a_case(table, now=LATER).reopened == 1
    assert ended.outcome == Outcome.ESCALATED


def test_a_case_as_it_was_written_before_ladders_can_be_asked_about_again(table: Any) -> None:
    case = a_waiting_case(table)
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="REMOVE ladder, rung, first_rung, ladder_since, reminder",
    )

    after = asked(table, cases.load(table, case_id=case.id), now=LATER)

    assert after.ladder_since == "2026-03-05T05:06:07Z"
    assert after.request_number == 1


# -- the ladder -----------------------------------------------------------------------------------


def test_a_case_keeps_its_ladder_and_where_it_stands(table: Any) -> None:
    exception = AccountException(ACCOUNT, APPROVER, "r", "2026-03-01", (a_key(),), "c", "t", "w")
    case = open_a_case(table, ladder=TWO_RUNGS, old_exception=exception)

    first = asked(table, case)
    later = asked(table, first, now=NOW + timedelta(days=9))

    assert case.ladder == TWO_RUNGS
    assert first.old_exception == later.old_exception == exception
    assert (first.rung, first.reminder, first.first_rung) == (0, 0, 0)
    assert first.ladder_since == later.ladder_since == "2026-03-04T05:06:07Z"
    assert (first.next_mail_at, first.answer_by, first.deadline) == (
        "2026-03-06T05:06:07Z",
        "2026-03-11T05:06:07Z",
        "2026-03-18T05:06:07Z",
    )
    assert (later.rung, later.reminder) == (1, 4)
    assert later.next_mail_at == later.answer_by == later.deadline == first.deadline


def test_other_keys_end_the_climb_and_the_rung_stays(table: Any) -> None:
    case = asked(table, open_a_case(table, ladder=TWO_RUNGS))
    case = asked(table, case, now=NOW + timedelta(days=9))

    after = gathered(table, case, [a_key(SECOND)])

    assert (after.ladder_since, after.deadline, after.rung) == ("", "", 1)
    assert after.early_reminder(LATER) is None


GIVEN_UP = [Outcome.ESCALATED, Outcome.FAILED]


def given_up(
    table: Any, outcome: Outcome = Outcome.ESCALATED, keys: Any = (FIRST,), days: int = 9
) -> Case:
    """A case that climbed to the second rung and ended."""
    case = a_waiting_case(table, ladder=TWO_RUNGS, keys=[a_key(id) for id in keys])
    return end(table, asked(table, case, now=NOW + timedelta(days=days)), outcome)


@pytest.mark.parametrize("outcome", ENDS)
def test_only_a_case_that_was_given_up_is_taken_up_where_it_ended(
    table: Any, outcome: Outcome
) -> None:
    given_up(table, outcome)

    case = open_a_case(table, ladder=TWO_RUNGS, now=LATER)

    assert (case.rung, case.reopened) == ((1, 1) if outcome in GIVEN_UP else (0, 0))
    assert asked(table, case).first_rung == case.rung


def test_it_is_counted_how_often_in_a_row_a_case_was_given_up(table: Any) -> None:
    counts = []
    for number, outcome in enumerate([*GIVEN_UP, Outcome.RESOLVED, Outcome.ESCALATED]):
        case = open_a_case(table, ladder=TWO_RUNGS, now=NOW + timedelta(hours=number))
        counts.append(case.reopened)
        end(table, case, outcome)
    counts.append(open_a_case(table, now=LATER).reopened)

    assert counts == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("before", "now", "goes_on"),
    [
        ((FIRST,), (FIRST,), True),
        ((FIRST, SECOND), (SECOND,), True),
        ((FIRST,), (FIRST, SECOND), True),
        ((FIRST,), (SECOND,), False),
        ((FIRST, SECOND), ("AKIAEXAMPLE00000003",), False),
        # Nobody knows which keys there are or were.
        ((), (FIRST,), True),
        ((FIRST,), (), True),
        ((), (), True),
    ],
)
def test_other_keys_than_before_begin_on_the_first_rung(
    table: Any, before: Any, now: Any, goes_on: bool
) -> None:
    given_up(table, keys=before)

    case = open_a_case(table, ladder=TWO_RUNGS, key_ids=now, now=LATER)

    assert (case.rung, case.reopened) == ((1, 1) if goes_on else (0, 0))


def test_a_ladder_that_is_shorter_by_now_goes_on_at_its_end(table: Any) -> None:
    given_up(table)

    case = open_a_case(table, ladder=A_WEEK, now=LATER)

    assert (case.rung, case.reopened) == (0, 1)


def test_it_is_known_how_the_last_case_of_an_account_ended(table: Any) -> None:
    case = given_up(table)
    open_a_case(table, id="333333333334")

    assert table.get_item(Key={"pk": f"ACCOUNT#{ACCOUNT}", "sk": "LAST_CASE"})["Item"] == {
        "pk": f"ACCOUNT#{ACCOUNT}",
        "sk": "LAST_CASE",
        "schema": SCHEMA_VERSION,
        "case_id": case.id,
        "outcome": "ESCALATED",
        "rung": 1,
        "reopened": 0,
        "key_ids": [FIRST],
        "forget_at": (datetime.fromisoformat(case.ended_at) + KEEP).timestamp(),
    }


def test_the_last_case_of_an_account_may_be_forgotten_before_how_it_ended(table: Any) -> None:
    case = given_up(table)
    assert cases.find_latest_case(table, account_id=ACCOUNT) == case
    table.delete_item(Key=case_key(case.id))  # As DynamoDB does, in any order and within two days.

    assert cases.find_latest_case(table, account_id=ACCOUNT) is None
    again = open_a_case(table, ladder=TWO_RUNGS, now=LATER + KEEP)
    assert again.reopened == 1
    assert again.rung == case.rung


@pytest.mark.parametrize(
    ("after", "early"),
    [
        (timedelta(0), None),
        # Six hours before a reminder that comes every two days.
        (timedelta(days=2, hours=-6, seconds=-1), None),
        (timedelta(days=2, hours=-6), 1),
        (timedelta(days=2), 1),
        (timedelta(days=4), 2),
        (timedelta(days=6), 3),
        # The first mail of the next rung, a day after the last reminder.
        (timedelta(days=7, hours=-6, seconds=-1), 3),
        (timedelta(days=7), 4),
        # The end of the ladder is no mail.
        (timedelta(days=14, seconds=-1), 4),
        (timedelta(days=14), 4),
    ],
)
def test_a_reminder_that_is_nearly_due_is_known(
    table: Any, after: timedelta, early: int | None
) -> None:
    case = asked(table, open_a_case(table, ladder=TWO_RUNGS))

    assert case.early_reminder(NOW + after) == early


def test_a_reminder_is_near_in_the_last_quarter_of_a_short_wait(table: Any) -> None:
    ladder = (Rung(timedelta(hours=2), ("approvers",), timedelta(hours=1)),)
    case = asked(table, open_a_case(table, ladder=ladder))

    times = [44, 45, 60, 119, 120]
    early = [case.early_reminder(NOW + timedelta(minutes=each)) for each in times]
    assert early == [None, 1, 1, 1, 1]
    second = asked(table, case, now=NOW + timedelta(hours=1))
    assert second.early_reminder(NOW + timedelta(minutes=119)) is None


def test_a_waiting_case_holds_evidence_token_approvers_and_deadline(table: Any) -> None:
    keys = [a_key(last_used_at="2024-02-03T00:00:00+00:00"), a_key(SECOND, "Inactive")]

    case = a_waiting_case(table, keys=keys, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    assert case.keys == tuple(keys)
    assert case.fingerprint == fingerprint(ACCOUNT, keys)
    assert (case.quorum, case.quorum_reason) == (2, "a key was used in the last 90 days")
    assert case.request_number == 1
    assert case.task_token == "a-token"
    assert case.approvers == (APPROVER, DEPUTY)
    assert case.asked == {APPROVER, DEPUTY}
    assert case.deadline == "2026-03-11T05:06:07Z"
    assert case.is_decidable
    assert item_of(table, case)["approver_sources"] == ["the test", "the test"]
    assert item_of(table, case)["evidence_at"] == "2026-03-04T05:06:07Z"


@pytest.mark.parametrize("answer", list(Answer))
def test_a_decision_is_kept_as_it_was_made(table: Any, answer: Answer) -> None:
    case = a_waiting_case(table)

    decided = cases.decide(table, case=case, decision=a_decision(case, answer))

    assert decided.decision == a_decision(case, answer)
    assert decided == cases.load(table, case_id=case.id)
    assert not decided.is_decidable
    assert item_of(table, case)["decided"] == "YES"


@pytest.mark.parametrize("second", list(Answer))
@pytest.mark.parametrize("first", list(Answer))
def test_the_first_decision_wins(table: Any, first: Answer, second: Answer) -> None:
    shown = a_waiting_case(table, approvers=(APPROVER, DEPUTY))
    decided = cases.decide(table, case=shown, decision=a_decision(shown, first))
    before = contents(table)

    for seen in (shown, decided):
        for who in (APPROVER, DEPUTY):
            with pytest.raises(CaseEndedError):
                cases.decide(table, case=seen, decision=a_decision(seen, second, by=who))

    assert contents(table) == before


def test_a_decision_about_other_keys_is_not_taken(table: Any) -> None:
    case = a_waiting_case(table)
    shown = a_case([a_key(), a_key(SECOND)])
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(shown))

    assert contents(table) == before


@pytest.mark.parametrize("outcome", ENDS)
def test_an_ended_case_takes_no_decision(table: Any, outcome: Outcome) -> None:
    case = a_waiting_case(table)
    end(table, case, outcome)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case))

    assert contents(table) == before


@pytest.mark.parametrize("obstacle", list(Obstacle))
def test_a_case_that_waits_for_removal_takes_no_decision(table: Any, obstacle: Obstacle) -> None:
    case = a_waiting_case(table)
    waiting = asked(table, case, now=LATER, obstacle=obstacle)

    assert (waiting.outcome, waiting.obstacle) == (Outcome.AWAITING_REMOVAL, obstacle)
    assert waiting.reason == "denied"
    assert waiting.deadline == "2026-03-12T05:06:07Z"
    assert waiting.is_for_people_to_remove
    assert not waiting.is_decidable
    before = contents(table)
    for seen in (case, waiting):
        with pytest.raises(CaseEndedError):
            cases.decide(table, case=seen, decision=a_decision(seen))
    assert contents(table) == before


@pytest.mark.parametrize("answer", list(Answer))
def test_a_decision_that_came_before_the_close_is_found_by_it(table: Any, answer: Answer) -> None:
    case = a_decided_case(table, answer)

    for _ in range(2):
        found = cases.close_to_decisions(table, case_id=case.id, now=LATER)
        assert found == replace(case, task_token="")

    assert "task_token" not in item_of(table, case)
    assert item_of(table, case)["decided"] == "YES"


def test_after_the_close_no_decision_is_taken(table: Any) -> None:
    case = a_waiting_case(table)

    for _ in range(2):
        closed = cases.close_to_decisions(table, case_id=case.id, now=LATER)
        assert closed.decision is None
    for seen in (case, closed):
        with pytest.raises(CaseEndedError):
            cases.decide(table, case=seen, decision=a_decision(seen))

    assert not closed.is_decidable
    assert cases.load(table, case_id=case.id) == closed
    assert item_of(table, case)["decided"] == "NO"
    assert "task_token" not in item_of(table, case)
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)


def test_one_approval_of_two_does_not_outlast_the_close(table: Any) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)

    closed = cases.close_to_decisions(table, case_id=case.id, now=LATER)

    assert closed.decision is None
    assert [approval.by for approval in closed.approvals] == [APPROVER]
    with pytest.raises(CaseEndedError):
        approved_by(case, table, DEPUTY)
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)


def test_a_decision_in_the_moment_of_the_close_is_either_found_or_refused(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_waiting_case(table)
    update = cases._update_open

    def just_too_late(*args: Any, **given: Any) -> Case:
        monkeypatch.setattr(cases, "_update_open", update)
        cases.decide(table, case=case, decision=a_decision(case))
        return update(*args, **given)

    monkeypatch.setattr(cases, "_update_open", just_too_late)

    closed = cases.close_to_decisions(table, case_id=case.id, now=LATER)
    assert closed.decision == a_decision(case)
    assert closed.task_token == ""


def test_a_case_that_ended_without_a_decision_cannot_be_closed(table: Any) -> None:
    case = a_waiting_case(table)
    end(table, case)

    with pytest.raises(CaseEndedError):
        cases.close_to_decisions(table, case_id=case.id, now=LATER)


def two_are_asked(table: Any) -> Case:
    return a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)


def approved_by(case: Case, table: Any, who: str) -> Case:
    return cases.decide(table, case=case, decision=a_decision(case, by=who))


def test_where_two_are_needed_one_approval_decides_nothing(table: Any) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)

    assert case == cases.load(table, case_id=case.id)
    assert [approval.by for approval in case.approvals] == [APPROVER]
    assert case.decision is None
    assert case.decided_by == "nobody"
    assert case.missing_approvals == 1
    assert case.is_decidable
    assert case.takes_decision_of(APPROVER)
    assert not case.waits_for(APPROVER)
    assert case.waits_for(DEPUTY)
    # The stream must not end the wait.
    assert not {"decision", "decided"} & set(item_of(table, case))
    with pytest.raises(NotApprovedError, match="holds no approval"):
        cases.approved_keys(table, case_id=case.id)


@pytest.mark.parametrize(("first", "second"), [(APPROVER, DEPUTY), (DEPUTY, APPROVER)])
def test_two_people_together_approve(table: Any, first: str, second: str) -> None:
    one = approved_by(two_are_asked(table), table, first)
    case = approved_by(one, table, second)

    assert [approval.by for approval in case.approvals] == [first, second]
    assert case.decision == a_decision(case, by=second)
    assert case.decided_by == f"{first}, {second}"
    assert case.missing_approvals == 0
    assert not case.is_decidable
    assert item_of(table, case)["decided"] == "YES"
    assert cases.approved_keys(table, case_id=case.id) == (case, case.keys)


@pytest.mark.parametrize(
    "again",
    [APPROVER, APPROVER.upper(), "payments-leads+aws@example.com", "Payments-Leads+x@EXAMPLE.com"],
)
def test_the_same_person_under_whatever_spelling_counts_once(table: Any, again: str) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)
    before = contents(table)

    assert approved_by(case, table, again) == case

    assert contents(table) == before
    assert not case.waits_for(again)


def test_a_stale_page_of_the_same_person_does_not_count_them_twice(table: Any) -> None:
    stale = two_are_asked(table)
    case = approved_by(stale, table, APPROVER)
    before = contents(table)

    assert approved_by(stale, table, APPROVER.upper()) == case

    assert contents(table) == before


@pytest.mark.parametrize("answer", list(Answer))
def test_whoever_answers_first_the_first_decline_is_final(table: Any, answer: Answer) -> None:
    case = two_are_asked(table)
    declined = cases.decide(table, case=case, decision=a_decision(case, Answer.DECLINED, by=DEPUTY))
    before = contents(table)

    assert declined.decision == a_decision(case, Answer.DECLINED, by=DEPUTY)
    assert declined.decided_by == DEPUTY
    assert declined.approvals == ()
    for seen in (case, declined):
        with pytest.raises(CaseEndedError):
            cases.decide(table, case=seen, decision=a_decision(case, answer, by=APPROVER))
    assert contents(table) == before


@pytest.mark.parametrize("who", [APPROVER, DEPUTY])
def test_a_decline_is_final_after_an_approval_even_by_who_approved(table: Any, who: str) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)

    declined = cases.decide(table, case=case, decision=a_decision(case, Answer.DECLINED, by=who))

    assert declined.decision == a_decision(case, Answer.DECLINED, by=who)
    assert declined.decided_by == who
    assert declined.approvals == case.approvals
    assert not declined.is_decidable
    assert item_of(table, case)["decided"] == "YES"
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)
    with pytest.raises(CaseEndedError):
        approved_by(case, table, DEPUTY)


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens right before the next decision is written."""
    record = cases._record_decision

    def late(*args: Any) -> Case:
        monkeypatch.setattr(cases, "_record_decision", record)
        happens()
        return record(*args)

    monkeypatch.setattr(cases, "_record_decision", late)


def test_of_two_people_at_the_same_moment_both_count(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = two_are_asked(table)
    meanwhile(monkeypatch, lambda: approved_by(case, table, DEPUTY))

    both = approved_by(case, table, APPROVER)

    assert [approval.by for approval in both.approvals] == [DEPUTY, APPROVER]
    assert both.decision == a_decision(case, by=APPROVER)
    assert item_of(table, case)["decided"] == "YES"


def test_of_three_people_at_the_same_moment_two_are_counted_and_one_is_refused(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY, THIRD), quorum=TWO_PEOPLE)

    def the_others() -> None:
        approved_by(case, table, DEPUTY)
        approved_by(case, table, THIRD)

    meanwhile(monkeypatch, the_others)
    with pytest.raises(CaseEndedError):
        approved_by(case, table, APPROVER)

    assert cases.load(table, case_id=case.id).decided_by == f"{DEPUTY}, {THIRD}"


def test_two_people_at_the_same_moment_complete_what_a_third_began(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY, THIRD), quorum=Quorum(3, "r"))
    one = approved_by(case, table, THIRD)
    meanwhile(monkeypatch, lambda: approved_by(one, table, DEPUTY))

    every = approved_by(one, table, APPROVER)

    assert every.decided_by == f"{THIRD}, {DEPUTY}, {APPROVER}"
    assert cases.approved_keys(table, case_id=case.id)[1] == case.keys


def test_the_same_person_twice_at_the_same_moment_counts_once(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = two_are_asked(table)
    meanwhile(monkeypatch, lambda: approved_by(case, table, APPROVER))

    once = approved_by(case, table, APPROVER.upper())

    assert [approval.by for approval in once.approvals] == [APPROVER]
    assert once.decision is None
    assert once == cases.load(table, case_id=case.id)


def test_an_approval_and_a_decline_at_the_same_moment_are_both_kept_and_the_decline_is_final(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = two_are_asked(table)
    meanwhile(monkeypatch, lambda: approved_by(case, table, DEPUTY))

    declined = cases.decide(table, case=case, decision=a_decision(case, Answer.DECLINED))

    assert declined.decision == a_decision(case, Answer.DECLINED)
    assert [approval.by for approval in declined.approvals] == [DEPUTY]


@pytest.mark.parametrize("answer", list(Answer))
def test_after_a_decline_at_the_same_moment_nothing_counts(
    table: Any, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    case = two_are_asked(table)
    decline = a_decision(case, Answer.DECLINED, by=DEPUTY)
    meanwhile(monkeypatch, lambda: cases.decide(table, case=case, decision=decline))

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, answer))

    after = cases.load(table, case_id=case.id)
    assert (after.decision, after.approvals) == (decline, ())


@pytest.mark.parametrize("answer", list(Answer))
def test_a_decision_in_the_moment_that_the_evidence_changes_is_refused(
    table: Any, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    case = two_are_asked(table)
    meanwhile(monkeypatch, lambda: gathered(table, case, [a_key(SECOND)]))

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, answer))

    after = cases.load(table, case_id=case.id)
    assert (after.decision, after.approvals) == (None, ())


@pytest.mark.parametrize("answer", list(Answer))
def test_whatever_else_says_so_a_decision_is_only_taken_about_the_keys_in_the_table(
    table: Any, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    case = a_waiting_case(table)
    meanwhile(monkeypatch, lambda: tamper(table, case, "fingerprint", "of other keys"))

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, answer))

    assert not {"approvals", "decision", "decided"} & set(item_of(table, case))


@pytest.mark.parametrize("answer", list(Answer))
def test_a_page_of_an_earlier_request_decides_nothing_even_about_the_same_keys(
    table: Any, answer: Answer
) -> None:
    stale = a_waiting_case(table, approvers=(APPROVER, DEPUTY))
    again = asked(table, gathered(table, stale, stale.keys, TWO_PEOPLE), APPROVER, DEPUTY)
    before = contents(table)

    assert again.fingerprint == stale.fingerprint
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=stale, decision=a_decision(stale, answer))
    assert contents(table) == before
    assert cases.decide(table, case=again, decision=a_decision(again, answer)).request_number == 2


def test_another_failure_of_the_table_is_not_taken_for_somebody_who_was_faster(table: Any) -> None:
    case = a_waiting_case(table)
    table.delete()

    with pytest.raises(ClientError, match="ResourceNotFound"):
        cases.decide(table, case=case, decision=a_decision(case))


def test_the_approved_keys_are_those_of_the_evidence(table: Any) -> None:
    keys = (a_key(), a_key(SECOND, "Inactive"))
    case = a_decided_case(table, keys=keys)

    assert cases.approved_keys(table, case_id=case.id) == (case, keys)


def waiting(table: Any) -> Case:
    return a_waiting_case(table)


def declined(table: Any) -> Case:
    return a_decided_case(table, Answer.DECLINED)


def ended_approved(table: Any) -> Case:
    return end(table, a_decided_case(table), Outcome.FAILED)


def with_another_key_in_its_evidence(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "keys", [a_key().to_dict(), a_key(SECOND).to_dict()])
    return case


def with_another_status_in_its_evidence(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "keys", [a_key(status="Inactive").to_dict()])
    return case


def of_another_account(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "account_id", "333333333334")
    return case


def without_keys(table: Any) -> Case:
    return a_decided_case(table, keys=())


def with_an_approval_of_other_keys(table: Any) -> Case:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    other = a_decision(a_case([a_key(SECOND)]))
    tamper(
        table, case, "approvals", [cases._decision_item(each) for each in (other, case.decision)]
    )
    return case


def test_who_approved_may_take_it_back_also_when_somebody_else_is_asked_by_now(table: Any) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)
    case = asked(table, case, DEPUTY)

    assert not case.asks(APPROVER)
    assert case.takes_decision_of(APPROVER)
    decision = a_decision(case, Answer.DECLINED, by=APPROVER)
    after = cases.decide(table, case=case, decision=decision)
    assert (after.decided_by, after.decision and after.decision.answer) == (APPROVER, "DECLINED")


def approved_by_one_of_two(table: Any) -> Case:
    return approved_by(two_are_asked(table), table, APPROVER)


def approved_twice_by_the_same_person(table: Any) -> Case:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    twice = [a_decision(case), a_decision(case, by="Payments-Leads+again@example.com")]
    tamper(table, case, "approvals", [cases._decision_item(each) for each in twice])
    return case


def decided_by_fewer_than_are_needed_now(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "quorum", 2)
    return case


def without_approvals(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "approvals", [])
    return case


def without_lock(table: Any) -> Case:
    case = a_decided_case(table)
    table.delete_item(Key=open_case_key(ACCOUNT))
    return case


def behind_another_open_case(table: Any) -> Case:
    case = a_decided_case(table)
    table.delete_item(Key=open_case_key(ACCOUNT))
    open_a_case(table, now=LATER)
    return case


def tamper(table: Any, case: Case, name: str, value: Any) -> None:
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": value},
    )


@pytest.mark.parametrize(
    "make",
    [
        open_a_case,
        waiting,
        declined,
        ended_approved,
        with_another_key_in_its_evidence,
        with_another_status_in_its_evidence,
        of_another_account,
        without_keys,
        with_an_approval_of_other_keys,
        approved_by_one_of_two,
        approved_twice_by_the_same_person,
        decided_by_fewer_than_are_needed_now,
        without_approvals,
        without_lock,
        behind_another_open_case,
    ],
    ids=lambda make: make.__name__,
)
def test_no_keys_are_approved_of_a_case(table: Any, make: Callable[[Any], Case]) -> None:
    case = make(table)

    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)


THE_SAME_KEYS = (a_key(),)


def gathered(
    table: Any, case: Case, keys: Any = THE_SAME_KEYS, quorum: Quorum = ONE_PERSON
) -> Case:
    """The case after its keys were read again."""
    cases.record_evidence(table, case=case, keys=keys, quorum=quorum, now=LATER)
    return cases.load(table, case_id=case.id)


def test_gathering_the_same_keys_again_keeps_the_decision(table: Any) -> None:
    case = a_decided_case(table)

    used = a_key(last_used_at="2026-03-04T00:00:00+00:00")
    again = gathered(table, case, [used])

    assert again == replace(case, keys=(used,))
    assert item_of(table, case)["evidence_at"] == "2026-03-05T05:06:07Z"
    assert cases.approved_keys(table, case_id=case.id)[1] == (used,)


def test_gathering_the_same_keys_again_keeps_one_approval_of_two(table: Any) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)

    again = gathered(table, case, quorum=TWO_PEOPLE)

    assert again == case
    assert approved_by(again, table, DEPUTY).decided_by == f"{APPROVER}, {DEPUTY}"


def test_fewer_people_than_before_keep_the_decision(table: Any) -> None:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    again = gathered(table, case, quorum=ONE_PERSON)

    assert again == replace(case, quorum=1, quorum_reason="", approvers=())
    assert cases.approved_keys(table, case_id=case.id)[1] == case.keys


def test_an_approval_while_the_keys_were_read_counts_before_fewer_are_needed(table: Any) -> None:
    seen = two_are_asked(table)
    approved_by(seen, table, APPROVER)

    after = gathered(table, seen, quorum=ONE_PERSON)

    assert (len(after.approvals), after.quorum, after.decision) == (1, 2, None)


@pytest.mark.parametrize("answer", Answer)
def test_what_was_decided_while_changed_keys_were_read_is_history(
    table: Any, answer: Answer
) -> None:
    seen = a_waiting_case(table)
    cases.decide(table, case=seen, decision=a_decision(seen, answer))

    after = gathered(table, seen, [a_key(SECOND)])

    assert (after.decision, after.approvals, after.request_number) == (None, (), 2)
    assert [past["answer"] for past in item_of(table, seen)["past_decisions"]] == [answer]


@pytest.mark.parametrize("answer", Answer)
def test_what_was_decided_while_an_obstacle_came_up_is_history(table: Any, answer: Answer) -> None:
    seen = a_waiting_case(table)
    cases.decide(table, case=seen, decision=a_decision(seen, answer))

    after = asked(table, seen, obstacle=Obstacle.ROOT_SESSION_DENIED)

    assert (after.decision, after.approvals, after.request_number) == (None, (), 2)
    assert [past["answer"] for past in item_of(table, seen)["past_decisions"]] == [answer]


CHANGED = [[a_key(), a_key(SECOND)], [a_key(SECOND)], [a_key(status="Inactive")], []]
CHANGES = ["added", "replaced", "status", "gone"]


@pytest.mark.parametrize("keys", CHANGED, ids=CHANGES)
@pytest.mark.parametrize("answer", list(Answer))
def test_other_keys_make_the_decision_history(table: Any, keys: list[Any], answer: Answer) -> None:
    case = a_decided_case(table, answer)

    again = gathered(table, case, keys)

    assert (again.decision, again.approvals, again.decided, again.task_token) == (None, (), "", "")
    assert again.request_number == 2
    assert item_of(table, case)["past_decisions"] == [cases._decision_item(case.decision)]
    gone = {"approvals", "approvers", "decision", "decided", "task_token"}
    assert not gone & set(item_of(table, case))
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, answer))


@pytest.mark.parametrize(
    ("keys", "quorum"),
    [([a_key(SECOND)], ONE_PERSON), ([a_key()], TWO_PEOPLE)],
    ids=["other keys", "more people"],
)
@pytest.mark.parametrize("answer", list(Answer))
def test_between_new_evidence_and_the_new_question_nobody_decides(
    table: Any, keys: list[Any], quorum: Quorum, answer: Answer
) -> None:
    case = gathered(table, a_waiting_case(table), keys, quorum)
    before = contents(table)

    assert case.approvers == ()
    assert case.asked == {APPROVER}
    assert not case.is_decidable
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, answer))
    assert contents(table) == before

    case = asked(table, case)
    assert case.request_number == 2
    assert cases.decide(table, case=case, decision=a_decision(case, answer)).approvers == (
        APPROVER,
    )


def test_more_people_than_before_make_the_decision_history(table: Any) -> None:
    case = a_decided_case(table)

    again = gathered(table, case, quorum=TWO_PEOPLE)

    assert (again.decision, again.approvals, again.decided, again.task_token) == (None, (), "", "")
    assert (again.quorum, again.quorum_reason) == (2, TWO_PEOPLE.reason)
    assert again.request_number == 2
    assert [past["by"] for past in item_of(table, case)["past_decisions"]] == [APPROVER]
    # The first approval was for a quorum of one: it is not the first of the two.
    asked_again = asked(table, again, APPROVER, DEPUTY)
    assert approved_by(asked_again, table, DEPUTY).decision is None


@pytest.mark.parametrize("keys", CHANGED, ids=CHANGES)
def test_one_approval_of_two_is_history_too_when_the_keys_change(
    table: Any, keys: list[Any]
) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)

    again = gathered(table, case, keys, TWO_PEOPLE)

    assert again.approvals == ()
    assert again.request_number == 2
    assert [past["by"] for past in item_of(table, case)["past_decisions"]] == [APPROVER]


@pytest.mark.parametrize("answer", list(Answer))
def test_history_names_everybody_once(table: Any, answer: Answer) -> None:
    case = approved_by(two_are_asked(table), table, APPROVER)
    case = cases.decide(table, case=case, decision=a_decision(case, answer, by=DEPUTY))

    gathered(table, case, [])

    past = item_of(table, case)["past_decisions"]
    assert [(each["by"], each["answer"]) for each in past] == [
        (APPROVER, "APPROVED"),
        (DEPUTY, answer),
    ]


def test_every_decision_that_became_history_is_kept(table: Any) -> None:
    case = a_decided_case(table)
    for id in (SECOND, FIRST):
        case = asked(table, gathered(table, case, [a_key(id)]))
        case = cases.decide(table, case=case, decision=a_decision(case))
    case = gathered(table, case, [])

    assert len(item_of(table, case)["past_decisions"]) == 3
    assert case.request_number == 4


def test_without_a_decision_other_keys_leave_no_history(table: Any) -> None:
    case = gathered(table, a_waiting_case(table), [a_key(SECOND)])

    assert case.request_number == 2
    assert "past_decisions" not in item_of(table, case)


def request_items(table: Any) -> dict[str, dict[str, Any]]:
    """The requests in the table, by approver."""
    return {
        item["pk"].removeprefix("APPROVER#"): item
        for item in contents(table)
        if item["sk"].startswith("REQUEST#")
    }


def test_who_is_asked_is_noted_with_the_case_and_with_each_approver(table: Any) -> None:
    case = a_gathered_case(table)

    after = asked(table, case, "Payments-Leads@Example.com", DEPUTY)

    assert after == cases.load(table, case_id=case.id)
    assert after.approvers == ("Payments-Leads@Example.com", DEPUTY)
    assert after.asked == {"Payments-Leads@Example.com", DEPUTY}
    assert after.is_decidable
    assert request_items(table) == {
        who: {
            "pk": f"APPROVER#{who}",
            "sk": f"REQUEST#{case.id}",
            "schema": SCHEMA_VERSION,
            "case_id": case.id,
            "asked_at": "2026-03-04T05:06:07Z",
        }
        for who in (APPROVER, DEPUTY)
    }


def test_asking_again_for_the_same_is_no_new_request_and_forgets_no_mail(table: Any) -> None:
    case = with_link(table, asked(table, a_gathered_case(table)))
    before = contents(table)

    again = asked(table, case)

    assert again == case
    assert again.request_number == 1
    assert contents(table) == before
    assert request_items(table)[APPROVER]["mailed"] == 1


def test_a_decision_stays_when_somebody_is_asked_again_for_the_same(table: Any) -> None:
    case = a_decided_case(table)

    assert asked(table, case) == case


@pytest.mark.parametrize("obstacle", list(Obstacle))
def test_an_obstacle_is_a_new_request_and_so_is_its_end(table: Any, obstacle: Obstacle) -> None:
    case = asked(table, a_gathered_case(table))

    by_hand = asked(table, case, obstacle=obstacle)
    again = asked(table, by_hand, obstacle=obstacle)
    after = asked(table, again)

    assert (by_hand.request_number, again.request_number, after.request_number) == (2, 2, 3)
    assert (by_hand.obstacle, after.obstacle) == (obstacle, None)
    assert after.outcome == Outcome.AWAITING_APPROVAL
    assert after.reason == ""
    assert after.is_decidable


def test_a_case_without_evidence_that_people_have_to_settle_is_a_request(table: Any) -> None:
    case = asked(table, open_a_case(table), obstacle=Obstacle.MANAGEMENT_ACCOUNT)

    assert case.request_number == 1
    assert case.is_for_people_to_remove


def test_somebody_who_is_no_longer_asked_decides_nothing_but_is_remembered(table: Any) -> None:
    case = asked(table, asked(table, a_gathered_case(table)), DEPUTY)

    assert case.approvers == (DEPUTY,)
    assert case.asked == {APPROVER, DEPUTY}
    assert set(request_items(table)) == {APPROVER, DEPUTY}
    assert case.takes_decision_of(DEPUTY)
    assert not case.asks(APPROVER)
    assert not case.takes_decision_of(APPROVER)


def test_nobody_is_noted_as_asked_about_a_case_that_has_ended(table: Any) -> None:
    case = a_gathered_case(table)
    end(table, case)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        asked(table, case)

    assert contents(table) == before


def test_a_transaction_in_bad_timing_is_not_taken_for_an_ended_case(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_gathered_case(table)
    error = table.meta.client.exceptions.TransactionCanceledException(
        {
            "Error": {"Code": "TransactionCanceledException", "Message": "conflict"},
            "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}],
        },
        "TransactWriteItems",
    )

    def conflict(**_: Any) -> None:
        raise error

    monkeypatch.setattr(table.meta.client, "transact_write_items", conflict)

    for write in (asked, end, lambda table, _: open_a_case(table, id="333333333334")):
        with pytest.raises(ClientError, match="conflict"):
            write(table, case)


@pytest.mark.parametrize(
    "write",
    [
        lambda table, case: gathered(table, case, []),
        lambda table, case: asked(table, case),
        lambda table, case: asked(table, case, obstacle=Obstacle.MANAGEMENT_ACCOUNT),
        lambda table, case: cases.await_approval(table, case_id=case.id, task_token="t"),
        lambda table, case: cases.close_to_decisions(table, case_id=case.id, now=LATER),
        lambda table, case: cases.record_held(table, case_id=case.id, held="h", now=LATER),
        lambda table, case: cases.record_canary(table, case_id=case.id, release="r"),
        lambda table, case: cases.record_deletion_started(table, case_id=case.id, now=LATER),
        lambda table, case: cases.record_deleted(table, case_id=case.id, key_id=FIRST, now=LATER),
    ],
    ids=[
        "evidence",
        "approval",
        "removal",
        "token",
        "close",
        "held",
        "canary",
        "deletion",
        "deleted",
    ],
)
def test_nothing_is_written_into_a_case_that_has_ended_or_never_was(
    table: Any, write: Callable[[Any, Case], Any]
) -> None:
    case = open_a_case(table)
    end(table, case)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        write(table, case)
    with pytest.raises(CaseEndedError):
        write(table, a_case(id="333333333333-20000101T000000Z"))

    assert contents(table) == before


def test_another_failure_of_the_table_is_not_taken_for_an_ended_case(table: Any) -> None:
    case = open_a_case(table)
    table.delete()

    with pytest.raises(ClientError, match="ResourceNotFound"):
        cases.await_approval(table, case_id=case.id, task_token="t")


def test_what_holds_a_deletion_up_is_known_since_when_until_it_begins(table: Any) -> None:
    case = a_decided_case(table)

    for held, now in (("KillSwitchOn", NOW), ("CanaryPending", LATER)):
        waiting = cases.record_held(table, case_id=case.id, held=held, now=now)
        assert (waiting.held, waiting.held_since) == (held, "2026-03-04T05:06:07Z")
    cases.record_deletion_started(table, case_id=case.id, now=LATER)

    after = cases.load(table, case_id=case.id)
    assert (after.held, after.held_since) == ("", "")
    assert after.deletion_started_at == "2026-03-05T05:06:07Z"


def test_a_deletion_that_goes_on_started_when_it_started(table: Any) -> None:
    case = a_decided_case(table)

    for now in (NOW, LATER):
        cases.record_deletion_started(table, case_id=case.id, now=now)

    assert cases.load(table, case_id=case.id).deletion_started_at == "2026-03-04T05:06:07Z"


def test_other_keys_are_held_up_by_nothing(table: Any) -> None:
    case = a_decided_case(table)
    cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)

    after = gathered(table, case, [a_key(SECOND)])

    assert (after.held, after.held_since) == ("", "")


@pytest.mark.parametrize(
    ("make", "is_deleting"),
    [
        (lambda table: a_decided_case(table), True),
        (lambda table: a_decided_case(table, Answer.DECLINED), False),
        (lambda table: a_waiting_case(table), False),
        (lambda table: gathered(table, a_decided_case(table), [a_key(SECOND)]), False),
        (
            lambda table: asked(
                table, a_decided_case(table), obstacle=Obstacle.ROOT_SESSION_DENIED
            ),
            False,
        ),
        (lambda table: end(table, a_decided_case(table)), False),
    ],
    ids=["approved", "declined", "waiting", "other keys", "by hand", "ended"],
)
def test_keys_are_being_deleted_from_the_approval_to_the_end(
    table: Any, make: Any, is_deleting: bool
) -> None:
    assert make(table).is_deleting is is_deleting


def test_deleted_keys_are_recorded_one_after_the_other(table: Any) -> None:
    case = open_a_case(table)

    for key_id in (FIRST, SECOND):
        cases.record_deleted(table, case_id=case.id, key_id=key_id, now=LATER)

    assert item_of(table, case)["deleted_keys"] == [
        {"id": FIRST, "deleted_at": "2026-03-05T05:06:07Z"},
        {"id": SECOND, "deleted_at": "2026-03-05T05:06:07Z"},
    ]


@pytest.mark.parametrize("outcome", ENDS)
def test_an_outcome_ends_the_case_frees_the_account_and_forgets_the_token(
    table: Any, outcome: Outcome
) -> None:
    case = a_waiting_case(table)

    ended = end(table, case, outcome)

    assert (ended.outcome, ended.reason) == (outcome, "because")
    assert ended.ended_at == "2026-03-05T05:06:07Z"
    assert ended.task_token == ""
    assert cases.find_open_case(table, account_id=ACCOUNT) is None


@pytest.mark.parametrize("outcome", ENDS)
def test_an_end_takes_the_case_from_the_list_of_everybody_who_was_ever_asked(
    table: Any, outcome: Outcome
) -> None:
    case = with_link(table, asked(table, a_gathered_case(table), APPROVER, THIRD))
    other = asked(table, a_gathered_case(table, id="333333333334"))
    asked(table, case, DEPUTY)

    end(table, case, outcome)

    assert [each.case_id for each in approvers.open_requests(table, approver=APPROVER)] == [
        other.id
    ]
    for who in (APPROVER, DEPUTY, THIRD):
        [ended] = approvers.ended_requests(table, approver=who)
        assert ended.case_id == case.id
        item = table.get_item(Key={"pk": f"APPROVER#{who}", "sk": f"REQUEST#{case.id}"})["Item"]
        assert item["ended_at"] == "2026-03-05T05:06:07Z"
        assert item["forget_at"] == (LATER + timedelta(days=90)).timestamp()
    assert next(approvers.ended_requests(table, approver=APPROVER)).mailed == 1
    assert item_of(table, case)["forget_at"] == (LATER + KEEP).timestamp()


def test_a_case_of_somebody_whose_address_was_spelled_in_two_ways_ends_all_the_same(
    table: Any,
) -> None:
    case = asked(table, a_gathered_case(table), "Payments-Leads@Example.com")
    case = asked(table, case, APPROVER)

    assert end(table, case).outcome == Outcome.RESOLVED
    assert list(approvers.open_requests(table, approver=APPROVER)) == []


@pytest.mark.parametrize("outcome", ENDS)
def test_recording_an_outcome_again_changes_nothing(table: Any, outcome: Outcome) -> None:
    case = a_decided_case(table, Answer.DECLINED)
    first = end(table, case, outcome)
    newer = open_a_case(table, now=LATER)
    before = contents(table)

    again = end_case(table, case.id, outcome, now=LATER + timedelta(days=1), reason="other")

    assert again == first
    assert contents(table) == before
    assert cases.find_open_case(table, account_id=ACCOUNT) == newer


def test_a_case_has_one_outcome(table: Any) -> None:
    case = open_a_case(table)
    end(table, case, Outcome.RESOLVED)
    before = contents(table)

    with pytest.raises(CaseEndedError, match="ended RESOLVED"):
        end(table, case, Outcome.FAILED)

    assert contents(table) == before


def test_two_outcomes_at_once_leave_one(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = open_a_case(table)
    load = cases.load

    def stale(*args: Any, **given: Any) -> Case:
        monkeypatch.setattr(cases, "load", load)
        loaded = load(*args, **given)
        end(table, case, Outcome.RESOLVED)
        return loaded

    monkeypatch.setattr(cases, "load", stale)
    with pytest.raises(CaseEndedError, match="changed"):
        end(table, case, Outcome.FAILED)

    assert load(table, case_id=case.id).outcome == Outcome.RESOLVED


def test_an_end_does_not_free_an_account_whose_open_case_is_another(table: Any) -> None:
    case = behind_another_open_case(table)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        end(table, case)

    assert contents(table) == before


def test_an_account_that_was_freed_already_does_not_keep_a_case_from_ending(table: Any) -> None:
    case = without_lock(table)

    assert end(table, case).outcome == Outcome.RESOLVED


def test_declined_keys_are_excepted_until_the_day_and_no_longer(table: Any) -> None:
    case = a_decided_case(table, Answer.DECLINED)
    end(table, case, Outcome.DECLINED)

    exception = exceptions.find(table, account_id=ACCOUNT)
    assert exception
    assert exception.owner == APPROVER
    assert exception.reason == "migrating in May"
    assert exception.until == "2026-05-01"
    assert exception.keys == case.keys
    assert exception.case_id == case.id
    assert exception.is_in_force(date(2026, 5, 1))
    assert not exception.is_in_force(date(2026, 5, 2))
    assert exceptions.find(table, account_id="333333333334") is None


@pytest.mark.parametrize("outcome", [end for end in ENDS if end != Outcome.DECLINED])
def test_only_a_declined_case_leaves_an_exception(table: Any, outcome: Outcome) -> None:
    end(table, a_decided_case(table, Answer.DECLINED), outcome)

    assert exceptions.find(table, account_id=ACCOUNT) is None


def test_an_exception_has_the_ticket_of_the_decision(table: Any) -> None:
    case = a_waiting_case(table)
    decision = a_decision(case, Answer.DECLINED, ticket="JIRA-1")
    end(table, cases.decide(table, case=case, decision=decision), Outcome.DECLINED)

    exception = exceptions.find(table, account_id=ACCOUNT)
    assert exception
    assert exception.ticket == "JIRA-1"


@pytest.mark.parametrize("outcome", ENDS)
def test_an_exception_goes_when_the_keys_are_gone_and_not_before(
    table: Any, outcome: Outcome
) -> None:
    end(table, a_decided_case(table, Answer.DECLINED), Outcome.DECLINED)
    before = exceptions.find(table, account_id=ACCOUNT)
    assert before

    end(table, a_waiting_case(table, keys=[a_key(SECOND)], now=LATER), outcome)

    gone = outcome in (Outcome.REMEDIATED, Outcome.RESOLVED)
    assert exceptions.find(table, account_id=ACCOUNT) == (None if gone else before)


def test_an_exception_stays_while_the_keys_are_there_that_it_is_about(table: Any) -> None:
    end(table, a_decided_case(table, Answer.DECLINED), Outcome.DECLINED)
    before = exceptions.find(table, account_id=ACCOUNT)

    end(table, a_waiting_case(table, now=LATER), Outcome.RESOLVED)

    assert exceptions.find(table, account_id=ACCOUNT) == before


def test_an_exception_stays_when_its_account_is_shut_and_may_come_back(table: Any) -> None:
    end(table, a_decided_case(table, Answer.DECLINED), Outcome.DECLINED)
    before = exceptions.find(table, account_id=ACCOUNT)
    case = a_waiting_case(table, keys=[a_key(), a_key(SECOND)], now=LATER)
    cases.wake(table, case_id=case.id, account_gone="the account is SUSPENDED")

    end(table, case, Outcome.RESOLVED)

    assert exceptions.find(table, account_id=ACCOUNT) == before


def test_a_later_exception_takes_the_place_of_the_one_before(table: Any) -> None:
    for now in (NOW, LATER):
        case = a_decided_case(table, Answer.DECLINED, now=now)
        end(table, case, Outcome.DECLINED)

    exception = exceptions.find(table, account_id=ACCOUNT)
    assert exception
    assert (exception.case_id, exception.warned_at) == (case.id, "")


def test_a_declined_outcome_without_a_decision_leaves_no_exception(table: Any) -> None:
    end(table, a_waiting_case(table), Outcome.DECLINED)

    assert exceptions.find(table, account_id=ACCOUNT) is None


def test_several_cases_are_loaded_in_the_order_that_was_asked_for(table: Any) -> None:
    item = item_of(table, open_a_case(table))
    ids = [f"{n:012}-20260304T050607Z" for n in range(205)]
    with table.batch_writer() as batch:
        for id in ids:
            batch.put_item(Item={**item, "pk": f"CASE#{id}", "case_id": id})
    wanted = [*reversed(ids), "nothing"]

    found = cases.load_many(DYNAMODB, table, iter(wanted))

    assert [case.id for case in found] == list(reversed(ids))
    assert found[0] == cases.load(table, case_id=ids[-1])
    assert cases.load_many(DYNAMODB, table, []) == []


def test_cases_that_the_table_did_not_give_at_once_are_asked_for_again(table: Any) -> None:
    ids = [open_a_case(table, id=f"{n:012}").id for n in range(7)]
    hurried = Hurried()

    found = cases.load_many(hurried, table, ids)

    assert [case.id for case in found] == ids
    assert hurried.asked_for == [7, 4, 1]


class Hurried:
    """A table that gives three items at a time, as DynamoDB may (API, BatchGetItem)."""

    def __init__(self) -> None:
        self.asked_for: list[int] = []

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
        [(name, wanted)] = RequestItems.items()
        assert wanted["ConsistentRead"] is True
        keys = wanted["Keys"]
        self.asked_for.append(len(keys))
        answer = DYNAMODB.batch_get_item(RequestItems={name: {**wanted, "Keys": keys[:3]}})
        rest = {name: {**wanted, "Keys": keys[3:]}} if keys[3:] else {}
        return {**answer, "UnprocessedKeys": rest}


def test_every_item_says_which_version_of_the_schema_it_has(table: Any) -> None:
    end(table, with_link(table, a_decided_case(table, Answer.DECLINED)), Outcome.DECLINED)
    open_a_case(table, now=LATER)
    approvers.lock_mails(table, approver=DEPUTY, holder="h", now=NOW, until=LATER)

    kinds = table.scan(FilterExpression=Attr("schema").eq(SCHEMA_VERSION))["Items"]
    assert {item["sk"].partition("#")[0] for item in kinds} == {
        ACCOUNT,  # The lock that says which case of the account is open.
        "APPROVER",
        "CASE",
        "EXCEPTION",
        "LAST_CASE",
        "LINK",
        "REQUEST",
    }
    assert len(kinds) == len(contents(table))


def test_a_decision_is_made_of_what_the_table_holds() -> None:
    decision = a_decision(a_case(), Answer.DECLINED)

    assert Decision(**cases._decision_item(decision)) == decision


def test_an_execution_has_the_name_of_its_case() -> None:
    assert cases.execution_arn(REMEDIATE, "c").endswith(":execution:rootsweep-remediate:c")


# -- looking again --------------------------------------------------------------------------------


def test_the_open_cases_are_found_by_one_key_to_the_last_page(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"{n:012}" for n in range(5)]
    opened = {id: a_waiting_case(table, id=id).id for id in ids}
    end(table, cases.load(table, case_id=opened[ids[0]]))
    query = table.query
    monkeypatch.setattr(table, "query", lambda **given: query(**given, Limit=2))

    assert cases.open_case_ids(table) == {id: opened[id] for id in ids[1:]}


def test_a_waiting_case_is_woken_and_still_takes_a_decision(table: Any) -> None:
    case = a_waiting_case(table)

    assert cases.wake(table, case_id=case.id)

    woken = cases.load(table, case_id=case.id)
    assert (woken.woken, woken.is_decidable) == (True, True)
    assert cases.decide(table, case=woken, decision=a_decision(case)).decision


@pytest.mark.parametrize("make", [a_decided_case, a_gathered_case, open_a_case])
def test_a_case_that_does_not_wait_for_people_is_not_woken(table: Any, make: Any) -> None:
    case = make(table)
    before = contents(table)

    assert not cases.wake(table, case_id=case.id)
    assert contents(table) == before


@pytest.mark.parametrize("make", [open_a_case, a_waiting_case, a_decided_case])
def test_a_case_that_waits_for_a_removal_by_hand_is_woken(table: Any, make: Any) -> None:
    case = asked(table, make(table), obstacle=Obstacle.MANAGEMENT_ACCOUNT)

    assert cases.wake(table, case_id=case.id)
    assert cases.load(table, case_id=case.id).woken


@pytest.mark.parametrize("make", [open_a_case, a_waiting_case, a_decided_case])
def test_a_removal_by_hand_hears_that_the_account_is_gone(table: Any, make: Any) -> None:
    case = asked(table, make(table), obstacle=Obstacle.ROOT_SESSION_DENIED)

    assert cases.wake(table, case_id=case.id, account_gone="the account is CLOSED")
    assert cases.load(table, case_id=case.id).account_gone == "the account is CLOSED"


def test_whoever_is_asked_anew_is_not_woken_any_more(table: Any) -> None:
    case = asked(table, open_a_case(table), obstacle=Obstacle.MANAGEMENT_ACCOUNT)
    cases.wake(table, case_id=case.id)

    assert not asked(table, case, DEPUTY, obstacle=Obstacle.MANAGEMENT_ACCOUNT).woken


def test_a_case_whose_account_is_gone_does_not_look_again(table: Any) -> None:
    case = a_waiting_case(table)
    assert cases.wake(table, case_id=case.id)
    assert cases.wake(table, case_id=case.id, account_gone="the account is CLOSED")

    assert not cases.was_woken(table, case_id=case.id)
    closed = cases.close_to_decisions(table, case_id=case.id, now=LATER)
    assert (closed.account_gone, closed.decision) == ("the account is CLOSED", None)
    assert not closed.is_decidable


def test_to_be_woken_again_does_not_bring_a_gone_account_back(table: Any) -> None:
    case = a_waiting_case(table)
    cases.wake(table, case_id=case.id, account_gone="the account is CLOSED")

    assert cases.wake(table, case_id=case.id)
    assert cases.load(table, case_id=case.id).account_gone == "the account is CLOSED"


def test_a_case_was_woken_however_often_one_asks_until_its_evidence_is_gathered(
    table: Any,
) -> None:
    case = a_waiting_case(table)
    assert not cases.was_woken(table, case_id=case.id)
    cases.wake(table, case_id=case.id)

    assert cases.was_woken(table, case_id=case.id)
    assert cases.was_woken(table, case_id=case.id)
    assert "task_token" not in item_of(table, case)
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case))
    woken = cases.load(table, case_id=case.id)
    cases.record_evidence(table, case=woken, keys=case.keys, quorum=ONE_PERSON, now=LATER)

    assert not cases.was_woken(table, case_id=case.id)
    assert asked(table, cases.load(table, case_id=case.id)).is_decidable


def test_a_decision_counts_more_than_that_the_case_was_woken(table: Any) -> None:
    case = a_waiting_case(table)
    cases.wake(table, case_id=case.id)
    cases.decide(table, case=case, decision=a_decision(case))

    assert not cases.was_woken(table, case_id=case.id)
    closed = cases.close_to_decisions(table, case_id=case.id, now=LATER)
    assert closed.decision == a_decision(case)


def test_a_quorum_never_falls_under_approvals_that_wait_for_it(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    case = cases.decide(table, case=case, decision=a_decision(case))

    cases.record_evidence(table, case=case, keys=case.keys, quorum=ONE_PERSON, now=LATER)

    after = cases.load(table, case_id=case.id)
    assert (after.quorum, after.quorum_reason) == (TWO_PEOPLE.people, TWO_PEOPLE.reason)
    assert after.approvals == case.approvals


def test_without_approvals_the_quorum_is_what_it_takes_now(table: Any) -> None:
    case = a_waiting_case(table, quorum=TWO_PEOPLE)

    cases.record_evidence(table, case=case, keys=case.keys, quorum=ONE_PERSON, now=LATER)

    assert cases.load(table, case_id=case.id).quorum == 1


def test_a_case_that_asked_very_many_ends_all_the_same(table: Any) -> None:
    case = a_waiting_case(table)
    for n in range(120):
        table.update_item(
            Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
            UpdateExpression="ADD asked :one",
            ExpressionAttributeValues={":one": {f"a{n}@example.com"}},
        )

    end_case(table, case.id, Outcome.FAILED)

    ended = [item for item in contents(table) if item["sk"].startswith("REQUEST#")]
    assert len(ended) == 121
    assert all("ended_at" in item for item in ended)


def test_conditions_of_several_threads_are_not_mixed_up(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder of a table counts its placeholders for all threads, anew with each call."""
    case = a_waiting_case(table)
    sent: list[Any] = []
    update = table.update_item
    monkeypatch.setattr(table, "update_item", lambda **given: sent.append(given) or update(**given))

    cases.wake(table, case_id=case.id)

    [request] = sent
    assert isinstance(request["ConditionExpression"], str)
    names = request["ExpressionAttributeNames"].values()
    assert {"pk", "ended_at", "schema"} < set(names)
