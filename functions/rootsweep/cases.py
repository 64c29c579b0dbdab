"""The cases: one for each account whose root access keys somebody has to decide about.

The table, not an execution's data, is what deletions go by. `rootsweep.table` has its layout.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from boto3.dynamodb.conditions import Attr, ConditionExpressionBuilder, Key
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from rootsweep import exceptions
from rootsweep.errors import CaseEndedError, NotApprovedError
from rootsweep.escalation import APPROVERS, Ladder, Rung, duration, position
from rootsweep.exceptions import AccountException
from rootsweep.root_access import RootKey, fingerprint
from rootsweep.table import (
    OPEN_CASE,
    SCHEMA_VERSION,
    case_key,
    every_item,
    exception_key,
    iso,
    last_case_key,
    open_case_key,
    readable,
    request_key,
)
from rootsweep.text import person

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from mypy_boto3_dynamodb.service_resource import DynamoDBServiceResource, Table

    from rootsweep.accounts import Account
    from rootsweep.directory import Approver
    from rootsweep.escalation import Position

# How long an approver's list shows a case that has ended.
SHOWN_AFTER_THE_END = timedelta(days=90)
# A reminder that is nearly due goes into a mail that is being written: this near, and this part of
# the time since the last one.
NEARLY = timedelta(hours=6)
NEARLY_PART = 4
MOST_REQUESTS = 90
# Cases that were opened before there were escalation policies had a week.
_LADDER_OF_OLD_CASES: Ladder = (Rung(timedelta(days=7), (APPROVERS,)),)
# How many calls for a hundred cases each are made at once.
BATCHES_AT_ONCE = 5
_ATTRIBUTES_OF_A_STANDING = (
    *("schema", "case_id", "outcome", "ended_at", "approvers", "approvals", "decision", "decided"),
    *("held", "quarantine_token"),
)
# Part of an update: what was decided until now becomes history.
_PAST = "past_decisions = list_append(if_not_exists(past_decisions, :none), :past)"


class Outcome(StrEnum):
    """Where a case stands or how it ended; spelled the same everywhere."""

    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    AWAITING_REMOVAL = "AWAITING_REMOVAL"
    REMEDIATED = "REMEDIATED"
    RESOLVED = "RESOLVED"
    DECLINED = "DECLINED"
    ESCALATED = "ESCALATED"
    FAILED = "FAILED"


# How a case ends whose keys are left to the security team.
GIVEN_UP = (Outcome.ESCALATED, Outcome.FAILED)


class Obstacle(StrEnum):
    """Why Rootsweep cannot delete the keys of an account itself."""

    MANAGEMENT_ACCOUNT = "MANAGEMENT_ACCOUNT"
    ROOT_CREDENTIALS_MANAGEMENT_OFF = "ROOT_CREDENTIALS_MANAGEMENT_OFF"
    SERVICE_CONTROL_POLICY = "SERVICE_CONTROL_POLICY"
    ROOT_SESSION_DENIED = "ROOT_SESSION_DENIED"


class Answer(StrEnum):
    """What an approver can say."""

    APPROVED = "APPROVED"
    DECLINED = "DECLINED"


@dataclass(frozen=True)
class Decision:
    """Who decided what about exactly which keys, when and why.

    `at` is ISO 8601 in UTC; `until` is a date. There is one only if the answer is DECLINED, and
    then there may be a `ticket`. Who approves can want the root user blocked for the time
    `quarantine` first, like 14d.
    """

    answer: Answer
    by: str
    at: str
    fingerprint: str
    reason: str = ""
    until: str = ""
    ticket: str = ""
    quarantine: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What says who can decide a case, of which a page reads very many at once.

    `approvers` are asked now. `approvals` are about the present evidence; `decision` is final: the
    approval that completed the quorum, or the first decline. `held` says what holds the deletion
    up, and while the root user is blocked `quarantine_token` ends that early.
    """

    id: str
    outcome: Outcome
    ended_at: str = ""
    approvers: tuple[str, ...] = ()
    approvals: tuple[Decision, ...] = ()
    decision: Decision | None = None
    decided: str = ""
    held: str = ""
    quarantine_token: str = ""

    @classmethod
    def from_item(cls, item: dict[str, Any]) -> Self:
        """The standing of a case from these attributes of its item. Raises NewerItemError."""
        return cls(**cls._fields_of(readable(item)))

    @staticmethod
    def _fields_of(item: dict[str, Any]) -> dict[str, Any]:
        decision = item.get("decision")
        return {
            "id": item["case_id"],
            "outcome": Outcome(item["outcome"]),
            "ended_at": item.get("ended_at", ""),
            "approvers": tuple(item.get("approvers", [])),
            "approvals": tuple(Decision(**approval) for approval in item.get("approvals", [])),
            "decision": Decision(**decision) if decision else None,
            "decided": item.get("decided", ""),
            "held": item.get("held", ""),
            "quarantine_token": item.get("quarantine_token", ""),
        }

    @property
    def is_decidable(self) -> bool:
        """Whether a decision would be taken now. Not even the task token has to be there yet."""
        return (
            self.outcome == Outcome.AWAITING_APPROVAL
            and bool(self.approvers)
            and not self.decided
            and not self.ended_at
        )

    @property
    def is_for_people_to_remove(self) -> bool:
        """Whether somebody has to remove the keys by hand."""
        return self.outcome == Outcome.AWAITING_REMOVAL and not self.ended_at

    @property
    def can_be_taken_back(self) -> bool:
        """Whether its approvers may still keep the keys, though the deletion is approved."""
        return self.is_deleting and bool(self.quarantine_token or self.held)

    @property
    def is_deleting(self) -> bool:
        """Whether its keys are being deleted: their deletion was approved, and nothing came up."""
        return (
            self.decision is not None
            and self.decision.answer == Answer.APPROVED
            and self.outcome == Outcome.AWAITING_APPROVAL
            and not self.ended_at
        )

    def asks(self, approver: str) -> bool:
        """Whether this approver is one of those who are asked."""
        return person(approver) in map(person, self.approvers)

    def takes_decision_of(self, approver: str) -> bool:
        """Whether a decision of this approver would be taken now.

        Only a decline is, where the deletion is approved and waits. Who has approved may take that
        back also when somebody else is asked by now.
        """
        has_a_say = self.asks(approver) or self.approval_of(approver) is not None
        return (self.is_decidable or self.can_be_taken_back) and has_a_say

    def waits_for(self, approver: str) -> bool:
        """Whether it waits for this approver: they can decide and have not approved yet."""
        return self.is_decidable and self.asks(approver) and self.approval_of(approver) is None

    def approval_of(self, approver: str) -> Decision | None:
        """What this person has approved already."""
        mine = (each for each in self.approvals if person(each.by) == person(approver))
        return next(mine, None)


