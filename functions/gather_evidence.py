"""Read the root access keys of an account, as evidence for the person who decides."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import approvals, cases, exceptions, logs, root_access, words
from rootsweep.calls import CALLS

PARTITION = os.environ["PARTITION"]
quorum_policy = approvals.QuorumPolicy.parse(
    used_within_days=os.environ["TWO_APPROVERS_IF_USED_WITHIN_DAYS"],
    organizational_units=os.environ["TWO_APPROVERS_ORGANIZATIONAL_UNITS"],
)
sts = boto3.client("sts", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"access_key_ids", "reason"?}`.

    `reason` says that all of them are under an exception, so that nobody has to be asked. Raises
    RootSessionDeniedError, CaseEndedError.
    """
    case = cases.load(table, case_id=event["case_id"])
    iam = root_access.audit_session(
        sts, table, account_id=case.account_id, partition=PARTITION, opened_for=case.id
    )
    keys = root_access.list_root_keys(iam, account_id=case.account_id)
    now = datetime.now(UTC)
    quorum = quorum_policy.quorum(keys, parents=case.parents, now=now)
    cases.record_evidence(table, case=case, keys=keys, quorum=quorum, now=now)
    found: dict[str, Any] = {"access_key_ids": [key.id for key in keys]}
    exception = exceptions.find_in_force(table, account_id=case.account_id, today=now.date())
    if exception and exception.covers(keys):
        found["reason"] = words.may_stay(until=exception.until, owner=exception.owner)
    return found
