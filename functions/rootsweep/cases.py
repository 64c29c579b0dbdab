"""The cases: one for each account whose root access keys somebody has to decide about.

The only module that knows the attributes of the table. Its items, by partition and sort key:

    CASE#<case id>        CASE        the case, from opening to outcome; never deleted
    ACCOUNT#<account id>  OPEN_CASE   which case is the open one; exists while there is one
    ACCOUNT#<account id>  EXCEPTION   root keys that somebody declined to delete, until a date
    LINK#<hash>           LINK        what an e-mail link opens; the link itself is nowhere

The table, not an execution's data, is what deletions go by.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

from rootsweep.errors import CaseEndedError, NotApprovedError
from rootsweep.root_access import RootKey, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table

    from rootsweep.accounts import Account

SCHEMA_VERSION = 1


class Outcome(StrEnum):
    """Where a case stands or how it ended; spelled the same everywhere."""

    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    AWAITING_REMOVAL = "AWAITING_REMOVAL"
    REMEDIATED = "REMEDIATED"
    RESOLVED = "RESOLVED"
    DECLINED = "DECLINED"
    ESCALATED = "ESCALATED"
    FAILED = "FAILED"


class Answer(StrEnum):
    """What an approver can say."""

    APPROVED = "APPROVED"
    DECLINED = "DECLINED"


@dataclass(frozen=True)
class Decision:
    """Who decided what about exactly which keys, when and why.

    `at` is ISO 8601 in UTC; `until` is a date, and there is one only if the answer is DECLINED.
    """

    answer: Answer
    by: str
    at: str
    fingerprint: str
    reason: str = ""
    until: str = ""


@dataclass(frozen=True)
class Case:
    """A case as the table holds it. Times are ISO 8601 in UTC."""

    id: str
    account_id: str
    account_name: str
    ou: str
    outcome: Outcome
    opened_at: str
    execution_arn: str
    sweep_id: str
    ended_at: str = ""
    keys: tuple[RootKey, ...] = ()
    fingerprint: str = ""
    approver: str = ""
    deadline: str = ""
    mailed_for: str = ""
    reason: str = ""
    decision: Decision | None = None
    task_token: str = ""
    deletion_started_at: str = ""

    @classmethod
    def from_item(cls, item: dict[str, Any]) -> Case:
        """The case from its item."""
        decision = item.get("decision")
        return cls(
            id=item["case_id"],
            account_id=item["account_id"],
            account_name=item.get("account_name", ""),
            ou=item.get("ou", ""),
            outcome=Outcome(item["outcome"]),
            opened_at=item["opened_at"],
            execution_arn=item["execution_arn"],
            sweep_id=item.get("sweep_id", ""),
            ended_at=item.get("ended_at", ""),
            keys=tuple(RootKey.from_dict(key) for key in item.get("keys", [])),
            fingerprint=item.get("fingerprint", ""),
            approver=item.get("approver", ""),
            deadline=item.get("deadline", ""),
            mailed_for=item.get("mailed_for", ""),
            reason=item.get("reason", ""),
            decision=Decision(**decision) if decision else None,
            task_token=item.get("task_token", ""),
            deletion_started_at=item.get("deletion_started_at", ""),
        )

    @property
    def is_decidable(self) -> bool:
        """Whether a decision would be taken now."""
        return (
            self.outcome == Outcome.AWAITING_APPROVAL
            and self.decision is None
            and bool(self.task_token)
        )


@dataclass(frozen=True)
class AccountException:
    """Root access keys that may stay until a date, because somebody with a name said so."""

    account_id: str
    owner: str
    reason: str
    until: str
    fingerprint: str
    case_id: str


@dataclass(frozen=True)
class Link:
    """What an e-mail link opens, and for whom. `expires_at` is ISO 8601 in UTC."""

    approver: str
    case_id: str
    expires_at: str


def case_id_for(account_id: str, *, now: datetime) -> str:
    """The id of a case opened now, which is also the name of its execution."""
    return f"{account_id}-{now:%Y%m%dT%H%M%SZ}"


def open_case(
    table: Table, *, account: Account, sweep_id: str, remediate_arn: str, now: datetime
) -> Case:
    """Open a case for the account unless one is open; return the open one.

    However many sweeps come here at once, one wins and the others get the winner's case.
    """
    case_id = case_id_for(account.id, now=now)
    case: dict[str, Any] = {
        **_case_key(case_id),
        "schema": SCHEMA_VERSION,
        "case_id": case_id,
        "account_id": account.id,
        "account_name": account.name,
        "ou": account.ou,
        "sweep_id": sweep_id,
        "outcome": Outcome.AWAITING_APPROVAL,
        "opened_at": _iso(now),
        "execution_arn": execution_arn(remediate_arn, case_id),
    }
    lock: dict[str, Any] = {
        **_open_case_key(account.id),
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


def find_open_case(table: Table, *, account_id: str) -> Case | None:
    """The open case of an account, if there is one."""
    lock = table.get_item(Key=_open_case_key(account_id), ConsistentRead=True).get("Item")
    return load(table, case_id=str(lock["case_id"])) if lock else None


def load(table: Table, *, case_id: str) -> Case:
    """The case with this id. Raises KeyError if there is none."""
    item = table.get_item(Key=_case_key(case_id), ConsistentRead=True).get("Item")
    if item is None:
        raise KeyError(case_id)
    return Case.from_item(item)


def record_evidence(table: Table, *, case: Case, keys: Sequence[RootKey], now: datetime) -> None:
    """Put what was found into the case; a decision about other keys becomes history.

    A decision about exactly these keys stays, so that gathering twice asks nobody twice.
    Raises CaseEndedError.
    """
    found = fingerprint(case.account_id, keys)
    update = "SET #keys = :keys, fingerprint = :fingerprint, evidence_at = :now"
    values: dict[str, Any] = {
        ":keys": [key.to_dict() for key in keys],
        ":fingerprint": found,
        ":now": _iso(now),
    }
    if case.decision and case.decision.fingerprint != found:
        update += (
            ", past_decisions = list_append(if_not_exists(past_decisions, :none), :past)"
            " REMOVE decision, decided, task_token"
        )
        values |= {":none": [], ":past": [_decision_item(case.decision)]}
    _update_open(table, case.id, update, values, names={"#keys": "keys"})


def await_approval(
    table: Table, *, case_id: str, task_token: str, approver: str, source: str, deadline: datetime
) -> Case:
    """Note who is asked until when, and the token that ends the wait. Raises CaseEndedError."""
    return _update_open(
        table,
        case_id,
        "SET outcome = :outcome, task_token = :token, approver = :approver,"
        " approver_source = :source, deadline = :deadline",
        {
            ":outcome": Outcome.AWAITING_APPROVAL,
            ":token": task_token,
            ":approver": approver,
            ":source": source,
            ":deadline": _iso(deadline),
        },
    )


def await_removal(
    table: Table, *, case_id: str, approver: str, reason: str, deadline: datetime
) -> Case:
    """Note that people have to remove the keys, and why we cannot. Raises CaseEndedError."""
    return _update_open(
        table,
        case_id,
        "SET outcome = :outcome, approver = :approver, deadline = :deadline, reason = :reason",
        {
            ":outcome": Outcome.AWAITING_REMOVAL,
            ":approver": approver,
            ":deadline": _iso(deadline),
            ":reason": reason,
        },
    )


def mark_mailed(table: Table, *, case_id: str, about: str) -> None:
    """Remember that the approver has a mail about this, so that a retry sends no second one."""
    _update_open(table, case_id, "SET mailed_for = :about", {":about": about})


def decide(table: Table, *, case_id: str, decision: Decision) -> Case:
    """Record a decision, the first one only, and only about the keys that the case is about now.

    Raises CaseEndedError if the case was decided, ended or got new evidence meanwhile.
    """
    try:
        item = table.update_item(
            Key=_case_key(case_id),
            UpdateExpression="SET decision = :decision, decided = :yes",
            ConditionExpression=(
                Attr("outcome").eq(Outcome.AWAITING_APPROVAL)
                & Attr("decided").not_exists()
                & Attr("fingerprint").eq(decision.fingerprint)
            ),
            # `decided` is what the table's stream is filtered by.
            ExpressionAttributeValues={":decision": _decision_item(decision), ":yes": "YES"},
            ReturnValues="ALL_NEW",
        )["Attributes"]
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        raise CaseEndedError(f"case {case_id} takes no decision any more") from error
    return Case.from_item(item)


def close_to_decisions(table: Table, *, case_id: str, now: datetime) -> Decision | None:
    """The decision, or None and from now on there will be none. Raises CaseEndedError.

    This is where a decision and the end of the wait meet: whichever came first to the table.
    """
    try:
        _update_open(
            table,
            case_id,
            "SET decided = :no, closed_at = :now",
            {":no": "NO", ":now": _iso(now)},
            extra=Attr("decided").not_exists() | Attr("decided").eq("NO"),
        )
    except CaseEndedError:
        case = load(table, case_id=case_id)
        if case.decision is None:
            raise
        return case.decision
    return None


def approved_keys(table: Table, *, case_id: str) -> tuple[Case, tuple[RootKey, ...]]:
    """The case and the keys whose deletion a person approved.

    Raises NotApprovedError unless the case is its account's open one and holds an approval of
    exactly the keys of its evidence.
    """
    case = load(table, case_id=case_id)
    open_case = find_open_case(table, account_id=case.account_id)
    if open_case is None or open_case.id != case_id:
        raise NotApprovedError(f"case {case_id} is not the open case of {case.account_id}")
    if case.ended_at or case.decision is None or case.decision.answer != Answer.APPROVED:
        raise NotApprovedError(f"case {case_id} holds no approval")
    if case.decision.fingerprint != fingerprint(case.account_id, case.keys) or not case.keys:
        raise NotApprovedError(f"case {case_id}: the approval is about other keys")
    return case, case.keys


def record_deletion_started(table: Table, *, case_id: str, now: datetime) -> None:
    """Add to the case that approved keys are about to be deleted. Raises CaseEndedError."""
    _update_open(table, case_id, "SET deletion_started_at = :now", {":now": _iso(now)})


def record_deleted(table: Table, *, case_id: str, key_id: str, now: datetime) -> None:
    """Add to the case that a key was deleted. Raises CaseEndedError."""
    _update_open(
        table,
        case_id,
        "SET deleted_keys = list_append(if_not_exists(deleted_keys, :none), :deleted)",
        {":none": [], ":deleted": [{"id": key_id, "deleted_at": _iso(now)}]},
    )


def record_outcome(
    table: Table, *, case_id: str, outcome: Outcome, reason: str, now: datetime
) -> Case:
    """End the case, and free its account for a next one; all of it or nothing.

    Declined cases leave an exception behind. Repeating the same outcome changes nothing. Raises
    CaseEndedError if the case ended differently.
    """
    case = load(table, case_id=case_id)
    if case.ended_at:
        if case.outcome == outcome:
            return case
        raise CaseEndedError(f"case {case_id} ended {case.outcome} at {case.ended_at}")
    values = {":outcome": outcome, ":now": _iso(now), ":reason": reason}
    update = {
        "TableName": table.name,
        "Key": _case_key(case_id),
        "UpdateExpression": (
            "SET outcome = :outcome, ended_at = :now, reason = :reason REMOVE task_token"
        ),
        "ConditionExpression": "attribute_exists(pk) AND attribute_not_exists(ended_at)",
        "ExpressionAttributeValues": values,
    }
    unlock = {
        "TableName": table.name,
        "Key": _open_case_key(case.account_id),
        "ConditionExpression": "attribute_not_exists(pk) OR case_id = :case",
        "ExpressionAttributeValues": {":case": case_id},
    }
    writes: list[Any] = [{"Update": update}, {"Delete": unlock}]
    if outcome == Outcome.DECLINED and case.decision:
        exception = {
            **_exception_key(case.account_id),
            "schema": SCHEMA_VERSION,
            "account_id": case.account_id,
            "owner": case.decision.by,
            "reason": case.decision.reason,
            "until": case.decision.until,
            "fingerprint": case.decision.fingerprint,
            "case_id": case_id,
        }
        writes.append({"Put": {"TableName": table.name, "Item": exception}})
    try:
        table.meta.client.transact_write_items(TransactItems=writes)
    except table.meta.client.exceptions.TransactionCanceledException as error:
        if not _condition_failed(error):
            raise
        raise CaseEndedError(f"case {case_id} changed while its outcome was recorded") from error
    return load(table, case_id=case_id)


def find_exception(table: Table, *, account_id: str, now: datetime) -> AccountException | None:
    """The unexpired exception of an account, if there is one."""
    item: dict[str, Any] | None = table.get_item(
        Key=_exception_key(account_id), ConsistentRead=True
    ).get("Item")
    if item is None or item["until"] < f"{now:%Y-%m-%d}":
        return None
    return AccountException(**{name: item[name] for name in AccountException.__dataclass_fields__})


def save_link(table: Table, *, secret: str, link: Link) -> None:
    """Keep what a link opens, under the link's hash."""
    table.put_item(
        Item={
            **_link_key(secret),
            "schema": SCHEMA_VERSION,
            "approver": link.approver,
            "case_id": link.case_id,
            "expires_at": link.expires_at,
        }
    )