@dataclass(frozen=True, kw_only=True)
class Case(Standing):
    """A case as the table holds it. Times are ISO 8601 in UTC.

    `request_number` counts the requests: the first one, and each time that people had to be asked
    anew because the evidence, the quorum or the obstacle had changed. `approver_sources` say why
    the `approvers` are asked, `approver_notes` which sources named nobody, and `nobody_since` when
    that was all of them first. `asked` are all who ever were, `unreachable` those asked now whose
    mail SES refused.

    `ladder` is the escalation policy as it was when the case was opened, `rung` where the case
    stands on it, from 0. The present climb began at `first_rung` at the time `ladder_since`, and
    `reminder` counts its mails. `answer_by` is the end of the rung, `deadline` of the ladder.
    `reopened` counts the cases before this one that ended ESCALATED or FAILED with keys that are
    still there. `predecessor` is the id of the account's last case if that ended so, whatever its
    keys were. `old_exception` is the one that these keys were under before, or some still are.

    `woken` says that something is new, so the wait ends and somebody looks again; `account_gone`
    why there is nothing to look at any more. The deletion is `held` up since `held_since`, and
    `canary` names the release whose first deletions this one was among.

    The root user is or was blocked until `quarantine_until`, and `quarantine_refused` says why AWS
    did not let it be blocked. The deletion needs `quorum` approvals, each by another person.
    """

    account_id: str
    account_name: str
    ou: str
    opened_at: str
    execution_arn: str
    sweep_id: str
    parents: tuple[str, ...] = ()
    ask_at: str = ""
    keys: tuple[RootKey, ...] = ()
    fingerprint: str = ""
    quorum: int = 1
    quorum_reason: str = ""
    request_number: int = 0
    approver_sources: tuple[str, ...] = ()
    approver_notes: tuple[str, ...] = ()
    nobody_since: str = ""
    asked: frozenset[str] = frozenset()
    unreachable: frozenset[str] = frozenset()
    ladder: Ladder = _LADDER_OF_OLD_CASES
    rung: int = 0
    first_rung: int = 0
    ladder_since: str = ""
    reminder: int = 0
    answer_by: str = ""
    next_mail_at: str = ""
    deadline: str = ""
    reopened: int = 0
    reopened_after: str = ""
    predecessor: str = ""
    old_exception: AccountException | None = None
    obstacle: Obstacle | None = None
    reason: str = ""
    woken: bool = False
    account_gone: str = ""
    held_since: str = ""
    canary: str = ""
    quarantine_until: str = ""
    quarantine_refused: str = ""
    task_token: str = ""
    deletion_started_at: str = ""

    @classmethod
    def from_item(cls, item: dict[str, Any]) -> Self:
        """The case from its item. Raises NewerItemError."""
        item = readable(item)
        obstacle = item.get("obstacle")
        ladder = tuple(Rung.from_dict(rung) for rung in item.get("ladder", []))
        old_exception = item.get("old_exception")
        return cls(
            **cls._fields_of(item),
            account_id=item["account_id"],
            account_name=item.get("account_name", ""),
            ou=item.get("ou", ""),
            opened_at=item["opened_at"],
            execution_arn=item["execution_arn"],
            sweep_id=item.get("sweep_id", ""),
            parents=tuple(item.get("parents", [])),
            ask_at=item.get("ask_at", ""),
            keys=tuple(RootKey.from_dict(key) for key in item.get("keys", [])),
            fingerprint=item.get("fingerprint", ""),
            quorum=int(item.get("quorum", 1)),
            quorum_reason=item.get("quorum_reason", ""),
            request_number=int(item.get("request_number", 0)),
            asked=frozenset(item.get("asked", ())),
            approver_sources=tuple(item.get("approver_sources", [])),
            approver_notes=tuple(item.get("approver_notes", [])),
            nobody_since=item.get("nobody_since", ""),
            unreachable=frozenset(item.get("unreachable", ())),
            ladder=ladder or _LADDER_OF_OLD_CASES,
            rung=int(item.get("rung", 0)),
            first_rung=int(item.get("first_rung", 0)),
            ladder_since=item.get("ladder_since", ""),
            reminder=int(item.get("reminder", 0)),
            answer_by=item.get("answer_by") or item.get("deadline", ""),
            next_mail_at=item.get("next_mail_at") or item.get("deadline", ""),
            deadline=item.get("deadline", ""),
            reopened=int(item.get("reopened", 0)),
            reopened_after=item.get("reopened_after", ""),
            predecessor=item.get("predecessor", ""),
            old_exception=AccountException.from_item(old_exception) if old_exception else None,
            obstacle=Obstacle(obstacle) if obstacle else None,
            reason=item.get("reason", ""),
            woken="woken" in item,
            account_gone=item.get("account_gone", ""),
            held_since=item.get("held_since", ""),
            canary=item.get("canary", ""),
            quarantine_until=item.get("quarantine_until", ""),
            quarantine_refused=item.get("quarantine_refused", ""),
            task_token=item.get("task_token", ""),
            deletion_started_at=item.get("deletion_started_at", ""),
        )

    @property
    def quarantine(self) -> timedelta:
        """How long the root user is to be blocked before the deletion: the longest that is wanted.

        Who wants it deleted at once does not hurry who wants to be careful.
        """
        wanted = [duration(each.quarantine) for each in self.approvals if each.quarantine]
        return max(wanted, default=timedelta())

    @property
    def is_in_quarantine(self) -> bool:
        """Whether the root user is blocked, and its approvers may still keep the keys."""
        return self.can_be_taken_back and bool(self.quarantine_until)

    @property
    def missing_approvals(self) -> int:
        """How many more people have to approve."""
        return max(0, self.quorum - len(self.approvals))

    @property
    def decided_by(self) -> str:
        """Who decided, for people to read: nobody, one, or all whose approval it took."""
        if self.decision is None:
            return "nobody"
        if self.decision.answer == Answer.DECLINED:
            return self.decision.by
        return ", ".join(approval.by for approval in self.approvals)

    def position(self, now: datetime) -> Position:
        """Where the case stands on its ladder now; it must have begun to climb."""
        since = datetime.fromisoformat(self.ladder_since)
        return position(self.ladder, first=self.first_rung, since=since, now=now)

    def early_reminder(self, now: datetime) -> int | None:
        """The number of the reminder that is due or nearly so, for a mail that is written now."""
        if not self.ladder_since:
            return None
        at = self.position(now)
        if at.reminder > self.reminder:
            return at.reminder
        near = min(NEARLY, (at.next_mail_at - at.mail_at) / NEARLY_PART)
        if at.next_mail_at < at.deadline and now >= at.next_mail_at - near:
            return self.reminder + 1
        return None

    def source_of(self, approver: str) -> str:
        """Why this approver is asked."""
        sources = dict(zip(map(person, self.approvers), self.approver_sources, strict=False))
        return sources.get(person(approver), "")


