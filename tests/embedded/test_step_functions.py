"""Step Functions as AWS documents it, where MiniStack alone answers differently.

Each test names its source in the Step Functions Developer Guide or API reference.
"""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Aws

WAITING = """
import json, os, boto3
def handler(event, context):
    if event.get("raise"):
        raise ValueError("no mail today")
    if event.get("answer"):
        client = boto3.client("stepfunctions")
        client.send_task_success(taskToken=event["token"], output=json.dumps(event["answer"]))
        if event.get("then_raise"):
            raise ValueError("too late")
"""


class Machines:
    """Makes state machines and looks at their executions."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.sfn = aws.client("stepfunctions")
        self.role = aws.make_role("machines")
        self.function = aws.function("waiting", WAITING)

    def create(self, definition: dict[str, Any]) -> str:
        machine = self.sfn.create_state_machine(
            name=f"m-{uuid.uuid4().hex[:12]}",
            roleArn=self.role,
            definition=json.dumps({"QueryLanguage": "JSONata", **definition}),
        )
        return str(machine["stateMachineArn"])

    def start(self, definition: dict[str, Any], value: Any = None) -> str:
        started = self.sfn.start_execution(
            stateMachineArn=self.create(definition), input=json.dumps(value or {})
        )
        return str(started["executionArn"])

    def run(self, definition: dict[str, Any], value: Any = None) -> dict[str, Any]:
        return self.end(self.start(definition, value))

    def end(self, execution: str, seconds: float = 15) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.sfn.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found
            time.sleep(0.05)
        raise AssertionError(f"{execution} is still running")

    def output(self, definition: dict[str, Any], value: Any = None) -> Any:
        ended = self.run(definition, value)
        assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"))
        return json.loads(ended["output"])

    def wait(self, **fields: Any) -> dict[str, Any]:
        """A state that hands its token to a queue (so that a test can read it)."""
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Arguments": {
                "QueueUrl": "{% $states.input.queue %}",
                "MessageBody": "{% $states.context.Task.Token %}",
            },
            "TimeoutSeconds": 30,
            "End": True,
            **fields,
        }

    def ask(self, payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """A state that hands its token to the Lambda function."""
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "Arguments": {
                "FunctionName": self.function,
                "Payload": {"token": "{% $states.context.Task.Token %}", **payload},
            },
            "TimeoutSeconds": 30,
            "End": True,
            **fields,
        }

    def queue(self) -> str:
        return str(self.aws.client("sqs").create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"])

    def tokens(self, queue: str, count: int) -> list[str]:
        found: list[str] = []
        deadline = time.monotonic() + 15
        while len(found) < count and time.monotonic() < deadline:
            answer = self.aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                self.aws.client("sqs").delete_message(
                    QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"]
                )
                found.append(message["Body"])
        return found


@pytest.fixture(scope="module")
def machines(aws: Aws) -> Machines:
    return Machines(aws)


def one(state: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    return {"StartAt": "One", "States": {"One": state, **others}}


CAUGHT = {"Type": "Pass", "Output": "{% $states.input %}", "End": True}


def catch(*errors: str) -> list[dict[str, Any]]:
    return [
        {
            "ErrorEquals": list(errors),
            "Output": "{% $states.errorOutput %}",
            "Next": "Caught",
        }
    ]


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


# -- YAML ----------------------------------------------------------------------------------------

YAML_DEFINITION = """\
QueryLanguage: JSONata
StartAt: Say hello
States:
  Say hello: # a comment, which JSON has not
    Type: Wait
    Seconds: ${Seconds}
    Output: '{% "hello " & $states.input.name & "${Mark}" %}'
    End: true
