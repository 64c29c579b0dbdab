"""Delete exactly the root access keys whose deletion a person approved."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from rootsweep import approvals, cases, holds, logs, root_access
from rootsweep.calls import CALLS
from rootsweep.errors import KeysChangedError

CANARY_DELETIONS = int(os.environ["CANARY_DELETIONS"])
KILL_SWITCH_PARAMETER = os.environ["KILL_SWITCH_PARAMETER"]
PARTITION = os.environ["PARTITION"]
RELEASE = holds.release_of(Path(__file__).parent)
quorum_policy = approvals.QuorumPolicy.parse(
    used_within_days=os.environ["TWO_APPROVERS_IF_USED_WITHIN_DAYS"],
    organizational_units=os.environ["TWO_APPROVERS_ORGANIZATIONAL_UNITS"],
)
ssm = boto3.client("ssm", config=CALLS)
sts = boto3.client("sts", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id"}` -> `{"deleted_key_ids"}`. Running again deletes only what is still there.

    Raises NotApprovedError, KeysChangedError, RootSessionDeniedError, CaseEndedError, and, when the
    deletion has to wait, KillSwitchOnError or CanaryPendingError.
    """
    holds.require_kill_switch_off(ssm, parameter=KILL_SWITCH_PARAMETER)
    case, approved = cases.approved_keys(table, case_id=event["case_id"])
    iam = root_access.delete_session(
        sts, table, account_id=case.account_id, partition=PARTITION, opened_for=case.id
    )
    present = root_access.keys_to_delete(iam, account_id=case.account_id, approved=approved)
    require_quorum(case, present)
    key_ids = [key.id for key in present]
    if key_ids:
        holds.enter_canary(table, case=case, release=RELEASE, deletions=CANARY_DELETIONS)
        # Before the first deletion: if this function dies after it, the keys are still known to
        # be gone by our hand and not by their owner's.
        cases.record_deletion_started(table, case_id=case.id, now=datetime.now(UTC))
    for key_id in key_ids:
        # Again before each: somebody may have thrown it a moment ago.
        holds.require_kill_switch_off(ssm, parameter=KILL_SWITCH_PARAMETER)
        root_access.delete_root_key(iam, account_id=case.account_id, key_id=key_id)
        # One by one, so that the record is true even if the next deletion fails.
        cases.record_deleted(table, case_id=case.id, key_id=key_id, now=datetime.now(UTC))
    return {"deleted_key_ids": key_ids}


def require_quorum(case: cases.Case, present: list[root_access.RootKey]) -> None:
    """Raise KeysChangedError if the keys are more in use now than their approvers knew."""
    quorum = quorum_policy.quorum(present, parents=case.parents, now=datetime.now(UTC))
    if quorum.people > case.quorum:
        raise KeysChangedError(
            f"account {case.account_id}: {quorum.reason}, which was not so when the deletion was "
            "approved; nothing was deleted, and people are asked again"
        )
