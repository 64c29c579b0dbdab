"""Event source mappings of DynamoDB streams, on the embedded AWS.

Lambda Developer Guide, "Process Amazon DynamoDB records with Lambda".
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.embedded.conftest import Aws

# Notes what it gets in another table, and fails about an item that is called poison.
NOTING = """
import json
import boto3

seen = boto3.client("dynamodb")

def handler(event, context):
    names = [record["dynamodb"]["Keys"]["pk"]["S"] for record in event["Records"]]
    text = json.dumps(names)
    seen.update_item(
        TableName="TABLE-seen",
        Key={"pk": {"S": text}},
        UpdateExpression="ADD times :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    if "poison" in names:
        raise ValueError("poison")
"""
ATTEMPTS = 3


def table(aws: Aws, name: str, **more: Any) -> Any:
    return aws.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **more,
    )["TableDescription"]


@pytest.fixture
def mapping(aws: Aws, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of a table whose stream is read, and the URL of the queue for what failed."""
    name = f"stream-{request.node.name.replace('_', '-')[:40]}"
    stream = table(
        aws, name, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    )["LatestStreamArn"]
    table(aws, f"{name}-seen")
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    aws.function(name, NOTING.replace("TABLE", name), everything)
    aws.client("lambda").create_event_source_mapping(
        FunctionName=name,
        EventSourceArn=stream,
        StartingPosition="TRIM_HORIZON",
        BatchSize=10,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=ATTEMPTS - 1,
        DestinationConfig={"OnFailure": {"Destination": arn["QueueArn"]}},
    )
    return name, url


def seen(aws: Aws, name: str) -> dict[tuple[str, ...], int]:
    """Which batches the function got, and how often."""
    items = aws.client("dynamodb").scan(TableName=f"{name}-seen")["Items"]
    return {tuple(json.loads(each["pk"]["S"])): int(each["times"]["N"]) for each in items}


def until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if result := happened():
            return result
        time.sleep(0.2)
    raise AssertionError("waited for nothing")


def test_what_fails_is_tried_again_alone_and_then_discarded_to_the_queue(
    aws: Aws, mapping: tuple[str, str]
) -> None:
    name, url = mapping
    dynamodb = aws.client("dynamodb")
    dynamodb.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": name, "Item": {"pk": {"S": each}}}}
            for each in ("one", "two", "poison", "three")
        ]
    )

    sqs = aws.client("sqs")
    [message] = until(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    body = json.loads(message["Body"])
    assert body["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert body["DDBStreamBatchInfo"]["batchSize"] == 1
    until(lambda: ("three",) in seen(aws, name) or ("poison", "three") in seen(aws, name))
    batches = seen(aws, name)
    assert batches["poison",] == ATTEMPTS
    # The others came through, each in its half.
    good = {each for batch in batches if "poison" not in batch for each in batch}
    assert good == {"one", "two", "three"}


def test_what_comes_after_a_batch_that_failed_is_delivered(
    aws: Aws, mapping: tuple[str, str]
) -> None:
    name, _ = mapping
    dynamodb = aws.client("dynamodb")
    dynamodb.put_item(TableName=name, Item={"pk": {"S": "poison"}})
    dynamodb.put_item(TableName=name, Item={"pk": {"S": "after"}})

    until(lambda: ("after",) in seen(aws, name))
    assert seen(aws, name)["poison",] == ATTEMPTS
