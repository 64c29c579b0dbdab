"""End the wait of a case that was decided, woken, or whose quarantine was lifted.

Reads the table's stream, so a decision that is in the table reaches Step Functions however often
that takes, and the page needs no right to speak to Step Functions. The token ends the wait and
says nothing else: what was decided is read from the table.
"""

from __future__ import annotations

import logging
from typing import Any

import boto3

from rootsweep import logs
from rootsweep.calls import CALLS

log = logging.getLogger()
stepfunctions = boto3.client("stepfunctions", config=CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> None:
    """A batch of changed items of the table, filtered to those with a decision.

    Raises ClientError if Step Functions does not take it; the stream then delivers it again.
    """
    for record in event["Records"]:
        item = record["dynamodb"].get("NewImage", {})
        # The write that stores a quarantine's token is no reason to end it.
        ends_quarantine = "lifted" in item or "woken" in item
        token = item.get("task_token", {}).get("S")
        if ends_quarantine and "quarantine_token" in item:
            token = item["quarantine_token"]["S"]
        if token:
            with logs.about(case_id=item["case_id"]["S"]):
                deliver(token)


def deliver(token: str) -> None:
    """End the wait that this token stands for, unless it has ended."""
    over = (
        stepfunctions.exceptions.TaskTimedOut,
        stepfunctions.exceptions.TaskDoesNotExist,
        stepfunctions.exceptions.InvalidToken,
    )
    try:
        stepfunctions.send_task_success(taskToken=token, output="{}")
    except over as error:
        # The decision was delivered before, or the wait ended and `Read decision` finds it.
        log.info("the wait of the case is over: %s", type(error).__name__)
