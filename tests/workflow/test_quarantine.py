"""A case whose approver wants the root user blocked first, from its opening to its outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rootsweep import cases, exceptions, quarantine
from rootsweep.cases import Outcome
from tests.service_control_policies import ServiceControlPolicies

from .world import ACCOUNT, FIRST, OWNER, SECOND, World, patience

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeWorld = Callable[..., World]

POLICY = "rootsweep-quarantine"


@pytest.fixture
def organizations(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> ServiceControlPolicies:
    """The policies of a stack that uses the quarantine."""
    policies = ServiceControlPolicies()
    monkeypatch.setattr(modules["quarantine_root_user"], "organizations", policies)
    return policies


@pytest.fixture
def lasts(modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets how long approvers can have the root user blocked."""

    def set_time(time: str) -> None:
        monkeypatch.setattr(modules["approval_page"], "QUARANTINE", time)

    return set_time


def block_first(here: World, mail: str) -> None:
    here.answer(mail, decision="quarantine", account_id=ACCOUNT)


def decline(here: World, mail: str, **form: str) -> None:
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    here.answer(mail, decision="decline", reason="the payroll stopped", until=until, **form)


def is_blocked(here: World) -> None:
    """Return when the root user is blocked and the case waits."""
    with patience("the block") as waiting:
        while waiting():
            case = here.case
            assert not case.ended_at, f"{case.outcome}, {case.reason}"
            if case.is_in_quarantine:
                return


def lift(here: World, organizations: Any) -> list[str]:
    """What the stream and each sweep do."""
    return quarantine.lift_ended(organizations, here.table, policy_name=POLICY, is_in_use=True)


def test_the_root_user_is_blocked_for_a_while_then_its_keys_are_deleted(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("5s")
    here = world()

    here.start()
    block_first(here, here.mail(1))
    is_blocked(here)
    here.deliver()  # The stream does, for the token came to a decided case; it ends nothing.
    assert organizations.blocked(POLICY) == {ACCOUNT}
    assert here.root.attempts == []
    assert lift(here, organizations) == []

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]
    assert here.case.deletion_started_at >= here.case.quarantine_until
    assert states.index("Quarantine root user") < states.index("Delete root keys")
    assert states.count("Delete root keys") == 1
    assert states.count("Request approval") == 1
    assert here.alerts == []
    assert len(here.mailbox.texts) == 1
    assert "quarantine_token" not in here.item
    assert lift(here, organizations) == [ACCOUNT]
    assert organizations.policies == {}


def test_an_approver_who_wants_to_keep_the_keys_after_all_ends_the_block(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("1h")
    here = world()

    here.start()
    mail = here.mail(1)
    block_first(here, mail)
    is_blocked(here)
    decline(here, mail)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.DECLINED)
    assert "Delete root keys" not in states
    assert states.count("Quarantine root user") == 1
    assert states[-1] == "Record exception"
    assert here.root.attempts == []
    assert here.root.keys == {FIRST: "Active"}
    exception = exceptions.find(here.table, account_id=ACCOUNT)
    assert exception
    assert (exception.owner, exception.reason) == (OWNER, "the payroll stopped")
    assert lift(here, organizations) == [ACCOUNT]
    assert organizations.policies == {}


def test_where_the_root_user_cannot_be_blocked_people_are_asked_again(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("1h")
    organizations.fails["attach_policy", ACCOUNT] = "ConstraintViolationException"
    here = world()

    here.start()
    first = here.mail(1)
    block_first(here, first)
    second = here.mail(2)
    assert "The root user could not be blocked first" not in first
    assert "The root user could not be blocked first" in second
    assert "ConstraintViolation" in second
    assert here.root.attempts == []
    assert here.case.decision is None
    here.approve(second)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]
    assert states.count("Quarantine root user") == 1
    assert states.count("Request approval") == 2
    assert here.alerts == []
    assert lift(here, organizations) == []


def test_after_an_impossible_block_silence_deletes_nothing(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("1h")
    organizations.fails["list_policies", ""] = "AccessDeniedException"
    here = world('[{"after": "4s", "notify": ["approvers"]}]')

    here.start()
    block_first(here, here.mail(1))

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert here.root.attempts == []


def test_keys_that_changed_while_it_was_blocked_are_asked_about_again(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("3s")
    here = world()

    here.start()
    block_first(here, here.mail(1))
    is_blocked(here)
    here.root.keys[SECOND] = "Active"
    second = here.mail(2)
    assert here.root.attempts == []
    assert SECOND in second
    # Nobody chose a block that lasts until they decide again.
    assert lift(here, organizations) == [ACCOUNT]
    assert organizations.blocked(POLICY) == set()
    here.approve(second)

    _, states = here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert here.root.deleted == [FIRST, SECOND]
    assert states.count("Request approval") == 2
    assert lift(here, organizations) == []


def test_an_organizations_that_is_too_busy_for_a_moment_blocks_later(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("4s")
    organizations.fails["attach_policy", ACCOUNT] = "TooManyRequestsException"
    # The next attempt reads the policies again, and by then it is over.
    organizations.before["create_policy"] = lambda: organizations.before.update(
        list_policies=organizations.fails.clear
    )
    here = world()

    here.start()
    block_first(here, here.mail(1))
    is_blocked(here)
    assert organizations.blocked(POLICY) == {ACCOUNT}

    _, states = here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert len(here.mailbox.texts) == 1
    assert cases.find_open_case(here.table, account_id=ACCOUNT) is None
    assert states.count("Request approval") == 1


def test_a_block_that_fails_for_good_for_another_reason_is_a_failed_case_and_is_lifted(
    world: MakeWorld, organizations: ServiceControlPolicies, lasts: Callable[[str], None]
) -> None:
    lasts("1h")
    organizations.fails["attach_policy", ACCOUNT] = "ServiceException"
    here = world()

    here.start()
    block_first(here, here.mail(1))

    here.end()
    assert here.case.outcome == Outcome.FAILED
    assert "ServiceException" in here.case.reason
    assert here.root.attempts == []
    assert len(here.alerts) == 1
    assert lift(here, organizations) == [ACCOUNT]
    assert organizations.policies == {}
