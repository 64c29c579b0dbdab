"""The guard rails around Rootsweep: who else opens root sessions, and what root users do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from .conftest import (
    AUDIT,
    MANAGEMENT_ACCOUNT,
    SECURITY_ACCOUNT,
    with_a_role_for_root_sessions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Deployed

EXPLAINED, FOREIGN, GUARDED, MAKING = (f"400000000{n}" for n in (200, 201, 202, 203))
TEMPLATES = Path(__file__).resolve().parents[2]


class Operator:
    """A role of an account that may open root sessions, and is none of Rootsweep's."""

    def __init__(self, deployed: Deployed, account: str) -> None:
        self._sts = with_a_role_for_root_sessions(deployed.stack, account)

    def open(self, account: str) -> dict[str, str]:
        """The credentials of a root session."""
        answer = self._sts.assume_root(TargetPrincipal=account, TaskPolicyArn={"arn": AUDIT})
        credentials: dict[str, str] = answer["Credentials"]
        return credentials


@pytest.fixture(scope="module")
def operator(deployed: Deployed) -> Operator:
    return Operator(deployed, SECURITY_ACCOUNT)


class Template:
    """A template of this repository, deployed in another account for the Rootsweep stack."""

    def __init__(self, deployed: Deployed, account: str, name: str) -> None:
        self._name = name
        self._cloudformation = deployed.as_root(account, "cloudformation")
        parameters = {
            "SecurityAccountId": SECURITY_ACCOUNT,
            "RootsweepRegion": deployed.stack.region,
        }
        self._cloudformation.create_stack(
            StackName=name,
            TemplateBody=(TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8"),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )
        self._wait("stack_create_complete")

    def delete(self) -> None:
        self._cloudformation.delete_stack(StackName=self._name)
        self._wait("stack_delete_complete")

    def _wait(self, state: str) -> None:
        self._cloudformation.get_waiter(state).wait(
            StackName=self._name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )


def told(deployed: Deployed, *words: str) -> str:
    """The alert that has all these words."""
    return str(
        deployed.until(
            lambda: next(
                (alert for alert in deployed.alerts() if all(word in alert for word in words)), None
            ),
            f"an alert with {words}",
        )
    )


def logged(deployed: Deployed) -> str:
    """What the function that explains root sessions logged."""
    logs = deployed.stack.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/lambda/rootsweep/explain_root_session"
    )
    return "\n".join(event["message"] for page in pages for event in page["events"])


def test_a_root_session_outside_of_any_case_is_told_of_at_once(
    deployed: Deployed, operator: Operator
) -> None:
    opened = operator.open(FOREIGN)

    alert = told(deployed, "A root session that no case explains", FOREIGN)
    assert f"arn:aws:sts::{SECURITY_ACCOUNT}:assumed-role/operator/eve" in alert
    assert f"Account of the root user: {FOREIGN}" in alert
    assert f"Task policy: {AUDIT}" in alert
    assert opened["AccessKeyId"] in alert
    said = "\n".join([*deployed.alerts(), logged(deployed)])
    assert "root session unexplained: Caller: " in said
    assert opened["SessionToken"] not in said
    assert opened["SecretAccessKey"] not in said


def test_the_root_sessions_of_a_case_are_explained(deployed: Deployed, operator: Operator) -> None:
    deployed.sweep(accounts=[EXPLAINED])
    deployed.approve(EXPLAINED, deployed.mail_about(EXPLAINED).link)
    case = deployed.case_when(EXPLAINED, "REMEDIATED")

    notes = [item for item in deployed.items() if item.get("account_id") == EXPLAINED]
    notes = [item for item in notes if item["sk"] == "ROOT_SESSION"]
    assert {note["task"] for note in notes} == {
        "IAMAuditRootUserCredentials",
        "IAMDeleteRootUserCredentials",
    }
    assert {note["opened_for"] for note in notes} == {case["case_id"], case["sweep_id"]}
    # Told of after all that was to be told of the case.
    told(deployed, "no case explains", operator.open(FOREIGN)["AccessKeyId"])
    assert not [alert for alert in deployed.alerts() if "no case" in alert and EXPLAINED in alert]


def test_only_a_foreign_attempt_at_a_root_session_is_told_of(
    deployed: Deployed, operator: Operator
) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        operator.open(MANAGEMENT_ACCOUNT)

    alert = told(deployed, "Somebody tried to open a root session", MANAGEMENT_ACCOUNT)
    assert "assumed-role/operator/eve" in alert
    assert not [
        alert
        for alert in deployed.alerts()
        if "tried to open a root session" in alert and "assumed-role/rootsweep-" in alert
    ]


@pytest.fixture
def policy(deployed: Deployed) -> Iterator[Template]:
    deployed_template = Template(deployed, MANAGEMENT_ACCOUNT, "root-session-policy")
    yield deployed_template
    deployed_template.delete()


@pytest.mark.usefixtures("policy")
def test_with_its_policy_nobody_but_rootsweep_opens_root_sessions(
    deployed: Deployed, operator: Operator
) -> None:
    with pytest.raises(ClientError, match="explicit deny in a service control policy"):
        operator.open(GUARDED)
    told(deployed, "tried to open a root session", GUARDED, "service control policy")

    deployed.sweep(accounts=[GUARDED])
    deployed.approve(GUARDED, deployed.mail_about(GUARDED).link)
    deployed.case_when(GUARDED, "REMEDIATED")


def test_without_its_policy_everything_is_as_before(deployed: Deployed, operator: Operator) -> None:
    Template(deployed, MANAGEMENT_ACCOUNT, "root-session-policy").delete()

    assert operator.open(GUARDED)


def test_a_key_that_a_root_user_makes_is_told_of_and_swept(deployed: Deployed) -> None:
    member = Template(deployed, MAKING, "member-events")
    made = deployed.root_of(MAKING).create_access_key()["AccessKey"]["AccessKeyId"]

    told(deployed, f"The root user of account {MAKING} made an access key")
    mail = deployed.mail_about(MAKING)
    assert made in mail.text
    case = deployed.case_of(MAKING)
    started = deployed.stepfunctions.list_executions(
        stateMachineArn=deployed.stack.outputs["SweepStateMachineArn"]
    )["executions"]
    inputs = [
        deployed.stepfunctions.describe_execution(executionArn=each["executionArn"])["input"]
        for each in started
    ]
    assert {"accounts": [MAKING]} in [json.loads(each) for each in inputs]
    deployed.approve(MAKING, mail.link)
    deployed.case_when(MAKING, "REMEDIATED")
    assert case["case_id"] == deployed.case_of(MAKING)["case_id"]
    member.delete()


def test_the_management_account_tells_of_root_access_and_of_root_sessions(
    deployed: Deployed,
) -> None:
    member = Template(deployed, MANAGEMENT_ACCOUNT, "member-events")
    iam = deployed.as_management("iam")
    iam.disable_organizations_root_sessions()
    told(deployed, f"DisableOrganizationsRootSessions in account {MANAGEMENT_ACCOUNT}")
    iam.enable_organizations_root_sessions()
    told(deployed, f"EnableOrganizationsRootSessions in account {MANAGEMENT_ACCOUNT}")

    opened = Operator(deployed, MANAGEMENT_ACCOUNT).open(FOREIGN)

    alert = told(deployed, "no case explains", opened["AccessKeyId"])
    assert f"arn:aws:sts::{MANAGEMENT_ACCOUNT}:assumed-role/operator/eve" in alert
    member.delete()
