"""Note what holds up an approved deletion, how long to wait, and whether people are to be told."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import cases, console, holds, logs
from rootsweep.calls import CALLS

KILL_SWITCH_PARAMETER = os.environ["KILL_SWITCH_PARAMETER"]
ssm = boto3.client("ssm", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"case_id", "error": {"Error", "Cause"}, "entered_at"}` -> how long to wait, what to say.

    Which is `{"held", "tell", "message", "wait_seconds"}`. People are told once, however many cases
    wait, each time that the kill switch was changed; a retry of the state, which was entered at
    `entered_at`, says the same as the attempt that was lost. Raises CaseEndedError.
    """
    now = datetime.now(UTC)
    held = event["error"]["Error"].removesuffix("Error")
    message = json.loads(event["error"]["Cause"])["errorMessage"]
    case = cases.record_held(table, case_id=event["case_id"], held=held, now=now)
    tell = False
    if held == "KillSwitchOn":
        version = holds.kill_switch_version(ssm, parameter=KILL_SWITCH_PARAMETER, now=now)
        visit = f"{case.id} {event['entered_at']}"
        tell = holds.is_first_to_tell(table, version=version, visit=visit, now=now)
    wait = holds.wait_before_next_try(now - datetime.fromisoformat(case.held_since))
    return {
        "held": held,
        "tell": tell,
        "message": message,
        "execution": console.link_or_arn(case.execution_arn),
        "wait_seconds": int(wait.total_seconds()),
    }
