"""One stack on the embedded AWS for this whole folder; each test has accounts of its own in it."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
import yaml

from local import stack
from local.organization import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPROVAL_TIMEOUT_SECONDS = 30
SECURITY_ACCOUNT = "222222222222"
MANAGEMENT_ACCOUNT = "111111111111"


def key(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"AKIAEXAMPLE{number:09}", "created": "2016-04-01", **more}


def account(number: int, *keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": f"{400_000_000_000 + number}",
        "name": f"account-{number}",
        "root": {"access_keys": list(keys)},
        **more,
    }


ORGANIZATION = {
    "management_account": MANAGEMENT_ACCOUNT,
    "security_account": SECURITY_ACCOUNT,
    "accounts": [
        account(1, key(1), key(2, status="Inactive"), ou="Workloads/Prod"),
        account(2, key(3)),
        account(3, key(4)),
        account(4, key(5)),
        account(5, key(6), ou="Filtered"),
        account(6, ou="Filtered/Below"),
        account(7, key(7)),
        account(8, key(8)),
        account(9, key(9)),
        account(10, key(10), scp_denies_root=True),
        account(11, key(11)),
        account(
            12,
            key(12, last_used={"date": "2024-02-03", "service": "s3", "region": "us-east-1"}),
            name="<script>alert(1)</script> \u202eBcc: x@example.com",
            ou="Work<b>loads",
        ),
        account(13, key(13)),
        account(14, key(14)),
        account(16, key(16), key(17, status="Inactive"), ou="Workloads/Prod"),
        account(15, key(15), tags={"rootsweep-approver": "not an address"}),
    ],
}


@dataclass(frozen=True)
class Mail:
    """A mail that was sent, and the link in it."""

    to: str
    subject: str
    text: str
    html: str
    link: str


class Deployed:
    """What tests do with the stack, all of it through AWS APIs and HTTP."""

    def __init__(self, deployed: stack.Stack) -> None:
        self.stack = deployed
        self.stepfunctions = deployed.client("stepfunctions")
        self.table = deployed.resource("dynamodb").Table(deployed.outputs["TableName"])
        self.browser = httpx.Client(timeout=30)

    def start_sweep(self, **given: Any) -> str:
        arn: str = self.stepfunctions.start_execution(
            stateMachineArn=self.stack.outputs["SweepStateMachineArn"], input=json.dumps(given)
        )["executionArn"]
        return arn

    def ended(self, execution: str) -> dict[str, Any]:
        return self.until(
            lambda: (
                described
                if (described := self.stepfunctions.describe_execution(executionArn=execution))[
                    "status"
                ]
                != "RUNNING"
                else None
            ),
            f"{execution} to end",
        )

    def sweep(self, **given: Any) -> dict[str, Any]:
        """The output of a sweep that succeeded, with its report."""
        described = self.ended(self.start_sweep(**given))
        assert described["status"] == "SUCCEEDED", described
        output: dict[str, Any] = json.loads(described["output"])
        bucket, _, name = output["report"][5:].partition("/")
        body = self.stack.client("s3").get_object(Bucket=bucket, Key=name)["Body"]
        return output | {"rows": {row["id"]: row for row in json.load(body)["accounts"]}}

    def case_of(self, account_id: str) -> dict[str, Any]:
        """The newest case of an account, as its item."""
        found = [
            item
            for item in self.table.scan()["Items"]
            if item["sk"] == "CASE" and item["account_id"] == account_id
        ]
        return max(found, key=lambda item: str(item["case_id"]))

    def case_when(self, account_id: str, outcome: str) -> dict[str, Any]:
        return self.until(
            lambda: case if (case := self.case_of(account_id))["outcome"] == outcome else None,
            f"the case of {account_id} to be {outcome}",
        )

    def mails_about(self, account_id: str) -> list[Mail]:
        listed = self.browser.get(f"{self.stack.endpoint}/_ministack/ses/messages").json()
        return [
            Mail(
                mail["To"][0],
                mail["Subject"],
                mail["BodyText"],
                mail["BodyHtml"],
                self._link_in(mail["BodyText"]),
            )
            for mails in listed["messages"].values()
            for mail in mails
            if account_id in mail["Subject"]
        ]

    def _link_in(self, text: str) -> str:
        found = re.search(re.escape(self.stack.outputs["ApprovalUrl"]) + r"/[\w-]+", text)
        return found.group() if found else ""

    def mail_about(self, account_id: str, number: int = 1) -> Mail:
        return self.until(
            lambda: (
                mails[number - 1] if len(mails := self.mails_about(account_id)) >= number else 0
            ),
            f"mail {number} about {account_id}",
        )

    def token_on(self, link: str) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.browser.get(link).text)
        assert found, "the page takes no decision"
        return unescape(found.group(1))

    def approve(self, account_id: str, link: str, token: str | None = None) -> httpx.Response:
        form = {"decision": "approve", "account_id": account_id}
        return self.browser.post(link, data=form | {"token": token or self.token_on(link)})

    def root_of(self, account_id: str) -> Any:
        """IAM as the root user of a member, who is not bound by task policies."""
        session: Any = boto3
        return session.client(
            "iam",
            endpoint_url=self.stack.endpoint,
            region_name=self.stack.region,
            aws_access_key_id=account_id,
            aws_secret_access_key="test",
        )

    def keys_of(self, account_id: str) -> set[str]:
        listed = self.root_of(account_id).list_access_keys()["AccessKeyMetadata"]
        return {key["AccessKeyId"] for key in listed}

    def as_management(self, service: str) -> Any:
        session: Any = boto3
        return session.client(
            service,
            endpoint_url=self.stack.endpoint,
            region_name=self.stack.region,
            aws_access_key_id=MANAGEMENT_ACCOUNT,
            aws_secret_access_key="test",
        )

    @staticmethod
    def until(happened: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if result := happened():
                return result
            time.sleep(0.2)
        raise AssertionError(f"waited {seconds} s for {what}")


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    file = tmp_path_factory.mktemp("organization") / "organization.yaml"
    file.write_text(yaml.safe_dump(ORGANIZATION, allow_unicode=True))
    aws = stack.EmbeddedAws(port=_free_port(), organization=file)
    try:
        stack.build()
        aws.wait_until_ready()
        parameters = {
            "ApprovalTimeoutSeconds": str(APPROVAL_TIMEOUT_SECONDS),
            "ManualRemovalTimeoutSeconds": "3600",
            "ManualRemovalCheckSeconds": "10",
        }
        yield Deployed(stack.deploy(aws, load(file), parameters))
    finally:
        aws.stop()


@pytest.fixture
def alerts(deployed: Deployed) -> Iterator[Callable[[], list[str]]]:
    """What the security team is told during a test."""
    sqs, sns = deployed.stack.client("sqs"), deployed.stack.client("sns")
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sqs:SendMessage",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Resource": arn["QueueArn"],
            }
        ],
    }
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    subscription = sns.subscribe(
        TopicArn=deployed.stack.outputs["AlertTopicArn"],
        Protocol="sqs",
        Endpoint=arn["QueueArn"],
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    told: list[str] = []

    def read() -> list[str]:
        received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in received:
            told.append(json.loads(message["Body"])["Message"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return told

    yield read
    sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=queue)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