def case_id_for(account_id: str, *, now: datetime) -> str:
    """The id of a case opened now, which is also the name of its execution."""
    return f"{account_id}-{now:%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True)
class Quorum:
    """How many different people have to approve a deletion, and why it is more than one."""

    people: int
    reason: str


def open_case(
    table: Table,
    *,
    account: Account,
    sweep_id: str,
    remediate_arn: str,
    ladder: Ladder,
    key_ids: Collection[str],
    old_exception: AccountException | None,
    now: datetime,
    ask_at: datetime,
) -> Case:
    """Open a case for the account unless one is open; return the open one.

    Nobody is asked before `ask_at`, so that the cases of one sweep can share their mails. However
    many sweeps come here at once, one wins and the others get the winner's case.

    If the last case of the account ended ESCALATED or FAILED and one of its keys is among `key_ids`
    (or it is not known which keys there are or were), the new one goes on where that one ended.
    """
    # In this order: a case that is not open any more has left how it ended.
    existing = find_open_case(table, account_id=account.id)
    if existing:
        return existing
    case_id = case_id_for(account.id, now=now)
    predecessor, reopened, rung, after = _where_the_last_case_ended(table, account.id, key_ids)
    case: dict[str, Any] = {
        **case_key(case_id),
        "schema": SCHEMA_VERSION,
        "case_id": case_id,
        "account_id": account.id,
        "account_name": account.name,
        "ou": account.ou,
        "parents": list(account.parents),
        "sweep_id": sweep_id,
        "ask_at": iso(ask_at),
        "outcome": Outcome.AWAITING_APPROVAL,
        "opened_at": iso(now),
        "execution_arn": execution_arn(remediate_arn, case_id),
        "ladder": [rung.to_dict() for rung in ladder],
        "rung": min(rung, len(ladder) - 1),
        "reopened": reopened,
        "reopened_after": after,
        "predecessor": predecessor,
    }
    if old_exception:
        case["old_exception"] = old_exception.to_item()
    lock: dict[str, Any] = {
        **open_case_key(account.id),
        "schema": SCHEMA_VERSION,
        "case_id": case_id,
    }
    absent = "attribute_not_exists(pk)"
    try:
        table.meta.client.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table.name, "Item": lock, "ConditionExpression": absent}},
                {"Put": {"TableName": table.name, "Item": case, "ConditionExpression": absent}},
            ]
        )
    except table.meta.client.exceptions.TransactionCanceledException as error:
        if not _condition_failed(error):
            raise
        existing = find_open_case(table, account_id=account.id)
        if existing is None:
            raise  # The other sweep's case ended this very moment: the caller's retry opens one.
        return existing
    return Case.from_item(case)


