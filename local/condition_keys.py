"""Condition keys that AWS knows of a request and MiniStack does not.

Each function names the AWS page it follows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.services import dynamodb, lambda_svc

from local.pretend import json_object

if TYPE_CHECKING:
    from collections.abc import Iterator

_EQUALS = re.compile(r"([#\w]+)\s*=\s*(:\w+)")
# Which function has which access key.
_functions: dict[str, str] = {}


def install() -> None:
    _know_leading_keys()
    _know_event_sources()
    _know_source_functions()


def _know_leading_keys() -> None:
    """dynamodb:LeadingKeys: the partition keys of the items that a call is about.

    Source: Amazon DynamoDB Developer Guide, "Using IAM policy conditions for fine-grained access
    control". Of a transaction all of its keys, for it does not say what a part of one is asked.
    """
    service_context = iam_actions.dynamodb_service_context

    def with_leading_keys(body: bytes) -> dict[str, Any]:
        context: dict[str, Any] = service_context(body)
        keys = list(_leading_keys(json_object(body)))
        return {**context, "dynamodb:LeadingKeys": keys} if keys else context

    iam_actions.dynamodb_service_context = with_leading_keys


def _leading_keys(call: dict[str, Any]) -> Iterator[str]:
    if "TransactItems" in call:
        for item in call["TransactItems"]:
            for part in item.values():
                yield from _leading_keys(part)
    elif "RequestItems" in call:
        for table, requests in call["RequestItems"].items():
            for key in requests.get("Keys", ()) if isinstance(requests, dict) else ():
                yield from _leading_keys({"TableName": table, "Key": key})
    elif name := _partition_key(str(call.get("TableName"))):
        for item in (call.get("Key"), call.get("Item")):
            yield from (str(value) for value in (item or {}).get(name, {}).values())
        names = call.get("ExpressionAttributeNames", {})
        values = call.get("ExpressionAttributeValues", {})
        for attribute, value in _EQUALS.findall(call.get("KeyConditionExpression", "")):
            if names.get(attribute, attribute) == name:
                yield from (str(each) for each in values.get(value, {}).values())


def _partition_key(table: str) -> str:
    return str((dynamodb._tables.get(table.rpartition("/")[2]) or {}).get("pk_name") or "")


def _know_event_sources() -> None:
    """events:source: who the events of a PutEvents say that they come from.

    Source: Service Authorization Reference, "Amazon EventBridge"; EventBridge User Guide, "Using
    IAM policy conditions".
    """
    tag_context = iam_actions.request_tag_context

    def with_sources(service: str, iam_action: str, body: bytes, params: Any) -> dict[str, Any]:
        context: dict[str, Any] = tag_context(service, iam_action, body, params)
        if iam_action == "events:PutEvents":
            entries = json_object(body).get("Entries", [])
            context["events:source"] = [str(entry.get("Source")) for entry in entries]
        return context

    iam_actions.request_tag_context = with_sources


def _know_source_functions() -> None:
    """lambda:SourceFunctionArn: the function whose code calls, in calls by its own credentials.

    Source: AWS Lambda Developer Guide, "Using source function ARN to control function access
    behavior".
    """
    credentials = lambda_runtime.execution_credentials
    enforce = iam_evaluator.enforce

    def remembered(config: dict[str, Any]) -> dict[str, str]:
        given: dict[str, str] = credentials(config)
        _functions[given["AWS_ACCESS_KEY_ID"]] = config["FunctionArn"]
        return given

    def with_source_function(access_key: str, *rest: Any, **named: Any) -> Any:
        if access_key in _functions:
            context = {**(named.get("service_context") or {})}
            context["lambda:SourceFunctionArn"] = _functions[access_key]
            named["service_context"] = context
        return enforce(access_key, *rest, **named)

    for module in (lambda_runtime, lambda_svc):
        module.execution_credentials = remembered
    iam_evaluator.enforce = with_source_function
