"""Keep the findings of cases in AWS Security Hub CSPM as the cases are.

Reads a queue of the events that docs/events.md describes. An event only says which case has
changed: what is written is how the case stands by then, so that no order of events matters.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import findings, logs
from rootsweep.calls import CALLS

PRODUCT_ARN = os.environ["PRODUCT_ARN"]
# A case that changes while it is written is written again; one that goes on changing comes again.
MOST_ROUNDS = 3
log = logging.getLogger()
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])
hub = boto3.client("securityhub", config=CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """A batch of the queue -> `{"batchItemFailures": [...]}`, the messages that come again.

    Writing a case again changes nothing. Raises ClientError, and the whole batch comes again.
    """
    case_of = {record["messageId"]: case_in(record["body"]) for record in event["Records"]}
    failed = write(sorted(set(case_of.values()) - {""}))
    return {
        "batchItemFailures": [
            {"itemIdentifier": message} for message, id in case_of.items() if not id or id in failed
        ]
    }


def case_in(body: str) -> str:
    """The id of the case that an event is about; empty, and a line in the log, if it has none.

    Whoever may put events on the bus can put one of another shape.
    """
    try:
        case_id = json.loads(body)["detail"]["case_id"]
    except (ValueError, KeyError, TypeError):
        case_id = None
    if isinstance(case_id, str) and case_id:
        return case_id
    log.error("an event that is about no case")
    return ""


def write(case_ids: list[str]) -> set[str]:
    """Write the findings of the cases with these ids; the ids of those that could not be."""
    failed: set[str] = set()
    left = case_ids
    for _ in range(MOST_ROUNDS):
        subjects = {id: subject for id in left if (subject := load(id))}
        failed |= set(left) - set(subjects)
        if not subjects:
            return failed
        now = datetime.now(UTC)
        before, unread = predecessors(subjects)
        told = list((subjects | before).values())
        refused = findings.put(hub, told, product_arn=PRODUCT_ARN, now=now)
        refused |= findings.set_control(hub, list(subjects.values()))
        for id, reason in refused.items():
            with logs.about(case_id=id):
                log.error("Security Hub does not take a finding: %s", reason)
        # Who has brought a case along comes again for it.
        failed |= unread | {
            id
            for id, subject in subjects.items()
            if refused.keys() & {id, subject.case.predecessor}
        }
        # Another invocation may have written what it read before us, after us.
        left = [id for id, subject in subjects.items() if load(id) != subject]
        if not left:
            return failed
    return failed | set(left)


def load(case_id: str) -> findings.Subject | None:
    """The case as it is now; None, and a line in the log, if it cannot be read."""
    with logs.about(case_id=case_id):
        try:
            return findings.load(table, case_id=case_id)
        except Exception:
            log.exception("the case cannot be read")
            return None


def predecessors(
    subjects: dict[str, findings.Subject],
) -> tuple[dict[str, findings.Subject], set[str]]:
    """The cases that were given up and whose place these have taken, by id.

    Also after the end of these, for nobody tells of the others any more. And the ids of those of
    which the one before cannot be read.
    """
    found, failed = {}, set()
    for id, subject in subjects.items():
        before = subject.case.predecessor
        with logs.about(case_id=before):
            try:
                if before:
                    found[before] = findings.load(table, case_id=before)
            except KeyError:
                log.info("the case is forgotten")
            except Exception:
                log.exception("the case cannot be read")
                failed.add(id)
    return found, failed