def move(table: Table, *, case: Case, account: Account) -> None:
    """Note in an open case in which units its account is now: they say who is asked, and how many.

    Takes effect when the case looks again. An account whose units are not known has not moved. The
    name of the unit stays as it was, for it is in the input that finds the execution again.
    """
    if account.parents and account.parents != case.parents:
        with contextlib.suppress(CaseEndedError):
            parents = {":parents": list(account.parents)}
            _update_open(table, case.id, "SET parents = :parents", parents)


def _where_the_last_case_ended(
    table: Table, account_id: str, key_ids: Collection[str]
) -> tuple[str, int, int, str]:
    """Which case was given up; how often these keys were the trouble, on which rung, and how."""
    last: Any = table.get_item(Key=last_case_key(account_id), ConsistentRead=True).get("Item")
    if last is None or last["outcome"] not in GIVEN_UP:
        return "", 0, 0, ""
    if key_ids and last["key_ids"] and set(key_ids).isdisjoint(last["key_ids"]):
        return last["case_id"], 0, 0, ""
    return last["case_id"], int(last["reopened"]) + 1, int(last["rung"]), last["outcome"]


def find_latest_case(table: Table, *, account_id: str) -> Case | None:
    """The open case of an account, or else the one that ended last, if it was given up."""
    opened = find_open_case(table, account_id=account_id)
    last: Any = table.get_item(Key=last_case_key(account_id), ConsistentRead=True).get("Item")
    if opened or not last or last["outcome"] not in GIVEN_UP:
        return opened
    try:
        return load(table, case_id=last["case_id"])
    except KeyError:  # DynamoDB forgets the one item sooner than the other.
        return None


def find_open_case(table: Table, *, account_id: str) -> Case | None:
    """The open case of an account, if there is one."""
    lock = table.get_item(Key=open_case_key(account_id), ConsistentRead=True).get("Item")
    case = load(table, case_id=str(lock["case_id"])) if lock else None
    return case if case and not case.ended_at else None


def last_case_id(table: Table, *, account_id: str) -> str:
    """The id of the account's latest case that ended; empty if none did, or it is forgotten."""
    last = table.get_item(Key=last_case_key(account_id), ConsistentRead=True).get("Item", {})
    return str(last.get("case_id", ""))


def open_case_ids(table: Table) -> dict[str, str]:
    """The id of each open case, by account id."""
    items = every_item(table, KeyConditionExpression=Key("pk").eq(OPEN_CASE))
    return {item["sk"]: item["case_id"] for item in items}


def load(table: Table, *, case_id: str) -> Case:
    """The case with this id. Raises KeyError if there is none."""
    item = table.get_item(Key=case_key(case_id), ConsistentRead=True).get("Item")
    if item is None:
        raise KeyError(f"case {case_id} is not in the table")
    return Case.from_item(item)


def find_deleting(table: Table, *, case_id: str) -> Case | None:
    """The case if an approved deletion of it is under way; of one that is forgotten, none is."""
    try:
        case = load(table, case_id=case_id)
    except KeyError:
        return None
    return case if case.is_deleting else None


def load_many(dynamodb: DynamoDBServiceResource, table: Table, ids: Iterable[str]) -> list[Case]:
    """The cases with these ids, in this order. Ids without a case are left out."""
    return [Case.from_item(item) for item in _items(dynamodb, table, list(ids))]


def load_standings(
    dynamodb: DynamoDBServiceResource, table: Table, ids: Iterable[str]
) -> list[Standing]:
    """How the cases with these ids stand, in this order. Ids without a case are left out."""
    names = {f"#{number}": name for number, name in enumerate(_ATTRIBUTES_OF_A_STANDING)}
    read = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
    return [Standing.from_item(item) for item in _items(dynamodb, table, list(ids), **read)]


def _items(
    dynamodb: DynamoDBServiceResource, table: Table, ids: list[str], **read: Any
) -> Iterator[dict[str, Any]]:
    """The items of these cases, in this order, a hundred in a call (API, BatchGetItem)."""
    found: dict[str, dict[str, Any]] = {}

    def get(start: int) -> None:
        keys: list[Any] = [case_key(case_id) for case_id in ids[start : start + 100]]
        while keys:
            request: Any = {"Keys": keys, "ConsistentRead": True, **read}
            answer: Any = dynamodb.batch_get_item(RequestItems={table.name: request})
            found.update({i["case_id"]: i for i in answer["Responses"].get(table.name, [])})
            keys = list(answer.get("UnprocessedKeys", {}).get(table.name, {}).get("Keys", []))

    with ThreadPoolExecutor(max_workers=BATCHES_AT_ONCE) as pool:
        list(pool.map(get, range(0, len(ids), 100)))
    return (found[case_id] for case_id in ids if case_id in found)


