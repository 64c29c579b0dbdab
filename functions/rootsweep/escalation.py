"""The escalation policy: whom a case asks, for how long, and whom it asks next. Pure.

A policy is a list of rungs, which people know from on-call schedules:

    [{"after": "7d", "notify": ["approvers"], "remind_every": "2d"},
     {"after": "7d", "notify": ["default_approver"]}]

`notify` says who is asked from this rung on; whoever was asked on an earlier rung still is.
`after` is how long the rung waits for an answer before the case climbs to the next one, and at last
is escalated. `remind_every` is how often its people get another mail meanwhile; without it, never.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rootsweep.text import EMAIL_ADDRESS

if TYPE_CHECKING:
    from datetime import datetime

APPROVERS = "approvers"
ORGANIZATIONAL_UNIT = "organizational_unit"
DEFAULT_APPROVER = "default_approver"
_NAMED = (APPROVERS, ORGANIZATIONAL_UNIT, DEFAULT_APPROVER)
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FIELDS = ("after", "notify", "remind_every")
# What a parameter in SSM Parameter Store holds, unless it is an advanced one.
LONGEST_TEXT = 4096
MOST_RUNGS = 10
# An execution ends after a year and at 25,000 events (Step Functions quotas), of which each mail
# costs about thirty; evidence that changes on the way makes a rung start again.
LONGEST = timedelta(days=180)
MOST_MAILS = 200
# A case and its requests are written in one transaction, of at most a hundred items (DynamoDB).
MOST_ADDRESSES = 30


class EscalationPolicyError(Exception):
    """When a text is no escalation policy; the message names the rung and says what is wrong."""


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder. `remind_every` of None sends no reminders."""

    after: timedelta
    notify: tuple[str, ...]
    remind_every: timedelta | None = None

    @classmethod
    def from_dict(cls, item: dict[str, Any]) -> Rung:
        """The rung from what `to_dict` made of it."""
        every = int(item.get("remind_every_seconds", 0))
        return cls(
            after=timedelta(seconds=int(item["after_seconds"])),
            notify=tuple(item["notify"]),
            remind_every=timedelta(seconds=every) if every else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The rung as a sweep passes it on and a case keeps it."""
        rung = {"after_seconds": _seconds(self.after), "notify": list(self.notify)}
        if self.remind_every:
            rung["remind_every_seconds"] = _seconds(self.remind_every)
        return rung


Ladder = tuple[Rung, ...]


@dataclass(frozen=True)
class Position:
    """Where a case stands on its ladder.

    `rung` counts from 0. `reminder` counts the mails of this climb, 0 for the first; the latest was
    due at `mail_at`. The next one is due at `next_mail_at`, which is the `deadline`, the end of the
    ladder, where none is left. `answer_by` is the end of the rung.
    """

    rung: int
    reminder: int
    mail_at: datetime
    next_mail_at: datetime
    answer_by: datetime
    deadline: datetime


def parse(text: str) -> Ladder:
    """The ladder that a text describes. Raises EscalationPolicyError."""
    if len(text) > LONGEST_TEXT:
        raise EscalationPolicyError(f"it is longer than {LONGEST_TEXT} characters")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EscalationPolicyError(f"it is not JSON: {error}") from error
    if not isinstance(given, list) or not given:
        raise EscalationPolicyError("it must be a list of at least one rung")
    if len(given) > MOST_RUNGS:
        raise EscalationPolicyError(f"it has {len(given)} rungs; at most {MOST_RUNGS} are allowed")
    ladder = tuple(_rung(rung, f"rung {number}") for number, rung in enumerate(given, 1))
    total = sum((rung.after for rung in ladder), timedelta())
    if total > LONGEST:
        raise EscalationPolicyError(
            f"its rungs take {total} together; at most {LONGEST.days} days are allowed"
        )
    addresses = sum(target not in _NAMED for rung in ladder for target in rung.notify)
    if addresses > MOST_ADDRESSES:
        raise EscalationPolicyError(
            f"its rungs name {addresses} addresses; at most {MOST_ADDRESSES} are allowed"
        )
    mails = sum(1 + _reminders(rung) for rung in ladder)
    if mails > MOST_MAILS:
        raise EscalationPolicyError(
            f"its rungs send {mails} mails to a person about one case; at most {MOST_MAILS} are "
            "allowed, so remind less often"
        )
    return ladder


def position(ladder: Ladder, *, first: int, since: datetime, now: datetime) -> Position:
    """Where a case stands now that began at the rung `first` at the time `since`."""
    mails: list[tuple[datetime, int]] = []
    start = since
    ends: dict[int, datetime] = {}
    for number, rung in enumerate(ladder[first:], first):
        every = rung.remind_every or rung.after
        mails += [(start + every * turn, number) for turn in range(1 + _reminders(rung))]
        start = ends[number] = start + rung.after
    reminder = max((turn for turn, (due, _) in enumerate(mails) if due <= now), default=0)
    mail_at, rung_now = mails[reminder]
    is_last = reminder + 1 == len(mails)
    return Position(
        rung=rung_now,
        reminder=reminder,
        mail_at=mail_at,
        next_mail_at=start if is_last else mails[reminder + 1][0],
        answer_by=ends[rung_now],
        deadline=start,
    )


def notified(ladder: Ladder, *, rung: int) -> tuple[str, ...]:
    """Who is asked on this rung and was on those below it, each once, in this order."""
    return tuple(dict.fromkeys(who for each in ladder[: rung + 1] for who in each.notify))


def _reminders(rung: Rung) -> int:
    """How often the rung reminds before it is over."""
    if not rung.remind_every:
        return 0
    return -(-rung.after // rung.remind_every) - 1


def _rung(given: object, where: str) -> Rung:
    if not isinstance(given, dict):
        raise EscalationPolicyError(f"{where}: must be an object with {', '.join(_FIELDS)}")
    for name in given:
        if name not in _FIELDS:
            raise EscalationPolicyError(
                f"{where}: {str(name)[:40]}: unknown field; allowed are {', '.join(_FIELDS)}"
            )
    for name in ("after", "notify"):
        if name not in given:
            raise EscalationPolicyError(f"{where}: {name}: is missing")
    after = _duration(given["after"], f"{where}: after")
    every = None
    if "remind_every" in given:
        every = _duration(given["remind_every"], f"{where}: remind_every")
    return Rung(after, _targets(given["notify"], f"{where}: notify"), every)


def _targets(given: object, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        raise EscalationPolicyError(f"{where}: must be a list of at least one name or address")
    for target in given:
        known = target in _NAMED or (
            isinstance(target, str) and len(target) <= 254 and EMAIL_ADDRESS.fullmatch(target)
        )
        if not known:
            raise EscalationPolicyError(
                f"{where}: {str(target)[:60]!r} is neither {', '.join(_NAMED)} nor an e-mail "
                "address"
            )
    return tuple(given)


def duration(text: str) -> timedelta:
    """The duration that a text like 30m, 12h or 7d describes. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a duration like 30m, 12h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _duration(given: object, where: str) -> timedelta:
    try:
        return duration(str(given))
    except ValueError as error:
        raise EscalationPolicyError(f"{where}: {error}") from error


def _seconds(duration: timedelta) -> int:
    return round(duration.total_seconds())
