"""List the accounts of the organization, part after part, and cut them into batches."""

from __future__ import annotations

import math
import os
from typing import Any

import boto3

from rootsweep import accounts, logs, sweeps
from rootsweep.calls import PATIENT_CALLS
from rootsweep.errors import InvalidSweepInputError
from rootsweep.pace import Pace

BUCKET = os.environ["BUCKET"]
BATCH_SIZE = int(os.environ["BATCH_SIZE"])
# Of a large organization, as many as are checked at once while the next ones are listed.
ACCOUNTS_OF_A_PART = BATCH_SIZE * int(os.environ["MAX_CONCURRENT_BATCHES"])
# AWS lets so many be checked in the time in which one more is listed.
CHECKED_WHILE_ONE_IS_LISTED = 3
# What Organizations allows an account, shared with every other tool in it (Organizations User
# Guide, "Quotas and service limits": bursts of 12 and 8, of which some is left for a call that
# arrives sooner than the one before it).
PACES = accounts.Paces(accounts=Pace(8, burst=10), parents=Pace(5, burst=6))
organizations = boto3.client("organizations", config=PATIENT_CALLS)
s3 = boto3.client("s3", config=PATIENT_CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The checked request, or what this function returned for the part before -> the next part.

    `batches` is the key of the file the Map reads, `parts` and `accounts` count until here and
    `accounts_of_this_part` in this one; `next_token` is there if there is more to list. What was
    asked for by id is one part. Raises InvalidSweepInputError for an account or a unit that is not
    in the organization.
    """
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    if "next_token" in event:
        return next_part(event, files)
    chosen_by_id = event["accounts"] or event["organizational_units"]
    part = accounts.list_accounts(
        organizations, PACES, enough=math.inf if chosen_by_id else ACCOUNTS_OF_A_PART
    )
    try:
        chosen = accounts.select(
            part.accounts,
            ids=event["accounts"],
            organizational_units=event["organizational_units"],
        )
    except KeyError as error:
        field = "accounts" if error.args[0].isdigit() else "organizational_units"
        raise InvalidSweepInputError(
            f"{field}: {error.args[0]} is not in this organization, or has no accounts"
        ) from error
    request = {name: event[name] for name in ("sweep_id", "started_at", "detect_only")}
    request["escalation_policy"] = event["escalation_policy"]
    return request | written(files, part, chosen, parts=0, accounts_before=0)


def next_part(event: dict[str, Any], files: sweeps.SweepFiles) -> dict[str, Any]:
    """The part after the one that `event` is about."""
    part = accounts.list_accounts(
        organizations,
        PACES,
        enough=max(
            ACCOUNTS_OF_A_PART, event["accounts_of_this_part"] / CHECKED_WHILE_ONE_IS_LISTED
        ),
        next_token=event["next_token"],
        units=files.read_units(),
    )
    request = {name: value for name, value in event.items() if name != "next_token"}
    return request | written(
        files, part, part.accounts, parts=event["parts"], accounts_before=event["accounts"]
    )


def written(
    files: sweeps.SweepFiles,
    part: accounts.Part,
    chosen: list[accounts.Account],
    *,
    parts: int,
    accounts_before: int,
) -> dict[str, Any]:
    """Write the files of a part, of which the sweep checks the `chosen`; say what comes next."""
    files.write_units(part.units)
    files.write_organization(parts, part.accounts)
    files.write_accounts(parts, chosen)
    batches = sweeps.batches(chosen, size=BATCH_SIZE, sweep_id=files.sweep_id, part=parts)
    return {
        "accounts": accounts_before + len(chosen),
        "accounts_of_this_part": len(chosen),
        "batches": files.write_batches(parts, batches),
        "parts": parts + 1,
        **({"next_token": part.next_token} if part.next_token else {}),
    }