def record_evidence(
    table: Table, *, case: Case, keys: Sequence[RootKey], quorum: Quorum, now: datetime
) -> None:
    """Put what was found into the case, and how many people have to approve.

    If the keys changed or more people are needed, what was decided before becomes history and
    people are asked anew. Otherwise decisions stay, so that gathering twice asks nobody twice.
    Raises CaseEndedError.
    """
    found = fingerprint(case.account_id, keys)
    if (case.fingerprint, case.quorum) != (found, quorum.people):
        case = _close_for_now(table, case)
    if case.approvals and not case.decision and case.fingerprint == found:
        # Who approved as one of two did so; and one is not enough all of a sudden.
        quorum = max(quorum, Quorum(case.quorum, case.quorum_reason), key=lambda each: each.people)
    update = (
        "SET #keys = :keys, fingerprint = :fingerprint, evidence_at = :now,"
        " #quorum = :quorum, quorum_reason = :why"
    )
    values: dict[str, Any] = {
        ":keys": [key.to_dict() for key in keys],
        ":fingerprint": found,
        ":now": iso(now),
        ":quorum": quorum.people,
        ":why": quorum.reason,
    }
    if case.fingerprint != found or case.quorum < quorum.people:
        update += ", request_number = :request"
        values[":request"] = case.request_number + 1
        past = _past_decisions(case)
        if past:
            update += f", {_PAST}"
            values |= {":none": [], ":past": past}
        # The rung begins anew.
        update += (
            " REMOVE woken, approvals, deadline, ladder_since, decision, decided,"
            " task_token, held, held_since, lifted, quarantine_until, quarantine_token"
        )
    else:
        update += " REMOVE woken"
    _update_open(table, case.id, update, values, names={"#keys": "keys", "#quorum": "quorum"})


def ask(
    table: Table,
    *,
    case: Case,
    approvers: Sequence[Approver],
    notes: Sequence[str],
    first_rung: int,
    since: datetime,
    position: Position,
    now: datetime,
    obstacle: Obstacle | None = None,
    reason: str = "",
) -> Case:
    """Note who is asked until when: for a decision or, if there is an `obstacle`, for a removal.

    One after the other is a new request to the same people, and what was decided before becomes
    history: who was asked to remove keys by hand is not surprised by an old approval. Raises
    CaseEndedError.
    """
    if case.obstacle != obstacle:
        case = _close_for_now(table, case)
    asked = {approver.address for approver in approvers}
    values: dict[str, Any] = {
        ":outcome": Outcome.AWAITING_REMOVAL if obstacle else Outcome.AWAITING_APPROVAL,
        ":approvers": [approver.address for approver in approvers],
        ":sources": [approver.source for approver in approvers],
        ":notes": list(notes),
        ":first": first_rung,
        ":since": iso(since),
        ":rung": position.rung,
        ":reminder": position.reminder,
        ":next": iso(position.next_mail_at),
        ":answer": iso(position.answer_by),
        ":deadline": iso(position.deadline),
        ":reason": reason,
        ":obstacle": obstacle,
        ":request": case.request_number + (case.obstacle != obstacle),
    }
    update: Any = {
        "TableName": table.name,
        "Key": case_key(case.id),
        "UpdateExpression": (
            "SET outcome = :outcome, approvers = :approvers, approver_sources = :sources,"
            " approver_notes = :notes, first_rung = :first, ladder_since = :since, rung = :rung,"
            " reminder = :reminder, next_mail_at = :next, answer_by = :answer,"
            " deadline = :deadline, reason = :reason, obstacle = :obstacle,"
            " request_number = :request REMOVE unreachable, woken"
        ),
        "ConditionExpression": "attribute_exists(pk) AND attribute_not_exists(ended_at)",
        "ExpressionAttributeValues": values,
    }
    past = _past_decisions(case)
    if case.obstacle != obstacle and past:
        update["UpdateExpression"] = (
            update["UpdateExpression"].replace("SET ", f"SET {_PAST}, ", 1)
            + ", approvals, decision, decided, task_token, held, held_since, lifted,"
            " quarantine_until, quarantine_token"
        )
        values |= {":none": [], ":past": past}
    if asked:
        update["UpdateExpression"] += ", nobody_since ADD asked :asked"
        values[":asked"] = asked
    else:
        update["UpdateExpression"] = update["UpdateExpression"].replace(
            "SET ", "SET nobody_since = if_not_exists(nobody_since, :now), ", 1
        )
        values[":now"] = iso(now)
    requests: list[Any] = [
        {
            "Update": {
                "TableName": table.name,
                "Key": request_key(approver.address, case.id),
                "UpdateExpression": (
                    "SET #schema = :schema, case_id = :case,"
                    " asked_at = if_not_exists(asked_at, :now)"
                ),
                "ExpressionAttributeNames": {"#schema": "schema"},
                "ExpressionAttributeValues": {
                    ":schema": SCHEMA_VERSION,
                    ":case": case.id,
                    ":now": iso(now),
                },
            }
        }
        for approver in approvers
    ]
    try:
        table.meta.client.transact_write_items(TransactItems=[{"Update": update}, *requests])
    except table.meta.client.exceptions.TransactionCanceledException as error:
        if not _condition_failed(error):
            raise
        raise CaseEndedError(f"case {case.id} does not exist or has ended") from error
    return load(table, case_id=case.id)


def _close_for_now(table: Table, case: Case) -> Case:
    """The case with all that was decided until this moment, and nothing more will be.

    Without approvers nobody decides before it is clear who is asked now, and about what.
    """
    return _update_open(table, case.id, "REMOVE approvers", {}) if case.approvers else case


def note_unreachable(table: Table, *, case_id: str, approvers: set[str]) -> None:
    """Add to the case whose mail SES refused. Raises CaseEndedError."""
    _update_open(table, case_id, "ADD unreachable :approvers", {":approvers": approvers})


def await_approval(table: Table, *, case_id: str, task_token: str) -> Case:
    """Keep the token that ends the wait. Raises CaseEndedError.

    If the case was decided before, this change makes the table's stream deliver the decision.
    """
    return _update_open(table, case_id, "SET task_token = :token", {":token": task_token})


