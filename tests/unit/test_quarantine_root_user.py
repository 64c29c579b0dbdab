from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import quarantine_root_user
from botocore.exceptions import ClientError

from rootsweep import cases, quarantine
from rootsweep.cases import Answer, Case, Outcome
from rootsweep.errors import CaseEndedError, QuarantineImpossibleError
from tests.service_control_policies import ServiceControlPolicies

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    NOW,
    SECOND,
    TWO_PEOPLE,
    a_decision,
    a_key,
    asked,
    contents,
    item_of,
)
from .quarantined import (
    NEXT_TOKEN,
    POLICY,
    TOKEN,
    TWO_WEEKS,
    UNTIL,
    closed,
    ended,
    lifted,
    now_in,
    quarantines,
    to_block,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def organizations(monkeypatch: pytest.MonkeyPatch) -> ServiceControlPolicies:
    policies = ServiceControlPolicies()
    monkeypatch.setattr(quarantine_root_user, "organizations", policies)
    return policies


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still."""

    def set_clock(now: datetime) -> None:
        stop_clock(quarantine_root_user, now)

    set_clock(NOW)
    return set_clock


def block(case: Case, token: str = TOKEN) -> None:
    assert quarantine_root_user.handler({"case_id": case.id, "task_token": token}, None) is None


def test_the_root_user_is_blocked_and_the_case_knows_until_when_and_what_ends_it(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = closed(table, to_block(table))
    assert not case.is_in_quarantine

    block(case)

    after = now_in(table, case)
    assert organizations.blocked(POLICY) == {ACCOUNT}
    assert quarantines(table) == {ACCOUNT: case.id}
    assert (after.quarantine_until, after.quarantine_token) == ("2026-03-18T05:06:07Z", TOKEN)
    assert after.is_in_quarantine
    assert (after.decision, after.approvals) == (case.decision, case.approvals)
    # What the stream that lifts it is filtered by.
    assert item_of(table, case)["quarantined_at"] == "2026-03-04T05:06:07Z"
    [item] = [item for item in contents(table) if item["pk"] == "QUARANTINE"]
    assert item["until"] == after.quarantine_until


@pytest.mark.parametrize("wanted", [("2d", "5d"), ("5d", "2d"), ("5d", ""), ("", "5d")])
def test_it_is_blocked_for_the_longest_time_that_anybody_wants(table: Any, wanted: Any) -> None:
    case = to_block(table, wanted=wanted, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    block(closed(table, case))

    assert now_in(table, case).quarantine_until == "2026-03-09T05:06:07Z"


@pytest.mark.parametrize("later", [timedelta(seconds=5), TWO_WEEKS - timedelta(seconds=1)])
def test_run_again_it_keeps_the_end_and_the_new_token(
    table: Any,
    organizations: ServiceControlPolicies,
    at: Callable[[datetime], None],
    later: timedelta,
) -> None:
    case = closed(table, to_block(table))
    block(case)
    before = item_of(table, case)
    at(NOW + later)

    block(case, NEXT_TOKEN)

    assert item_of(table, case) == {**before, "quarantine_token": NEXT_TOKEN}
    assert organizations.blocked(POLICY) == {ACCOUNT}
    assert organizations.calls.count("create_policy") == 1


def test_the_end_stays_when_the_time_is_over_to_the_second(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = closed(table, to_block(table))
    block(case)
    at(UNTIL + timedelta(hours=1))

    block(case, NEXT_TOKEN)

    assert now_in(table, case).quarantine_until == "2026-03-18T05:06:07Z"


def test_the_root_user_of_whom_aws_does_not_let_block_is_asked_about_again(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = closed(table, to_block(table))
    organizations.fails["attach_policy", ACCOUNT] = "ConstraintViolationException"

    with pytest.raises(QuarantineImpossibleError, match="ConstraintViolation"):
        block(case)

    after = now_in(table, case)
    assert "AWS says no" in after.quarantine_refused
    assert ACCOUNT in after.quarantine_refused
    assert (after.decision, after.approvals, after.decided) == (None, (), "")
    assert (after.quarantine_until, after.quarantine_token) == ("", "")
    assert "quarantined_at" not in item_of(table, case)
    assert quarantines(table) == {}


def test_a_refusal_whose_answer_was_lost_is_one_for_the_next_attempt_too(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = closed(table, to_block(table))
    organizations.fails["attach_policy", ACCOUNT] = "ConstraintViolationException"
    with pytest.raises(QuarantineImpossibleError):
        block(case)
    before = item_of(table, case)

    with pytest.raises(QuarantineImpossibleError, match="AWS says no"):
        block(case, NEXT_TOKEN)

    assert item_of(table, case) == before


@pytest.mark.parametrize("operation", ["list_policies", "create_policy", "attach_policy"])
def test_an_aws_that_is_too_busy_takes_no_decision_back(
    table: Any, organizations: ServiceControlPolicies, operation: str
) -> None:
    case = closed(table, to_block(table))
    organizations.fails[operation, ""] = "TooManyRequestsException"

    with pytest.raises(ClientError, match="TooManyRequests"):
        block(case)

    assert now_in(table, case) == case
    organizations.fails.clear()
    block(case, NEXT_TOKEN)
    assert now_in(table, case).quarantine_token == NEXT_TOKEN


def test_after_other_keys_were_found_the_time_begins_anew(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = closed(table, to_block(table))
    block(case)
    keys = [a_key(SECOND)]
    cases.record_evidence(table, case=now_in(table, case), keys=keys, quorum=TWO_PEOPLE, now=UNTIL)
    case = asked(table, now_in(table, case), APPROVER, DEPUTY, now=UNTIL)
    for approver in (APPROVER, DEPUTY):
        decision = a_decision(case, by=approver, quarantine="1d")
        cases.decide(table, case=case, decision=decision)
    at(UNTIL)

    block(closed(table, case), NEXT_TOKEN)

    assert now_in(table, case).quarantine_until == "2026-03-19T05:06:07Z"


def test_a_case_that_ends_this_very_moment_stays_blocked_only_until_the_next_sweep(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = closed(table, to_block(table))
    organizations.before["attach_policy"] = lambda: ended(table, case, Outcome.FAILED)

    with pytest.raises(CaseEndedError):
        block(case)

    assert quarantines(table) == {ACCOUNT: case.id}
    quarantine.lift_ended(organizations, table, policy_name=POLICY, is_in_use=True)
    assert organizations.blocked(POLICY) == set()


def test_the_root_user_of_a_case_that_has_ended_is_not_blocked(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = closed(table, to_block(table))
    ended(table, case, Outcome.FAILED)

    with pytest.raises(CaseEndedError):
        block(case)

    assert organizations.blocked(POLICY) == set()


def test_who_wants_to_keep_the_keys_during_a_second_attempt_is_heard(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = closed(table, to_block(table))
    block(case)
    organizations.before["attach_policy"] = lambda: lifted(table, now_in(table, case))

    block(case, NEXT_TOKEN)

    # The write of the new token goes through the stream, which ends this wait too.
    item = item_of(table, case)
    assert (item["lifted"], item["quarantine_token"]) == ("YES", NEXT_TOKEN)
    assert now_in(table, case).decision == a_decision(case, Answer.DECLINED)


def test_who_wanted_to_keep_the_keys_is_heard_though_aws_refuses_a_second_attempt(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    # Of the first attempt Step Functions heard nothing: it stored its token and timed out.
    case = closed(table, to_block(table))
    block(case)
    lifted(table, now_in(table, case))
    organizations.fails["list_policies", ""] = "AccessDeniedException"

    block(case, NEXT_TOKEN)

    # The stream hands the new token over, because the block is lifted.
    item = item_of(table, case)
    assert (item["lifted"], item["quarantine_token"]) == ("YES", NEXT_TOKEN)
    assert item["decision"]["answer"] == Answer.DECLINED


def test_a_case_that_nobody_knows_blocks_nobody(
    table: Any,  # noqa: ARG001
    organizations: ServiceControlPolicies,
) -> None:
    with pytest.raises(KeyError):
        quarantine_root_user.handler({"case_id": "no-case", "task_token": TOKEN}, None)

    assert organizations.calls == []
