"""What a role must not do is tried with its credentials, and denied.

As somebody would who runs code of their own with the role: in a function that has its name and its
role.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from .world import CLEAN, KEYED, OWNER

if TYPE_CHECKING:
    from .world import World

CODE = """
import os, boto3
from botocore.exceptions import ClientError
def handler(event, context):
    client = boto3.client(event["service"], endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    try:
        getattr(client, event["method"])(**event["given"])
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "done"
"""
TASKS = "arn:aws:iam::aws:policy/root-task"
TABLE, BUCKET = "<table>", "<bucket>"


def root_session(task: str) -> tuple[str, str, dict[str, Any]]:
    given = {"TargetPrincipal": KEYED, "TaskPolicyArn": {"arn": f"{TASKS}/{task}"}}
    return "sts", "assume_root", {**given, "DurationSeconds": 900}


def item(method: str, pk: str, table: str = TABLE) -> tuple[str, str, dict[str, Any]]:
    key = {"pk": {"S": pk}, "sk": {"S": "x"}}
    name = "Item" if method == "put_item" else "Key"
    return "dynamodb", method, {"TableName": table, name: key}


def put(name: str) -> tuple[str, str, dict[str, Any]]:
    return "s3", "put_object", {"Bucket": BUCKET, "Key": f"sweeps/s/{name}", "Body": "x"}


def mail(sender: str) -> tuple[str, str, dict[str, Any]]:
    text = {"Data": "x"}
    content = {"Simple": {"Subject": text, "Body": {"Text": text}}}
    destination = {"ToAddresses": [OWNER]}
    given = {"FromEmailAddress": sender, "Destination": destination, "Content": content}
    return "sesv2", "send_email", given


AUDIT = root_session("IAMAuditRootUserCredentials")
DELETE = root_session("IAMDeleteRootUserCredentials")
PASSWORD = root_session("IAMCreateRootUserPassword")
MAIL = mail("rootsweep@example.com")
ELSE = mail("ceo@example.com")
TASK = ("stepfunctions", "send_task_success", {"taskToken": "x" * 200, "output": "{}"})
ROLE = (
    "sts",
    "assume_role",
    {"RoleArn": f"arn:aws:iam::{CLEAN}:role/other", "RoleSessionName": "probe"},
)
USERS = ("iam", "list_users", {})
OTHER_TABLE = item("get_item", "CASE#1", "other")

ALLOWED = [
    ("DeleteRootKeys", DELETE),
    ("GatherEvidence", AUDIT),
    ("ApprovalPage", item("get_item", "CASE#1")),
    ("ListAccounts", put("accounts.json")),
]
DENIED = {
    "ApprovalPage": [
        *(AUDIT, DELETE, PASSWORD, ROLE, USERS, MAIL, TASK, OTHER_TABLE),
        *(put("report.json"), item("put_item", "LINK#1"), item("put_item", "CASE#1")),
        *(item("update_item", "LINK#1"), item("update_item", "APPROVER#a@example.com")),
        *(item("update_item", "OPEN_CASE"), item("update_item", "ACCOUNT#1")),
        *(item("delete_item", "CASE#1"), item("get_item", "ACCOUNT#1")),
        ("dynamodb", "scan", {"TableName": TABLE}),
    ],
    "ListAccounts": [
        *(AUDIT, DELETE, ROLE, USERS, MAIL, TASK, OTHER_TABLE, item("get_item", "CASE#1")),
        *(put("report.json"), put("checked/0.json"), put("cases.json")),
        ("organizations", "close_account", {"AccountId": KEYED}),
    ],
    "CheckAccounts": [
        *(AUDIT, DELETE, ROLE, USERS, MAIL, TASK, item("get_item", "CASE#1")),
        *(put("report.json"), put("accounts.json")),
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "sweeps/s/accounts.json"}),
    ],
    "GatherEvidence": [DELETE, PASSWORD, ROLE, MAIL, item("update_item", "ACCOUNT#1"), TASK],
    "OpenCases": [DELETE, PASSWORD, MAIL, TASK, put("report.json"), OTHER_TABLE],
    "ConfirmRemoval": [DELETE, PASSWORD, item("update_item", "CASE#1"), MAIL],
    "DeleteRootKeys": [
        *(AUDIT, PASSWORD, ROLE, USERS, MAIL, TASK, OTHER_TABLE),
        *(item("put_item", "CASE#1"), item("delete_item", "CASE#1")),
        *(item("update_item", "LINK#1"), item("update_item", "ACCOUNT#1")),
        ("ssm", "put_parameter", {"Name": "/rootsweep/kill-switch", "Value": "off"}),
    ],
    "RequestApproval": [
        *(AUDIT, DELETE, ELSE, TASK, OTHER_TABLE),
        *(item("update_item", "LINK#1"), item("put_item", "CASE#1"), item("get_item", "CASE#1")),
    ],
    "DeliverDecision": [
        *(AUDIT, DELETE, MAIL, item("get_item", "CASE#1"), item("update_item", "CASE#1")),
        ("stepfunctions", "send_task_failure", {"taskToken": "x" * 200}),
    ],
    "ReadDecision": [AUDIT, DELETE, MAIL, TASK, item("update_item", "APPROVER#a@example.com")],
    "WriteReport": [AUDIT, DELETE, MAIL, TASK, item("get_item", "CASE#1"), put("cases.json")],
    "RecordOutcome": [AUDIT, DELETE, MAIL, TASK, OTHER_TABLE],
}
DENIALS = [(stem, call) for stem, calls in DENIED.items() for call in calls]


def named(value: Any) -> str:
    """A row of the matrix in words."""
    if isinstance(value, str):
        return value
    service, method, given = value
    key = given.get("Key", given.get("Item", ""))
    about = key["pk"]["S"] if isinstance(key, dict) else str(key)
    task = given.get("TaskPolicyArn", {}).get("arn", "").rpartition("/")[2]
    return f"{service} {method} {about}{task}{given.get('FromEmailAddress', '')}".strip()


@cache
def function_with(world_id: int, stem: str, name: str) -> str:
    world = WORLDS[world_id]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("handler.py", CODE)
    function: str = world.stack.client("lambda").create_function(
        FunctionName=name,
        Runtime=f"python3.{sys.version_info.minor}",
        Role=world.role_arn(f"{stem}Role"),
        Handler="handler.handler",
        Timeout=30,
        Code={"ZipFile": archive.getvalue()},
    )["FunctionName"]
    return function


WORLDS: dict[int, World] = {}


def attempt(world: World, stem: str, call: Any, *, name: str = "") -> str:
    """What AWS answers to a call with the credentials of a role: an error code, or `done`."""
    WORLDS[id(world)] = world
    service, method, given = call
    text = json.dumps(given)
    for placeholder, value in (
        (TABLE, world.stack.outputs["TableName"]),
        (BUCKET, world.stack.outputs["ReportBucket"]),
    ):
        text = text.replace(placeholder, value)
    function = function_with(id(world), stem, name or f"rootsweep-{stem}Function-probe")
    answer = world.stack.client("lambda").invoke(
        FunctionName=function,
        Payload=json.dumps({"service": service, "method": method, "given": json.loads(text)}),
    )
    answered: str = json.load(answer["Payload"])
    return answered


@pytest.mark.parametrize(("stem", "call"), ALLOWED, ids=named)
def test_what_a_role_is_for_is_allowed(world: World, stem: str, call: Any) -> None:
    assert attempt(world, stem, call) == "done"


@pytest.mark.parametrize(("stem", "call"), DENIALS, ids=named)
def test_what_a_role_is_not_for_is_denied(world: World, stem: str, call: Any) -> None:
    assert "AccessDenied" in attempt(world, stem, call)


@pytest.mark.parametrize(
    ("stem", "call"), [("DeleteRootKeys", DELETE), ("GatherEvidence", AUDIT)], ids=named
)
def test_a_role_opens_no_root_session_for_the_code_of_another_function(
    world: World, stem: str, call: Any
) -> None:
    assert "AccessDenied" in attempt(world, stem, call, name=f"mallory-{stem}")
