"""Mails, pages, the report, findings, as people read them. The words are in `templates/`.

Account names, addresses and reasons come from outside. Jinja2 escapes them in HTML, and
`rootsweep.text.plain` makes one harmless line of each.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from rootsweep import console, escalation
from rootsweep.text import plain, quoted, unlinked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date

    from mypy_boto3_sesv2 import SESV2Client

    from rootsweep.approvals import FormError
    from rootsweep.approvers import Thread
    from rootsweep.cases import Case
    from rootsweep.escalation import Rung
    from rootsweep.exceptions import AccountException
    from rootsweep.root_access import RootKey

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
_REPORT_STYLE = _STYLE + (_TEMPLATES / "report.css").read_text(encoding="utf-8")
_REPORT_SCRIPT = (_TEMPLATES / "report.js").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a Content-Security-Policy knows an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# In the file itself, for nobody serves it with headers.
_REPORT_POLICY = (
    f"default-src 'none'; style-src {_hash(_REPORT_STYLE)}; script-src {_hash(_REPORT_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'"
)
# The rows of the table that are seen at first, as in report.js.
_FIRST_ROWS = 100

# A mail names so many cases; its page has them all.
LINES_OF_A_MAIL = 40
# Header lines have to stay short; the first mails of a conversation are enough to find it.
MOST_REFERENCES = 10

# What Security Hub takes (API reference, AwsSecurityFinding and Note).
_FINDING_DESCRIPTION = 1024
_FINDING_NOTE = 512
FINDING_RECOMMENDATION = (
    "Rootsweep asks who answers for the account and deletes what they approve. What to do about a "
    "case that was escalated or failed is in docs/runbook.md."
)

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(_STYLE)}; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


@dataclass(frozen=True)
class Mail:
    """A mail to one person, ready to be sent.

    `answers` are the Message-IDs of earlier mails about the same, the one first whose subject this
    mail has: mail programs then show them as one conversation.
    """

    to: str
    subject: str
    text: str
    html: str
    answers: tuple[str, ...] = ()

    def send(self, ses: SESV2Client, *, sender: str, configuration_set: str) -> str:
        """Send the mail; return the Message-ID that it has on the wire. Raises ClientError.

        The configuration set is what makes SES tell when it bounces.
        SES replaces any Message-ID with one made from its own id and its domain (SES Developer
        Guide, "Amazon SES header fields").
        """
        headers = [{"Name": "Auto-Submitted", "Value": "auto-generated"}]
        if self.answers:
            headers += [
                {"Name": "In-Reply-To", "Value": self.answers[0]},
                {"Name": "References", "Value": " ".join(self.answers)},
            ]
        answer = ses.send_email(
            FromEmailAddress=sender,
            ConfigurationSetName=configuration_set,
            # Tracking would lead the link over an address of SES and into its events.
            ConfigurationOverrides={
                "Tracking": {"ClickTrackingEnabled": "DISABLED", "OpenTrackingEnabled": "DISABLED"}
            },
            Destination={"ToAddresses": [self.to]},
            Content={
                "Simple": {
                    "Subject": {"Data": self.subject, "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": self.text, "Charset": "UTF-8"},
                        "Html": {"Data": self.html, "Charset": "UTF-8"},
                    },
                    "Headers": headers,  # type: ignore[typeddict-item]
                }
            },
        )
        region = ses.meta.region_name
        domain = "email" if region == "us-east-1" else region
        return f"<{answer['MessageId']}@{domain}.amazonses.com>"


def request_mail(
    cases: Sequence[Case],
    *,
    approver: str,
    page_url: str,
    waiting_longer: int,
    threads: Sequence[Thread],
    reminded: Collection[str],
    now: datetime,
) -> Mail:
    """The one mail to an approver about `cases`, to be decided or to be settled by hand.

    `waiting_longer` counts those on the same page that are not mentioned, since the approver has a
    mail about them already; `threads` are earlier mails about these cases, and `reminded` the ids
    of those that it reminds of.
    """
    only = cases[0] if len(cases) == 1 else None
    if only is None:
        template = "list_mail"
    elif only.obstacle:
        template = "manual_removal_mail"
    else:
        template = "approval_mail"
    values = {
        "case": only,
        "to_decide": [case for case in cases if not case.obstacle],
        "to_remove": [case for case in cases if case.obstacle],
        "shown": LINES_OF_A_MAIL,
        "approver": approver,
        "answer_by": min((case.answer_by for case in cases if not case.obstacle), default=""),
        "removal_by": min((case.answer_by for case in cases if case.obstacle), default=""),
        "page_url": page_url,
        "reminded": len(reminded),
        "waiting_longer": waiting_longer,
        "now": now,
    }
    return Mail(
        to=approver,
        # The same for every mail about a case, so that mail programs show them together.
        subject=threads[0].subject if threads else _subject(cases, now),
        text=_render(f"{template}.txt", **values),
        html=_render(f"{template}.html", **values),
        answers=tuple(dict.fromkeys(thread.message_id for thread in threads))[:MOST_REFERENCES],
    )


def exceptions_end_mail(
    exceptions: Sequence[AccountException], *, owner: str, names: Mapping[str, str]
) -> Mail:
    """The mail to the owner of exceptions that end soon; `names` are those of the accounts."""
    ordered = sorted(exceptions, key=lambda exception: (exception.until, exception.account_id))
    one, count = ordered[0], len(ordered)
    values = {"exceptions": ordered, "names": names, "case": None}
    return Mail(
        to=owner,
        subject=f"[Rootsweep] The exception for the root access keys of {one.account_id} ends"
        if count == 1
        else f"[Rootsweep] {count} exceptions for root access keys end",
        text=_render("exceptions_end_mail.txt", **values),
        html=_render("exceptions_end_mail.html", **values),
    )


def decision_page(
    case: Case,
    *,
    approver: str,
    token: str,
    last_day: date,
    now: datetime,
    more: int,
    quarantine: str,
    form: Mapping[str, str],
    approved: int = 0,
    error: FormError | None = None,
) -> str:
    """The page with the evidence of one case, which takes the decision about it.

    `more` counts the approver's other cases that wait, `approved` those that they have approved and
    can take back; `form` is what was typed before an `error`. `quarantine` is how long the root
    user can be blocked first, empty if it cannot.
    """
    return _render(
        "decision_page.html",
        case=case,
        approver=approver,
        token=token,
        last_day=last_day,
        now=now,
        more=more,
        approved=approved,
        quarantine=quarantine,
        form=form,
        error=error,
    )


def list_page(
    cases: Sequence[Case],
    *,
    approver: str,
    tokens: Mapping[str, str],
    total: int,
    first: int,
    next_page: str,
    last_day: date,
    now: datetime,
    form: Mapping[str, str],
    selected: Collection[str],
    approved: Sequence[Case] = (),
    more_approved: int = 0,
    error: FormError | None = None,
) -> str:
    """The page with one part of an approver's cases, to decide about one by one or together.

    The part starts with number `first` of `total` and the next one is at `next_page`. `tokens` are
    those of the cases that can be decided, by case id; `approved` are some that the approver has
    approved and that need somebody else, too, or whose root user is blocked first, and
    `more_approved` counts the others.
    """
    return _render(
        "list_page.html",
        cases=cases,
        approver=approver,
        tokens=tokens,
        total=total,
        first=first,
        next_page=next_page,
        last_day=last_day,
        now=now,
        form=form,
        selected=selected,
        approved=approved,
        more_approved=more_approved,
        error=error,
    )


def results_page(results: Sequence[tuple[Case, str]], *, more: int) -> str:
    """The page after several decisions: each case, and the name of the moment it is in now."""
    return _render("results_page.html", results=results, more=more)


def notice_page(
    moment: str,
    *,
    case: Case | None = None,
    approver: str = "",
    more: int = 0,
    cases: Sequence[Case] = (),
    next_page: str = "",
) -> str:
    """A page for any other moment; `moment` is a name in `templates/notice_page.html`.

    `more` counts the approver's other cases that wait; `cases` are those that do not wait for them,
    and the next of these are at `next_page`.
    """
    return _render(
        "notice_page.html",
        moment=moment,
        case=case,
        approver=approver,
        more=more,
        cases=cases,
        next_page=next_page,
    )


def report_page(report: Mapping[str, Any], **seen: Any) -> str:
    """The report as one HTML file; `seen` is what `rootsweep.reports.page` finds in it."""
    return _render(
        "report.html",
        report=report,
        policy=_REPORT_POLICY,
        report_style=Markup(_REPORT_STYLE),  # noqa: S704 - our own files, hashed in the policy
        report_script=Markup(_REPORT_SCRIPT),  # noqa: S704
        first_rows=_FIRST_ROWS,
        **seen,
    )


def finding(case: Case, *, has_successor: bool) -> tuple[str, str]:
    """Title and description of a case's finding in Security Hub."""
    description = _render("finding.txt", case=case, has_successor=has_successor)
    return (
        f"Root access keys in account {case.account_id}",
        plain(description, _FINDING_DESCRIPTION),
    )


