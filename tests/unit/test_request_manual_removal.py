from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import request_manual_removal
from botocore.exceptions import ClientError

from rootsweep import cases
from rootsweep.accounts import Approver
from rootsweep.cases import Obstacle, Outcome

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    HOSTILE,
    LATER,
    MANAGEMENT,
    NOW,
    a_decided_case,
    an_error,
    contents,
    open_a_case,
)
from .mailbox import Mailbox


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox: Any = Mailbox()
    post = replace(request_manual_removal.post, ses=mailbox)
    monkeypatch.setattr(request_manual_removal, "post", post)
    return mailbox


def by_hand(
    table: Any,
    case: cases.Case,
    *approvers: str,
    obstacle: Obstacle = Obstacle.SERVICE_CONTROL_POLICY,
    reason: str = "AssumeRoot: AccessDenied: by an SCP",
) -> cases.Case:
    """The case after it was found that people have to remove its keys."""
    return cases.ask(
        table,
        case=case,
        approvers=[Approver(address, "the test") for address in approvers or (APPROVER,)],
        now=NOW,
        deadline=LATER,
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
    assert request(case) == {"deadline": "2026-03-05T05:06:07Z", "wait_seconds": 604}

    assert cases.load(table, case_id=case.id) == case
    assert mailbox.recipients == [APPROVER]
    assert "by an SCP" in mailbox.text(0)
    assert f"Sign in to the account {ACCOUNT}" in mailbox.text(0)


def test_looks_are_no_more_frequent_than_was_asked_for(
    table: Any,
    mailbox: Mailbox,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_manual_removal, "MANUAL_REMOVAL_TIMEOUT_SECONDS", 3600)

    assert request(by_hand(table, open_a_case(table)))["wait_seconds"] == 300


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
    ended = cases.record_outcome(
        table, case_id=case.id, outcome=Outcome.FAILED, reason="r", now=NOW
    )

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
