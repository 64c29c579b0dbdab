from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import gather_evidence
import pytest

from rootsweep import cases, root_access
from rootsweep.cases import Outcome
from rootsweep.errors import CaseEndedError, RootSessionDeniedError
from rootsweep.exceptions import AccountException
from rootsweep.table import exception_key

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    FIRST,
    SECOND,
    TWO_PEOPLE,
    a_decided_case,
    a_key,
    contents,
    end_case,
    open_a_case,
)
from .root_sessions import RootUser

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

    from rootsweep.root_access import RootKey


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> RootUser:
    user = RootUser(ACCOUNT)
    user.keys = [a_key(SECOND, "Inactive"), a_key(FIRST)]
    monkeypatch.setattr(root_access, "audit_session", user.audit_session)
    monkeypatch.setattr(root_access, "delete_session", user.no_session)
    return user


def gather(case: cases.Case) -> dict[str, Any]:
    return gather_evidence.handler({"case_id": case.id}, None)


def test_the_keys_become_the_evidence_of_the_case(table: Any, root: RootUser) -> None:
    case = open_a_case(table)

    assert gather(case) == {"access_key_ids": [FIRST, SECOND]}

    found = cases.load(table, case_id=case.id)
    assert found.keys == (a_key(FIRST), a_key(SECOND, "Inactive"))
    assert (found.quorum, found.quorum_reason, found.request_number) == (1, "", 1)
    assert root.calls == ["audit"]


def test_no_keys_are_evidence_too(table: Any, root: RootUser) -> None:
    root.keys = []

    assert gather(open_a_case(table)) == {"access_key_ids": []}


def test_gathering_the_same_again_keeps_the_decision(table: Any, root: RootUser) -> None:
    case = a_decided_case(table, keys=root.keys)

    gather(case)

    assert cases.load(table, case_id=case.id).decision == case.decision


def test_gathering_other_keys_takes_the_approval_back(table: Any, root: RootUser) -> None:  # noqa: ARG001
    case = a_decided_case(table, keys=[a_key(FIRST)])

    gather(case)

    assert cases.load(table, case_id=case.id).decision is None


def test_keys_that_may_stay_by_an_exception_are_nobodys_question(
    table: Any, root: RootUser
) -> None:
    case = open_a_case(table)
    until = f"{datetime.now(UTC):%Y-%m-%d}"
    exception = AccountException(ACCOUNT, DEPUTY, "migrating", until, (a_key(FIRST),), "c")
    table.put_item(Item={**exception_key(ACCOUNT), **exception.to_item()})

    assert "reason" not in gather(case)
    root.keys = [a_key(FIRST)]
    assert gather(case) == {
        "access_key_ids": [FIRST],
        "reason": f"what is left may stay until {until}, by a decision of {DEPUTY}",
    }


def test_an_exception_that_is_over_spares_nobody_the_question(table: Any, root: RootUser) -> None:
    root.keys = [a_key(FIRST)]
    until = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    exception = AccountException(ACCOUNT, DEPUTY, "migrating", until, (a_key(FIRST),), "c")
    table.put_item(Item={**exception_key(ACCOUNT), **exception.to_item()})

    assert gather(open_a_case(table)) == {"access_key_ids": [FIRST]}


def used(ago: timedelta, id: str = FIRST) -> RootKey:
    at = datetime.now(UTC).replace(microsecond=0) - ago
    return a_key(
        id, last_used_at=at.isoformat(), last_used_service="s3", last_used_region="eu-west-1"
    )


@pytest.mark.parametrize(("days", "people"), [(0, 2), (89, 2), (91, 1)])
def test_a_key_that_was_used_lately_needs_two_people(
    table: Any, root: RootUser, days: int, people: int
) -> None:
    root.keys = [used(timedelta(days=days)), a_key(SECOND)]
    case = open_a_case(table)

    gather(case)

    found = cases.load(table, case_id=case.id)
    assert found.keys == tuple(root.keys)
    assert found.quorum == people
    assert found.quorum_reason == ("a key was used in the last 90 days" if people == 2 else "")


@pytest.mark.parametrize("unit", ["ou-ab12-payments", "ou-ab12-critical"])
@pytest.mark.usefixtures("root")
def test_an_account_below_a_listed_unit_needs_two_people(table: Any, unit: str) -> None:
    case = open_a_case(table, parents=("r-ab12", unit, "ou-ab12-prodprod"))

    gather(case)

    found = cases.load(table, case_id=case.id)
    assert found.quorum == 2
    assert found.quorum_reason == "accounts in this organizational unit need two approvers"


def test_a_key_that_was_used_since_takes_the_approval_of_one_back(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=[a_key(FIRST)])
    root.keys = [used(timedelta(days=1))]

    gather(case)

    found = cases.load(table, case_id=case.id)
    assert (found.decision, found.approvals, found.quorum) == (None, (), 2)
    assert found.request_number == 2


def test_a_key_that_was_used_since_keeps_the_approval_of_two(table: Any, root: RootUser) -> None:
    case = a_decided_case(
        table, keys=[a_key(FIRST)], approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE
    )
    root.keys = [used(timedelta(days=1))]

    gather(case)

    assert cases.load(table, case_id=case.id) == replace(case, keys=tuple(root.keys))


def test_evidence_of_an_ended_case_is_left_alone(table: Any, root: RootUser) -> None:  # noqa: ARG001
    case = open_a_case(table)
    end_case(table, case.id, Outcome.FAILED)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        gather(case)

    assert contents(table) == before


def test_a_refused_session_has_a_name_of_its_own(
    table: Any, stub: Callable[[Any], Stubber]
) -> None:
    case = open_a_case(table)
    before = contents(table)
    stub(gather_evidence.sts).add_client_error("assume_root", "AccessDenied")

    with pytest.raises(RootSessionDeniedError):
        gather(case)

    assert contents(table) == before
