"""Look again at an account whose root access keys a person was asked to remove."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases, logs, root_access, words
from rootsweep.calls import CALLS
from rootsweep.table import iso

table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])
reader = root_access.SummaryReader(
    table,
    partition=os.environ["PARTITION"],
    audit_role_name=os.environ.get("AUDIT_ROLE_NAME") or None,
)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"state", "reason"}`.

    The state is REMOVED, STILL_THERE, LOOK_AGAIN if something is new or the next mail is due,
    TOO_LATE at the end of the ladder, or ACCOUNT_GONE. An account that cannot be read counts as
    still having its keys.
    """
    case = cases.load(table, case_id=event["case_id"])
    if case.account_gone:
        return {"state": "ACCOUNT_GONE", "reason": case.account_gone}
    try:
        if not reader.read(case.account_id, opened_for=case.id).access_keys:
            return {"state": "REMOVED", "reason": words.KEYS_ARE_GONE}
        reason = words.KEYS_ARE_THERE
    except Exception as error:  # Whatever it was, it is no proof that the keys are gone.
        reason = words.account_unread(root_access.reason(error))
    now = iso(datetime.now(UTC))
    if now >= case.deadline:
        return {"state": "TOO_LATE", "reason": reason}
    is_due = case.woken or now >= case.next_mail_at
    return {"state": "LOOK_AGAIN" if is_due else "STILL_THERE", "reason": reason}
