from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import quarantine_root_user
from botocore.exceptions import ClientError

from rootsweep import cases, quarantine
from rootsweep.cases import Case, Outcome
from rootsweep.errors import QuarantineImpossibleError
from tests.service_control_policies import SCP, ServiceControlPolicies

from .builders import ACCOUNT, NOW, a_decided_case, contents
from .quarantined import POLICY, UNTIL, blocked, ended, quarantines, to_block

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

OTHER, THIRD_ACCOUNT = "333333333334", "333333333335"
# IAM User Guide, "AWS global condition context keys", aws:AssumedRoot.
AS_AWS_WRITES_IT = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {
                "ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::*:root"]},
                "Null": {"aws:AssumedRoot": "true"},
            },
        }
    ],
}
FOR_GOOD = [
    ("list_policies", "AccessDeniedException"),
    ("create_policy", "AccessDeniedException"),
    ("create_policy", "ConstraintViolationException"),
    ("attach_policy", "AccessDeniedException"),
    ("attach_policy", "ConstraintViolationException"),
    ("attach_policy", "PolicyTypeNotEnabledException"),
    ("attach_policy", "TargetNotFoundException"),
]
FOR_A_MOMENT = [
    ("list_policies", "TooManyRequestsException"),
    ("list_policies", "ServiceException"),
    ("create_policy", "ConcurrentModificationException"),
    ("create_policy", "DuplicatePolicyException"),
    ("attach_policy", "TooManyRequestsException"),
    ("attach_policy", "PolicyChangesInProgressException"),
    ("attach_policy", "PolicyNotFoundException"),
]


@pytest.fixture
def organizations() -> ServiceControlPolicies:
    """An organization with policies that are not ours, and a name that is nearly ours."""
    policies = ServiceControlPolicies()
    for name in ("FullAWSAccess", "no-root", f"{POLICY}-2", POLICY.title(), "deny-regions"):
        made = policies.create_policy(Name=name, Description="", Type=SCP, Content="{}")
        id = made["Policy"]["PolicySummary"]["Id"]
        policies.attach_policy(PolicyId=id, TargetId=OTHER if name == "no-root" else "r-ab12")
    policies.calls.clear()
    return policies


def begin(organizations: Any, table: Any, case: Case) -> None:
    quarantine.begin(organizations, table, case=case, policy_name=POLICY, until=UNTIL)


def lift(organizations: Any, table: Any, *, is_in_use: bool = True) -> list[str]:
    return quarantine.lift_ended(organizations, table, policy_name=POLICY, is_in_use=is_in_use)


def in_quarantine(organizations: Any, table: Any, id: str = ACCOUNT, **given: Any) -> Case:
    """A case whose account is blocked."""
    case = blocked(table, id=id, **given)
    begin(organizations, table, case)
    return case


# -- the block ------------------------------------------------------------------------------------


