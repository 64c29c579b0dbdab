"""The command `rootsweep` on a stack that came about as docs/deploy.md says, and goes as it says.

In between each precondition is broken in turn. What doctor prints as a repair is run as it is
printed, and what the document says as it stands there: by the AWS CLI, or by `rootsweep` itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import shlex
import socketserver
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from local import stack
from operate import cli, preconditions
from operate.stack import Stack

from .conftest import (
    MANAGEMENT_ACCOUNT,
    SECURITY_ACCOUNT,
    Deployed,
    account,
    allow,
    approver,
    as_root,
    delegate_policies,
    embedded_aws,
    key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WITH_KEYS, HOSTILE, CLEAN = (f"400000000{n}" for n in (301, 302, 303))
NAME = "[red]evil[/red] \u001b[31m\u202e\u001b]0;x\u0007"
NO_ROLE = {"audit_role": False}
ORGANIZATION = {
    "management_account": MANAGEMENT_ACCOUNT,
    "security_account": SECURITY_ACCOUNT,
    "accounts": [
        *({"id": id, **NO_ROLE} for id in (MANAGEMENT_ACCOUNT, SECURITY_ACCOUNT)),
        account(
            301, key(301), ou="Workloads/Prod", tags=approver("owner@example.com"), audit_role=False
        ),
        account(302, key(302), name=NAME, audit_role=False),
        account(303, ou="Workloads", audit_role=False),
    ],
}
IAM, ACCOUNTS = "iam.amazonaws.com", "account.amazonaws.com"
STACK_SETS = "member.org.stacksets.cloudformation.amazonaws.com"
DENIES_ROOT = {
    "Version": "2012-10-17",
    "Statement": {
        "Sid": "DenyRoot",
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::*:root"}},
    },
}


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class AwsCli:
    """The AWS CLI, in one process for all commands, for its start takes most of the time."""

    PROGRAM = """
