"""Read the root access keys of an account, as evidence for the person who decides."""

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
    """`{"case_id"}` -> `{"access_key_ids"}`. Raises RootSessionDeniedError, CaseEndedError."""
    case = cases.load(table, case_id=event["case_id"])
    iam = root_access.audit_session(sts, account_id=case.account_id, partition=PARTITION)
    keys = root_access.list_root_keys(iam, account_id=case.account_id)
    cases.record_evidence(table, case=case, keys=keys, now=datetime.now(UTC))
    return {"access_key_ids": [key.id for key in keys]}