def finding_note(case: Case) -> str:
    """The note beside the finding of control IAM.4 about the account of a case."""
    link = console.execution_link(case.execution_arn)
    return plain(_render("finding_note.txt", case=case, link=link), _FINDING_NOTE)


def _subject(cases: Sequence[Case], now: datetime) -> str:
    if len(cases) == 1:
        # Nor may a name be an encoded word, which mail programs decode (RFC 2047).
        name = quoted(cases[0].account_name, 60).replace("=?", "= ?")
        return f"[Rootsweep] Root access keys in {name} ({cases[0].account_id})"
    return f"[Rootsweep] Root access keys in {len(cases)} accounts, {now:%-d %B %Y}"


def _render(template: str, **values: Any) -> str:
    return _environment.get_template(template).render(**values)


def _day(text: str | None) -> str:
    """An ISO 8601 time as `4 February 2024`, or `never`."""
    return f"{_parsed(text):%-d %B %Y}" if text else "never"


def _minute(text: str) -> str:
    """An ISO 8601 time as `4 February 2024, 15:04 UTC`."""
    return f"{_parsed(text):%-d %B %Y, %H:%M} UTC"


def _ago(text: str, now: datetime) -> str:
    """How long ago a time is, in the largest unit that says enough."""
    days = (now - _parsed(text)).days
    for size, unit in ((365, "year"), (30, "month"), (1, "day")):
        if days >= size:
            count = days // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "today"


