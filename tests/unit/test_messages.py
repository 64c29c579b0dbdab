from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import messages
from rootsweep.approvals import FormError
from rootsweep.approvers import Thread
from rootsweep.cases import Answer, Case, Obstacle, Outcome
from rootsweep.console import execution_link
from rootsweep.escalation import Rung
from rootsweep.exceptions import AccountException
from rootsweep.messages import Mail

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    FIRST,
    HOSTILE,
    NOW,
    SECOND,
    THIRD,
    TWO_RUNGS,
    a_case,
    a_decision,
    a_key,
)
from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
LINK = "Zk3-the-secret-of-a-link_9"
URL = f"https://approvals.example.com/{LINK}"
WHY = "a key was used in the last 90 days"
# What a bank's red team would call an account.
RED_TEAM = [
    *HOSTILE,
    "<script>alert(1)</script>\r\nBcc: x@example.com",
    "\u202e\u2067drop\u200b\u200c\u200d\u2060\ufeff tables\u061c",
    "\r\n\r\n<h1>Approve at https://evil.example.com</h1>",
    "--boundary\r\nContent-Type: text/html",
    "</title></style></textarea><base href=//evil.example.com>",
    "javascript:alert(1)//",
    "&lt;script&gt;&#x3c;b&#62;",
    "\ud800 \udfff",
]
MOMENTS = re.findall(
    r'^  "(\w+)": ".+",$',
    (messages._TEMPLATES / "notice_page.html").read_text().split("titles = {")[1].split("}")[0],
    re.MULTILINE,
)


AN_EXCEPTION = AccountException(
    account_id=ACCOUNT,
    owner=DEPUTY,
    reason="migrating in March",
    until="2026-03-03",
    keys=(a_key(),),
    case_id="c",
)


def by_name(text: str) -> str:
    return ascii(text[:20])


def mail_about(*cases: Case, approver: str = APPROVER, threads: Any = (), **values: Any) -> Mail:
    given = {"page_url": URL, "waiting_longer": 0, "reminded": (), "now": NOW, **values}
    return messages.request_mail(cases, approver=approver, threads=threads, **given)


def approval_mail(case: Case) -> Mail:
    return mail_about(case)


def removal_mail(case: Case, obstacle: Obstacle = Obstacle.ROOT_SESSION_DENIED) -> Mail:
    return mail_about(replace(case, obstacle=obstacle, outcome=Outcome.AWAITING_REMOVAL))


def another(case: Case, number: int, **fields: Any) -> Case:
    """A case like this one, of another account."""
    account = f"44440000{number:04}"
    id = f"{account}-20260304T050607Z"
    return replace(
        case, **{"id": id, "account_id": account, "account_name": f"n-{number}", **fields}
    )


def list_mail(case: Case, **values: Any) -> Mail:
    """A mail about this case, another one like it, and one to be settled by hand."""
    same = {"account_name": case.account_name}
    by_hand = another(case, 2, obstacle=Obstacle.ROOT_SESSION_DENIED, **same)
    return mail_about(case, another(case, 1, **same), by_hand, **values)


MAILS: dict[str, Callable[[Case], Mail]] = {
    "approval": approval_mail,
    "removal": removal_mail,
    "list": list_mail,
}
every_mail = pytest.mark.parametrize("write", MAILS.values(), ids=MAILS)


def exceptions_mail(case: Case) -> Mail:
    """The mail to the owner of what this case names as its old exception, and of another one."""
    mine = case.old_exception or AN_EXCEPTION
    other = replace(mine, account_id="444400000001")
    return messages.exceptions_end_mail(
        [mine, other], owner=APPROVER, names={case.account_id: case.account_name}
    )


EVERY_MAIL = {**MAILS, "exceptions": exceptions_mail}
every_mail_there_is = pytest.mark.parametrize("write", EVERY_MAIL.values(), ids=EVERY_MAIL)


def page(case: Case, **values: Any) -> str:
    return messages.decision_page(
        case,
        **{
            "approver": case.approvers[0],
            "token": "a-page-token",
            "last_day": date(2026, 6, 2),
            "now": NOW,
            "more": 0,
            "form": {},
            "quarantine": "14d",
            **values,
        },
    )


def list_page(case: Case, **values: Any) -> str:
    cases = [case, another(case, 1, account_name=case.account_name)]
    return messages.list_page(
        cases,
        **{
            "approver": case.approvers[0],
            "tokens": {each.id: "a-page-token" for each in cases},
            "total": 2,
            "first": 1,
            "next_page": "",
            "last_day": date(2026, 6, 2),
            "now": NOW,
            "form": {},
            "selected": (),
            **values,
        },
    )


def words(html: str) -> str:
    """The text of a document as a person sees it, on one line."""
    return " ".join(Structure(html).text.split())


