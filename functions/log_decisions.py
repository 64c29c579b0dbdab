"""Write what was decided about a case, and what came of it, into the decision log; tell others.

Reads the table's stream. What the stream delivers twice, or late, adds nothing twice; what could
not be logged is logged when the function is invoked with the ids of cases. Every change of a case
is an event for others, after the log has it, and whether or not they can be told.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from itertools import compress
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

from rootsweep import announcements, decision_log, logs, metrics
from rootsweep.calls import CALLS

BUCKET = os.environ["LOG_BUCKET"]
METRICS_NAMESPACE = os.environ["METRICS_NAMESPACE"]
NOT_TOLD = "failed to tell others of a change"
logger = logging.getLogger()
dynamodb = boto3.resource("dynamodb", config=CALLS)
table = dynamodb.Table(os.environ["TABLE"])
log = dynamodb.Table(os.environ["LOG_TABLE"])
s3 = boto3.client("s3", config=CALLS)
# The log must not wait for long until others are told.
HURRIED_CALLS = CALLS.merge(Config(retries={"mode": "standard", "total_max_attempts": 2}))
events = boto3.client("events", config=HURRIED_CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, int]:
    """A batch of changed cases, or {"case_ids": [...]} -> {"appended": how many entries are new}.

    Also exports what an earlier invocation could not. {"announce": [ids of cases]} only tells
    others again how these cases stand. Raises KeyError for a case that is not there, and
    ClientError if the log or the bucket does not take it; the stream then delivers it again.
    """
    if "announce" in event:
        cases = [decision_log.load(table, case_id=id) for id in event["announce"]]
        announcements.put(events, entries_about([{"case": case} for case in cases]))
        return {"appended": 0}
    if "case_ids" in event:
        cases = [decision_log.load(table, case_id=id) for id in event["case_ids"]]
        return {"appended": write(cases)}
    records = event["Records"]
    changes = changes_in(records)
    changed = [change["case"] for change in changes]
    decided = [case for case in changed if "answered" in case or "ended_at" in case]
    appended = write(decided) if decided else 0
    # A stream of an older version does not say how a case was before.
    known = ("OldImage" in each["dynamodb"] or each["eventName"] == "INSERT" for each in records)
    tell(list(compress(changes, known)))
    return {"appended": appended}


def tell(changes: list[dict[str, Any]]) -> None:
    """Tell others of changes. Raises nothing: the log goes on, and an alarm rings.

    Of what could not be told now they can be told later, by `announce`.
    """
    entries = []
    for change in changes:
        with logs.about(case_id=change["case"]["case_id"]):
            try:
                for entry in entries_about([change]):
                    told = json.loads(entry["Detail"])
                    metrics.put_change(METRICS_NAMESPACE, told, now=datetime.now(UTC))
                    entries.append(entry)
            except Exception:
                logger.exception(NOT_TOLD)
    try:
        announcements.put(events, entries)
    except Exception:
        for case_id in sorted({change["case"]["case_id"] for change in changes}):
            with logs.about(case_id=case_id):
                logger.exception(NOT_TOLD)


def write(cases: list[dict[str, Any]]) -> int:
    """Log what is new about the cases with these items, and export; how many entries are new."""
    appended = 0
    for case in cases:
        # The message in the failure queue names only a place in the stream; the log has the case.
        with logs.about(case_id=case["case_id"]):
            for fact in decision_log.new_facts(log, case):
                appended += decision_log.append(log, fact=fact, now=datetime.now(UTC))
    decision_log.export(s3, log, bucket=BUCKET)
    return appended


def changes_in(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What records of the stream say: the item of a case, the item before, when, in which order."""
    value = TypeDeserializer().deserialize

    def item(image: dict[str, Any]) -> dict[str, Any]:
        return {name: value(image[name]) for name in image}

    return [
        {
            "case": item(record["dynamodb"]["NewImage"]),
            "before": item(record["dynamodb"].get("OldImage", {})),
            "id": record.get("eventID", ""),
            "sequence": record["dynamodb"].get("SequenceNumber", ""),
            "at": record["dynamodb"].get("ApproximateCreationDateTime"),
        }
        for record in records
    ]


def entries_about(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An event about each change that others are told of. Raises NewerItemError."""
    entries = [announcements.entry(**change) for change in changes]
    return [entry for entry in entries if entry]
