"""Resources that MiniStack's CloudFormation does not make.

Sources: CloudFormation template reference, AWS::Organizations::Policy and AWS::CloudWatch::Alarm.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services.cloudformation import provisioners

from local import pretend

if version("ministack") != pretend.MINISTACK:
    raise ImportError(f"local/cloud_formation.py fits ministack {pretend.MINISTACK}")

if TYPE_CHECKING:
    from local.pretend import Pretend

_original_alarm_record = provisioners._cw_metric_alarm_record


def install(organization: Pretend) -> None:
    provisioners._cw_metric_alarm_record = alarm_record

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
