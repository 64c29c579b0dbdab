"""Cases that an older version opened, finished by this one.

`stored/schema_<n>/` has what lives through an upgrade: the definition, which Step Functions goes on
with until an execution ends (Developer Guide, "Updating a workflow"), and the items of cases that
wait. Nothing in there is ever edited; CONTRIBUTING.md says when there is a new one.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from rootsweep import exceptions, quarantine
from rootsweep.cases import Outcome, find_open_case
from rootsweep.table import SCHEMA_VERSION, case_key
from tests.service_control_policies import ServiceControlPolicies

from .conftest import definition
from .world import ACCOUNT, FIRST, OWNER, patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from .world import World

    MakeWorld = Callable[..., World]

STORED = Path(__file__).parent / "stored"
LINK = "https://approvals.example.com/the-link-of-the-owner"
TIME = re.compile(r'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"')
WAIT = "The old wait"


@pytest.fixture(params=sorted(STORED.iterdir()), ids=lambda folder: folder.name)
def stored(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_version_of_the_items_is_stored() -> None:
    wanted = {f"schema_{number}" for number in range(1, SCHEMA_VERSION + 1)}

    assert {folder.name for folder in STORED.iterdir()} == wanted


def restore(here: World, stored: Path, name: str) -> None:
    """The case of this name goes on where it was, as if it had been stored a moment ago.

    Its execution is one of the old definition that begins with the wait in which it was.
    """
    text = (stored / "cases.json").read_text(encoding="utf-8")
    ago = datetime.now(UTC) - datetime.fromisoformat(json.loads(text)["stored_at"])

    def now_instead(match: re.Match[str]) -> str:
        return f'"{datetime.fromisoformat(match[1]) + ago:%Y-%m-%dT%H:%M:%SZ}"'

    case = json.loads(TIME.sub(now_instead, text))["cases"][name]
    dynamodb = boto3.client("dynamodb")
    for item in case["items"]:
        dynamodb.put_item(TableName=here.table.name, Item=item)
        if item["sk"]["S"] == "CASE":
            here.started = item["case_id"]["S"]

    def keep_token(event: dict[str, Any], _: object) -> None:
        """As the function of the wait did in its time: here the token is another one."""
        here.table.update_item(
            Key=case_key(here.started),
            UpdateExpression=f"SET {case['token_is']} = :token, restored = :yes",
            ExpressionAttributeValues={":token": event["task_token"], ":yes": "YES"},
        )

    here.handlers["old_wait"] = keep_token
    old = json.loads(definition(stored / "remediate.asl.yaml", topic_arn=here.topic.arn))
    old["StartAt"] = WAIT
    old["States"][WAIT] = wait_of(case)
    machine = boto3.client("stepfunctions").create_state_machine(
        name="old", definition=json.dumps(old), roleArn="arn:aws:iam::123456789012:role/any"
    )
    here.machine_arn = machine["stateMachineArn"]
    boto3.client("stepfunctions").start_execution(
        stateMachineArn=here.machine_arn,
        name=here.started,
        input=json.dumps({"case_id": here.started}),
    )
    with patience("the old wait") as waiting:
        while case["token_is"] and waiting():
            if "restored" in here.item:
                break


def wait_of(case: dict[str, Any]) -> dict[str, Any]:
    """The state in which the case waits: for its token or, if there is none, no longer."""
    if not case["token_is"]:
        return {"Type": "Pass", "Output": case["input"], "Next": case["resumes_at"]}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "Arguments": {
            "FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:old_wait",
            "Payload": {"task_token": "{% $states.context.Task.Token %}"},
        },
        "Next": case["resumes_at"],
    }


def test_an_old_case_is_approved_by_its_old_link(world: MakeWorld, stored: Path) -> None:
    here = world()

    restore(here, stored, "waits for an approval")
    here.approve(LINK)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]
    assert states[:4] == [WAIT, "Read decision", "Approved?", "Delete root keys"]
    assert here.mailbox.texts == []  # What its owner was asked has not changed.
    assert find_open_case(here.table, account_id=ACCOUNT) is None


def test_an_old_case_is_declined_by_its_old_link(world: MakeWorld, stored: Path) -> None:
    here = world()

    restore(here, stored, "waits for an approval")
    here.answer(LINK, decision="decline", reason="migrating", until=in_days(30))

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.DECLINED)
    assert here.root.attempts == []
    exception = exceptions.find(here.table, account_id=ACCOUNT)
    assert exception
    assert (exception.owner, exception.until) == (OWNER, in_days(30))


def test_an_old_case_looks_again_and_asks_nobody_twice(world: MakeWorld, stored: Path) -> None:
    here = world()

    restore(here, stored, "waits for an approval")
    here.wake()
    with patience("the wait for a decision") as waiting:
        while waiting():
            if here.case.task_token and not here.case.woken and here.case.approvers:
                break
    here.approve(LINK)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states.count("Gather evidence") == 1
    assert here.mailbox.texts == []


def test_the_keys_of_an_old_case_are_removed_by_hand(world: MakeWorld, stored: Path) -> None:
    here = world()
    here.root.lets_root_sessions_in = False
    here.root.keys = {}

    restore(here, stored, "waits for a removal by hand")

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states[:2] == [WAIT, "Check manual removal"]
    assert here.root.attempts == []


def test_an_old_quarantine_is_ended_by_who_keeps_the_keys(world: MakeWorld, stored: Path) -> None:
    here = world()

    restore(here, stored, "waits in quarantine")
    here.answer(LINK, decision="decline", reason="payroll stopped", until=in_days(30))

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.DECLINED)
    assert here.root.attempts == []
    lifted = quarantine.lift_ended(
        ServiceControlPolicies(), here.table, policy_name="any", is_in_use=True
    )
    assert lifted == [ACCOUNT]


def test_an_old_deletion_that_was_held_up_goes_on(world: MakeWorld, stored: Path) -> None:
    here = world()

    restore(here, stored, "waits for the kill switch")

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]
    assert states[:2] == [WAIT, "Read decision"]


def test_an_old_deletion_is_still_held_up_by_the_kill_switch(
    world: MakeWorld, stored: Path
) -> None:
    here = world()
    for _ in range(2):  # Of the first one people were told in the old days.
        here.kill_switch("on")

    restore(here, stored, "waits for the kill switch")
    with patience("the deletion to wait") as waiting:
        while waiting():
            if here.alerts:
                break
    assert here.root.attempts == []
    assert here.case.held == "KillSwitchOn"
    here.kill_switch("off")

    _, states = here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert states.count("Delete root keys") >= 2


def in_days(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
