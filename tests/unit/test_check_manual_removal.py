from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import check_manual_removal
import pytest
from botocore.exceptions import EndpointConnectionError

from rootsweep import cases
from rootsweep.accounts import Approver
from rootsweep.cases import Obstacle
from rootsweep.root_access import RootSummary

from .builders import APPROVER, NOW, a_waiting_case, an_error, contents

FUTURE, PAST = datetime(2999, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)
UNREADABLE = EndpointConnectionError(endpoint_url="https://iam.amazonaws.com")


def look(
    table: Any, monkeypatch: pytest.MonkeyPatch, answer: Any, *, deadline: datetime = FUTURE
) -> dict[str, Any]:
    case = a_waiting_case(table)
    cases.ask(
        table,
        case=case,
        approvers=[Approver(APPROVER, "the test")],
        now=NOW,
        deadline=deadline,
        obstacle=Obstacle.ROOT_SESSION_DENIED,
        reason="denied",
    )
    before = contents(table)

    def read(account_id: str) -> RootSummary:
        assert account_id == case.account_id
        if isinstance(answer, Exception):
            raise answer
        return RootSummary(answer, mfa=True, password=False, signing_certificates=False)

    monkeypatch.setattr(check_manual_removal.reader, "read", read)
    try:
        return check_manual_removal.handler({"case_id": case.id}, None)
    finally:
        assert contents(table) == before


@pytest.mark.parametrize("deadline", [FUTURE, PAST])
def test_keys_that_are_gone_are_removed_however_late(
    table: Any, monkeypatch: pytest.MonkeyPatch, deadline: datetime
) -> None:
    assert look(table, monkeypatch, False, deadline=deadline)["state"] == "REMOVED"


@pytest.mark.parametrize(("deadline", "state"), [(FUTURE, "STILL_THERE"), (PAST, "TOO_LATE")])
def test_keys_that_are_there_are_waited_for_until_the_deadline(
    table: Any, monkeypatch: pytest.MonkeyPatch, deadline: datetime, state: str
) -> None:
    assert look(table, monkeypatch, True, deadline=deadline) == {
        "state": state,
        "reason": "the keys are still there",
    }


@pytest.mark.parametrize(("deadline", "state"), [(FUTURE, "STILL_THERE"), (PAST, "TOO_LATE")])
@pytest.mark.parametrize("error", [an_error("AccessDenied", "AssumeRole"), UNREADABLE])
def test_an_account_that_cannot_be_read_counts_as_having_its_keys(
    table: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    deadline: datetime,
    state: str,
) -> None:
    found = look(table, monkeypatch, error, deadline=deadline)

    assert found["state"] == state
    assert found["reason"].startswith("the account could not be read: ")


def test_an_answer_that_does_not_say_is_never_taken_for_removed(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        state = look(table, monkeypatch, KeyError("AccountAccessKeysPresent"))["state"]
    except KeyError:
        return  # Step Functions tries again, and tells somebody in the end.
    assert state == "STILL_THERE"