"""


def template(bucket: str, role: str, mark: str) -> str:
    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {
            "RoleArn": role,
            "DefinitionS3Location": {"Bucket": bucket, "Key": "sweep.asl.yaml"},
            "DefinitionSubstitutions": {"Seconds": "1", "Mark": mark},
        },
    }
    return json.dumps({"Resources": {"Machine": machine}})


def test_a_definition_in_s3_may_be_yaml_with_substitutions(aws: Aws, machines: Machines) -> None:
    """CloudFormation, AWS::StepFunctions::StateMachine: DefinitionS3Location, JSON or YAML."""
    aws.client("s3").create_bucket(Bucket="definitions")
    aws.client("s3").put_object(
        Bucket="definitions", Key="sweep.asl.yaml", Body=YAML_DEFINITION.encode()
    )
    cloudformation = aws.client("cloudformation")
    for mark, action in (("!", "create_stack"), ("?", "update_stack")):
        body = template("definitions", machines.role, mark)
        getattr(cloudformation, action)(StackName="yaml", TemplateBody=body)
        cloudformation.get_waiter(action.replace("_stack", "").join(("stack_", "_complete"))).wait(
            StackName="yaml", WaiterConfig={"Delay": 1}
        )
        resources = cloudformation.describe_stack_resources(StackName="yaml")["StackResources"]
        arn = resources[0]["PhysicalResourceId"]
        definition = json.loads(
            machines.sfn.describe_state_machine(stateMachineArn=arn)["definition"]
        )
        assert definition["States"]["Say hello"]["Seconds"] == 1
        started = machines.sfn.start_execution(stateMachineArn=arn, input='{"name": "you"}')
        assert json.loads(machines.end(started["executionArn"])["output"]) == f"hello you{mark}"


def test_broken_yaml_and_broken_jsonata_fail_the_deployment(aws: Aws, machines: Machines) -> None:
    """API reference, CreateStateMachine: InvalidDefinition."""
    s3, cloudformation = aws.client("s3"), aws.client("cloudformation")
    s3.create_bucket(Bucket="broken")
    for number, text in enumerate(("States: [", YAML_DEFINITION.replace('& "${Mark}"', "& (("))):
        s3.put_object(Bucket="broken", Key="sweep.asl.yaml", Body=text.encode())
        name = f"broken-{number}"
        body = template("broken", machines.role, "!")
        cloudformation.create_stack(StackName=name, TemplateBody=body, OnFailure="DO_NOTHING")
        for _ in range(50):
            status = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
            if status != "CREATE_IN_PROGRESS":
                break
            time.sleep(0.1)
        assert status == "CREATE_FAILED"


# -- Distributed Map -----------------------------------------------------------------------------


def distributed(**fields: Any) -> dict[str, Any]:
    child = {"Type": "Pass", "Output": "{% $states.input %}", "End": True}
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
        "StartAt": "Child",
        "States": {"Child": child},
    }
    return {"Type": "Map", "ItemProcessor": processor, "End": True, **fields}


def test_a_distributed_map_reads_its_items_by_expressions(aws: Aws, machines: Machines) -> None:
    """ "ItemReader": Arguments; "ItemSelector"; Output and Assign after the map."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="batches")
    s3.put_object(Bucket="batches", Key="run/1.json", Body=json.dumps([{"n": 1}, {"n": 2}]))
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Arguments": {"Bucket": "batches", "Key": "{% $states.input.key %}"},
    }
    state = distributed(
        ItemReader=reader,
        ItemSelector={
            "batch": "{% $states.context.Map.Item.Value.n %}",
            "index": "{% $states.context.Map.Item.Index %}",
            "sweep": "{% $states.input.sweep %}",
            "seen": "{% $outer %}",
        },
        MaxConcurrency="{% $states.input.limit %}",
        ToleratedFailurePercentage="{% $states.input.limit * 25 %}",
        Assign={"total": "{% $sum($states.result.batch) %}"},
        Output="{% $states.result %}",
        Next="After",
    )
    del state["End"]
    definition = {
        "StartAt": "Before",
        "States": {
            "Before": {"Type": "Pass", "Assign": {"outer": "from outside"}, "Next": "Map"},
            "Map": state,
            "After": {
                "Type": "Pass",
                "Output": {"items": "{% $states.input %}", "total": "{% $total %}"},
                "End": True,
            },
        },
    }
    execution = machines.start(definition, {"key": "run/1.json", "sweep": "s-1", "limit": 2})
    output = json.loads(machines.end(execution)["output"])
    assert output["total"] == 3
    assert output["items"] == [
        {"batch": 1, "index": 0, "sweep": "s-1", "seen": "from outside"},
        {"batch": 2, "index": 1, "sweep": "s-1", "seen": "from outside"},
    ]
    (run,) = machines.sfn.list_map_runs(executionArn=execution)["mapRuns"]
    described = machines.sfn.describe_map_run(mapRunArn=run["mapRunArn"])
    assert (described["maxConcurrency"], described["toleratedFailurePercentage"]) == (2, 50)


