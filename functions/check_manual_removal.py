"""Look again at an account whose root access keys a person was asked to remove."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases, root_access

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
reader = root_access.SummaryReader(
    partition=os.environ["PARTITION"], audit_role_name=os.environ.get("AUDIT_ROLE_NAME") or None
)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"state": "REMOVED" | "STILL_THERE" | "TOO_LATE"}`.

    An account that cannot be read counts as still having its keys.
    """
    case = cases.load(table, case_id=event["case_id"])
    try:
        if not reader.read(case.account_id).access_keys:
            return {"state": "REMOVED", "reason": "the keys are gone"}
        reason = "the keys are still there"
    except Exception as error:  # Whatever it was, it is no proof that the keys are gone.
        reason = f"the account could not be read: {root_access.reason(error)}"
    is_late = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" >= case.deadline
    return {"state": "TOO_LATE" if is_late else "STILL_THERE", "reason": reason}
