"""Values that tests need, with something sensible in every field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from rootsweep import approvers, cases, escalation
from rootsweep.accounts import Account, OrganizationalUnits
from rootsweep.approvals import Quorum
from rootsweep.approvers import Link, Thread
from rootsweep.cases import Answer, Case, Decision, Obstacle, Outcome
from rootsweep.directory import Approver
from rootsweep.escalation import Rung
from rootsweep.root_access import RootKey, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootsweep.exceptions import AccountException

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
KEEP = timedelta(days=400)
FAR_FUTURE = datetime(2999, 1, 1, tzinfo=UTC)
ACCOUNT = "333333333333"
MANAGEMENT = "111111111111"
APPROVER, DEPUTY, THIRD = "payments-leads@example.com", "deputy@example.com", "third@example.com"
# Of one rung, without reminders.
A_WEEK = (Rung(timedelta(days=7), (escalation.APPROVERS,)),)
# Two weeks: the owners, with reminders on the third, fifth and seventh day, then somebody else too.
TWO_RUNGS = (
    Rung(timedelta(days=7), (escalation.APPROVERS,), timedelta(days=2)),
    Rung(timedelta(days=7), (escalation.DEFAULT_APPROVER,)),
)
ONE_PERSON, TWO_PEOPLE = Quorum(1, ""), Quorum(2, "a key was used in the last 90 days")
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


# root r-ab12 > Workloads > Prod
UNITS = OrganizationalUnits(
    names={"ou-ab12-workload": "Workloads", "ou-ab12-prodprod": "Prod"},
    paths={
        "r-ab12": ["r-ab12"],
        "ou-ab12-workload": ["r-ab12", "ou-ab12-workload"],
        "ou-ab12-prodprod": ["r-ab12", "ou-ab12-workload", "ou-ab12-prodprod"],
    },
)


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
        parents=an_account().parents,
        ask_at="2026-03-04T05:06:07Z",
        keys=tuple(keys),
        fingerprint=fingerprint(ACCOUNT, keys),
        request_number=1,
        approvers=(APPROVER,),
        asked=frozenset({APPROVER}),
        ladder_since="2026-03-04T05:06:07Z",
        answer_by="2026-03-11T05:06:07Z",
        next_mail_at="2026-03-11T05:06:07Z",
        deadline="2026-03-11T05:06:07Z",
        task_token="a-token",
    )
    return replace(case, **fields)


def a_decision(case: Case, answer: Answer = Answer.APPROVED, **fields: Any) -> Decision:
    """A decision about the evidence of a case, by the first of its approvers if it has any."""
    by = (*case.approvers, APPROVER)[0]
    until = "2026-05-01" if answer == Answer.DECLINED else ""
    reason = "migrating in May" if answer == Answer.DECLINED else ""
    decision = Decision(answer, by, "2026-03-04T06:00:00Z", case.fingerprint, reason, until)
    return replace(decision, **fields)


def a_link(**fields: Any) -> Link:
    """A link of the approver of every case here, just made."""
    link = Link(
        approver=APPROVER, created_at="2026-03-04T05:06:07Z", expires_at="2999-01-01T00:00:00Z"
    )
    return replace(link, **fields)


def open_a_case(
    table: Any,
    *,
    now: datetime = NOW,
    ladder: escalation.Ladder = A_WEEK,
    key_ids: Sequence[str] = (FIRST,),
    old_exception: AccountException | None = None,
    **account: Any,
) -> Case:
    """A case in the table, just opened."""
    return cases.open_case(
        table,
        account=an_account(**account),
        sweep_id="an-earlier-sweep",
        remediate_arn=REMEDIATE,
        ladder=ladder,
        key_ids=key_ids,
        old_exception=old_exception,
        now=now,
        ask_at=now,
    )


def end_case(
    table: Any, case_id: str, outcome: Outcome, *, now: datetime = NOW, reason: str = "r"
) -> Case:
    """The case after its end was recorded."""
    return cases.record_outcome(
        table, case_id=case_id, outcome=outcome, reason=reason, now=now, keep=KEEP
    )


def a_gathered_case(
    table: Any,
    *,
    keys: Sequence[RootKey] = (a_key(),),
    now: datetime = NOW,
    quorum: Quorum = ONE_PERSON,
    **account: Any,
) -> Case:
    """A case in the table with its evidence, that nobody has been asked about."""
    case = open_a_case(table, now=now, **account)
    cases.record_evidence(table, case=case, keys=keys, quorum=quorum, now=now)
    return cases.load(table, case_id=case.id)


def asked(
    table: Any, case: Case, *approvers: str, now: datetime = NOW, obstacle: Obstacle | None = None
) -> Case:
    """The case after these people were noted as its approvers."""
    is_known = case.ladder_since and case.obstacle == obstacle
    first = case.first_rung if is_known else case.rung
    since = datetime.fromisoformat(case.ladder_since) if is_known else now
    return cases.ask(
        table,
        case=case,
        approvers=[Approver(address, "the test") for address in approvers or (APPROVER,)],
        notes=[],
        first_rung=first,
        since=since,
        position=escalation.position(case.ladder, first=first, since=since, now=now),
        now=now,
        obstacle=obstacle,
        reason="denied" if obstacle else "",
    )


def a_waiting_case(
    table: Any,
    *,
    keys: Sequence[RootKey] = (a_key(),),
    now: datetime = NOW,
    approvers: Sequence[str] = (APPROVER,),
    quorum: Quorum = ONE_PERSON,
    **account: Any,
) -> Case:
    """A case in the table that waits for its approvers. They have no mail: see `with_link`."""
    case = a_gathered_case(table, keys=keys, now=now, quorum=quorum, **account)
    case = asked(table, case, *approvers, now=now)
    return cases.await_approval(table, case_id=case.id, task_token="a-token")


def a_decided_case(
    table: Any,
    answer: Answer = Answer.APPROVED,
    *,
    approvers: Sequence[str] = (APPROVER,),
    **given: Any,
) -> Case:
    """A case in the table that has been decided, by as many of its approvers as it takes."""
    case = a_waiting_case(table, approvers=approvers, **given)
    for approver in approvers:
        if not case.decision:
            case = cases.decide(table, case=case, decision=a_decision(case, answer, by=approver))
    assert case.decision
    return case


def with_link(
    table: Any,
    case: Case,
    *,
    secret: str = "a-secret",
    approver: str = APPROVER,
    now: datetime = NOW,
    expires_at: datetime = FAR_FUTURE,
) -> Case:
    """The case, after a link was mailed to an approver that opens it."""
    approvers.save_link(table, secret=secret, approver=approver, now=now, expires_at=expires_at)
    approvers.record_mailed(
        table,
        approver=approver,
        case_id=case.id,
        request=case.request_number,
        reminder=case.reminder,
        thread=Thread(message_id="<first@example.com>", subject="the first mail"),
    )
    return case


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
