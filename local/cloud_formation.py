"""Resources that MiniStack's CloudFormation does not make, or not as they are described.

Sources: CloudFormation template reference, AWS::Organizations::Policy, AWS::CloudWatch::Alarm and
AWS::IAM::Role.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services import iam
from ministack.services.cloudformation import provisioners

from local import pretend

if version("ministack") != pretend.MINISTACK:
    raise ImportError(f"local/cloud_formation.py fits ministack {pretend.MINISTACK}")

if TYPE_CHECKING:
    from local.pretend import Pretend

_role = provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"]
_original_role_create = _role["create"]
_original_role_update = _role["update"]
_original_alarm_record = provisioners._cw_metric_alarm_record


def install(organization: Pretend) -> None:
    provisioners._cw_metric_alarm_record = alarm_record
    _role["create"] = role_create
    _role["update"] = role_update

    def call(operation: str, **data: Any) -> Any:
        """As the account that the stack is in; whether it may is for Organizations to say."""
        account = responses.get_account_id()
        arn = f"arn:aws:iam::{account}:root"
        caller = pretend.Caller(account, arn, root=True, person=True, access_key=account)
        with organization.lock:
            return organization.organizations(caller, operation, data)

    def create(_id: str, props: dict[str, Any], _stack: str) -> Any:
        content = props["Content"]
        made = call(
            "CreatePolicy",
            Name=props["Name"],
            Description=props.get("Description", ""),
            Type=props["Type"],
            Content=content if isinstance(content, str) else json.dumps(content),
        )["Policy"]["PolicySummary"]
        for target in props.get("TargetIds", []):
            call("AttachPolicy", PolicyId=made["Id"], TargetId=target)
        return made["Id"], {"Id": made["Id"], "Arn": made["Arn"]}

    def delete(policy: str, _props: dict[str, Any]) -> None:
        for target in call("ListTargetsForPolicy", PolicyId=policy)["Targets"]:
            call("DetachPolicy", PolicyId=policy, TargetId=target["TargetId"])
        call("DeletePolicy", PolicyId=policy)

    provisioners._RESOURCE_HANDLERS["AWS::Organizations::Policy"] = {
        "create": create,
        "delete": delete,
    }


def alarm_record(name: str, props: dict[str, Any]) -> Any:
    """An alarm on an expression over metrics is there to be described, and never rings."""
    metrics = props.get("Metrics")
    if not metrics:
        return _original_alarm_record(name, props)
    names = {"MetricName": "expression", "Namespace": "none"}
    others = {key: value for key, value in props.items() if key != "Metrics"}
    return {**_original_alarm_record(name, {**others, **names}), "Metrics": metrics}


def role_create(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
    """A role with its permissions boundary, which has to be there."""
    made = _original_role_create(logical_id, props, stack_name)
    bound(made[0], props)
    return made


def role_update(
    name: str, old: dict[str, Any], new: dict[str, Any], *rest: Any, **named: Any
) -> Any:
    """The boundary changes with the role."""
    made = _original_role_update(name, old, new, *rest, **named)
    bound(name, new)
    return made


def bound(role: str, props: dict[str, Any]) -> None:
    boundary = props.get("PermissionsBoundary")
    if boundary and not iam._policy_exists(boundary):
        raise ValueError(f"Scope ARN: {boundary} does not exist or is not attachable.")
    iam._roles[role]["PermissionsBoundary"] = boundary
