"""The small world around a case: one account with root keys, its approver, a mailbox, an alert."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
from botocore.exceptions import ClientError

from rootsweep import approvers, cases, escalation, holds
from rootsweep.accounts import Account
from rootsweep.errors import RootSessionDeniedError
from rootsweep.root_access import RootSummary

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
ACCOUNT = "333333333333"
OWNER, DEFAULT = "payments-sec@example.com", "security@example.com"
MANAGEMENT = "111111111111"
FIRST, SECOND = "AKIAEXAMPLE00000001", "AKIAEXAMPLE00000002"
PATIENCE_SECONDS = 20


class NoSuchEntityError(ClientError):
    """What IAM says of a key that is gone."""


@dataclass
class RootUser:
    """The root user of the account: its keys by id, and how AWS behaves about them."""

    keys: dict[str, str] = field(default_factory=lambda: {FIRST: "Active"})
    last_used: dict[str, datetime] = field(default_factory=dict)
    lets_root_sessions_in: bool = True
    delete_fails: bool = False
    deleted: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)

    def audit_session(
        self, _sts: object, _table: object, *, account_id: str, partition: str, opened_for: str
    ) -> RootSession:
        assert opened_for.startswith(account_id)
        return self._session(account_id, partition, may_delete=False)

    def delete_session(
        self, _sts: object, _table: object, *, account_id: str, partition: str, opened_for: str
    ) -> RootSession:
        assert opened_for.startswith(account_id)
        return self._session(account_id, partition, may_delete=True)

    def read_summary(self, account_id: str) -> RootSummary:
        assert account_id == ACCOUNT
        return RootSummary(bool(self.keys), mfa=True, password=False, signing_certificates=False)

    def _session(self, account_id: str, partition: str, *, may_delete: bool) -> RootSession:
        assert (account_id, partition) == (ACCOUNT, "aws")
        if not self.lets_root_sessions_in:
            raise RootSessionDeniedError(
                f"account {account_id}: AssumeRoot: AccessDenied: not today"
            )
        return RootSession(self, may_delete=may_delete)


class RootSession:
    """An IAM client of a root session, as far as Rootsweep uses one."""

    class exceptions:  # noqa: N801 - boto3's name
        NoSuchEntityException = NoSuchEntityError

    def __init__(self, root: RootUser, *, may_delete: bool) -> None:
        self._root = root
        self._may_delete = may_delete

    def get_paginator(self, operation: str) -> RootSession:
        assert operation == "list_access_keys"
        return self

    def paginate(self) -> list[dict[str, Any]]:
        created = datetime(2016, 4, 1, tzinfo=UTC)
        keys = [
            {"AccessKeyId": id, "Status": status, "CreateDate": created}
            for id, status in self._root.keys.items()
        ]
        return [{"AccessKeyMetadata": keys}]

    def get_access_key_last_used(self, *, AccessKeyId: str) -> dict[str, Any]:  # noqa: N803
        assert AccessKeyId in self._root.keys
        used = {"ServiceName": "N/A", "Region": "N/A"}
        if AccessKeyId in self._root.last_used:
            used = {"ServiceName": "s3", "Region": "eu-west-1"}
            used |= {"LastUsedDate": self._root.last_used[AccessKeyId]}
        return {"AccessKeyLastUsed": used}

    def get_account_summary(self) -> dict[str, Any]:
        assert not self._may_delete, "the delete task policy does not allow GetAccountSummary"
        return {"SummaryMap": {"AccountAccessKeysPresent": int(bool(self._root.keys))}}

    def delete_access_key(self, *, AccessKeyId: str) -> None:  # noqa: N803
        assert self._may_delete, "the audit task policy does not allow DeleteAccessKey"
        self._root.attempts.append(AccessKeyId)
        if self._root.delete_fails:
            raise ClientError(
                {"Error": {"Code": "ServiceFailure", "Message": "for ever"}}, "DeleteAccessKey"
            )
        del self._root.keys[AccessKeyId]
        self._root.deleted.append(AccessKeyId)


class Organizations:
    """The Organizations client, as far as a case uses one: who is tagged is in `tags`."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def describe_organization(self) -> dict[str, Any]:
        return {"Organization": {"MasterAccountId": MANAGEMENT}}

    def get_paginator(self, operation: str) -> Organizations:
        assert operation == "list_tags_for_resource"
        return self

    def paginate(self, *, ResourceId: str) -> list[dict[str, Any]]:  # noqa: N803
        address = self.tags.get(ResourceId)
        return [{"Tags": [{"Key": "rootsweep-approver", "Value": address}] if address else []}]


class Contacts:
    """The Account Management client: the account has a SECURITY contact."""

    def get_alternate_contact(self, **_: str) -> dict[str, Any]:
        return {"AlternateContact": {"EmailAddress": OWNER}}


class Mailbox:
    """The SES client: keeps what is sent, and to whom."""

    class meta:  # noqa: N801 - boto3's name
        region_name = "us-east-1"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.recipients: list[str] = []

    def send_email(self, **request: Any) -> dict[str, str]:
        [recipient] = request["Destination"]["ToAddresses"]
        self.recipients.append(recipient)
        self.texts.append(request["Content"]["Simple"]["Body"]["Text"]["Data"])
        return {"MessageId": str(len(self.texts))}


