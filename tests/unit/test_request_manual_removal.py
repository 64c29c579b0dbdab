from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import request_manual_removal
from botocore.exceptions import ClientError

from rootsweep import accounts, cases
from rootsweep.cases import Outcome
from rootsweep.errors import CaseEndedError

from .builders import (
    ACCOUNT,
    HOSTILE,
    MANAGEMENT,
    NOW,
    a_decided_case,
    an_error,
    contents,
    open_a_case,
)
from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

CAUSE = json.dumps({"errorMessage": "AssumeRoot: AccessDenied: by an SCP", "errorType": "X"})


@pytest.fixture
def organizations(stub: Callable[[Any], Stubber], monkeypatch: pytest.MonkeyPatch) -> Stubber:
    monkeypatch.setattr(
        accounts, "find_approver", lambda *_, **__: ("payments-leads@example.com", "the tag")
    )
    return stub(request_manual_removal.organizations)


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox = Mailbox()
    monkeypatch.setattr(request_manual_removal, "ses", mailbox)
    return mailbox


def request(case: cases.Case, organizations: Stubber, cause: str = CAUSE) -> dict[str, Any]:
    organizations.add_response(
        "describe_organization", {"Organization": {"MasterAccountId": MANAGEMENT}}, {}
    )
    return request_manual_removal.handler({"case_id": case.id, "cause": cause}, None)


def test_a_person_gets_the_reason_and_the_steps_and_the_case_waits(
    table: Any, organizations: Stubber, mailbox: Mailbox
) -> None:
    case = open_a_case(table)

    answer = request(case, organizations)

    waiting = cases.load(table, case_id=case.id)
    assert waiting.outcome == Outcome.AWAITING_REMOVAL
    assert waiting.approver == "payments-leads@example.com"
    assert waiting.reason == "AssumeRoot: AccessDenied: by an SCP"
    # A week in at most a thousand looks is more than the five minutes that were asked for.
    assert answer == {"deadline": waiting.deadline, "wait_seconds": 604}
    left = datetime.fromisoformat(waiting.deadline) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left < timedelta(days=7, minutes=1)
    assert mailbox.sent[0]["Destination"] == {"ToAddresses": ["payments-leads@example.com"]}
    assert "by an SCP" in mailbox.text(0)
    assert f"Sign in to the account {ACCOUNT}" in mailbox.text(0)


def test_the_management_account_has_steps_and_a_reason_of_its_own(
    table: Any, organizations: Stubber, mailbox: Mailbox
) -> None:
    case = open_a_case(table, id=MANAGEMENT)

    request(case, organizations)

    assert "no root session in the management account" in mailbox.text(0)
    assert f"Sign in to the management account {MANAGEMENT}" in mailbox.text(0)


def test_running_again_sends_no_second_mail(
    table: Any, organizations: Stubber, mailbox: Mailbox
) -> None:
    case = open_a_case(table)

    request(case, organizations)
    request(case, organizations)

    assert len(mailbox.sent) == 1


def test_a_mail_that_was_not_sent_is_sent_by_the_retry(
    table: Any, organizations: Stubber, mailbox: Mailbox
) -> None:
    case = open_a_case(table)
    mailbox.fails_with = an_error("TooManyRequestsException", "SendEmail")
    with pytest.raises(ClientError, match="TooManyRequests"):
        request(case, organizations)
    mailbox.fails_with = None

    request(case, organizations)

    assert len(mailbox.sent) == 1


def test_an_approver_who_has_approved_is_written_to_all_the_same(
    table: Any, organizations: Stubber, mailbox: Mailbox
) -> None:
    request(a_decided_case(table), organizations)

    assert len(mailbox.sent) == 1


def test_nobody_is_written_to_about_a_case_that_has_ended(
    table: Any, organizations: Stubber, mailbox: Mailbox
) -> None:
    case = open_a_case(table)
    cases.record_outcome(table, case_id=case.id, outcome=Outcome.FAILED, reason="r", now=NOW)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        request(case, organizations)

    assert mailbox.sent == []
    assert contents(table) == before


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (CAUSE, "AssumeRoot: AccessDenied: by an SCP"),
        ("plain text", "plain text"),
        ("[1]", "[1]"),
        ("{}", "{}"),
        ("", ""),
    ],
)
def test_a_cause_is_read_from_whatever_step_functions_caught(cause: str, text: str) -> None:
    assert request_manual_removal.why(cause, is_management_account=False) == text


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_hostile_name_or_reason_makes_no_header_and_no_markup(
    table: Any, organizations: Stubber, mailbox: Mailbox, text: str
) -> None:
    request(open_a_case(table, name=text), organizations, cause=json.dumps({"errorMessage": text}))

    simple = mailbox.sent[0]["Content"]["Simple"]
    assert simple["Subject"]["Data"].isprintable()
    assert "<script" not in simple["Body"]["Html"]["Data"]
    assert "<img" not in simple["Body"]["Html"]["Data"]
