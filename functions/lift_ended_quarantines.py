"""Lift the block of the root users whose cases have ended.

Once when such a case ends, by the table's stream, and in each sweep, so that none is forgotten.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import boto3

from rootsweep import logs, quarantine
from rootsweep.calls import CALLS

IS_IN_USE = bool(os.environ["QUARANTINE"])
POLICY_NAME = os.environ["QUARANTINE_POLICY_NAME"]
log = logging.getLogger()
organizations = boto3.client("organizations", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> None:
    """The sweep, or a batch of changed items -> quarantines that are over are lifted.

    Not by a sweep that only detects. Raises ClientError if AWS does not let it.
    """
    if event.get("detect_only"):
        return
    lifted = quarantine.lift_ended(
        organizations, table, policy_name=POLICY_NAME, is_in_use=IS_IN_USE
    )
    if lifted:
        log.info("the quarantine of %s is lifted", ", ".join(lifted))
