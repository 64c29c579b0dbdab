"""One mail to an approver about everything that they are asked, however many cases that is.

Each case sees to it that its approvers have a mail about it. The first case of an approver whose
turn it is writes for all the others, under a lock in the table; the others find that it was done.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from rootsweep import approvals, approvers, cases, messages
from rootsweep.errors import MailPendingError
from rootsweep.table import iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import DynamoDBServiceResource, Table
    from mypy_boto3_sesv2 import SESV2Client

log = logging.getLogger()
# The functions that mail are ended by Lambda after a minute; then the lock is free again.
LOCK = timedelta(seconds=70)
PATIENCE_SECONDS = 40
# A link outlives the wait, to tell late visitors how the case ended.
LINK_OUTLIVES_DEADLINE = timedelta(days=30)


@dataclass(frozen=True)
class Post:
    """What it takes to mail an approver: where the cases are, who sends, where links lead.

    `configuration_set` is the one of SES that tells about bounces.
    """

    dynamodb: DynamoDBServiceResource
    table: Table
    ses: SESV2Client
    sender: str
    configuration_set: str
    approval_url: str


def see_to_it(post: Post, case: cases.Case) -> None:
    """Return when each approver of the case has a mail about its present request and reminder.

    If SES refuses the address of one, that is noted in the case and the others are enough. It sends
    nothing twice, unless a function died between sending a mail and noting that. Raises
    MailPendingError, ClientError.
    """
    patience_ends = time.monotonic() + PATIENCE_SECONDS
    errors: dict[str, Exception] = {}
    for approver in case.approvers:
        try:
            _see_to_one(post, case, approver, patience_ends)
        except Exception as error:  # The others must not wait for it.
            log.warning("no mail to %s: %s", approver, error)
            errors[approver] = error
    for problem in errors.values():
        if len(errors) == len(case.approvers) or not _is_refusal(problem):
            raise problem
    if errors:
        cases.note_unreachable(post.table, case_id=case.id, approvers=set(errors))


def _is_refusal(error: Exception) -> bool:
    """Whether SES will not take this mail, however often it is tried (SES API v2, SendEmail)."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in (
        "BadRequestException",
        "MessageRejected",
    )


def _see_to_one(post: Post, case: cases.Case, approver: str, patience_ends: float) -> None:
    holder = uuid.uuid4().hex
    while not _is_mailed(post, case, approver):
        now = datetime.now(UTC)
        if approvers.lock_mails(
            post.table, approver=approver, holder=holder, now=now, until=now + LOCK
        ):
            try:
                _write(post, approver, case)
            finally:
                approvers.unlock_mails(post.table, approver=approver, holder=holder)
            return
        if time.monotonic() > patience_ends:
            raise MailPendingError(f"case {case.id}: {approver} is still being written to")
        time.sleep(random.uniform(0.5, 1.5))  # noqa: S311 - so that many do not come at once


def _is_mailed(post: Post, case: cases.Case, approver: str) -> bool:
    request = approvers.find_request(post.table, approver=approver, case_id=case.id)
    return request is not None and _covers(request, case)


def _covers(request: approvers.Request, case: cases.Case) -> bool:
    """Whether the approver was mailed about this request of the case, and lately enough."""
    return request.mailed >= case.request_number and request.reminded >= case.reminder


def _reminder(request: approvers.Request, case: cases.Case, now: datetime) -> int:
    """Which reminder of the case a mail to this approver is.

    Who is asked late, shortly before the next reminder, is not reminded shortly after.
    """
    is_first = request.mailed < case.request_number
    return (is_first and case.early_reminder(now)) or case.reminder


def _write(post: Post, approver: str, about: cases.Case) -> None:
    """One mail about all that this approver was not yet told and has to be asked by now."""
    requests = {
        request.case_id: request
        for request in approvers.open_requests(post.table, approver=approver)
    }
    asked = [
        case
        for case in cases.load_many(post.dynamodb, post.table, requests)
        if case.asks(approver) and (case.is_for_people_to_remove or case.waits_for(approver))
    ]
    # The link is younger than all that it has to open.
    now = datetime.now(UTC)
    reminders = {
        case.id: _reminder(requests[case.id], case, now)
        for case in asked
        if not _covers(requests[case.id], case)
    }
    # The cases of a sweep that still gathers come together, in a mail of their own.
    due = [
        case
        for case in asked
        if case.id in reminders and (case.id == about.id or case.ask_at <= iso(now))
    ]
    if not due:
        return  # Decided or ended meanwhile: there is nothing to ask.
    for case in asked:
        # What falls due together shares a mail, whichever case comes first.
        early = case.early_reminder(now) if case.id not in reminders else None
        if early is not None and early > requests[case.id].reminded:
            reminders[case.id] = early
            due.append(case)
    due.sort(key=lambda case: case.id)
    secret = approvals.new_link_secret()
    expires_at = max(datetime.fromisoformat(case.deadline) for case in due)
    approvers.save_link(
        post.table,
        secret=secret,
        approver=approver,
        now=now,
        expires_at=expires_at + LINK_OUTLIVES_DEADLINE,
    )
    mail = messages.request_mail(
        due,
        approver=approver,
        page_url=f"{post.approval_url}/{secret}",
        waiting_longer=len(asked) - len(reminders),
        threads=[thread for case in due if (thread := requests[case.id].thread)],
        reminded={case.id for case in due if requests[case.id].mailed >= case.request_number},
        now=now,
    )
    message_id = mail.send(post.ses, sender=post.sender, configuration_set=post.configuration_set)
    thread = approvers.Thread(message_id=message_id, subject=mail.subject)

    def note(case: cases.Case) -> None:
        approvers.record_mailed(
            post.table,
            approver=approver,
            case_id=case.id,
            request=case.request_number,
            reminder=reminders[case.id],
            thread=thread,
        )

    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(note, due))
