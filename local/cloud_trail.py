"""What CloudTrail tells EventBridge of root sessions, new root access keys and root access.

MiniStack records calls, but puts no events about them on a bus. Sources: IAM User Guide, "Track
privileged tasks in AWS CloudTrail" and "Logging IAM and AWS STS API calls with AWS CloudTrail";
CloudTrail User Guide, "userIdentity element"; EventBridge User Guide, "AWS service events delivered
via CloudTrail".
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ministack.core import responses
from ministack.services import eventbridge

if TYPE_CHECKING:
    from collections.abc import Mapping

# An event comes after the call was answered; on AWS it takes minutes.
SECONDS = 0.5
IAM_REGION = "us-east-1"  # CloudTrail User Guide, "Global service events".


def assumed_root(identity: dict[str, Any], params: Mapping[str, str], result: str) -> None:
    """`AssumeRoot` in the account and Region of the caller; all but the secret key is in it."""
    found = dict(re.findall(r"<(AccessKeyId|SessionToken|Expiration)>([^<]*)<", result))
    credentials = {name[0].lower() + name[1:]: value for name, value in found.items()}
    detail = _root_session(identity, params) | {"responseElements": {"credentials": credentials}}
    _report("sts", responses.get_region(), detail)


def refused_root(
    identity: dict[str, Any], params: Mapping[str, str], code: str, message: str
) -> None:
    """`AssumeRoot` that failed."""
    detail = _root_session(identity, params) | {"errorCode": code, "errorMessage": message}
    _report("sts", responses.get_region(), detail)


def iam_call(identity: dict[str, Any], operation: str, error: tuple[str, str] | None) -> None:
    """A call to IAM, a global service whose events are in one Region. Keys are not in it."""
    detail: dict[str, Any] = {"eventName": operation, "userIdentity": identity}
    if error:
        detail |= {"errorCode": error[0], "errorMessage": error[1]}
    _report("iam", IAM_REGION, detail)


def user_identity(
    account: str, arn: str, role: str | None, access_key: str | None
) -> dict[str, Any]:
    """The caller; `role` is the ARN of the role of which it is a session."""
    kind = "Root" if arn.endswith(":root") else "AssumedRole" if role else "IAMUser"
    identity: dict[str, Any] = {"type": kind, "arn": arn, "accountId": account}
    if access_key:
        identity["accessKeyId"] = access_key
    if role:
        issuer = {"type": "Role", "arn": role, "accountId": account}
        identity["sessionContext"] = {"sessionIssuer": issuer}
    return identity


def _root_session(identity: dict[str, Any], params: Mapping[str, str]) -> dict[str, Any]:
    return {
        "eventName": "AssumeRoot",
        "userIdentity": identity,
        "requestParameters": {
            "targetPrincipal": params.get("TargetPrincipal", ""),
            "taskPolicyArn": {"arn": params.get("TaskPolicyArn.arn", "")},
        },
    }


def _report(service: str, region: str, detail: dict[str, Any]) -> None:
    account = responses.get_account_id()
    entry = {
        "Source": f"aws.{service}",
        "DetailType": "AWS API Call via CloudTrail",
        "Detail": json.dumps(
            {
                "eventVersion": "1.08",
                "eventTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "eventSource": f"{service}.amazonaws.com",
                "awsRegion": region,
                "eventID": str(uuid.uuid4()),
                "eventType": "AwsApiCall",
                "managementEvent": True,
                "readOnly": False,
                "recipientAccountId": account,
                **detail,
            }
        ),
    }
    threading.Thread(target=_publish, args=(entry, account, region), daemon=True).start()


def _publish(entry: dict[str, Any], account: str, region: str) -> None:
    time.sleep(SECONDS)
    with responses.request_scope(account, region):
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
