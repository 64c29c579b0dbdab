from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rootsweep import approvers, cases
from rootsweep.approvers import Request, Thread

from .builders import (
    APPROVER,
    DEPUTY,
    FAR_FUTURE,
    LATER,
    NOW,
    a_gathered_case,
    a_link,
    a_waiting_case,
    asked,
    contents,
    end_case,
    with_link,
)

SECRET = "a-secret"
SECOND = timedelta(seconds=1)
FIRST_MAIL, NEXT_MAIL = Thread("<1@example.com>", "first"), Thread("<2@example.com>", "next")


def save(table: Any, *, approver: str = APPROVER, expires_at: Any = FAR_FUTURE) -> None:
    approvers.save_link(table, secret=SECRET, approver=approver, now=NOW, expires_at=expires_at)


def revoke(table: Any, *, before: str, approver: str = APPROVER) -> None:
    """What docs/runbook.md tells people to do."""
    table.update_item(
        Key={"pk": f"APPROVER#{approver}", "sk": "APPROVER"},
        UpdateExpression="SET links_valid_from = :now",
        ExpressionAttributeValues={":now": before},
    )


def lock(
    table: Any, holder: str, *, approver: str = APPROVER, now: Any = NOW, seconds: int = 70
) -> bool:
    until = now + timedelta(seconds=seconds)
    return approvers.lock_mails(table, approver=approver, holder=holder, now=now, until=until)


@pytest.mark.parametrize(
    ("request_", "opens"),
    [
        (None, False),
        (Request("c", asked_at="2026-03-04T05:06:06Z"), True),
        (Request("c", asked_at="2026-03-04T05:06:07Z"), True),
        (Request("c", asked_at="2026-03-04T05:06:08Z"), False),
    ],
    ids=["never asked", "asked before", "asked in the same second", "asked after"],
)
def test_a_link_opens_what_its_approver_was_asked_until_it_was_made(
    request_: Request | None, opens: bool
) -> None:
    assert a_link().opens(request_) is opens


def test_a_link_stands_for_its_approver_until_it_expires(table: Any) -> None:
    save(table, expires_at=LATER)

    for now in (NOW, LATER):
        assert approvers.find_link(table, secret=SECRET, now=now) == a_link(
            expires_at="2026-03-05T05:06:07Z"
        )
    for now in (LATER + SECOND, FAR_FUTURE):
        assert approvers.find_link(table, secret=SECRET, now=now) == a_link(
            expires_at="2026-03-05T05:06:07Z", is_expired=True
        )


@pytest.mark.parametrize("secret", ["", "A-secret", "a-secret ", "LINK", "*", "\ud800"])
def test_another_link_stands_for_nobody(table: Any, secret: str) -> None:
    save(table)

    assert approvers.find_link(table, secret=secret, now=NOW) is None


def test_the_link_itself_is_nowhere_in_the_table(table: Any) -> None:
    save(table)

    [item] = contents(table)
    assert SECRET not in str(item)
    assert item["pk"] == f"LINK#{sha256(SECRET.encode()).hexdigest()}"


def test_a_link_is_forgotten_only_long_after_it_expired(table: Any) -> None:
    save(table, expires_at=LATER)

    [item] = contents(table)
    assert item["forget_at"] == (LATER + timedelta(days=90)).timestamp()


@pytest.mark.parametrize(
    ("before", "is_revoked"),
    [
        ("2026-03-04T05:06:06Z", False),
        ("2026-03-04T05:06:07Z", False),
        ("2026-03-04T05:06:08Z", True),
        ("2026-03-05", True),
    ],
)
def test_links_that_were_made_before_a_time_can_be_revoked(
    table: Any, before: str, is_revoked: bool
) -> None:
    save(table, approver="Payments-Leads@Example.com")
    revoke(table, before=before)

    link = approvers.find_link(table, secret=SECRET, now=NOW)
    assert link
    assert (link.is_revoked, link.is_expired) == (is_revoked, False)


def test_to_revoke_the_links_of_one_approver_is_not_to_revoke_anothers(table: Any) -> None:
    save(table)
    revoke(table, before="2999", approver=DEPUTY)

    link = approvers.find_link(table, secret=SECRET, now=NOW)
    assert link
    assert not link.is_revoked


def test_writing_to_an_approver_does_not_bring_revoked_links_back(table: Any) -> None:
    save(table)
    revoke(table, before="2999")
    lock(table, "a")
    approvers.unlock_mails(table, approver=APPROVER, holder="a")

    link = approvers.find_link(table, secret=SECRET, now=NOW)
    assert link
    assert link.is_revoked


def test_somebody_who_was_never_asked_has_no_request(table: Any) -> None:
    case = a_waiting_case(table)

    assert approvers.find_request(table, approver=DEPUTY, case_id=case.id) is None
    assert approvers.find_request(table, approver=APPROVER, case_id="nothing") is None
    assert list(approvers.open_requests(table, approver=DEPUTY)) == []


@pytest.mark.parametrize("spelling", [APPROVER, APPROVER.upper()])
def test_a_request_is_found_however_its_approver_is_spelled(table: Any, spelling: str) -> None:
    case = a_waiting_case(table)

    assert approvers.find_request(table, approver=spelling, case_id=case.id) == Request(
        case.id, asked_at="2026-03-04T05:06:07Z"
    )
    assert list(approvers.open_requests(table, approver=spelling)) == [
        Request(case.id, asked_at="2026-03-04T05:06:07Z")
    ]


