from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from rootsweep import approvers, cases, mailing
from rootsweep.approvers import Link, Request, Thread
from rootsweep.cases import Answer, Case, Obstacle, Outcome
from rootsweep.errors import MailPendingError
from rootsweep.mailing import Post
from rootsweep.table import case_key, iso

from .builders import (
    APPROVER,
    DEPUTY,
    FIRST,
    NOW,
    ONE_PERSON,
    SECOND,
    THIRD,
    TWO_PEOPLE,
    TWO_RUNGS,
    a_decision,
    a_gathered_case,
    a_key,
    a_waiting_case,
    an_error,
    asked,
    contents,
    end_case,
    open_a_case,
)
from .conftest import DYNAMODB
from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = ["333333333331", "333333333332", "333333333333"]


class Clock:
    """A clock that only sleepers move; something may happen `while_asleep`."""

    def __init__(self) -> None:
        self.time = NOW
        self.naps = 0
        self.slept = 0.0
        self.while_asleep: Callable[[], object] = lambda: None

    def now(self, zone: Any) -> datetime:
        assert zone is UTC
        return self.time

    def fromisoformat(self, text: str) -> datetime:
        return datetime.fromisoformat(text)

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.naps += 1
        self.slept += seconds
        self.while_asleep()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(mailing, "datetime", clock)
    monkeypatch.setattr(mailing, "time", clock)
    # No luck in tests: everybody sleeps the longest.
    monkeypatch.setattr(mailing.random, "uniform", lambda _shortest, longest: longest)
    return clock


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def post(table: Any, mailbox: Any) -> Post:
    return Post(
        dynamodb=DYNAMODB,
        table=table,
        ses=mailbox,
        sender="rootsweep@mail.example.com",
        configuration_set="rootsweep-mails",
        approval_url="https://approvals.example.com",
    )


def waiting(table: Any, **given: Any) -> list[Case]:
    """Three cases that wait for the same people."""
    return [a_waiting_case(table, id=id, **given) for id in IDS]


def request_of(table: Any, case: Case, approver: str = APPROVER) -> Request:
    request = approvers.find_request(table, approver=approver, case_id=case.id)
    assert request
    return request


def opened(table: Any, secret: str) -> tuple[str, list[str]]:
    """Whose link it is, and the accounts of the cases that it opens."""
    link = approvers.find_link(table, secret=secret, now=NOW)
    assert link
    requests = approvers.open_requests(table, approver=link.approver)
    return link.approver, [each.case_id[:12] for each in requests if link.opens(each)]


def links(table: Any) -> list[dict[str, Any]]:
    return [item for item in contents(table) if item["sk"] == "LINK"]


def is_locked(table: Any, approver: str = APPROVER) -> bool:
    item = table.get_item(Key={"pk": f"APPROVER#{approver}", "sk": "APPROVER"})["Item"]
    return "mailing" in item


def named(text: str) -> list[str]:
    """The accounts that a text names."""
    return [id for id in IDS if id in text]


def asked_about(table: Any, case: Case, *keys: Any) -> Case:
    """The case after these keys were found, and the same people are asked about them."""
    cases.record_evidence(table, case=case, keys=keys, quorum=ONE_PERSON, now=NOW)
    return asked(table, cases.load(table, case_id=case.id), *case.approvers)


