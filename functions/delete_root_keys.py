"""Delete exactly the root access keys whose deletion a person approved."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases, root_access

PARTITION = os.environ["PARTITION"]
sts = boto3.client("sts", config=root_access.CALLS)
table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"deleted_key_ids"}`. Running again deletes only what is still there.

    Raises NotApprovedError, KeysChangedError, RootSessionDeniedError, CaseEndedError.
    """
    case, approved = cases.approved_keys(table, case_id=event["case_id"])
    iam = root_access.delete_session(sts, account_id=case.account_id, partition=PARTITION)
    deleted = []
    for key_id in root_access.delete_root_keys(iam, account_id=case.account_id, approved=approved):
        # One by one, so that the record is true even if the next deletion fails.
        cases.record_deleted(table, case_id=case.id, key_id=key_id, now=datetime.now(UTC))
        deleted.append(key_id)
    return {"deleted_key_ids": deleted}