class Structure(HTMLParser):
    """The elements of a document with the names of their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str | None] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def with_outside_text(text: str) -> Case:
    """A case where everything that comes from outside is this text."""
    outside = {"account_name": text, "ou": text, "reason": text}
    before = replace(AN_EXCEPTION, owner=text, reason=text, ticket=text)
    key = a_key(
        last_used_at="2024-02-03T00:00:00+00:00", last_used_service=text, last_used_region=text
    )
    case = a_case([key], **outside, quorum=2, quorum_reason=WHY, old_exception=before)
    decision = a_decision(case, Answer.DECLINED, reason=text, ticket=text)
    return replace(case, decision=decision, ended_at="now")


RENDERERS: dict[str, Callable[[Case], str]] = {
    "approval mail": lambda case: approval_mail(case).html,
    "removal mail": lambda case: removal_mail(case).html,
    "list mail": lambda case: list_mail(case).html,
    "exceptions mail": lambda case: exceptions_mail(case).html,
    "decision page": page,
    "list page": list_page,
    "decided page": lambda case: messages.notice_page("decided", case=case),
    "ended page": lambda case: messages.notice_page("ended", case=case),
    "by hand page": lambda case: messages.notice_page("by_hand", case=case),
    "past page": lambda case: messages.notice_page("nothing_waits", cases=[case], approver="a"),
    "results page": lambda case: messages.results_page(
        [(case, "recorded"), (case, "superseded")], more=1
    ),
}
every_document = pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)


@every_document
@pytest.mark.parametrize("text", RED_TEAM, ids=by_name)
def test_text_from_outside_adds_no_element_no_attribute_and_no_address(
    render: Callable[[Case], str], text: str
) -> None:
    harmless = Structure(render(with_outside_text("payments")))
    hostile = Structure(render(with_outside_text(text)))

    assert hostile.elements == harmless.elements
    assert hostile.addresses == harmless.addresses
    assert not NEVER & {unicodedata.category(c) for c in hostile.text if c != "\n"}


@pytest.mark.parametrize("text", RED_TEAM, ids=by_name)
def test_what_was_typed_adds_no_element_when_it_is_shown_again(text: str) -> None:
    typed = dict.fromkeys(["reason", "until", "account_id", "count", "ticket"], text)
    error = FormError("reason", "no")

    for render in (page, list_page):
        harmless = Structure(render(a_case(), form=dict.fromkeys(typed, "x"), error=error))
        hostile = Structure(render(a_case(), form=typed, error=error))
        assert hostile.elements == harmless.elements


@given(st.text())
def test_no_text_whatever_adds_an_element_to_the_page(text: str) -> None:
    assert (
        Structure(page(with_outside_text(text))).elements
        == Structure(page(with_outside_text("payments"))).elements
    )


@every_mail_there_is
@pytest.mark.parametrize("text", RED_TEAM, ids=by_name)
def test_text_from_outside_adds_no_line_to_a_mail_and_none_to_its_head(
    write: Callable[[Case], Mail], text: str
) -> None:
    harmless, hostile = write(with_outside_text("payments")), write(with_outside_text(text))

    assert len(hostile.text.splitlines()) == len(harmless.text.splitlines())
    assert len(hostile.subject.splitlines()) == 1
    assert not NEVER & {unicodedata.category(c) for c in hostile.subject}
    assert not NEVER & {unicodedata.category(c) for c in hostile.text if c != "\n"}
    assert len(hostile.subject) < 150
    assert (hostile.to, hostile.answers) == (harmless.to, harmless.answers)


@every_mail_there_is
@pytest.mark.parametrize("text", RED_TEAM, ids=by_name)
def test_a_mail_about_hostile_text_has_the_head_of_any_other_on_the_wire(
    write: Callable[[Case], Mail], text: str
) -> None:
    def on_the_wire(mail: Mail) -> EmailMessage:
        message = EmailMessage(policy=policy.SMTP)
        message["To"], message["Subject"] = mail.to, mail.subject
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        message.set_boundary("boundary")
        parsed = message_from_bytes(message.as_bytes(), policy=policy.SMTP)
        assert isinstance(parsed, EmailMessage)
        return parsed

    hostile = write(with_outside_text(text))
    sent = on_the_wire(hostile)

    assert sent.keys() == on_the_wire(write(with_outside_text("payments"))).keys()
    assert sent["Bcc"] is None
    assert sent["To"] == APPROVER
    assert sent["Subject"].strip() == hostile.subject


@pytest.mark.parametrize(
    "text", ["=?utf-8?q?=0d=0aBcc:_x=40example.com?=", "=?utf-8?b?4oCuZ3BqLmV4ZQ==?="]
)
def test_a_name_that_is_an_encoded_word_is_none_in_a_subject(text: str) -> None:
    assert "=?" not in approval_mail(a_case(account_name=text)).subject


@every_mail
def test_the_addresses_in_a_mail_are_the_page_and_the_execution(
    write: Callable[[Case], Mail],
) -> None:
    case = a_case()
    mail = write(case)
    structure = Structure(mail.html)
    # A mail about several cases has none: its page leads to them.
    last = [execution_link(case.execution_arn)] if case.id in mail.text else []

    assert structure.addresses == [URL, *last]
    assert re.findall(r"\S+://\S+", mail.text) == [URL, *last]
    assert not {"img", "script", "link", "form", "input", "iframe"} & {
        name for name, _ in structure.elements
    }
    assert "url(" not in mail.html
    assert LINK not in mail.subject


@every_mail_there_is
@pytest.mark.parametrize("text", ["https://evil.example.com", "Approve: www.evil.example.com/x"])
def test_a_name_that_is_an_address_is_none_in_a_mail(
    write: Callable[[Case], Mail], text: str
) -> None:
    mail = write(replace(with_outside_text(text), quorum=1))

    for shown in (mail.text, words(mail.html), mail.subject):
        assert not re.search(r"https?://evil|www\.evil", shown)


def test_a_name_in_template_language_is_only_a_name() -> None:
    assert "{{ 7 * 7 }}" in approval_mail(with_outside_text("{{ 7 * 7 }}")).text


TWO_KEYS = [
    a_key(),
    a_key(
        SECOND,
        "Inactive",
        last_used_at="2024-02-04T01:02:03+00:00",
        last_used_service="s3",
        last_used_region="us-east-1",
    ),
]
FACTS = [
    *("payments-prod", ACCOUNT, "Workloads/Prod"),
    *(FIRST, "Active", "1 April 2016", "9 years ago", "ever used since"),
    *(SECOND, "Inactive", "4 February 2024", "with s3 in us-east-1"),
    *("11 March 2026, 05:06 UTC", "nothing is deleted, and your security team is told"),
]


def test_the_approval_mail_says_what_is_asked_until_when_and_where_to_answer() -> None:
    mail = approval_mail(a_case(TWO_KEYS))

    assert mail.to == APPROVER
    assert mail.subject == '[Rootsweep] Root access keys in "payments-prod" (333333333333)'
    for body in (mail.text, words(mail.html)):
        assert "2 access keys" in body
        for fact in FACTS:
            assert fact in body
    assert "4 February 2024 (2 years ago)" in words(mail.html)
    assert URL in mail.text
    assert f'href="{URL}"' in mail.html


def test_the_first_lines_of_the_approval_mail_hold_all_that_is_needed_to_decide() -> None:
    mail = approval_mail(a_case(TWO_KEYS))
    lines = [line for line in mail.text.splitlines() if line.strip()]

    start = "\n".join(lines[:6])
    assert start.endswith("and your security team is told.")
    for fact in [*FACTS, URL]:
        assert fact in start
    shown, _, _ = words(mail.html).partition("Why this matters")
    for fact in FACTS:
        assert fact in shown


def test_the_approval_mail_tells_the_last_use_with_its_age_in_both_parts() -> None:
    mail = approval_mail(a_case(TWO_KEYS))

    for body in (mail.text, words(mail.html)):
        assert "1 April 2016 (9 years ago)" in body
    assert "4 February 2024 (2 years ago)" in words(mail.html)


def test_the_approval_mail_says_how_many_have_to_approve_why_and_who_is_asked() -> None:
    shared = a_case(quorum=2, quorum_reason=WHY, approvers=(APPROVER, DEPUTY, THIRD))
    alone = replace(shared, approvers=(APPROVER,))

    for mail in (approval_mail(shared), mail_about(shared, approver=DEPUTY)):
        for body in (mail.text, words(mail.html)):
            assert f"2 people have to approve, because {WHY}: " in body
            assert f"{APPROVER}, {DEPUTY}, {THIRD} are asked." in body
    for body in (approval_mail(alone).text, words(approval_mail(alone).html)):
        assert "Rootsweep knows only you, so the deletion cannot go ahead" in body
    for body in (approval_mail(a_case()).text, words(approval_mail(a_case()).html)):
        assert "have to approve" not in body


@pytest.mark.parametrize("write", [approval_mail, list_mail])
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, ""),
        (1, "One more account has been waiting for you longer, on the same page."),
        (2, "2 more accounts have been waiting for you longer, on the same page."),
    ],
)
def test_a_mail_counts_what_has_been_waiting_longer(
    write: Callable[[Case], Mail], number: int, said: str
) -> None:
    given = {"waiting_longer": number}
    mail = list_mail(a_case(), **given) if write is list_mail else mail_about(a_case(), **given)

    for body in (mail.text, words(mail.html)):
        assert said in body
        assert ("waiting for you longer" in body) is bool(number)


def line_about(case: Case, text: str) -> str:
    """What a list says of one case, up to the next one."""
    _, _, after = text.partition(case.account_id)
    return re.split(r"\(\d{12}|\d+ more, on the page|Why this matters", after)[0]


def test_both_parts_of_a_list_mail_say_the_same_about_each_case() -> None:
    many = [
        another(a_case(TWO_KEYS), 1),
        another(a_case(), 2, ou="Other", quorum=2, quorum_reason=WHY),
        another(a_case(), 3, obstacle=Obstacle.MANAGEMENT_ACCOUNT, reason="AWS opens none"),
    ]
    mail = mail_about(*many)
    html = words(mail.html)

    for body in (" ".join(mail.text.split()), html):
        start, _, _ = body.partition(many[0].account_id)
        assert "The root users of 3 accounts that you answer for have access keys." in start
        assert "by 11 March 2026, 05:06 UTC" in start
        assert "others are asked and, at last, your security team is told" in start
        for case in many:
            assert f"{case.account_name} ({case.account_id}, {case.ou})" in body.replace('"', "")
        first, second, third = (line_about(case, body) for case in many)
        assert f"{FIRST} (Active, created 9 years ago, never used)" in first
        assert f"{SECOND} (Inactive, created 9 years ago, last used 2 years ago with s3" in first
        assert "have to approve" not in first
        assert f"2 people have to approve, because {WHY}." in second
        assert "One account where Rootsweep cannot delete the keys." in second
        assert "AWS opens none" in third
        assert FIRST not in third
    assert mail.text.count(URL) == mail.html.count(URL) == 1
    assert mail.subject == "[Rootsweep] Root access keys in 3 accounts, 4 March 2026"


def test_a_list_mail_names_the_first_deadline() -> None:
    sooner = another(a_case(), 1, answer_by="2026-03-09T05:06:07Z")
    mail = mail_about(a_case(), sooner, another(a_case(), 2))

    for body in (mail.text, words(mail.html)):
        assert "9 March 2026, 05:06 UTC" in body
        assert "11 March" not in body


def test_a_list_mail_about_nothing_but_removals_asks_for_no_decision() -> None:
    by_hand = [another(a_case(), n, obstacle=Obstacle.SERVICE_CONTROL_POLICY) for n in (1, 2)]
    mail = mail_about(*by_hand)

    for body in (mail.text, words(mail.html)):
        assert "2 accounts where Rootsweep cannot delete the keys" in body
        assert "decide" not in body.lower()


@pytest.mark.parametrize("number", [40, 41, 500])
def test_a_long_list_names_forty_and_counts_the_others(number: int) -> None:
    mail = mail_about(*(another(a_case(), n) for n in range(number)))

    assert len(re.findall(r"^\* ", mail.text, re.MULTILINE)) == 40
    assert words(mail.html).count(", Workloads/Prod)") == 40
    for body in (mail.text, words(mail.html)):
        assert f"The root users of {number} accounts" in body
        assert (f"And {number - 40} more, on the page." in body) is (number > 40)
    # Gmail cuts off mails of more than 102 KB.
    assert len(mail.html.encode()) < 60_000


def test_in_a_list_mail_a_long_name_does_not_hide_the_others() -> None:
    long = another(a_case(), 1, account_name="x" * 5000, ou="y" * 5000)
    mail = mail_about(long, a_case())

    assert len(mail.text) < 2500
    assert '"payments-prod" (333333333333, Workloads/Prod)' in mail.text


def test_the_approval_mail_speaks_of_one_key_if_there_is_one() -> None:
    assert "has an access key" in approval_mail(a_case()).text
    assert "never used since April 2015" in approval_mail(a_case()).text


def test_a_key_with_an_unknown_last_service_is_shown_as_such() -> None:
    mail = approval_mail(a_case([a_key(last_used_at="2024-02-04T01:02:03+00:00")]))

    assert "with an unknown service in an unknown Region" in mail.text


def test_the_task_token_is_in_nothing_that_a_person_gets() -> None:
    case = a_case(task_token="THE-TASK-TOKEN", decision=a_decision(a_case()))
    mails = [write(case) for write in MAILS.values()]
    pages = [render(case) for render in RENDERERS.values()]
    notices = [messages.notice_page(moment, case=case, approver="a") for moment in MOMENTS]

    for text in [*(mail.text + mail.html + mail.subject for mail in mails), *pages, *notices]:
        assert "THE-TASK-TOKEN" not in text
        assert case.fingerprint not in text


def test_the_removal_mail_says_why_and_how() -> None:
    mail = removal_mail(a_case(reason="AssumeRoot: AccessDenied: not today"))

    for body in (mail.text, words(mail.html)):
        assert "not today" in body
        assert "as its root user" in body
        assert "deactivate each key first" in body
        assert "11 March 2026, 05:06 UTC" in body
        assert "If they are still there by then, your security team is told." in body
        assert FIRST in body
        for fact in ("payments-prod", ACCOUNT, "Workloads/Prod"):
            assert fact in body
    assert mail.html.count("<li") == len(re.findall(r"^\d\. ", mail.text, re.MULTILINE)) == 5


def test_the_removal_mail_knows_the_management_account() -> None:
    mail = removal_mail(a_case(), Obstacle.MANAGEMENT_ACCOUNT)

    for body in (mail.text, words(mail.html)):
        assert "Sign in to the management account 333333333333" in body
        assert "password recovery" not in body


def test_the_removal_mail_names_a_policy_that_stands_in_the_way() -> None:
    mail = removal_mail(a_case(), Obstacle.SERVICE_CONTROL_POLICY)

    for body in (mail.text, words(mail.html)):
        assert "let the root user of 333333333333 through" in body
    assert mail.html.count("<li") == len(re.findall(r"^\d\. ", mail.text, re.MULTILINE)) == 6


def test_a_removal_mail_without_evidence_still_makes_sense() -> None:
    assert "at least one access key" in removal_mail(a_case([])).text


def test_the_page_shows_the_evidence_and_two_forms_that_post_with_the_token() -> None:
    html = page(a_case([a_key(), a_key(SECOND)]))
    elements = [name for name, _ in Structure(html).elements]

    assert elements.count("form") == 2
    assert html.count('<form method="post"') == 2
    assert html.count(f'name="case" value="{a_case().id}.a-page-token"') == 2
    assert FIRST in html
    assert SECOND in html
    assert 'max="2026-06-02"' in html
    assert "script" not in elements


@pytest.mark.parametrize("field", ["account_id", "reason", "until", "ticket"])
def test_the_page_shows_an_error_at_its_field(field: str) -> None:
    html = page(a_case(), error=FormError(field, "Try <again>."), form={field: "what <I> typed"})

    assert "Try &lt;again&gt;." in html
    assert html.count("what &lt;I&gt; typed") == 1
    assert re.search(rf'id="{field}"[^>]*aria-describedby="error"', html)
    assert html.count("aria-invalid") == 1


def test_an_error_that_belongs_to_no_field_is_shown_all_the_same() -> None:
    assert "Choose one." in page(a_case(), error=FormError("decision", "Choose one."))


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_moment_has_a_page_with_and_without_a_decision(moment: str) -> None:
    decided = a_case(decision=a_decision(a_case()))

    for case in (decided, a_case()):
        html = messages.notice_page(moment, case=case, approver=APPROVER, more=2)
        assert html.count("<h1>") == 1
        assert "2 more accounts wait" in words(html)
    if moment in ("bad_request", "expired", "method", "not_found", "too_large", "try_again"):
        bare = messages.notice_page(moment)
        assert "<h1>" in bare
        assert "more account" not in bare


def test_the_moments_are_those_of_the_template() -> None:
    assert len(MOMENTS) == 16


@pytest.mark.parametrize(
    "moment", ["ended", "by_hand", "not_yet", "too_late", "superseded", "not_yours"]
)
def test_the_page_after_several_decisions_knows_every_moment(moment: str) -> None:
    html = words(messages.results_page([(a_case(), moment)], more=1))

    assert "Nothing was recorded" in html
    assert re.search(r"payments-prod \(333333333333\): \w+", html)
    assert "One more account waits for you" in html


@pytest.mark.parametrize("answer", list(Answer))
def test_the_page_after_several_decisions_says_who_was_faster(answer: Answer) -> None:
    case = a_case()
    decision = a_decision(case, answer, by="faster@example.com")
    decided = replace(case, approvals=(decision,), decision=decision, decided="YES")
    html = words(messages.results_page([(decided, "decided")], more=0))

    assert "This has been decided" in html
    assert "Nothing was recorded" not in html
    said = "approved" if answer == Answer.APPROVED else "declined"
    assert f"deletion {said} by faster@example.com on 4 March 2026" in html


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
            "ConfigurationSetName": "rootsweep-mails",
            # Tracking would put the link into the hands of SES.
            "ConfigurationOverrides": {
                "Tracking": {"ClickTrackingEnabled": "DISABLED", "OpenTrackingEnabled": "DISABLED"}
            },
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
    sent = mail.send(ses, sender="rootsweep@example.com", configuration_set="rootsweep-mails")
    assert sent == "<an-id@eu-west-1.amazonses.com>"


def test_in_its_first_region_ses_calls_its_domain_email(stub: Any) -> None:
    ses = boto3.client("sesv2", region_name="us-east-1")
    stub(ses).add_response("send_email", {"MessageId": "an-id"})

    mail = Mail(to="to@example.com", subject="s", text="t", html="h")
    assert (
        mail.send(ses, sender="a@example.com", configuration_set="c")
        == "<an-id@email.amazonses.com>"
    )


def threads(number: int, region: str = "eu-west-1") -> list[Thread]:
    """What mails were sent before, with Message-IDs as long as SES makes them."""
    ids = [f"01020190{n:08x}-a8bd3c54-7f2e-4f6b-9c80-0123456789ab-000000" for n in range(number)]
    return [Thread(f"<{id}@{region}.amazonses.com>", f"subject {n}") for n, id in enumerate(ids)]


def test_the_first_mail_about_a_case_answers_no_other() -> None:
    mailbox = Mailbox()
    approval_mail(a_case()).send(mailbox, sender="a@example.com", configuration_set="c")  # type: ignore[arg-type]

    assert mailbox.headers(0) == {"Auto-Submitted": "auto-generated"}


@every_mail
def test_a_later_mail_has_the_subject_of_the_first_and_answers_it(
    write: Callable[[Case], Mail],
) -> None:
    mailbox, [thread] = Mailbox(), threads(1)
    cases = [a_case(), another(a_case(), 1)] if write is list_mail else [a_case()]
    if write is removal_mail:
        cases = [replace(a_case(), obstacle=Obstacle.ROOT_SESSION_DENIED)]

    mail_about(*cases, threads=[thread]).send(
        mailbox,  # type: ignore[arg-type]
        sender="a@example.com",
        configuration_set="c",
    )

    assert mailbox.subject(0) == "subject 0"
    assert mailbox.headers(0) == {
        "Auto-Submitted": "auto-generated",
        "In-Reply-To": thread.message_id,
        "References": thread.message_id,
    }


def test_a_mail_about_cases_of_several_conversations_names_each_once() -> None:
    first, second, third = threads(3)
    mail = list_mail(a_case(), threads=[first, second, first, third, second])

    assert mail.answers == (first.message_id, second.message_id, third.message_id)
    assert mail.subject == first.subject


def test_a_mail_answers_the_conversation_whose_subject_it_has() -> None:
    mailbox, (first, second) = Mailbox(), threads(2)

    list_mail(a_case(), threads=[first, second]).send(
        mailbox,  # type: ignore[arg-type]
        sender="a@example.com",
        configuration_set="c",
    )

    assert mailbox.subject(0) == first.subject
    assert mailbox.headers(0)["In-Reply-To"] == first.message_id


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "ap-northeast-1"])
def test_a_mail_that_answers_many_others_is_one_that_ses_takes(region: str, stub: Any) -> None:
    """The stub checks nothing of lengths; the model of the API does."""
    mail = list_mail(a_case(), threads=threads(50, region))
    ses = boto3.client("sesv2")
    model = botocore.session.get_session().get_service_model("sesv2")
    longest = model.shape_for("MessageHeaderValue").metadata["max"]
    stub(ses).add_response("send_email", {"MessageId": "an-id"})

    mail.send(ses, sender="a@example.com", configuration_set="c")

    references = " ".join(mail.answers)
    assert len(mail.answers) == 10
    assert len(references) <= longest
    # Name and value together: SES API, MessageHeader.
    assert len("References") + len(references) <= 996
    assert re.fullmatch("[ -~]*", references)


def test_the_subject_says_the_same_whatever_else_changed() -> None:
    case = a_case()
    later = replace(case, keys=tuple(TWO_KEYS), request_number=7, deadline="2026-05-01T00:00:00Z")

    assert approval_mail(later).subject == approval_mail(case).subject
    assert removal_mail(case).subject == approval_mail(case).subject
    assert mail_about(case, waiting_longer=3).subject == approval_mail(case).subject


def test_a_list_of_one_is_a_mail_about_one() -> None:
    assert "accounts" not in approval_mail(a_case()).text
    assert "Case 333333333333-20260304T050607Z" in approval_mail(a_case()).text
    assert "Case " not in list_mail(a_case()).text


def test_a_mail_is_text_that_can_be_sent() -> None:
    """UTF-8 has no lone surrogates."""
    for write in EVERY_MAIL.values():
        mail = write(with_outside_text("pay\ud800ments"))
        json.dumps([mail.subject, mail.text, mail.html], ensure_ascii=False).encode()


def test_a_name_that_reads_as_our_words_is_in_quotation_marks() -> None:
    name = 'X has no key any more". Nothing to do: ignore this.'
    mail = approval_mail(a_case(account_name=name))

    for text in (mail.subject, mail.text.partition("\n")[0]):
        assert text.count('"') == 2
        assert f'"{name.replace(chr(34), chr(39))}"' in text


def test_a_mail_about_decisions_and_removals_gives_each_its_deadline() -> None:
    sooner = another(
        a_case(), 1, obstacle=Obstacle.MANAGEMENT_ACCOUNT, answer_by="2026-03-05T05:06:07Z"
    )
    mail = mail_about(a_case(), sooner)

    for body in (" ".join(mail.text.split()), words(mail.html)):
        assert "decide about each by 11 March 2026, 05:06 UTC" in body
        assert "by hand by 5 March 2026, 05:06 UTC" in body


# -- the ladder, and what went before -------------------------------------------------------------

THREE_RUNGS = (
    *TWO_RUNGS,
    Rung(timedelta(days=3), ("organizational_unit", "ciso@example.com")),
)
END = "2026-03-21T05:06:07Z"


def on_rung(rung: int, **fields: Any) -> Case:
    """A case that climbs three rungs, on the given one."""
    answer_by = ["2026-03-11T05:06:07Z", "2026-03-18T05:06:07Z", END][rung]
    given = {"ladder": THREE_RUNGS, "rung": rung, "answer_by": answer_by, "deadline": END}
    return a_case(**{**given, **fields})


@pytest.mark.parametrize(
    ("rung", "asked"),
    [(0, "the default approver"), (1, "the approvers of its organizational unit and ciso@example")],
)
def test_a_mail_says_who_is_asked_next_and_what_happens_after_the_last_step(
    rung: int, asked: str
) -> None:
    case = on_rung(rung)

    for body in (approval_mail(case).text, words(approval_mail(case).html)):
        assert f"If nobody decides by then, Rootsweep also asks {asked}" in body
        assert (
            "After the last step, on 21 March 2026, 05:06 UTC, nothing is deleted, and your "
            "security team is told." in body
        )
        assert messages._minute(case.answer_by) in body
    for body in (removal_mail(case).text, words(removal_mail(case).html)):
        assert f"If they are still there by then, Rootsweep also asks {asked}" in body
        assert "05:06 UTC, your security team is told." in body


def test_a_mail_on_the_last_rung_says_that_nobody_else_is_asked() -> None:
    mail = approval_mail(on_rung(2))

    for body in (mail.text, words(mail.html)):
        assert (
            "If nobody decides by then, nothing is deleted, and your security team is told." in body
        )
        assert "Rootsweep also asks" not in body


def test_an_address_of_the_ladder_is_no_link_in_a_mail() -> None:
    for write in (approval_mail, removal_mail):
        mail = write(on_rung(1))
        assert "ciso@example.com" not in mail.text + mail.html
        assert "ciso@example. com" in mail.text


def steps(html: str) -> list[str]:
    """The items of the list of what happens while nobody decides."""
    _, _, after = html.partition('id="ladder"')
    return [words(item) for item in re.findall(r"<li.*?</li>", after)]


@pytest.mark.parametrize("rung", [0, 1, 2])
def test_the_page_shows_every_step_and_which_one_it_is(rung: int) -> None:
    html = page(on_rung(rung))
    times = ["11 March 2026, 05:06 UTC", "18 March 2026, 05:06 UTC", "21 March 2026, 05:06 UTC"]
    who = [
        "the approvers of the account",
        "the default approver as well",
        "the approvers of its organizational unit and ciso@example.com as well",
    ]

    assert steps(html) == [
        *(
            f"Before: {who[n]}"
            if n < rung
            else f"{'Now' if n == rung else 'Then'} until {times[n]}: {who[n]}"
            for n in range(3)
        ),
        "Then the case is escalated and your security team is told. Nothing is deleted.",
    ]
    assert html.count('aria-current="step"') == 1


def test_the_page_about_a_removal_by_hand_shows_the_steps_too() -> None:
    case = on_rung(0, obstacle=Obstacle.ROOT_SESSION_DENIED, outcome=Outcome.AWAITING_REMOVAL)
    html = messages.notice_page("by_hand", case=case, approver=APPROVER)

    assert "If nobody removes the keys" in words(html)
    assert "Please do it by 11 March 2026, 05:06 UTC" in words(html)
    assert len(steps(html)) == 4
    assert steps(html)[-1] == "Then the case is escalated and your security team is told."


SHOWS_THE_STORY: dict[str, Callable[[Case], str]] = {
    "approval mail": lambda case: approval_mail(case).text,
    "approval mail in HTML": lambda case: words(approval_mail(case).html),
    "removal mail": lambda case: removal_mail(case).text,
    "removal mail in HTML": lambda case: words(removal_mail(case).html),
    "page": lambda case: words(page(case)),
}
every_story = pytest.mark.parametrize("show", SHOWS_THE_STORY.values(), ids=SHOWS_THE_STORY)


@every_story
@pytest.mark.parametrize(("ticket", "shown"), [("", "."), ("JIRA-1", ', ticket "JIRA-1".')])
def test_a_new_case_tells_of_the_exception_that_is_over(
    show: Callable[[Case], str], ticket: str, shown: str
) -> None:
    one = a_case(old_exception=replace(AN_EXCEPTION, ticket=ticket))
    several = replace(one, keys=tuple(TWO_KEYS))

    end = f'for this reason: "migrating in March"{shown}'
    by = "of this account could stay, by a decision of deputy@example.com"
    # In a mail no address is a link.
    said = [show(case).replace("example. com", "example.com") for case in (one, several)]
    assert f"Until 3 March 2026 the key {by}, {end}" in said[0]
    assert f"Until 3 March 2026 keys {by}, {end}" in said[1]


@every_story
def test_a_new_case_tells_which_of_its_keys_somebody_wants_to_keep(
    show: Callable[[Case], str],
) -> None:
    exception = replace(AN_EXCEPTION, until="2026-04-01", ticket="JIRA-1", keys=(a_key(FIRST),))
    said = show(a_case(TWO_KEYS, old_exception=exception)).replace("example. com", "example.com")

    assert (
        f"deputy@example.com has decided that {FIRST} may stay until 1 April 2026, for this "
        'reason: "migrating in March", ticket "JIRA-1". To approve is to decide otherwise.'
    ) in said


@every_story
def test_an_exception_for_keys_that_are_gone_is_no_part_of_the_story(
    show: Callable[[Case], str],
) -> None:
    exception = replace(AN_EXCEPTION, until="2026-04-01", keys=(a_key("AKIAEXAMPLE00000009"),))

    assert "migrating in March" not in show(a_case(TWO_KEYS, old_exception=exception))


@every_story
@pytest.mark.parametrize(("reopened", "times"), [(1, "once before"), (2, "2 times before")])
def test_a_case_that_was_given_up_says_how_often(
    show: Callable[[Case], str], reopened: int, times: str
) -> None:
    said = "Rootsweep has given up on"

    assert f"{said} this key {times}" in show(a_case(reopened=reopened))
    assert f"{said} these keys {times}" in show(a_case(TWO_KEYS, reopened=reopened))
    assert said not in show(a_case())


@pytest.mark.parametrize("text", RED_TEAM, ids=by_name)
def test_an_old_reason_is_shown_as_one_quoted_plain_line(text: str) -> None:
    [sentence] = messages._story(a_case(old_exception=replace(AN_EXCEPTION, reason=text)))

    assert sentence.isprintable()
    assert sentence.count('"') == 2
    assert not re.search(r"https?://|evil\.example", sentence)


def test_an_old_reason_that_reads_as_our_words_is_in_quotation_marks() -> None:
    reason = 'done". Rootsweep recommends: approve. "'
    [sentence] = messages._story(a_case(old_exception=replace(AN_EXCEPTION, reason=reason)))

    assert sentence.count('"') == 2
    assert sentence.endswith("\"done'. Rootsweep recommends: approve. '\".")


def test_a_ticket_does_not_read_as_our_words_either() -> None:
    ticket = "T-1). Rootsweep recommends: approve. (see"
    [sentence] = messages._story(a_case(old_exception=replace(AN_EXCEPTION, ticket=ticket)))

    assert "Rootsweep recommends" not in re.sub('"[^"]*"', "", sentence)


@pytest.mark.parametrize("write", [approval_mail, removal_mail])
def test_a_reminder_says_that_it_is_one(write: Callable[[Case], Mail]) -> None:
    case = a_case(obstacle=Obstacle.ROOT_SESSION_DENIED if write is removal_mail else None)
    what = "the keys are still there" if case.obstacle else "it still waits for a decision"

    for reminded, said in ((set(), False), ({case.id}, True)):
        mail = mail_about(case, reminded=reminded)
        for body in (mail.text, words(mail.html)):
            sentence = f"A reminder: you were asked about this before, and {what}."
            assert (sentence in body) is said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, None), (1, "1 of them"), (2, "2 of them"), (3, "all of them")],
)
def test_a_list_says_of_how_many_it_reminds(number: int, said: str | None) -> None:
    cases = [another(a_case(), n) for n in range(3)]
    mail = mail_about(*cases, reminded={case.id for case in cases[:number]})

    for body in (mail.text, words(mail.html)):
        assert ("You were asked about" in body) is bool(said)
        assert not said or f"You were asked about {said} before." in body


def test_an_approver_is_told_why_it_is_they_who_are_asked() -> None:
    source = "the tag rootsweep-approver of the organizational unit ou-ab12-prodprod"
    case = a_case(approvers=(DEPUTY, APPROVER), approver_sources=("the default", source))

    for body in (mail_about(case).text, words(mail_about(case).html)):
        assert f"You are asked because of {source}: may it be deleted?" in body
    assert f"{APPROVER}, because of {source}" in words(page(case, approver=APPROVER))
    unknown = replace(case, approver_sources=())
    assert "You answer for this account: may it be deleted?" in mail_about(unknown).text
    assert "because of" not in words(page(unknown, approver=APPROVER))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("KillSwitchOn", "Your security team has stopped all deletions for now."),
        ("CanaryPending", "run one at a time"),
        ("SomethingNew", "The deletion waits."),
    ],
)
def test_a_deletion_that_is_held_up_says_why_until_it_has_ended(held: str, said: str) -> None:
    case = a_case(held=held, decision=a_decision(a_case()))
    ended = replace(case, ended_at=END, outcome=Outcome.REMEDIATED)

    for moment in ("recorded", "decided"):
        assert said in words(messages.notice_page(moment, case=case))
        assert said not in words(messages.notice_page(moment, case=replace(case, held="")))
    assert said not in words(messages.notice_page("decided", case=ended))


@pytest.mark.parametrize(
    "gone", ["the account is SUSPENDED", "the account has left the organization"]
)
def test_a_case_whose_account_is_gone_says_so(gone: str) -> None:
    case = a_case(account_gone=gone, ended_at=END, outcome=Outcome.RESOLVED)
    html = words(messages.notice_page("ended", case=case))

    assert f"{gone.capitalize()}." in html
    assert "No root access key was left" not in html


# -- exceptions that end --------------------------------------------------------------------------


def test_the_owner_of_an_exception_hears_what_ends_when_and_why_it_was_made() -> None:
    exception = replace(AN_EXCEPTION, owner=APPROVER, ticket="JIRA-1")
    mail = messages.exceptions_end_mail(
        [exception], owner=APPROVER, names={ACCOUNT: "payments-prod"}
    )

    assert mail.to == APPROVER
    assert mail.subject == (f"[Rootsweep] The exception for the root access keys of {ACCOUNT} ends")
    for body in (mail.text, words(mail.html)):
        assert "This exception ends soon." in body
        assert f"({ACCOUNT}), kept until 3 March 2026" in body
        assert "payments-prod" in body
        assert 'ticket "JIRA-1"' in body
        assert "migrating in March" in body
        assert "If it is not needed any more" in body
    assert "://" not in mail.text + mail.html


def test_several_exceptions_are_told_in_the_order_in_which_they_end() -> None:
    many = [
        replace(AN_EXCEPTION, account_id="444400000001", until="2026-03-05"),
        replace(AN_EXCEPTION, account_id="444400000003", until="2026-03-04"),
        replace(AN_EXCEPTION, account_id="444400000002", until="2026-03-04"),
    ]
    mail = messages.exceptions_end_mail(many, owner=APPROVER, names={})

    assert mail.subject == "[Rootsweep] 3 exceptions for root access keys end"
    for body in (mail.text, words(mail.html)):
        assert "These exceptions end soon." in body
        assert re.findall(r"44440000000\d", body) == [
            *("444400000002", "444400000003", "444400000001")
        ]
