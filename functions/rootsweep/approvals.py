"""What a link and a form are worth: who may decide what, and what the form has to say. Pure.

A link is a capability for one approver and one case. It carries no task token and nothing that
could be guessed; whoever has it can read the case, and only a form that came from the case's own
page can decide.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import date, timedelta
from typing import TYPE_CHECKING

from rootsweep.cases import Answer, Decision
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from rootsweep.cases import Case, Link

EXCEPTION_DAYS = 90
REASON_LENGTH = 1000


class FormError(Exception):
    """When a form cannot be taken as a decision; `field` and `message` are for the person."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def new_link_secret() -> str:
    """A secret of 256 random bits, fit for a URL path."""
    return secrets.token_urlsafe(32)


def page_token(secret: str, case: Case) -> str:
    """What a form must carry to count: made from the link and the evidence that the page shows.

    It stops forms of other sites, which know no link, and forms about evidence that has changed.
    """
    text = f"decide {case.id} {case.fingerprint}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def is_page_token(given: str, secret: str, case: Case) -> bool:
    """Whether this is the page token of the case, in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), page_token(secret, case).encode())


def decision_from(form: Mapping[str, str], *, case: Case, link: Link, now: datetime) -> Decision:
    """The decision that a form makes about a case. Raises FormError."""
    answer = form.get("decision")
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    reason = plain(form.get("reason", ""), REASON_LENGTH + 1)
    if len(reason) > REASON_LENGTH:
        raise FormError("reason", f"The reason is longer than {REASON_LENGTH} characters.")
    if answer == "approve":
        if form.get("account_id", "").strip().replace("-", "") != case.account_id:
            raise FormError(
                "account_id", "Type the 12 digits of the account to approve the deletion."
            )
        return Decision(Answer.APPROVED, link.approver, at, case.fingerprint, reason)
    if answer == "decline":
        if not reason:
            raise FormError("reason", "Say why the keys have to stay.")
        until = _until(form.get("until", ""), today=now.date())
        return Decision(
            Answer.DECLINED, link.approver, at, case.fingerprint, reason, until.isoformat()
        )
    raise FormError("decision", "Choose one of the two buttons.")


def last_day_of_exception(today: date) -> date:
    """The latest date until which keys may be kept."""
    return today + timedelta(days=EXCEPTION_DAYS)


def _until(text: str, *, today: date) -> date:
    try:
        until = date.fromisoformat(text.strip())
    except ValueError:
        raise FormError("until", "Give the date until which the keys stay.") from None
    if not today < until <= last_day_of_exception(today):
        raise FormError(
            "until", f"Choose a date after today and within the next {EXCEPTION_DAYS} days."
        )
    return until
