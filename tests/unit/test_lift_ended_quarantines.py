from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import lift_ended_quarantines
import pytest
from botocore.exceptions import ClientError

from rootsweep import quarantine
from rootsweep.table import case_key
from tests.service_control_policies import SCP, ServiceControlPolicies

from .builders import ACCOUNT, an_error
from .quarantined import POLICY, UNTIL, blocked, ended, quarantines

if TYPE_CHECKING:
    from rootsweep.cases import Case

SWEEP = {"sweep_id": "a-sweep", "detect_only": False, "cases_opened": 3}
STREAM = {"Records": [{"eventName": "MODIFY", "dynamodb": {"NewImage": {"ended_at": {"S": "t"}}}}]}
OTHER = "333333333334"


@pytest.fixture
def organizations(monkeypatch: pytest.MonkeyPatch) -> ServiceControlPolicies:
    """The policies of a stack that uses the quarantine."""
    policies = ServiceControlPolicies()
    monkeypatch.setattr(lift_ended_quarantines, "organizations", policies)
    monkeypatch.setattr(lift_ended_quarantines, "IS_IN_USE", True)
    return policies


def lift(event: dict[str, Any] = SWEEP) -> None:
    lift_ended_quarantines.handler(event, None)


def in_quarantine(organizations: Any, table: Any, id: str = ACCOUNT) -> Case:
    case = blocked(table, id=id)
    quarantine.begin(organizations, table, case=case, policy_name=POLICY, until=UNTIL)
    return case


@pytest.mark.parametrize("event", [SWEEP, STREAM, {}])
def test_whoever_asks_ended_cases_have_no_block(
    table: Any, organizations: ServiceControlPolicies, event: dict[str, Any]
) -> None:
    ended(table, in_quarantine(organizations, table))
    going_on = in_quarantine(organizations, table, OTHER)

    lift(dict(event))

    assert organizations.blocked(POLICY) == {OTHER}
    assert quarantines(table) == {OTHER: going_on.id}


def test_the_block_of_a_case_that_the_table_has_forgotten_is_lifted(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    forgotten = ended(table, in_quarantine(organizations, table))
    table.delete_item(Key=case_key(forgotten.id))

    lift()

    assert organizations.blocked(POLICY) == set()
    assert quarantines(table) == {}


def test_it_is_logged_whose_block_was_lifted(
    table: Any, organizations: ServiceControlPolicies, caplog: pytest.LogCaptureFixture
) -> None:
    for id in (ACCOUNT, OTHER):
        ended(table, in_quarantine(organizations, table, id))

    with caplog.at_level(logging.INFO, logger="root"):
        lift()
        lift()

    [told] = [
        each.getMessage()
        for each in caplog.records
        if each.levelno == logging.INFO and each.getMessage() != "done"
    ]
    assert ACCOUNT in told
    assert OTHER in told


def test_the_policy_of_another_stack_is_left_alone(
    table: Any,  # noqa: ARG001
    organizations: ServiceControlPolicies,
) -> None:
    theirs = "rootsweep-test-quarantine"
    made = organizations.create_policy(Name=theirs, Description="", Type=SCP, Content="{}")
    id = made["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=id, TargetId=OTHER)

    lift()

    assert organizations.blocked(theirs) == {OTHER}


@pytest.mark.parametrize("name", ["_is_over", "_detach", "_forget"])
@pytest.mark.parametrize("bad", [ACCOUNT, OTHER])
def test_an_account_that_it_fails_about_keeps_no_other_blocked(
    table: Any,
    organizations: ServiceControlPolicies,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    bad: str,
) -> None:
    good = OTHER if bad == ACCOUNT else ACCOUNT
    for id in (ACCOUNT, OTHER):
        ended(table, in_quarantine(organizations, table, id))
    meant = getattr(quarantine, name)

    def fails_about_one(*given: Any) -> Any:
        if any(bad in str(each) for each in given[1:]):
            raise an_error("InternalServerError", "GetItem")
        return meant(*given)

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, name, fails_about_one)
        with pytest.raises(ClientError, match="InternalServerError"):
            lift()

    assert good not in organizations.blocked(POLICY)
    assert set(quarantines(table)) == {bad}
    lift()
    assert organizations.blocked(POLICY) == set()
    assert quarantines(table) == {}


@pytest.mark.parametrize("event", [SWEEP, STREAM])
def test_what_aws_refuses_is_raised_so_that_somebody_hears_of_it(
    table: Any, organizations: ServiceControlPolicies, event: dict[str, Any]
) -> None:
    ended(table, in_quarantine(organizations, table))
    organizations.fails["detach_policy", ACCOUNT] = "AccessDeniedException"

    with pytest.raises(ClientError, match="AccessDenied"):
        lift(event)

    assert set(quarantines(table)) == {ACCOUNT}


def test_a_stack_without_a_quarantine_does_not_speak_to_organizations(
    table: Any,  # noqa: ARG001
    organizations: ServiceControlPolicies,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lift_ended_quarantines, "IS_IN_USE", False)

    lift()

    assert organizations.calls == []


def test_an_empty_parameter_is_no_quarantine() -> None:
    assert lift_ended_quarantines.IS_IN_USE is False
