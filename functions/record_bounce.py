"""Record that mails to an address bounce, and have the cases look for somebody else.

On the events that SES puts on the default event bus for the mails of this stack.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import approvers, cases, logs
from rootsweep.calls import CALLS
from rootsweep.text import plain

log = logging.getLogger()
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> None:
    """An "Email Bounced" event of SES whose bounce is permanent. Doing it again changes nothing."""
    now = datetime.now(UTC)
    for recipient in event["detail"]["bounce"]["bouncedRecipients"]:
        address = str(recipient["emailAddress"])
        reason = plain(recipient.get("diagnosticCode", "no reason was given"))
        approvers.record_bounce(table, approver=address, reason=reason, now=now)
        for request in approvers.open_requests(table, approver=address):
            woken = cases.wake(table, case_id=request.case_id)
            with logs.about(case_id=request.case_id):
                log.info("mails to %s bounce, the case was woken: %s", address, woken)
