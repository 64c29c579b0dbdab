from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import request_approval
from botocore.exceptions import ClientError

from rootsweep import approvers, cases, mailing
from rootsweep.cases import Answer, Outcome
from rootsweep.errors import CaseEndedError, MailPendingError

from .builders import (
    APPROVER,
    DEPUTY,
    HOSTILE,
    NOW,
    TWO_PEOPLE,
    a_decided_case,
    a_decision,
    a_gathered_case,
    an_error,
    asked,
    contents,
    end_case,
    item_of,
)
from .mailbox import Mailbox

TOKEN = "AQCE+/=" * 100


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox: Any = Mailbox()
    monkeypatch.setattr(request_approval, "post", replace(request_approval.post, ses=mailbox))
    return mailbox


@pytest.fixture
def case(table: Any) -> cases.Case:
    """A case of which only the token is missing."""
    return asked(table, a_gathered_case(table))


def request(case: cases.Case, token: str = TOKEN) -> None:
    event = {"case_id": case.id, "task_token": token}
    assert request_approval.handler(event, None) is None


def test_the_approver_gets_a_mail_with_a_link_that_stands_for_them(
    table: Any, mailbox: Mailbox
) -> None:
    now = datetime.now(UTC)
    case = asked(table, a_gathered_case(table, now=now), now=now)

    request(case)

    assert mailbox.recipients == [APPROVER]
    assert mailbox.sent[0]["FromEmailAddress"] == "rootsweep@mail.example.com"
    link = approvers.find_link(table, secret=mailbox.link(0), now=datetime.now(UTC))
    assert link
    assert (link.approver, link.is_expired) == (APPROVER, False)
    assert link.opens(approvers.find_request(table, approver=APPROVER, case_id=case.id))


def test_everybody_who_is_needed_is_asked(table: Any, mailbox: Mailbox) -> None:
    case = asked(table, a_gathered_case(table, quorum=TWO_PEOPLE), APPROVER, DEPUTY)

    request(case)

    assert mailbox.recipients == [APPROVER, DEPUTY]
    for number in (0, 1):
        assert "2 people have to approve, because a key was used" in mailbox.text(number)


def test_the_case_keeps_the_token_and_nobody_else_gets_it(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    request(case)

    assert cases.load(table, case_id=case.id) == replace(case, task_token=TOKEN)
    assert TOKEN not in str(mailbox.sent)
    assert mailbox.link(0) not in str(contents(table))


def test_a_bounce_that_came_before_the_token_ends_the_wait(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    request(case)
    assert not cases.load(table, case_id=case.id).woken

    approvers.record_bounce(table, approver=APPROVER, reason="550", now=datetime.now(UTC))
    request(case)

    assert cases.load(table, case_id=case.id).woken
    assert len(mailbox.sent) == 1


def test_running_again_keeps_the_new_token_and_sends_no_second_mail(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    request(case)
    request(case, "a-newer-token")

    assert len(mailbox.sent) == 1
    assert cases.load(table, case_id=case.id).task_token == "a-newer-token"


@pytest.mark.parametrize("answer", list(Answer))
def test_a_case_that_was_decided_before_its_token_came_gets_the_token_and_no_mail(
    table: Any, case: cases.Case, mailbox: Mailbox, answer: Answer
) -> None:
    decided = cases.decide(table, case=case, decision=a_decision(case, answer))
    before = contents(table)

    request(case)

    assert mailbox.sent == []
    assert cases.load(table, case_id=case.id) == replace(decided, task_token=TOKEN)
    # Nor is anybody else's mail held up for it.
    assert len(contents(table)) == len(before)
    # What the table's stream needs to end the wait.
    assert item_of(table, case)["task_token"] == TOKEN
    assert item_of(table, case)["decided"] == "YES"


def test_a_decision_that_survived_a_second_look_asks_nobody_again(
    table: Any, mailbox: Mailbox
) -> None:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    cases.close_to_decisions(table, case_id=case.id, now=NOW)

    request(case)

    assert mailbox.sent == []
    assert cases.load(table, case_id=case.id) == replace(case, task_token=TOKEN)


def test_a_mail_that_was_not_sent_is_sent_by_the_retry(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    mailbox.fails_with = an_error("MessageRejected", "SendEmail")
    with pytest.raises(ClientError, match="MessageRejected"):
        request(case)
    assert cases.load(table, case_id=case.id).is_decidable
    mailbox.fails_with = None

    request(case)
    assert len(mailbox.sent) == 1


def test_while_another_case_writes_to_the_approver_for_too_long_the_retry_has_to_go_on(
    table: Any, case: cases.Case, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailing, "PATIENCE_SECONDS", -1)
    now = datetime.now(UTC)
    approvers.lock_mails(
        table, approver=APPROVER, holder="other", now=now, until=now + timedelta(hours=1)
    )

    with pytest.raises(MailPendingError, match=APPROVER):
        request(case)

    assert mailbox.sent == []


def test_nobody_is_asked_about_a_case_that_has_ended(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    end_case(table, case.id, Outcome.FAILED)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        request(case)

    assert mailbox.sent == []
    assert contents(table) == before


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_a_hostile_account_name_makes_no_header_and_no_markup(
    table: Any, mailbox: Mailbox, name: str
) -> None:
    request(asked(table, a_gathered_case(table, name=name)))

    assert mailbox.subject(0).isprintable()
    assert "<script" not in mailbox.html(0)
    assert "<img" not in mailbox.html(0)
    assert mailbox.recipients == [APPROVER]
