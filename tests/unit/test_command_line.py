"""What the command `rootsweep` makes of answers that the embedded AWS does not give."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

import pytest
import yaml
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from operate import cli, doctor, policies, preconditions, reports, sweep
from operate.policies import Verdict
from operate.preconditions import State
from operate.stack import Aws, CommandError, Stack
from rootsweep import escalation
from rootsweep.sweeps import SweepRequest

from .builders import an_error

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTED = datetime(2026, 11, 22, 6, tzinfo=UTC)
EVERY_ROOT = "arn:aws:iam::*:root"
SPARED = {"Null": {"aws:AssumedRoot": "true"}}


def policy(*statements: dict[str, Any]) -> str:
    made = [{"Effect": "Deny", "Action": "*", "Resource": "*", **each} for each in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": made})


def of(operator: str, *values: str, key: str = "aws:PrincipalArn") -> dict[str, Any]:
    """A statement that denies everything under a condition."""
    return {"Condition": {operator: {key: list(values)}}}


STOPS = [
    {},
    {"Action": "iam:*"},
    {"Action": ["s3:*", "IAM:Delete*"]},
    {"NotAction": ["iam:List*", "iam:Get*"]},
    {"Resource": EVERY_ROOT},
    of("StringLike", EVERY_ROOT),
    of("ArnLike", "arn:*:iam::*:root"),
    of("ForAnyValue:ArnLike", EVERY_ROOT),
    of("StringLikeIfExists", EVERY_ROOT),
    of("ArnEquals", "arn:aws:iam::333333333333:root"),
    of("StringEquals", "arn:aws:iam::333333333333:root"),
    of("StringNotEquals", EVERY_ROOT),
    of("ArnNotLike", "arn:aws:iam::*:role/admin"),
    of("ArnNotLike", "arn:aws:iam::333333333333:root"),
    of("Null", "false"),
    of("Bool", "true", key="aws:AssumedRoot"),
    of("StringNotEquals", "false", key="AWS:AssumedRoot"),
    of("Null", "false", key="aws:AssumedRoot"),
]
STOPS_NOT = [
    {"Effect": "Allow"},
    {"Action": "s3:*"},
    {"Action": "sts:AssumeRoot"},
    {"NotAction": "iam:*"},
    {"Resource": "arn:aws:iam::*:role/protected"},
    {"NotResource": EVERY_ROOT},
    of("StringLike", "arn:aws:iam::*:role/*"),
    of("StringEquals", EVERY_ROOT),
    of("ArnNotLike", "arn:aws:iam::*:root"),
    of("Null", "true"),
    of("Bool", "false", key="aws:AssumedRoot"),
    of("Null", "true", key="aws:AssumedRoot"),
    of("StringNotEquals", "true", key="aws:AssumedRoot"),
    {"Condition": {"ArnLike": {"aws:PrincipalArn": EVERY_ROOT}, **SPARED}},
]
MAY_STOP = [
    of("StringNotEquals", "eu-west-1", key="aws:RequestedRegion"),
    of("StringEquals", "o-1", key="aws:PrincipalOrgID"),
    of("DateGreaterThan", "2026-01-01", key="aws:AssumedRoot"),
    of("Bool", "true"),
]


@pytest.mark.parametrize("statement", STOPS)
def test_a_policy_that_denies_the_root_user_stops_root_sessions(statement: dict[str, Any]) -> None:
    content = policy({"Effect": "Allow"}, statement)

    assert policies.verdict(content) == Verdict.YES


@pytest.mark.parametrize("statement", STOPS_NOT)
def test_one_that_denies_something_else_does_not(statement: dict[str, Any]) -> None:
    assert policies.verdict(policy(statement)) == Verdict.NO


@pytest.mark.parametrize("statement", MAY_STOP)
def test_what_only_a_request_can_show_is_not_known(statement: dict[str, Any]) -> None:
    assert policies.verdict(policy(statement)) == Verdict.MAYBE
    assert policies.verdict(policy(statement, {})) == Verdict.YES


def own_policy(region: str = "eu-west-1", **parameters: str) -> str:
    """The policy of root-session-policy.yaml, with its parameters."""
    text = (Path(__file__).parents[2] / "root-session-policy.yaml").read_text()
    text = text.replace("!Ref RootsweepRegion", region).replace("!Sub ", "")
    given = {"RolePath": "/", "RootsweepStackName": "rootsweep", **parameters}
    for name, value in (given | {"SecurityAccountId": "2" * 12, "AWS::Partition": "aws"}).items():
        text = text.replace(f"${{{name}}}", value)
    text = text.replace("!Ref", "")
    policy = yaml.safe_load(text)["Resources"]["RootSessionPolicy"]["Properties"]
    return json.dumps(policy["Content"])


def opened(content: str) -> Verdict:
    return policies.opening(content, roles=seen().openers, region="eu-west-1")


def test_the_policy_of_rootsweep_lets_its_own_roles_open_root_sessions() -> None:
    assert opened(own_policy()) == Verdict.NO
    assert set(re.findall(r"rootsweep-(\w+Role)-", own_policy())) == set(preconditions.OPENERS)


@pytest.mark.parametrize(
    "content",
    [
        own_policy(region="us-east-1"),
        own_policy(RootsweepStackName="other"),
        own_policy(RolePath="/security/"),
        own_policy().replace("OpenCasesRole", "OtherRole"),
        policy({"Action": "sts:AssumeRoot"}),
        policy({"Action": "sts:*", "Resource": EVERY_ROOT}),
        policy({"NotAction": "iam:*"}),
        policy({"Action": "sts:AssumeRoot", **of("Null", "true", key="aws:AssumedRoot")}),
        policy({"Action": "sts:AssumeRoot", **of("StringLike", "arn:aws:iam::*:role/*")}),
    ],
)
def test_other_policies_keep_them_from_it(content: str) -> None:
    assert opened(content) == Verdict.YES


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        ({"Action": "iam:*"}, Verdict.NO),
        ({"Effect": "Allow"}, Verdict.NO),
        (of("StringLike", EVERY_ROOT), Verdict.NO),
        (of("ArnNotEquals", "arn:aws:iam::222222222222:role/rootsweep-*"), Verdict.NO),
        (of("StringNotEquals", "eu-west-1", key="aws:RequestedRegion"), Verdict.NO),
        (of("StringEquals", "o-1", key="aws:PrincipalOrgID"), Verdict.MAYBE),
    ],
)
def test_a_policy_about_others_keeps_no_role_from_it(
    statement: dict[str, Any], verdict: Verdict
) -> None:
    assert opened(policy(statement)) == verdict


@pytest.mark.parametrize("statement", [{}, *STOPS[5:11]])
def test_a_policy_spares_root_sessions_and_nothing_else(statement: dict[str, Any]) -> None:
    other = of("StringLike", "arn:aws:iam::*:role/*")
    given = json.loads(policy(other, statement))

    mended = json.loads(policies.spared(json.dumps(given)))

    assert policies.verdict(json.dumps(mended)) == Verdict.NO
    assert mended["Statement"][0] == given["Statement"][0]
    condition = {**given["Statement"][1].get("Condition", {}), **SPARED}
    assert mended["Statement"][1] == {**given["Statement"][1], "Condition": condition}


# -- doctor ---------------------------------------------------------------------------------------


def seen(**answers: dict[str, Any]) -> preconditions.Seen:
    """What doctor looks at, where AWS gives these answers, by operation."""
    client = SimpleNamespace(
        **{name: lambda answer=answer, **_: answer for name, answer in answers.items()}
    )
    stack = Stack("rootsweep", "CREATE_COMPLETE", {}, {"MaxConcurrentBatches": "30"})
    aws: Any = SimpleNamespace(
        client=lambda _: client, found=stack, stack_name="rootsweep", account="222222222222"
    )
    return preconditions.Seen(aws, sender="", now=STARTED)


def deployed(looked: preconditions.Seen, **parameters: str) -> preconditions.Seen:
    """The same with a stack that was made to the end."""
    outputs = {"AlertTopicArn": "arn:topic", "SweepStateMachineArn": "arn:machine"}
    looked.aws.found = Stack("rootsweep", "CREATE_COMPLETE", outputs, parameters)
    return looked


def quota(most: float, sent: float) -> dict[str, Any]:
    limits = {"Max24HourSend": most, "MaxSendRate": 1.0, "SentLast24Hours": sent}
    return {"ProductionAccessEnabled": True, "SendingEnabled": True, "SendQuota": limits}


@pytest.mark.parametrize(
    ("most", "sent", "state"),
    [(200, 0, State.FINE), (200, 101, State.BROKEN), (-1, 9_999_999, State.FINE)],
)
def test_ses_has_to_have_mails_left(most: float, sent: float, state: State) -> None:
    found = preconditions.ses_sending(seen(get_account=quota(most, sent)))

    assert found.state == state
    if state == State.BROKEN:
        assert "only 99 more mails" in found.detail
        [repair] = found.repair
        assert repair.endswith("--service-code ses --quota-code L-804C8AE8 --desired-value 50000")


def test_the_limit_of_the_sandbox_is_the_sandboxs_to_name() -> None:
    account = quota(200, 150) | {"ProductionAccessEnabled": False}

    assert preconditions.ses_sending(seen(get_account=account)).state == State.FINE


def test_what_aws_has_paused_no_command_resumes() -> None:
    account = quota(200, 0) | {"SendingEnabled": False, "EnforcementStatus": "SHUTDOWN"}

    found = preconditions.ses_sending(seen(get_account=account))

    assert (found.state, found.repair) == (State.BROKEN, ())
    assert "support case" in found.detail


@pytest.mark.parametrize(
    ("review", "said"),
    [
        ("PENDING", "wait"),
        ("DENIED", "support case"),
        ("FAILED", "within about a day"),
        ("", "say"),
    ],
)
def test_a_request_to_leave_the_sandbox_is_made_once(review: str, said: str) -> None:
    details = {"ReviewDetails": {"Status": review}} if review else {}
    account = quota(200, 0) | {"ProductionAccessEnabled": False, "Details": details}

    found = preconditions.ses_sandbox(seen(get_account=account))

    assert found.state == State.BROKEN
    assert said in found.detail
    assert bool(found.repair) == (review in ("FAILED", ""))


class Ses:
    """Amazon SES with some identities, and whether each is verified."""

    class exceptions:  # noqa: N801 - boto3's name
        NotFoundException = KeyError

    def __init__(self, **identities: bool) -> None:
        self.identities = identities

    def get_email_identity(self, *, EmailIdentity: str) -> dict[str, bool]:  # noqa: N803
        return {"VerifiedForSendingStatus": self.identities[EmailIdentity]}


@pytest.mark.parametrize(
    ("identities", "state"),
    [
        ({"me@mail.example.com": True}, State.FINE),
        ({"me@mail.example.com": False, "mail.example.com": True}, State.FINE),
        ({"example.com": True}, State.FINE),
        ({"me@mail.example.com": False, "example.com": False}, State.BROKEN),
        ({"other.example.com": True, "com": True}, State.BROKEN),
    ],
)
def test_a_sender_needs_its_address_or_a_domain_above_it(
    identities: dict[str, bool], state: State
) -> None:
    aws: Any = SimpleNamespace(client=lambda _: Ses(**identities), found=None, region="us-east-1")

    found = preconditions.sender(preconditions.Seen(aws, "me@mail.example.com", STARTED))

    assert found.state == state
    # The link that nobody has followed is sent again by it.
    command = "aws ses verify-email-identity --email-address me@mail.example.com"
    assert found.repair == ((command,) if state == State.BROKEN else ())


@pytest.mark.parametrize(
    ("deployed_with", "written"),
    [
        (
            '[{"after": "3d", "notify": ["approvers"]}]',
            '[{"after": "3d", "notify": ["approvers"]}]',
        ),
        ('[{"after": "7d"}]', preconditions.A_POLICY),
    ],
)
def test_what_is_written_for_an_escalation_policy_can_be_used(
    deployed_with: str, written: str
) -> None:
    looked = deployed(seen(get_parameter={"Parameter": {"Value": "[]"}}))
    looked.aws.client("ssm").exceptions = SimpleNamespace(ParameterNotFound=KeyError)
    outputs = {"EscalationPolicyParameter": "/rootsweep/escalation-policy"}
    given = {"EscalationPolicy": deployed_with}
    looked.aws.found = Stack("rootsweep", "CREATE_COMPLETE", outputs, given)

    found = preconditions.escalation_policy(looked)

    assert found
    assert shlex.split(found.repair[0])[-1] == written
    assert escalation.parse(written)
    assert ("Nor can" in found.detail) == (written != deployed_with)


def test_before_a_first_sweep_it_is_said_that_the_audit_role_is_not_known() -> None:
    looked = deployed(seen(), ScanAccess="MemberRole")
    with patch.object(reports, "sweeps_started", lambda _: []):
        found = preconditions.member_role(looked)

    assert found
    assert found.state == State.NOTE
    assert found.repair == ("rootsweep sweep --stack-name rootsweep --detect-only",)


@pytest.mark.parametrize(("free", "state"), [(40, State.FINE), (39, State.BROKEN)])
def test_lambda_has_to_have_room_for_the_batches_and_more(free: int, state: State) -> None:
    limit = {"UnreservedConcurrentExecutions": free, "ConcurrentExecutions": 800}

    found = preconditions.lambda_concurrency(seen(get_account_settings={"AccountLimit": limit}))

    assert found.state == state
    assert bool(found.repair) == (state == State.BROKEN)
    if found.repair:
        assert found.repair[0].endswith("--desired-value 1600")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("UPDATE_COMPLETE", State.FINE),
        ("IMPORT_COMPLETE", State.FINE),
        ("CREATE_IN_PROGRESS", State.NOTE),
        ("UPDATE_IN_PROGRESS", State.NOTE),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", State.NOTE),
        ("UPDATE_ROLLBACK_COMPLETE", State.NOTE),
        ("UPDATE_ROLLBACK_FAILED", State.BROKEN),
        ("ROLLBACK_COMPLETE", State.BROKEN),
        ("ROLLBACK_IN_PROGRESS", State.BROKEN),
        ("DELETE_IN_PROGRESS", State.BROKEN),
        ("CREATE_FAILED", State.BROKEN),
        ("DELETE_FAILED", State.BROKEN),
        ("ROLLBACK_FAILED", State.BROKEN),
    ],
)
def test_a_stack_that_failed_is_broken(status: str, state: State) -> None:
    looked = seen()
    looked.aws.found = Stack("rootsweep", status, {}, {})

    found = preconditions.stack_status(looked)

    assert found is not None
    assert found.state == state
    # Such a stack cannot be updated.
    commands = " ".join(found.repair)
    assert ("delete-stack" in commands) == (status in preconditions.STACK_ENDS)
    assert ("continue-update-rollback" in commands) == (status == "UPDATE_ROLLBACK_FAILED")
    assert bool(found.repair) == (state == State.BROKEN)


def test_a_stack_of_which_nobody_has_executed_the_first_change_is_none() -> None:
    described = {"StackStatus": "REVIEW_IN_PROGRESS", "Parameters": []}
    client = SimpleNamespace(describe_stacks=lambda **_: {"Stacks": [described]})
    aws = Aws(stack_name="rootsweep", profile=None, region="us-east-1")
    aws.client = lambda _: client  # type: ignore[method-assign,assignment]

    assert aws.found is None


def test_a_stack_that_was_never_made_is_the_only_thing_named() -> None:
    looked = seen()
    looked.aws.found = Stack("rootsweep", "ROLLBACK_COMPLETE", {}, {})

    for look in (
        preconditions.alert_topic,
        preconditions.kill_switch,
        preconditions.schedule,
        preconditions.last_sweep,
    ):
        assert look(looked) is None


@pytest.mark.parametrize(
    ("code", "states"),
    [
        ("ServiceAccessNotEnabledException", {"trusted-access": State.BROKEN}),
        (
            "AccountNotManagementOrDelegatedAdministratorException",
            {"trusted-access": State.FINE, "delegated-administrator": State.BROKEN},
        ),
        ("Throttling", {"trusted-access": State.UNKNOWN}),
        ("AccessDenied", {"trusted-access": State.UNKNOWN}),
    ],
)
def test_a_refusal_of_iam_is_told_from_no_answer(code: str, states: dict[str, State]) -> None:
    def refuse() -> None:
        raise an_error(code, "ListOrganizationsFeatures")

    def describe() -> Any:
        return {"Organization": {"MasterAccountId": "111111111111", "FeatureSet": "ALL"}}

    client = SimpleNamespace(list_organizations_features=refuse, describe_organization=describe)
    aws: Any = SimpleNamespace(client=lambda _: client, found=None, account="222222222222")
    with patch.object(doctor, "CHECKS", doctor.CHECKS[:5]):
        results = doctor.examine(aws, sender="", now=STARTED)

    waiting = dict.fromkeys([check.name for check in doctor.CHECKS[2:5]], State.WAITS)
    fine = {"account": State.FINE, "all-features": State.FINE}
    assert {name: found.state for name, found in results.items()} == fine | waiting | states


def test_an_answer_that_is_not_understood_is_unknown() -> None:
    check = preconditions.Check("ses-sending", preconditions.ses_sending, "ses:GetAccount")

    found = doctor._look(check, seen(get_account={"SendingEnabled": True}))

    assert found is not None
    assert (found.state, "not understood" in found.detail) == (State.UNKNOWN, True)


def test_the_schedule_is_enabled_without_deploying_other_code() -> None:
    looked = deployed(
        seen(get_schedule={"State": "DISABLED"}), ScheduleState="DISABLED", SenderAddress="a@b.c"
    )
    looked.aws.resource = lambda _: "Schedule-1"

    found = preconditions.schedule(looked)

    assert found is not None
    [repair] = found.repair
    assert repair == (
        "aws cloudformation update-stack --stack-name rootsweep --use-previous-template"
        " --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --parameters"
        " ParameterKey=ScheduleState,ParameterValue=ENABLED"
        " ParameterKey=SenderAddress,UsePreviousValue=true"
    )


def test_security_hub_is_looked_at_only_where_it_is_used() -> None:
    for look in (preconditions.security_hub, preconditions.security_hub_administrator):
        assert look(deployed(seen())) is None
        assert look(deployed(seen(), SecurityHub="DISABLED")) is None


@pytest.mark.parametrize("code", ["InvalidAccessException", "ResourceNotFoundException"])
def test_security_hub_that_is_off_is_told_from_no_answer(code: str) -> None:
    def refuse() -> None:
        raise an_error(codes.pop(), "DescribeHub")

    codes = ["LimitExceededException", code]
    looked = deployed(seen(), SecurityHub="ENABLED")
    looked.aws.client = lambda _: SimpleNamespace(describe_hub=refuse)
    looked.aws.region = "eu-west-1"

    check = next(each for each in preconditions.CHECKS if each.name == "security-hub")

    found = [doctor._look(check, looked) for _ in range(2)]
    assert [each and each.state for each in found] == [State.BROKEN, State.UNKNOWN]


def lacking_role(*ids: str) -> preconditions.Result:
    """What doctor makes of a sweep that could not assume the audit role in these accounts."""
    looked = deployed(seen(list_roots={"Roots": [{"Id": "r-ab12"}]}), ScanAccess="MemberRole")
    reason = "AssumeRole: AccessDenied: no"
    looked.last_rows = [{"id": id, "state": "UNKNOWN", "reason": reason} for id in ids]
    looked.organization = {"MasterAccountId": "111111111111"}
    found = preconditions.member_role(looked)
    assert found is not None
    return found


def test_one_account_that_fails_keeps_no_other_from_its_audit_role() -> None:
    [repair] = lacking_role("333333333333", "444444444444").repair

    assert repair.endswith(
        " --operation-preferences MaxConcurrentPercentage=100,FailureTolerancePercentage=100"
    )


def test_a_role_that_may_not_be_assumed_need_not_be_missing() -> None:
    detail = lacking_role("333333333333").detail

    for said in ("not there", "trusts another", "docs/deploy.md, step 2", "update-stack-set"):
        assert said in detail
    # StackSets never deploy there.
    assert "update-stack-set" not in lacking_role("111111111111").detail


def test_stacks_of_the_management_account_are_in_the_region_of_the_stack() -> None:
    aws = Aws(stack_name="rootsweep", profile=None, region="eu-west-1")
    aws.options = " --profile security"

    of_members, of_management = doctor._commands(aws, lacking_role("333333333333", "111111111111"))

    assert of_members.endswith(" --region eu-west-1")
    assert of_management.endswith(" --region eu-west-1")
    assert "--profile" not in of_members + of_management
    commands = ("aws iam x", "aws securityhub x")
    elsewhere = preconditions.Result(State.NOTE, "", commands, preconditions.Where.MANAGEMENT)
    assert doctor._commands(aws, elsewhere) == ["aws iam x", "aws securityhub x --region eu-west-1"]


def test_no_account_gets_powers_before_somebody_says_that_it_is_the_security_account() -> None:
    looked = seen()
    looked.iam_features = preconditions.NO_DELEGATE

    assert "If this is" not in preconditions.delegated_administrator(looked).detail
    looked.aws.found = None
    found = preconditions.delegated_administrator(looked)
    assert found.detail.startswith("If this is the security account (222222222222): ")


def test_a_delegated_administrator_is_registered_after_access_was_given() -> None:
    looked = seen()
    looked.iam_features = preconditions.NO_DELEGATE

    access, registration = preconditions.delegated_administrator(looked).repair

    assert "enable-aws-service-access --service-principal iam.amazonaws.com" in access
    assert "register-delegated-administrator" in registration


def test_with_consolidated_billing_only_that_is_named() -> None:
    def describe() -> Any:
        organization = {"MasterAccountId": "111111111111", "FeatureSet": "CONSOLIDATED_BILLING"}
        return {"Organization": organization}

    client = SimpleNamespace(describe_organization=describe)
    aws: Any = SimpleNamespace(client=lambda _: client, found=None, account="222222222222")
    with patch.object(doctor, "CHECKS", doctor.CHECKS[:4]):
        results = doctor.examine(aws, sender="", now=STARTED)

    assert [found.state for found in results.values()] == ["FINE", "BROKEN", "WAITS", "WAITS"]
    assert "accept-handshake" in results["all-features"].detail


def test_an_address_that_nobody_gave_gets_no_alerts() -> None:
    page = {"Subscriptions": []}
    pages = SimpleNamespace(paginate=lambda **_: [page])
    looked = deployed(seen())
    looked.aws.client = lambda _: SimpleNamespace(get_paginator=lambda _: pages)

    found = preconditions.alert_topic(looked)

    assert found is not None
    # A shell takes it for a file to read from.
    assert found.repair[0].endswith(" --notification-endpoint <address>")


def with_policy(content: str, *, on: str, is_deployed: bool = True) -> preconditions.Seen:
    """An organization with a policy on something; the security account is in ou-1."""
    pages = {
        "list_policies": {"Policies": [{"Id": "p-1", "Name": "mine", "AwsManaged": False}]},
        "list_targets_for_policy": {"Targets": [{"TargetId": on}]},
    }
    parents = {"2" * 12: "ou-1", "ou-1": "r-1"}
    looked = seen(
        describe_policy={"Policy": {"Content": content}},
        describe_organization={"Organization": {"MasterAccountId": "111111111111"}},
    )
    client = looked.aws.client("organizations")
    client.get_paginator = lambda name: SimpleNamespace(paginate=lambda **_: [pages[name]])
    client.list_parents = lambda **given: {"Parents": [{"Id": parents[given["ChildId"]]}]}
    looked.aws.region = "eu-west-1"
    looked.aws.resource = "rootsweep-{}-1".format
    return deployed(looked) if is_deployed else looked


OPENS_NOT = policy({"Action": "sts:AssumeRoot"})


@pytest.mark.parametrize(
    ("on", "is_deployed", "content", "state"),
    [
        ("2" * 12, True, OPENS_NOT, State.BROKEN),
        ("ou-1", True, OPENS_NOT, State.BROKEN),
        ("r-1", True, OPENS_NOT, State.BROKEN),
        ("r-1", False, OPENS_NOT, State.NOTE),
        ("ou-2", True, OPENS_NOT, State.FINE),
        ("2" * 12, True, own_policy(), State.FINE),
        ("2" * 12, True, own_policy(region="us-east-1"), State.BROKEN),
    ],
)
def test_a_policy_that_keeps_rootsweep_from_opening_root_sessions_is_named(
    on: str, is_deployed: bool, content: str, state: State
) -> None:
    found = preconditions.service_control_policies(
        with_policy(content, on=on, is_deployed=is_deployed)
    )

    assert found.state == state
    assert ("opening root sessions by p-1 (mine)" in found.detail) == (state != State.FINE)


def sweeping(*inputs: str, status: str = "SUCCEEDED", days: float = 0) -> preconditions.Seen:
    """A stack in which sweeps were started with these inputs, the newest one first, days ago."""
    start = STARTED - timedelta(days=days)
    executions = [
        {
            "executionArn": f"arn:{number}",
            "status": status,
            "startDate": start,
            "input": given,
            "output": json.dumps({"sweep_id": f"sweep {number}"}),
        }
        for number, given in enumerate(inputs)
    ]

    def list_executions(**given: Any) -> Any:
        return {"executions": executions if given.get("statusFilter", status) == status else []}

    def describe_execution(**given: str) -> Any:
        return executions[int(given["executionArn"].removeprefix("arn:"))]

    looked = deployed(seen())
    looked.aws.client = lambda _: SimpleNamespace(
        list_executions=list_executions, describe_execution=describe_execution
    )
    looked.aws.stack = looked.aws.found
    looked.aws.again = "rootsweep {}".format
    looked.schedule = {"State": "ENABLED", "ScheduleExpression": "cron(0 6 * * ? *)"}
    looked.last_rows = []
    return looked


OF_ONE = '{"accounts": ["333333333333"]}'
OF_A_UNIT = '{"organizational_units": ["ou-ab12-cdefgh34"]}'


@pytest.mark.parametrize("given", ["[]", "null", '"all"', "{", OF_ONE, OF_A_UNIT])
def test_only_a_sweep_of_all_accounts_counts_as_one(given: str) -> None:
    looked = sweeping(given, '{"detect_only": true}')

    assert looked.last_sweep == looked.aws.client("").describe_execution(executionArn="arn:1")


def test_the_latest_report_is_of_all_accounts() -> None:
    looked = sweeping(OF_ONE, OF_A_UNIT, "{}", "{}")

    assert reports.latest(looked.aws) == ("sweep 2", True, "sweep 0")
    assert reports.latest(sweeping("{}", OF_ONE).aws) == ("sweep 0", True, "")


def test_a_report_of_selected_accounts_only_is_called_one() -> None:
    assert reports.latest(sweeping(OF_ONE, OF_A_UNIT).aws) == ("sweep 0", False, "")
    with pytest.raises(CommandError, match="No sweep has succeeded"):
        reports.latest(sweeping().aws)


def test_which_report_says_why_an_account_is_unknown() -> None:
    looked = sweeping(OF_ONE, "{}")
    looked.last_rows = [{"id": "333333333333", "state": "UNKNOWN", "reason": "Throttling"}]

    found = preconditions.last_sweep(looked)

    assert found is not None
    assert found.repair == ("rootsweep report sweep 1 --stack-name rootsweep",)


@pytest.mark.parametrize(
    ("days", "schedule", "state"),
    [
        (8, "cron(0 6 * * ? *)", State.FINE),
        (8.1, "cron(0 6 * * ? *)", State.BROKEN),
        (9, "cron(0 6 ? * MON-FRI *)", State.BROKEN),
        (9, "rate(12 hours)", State.BROKEN),
        (9, "rate(7 days)", State.BROKEN),
        (9, "rate(30 days)", State.NOTE),
        (9, "cron(0 6 1 * ? *)", State.NOTE),
        (9, "cron(0 6 ? * MON#1 *)", State.NOTE),
        (9, "cron(0 6 ? 1 MON *)", State.NOTE),
        (9, "", State.FINE),
    ],
)
def test_a_sweep_that_is_old_is_not_fine(days: float, schedule: str, state: State) -> None:
    looked = sweeping("{}", days=days)
    enabled = "ENABLED" if schedule else "DISABLED"
    looked.schedule = {"State": enabled, "ScheduleExpression": schedule}

    found = preconditions.last_sweep(looked)

    assert found is not None
    assert found.state == state


@pytest.mark.parametrize(("days", "is_stuck"), [(1, False), (1.1, True)])
def test_a_sweep_that_does_not_end_is_broken(days: float, is_stuck: bool) -> None:
    found = preconditions.last_sweep(sweeping("{}", status="RUNNING", days=days))

    assert found is not None
    assert found.state == (State.BROKEN if is_stuck else State.NOTE)
    assert ("RUNNING for more than a day" in found.detail) == is_stuck


def test_each_check_comes_after_the_one_that_it_needs() -> None:
    names = [check.name for check in doctor.CHECKS]

    assert len(set(names)) == len(names)
    for number, check in enumerate(doctor.CHECKS[1:], 1):
        assert check.after in names[:number]


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError(), "Sign in"),
        (an_error("ExpiredToken", "DescribeStacks"), "Sign in again"),
        (an_error("AccessDenied", "DescribeStacks"), "docs/operate.md"),
        (an_error("Throttling", "DescribeStacks"), "DescribeStacks: Throttling"),
    ],
)
def test_an_error_says_what_to_do(error: Exception, said: str) -> None:
    assert said in cli._in_words(error)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (
            '{"errorMessage": "accounts: 1 is not there", "errorType": "X"}',
            "accounts: 1 is not there",
        ),
        ("plain words", "plain words"),
        ("[1]", "[1]"),
        (None, ""),
    ],
)
def test_why_a_sweep_failed_is_said_in_the_words_of_the_function(
    cause: str | None, said: str
) -> None:
    assert sweep.cause({"cause": cause}) == said


@pytest.mark.parametrize("printing", ["print_json(['x'] * 100_000)", "printed().print('x' * 9**6)"])
def test_an_answer_that_nobody_reads_is_no_finding(printing: str) -> None:
    program = f"""
