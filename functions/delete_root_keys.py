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
    deleted = root_access.delete_root_keys(iam, account_id=case.account_id, approved=approved)
    cases.record_deleted(table, case_id=case.id, key_ids=deleted, now=datetime.now(UTC))
    return {"deleted_key_ids": deleted}