@dataclass
class World:
    """Everything that a test of the workflow looks at or turns."""

    root: RootUser
    mailbox: Mailbox
    table: Any
    handlers: dict[str, Any]
    machine_arn: str
    topic: Any
    ladder: escalation.Ladder
    organizations: Organizations
    started: str = ""

    def start(self) -> None:
        """Open a case and start its execution, as a sweep does."""
        case = cases.open_case(
            self.table,
            account=Account(
                ACCOUNT, "payments-prod", "Workloads/Prod", parents=("ou-ab12-prodprod",)
            ),
            sweep_id="a-sweep",
            remediate_arn=self.machine_arn,
            ladder=self.ladder,
            key_ids=sorted(self.root.keys),
            old_exception=None,
            now=datetime.now(UTC),
            ask_at=datetime.now(UTC),
        )
        self.started = case.id
        boto3.client("stepfunctions").start_execution(
            stateMachineArn=self.machine_arn, name=case.id, input=f'{{"case_id": "{case.id}"}}'
        )

    @property
    def release(self) -> str:
        """The release whose first deletions run alone."""
        return holds.release_of(FUNCTIONS)

    def kill_switch(self, value: str) -> None:
        """Put the kill switch to this."""
        boto3.client("ssm").put_parameter(
            Name="/rootsweep/kill-switch", Value=value, Type="String", Overwrite=True
        )

    @property
    def case(self) -> cases.Case:
        return cases.load(self.table, case_id=self.started)

    @property
    def item(self) -> dict[str, Any]:
        """The case as the table's stream shows it."""
        key = {"pk": {"S": f"CASE#{self.started}"}, "sk": {"S": "CASE"}}
        answer = boto3.client("dynamodb").get_item(TableName=self.table.name, Key=key)
        return dict(answer["Item"])

    @property
    def alerts(self) -> list[str]:
        return [message for _, message, *_ in self.topic.sent_notifications]

    def mail(self, number: int) -> str:
        """The text of the mail with this number, from 1, once it has come and the case waits."""
        with patience(f"mail {number}") as waiting:
            while waiting():
                # That it was sent is noted after it was, and then the link opens the case.
                case = self.case
                assert not case.ended_at, f"no mail {number}: {case.outcome}, {case.reason}"
                if len(self.mailbox.texts) >= number and case.task_token:
                    request = approvers.find_request(
                        self.table, approver=self.mailbox.recipients[number - 1], case_id=case.id
                    )
                    if request and request.mailed == case.request_number:
                        return self.mailbox.texts[number - 1]
        raise AssertionError

    def case_waits(self, *, after: str = "") -> None:
        """Return when the case has a task token, another one than `after`."""
        with patience("the wait for a decision") as waiting:
            while waiting():
                if self.case.task_token not in ("", after):
                    return

    def answer(self, mail: str, *, deliver: bool = True, **form: str) -> None:
        """Open the link of a mail, and send the form of its page."""
        link = re.search(r"https://approvals\.example\.com/(\S+)", mail)
        assert link
        page = self._page("GET", link[1])
        token = re.search(r'name="case" value="([^"]+)"', page["body"])
        assert token, page["body"]
        fields = urlencode({"case": token[1], **form})
        answered = self._page("POST", link[1], body=fields)
        assert answered["statusCode"] == 200, answered["body"]
        if deliver:
            self.deliver()

    def approve(self, mail: str, *, deliver: bool = True) -> None:
        self.answer(mail, deliver=deliver, decision="approve", account_id=ACCOUNT)

    def deliver(self) -> None:
        """Hand the case to the function behind the table's stream."""
        item = self.item
        assert item["decided"] == {"S": "YES"}, "the stream's filter lets this through"
        record = {"eventName": "MODIFY", "dynamodb": {"NewImage": item}}
        self.handlers["deliver_decision"]({"Records": [record]}, None)

    def wake(self, account_gone: str = "") -> None:
        """What a sweep does that finds the account settled or gone, and the stream after it."""
        assert cases.wake(self.table, case_id=self.started, account_gone=account_gone)
        item = self.item
        assert item["woken"] == {"S": "YES"}, "the stream's filter lets this through"
        record = {"eventName": "MODIFY", "dynamodb": {"NewImage": item}}
        self.handlers["deliver_decision"]({"Records": [record]}, None)

    def end(self) -> tuple[str, list[str]]:
        """How the execution ended, and the states it went through."""
        stepfunctions = boto3.client("stepfunctions")
        arn = cases.execution_arn(self.machine_arn, self.started)
        with patience("the end of the execution") as waiting:
            while waiting():
                if stepfunctions.describe_execution(executionArn=arn)["status"] != "RUNNING":
                    break
        status = stepfunctions.describe_execution(executionArn=arn)["status"]
        events = stepfunctions.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        entered = [
            event["stateEnteredEventDetails"]["name"]
            for event in events
            if "stateEnteredEventDetails" in event
        ]
        return status, entered

    @property
    def output(self) -> dict[str, Any]:
        """What the execution ended with."""
        arn = cases.execution_arn(self.machine_arn, self.started)
        described = boto3.client("stepfunctions").describe_execution(executionArn=arn)
        output: dict[str, Any] = json.loads(described["output"])
        return output

    def _page(self, method: str, link: str, body: str = "") -> dict[str, Any]:
        event = {"httpMethod": method, "pathParameters": {"link": link}, "body": body}
        answer: dict[str, Any] = self.handlers["approval_page"](event, None)
        return answer


@contextmanager
def patience(what: str) -> Iterator[Any]:
    """A loop condition that waits a moment, and fails in the end."""
    until = time.monotonic() + PATIENCE_SECONDS

    def waiting() -> bool:
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.08)
        return True

    yield waiting
