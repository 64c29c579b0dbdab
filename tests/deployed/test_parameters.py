"""Every template deploys with its defaults, and works with its parameters at their strictest."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from local import stack
from rootsweep.accounts import AccountState
from rootsweep.cases import Answer, Outcome

from .conftest import (
    MANAGEMENT_ACCOUNT,
    POLICY,
    SECURITY_ACCOUNT,
    Deployed,
    account,
    approver,
    delegate_policies,
    embedded_aws,
    key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBER = "400000000001"
OTHER_MEMBER = "400000000002"
KEEPS_ITS_KEY = "400000000003"
# So many that AWS lists them on three pages; one account would be enough for a part.
CLEAN = range(11, 51)
PATH = "/security/rootsweep/"
BOUNDARY = "bounds-of-security-tools"
ORGANIZATION = {
    "management_account": MANAGEMENT_ACCOUNT,
    "security_account": SECURITY_ACCOUNT,
    "accounts": [
        account(1, key(1), tags=approver("one@example.com", "two@example.com")),
        account(2),
        account(3, key(3)),
        *(account(number) for number in CLEAN),
    ],
}
# Where each template is deployed, and what it has no default for.
ABOUT = {"SecurityAccountId": SECURITY_ACCOUNT, "RootsweepRegion": stack.REGION}
OTHERS = {
    "member-role.yaml": (OTHER_MEMBER, {"SecurityAccountId": SECURITY_ACCOUNT}),
    "member-events.yaml": (MANAGEMENT_ACCOUNT, ABOUT),
    "root-session-policy.yaml": (MANAGEMENT_ACCOUNT, ABOUT),
}
STRICTEST = {
    "AlertAddress": "alerts@example.com",
    "ApprovalAccessLogs": "CREATE_ROLE",
    "ApprovalSourceNetworks": "127.0.0.1/32",
    "AuditRoleName": "other-audit",
    "BatchSize": "1",
    "CanaryDeletions": "100",
    "CaseRetentionDays": "400",
    "Dashboard": "ENABLED",
    "DecisionLogLock": "COMPLIANCE",
    "DecisionLogRetentionDays": "36500",
    "EscalationPolicy": json.dumps(POLICY),
    "GovCloudExceptionReason": "There, it is all they have.",
    "LogLevel": "ERROR",
    "LogRetentionDays": "3653",
    "MailWindowSeconds": "3",
    "MaxConcurrentBatches": "1",
    "MaxConcurrentSessions": "1",
    "MaxExceptionDays": "1",
    "MaxSessionsPerSecond": "60",
    "PermissionsBoundaryArn": f"arn:aws:iam::{SECURITY_ACCOUNT}:policy/{BOUNDARY}",
    "Quarantine": "1h",
    "ReportRetentionDays": "30",
    "RolePath": PATH,
    "ScanAccess": "MemberRole",
    "ScheduleState": "ENABLED",
    "SecurityHub": "ENABLED",
    "TwoApproversIfUsedWithinDays": "3650",
}
# What is given where it is made, or has nothing that is stricter than its default.
GIVEN_ELSEWHERE = {
    "ApprovalBaseUrl",
    "ApproverTag",
    "DefaultApprover",
    "ManualRemovalCheckSeconds",
    "OrganizationId",
    "ScheduleExpression",
    "SecondApprover",
    "SenderAddress",
    "TwoApproversOrganizationalUnits",
    "WebAclArn",
}
# What security tools of this organization may do at most, whatever their own policies say.
BOUNDS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": ["ec2:*", "iam:Create*", "iam:Put*", "iam:Attach*", "lambda:Update*"],
            "Resource": "*",
        },
    ],
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    with embedded_aws(tmp_path_factory, ORGANIZATION, STRICTEST) as started:
        yield started


@pytest.fixture(scope="module")
def strict(aws: tuple[Any, Any]) -> Deployed:
    """The stack with its parameters at their strictest."""
    before = stack.Stack(aws[0].endpoint, stack.REGION, SECURITY_ACCOUNT, "", {})
    before.client("iam").create_policy(PolicyName=BOUNDARY, PolicyDocument=json.dumps(BOUNDS))
    acl = before.client("wafv2").create_web_acl(
        Name="page",
        Scope="REGIONAL",
        DefaultAction={"Allow": {}},
        VisibilityConfig={
            "SampledRequestsEnabled": False,
            "CloudWatchMetricsEnabled": True,
            "MetricName": "page",
        },
    )
    roots = before.client("organizations").list_roots()["Roots"]
    units = {"TwoApproversOrganizationalUnits": roots[0]["Id"]}
    parameters = {**STRICTEST, **units, "WebAclArn": acl["Summary"]["ARN"]}
    deployed = Deployed(stack.deploy(*aws, parameters))
    delegate_policies(deployed.stack)
    return deployed


def test_the_strictest_stack_has_every_parameter_set(strict: Deployed) -> None:
    cloudformation = strict.stack.client("cloudformation")
    [described] = cloudformation.describe_stacks(StackName=stack.STACK_NAME)["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in described["Parameters"]}

    assert {*STRICTEST, *GIVEN_ELSEWHERE} == {*stack.template_parameters()}
    assert given.items() >= STRICTEST.items()
    assert [name for name, value in given.items() if not value] == []


def test_the_roles_of_the_strictest_stack_have_its_path_and_its_boundary(strict: Deployed) -> None:
    pages = strict.stack.client("iam").get_paginator("list_roles").paginate()
    names = [
        role["RoleName"]
        for page in pages
        for role in page["Roles"]
        if role["RoleName"].startswith(f"{stack.STACK_NAME}-")
    ]
    roles = [strict.stack.client("iam").get_role(RoleName=name)["Role"] for name in names]

    assert len(roles) > 25
    assert {role["Path"] for role in roles} == {PATH}
    assert {role["PermissionsBoundary"]["PermissionsBoundaryArn"] for role in roles} == {
        STRICTEST["PermissionsBoundaryArn"]
    }


def test_the_strictest_stack_sweeps_asks_two_people_and_deletes(strict: Deployed) -> None:
    swept = strict.sweep()

    assert {id: row["state"] for id, row in swept["rows"].items()} == {
        MANAGEMENT_ACCOUNT: "CLEAN",
        SECURITY_ACCOUNT: "CLEAN",
        MEMBER: "ROOT_KEYS",
        OTHER_MEMBER: "CLEAN",
        KEEPS_ITS_KEY: "ROOT_KEYS",
        **{account(number)["id"]: "CLEAN" for number in CLEAN},
    }
    s3 = strict.stack.client("s3")
    below = {
        "Bucket": strict.stack.outputs["ReportBucket"],
        "Prefix": f"sweeps/{swept['sweep_id']}",
    }
    names = [
        each["Key"].partition("/accounts/")[2] for each in s3.list_objects_v2(**below)["Contents"]
    ]
    assert set(names) == {"", "0000.json", "0001.json", "0002.json"}
    strict.approve(MEMBER, strict.mail_to("one@example.com").link)
    assert strict.case_of(MEMBER)["outcome"] == "AWAITING_APPROVAL"
    strict.approve(MEMBER, strict.mail_to("two@example.com").link)
    case = strict.case_when(MEMBER, "REMEDIATED")
    assert strict.keys_of(MEMBER) == set()
    assert [each["by"] for each in case["approvals"]] == ["one@example.com", "two@example.com"]


def measured(deployed: Deployed) -> set[tuple[str, str, str, str]]:
    """Namespace, name and dimension of each metric in the lines of the log."""
    found = set()
    for text in deployed.log_lines():
        line = json.loads(text) if text.startswith("{") else {}
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            [dimensions] = directive["Dimensions"]
            [[name, value]] = [[each, line[each]] for each in dimensions] or [["", ""]]
            for metric in directive["Metrics"]:
                assert isinstance(line[metric["Name"]], int | float)
                found.add((directive["Namespace"], metric["Name"], name, value))
    return found


# Of AWS, without a dimension that is ours: Step Functions Developer Guide, "Step Functions metrics
# for CloudWatch"; Amazon SES Developer Guide, "Retrieving Amazon SES event data from CloudWatch".
OF_THE_ACCOUNT = {
    ("AWS/States", "ConsumedCapacity", "ServiceMetric", "StateTransition"),
    ("AWS/SES", "Send", "", ""),
    ("AWS/SES", "Bounce", "", ""),
}
# Which of AWS's metrics there are, and in which dimension.
OF_AWS = {
    "AWS/States": (
        "StateMachineArn",
        {"ExecutionsFailed", "ExecutionsStarted", "ExecutionsSucceeded"},
    ),
    "AWS/Lambda": ("FunctionName", {"Duration", "Errors", "Invocations"}),
    "AWS/SQS": ("QueueName", {"ApproximateNumberOfMessagesVisible"}),
}


def test_alarms_and_dashboard_look_at_metrics_that_there_are(strict: Deployed) -> None:
    client = strict.stack.client
    [name] = {
        each["DashboardName"] for each in client("cloudwatch").list_dashboards()["DashboardEntries"]
    }
    widgets = json.loads(client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"])
    alarms = client("cloudwatch").describe_alarms()["MetricAlarms"]
    filters = client("logs").describe_metric_filters()["metricFilters"]
    resources = client("cloudformation").describe_stack_resources(StackName=stack.STACK_NAME)
    there = {each["PhysicalResourceId"] for each in resources["StackResources"]}
    there |= {each.rpartition("/")[2] for each in there}  # The name of a queue.
    lines = measured(strict)
    ours = {each[:2] for each in lines} | {
        (counted["metricNamespace"], counted["metricName"])
        for each in filters
        for counted in each["metricTransformations"]
    }
    kinds = {"State": AccountState, "Answer": Answer, "Outcome": Outcome}

    def is_there(namespace: str, name: str, dimension: str = "", value: str = "") -> bool:
        if (namespace, name, dimension, value) in OF_THE_ACCOUNT | lines:
            return True
        if namespace in OF_AWS:
            about, names = OF_AWS[namespace]
            return dimension == about and name in names and value in there
        if dimension:  # What nobody did here has been done with another value.
            in_lines = {each[:3] for each in lines}
            return (namespace, name, dimension) in in_lines and value in {*kinds[dimension]}
        return (namespace, name) in ours

    shown = [widget["properties"] for widget in widgets["widgets"]]
    metrics = [each for widget in shown for each in widget.get("metrics", [])]
    plain = [[part for part in each if isinstance(part, str)] for each in metrics]
    searches = [each[0]["expression"] for each in metrics if isinstance(each[0], dict)]
    assert [each for each in plain if each and not is_there(*each)] == []
    [search] = searches
    of_rungs = f'{{"Rootsweep/{stack.STACK_NAME}",Rung}} MetricName="OpenCases"'
    assert search == f"SEARCH('{of_rungs}', 'Maximum', 86400)"
    assert (f"Rootsweep/{stack.STACK_NAME}", "OpenCases", "Rung", "1") in lines
    assert {arn for widget in shown for arn in widget.get("alarms", [])} == {
        alarm["AlarmArn"] for alarm in alarms
    }
    for alarm in alarms:
        queries = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", [])[1:]] or [alarm]
        for query in queries:
            pairs = [(each["Name"], each["Value"]) for each in query.get("Dimensions", [])]
            assert is_there(
                query["Namespace"], query["MetricName"], *(pairs[0] if pairs else ())
            ), alarm["AlarmName"]
    assert len(alarms) == 7


def test_the_boundary_binds_whatever_a_role_is_given(strict: Deployed) -> None:
    """Else the test above would show nothing about the boundary."""
    iam = strict.stack.client("iam")
    allow, deny = BOUNDS["Statement"]
    narrower = BOUNDS | {"Statement": [allow, {**deny, "Action": "s3:PutObject"}]}
    arn = STRICTEST["PermissionsBoundaryArn"]
    made = iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=json.dumps(narrower), SetAsDefault=True
    )
    try:
        ended = strict.ended(strict.start_sweep(detect_only=True))
    finally:
        iam.create_policy_version(
            PolicyArn=arn, PolicyDocument=json.dumps(BOUNDS), SetAsDefault=True
        )

    assert made["PolicyVersion"]["IsDefaultVersion"]
    assert ended["status"] == "FAILED"
    assert "s3:PutObject" in ended["cause"]
    # Nothing but that is in the logs, at their level.
    lines = [json.loads(line) for line in strict.log_lines() if line.startswith("{")]
    assert {line["level"] for line in lines if "level" in line} == {"ERROR"}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_templates_deploy_at_their_strictest(
    aws: tuple[Any, Any], strict: Deployed, name: str
) -> None:
    account_id, required = OTHERS[name]
    more = {} if name == "member-events.yaml" else {"RolePath": PATH}
    more |= {"AuditRoleName": "yet-another-audit"} if name == "member-role.yaml" else {}

    with deployed_template(aws, name, account_id, {**required, **more}):
        # With all of which Rootsweep's own roles still check, and open root sessions to list keys.
        swept = strict.sweep(detect_only=True)
        assert swept["accounts"]["unknown"] == 0
        assert [each["id"] for each in swept["rows"][KEEPS_ITS_KEY]["keys"]] == [key(3)["id"]]


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_templates_deploy_with_their_defaults(aws: tuple[Any, Any], name: str) -> None:
    account_id, required = OTHERS[name]

    with deployed_template(aws, name, account_id, required):
        pass


def test_the_stack_deploys_with_its_defaults(aws: tuple[Any, Any]) -> None:
    required = {"SenderAddress": "sender@example.com", "DefaultApprover": ""}

    stack.sam_deploy(
        stack.ROOT / ".aws-sam/build/template.yaml",
        required,
        endpoint=aws[0].endpoint,
        account=SECURITY_ACCOUNT,
        stack_name="defaults",
    )

    assert stack_state(aws, SECURITY_ACCOUNT, "defaults") == "CREATE_COMPLETE"


@contextmanager
def deployed_template(
    aws: tuple[Any, Any], name: str, account_id: str, parameters: dict[str, str]
) -> Iterator[None]:
    """One of the smaller templates, which leaves nothing behind."""
    stack_name = name.partition(".")[0]
    stack.sam_deploy(
        stack.ROOT / name,
        parameters,
        endpoint=aws[0].endpoint,
        account=account_id,
        stack_name=stack_name,
        capabilities="CAPABILITY_NAMED_IAM" if name == "member-role.yaml" else "CAPABILITY_IAM",
    )
    assert stack_state(aws, account_id, stack_name) == "CREATE_COMPLETE"
    yield
    cloudformation(aws, account_id).delete_stack(StackName=stack_name)
    cloudformation(aws, account_id).get_waiter("stack_delete_complete").wait(
        StackName=stack_name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def stack_state(aws: tuple[Any, Any], account_id: str, name: str) -> str:
    [described] = cloudformation(aws, account_id).describe_stacks(StackName=name)["Stacks"]
    return str(described["StackStatus"])


def cloudformation(aws: tuple[Any, Any], account_id: str) -> Any:
    there = stack.Stack(aws[0].endpoint, stack.REGION, account_id, "", {})
    return there.client("cloudformation")
