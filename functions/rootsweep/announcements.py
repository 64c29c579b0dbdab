"""What others are told of a case, as events on the account's default event bus.

docs/events.md says what is in them, docs/case-changed.schema.json in which shape. Nothing in them
opens a page or ends a wait: no task token, no link.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rootsweep.cases import Case
from rootsweep.text import plain, unlinked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_events import EventBridgeClient

SOURCE = "rootsweep"
DETAIL_TYPE = "Rootsweep Case Changed"
# Raised when a field goes or means something else; a new field raises nothing.
VERSION = 1
MOST_ENTRIES = 10  # PutEvents takes no more at once.
TRIES = 3


class NotAnnouncedError(Exception):
    """When EventBridge took some changes and, again and again, not others."""


def entry(
    *,
    case: dict[str, Any],
    before: dict[str, Any] | None = None,
    id: str = "",
    sequence: str = "",
    at: float | None = None,
) -> dict[str, Any] | None:
    """The event for the item of a case; None if nothing changed that anybody is told.

    `before` is the item as it was, `id` the change's own, `sequence` orders the changes of a case,
    and `at` is when it happened, in seconds since 1970; all of the stream's record. Without them
    it is told how the case stands. Raises NewerItemError.
    """
    now = told(case)
    was = told(before) if before else {}
    # What is empty in a new case has not changed.
    changed = sorted(name for name in now if (now[name] or None) != (was.get(name) or None))
    if not changed:
        return None
    stands = {"previous_outcome": was.get("outcome"), "changed": changed, **now}
    text = json.dumps(stands, sort_keys=True)
    detail = {
        "version": VERSION,
        "id": id or hashlib.sha256(text.encode()).hexdigest(),
        "sequence": sequence or None,
        **stands,
    }
    made = {
        "Source": SOURCE,
        "DetailType": DETAIL_TYPE,
        # An entry has at most 256 KB, and ASCII makes twelve bytes of a sign that has four.
        "Detail": json.dumps(detail, ensure_ascii=False),
        "Resources": [now["execution_arn"]],
    }
    return made if at is None else {**made, "Time": datetime.fromtimestamp(at, UTC)}


def told(item: dict[str, Any]) -> dict[str, Any]:
    """What others are told of the case in this item. Raises NewerItemError."""
    case = Case.from_item(item)
    decision = case.decision and {
        "answer": case.decision.answer,
        "by": case.decided_by,
        "at": case.decision.at,
        "reason": plain(case.decision.reason, 1000) or None,
        "until": case.decision.until or None,
        "ticket": plain(case.decision.ticket) or None,
    }
    return {
        "case_id": case.id,
        "account_id": case.account_id,
        "account_name": unlinked(plain(case.account_name)),
        "ou": unlinked(plain(case.ou)),
        "sweep_id": case.sweep_id,
        "execution_arn": case.execution_arn,
        "outcome": case.outcome,
        "reason": plain(case.reason, 1000) or None,
        "opened_at": case.opened_at,
        "ended_at": case.ended_at or None,
        "reopened": case.reopened,
        "rung": case.rung + 1,
        "answer_by": case.answer_by or None,
        "deadline": case.deadline or None,
        "keys": [{"id": key.id, "status": key.status} for key in case.keys],
        "obstacle": case.obstacle,
        "quorum": case.quorum,
        "approvals": len(case.approvals),
        "decision": decision,
        "held": plain(case.held) or None,
        "blocked_until": case.quarantine_until or None,
        "deletion_started_at": case.deletion_started_at or None,
        "deleted_key_ids": [key["id"] for key in item.get("deleted_keys", [])],
    }


def put(events: EventBridgeClient, entries: Sequence[Any]) -> None:
    """Put all entries on the event bus. Raises ClientError, and NotAnnouncedError."""
    for start in range(0, len(entries), MOST_ENTRIES):
        left = list(entries[start : start + MOST_ENTRIES])
        for _ in range(TRIES):
            answers = events.put_events(Entries=left)["Entries"]
            refused = [answer.get("ErrorCode") for answer in answers]
            left = [each for each, code in zip(left, refused, strict=True) if code]
            if not left:
                break
        else:
            raise NotAnnouncedError(f"EventBridge did not take {len(left)} events: {refused}")
