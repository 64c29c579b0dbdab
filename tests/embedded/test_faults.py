"""Faults, as a function sees them through its SDK."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.embedded.conftest import Aws

# Each client tries once, and waits three seconds for an answer.
CALLING = """
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

once = Config(read_timeout=3, retries={"total_max_attempts": 1})
table = boto3.client("dynamodb", config=once)
iam = boto3.client("iam", config=once)
s3 = boto3.client("s3", config=once)
ses = boto3.client("sesv2", config=once)

def handler(event, context):
    key = {"pk": {"S": event["item"]}}
    calls = {
        "dynamodb:PutItem": lambda: table.put_item(TableName="faults", Item=key),
        "dynamodb:GetItem": lambda: table.get_item(TableName="faults", Key=key),
        "iam:ListRoles": lambda: iam.list_roles(),
        "s3:ListObjectsV2": lambda: s3.list_objects_v2(Bucket="faults"),
        "ses:GetEmailIdentity": lambda: ses.get_email_identity(EmailIdentity="a@example.com"),
    }
    try:
        answer = calls[event["call"]]()
    except ClientError as error:
        return [error.response["Error"]["Code"], error.operation_name]
    except Exception as error:
        return [type(error).__name__, ""]
    return ["", "Item" in answer]
"""
NAME = "FaultsFunction"


@pytest.fixture(scope="module")
def stack(aws: Aws) -> Aws:
    """A table, a bucket and a function that calls."""
    aws.client("dynamodb").create_table(
        TableName="faults",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    aws.client("s3").create_bucket(Bucket="faults")
    aws.client("sesv2").create_email_identity(EmailIdentity="a@example.com")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    aws.function(NAME, CALLING, everything)
    return aws


@pytest.fixture(autouse=True)
def recovers(aws: Aws) -> Iterator[None]:
    yield
    control(aws, "DELETE")


def control(aws: Aws, method: str, data: Any = None) -> Any:
    body = data.encode() if isinstance(data, str) else json.dumps(data).encode() if data else b""
    request = urllib.request.Request(f"{aws.endpoint}/_rootsweep/faults", body, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def fail(aws: Aws, kind: str, operation: str = "dynamodb:PutItem", **rule: Any) -> None:
    control(aws, "POST", {"function": NAME, "operation": operation, "kind": kind, **rule})


def call(aws: Aws, operation: str = "dynamodb:PutItem", item: str = "an item") -> Any:
    """What the function got: code or class of the error, then the operation or the answer."""
    event = json.dumps({"call": operation, "item": item})
    answer = aws.client("lambda").invoke(FunctionName=NAME, Payload=event)
    return json.load(answer["Payload"])


def is_written(aws: Aws, item: str) -> bool:
    key = {"pk": {"S": item}}
    return "Item" in aws.client("dynamodb").get_item(TableName="faults", Key=key)


@pytest.mark.parametrize(
    ("kind", "operation", "code"),
    [
        ("throttling", "dynamodb:PutItem", "ProvisionedThroughputExceededException"),
        ("throttling", "iam:ListRoles", "Throttling"),
        ("throttling", "s3:ListObjectsV2", "SlowDown"),
        ("throttling", "ses:GetEmailIdentity", "TooManyRequestsException"),
        ("server_error", "dynamodb:PutItem", "InternalServerError"),
        ("server_error", "iam:ListRoles", "ServiceFailure"),
        ("server_error", "s3:ListObjectsV2", "InternalError"),
        ("access_denied", "dynamodb:PutItem", "AccessDeniedException"),
        ("access_denied", "iam:ListRoles", "AccessDenied"),
        ("access_denied", "s3:ListObjectsV2", "AccessDenied"),
        ("expired_token", "dynamodb:PutItem", "ExpiredTokenException"),
        ("expired_token", "iam:ListRoles", "ExpiredToken"),
    ],
)
def test_an_error_has_the_code_of_its_service(
    stack: Aws, kind: str, operation: str, code: str
) -> None:
    fail(stack, kind, operation, times=1)

    assert call(stack, operation) == [code, operation.partition(":")[2]]
    assert call(stack, operation)[0] == ""


@pytest.mark.parametrize(
    ("kind", "error", "is_done"),
    [
        ("timeout", "ReadTimeoutError", False),
        ("timeout_done", "ReadTimeoutError", True),
        ("dropped", "ConnectionClosedError", False),
        ("throttling", "ProvisionedThroughputExceededException", False),
        ("slow", "", True),
        ("malformed", "", True),
        ("empty", "", True),
    ],
)
def test_a_call_that_fails_has_done_its_work_or_not(
    stack: Aws, kind: str, error: str, is_done: bool
) -> None:
    fail(stack, kind, times=1)

    assert call(stack, item=kind)[0] == error
    assert is_written(stack, kind) == is_done


def test_a_malformed_answer_looks_to_the_sdk_like_one_without_fields(stack: Aws) -> None:
    call(stack, item="there")
    assert call(stack, "dynamodb:GetItem", "there") == ["", True]
    for kind in ("malformed", "empty"):
        fail(stack, kind, "dynamodb:GetItem", times=1)
        assert call(stack, "dynamodb:GetItem", "there") == ["", False]


@pytest.mark.parametrize(("kind", "is_done"), [("crash", False), ("crash_done", True)])
def test_a_function_that_is_killed_is_an_exit_error_and_starts_again(
    stack: Aws, kind: str, is_done: bool
) -> None:
    """Lambda Developer Guide, "Troubleshoot invocation issues": Runtime.ExitError."""
    fail(stack, kind, times=1)

    answer = call(stack, item=kind)
    assert answer["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in answer["errorMessage"]
    assert is_written(stack, kind) == is_done
    assert call(stack, item=kind) == ["", False]


def test_a_rule_hits_only_what_it_is_about_and_only_so_often(stack: Aws) -> None:
    fail(stack, "throttling", about=["mine"], times=2)

    found = [call(stack, item=item)[0] != "" for item in ("yours", "mine", "mine", "mine")]
    assert found == [False, True, True, False]
    [rule] = control(stack, "GET")["rules"]
    assert rule["hits"] == 2


def test_a_rule_can_let_the_first_calls_pass(stack: Aws) -> None:
    fail(stack, "access_denied", after=1, times=1)

    assert [call(stack)[0] != "" for _ in range(3)] == [False, True, False]


def test_a_rule_can_hit_a_share_of_all_calls_the_same_ones_for_the_same_seed(stack: Aws) -> None:
    def hits(seed: int) -> list[bool]:
        control(stack, "DELETE")
        fail(stack, "access_denied", "*", share=0.5, seed=seed)
        operations = ("dynamodb:PutItem", "iam:ListRoles") * 6
        return [call(stack, operation)[0] != "" for operation in operations]

    found = hits(1)
    assert 2 < sum(found) < 10
    assert hits(1) == found
    assert hits(2) != found


def test_rules_end_all_together_or_by_what_they_are_about(stack: Aws) -> None:
    fail(stack, "throttling", about=["one"])
    fail(stack, "throttling", about=["other"])
    control(stack, "DELETE", "one")

    assert call(stack, item="one")[0] == ""
    assert call(stack, item="other")[0] != ""
    control(stack, "DELETE")
    assert call(stack, item="other")[0] == ""


def test_it_counts_which_function_called_what(stack: Aws) -> None:
    before = control(stack, "GET")["calls"].get(NAME, {}).get("iam:ListRoles", 0)
    call(stack, "iam:ListRoles")

    assert control(stack, "GET")["calls"][NAME]["iam:ListRoles"] == before + 1


def test_a_kind_that_is_none_is_refused(stack: Aws) -> None:
    with pytest.raises(OSError, match="400"):
        fail(stack, "bad luck")


def test_who_is_no_function_is_never_hit(stack: Aws) -> None:
    fail(stack, "throttling")

    started = time.monotonic()
    stack.client("dynamodb").put_item(TableName="faults", Item={"pk": {"S": "by hand"}})
    assert time.monotonic() - started < 5
    assert is_written(stack, "by hand")


def test_a_task_of_a_state_machine_fails_as_the_service_says(stack: Aws) -> None:
    """Step Functions Developer Guide, "Handling errors in Step Functions workflows"."""
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": NAME, "Payload": {"call": "iam:ListRoles", "item": "sm"}},
        "End": True,
    }
    stepfunctions = stack.client("stepfunctions")
    machine = stepfunctions.create_state_machine(
        name="faults",
        definition=json.dumps({"StartAt": "Call", "States": {"Call": task}}),
        roleArn=stack.make_role("faults", {"Effect": "Allow", "Action": "*", "Resource": "*"}),
    )["stateMachineArn"]
    rule = {"function": "StateMachine", "operation": "lambda:invoke", "about": ["sm"], "times": 1}
    control(stack, "POST", {**rule, "kind": "throttling"})

    ended = []
    for name in ("first", "second"):
        execution = stepfunctions.start_execution(stateMachineArn=machine, name=name)
        arn = execution["executionArn"]
        while (found := stepfunctions.describe_execution(executionArn=arn))["status"] == "RUNNING":
            time.sleep(0.1)
        ended.append(found.get("error", found["status"]))
    assert ended == ["Lambda.TooManyRequestsException", "SUCCEEDED"]
