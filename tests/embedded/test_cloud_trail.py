"""CloudTrail's events on an event bus, and buses that take events from other accounts.

Each test names the AWS page it follows.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from .conftest import MANAGEMENT, ORGANIZATION, REGION, SECURITY, TASKS, Aws
from .test_pretend_organization import AUDIT, DELETE, KEYS, MAKING, may_assume_root

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERN = {"detail-type": ["AWS API Call via CloudTrail"]}
OTHER_REGION = "eu-west-1"


@pytest.fixture(scope="module")
def aws(start: Callable[[str], Aws]) -> Aws:
    return start(ORGANIZATION)


class Ear:
    """A queue that hears what CloudTrail tells on a bus of an account, the default one if none."""

    def __init__(self, aws: Aws, account: str, name: str, bus: str = "default") -> None:
        self._sqs = aws.client("sqs", account)
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{account}:{name}"
        listen(aws, account, name, arn, bus)

    def hears(self, what: str) -> dict[str, Any]:
        """The next event of this name; earlier ones are passed over."""
        for _ in range(100):
            for event in self._received():
                if event["detail"]["eventName"] == what:
                    return event
            time.sleep(0.1)
        raise AssertionError(f"nobody told of {what}")

    def hears_nothing(self) -> None:
        time.sleep(2)
        assert self._received() == []

    def _received(self) -> list[dict[str, Any]]:
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=1)
        for message in found.get("Messages", []):
            receipt = message["ReceiptHandle"]
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=receipt)
        return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def listen(aws: Aws, account: str, name: str, target: str, bus: str = "default") -> None:
    events = aws.client("events", account)
    events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(PATTERN))
    role = f"arn:aws:iam::{account}:role/tell"
    events.put_targets(
        Rule=name, EventBusName=bus, Targets=[{"Id": "it", "Arn": target, "RoleArn": role}]
    )


@pytest.fixture(scope="module")
def operator(aws: Aws) -> Any:
    """A session of a role of the security account that may open root sessions that look."""
    return aws.role("operator", may_assume_root(AUDIT))


def open_session(aws: Aws, operator: Any, task: str = AUDIT) -> Any:
    sts = aws.client("sts", credentials=operator)
    return sts.assume_root(TargetPrincipal=KEYS, TaskPolicyArn={"arn": TASKS + task})["Credentials"]


def test_a_root_session_is_told_of_in_the_account_that_opens_it(aws: Aws, operator: Any) -> None:
    """ "Track privileged tasks in AWS CloudTrail": the event of AssumeRoot."""
    ear = Ear(aws, SECURITY, "sessions")
    credentials = open_session(aws, operator)

    event = ear.hears("AssumeRoot")
    detail = event["detail"]
    assert (event["source"], event["account"], event["region"]) == ("aws.sts", SECURITY, REGION)
    assert detail["eventSource"] == "sts.amazonaws.com"
    assert detail["readOnly"] is False
    assert detail["requestParameters"] == {
        "targetPrincipal": KEYS,
        "taskPolicyArn": {"arn": TASKS + AUDIT},
    }
    told = detail["responseElements"]["credentials"]
    assert set(told) == {"accessKeyId", "sessionToken", "expiration"}
    assert told["accessKeyId"] == credentials["AccessKeyId"]
    assert credentials["SecretAccessKey"] not in json.dumps(event)
    identity = detail["userIdentity"]
    assert (identity["type"], identity["accountId"]) == ("AssumedRole", SECURITY)
    assert identity["arn"] == f"arn:aws:sts::{SECURITY}:assumed-role/operator/test"
    assert identity["accessKeyId"] == operator["AccessKeyId"]
    issuer = identity["sessionContext"]["sessionIssuer"]
    assert issuer["arn"] == f"arn:aws:iam::{SECURITY}:role/operator"


def test_a_root_session_that_is_refused_is_told_of_too(aws: Aws, operator: Any) -> None:
    """CloudTrail User Guide, record contents: errorCode and errorMessage of a call that failed;
    whether IAM refuses it (here the task) or the service (here the account)."""
    ear = Ear(aws, SECURITY, "refusals")
    with pytest.raises(ClientError, match="AccessDenied"):
        open_session(aws, operator, DELETE)
    denied = ear.hears("AssumeRoot")["detail"]
    with pytest.raises(ClientError, match="AccessDenied"):
        aws.client("sts", credentials=operator).assume_root(
            TargetPrincipal=MANAGEMENT, TaskPolicyArn={"arn": TASKS + AUDIT}
        )
    refused = ear.hears("AssumeRoot")["detail"]

    for detail, target in ((denied, KEYS), (refused, MANAGEMENT)):
        assert detail["errorCode"] == "AccessDenied"
        assert f"iam::{target}:root" in detail["errorMessage"]
        assert "responseElements" not in detail
        issuer = detail["userIdentity"]["sessionContext"]["sessionIssuer"]
        assert issuer["arn"].endswith(":role/operator")


def test_a_root_user_who_makes_a_key_is_told_of_in_its_account(aws: Aws) -> None:
    """ "Logging IAM and AWS STS API calls with AWS CloudTrail"; userIdentity of a root user, who
    signs in at the console. The key is not in the event."""
    ear = Ear(aws, MAKING, "keys")
    key = aws.client("iam", MAKING).create_access_key()["AccessKey"]

    event = ear.hears("CreateAccessKey")
    assert (event["source"], event["account"]) == ("aws.iam", MAKING)
    assert event["detail"]["userIdentity"] == {
        "type": "Root",
        "arn": f"arn:aws:iam::{MAKING}:root",
        "accountId": MAKING,
    }
    assert "errorCode" not in event["detail"]
    assert key["SecretAccessKey"] not in json.dumps(event)


def test_root_access_that_is_turned_off_and_on_is_told_of(aws: Aws) -> None:
    """ "Logging IAM and AWS STS API calls with AWS CloudTrail": all calls of IAM that write."""
    ear, iam = Ear(aws, MANAGEMENT, "switches"), aws.client("iam", MANAGEMENT)
    iam.disable_organizations_root_sessions()
    assert "errorCode" not in ear.hears("DisableOrganizationsRootSessions")["detail"]
    iam.enable_organizations_root_sessions()
    assert ear.hears("EnableOrganizationsRootSessions")["account"] == MANAGEMENT
    theirs = Ear(aws, SECURITY, "switches")
    with pytest.raises(ClientError, match="Management"):
        aws.client("iam").enable_organizations_root_sessions()
    assert theirs.hears("EnableOrganizationsRootSessions")["detail"]["errorCode"]


def make_bus(aws: Aws, name: str, organization: str, region: str = REGION) -> str:
    """An event bus of the security account that takes events of an organization."""
    arn = f"arn:aws:events:{region}:{SECURITY}:event-bus/{name}"
    statement = {
        "Sid": "Organization",
        "Effect": "Allow",
        "Action": "events:PutEvents",
        "Principal": "*",
        "Resource": arn,
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": organization}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    bus = {"Type": "AWS::Events::EventBus", "Properties": {"Name": name, "Policy": policy}}
    deploy(aws, SECURITY, name, {"Resources": {"Bus": bus}}, region)
    return arn


def deploy(
    aws: Aws, account: str, name: str, template: dict[str, Any], region: str = REGION
) -> Any:
    session: Any = boto3
    cloudformation = session.client(
        "cloudformation",
        region_name=region,
        endpoint_url=aws.endpoint,
        aws_access_key_id=account,
        aws_secret_access_key="test",
    )
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    return cloudformation


def test_a_bus_takes_events_from_the_accounts_that_its_policy_names(aws: Aws) -> None:
    """EventBridge User Guide, "Sending and receiving events between AWS accounts": the policy of
    the bus; the account of the event stays the one it came from."""
    organization = aws.client("organizations").describe_organization()["Organization"]["Id"]
    ours, theirs = make_bus(aws, "ours", organization), make_bus(aws, "theirs", "o-0123456789")
    ear, deaf = Ear(aws, SECURITY, "ours", "ours"), Ear(aws, SECURITY, "theirs", "theirs")
    listen(aws, KEYS, "to-ours", ours)
    listen(aws, KEYS, "to-theirs", theirs)
    aws.client("iam", KEYS).delete_access_key(AccessKeyId="AKIAEXAMPLE00000002")
    aws.client("iam", KEYS).create_access_key()

    event = ear.hears("CreateAccessKey")
    assert (event["account"], event["region"]) == (KEYS, REGION)
    deaf.hears_nothing()


def test_a_bus_of_another_region_takes_events(aws: Aws) -> None:
    """EventBridge User Guide, "Sending and receiving events between AWS Regions"."""
    organization = aws.client("organizations").describe_organization()["Organization"]["Id"]
    far = make_bus(aws, "far", organization, OTHER_REGION)
    session: Any = boto3
    settings = {
        "region_name": OTHER_REGION,
        "endpoint_url": aws.endpoint,
        "aws_access_key_id": SECURITY,
        "aws_secret_access_key": "test",
    }
    sqs, events = session.client("sqs", **settings), session.client("events", **settings)
    queue = sqs.create_queue(QueueName="far")["QueueUrl"]
    arn = f"arn:aws:sqs:{OTHER_REGION}:{SECURITY}:far"
    events.put_rule(Name="far", EventBusName="far", EventPattern=json.dumps(PATTERN))
    events.put_targets(Rule="far", EventBusName="far", Targets=[{"Id": "it", "Arn": arn}])
    listen(aws, MANAGEMENT, "to-far", far)
    aws.client("iam", MANAGEMENT).enable_organizations_root_sessions()

    for _ in range(50):
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1).get("Messages")
        if found:
            break
        time.sleep(0.1)
    event = json.loads(found[0]["Body"])
    assert (event["account"], event["region"]) == (MANAGEMENT, REGION)


def test_nobody_but_aws_sends_as_aws(aws: Aws) -> None:
    """EventBridge API reference, PutEvents: sources that begin with aws. are refused."""
    entry = {"Source": "aws.iam", "DetailType": "AWS API Call via CloudTrail", "Detail": "{}"}

    answer = aws.client("events").put_events(Entries=[entry])
    assert answer["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"


def test_cloudformation_attaches_service_control_policies(aws: Aws) -> None:
    """CloudFormation reference, AWS::Organizations::Policy: Content as JSON, TargetIds; deleting
    the stack detaches and deletes it."""
    content = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "sts:AssumeRoot", "Resource": "*"}],
    }
    properties = {
        "Name": "no-root",
        "Type": "SERVICE_CONTROL_POLICY",
        "TargetIds": [SECURITY],
        "Content": content,
    }
    policy = {"Type": "AWS::Organizations::Policy", "Properties": properties}
    cloudformation = deploy(aws, MANAGEMENT, "no-root", {"Resources": {"Policy": policy}})
    organizations = aws.client("organizations", MANAGEMENT)

    def attached() -> list[str]:
        found = organizations.list_policies_for_target(
            TargetId=SECURITY, Filter="SERVICE_CONTROL_POLICY"
        )
        return [each["Name"] for each in found["Policies"]]

    assert attached() == ["FullAWSAccess", "no-root"]
    cloudformation.delete_stack(StackName="no-root")
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName="no-root", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert attached() == ["FullAWSAccess"]
    listed = organizations.list_policies(Filter="SERVICE_CONTROL_POLICY")["Policies"]
    assert "no-root" not in {each["Name"] for each in listed}


def test_cloudformation_makes_alarms_on_expressions(aws: Aws) -> None:
    """CloudFormation reference, AWS::CloudWatch::Alarm: Metrics instead of MetricName."""
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Errors"}
    stat = {"Metric": metric, "Period": 300, "Stat": "Sum"}
    alarm = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmName": "errors",
            "Metrics": [
                {"Id": "e1", "MetricStat": stat, "ReturnData": False},
                {"Id": "all", "Expression": "SUM(METRICS())"},
            ],
            "EvaluationPeriods": 1,
            "Threshold": 0,
            "ComparisonOperator": "GreaterThanThreshold",
        },
    }
    deploy(aws, SECURITY, "errors", {"Resources": {"Alarm": alarm}})

    [made] = aws.client("cloudwatch").describe_alarms(AlarmNames=["errors"])["MetricAlarms"]
    assert made["StateValue"] == "INSUFFICIENT_DATA"