import contextlib, io, json, os, shlex, sys
from awscli.clidriver import create_clidriver
for line in sys.stdin:
    command, environment = json.loads(line)
    os.environ.update(environment)
    program, *arguments = shlex.split(command)
    assert program == "aws", command
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = create_clidriver().main(arguments)
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]), flush=True)
"""

    def __enter__(self) -> AwsCli:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._process = subprocess.Popen(
            [str(stack.ROOT / ".venv-checks/bin/python"), "-c", self.PROGRAM],
            cwd=stack.ROOT,
            env={**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, command: str, environment: dict[str, str]) -> Ran:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([command, environment]) + "\n")
        self._process.stdin.flush()
        return Ran(*json.loads(self._process.stdout.readline()))


class Operator:
    """Somebody at a shell, and the first sweep of everything."""

    sweep_id = ""

    def __init__(self, deployed: stack.Stack, aws_cli: AwsCli) -> None:
        self.stack = deployed
        self._aws_cli = aws_cli
        # Those of the SDK, for reading what all the services can do takes most of a command's time.
        self._sessions: dict[tuple[str | None, ...], Any] = {}

    def client(self, service: str, account_id: str = SECURITY_ACCOUNT) -> Any:
        return as_root(self.stack, account_id, service)

    def runs(self, command: str, account_id: str = SECURITY_ACCOUNT, **environment: str) -> Ran:
        """A line, typed with the credentials of an account."""
        keys = {
            "AWS_ACCESS_KEY_ID": account_id,
            "AWS_DEFAULT_REGION": self.stack.region,
            "AWS_ENDPOINT_URL": self.stack.endpoint,
            "AWS_SECRET_ACCESS_KEY": "test",
            "COLUMNS": "100",
        }
        if not command.startswith("rootsweep "):
            return self._aws_cli.run(command, {**keys, **environment})
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return self._in_process(shlex.split(command)[1:], {**kept, **keys, **environment})

    def _in_process(self, arguments: list[str], environment: dict[str, str]) -> Ran:
        out, err = io.StringIO(), io.StringIO()

        def session(**given: str | None) -> Any:
            key = (environment["AWS_ACCESS_KEY_ID"], *given.values())
            if key not in self._sessions:
                self._sessions[key] = boto3.session.Session(**given)
            return self._sessions[key]

        with (
            patch.dict(os.environ, environment, clear=True),
            patch("operate.stack.boto3.Session", session),
            patch("operate.sweep.SECONDS_BETWEEN_LOOKS", 0.2),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main(arguments)
        return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def follows(self, step: str, account_id: str = SECURITY_ACCOUNT) -> list[Ran]:
        """The commands under a heading of docs/deploy.md, one after the other."""
        text = (stack.ROOT / "docs/deploy.md").read_text()
        [part] = re.findall(rf"^##+ {step}.*?\n(.*?)(?=^##+ |\Z)", text, flags=re.M | re.S)
        # From step 4 on it is the security account, unless it says otherwise.
        assert account_id == SECURITY_ACCOUNT or "management account" in part
        lines = "".join(blocks_of(part)).replace("\\\n", " ").splitlines()
        return [self._follows(line, account_id) for line in lines if not line.startswith(NOT_HERE)]

    def _follows(self, line: str, account_id: str) -> Ran:
        [root] = organizations(self).list_roots()["Roots"]
        meant = line.replace("r-ab12", root["Id"]).replace("eu-west-1", self.stack.region)
        ran = self.runs(meant.replace("333333333333", CLEAN), account_id)
        assert ran.code == 0, (meant, ran)
        return ran

    def named(self) -> dict[str, dict[str, Any]]:
        """What doctor finds fault with, by the names of the checks; what waits is no fault."""
        ran = self.runs("rootsweep doctor --json")
        checks = {check["name"]: check for check in ran.json["checks"]}
        bad = {name for name, check in checks.items() if check["state"] in ("BROKEN", "UNKNOWN")}
        assert ran.code == (1 if bad else 0)
        return {
            name: check for name, check in checks.items() if check["state"] not in ("FINE", "WAITS")
        }

    def repairs(self, check: dict[str, Any]) -> None:
        accounts = {"management": MANAGEMENT_ACCOUNT, "security": SECURITY_ACCOUNT}
        assert check["repair"]
        for command in check["repair"]:
            ran = self.runs(command, accounts[check["repair_in"]])
            assert ran.code == 0, (command, ran)


# What stands in for them: that the tests run, and `stack.deploy` without questions.
NOT_HERE = ("make ", "sam ")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    parameters = {
        "AlertAddress": "alerts@example.com",
        "MailWindowSeconds": "0",
        "Quarantine": "14d",
        "ScheduleState": "ENABLED",
        "SecurityHub": "ENABLED",
    }
    with embedded_aws(tmp_path_factory, ORGANIZATION) as (aws, organization), AwsCli() as aws_cli:
        nothing = stack.Stack(aws.endpoint, stack.REGION, SECURITY_ACCOUNT, "", {})
        made = Operator(nothing, aws_cli)
        with_nothing_done(made)
        for step in ("1. ", "2. ", "3. "):
            made.follows(step, MANAGEMENT_ACCOUNT)
        *_, looked = made.follows("4. ")
        assert "BROKEN" not in looked.out
        # What some of these parameters want before.
        made.follows("Security Hub", MANAGEMENT_ACCOUNT)
        delegate_policies(made.stack)
        made.stack = stack.deploy(aws, organization, parameters)
        for step in ("6. ", "7. "):
            made.follows(step)
        for step in ("Nobody else", "Root activity"):
            made.follows(step, MANAGEMENT_ACCOUNT)
        swept = made.runs("rootsweep sweep --json")
        assert swept.code == 0, swept
        made.sweep_id = swept.json["sweep_id"]
        assert made.named() == {}
        yield made


# -- how each precondition is broken --------------------------------------------------------------


def organizations(operator: Operator) -> Any:
    return operator.client("organizations", MANAGEMENT_ACCOUNT)


def features(operator: Operator) -> None:
    httpx.post(
        f"{operator.stack.endpoint}/_rootsweep/organization",
        json={"feature_set": "CONSOLIDATED_BILLING"},
    ).raise_for_status()


def with_nothing_done(operator: Operator) -> None:
    """An organization in which nobody has begun."""
    trust(operator)
    delegate(operator, ACCOUNTS)
    for service in (ACCOUNTS, STACK_SETS):
        organizations(operator).disable_aws_service_access(ServicePrincipal=service)
    sandbox(operator)


def delegate(operator: Operator, service: str = IAM) -> None:
    organizations(operator).deregister_delegated_administrator(
        AccountId=SECURITY_ACCOUNT, ServicePrincipal=service
    )


def trust(operator: Operator) -> None:
    delegate(operator)
    organizations(operator).disable_aws_service_access(ServicePrincipal=IAM)


def root_credentials_management(operator: Operator) -> None:
    iam = operator.client("iam", MANAGEMENT_ACCOUNT)
    iam.disable_organizations_root_credentials_management()


def service_control_policy(operator: Operator) -> None:
    client = organizations(operator)
    made = client.create_policy(
        Name="no-root",
        Description="",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps(DENIES_ROOT),
    )
    id = made["Policy"]["PolicySummary"]["Id"]
    client.attach_policy(PolicyId=id, TargetId=HOSTILE)


def policy_type(operator: Operator) -> None:
    client = organizations(operator)
    client.disable_policy_type(
        RootId=client.list_roots()["Roots"][0]["Id"], PolicyType="SERVICE_CONTROL_POLICY"
    )


def concurrency(operator: Operator) -> None:
    client = operator.client("lambda")
    free = client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    found = operator.client("cloudformation").describe_stack_resource(
        StackName="rootsweep", LogicalResourceId="RecordBounceFunction"
    )
    client.put_function_concurrency(
        FunctionName=found["StackResourceDetail"]["PhysicalResourceId"],
        ReservedConcurrentExecutions=free - 10,
    )


def sandbox(operator: Operator) -> None:
    operator.client("sesv2").put_account_details(
        MailType="TRANSACTIONAL", WebsiteURL="https://example.com", ProductionAccessEnabled=False
    )


def subscription(operator: Operator) -> None:
    sns = operator.client("sns")
    topic = operator.stack.outputs["AlertTopicArn"]
    for each in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])


def parameter(operator: Operator, name: str, value: str) -> None:
    operator.client("ssm").put_parameter(
        Name=operator.stack.outputs[f"{name}Parameter"], Value=value, Overwrite=True
    )


def sender(operator: Operator) -> None:
    operator.client("sesv2").delete_email_identity(EmailIdentity=stack.SENDER)


def administrator(operator: Operator, verb: str = "disable") -> None:
    """Of Security Hub, whose hub is turned on as well, and then stays so."""
    hub = operator.client("securityhub", MANAGEMENT_ACCOUNT)
    getattr(hub, f"{verb}_organization_admin_account")(AdminAccountId=SECURITY_ACCOUNT)


def failed_sweep(operator: Operator) -> None:
    sender(operator)
    ran = operator.runs("rootsweep sweep")
    operator.client("sesv2").create_email_identity(EmailIdentity=stack.SENDER)
    assert ran.code == 1
    assert "SES has not verified the sender" in ran.out


def role_of_the_management_account(operator: Operator) -> None:
    client = operator.client("cloudformation", MANAGEMENT_ACCOUNT)
    client.delete_stack(StackName="rootsweep-audit-role")
    client.get_waiter("stack_delete_complete").wait(
        StackName="rootsweep-audit-role", WaiterConfig={"Delay": 1}
    )
    has_an_unknown_account(operator)


def role_of_a_member(operator: Operator) -> None:
    root = organizations(operator).list_roots()["Roots"][0]["Id"]
    operator.client("cloudformation", MANAGEMENT_ACCOUNT).delete_stack_instances(
        StackSetName="rootsweep-audit-role",
        DeploymentTargets={
            "OrganizationalUnitIds": [root],
            "Accounts": [CLEAN],
            "AccountFilterType": "INTERSECTION",
        },
        Regions=["us-east-1"],
        RetainStacks=False,
    )
    has_an_unknown_account(operator)


def has_an_unknown_account(operator: Operator) -> None:
    ran = operator.runs("rootsweep sweep --detect-only --json")
    assert (ran.code, ran.json["accounts"]["unknown"]) == (1, 1)


BREAK: dict[str, tuple[str, Callable[[Operator], object], str]] = {
    "features": ("all-features", features, "BROKEN"),
    "trust": ("trusted-access", trust, "BROKEN"),
    "delegate": ("delegated-administrator", delegate, "BROKEN"),
    "root credentials": ("root-credentials-management", root_credentials_management, "BROKEN"),
    "contacts": ("security-contacts", lambda operator: delegate(operator, ACCOUNTS), "NOTE"),
    "stack sets": (
        "stack-sets",
        lambda operator: organizations(operator).disable_aws_service_access(
            ServicePrincipal=STACK_SETS
        ),
        "NOTE",
    ),
    "a policy": ("service-control-policies", service_control_policy, "BROKEN"),
    "delegation": (
        "quarantine",
        lambda operator: organizations(operator).delete_resource_policy(),
        "BROKEN",
    ),
    "policy type": ("quarantine", policy_type, "BROKEN"),
    "concurrency": ("lambda-concurrency", concurrency, "BROKEN"),
    "sender": ("sender", sender, "BROKEN"),
    "sandbox": ("ses-sandbox", sandbox, "BROKEN"),
    "sending": (
        "ses-sending",
        lambda operator: operator.client("sesv2").put_account_sending_attributes(
            SendingEnabled=False
        ),
        "BROKEN",
    ),
    "administrator": ("security-hub-administrator", administrator, "BROKEN"),
    "alerts": ("alert-topic", subscription, "BROKEN"),
    "kill switch": (
        "kill-switch",
        lambda operator: parameter(operator, "KillSwitch", "on"),
        "BROKEN",
    ),
    "policy": (
        "escalation-policy",
        lambda operator: parameter(operator, "EscalationPolicy", '[{"after": "7d"}]'),
        "BROKEN",
    ),
    "sweep": ("last-sweep", failed_sweep, "BROKEN"),
    "role in the management account": (
        "member-role",
        role_of_the_management_account,
        "BROKEN",
    ),
    "role in a member": ("member-role", role_of_a_member, "BROKEN"),
}


@pytest.mark.parametrize("what", BREAK)
def test_doctor_names_what_is_broken_and_its_repair_repairs_it(
    operator: Operator, what: str
) -> None:
    name, break_it, state = BREAK[what]
    break_it(operator)

    found = operator.named()

    assert {each: check["state"] for each, check in found.items()} == {name: state}
    operator.repairs(found[name])
    if name == "member-role":
        assert operator.runs("rootsweep sweep --detect-only").code == 0
    assert operator.named() == {}


def test_security_hub_is_turned_on_before_it_has_an_administrator(operator: Operator) -> None:
    """The hub of an administrator cannot be turned off."""
    administrator(operator)
    operator.client("securityhub").disable_security_hub()

    for name in ("security-hub", "security-hub-administrator"):
        found = operator.named()

        assert {each: check["state"] for each, check in found.items()} == {name: "BROKEN"}
        operator.repairs(found[name])
    assert operator.named() == {}


def test_the_schedule_is_enabled_with_the_code_that_runs(operator: Operator) -> None:
    as_it_was = operator.client("cloudformation").get_template(StackName="rootsweep")
    kept = preconditions._with_parameter(
        Stack("rootsweep", "", {}, parameters(operator)), "ScheduleState", "DISABLED"
    )
    assert operator.runs(kept).code == 0
    updated(operator)

    found = operator.named()

    assert {each: check["state"] for each, check in found.items()} == {"schedule": "NOTE"}
    operator.repairs(found["schedule"])
    updated(operator)
    assert operator.named() == {}
    assert parameters(operator)["MailWindowSeconds"] == "0"
    now = operator.client("cloudformation").get_template(StackName="rootsweep")
    assert now["TemplateBody"] == as_it_was["TemplateBody"]


def parameters(operator: Operator) -> dict[str, str]:
    [found] = operator.client("cloudformation").describe_stacks(StackName="rootsweep")["Stacks"]
    return {each["ParameterKey"]: each["ParameterValue"] for each in found["Parameters"]}


def updated(operator: Operator) -> None:
    operator.client("cloudformation").get_waiter("stack_update_complete").wait(
        StackName="rootsweep", WaiterConfig={"Delay": 1}
    )


def test_the_policy_of_rootsweep_is_named_where_it_does_not_fit_the_stack(
    operator: Operator,
) -> None:
    client = operator.client("cloudformation", MANAGEMENT_ACCOUNT)

    def delete() -> None:
        client.delete_stack(StackName="rootsweep-root-sessions")
        client.get_waiter("stack_delete_complete").wait(
            StackName="rootsweep-root-sessions", WaiterConfig={"Delay": 1}
        )

    delete()
    ran = operator.runs(
        "aws cloudformation deploy --template-file root-session-policy.yaml"
        " --stack-name rootsweep-root-sessions --parameter-overrides RootsweepStackName=rootsweep"
        f" SecurityAccountId={SECURITY_ACCOUNT} RootsweepRegion=eu-west-3",
        MANAGEMENT_ACCOUNT,
    )
    assert ran.code == 0, ran
    found = operator.named()
    delete()
    operator.follows("Nobody else", MANAGEMENT_ACCOUNT)

    assert {each: check["state"] for each, check in found.items()} == {
        "service-control-policies": "BROKEN"
    }
    assert operator.named() == {}


def test_who_comes_with_the_management_account_is_sent_away(operator: Operator) -> None:
    ran = operator.runs("rootsweep doctor --json", MANAGEMENT_ACCOUNT)

    states = {check["name"]: check["state"] for check in ran.json["checks"]}
    assert ran.code == 1
    assert states.pop("account") == "BROKEN"
    assert set(states.values()) == {"WAITS"}


def test_before_a_deploy_doctor_looks_at_what_can_be_there(operator: Operator) -> None:
    ran = operator.runs("rootsweep doctor --json --region eu-west-1")

    looked = {check["name"]: check for check in ran.json["checks"]}
    assert ran.json["stack"] is None
    assert looked.keys() & {"stack", "kill-switch", "last-sweep", "member-role"} == set()
    # The policy of step 9 is for the Region in which there is a stack.
    assert {name for name, check in looked.items() if check["state"] != "FINE"} == {
        "sender",
        "service-control-policies",
    }
    by_variable = operator.runs("rootsweep doctor --json", AWS_REGION="eu-west-1")
    assert by_variable.json["region"] == "eu-west-1"
    ran = operator.runs("rootsweep doctor --json --region eu-west-1 --sender me@example.com")
    assert [each["repair"] for each in ran.json["checks"] if each["name"] == "sender"] == [
        ["aws ses verify-email-identity --email-address me@example.com --region eu-west-1"]
    ]


# -- the other commands ---------------------------------------------------------------------------


def documented() -> dict[str, Any]:
    """The policy of docs/operate.md."""
    text = (stack.ROOT / "docs/operate.md").read_text()
    policy: dict[str, Any] = json.loads(text.partition("```json\n")[2].partition("```")[0])
    return policy


def commands() -> list[str]:
    """The commands of the documents, in their order."""
    return [
        line
        for name in ("README.md", "docs/deploy.md", "docs/operate.md", "docs/runbook.md")
        for block in (stack.ROOT / name).read_text().split("```sh\n")[1:]
        for line in block.partition("```")[0].splitlines()
        if line.startswith("rootsweep ")
    ]


def as_role(operator: Operator, name: str, policy: dict[str, Any]) -> dict[str, str]:
    """The environment of a role of the security account that may do this."""
    iam, sts = operator.client("iam"), operator.client("sts")
    trust = allow("sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{SECURITY_ACCOUNT}:root"})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=json.dumps(policy))
    session = sts.assume_role(RoleArn=role, RoleSessionName="operator")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }


def test_whoever_has_the_documented_policy_can_run_the_documented_commands(
    operator: Operator, tmp_path: Path
) -> None:
    role = as_role(operator, "operator", documented())
    case = operator.runs(f"rootsweep cases --account {WITH_KEYS} --json").json[0]["id"]
    lines = commands()
    assert {line.split()[1] for line in lines} == {"doctor", "sweep", "cases", "report"}
    assert len(lines) > 10

    for line in dict.fromkeys(lines):
        meant = line.replace("333333333333-20261122T060102Z", case).replace("333333333333", CLEAN)
        meant = meant.replace("--output reports", f"--output {tmp_path}")
        ran = operator.runs(meant, **role)

        assert ran.code == 0, (meant, ran)
        assert "Denied" not in ran.out + ran.err, (meant, ran)
    assert json.loads((tmp_path / "report.json").read_text())["accounts"]


def test_what_somebody_may_not_look_at_is_unknown_and_not_fine(operator: Operator) -> None:
    policy = documented()
    for statement in policy["Statement"][:2]:
        statement["Action"].remove(
            "ses:GetAccount" if "ses:GetAccount" in statement["Action"] else "ssm:GetParameter"
        )
    ran = operator.runs("rootsweep doctor --json", **as_role(operator, "trainee", policy))

    unknown = {
        check["name"]: check["detail"]
        for check in ran.json["checks"]
        if check["state"] == "UNKNOWN"
    }
    assert ran.code == 1
    assert unknown.keys() == {"ses-sandbox", "ses-sending", "kill-switch", "escalation-policy"}
    assert "You need ses:GetAccount" in unknown["ses-sandbox"]


def test_nothing_hostile_reaches_a_terminal(operator: Operator) -> None:
    case = operator.runs(f"rootsweep cases --account {HOSTILE} --json").json[0]["id"]
    report = f"report {operator.sweep_id}"
    for command in ("cases", f"cases {case}", report, "cases --json", f"{report} --json"):
        ran = operator.runs(f"rootsweep {command}")

        assert ran.code == 0
        assert "[red]evil[/red]" in ran.out
        unseen = {each for each in ran.out if not each.isprintable()} - {"\n"}
        assert unseen == set(), command


def test_no_token_is_shown(operator: Operator) -> None:
    table = operator.stack.resource("dynamodb").Table(operator.stack.outputs["TableName"])
    tokens = [item["task_token"] for item in table.scan()["Items"] if "task_token" in item]
    assert tokens
    for command in ("cases --json", f"cases --account {WITH_KEYS} --json"):
        ran = operator.runs(f"rootsweep {command}")
        assert not [token for token in tokens if token in ran.out]
        assert "token" not in ran.out


def test_ctrl_c_leaves_the_sweep_running(operator: Operator) -> None:
    with patch("operate.sweep.time", SimpleNamespace(sleep=Mock(side_effect=KeyboardInterrupt))):
        ran = operator.runs(f"rootsweep sweep --account {CLEAN} --detect-only")

    assert ran.code == 130
    assert "goes on without you" in ran.err
    listed = operator.client("stepfunctions").list_executions(
        stateMachineArn=operator.stack.outputs["SweepStateMachineArn"], maxResults=1
    )["executions"]
    assert listed[0]["status"] in ("RUNNING", "SUCCEEDED")
    [id] = re.findall(r"rootsweep report (\S+)", ran.err)
    report = Deployed.until(
        lambda: operator.runs(f"rootsweep report {id} --json").out, "the report of that sweep"
    )
    assert [row["id"] for row in json.loads(report)["accounts"]] == [CLEAN]


def test_ended_cases_are_found_without_a_scan(operator: Operator) -> None:
    execution = operator.runs(f"rootsweep cases --account {HOSTILE} --json").json[0]
    operator.client("stepfunctions").stop_execution(executionArn=execution["execution_arn"])

    def failed() -> Any:
        return operator.runs("rootsweep cases --outcome failed --json").json

    assert [case["id"] for case in Deployed.until(failed, "a case to be FAILED")] == [
        execution["id"]
    ]
    assert execution["id"] not in operator.runs("rootsweep cases").out
    ran = operator.runs(f"rootsweep cases {execution['id']}")
    assert "FAILED" in ran.out
    assert "ABORTED" in ran.out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sweep --account 12345", "accounts[0]: '12345' is not a 12-digit account id"),
        ("cases --account 12345", "--account: '12345' is not a 12-digit account id"),
        ("cases 333333333333", "is not the id of a case like"),
        ("cases 333333333333-20261122T060102Z", "There is no case"),
        ("report ../../x", "is not the id of a sweep like"),
        ("report 20261122T060000Z-1a2b3c4d", "There is no report of sweep"),
        ("cases --stack-name other", "There is no Rootsweep stack called other"),
        ("cases --profile none", "The config profile (none) could not be found"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(operator: Operator, command: str, said: str) -> None:
    ran = operator.runs(f"rootsweep {command}")

    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_a_terminal_has_a_progress_bar_and_colours(operator: Operator) -> None:
    own, end = pty.openpty()
    keys = {
        "AWS_ACCESS_KEY_ID": SECURITY_ACCOUNT,
        "AWS_DEFAULT_REGION": operator.stack.region,
        "AWS_ENDPOINT_URL": operator.stack.endpoint,
        "AWS_SECRET_ACCESS_KEY": "test",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(stack.ROOT / "functions"),
        "TERM": "xterm",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "operate", "sweep", "--account", CLEAN, "--detect-only"],
        cwd=stack.ROOT,
        env=keys,
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Where the other end is closed, and nothing is left.
        while part := os.read(own, 4096):
            shown += part
    os.close(own)

    assert process.wait() == 0
    assert b"1/1" in shown
    assert b"\x1b[32mCLEAN" in shown


# -- the runbook ----------------------------------------------------------------------------------

AWS = """
import json, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(os.environ["AWS_CLI"])
with there.makefile("rw") as file:
    print(json.dumps([sys.argv[1:], os.environ["AWS_ACCESS_KEY_ID"]]), file=file, flush=True)
    code, out, err = json.loads(file.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@contextlib.contextmanager
def shell_with_aws(operator: Operator, folder: Path) -> Iterator[Callable[[str, str], Any]]:
    """Runs what is pasted into a shell, whose `aws` is the one AWS CLI of these tests."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            arguments, account_id = json.loads(self.rfile.readline())
            if arguments[0] == "sqs":  # For which it does not look at the variable.
                arguments += ["--endpoint-url", operator.stack.endpoint]
            ran = operator.runs(shlex.join(["aws", *arguments]), account_id)
            self.wfile.write(json.dumps([ran.code, ran.out, ran.err]).encode() + b"\n")

    program, address = folder / "aws", str(folder / "socket")
    program.write_text(f"#!{sys.executable}\n{AWS}")
    program.chmod(0o755)
    with socketserver.UnixStreamServer(address, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def run(text: str, account_id: str) -> Any:
            environment = {
                **os.environ,
                "AWS_ACCESS_KEY_ID": account_id,
                "AWS_CLI": address,
                "PATH": f"{folder}:{os.environ['PATH']}",
            }
            command = ["bash", "-euo", "pipefail", "-c", text]
            return subprocess.run(
                command, capture_output=True, env=environment, text=True, check=False, timeout=60
            )

        yield run
        server.shutdown()


def stopped_sweep(operator: Operator) -> str:
    """The ARN of a sweep that somebody has stopped."""
    states = operator.client("stepfunctions")
    machine = operator.stack.outputs["SweepStateMachineArn"]
    execution = states.start_execution(stateMachineArn=machine)["executionArn"]
    states.stop_execution(executionArn=execution)
    return str(execution)


def test_every_command_of_the_runbook_runs(operator: Operator, tmp_path: Path) -> None:
    """Each block in a shell of its own, after the first one, which has what the others need."""
    first, *blocks = blocks_of((stack.ROOT / "docs/runbook.md").read_text())
    table = operator.stack.resource("dynamodb").Table(operator.stack.outputs["TableName"])
    meant = {
        "333333333333": WITH_KEYS,
        "payments-leads@example.com": "owner@example.com",
        # Its own, in another process; `rootsweep` and `make` have tests.
        "/dev/stdout": "/dev/null",
        # Version 1 takes text for what it is.
        "--cli-binary-format raw-in-base64-out": "",
        "rootsweep cases": ": rootsweep cases",
        "make verify-log": ": make verify-log",
    }
    assert len(blocks) > 20
    with shell_with_aws(operator, tmp_path) as run:
        for block in blocks:
            if "stop-execution" in block:
                # What was decided without a decision has ended the last one.
                operator.runs(f"rootsweep sweep --account {WITH_KEYS}")
            case = operator.runs(f"rootsweep cases --account {WITH_KEYS} --json").json[0]
            if "delivered_again" in block:
                # Decided, and nobody was told.
                table.update_item(
                    Key={"pk": f"CASE#{case['id']}", "sk": "CASE"},
                    UpdateExpression="SET decided = :yes",
                    ExpressionAttributeValues={":yes": "YES"},
                )
            here = block.replace("333333333333-20261122T060102Z", case["id"])
            for there, this in meant.items():
                here = here.replace(there, this)
            execution = case["execution_arn"]
            if "redrive-execution" in block:
                execution = stopped_sweep(operator)
            if "delete-suppressed-destination" in block:
                operator.client("sesv2").put_suppressed_destination(
                    EmailAddress="owner@example.com", Reason="BOUNCE"
                )
            prepared = f"{first}EXECUTION={execution}\n{here}"
            if "aws organizations" in block:
                ran = run(here, MANAGEMENT_ACCOUNT)
            else:
                ran = run(prepared, SECURITY_ACCOUNT)

            assert ran.returncode == 0, (block, ran.stdout, ran.stderr)
            # A function of one is there for the next ones.
            first += "".join(
                f"{each}\n" for each in re.findall(r"^\w+\(\) \{.*?\}$", here, flags=re.M | re.S)
            )
    # The last ones turn everything off.
    assert operator.named().keys() == {"kill-switch"}


def test_every_command_about_the_embedded_aws_runs(operator: Operator) -> None:
    """Those of the README have tests of their own, but for the one that stops all deletions."""
    blocks = blocks_of((stack.ROOT / "local/README.md").read_text())
    blocks += [each for each in blocks_of((stack.ROOT / "README.md").read_text()) if "ssm" in each]
    assert len(blocks) == 4
    for block in blocks:
        here = block.replace("http://127.0.0.1:4566", operator.stack.endpoint)
        shell(operator, here.replace("300000000001", CLEAN), SECURITY_ACCOUNT)

    def post(path: str, **data: str) -> Any:
        return httpx.post(f"{operator.stack.endpoint}/_rootsweep/{path}", json=data).json()

    found = httpx.get(f"{operator.stack.endpoint}/_rootsweep/organization").json()
    assert found["accounts"][CLEAN]["access_keys"]
    assert found["accounts"][CLEAN]["state"] == "SUSPENDED"
    post("organization", account=CLEAN, state="ACTIVE")
    rules = httpx.get(f"{operator.stack.endpoint}/_rootsweep/faults").json()["rules"]
    assert [rule["about"] for rule in rules] == [[CLEAN]]
    assert operator.named().keys() == {"kill-switch"}


# -- and back to nothing; the last of all ---------------------------------------------------------


def test_uninstalling_leaves_behind_what_the_document_says(operator: Operator) -> None:
    *guard_rails, stack_itself, roles, tables = sections("## Uninstall")
    [root] = organizations(operator).list_roots()["Roots"]
    for case in operator.runs("rootsweep cases --json").json:
        operator.client("stepfunctions").stop_execution(executionArn=case["execution_arn"])
    delete_identity = "aws sesv2 delete-email-identity --email-identity rootsweep@example.com"
    assert delete_identity in (stack.ROOT / "docs/deploy.md").read_text()

    for block in guard_rails:
        shell(
            operator,
            block.replace("r-ab12", root["Id"]).replace("eu-west-1", operator.stack.region),
            MANAGEMENT_ACCOUNT,
        )
    # Entries of the log are locked.
    tables = tables.replace("delete-objects ", "delete-objects --bypass-governance-retention ")
    shell(operator, stack_itself + tables + delete_identity, SECURITY_ACCOUNT)
    shell(
        operator,
        roles.replace("r-ab12", root["Id"]).replace("eu-west-1", operator.stack.region),
        MANAGEMENT_ACCOUNT,
    )

    for account_id in (MANAGEMENT_ACCOUNT, SECURITY_ACCOUNT, CLEAN):
        stacks = operator.client("cloudformation", account_id).describe_stacks()["Stacks"]
        left = {each["StackName"] for each in stacks if "COMPLETE" in each["StackStatus"]}
        assert left <= {"aws-sam-cli-managed-default"}, account_id
        roles_left = operator.client("iam", account_id).list_roles()["Roles"]
        names = {each["RoleName"] for each in roles_left}
        ours = {name for name in names if name.startswith(("rootsweep", "StackSet"))}
        assert {name.split("-")[1] for name in ours} <= {"ApiGatewayLogRole"}
    assert operator.client("dynamodb").list_tables()["TableNames"] == []
    assert operator.client("lambda").list_functions()["Functions"] == []
    assert operator.client("sqs").list_queues().get("QueueUrls", []) == []
    assert operator.client("sesv2").list_email_identities()["EmailIdentities"] == []
    buckets = operator.client("s3").list_buckets()["Buckets"]
    assert [each["Name"] for each in buckets if not each["Name"].startswith("aws-sam-cli")] == []
    trusted = organizations(operator).list_aws_service_access_for_organization()
    services = {each["ServicePrincipal"] for each in trusted["EnabledServicePrincipals"]}
    assert not services & {IAM, ACCOUNTS, STACK_SETS}
    with pytest.raises(ClientError, match="ResourcePolicyNotFound"):
        organizations(operator).describe_resource_policy()
    groups = operator.client("logs").describe_log_groups()["logGroups"]
    assert [each["logGroupName"] for each in groups if "rootsweep" in each["logGroupName"]] == []


def sections(heading: str) -> list[str]:
    """The blocks for a shell under a heading of docs/deploy.md."""
    part = (stack.ROOT / "docs/deploy.md").read_text().partition(f"{heading}\n")[2]
    return blocks_of(part)


def blocks_of(text: str) -> list[str]:
    """The blocks for a shell in a document."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.M | re.S)
    return [textwrap.dedent(block) for block in blocks]


def shell(operator: Operator, text: str, account_id: str) -> None:
    """What somebody pastes into a shell with the credentials of an account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    programs = (".venv/bin", ".venv-checks/bin")
    path = ":".join(str(stack.ROOT / each) for each in programs) + ":" + kept["PATH"]
    environment = {
        **kept,
        "AWS_ACCESS_KEY_ID": account_id,
        "AWS_DEFAULT_REGION": operator.stack.region,
        "AWS_ENDPOINT_URL": operator.stack.endpoint,
        "AWS_SECRET_ACCESS_KEY": "test",
        "PATH": path,
        "SAM_CLI_TELEMETRY": "0",
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        capture_output=True,
        env=environment,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, (text, ran.stdout, ran.stderr)
