from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import request_approval
from botocore.exceptions import ClientError

from rootsweep import accounts, cases
from rootsweep.cases import Outcome
from rootsweep.errors import CaseEndedError

from .builders import HOSTILE, NOW, SECOND, a_key, an_error, contents, item_of, open_a_case
from .mailbox import Mailbox

TOKEN = "AQCE+/=" * 100
WEEK = timedelta(seconds=604800)


@pytest.fixture(autouse=True)
def approver(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who is found as the approver, and how they were looked for."""
    asked: list[Any] = []

    def find(*clients: object, **given: str) -> tuple[str, str]:
        asked.append((clients, given))
        return "payments-leads@example.com", "the account's tag"

    monkeypatch.setattr(accounts, "find_approver", find)
    return asked


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox = Mailbox()
    monkeypatch.setattr(request_approval, "ses", mailbox)
    return mailbox


@pytest.fixture
def case(table: Any) -> cases.Case:
    return with_keys(table, open_a_case(table), a_key())


def with_keys(table: Any, case: cases.Case, *keys: Any) -> cases.Case:
    cases.record_evidence(table, case=case, keys=keys, now=NOW)
    return cases.load(table, case_id=case.id)


def request(case: cases.Case, token: str = TOKEN) -> None:
    event = {"case_id": case.id, "task_token": token}
    assert request_approval.handler(event, None) is None


def test_the_approver_gets_a_mail_with_a_link_that_opens_the_case(
    table: Any, case: cases.Case, mailbox: Mailbox, approver: list[Any]
) -> None:
    request(case)

    [mail] = mailbox.sent
    assert mail["FromEmailAddress"] == "rootsweep@mail.example.com"
    assert mail["Destination"] == {"ToAddresses": ["payments-leads@example.com"]}
    link = re.search(r"https://approvals\.example\.com/(\S+)$", mailbox.text(0), re.MULTILINE)
    assert link
    opened = cases.find_link(table, secret=link[1], now=datetime.now(UTC))
    assert opened
    assert (opened.case_id, opened.approver) == (case.id, "payments-leads@example.com")
    [(clients, given)] = approver
    assert clients == (request_approval.organizations, request_approval.account_client)
    assert given == {
        "account_id": case.account_id,
        "tag_key": "rootsweep-approver",
        "default": "security@example.com",
    }


def test_the_case_waits_with_the_token_until_the_deadline(
    table: Any,
    case: cases.Case,
    mailbox: Mailbox,  # noqa: ARG001
) -> None:
    request(case)

    waiting = cases.load(table, case_id=case.id)
    assert waiting.is_decidable
    assert waiting.task_token == TOKEN
    deadline = datetime.fromisoformat(waiting.deadline)
    assert abs(deadline - datetime.now(UTC) - WEEK) < timedelta(minutes=1)
    assert item_of(table, case)["approver_source"] == "the account's tag"


def test_neither_token_nor_link_leaks(table: Any, case: cases.Case, mailbox: Mailbox) -> None:
    request(case)

    assert TOKEN not in str(mailbox.sent)
    secret = re.search(r"https://approvals\.example\.com/(\S+)", mailbox.text(0))
    assert secret
    assert secret[1] not in str(contents(table))


def test_the_link_outlives_the_wait_and_not_for_ever(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    request(case)
    secret = re.search(r"https://approvals\.example\.com/(\S+)", mailbox.text(0))
    assert secret

    after = datetime.now(UTC) + WEEK
    assert cases.find_link(table, secret=secret[1], now=after + timedelta(days=29))
    assert not cases.find_link(table, secret=secret[1], now=after + timedelta(days=31))


def test_running_again_keeps_the_new_token_and_sends_no_second_mail(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    request(case)
    request(case, "a-newer-token")

    assert len(mailbox.sent) == 1
    assert cases.load(table, case_id=case.id).task_token == "a-newer-token"


def test_other_keys_are_a_new_question_with_a_link_of_its_own(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    request(case)
    with_keys(table, case, a_key(), a_key(SECOND))
    request(case)

    assert len(mailbox.sent) == 2
    assert SECOND not in mailbox.text(0)
    assert SECOND in mailbox.text(1)
    links = {re.search(r"https://\S+", mailbox.text(n))[0] for n in (0, 1)}
    assert len(links) == 2


def test_a_mail_that_was_not_sent_is_not_remembered_as_sent(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    mailbox.fails_with = an_error("MessageRejected", "SendEmail")
    with pytest.raises(ClientError, match="MessageRejected"):
        request(case)
    assert cases.load(table, case_id=case.id).mailed_for == ""
    mailbox.fails_with = None

    request(case)
    assert len(mailbox.sent) == 1


def test_nobody_is_asked_about_a_case_that_has_ended(
    table: Any, case: cases.Case, mailbox: Mailbox
) -> None:
    cases.record_outcome(table, case_id=case.id, outcome=Outcome.FAILED, reason="r", now=NOW)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        request(case)

    assert mailbox.sent == []
    assert contents(table) == before


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_a_hostile_account_name_makes_no_header_and_no_markup(
    table: Any, mailbox: Mailbox, name: str
) -> None:
    request(with_keys(table, open_a_case(table, name=name), a_key()))

    simple = mailbox.sent[0]["Content"]["Simple"]
    assert simple["Subject"]["Data"].isprintable()
    assert "<script" not in simple["Body"]["Html"]["Data"]
    assert "<img" not in simple["Body"]["Html"]["Data"]
    assert mailbox.sent[0]["Destination"] == {"ToAddresses": ["payments-leads@example.com"]}
