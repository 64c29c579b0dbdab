"""What approvers can say before, during and after the root user is blocked, and what counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import approval_page
import deliver_decision
import pytest
import read_decision
import record_outcome
import request_approval
from boto3.dynamodb.types import TypeSerializer

from rootsweep import approvals, cases, exceptions, mailing, messages
from rootsweep.approvals import Choice, FormError, choice_from
from rootsweep.cases import Answer, Case, Decision, Obstacle, Outcome
from rootsweep.errors import CaseEndedError, NotApprovedError

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    HOSTILE,
    NOW,
    ONE_PERSON,
    SECOND,
    THIRD,
    TWO_PEOPLE,
    a_case,
    a_decided_case,
    a_decision,
    a_gathered_case,
    a_key,
    a_waiting_case,
    asked,
    contents,
    item_of,
    with_link,
)
from .mailbox import Mailbox
from .quarantined import (
    NEXT_TOKEN,
    TOKEN,
    TWO_WEEKS,
    UNTIL,
    blocked,
    closed,
    ended,
    lifted,
    now_in,
    to_block,
)
from .test_approval_page import (
    OTHER_SECRET,
    Page,
    approving,
    approving_all,
    ask,
    declining,
    declining_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from botocore.stub import Stubber

BLOCKED_TITLE = "The root user is blocked until its keys are deleted"
A_MOMENT = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still."""

    def set_clock(now: datetime) -> None:
        for module in (approval_page, read_decision, record_outcome):
            stop_clock(module, now)

    set_clock(NOW)
    return set_clock


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack lets approvers have the root user blocked for two weeks."""
    monkeypatch.setattr(approval_page, "QUARANTINE", "14d")


def read(case: Case) -> dict[str, Any]:
    return read_decision.handler({"case_id": case.id}, None)


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], name: str = "_take_back"
) -> None:
    """Something happens right before the next decision is written."""
    record = getattr(cases, name)

    def late(*args: Any) -> Case:
        monkeypatch.setattr(cases, name, record)
        happens()
        return record(*args)

    monkeypatch.setattr(cases, name, late)


# -- the form -------------------------------------------------------------------------------------


def choice(form: dict[str, str], **given: Any) -> Choice:
    offered = {"now": NOW, "exception_days": 90, "quarantine": "14d", "account_id": ACCOUNT}
    return choice_from(form, **{**offered, **given})


@pytest.mark.parametrize("typed", [ACCOUNT, " 3333-3333-3333 "])
def test_to_block_first_is_an_approval_that_wants_the_time_of_the_stack(typed: str) -> None:
    form = {"decision": "quarantine", "account_id": typed, "quarantine": "999d"}

    assert choice(form) == Choice(Answer.APPROVED, quarantine="14d")


def test_to_delete_at_once_wants_no_block_though_the_stack_offers_it() -> None:
    form = {"decision": "approve", "account_id": ACCOUNT, "quarantine": "14d"}

    assert choice(form) == Choice(Answer.APPROVED)


def test_to_keep_the_keys_wants_no_block() -> None:
    form = {"decision": "decline", "reason": "r", "until": "2026-04-01", "quarantine": "14d"}

    assert choice(form).quarantine == ""


@pytest.mark.parametrize("decision", ["quarantine", "QUARANTINE", "Quarantine ", "block"])
def test_who_is_not_offered_to_block_first_cannot_choose_it(decision: str) -> None:
    with pytest.raises(FormError) as refused:
        choice({"decision": decision, "account_id": ACCOUNT}, quarantine="")

    assert refused.value.field == "decision"


@pytest.mark.parametrize("typed", ["", "333333333334", "33333333333", "1", "quarantine"])
def test_nobody_is_blocked_before_the_account_id_is_typed(typed: str) -> None:
    for form in ({"account_id": typed}, {"count": "1"}):
        with pytest.raises(FormError) as refused:
            choice({"decision": "quarantine", **form})
        assert refused.value.field == "account_id"


def test_a_list_offers_no_block() -> None:
    form = {"decision": "quarantine", "count": "2"}

    with pytest.raises(FormError) as refused:
        choice_from(form, now=NOW, exception_days=90, selected=2)

    assert refused.value.field == "decision"


def test_a_choice_to_block_becomes_the_decision_of_one_person() -> None:
    case = a_case()

    decision = choice({"decision": "quarantine", "account_id": ACCOUNT}).about(
        case, by=DEPUTY, now=NOW
    )

    assert decision == Decision(
        Answer.APPROVED, DEPUTY, "2026-03-04T05:06:07Z", case.fingerprint, quarantine="14d"
    )


# -- what the table holds -------------------------------------------------------------------------


def test_how_long_somebody_wants_it_blocked_is_kept(table: Any) -> None:
    case = to_block(table)

    assert case.decision == a_decision(case, quarantine="14d")
    assert case.approvals == (case.decision,)
    assert now_in(table, case) == case
    assert item_of(table, case)["decision"]["quarantine"] == "14d"


def test_a_decision_from_before_there_were_quarantines_wants_none(table: Any) -> None:
    case = a_decided_case(table)
    item = item_of(table, case)
    del item["decision"]["quarantine"]
    del item["approvals"][0]["quarantine"]

    old = Case.from_item(item)

    assert old == case
    assert old.quarantine == timedelta(0)


def test_a_case_knows_its_quarantine_from_the_table(table: Any) -> None:
    case = blocked(table)

    assert (case.quarantine_until, case.quarantine_token) == ("2026-03-18T05:06:07Z", TOKEN)
    cases.refuse_quarantine(table, case=case, reason="no")
    assert now_in(table, case).quarantine_refused == "no"


@pytest.mark.parametrize(
    ("wanted", "longest"),
    [
        (["14d", ""], TWO_WEEKS),
        (["", "14d"], TWO_WEEKS),
        (["1d", "36h"], timedelta(hours=36)),
        (["90m", "3600s"], timedelta(minutes=90)),
        (["9d", "10d"], timedelta(days=10)),
        (["", ""], timedelta(0)),
    ],
)
def test_the_longest_time_that_anybody_wants_counts(
    table: Any, wanted: Sequence[str], longest: timedelta
) -> None:
    case = to_block(table, wanted=wanted, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    assert case.quarantine == longest
    assert now_in(table, case).quarantine == longest


def test_a_case_without_approvals_wants_no_block() -> None:
    assert a_case().quarantine == timedelta(0)


@pytest.mark.parametrize(
    "fields",
    [
        {"quarantine_token": ""},
        {"decision": None},
        {"decision": a_decision(a_case(), Answer.DECLINED)},
        {"ended_at": "2026-03-04T05:06:07Z"},
        {"outcome": Outcome.AWAITING_REMOVAL},
    ],
)
def test_a_case_is_in_quarantine_while_an_approved_deletion_waits_and_not_else(
    fields: dict[str, Any],
) -> None:
    case = a_case(
        decision=a_decision(a_case()),
        decided="YES",
        quarantine_until="2026-03-18T05:06:07Z",
        quarantine_token=TOKEN,
    )
    assert case.is_in_quarantine

    assert not replace(case, **fields).is_in_quarantine


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "seconds"), [("14d", 1209600), ("25s", 25), ("90m", 5400), ("1h", 3600)]
)
def test_who_is_to_be_blocked_first_is_so_for_the_whole_time(
    table: Any, wanted: str, seconds: int
) -> None:
    case = to_block(table, wanted=[wanted])

    for _ in range(2):
        assert read(case) == {
            "answer": "QUARANTINE",
            "by": APPROVER,
            "reason": "",
            "timeout_seconds": seconds,
        }


def test_one_of_two_is_enough_for_a_block(table: Any) -> None:
    case = to_block(table, wanted=["14d", ""], approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    answer = read(case)

    assert (answer["answer"], answer["by"]) == ("QUARANTINE", f"{APPROVER}, {DEPUTY}")


def test_one_of_two_alone_blocks_nobody(table: Any) -> None:
    case = to_block(table, approvers=(APPROVER, DEPUTY), wanted=["14d"], quorum=TWO_PEOPLE)

    assert case.decision is None
    assert read(case)["answer"] == "LOOK_AGAIN"


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (TWO_WEEKS, 1209600),
        (timedelta(seconds=90), 90),
        (timedelta(milliseconds=10_500), 11),
    ],
)
def test_what_is_left_of_the_time_is_waited_for_to_the_end(
    table: Any, at: Callable[[datetime], None], left: timedelta, seconds: int
) -> None:
    case = blocked(table)
    at(UNTIL - left)

    answer = read(case)

    assert (answer["answer"], answer["timeout_seconds"]) == ("QUARANTINE", seconds)


@pytest.mark.parametrize("late", [timedelta(seconds=-9), timedelta(0), timedelta(days=3)])
def test_after_the_time_the_deletion_goes_ahead(
    table: Any, at: Callable[[datetime], None], late: timedelta
) -> None:
    case = blocked(table)
    at(UNTIL + late)

    for _ in range(2):
        assert read(case) == {"answer": "APPROVED", "by": APPROVER, "reason": ""}
    assert cases.approved_keys(table, case_id=case.id)[1] == case.keys
    assert not now_in(table, case).is_in_quarantine


@pytest.mark.parametrize("when", [NOW, UNTIL - A_MOMENT, UNTIL, UNTIL + timedelta(days=1)])
def test_after_a_lift_the_answer_is_a_decline_whenever_it_is_read(
    table: Any, at: Callable[[datetime], None], when: datetime
) -> None:
    case = lifted(table, blocked(table, approvers=(APPROVER, DEPUTY)), by=DEPUTY)
    at(when)

    for _ in range(2):
        assert read(case) == {"answer": "DECLINED", "by": DEPUTY, "reason": "migrating in May"}
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)


def test_the_token_of_a_quarantine_has_done_its_work_when_the_decision_is_read(table: Any) -> None:
    for case in (blocked(table), lifted(table, blocked(table, id="333333333334"))):
        read(case)
        assert not {"task_token", "quarantine_token"} & set(item_of(table, case))


# -- decisions during the block -------------------------------------------------------------------


@pytest.mark.parametrize("who", [APPROVER, DEPUTY, DEPUTY.upper()])
def test_in_quarantine_whoever_is_asked_can_keep_the_keys_after_all(table: Any, who: str) -> None:
    case = blocked(table, approvers=(APPROVER, DEPUTY))
    decision = a_decision(case, Answer.DECLINED, by=who)

    after = cases.decide(table, case=case, decision=decision)

    assert after == now_in(table, case)
    assert (after.decision, after.decided_by, after.approvals) == (decision, who, case.approvals)
    assert item_of(table, case)["lifted"] == "YES"
    assert not after.is_in_quarantine
    assert not after.takes_decision_of(who)


@pytest.mark.parametrize("by", [APPROVER, DEPUTY, THIRD])
@pytest.mark.parametrize("answer", list(Answer))
def test_after_a_lift_nobody_decides_anything(table: Any, by: str, answer: Answer) -> None:
    case = blocked(table, approvers=(APPROVER, DEPUTY))
    after = lifted(table, case)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=after, decision=a_decision(case, answer, by=by))
    if (by, answer) != (APPROVER, Answer.APPROVED):  # That says nothing new.
        with pytest.raises(CaseEndedError):
            cases.decide(table, case=case, decision=a_decision(case, answer, by=by))

    assert contents(table) == before


@pytest.mark.parametrize("quarantine", ["", "14d", "1s", "900d"])
def test_in_quarantine_no_approval_makes_it_shorter_or_longer(table: Any, quarantine: str) -> None:
    case = blocked(table, approvers=(APPROVER, DEPUTY))
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=a_decision(case, by=DEPUTY, quarantine=quarantine))
    # Who has approved before says nothing new.
    assert cases.decide(table, case=case, decision=a_decision(case, quarantine=quarantine)) == case

    assert contents(table) == before


def of_somebody_who_is_not_asked(case: Case) -> Decision:
    return a_decision(case, Answer.DECLINED, by=THIRD)


def about_other_keys(case: Case) -> Decision:
    return a_decision(case, Answer.DECLINED, fingerprint="of other keys")


@pytest.mark.parametrize("make", [of_somebody_who_is_not_asked, about_other_keys])
def test_in_quarantine_a_decline_that_is_worth_nothing_lifts_nothing(
    table: Any, make: Callable[[Case], Decision]
) -> None:
    case = blocked(table)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case=case, decision=make(case))

    assert contents(table) == before


def test_before_the_block_and_after_it_nobody_lifts_it(
    table: Any, at: Callable[[datetime], None]
) -> None:
    approved = to_block(table)
    with pytest.raises(CaseEndedError):
        lifted(table, approved)
    case = blocked(table, id="333333333334")
    at(UNTIL)
    read(case)
    with pytest.raises(CaseEndedError):
        lifted(table, case)
    ended(table, case)
    with pytest.raises(CaseEndedError):
        lifted(table, case)

    for each in (approved, case):
        assert "lifted" not in item_of(table, each)
        assert now_in(table, each).decision == a_decision(each, quarantine="14d")


def test_a_lift_in_the_moment_that_the_wait_ends_is_refused(
    table: Any, at: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = blocked(table)
    at(UNTIL)
    answers: list[str] = []
    meanwhile(monkeypatch, lambda: answers.append(read(case)["answer"]))

    with pytest.raises(CaseEndedError):
        lifted(table, case)

    assert answers == ["APPROVED"]
    assert now_in(table, case).decision == a_decision(case, quarantine="14d")
    assert "lifted" not in item_of(table, case)


def test_a_lift_just_before_the_wait_ends_is_found_by_its_end(
    table: Any, at: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = blocked(table)
    at(UNTIL)
    load = cases.load

    def then_lift(*args: Any, **given: Any) -> Case:
        found = load(*args, **given)
        monkeypatch.setattr(cases, "load", load)
        lifted(table, case)
        return found

    monkeypatch.setattr(cases, "load", then_lift)

    assert read(case)["answer"] == "DECLINED"


def test_of_two_lifts_at_once_one_counts(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = blocked(table, approvers=(APPROVER, DEPUTY))
    meanwhile(monkeypatch, lambda: lifted(table, case, by=DEPUTY, reason="mine"))

    with pytest.raises(CaseEndedError):
        lifted(table, case)

    assert now_in(table, case).decision == a_decision(
        case, Answer.DECLINED, by=DEPUTY, reason="mine"
    )


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.RESOLVED])
def test_a_lift_in_the_moment_that_the_case_ends_is_refused(
    table: Any, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    case = blocked(table)
    meanwhile(monkeypatch, lambda: ended(table, case, outcome))

    with pytest.raises(CaseEndedError):
        lifted(table, case)

    assert "lifted" not in item_of(table, case)


def test_a_lift_while_the_wait_is_begun_anew_counts_with_the_new_token(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = blocked(table)

    def begin_anew() -> None:
        read(case)
        cases.record_quarantined(
            table, case_id=case.id, until=UNTIL, task_token=NEXT_TOKEN, now=NOW
        )

    meanwhile(monkeypatch, begin_anew)
    after = lifted(table, case)

    assert after.decision == a_decision(case, Answer.DECLINED)
    assert (item_of(table, case)["lifted"], after.quarantine_token) == ("YES", NEXT_TOKEN)


def test_a_lift_in_the_moment_that_the_block_turns_out_to_be_impossible_is_refused(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = blocked(table)
    meanwhile(monkeypatch, lambda: cases.refuse_quarantine(table, case=case, reason="no"))

    with pytest.raises(CaseEndedError):
        lifted(table, case)

    assert not {"lifted", "decision", "decided"} & set(item_of(table, case))


# -- an impossible block --------------------------------------------------------------------------


def refused(table: Any, **given: Any) -> tuple[Case, Case]:
    """A case as its approvers saw it, and after AWS did not let its root user be blocked."""
    seen = to_block(table, **given)
    cases.refuse_quarantine(table, case=closed(table, seen), reason="five policies already")
    return seen, now_in(table, seen)


def test_what_was_decided_is_history_when_the_block_is_impossible(table: Any) -> None:
    seen, after = refused(
        table, wanted=["14d", ""], approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE
    )

    item = item_of(table, seen)
    assert [(each["by"], each["quarantine"]) for each in item["past_decisions"]] == [
        (APPROVER, "14d"),
        (DEPUTY, ""),
    ]
    assert not {"approvals", "approvers", "decision", "decided", "deadline"} & set(item)
    assert after.quarantine_refused == "five policies already"
    assert after.request_number == seen.request_number + 1
    assert after.keys == seen.keys
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=seen.id)


@pytest.mark.parametrize("answer", list(Answer))
def test_on_the_evidence_of_an_impossible_block_nobody_decides(table: Any, answer: Answer) -> None:
    seen, after = refused(table, approvers=(APPROVER, DEPUTY))
    before = contents(table)

    for each in (seen, after):
        for by in (APPROVER, DEPUTY):
            with pytest.raises(CaseEndedError):
                cases.decide(table, case=each, decision=a_decision(seen, answer, by=by))
    assert contents(table) == before

    again = asked(table, after, APPROVER, DEPUTY)
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=seen, decision=a_decision(seen, answer))
    assert not approvals.is_page_token(approvals.page_token("s", seen), "s", again)
    decided = cases.decide(table, case=again, decision=a_decision(again, answer)).decision
    assert decided
    assert decided.answer == answer


def test_gathering_the_same_keys_again_asks_about_an_impossible_block_once(table: Any) -> None:
    seen, after = refused(table)

    cases.record_evidence(table, case=after, keys=seen.keys, quorum=ONE_PERSON, now=NOW)

    again = asked(table, now_in(table, seen))
    assert again.request_number == seen.request_number + 1
    assert again.is_decidable
    assert len(item_of(table, seen)["past_decisions"]) == 1


def test_an_approval_after_an_impossible_block_deletes_at_once(table: Any) -> None:
    _, after = refused(table)
    again = asked(table, after)
    cases.decide(table, case=again, decision=a_decision(again))

    assert read(again) == {"answer": "APPROVED", "by": APPROVER, "reason": ""}


def test_a_case_that_has_ended_is_not_asked_about_for_an_impossible_block(table: Any) -> None:
    case = ended(table, to_block(table), Outcome.FAILED)
    before = contents(table)

    assert not cases.refuse_quarantine(table, case=case, reason="no")
    with pytest.raises(CaseEndedError):
        cases.record_quarantined(table, case_id=case.id, until=UNTIL, task_token="t", now=NOW)

    assert contents(table) == before


# -- changed keys ---------------------------------------------------------------------------------


def changed(table: Any, case: Case, *, now: datetime) -> Case:
    """The case after other keys were found and people were asked about them."""
    cases.record_evidence(
        table, case=now_in(table, case), keys=[a_key(SECOND)], quorum=ONE_PERSON, now=now
    )
    return asked(table, now_in(table, case), *case.approvers, now=now)


def test_other_keys_are_asked_about_and_the_end_of_the_block_is_none_of_theirs(
    table: Any, at: Callable[[datetime], None]
) -> None:
    seen = blocked(table)
    at(UNTIL)
    assert read(seen)["answer"] == "APPROVED"
    again = changed(table, seen, now=UNTIL)
    assert (again.quarantine_until, again.quarantine_token) == ("", "")
    assert again.is_decidable
    assert not again.is_in_quarantine
    with pytest.raises(CaseEndedError):
        cases.decide(table, case=seen, decision=a_decision(seen, Answer.DECLINED))

    cases.decide(table, case=again, decision=a_decision(again, quarantine="7d"))

    assert read(again)["timeout_seconds"] == 7 * 86400


def test_the_block_that_was_wanted_for_other_keys_is_not_wanted_for_these(
    table: Any, at: Callable[[datetime], None]
) -> None:
    seen = blocked(table)
    at(UNTIL)
    read(seen)
    again = changed(table, seen, now=UNTIL)
    cases.decide(table, case=again, decision=a_decision(again))

    assert read(again) == {"answer": "APPROVED", "by": APPROVER, "reason": ""}


def lifted_and_woken(table: Any) -> Case:
    """A case whose block an approver has lifted, and that looks again because something is new."""
    case = lifted(table, blocked(table))
    assert cases.wake(table, case_id=case.id)
    assert read(case)["answer"] == "LOOK_AGAIN"
    return now_in(table, case)


def new_keys(table: Any, case: Case) -> Case:
    return changed(table, case, now=NOW)


def no_root_session(table: Any, case: Case) -> Case:
    by_hand = asked(table, case, obstacle=Obstacle.ROOT_SESSION_DENIED)
    return asked(table, by_hand, APPROVER)


@pytest.mark.parametrize("ask_anew", [new_keys, no_root_session])
def test_a_block_that_was_lifted_says_nothing_about_the_next_request(
    table: Any, ask_anew: Callable[[Any, Case], Case]
) -> None:
    case = ask_anew(table, lifted_and_woken(table))
    case = cases.await_approval(table, case_id=case.id, task_token="a-token")

    # Nothing ends its wait but an answer,
    assert case.is_decidable
    assert "lifted" not in item_of(table, case)
    # which may be taken back once more.
    case = cases.decide(table, case=case, decision=a_decision(case))
    closed(table, case)
    held = cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    assert held.can_be_taken_back
    after = cases.decide(table, case=held, decision=a_decision(held, Answer.DECLINED))
    assert after.decision
    assert after.decision.answer == Answer.DECLINED


def test_after_a_removal_by_hand_was_asked_for_the_time_begins_anew(
    table: Any, at: Callable[[datetime], None]
) -> None:
    # AWS let no root session in when the time was over, and does so now.
    case = blocked(table)
    at(UNTIL)
    assert read(case)["answer"] == "APPROVED"
    by_hand = asked(table, now_in(table, case), now=UNTIL, obstacle=Obstacle.ROOT_SESSION_DENIED)
    again = asked(table, by_hand, now=UNTIL)

    cases.decide(table, case=again, decision=a_decision(again, quarantine="7d"))

    answer = read(again)
    assert (answer["answer"], answer.get("timeout_seconds")) == ("QUARANTINE", 7 * 86400)


def test_keys_that_changed_and_changed_back_keep_the_decision_and_the_end_of_the_block(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = blocked(table)
    at(UNTIL)
    read(case)

    cases.record_evidence(table, case=case, keys=case.keys, quorum=ONE_PERSON, now=UNTIL)

    assert read(case)["answer"] == "APPROVED"


# -- the delivery ---------------------------------------------------------------------------------


class Delivered:
    """The tokens that were delivered, in place of Step Functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._tokens: list[str] = []
        monkeypatch.setattr(
            deliver_decision, "deliver", lambda token, **_: self._tokens.append(token)
        )

    def after(self, table: Any, case: Case) -> list[str]:
        """What is delivered for the latest write to a case."""
        self._tokens.clear()
        image = {name: TypeSerializer().serialize(v) for name, v in item_of(table, case).items()}
        record = {"eventName": "MODIFY", "dynamodb": {"NewImage": image}}
        deliver_decision.handler({"Records": [record]}, None)
        return self._tokens