def decide(table: Table, *, case: Case, decision: Decision) -> Case:
    """Record what one person decided about a case as they saw it; return the case after it.

    The first decline is final, also by somebody who has approved; so is the approval that completes
    the quorum. A second approval by the same person changes nothing. Raises CaseEndedError if the
    person is not asked, or the case was decided, ended or got new evidence meanwhile.
    """
    seen = case
    while case.takes_decision_of(decision.by) and (case.request_number, case.fingerprint) == (
        seen.request_number,
        decision.fingerprint,
    ):
        if decision.answer == Answer.APPROVED and case.approval_of(decision.by):
            return case
        if case.can_be_taken_back and decision.answer == Answer.APPROVED:
            break
        before = case
        try:
            if case.can_be_taken_back:
                return _take_back(table, case, decision)
            return _record_decision(table, case, decision)
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            case = load(table, case_id=case.id)  # Somebody was faster: does ours still count?
        if case == before:  # Nobody was: it will never be taken.
            break
    raise CaseEndedError(f"case {case.id} takes no decision any more")


def _record_decision(table: Table, case: Case, decision: Decision) -> Case:
    values: dict[str, Any] = {":decision": _decision_item(decision), ":yes": "YES"}
    condition = (
        Attr("outcome").eq(Outcome.AWAITING_APPROVAL)
        & Attr("decided").not_exists()
        & Attr("ended_at").not_exists()
        & Attr("approvers").eq(list(case.approvers))
        & Attr("request_number").eq(case.request_number)
        & Attr("fingerprint").eq(decision.fingerprint)
    )
    # Two approvers at the same moment: each must count the other.
    if case.approvals:
        condition &= Attr("approvals").size().eq(len(case.approvals))
    else:
        condition &= Attr("approvals").not_exists()
    # By `answered` the decision log finds it, by `decided` the table's stream is filtered.
    changes = ["answered = :yes"]
    if decision.answer == Answer.APPROVED:
        changes.append("approvals = list_append(if_not_exists(approvals, :none), :approvals)")
        values |= {":none": [], ":approvals": [_decision_item(decision)]}
    if decision.answer == Answer.DECLINED or case.missing_approvals <= 1:
        changes.append("decision = :decision, decided = :yes")
    else:
        del values[":decision"]
    item = table.update_item(
        Key=case_key(case.id),
        UpdateExpression=f"SET {', '.join(changes)}",
        ConditionExpression=condition,
        ExpressionAttributeValues=values,
        ReturnValues="ALL_NEW",
    )["Attributes"]
    return Case.from_item(item)


def _take_back(table: Table, case: Case, decision: Decision) -> Case:
    """End the wait for an approved deletion by a decline, unless it ended this very moment."""
    asked: Any = Attr("approvers").eq(list(case.approvers))
    if not case.approvers:  # Then who has approved can take that back.
        asked |= Attr("approvers").not_exists()
    item = table.update_item(
        Key=case_key(case.id),
        # `lifted` is what the table's stream is filtered by.
        UpdateExpression="SET decision = :decision, lifted = :yes",
        ConditionExpression=Attr("ended_at").not_exists()
        & (Attr("quarantine_token").exists() | Attr("held").exists())
        & Attr("decision.answer").eq(Answer.APPROVED)
        & Attr("request_number").eq(case.request_number)
        & asked,
        ExpressionAttributeValues={":decision": _decision_item(decision), ":yes": "YES"},
        ReturnValues="ALL_NEW",
    )["Attributes"]
    return Case.from_item(item)


def record_quarantined(
    table: Table, *, case_id: str, until: datetime, task_token: str, now: datetime
) -> None:
    """Add to the case that the root user is blocked, and what ends that. Raises CaseEndedError."""
    _update_open(
        table,
        case_id,
        "SET quarantine_until = :until, quarantine_token = :token,"
        " quarantined_at = if_not_exists(quarantined_at, :now)",
        {":until": iso(until), ":token": task_token, ":now": iso(now)},
    )


def refuse_quarantine(table: Table, *, case: Case, reason: str) -> bool:
    """Make history of what was decided, because the root user cannot be blocked first.

    Nobody who asked for it has approved a deletion without it. Returns False if somebody has
    decided to keep the keys meanwhile, or the case has ended.
    """
    try:
        _update_open(
            table,
            case.id,
            f"SET quarantine_refused = :reason, request_number = :request, {_PAST}"
            " REMOVE approvals, approvers, deadline, ladder_since, decision, decided,"
            " quarantine_until, quarantine_token",
            {
                ":reason": reason,
                ":request": case.request_number + 1,
                ":none": [],
                ":past": _past_decisions(case),
            },
            extra=Attr("lifted").not_exists(),
        )
    except CaseEndedError:
        return False
    return True


def wake(table: Table, *, case_id: str, account_gone: str = "") -> bool:
    """End the wait of a case that waits for people, because something is new.

    Its evidence is gathered again, unless `account_gone` says why there is no account any more. By
    the table's stream, like a decision; who waits for a removal by hand, or whose deletion is held
    up, finds it at the next look. Returns False if the case does not wait.
    """
    waits = (
        Attr("outcome").eq(Outcome.AWAITING_REMOVAL)
        | (Attr("task_token").exists() & Attr("decided").not_exists())
        | Attr("quarantine_token").exists()
        | Attr("held").exists()
    )
    # `woken` is what the table's stream is filtered by.
    update, values = "SET woken = :yes", {":yes": "YES"}
    if account_gone:
        update, values = f"{update}, account_gone = :gone", values | {":gone": account_gone}
    try:
        _update_open(table, case_id, update, values, extra=waits)
    except CaseEndedError:
        return False
    return True