def find_link(table: Table, *, secret: str, now: datetime) -> Link | None:
    """What a link opens; None if there is no such link or it has expired."""
    item = table.get_item(Key=_link_key(secret)).get("Item")
    if item is None or str(item["expires_at"]) < _iso(now):
        return None
    return Link(
        approver=str(item["approver"]),
        case_id=str(item["case_id"]),
        expires_at=str(item["expires_at"]),
    )


def execution_arn(state_machine_arn: str, name: str) -> str:
    """The ARN of the execution with this name of this state machine."""
    return f"{state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"


def _update_open(
    table: Table,
    case_id: str,
    update: str,
    values: dict[str, Any],
    *,
    names: dict[str, str] | None = None,
    extra: Any = None,
) -> Case:
    condition = Attr("pk").exists() & Attr("ended_at").not_exists()
    if extra is not None:
        condition &= extra
    request: dict[str, Any] = {
        "Key": _case_key(case_id),
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
    }
    if names:
        request["ExpressionAttributeNames"] = names
    try:
        return Case.from_item(table.update_item(**request)["Attributes"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise CaseEndedError(f"case {case_id} does not exist or has ended") from error


def _condition_failed(error: ClientError) -> bool:
    """Whether a transaction was refused for what is in the table, not for bad timing."""
    reasons: Any = error.response.get("CancellationReasons", [])
    return any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons)


def _decision_item(decision: Decision) -> dict[str, str]:
    return {
        "answer": decision.answer,
        "by": decision.by,
        "at": decision.at,
        "fingerprint": decision.fingerprint,
        "reason": decision.reason,
        "until": decision.until,
    }


def _case_key(case_id: str) -> dict[str, str]:
    return {"pk": f"CASE#{case_id}", "sk": "CASE"}


def _open_case_key(account_id: str) -> dict[str, str]:
    return {"pk": f"ACCOUNT#{account_id}", "sk": "OPEN_CASE"}


def _exception_key(account_id: str) -> dict[str, str]:
    return {"pk": f"ACCOUNT#{account_id}", "sk": "EXCEPTION"}


def _link_key(secret: str) -> dict[str, str]:
    return {
        "pk": f"LINK#{hashlib.sha256(secret.encode(errors='replace')).hexdigest()}",
        "sk": "LINK",
    }


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
