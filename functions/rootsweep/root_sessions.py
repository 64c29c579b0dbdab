"""Which root sessions are Rootsweep's own: each is noted before it is used.

CloudTrail's event of `AssumeRoot` has the access key id of the session that was opened, and so have
the events of all that is done in it. That id is no secret; nothing else of the credentials is kept.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rootsweep.table import SCHEMA_VERSION, iso, root_session_key

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table

KEPT = timedelta(days=90)  # As long as CloudTrail's event history.


def record(
    table: Table,
    *,
    access_key_id: str,
    account_id: str,
    task: str,
    opened_for: str,
    now: datetime,
) -> None:
    """Note a root session in an account, and the case or sweep that it was opened for."""
    table.put_item(
        Item={
            **root_session_key(access_key_id),
            "schema": SCHEMA_VERSION,
            "account_id": account_id,
            "task": task,
            "opened_for": opened_for,
            "opened_at": iso(now),
            "forget_at": int((now + KEPT).timestamp()),
        }
    )


def why_opened(table: Table, *, access_key_id: str) -> str:
    """The case or sweep that a root session was opened for; empty if none of ours was."""
    answer = table.get_item(Key=root_session_key(access_key_id), ConsistentRead=True)
    return str(answer.get("Item", {}).get("opened_for", ""))