def _number(count: int) -> str:
    """A number as people read it: 10,000."""
    return f"{count:,}"


def _one_or(count: int, one: str, several: str) -> str:
    """A number with its noun, or whatever depends on it: 1 account, 2 accounts."""
    return f"{_number(count)} {one if count == 1 else several}"


def _evidence_line(keys: Sequence[RootKey], now: datetime) -> str:
    """The keys of a case in words, for lists of cases."""
    words = []
    for key in keys:
        used = "never used"
        if key.last_used_at:
            service = unlinked(plain(key.last_used_service or "an unknown service", 40))
            region = unlinked(plain(key.last_used_region or "an unknown Region", 40))
            used = f"last used {_ago(key.last_used_at, now)} with {service} in {region}"
        words.append(f"{key.id} ({key.status}, created {_ago(key.created, now)}, {used})")
    return "; ".join(words)


def _story(case: Case) -> list[str]:
    """What went before this case, in sentences."""
    sentences = []
    several = len(case.keys) != 1
    if before := case.old_exception:
        ticket = f", ticket {quoted(before.ticket)}" if before.ticket else ""
        why = f"for this reason: {quoted(before.reason, 1000)}{ticket}"
        owner = plain(before.owner, 254)
        excepted = {key.id for key in before.keys}
        still = [key.id for key in case.keys if key.id in excepted]
        if before.until < case.opened_at:
            sentences.append(
                f"Until {_day(before.until)} {'keys' if several else 'the key'} of this account "
                f"could stay, by a decision of {owner}, {why}."
            )
        elif still:
            sentences.append(
                f"{owner} has decided that {' and '.join(still)} may stay until "
                f"{_day(before.until)}, {why}. To approve is to decide otherwise."
            )
    if case.reopened:
        times = "once" if case.reopened == 1 else f"{case.reopened} times"
        sentences.append(
            f"Rootsweep has given up on {'these keys' if several else 'this key'} {times} before."
        )
    if case.quarantine_refused:
        sentences.append(
            "The root user could not be blocked first, as somebody wanted, so nothing was deleted: "
            f"{plain(case.quarantine_refused, 400)}"
        )
    return sentences


def _duration(text: str) -> str:
    """A duration like 14d in words."""
    number, unit = int(text[:-1]), {"s": "second", "m": "minute", "h": "hour", "d": "day"}[text[-1]]
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _silence(case: Case) -> str:
    """What happens if nobody decides, or removes the keys, by the end of the rung."""
    nobody = "they are still there" if case.obstacle else "nobody decides"
    end = (
        "your security team is told"
        if case.obstacle
        else ("nothing is deleted, and your security team is told")
    )
    later = case.ladder[case.rung + 1 :]
    if not later:
        return f"If {nobody} by then, {end}."
    return (
        f"If {nobody} by then, Rootsweep also asks {_people(later[0])}. After the last step, on "
        f"{_minute(case.deadline)}, {end}."
    )


def _steps(case: Case) -> list[tuple[str, str, bool]]:
    """The rungs of the case: who is asked, until when, and whether that is now.

    The rungs that are over have no time.
    """
    steps = []
    until = _parsed(case.answer_by)
    for number, rung in enumerate(case.ladder):
        if number > case.rung:
            until += rung.after
        time = "" if number < case.rung else f"{until:%-d %B %Y, %H:%M} UTC"
        steps.append((_people(rung), time, number == case.rung))
    return steps


def _people(rung: Rung) -> str:
    """Who is asked on a rung, in words."""
    words = {
        escalation.APPROVERS: "the approvers of the account",
        escalation.ORGANIZATIONAL_UNIT: "the approvers of its organizational unit",
        escalation.DEFAULT_APPROVER: "the default approver",
    }
    return " and ".join(words.get(target, target) for target in rung.notify)


def _parsed(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_environment = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=select_autoescape(enabled_extensions=("html",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "plain": plain,
    "execution_link": console.execution_link,
    "day": _day,
    "minute": _minute,
    "ago": _ago,
    "quoted": quoted,
    "unlinked": unlinked,
    "duration": _duration,
    "evidence_line": _evidence_line,
    "silence": _silence,
    "story": _story,
    "steps": _steps,
}
_environment.globals |= {"number": _number, "one_or": _one_or}
_environment.globals["style"] = Markup(_STYLE)  # noqa: S704 - our own file, hashed in the CSP
