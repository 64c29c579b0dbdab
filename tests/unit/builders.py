"""Values that tests need, with something sensible in every field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from rootsweep import cases
from rootsweep.accounts import Account
from rootsweep.cases import Answer, Case, Decision, Link, Outcome
from rootsweep.root_access import RootKey, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ACCOUNT = "333333333333"
MANAGEMENT = "111111111111"
FIRST, SECOND = "AKIAEXAMPLE00000001", "AKIAEXAMPLE00000002"
REMEDIATE = "arn:aws:states:eu-west-1:222222222222:stateMachine:rootsweep-remediate"
TASKS = "arn:aws:iam::aws:policy/root-task/"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)",
    "payments\r\nBcc: everyone@example.com",
    "payments\n\nApprove here: https://evil.example.com",
    "\u202egpj.exe\u2066",
    "pay\u200bments\u200d\ufeff\u00ad",
    "a\u2028b\u2029c\x85d\x0be",
    "\x00\x1b[31mred\x7f",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 5000,
]


def an_account(id: str = ACCOUNT, name: str = "payments-prod", **fields: Any) -> Account:
    return Account(
        **{
            "id": id,
            "name": name,
            "ou": "Workloads/Prod",
            "organizations_state": "ACTIVE",
            "parents": ("r-ab12", "ou-ab12-workload", "ou-ab12-prodprod"),
            **fields,
        }
    )


def a_key(id: str = FIRST, status: str = "Active", **fields: Any) -> RootKey:
    return RootKey(**{"id": id, "status": status, "created": "2016-04-01T00:00:00+00:00", **fields})


def a_case(keys: Sequence[RootKey] = (a_key(),), **fields: Any) -> Case:
    """A case that waits for an approval."""
    case = Case(
        id=f"{ACCOUNT}-20260304T050607Z",
        account_id=ACCOUNT,
        account_name="payments-prod",
        ou="Workloads/Prod",
        outcome=Outcome.AWAITING_APPROVAL,
        opened_at="2026-03-04T05:06:07Z",
        execution_arn=cases.execution_arn(REMEDIATE, f"{ACCOUNT}-20260304T050607Z"),
        sweep_id="a-sweep",
        keys=tuple(keys),
        fingerprint=fingerprint(ACCOUNT, keys),
        approver="payments-leads@example.com",
        deadline="2026-03-11T05:06:07Z",
        task_token="a-token",
    )
    return replace(case, **fields)


def a_decision(case: Case, answer: Answer = Answer.APPROVED, **fields: Any) -> Decision:
    """A decision about the evidence of a case."""
    until = "2026-05-01" if answer == Answer.DECLINED else ""
    reason = "migrating in May" if answer == Answer.DECLINED else ""
    decision = Decision(
        answer, case.approver, "2026-03-04T06:00:00Z", case.fingerprint, reason, until
    )
    return replace(decision, **fields)


def a_link(case: Case, **fields: Any) -> Link:
    link = Link(approver=case.approver, case_id=case.id, expires_at="2999-01-01T00:00:00Z")
    return replace(link, **fields)


def open_a_case(table: Any, *, now: datetime = NOW, **account: Any) -> Case:
    """A case in the table, just opened."""
    return cases.open_case(
        table,
        account=an_account(**account),
        sweep_id="an-earlier-sweep",
        remediate_arn=REMEDIATE,
        now=now,
    )


def a_waiting_case(
    table: Any, *, keys: Sequence[RootKey] = (a_key(),), now: datetime = NOW, **account: Any
) -> Case:
    """A case in the table whose approver has been asked."""
    case = open_a_case(table, now=now, **account)
    cases.record_evidence(table, case=case, keys=keys, now=now)
    return cases.await_approval(
        table,
        case_id=case.id,
        task_token="a-token",
        approver="payments-leads@example.com",
        source="the test",
        deadline=now + timedelta(days=7),
    )


def a_decided_case(
    table: Any, answer: Answer = Answer.APPROVED, *, keys: Sequence[RootKey] = (a_key(),)
) -> Case:
    """A case in the table that has been decided."""
    case = a_waiting_case(table, keys=keys)
    return cases.decide(table, case_id=case.id, decision=a_decision(case, answer))


def contents(table: Any) -> list[dict[str, Any]]:
    """Everything in the table, in a fixed order."""
    return sorted(table.scan()["Items"], key=lambda item: (item["pk"], item["sk"]))


def item_of(table: Any, case: Case) -> dict[str, Any]:
    item: dict[str, Any] = table.get_item(Key={"pk": f"CASE#{case.id}", "sk": "CASE"})["Item"]
    return item


def an_error(
    code: str = "AccessDenied", operation: str = "AssumeRoot", message: str = "no"
) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)
