"""What an approver was asked, and the links that lead there. `rootsweep.table` has the layout."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, Key

from rootsweep.table import SCHEMA_VERSION, approver_key, every_item, iso, link_key, request_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table

# How long an expired link can still say that it has expired.
EXPIRED_LINKS_ARE_KNOWN = timedelta(days=90)
# How long an address that bounced counts as nobody; then it gets another chance.
BOUNCES_COUNT = timedelta(days=30)


@dataclass(frozen=True)
class Thread:
    """The mail that first asked about a case: what later mails about it answer to."""

    message_id: str
    subject: str


@dataclass(frozen=True)
class Request:
    """That an approver is asked about a case.

    `asked_at`, ISO 8601 in UTC, is when they were first among its approvers; `mailed` the number of
    the case's latest request that they were mailed about, 0 for none, and `reminded` that of the
    latest reminder of that request.
    """

    case_id: str
    asked_at: str
    mailed: int = 0
    reminded: int = 0
    thread: Thread | None = None

    @classmethod
    def from_item(cls, item: dict[str, Any]) -> Request:
        """The request from its item."""
        thread = item.get("thread")
        return cls(
            case_id=item["case_id"],
            asked_at=item["asked_at"],
            mailed=int(item.get("mailed", 0)),
            reminded=int(item.get("reminded", 0)),
            thread=Thread(**thread) if thread else None,
        )


@dataclass(frozen=True)
class Link:
    """What an e-mail link stands for: one approver, and what they were asked until it was sent.

    Times are ISO 8601 in UTC.
    """

    approver: str
    created_at: str
    expires_at: str
    is_expired: bool = False
    is_revoked: bool = False

    def opens(self, request: Request | None) -> bool:
        """Whether its approver was asked about this before the link was made."""
        return request is not None and request.asked_at <= self.created_at


def save_link(
    table: Table, *, secret: str, approver: str, now: datetime, expires_at: datetime
) -> None:
    """Keep what a link stands for, under the link's hash."""
    table.put_item(
        Item={
            **link_key(secret),
            "schema": SCHEMA_VERSION,
            "approver": approver,
            "created_at": iso(now),
            "expires_at": iso(expires_at),
            "forget_at": int((expires_at + EXPIRED_LINKS_ARE_KNOWN).timestamp()),
        }
    )


def find_link(table: Table, *, secret: str, now: datetime) -> Link | None:
    """What a link stands for; None if there is no such link. It may have expired or been revoked.

    All links of an approver that were made before `links_valid_from` are revoked; docs/runbook.md
    says how to set it.
    """
    item: Any = table.get_item(Key=link_key(secret)).get("Item")
    if item is None:
        return None
    approver: Any = table.get_item(Key=approver_key(item["approver"]), ConsistentRead=True)
    valid_from = approver.get("Item", {}).get("links_valid_from", "")
    return Link(
        approver=item["approver"],
        created_at=item["created_at"],
        expires_at=item["expires_at"],
        is_expired=item["expires_at"] < iso(now),
        is_revoked=item["created_at"] < valid_from,
    )


def find_request(table: Table, *, approver: str, case_id: str) -> Request | None:
    """What an approver was asked about a case, if they were."""
    item = table.get_item(Key=request_key(approver, case_id), ConsistentRead=True).get("Item")
    return Request.from_item(item) if item else None


def open_requests(table: Table, *, approver: str) -> Iterator[Request]:
    """What an approver is asked about cases that have not ended, in the order of the accounts."""
    return _requests(table, approver, Attr("ended_at").not_exists())


def ended_requests(table: Table, *, approver: str) -> Iterator[Request]:
    """What an approver was asked about cases that ended lately."""
    return _requests(table, approver, Attr("ended_at").exists())


def record_mailed(
    table: Table, *, approver: str, case_id: str, request: int, reminder: int, thread: Thread
) -> None:
    """Remember that the approver has a mail about this, so that a retry sends no second one."""
    table.update_item(
        Key=request_key(approver, case_id),
        UpdateExpression=(
            "SET mailed = :mailed, reminded = :reminded, thread = if_not_exists(thread, :thread)"
        ),
        ExpressionAttributeValues={
            ":mailed": request,
            ":reminded": reminder,
            ":thread": {"message_id": thread.message_id, "subject": thread.subject},
        },
    )


def record_bounce(table: Table, *, approver: str, reason: str, now: datetime) -> None:
    """Remember that mails to an address bounce, and what the other side said."""
    table.update_item(
        Key=approver_key(approver),
        UpdateExpression="SET #schema = :schema, bounced_at = :now, bounce = :reason",
        ExpressionAttributeNames={"#schema": "schema"},
        ExpressionAttributeValues={":schema": SCHEMA_VERSION, ":now": iso(now), ":reason": reason},
    )


def has_bounced(table: Table, *, approver: str, now: datetime) -> bool:
    """Whether mails to an address bounced lately, so that nobody reads there."""
    item: Any = table.get_item(Key=approver_key(approver), ConsistentRead=True).get("Item", {})
    return bool(item.get("bounced_at", "") > iso(now - BOUNCES_COUNT))


def lock_mails(table: Table, *, approver: str, holder: str, now: datetime, until: datetime) -> bool:
    """Whether `holder` is now the only one who mails this approver, at the latest `until`."""
    try:
        table.update_item(
            Key=approver_key(approver),
            UpdateExpression="SET #schema = :schema, mailing = :holder, mailing_until = :until",
            ConditionExpression=Attr("mailing_until").not_exists()
            | Attr("mailing_until").lt(iso(now)),
            ExpressionAttributeNames={"#schema": "schema"},
            ExpressionAttributeValues={
                ":schema": SCHEMA_VERSION,
                ":holder": holder,
                ":until": iso(until),
            },
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def unlock_mails(table: Table, *, approver: str, holder: str) -> None:
    """Let others mail this approver, if it is still `holder` who keeps them from it."""
    # If it took so long that somebody else went on, the lock is theirs now.
    with contextlib.suppress(table.meta.client.exceptions.ConditionalCheckFailedException):
        table.update_item(
            Key=approver_key(approver),
            UpdateExpression="REMOVE mailing, mailing_until",
            ConditionExpression=Attr("mailing").eq(holder),
        )


def _requests(table: Table, approver: str, condition: Any) -> Iterator[Request]:
    first = request_key(approver, "")
    items = every_item(
        table,
        KeyConditionExpression=Key("pk").eq(first["pk"]) & Key("sk").begins_with(first["sk"]),
        FilterExpression=condition,
    )
    return map(Request.from_item, items)
