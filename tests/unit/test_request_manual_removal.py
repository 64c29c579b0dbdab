from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import request_manual_removal
from botocore.exceptions import ClientError

from rootsweep import cases, escalation, mailing
from rootsweep.cases import Obstacle, Outcome
from rootsweep.directory import Approver
from rootsweep.escalation import Rung

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    HOSTILE,
    MANAGEMENT,
    NOW,
    THIRD,
    TWO_RUNGS,
    a_case,
    a_decided_case,
    an_error,
    contents,
    end_case,
    open_a_case,
)
from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox: Any = Mailbox()
    post = replace(request_manual_removal.post, ses=mailbox)
    monkeypatch.setattr(request_manual_removal, "post", post)
    return mailbox


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still."""

    def set_clock(now: datetime) -> None:
        stop_clock(request_manual_removal, now)
        stop_clock(mailing, now)

    set_clock(NOW)
    return set_clock


def by_hand(
    table: Any,
    case: cases.Case,
    *approvers: str,
    obstacle: Obstacle = Obstacle.SERVICE_CONTROL_POLICY,
    reason: str = "AssumeRoot: AccessDenied: by an SCP",
    now: datetime = NOW,
) -> cases.Case:
    """The case after it was found that people have to remove its keys."""
    return cases.ask(
        table,
        case=case,
        approvers=[Approver(address, "the test") for address in approvers or (APPROVER,)],
        notes=[],
        first_rung=0,
        since=NOW,
        position=escalation.position(case.ladder, first=0, since=NOW, now=now),
        now=now,
        obstacle=obstacle,
        reason=reason,
    )


def request(case: cases.Case) -> dict[str, Any]:
    return request_manual_removal.handler({"case_id": case.id}, None)


def test_a_person_gets_the_reason_and_the_steps_and_the_case_waits(
    table: Any, mailbox: Mailbox
) -> None:
    case = by_hand(table, open_a_case(table))

    # A week in at most a thousand looks is more than the five minutes that were asked for.
    assert request(case) == {"wait_seconds": 605}

    assert cases.load(table, case_id=case.id) == case
    assert mailbox.recipients == [APPROVER]
    assert "by an SCP" in mailbox.text(0)
    assert f"Sign in to the account {ACCOUNT}" in mailbox.text(0)


def test_looks_are_no_more_frequent_than_was_asked_for() -> None:
    case = a_case(deadline=f"{NOW + timedelta(hours=1):%FT%TZ}")

    assert request_manual_removal.wait_seconds(case) == 300


@pytest.mark.parametrize("days", [14, 30, 180])
@pytest.mark.parametrize("every", [1, 2, 7, 180])
def test_an_execution_has_room_for_all_looks_and_all_mails_of_the_longest_ladder(
    days: int, every: int
) -> None:
    ladder = (Rung(timedelta(days=days), ("approvers",), timedelta(days=every)),)
    case = a_case(ladder=ladder, deadline=f"{NOW + timedelta(days=days):%FT%TZ}")
    now, looks, mails = NOW, 0, 0
    while now < NOW + timedelta(days=days):
        wait = timedelta(seconds=request_manual_removal.wait_seconds(case))
        # Until a mail is due, which begins the wait anew.
        due = case.position(now).next_mail_at
        looks_now = math.ceil((due - now) / wait)
        now, looks, mails = now + looks_now * wait, looks + looks_now, mails + 1

    # An execution has 25,000 events (Step Functions quotas): nine for a look, thirty for a mail.
    assert 9 * looks + 30 * mails < 25_000


def test_a_rung_that_adds_somebody_has_both_reminded(
    table: Any, mailbox: Mailbox, at: Callable[[datetime], None]
) -> None:
    case = by_hand(table, open_a_case(table, ladder=TWO_RUNGS))
    request(case)
    for days, people in ((2, [APPROVER]), (8, [APPROVER, THIRD])):
        at(NOW + timedelta(days=days))
        case = by_hand(table, case, *people, now=NOW + timedelta(days=days))
        assert request(case) == request(case)

    assert mailbox.recipients == [APPROVER, APPROVER, APPROVER, THIRD]
    assert "A reminder: you were asked about this before, and the keys are still there." in (
        mailbox.text(1)
    )
    assert "A reminder" not in mailbox.text(0) + mailbox.text(3)


def test_the_management_account_has_steps_of_its_own(table: Any, mailbox: Mailbox) -> None:
    case = open_a_case(table, id=MANAGEMENT)

    request(by_hand(table, case, obstacle=Obstacle.MANAGEMENT_ACCOUNT))

    assert f"Sign in to the management account {MANAGEMENT}" in mailbox.text(0)


def test_everybody_who_answers_for_the_account_is_written_to_once(
    table: Any, mailbox: Mailbox
) -> None:
    case = by_hand(table, open_a_case(table), APPROVER, DEPUTY)

    assert request(case) == request(case)

    assert mailbox.recipients == [APPROVER, DEPUTY]


def test_a_mail_that_was_not_sent_is_sent_by_the_retry(table: Any, mailbox: Mailbox) -> None:
    case = by_hand(table, open_a_case(table))
    mailbox.fails_with = an_error("TooManyRequestsException", "SendEmail")
    with pytest.raises(ClientError, match="TooManyRequests"):
        request(case)
    mailbox.fails_with = None

    request(case)

    assert len(mailbox.sent) == 1


def test_an_approver_who_has_approved_is_written_to_all_the_same(
    table: Any, mailbox: Mailbox
) -> None:
    request(by_hand(table, a_decided_case(table)))

    assert mailbox.recipients == [APPROVER]


def test_nobody_is_written_to_about_a_case_that_has_ended(table: Any, mailbox: Mailbox) -> None:
    case = by_hand(table, open_a_case(table))
    ended = end_case(table, case.id, Outcome.FAILED)

    request(case)

    assert mailbox.sent == []
    assert cases.load(table, case_id=case.id) == ended
    assert not [item for item in contents(table) if item["sk"] == "LINK"]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_hostile_name_or_reason_makes_no_header_and_no_markup(
    table: Any, mailbox: Mailbox, text: str
) -> None:
    request(by_hand(table, open_a_case(table, name=text), reason=text))

    assert mailbox.subject(0).isprintable()
    assert "<script" not in mailbox.html(0)
    assert "<img" not in mailbox.html(0)
    assert mailbox.recipients == [APPROVER]
