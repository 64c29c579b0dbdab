from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import warn_exception_owners

from rootsweep import exceptions
from rootsweep.exceptions import AccountException
from rootsweep.sweeps import SweepFiles
from rootsweep.table import exception_key

from .builders import APPROVER, DEPUTY, HOSTILE, NOW, UNITS, an_account, an_error, contents
from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

IDS = ["333333333331", "333333333332", "333333333333"]
EVENT = {"sweep_id": "a-sweep", "detect_only": False, "parts": 1, "cases_opened": 3}


@pytest.fixture(autouse=True)
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox = Mailbox()
    monkeypatch.setattr(warn_exception_owners, "ses", mailbox)
    return mailbox


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still."""

    def set_clock(now: datetime) -> None:
        stop_clock(warn_exception_owners, now)

    set_clock(NOW)
    return set_clock


@pytest.fixture
def files(s3: Any) -> SweepFiles:
    """A sweep that found three accounts with keys under an exception."""
    files = SweepFiles(s3, bucket="reports", sweep_id="a-sweep")
    files.write_units(UNITS)
    files.write_accounts(0, [an_account(id, name=f"payments-{id[-1]}") for id in IDS])
    files.write_cases({id: {"state": "EXCEPTED"} for id in IDS})
    return files


def keep(table: Any, id: str, *, days: int = 7, owner: str = APPROVER, **fields: str) -> None:
    """An exception of this account that ends in so many days."""
    given = {"reason": "migrating", "keys": (), "case_id": f"case-of-{id}", **fields}
    until = f"{NOW + timedelta(days=days):%Y-%m-%d}"
    exception = AccountException(account_id=id, owner=owner, until=until, **given)
    table.put_item(Item={**exception_key(id), **exception.to_item()})


def warned_at(table: Any, id: str) -> str:
    exception = exceptions.find(table, account_id=id)
    assert exception
    return exception.warned_at


def run(**fields: Any) -> dict[str, Any]:
    return warn_exception_owners.handler({**EVENT, **fields}, None)


@pytest.mark.usefixtures("files")
def test_an_owner_hears_once_in_one_mail_what_ends_within_a_week(
    table: Any, mailbox: Mailbox
) -> None:
    keep(table, IDS[0], days=7)
    keep(table, IDS[1], days=0)
    keep(table, IDS[2], days=8)

    assert run() == {"warned": 2}
    assert run() == {"warned": 0}

    assert mailbox.recipients == [APPROVER]
    assert mailbox.sent[0]["FromEmailAddress"] == "rootsweep@mail.example.com"
    assert mailbox.sent[0]["ConfigurationSetName"] == "rootsweep-mails"
    for body in (mailbox.text(0), mailbox.html(0)):
        assert [id for id in IDS if id in body] == IDS[:2]
        assert "payments-1" in body
        # What ends first comes first.
        assert body.index(IDS[1]) < body.index(IDS[0])
    assert [warned_at(table, id) for id in IDS] == [
        "2026-03-04T05:06:07Z",
        "2026-03-04T05:06:07Z",
        "",
    ]


@pytest.mark.usefixtures("files")
def test_each_exception_is_told_when_its_time_has_come(
    table: Any, mailbox: Mailbox, at: Callable[[datetime], None]
) -> None:
    keep(table, IDS[0], days=7)
    keep(table, IDS[1], days=8)
    run()
    at(NOW + timedelta(days=1))

    assert run()["warned"] == 1
    assert [id for id in IDS if id in mailbox.text(1)] == [IDS[1]]


@pytest.mark.usefixtures("files")
def test_each_owner_hears_of_their_own_only(table: Any, mailbox: Mailbox) -> None:
    keep(table, IDS[0])
    keep(table, IDS[1], owner=DEPUTY)

    assert run()["warned"] == 2

    assert mailbox.recipients == [APPROVER, DEPUTY]
    assert IDS[1] not in mailbox.text(0) + mailbox.html(0)
    assert IDS[0] not in mailbox.text(1) + mailbox.html(1)


@pytest.mark.usefixtures("files")
def test_detecting_tells_nobody(table: Any, mailbox: Mailbox) -> None:
    keep(table, IDS[0])
    before = contents(table)

    assert run(detect_only=True) == {"warned": 0}

    assert mailbox.sent == []
    assert contents(table) == before


@pytest.mark.parametrize("state", ["ROOT_KEYS", "UNKNOWN"])
def test_of_keys_that_no_exception_covers_now_nobody_is_told(
    table: Any, files: SweepFiles, mailbox: Mailbox, state: str
) -> None:
    keep(table, IDS[0])
    files.write_cases({IDS[0]: {"state": state}})

    assert run()["warned"] == 0
    assert mailbox.sent == []


@pytest.mark.usefixtures("table", "files")
def test_a_class_of_accounts_that_is_excepted_has_no_owner_to_tell(mailbox: Mailbox) -> None:
    assert run()["warned"] == 0
    assert mailbox.sent == []


@pytest.mark.usefixtures("files")
def test_an_account_that_left_the_sweeps_list_is_named_by_its_id(
    table: Any, files: SweepFiles, mailbox: Mailbox
) -> None:
    files.write_accounts(0, [])
    keep(table, IDS[0])

    assert run()["warned"] == 1
    assert IDS[0] in mailbox.text(0)


@pytest.mark.usefixtures("files")
def test_a_mail_that_cannot_be_sent_costs_nobody_else_theirs_and_is_tried_again(
    table: Any, mailbox: Mailbox
) -> None:
    keep(table, IDS[0], owner="refused@example.com")
    keep(table, IDS[1])
    refusal = an_error("MessageRejected", "SendEmail")

    def refuse_the_first() -> None:
        mailbox.fails_with, errors[:] = (errors or [None])[0], []

    errors: list[Any] = [refusal]
    mailbox.before_sending = refuse_the_first

    output = run()
    assert output["warned"] == 1
    assert output["not_warned"].startswith("refused@example.com: SendEmail: MessageRejected")
    assert mailbox.recipients == [APPROVER]
    assert [warned_at(table, id) for id in IDS[:2]] == ["", "2026-03-04T05:06:07Z"]
    assert run() == {"warned": 1}
    assert mailbox.recipients == [APPROVER, "refused@example.com"]


@pytest.mark.usefixtures("files")
def test_an_exception_that_is_replaced_this_very_moment_costs_the_others_no_second_mail(
    table: Any, mailbox: Mailbox
) -> None:
    keep(table, IDS[0])
    keep(table, IDS[1])
    mailbox.before_sending = lambda: keep(table, IDS[0], days=60, case_id="a-newer-case")

    run()
    mailbox.before_sending = lambda: None
    run()

    assert len(mailbox.sent) == 1
    assert warned_at(table, IDS[0]) == ""


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_hostile_name_reason_or_ticket_makes_no_header_and_no_markup(
    table: Any, files: SweepFiles, mailbox: Mailbox, text: str
) -> None:
    files.write_accounts(0, [an_account(IDS[0], name=text)])
    keep(table, IDS[0], reason=text, ticket=text[:100])

    run()

    assert mailbox.recipients == [APPROVER]
    assert mailbox.subject(0).isprintable()
    assert "<script" not in mailbox.html(0)
    assert "<img" not in mailbox.html(0)
    assert all(line.isprintable() for line in mailbox.text(0).splitlines())
