"""What holds up a deletion that was approved: the kill switch, and the canary.

The kill switch is a parameter in SSM Parameter Store. The canary: the first deletions after a
deployment run one at a time, and each has to be confirmed before the next one may begin.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from rootsweep import cases
from rootsweep.errors import CanaryPendingError, KillSwitchOnError
from rootsweep.table import SCHEMA_VERSION, canary_key, kill_switch_key

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_ssm import SSMClient

OFF = "off"
# A deletion that is held up tries again soon, and less often the longer it takes: an execution that
# waits for months must stay below 25,000 events (Step Functions quotas).
SHORTEST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=6)
TOLD_IS_KNOWN = timedelta(days=400)


def require_kill_switch_off(ssm: SSMClient, *, parameter: str) -> None:
    """Return if the kill switch is off. Raises KillSwitchOnError.

    Whatever is not exactly "off" stops deletions, and so does a switch that cannot be read, or an
    answer of an odd shape.
    """
    try:
        value = ssm.get_parameter(Name=parameter)["Parameter"].get("Value", "")
    except Exception as error:
        raise KillSwitchOnError(
            f"the kill switch {parameter} could not be read, so nothing is deleted: {error}"
        ) from error
    if value != OFF:
        raise KillSwitchOnError(f"the kill switch {parameter} is {value[:40]!r}, not {OFF!r}")


def kill_switch_version(ssm: SSMClient, *, parameter: str, now: datetime) -> str:
    """What tells one setting of the kill switch from another; one a day if it cannot be read."""
    try:
        return str(ssm.get_parameter(Name=parameter)["Parameter"]["Version"])
    except Exception:
        return f"unreadable on {now:%Y-%m-%d}"


def is_first_to_tell(table: Table, *, version: str, visit: str, now: datetime) -> bool:
    """Whether it is for this visit of a state to tell that the kill switch stops deletions.

    It is for the first one that meets this version, however often that asks.
    """
    try:
        table.put_item(
            Item={
                **kill_switch_key(version),
                "schema": SCHEMA_VERSION,
                "told_by": visit,
                "forget_at": int((now + TOLD_IS_KNOWN).timestamp()),
            },
            ConditionExpression=Attr("pk").not_exists() | Attr("told_by").eq(visit),
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def wait_before_next_try(held_for: timedelta) -> timedelta:
    """How long a deletion waits that was held up for so long."""
    return min(max(SHORTEST_WAIT, held_for / 10), LONGEST_WAIT)


def release_of(folder: Path) -> str:
    """What tells one deployment of the functions' code from another: a hash of the files."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def enter_canary(table: Table, *, case: cases.Case, release: str, deletions: int) -> None:
    """Return if this case may delete now: it runs alone, or enough deletions were confirmed.

    Who enters is out again when its outcome is recorded, or when its keys are no longer being
    deleted. Raises CanaryPendingError, CaseEndedError.
    """
    if deletions == 0:
        return
    item: Any = table.get_item(Key=canary_key(release), ConsistentRead=True).get("Item", {})
    if int(item.get("confirmed", 0)) >= deletions:
        return
    running = item.get("running", case.id)
    other = cases.find_deleting(table, case_id=running) if running != case.id else None
    # One that waits in quarantine, because it was approved anew, enters again afterwards.
    if other and not other.quarantine_token:
        raise CanaryPendingError(
            f"the first {deletions} deletions after a deployment run alone, now that of {running}"
        )
    # In the case first: whoever holds the place must be known to give it back.
    cases.record_canary(table, case_id=case.id, release=release)
    try:
        table.update_item(
            Key=canary_key(release),
            UpdateExpression="SET #schema = :schema, running = :case",
            ConditionExpression=(
                "(attribute_not_exists(running) OR running = :seen)"
                " AND (attribute_not_exists(confirmed) OR confirmed < :deletions)"
            ),
            ExpressionAttributeNames={"#schema": "schema"},
            ExpressionAttributeValues={
                ":schema": SCHEMA_VERSION,
                ":case": case.id,
                ":seen": running,
                ":deletions": deletions,
            },
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        raise CanaryPendingError("another deletion was faster and runs alone now") from error


def leave_canary(table: Table, *, case: cases.Case) -> None:
    """Make room for the next one, and count this deletion if it was confirmed. Counts it once."""
    if not case.canary:
        return
    update = "REMOVE running"
    values: dict[str, Any] = {":case": case.id}
    if case.outcome == cases.Outcome.REMEDIATED:
        update += " ADD confirmed :one"
        values[":one"] = 1
    try:
        table.update_item(
            Key=canary_key(case.canary),
            UpdateExpression=update,
            ConditionExpression="running = :case",
            ExpressionAttributeValues=values,
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return  # It was not its turn, or this is a repetition.
