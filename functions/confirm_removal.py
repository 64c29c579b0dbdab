"""Confirm, in a root session that can only look, that no root access key is left."""

from __future__ import annotations

import os
from typing import Any

import boto3

from rootsweep import cases, logs, root_access
from rootsweep.calls import CALLS

PARTITION = os.environ["PARTITION"]
sts = boto3.client("sts", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"deletion_started"}`, whether by us, if nothing is left in the account.

    Raises RootKeysRemainError (IAM may need a moment), KeysChangedError, RootSessionDeniedError.
    """
    case = cases.load(table, case_id=event["case_id"])
    iam = root_access.audit_session(
        sts, table, account_id=case.account_id, partition=PARTITION, opened_for=case.id
    )
    root_access.confirm_removal(iam, account_id=case.account_id, approved=case.keys)
    return {"deletion_started": bool(case.deletion_started_at)}