def test_items_may_be_an_expression(machines: Machines) -> None:
    """ "Map state in Distributed mode": Items, an array or an expression."""
    state = distributed(Items="{% $states.input.list %}", Output="{% $sum($states.result) %}")
    assert machines.output(one(state), {"list": [1, 2, 3]}) == 6


def test_children_do_not_see_variables_from_outside(machines: Machines) -> None:
    """ "Passing data with variables": "Distributed map states cannot reference outer variables"."""
    state = distributed(Items="{% [1] %}")
    state["ItemProcessor"]["States"]["Child"]["Output"] = "{% $outer %}"
    definition = {
        "StartAt": "Before",
        "States": {
            "Before": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "Map"},
            "Map": {**state, "Catch": catch("States.ALL")},
            "Caught": CAUGHT,
        },
    }
    assert machines.output(definition)["Error"] == "States.ExceedToleratedFailureThreshold"


def test_failed_children_are_tolerated_up_to_the_percentage(machines: Machines) -> None:
    """ "Map state in Distributed mode": ToleratedFailurePercentage, 0 by default."""
    check = {
        "Type": "Choice",
        "Choices": [{"Condition": "{% $states.input = 1 %}", "Next": "Fail"}],
        "Default": "Fine",
    }
    states = {"Child": check, "Fail": {"Type": "Fail"}, "Fine": {"Type": "Succeed"}}
    state = distributed(Items="{% [1, 2] %}", ToleratedFailurePercentage=50, Output="done")
    state["ItemProcessor"]["States"] = states
    assert machines.output(one(state)) == "done"
    state["ToleratedFailurePercentage"] = 49
    assert machines.run(one(state))["error"] == "States.ExceedToleratedFailureThreshold"


# -- Parallel --------------------------------------------------------------------------------------


def test_a_parallel_state_gives_what_its_branches_came_to(machines: Machines) -> None:
    """ "Parallel workflow state": Arguments, Output and Assign; each branch ends for itself."""

    def step(output: str, **fields: Any) -> dict[str, Any]:
        return {"Type": "Pass", "Output": output, **fields}

    last = step("{% $states.input + $outer %}", End=True)
    first = step("{% $states.input.n + $outer %}", Assign={"outer": 7}, End=True)
    branches = [
        {"StartAt": "A", "States": {"A": first}},
        {"StartAt": "B", "States": {"B": step("{% $states.input.n * 10 %}", Next="C"), "C": last}},
    ]
    definition = {
        "StartAt": "Before",
        "States": {
            "Before": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "Both"},
            "Both": {
                "Type": "Parallel",
                "Branches": branches,
                "Arguments": {"n": "{% $states.input.number %}"},
                "Output": "{% {'all': $states.result} %}",
                "Assign": {"last": "{% $states.result[1] %}"},
                "Next": "After",
            },
            "After": {
                "Type": "Pass",
                "Output": ["{% $states.input.all %}", "{% $last %}", "{% $outer %}"],
                "End": True,
            },
        },
    }

    assert machines.output(definition, {"number": 4}) == [[5, 41], 41, 1]


def test_a_branch_that_fails_fails_the_parallel_state(machines: Machines) -> None:
    """ "Parallel workflow state": "If any branch fails, ... the entire Parallel state fails"."""
    broken = {"StartAt": "No", "States": {"No": {"Type": "Fail", "Error": "Broken"}}}
    fine = {"StartAt": "Yes", "States": {"Yes": {"Type": "Succeed"}}}
    state = {"Type": "Parallel", "Branches": [fine, broken], "Catch": catch("Broken"), "End": True}

    assert machines.output(one(state, Caught=CAUGHT))["Error"] == "Broken"


# -- timeouts, tokens and retries ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"TimeoutSeconds": "{% $states.input.seconds %}"}, "States.Timeout"),
        ({"HeartbeatSeconds": "{% $states.input.seconds %}"}, "States.HeartbeatTimeout"),
        ({"TimeoutSeconds": "{% $states.input.nothing %}"}, "States.QueryEvaluationError"),
    ],
)
def test_timeouts_may_be_expressions_and_are_caught(
    machines: Machines, fields: dict[str, Any], error: str
) -> None:
    """ "Transforming data with JSONata": TimeoutSeconds and HeartbeatSeconds take expressions."""
    state = machines.wait(**fields, Catch=catch(error))
    found = machines.output(one(state, Caught=CAUGHT), {"seconds": 1, "queue": machines.queue()})
    assert found["Error"] == error


