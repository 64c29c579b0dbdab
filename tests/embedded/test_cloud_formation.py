"""Resources of CloudFormation on the embedded AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from .conftest import document

if TYPE_CHECKING:
    from .conftest import Aws

POLL = {"Delay": 1, "MaxAttempts": 30}
NAMED = ["CAPABILITY_NAMED_IAM"]


def role(boundary: str) -> dict[str, Any]:
    """A role that may do everything in S3, within a boundary."""
    account = {"AWS": {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}}
    policy = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    properties = {
        "RoleName": "bounded",
        "PermissionsBoundary": boundary,
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": account}],
        },
        "Policies": [{"PolicyName": "may", "PolicyDocument": json.loads(document(policy))}],
    }
    return {"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}}}


def test_a_role_has_its_boundary_also_after_an_update(aws: Aws) -> None:
    """ "AWS::IAM::Role", PermissionsBoundary: an update needs no interruption."""
    cloudformation, iam = aws.client("cloudformation"), aws.client("iam")
    reading = {"Effect": "Allow", "Action": ["s3:List*", "s3:Get*"], "Resource": "*"}
    nothing = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    arns = [
        iam.create_policy(PolicyName=name, PolicyDocument=document(statement))["Policy"]["Arn"]
        for name, statement in (("reading", reading), ("nothing", nothing))
    ]

    def boundary() -> str:
        found: str = iam.get_role(RoleName="bounded")["Role"]["PermissionsBoundary"][
            "PermissionsBoundaryArn"
        ]
        return found

    cloudformation.create_stack(
        StackName="bounded", TemplateBody=json.dumps(role(arns[0])), Capabilities=NAMED
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName="bounded", WaiterConfig=POLL)
    assert boundary() == arns[0]
    arn = iam.get_role(RoleName="bounded")["Role"]["Arn"]
    session = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    s3 = aws.client("s3", credentials=session)
    s3.list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.create_bucket(Bucket="never-made")

    cloudformation.update_stack(
        StackName="bounded", TemplateBody=json.dumps(role(arns[1])), Capabilities=NAMED
    )
    cloudformation.get_waiter("stack_update_complete").wait(StackName="bounded", WaiterConfig=POLL)
    assert boundary() == arns[1]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_buckets()


def test_a_boundary_that_is_not_there_fails_the_deployment(aws: Aws) -> None:
    cloudformation = aws.client("cloudformation")
    body = json.dumps(role("arn:aws:iam::222222222222:policy/nobody-made-it"))

    cloudformation.create_stack(StackName="unbounded", TemplateBody=body, Capabilities=NAMED)

    with pytest.raises(WaiterError):
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName="unbounded", WaiterConfig=POLL
        )
