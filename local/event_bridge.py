"""Event buses of other accounts and Regions as targets, with the resource policies of the buses;
functions as targets, with retries.

Source: EventBridge User Guide, "Sending and receiving events between AWS accounts" (the policy of
the bus, PutEvents of the rule's role) and "... between AWS Regions"; CloudFormation,
AWS::Events::EventBus (Policy). MiniStack delivers to buses of the same account and Region only.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from typing import Any

from ministack.core import iam_evaluator, responses
from ministack.services import eventbridge, lambda_svc
from ministack.services.cloudformation import provisioners

from local import dynamodb_streams, pretend

if version("ministack") != pretend.MINISTACK:
    raise ImportError(f"local/event_bridge.py fits ministack {pretend.MINISTACK}")

log = logging.getLogger(__name__)
_original_dispatch = eventbridge._dispatch_to_event_bus
_original_create = provisioners._eb_event_bus_create


def install() -> None:
    eventbridge._dispatch_to_event_bus = dispatch_to_event_bus
    if dynamodb_streams.RETRY_SECONDS:
        eventbridge._dispatch_to_lambda = dispatch_to_lambda
    provisioners._RESOURCE_HANDLERS["AWS::Events::EventBus"]["create"] = create_event_bus


def create_event_bus(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
    name, attributes = _original_create(logical_id, props, stack_name)
    if props.get("Policy"):
        eventbridge._event_bus_policies[name] = props["Policy"]
    return name, attributes


def dispatch_to_event_bus(
    spec: Any, event: dict[str, Any], rule: dict[str, Any], path: set[str], payload: Any = None
) -> None:
    """The event keeps the account and Region it came from, whatever bus it is on."""
    here = responses.get_account_id(), responses.get_region()
    if (spec.account_id, spec.region) == here:
        _original_dispatch(spec, event, rule, path, payload)
        return
    name = spec.resource.removeprefix("event-bus/")
    with responses.request_scope(spec.account_id, spec.region):
        if not _takes(name, str(spec), sender=here[0]):
            log.warning("the event bus %s takes nothing from account %s", spec, here[0])
            return
        eventbridge._dispatch_event(
            {
                **event,
                "EventBusName": name,
                "_DispatchPath": [*path, eventbridge._rule_key(rule["Name"], "default")],
            }
        )


def dispatch_to_lambda(arn: str, payload: str) -> None:
    """A function that fails is tried again, and then the event goes to its destination on failure.

    Source: Lambda Developer Guide, "Invoke a Lambda function on a schedule" and "How Lambda handles
    errors and retries with asynchronous invocation": EventBridge invokes asynchronously.
    """
    function, _, _ = lambda_svc._get_func_record_for_ref(arn)
    if function is None:
        log.warning("an event for a function that is not there: %s", arn)
        return
    lambda_svc.invoke_async_with_retry(function, json.loads(payload))


def _takes(name: str, arn: str, *, sender: str) -> bool:
    if name not in eventbridge._event_buses:
        return False
    if sender == responses.get_account_id():
        return True
    context = iam_evaluator.EvalContext(
        principal_arn=f"arn:aws:iam::{sender}:role/of-the-rule",
        principal_type="AssumedRole",
        principal_account=sender,
        action="events:PutEvents",
        resource_arn=arn,
        region=responses.get_region(),
    )
    policy = eventbridge._event_bus_policies.get(name)
    return bool(iam_evaluator.evaluate_resource_policy(policy, context).decision == "Allow")