def test_a_heartbeat_keeps_the_task_waiting(machines: Machines) -> None:
    """API reference, SendTaskHeartbeat."""
    queue = machines.queue()
    execution = machines.start(one(machines.wait(HeartbeatSeconds=2)), {"queue": queue})
    (token,) = machines.tokens(queue, 1)
    for _ in range(3):
        time.sleep(0.8)
        machines.sfn.send_task_heartbeat(taskToken=token)
    machines.sfn.send_task_success(taskToken=token, output='"alive"')
    assert json.loads(machines.end(execution)["output"]) == "alive"


def test_a_lambda_that_raises_fails_the_waiting_task_at_once(machines: Machines) -> None:
    """ "Handling errors": the class name of the exception is the Error; Retry and Catch apply."""
    state = machines.ask({"raise": True}, Catch=catch("ValueError"))
    begun = time.monotonic()
    found = machines.output(one(state, Caught=CAUGHT))
    assert found["Error"] == "ValueError"
    assert "no mail today" in found["Cause"]
    assert time.monotonic() - begun < 10


def test_a_lambda_may_answer_its_own_token_and_its_later_error_is_too_late(
    machines: Machines,
) -> None:
    """API reference, SendTaskSuccess: the task is closed by the first answer."""
    assert machines.output(one(machines.ask({"answer": {"a": 1}}))) == {"a": 1}
    assert machines.output(one(machines.ask({"answer": [1], "then_raise": True}))) == [1]


def test_every_attempt_has_a_new_long_token(machines: Machines) -> None:
    """ "Wait for a callback with task token": a new random token; TaskToken: 1 to 2048."""
    retry = [{"ErrorEquals": ["States.Timeout"], "MaxAttempts": 1, "IntervalSeconds": 1}]
    queue = machines.queue()
    state = machines.wait(TimeoutSeconds=1, Retry=retry)
    execution = machines.start(one(state), {"queue": queue})
    tokens = machines.tokens(queue, 2)
    assert machines.end(execution)["error"] == "States.Timeout"
    assert len(set(tokens)) == 2
    for token in tokens:
        assert 500 < len(token) <= 2048
        assert all(character in token for character in "+/=")
        refused = refusal(machines.sfn.send_task_success, taskToken=token, output="{}")
        assert refused == "TaskTimedOut"


def test_a_token_works_once(machines: Machines) -> None:
    """API reference, SendTaskSuccess: TaskTimedOut, InvalidToken, InvalidOutput."""
    queue = machines.queue()
    execution = machines.start(one(machines.wait()), {"queue": queue})
    (token,) = machines.tokens(queue, 1)
    send = machines.sfn.send_task_success
    assert refusal(send, taskToken=token, output="{") == "InvalidOutput"
    send(taskToken=token, output='{"decision": "approve"}')
    assert refusal(send, taskToken=token, output='{"decision": "decline"}') == "TaskTimedOut"
    assert refusal(machines.sfn.send_task_failure, taskToken=token) == "TaskTimedOut"
    assert refusal(machines.sfn.send_task_heartbeat, taskToken=token) == "TaskTimedOut"
    assert refusal(send, taskToken="never-issued", output="{}") == "InvalidToken"
    assert json.loads(machines.end(execution)["output"]) == {"decision": "approve"}


def test_a_failed_answer_is_the_error_of_the_task(machines: Machines) -> None:
    """API reference, SendTaskFailure."""
    queue = machines.queue()
    state = machines.wait(Catch=catch("Declined"))
    execution = machines.start(one(state, Caught=CAUGHT), {"queue": queue})
    (token,) = machines.tokens(queue, 1)
    machines.sfn.send_task_failure(taskToken=token, error="Declined", cause="no")
    assert json.loads(machines.end(execution)["output"]) == {"Error": "Declined", "Cause": "no"}


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "pattern", "caught"),
    [
        ("Anything", "States.ALL", True),
        ("Anything", "States.TaskFailed", True),
        ("States.Timeout", "States.TaskFailed", False),
        ("States.Timeout", "States.ALL", True),
        ("States.Runtime", "States.ALL", False),
        ("States.DataLimitExceeded", "States.ALL", False),
    ],
)
def test_wildcards_match_the_errors_they_stand_for(
    machines: Machines, error: str, pattern: str, caught: bool
) -> None:
    """ "Handling errors", table of error names: States.ALL, States.TaskFailed."""
    queue = machines.queue()
    state = machines.wait(Catch=catch(pattern))
    execution = machines.start(one(state, Caught=CAUGHT), {"queue": queue})
    (token,) = machines.tokens(queue, 1)
    machines.sfn.send_task_failure(taskToken=token, error=error, cause="")
    assert (machines.end(execution)["status"] == "SUCCEEDED") is caught


