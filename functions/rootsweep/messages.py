"""Every word a person reads: the mails and the pages. The words are in `templates/`.

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

from rootsweep.text import plain

if TYPE_CHECKING:
    from datetime import date

    from mypy_boto3_sesv2 import SESV2Client

    from rootsweep.approvals import FormError
    from rootsweep.cases import Case

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
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
    """A mail to one person, ready to be sent."""

    to: str
    subject: str
    text: str
    html: str

    def send(self, ses: SESV2Client, *, sender: str) -> str:
        """Send the mail; return the id that SES gave it. Raises ClientError."""
        answer = ses.send_email(
            FromEmailAddress=sender,
            Destination={"ToAddresses": [self.to]},
            Content={
                "Simple": {
                    "Subject": {"Data": self.subject, "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": self.text, "Charset": "UTF-8"},
                        "Html": {"Data": self.html, "Charset": "UTF-8"},
                    },
                    "Headers": [{"Name": "Auto-Submitted", "Value": "auto-generated"}],
                }
            },
        )
        return answer["MessageId"]


def approval_mail(case: Case, *, page_url: str, now: datetime) -> Mail:
    """The mail that asks whether the root access keys of an account may be deleted."""
    return _mail("approval_mail", case, subject=_subject(case), page_url=page_url, now=now)


def manual_removal_mail(case: Case, *, is_management_account: bool, now: datetime) -> Mail:
    """The mail that asks a person to delete root access keys which Rootsweep cannot delete."""
    return _mail(
        "manual_removal_mail",
        case,
        subject=_subject(case),
        is_management_account=is_management_account,
        is_denied_by_policy="service control policy" in case.reason,
        now=now,
    )


def decision_page(
    case: Case,
    *,
    approver: str,
    token: str,
    last_day: date,
    now: datetime,
    error: FormError | None = None,
) -> str:
    """The page that shows the evidence and takes the decision."""
    return _render(
        "decision_page.html",
        case=case,
        approver=approver,
        token=token,
        last_day=last_day,
        now=now,
        error=error,
    )


def notice_page(moment: str, *, case: Case | None = None) -> str:
    """A page for any other moment; `moment` is a name in `templates/notice_page.html`."""
    return _render("notice_page.html", moment=moment, case=case)


def _mail(template: str, case: Case, *, subject: str, **values: Any) -> Mail:
    return Mail(
        to=case.approver,
        subject=subject,
        text=_render(f"{template}.txt", case=case, **values),
        html=_render(f"{template}.html", case=case, **values),
    )


def _subject(case: Case) -> str:
    # The same for every mail about a case, so that mail programs show them as one conversation.
    return f"[Rootsweep] Root access keys in {plain(case.account_name, 60)} ({case.account_id})"


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
_environment.filters |= {"plain": plain, "day": _day, "minute": _minute, "ago": _ago}
_environment.globals["style"] = Markup(_STYLE)  # noqa: S704 - our own file, hashed in the CSP