def test_the_token_of_a_quarantine_is_delivered_when_it_is_lifted_and_at_no_other_write(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = Delivered(monkeypatch)
    case = to_block(table)
    assert delivered.after(table, case) == ["a-token"]
    closed(table, case)
    assert delivered.after(table, case) == []
    for token in (TOKEN, NEXT_TOKEN):
        cases.record_quarantined(table, case_id=case.id, until=UNTIL, task_token=token, now=NOW)
        assert delivered.after(table, case) == []
    lifted(table, now_in(table, case))
    assert delivered.after(table, case) == [NEXT_TOKEN]
    read(case)
    assert delivered.after(table, case) == []
    ended(table, case, Outcome.DECLINED)
    assert delivered.after(table, case) == []


def test_a_token_that_came_after_the_lift_is_delivered_too(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = Delivered(monkeypatch)
    case = lifted(table, blocked(table))

    cases.record_quarantined(table, case_id=case.id, until=UNTIL, task_token=NEXT_TOKEN, now=NOW)

    assert delivered.after(table, case) == [NEXT_TOKEN]


def test_the_quarantine_of_a_decline_that_step_functions_did_not_take_is_tried_again(
    table: Any, stub: Callable[[Any], Stubber]
) -> None:
    case = lifted(table, blocked(table))
    stubbed = stub(deliver_decision.stepfunctions)
    stubbed.add_client_error("send_task_success", "ThrottlingException")
    stubbed.add_response("send_task_success", {}, {"taskToken": TOKEN, "output": "{}"})
    image = {name: TypeSerializer().serialize(v) for name, v in item_of(table, case).items()}
    event = {"Records": [{"dynamodb": {"NewImage": image}}]}

    with pytest.raises(deliver_decision.stepfunctions.exceptions.ClientError):
        deliver_decision.handler(event, None)
    deliver_decision.handler(event, None)


# -- the outcome ----------------------------------------------------------------------------------


def test_a_case_whose_block_was_lifted_ends_with_an_exception(table: Any) -> None:
    case = blocked(table, approvers=(APPROVER, DEPUTY))
    lifted(table, case, by=DEPUTY, reason="the payroll stopped", ticket="SEC-42")
    answer = read(case)

    told = record_outcome.handler(
        {"case_id": case.id, "outcome": answer["answer"], "reason": answer["reason"]}, None
    )

    assert (told["outcome"], told["decided_by"]) == ("DECLINED", DEPUTY)
    exception = exceptions.find(table, account_id=ACCOUNT)
    assert exception
    assert (exception.owner, exception.reason, exception.ticket, exception.until) == (
        DEPUTY,
        "the payroll stopped",
        "SEC-42",
        "2026-05-01",
    )
    assert exception.keys == case.keys
    assert exception.case_id == case.id


@pytest.mark.parametrize("outcome", [o for o in Outcome if not o.startswith("AWAITING")])
def test_a_case_that_ends_in_quarantine_keeps_no_token(table: Any, outcome: Outcome) -> None:
    case = ended(table, blocked(table), outcome)

    assert "quarantine_token" not in item_of(table, case)
    assert not case.is_in_quarantine
    # By these the stream lifts the block.
    assert {"ended_at", "quarantined_at"} <= set(item_of(table, case))


# -- the page -------------------------------------------------------------------------------------


def buttons(html: str) -> list[list[str]]:
    return [form.buttons for form in Page(html).forms]


def blocking(case: Case, **fields: str) -> dict[str, str]:
    """The form that has the root user blocked first."""
    return approving(case, decision="quarantine", **fields)


@pytest.mark.usefixtures("stack")
def test_the_page_offers_to_block_first_and_says_what_that_does(table: Any) -> None:
    with_link(table, a_waiting_case(table))

    status, html = ask("GET")

    assert status == 200
    assert buttons(html) == [["approve", "quarantine"], ["decline"]]
    assert "Or block the root user of the account for 14 days first." in html
    assert "Block first, delete after 14 days" in html


def test_a_stack_without_a_quarantine_offers_none_and_takes_none(table: Any) -> None:
    case = with_link(table, a_waiting_case(table))
    before = contents(table)

    assert buttons(ask("GET")[1]) == [["approve"], ["decline"]]
    status, html = ask("POST", blocking(case))

    assert status == 422
    assert "Choose one of the two buttons." in html
    assert contents(table) == before


@pytest.mark.usefixtures("stack")
def test_where_aws_has_refused_it_the_page_offers_no_block_takes_none_and_says_why(
    table: Any,
) -> None:
    seen, after = refused(table)
    case = with_link(table, asked(table, after))
    before = contents(table)

    html = ask("GET")[1]
    assert buttons(html) == [["approve"], ["decline"]]
    assert "The root user could not be blocked first, as somebody wanted" in html
    assert "five policies already" in html
    assert ask("POST", blocking(case))[0] == 422
    status, html = ask("POST", blocking(seen))
    assert (status, Page(html).heading) == (409, "This page is out of date")
    assert contents(table) == before
    assert ask("POST", approving(case))[0] == 200


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("typed", ["", "333333333334", "1"])
def test_without_the_account_id_nobody_is_blocked(table: Any, typed: str) -> None:
    case = with_link(table, a_waiting_case(table))

    status, html = ask("POST", blocking(case, account_id=typed))

    assert status == 422
    assert Page(html).typed("account_id") == [typed]
    assert now_in(table, case) == case


@pytest.mark.usefixtures("stack")
def test_after_choosing_the_block_the_page_says_what_happens_and_how_to_lift_it(table: Any) -> None:
    case = with_link(table, a_waiting_case(table))

    status, html = ask("POST", blocking(case))

    assert (status, Page(html).heading) == (200, "Your decision is recorded")
    assert "Rootsweep blocks the root user of the account." in html
    assert "you can lift the block" in html
    assert now_in(table, case).decision == a_decision(
        case, at="2026-03-04T05:06:07Z", quarantine="14d"
    )


@pytest.mark.usefixtures("stack")
def test_after_choosing_to_delete_at_once_the_page_speaks_of_no_block(table: Any) -> None:
    case = with_link(table, a_waiting_case(table))

    status, html = ask("POST", approving(case))

    assert status == 200
    assert "block" not in Page(html).text


@pytest.mark.usefixtures("stack")
def test_who_completes_the_quorum_hears_of_the_block_that_the_other_wants(table: Any) -> None:
    case = to_block(table, wanted=["14d"], approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    with_link(table, case, secret=OTHER_SECRET, approver=DEPUTY)

    _, html = ask("POST", approving(case, OTHER_SECRET), OTHER_SECRET)

    assert "Rootsweep blocks the root user of the account." in html


@pytest.mark.usefixtures("stack")
def test_until_it_is_blocked_the_page_says_that_it_is_decided(table: Any) -> None:
    case = with_link(table, to_block(table))

    assert Page(ask("GET")[1]).heading == "This has been decided"
    for form in (approving(case), blocking(case), declining(case)):
        assert ask("POST", form)[0] == 409
    assert now_in(table, case) == case


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("approver", [APPROVER, DEPUTY])
def test_while_it_is_blocked_the_page_says_until_when_and_takes_a_decline_only(
    table: Any, approver: str
) -> None:
    case = with_link(table, blocked(table, approvers=(APPROVER, DEPUTY)), approver=approver)

    status, html = ask("GET")

    page = Page(html)
    assert (status, page.heading, buttons(html)) == (200, BLOCKED_TITLE, [["decline"]])
    assert f"18 March 2026, 05:06 UTC. Then Rootsweep deletes the key, as {APPROVER}" in page.text
    assert "Lift the block and keep the key" in page.text
    for said in ("Decide by", "If nobody decides", "Block first"):
        assert said not in page.text
    for form in (approving(case), blocking(case)):
        if approver == DEPUTY:
            status, html = ask("POST", form)
            assert (status, Page(html).heading) == (409, "This page is out of date")
        else:
            ask("POST", form)  # Said before.
        assert now_in(table, case) == case


@pytest.mark.usefixtures("stack")
def test_who_lifts_the_block_hears_that_the_keys_stay_and_nobody_lifts_it_again(
    table: Any,
) -> None:
    case = with_link(table, blocked(table, approvers=(APPROVER, DEPUTY)))
    with_link(table, case, secret=OTHER_SECRET, approver=DEPUTY)
    page_of_the_deputy = declining(case, OTHER_SECRET, reason="too late")

    status, html = ask("POST", declining(case, reason="the payroll stopped"))

    assert (status, Page(html).heading) == (200, "Your decision is recorded")
    assert "Deletion was declined until 2026-04-01" in html
    assert "the keys stay" in html
    for _ in range(2):
        status, html = ask("POST", page_of_the_deputy, OTHER_SECRET)
        assert (status, Page(html).heading) == (409, "This has been decided")
    decision = now_in(table, case).decision
    assert decision
    assert (decision.by, decision.reason) == (APPROVER, "the payroll stopped")
    assert Page(ask("GET")[1]).heading == "This has been decided"


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("field", ["reason", "until"])
def test_a_lift_that_lacks_something_is_asked_for_it_on_the_same_page(
    table: Any, field: str
) -> None:
    case = with_link(table, blocked(table))

    status, html = ask("POST", declining(case, **{field: ""}))

    assert (status, Page(html).heading, buttons(html)) == (422, BLOCKED_TITLE, [["decline"]])
    assert now_in(table, case).is_in_quarantine


@pytest.mark.usefixtures("stack")
def test_the_form_of_a_page_from_before_the_block_lifts_it_too(table: Any) -> None:
    case = with_link(table, a_waiting_case(table))
    form = declining(case)
    ask("POST", blocking(case))
    closed(table, case)
    cases.record_quarantined(table, case_id=case.id, until=UNTIL, task_token=TOKEN, now=NOW)

    assert ask("POST", form)[0] == 200

    assert item_of(table, case)["lifted"] == "YES"


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("form", [declining, approving, blocking])
def test_after_the_time_the_page_takes_nothing(
    table: Any, at: Callable[[datetime], None], form: Callable[[Case], dict[str, str]]
) -> None:
    case = with_link(table, blocked(table))
    at(UNTIL)
    read(case)

    status, html = ask("POST", form(case))

    assert (status, Page(html).heading) == (409, "This has been decided")
    assert "lifted" not in item_of(table, case)


@pytest.mark.usefixtures("stack")
def test_a_page_of_somebody_who_is_not_asked_shows_and_lifts_no_block(table: Any) -> None:
    case = blocked(table)
    with_link(table, a_waiting_case(table, id="333333333334", approvers=[THIRD]), approver=THIRD)

    assert ask("GET", query={"case": case.id})[0] == 404
    assert ask("POST", declining(case))[0] == 404
    assert now_in(table, case).is_in_quarantine


@pytest.mark.usefixtures("stack")
def test_the_page_in_quarantine_does_not_speak_of_one_key_if_there_are_two(table: Any) -> None:
    with_link(table, blocked(table, keys=[a_key(), a_key(SECOND)]))

    page = Page(ask("GET")[1])

    assert "Then Rootsweep deletes the keys" in page.text
    assert "Lift the block and keep the keys" in page.text


@pytest.mark.parametrize(
    "wanted",
    ["14d", "28d"],  # The longest that the parameter takes.
)
def test_the_link_of_the_mail_lifts_the_block_to_its_last_day(
    table: Any,
    at: Callable[[datetime], None],
    stop_clock: Callable[[Any, datetime], None],
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
) -> None:
    mailbox: Any = Mailbox()
    monkeypatch.setattr(request_approval, "post", replace(request_approval.post, ses=mailbox))
    stop_clock(mailing, NOW)
    case = asked(table, a_gathered_case(table))
    request_approval.handler({"case_id": case.id, "task_token": "a-token"}, None)
    case = cases.decide(table, case=case, decision=a_decision(case, quarantine=wanted))
    until = NOW + case.quarantine
    closed(table, case)
    cases.record_quarantined(table, case_id=case.id, until=until, task_token=TOKEN, now=NOW)
    at(until - timedelta(days=1))

    status, html = ask("GET", link=mailbox.link(0))

    assert (status, Page(html).heading) == (200, BLOCKED_TITLE)


# -- pages with several ---------------------------------------------------------------------------


def some(table: Any, *, waiting: int = 0, in_quarantine: int = 0) -> tuple[list[Case], list[Case]]:
    """So many cases that wait and that are blocked, with a link to all of them."""
    waits = [a_waiting_case(table, id=f"44444444{n:04}") for n in range(waiting)]
    others = [blocked(table, id=f"55555555{n:04}") for n in range(in_quarantine)]
    for case in waits + others:
        with_link(table, case)
    return waits, others


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("waiting", [2, 3])
def test_a_list_leads_to_a_block_and_offers_neither_box_nor_block_button(
    table: Any, waiting: int
) -> None:
    waits, [case] = some(table, waiting=waiting, in_quarantine=1)

    page = Page(ask("GET")[1])

    assert page.heading == f"{waiting} accounts with root access keys wait for you"
    assert page.boxes == [each.id for each in waits]
    assert f"?case={case.id}" in page.links
    assert "quarantine" not in str(buttons(ask("GET")[1]))
    assert Page(ask("GET", query={"case": case.id})[1]).heading == BLOCKED_TITLE


@pytest.mark.usefixtures("stack")
def test_where_nothing_waits_any_more_the_page_leads_to_the_blocks(table: Any) -> None:
    _, [one, other] = some(table, in_quarantine=2)

    page = Page(ask("GET")[1])

    assert page.heading == "Nothing waits for you"
    assert {f"?case={one.id}", f"?case={other.id}"} <= set(page.links)
    assert "the root user is blocked until 18 March 2026" in page.text


@pytest.mark.usefixtures("stack")
def test_a_form_about_several_blocks_nobody_and_approves_nothing_that_is_blocked(
    table: Any,
) -> None:
    waits, [case] = some(table, waiting=2, in_quarantine=1)
    before = contents(table)

    assert ask("POST", approving_all(waits).replace("=approve", "=quarantine"))[0] == 422
    assert contents(table) == before
    assert ask("POST", approving_all([*waits, case]))[0] == 200

    assert now_in(table, case) == case
    assert all(now_in(table, each).quarantine == timedelta(0) for each in waits)


@pytest.mark.usefixtures("stack")
def test_a_decline_about_several_lifts_the_block_of_one_among_them(table: Any) -> None:
    waits, [case] = some(table, waiting=1, in_quarantine=1)

    assert ask("POST", declining_all([*waits, case]))[0] == 200

    assert item_of(table, case)["lifted"] == "YES"


@pytest.mark.usefixtures("stack")
def test_the_page_of_the_only_case_that_waits_leads_to_a_block_too(table: Any) -> None:
    _, [case] = some(table, waiting=1, in_quarantine=1)

    assert f"?case={case.id}" in every_link()


def as_query(link: str) -> dict[str, str]:
    return dict(parse_qsl(link.removeprefix("?")))


def every_link() -> set[str]:
    """All links that one after the other lead to, from where the link of the mail leads."""
    found: set[str] = set()
    todo = [""]
    while todo:
        for link in Page(ask("GET", query=as_query(todo.pop()))[1]).links:
            if link not in found:
                found.add(link)
                todo += [link] if not link.startswith("?case=") else []
    return found


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(("waiting", "in_quarantine"), [(0, 16), (2, 6)])
def test_whoever_has_many_accounts_blocked_finds_each_of_them(
    table: Any, waiting: int, in_quarantine: int
) -> None:
    _, others = some(table, waiting=waiting, in_quarantine=in_quarantine)

    assert {f"?case={case.id}" for case in others} <= every_link()


@pytest.mark.usefixtures("stack")
def test_a_list_tells_a_blocked_account_from_one_that_needs_somebody_else(table: Any) -> None:
    some(table, waiting=2, in_quarantine=1)

    text = Page(ask("GET")[1]).text

    assert "the root user is blocked until 18 March 2026, 05:06 UTC" in text
    assert "lift the block" in text
    assert "somebody else has to" not in text


# -- text from outside ----------------------------------------------------------------------------


def shown(case: Case) -> list[str]:
    """The page and the mail that ask again, as HTML."""
    page = messages.decision_page(
        case,
        approver=APPROVER,
        token="a-page-token",
        last_day=date(2026, 6, 2),
        now=NOW,
        more=0,
        quarantine="",
        form={},
    )
    return [page, mail(case).html]


def mail(case: Case) -> messages.Mail:
    return messages.request_mail(
        [case],
        approver=APPROVER,
        page_url="https://approvals.example.com/link",
        waiting_longer=0,
        threads=[],
        reminded=(),
        now=NOW,
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_why_aws_refused_adds_no_element_no_line_and_no_address(text: str) -> None:
    harmless, hostile = (a_case(quarantine_refused=each) for each in ("no", text))

    for before, after in zip(shown(harmless), shown(hostile), strict=True):
        assert after.count("<") == before.count("<")
    assert len(mail(hostile).text.splitlines()) == len(mail(harmless).text.splitlines())
    assert "https://evil" not in mail(hostile).text + mail(hostile).html
    assert mail(hostile).subject == mail(harmless).subject


def test_why_aws_refused_is_told_on_the_page_and_in_both_parts_of_the_mail() -> None:
    case = a_case(quarantine_refused="account 333333333333: ConstraintViolationException")

    for text in [*shown(case), mail(case).text]:
        assert "The root user could not be blocked first, as somebody wanted" in text
        assert "so nothing was deleted" in text
        assert "ConstraintViolationException" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_why_a_block_was_lifted_adds_no_element(table: Any, text: str) -> None:
    pages = []
    for n, reason in enumerate(("harmless", text[:900])):
        case = with_link(table, blocked(table, id=f"33333333333{n}"))
        status, html = ask("POST", declining(case, reason=reason))
        assert (status, Page(html).heading) == (200, "Your decision is recorded")
        pages.append(html)

    assert pages[0].count("<") == pages[1].count("<")