# -- starting and stopping -----------------------------------------------------------------------


def test_starting_again_with_the_same_name_and_input_is_the_same_execution(
    machines: Machines,
) -> None:
    """API reference, StartExecution: idempotent while running, else ExecutionAlreadyExists."""
    queue = machines.queue()
    machine = machines.create(one(machines.wait()))
    value = json.dumps({"queue": queue})
    start = machines.sfn.start_execution
    first = start(stateMachineArn=machine, name="case-1", input=value)
    again = start(stateMachineArn=machine, name="case-1", input=value)
    assert (again["executionArn"], again["startDate"]) == (
        first["executionArn"],
        first["startDate"],
    )
    other = json.dumps({"queue": queue, "more": 1})
    refused = refusal(start, stateMachineArn=machine, name="case-1", input=other)
    assert refused == "ExecutionAlreadyExists"
    tokens = machines.tokens(queue, 1)
    machines.sfn.send_task_success(taskToken=tokens[0], output="{}")
    machines.end(first["executionArn"])
    refused = refusal(start, stateMachineArn=machine, name="case-1", input=value)
    assert refused == "ExecutionAlreadyExists"


def test_a_nested_start_that_is_refused_has_the_prefix_of_its_integration(
    machines: Machines,
) -> None:
    """ "Handling errors": <Service>.<Exception>, here StepFunctions.ExecutionAlreadyExists."""
    child = machines.create(one({"Type": "Succeed"}))
    started = machines.sfn.start_execution(stateMachineArn=child, name="case-1", input="{}")
    machines.end(started["executionArn"])
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution",
        "Arguments": {"StateMachineArn": child, "Name": "case-1", "Input": {}},
        "Catch": catch("StepFunctions.ExecutionAlreadyExistsException"),
        "End": True,
    }
    found = machines.output(one(state, Caught=CAUGHT))
    assert found["Error"] == "StepFunctions.ExecutionAlreadyExistsException"


def test_stopping_a_waiting_execution_ends_it_and_closes_its_token(machines: Machines) -> None:
    """API reference, StopExecution; SendTaskSuccess, TaskTimedOut: the task has been closed."""
    queue = machines.queue()
    state = machines.wait(Catch=catch("States.ALL"))
    execution = machines.start(one(state, Caught=CAUGHT), {"queue": queue})
    (token,) = machines.tokens(queue, 1)
    machines.sfn.stop_execution(executionArn=execution, error="Stopped", cause="by hand")
    refused = refusal(machines.sfn.send_task_success, taskToken=token, output="{}")
    assert refused == "TaskTimedOut"
    time.sleep(0.3)
    assert machines.end(execution)["status"] == "ABORTED"
    events = machines.sfn.get_execution_history(executionArn=execution)["events"]
    assert events[-1]["type"] == "ExecutionAborted"


# -- permissions ---------------------------------------------------------------------------------


def test_a_role_may_be_limited_to_one_machine_and_its_executions(
    aws: Aws, machines: Machines
) -> None:
    """Service Authorization Reference; SendTask* on the machine's ARN: aws/aws-cdk issue 8486."""
    queue, machine = machines.queue(), machines.create(one(machines.wait()))
    value = json.dumps({"queue": queue})
    execution = machines.sfn.start_execution(stateMachineArn=machine, input=value)["executionArn"]
    (token,) = machines.tokens(queue, 1)
    name = uuid.uuid4().hex
    mine, executions = machine, machine.replace("stateMachine", "execution") + ":*"
    for role, resources in ((f"{name}-no", [f"{machine}x"]), (name, [mine, executions])):
        may = {
            "Effect": "Allow",
            "Action": ["states:SendTaskSuccess", "states:DescribeExecution"],
            "Resource": resources,
        }
        sfn = aws.client("stepfunctions", credentials=aws.role(role, may))
        if role != name:
            refused = refusal(sfn.send_task_success, taskToken=token, output="{}")
            assert refused == "AccessDeniedException"
            assert refusal(sfn.describe_execution, executionArn=execution) == refused
    sfn.send_task_success(taskToken=token, output="{}")
    assert refusal(sfn.send_task_success, taskToken=token, output="{}") == "TaskTimedOut"
    assert sfn.describe_execution(executionArn=execution)


