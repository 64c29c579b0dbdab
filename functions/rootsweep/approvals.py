"""What a link and a form are worth: how many have to approve, and what the form has to say. Pure.

A link is a capability for one approver. It carries no task token and nothing that could be guessed;
whoever has it can read what its approver was asked, and only a form that came from a page about
exactly this evidence can decide.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from rootsweep import words
from rootsweep.cases import Answer, Decision, Quorum
from rootsweep.table import iso
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootsweep.cases import Case
    from rootsweep.root_access import RootKey

# The version of the page and its forms: raised when a field gets another meaning, so that a form of
# a page that was open during an upgrade is answered with the page as it is now.
PAGE_VERSION = 1
REASON_LENGTH = 1000
TICKET_LENGTH = 100


class FormError(Exception):
    """When a form cannot be taken as a decision; `field` and `message` are for the person."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def new_link_secret() -> str:
    """A secret of 256 random bits, fit for a URL path."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class QuorumPolicy:
    """When two people have to approve instead of one.

    `used_within_days`: a key was used in that many days; 0 means never. `organizational_units`: the
    account is in or below one of these, by id.
    """

    used_within_days: int
    organizational_units: frozenset[str]

    @classmethod
    def parse(cls, *, used_within_days: str, organizational_units: str) -> QuorumPolicy:
        """The policy from the stack's parameters; units are separated by commas."""
        units = (unit.strip() for unit in organizational_units.split(","))
        return cls(int(used_within_days), frozenset(unit for unit in units if unit))

    def quorum(self, keys: Iterable[RootKey], *, parents: Iterable[str], now: datetime) -> Quorum:
        """How many people an account with these keys and these `parents` needs.

        Those are the ids of the root and the units above it; none if AWS did not say where it is,
        which may be in one of the units that need two.
        """
        since = now - timedelta(days=self.used_within_days)
        for key in keys:
            used_at = datetime.fromisoformat(key.last_used_at) if key.last_used_at else None
            if self.used_within_days and used_at and used_at >= since:
                return Quorum(2, words.used_within(self.used_within_days))
        above = set(parents)
        if self.organizational_units and not above:
            return Quorum(2, words.PLACE_UNKNOWN)
        if not self.organizational_units.isdisjoint(above):
            return Quorum(2, words.UNIT_NEEDS_TWO)
        return Quorum(1, "")


def page_token(secret: str, case: Case) -> str:
    """What a form must carry to count: made from the link and the evidence that the page shows.

    It stops forms of other sites, which know no link, forms about evidence that has changed, and
    those of another version of the page.
    """
    text = f"decide {PAGE_VERSION} {case.id} {case.request_number} {case.fingerprint}"
    return hmac.new(secret.encode(errors="replace"), text.encode(), hashlib.sha256).hexdigest()


def is_page_token(given: str, secret: str, case: Case) -> bool:
    """Whether this is the page token of the case, in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), page_token(secret, case).encode())


@dataclass(frozen=True)
class Choice:
    """What a form says: approve or decline, why, until when declined keys stay, which ticket.

    Or approve, with the root user blocked for the time `quarantine` before.
    """

    answer: Answer
    reason: str = ""
    until: str = ""
    ticket: str = ""
    quarantine: str = ""

    def about(self, case: Case, *, by: str, now: datetime) -> Decision:
        """The choice as a decision of one person about one case."""
        return Decision(
            answer=self.answer,
            by=by,
            at=iso(now),
            fingerprint=case.fingerprint,
            reason=self.reason,
            until=self.until,
            ticket=self.ticket,
            quarantine=self.quarantine,
        )


def choice_from(
    form: Mapping[str, str],
    *,
    now: datetime,
    exception_days: int,
    quarantine: str = "",
    account_id: str = "",
    selected: int = 0,
) -> Choice:
    """The choice that a form makes. Raises FormError.

    Declined keys stay for `exception_days` at most. `quarantine` is how long the root user can be
    blocked before its keys are deleted; empty if it cannot.
    To approve, the person types the `account_id` of a single case, or how many are `selected`.
    """
    decision = form.get("decision")
    reason = plain(form.get("reason", ""), REASON_LENGTH + 1)
    if decision not in ("approve", "decline") and not (decision == "quarantine" and quarantine):
        raise FormError("decision", words.CHOOSE_A_BUTTON)
    if not account_id and not selected:
        raise FormError("case", words.SELECT_AN_ACCOUNT)
    if len(reason) > REASON_LENGTH:
        raise FormError("reason", words.too_long("reason", REASON_LENGTH))
    if decision == "decline":
        if not reason:
            raise FormError("reason", words.SAY_WHY)
        ticket = plain(form.get("ticket", ""), TICKET_LENGTH + 1)
        if len(ticket) > TICKET_LENGTH:
            raise FormError("ticket", words.too_long("ticket", TICKET_LENGTH))
        until = _until(form.get("until", ""), today=now.date(), days=exception_days)
        return Choice(Answer.DECLINED, reason, until.isoformat(), ticket)
    if account_id and form.get("account_id", "").strip().replace("-", "") != account_id:
        raise FormError("account_id", words.TYPE_THE_ACCOUNT)
    if not account_id and form.get("count", "").strip() != str(selected):
        raise FormError("count", words.type_the_number(selected))
    if not account_id:
        # One form has both buttons: who has said why keys stay, and until when, wants to keep them.
        for field in ("until", "ticket", "reason"):
            if form.get(field, "").strip():
                raise FormError(field, words.FOR_KEEPING_ONLY)
    return Choice(
        Answer.APPROVED, reason, quarantine=quarantine if decision == "quarantine" else ""
    )


def _until(text: str, *, today: date, days: int) -> date:
    try:
        until = date.fromisoformat(text.strip())
    except ValueError:
        raise FormError("until", words.GIVE_A_DATE) from None
    if not today < until <= today + timedelta(days=days):
        raise FormError("until", words.choose_a_date(days))
    return until