def test_an_account_is_in_the_table_before_anything_is_asked_of_aws(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = to_block(table)
    seen = []
    for operation in ("list_policies", "create_policy", "attach_policy"):
        organizations.before[operation] = lambda: seen.append(quarantines(table))

    begin(organizations, table, case)

    assert seen == [{ACCOUNT: case.id}] * 3
    assert organizations.blocked() == {ACCOUNT}


def test_the_item_says_which_account_for_which_case_until_when(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = to_block(table)

    begin(organizations, table, case)

    [item] = [item for item in contents(table) if item["pk"] == "QUARANTINE"]
    assert item == {
        "pk": "QUARANTINE",
        "sk": ACCOUNT,
        "schema": 1,
        "account_id": ACCOUNT,
        "case_id": case.id,
        "until": "2026-03-18T05:06:07Z",
    }


def test_the_policy_is_the_one_of_aws_that_spares_root_sessions_in_whatever_partition(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    begin(organizations, table, to_block(table))

    [id] = organizations.named(POLICY)
    content = organizations.policies[id]["Content"]
    assert json.loads(content.replace('"arn:*:', '"arn:aws:')) == AS_AWS_WRITES_IT
    assert json.loads(content)["Statement"][0]["Condition"]["Null"] == {"aws:AssumedRoot": "true"}
    assert len(content) <= 5120
    assert len(organizations.policies[id]["Description"]) <= 512


def test_there_is_one_policy_for_all_accounts(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    for id in (ACCOUNT, OTHER, THIRD_ACCOUNT):
        begin(organizations, table, to_block(table, id=id))

    assert len(organizations.named(POLICY)) == 1
    assert organizations.calls.count("create_policy") == 1
    assert organizations.blocked() == {ACCOUNT, OTHER, THIRD_ACCOUNT}


def test_a_policy_that_is_there_is_found_on_the_last_page_and_by_its_whole_name(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    organizations.create_policy(Name=POLICY, Description="", Type=SCP, Content="{}")
    organizations.calls.clear()
    before = {name: organizations.blocked(name) for name in (f"{POLICY}-2", POLICY.title())}

    begin(organizations, table, to_block(table))

    assert organizations.calls == [*["list_policies"] * 3, f"attach_policy {ACCOUNT}"]
    assert organizations.blocked() == {ACCOUNT}
    assert {name: organizations.blocked(name) for name in before} == before


def test_to_block_again_changes_nothing(table: Any, organizations: ServiceControlPolicies) -> None:
    case = to_block(table)
    begin(organizations, table, case)
    before = contents(table)

    begin(organizations, table, case)

    assert contents(table) == before
    assert organizations.blocked() == {ACCOUNT}
    assert organizations.calls.count("create_policy") == 1


def test_aws_is_asked_with_parameters_that_it_knows(
    table: Any, stub: Callable[[Any], Stubber]
) -> None:
    case = to_block(table)
    stubbed = stub(quarantine_root_user.organizations)
    policies: Any = {"Policies": [{"Id": "p-examplepolicy1", "Name": "FullAWSAccess"}]}
    more = {**policies, "NextToken": "next"}
    stubbed.add_response("list_policies", more, {"Filter": SCP})
    stubbed.add_response("list_policies", policies, {"Filter": SCP, "NextToken": "next"})
    summary = {"PolicySummary": {"Id": "p-examplepolicy2"}}
    stubbed.add_response("create_policy", {"Policy": summary})
    stubbed.add_response(
        "attach_policy", {}, {"PolicyId": "p-examplepolicy2", "TargetId": case.account_id}
    )

    begin(quarantine_root_user.organizations, table, case)


@pytest.mark.parametrize(("operation", "code"), FOR_GOOD)
def test_what_aws_refuses_for_good_is_impossible_and_nobody_is_in_quarantine(
    table: Any, organizations: ServiceControlPolicies, operation: str, code: str
) -> None:
    case = to_block(table)
    organizations.fails[operation, ""] = code

    with pytest.raises(
        QuarantineImpossibleError, match=f"account {ACCOUNT}: .*AWS says no"
    ) as told:
        begin(organizations, table, case)

    assert code in str(told.value)
    assert quarantines(table) == {}
    assert organizations.blocked() == set()


def test_an_account_with_as_many_policies_as_it_can_have_cannot_be_blocked(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    for id in organizations.policies:
        organizations.attached[id].add(ACCOUNT)

    with pytest.raises(QuarantineImpossibleError, match="ConstraintViolation"):
        begin(organizations, table, to_block(table))

    assert quarantines(table) == {}
    assert lift(organizations, table) == []
    assert organizations.named(POLICY) == [], "nobody needs it"


def test_one_account_that_cannot_be_blocked_leaves_the_others_blocked(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    other = in_quarantine(organizations, table, OTHER)
    organizations.fails["attach_policy", ACCOUNT] = "ConstraintViolationException"

    with pytest.raises(QuarantineImpossibleError):
        begin(organizations, table, to_block(table))

    assert quarantines(table) == {OTHER: other.id}
    assert organizations.blocked() == {OTHER}


@pytest.mark.parametrize(("operation", "code"), FOR_A_MOMENT)
def test_what_aws_refuses_for_a_moment_is_raised_and_works_the_next_time(
    table: Any, organizations: ServiceControlPolicies, operation: str, code: str
) -> None:
    case = to_block(table)
    organizations.fails[operation, ""] = code

    with pytest.raises(ClientError, match=code):
        begin(organizations, table, case)
    assert quarantines(table) == {ACCOUNT: case.id}, "it may be attached all the same"
    organizations.fails.clear()
    begin(organizations, table, case)

    assert quarantines(table) == {ACCOUNT: case.id}
    assert organizations.blocked() == {ACCOUNT}


def test_a_policy_that_was_deleted_this_very_moment_is_made_anew(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    last = in_quarantine(organizations, table, OTHER)
    ended(table, last)
    case = to_block(table)
    organizations.before["attach_policy"] = lambda: lift(organizations, table)

    with pytest.raises(ClientError, match="PolicyNotFound"):
        begin(organizations, table, case)
    begin(organizations, table, case)

    assert organizations.blocked() == {ACCOUNT}


@pytest.mark.parametrize(("operation", "code"), [FOR_GOOD[0], FOR_GOOD[3]])
def test_a_root_user_that_is_blocked_stays_known_when_aws_refuses_the_next_attempt(
    table: Any, organizations: ServiceControlPolicies, operation: str, code: str
) -> None:
    # As at the end of the time, when somebody has emptied the parameter Quarantine meanwhile.
    case = in_quarantine(organizations, table)
    organizations.fails[operation, ""] = code

    with contextlib.suppress(QuarantineImpossibleError):
        begin(organizations, table, case)
    organizations.fails.clear()

    assert organizations.blocked() == {ACCOUNT}
    assert quarantines(table) == {ACCOUNT: case.id}
    ended(table, case)
    lift(organizations, table, is_in_use=False)
    assert organizations.blocked() == set()


# -- the end of the block -------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["list_targets_for_policy", "detach_policy", "delete_policy"])
def test_of_two_that_lift_at_the_same_moment_none_fails(
    table: Any, organizations: ServiceControlPolicies, operation: str
) -> None:
    ended(table, in_quarantine(organizations, table))
    organizations.before[operation] = lambda: lift(organizations, table)

    lift(organizations, table)

    assert organizations.blocked() == set()
    assert quarantines(table) == {}
    assert organizations.named(POLICY) == []


@pytest.mark.parametrize("outcome", [o for o in Outcome if not o.startswith("AWAITING")])
def test_however_a_case_ends_the_block_ends_and_the_policy_goes_with_the_last(
    table: Any, organizations: ServiceControlPolicies, outcome: Outcome
) -> None:
    ended(table, in_quarantine(organizations, table), outcome)

    assert lift(organizations, table) == [ACCOUNT]

    assert organizations.blocked() == set()
    assert quarantines(table) == {}
    assert organizations.named(POLICY) == []


def test_a_case_that_goes_on_keeps_its_block_and_the_policy(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    over = in_quarantine(organizations, table)
    going_on = in_quarantine(organizations, table, OTHER, until=NOW - timedelta(days=1))
    ended(table, over)

    assert lift(organizations, table) == [ACCOUNT]

    assert organizations.blocked() == {OTHER}
    assert quarantines(table) == {OTHER: going_on.id}
    assert len(organizations.named(POLICY)) == 1
    assert "delete_policy" not in organizations.calls


def test_whose_keys_are_asked_about_again_is_blocked_no_more(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = in_quarantine(organizations, table)
    cases.refuse_quarantine(table, case=case, reason="r")

    assert lift(organizations, table) == [ACCOUNT]

    assert organizations.blocked() == set()


def test_many_are_lifted_at_once(table: Any, organizations: ServiceControlPolicies) -> None:
    ids = [f"44444444444{n}" for n in range(5)]
    for id in ids:
        ended(table, in_quarantine(organizations, table, id))

    assert sorted(lift(organizations, table)) == ids

    assert organizations.blocked() == set()
    assert quarantines(table) == {}


@pytest.mark.parametrize("target", [THIRD_ACCOUNT, "ou-ab12-payments", "r-ab12"])
def test_what_nobody_knows_to_be_in_quarantine_is_lifted_too(
    table: Any, organizations: ServiceControlPolicies, target: str
) -> None:
    case = in_quarantine(organizations, table)
    [id] = organizations.named(POLICY)
    organizations.attached[id].add(target)

    assert lift(organizations, table) == []

    assert organizations.blocked() == {ACCOUNT}
    assert quarantines(table) == {ACCOUNT: case.id}


def test_a_policy_without_any_quarantine_is_deleted(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    organizations.create_policy(Name=POLICY, Description="", Type=SCP, Content="{}")

    assert lift(organizations, table) == []

    assert organizations.named(POLICY) == []


def test_policies_of_others_stay_as_they_are(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    before = {id: set(targets) for id, targets in organizations.attached.items()}
    ended(table, in_quarantine(organizations, table, OTHER))

    lift(organizations, table)

    assert organizations.attached == before


def test_an_account_that_was_never_attached_is_only_forgotten(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = to_block(table)
    organizations.fails["attach_policy", ""] = "TooManyRequestsException"
    with pytest.raises(ClientError):
        begin(organizations, table, case)
    ended(table, case, Outcome.FAILED)

    assert lift(organizations, table) == [ACCOUNT]

    assert quarantines(table) == {}
    assert not [call for call in organizations.calls if call.startswith("detach")]


def test_a_policy_that_somebody_else_deleted_holds_nobody_in_quarantine(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    ended(table, in_quarantine(organizations, table))
    [id] = organizations.named(POLICY)
    del organizations.policies[id], organizations.attached[id]

    assert lift(organizations, table) == [ACCOUNT]

    assert quarantines(table) == {}


@pytest.mark.parametrize("code", ["AccessDeniedException", "TooManyRequestsException"])
@pytest.mark.parametrize("failing", [ACCOUNT, OTHER, THIRD_ACCOUNT])
def test_an_error_at_one_account_keeps_no_other_blocked_and_is_raised_in_the_end(
    table: Any, organizations: ServiceControlPolicies, failing: str, code: str
) -> None:
    for id in (ACCOUNT, OTHER):
        ended(table, in_quarantine(organizations, table, id))
    [policy_id] = organizations.named(POLICY)
    organizations.attached[policy_id].add(THIRD_ACCOUNT)  # Nobody knows of it.
    organizations.fails["detach_policy", failing] = code

    with pytest.raises(ClientError, match=code):
        lift(organizations, table)

    assert organizations.blocked() == {failing}
    assert set(quarantines(table)) == {failing} - {THIRD_ACCOUNT}
    organizations.fails.clear()
    lift(organizations, table)
    assert (organizations.blocked(), quarantines(table)) == (set(), {})
    assert organizations.named(POLICY) == []


@pytest.mark.parametrize("operation", ["list_policies", "list_targets_for_policy", "delete_policy"])
def test_what_else_aws_refuses_is_raised(
    table: Any, organizations: ServiceControlPolicies, operation: str
) -> None:
    ended(table, in_quarantine(organizations, table))
    organizations.fails[operation, ""] = "AccessDeniedException"

    with pytest.raises(ClientError, match="AccessDenied"):
        lift(organizations, table)

    organizations.fails.clear()
    lift(organizations, table)
    assert (organizations.named(POLICY), quarantines(table)) == ([], {})


def test_who_uses_no_quarantine_and_has_nobody_in_it_asks_nothing_of_aws(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    a_decided_case(table)

    assert lift(organizations, table, is_in_use=False) == []

    assert organizations.calls == []


def test_who_uses_no_quarantine_any_more_still_lifts_those_that_are_left(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    case = in_quarantine(organizations, table)
    assert lift(organizations, table, is_in_use=False) == []
    assert organizations.blocked() == {ACCOUNT}
    ended(table, case)

    assert lift(organizations, table, is_in_use=False) == [ACCOUNT]

    assert organizations.blocked() == set()
    organizations.calls.clear()
    assert lift(organizations, table, is_in_use=False) == []
    assert organizations.calls == []


@pytest.mark.parametrize("code", ["TargetNotFoundException", "PolicyNotAttachedException"])
def test_an_account_that_left_the_organization_is_forgotten_once_aws_shows_that(
    table: Any, organizations: ServiceControlPolicies, code: str
) -> None:
    # AWS still lists it among the targets, for a while.
    for id in (ACCOUNT, OTHER):
        ended(table, in_quarantine(organizations, table, id))
    organizations.fails["detach_policy", ACCOUNT] = code
    with contextlib.suppress(ClientError):
        lift(organizations, table)
    assert organizations.blocked() <= {ACCOUNT}
    assert set(quarantines(table)) <= {ACCOUNT}
    for targets in organizations.attached.values():
        targets.discard(ACCOUNT)

    lift(organizations, table)

    assert quarantines(table) == {}
    assert organizations.named(POLICY) == []


def test_a_new_quarantine_of_the_same_account_meanwhile_stays_known(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    ended(table, in_quarantine(organizations, table))
    new: list[Case] = []

    def another() -> None:
        new.append(blocked(table, now=NOW + timedelta(days=2)))
        begin(organizations, table, new[0])

    organizations.before["detach_policy"] = another
    lift(organizations, table)

    assert quarantines(table) == {ACCOUNT: new[0].id}


@pytest.mark.parametrize("when", ["before the targets", "after the targets"])
def test_an_account_that_is_blocked_while_others_are_lifted_stays_blocked(
    table: Any, organizations: ServiceControlPolicies, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    ended(table, in_quarantine(organizations, table))
    targets = quarantine._targets
    case = to_block(table, id=OTHER)

    def then_another(*args: Any) -> set[str]:
        found = targets(*args)
        begin(organizations, table, case)
        return found

    if when == "after the targets":
        monkeypatch.setattr(quarantine, "_targets", then_another)
    else:
        organizations.before["list_targets_for_policy"] = lambda: begin(organizations, table, case)

    assert lift(organizations, table) == [ACCOUNT]

    assert organizations.blocked() == {OTHER}
    assert quarantines(table) == {OTHER: case.id}


def test_a_policy_that_is_needed_again_this_very_moment_stays(
    table: Any, organizations: ServiceControlPolicies
) -> None:
    ended(table, in_quarantine(organizations, table))
    case = to_block(table, id=OTHER)
    organizations.before["delete_policy"] = lambda: begin(organizations, table, case)

    assert lift(organizations, table) == [ACCOUNT]

    assert organizations.blocked() == {OTHER}


@pytest.mark.parametrize("operation", ["detach_policy", "delete_policy"])
def test_two_that_lift_at_once_leave_nothing(
    table: Any, organizations: ServiceControlPolicies, operation: str
) -> None:
    # The stream and a sweep; who comes too late is told by AWS, and looks again.
    ended(table, in_quarantine(organizations, table))
    organizations.before[operation] = lambda: lift(organizations, table)
    with contextlib.suppress(ClientError):
        lift(organizations, table)

    lift(organizations, table)

    assert (organizations.named(POLICY), quarantines(table)) == ([], {})
