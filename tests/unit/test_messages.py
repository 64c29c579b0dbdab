from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import boto3
import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import messages
from rootsweep.approvals import FormError
from rootsweep.cases import Answer, Case, Outcome
from rootsweep.messages import Mail

from .builders import FIRST, HOSTILE, NOW, SECOND, a_case, a_decision, a_key

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
URL = "https://approvals.example.com/a-secret"
MOMENTS = re.findall(
    r'^  "(\w+)": ".+",$',
    (messages._TEMPLATES / "notice_page.html").read_text().partition("outcomes")[0],
    re.MULTILINE,
)


def approval_mail(case: Case) -> Mail:
    return messages.approval_mail(case, page_url=URL, now=NOW)


def removal_mail(case: Case, *, is_management_account: bool = False) -> Mail:
    return messages.manual_removal_mail(case, is_management_account=is_management_account, now=NOW)


def page(case: Case, **values: Any) -> str:
    return messages.decision_page(
        case,
        **{
            "approver": case.approver,
            "token": "a-page-token",
            "last_day": date(2026, 6, 2),
            "now": NOW,
            **values,
        },
    )


class Structure(HTMLParser):
    """The elements of a document with the names of their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def with_outside_text(text: str) -> Case:
    """A case where everything that comes from outside is this text."""
    case = a_case(
        [a_key(last_used_at="2024-02-03T00:00:00+00:00", last_used_service=text)],
        account_name=text,
        ou=text,
        reason=text,
    )
    decision = a_decision(case, Answer.DECLINED, reason=text, by="a@example.com")
    return a_case(
        case.keys, account_name=text, ou=text, reason=text, decision=decision, ended_at="now"
    )


RENDERERS: dict[str, Callable[[Case], str]] = {
    "approval mail": lambda case: approval_mail(case).html,
    "removal mail": lambda case: removal_mail(case).html,
    "decision page": page,
    "decided page": lambda case: messages.notice_page("decided", case=case),
    "ended page": lambda case: messages.notice_page("ended", case=case),
}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_text_from_outside_adds_no_element_and_no_attribute(
    render: Callable[[Case], str], text: str
) -> None:
    harmless = Structure(render(with_outside_text("payments")))
    hostile = Structure(render(with_outside_text(text)))

    assert hostile.elements == harmless.elements
    assert not NEVER & {unicodedata.category(c) for c in hostile.text if c != "\n"}


@given(st.text())
def test_no_text_whatever_adds_an_element_to_the_page(text: str) -> None:
    assert (
        Structure(page(with_outside_text(text))).elements
        == Structure(page(with_outside_text("payments"))).elements
    )


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("write", [approval_mail, removal_mail])
def test_text_from_outside_adds_no_line_to_a_mail_and_none_to_its_head(
    write: Callable[[Case], Mail], text: str
) -> None:
    harmless, hostile = write(with_outside_text("payments")), write(with_outside_text(text))

    assert len(hostile.text.splitlines()) == len(harmless.text.splitlines())
    assert not NEVER & {unicodedata.category(c) for c in hostile.subject}
    assert not NEVER & {unicodedata.category(c) for c in hostile.text if c != "\n"}
    assert len(hostile.subject) < 150


def test_a_name_in_template_language_is_only_a_name() -> None:
    assert "{{ 7 * 7 }}" in approval_mail(with_outside_text("{{ 7 * 7 }}")).text


def test_the_approval_mail_says_what_is_asked_until_when_and_where_to_answer() -> None:
    keys = [
        a_key(),
        a_key(
            SECOND,
            "Inactive",
            last_used_at="2024-02-04T01:02:03+00:00",
            last_used_service="s3",
            last_used_region="us-east-1",
        ),
    ]
    mail = approval_mail(a_case(keys))

    assert mail.to == "payments-leads@example.com"
    assert mail.subject == "[Rootsweep] Root access keys in payments-prod (333333333333)"
    for body in (mail.text, Structure(mail.html).text):
        assert "2 access keys" in body
        assert FIRST in body
        assert SECOND in body
        assert "Inactive" in body
        assert "4 February 2024" in body
        assert "with s3 in us-east-1" in body
        assert "11 March 2026, 05:06 UTC" in body
    assert "4 February 2024 (2 years ago)" in Structure(mail.html).text
    assert URL in mail.text
    assert f'href="{URL}"' in mail.html


def test_the_approval_mail_speaks_of_one_key_if_there_is_one() -> None:
    assert "has an access key" in approval_mail(a_case()).text
    assert "never used since April 2015" in approval_mail(a_case()).text


def test_a_key_with_an_unknown_last_service_is_shown_as_such() -> None:
    mail = approval_mail(a_case([a_key(last_used_at="2024-02-04T01:02:03+00:00")]))

    assert "with an unknown service in an unknown Region" in mail.text


def test_the_task_token_is_in_nothing_that_a_person_gets() -> None:
    case = a_case(task_token="THE-TASK-TOKEN", decision=a_decision(a_case()))
    mails = [approval_mail(case), removal_mail(case)]
    pages = [page(case), *(messages.notice_page(moment, case=case) for moment in MOMENTS)]

    for text in [*(mail.text + mail.html + mail.subject for mail in mails), *pages]:
        assert "THE-TASK-TOKEN" not in text


def test_the_removal_mail_says_why_and_how() -> None:
    mail = removal_mail(a_case(reason="AssumeRoot: AccessDenied: not today"))

    for body in (mail.text, Structure(mail.html).text):
        assert "not today" in body
        assert "as its root user" in body
        assert "deactivate each key first" in body
        assert "11 March 2026, 05:06 UTC" in body
    assert mail.html.count("<li") == len(re.findall(r"^\d\. ", mail.text, re.MULTILINE)) == 5


def test_the_removal_mail_knows_the_management_account() -> None:
    mail = removal_mail(a_case(), is_management_account=True)

    assert "Sign in to the management account 333333333333" in mail.text
    assert "password recovery" not in mail.text


def test_the_removal_mail_names_a_policy_that_stands_in_the_way() -> None:
    reason = "AssumeRoot: AccessDenied: explicit deny in a service control policy"
    mail = removal_mail(a_case(reason=reason))

    for body in (mail.text, Structure(mail.html).text):
        assert "let the root user of 333333333333 through" in body
    assert mail.html.count("<li") == len(re.findall(r"^\d\. ", mail.text, re.MULTILINE)) == 6


def test_a_removal_mail_without_evidence_still_makes_sense() -> None:
    assert "at least one access key" in removal_mail(a_case([])).text


def test_the_page_shows_the_evidence_and_two_forms_that_post_with_the_token() -> None:
    html = page(a_case([a_key(), a_key(SECOND)]))
    elements = [name for name, _ in Structure(html).elements]

    assert elements.count("form") == 2
    assert html.count('<form method="post"') == 2
    assert html.count('name="token" value="a-page-token"') == 2
    assert FIRST in html
    assert SECOND in html
    assert 'max="2026-06-02"' in html
    assert "script" not in elements


@pytest.mark.parametrize("field", ["account_id", "reason", "until"])
def test_the_page_shows_an_error_at_its_field(field: str) -> None:
    html = page(a_case(), error=FormError(field, "Try <again>."))

    assert "Try &lt;again&gt;." in html
    assert re.search(rf'id="{field}"[^>]*aria-describedby="error"', html)
    assert html.count("aria-invalid") == 1


def test_an_error_that_belongs_to_no_field_is_shown_all_the_same() -> None:
    assert "Choose one." in page(a_case(), error=FormError("decision", "Choose one."))


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_moment_has_a_page_with_and_without_a_decision(moment: str) -> None:
    decided = a_case(decision=a_decision(a_case()))

    assert "<h1>" in messages.notice_page(moment, case=decided)
    if moment in ("bad_request", "method", "not_found", "too_large", "try_again"):
        assert "<h1>" in messages.notice_page(moment)


def test_the_moments_are_those_of_the_template() -> None:
    assert len(MOMENTS) == 11


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_words_for_the_person(outcome: Outcome) -> None:
    case = a_case(outcome=outcome, ended_at="2026-03-05T00:00:00Z")

    for moment in ("ended", "not_yet"):
        assert Structure(messages.notice_page(moment, case=case)).text.count(".") >= 1


def test_the_page_after_a_decision_says_what_happens_next() -> None:
    approved = a_case(decision=a_decision(a_case()))
    declined = a_case(decision=a_decision(a_case(), Answer.DECLINED))
    ended = a_case(
        decision=a_decision(a_case()), outcome=Outcome.REMEDIATED, ended_at="2026-03-05T00:00:00Z"
    )

    assert "deletes nothing and asks you again" in messages.notice_page("recorded", case=approved)
    after = messages.notice_page("recorded", case=declined)
    assert "After 2026-05-01 Rootsweep asks again" in after
    assert "migrating in May" in after
    assert "it was confirmed that they are gone" in messages.notice_page("decided", case=ended)
    assert "happens next" not in messages.notice_page("decided", case=approved)


def test_a_page_that_lacks_a_value_fails_instead_of_showing_a_gap() -> None:
    with pytest.raises(jinja2.UndefinedError):
        messages._render("approval_mail.txt", case=a_case())


def test_the_style_of_the_page_is_the_one_that_its_policy_allows() -> None:
    style = re.search(r"<style>(.*?)</style>", page(a_case()), re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()

    policy = messages.PAGE_HEADERS["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "style=" not in page(a_case())


def test_a_page_is_kept_by_nobody_and_tells_nobody_its_address() -> None:
    assert messages.PAGE_HEADERS["Cache-Control"] == "no-store"
    assert messages.PAGE_HEADERS["Referrer-Policy"] == "no-referrer"
    assert "noindex" in messages.PAGE_HEADERS["X-Robots-Tag"]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (-3, "today"),
        (0, "today"),
        (1, "1 day ago"),
        (29, "29 days ago"),
        (30, "1 month ago"),
        (364, "12 months ago"),
        (365, "1 year ago"),
        (3650, "10 years ago"),
    ],
)
def test_the_age_of_a_key_is_told_in_the_largest_unit(days: int, words: str) -> None:
    assert messages._ago((NOW - timedelta(days=days)).isoformat(), NOW) == words


def test_times_without_a_zone_are_utc() -> None:
    assert messages._parsed("2026-03-04T05:06:07") == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert messages._day(None) == "never"


def test_a_mail_goes_to_its_one_receiver_and_to_nobody_else(stub: Any) -> None:
    ses = boto3.client("sesv2")
    stub(ses).add_response(
        "send_email",
        {"MessageId": "an-id"},
        {
            "FromEmailAddress": "rootsweep@example.com",
            "Destination": {"ToAddresses": ["to@example.com"]},
            "Content": {
                "Simple": {
                    "Subject": {"Data": "s", "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": "t", "Charset": "UTF-8"},
                        "Html": {"Data": "h", "Charset": "UTF-8"},
                    },
                    "Headers": [{"Name": "Auto-Submitted", "Value": "auto-generated"}],
                }
            },
        },
    )

    mail = Mail(to="to@example.com", subject="s", text="t", html="h")
    assert mail.send(ses, sender="rootsweep@example.com") == "an-id"