from operate import cli, terminal
cli.commands.main = lambda *_, **__: terminal.{printing}
cli.main([])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(cli.__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.close()

    _, told = process.communicate()

    assert (process.returncode, told) == (141, b"")


# -- a sweep that is followed ---------------------------------------------------------------------

ARN = "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-sweep:1"


def states(**more: Any) -> Mock:
    """Step Functions, in which a sweep ends at the 7th look; one of its Map Runs has before."""
    counts = {"total": 5, "pending": 1, "running": 1}
    client = Mock()
    client.start_execution.return_value = {"executionArn": ARN, "startDate": STARTED}
    output = {"sweep_id": "s", "accounts": {"unknown": 0}}
    running = {"executionArn": ARN, "status": "RUNNING"}
    ended = running | {"status": "SUCCEEDED", "output": json.dumps(output)}
    client.describe_execution.side_effect = [running] * 6 + [ended]
    client.list_map_runs.return_value = {"mapRuns": [{"mapRunArn": "ended"}, {"mapRunArn": "on"}]}
    client.describe_map_run.side_effect = lambda **given: {
        "status": "SUCCEEDED" if given["mapRunArn"] == "ended" else "RUNNING",
        "itemCounts": counts,
    }
    entered = {"stateEnteredEventDetails": {"name": "Check accounts"}}
    client.get_execution_history.return_value = {"events": [{}, entered]}
    client.configure_mock(**more)
    return client


def following(client: Mock) -> Any:
    aws: Any = Aws(stack_name="mine", profile=None, region="eu-west-1")
    aws.client = lambda _: client
    outputs = {"SweepStateMachineArn": "machine", "TableName": "table"}
    aws.found = Stack("mine", "CREATE_COMPLETE", outputs, {})
    return aws


@pytest.fixture
def at_once() -> Iterator[None]:
    with patch("operate.sweep.time", Mock()):
        yield


@pytest.mark.usefixtures("at_once")
def test_map_runs_that_have_ended_are_asked_for_once() -> None:
    client = states()
    shown: list[sweep.Seen] = []

    sweep.follow(following(client), ARN, shown.append)

    asked = [call.kwargs["mapRunArn"] for call in client.describe_map_run.call_args_list]
    assert asked == ["ended", "on", "on", "on"]
    assert set(shown) == {sweep.Seen("Check accounts", checked=6, batches=10)}


@pytest.mark.usefixtures("at_once")
def test_progress_that_nobody_sees_is_not_asked_for() -> None:
    client = states()

    sweep.follow(following(client), ARN)

    assert client.list_map_runs.call_count == client.describe_map_run.call_count == 0


@pytest.mark.usefixtures("at_once")
def test_progress_that_is_not_told_does_not_end_the_waiting() -> None:
    throttled = an_error("ThrottlingException", "DescribeMapRun")
    client = states(**{"describe_map_run.side_effect": throttled})

    assert sweep.follow(following(client), ARN, Mock())["status"] == "SUCCEEDED"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (an_error("ExpiredTokenException", "DescribeExecution"), "Sign in again"),
        (EndpointConnectionError(endpoint_url="https://states"), "Could not connect"),
    ],
)
def test_a_sweep_that_is_lost_sight_of_is_not_called_one_that_was_not_started(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = following(states(**{"describe_execution.side_effect": error}))
    with patch("operate.cli.Aws", return_value=aws), pytest.raises(SystemExit) as ended:
        cli.main(["sweep"])

    assert ended.value.code == 1
    told = capsys.readouterr().err
    id = sweep.sweep_id(ARN, STARTED)
    assert said in told
    assert f"it goes on: {ARN}" in told
    assert f"rootsweep report {id} --stack-name mine --region eu-west-1" in told


def test_a_call_that_is_repeated_starts_no_second_sweep() -> None:
    client = states()

    started = sweep.start(following(client), SweepRequest(detect_only=True), name="once")

    assert client.start_execution.call_args.kwargs["name"] == "once"
    assert started.sweep_id.startswith("20261122T060000Z-")
