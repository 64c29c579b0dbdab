"""What a role must not do is tried with its credentials, and denied.

As somebody would who runs code of their own with the role: in a function that has its name and its
role. With the role of a state machine or of another service: in a session of it.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .denied import AUDIT, BY_SERVICES, DELETE, DENIED, item, named, put, start

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
ALLOWED = [
    ("DeleteRootKeys", DELETE),
    ("GatherEvidence", AUDIT),
    ("ApprovalPage", item("get_item", "CASE#1")),
    ("ListAccounts", put("accounts/0.json")),
    ("Schedule", start("Sweep")),
]
DENIALS = [(stem, call) for stem, calls in DENIED.items() for call in calls]
ANY_CALL = list({json.dumps(call): call for _, call in DENIALS}.values())


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


def answer_to(client: Any, method: str, given: dict[str, Any]) -> str:
    try:
        getattr(client, method)(**given)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


def attempt(world: World, stem: str, call: Any, *, name: str = "") -> str:
    """What AWS answers to a call with the credentials of a role: an error code, or `done`."""
    WORLDS[id(world)] = world
    service, method, given = call
    given = json.loads(world.filled_in(json.dumps(given)))
    if stem in BY_SERVICES:
        return answer_to(world.session_of(f"{stem}Role", service), method, given)
    function = function_with(id(world), stem, name or f"rootsweep-{stem}Function-probe")
    answer = world.stack.client("lambda").invoke(
        FunctionName=function,
        Payload=json.dumps({"service": service, "method": method, "given": given}),
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


@pytest.mark.parametrize("call", ANY_CALL, ids=named)
def test_what_is_denied_is_denied_for_want_of_a_permission(world: World, call: Any) -> None:
    """An administrator of the account gets another answer."""
    service, method, given = call
    given = json.loads(world.filled_in(json.dumps(given)))
    if method in ("put_item", "update_item", "delete_item"):
        # IAM comes before the condition; what others find in the table must not be changed.
        given |= {"ConditionExpression": "attribute_exists(nowhere)"}
    administrator = world.session_of("administrator", service)

    assert "AccessDenied" not in answer_to(administrator, method, given)
