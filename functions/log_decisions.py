"""Write what was decided about a case, and what came of it, into the decision log.

Reads the table's stream. What the stream delivers twice, or late, adds nothing twice; what could
not be logged is logged when the function is invoked with the ids of cases.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer

from rootsweep import decision_log, logs
from rootsweep.calls import CALLS

BUCKET = os.environ["LOG_BUCKET"]
dynamodb = boto3.resource("dynamodb", config=CALLS)
table = dynamodb.Table(os.environ["TABLE"])
log = dynamodb.Table(os.environ["LOG_TABLE"])
s3 = boto3.client("s3", config=CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, int]:
    """A batch of changed cases, or {"case_ids": [...]} -> {"appended": how many entries are new}.

    Also exports what an earlier invocation could not. Raises KeyError for a case that is not there,
    and ClientError if the log or the bucket does not take it; the stream then delivers it again.
    """
    appended = 0
    for case in cases_of(event):
        # The message in the failure queue names only a place in the stream; the log has the case.
        with logs.about(case_id=case["case_id"]):
            for fact in decision_log.new_facts(log, case):
                appended += decision_log.append(log, fact=fact, now=datetime.now(UTC))
    decision_log.export(s3, log, bucket=BUCKET)
    return {"appended": appended}


def cases_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of the cases that an event is about."""
    if "case_ids" in event:
        return [decision_log.load(table, case_id=case_id) for case_id in event["case_ids"]]
    value = TypeDeserializer().deserialize
    images = [record["dynamodb"]["NewImage"] for record in event["Records"]]
    return [{name: value(image[name]) for name in image} for image in images]
