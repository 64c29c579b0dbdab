"""The shipped definition with the shipped handlers, in this process."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import moto
import pytest
import yaml
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sns.models import sns_backends

from rootsweep import escalation, holds, root_access

from . import interpreter
from .world import Contacts, Mailbox, Organizations, RootUser, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
DEFINITION = REPOSITORY / "statemachine" / "remediate.asl.yaml"
REGION = "us-east-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": REGION,
    "APPROVAL_URL": "https://approvals.example.com",
    "APPROVER_TAG": "rootsweep-approver",
    "CANARY_DELETIONS": "1",
    "CONFIGURATION_SET": "rootsweep-mails",
    "DEFAULT_APPROVER": "security@example.com",
    "CASE_RETENTION_DAYS": "400",
    "MAIL_WINDOW_SECONDS": "0",
    "KILL_SWITCH_PARAMETER": "/rootsweep/kill-switch",
    "MANUAL_REMOVAL_CHECK_SECONDS": "1",
    "MAX_EXCEPTION_DAYS": "90",
    "PARTITION": "aws",
    "QUARANTINE": "",
    "QUARANTINE_POLICY_NAME": "rootsweep-quarantine",
    "SECOND_APPROVER": "lead@example.com",
    "SENDER": "rootsweep@example.com",
    "TABLE": "cases-of-the-workflow",
    "TWO_APPROVERS_IF_USED_WITHIN_DAYS": "90",
    "TWO_APPROVERS_ORGANIZATIONAL_UNITS": "",
}
FUNCTIONS = (
    "approval_page",
    "check_manual_removal",
    "confirm_removal",
    "delete_root_keys",
    "deliver_decision",
    "find_approvers",
    "gather_evidence",
    "hold_deletion",
    "quarantine_root_user",
    "read_decision",
    "record_outcome",
    "request_approval",
    "request_manual_removal",
)


@pytest.fixture(scope="session")
def modules() -> dict[str, Any]:
    """The handler files, loaded with an environment of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        return {name: _load(name) for name in FUNCTIONS}


def _load(name: str) -> Any:
    path = REPOSITORY / "functions" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"workflow_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a test of the workflow reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def world(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """Makes a world whose cases climb the `ladder`, in which the kill switch is off."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    handlers = {name: module.handler for name, module in modules.items()}
    interpreter.install(monkeypatch, handlers)

    def make(ladder: str = '[{"after": "60s", "notify": ["approvers"]}]') -> World:
        root, mailbox = RootUser(), Mailbox()
        monkeypatch.setattr(root_access, "audit_session", root.audit_session)
        monkeypatch.setattr(root_access, "delete_session", root.delete_session)
        monkeypatch.setattr(
            root_access.SummaryReader,
            "read",
            lambda _, account_id, opened_for: root.read_summary(account_id),  # noqa: ARG005
        )
        organizations, contacts = Organizations(), Contacts()
        monkeypatch.setattr(modules["find_approvers"], "organizations", organizations)
        sources = replace(
            modules["find_approvers"].sources, organizations=organizations, account_client=contacts
        )
        monkeypatch.setattr(modules["find_approvers"], "sources", sources)
        ssm = boto3.client("ssm")
        for name in ("delete_root_keys", "hold_deletion"):
            monkeypatch.setattr(modules[name], "ssm", ssm)
        # What a deletion waits for is minutes on AWS.
        monkeypatch.setattr(holds, "SHORTEST_WAIT", timedelta(seconds=1))
        for name in ("request_approval", "request_manual_removal"):
            post = replace(modules[name].post, ses=mailbox)
            monkeypatch.setattr(modules[name], "post", post)
        topic_arn = boto3.client("sns").create_topic(Name="alerts")["TopicArn"]
        machine = boto3.client("stepfunctions").create_state_machine(
            name="remediate",
            definition=definition(DEFINITION, topic_arn=topic_arn),
            roleArn=f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/any",
        )
        topic = sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics[topic_arn]
        machine_arn = machine["stateMachineArn"]
        here = World(
            root,
            mailbox,
            _table(),
            handlers,
            machine_arn,
            topic,
            escalation.parse(ladder),
            organizations,
        )
        here.kill_switch("off")
        return here

    with moto.mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        yield make


def definition(file: Path, *, topic_arn: str) -> str:
    """The definition in a file as it is deployed, but for its patience with errors."""
    values = {
        "AlertTopicArn": topic_arn,
    }

    def substitute(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        file = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("FunctionArn")).lower()
        return f"arn:aws:lambda:{REGION}:{DEFAULT_ACCOUNT_ID}:function:{file}"

    machine = yaml.safe_load(re.sub(r"\$\{(\w+)\}", substitute, file.read_text()))
    for state in machine["States"].values():
        for retry in state.get("Retry", []):
            if retry["MaxAttempts"]:
                retry |= {"IntervalSeconds": 1, "MaxAttempts": 1}
    return json.dumps(machine)


def _table() -> Any:
    return boto3.resource("dynamodb").create_table(
        TableName=ENVIRONMENT["TABLE"],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
