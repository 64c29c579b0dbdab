"""S3 as the decision log needs it: Object Lock from a template, and writes that replace nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from .conftest import Aws

KEY = "entries/000000000001.json"


@pytest.fixture
def bucket(aws: Aws, request: pytest.FixtureRequest) -> str:
    """The name of a bucket that a template has made, with Object Lock and the policy of the log."""
    name = f"locked-{request.node.name[-20:].replace('_', '-')}"
    properties: dict[str, Any] = {
        "BucketName": name,
        "ObjectLockEnabled": True,
        "ObjectLockConfiguration": {
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": "30"}},
        },
        "VersioningConfiguration": {"Status": "Enabled"},
    }
    statements = [
        {
            "Effect": "Deny",
            "Action": "s3:PutObject",
            "Principal": "*",
            "Resource": f"arn:aws:s3:::{name}/*",
            "Condition": {"Null": {"s3:if-none-match": "true"}},
        },
        {
            "Effect": "Deny",
            "Action": "s3:DeleteObject",
            "Principal": "*",
            "Resource": f"arn:aws:s3:::{name}/*",
        },
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    resources = {
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": properties},
        "Policy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": policy},
        },
    }
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources}))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    return name


def anybody(aws: Aws, name: str) -> Any:
    """A client of a role that may do everything in S3, but bypass a lock."""
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    return aws.client("s3", credentials=aws.role(f"all-of-s3-{name}"[-60:], everything))


def test_an_object_in_a_bucket_of_a_template_is_locked(aws: Aws, bucket: str) -> None:
    """CloudFormation, AWS::S3::Bucket ObjectLockConfiguration; S3 User Guide, "Locking objects with
    Object Lock": in compliance mode no user, not even root, deletes a version."""
    s3 = aws.client("s3")
    rule = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]["Rule"]
    assert rule["DefaultRetention"] == {"Mode": "COMPLIANCE", "Days": 30}

    put = s3.put_object(
        Bucket=bucket, Key=KEY, Body=b"{}", IfNoneMatch="*", ChecksumAlgorithm="SHA256"
    )

    assert s3.head_object(Bucket=bucket, Key=KEY)["ObjectLockMode"] == "COMPLIANCE"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(
            Bucket=bucket,
            Key=KEY,
            VersionId=put["VersionId"],
            BypassGovernanceRetention=True,
        )


def test_a_bucket_policy_can_demand_that_a_write_overwrites_nothing(aws: Aws, bucket: str) -> None:
    """S3 User Guide, "Enforce conditional writes on Amazon S3 buckets"."""
    s3 = anybody(aws, bucket)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=bucket, Key=KEY, Body=b"1")
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"1", IfNoneMatch="*")

    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key=KEY, Body=b"2", IfNoneMatch="*")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=KEY)

    assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"1"