def was_woken(table: Table, *, case_id: str) -> bool:
    """Whether the wait of a case ended because it is to look again, not by a decision or the time.

    If so, nobody decides before it is clear who is asked: what they saw is being gathered anew.
    """
    looks = Attr("woken").exists() & Attr("account_gone").not_exists()
    # What was decided stays, and counts if the evidence is the same; but a deletion that waits is
    # not waited for when the keys are gone.
    waits = Attr("decided").not_exists() | Attr("quarantine_token").exists() | Attr("held").exists()
    # So it is left by this function, whose answer may be lost: it is asked again.
    waits |= Attr("approvers").not_exists()
    try:
        _update_open(
            table,
            case_id,
            "REMOVE task_token, approvers, quarantine_token, held",
            {},
            extra=looks & waits,
        )
    except CaseEndedError:
        return False
    return True


def close_to_decisions(table: Table, *, case_id: str, now: datetime) -> Case:
    """The case with its decision; without one, and from now on there will be none.

    This is where a decision and the end of the wait meet: whichever came first to the table. The
    token has done its work and goes. Raises CaseEndedError.
    """
    try:
        return _update_open(
            table,
            case_id,
            "SET decided = :no, closed_at = :now REMOVE task_token",
            {":no": "NO", ":now": iso(now)},
            extra=Attr("decided").not_exists() | Attr("decided").eq("NO"),
        )
    except CaseEndedError:
        return _update_open(
            table,
            case_id,
            # From here on nobody takes it back, unless the deletion has to wait again.
            "REMOVE task_token, quarantine_token, held",
            {},
            extra=Attr("decision").exists(),
        )


def approved_keys(table: Table, *, case_id: str) -> tuple[Case, tuple[RootKey, ...]]:
    """The case and the keys whose deletion was approved by as many people as it needs.

    Raises NotApprovedError unless the case is its account's open one and holds the approvals, each
    of exactly the keys of its evidence.
    """
    case = load(table, case_id=case_id)
    open_case = find_open_case(table, account_id=case.account_id)
    if open_case is None or open_case.id != case_id:
        raise NotApprovedError(f"case {case_id} is not the open case of {case.account_id}")
    if case.ended_at or case.decision is None or case.decision.answer != Answer.APPROVED:
        raise NotApprovedError(f"case {case_id} holds no approval")
    found = fingerprint(case.account_id, case.keys)
    if not case.keys or any(each.fingerprint != found for each in case.approvals):
        raise NotApprovedError(f"case {case_id}: the approval is about other keys")
    people = {person(each.by) for each in case.approvals}
    if len(people) < case.quorum:
        raise NotApprovedError(
            f"case {case_id}: {len(people)} of {case.quorum} people have approved"
        )
    return case, case.keys


def record_held(table: Table, *, case_id: str, held: str, now: datetime) -> Case:
    """Add to the case what holds its deletion up; return the case. Raises CaseEndedError."""
    return _update_open(
        table,
        case_id,
        "SET held = :held, held_since = if_not_exists(held_since, :now)",
        {":held": held, ":now": iso(now)},
    )


def record_canary(table: Table, *, case_id: str, release: str) -> None:
    """Add to the case that its deletion may be among the first of a release.

    Raises CaseEndedError.
    """
    _update_open(table, case_id, "SET canary = :release", {":release": release})


def record_deletion_started(table: Table, *, case_id: str, now: datetime) -> None:
    """Add to the case that approved keys are about to be deleted.

    From here on it cannot be taken back. Raises CaseEndedError, also if it was this very moment.
    """
    _update_open(
        table,
        case_id,
        "SET deletion_started_at = if_not_exists(deletion_started_at, :now)"
        " REMOVE held, held_since",
        {":now": iso(now)},
        extra=Attr("decision.answer").eq(Answer.APPROVED),
    )


def record_deleted(table: Table, *, case_id: str, key_id: str, now: datetime) -> None:
    """Add to the case that a key was deleted. Raises CaseEndedError."""
    _update_open(
        table,
        case_id,
        "SET deleted_keys = list_append(if_not_exists(deleted_keys, :none), :deleted)",
        {":none": [], ":deleted": [{"id": key_id, "deleted_at": iso(now)}]},
    )