def test_one_mail_tells_about_all_cases_and_the_others_find_that_it_was_done(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    everything = waiting(table)

    mailing.see_to_it(post, everything[1])
    after = contents(table)
    for case in everything:
        mailing.see_to_it(post, case)

    assert mailbox.recipients == [APPROVER]
    assert mailbox.sent[0]["FromEmailAddress"] == "rootsweep@mail.example.com"
    assert mailbox.sent[0]["ConfigurationSetName"] == "rootsweep-mails"
    assert named(mailbox.text(0)) == named(mailbox.html(0)) == IDS
    assert opened(table, mailbox.link(0)) == (APPROVER, IDS)
    for case in everything:
        assert request_of(table, case) == Request(
            case.id,
            mailed=1,
            asked_at="2026-03-04T05:06:07Z",
            thread=Thread("<1@eu-west-1.amazonses.com>", mailbox.subject(0)),
        )
    assert contents(table) == after
    assert not is_locked(table)


def test_a_single_case_has_a_mail_of_its_own(table: Any, post: Post, mailbox: Mailbox) -> None:
    mailing.see_to_it(post, a_waiting_case(table))

    assert mailbox.subject(0) == '[Rootsweep] Root access keys in "payments-prod" (333333333333)'
    assert "In-Reply-To" not in mailbox.headers(0)
    assert "References" not in mailbox.headers(0)
    assert "waiting for you longer" not in mailbox.text(0)


def test_each_approver_has_a_mail_and_a_link_of_their_own(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    for _ in range(2):
        mailing.see_to_it(post, case)

    assert mailbox.recipients == [APPROVER, DEPUTY]
    assert mailbox.link(0) != mailbox.link(1)
    assert opened(table, mailbox.link(0)) == (APPROVER, [case.account_id])
    assert opened(table, mailbox.link(1)) == (DEPUTY, [case.account_id])
    assert not is_locked(table, DEPUTY)


def test_an_approver_is_told_nothing_about_the_cases_of_others(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    mine = a_waiting_case(table, id=IDS[0], approvers=(APPROVER, DEPUTY))
    theirs = a_waiting_case(table, id=IDS[1], approvers=(DEPUTY,))

    mailing.see_to_it(post, mine)

    assert mailbox.recipients == [APPROVER, DEPUTY]
    assert named(mailbox.text(0) + mailbox.html(0)) == [IDS[0]]
    assert named(mailbox.text(1)) == IDS[:2]
    assert opened(table, mailbox.link(0)) == (APPROVER, [mine.account_id])
    mailing.see_to_it(post, theirs)
    assert len(mailbox.sent) == 2


def test_an_approver_who_is_spelled_in_two_ways_has_one_mail(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    one = a_waiting_case(table, id=IDS[0], approvers=("Payments-Leads@Example.com",))
    two = a_waiting_case(table, id=IDS[1])

    mailing.see_to_it(post, one)
    mailing.see_to_it(post, two)

    assert len(mailbox.sent) == 1
    assert named(mailbox.text(0)) == IDS[:2]


def approve(table: Any, case: Case, by: str = APPROVER) -> Case:
    return cases.decide(table, case=case, decision=a_decision(case, by=by))


def decline(table: Any, case: Case) -> Case:
    return cases.decide(table, case=case, decision=a_decision(case, Answer.DECLINED))


def end(table: Any, case: Case) -> Case:
    return end_case(table, case.id, Outcome.RESOLVED, reason="gone")


def find_other_keys(table: Any, case: Case) -> Case:
    """Nobody is asked about these yet."""
    cases.record_evidence(table, case=case, keys=[a_key(SECOND)], quorum=ONE_PERSON, now=NOW)
    return case


def close(table: Any, case: Case) -> Case:
    return cases.close_to_decisions(table, case_id=case.id, now=NOW)


def ask_somebody_else(table: Any, case: Case) -> Case:
    return asked(table, case, DEPUTY)


@pytest.mark.parametrize(
    "settle",
    [approve, decline, end, close, ask_somebody_else, find_other_keys],
    ids=lambda each: each.__name__,
)
def test_what_no_longer_waits_for_the_approver_is_left_out(
    table: Any, post: Post, mailbox: Mailbox, settle: Callable[[Any, Case], Case]
) -> None:
    first, second, third = waiting(table)
    settle(table, second)

    mailing.see_to_it(post, third)

    assert named(mailbox.text(0) + mailbox.html(0)) == [IDS[0], IDS[2]]
    assert request_of(table, second).mailed == 0
    assert request_of(table, first).mailed == 1


def test_a_case_that_its_approver_has_approved_already_is_left_out_while_it_waits_for_another(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    pending = a_waiting_case(table, id=IDS[0], approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    approve(table, pending)

    mailing.see_to_it(post, a_waiting_case(table, id=IDS[1], approvers=(APPROVER, DEPUTY)))

    assert named(mailbox.text(0)) == [IDS[1]]
    assert named(mailbox.text(1)) == IDS[:2]


@pytest.mark.parametrize("settle", [approve, decline, end, close], ids=lambda each: each.__name__)
def test_a_case_that_was_settled_this_very_moment_asks_nobody(
    table: Any, post: Post, mailbox: Mailbox, settle: Callable[[Any, Case], Case]
) -> None:
    case = a_waiting_case(table)
    settle(table, case)

    mailing.see_to_it(post, case)

    assert mailbox.sent == []
    assert links(table) == []
    assert request_of(table, case).mailed == 0
    assert not is_locked(table)


def test_cases_to_be_settled_by_hand_share_the_mail(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    to_decide = a_waiting_case(table, id=IDS[0])
    by_hand = asked(table, open_a_case(table, id=IDS[1]), obstacle=Obstacle.SERVICE_CONTROL_POLICY)

    mailing.see_to_it(post, by_hand)
    mailing.see_to_it(post, to_decide)

    assert len(mailbox.sent) == 1
    assert named(mailbox.text(0)) == IDS[:2]
    assert "Rootsweep cannot delete the keys" in mailbox.text(0)
    assert opened(table, mailbox.link(0)) == (APPROVER, IDS[:2])


def test_a_removal_that_is_somebody_elses_by_now_is_left_out(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    obstacle = Obstacle.MANAGEMENT_ACCOUNT
    case = asked(table, open_a_case(table, id=IDS[0]), APPROVER, obstacle=obstacle)
    asked(table, case, DEPUTY, obstacle=obstacle)

    mailing.see_to_it(post, a_waiting_case(table, id=IDS[1]))

    assert mailbox.recipients == [APPROVER]
    assert named(mailbox.text(0)) == [IDS[1]]
    assert "waiting for you longer" not in mailbox.text(0)


def test_a_removal_by_hand_is_asked_for_although_its_deletion_was_approved(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table)
    mailing.see_to_it(post, case)
    approved = approve(table, case)

    mailing.see_to_it(post, asked(table, approved, obstacle=Obstacle.ROOT_SESSION_DENIED))

    assert len(mailbox.sent) == 2
    assert "Why Rootsweep cannot: denied" in mailbox.text(1)
    assert request_of(table, case).mailed == 2


@pytest.mark.parametrize(("known", "words"), [(1, "One more account has"), (2, "2 more accounts")])
def test_what_the_approver_knows_already_is_counted_and_not_told_again(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock, known: int, words: str
) -> None:
    for id in IDS[:known]:
        case = a_waiting_case(table, id=id)
    mailing.see_to_it(post, case)
    clock.time += timedelta(seconds=1)

    mailing.see_to_it(post, a_waiting_case(table, id=IDS[2], now=clock.time))

    assert named(mailbox.text(1)) == [IDS[2]]
    assert words in mailbox.text(1)
    assert "In-Reply-To" not in mailbox.headers(1)
    assert opened(table, mailbox.link(0)) == (APPROVER, IDS[:known])
    assert opened(table, mailbox.link(1)) == (APPROVER, [*IDS[:known], IDS[2]])


def test_an_earlier_link_does_not_open_what_was_mailed_later(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    mailing.see_to_it(post, a_waiting_case(table, id=IDS[0]))
    clock.time += timedelta(seconds=1)
    mailing.see_to_it(post, a_waiting_case(table, id=IDS[1], now=clock.time))

    assert opened(table, mailbox.link(0)) == (APPROVER, [IDS[0]])
    assert opened(table, mailbox.link(1)) == (APPROVER, IDS[:2])


def test_the_link_is_in_the_mail_only_and_works_before_the_mail_is_sent(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    opens: list[bool] = []
    case = a_waiting_case(table)

    def look() -> None:
        (item,) = links(table)
        link = Link(APPROVER, created_at=item["created_at"], expires_at=item["expires_at"])
        opens.append(link.opens(request_of(table, case)))

    mailbox.before_sending = look

    mailing.see_to_it(post, case)

    assert opens == [True]
    assert mailbox.link(0) not in str(contents(table))
    assert mailbox.link(0) not in mailbox.subject(0)
    assert len(mailbox.link(0)) == 43


def test_no_task_token_is_mailed(table: Any, post: Post, mailbox: Mailbox) -> None:
    case = a_waiting_case(table)
    token = "AQCE+/=" * 100
    mailing.see_to_it(post, cases.await_approval(table, case_id=case.id, task_token=token))

    assert token not in str(mailbox.sent)


def test_the_link_outlives_the_longest_wait_and_not_for_ever(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    a_waiting_case(table, id=IDS[0])
    late = asked(table, a_gathered_case(table, id=IDS[1]), now=NOW + timedelta(days=3))

    mailing.see_to_it(post, late)

    end = NOW + timedelta(days=3 + 7 + 30)
    for now, is_expired in ((end, False), (end + timedelta(seconds=1), True)):
        link = approvers.find_link(table, secret=mailbox.link(0), now=now)
        assert link
        assert link.is_expired is is_expired


def test_new_keys_are_a_new_question_in_the_same_conversation(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table, keys=[a_key(FIRST)])
    mailing.see_to_it(post, case)
    for keys in ([a_key(FIRST), a_key(SECOND)], [a_key(SECOND)]):
        case = asked_about(table, case, *keys)
        mailing.see_to_it(post, case)
        mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 3
    assert SECOND not in mailbox.text(0)
    assert SECOND in mailbox.text(1)
    assert FIRST not in mailbox.text(2)
    assert {mailbox.subject(n) for n in range(3)} == {mailbox.subject(0)}
    for n in (1, 2):
        assert mailbox.headers(n) == {
            "Auto-Submitted": "auto-generated",
            "In-Reply-To": "<1@eu-west-1.amazonses.com>",
            "References": "<1@eu-west-1.amazonses.com>",
        }
    assert len({mailbox.link(n) for n in range(3)}) == 3
    assert request_of(table, case).mailed == 3


def test_a_mail_about_cases_of_several_conversations_answers_to_all_of_them(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    mailed = [a_waiting_case(table, id=id) for id in IDS[:1]]
    mailing.see_to_it(post, mailed[0])
    mailed += [a_waiting_case(table, id=id) for id in IDS[1:]]
    mailing.see_to_it(post, mailed[1])
    again = [asked_about(table, case, a_key(SECOND)) for case in mailed]

    mailing.see_to_it(post, again[2])

    assert named(mailbox.text(2)) == IDS
    assert mailbox.subject(2) == mailbox.subject(0) != mailbox.subject(1)
    # The one whose subject it has.
    assert mailbox.headers(2)["In-Reply-To"] == "<1@eu-west-1.amazonses.com>"
    assert mailbox.headers(2)["References"] == (
        "<1@eu-west-1.amazonses.com> <2@eu-west-1.amazonses.com>"
    )
    assert [request_of(table, case).mailed for case in mailed] == [2, 2, 2]


def test_a_mail_that_was_not_sent_is_sent_by_the_retry_and_once(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    everything = waiting(table)
    mailbox.fails_with = an_error("MessageRejected", "SendEmail")
    with pytest.raises(ClientError, match="MessageRejected"):
        mailing.see_to_it(post, everything[0])
    assert [request_of(table, case).mailed for case in everything] == [0, 0, 0]
    assert not is_locked(table)
    mailbox.fails_with = None

    for case in everything:
        mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 1
    assert named(mailbox.text(0)) == IDS


def test_when_the_second_mail_fails_the_retry_does_not_repeat_the_first(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY))

    def fail_later() -> None:
        if mailbox.sent:
            mailbox.fails_with = an_error("TooManyRequestsException", "SendEmail")

    mailbox.before_sending = fail_later
    with pytest.raises(ClientError, match="TooManyRequests"):
        mailing.see_to_it(post, case)
    mailbox.before_sending, mailbox.fails_with = (lambda: None), None

    mailing.see_to_it(post, case)

    assert mailbox.recipients == [APPROVER, DEPUTY]


def test_a_mail_that_nobody_lived_to_note_is_sent_again_rather_than_lost(
    table: Any, post: Post, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = waiting(table)
    with monkeypatch.context() as dying:
        dying.setattr(approvers, "record_mailed", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mailing.see_to_it(post, everything[0])
    assert len(mailbox.sent) == 1

    for case in everything:
        mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 2
    assert named(mailbox.text(1)) == IDS


def test_of_what_was_noted_in_part_only_the_rest_is_sent_again(
    table: Any, post: Post, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = waiting(table)
    record = approvers.record_mailed

    def fail_for_the_second(*args: Any, **given: Any) -> None:
        if given["case_id"] == everything[1].id:
            raise an_error("InternalServerError", "UpdateItem")
        record(*args, **given)

    with monkeypatch.context() as dying:
        dying.setattr(approvers, "record_mailed", fail_for_the_second)
        with pytest.raises(ClientError, match="InternalServerError"):
            mailing.see_to_it(post, everything[0])

    rest = [case.account_id for case in everything if not request_of(table, case).mailed]
    assert IDS[1] in rest

    for case in everything:
        mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 2
    assert named(mailbox.text(1)) == rest


def lock(table: Any, seconds: int, approver: str = APPROVER) -> None:
    """Another case's function writes to the approver."""
    until = NOW + timedelta(seconds=seconds)
    assert approvers.lock_mails(table, approver=approver, holder="other", now=NOW, until=until)


def test_while_another_writes_the_case_waits_and_finds_that_it_was_done(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = a_waiting_case(table)
    lock(table, 70)

    def the_other_is_done() -> None:
        if clock.naps == 3:
            approvers.record_mailed(
                table,
                approver=APPROVER,
                case_id=case.id,
                request=1,
                reminder=0,
                thread=Thread("<m@example.com>", "s"),
            )

    clock.while_asleep = the_other_is_done

    mailing.see_to_it(post, case)

    assert clock.naps == 3
    assert mailbox.sent == []
    # The lock is the other's to give back.
    assert is_locked(table)


def test_when_another_wrote_about_other_cases_only_the_case_goes_next(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = a_waiting_case(table)
    lock(table, 70)
    clock.while_asleep = lambda: approvers.unlock_mails(table, approver=APPROVER, holder="other")

    mailing.see_to_it(post, case)

    assert clock.naps == 1
    assert len(mailbox.sent) == 1
    assert not is_locked(table)


def test_a_case_does_not_wait_for_ever_and_sends_nothing_past_the_lock(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = a_waiting_case(table, approvers=(DEPUTY, APPROVER))
    lock(table, 70)

    with pytest.raises(MailPendingError, match=f"{case.id}: {APPROVER} is still being written to"):
        mailing.see_to_it(post, case)

    assert mailing.PATIENCE_SECONDS <= clock.slept <= mailing.PATIENCE_SECONDS + 2
    assert mailbox.recipients == [DEPUTY]
    assert request_of(table, case).mailed == 0
    assert is_locked(table)


def test_after_a_holder_died_the_next_one_writes(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = a_waiting_case(table)
    lock(table, 10)

    mailing.see_to_it(post, case)

    assert timedelta(seconds=10) < clock.time - NOW <= timedelta(seconds=13)
    assert mailbox.recipients == [APPROVER]
    assert not is_locked(table)


def test_a_lock_lasts_longer_than_a_function_that_may_hold_it(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    held: list[bool] = []
    # Lambda ends it after 60 seconds: see Timeout in template.yaml.
    later = NOW + timedelta(seconds=61)
    mailbox.before_sending = lambda: held.append(
        approvers.lock_mails(table, approver=APPROVER, holder="b", now=later, until=later)
    )

    mailing.see_to_it(post, a_waiting_case(table))

    assert held == [False]


def test_a_mail_that_another_sent_right_before_the_lock_was_free_is_not_sent_again(
    table: Any, post: Post, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = waiting(table)
    lock_mails = approvers.lock_mails

    def slowly(*args: Any, **given: Any) -> bool:
        monkeypatch.setattr(approvers, "lock_mails", lock_mails)
        mailing.see_to_it(post, first)
        return lock_mails(*args, **given)

    monkeypatch.setattr(approvers, "lock_mails", slowly)

    mailing.see_to_it(post, second)

    assert len(mailbox.sent) == 1
    assert not is_locked(table)


def test_a_decision_while_the_mail_is_written_is_not_undone_by_it(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table)
    mailbox.before_sending = lambda: approve(table, case)

    mailing.see_to_it(post, case)

    assert cases.load(table, case_id=case.id).decision == a_decision(case)


def test_evidence_that_changes_while_the_mail_is_written_is_asked_about_again(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table)
    mailbox.before_sending = lambda: asked_about(table, case, a_key(SECOND))

    mailing.see_to_it(post, case)

    assert request_of(table, case).mailed == 1
    mailbox.before_sending = lambda: None
    mailing.see_to_it(post, cases.load(table, case_id=case.id))
    assert len(mailbox.sent) == 2


def test_each_of_many_cases_is_noted_as_mailed(table: Any, post: Post, mailbox: Mailbox) -> None:
    everything = [a_waiting_case(table, id=f"{n:012}") for n in range(24)]

    mailing.see_to_it(post, everything[-1])

    assert len(mailbox.sent) == 1
    assert mailbox.subject(0) == "[Rootsweep] Root access keys in 24 accounts, 4 March 2026"
    assert [request_of(table, case).mailed for case in everything] == [1] * 24
    assert len(opened(table, mailbox.link(0))[1]) == 24


def test_cases_of_a_sweep_that_still_gathers_are_left_to_a_mail_of_their_own(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    later = NOW + timedelta(minutes=5)
    for id in IDS[:2]:
        case = a_waiting_case(table, id=id)
        table.update_item(
            Key=case_key(case.id),
            UpdateExpression="SET ask_at = :later",
            ExpressionAttributeValues={":later": iso(later)},
        )
    now_due = a_waiting_case(table, id=IDS[2])

    mailing.see_to_it(post, now_due)
    clock.time = later
    mailing.see_to_it(post, case)

    assert [named(mailbox.text(n)) for n in (0, 1)] == [[IDS[2]], IDS[:2]]
    assert "waiting for you longer" not in mailbox.text(0)


def test_an_address_that_ses_refuses_is_noted_and_the_others_are_enough(
    table: Any, post: Post, mailbox: Mailbox
) -> None:
    case = a_waiting_case(table, approvers=[APPROVER, DEPUTY])
    refuse(mailbox, {APPROVER}, "MessageRejected")

    mailing.see_to_it(post, case)

    assert mailbox.recipients == [DEPUTY]
    refused = cases.load(table, case_id=case.id)
    assert refused.unreachable == {APPROVER}
    assert asked(table, refused, APPROVER, DEPUTY).unreachable == set()


@pytest.mark.parametrize(
    ("refused", "code"),
    [({APPROVER, DEPUTY}, "MessageRejected"), ({APPROVER}, "TooManyRequestsException")],
    ids=["all addresses", "not the address"],
)
def test_what_a_retry_can_mend_or_nobody_was_told_is_an_error(
    table: Any, post: Post, mailbox: Mailbox, refused: set[str], code: str
) -> None:
    case = a_waiting_case(table, approvers=[APPROVER, DEPUTY])
    refuse(mailbox, refused, code)

    with pytest.raises(ClientError, match=code):
        mailing.see_to_it(post, case)

    assert mailbox.recipients == [each for each in (APPROVER, DEPUTY) if each not in refused]
    assert cases.load(table, case_id=case.id).unreachable == set()


def refuse(mailbox: Mailbox, addresses: set[str], code: str) -> None:
    """Have SES refuse mails to these addresses."""
    send = mailbox.send_email

    def send_email(**request: Any) -> dict[str, str]:
        if set(request["Destination"]["ToAddresses"]) & addresses:
            raise an_error(code, "SendEmail")
        return send(**request)

    mailbox.send_email = send_email  # type: ignore[method-assign]


# -- reminders ------------------------------------------------------------------------------------

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
REMINDER = "you were asked about this before"


def climbing(table: Any, id: str = IDS[0], *, now: datetime = NOW, **given: Any) -> Case:
    """A case on a ladder that reminds on the third, fifth and seventh day."""
    return a_waiting_case(table, id=id, ladder=TWO_RUNGS, now=now, **given)


def looked_again(table: Any, case: Case, clock: Clock, *people: str) -> Case:
    """The case after it looked again now, and these people are asked: the same if none."""
    case = cases.load(table, case_id=case.id)
    return asked(table, case, *(people or case.approvers), now=clock.time)


def test_each_reminder_is_one_mail_in_the_conversation_and_no_more(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table)
    sent = []
    for days in range(14):
        clock.time = NOW + days * DAY
        case = looked_again(table, case, clock)
        for _ in range(2):
            mailing.see_to_it(post, case)
        sent.append(len(mailbox.sent))

    # On the first day, the third, the fifth and the seventh, and with the next rung on the eighth.
    assert sent == [1, 1, 2, 2, 3, 3, 4, 5, 5, 5, 5, 5, 5, 5]
    assert [REMINDER in mailbox.text(n) for n in range(5)] == [False, True, True, True, True]
    assert {mailbox.subject(n) for n in range(5)} == {mailbox.subject(0)}
    assert {mailbox.headers(n).get("In-Reply-To") for n in range(1, 5)} == {
        "<1@eu-west-1.amazonses.com>"
    }
    request = request_of(table, case)
    assert (request.mailed, request.reminded) == (1, 4)


def test_a_reminder_has_a_link_of_its_own_that_opens_the_case(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table)
    mailing.see_to_it(post, case)
    clock.time = NOW + 2 * DAY

    mailing.see_to_it(post, looked_again(table, case, clock))

    assert mailbox.link(0) != mailbox.link(1)
    for n in (0, 1):
        assert opened(table, mailbox.link(n)) == (APPROVER, [IDS[0]])


def test_reminders_that_fall_due_together_share_a_mail(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    everything = [climbing(table, id) for id in IDS]
    mailing.see_to_it(post, everything[0])
    clock.time = NOW + 2 * DAY

    for case in [looked_again(table, case, clock) for case in everything]:
        mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 2
    assert named(mailbox.text(1)) == named(mailbox.html(1)) == IDS
    assert "You were asked about all of them before." in mailbox.text(1)
    assert "waiting for you longer" not in mailbox.text(1)
    assert [request_of(table, case).reminded for case in everything] == [1, 1, 1]


@pytest.mark.parametrize(
    ("minutes", "mails"), [(5, 1), (359, 1), (360, 1), (361, 2), (24 * 60, 2)], ids=str
)
def test_a_reminder_that_is_due_a_little_later_is_in_the_same_mail(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock, minutes: int, mails: int
) -> None:
    first = climbing(table)
    mailing.see_to_it(post, first)
    clock.time = NOW + minutes * MINUTE
    second = climbing(table, IDS[1], now=clock.time)
    mailing.see_to_it(post, second)
    before = len(mailbox.sent)

    clock.time = NOW + 2 * DAY
    mailing.see_to_it(post, looked_again(table, first, clock))
    clock.time += minutes * MINUTE
    mailing.see_to_it(post, looked_again(table, second, clock))

    assert len(mailbox.sent) - before == mails
    together = [IDS[:2]] if mails == 1 else [[IDS[0]], [IDS[1]]]
    assert [named(mailbox.text(before + n)) for n in range(mails)] == together
    # Who had the reminder early has the next one in time.
    clock.time = NOW + 4 * DAY + minutes * MINUTE
    mailing.see_to_it(post, looked_again(table, second, clock))
    assert named(mailbox.text(before + mails))[-1] == IDS[1]


@pytest.mark.parametrize(("minutes", "mails"), [(5, 1), (359, 1), (361, 2), (24 * 60, 2)], ids=str)
def test_who_is_asked_late_is_not_reminded_shortly_after(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock, minutes: int, mails: int
) -> None:
    case = climbing(table)
    mailing.see_to_it(post, case)
    clock.time = NOW + 2 * DAY - minutes * MINUTE
    mailing.see_to_it(post, looked_again(table, case, clock, DEPUTY))
    clock.time = NOW + 2 * DAY
    mailing.see_to_it(post, looked_again(table, case, clock))

    assert mailbox.recipients == [APPROVER, *[DEPUTY] * mails]
    # With the next one they are.
    clock.time = NOW + 4 * DAY
    mailing.see_to_it(post, looked_again(table, case, clock))
    assert mailbox.recipients == [APPROVER, *[DEPUTY] * (mails + 1)]
    assert REMINDER in mailbox.text(mails + 1)


def test_a_reminder_that_is_due_already_is_in_the_same_mail(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    first, second = climbing(table), climbing(table, IDS[1])
    mailing.see_to_it(post, first)
    clock.time = NOW + 2 * DAY

    # The second case has not looked again yet.
    mailing.see_to_it(post, looked_again(table, first, clock))
    mailing.see_to_it(post, looked_again(table, second, clock))

    assert [named(mailbox.text(n)) for n in range(len(mailbox.sent))] == [IDS[:2], IDS[:2]]


def test_a_new_case_is_told_with_the_reminders_that_are_nearly_due(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    near, far = climbing(table), climbing(table, IDS[1], now=NOW + DAY)
    for case in (near, far):
        clock.time = datetime.fromisoformat(case.ask_at)
        mailing.see_to_it(post, case)
    clock.time = NOW + 2 * DAY - MINUTE

    mailing.see_to_it(post, climbing(table, IDS[2], now=clock.time))

    assert named(mailbox.text(2)) == [IDS[0], IDS[2]]
    assert "You were asked about 1 of them before." in mailbox.text(2)
    assert "One more account has been waiting for you longer" in mailbox.text(2)


def test_the_last_mail_of_a_ladder_comes_at_its_time_and_none_at_its_end(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table)
    for days in (0, 7, 14):
        clock.time = NOW + days * DAY
        mailing.see_to_it(post, looked_again(table, case, clock))

    assert len(mailbox.sent) == 2
    assert "your security team is told" in mailbox.text(1)


def test_a_rung_that_adds_somebody_mails_both_and_asks_only_the_new_one_anew(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table)
    mailing.see_to_it(post, case)
    clock.time = NOW + 7 * DAY
    case = looked_again(table, case, clock, APPROVER, DEPUTY)

    for _ in range(2):
        mailing.see_to_it(post, case)

    assert mailbox.recipients == [APPROVER, APPROVER, DEPUTY]
    assert [REMINDER in mailbox.text(n) for n in range(3)] == [False, True, False]
    assert "In-Reply-To" not in mailbox.headers(2)
    assert opened(table, mailbox.link(2)) == (DEPUTY, [IDS[0]])
    assert case.takes_decision_of(DEPUTY)
    assert case.takes_decision_of(APPROVER)


def test_a_changed_approver_gets_the_next_mail_and_the_old_one_none(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table)
    mailing.see_to_it(post, case)
    clock.time = NOW + 2 * DAY
    mailing.see_to_it(post, looked_again(table, case, clock, DEPUTY))
    clock.time = NOW + 4 * DAY
    mailing.see_to_it(post, looked_again(table, case, clock, DEPUTY))

    assert mailbox.recipients == [APPROVER, DEPUTY, DEPUTY]
    assert [REMINDER in mailbox.text(n) for n in range(3)] == [False, False, True]


def test_whoever_has_approved_is_not_reminded_while_another_is_awaited(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    mailing.see_to_it(post, case)
    approve(table, case)
    clock.time = NOW + 2 * DAY

    for _ in range(2):
        mailing.see_to_it(post, looked_again(table, case, clock))

    assert mailbox.recipients == [APPROVER, DEPUTY, DEPUTY]


def test_whoever_is_reminded_of_one_case_is_not_reminded_of_what_they_approved(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    both = {"approvers": (APPROVER, DEPUTY), "quorum": TWO_PEOPLE}
    approved, open_one = climbing(table, **both), climbing(table, IDS[1], **both)
    mailing.see_to_it(post, open_one)
    approve(table, approved)
    clock.time = NOW + 2 * DAY

    mailing.see_to_it(post, looked_again(table, open_one, clock))

    assert mailbox.recipients == [APPROVER, DEPUTY] * 2
    assert named(mailbox.text(2)) == [IDS[1]]
    assert named(mailbox.text(3)) == IDS[:2]


def test_new_evidence_is_mailed_at_once_and_begins_the_reminders_anew(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case, other = climbing(table), climbing(table, IDS[1])
    mailing.see_to_it(post, case)
    clock.time = NOW + 3 * DAY
    for each in (case, other):
        mailing.see_to_it(post, looked_again(table, each, clock))
    clock.time += MINUTE
    case = cases.load(table, case_id=case.id)
    cases.record_evidence(table, case=case, keys=[a_key(SECOND)], quorum=ONE_PERSON, now=clock.time)
    case = asked(table, cases.load(table, case_id=case.id), now=clock.time)
    mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 3
    assert named(mailbox.text(2)) == [IDS[0]]
    assert REMINDER not in mailbox.text(2)
    request = request_of(table, case)
    assert (request.mailed, request.reminded) == (2, 0)
    clock.time += 2 * DAY
    mailing.see_to_it(post, looked_again(table, case, clock))
    # Together with the other one, which had its reminders all the time.
    assert named(mailbox.text(3)) == IDS[:2]
    assert "You were asked about all of them before." in mailbox.text(3)


def test_a_reminder_that_was_not_sent_is_sent_by_the_retry_and_once(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    everything = [climbing(table, id) for id in IDS]
    mailing.see_to_it(post, everything[0])
    clock.time = NOW + 2 * DAY
    everything = [looked_again(table, case, clock) for case in everything]
    mailbox.fails_with = an_error("TooManyRequestsException", "SendEmail")
    with pytest.raises(ClientError, match="TooManyRequests"):
        mailing.see_to_it(post, everything[0])
    mailbox.fails_with = None

    for case in everything:
        mailing.see_to_it(post, case)

    assert len(mailbox.sent) == 2
    assert named(mailbox.text(1)) == IDS


def test_an_address_that_ses_refused_is_tried_again_with_the_next_reminder(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    case = climbing(table, approvers=(APPROVER, DEPUTY))
    send = mailbox.send_email
    refuse(mailbox, {APPROVER}, "MessageRejected")
    mailing.see_to_it(post, case)
    mailbox.send_email = send  # type: ignore[method-assign]
    clock.time = NOW + 2 * DAY

    mailing.see_to_it(post, looked_again(table, case, clock))

    assert mailbox.recipients == [DEPUTY, APPROVER, DEPUTY]
    assert REMINDER not in mailbox.text(1)
    assert cases.load(table, case_id=case.id).unreachable == set()


def test_a_case_as_it_was_written_before_ladders_shares_a_mail_and_is_not_reminded_early(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    old = a_waiting_case(table, id=IDS[0])
    mailing.see_to_it(post, old)
    table.update_item(
        Key=case_key(old.id),
        UpdateExpression="REMOVE ladder, ladder_since, next_mail_at, answer_by, reminder",
    )
    clock.time = NOW + 7 * DAY - MINUTE

    mailing.see_to_it(post, climbing(table, IDS[1], now=clock.time))

    assert named(mailbox.text(1)) == [IDS[1]]
    assert "One more account has been waiting for you longer" in mailbox.text(1)


def test_removals_by_hand_are_reminded_of_too(
    table: Any, post: Post, mailbox: Mailbox, clock: Clock
) -> None:
    obstacle = Obstacle.ROOT_SESSION_DENIED
    case = asked(table, open_a_case(table, id=IDS[0], ladder=TWO_RUNGS), obstacle=obstacle)
    to_decide = climbing(table, IDS[1])
    mailing.see_to_it(post, case)
    clock.time = NOW + 2 * DAY
    case = asked(table, case, APPROVER, THIRD, now=clock.time, obstacle=obstacle)

    mailing.see_to_it(post, case)
    mailing.see_to_it(post, looked_again(table, to_decide, clock))

    assert mailbox.recipients == [APPROVER, APPROVER, THIRD]
    assert [named(mailbox.text(n)) for n in range(3)] == [IDS[:2], IDS[:2], [IDS[0]]]
    assert "You were asked about all of them before." in mailbox.text(1)
