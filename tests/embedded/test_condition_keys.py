"""Condition keys as AWS documents them, where MiniStack alone does not know them.

Each test names its source.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGION, SECURITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Aws

TABLE = "keyed"
PK = {"S": "CASE#1"}
OTHER = {"S": "LINK#1"}
# The function reads the item that its event names.
CODE = """
import os, boto3
def handler(event, context):
    client = boto3.client("dynamodb", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.get_item(TableName="keyed", Key=event["key"])
"""


@pytest.fixture(scope="module")
def limited(aws: Aws) -> Any:
    """A client that may do with the items of cases what it likes, and with no others."""
    aws.client("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    credentials = aws.role(
        "keyed",
        {
            "Effect": "Allow",
            "Action": "dynamodb:*",
            "Resource": "*",
            "Condition": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["CASE#*"]}},
        },
    )
    return aws.client("dynamodb", credentials=credentials)


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "GetItem": lambda client, pk: client.get_item(TableName=TABLE, Key={"pk": pk}),
    "PutItem": lambda client, pk: client.put_item(TableName=TABLE, Item={"pk": pk}),
    "UpdateItem": lambda client, pk: client.update_item(TableName=TABLE, Key={"pk": pk}),
    "DeleteItem": lambda client, pk: client.delete_item(TableName=TABLE, Key={"pk": pk}),
    "BatchGetItem": lambda client, pk: client.batch_get_item(
        RequestItems={TABLE: {"Keys": [{"pk": PK}] + [{"pk": pk}] * (pk != PK)}}
    ),
    "Query": lambda client, pk: client.query(
        TableName=TABLE,
        KeyConditionExpression="#k = :v",
        ExpressionAttributeNames={"#k": "pk"},
        ExpressionAttributeValues={":v": pk},
    ),
    "TransactWriteItems": lambda client, pk: client.transact_write_items(
        TransactItems=[{"Put": {"TableName": TABLE, "Item": {"pk": pk}}}]
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_leading_keys_are_the_partition_keys_of_a_call(
    limited: Any, call: Callable[[Any, Any], Any]
) -> None:
    """Amazon DynamoDB Developer Guide, "Using IAM policy conditions for fine-grained access
    control": the first key attribute of the items, of each of them."""
    call(limited, PK)
    with pytest.raises(ClientError, match="AccessDenied"):
        call(limited, OTHER)


@pytest.mark.usefixtures("limited")
def test_the_source_function_is_known_of_calls_by_its_own_credentials(aws: Aws) -> None:
    """AWS Lambda Developer Guide, "Using source function ARN to control function access
    behavior". Somebody else who assumed its role has none."""
    pattern = f"arn:aws:lambda:{REGION}:{SECURITY}:function:{{}}"

    def invoke(name: str, source: str) -> dict[str, Any]:
        statement = {
            "Effect": "Allow",
            "Action": "dynamodb:GetItem",
            "Resource": "*",
            "Condition": {"ArnLike": {"lambda:SourceFunctionArn": pattern.format(source)}},
        }
        aws.function(name, CODE, statement)
        return aws.client("lambda").invoke(
            FunctionName=name, Payload=json.dumps({"key": {"pk": PK}})
        )

    assert "FunctionError" not in invoke("source-1", "source-*")
    refused = invoke("other-1", "source-*")
    assert b"AccessDenied" in refused["Payload"].read()
    allowed = {
        "Effect": "Allow",
        "Action": "dynamodb:GetItem",
        "Resource": "*",
        "Condition": {"ArnLike": {"lambda:SourceFunctionArn": pattern.format("*")}},
    }
    client = aws.client("dynamodb", credentials=aws.role("no-function", allowed))
    with pytest.raises(ClientError, match="AccessDenied"):
        client.get_item(TableName=TABLE, Key={"pk": PK})


def test_the_sources_of_events_are_known(aws: Aws) -> None:
    """EventBridge User Guide, "Using IAM policy conditions": events:source."""
    statement = {
        "Effect": "Allow",
        "Action": "events:PutEvents",
        "Resource": "*",
        "Condition": {"ForAllValues:StringEquals": {"events:source": ["mine"]}},
    }
    events = aws.client("events", credentials=aws.role("teller", statement))

    def put(*sources: str) -> int:
        entries = [{"Source": each, "DetailType": "x", "Detail": "{}"} for each in sources]
        return events.put_events(Entries=entries)["FailedEntryCount"]

    assert put("mine", "mine") == 0
    with pytest.raises(ClientError, match="AccessDenied"):
        put("mine", "other")
