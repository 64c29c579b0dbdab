"""One stack on the embedded AWS for this whole folder; each test has accounts of its own in it."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
import yaml

from local import stack
from local.organization import load
from tests.deployed.browser import browser as browser
from tests.deployed.browser import page_at as page_at
from tests.deployed.browser import traffic as traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.organization import Organization

# Long enough to answer for all that is asked at once, on a slow machine too.
APPROVAL_TIMEOUT_SECONDS = 150
POLICY = [{"after": f"{APPROVAL_TIMEOUT_SECONDS}s", "notify": ["approvers"]}]
LATELY = f"{datetime.now(UTC) - timedelta(days=10):%Y-%m-%d}"
AUDIT = "arn:aws:iam::aws:policy/root-task/IAMAuditRootUserCredentials"
SECURITY_ACCOUNT = "222222222222"
MANAGEMENT_ACCOUNT = "111111111111"


def key(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"AKIAEXAMPLE{number:09}", "created": "2016-04-01", **more}


def account(number: int, *keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An account with an approver of its own, for mails and pages have all cases of an approver."""
    return {
        "id": f"{400_000_000_000 + number}",
        "name": f"account-{number}",
        "root": {"access_keys": list(keys)},
        "tags": approver(f"test-{number:02}@example.com"),
        **more,
    }


def approver(*addresses: str) -> dict[str, str]:
    """The tags that name these approvers."""
    return {"rootsweep-approver": " ".join(addresses)}


