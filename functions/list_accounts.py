"""List the accounts of the organization and cut them into batches."""

from __future__ import annotations

import os
from typing import Any

import boto3

from rootsweep import accounts, logs, sweeps
from rootsweep.calls import PATIENT_CALLS
from rootsweep.errors import InvalidSweepInputError

BUCKET = os.environ["BUCKET"]
BATCH_SIZE = int(os.environ["BATCH_SIZE"])
# Organizations lets an account list eight pages a second, shared with every other tool.
organizations = boto3.client("organizations", config=PATIENT_CALLS)
s3 = boto3.client("s3", config=PATIENT_CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The checked request -> the request and `batches`, the key of the file the Map reads.

    Raises InvalidSweepInputError for an account or a unit that is not in the organization.
    """
    everyone = accounts.list_accounts(organizations)
    try:
        chosen = accounts.select(
            everyone,
            ids=event["accounts"],
            organizational_units=event["organizational_units"],
        )
    except KeyError as error:
        field = "accounts" if error.args[0].isdigit() else "organizational_units"
        raise InvalidSweepInputError(
            f"{field}: {error.args[0]} is not in this organization, or has no accounts"
        ) from error
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    files.write_organization(everyone)
    files.write_accounts(chosen)
    key = files.write_batches(sweeps.batches(chosen, size=BATCH_SIZE, sweep_id=event["sweep_id"]))
    return {
        "sweep_id": event["sweep_id"],
        "started_at": event["started_at"],
        "detect_only": event["detect_only"],
        "escalation_policy": event["escalation_policy"],
        "accounts": len(chosen),
        "batches": key,
    }
