"""What EventBridge does with a function that fails, on the embedded AWS.

Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation".
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.embedded.conftest import Aws

FAILING = """
def handler(event, context):
    raise ValueError(event["detail"]["why"])
"""
NAME = "event-fails"


def test_an_event_whose_function_fails_three_times_goes_to_the_destination_on_failure(
    aws: Aws,
) -> None:
    sqs, events, functions = aws.client("sqs"), aws.client("events"), aws.client("lambda")
    url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    function = aws.function(
        NAME, FAILING, {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    )
    functions.put_function_event_invoke_config(
        FunctionName=NAME, DestinationConfig={"OnFailure": {"Destination": queue["QueueArn"]}}
    )
    rule = events.put_rule(Name=NAME, EventPattern=json.dumps({"source": ["test.fails"]}))
    functions.add_permission(
        FunctionName=NAME,
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule["RuleArn"],
    )
    events.put_targets(Rule=NAME, Targets=[{"Id": "function", "Arn": function}])

    entry = {"Source": "test.fails", "DetailType": "any", "Detail": json.dumps({"why": "so"})}
    events.put_events(Entries=[entry])

    body = json.loads(_first_message(sqs, url))
    assert body["requestContext"]["condition"] == "RetriesExhausted"
    assert body["requestPayload"]["detail"] == {"why": "so"}
    assert body["responsePayload"]["errorType"] == "ValueError"
    assert _failures(aws) == 3


def _first_message(sqs: Any, url: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if messages := sqs.receive_message(QueueUrl=url).get("Messages"):
            return str(messages[0]["Body"])
        time.sleep(0.3)
    raise AssertionError("no dead letter")


def _failures(aws: Aws) -> int:
    """How often the function was tried, by its log."""
    lines = aws.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{NAME}")["events"]
    return sum("ValueError: so" in line["message"] for line in lines)
