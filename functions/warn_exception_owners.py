"""Tell the owners of exceptions that these end within a week, once."""

from __future__ import annotations

import logging
import os
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import approvers, exceptions, logs, mailing, messages, root_access, sweeps
from rootsweep.accounts import AccountState
from rootsweep.calls import CALLS

BUCKET = os.environ["BUCKET"]
CONFIGURATION_SET = os.environ["CONFIGURATION_SET"]
SENDER = os.environ["SENDER"]
# So many of those who could not be told are named in the alert.
MOST_NAMED = 5
log = logging.getLogger()
s3 = boto3.client("s3", config=CALLS)
ses = boto3.client("sesv2", config=CALLS)
table = boto3.resource("dynamodb", config=CALLS).Table(os.environ["TABLE"])


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The sweep -> `warned`, how many exceptions their owners were told about.

    One mail to each owner. One that cannot be mailed does not keep the others from it, and the next
    sweep tries again; `not_warned` is there then, and says who and why. With `detect_only` nobody
    is told.
    """
    if event["detect_only"]:
        return {"warned": 0}
    now = datetime.now(UTC)
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    names = {account.id: account.name for account in files.read_accounts(event["parts"])}
    ending: dict[str, list[exceptions.AccountException]] = defaultdict(list)
    for account_id, row in files.read_cases().items():
        if row.get("state") == AccountState.EXCEPTED:
            exception = exceptions.find(table, account_id=account_id)
            if exception and exception.needs_warning(now.date()):
                ending[exception.owner].append(exception)
    warned = 0
    failed: list[str] = []
    for owner, theirs in ending.items():
        try:
            warned += warn(owner, theirs, names)
        except Exception as error:
            log.exception("%s was not told that %s exceptions end", owner, len(theirs))
            failed.append(f"{owner}: {root_access.reason(error)}")
    output = {"warned": warned}
    return output | {"not_warned": "; ".join(failed[:MOST_NAMED])} if failed else output


def warn(owner: str, ending: list[exceptions.AccountException], names: dict[str, str]) -> int:
    """Tell the owner about those of which no other sweep has told them; return how many it was.

    Under the owner's lock for mails. If another sweep or a case has it, the next sweep tries again.
    """
    now = datetime.now(UTC)
    holder = uuid.uuid4().hex
    if not approvers.lock_mails(
        table, approver=owner, holder=holder, now=now, until=now + mailing.LOCK
    ):
        return 0
    try:
        read = [exceptions.find(table, account_id=each.account_id) for each in ending]
        theirs = [each for each in read if each and each.needs_warning(now.date())]
        if theirs:
            mail = messages.exceptions_end_mail(theirs, owner=owner, names=names)
            mail.send(ses, sender=SENDER, configuration_set=CONFIGURATION_SET)
        for exception in theirs:
            exceptions.record_warned(table, exception=exception, now=now)
        return len(theirs)
    finally:
        approvers.unlock_mails(table, approver=owner, holder=holder)
