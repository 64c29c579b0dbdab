"""A deployed stack whose calls fail, and the accounts that cells of the matrix borrow in it."""

from __future__ import annotations

import html
import json
import queue
import re
import secrets
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from boto3.dynamodb.conditions import Key

from local.stack import DEFAULT_APPROVER
from rootsweep.sweeps import sweep_id_for
from tests.deployed.conftest import (
    AUDIT,
    MANAGEMENT_ACCOUNT,
    SECURITY_ACCOUNT,
    administer_security_hub,
    allow,
    as_root,
    delegate_policies,
    with_a_role_for_root_sessions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.faults import Kind
    from local.stack import Stack

ACCOUNTS = 48
SPECIAL_ACCOUNTS = 12
# One rung, longer than any cell takes.
POLICY = [{"after": "40m", "notify": ["approvers"]}]
PARAMETERS = {
    "AlertAddress": "",
    "CanaryDeletions": "0",
    "EscalationPolicy": json.dumps(POLICY),
    "MailWindowSeconds": "0",
    "ManualRemovalCheckSeconds": "10",
    "Quarantine": "180s",
    "SecurityHub": "ENABLED",
}
# Where accounts are checked in root sessions, all deletions run alone, an organization is listed in
# parts, and nobody is asked about an account that says nothing itself.
OTHER_PARAMETERS = PARAMETERS | {
    "BatchSize": "10",
    "CanaryDeletions": "100",
    "DefaultApprover": "",
    "MaxConcurrentBatches": "2",
    "ScanAccess": "RootSession",
}
# An hour of tries takes a minute, and an account's faults hit the messages about it alone.
CHANGES = {"VisibilityTimeout": "15"}
TRIES = 3
MESSAGES = {"BatchSize": 1, "ScalingConfig": {"MaximumConcurrency": 30}}
PATIENCE_SECONDS = 900
# Where accounts are moved to.
UNIT = "Elsewhere"


def _id(number: int) -> str:
    return f"{500_000_000_000 + number}"


def address(account: str) -> str:
    """Who answers for an account."""
    return f"owner-{account}@example.com"


def bouncing(account: str) -> str:
    """Who is asked first in the scenario in which their mails bounce."""
    return f"bounce+{account}@simulator.amazonses.com"


def _organization(**special: Any) -> dict[str, Any]:
    """An organization, in which the last accounts are special in this way."""
    numbers = range(ACCOUNTS + SPECIAL_ACCOUNTS)
    accounts: list[dict[str, Any]] = [
        {"id": _id(number), "security_contact": address(_id(number))} for number in numbers
    ]
    for account in accounts[ACCOUNTS:]:
        account.update(special)
    return {
        "management_account": MANAGEMENT_ACCOUNT,
        "security_account": SECURITY_ACCOUNT,
        "accounts": [
            *({name: value for name, value in each.items() if value} for each in accounts),
            {"id": _id(len(accounts)), "ou": UNIT},
        ],
    }


# Into the special accounts no root session is let.
ORGANIZATION = _organization(scp_denies_root=True)
# For those nobody answers.
OTHER_ORGANIZATION = _organization(security_contact=None)


@dataclass(frozen=True)
class Rule:
    """Which calls fail in a cell, and how; `times` is None for ever."""

    function: str
    operation: str
    kind: Kind | str
    about: tuple[str, ...] = ()
    times: int | None = None
    after: int = 0
    share: float = 1.0
    seed: int = 0


class World:
    """The stack. Any number of cells use it at once, each with an account of its own."""

    def __init__(self, stack: Stack, *, pid: int) -> None:
        """`pid` is the process of the embedded AWS."""
        self.stack = stack
        self.pid = pid
        self.http = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None))
        self.stepfunctions = stack.client("stepfunctions")
        self.sqs = stack.client("sqs")
        self.table = stack.resource("dynamodb").Table(stack.outputs["TableName"])
        tables = stack.client("dynamodb").list_tables()["TableNames"]
        [log] = [name for name in tables if "DecisionLog" in name]
        self._log = stack.resource("dynamodb").Table(log)
        self.alerts: list[str] = []
        self.dead: list[tuple[str, str]] = []
        self._free: dict[bool, queue.Queue[str]] = defaultdict(queue.Queue)
        for number in range(ACCOUNTS + SPECIAL_ACCOUNTS):
            self._free[number >= ACCOUNTS].put(_id(number))
        delegate_policies(stack)
        administer_security_hub(stack)
        self._stranger = with_a_role_for_root_sessions(stack, SECURITY_ACCOUNT)
        self._hub = stack.client("securityhub")
        self._changes = self._hurry_findings()
        self._alert_queue = self._subscribe()
        self._dead_queues = [
            url
            for url in self.sqs.list_queues()["QueueUrls"]
            if re.search(r"Un(delivered|logged|handled|written)", url)
        ]
        self._ends = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._ends.set()

    # -- accounts ------------------------------------------------------------------------------

    @contextmanager
    def account(self, *, is_special: bool = False) -> Iterator[str]:
        """An account with one root key and no history."""
        account = self._free[is_special].get()
        self._forget(account)
        self.remove_keys(account)
        self.make_key(account)
        yield account
        # One that a cell has left in the middle of something is not lent again.
        self._free[is_special].put(account)

    @staticmethod
    def accounts_of(place: int, number: int) -> tuple[str, str]:
        """Two accounts of those that only this place uses, other ones than in the last round."""
        first = 8 * place + 2 * number % 8
        return _id(first), _id(first + 1)

    def make_key(self, account: str) -> str:
        """Give the root user of an account a key; its id."""
        made = as_root(self.stack, account, "iam").create_access_key()
        return str(made["AccessKey"]["AccessKeyId"])

    def _forget(self, account: str) -> None:
        keys = [{"pk": "OPEN_CASE", "sk": account}, {"pk": "QUARANTINE", "sk": account}]
        people = (f"APPROVER#{each(account)}" for each in (address, bouncing))
        for partition in (f"ACCOUNT#{account}", *people):
            found = self.table.query(KeyConditionExpression=Key("pk").eq(partition))["Items"]
            keys += [{"pk": item["pk"], "sk": item["sk"]} for item in found]
        for key in keys:
            self.table.delete_item(Key=key)
        # Deletions go on running alone, however many there were.
        canary = self.table.query(KeyConditionExpression=Key("pk").eq("CANARY"))["Items"]
        for item in canary:
            self.table.update_item(
                Key={"pk": item["pk"], "sk": item["sk"]},
                UpdateExpression="SET confirmed = :none",
                ExpressionAttributeValues={":none": 0},
            )

    def keys_of(self, account: str) -> set[str]:
        """The root keys that there are, whoever may see them."""
        view = self.http.get(f"{self.stack.endpoint}/_rootsweep/organization").json()
        return {key["id"] for key in view["accounts"][account]["access_keys"]}

    def deleted_of(self, account: str) -> list[str]:
        """The root keys that were ever deleted in root sessions, as nobody but Rootsweep does."""
        view = self.http.get(f"{self.stack.endpoint}/_rootsweep/organization").json()
        return list(view["accounts"][account]["deleted_in_root_sessions"])

    def is_blocked(self, account: str) -> bool:
        """Whether the quarantine is attached to an account."""
        organizations = as_root(self.stack, MANAGEMENT_ACCOUNT, "organizations")
        policies = organizations.list_policies_for_target(
            TargetId=account, Filter="SERVICE_CONTROL_POLICY"
        )["Policies"]
        return any("quarantine" in policy["Name"] for policy in policies)

    def is_noted_as_blocked(self, account: str) -> bool:
        """Whether the table says that the quarantine is attached to an account."""
        key = {"pk": "QUARANTINE", "sk": account}
        return "Item" in self.table.get_item(Key=key, ConsistentRead=True)

    def appoint(self, account: str, *approvers: str) -> None:
        """Tag an account with who answers for it, before its contact."""
        organizations = as_root(self.stack, MANAGEMENT_ACCOUNT, "organizations")
        tag = {"Key": "rootsweep-approver", "Value": " ".join(approvers)}
        if approvers:
            organizations.tag_resource(ResourceId=account, Tags=[tag])
        else:
            organizations.untag_resource(ResourceId=account, TagKeys=[tag["Key"]])

    def remove_keys(self, account: str) -> None:
        """What an owner does in the console."""
        for key in self.keys_of(account):
            as_root(self.stack, account, "iam").delete_access_key(AccessKeyId=key)

    def remove_all_keys(self) -> None:
        """What earlier cells have left is not the business of sweeps of the whole organization."""
        view = self.http.get(f"{self.stack.endpoint}/_rootsweep/organization").json()
        for account, found in view["accounts"].items():
            if found["access_keys"]:
                self.remove_keys(account)

    @contextmanager
    def moved(self, account: str) -> Iterator[str]:
        """The account is in another unit for a while: the id of that."""
        organizations = as_root(self.stack, MANAGEMENT_ACCOUNT, "organizations")
        [root] = organizations.list_roots()["Roots"]
        units = organizations.list_organizational_units_for_parent(ParentId=root["Id"])
        [unit] = [each["Id"] for each in units["OrganizationalUnits"] if each["Name"] == UNIT]
        there = {"SourceParentId": root["Id"], "DestinationParentId": unit}
        back = {"SourceParentId": unit, "DestinationParentId": root["Id"]}
        organizations.move_account(AccountId=account, **there)
        try:
            yield unit
        finally:
            organizations.move_account(AccountId=account, **back)

    def open_root_session(self, account: str) -> str:
        """The access key of a root session that somebody else opens."""
        answer = self._stranger.assume_root(TargetPrincipal=account, TaskPolicyArn={"arn": AUDIT})
        return str(answer["Credentials"]["AccessKeyId"])

    def set_kill_switch(self) -> None:
        """Set it to off, again, so that its next trouble is news."""
        self.stack.client("ssm").put_parameter(
            Name=self.stack.outputs["KillSwitchParameter"], Value="off", Overwrite=True
        )

    # -- faults --------------------------------------------------------------------------------

    def fail(self, rule: Rule) -> None:
        given = {**vars(rule), "about": list(rule.about)}
        self.http.post(self._faults, json=given).raise_for_status()

    def recover(self, about: str) -> None:
        """The faults about a text are over."""
        self.http.request("DELETE", self._faults, content=about).raise_for_status()

    def faults(self) -> dict[str, Any]:
        """The rules with their hits, and what each function called."""
        found: dict[str, Any] = self.http.get(self._faults).json()
        return found

    @property
    def _faults(self) -> str:
        return f"{self.stack.endpoint}/_rootsweep/faults"

    # -- sweeps and cases ----------------------------------------------------------------------

    def name_sweep(self) -> tuple[str, str]:
        """The ARN of an execution that is still to be started, and the end of its sweep's id."""
        machine = self.stack.outputs["SweepStateMachineArn"]
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{secrets.token_hex(8)}"
        sweep_id = sweep_id_for(execution_arn=arn, started_at="")
        return arn, sweep_id.rpartition("-")[2]

    def sweep(self, arn: str, *accounts: str) -> dict[str, Any]:
        """A sweep of these accounts, or all, by an execution of this name, when it has ended."""
        self.stepfunctions.start_execution(
            stateMachineArn=self.stack.outputs["SweepStateMachineArn"],
            name=arn.rpartition(":")[2],
            input=json.dumps({"accounts": accounts} if accounts else {}),
        )
        return self.ended(arn)

    def ended(self, arn: str) -> dict[str, Any]:
        def described() -> dict[str, Any] | None:
            found: dict[str, Any] = self.stepfunctions.describe_execution(executionArn=arn)
            return found if found["status"] != "RUNNING" else None

        execution = self.until(described, f"the end of {arn}")
        assert execution is not None
        return execution

    def redrive(self, arn: str) -> dict[str, Any]:
        """An execution that did not succeed, when it has ended once more."""
        self.stepfunctions.redrive_execution(executionArn=arn)
        return self.ended(arn)

    def stop(self, case_id: str) -> None:
        """Stop the execution of a case by hand."""
        self.stepfunctions.stop_execution(executionArn=self.execution_of(case_id))
        self.until(lambda: self.case(case_id).get("ended_at"), f"the end of case {case_id}")

    def causes_of_batches(self, arn: str) -> str:
        """Why batches of a sweep failed, as its Map Runs say."""
        failed = [
            child["executionArn"]
            for run in self.stepfunctions.list_map_runs(executionArn=arn)["mapRuns"]
            for child in self.stepfunctions.list_executions(
                mapRunArn=run["mapRunArn"], statusFilter="FAILED"
            )["executions"]
        ]
        described = [self.stepfunctions.describe_execution(executionArn=each) for each in failed]
        return " ".join(f"{each.get('error')}: {each.get('cause')}" for each in described)

    def row(self, sweep: dict[str, Any], account: str) -> dict[str, Any]:
        """What the report of a sweep says of an account."""
        bucket, _, name = json.loads(sweep["output"])["report"][5:].partition("/")
        body = self.stack.client("s3").get_object(Bucket=bucket, Key=name)["Body"]
        rows = {row["id"]: row for row in json.load(body)["accounts"]}
        found: dict[str, Any] = rows[account]
        return found

    def case(self, case_id: str) -> dict[str, Any]:
        key = {"pk": f"CASE#{case_id}", "sk": "CASE"}
        found: dict[str, Any] = self.table.get_item(Key=key, ConsistentRead=True).get("Item", {})
        return found

    def execution_of(self, case_id: str) -> str:
        machine = self.stack.outputs["RemediateStateMachineArn"]
        return f"{machine.replace(':stateMachine:', ':execution:')}:{case_id}"

    def log_again(self, case_id: str) -> None:
        """What docs/runbook.md says to do about facts that are not in the decision log."""
        self.invoke("LogDecisionsFunction", {"case_ids": [case_id]})

    def invoke(self, function: str, event: dict[str, Any]) -> None:
        """Invoke a function by hand, and see it succeed."""
        functions = self.stack.client("lambda").get_paginator("list_functions").paginate()
        [name] = [
            each["FunctionName"]
            for page in functions
            for each in page["Functions"]
            if function in each["FunctionName"]
        ]
        answer = self.stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        assert "FunctionError" not in answer, answer["Payload"].read()

    def follow_with_findings(self, does: bool) -> None:
        """Whether findings follow cases from now on; those that nobody looks at take time."""
        events = self.stack.client("events")
        [rule] = [
            each["Name"]
            for each in events.list_rules()["Rules"]
            if "rootsweep" in each.get("EventPattern", "") and "CaseChanged" in each["Name"]
        ]
        (events.enable_rule if does else events.disable_rule)(Name=rule)

    def finding(self, case_id: str) -> tuple[str, str]:
        """State of the finding of a case, and the outcome that it tells; empty without one."""
        arn = {"Value": self.execution_of(case_id), "Comparison": "EQUALS"}
        for each in self._hub.get_findings(Filters={"Id": [arn]})["Findings"]:
            return each["RecordState"], each["ProductFields"]["rootsweep/outcome"]
        return "", ""

    def put_changes_back(self, letters: list[str]) -> None:
        """What docs/runbook.md says to do about findings that are not as their cases are.

        Message by message, for this world has taken them from their queue.
        """
        for letter in letters:
            event = json.JSONDecoder().raw_decode(letter)[0]
            self.sqs.send_message(QueueUrl=self._changes, MessageBody=json.dumps(event))

    def _hurry_findings(self) -> str:
        """The URL of the queue of changes, which tries in seconds what it tries in an hour."""
        [changes] = [url for url in self.sqs.list_queues()["QueueUrls"] if "CaseChanges" in url]
        got = self.sqs.get_queue_attributes(QueueUrl=changes, AttributeNames=["All"])["Attributes"]
        redrive = {**json.loads(got["RedrivePolicy"]), "maxReceiveCount": TRIES}
        given = {**CHANGES, "RedrivePolicy": json.dumps(redrive)}
        self.sqs.set_queue_attributes(QueueUrl=changes, Attributes=given)
        functions: Any = self.stack.client("lambda")
        [mapping] = functions.list_event_source_mappings(EventSourceArn=got["QueueArn"])[
            "EventSourceMappings"
        ]
        functions.update_event_source_mapping(UUID=mapping["UUID"], **MESSAGES)
        return str(changes)

    def logged(self, case_id: str) -> int:
        """How many facts about a case are in the decision log."""
        found = self._log.query(KeyConditionExpression=Key("pk").eq(f"FACT#{case_id}"))
        return len(found["Items"])

    # -- people --------------------------------------------------------------------------------

    def mails(self, account: str) -> list[str]:
        """The texts of the mails about an account that its owner got, or who answers for all."""
        mails = self.http.get(
            f"{self.stack.endpoint}/_rootsweep/inbox",
            params={"to": [address(account), DEFAULT_APPROVER]},
            headers={"accept": "application/json"},
        ).json()
        return [mail["BodyText"] for mail in mails if account in mail["BodyText"]]

    def link_in(self, mail: str) -> str:
        found = re.search(re.escape(self.stack.outputs["ApprovalUrl"]) + r"/[\w-]+", mail)
        return found[0] if found else ""

    def answer(self, account: str, link: str, decision: str, days: int) -> tuple[bool, int]:
        """Open a link and send its form: whether it came to that, and the last status.

        What is declined stays for so many days.
        """
        page = self.http.get(link)
        if page.status_code != 200:
            return False, page.status_code
        tickets = re.findall(r'name="case" value="([^"]+)"', page.text)
        ticket = next(
            (each for each in map(html.unescape, tickets) if each.startswith(account)), ""
        )
        form = {"case": ticket, "decision": decision}
        if decision == "decline":
            until = f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"
            form |= {"reason": "it runs the payroll", "until": until}
        else:
            form["account_id"] = account
        return True, self.http.post(link, data=form).status_code

    # -- what people are told ------------------------------------------------------------------

    def told_about(self, *texts: str) -> list[str]:
        """Alerts in which one of the texts is."""
        return [alert for alert in list(self.alerts) if any(text in alert for text in texts)]

    def dead_about(self, text: str) -> list[str]:
        """Dead letters in which a text is."""
        return [letter for _, letter in list(self.dead) if text in letter]

    def dead_in(self, queue: str) -> list[str]:
        """Dead letters of a queue, like Undelivered."""
        return [letter for url, letter in list(self.dead) if queue in url]

    def _listen(self) -> None:
        while not self._ends.is_set():
            self.alerts += [json.loads(body)["Message"] for body in self._take(self._alert_queue)]
            for url in self._dead_queues:
                self.dead += [(url, letter) for letter in self._take(url)]
            self._ends.wait(0.5)

    def _take(self, url: str) -> list[str]:
        found = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [
            message["Body"] + json.dumps(message.get("MessageAttributes", {}), default=str)
            if url != self._alert_queue
            else message["Body"]
            for message in found
        ]

    def _subscribe(self) -> str:
        sns = self.stack.client("sns")
        url: str = self.sqs.create_queue(QueueName="alerts")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        queue_arn = arn["Attributes"]["QueueArn"]
        policy = allow(
            "sqs:SendMessage", Principal={"Service": "sns.amazonaws.com"}, Resource=queue_arn
        )
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        topic = self.stack.outputs["AlertTopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
        return url

    @staticmethod
    def until(happened: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """What happened, when it has. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        pause = 0.1
        while time.monotonic() < deadline:
            if result := happened():
                return result
            time.sleep(pause)
            pause = min(1.0, pause * 1.3)
        raise TimeoutError(f"waited {seconds:.0f} s for {what}")