def record_outcome(
    table: Table,
    *,
    case_id: str,
    outcome: Outcome,
    reason: str,
    now: datetime,
    keep: timedelta,
    has_keys: bool = False,
) -> Case:
    """End the case, and free its account for a next one; all of it or nothing.

    The case stays in the table for as long as `keep`, which is longer than any exception lasts.
    Declined cases leave an exception behind. That of the account goes with a case that is
    REMEDIATED or RESOLVED, unless the keys may stay by it, or the account `has_keys` or may have.
    Repeating the same outcome changes nothing. Raises CaseEndedError if the case ended differently.
    """
    case = load(table, case_id=case_id)
    if case.ended_at:
        if case.outcome == outcome:
            return case
        raise CaseEndedError(f"case {case_id} ended {case.outcome} at {case.ended_at}")
    forget_at = int((now + keep).timestamp())
    values = {":outcome": outcome, ":now": iso(now), ":reason": reason, ":forget": forget_at}
    update = {
        "TableName": table.name,
        "Key": case_key(case_id),
        "UpdateExpression": (
            "SET outcome = :outcome, ended_at = :now, reason = :reason, forget_at = :forget"
            " REMOVE task_token, quarantine_token"
        ),
        "ConditionExpression": "attribute_exists(pk) AND attribute_not_exists(ended_at)",
        "ExpressionAttributeValues": values,
    }
    unlock = {
        "TableName": table.name,
        "Key": open_case_key(case.account_id),
        "ConditionExpression": "attribute_not_exists(pk) OR case_id = :case",
        "ExpressionAttributeValues": {":case": case_id},
    }
    last: dict[str, Any] = {
        **last_case_key(case.account_id),
        "schema": SCHEMA_VERSION,
        "case_id": case_id,
        "outcome": outcome,
        "rung": case.rung,
        "reopened": case.reopened,
        "key_ids": [key.id for key in case.keys],
        "forget_at": forget_at,
    }
    writes: list[Any] = [
        {"Update": update},
        {"Delete": unlock},
        {"Put": {"TableName": table.name, "Item": last}},
    ]
    requests = [
        _end_request(table, approver=approver, case_id=case_id, now=now)
        for approver in sorted({address.lower() for address in case.asked})
    ]
    # A transaction takes a hundred items; a case that ends must not fail for the people it asked.
    writes += requests[:MOST_REQUESTS]
    if outcome == Outcome.DECLINED and case.decision:
        exception = AccountException(
            account_id=case.account_id,
            owner=case.decision.by,
            reason=case.decision.reason,
            ticket=case.decision.ticket,
            until=case.decision.until,
            keys=case.keys,
            case_id=case_id,
        )
        item = {**exception_key(case.account_id), **exception.to_item()}
        writes.append({"Put": {"TableName": table.name, "Item": item}})
    if outcome == Outcome.REMEDIATED or (
        outcome == Outcome.RESOLVED
        and not (has_keys or case.account_gone or _is_excepted(table, case, now))
    ):
        # Nothing is left that it could be about; a key of some later day has another story.
        gone = {"TableName": table.name, "Key": exception_key(case.account_id)}
        writes.append({"Delete": gone})
    try:
        table.meta.client.transact_write_items(TransactItems=writes)
    except table.meta.client.exceptions.TransactionCanceledException as error:
        if not _condition_failed(error):
            raise
        raise CaseEndedError(f"case {case_id} changed while its outcome was recorded") from error
    for request in requests[MOST_REQUESTS:]:
        table.meta.client.update_item(**request["Update"])
    return load(table, case_id=case_id)


def _is_excepted(table: Table, case: Case, now: datetime) -> bool:
    """Whether the keys of the case may stay by an exception."""
    exception = exceptions.find_in_force(table, account_id=case.account_id, today=now.date())
    return exception is not None and exception.covers(case.keys)


def execution_arn(state_machine_arn: str, name: str) -> str:
    """The ARN of the execution with this name of this state machine."""
    return f"{state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def _end_request(table: Table, *, approver: str, case_id: str, now: datetime) -> Any:
    """The write that takes an ended case from the list of somebody who was asked about it."""
    return {
        "Update": {
            "TableName": table.name,
            "Key": request_key(approver, case_id),
            "UpdateExpression": (
                "SET #schema = :schema, case_id = :case, ended_at = :now, forget_at = :forget,"
                " asked_at = if_not_exists(asked_at, :now)"
            ),
            "ExpressionAttributeNames": {"#schema": "schema"},
            "ExpressionAttributeValues": {
                ":schema": SCHEMA_VERSION,
                ":case": case_id,
                ":now": iso(now),
                ":forget": int((now + SHOWN_AFTER_THE_END).timestamp()),
            },
        }
    }


def _update_open(
    table: Table,
    case_id: str,
    update: str,
    values: dict[str, Any],
    *,
    names: dict[str, str] | None = None,
    extra: Any = None,
) -> Case:
    known = Attr("schema").not_exists() | Attr("schema").lte(SCHEMA_VERSION)
    condition = Attr("pk").exists() & Attr("ended_at").not_exists() & known
    if extra is not None:
        condition &= extra
    # By a builder of its own: that of a table is one for all threads, and each call resets it.
    built = ConditionExpressionBuilder().build_expression(condition)
    request: dict[str, Any] = {
        "Key": case_key(case_id),
        "UpdateExpression": update,
        "ConditionExpression": built.condition_expression,
        "ExpressionAttributeNames": built.attribute_name_placeholders | (names or {}),
        "ExpressionAttributeValues": built.attribute_value_placeholders | values,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    try:
        return Case.from_item(table.update_item(**request)["Attributes"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        readable(_error_item(error))
        raise CaseEndedError(f"case {case_id} does not exist or has ended") from error


def _error_item(error: ClientError) -> dict[str, Any]:
    """The item whose condition did not hold. boto3 leaves it as DynamoDB has it."""
    item: Any = error.response.get("Item", {})
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


def _condition_failed(error: ClientError) -> bool:
    """Whether a transaction was refused for what is in the table, not for bad timing."""
    reasons: Any = error.response.get("CancellationReasons", [])
    return any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons)


def _past_decisions(case: Case) -> list[dict[str, str]]:
    """What was decided about a case until now, for its history."""
    decisions = list(case.approvals)
    if case.decision and case.decision not in decisions:
        decisions.append(case.decision)
    return [_decision_item(decision) for decision in decisions]


def _decision_item(decision: Decision) -> dict[str, str]:
    return {
        "answer": decision.answer,
        "by": decision.by,
        "at": decision.at,
        "fingerprint": decision.fingerprint,
        "reason": decision.reason,
        "until": decision.until,
        "ticket": decision.ticket,
        "quarantine": decision.quarantine,
    }
