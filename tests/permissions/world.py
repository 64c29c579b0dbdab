"""A deployed stack whose roles lose one action at a time, and what its functions do then."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from rootsweep import approvers, cases, escalation
from rootsweep.accounts import Account
from rootsweep.approvals import new_link_secret
from rootsweep.cases import Answer, Case, Decision, Obstacle, Outcome, Quorum
from rootsweep.directory import Approver
from rootsweep.root_access import RootKey
from rootsweep.sweeps import SweepFiles
from rootsweep.table import open_case_key
from tests.deployed.conftest import (
    MANAGEMENT_ACCOUNT,
    SECURITY_ACCOUNT,
    account,
    as_root,
    in_session,
    key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.stack import Stack

KEYED, CLEAN, CONTACT, FULL = (f"{400_000_000_000 + n}" for n in (1, 2, 3, 4))
OWNER = "test-01@example.com"
ORGANIZATION = {
    "management_account": MANAGEMENT_ACCOUNT,
    "security_account": SECURITY_ACCOUNT,
    "accounts": [
        account(1, key(1), ou="Workloads/Prod"),
        account(2),
        account(3, tags={}, security_contact="contact@example.com"),
        account(4, key(4)),
    ],
}
LADDER = (escalation.Rung(timedelta(days=7), (escalation.APPROVERS,)),)
# As it is before any function has seen it.
THE_KEY = RootKey("AKIAEXAMPLE000000001", "Active", "2016-04-01T00:00:00+00:00")


class RefusedError(Exception):
    """When a function failed; the message is its error."""


@dataclass
class World:
    """The stack, and cases in any state that a function may meet."""

    stack: Stack
    ids: dict[str, str]
    seconds: Iterator[int] = field(default_factory=count)
    sessions: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> Any:
        """The table, with the rights of the account's administrator."""
        return self.stack.resource("dynamodb").Table(self.stack.outputs["TableName"])

    def files(self, sweep_id: str) -> SweepFiles:
        """The files of a sweep, with the same rights."""
        return SweepFiles(
            self.stack.client("s3"), bucket=self.stack.outputs["ReportBucket"], sweep_id=sweep_id
        )

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """What a function answers. Raises RefusedError."""
        logical = "".join(word.title() for word in function.split("_"))
        answer = self.stack.client("lambda").invoke(
            FunctionName=self.ids[f"{logical}Function"], Payload=json.dumps(event)
        )
        payload = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise RefusedError(str(payload))
        return payload

    @contextmanager
    def without(self, role: str, statement: int, action: str) -> Iterator[None]:
        """A role whose policy lacks one action of one statement."""
        iam, name = self.stack.client("iam"), self.ids[role]
        [policy] = iam.list_role_policies(RoleName=name)["PolicyNames"]
        whole = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        less = json.loads(json.dumps(whole))
        found = less["Statement"][statement]
        actions = found["Action"] if isinstance(found["Action"], list) else [found["Action"]]
        assert action in actions, (role, statement, action)
        found["Action"] = [each for each in actions if each != action]
        if not found["Action"]:
            del less["Statement"][statement]

        def put(document: dict[str, Any]) -> None:
            iam.put_role_policy(
                RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document)
            )

        put(less)
        try:
            yield
        finally:
            put(whole)

    def role_arn(self, role: str) -> str:
        """The ARN of a role."""
        found = self.stack.client("iam").get_role(RoleName=self.ids[role])
        return str(found["Role"]["Arn"])

    def filled_in(self, text: str) -> str:
        """The text with what `<...>` stands for: tables, buckets and logical ids."""
        outputs = self.stack.outputs
        places = {
            "table": outputs["TableName"],
            "bucket": outputs["ReportBucket"],
            "log table": self.ids["DecisionLogTable"],
            "log bucket": outputs["DecisionLogBucket"],
            **self.ids,
        }
        return re.sub(r"<([\w ]+)>", lambda found: places[found[1]], text)

    def session_of(self, role: str, service: str) -> Any:
        """A client in a session of a role, which trusts us for the moment that takes."""
        if role not in self.sessions:
            iam, name = self.stack.client("iam"), self.ids[role]
            trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
            us = {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"AWS": f"arn:aws:iam::{SECURITY_ACCOUNT}:root"},
            }
            both = {**trust, "Statement": [*trust["Statement"], us]}
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(both))
            sts = self.stack.client("sts")
            arn = self.role_arn(role)
            answer = sts.assume_role(RoleArn=arn, RoleSessionName="probe")
            self.sessions[role] = answer["Credentials"]
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        return in_session(self.stack, self.sessions[role], service)

    def statements(self, role: str) -> list[dict[str, Any]]:
        """The statements of a role's policy as they are deployed."""
        iam, name = self.stack.client("iam"), self.ids[role]
        [policy] = iam.list_role_policies(RoleName=name)["PolicyNames"]
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        found: list[dict[str, Any]] = document["Statement"]
        return found

    def now(self) -> datetime:
        """Another second each time, for cases are named by it. In the past, as after a mail."""
        return datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=next(self.seconds))

    def opened(self, account_id: str = KEYED) -> Case:
        """A new case of an account; an older one is forgotten."""
        self.table.delete_item(Key=open_case_key(account_id))
        now = self.now()
        return cases.open_case(
            self.table,
            account=Account(account_id, "name", "Workloads/Prod", parents=()),
            sweep_id="permissions",
            remediate_arn=self.stack.outputs["RemediateStateMachineArn"],
            ladder=LADDER,
            key_ids=[],
            old_exception=None,
            now=now,
            ask_at=now,
        )

    def gathered(self, account_id: str = KEYED, *, keys: Sequence[RootKey] = (THE_KEY,)) -> Case:
        """A case with its evidence."""
        case = self.opened(account_id)
        cases.record_evidence(
            self.table, case=case, keys=keys, quorum=Quorum(1, ""), now=self.now()
        )
        return cases.load(self.table, case_id=case.id)

    def asked(
        self, account_id: str = KEYED, *, to: str = OWNER, obstacle: Obstacle | None = None
    ) -> Case:
        """A case whose approver is known and not mailed yet."""
        case, now = self.gathered(account_id), self.now()
        return cases.ask(
            self.table,
            case=case,
            approvers=[Approver(to, "the test")],
            notes=[],
            first_rung=0,
            since=now,
            position=escalation.position(LADDER, first=0, since=now, now=now),
            now=now,
            obstacle=obstacle,
        )

    def decided(
        self, answer: Answer = Answer.APPROVED, *, account_id: str = KEYED, quarantine: str = ""
    ) -> Case:
        """A case that its approver has decided."""
        case = self.asked(account_id)
        decision = Decision(
            answer,
            OWNER,
            "2026-11-25T00:00:00Z",
            case.fingerprint,
            reason="why",
            until=f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}",
            quarantine=quarantine,
        )
        return cases.decide(self.table, case=case, decision=decision)

    def ended(self, outcome: Outcome, case: Case) -> Case:
        """The case after its end was recorded by the administrator."""
        return cases.record_outcome(
            self.table,
            case_id=case.id,
            outcome=outcome,
            reason="",
            now=datetime.now(UTC),
            keep=timedelta(days=400),
        )

    def link(self) -> str:
        """A link that opens the cases of their approver."""
        secret = new_link_secret()
        now = datetime.now(UTC)
        approvers.save_link(
            self.table, secret=secret, approver=OWNER, now=now, expires_at=now + timedelta(days=1)
        )
        return secret

    def mails(self) -> int:
        """How many mails were ever sent."""
        listed = httpx.get(f"{self.stack.endpoint}/_ministack/ses/messages").json()
        return sum(map(len, listed["messages"].values()))

    def organizations(self) -> Any:
        """Organizations, with all rights of the management account."""
        return as_root(self.stack, MANAGEMENT_ACCOUNT, "organizations")
