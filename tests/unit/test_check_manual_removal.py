from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import check_manual_removal
import pytest
from botocore.exceptions import EndpointConnectionError

from rootsweep import cases
from rootsweep.cases import Obstacle
from rootsweep.root_access import RootSummary

from .builders import A_WEEK, NOW, TWO_RUNGS, a_waiting_case, an_error, asked, contents

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

SECOND = timedelta(seconds=1)
# When the next mail is due in TWO_RUNGS, and when the week of A_WEEK ends.
REMINDER, END = NOW + timedelta(days=2), NOW + timedelta(days=7)
UNREADABLE = EndpointConnectionError(endpoint_url="https://iam.amazonaws.com")


class Account:
    """An account that people have to remove the keys of: what is read there, and when."""

    def __init__(self, table: Any, monkeypatch: pytest.MonkeyPatch, stop_clock: Any) -> None:
        self.table, self.stop_clock = table, stop_clock
        self.answer: Any = True
        monkeypatch.setattr(check_manual_removal.reader, "read", self.read)

    def read(self, account_id: str, *, opened_for: str) -> RootSummary:
        assert (account_id, opened_for) == (self.case.account_id, self.case.id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return RootSummary(self.answer, mfa=True, password=False, signing_certificates=False)

    def with_case(self, **given: Any) -> Account:
        case = a_waiting_case(self.table, **given)
        self.case = asked(self.table, case, obstacle=Obstacle.ROOT_SESSION_DENIED)
        return self

    def look(self, now: datetime = NOW) -> dict[str, Any]:
        self.stop_clock(check_manual_removal, now)
        before = contents(self.table)
        try:
            return check_manual_removal.handler({"case_id": self.case.id}, None)
        finally:
            assert contents(self.table) == before


@pytest.fixture
def account(
    table: Any,
    monkeypatch: pytest.MonkeyPatch,
    stop_clock: Callable[[Any, datetime], None],
) -> Account:
    return Account(table, monkeypatch, stop_clock)


@pytest.mark.parametrize("now", [NOW, REMINDER, END])
@pytest.mark.parametrize("ladder", [A_WEEK, TWO_RUNGS], ids=["one rung", "two rungs"])
def test_keys_that_are_gone_are_removed_however_late(
    account: Account, now: datetime, ladder: Any
) -> None:
    account.with_case(ladder=ladder).answer = False

    assert account.look(now) == {"state": "REMOVED", "reason": "the keys are gone"}


@pytest.mark.parametrize(
    ("now", "state"), [(NOW, "STILL_THERE"), (END - SECOND, "STILL_THERE"), (END, "TOO_LATE")]
)
def test_keys_that_are_there_are_waited_for_until_the_end_of_the_ladder(
    account: Account, now: datetime, state: str
) -> None:
    assert account.with_case().look(now) == {
        "state": state,
        "reason": "the keys are still there",
    }


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (REMINDER - SECOND, "STILL_THERE"),
        (REMINDER, "LOOK_AGAIN"),
        (END, "LOOK_AGAIN"),
        (END + timedelta(days=7) - SECOND, "LOOK_AGAIN"),
        (END + timedelta(days=7), "TOO_LATE"),
    ],
)
@pytest.mark.parametrize("answer", [True, UNREADABLE], ids=["there", "unreadable"])
def test_when_the_next_mail_is_due_the_case_looks_again(
    account: Account, now: datetime, state: str, answer: Any
) -> None:
    account.with_case(ladder=TWO_RUNGS).answer = answer

    assert account.look(now)["state"] == state


def test_a_woken_case_looks_again_before_its_next_mail_is_due(account: Account) -> None:
    account.with_case()
    assert cases.wake(account.table, case_id=account.case.id)

    assert account.look()["state"] == "LOOK_AGAIN"
    assert account.look(END)["state"] == "TOO_LATE"


@pytest.mark.parametrize("now", [NOW, END])
def test_of_an_account_that_is_gone_nothing_is_read(account: Account, now: datetime) -> None:
    account.with_case().answer = AssertionError("this account cannot be read")
    gone = "the account has left the organization"
    assert cases.wake(account.table, case_id=account.case.id, account_gone=gone)

    assert account.look(now) == {"state": "ACCOUNT_GONE", "reason": gone}


@pytest.mark.parametrize(("now", "state"), [(NOW, "STILL_THERE"), (END, "TOO_LATE")])
@pytest.mark.parametrize("error", [an_error("AccessDenied", "AssumeRole"), UNREADABLE])
def test_an_account_that_cannot_be_read_counts_as_having_its_keys(
    account: Account, error: Exception, now: datetime, state: str
) -> None:
    account.with_case().answer = error

    found = account.look(now)

    assert found["state"] == state
    assert found["reason"].startswith("the account could not be read: ")


def test_an_answer_that_does_not_say_is_never_taken_for_removed(account: Account) -> None:
    account.with_case().answer = KeyError("AccountAccessKeysPresent")

    assert account.look()["state"] == "STILL_THERE"
