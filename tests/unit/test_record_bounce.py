from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import record_bounce

from rootsweep import approvers, cases
from rootsweep.cases import Obstacle, Outcome
from rootsweep.table import approver_key

from .builders import (
    APPROVER,
    DEPUTY,
    HOSTILE,
    NOW,
    a_decided_case,
    a_waiting_case,
    asked,
    contents,
    end_case,
    open_a_case,
)

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = ["333333333331", "333333333332", "333333333333"]


@pytest.fixture(autouse=True)
def clock(stop_clock: Callable[..., None]) -> None:
    stop_clock(record_bounce, NOW)


def bounce(*recipients: str, **fields: str) -> None:
    """What EventBridge delivers of a bounce (SES Developer Guide, event data)."""
    detail = {
        "eventType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [
                {"emailAddress": each, "action": "failed", "status": "5.1.1", **fields}
                for each in recipients
            ],
        },
        "mail": {"messageId": "m", "destination": list(recipients)},
    }
    event = {"detail-type": "Email Bounced", "source": "aws.ses", "detail": detail}
    assert record_bounce.handler(event, None) is None


def woken(table: Any, case: cases.Case) -> bool:
    return cases.load(table, case_id=case.id).woken


def has_bounced(table: Any, approver: str) -> bool:
    return approvers.has_bounced(table, approver=approver, now=NOW)


@pytest.mark.parametrize("spelling", [APPROVER, APPROVER.upper(), "Payments-Leads@example.com"])
def test_an_address_that_bounces_is_known_and_its_cases_look_for_somebody_else(
    table: Any, spelling: str
) -> None:
    mine = a_waiting_case(table, id=IDS[0])
    by_hand = asked(table, open_a_case(table, id=IDS[1]), obstacle=Obstacle.MANAGEMENT_ACCOUNT)
    theirs = a_waiting_case(table, id=IDS[2], approvers=(DEPUTY,))

    bounce(spelling, diagnosticCode="smtp; 550 5.1.1 user unknown")

    assert has_bounced(table, APPROVER)
    assert not has_bounced(table, DEPUTY)
    item = table.get_item(Key=approver_key(APPROVER))["Item"]
    assert item["bounce"] == "smtp; 550 5.1.1 user unknown"
    assert [woken(table, case) for case in (mine, by_hand, theirs)] == [True, True, False]


def test_a_bounce_of_several_is_one_of_each(table: Any) -> None:
    case = a_waiting_case(table, approvers=(DEPUTY,))

    bounce(APPROVER, DEPUTY)

    assert has_bounced(table, APPROVER)
    assert has_bounced(table, DEPUTY)
    assert woken(table, case)


def test_a_bounce_without_a_reason_says_so(table: Any) -> None:
    bounce(APPROVER)

    assert table.get_item(Key=approver_key(APPROVER))["Item"]["bounce"] == "no reason was given"


def test_a_bounce_that_comes_twice_changes_nothing(table: Any) -> None:
    a_waiting_case(table)
    bounce(APPROVER)
    before = contents(table)

    bounce(APPROVER)

    assert contents(table) == before


def test_a_case_that_was_decided_or_has_ended_is_left_alone(table: Any) -> None:
    decided, ended = a_decided_case(table, id=IDS[0]), a_waiting_case(table, id=IDS[1])
    end_case(table, ended.id, Outcome.FAILED)

    bounce(APPROVER)

    assert [woken(table, case) for case in (decided, ended)] == [False, False]
    assert has_bounced(table, APPROVER)


def test_an_address_that_was_never_asked_bounces_all_the_same(table: Any) -> None:
    bounce("owner-of-an-exception@example.com")

    assert has_bounced(table, "owner-of-an-exception@example.com")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_what_another_mail_server_says_is_kept_as_one_plain_line(table: Any, text: str) -> None:
    bounce(APPROVER, diagnosticCode=text)

    reason = table.get_item(Key=approver_key(APPROVER))["Item"]["bounce"]
    assert reason.isprintable()
    assert len(reason) <= 200