def test_a_wait_until_a_time_ends_at_that_time(machines: Machines) -> None:
    """Source: "Wait workflow state", Timestamp."""
    until = datetime.now(UTC) + timedelta(seconds=2)
    definition = {
        "StartAt": "Wait",
        "States": {
            "Wait": {"Type": "Wait", "Timestamp": "{% $states.input.until %}", "End": True},
        },
    }

    machines.output(definition, {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}"})

    assert datetime.now(UTC) >= until.replace(microsecond=0)


# -- redrive -------------------------------------------------------------------------------------


def of_two_branches(machines: Machines) -> dict[str, Any]:
    """A machine with a variable, one branch that counts by a message, and one that waits."""
    count = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Arguments": {"QueueUrl": "{% $states.input.counted %}", "MessageBody": "once"},
        "Output": "counted",
        "End": True,
    }
    states = {
        "Before": {"Type": "Pass", "Assign": {"before": "seen"}, "Next": "Both"},
        "Both": {
            "Type": "Parallel",
            "Branches": [
                {"StartAt": "Count", "States": {"Count": count}},
                {"StartAt": "Wait", "States": {"Wait": machines.wait()}},
            ],
            "Next": "After",
        },
        "After": {
            "Type": "Pass",
            "Output": ["{% $states.input %}", "{% $before %}"],
            "End": True,
        },
    }
    return {"StartAt": "Before", "States": states}


def test_a_redrive_goes_on_from_the_state_that_failed(machines: Machines) -> None:
    """ "Restarting state machine executions with redrive": steps that succeeded are not run again,
    nor are the branches that did; API reference, DescribeExecution: redriveCount."""
    value = {"queue": machines.queue(), "counted": machines.queue()}
    execution = machines.start(of_two_branches(machines), value)
    for times in range(2):
        (token,) = machines.tokens(value["queue"], 1)
        machines.sfn.send_task_failure(taskToken=token, error="Broken")
        ended = machines.end(execution)
        assert (ended["status"], ended["error"], ended["redriveCount"]) == (
            "FAILED",
            "Broken",
            times,
        )

        answer = machines.sfn.redrive_execution(executionArn=execution)

        assert abs((datetime.now(UTC) - answer["redriveDate"]).total_seconds()) < 60
    assert refusal(machines.sfn.redrive_execution, executionArn=execution) == (
        "ExecutionNotRedrivable"
    )
    (token,) = machines.tokens(value["queue"], 1)
    machines.sfn.send_task_success(taskToken=token, output='"waited"')

    ended = machines.end(execution)
    assert json.loads(ended["output"]) == [["counted", "waited"], "seen"]
    assert "error" not in ended
    assert len(machines.tokens(value["counted"], 1)) == 1
    left = machines.aws.client("sqs").get_queue_attributes(
        QueueUrl=value["counted"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert left["Attributes"]["ApproximateNumberOfMessages"] == "0"
    events = machines.sfn.get_execution_history(executionArn=execution)["events"]
    types = [event["type"] for event in events]
    assert types.count("ExecutionRedriven") == 2
    assert types.count("PassStateEntered") == 2
    assert types[-1] == "ExecutionSucceeded"
    again = refusal(machines.sfn.redrive_execution, executionArn=execution)
    assert again == "ExecutionNotRedrivable"
    unknown = refusal(machines.sfn.redrive_execution, executionArn=f"{execution}x")
    assert unknown == "ExecutionDoesNotExist"


def test_what_was_stopped_goes_on_once_when_it_is_redriven(machines: Machines) -> None:
    """RedriveExecution is for executions that were aborted, too; API reference."""
    queue = machines.queue()
    execution = machines.start(one(machines.wait()), {"queue": queue})
    (token,) = machines.tokens(queue, 1)
    machines.sfn.stop_execution(executionArn=execution)

    machines.sfn.redrive_execution(executionArn=execution)

    assert refusal(machines.sfn.send_task_success, taskToken=token, output="1") == "TaskTimedOut"
    (token,) = machines.tokens(queue, 1)
    machines.sfn.send_task_success(taskToken=token, output="2")
    assert json.loads(machines.end(execution)["output"]) == 2
    assert machines.tokens(queue, 0) == []