# Nobody answers for it, from the start of the session on.
SILENT = "400000000008"
# It leaves the organization on the way.
LEAVES = "400000000187"
NAME_OF_A_HEADER = "<script>alert(1)</script>\r\nBcc: x@example.com"
NAME_OF_A_TRICKSTER = "\u202egnp.tnuocca\u202c\u200bpay\u200bments\ufeff \u2067x\u2069"
ORGANIZATION = {
    "management_account": MANAGEMENT_ACCOUNT,
    "security_account": SECURITY_ACCOUNT,
    "organizational_units": {"Ladders": {"tags": approver("unit@example.com")}},
    "accounts": [
        account(1, key(1), key(2, status="Inactive"), ou="Workloads/Prod"),
        account(2, key(3)),
        account(3, key(4)),
        account(4, key(5), tags={}, security_contact="contact-04@example.com"),
        account(5, key(6), ou="Filtered"),
        account(6, ou="Filtered/Below"),
        account(7, key(7)),
        account(8, key(8)),
        account(9, key(9)),
        account(10, key(10), scp_denies_root=True),
        account(11, key(11)),
        account(12, key(12), name=NAME_OF_A_HEADER, ou="Work<b>loads"),
        account(13, key(13)),
        account(14, key(14)),
        account(16, key(16), key(17, status="Inactive"), ou="Workloads/Prod"),
        account(15, key(15), tags=approver("not an address")),
        account(17, key(18), tags=approver("owner-17@example.com")),
        account(
            18,
            key(19, last_used={"date": "2024-02-03", "service": "s3", "region": "us-east-1"}),
            tags=approver("owner-18@example.com"),
        ),
        account(19, key(20), name=NAME_OF_A_TRICKSTER, ou="\u202eWork\u200bloads"),
        # One mail for each approver: twelve, one and two accounts.
        *(account(100 + n, key(100 + n), tags=approver("many@example.com")) for n in range(11)),
        account(111, key(111), tags=approver("many@example.com"), scp_denies_root=True),
        account(112, key(112), tags=approver("single@example.com")),
        *(account(n, key(n), tags=approver("pair@example.com")) for n in (113, 114)),
        # Decided together on the list.
        *(account(n, key(n), tags=approver("list@example.com")) for n in range(120, 124)),
        # Their links are opened by machines.
        account(130, key(130), tags=approver("scanned@example.com")),
        *(account(n, key(n), tags=approver("scanned-list@example.com")) for n in (131, 132)),
        # Decided by many at once.
        account(140, key(140)),
        account(141, key(141)),
        # Needs two people.
        account(
            150,
            key(150, last_used={"date": LATELY, "service": "s3", "region": "eu-west-1"}),
            tags=approver("first@example.com"),
            security_contact="second@example.com",
        ),
        # Their links are revoked, or expire.
        account(160, key(160)),
        # Its owner removes the key, and says nothing.
        account(170, key(170)),
        account(161, key(161)),
        # Nobody answers, or not before they are reminded.
        *(account(n, key(n), tags=approver("ladder@example.com")) for n in (180, 181)),
        account(182, key(182), tags={}, ou="Ladders/Below", security_contact="contact@example.com"),
        account(
            183,
            key(183),
            tags=approver("bounce+183@simulator.amazonses.com"),
            security_contact="after-bounce@example.com",
        ),
        account(184, key(184)),
        *(account(n, key(n)) for n in (185, 186, 187)),
        account(188, key(188)),
        *(account(n, key(n)) for n in (189, 190)),
        *(account(n, key(n)) for n in (191, 192)),
        account(193, key(193)),
        account(194, key(194)),
        account(195, key(195)),
        # Their root users are blocked before their keys are deleted.
        *(account(n, key(n)) for n in (196, 197, 198, 199)),
        # Their root sessions are explained, or not; the root user of the last makes a key.
        *(account(n, key(n)) for n in (200, 201, 202)),
        account(203),
        # What was decided about them is in the decision log.
        *(account(n, key(n)) for n in (204, 205)),
        # Others are told what becomes of them.
        *(account(n, key(n)) for n in (206, 207)),
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
        self.browser = httpx.Client(timeout=30, event_hooks={"response": [self._keep]})
        # All that the tests ever saw, for the one that looks where it must not be.
        self.pages: list[str] = []
        self.links: set[str] = set()
        self.task_tokens: set[str] = set()
        self._told: list[str] = []
        self._alert_queue = self._subscribe()

    def _keep(self, response: httpx.Response) -> None:
        if str(response.request.url).startswith(self.stack.outputs["ApprovalUrl"]):
            self.pages.append(response.read().decode())

    @contextmanager
    def policy(self, *rungs: dict[str, Any]) -> Iterator[None]:
        """The cases that are opened meanwhile climb this ladder."""
        self.put_parameter("EscalationPolicy", json.dumps(rungs))
        yield
        self.put_parameter("EscalationPolicy", json.dumps(POLICY))

    def put_parameter(self, name: str, value: str) -> None:
        """Change what an operator may change without a deployment."""
        self.stack.client("ssm").put_parameter(
            Name=self.stack.outputs[f"{name}Parameter"], Value=value, Overwrite=True
        )

    def set_state(self, account_id: str, state: str) -> None:
        """What AWS does to an account, like suspending it."""
        self.browser.post(
            f"{self.stack.endpoint}/_rootsweep/organization",
            json={"account": account_id, "state": state},
        ).raise_for_status()

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
        """The output of a sweep that succeeded, with the rows of its report and its execution."""
        execution = self.start_sweep(**given)
        described = self.ended(execution)
        assert described["status"] == "SUCCEEDED", described
        output: dict[str, Any] = json.loads(described["output"])
        bucket, _, name = output["report"][5:].partition("/")
        body = self.stack.client("s3").get_object(Bucket=bucket, Key=name)["Body"]
        rows = {row["id"]: row for row in json.load(body)["accounts"]}
        return output | {"rows": rows, "execution": execution}

    def case_of(self, account_id: str) -> dict[str, Any]:
        """The newest case of an account, as its item."""
        found = [
            item
            for item in self.items()
            if item["sk"] == "CASE" and item["account_id"] == account_id
        ]
        return max(found, key=lambda item: str(item["case_id"]))

    def case_when(self, account_id: str, outcome: str) -> dict[str, Any]:
        return self.until(
            lambda: case if (case := self.case_of(account_id))["outcome"] == outcome else None,
            f"the case of {account_id} to be {outcome}",
        )

    def mails(self) -> list[Mail]:
        """All mails that were ever sent, oldest first."""
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
        ]

    def mails_about(self, account_id: str) -> list[Mail]:
        return [mail for mail in self.mails() if account_id in mail.text]

    def mails_to(self, *addresses: str) -> list[Mail]:
        return [mail for mail in self.mails() if mail.to in addresses]

    def _link_in(self, text: str) -> str:
        found = re.search(re.escape(self.stack.outputs["ApprovalUrl"]) + r"/([\w-]+)", text)
        if not found:
            return ""
        self.links.add(found[1])
        return found[0]

    def mail_about(self, account_id: str, number: int = 1) -> Mail:
        return self.until(
            lambda: (
                mails[number - 1] if len(mails := self.mails_about(account_id)) >= number else None
            ),
            f"mail {number} about {account_id}",
        )

    def mail_to(self, address: str, number: int = 1) -> Mail:
        return self.until(
            lambda: mails[number - 1] if len(mails := self.mails_to(address)) >= number else 0,
            f"mail {number} to {address}",
        )

    def tickets_on(self, link: str, query: str = "") -> dict[str, str]:
        """What the forms behind a link carry as `case`, by account id."""
        page = self.browser.get(link + query)
        assert page.status_code == 200, page.text
        found = re.findall(r'name="case" value="([^"]+)"', page.text)
        return {unescape(ticket).partition("-")[0]: unescape(ticket) for ticket in found}

    def form(self, account_id: str, link: str, decision: str = "approve") -> dict[str, str]:
        """A form that decides about one case, as its page has it."""
        form = {"case": self.tickets_on(link)[account_id], "decision": decision}
        if decision == "approve":
            return form | {"account_id": account_id}
        until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
        return form | {"reason": "The batch job moves to a role.", "until": until}

    def approve(self, account_id: str, link: str) -> httpx.Response:
        return self.browser.post(link, data=self.form(account_id, link))

    def waits(self, account_id: str) -> dict[str, Any]:
        """The case once everybody has a mail, and nothing changes any more but by a person."""

        def settled() -> dict[str, Any] | None:
            found = self.items_about(account_id)
            [case] = [item for item in found if item["sk"] == "CASE" and "ended_at" not in item]
            requests = [item for item in found if item["sk"].startswith("REQUEST#")]
            mailed = {item["pk"] for item in requests if "mailed" in item}
            writing = [item for item in found if "mailing" in item]
            ready = mailed == {f"APPROVER#{each}" for each in case.get("approvers", ["?"])}
            return case if ready and not writing and "task_token" in case else None

        return self.until(settled, f"the case of {account_id} to wait for a person")

    def items_about(self, account_id: str) -> list[dict[str, Any]]:
        """All items that have to do with an account or those who are asked about it."""
        items = self.items()
        people = {
            approver
            for item in items
            if item["sk"] == "CASE" and item["account_id"] == account_id
            for approver in item.get("approvers", [])
        }
        return [
            item
            for item in items
            if account_id in item["pk"] + item["sk"]
            or item["pk"] in {f"APPROVER#{each}" for each in people}
            or item.get("approver") in people
        ]

    def items(self) -> list[dict[str, Any]]:
        """The whole table, in the order of its keys."""
        pages = self.table.meta.client.get_paginator("scan").paginate(TableName=self.table.name)
        items = [item for page in pages for item in page["Items"]]
        self.task_tokens |= {item["task_token"] for item in items if "task_token" in item}
        return sorted(items, key=lambda item: (item["pk"], item["sk"]))

    def root_of(self, account_id: str) -> Any:
        """IAM as the root user of a member, who is not bound by task policies."""
        return self.as_root(account_id, "iam")

    def as_root(self, account_id: str, service: str) -> Any:
        return as_root(self.stack, account_id, service)

    def in_session(self, session: dict[str, Any], service: str) -> Any:
        return in_session(self.stack, session, service)

    def keys_of(self, account_id: str) -> set[str]:
        listed = self.root_of(account_id).list_access_keys()["AccessKeyMetadata"]
        return {key["AccessKeyId"] for key in listed}

    def as_management(self, service: str) -> Any:
        return self.as_root(MANAGEMENT_ACCOUNT, service)

    def executions(self) -> list[dict[str, Any]]:
        """All executions, with their input and output."""
        machines = [self.stack.outputs[f"{name}StateMachineArn"] for name in ("Sweep", "Remediate")]
        pages = self.stepfunctions.get_paginator("list_executions")
        return [
            self.stepfunctions.describe_execution(executionArn=execution["executionArn"])
            for machine in machines
            for page in pages.paginate(stateMachineArn=machine)
            for execution in page["executions"]
        ]

    def history(self, execution: str) -> list[dict[str, Any]]:
        pages = self.stepfunctions.get_paginator("get_execution_history")
        return [
            event
            for page in pages.paginate(executionArn=execution, PaginationConfig={"PageSize": 1000})
            for event in page["events"]
        ]

    def histories(self) -> list[dict[str, Any]]:
        """All events of all executions, but those that hand a task token to a function."""
        return [
            event
            for execution in self.executions()
            for event in self.history(execution["executionArn"])
            if "waitForTaskToken"
            not in event.get("taskScheduledEventDetails", {}).get("resource", "")
        ]

    def log_lines(self) -> list[str]:
        """All that was logged, by functions, state machines and the API."""
        logs = self.stack.client("logs")
        groups = logs.get_paginator("describe_log_groups").paginate()
        names = [group["logGroupName"] for page in groups for group in page["logGroups"]]
        pages = logs.get_paginator("filter_log_events")
        return [
            event["message"]
            for name in names
            for page in pages.paginate(logGroupName=name)
            for event in page["events"]
        ]

    def reports(self) -> dict[str, str]:
        """All files of all sweeps, and of the decision log, as they are, by their keys."""
        s3 = self.stack.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate
        return {
            entry["Key"]: s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().decode()
            for bucket in (
                self.stack.outputs[f"{name}Bucket"] for name in ("Report", "DecisionLog")
            )
            for page in pages(Bucket=bucket)
            for entry in page.get("Contents", [])
        }

    def alerts(self) -> list[str]:
        """What the security team has been told since the beginning."""
        sqs = self.stack.client("sqs")
        while received := sqs.receive_message(
            QueueUrl=self._alert_queue, MaxNumberOfMessages=10
        ).get("Messages"):
            for message in received:
                self._told.append(json.loads(message["Body"])["Message"])
                sqs.delete_message(
                    QueueUrl=self._alert_queue, ReceiptHandle=message["ReceiptHandle"]
                )
        return self._told

    def _subscribe(self) -> str:
        sqs, sns = self.stack.client("sqs"), self.stack.client("sns")
        queue: str = sqs.create_queue(QueueName="alerts")["QueueUrl"]
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
        sns.subscribe(
            TopicArn=self.stack.outputs["AlertTopicArn"], Protocol="sqs", Endpoint=arn["QueueArn"]
        )
        return queue

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
    parameters = {
        "Dashboard": "ENABLED",
        "EscalationPolicy": json.dumps(POLICY),
        "MailWindowSeconds": "8",
        "ManualRemovalCheckSeconds": "10",
        "Quarantine": "25s",
        "SecurityHub": "ENABLED",
    }
    with embedded_aws(tmp_path_factory, ORGANIZATION) as (aws, organization):
        made = Deployed(stack.deploy(aws, organization, parameters))
        administer_security_hub(made.stack)
        made.sweep(accounts=[SILENT])
        yield made


def as_root(deployed: stack.Stack, account_id: str, service: str) -> Any:
    """A client with all rights of an account."""
    sdk: Any = boto3
    return sdk.client(
        service,
        endpoint_url=deployed.endpoint,
        region_name=deployed.region,
        aws_access_key_id=account_id,
        aws_secret_access_key="test",
    )


def in_session(deployed: stack.Stack, session: dict[str, Any], service: str) -> Any:
    """A client with temporary credentials, as STS gives them."""
    sdk: Any = boto3
    return sdk.client(
        service,
        endpoint_url=deployed.endpoint,
        region_name=deployed.region,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )


def with_a_role_for_root_sessions(deployed: stack.Stack, account_id: str) -> Any:
    """A client for STS in a role of an account that may open root sessions, and is none of ours."""
    iam = as_root(deployed, account_id, "iam")
    trust = allow("sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{account_id}:root"})
    role = iam.create_role(RoleName="operator", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    may = allow("sts:AssumeRoot", Resource="*")
    iam.put_role_policy(RoleName="operator", PolicyName="may", PolicyDocument=may)
    sts = as_root(deployed, account_id, "sts")
    session = sts.assume_role(RoleArn=role, RoleSessionName="eve")["Credentials"]
    return in_session(deployed, session, "sts")


def allow(action: str, **more: Any) -> str:
    """A policy with one statement."""
    statement = {"Effect": "Allow", "Action": action, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def delegate_policies(deployed: stack.Stack) -> None:
    """The organization lets the security account manage service control policies."""
    actions = ("AttachPolicy", "CreatePolicy", "DeletePolicy", "DetachPolicy", "ListPolicies")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{SECURITY_ACCOUNT}:root"},
        "Action": [f"organizations:{action}" for action in (*actions, "ListTargetsForPolicy")],
        "Resource": "*",
        "Condition": {"StringEquals": {"organizations:PolicyType": "SERVICE_CONTROL_POLICY"}},
    }
    as_root(deployed, MANAGEMENT_ACCOUNT, "organizations").put_resource_policy(
        Content=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


def administer_security_hub(deployed: stack.Stack) -> None:
    """Security Hub is on in the security account, which sees the findings of all accounts."""
    hub = as_root(deployed, MANAGEMENT_ACCOUNT, "securityhub")
    hub.enable_organization_admin_account(AdminAccountId=SECURITY_ACCOUNT)


@contextmanager
def embedded_aws(
    tmp_path_factory: pytest.TempPathFactory,
    organization: dict[str, Any],
    parameters: dict[str, str] | None = None,
) -> Iterator[tuple[stack.EmbeddedAws, Organization]]:
    """An embedded AWS with this organization, and the stack built for it.

    Those of the `parameters` that the member role has too are given to it.
    """
    file = tmp_path_factory.mktemp("organization") / "organization.yaml"
    file.write_text(yaml.safe_dump(organization, allow_unicode=True))
    aws = stack.EmbeddedAws(port=stack.free_port(), organization=file, parameters=parameters)
    try:
        stack.build()
        aws.wait_until_ready()
        yield aws, load(file)
    finally:
        aws.stop()