def test_of_the_mails_about_a_case_the_first_is_its_thread_and_the_last_its_number(
    table: Any,
) -> None:
    case = a_waiting_case(table)
    for number, thread in ((1, FIRST_MAIL), (3, NEXT_MAIL)):
        approvers.record_mailed(
            table,
            approver=APPROVER,
            case_id=case.id,
            request=number,
            reminder=number + 4,
            thread=thread,
        )

    request = approvers.find_request(table, approver=APPROVER, case_id=case.id)
    assert request == Request(
        case.id, mailed=3, reminded=7, asked_at="2026-03-04T05:06:07Z", thread=FIRST_MAIL
    )


def test_requests_come_in_the_order_of_the_accounts_and_without_those_that_ended(
    table: Any,
) -> None:
    ids = [a_waiting_case(table, id=f"{n:012}").id for n in (3, 1, 2)]
    end(table, ids[2])

    assert [each.case_id for each in approvers.open_requests(table, approver=APPROVER)] == [
        ids[1],
        ids[0],
    ]
    assert [each.case_id for each in approvers.ended_requests(table, approver=APPROVER)] == [ids[2]]


def test_the_approvers_own_item_is_no_request(table: Any) -> None:
    lock(table, "a")

    assert list(approvers.open_requests(table, approver=APPROVER)) == []
    assert list(approvers.ended_requests(table, approver=APPROVER)) == []


def test_requests_are_read_to_the_last_page(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [a_waiting_case(table, id=f"{n:012}").id for n in range(5)]
    end(table, ids[0])
    query = table.query
    pages = []

    def two_at_a_time(**request: Any) -> Any:
        assert request["ConsistentRead"] is True
        pages.append(request)
        return query(**request, Limit=2)

    monkeypatch.setattr(table, "query", two_at_a_time)

    assert [each.case_id for each in approvers.open_requests(table, approver=APPROVER)] == ids[1:]
    assert len(pages) == 3


def end(table: Any, case_id: str) -> None:
    end_case(table, case_id, cases.Outcome.RESOLVED, now=LATER, reason="gone")


def test_a_request_that_ended_is_not_open_again_when_a_mail_about_it_is_noted_late(
    table: Any,
) -> None:
    case = a_waiting_case(table)
    end(table, case.id)

    with_link(table, case, now=LATER)

    assert list(approvers.open_requests(table, approver=APPROVER)) == []


def test_somebody_who_is_asked_again_keeps_what_they_were_mailed(table: Any) -> None:
    case = with_link(table, asked(table, a_gathered_case(table)))
    before = approvers.find_request(table, approver=APPROVER, case_id=case.id)

    asked(table, case, APPROVER.upper())

    assert approvers.find_request(table, approver=APPROVER, case_id=case.id) == before


def test_one_at_a_time_mails_an_approver(table: Any) -> None:
    assert lock(table, "a")
    assert not lock(table, "b")
    assert not lock(table, "b", approver=APPROVER.upper())
    assert not lock(table, "a")
    assert lock(table, "b", approver=DEPUTY)


def test_whoever_is_done_lets_the_next_one_in(table: Any) -> None:
    lock(table, "a")
    approvers.unlock_mails(table, approver=APPROVER, holder="a")

    assert lock(table, "b")


def test_a_lock_whose_holder_died_is_free_after_its_time(table: Any) -> None:
    lock(table, "a")

    assert not lock(table, "b", now=NOW + timedelta(seconds=70))
    assert lock(table, "b", now=NOW + timedelta(seconds=71))
    assert not lock(table, "c", now=NOW + timedelta(seconds=72))


def test_a_holder_that_comes_back_too_late_does_not_open_the_lock_of_another(table: Any) -> None:
    lock(table, "a")
    lock(table, "b", now=LATER)

    approvers.unlock_mails(table, approver=APPROVER, holder="a")

    assert not lock(table, "c", now=LATER)


def test_unlocking_what_nobody_locked_changes_nothing(table: Any) -> None:
    approvers.unlock_mails(table, approver=APPROVER, holder="a")

    assert contents(table) == []


def test_another_failure_of_the_table_is_not_taken_for_a_lock(table: Any) -> None:
    table.delete()

    with pytest.raises(ClientError, match="ResourceNotFound"):
        lock(table, "a")
    with pytest.raises(ClientError, match="ResourceNotFound"):
        approvers.unlock_mails(table, approver=APPROVER, holder="a")


def test_an_address_that_bounced_counts_as_nobody_for_thirty_days(table: Any) -> None:
    def has_bounced(now: Any, approver: str = APPROVER) -> bool:
        return approvers.has_bounced(table, approver=approver, now=now)

    assert not has_bounced(NOW)
    approvers.record_bounce(table, approver=APPROVER.upper(), reason="550 no such user", now=NOW)

    assert has_bounced(NOW)
    assert has_bounced(NOW + timedelta(days=30) - SECOND)
    assert not has_bounced(NOW + timedelta(days=30))
    assert not has_bounced(NOW, DEPUTY)
    [item] = contents(table)
    assert item["bounce"] == "550 no such user"


def test_a_bounce_brings_no_revoked_link_back_and_opens_no_lock(table: Any) -> None:
    save(table)
    revoke(table, before="2999")
    lock(table, "a")

    approvers.record_bounce(table, approver=APPROVER, reason="r", now=NOW)

    link = approvers.find_link(table, secret=SECRET, now=NOW)
    assert link
    assert link.is_revoked
    assert not lock(table, "b")


def test_a_mail_that_is_sent_again_forgets_no_bounce(table: Any) -> None:
    approvers.record_bounce(table, approver=APPROVER, reason="r", now=NOW)

    lock(table, "a")
    approvers.unlock_mails(table, approver=APPROVER, holder="a")

    assert approvers.has_bounced(table, approver=APPROVER, now=NOW)
