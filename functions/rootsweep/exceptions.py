"""Exceptions: root access keys that may stay until a date, because somebody with a name said so."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Self

from rootsweep.root_access import RootKey
from rootsweep.table import SCHEMA_VERSION, exception_key, iso, readable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table

# The owner hears that an exception ends so long before.
WARNING = timedelta(days=7)


@dataclass(frozen=True)
class AccountException:
    """What a declined case leaves behind: the keys that its owner saw may stay.

    `until` is a date, and the last day. `warned_at`, ISO 8601 in UTC, is when the owner was told
    that it ends.
    """

    account_id: str
    owner: str
    reason: str
    until: str
    keys: tuple[RootKey, ...]
    case_id: str
    ticket: str = ""
    warned_at: str = ""

    @classmethod
    def from_item(cls, item: dict[str, Any]) -> Self:
        """The exception from what `to_item` made of it. Raises NewerItemError."""
        item = readable(item)
        known = {name: item[name] for name in cls.__dataclass_fields__ if name in item}
        # One that was made before keys were kept covers none: people are asked, nobody is in doubt.
        keys = tuple(RootKey.from_dict(key) for key in item.get("keys", ()))
        return cls(**known | {"keys": keys})

    def to_item(self) -> dict[str, Any]:
        """The exception as the table holds it, without its key."""
        return {"schema": SCHEMA_VERSION, **asdict(self), "keys": [k.to_dict() for k in self.keys]}

    def is_in_force(self, today: date) -> bool:
        """Whether its last day is still to come, or is today."""
        return self.until >= today.isoformat()

    def covers(self, keys: Iterable[RootKey]) -> bool:
        """Whether there are keys, and its owner saw each of them, active if it is active now.

        So one of them may go or be deactivated without a question; a key that was inactive and is
        used again is not what its owner saw.
        """
        there = {(key.id, key.status) for key in keys}
        seen = {(key.id, status) for key in self.keys for status in (key.status, "Inactive")}
        return bool(there) and there <= seen

    def needs_warning(self, today: date) -> bool:
        """Whether its owner has to be told by now that it ends."""
        is_near = today >= date.fromisoformat(self.until) - WARNING
        return is_near and self.is_in_force(today) and not self.warned_at


def find(table: Table, *, account_id: str) -> AccountException | None:
    """The exception of an account, in force or not, if there is one."""
    item: Any = table.get_item(Key=exception_key(account_id), ConsistentRead=True).get("Item")
    return AccountException.from_item(item) if item else None


def find_in_force(table: Table, *, account_id: str, today: date) -> AccountException | None:
    """The exception of an account, if there is one and it is not over."""
    exception = find(table, account_id=account_id)
    return exception if exception and exception.is_in_force(today) else None


def record_warned(table: Table, *, exception: AccountException, now: datetime) -> None:
    """Remember that the owner was told, unless there is another exception by now."""
    with contextlib.suppress(table.meta.client.exceptions.ConditionalCheckFailedException):
        table.update_item(
            Key=exception_key(exception.account_id),
            UpdateExpression="SET warned_at = :now",
            ConditionExpression="case_id = :case",
            ExpressionAttributeValues={":now": iso(now), ":case": exception.case_id},
        )
