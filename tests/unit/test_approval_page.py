from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlencode

import approval_page
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from rootsweep import approvals, approvers, cases, messages
from rootsweep.cases import Answer, Case, Obstacle, Outcome
from rootsweep.console import execution_link
from rootsweep.escalation import Rung
from rootsweep.exceptions import AccountException
from rootsweep.root_access import fingerprint
from rootsweep.table import approver_key, iso, link_key, request_key

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    HOSTILE,
    LATER,
    NOW,
    ONE_PERSON,
    SECOND,
    THIRD,
    TWO_PEOPLE,
    TWO_RUNGS,
    a_decision,
    a_key,
    a_waiting_case,
    an_error,
    asked,
    contents,
    end_case,
    item_of,
    with_link,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECRET, OTHER_SECRET = "a-secret", "the-other-secret"
# "a-token" is the task token of every case here.
EXECUTION = re.compile(r'href="https://eu-west-1\.console\.aws\.amazon\.com/states/home[^"]+"')
NEVER_SHOWN = (SECRET, OTHER_SECRET, "a-token", "Traceback", "arn:aws")
OTHER_METHODS = ["PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "post", "options", "", None]
STRICT_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
VOID = {"br", "input", "meta"}
MOST_BYTES = 30_000
FULL = 15


class Reply(NamedTuple):
    status: int
    page: str
    headers: dict[str, str]


@dataclass
class Form:
    """What a browser would send: the fields as they are shown, and the buttons to choose from."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    boxes: dict[str, bool] = field(default_factory=dict)
    buttons: list[str] = field(default_factory=list)

    def sent(self, button: str, typed: dict[str, str], ticked: Iterable[str] = ()) -> str:
        """The body after typing, ticking the boxes of these cases and pressing a button."""
        assert button in self.buttons
        assert set(typed) <= {name for name, _ in self.fields}
        boxes = [box for box in self.boxes if box.partition(".")[0] in set(ticked)]
        assert len(boxes) == len(set(ticked))
        shown = [(name, typed.get(name, value)) for name, value in self.fields]
        return urlencode([*shown, *(("case", box) for box in boxes), ("decision", button)])


class Page(HTMLParser):
    """A page as a browser has it; one that is badly made is refused."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.forms: list[Form] = []
        self.texts: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._textarea = ""
        self.feed(html)
        self.close()
        assert self._open == []
        self._is_well_made(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs)
        self.elements.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "form":
            self.forms.append(Form())
        elif tag == "input" and given.get("type") == "checkbox":
            self.forms[-1].boxes[given["value"]] = "checked" in given
        elif tag == "input":
            self.forms[-1].fields.append((given["name"], given["value"]))
        elif tag == "button":
            assert given["name"] == "decision"
            self.forms[-1].buttons.append(given["value"])
        elif tag == "textarea":
            self._textarea = given["name"]
            self.forms[-1].fields.append((self._textarea, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        self.texts[inside] = self.texts.get(inside, "") + data
        if inside == "textarea":
            name, before = self.forms[-1].fields[-1]
            self.forms[-1].fields[-1] = (name, before + data)
        if inside != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def heading(self) -> str:
        return self.texts["h1"]

    @property
    def links(self) -> list[str]:
        """Where the links to other pages lead."""
        links = [link["href"] for link in self.all("a")]
        return [link for link in links if not link.startswith("#")]

    @property
    def boxes(self) -> list[str]:
        """The cases that can be ticked."""
        return [box.partition(".")[0] for form in self.forms for box in form.boxes]

    @property
    def ticked(self) -> list[str]:
        return [
            box.partition(".")[0] for form in self.forms for box, on in form.boxes.items() if on
        ]

    def typed(self, name: str) -> list[str]:
        """What each field with this name holds."""
        return [value for form in self.forms for each, value in form.fields if each == name]

    def _is_well_made(self, html: str) -> None:
        assert html.startswith("<!DOCTYPE html>")
        assert self.all("html") == [{"lang": "en"}]
        assert len(self.all("h1")) == len(self.all("main")) == len(self.all("title")) == 1
        assert self.texts["h1"].strip()
        assert self.texts["title"].removeprefix("Error: ").startswith(self.texts["h1"])
        assert not {"script", "img", "link", "iframe", "object", "base"} & {
            name for name, _ in self.elements
        }
        attributes = {name for _, given in self.elements for name in given}
        assert not {"style", "src", "srcset", "action", "formaction"} & attributes
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in self.texts["style"]
        assert "@import" not in self.texts["style"]
        assert all(form == {**form, "method": "post"} for form in self.all("form"))
        ids = [given["id"] for _, given in self.elements if "id" in given]
        assert len(ids) == len(set(ids))
        assert all(
            link["href"].startswith(("?", "#")) or EXECUTION.fullmatch(f'href="{link["href"]}"')
            for link in self.all("a")
        )
        labels = [label["for"] for label in self.all("label")]
        assert len(labels) == len(set(labels))
        fields = [each for each in self.all("input") if each.get("type") != "hidden"]
        assert {each["id"] for each in [*fields, *self.all("textarea")]} == set(labels)
        for name in ("aria-describedby", "aria-labelledby"):
            assert {given[name] for _, given in self.elements if name in given} <= set(ids)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """It is NOW until a test says otherwise."""

    def is_now(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:
                assert tz
                return moment

        monkeypatch.setattr(approval_page, "datetime", Clock)

    is_now(NOW)
    return is_now


@pytest.fixture
def case(table: Any) -> Case:
    """A case that waits, with a link to it."""
    return with_link(table, a_waiting_case(table))


@pytest.fixture
def three(table: Any) -> list[Case]:
    """Three cases that wait, with a link to them."""
    return several(table, 3)


def several(table: Any, number: int, **given: Any) -> list[Case]:
    """So many cases that wait, with a link to all of them."""
    ids = [f"44440000{n:04}" for n in range(number)]
    if not ids:
        return []
    account = {"id": ids[0], "name": f"{ids[0]}-name", **given}
    first = with_link(table, a_waiting_case(table, **account))
    items = [item for item in contents(table) if ids[0] in str(item)]
    # To ask about each would take most of the time of these tests.
    with table.batch_writer() as batch:
        for id in ids[1:]:
            for item in items:
                copy = replaced(item, ids[0], id)
                if "fingerprint" in copy:
                    copy["fingerprint"] = fingerprint(id, first.keys)
                batch.put_item(Item=copy)
    return [cases.load(table, case_id=replaced(first.id, ids[0], id)) for id in ids]


def replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {name: replaced(each, old, new) for name, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, old, new) for each in value]
    return value


def an_event(
    method: str | None, body: str | None = None, link: str | None = SECRET, **more: Any
) -> dict[str, Any]:
    return {"httpMethod": method, "pathParameters": {"link": link}, "body": body, **more}


def reply_to(event: dict[str, Any]) -> Reply:
    """What the function answers; every answer is checked for what has to be true of all."""
    answer = approval_page.handler(event, None)
    status, body, headers = answer["statusCode"], answer["body"], answer["headers"]

    extra = set(headers) - set(STRICT_HEADERS) - {"Content-Security-Policy"}
    assert headers == {**headers, **STRICT_HEADERS}
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"} <= set(policy)
    assert extra == (
        {"Allow"} if status in (204, 405) else {"Retry-After"} if status == 503 else set()
    )
    for secret in NEVER_SHOWN:
        assert secret not in EXECUTION.sub("", body)
    assert len(body.encode()) < MOST_BYTES
    if event.get("httpMethod") in ("HEAD", "OPTIONS"):
        assert body == ""
    else:
        Page(body)
    return Reply(status, body, headers)


def ask(
    method: str | None,
    body: str | dict[str, str] | None = None,
    link: str | None = SECRET,
    query: dict[str, str] | None = None,
) -> tuple[int, str]:
    text = urlencode(body) if isinstance(body, dict) else body
    reply = reply_to(an_event(method, text, link, queryStringParameters=query))
    return reply.status, reply.page


def case_field(case: Case, secret: str = SECRET) -> str:
    return f"{case.id}.{approvals.page_token(secret, case)}"


def approving(case: Case, secret: str = SECRET, /, **fields: str) -> dict[str, str]:
    """The form that approves one case."""
    return {
        "case": case_field(case, secret),
        "decision": "approve",
        "account_id": case.account_id,
        **fields,
    }


def declining(case: Case, secret: str = SECRET, /, **fields: str) -> dict[str, str]:
    """The form that declines one case."""
    return {
        "case": case_field(case, secret),
        "decision": "decline",
        "reason": "migrating",
        "until": "2026-04-01",
        **fields,
    }


def approving_all(chosen: Iterable[Case], secret: str = SECRET, **fields: str) -> str:
    """The form of the list that approves these cases."""
    fields_of_cases = [("case", case_field(case, secret)) for case in chosen]
    given = {"count": str(len(fields_of_cases)), "reason": "", "until": "", **fields}
    return urlencode([*fields_of_cases, *given.items(), ("decision", "approve")])


def declining_all(chosen: Iterable[Case], **fields: str) -> str:
    """The form of the list that declines these cases."""
    given = {"count": "", "reason": "migrating", "until": "2026-04-01", **fields}
    return urlencode(
        [*(("case", case_field(case)) for case in chosen), *given.items(), ("decision", "decline")]
    )


def now_in(table: Any, case: Case) -> Case:
    return cases.load(table, case_id=case.id)


def answers(table: Any, all_cases: Iterable[Case]) -> list[Answer | None]:
    decisions = [now_in(table, case).decision for case in all_cases]
    return [decision.answer if decision else None for decision in decisions]


# -- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_changes_nothing_whatever_form_and_query_come_with_it(
    table: Any, method: str, number: int
) -> None:
    waiting = several(table, number)
    ended = with_link(table, a_waiting_case(table))
    end_case(table, ended.id, Outcome.RESOLVED, reason="")
    before = contents(table)

    for case in [*waiting, ended]:
        for form in (urlencode(approving(case)), urlencode(declining(case)), approving_all([case])):
            fields = {name: values[0] for name, values in parse_qs(form).items()}
            for query in (None, fields, {"case": case.id}, {"after": case.id}):
                status, _ = ask(method, form, query=query)
                assert status in ((204,) if method == "OPTIONS" else (200, 404))

    assert contents(table) == before


def test_opening_a_link_any_number_of_times_leaves_the_case_as_it_is(
    table: Any, case: Case
) -> None:
    before = contents(table)

    pages = {ask("GET")[1] for _ in range(20)}

    assert len(pages) == 1
    assert contents(table) == before
    assert now_in(table, case).is_decidable


@pytest.mark.parametrize("method", OTHER_METHODS)
@pytest.mark.parametrize("link", [SECRET, "unknown"])
def test_other_methods_do_nothing_and_are_told_which_there_are(
    table: Any, case: Case, method: str | None, link: str
) -> None:
    before = contents(table)

    for form in (approving(case), declining(case)):
        reply = reply_to(
            an_event(method, urlencode(form), link, queryStringParameters=approving(case))
        )
        assert reply.status == 405
        assert reply.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
        assert case.account_name not in reply.page

    assert contents(table) == before


@pytest.mark.parametrize("link", [SECRET, "unknown", "", None])
def test_options_says_what_can_be_done_and_not_whether_there_is_a_link(
    case: Case, link: str | None
) -> None:
    reply = reply_to(an_event("OPTIONS", urlencode(approving(case)), link))

    assert (reply.status, reply.page) == (204, "")
    assert reply.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("link", [SECRET, "unknown", OTHER_SECRET])
@pytest.mark.parametrize("query", [None, {"case": "x"}, {"after": "4"}])
def test_an_answer_to_head_has_the_head_of_the_page_and_no_body(
    table: Any, case: Case, link: str, query: dict[str, str] | None
) -> None:
    with_link(table, case, secret=OTHER_SECRET, expires_at=NOW - timedelta(1))
    got, headed = (
        approval_page.handler(an_event(method, None, link, queryStringParameters=query), None)
        for method in ("GET", "HEAD")
    )

    assert headed == {**got, "body": ""}
    assert got["body"]


# -- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "link",
    [
        "",
        None,
        "unknown",
        "A-SECRET",
        "a-secret ",
        "a-secret\x00",
        "../x",
        "x" * 50_000,
        "\ud800",
        "ä",
    ],
    ids=ascii,
)
def test_behind_an_unknown_link_there_is_nothing(
    table: Any, case: Case, method: str, link: str | None
) -> None:
    before = contents(table)

    for query in (None, {"case": case.id}):
        status, page = ask(method, approving(case), link=link, query=query)
        assert status == 404
        assert case.account_id not in page

    assert contents(table) == before


def test_the_hash_of_a_link_opens_nothing(table: Any, case: Case) -> None:
    stored = link_key(SECRET)["pk"]

    for link in (stored, stored.removeprefix("LINK#")):
        assert ask("POST", approving(case, link), link=link)[0] == 404
    assert SECRET not in str(contents(table))


@pytest.mark.parametrize("parameters", [None, {}, {"other": SECRET}])
def test_a_request_without_a_path_is_no_link(case: Case, parameters: Any) -> None:
    event = {"httpMethod": "POST", "pathParameters": parameters, "body": urlencode(approving(case))}

    assert reply_to(event).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_expired_link_shows_and_decides_nothing(table: Any, case: Case, method: str) -> None:
    with_link(table, case, expires_at=NOW - timedelta(seconds=1))
    before = contents(table)

    for query in (None, {"case": case.id}):
        status, page = ask(method, approving(case), query=query)
        assert status == 410
        assert case.account_id not in page
        assert APPROVER not in page
    # Not even what is wrong with the form.
    assert ask("POST", "x" * 50_000)[0] == ask("POST", "nonsense")[0] == 410

    assert contents(table) == before


def test_a_link_is_good_to_its_last_second(
    table: Any, case: Case, clock: Callable[[datetime], None]
) -> None:
    with_link(table, case, expires_at=LATER)

    clock(LATER)
    assert ask("GET")[0] == 200
    clock(LATER + timedelta(seconds=1))
    assert ask("GET")[0] == 410


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_revoked_link_opens_nothing_and_does_not_say_that_nothing_waits(
    table: Any, case: Case, method: str
) -> None:
    key = approver_key(APPROVER.upper())
    table.put_item(Item={**key, "links_valid_from": iso(NOW + timedelta(seconds=1))})
    before = contents(table)

    status, page = ask(method, approving(case), query={"case": case.id})

    assert status == 410
    assert case.account_id not in page
    assert "nothing waits" not in page
    assert contents(table) == before


def test_a_link_made_after_the_others_were_revoked_is_good(
    table: Any, case: Case, clock: Callable[[datetime], None]
) -> None:
    table.put_item(Item={**approver_key(APPROVER), "links_valid_from": iso(LATER)})
    clock(LATER)
    with_link(table, case, secret=OTHER_SECRET, now=LATER)

    assert ask("GET")[0] == 410
    assert ask("POST", approving(case, OTHER_SECRET), link=OTHER_SECRET)[0] == 200
    assert now_in(table, case).decision


def test_a_link_does_not_open_what_its_approver_was_asked_later(
    table: Any, clock: Callable[[datetime], None]
) -> None:
    earlier = with_link(table, a_waiting_case(table))
    clock(LATER)
    later = a_waiting_case(table, id="555555555555", name="later-name", now=LATER)
    with_link(table, later, secret=OTHER_SECRET, now=LATER)
    before = contents(table)

    assert later.account_name not in ask("GET")[1]
    for query in ({"case": later.id}, {"case": earlier.id}, {"after": earlier.id}, {"after": "0"}):
        status, page = ask("GET", query=query)
        assert status == (404 if query.get("case") == later.id else 200)
        assert later.account_id not in page
    for form in (approving(later), declining(later), approving(later, OTHER_SECRET)):
        assert ask("POST", form)[0] == 404
    assert ask("POST", approving_all([later]))[0] == 404
    assert contents(table) == before

    assert Page(ask("GET", link=OTHER_SECRET)[1]).boxes == [earlier.id, later.id]


def test_a_second_mail_leaves_the_link_of_the_first_as_good_as_it_was(
    table: Any, case: Case
) -> None:
    with_link(table, case, secret=OTHER_SECRET, now=LATER)

    assert ask("POST", approving(case))[0] == 200
    assert now_in(table, case).decision


# -- one case -------------------------------------------------------------------------------------


def test_the_page_shows_the_evidence_and_forms_that_count(table: Any, case: Case) -> None:
    page = Page(ask("GET")[1])
    approve, decline = page.forms

    assert page.heading == "May this root access key be deleted?"
    for word in (case.keys[0].id, APPROVER, "payments-prod", ACCOUNT, "Workloads/Prod", case.id):
        assert word in page.text
    assert "11 March 2026, 05:06 UTC" in page.text
    assert (approve.buttons, decline.buttons) == (["approve"], ["decline"])
    assert ask("POST", approve.sent("approve", {"account_id": ACCOUNT}))[0] == 200
    assert answers(table, [case]) == [Answer.APPROVED]


def test_the_other_form_keeps_the_keys(table: Any, case: Case) -> None:
    form = Page(ask("GET")[1]).forms[1]

    typed = {"reason": "migrating", "until": "2026-04-01"}
    assert ask("POST", form.sent("decline", typed))[0] == 200
    assert answers(table, [case]) == [Answer.DECLINED]


def test_an_approval_is_recorded_with_who_when_and_what(table: Any, case: Case) -> None:
    before = item_of(table, case)

    status, page = ask("POST", approving(case))

    decision = now_in(table, case).decision
    assert status == 200
    assert Page(page).heading == "Your decision is recorded"
    assert decision == a_decision(case, at="2026-03-04T05:06:07Z")
    added = {"answered", "decision", "decided", "approvals"}
    assert {name for name, value in item_of(table, case).items() if before.get(name) != value} == (
        added
    )


def test_declining_is_recorded_with_reason_and_end(table: Any, case: Case) -> None:
    status, page = ask("POST", declining(case))

    decision = now_in(table, case).decision
    assert status == 200
    assert "After 2026-04-01 Rootsweep asks again" in page
    assert decision
    assert (decision.answer, decision.by, decision.reason, decision.until) == (
        Answer.DECLINED,
        APPROVER,
        "migrating",
        "2026-04-01",
    )


@pytest.mark.parametrize("typed", ["3333-3333-3333", " 333333333333 "])
def test_the_account_id_may_be_typed_as_aws_writes_it(table: Any, case: Case, typed: str) -> None:
    assert ask("POST", approving(case, account_id=typed))[0] == 200
    assert now_in(table, case).decision


def test_a_form_in_base64_is_a_form_too(table: Any, case: Case) -> None:
    body = base64.b64encode(urlencode(approving(case)).encode()).decode()

    assert reply_to(an_event("POST", body, isBase64Encoded=True)).status == 200
    assert now_in(table, case).decision


def test_nobody_can_decide_in_the_name_of_somebody_else(table: Any, case: Case) -> None:
    form = approving(case, by=DEPUTY, approver=DEPUTY, link=OTHER_SECRET)

    assert ask("POST", form)[0] == 200
    decision = now_in(table, case).decision
    assert decision
    assert decision.by == APPROVER


def test_a_second_click_repeats_nothing_and_says_what_was_decided(table: Any, case: Case) -> None:
    ask("POST", approving(case))
    before = contents(table)

    for form in (approving(case), declining(case)):
        status, page = ask("POST", form)
        assert status == 409
        assert "Deletion was approved" in page
    assert ask("GET")[0] == 200

    assert contents(table) == before


def test_of_two_decisions_at_once_the_first_stays(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = with_link(table, a_waiting_case(table, approvers=[APPROVER, DEPUTY]))
    meanwhile(
        monkeypatch,
        lambda: cases.decide(
            table, case=case, decision=a_decision(case, Answer.DECLINED, by=DEPUTY)
        ),
    )

    status, page = ask("POST", approving(case))

    assert status == 409
    assert Page(page).heading == "This has been decided"
    assert DEPUTY in page
    assert answers(table, [case]) == [Answer.DECLINED]


@pytest.mark.parametrize(
    ("is_asked", "heading"),
    [(True, "This page is out of date"), (False, "This case is not ready for a decision yet")],
)
def test_a_decision_that_new_evidence_overtook_is_not_recorded(
    table: Any, case: Case, monkeypatch: pytest.MonkeyPatch, is_asked: bool, heading: str
) -> None:
    meanwhile(monkeypatch, lambda: gather_anew(table, case, is_asked=is_asked))

    status, page = ask("POST", approving(case))

    assert status == 409
    assert Page(page).heading == heading
    assert answers(table, [case]) == [None]


def test_a_decision_that_the_end_of_the_wait_overtook_is_not_recorded(
    table: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, lambda: cases.close_to_decisions(table, case_id=case.id, now=LATER))

    assert ask("POST", approving(case))[0] == 409
    assert answers(table, [case]) == [None]


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Something happens after the page has read the case and before it records the decision."""
    decide = cases.decide

    def decide_late(*args: Any, **given: Any) -> Case:
        monkeypatch.setattr(cases, "decide", decide)
        act()
        return decide(*args, **given)

    monkeypatch.setattr(cases, "decide", decide_late)


def gather_anew(table: Any, case: Case, *, is_asked: bool = True, **given: Any) -> None:
    """Two keys are found instead of one, and the same people are asked anew."""
    evidence = {"keys": [a_key(), a_key(SECOND)], "quorum": ONE_PERSON, "now": LATER, **given}
    cases.record_evidence(table, case=now_in(table, case), **evidence)
    if is_asked:
        asked(table, now_in(table, case), *case.approvers)


def test_a_decision_after_the_close_is_refused(table: Any, case: Case) -> None:
    cases.close_to_decisions(table, case_id=case.id, now=LATER)
    before = contents(table)

    assert ask("POST", approving(case))[0] == 409
    assert ask("POST", declining(case))[0] == 409
    assert contents(table) == before


@pytest.mark.parametrize(
    "given", [{}, {"keys": [a_key()], "quorum": TWO_PEOPLE}], ids=["other keys", "higher quorum"]
)
def test_a_page_from_before_new_evidence_decides_nothing(
    table: Any, case: Case, given: dict[str, Any]
) -> None:
    old = Page(ask("GET")[1]).forms
    gather_anew(table, case, **given)
    before = contents(table)

    for form in (
        old[0].sent("approve", {"account_id": ACCOUNT}),
        old[1].sent("decline", {"reason": "r", "until": "2026-04-01"}),
        approving_all([case]),
    ):
        status, _ = ask("POST", form)
        assert status == 409
    assert "This page is out of date" in ask("POST", approving(case))[1]

    assert contents(table) == before


def test_a_page_from_before_a_removal_by_hand_decides_nothing_after_it(
    table: Any, case: Case
) -> None:
    form = approving(case)
    asked(table, now_in(table, case), obstacle=Obstacle.ROOT_SESSION_DENIED)

    assert ask("POST", form)[0] == 409
    asked(table, now_in(table, case))
    status, page = ask("POST", form)
    assert (status, Page(page).heading) == (409, "This page is out of date")
    assert answers(table, [case]) == [None]


def test_a_token_of_another_case_or_another_link_decides_nothing(table: Any, case: Case) -> None:
    other = with_link(table, a_waiting_case(table, id="555555555555"))
    with_link(table, case, secret=OTHER_SECRET)
    before = contents(table)

    for token in (
        approvals.page_token(SECRET, other),
        approvals.page_token(OTHER_SECRET, case),
        approvals.page_token("", case),
        approvals.page_token(SECRET, case).upper(),
        approvals.page_token(SECRET, case)[:-1],
        approvals.page_token(SECRET, case) + "0",
        case.fingerprint,
        "",
    ):
        for form in (
            approving(case, case=f"{case.id}.{token}"),
            declining(case, case=f"{case.id}.{token}"),
            {**approving(case, case=f"{case.id}.{token}"), "count": "1"},
        ):
            assert ask("POST", form)[0] == 409

    assert contents(table) == before


@pytest.mark.parametrize("form", [approving, declining])
def test_a_form_without_a_case_is_not_understood(
    table: Any, case: Case, form: Callable[[Case], dict[str, str]]
) -> None:
    fields = form(case)
    del fields["case"]
    before = contents(table)

    assert ask("POST", fields)[0] == 400
    assert contents(table) == before


def test_a_form_with_two_cases_and_no_count_is_not_understood(
    table: Any, three: list[Case]
) -> None:
    before = contents(table)

    body = f"{urlencode(approving(three[0]))}&{urlencode({'case': case_field(three[1])})}"

    assert ask("POST", body)[0] == 400
    assert contents(table) == before


@pytest.mark.parametrize(
    "made_up",
    [
        "{id}",
        "{id}\n.{token}",
        " {id}.{token}",
        "{id}..{token}",
        "{id}.{token}.{token}",
        "CASE#{id}.{token}",
        "333333333333-20260304T050608Z.{token}",
        "333333333333.{token}",
        "٣٣٣٣٣٣٣٣٣٣٣٣-20260304T050607Z.{token}",
        ".{token}",
        ".",
        "",
        "x" * 5000,
    ],
    ids=ascii,
)
def test_a_case_id_that_is_malformed_or_of_no_case_is_not_found(
    table: Any, case: Case, made_up: str
) -> None:
    value = made_up.format(id=case.id, token=approvals.page_token(SECRET, case))
    before = contents(table)

    assert ask("POST", approving(case, case=value))[0] == 404
    assert ask("POST", approving(case, case=value, count="1"))[0] == 404
    assert contents(table) == before


@pytest.mark.parametrize(
    "case_id",
    ["x", "333333333333-20260304T050608Z", "333333333333-20260304T050607Z\n", "x" * 5000, "\ud800"],
    ids=ascii,
)
def test_a_page_of_a_case_that_is_not_there_is_not_found(
    table: Any, case: Case, case_id: str
) -> None:
    assert ask("GET", query={"case": case_id})[0] == 404
    assert now_in(table, case).is_decidable


KEPT = {"account_id": "12", "reason": "</textarea><script>&amp;'\"", "until": "2026-04-01"}


@pytest.mark.parametrize(
    ("fields", "words", "invalid"),
    [
        ({"account_id": "333333333334"}, "12 digits", "account_id"),
        ({"account_id": ""}, "12 digits", "account_id"),
        ({"account_id": "٣٣٣٣٣٣٣٣٣٣٣٣"}, "12 digits", "account_id"),
        ({"decision": "maybe"}, "Choose one", None),
        ({"decision": "APPROVE"}, "Choose one", None),
        ({"decision": ""}, "Choose one", None),
        ({"decision": "decline", "reason": " \u200b\n"}, "Say why", "reason"),
        ({"decision": "decline", "until": "2036-01-01"}, "90 days", "until"),
        ({"decision": "decline", "until": "2026-03-04"}, "90 days", "until"),
        ({"decision": "decline", "until": "2026-06-03"}, "90 days", "until"),
        ({"decision": "decline", "until": "tomorrow"}, "Give the date", "until"),
        ({"decision": "decline", "reason": "x" * 1001}, "1000 characters", "reason"),
        ({"decision": "approve", "reason": "x" * 1001}, "1000 characters", "reason"),
    ],
)
def test_a_form_that_says_too_little_is_shown_again_with_what_was_typed(
    table: Any, case: Case, fields: dict[str, str], words: str, invalid: str | None
) -> None:
    before = contents(table)
    form = approving(case, **{**KEPT, **fields})

    status, html = ask("POST", form)

    page = Page(html)
    assert status == 422
    assert words in page.text
    assert page.texts["title"].startswith("Error: ")
    assert "What was found" in page.text
    for name in KEPT:
        assert page.typed(name) == [form[name]]
    marked = [given["name"] for _, given in page.elements if "aria-invalid" in given]
    assert marked == ([invalid] if invalid else [])
    assert contents(table) == before


def test_a_form_without_a_decision_is_shown_again(table: Any, case: Case) -> None:
    form = approving(case)
    del form["decision"]

    status, page = ask("POST", form)
    assert status == 422
    assert "Choose one" in page
    assert answers(table, [case]) == [None]


def test_a_form_that_was_shown_again_counts_when_it_is_right(table: Any, case: Case) -> None:
    form = Page(ask("POST", approving(case, account_id="1"))[1]).forms[0]

    assert ask("POST", form.sent("approve", {"account_id": ACCOUNT}))[0] == 200
    assert now_in(table, case).decision


def test_a_field_that_comes_twice_does_not_count(table: Any, case: Case) -> None:
    before = contents(table)

    for twice in ("decision=decline", "decision=approve", f"account_id={ACCOUNT}"):
        assert ask("POST", f"{urlencode(approving(case))}&{twice}")[0] == 422
    for twice in ("reason=r", "until=2026-04-02"):
        assert ask("POST", f"{urlencode(declining(case))}&{twice}")[0] == 422

    assert contents(table) == before


# -- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "is_base64"),
    [
        ("", False),
        (None, False),
        ("nonsense", False),
        ("&", False),
        ('{"decision": "approve"}', False),
        ("&".join(f"f{n}=1" for n in range(FULL + 11)), False),
        ("case=%ff%fe", False),
        ("case=%ed%a0%80", False),
        ("not base64!", True),
        ("4pyTÄ", True),
        ("YQ", True),
        (base64.b64encode(b"\xff\xfe=1").decode(), True),
        (base64.b64encode(b"").decode(), True),
    ],
)
def test_a_body_that_is_no_form_is_not_understood(
    table: Any, case: Case, body: str | None, is_base64: bool
) -> None:
    before = contents(table)

    reply = reply_to(an_event("POST", body, isBase64Encoded=is_base64))

    assert reply.status == 400
    assert Page(reply.page).heading == "This was not understood"
    assert case.account_id not in reply.page
    assert contents(table) == before


def test_a_huge_body_is_not_even_read(table: Any, case: Case) -> None:
    before = contents(table)
    body = urlencode(approving(case, reason=""))

    for size, status in ((20_480, 422), (20_481, 413), (1_000_000, 413)):
        padded = body.replace("reason=", "reason=" + "x" * (size - len(body)))
        assert len(padded) == size
        assert ask("POST", padded)[0] == status

    assert contents(table) == before


def test_a_form_has_at_most_ten_fields_more_than_cases(table: Any, case: Case) -> None:
    body = urlencode(approving(case))

    assert ask("POST", body + "&x=1" * (FULL + 8))[0] == 400
    assert answers(table, [case]) == [None]
    assert ask("POST", body + "&x=1" * (FULL + 7))[0] == 200


# -- the list -------------------------------------------------------------------------------------


def test_the_list_shows_each_case_with_its_evidence_and_a_box(three: list[Case]) -> None:
    status, html = ask("GET")

    page = Page(html)
    assert status == 200
    assert page.heading == "3 accounts with root access keys wait for you"
    assert page.boxes == [case.id for case in three]
    assert page.ticked == []
    assert page.links == [f"?case={case.id}" for case in three]
    for case in three:
        assert f"{case.account_name} ({case.account_id})" in page.text
    assert page.text.count("created 9 years ago, never used") == 3
    assert "11 March 2026, 05:06 UTC" in page.text


def test_each_of_many_cases_is_on_exactly_one_page(table: Any) -> None:
    many = several(table, 2 * FULL + 5)

    pages = [Page(ask("GET")[1])]
    while following := [link for link in pages[-1].links if link.startswith("?after=")]:
        assert len(following) == 1
        assert len(pages) < 5
        pages.append(Page(ask("GET", query={"after": following[0].removeprefix("?after=")})[1]))

    assert [len(page.boxes) for page in pages] == [FULL, FULL, 5]
    assert [box for page in pages for box in page.boxes] == sorted(case.id for case in many)
    for page, first, last in zip(pages, (1, 16, 31), (15, 30, 35), strict=True):
        assert page.heading == "35 accounts with root access keys wait for you"
        assert f"This page shows {first} to {last} of 35." in page.text


@pytest.mark.parametrize("number", [FULL, FULL + 1, 2 * FULL])
def test_a_full_page_leads_to_another_only_if_there_is_one(table: Any, number: int) -> None:
    several(table, number)

    first = Page(ask("GET")[1])
    second = Page(ask("GET", query={"after": first.boxes[-1]})[1])

    assert any(link.startswith("?after=") for link in first.links) is (number > FULL)
    assert len(second.boxes) == (number - FULL or FULL)
    assert not [link for link in second.links if link.startswith("?after=")]


@pytest.mark.usefixtures("three")
def test_a_list_of_which_all_was_decided_this_very_moment_is_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_many = cases.load_many

    def late(dynamodb: Any, table: Any, ids: Any) -> list[Case]:
        return [replace(case, decided="YES") for case in load_many(dynamodb, table, ids)]

    monkeypatch.setattr(cases, "load_many", late)
    reply = reply_to(an_event("GET"))

    assert reply.status == 200
    assert "<form" not in reply.page
    assert '<a href="?">' in reply.page


@pytest.mark.parametrize("after", ["9", "\uffff", "0", " ", "<script>", "x" * 5000], ids=ascii)
def test_a_place_in_the_list_that_is_none_shows_the_list_all_the_same(
    three: list[Case], after: str
) -> None:
    status, page = ask("GET", query={"after": after})

    assert status == 200
    assert Page(page).boxes == [case.id for case in three]


def test_the_page_of_one_case_of_several_says_how_many_others_wait(
    table: Any, three: list[Case]
) -> None:
    page = Page(ask("GET", query={"case": three[1].id})[1])

    assert three[1].account_id in page.text
    assert three[0].account_id not in page.text
    assert "2 more accounts wait for you" in page.text
    assert page.links == ["?", execution_link(three[1].execution_arn)]
    assert ask("POST", page.forms[0].sent("approve", {"account_id": three[1].account_id}))[0] == 200
    assert answers(table, three) == [None, Answer.APPROVED, None]


def test_several_cases_are_approved_at_once_and_the_others_left_alone(table: Any) -> None:
    five = several(table, 5)
    form = Page(ask("GET")[1]).forms[0]
    chosen = [five[0], five[2], five[4]]
    left = [item_of(table, case) for case in (five[1], five[3])]

    status, html = ask("POST", form.sent("approve", {"count": "3"}, [case.id for case in chosen]))

    page = Page(html)
    assert status == 200
    assert page.heading == "Your decision is recorded"
    assert "You approved the deletion of the keys of 3 accounts" in page.text
    assert "2 more accounts wait for you" in page.text
    for case in five:
        assert (case.account_id in page.text) is (case in chosen)
        expected = a_decision(case, at="2026-03-04T05:06:07Z") if case in chosen else None
        assert now_in(table, case).decision == expected
    assert [item_of(table, case) for case in (five[1], five[3])] == left


def test_several_cases_are_declined_at_once_each_with_reason_and_end(
    table: Any, three: list[Case]
) -> None:
    form = Page(ask("GET")[1]).forms[0]

    typed = {"reason": "migrating", "until": "2026-04-01"}
    status, html = ask("POST", form.sent("decline", typed, [three[0].id, three[1].id]))

    assert status == 200
    assert "You keep the keys of 2 accounts until 2026-04-01" in Page(html).text
    assert answers(table, three) == [Answer.DECLINED, Answer.DECLINED, None]
    for case in three[:2]:
        decision = now_in(table, case).decision
        assert decision
        assert (decision.reason, decision.until) == ("migrating", "2026-04-01")
        assert decision.fingerprint == case.fingerprint


def test_what_happened_meanwhile_to_some_is_told_and_the_others_are_recorded(table: Any) -> None:
    eight = several(table, 8)
    good, superseded, decided, ended, by_hand, not_yours, too_late, unopened = eight
    body = (
        approving_all([*eight, foreign_case(table)])
        + "&"
        + urlencode([("case", "x.y"), ("case", f"777777777777-20260304T050607Z.{'0' * 64}")])
    )
    body = body.replace("count=9", "count=11")
    gather_anew(table, superseded)
    cases.decide(table, case=decided, decision=a_decision(decided, Answer.DECLINED))
    end_case(table, ended.id, Outcome.RESOLVED, reason="")
    asked(table, by_hand, obstacle=Obstacle.ROOT_SESSION_DENIED)
    asked(table, not_yours, DEPUTY)
    cases.close_to_decisions(table, case_id=too_late.id, now=NOW)
    table.delete_item(Key=request_key(APPROVER, unopened.id))
    before = {item["pk"]: item for item in contents(table)}

    status, html = ask("POST", body)

    page = Page(html)
    recorded, _, not_recorded = page.text.partition("Not recorded")
    assert status == 200
    assert page.heading == "Some of your decisions are recorded"
    assert "the keys of 1 account." in recorded
    assert good.account_id in recorded
    for case, words in (
        (superseded, "its evidence has changed since the page was made"),
        (decided, f"deletion declined by {APPROVER} on 4 March 2026"),
        (ended, "its case has ended meanwhile"),
        (by_hand, "somebody has to remove its keys by hand"),
        (not_yours, "somebody else is asked about this account now"),
        (too_late, "the time to decide is over"),
    ):
        assert f"{case.account_name} ({case.account_id}): {words}" in not_recorded
    for hidden in (unopened.account_id, "foreign-name", "777777777777", "x.y"):
        assert hidden not in page.text
    changed = [item["pk"] for item in contents(table) if before.get(item["pk"]) != item]
    changed = [pk for pk in changed if pk.startswith("CASE#")]
    assert changed == [f"CASE#{good.id}"]


def foreign_case(table: Any) -> Case:
    """A case of somebody else, who has a link to it."""
    case = a_waiting_case(table, id="888888888888", name="foreign-name", approvers=[DEPUTY])
    return with_link(table, case, secret=OTHER_SECRET, approver=DEPUTY)


def test_if_nothing_of_several_could_be_recorded_the_page_says_so(
    table: Any, three: list[Case]
) -> None:
    for case in three:
        gather_anew(table, case)
    before = contents(table)

    status, page = ask("POST", approving_all(three))

    assert (status, Page(page).heading) == (409, "Nothing was recorded")
    assert contents(table) == before


@pytest.mark.parametrize(
    ("count", "selected"),
    [("", 2), ("1", 2), ("3", 2), ("02", 2), ("2.0", 2), ("٢", 2), ("two", 2), ("-2", 2), ("0", 2)],
)
def test_a_wrong_count_decides_nothing_and_keeps_the_selection(
    table: Any, three: list[Case], count: str, selected: int
) -> None:
    before = contents(table)
    kept = {"count": count, "reason": "a <reason>", "until": "2026-04-01"}

    status, html = ask("POST", approving_all(three[:selected], **kept))

    page = Page(html)
    assert status == 422
    assert f"You selected {selected}. Type that number" in page.text
    assert page.ticked == [case.id for case in three[:selected]]
    assert page.boxes[: len(page.ticked)] == page.ticked
    for name, value in kept.items():
        assert page.typed(name) == [value]
    assert contents(table) == before


def test_the_count_may_have_spaces_around_it(table: Any, three: list[Case]) -> None:
    assert ask("POST", approving_all(three, count=" 3 "))[0] == 200
    assert answers(table, three) == [Answer.APPROVED] * 3


@pytest.mark.parametrize(("from_that_page", "first"), [(True, 16), (False, 18)])
def test_a_selection_on_a_later_page_is_kept_there(
    table: Any, from_that_page: bool, first: int
) -> None:
    many = several(table, FULL + 5)
    before = contents(table)

    status, html = ask(
        "POST",
        approving_all(many[FULL + 2 : FULL + 4], count="1"),
        query={"after": many[FULL - 1].id} if from_that_page else None,
    )

    assert status == 422
    assert Page(html).ticked == [many[FULL + 2].id, many[FULL + 3].id]
    assert f"This page shows {first} to 20 of 20" in Page(html).text
    assert contents(table) == before


@pytest.mark.parametrize("decision", ["approve", "decline"])
@pytest.mark.parametrize("count", ["0", "", "1"])
def test_without_a_selection_nothing_is_decided(
    table: Any, three: list[Case], decision: str, count: str
) -> None:
    before = contents(table)
    fields = {"count": count, "reason": "r", "until": "2026-04-01", "decision": decision}

    status, html = ask("POST", urlencode(fields))

    assert status == 422
    assert "Select at least one account" in Page(html).text
    assert Page(html).boxes == [case.id for case in three]
    assert contents(table) == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reason": ""}, "Say why"),
        ({"until": ""}, "Give the date"),
        ({"until": "2036-01-01"}, "90 days"),
        ({"reason": "x" * 1001}, "1000 characters"),
    ],
)
def test_declining_several_needs_a_reason_and_an_end(
    table: Any, three: list[Case], fields: dict[str, str], words: str
) -> None:
    before = contents(table)
    typed = {"reason": "migrating", "until": "2026-04-01", **fields}

    status, html = ask("POST", declining_all(three, **fields))

    page = Page(html)
    assert status == 422
    assert words in page.text
    assert page.ticked == [case.id for case in three]
    for name, value in typed.items():
        assert page.typed(name) == [value]
    assert contents(table) == before


def test_a_case_that_is_selected_twice_is_one_case(table: Any, three: list[Case]) -> None:
    twice = [three[0], three[0]]

    assert ask("POST", approving_all(twice, count="2"))[0] == 422
    assert answers(table, three) == [None] * 3
    assert ask("POST", approving_all(twice, count="1"))[0] == 200
    assert answers(table, three) == [Answer.APPROVED, None, None]
    assert len(now_in(table, three[0]).approvals) == 1


def test_a_good_token_does_not_stand_in_for_a_bad_one(table: Any, three: list[Case]) -> None:
    first, second, _ = three
    swapped = [
        ("case", f"{first.id}.{approvals.page_token(SECRET, second)}"),
        ("case", f"{second.id}.{approvals.page_token(SECRET, first)}"),
        ("count", "2"),
        ("decision", "approve"),
    ]
    before = contents(table)

    assert ask("POST", urlencode(swapped))[0] == 409
    assert contents(table) == before


def test_a_form_takes_no_more_cases_than_it_has_room_for(table: Any) -> None:
    many = several(table, FULL + 11)
    before = contents(table)

    assert ask("POST", approving_all(many))[0] == 400
    assert contents(table) == before


def test_a_full_page_of_cases_can_be_decided_at_once(table: Any) -> None:
    many = several(table, FULL)
    form = Page(ask("GET")[1]).forms[0]

    body = form.sent("approve", {"count": str(FULL)}, [case.id for case in many])

    assert len(body) < approval_page.MAX_BODY_BYTES
    assert ask("POST", body)[0] == 200
    assert answers(table, many) == [Answer.APPROVED] * FULL


def test_cases_for_removal_by_hand_are_listed_and_cannot_be_selected(
    table: Any, three: list[Case]
) -> None:
    by_hand = asked(table, three[1], obstacle=Obstacle.SERVICE_CONTROL_POLICY)
    before = contents(table)

    page = Page(ask("GET")[1])
    assert page.heading == "3 accounts with root access keys wait for you"
    assert page.boxes == [three[0].id, three[2].id]
    assert f"?case={by_hand.id}" in page.links
    status, one = ask("GET", query={"case": by_hand.id})
    assert status == 200
    assert "let the root user of" in Page(one).text
    assert Page(one).forms == []
    assert ask("POST", approving_all([by_hand]))[0] == 409
    assert contents(table) == before


def test_a_list_of_nothing_but_removals_by_hand_has_nothing_to_press(table: Any) -> None:
    for case in several(table, 2):
        asked(table, case, obstacle=Obstacle.MANAGEMENT_ACCOUNT)

    page = Page(ask("GET")[1])

    assert page.boxes == []
    assert page.all("button") == []


def test_of_several_decisions_one_that_was_overtaken_is_told(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [
        with_link(table, a_waiting_case(table, id=f"44440000000{n}", approvers=[APPROVER, DEPUTY]))
        for n in range(3)
    ]
    meanwhile(
        monkeypatch,
        lambda: cases.decide(
            table, case=three[0], decision=a_decision(three[0], Answer.DECLINED, by=DEPUTY)
        ),
    )

    status, html = ask("POST", approving_all(three))

    assert status == 200
    assert f"({three[0].account_id}): deletion declined by {DEPUTY}" in Page(html).text
    assert answers(table, three) == [Answer.DECLINED, Answer.APPROVED, Answer.APPROVED]


# -- whose cases ----------------------------------------------------------------------------------


def test_a_link_neither_shows_nor_decides_the_cases_of_somebody_else(
    table: Any, three: list[Case]
) -> None:
    foreign = foreign_case(table)
    before = contents(table)

    for query in (None, {"after": "0"}, {"case": three[0].id}):
        assert "foreign" not in ask("GET", query=query)[1]
    for secret in (SECRET, OTHER_SECRET):
        for form in (
            approving(foreign, secret),
            declining(foreign, secret),
            approving(foreign, secret, count="1"),
            declining(foreign, secret, count="1"),
        ):
            assert ask("POST", form)[0] == 404
    assert contents(table) == before


def test_a_case_of_somebody_else_looks_like_one_that_is_not_there(
    table: Any, three: list[Case]
) -> None:
    foreign = foreign_case(table)
    ids = [foreign.id, "999999999999-20260304T050607Z", "nonsense"]

    shown = {ask("GET", query={"case": id}) for id in ids}
    posted = {ask("POST", approving(three[0], case=f"{id}.{'0' * 64}")) for id in ids}

    assert {status for status, _ in shown | posted} == {404}
    assert len(shown) == len(posted) == 1


def test_two_approvers_of_a_case_cannot_use_each_others_page(table: Any) -> None:
    shared = with_link(table, a_waiting_case(table, approvers=[APPROVER, DEPUTY]))
    with_link(table, shared, secret=OTHER_SECRET, approver=DEPUTY)
    before = contents(table)

    for mine, theirs in ((SECRET, OTHER_SECRET), (OTHER_SECRET, SECRET)):
        assert ask("POST", approving(shared, theirs), link=mine)[0] == 409
        assert ask("POST", approving_all([shared], theirs), link=mine)[0] == 409
    assert contents(table) == before

    assert ask("POST", approving(shared, OTHER_SECRET), link=OTHER_SECRET)[0] == 200
    decision = now_in(table, shared).decision
    assert decision
    assert decision.by == DEPUTY


def test_an_approver_who_is_asked_no_more_cannot_decide(table: Any, case: Case) -> None:
    asked(table, case, DEPUTY)
    before = contents(table)

    for status, page in (
        ask("GET"),
        ask("GET", query={"case": case.id}),
        ask("POST", approving(case)),
        ask("POST", declining(case)),
    ):
        assert status == 410
        assert Page(page).heading == "Somebody else is asked about this account now"
        assert DEPUTY not in page
    assert ask("POST", approving_all([case]))[0] == 409
    assert contents(table) == before


def test_addresses_that_differ_only_in_case_are_one_approver(table: Any) -> None:
    case = a_waiting_case(table, approvers=["Payments-Leads@Example.com"])
    with_link(table, case)

    assert ask("POST", approving(case))[0] == 200
    assert now_in(table, case).decision


# -- quorum ---------------------------------------------------------------------------------------


@pytest.fixture
def shared(table: Any) -> Case:
    """A case that two of three people have to approve; two of them have a link."""
    case = a_waiting_case(table, quorum=TWO_PEOPLE, approvers=[APPROVER, DEPUTY, THIRD])
    with_link(table, case, secret=OTHER_SECRET, approver=DEPUTY)
    return with_link(table, case)


def test_the_page_says_that_two_have_to_approve_why_and_who_is_asked(shared: Case) -> None:
    page = Page(ask("GET")[1])

    assert shared.quorum == 2
    assert "2 people have to approve, because a key was used in the last 90 days." in page.text
    assert f"Nobody has approved yet; asked: {APPROVER}, {DEPUTY}, {THIRD}." in page.text
    assert "Approve the deletion of this key" in page.texts["button"]


def test_the_first_approval_is_recorded_and_decides_nothing_yet(table: Any, shared: Case) -> None:
    status, html = ask("POST", approving(shared))

    after = now_in(table, shared)
    assert status == 200
    assert [approval.by for approval in after.approvals] == [APPROVER]
    assert after.decision is None
    assert "decided" not in item_of(table, shared)
    text = Page(html).text
    assert f"Approved by {APPROVER} on 4 March 2026, 05:06 UTC." in text
    assert f"Missing: 1 of {DEPUTY}, {THIRD}." in text
    assert "nothing is deleted before 2 people have approved" in text
    assert "Rootsweep reads the keys once more" not in text


def test_the_second_person_sees_who_has_approved_and_completes_it(table: Any, shared: Case) -> None:
    ask("POST", approving(shared))

    seen = Page(ask("GET", link=OTHER_SECRET)[1])
    assert f"Approved by {APPROVER}" in seen.text
    assert f"Missing: 1 of {DEPUTY}, {THIRD}." in seen.text
    assert "Delete this key" in seen.texts["button"]
    body = seen.forms[0].sent("approve", {"account_id": ACCOUNT})
    status, html = ask("POST", body, link=OTHER_SECRET)

    after = now_in(table, shared)
    assert status == 200
    assert [approval.by for approval in after.approvals] == [APPROVER, DEPUTY]
    assert after.decision
    assert after.decision.by == DEPUTY
    assert f"by {APPROVER} on" in Page(html).text
    assert f" and {DEPUTY} on" in Page(html).text
    assert ask("POST", declining(shared))[0] == 409


def test_who_has_approved_is_asked_no_more_and_may_take_it_back(table: Any, shared: Case) -> None:
    ask("POST", approving(shared))

    page = Page(ask("GET")[1])
    assert page.heading == "You have approved; somebody else has to, too"
    assert [form.buttons for form in page.forms] == [["decline"]]
    body = page.forms[0].sent("decline", {"reason": "I was wrong", "until": "2026-04-01"})
    assert ask("POST", body)[0] == 200

    decision = now_in(table, shared).decision
    assert decision
    assert (decision.answer, decision.by) == (Answer.DECLINED, APPROVER)
    assert ask("POST", approving(shared, OTHER_SECRET), link=OTHER_SECRET)[0] == 409
    assert answers(table, [shared]) == [Answer.DECLINED]


def test_approving_twice_is_approving_once(table: Any, shared: Case) -> None:
    ask("POST", approving(shared))
    before = contents(table)

    for form in (urlencode(approving(shared)), approving_all([shared])):
        status, html = ask("POST", form)
        assert status == 200
        assert "Missing: 1 of" in Page(html).text

    assert contents(table) == before


def test_the_same_person_by_another_link_or_another_address_does_not_count_twice(
    table: Any,
) -> None:
    tagged = "Payments-Leads+aws@example.com"
    case = a_waiting_case(table, quorum=TWO_PEOPLE, approvers=[APPROVER, tagged, DEPUTY])
    with_link(table, case)
    with_link(table, case, secret="second-link")
    with_link(table, case, secret=OTHER_SECRET, approver=tagged)
    ask("POST", approving(case))
    before = contents(table)

    for secret in ("second-link", OTHER_SECRET):
        assert ask("POST", approving(case, secret), link=secret)[0] == 200
        assert ask("GET", link=secret)[1].count("You have approved") == 2

    assert contents(table) == before
    assert now_in(table, case).decision is None


def test_one_decline_is_final_whatever_the_quorum(table: Any, shared: Case) -> None:
    ask("POST", approving(shared))

    assert ask("POST", declining(shared, OTHER_SECRET), link=OTHER_SECRET)[0] == 200
    assert answers(table, [shared]) == [Answer.DECLINED]
    assert "Deletion was declined" in ask("GET")[1]


def test_two_approvals_at_once_both_count(
    table: Any, shared: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, lambda: ask("POST", approving(shared, OTHER_SECRET), link=OTHER_SECRET))

    assert ask("POST", approving(shared))[0] == 200

    after = now_in(table, shared)
    assert [approval.by for approval in after.approvals] == [DEPUTY, APPROVER]
    assert after.decision


def test_if_nobody_else_is_known_the_page_says_that_nothing_can_go_ahead(table: Any) -> None:
    case = with_link(table, a_waiting_case(table, quorum=TWO_PEOPLE))

    words = "Rootsweep knows nobody else to ask about this account, so the deletion cannot go ahead"
    assert words in Page(ask("GET")[1]).text
    status, page = ask("POST", approving(case))
    assert status == 200
    assert words in Page(page).text
    assert words in Page(ask("GET")[1]).text
    assert now_in(table, case).decision is None


def test_the_list_says_who_has_approved_and_who_is_missing(table: Any, shared: Case) -> None:
    other = with_link(table, a_waiting_case(table, id="555555555555"), secret=OTHER_SECRET)
    with_link(table, other)
    with_link(table, asked(table, other, DEPUTY), secret=OTHER_SECRET, approver=DEPUTY)
    ask("POST", approving(shared))

    text = Page(ask("GET", link=OTHER_SECRET)[1]).text

    assert text.count("Approved by") == 1
    assert f"Approved by {APPROVER} on 4 March 2026, 05:06 UTC." in text
    assert f"Missing: 1 of {DEPUTY}, {THIRD}." in text


def test_a_list_decides_some_and_approves_others_for_the_first_time(
    table: Any, shared: Case
) -> None:
    alone = with_link(table, a_waiting_case(table, id="555555555555", name="alone"))

    status, html = ask("POST", approving_all([shared, alone]))

    assert status == 200
    assert answers(table, [shared, alone]) == [None, Answer.APPROVED]
    assert f"Missing: 1 of {DEPUTY}, {THIRD}." in Page(html).text
    assert "more account" not in Page(html).text


def test_what_one_has_approved_waits_for_them_no_more(table: Any, shared: Case) -> None:
    others = several(table, 2)
    ask("POST", approving(shared))

    assert Page(ask("GET")[1]).boxes == [case.id for case in others]
    assert "You have approved" in ask("GET", query={"case": shared.id})[1]


def test_new_evidence_makes_approvals_history(table: Any, shared: Case) -> None:
    ask("POST", approving(shared))
    gather_anew(table, shared, quorum=TWO_PEOPLE)

    assert "Nobody has approved yet" in Page(ask("GET", link=OTHER_SECRET)[1]).text
    fresh = now_in(table, shared)
    assert ask("POST", approving(fresh, OTHER_SECRET), link=OTHER_SECRET)[0] == 200
    assert [approval.by for approval in now_in(table, shared).approvals] == [DEPUTY]
    assert answers(table, [shared]) == [None]


# -- afterwards -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.REMEDIATED, "it was confirmed that they are gone"),
        (Outcome.RESOLVED, "No root access key was left"),
        (Outcome.ESCALATED, "the security team was told"),
        (Outcome.FAILED, "Something went wrong"),
    ],
)
def test_late_visitors_are_told_how_the_case_ended(
    table: Any, case: Case, outcome: Outcome, words: str
) -> None:
    end_case(table, case.id, outcome, now=LATER)
    before = contents(table)

    for query in (None, {"case": case.id}):
        status, page = ask("GET", query=query)
        assert status == 200
        assert Page(page).heading == "This case has ended"
        assert words in page
        assert Page(page).forms == []
    assert ask("POST", approving(case))[0] == 409
    assert contents(table) == before


def test_when_nothing_waits_the_page_lists_what_was_lately(table: Any, three: list[Case]) -> None:
    remediated, declined, approved = three
    cases.decide(table, case=approved, decision=a_decision(approved))
    cases.decide(table, case=declined, decision=a_decision(declined, Answer.DECLINED))
    for case, outcome in ((remediated, Outcome.REMEDIATED), (declined, Outcome.DECLINED)):
        end_case(table, case.id, outcome, now=LATER, reason="")
    before = contents(table)

    status, html = ask("GET")

    page = Page(html)
    assert (status, page.heading) == (200, "Nothing waits for you")
    assert f"{remediated.account_id}): REMEDIATED. The keys were deleted" in page.text
    assert f"{declined.account_id}): DECLINED. The keys stay for now." in page.text
    assert f"{approved.account_id}): deletion approved by {APPROVER}." in page.text
    assert len(page.links) == 3
    for link in page.links:
        status, _ = ask("GET", query={"case": link.removeprefix("?case=")})
        assert status == 200
    assert contents(table) == before


def test_the_past_is_the_latest_cases_and_a_way_to_the_others(table: Any) -> None:
    many = []
    for n in range(FULL + 2):
        opened = NOW - timedelta(days=n)
        case = a_waiting_case(table, id=f"44440000{n:04}", now=opened)
        many.append(with_link(table, case))
        end_case(table, case.id, Outcome.RESOLVED, reason="")

    *links, earlier = Page(ask("GET")[1]).links

    assert links == [f"?case={case.id}" for case in many[:FULL]]
    assert earlier == f"?past=1&after={many[FULL - 1].id}"
    rest = Page(ask("GET", query={"past": "1", "after": many[FULL - 1].id})[1]).links
    assert rest == [f"?case={case.id}" for case in many[FULL:]]


def test_a_good_link_to_nothing_at_all_says_that_nothing_waits(table: Any, case: Case) -> None:
    table.delete_item(Key=request_key(APPROVER, case.id))

    status, page = ask("GET")

    assert (status, Page(page).heading) == (200, "Nothing waits for you")
    assert case.account_id not in page


def test_while_the_evidence_is_gathered_the_page_asks_for_patience(table: Any, case: Case) -> None:
    keys = [a_key(), a_key(SECOND)]
    cases.record_evidence(table, case=case, keys=keys, quorum=ONE_PERSON, now=LATER)

    status, page = ask("GET")

    assert status == 200
    assert Page(page).heading == "This case is not ready for a decision yet"


def test_when_the_time_is_up_the_page_says_so(table: Any, case: Case) -> None:
    cases.close_to_decisions(table, case_id=case.id, now=LATER)

    for status, page in (ask("GET"), ask("POST", approving(case))):
        assert status in (200, 409)
        assert Page(page).heading == "The time to decide is over"


def test_a_case_that_waits_for_removal_by_hand_gives_the_steps_and_no_buttons(
    table: Any, case: Case
) -> None:
    asked(table, case, obstacle=Obstacle.MANAGEMENT_ACCOUNT)

    status, html = ask("GET")

    page = Page(html)
    assert (status, page.heading) == (200, "These keys have to be removed by hand")
    assert f"Sign in to the management account {ACCOUNT}" in page.text
    assert page.forms == []
    assert ask("POST", approving(case))[0] == 409
    assert now_in(table, case).decision is None


def test_every_notice_has_a_moment_on_this_page() -> None:
    """Each of these is met in one of the tests above or below."""
    source = (messages._TEMPLATES / "notice_page.html").read_text()
    source = source.split("titles = {")[1].split("}")[0]

    assert set(re.findall(r'^  "(\w+)": ', source, re.MULTILINE)) == {
        *("recorded", "decided", "ended", "by_hand", "not_yet", "superseded", "not_yours"),
        *("nothing_waits", "not_found", "expired", "revoked", "bad_request", "too_large"),
        *("too_late", "method", "try_again"),
    }


# -- exceptions -----------------------------------------------------------------------------------


def test_a_ticket_is_recorded_with_the_decline(table: Any, case: Case) -> None:
    status, html = ask("POST", declining(case, ticket=" JIRA-1 "))

    decision = now_in(table, case).decision
    assert status == 200
    assert decision
    assert (decision.answer, decision.ticket) == (Answer.DECLINED, "JIRA-1")
    assert Page(html).heading == "Your decision is recorded"


@pytest.mark.parametrize("ticket", ["", " \r\n "])
def test_a_decline_needs_no_ticket(table: Any, case: Case, ticket: str) -> None:
    assert ask("POST", declining(case, ticket=ticket))[0] == 200

    decision = now_in(table, case).decision
    assert decision
    assert decision.ticket == ""


def test_several_are_declined_with_one_ticket(table: Any, three: list[Case]) -> None:
    assert ask("POST", declining_all(three, ticket="JIRA-1"))[0] == 200

    decisions = [now_in(table, case).decision for case in three]
    assert [each.ticket for each in decisions if each] == ["JIRA-1"] * 3


def test_who_filled_in_a_ticket_does_not_delete_the_keys_of_a_list(
    table: Any, three: list[Case]
) -> None:
    status, html = ask("POST", approving_all(three, ticket="JIRA-1"))

    assert status == 422
    assert "This is for keeping the keys." in Page(html).text
    assert answers(table, three) == [None] * 3


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("ticket", ["x" * 101, "'" * 5000], ids=["too long", "far too long"])
def test_a_ticket_that_is_too_long_is_shown_again_with_what_was_typed(
    table: Any, number: int, ticket: str
) -> None:
    chosen = several(table, number)
    form = (
        declining_all(chosen, ticket=ticket) if number > 1 else declining(chosen[0], ticket=ticket)
    )

    status, html = ask("POST", form)

    page = Page(html)
    assert status == 422
    assert "The ticket is longer than 100 characters." in page.text
    # Shown again like that it is still too long.
    assert page.typed("ticket") == [ticket[:101]]
    assert page.typed("reason") == ["migrating"]
    assert answers(table, chosen) == [None] * number


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("days", [1, 30, 365])
def test_the_last_day_that_the_page_offers_is_one_that_it_takes(
    table: Any, monkeypatch: pytest.MonkeyPatch, days: int, number: int
) -> None:
    monkeypatch.setattr(approval_page, "EXCEPTION_DAYS", days)
    chosen = several(table, number)

    def decline(until: date) -> tuple[int, str]:
        fields = {"until": until.isoformat()}
        return ask(
            "POST",
            declining_all(chosen, **fields) if number > 1 else declining(chosen[0], **fields),
        )

    [field] = [each for each in Page(ask("GET")[1]).all("input") if each.get("type") == "date"]
    last = date.fromisoformat(field["max"])

    assert last == NOW.date() + timedelta(days=days)
    status, html = decline(last + timedelta(days=1))
    assert status == 422
    assert f"within the next {days} days" in Page(html).text
    assert answers(table, chosen) == [None] * number
    assert decline(last)[0] == 200
    assert answers(table, chosen) == [Answer.DECLINED] * number


# -- the ladder -----------------------------------------------------------------------------------


@pytest.fixture
def climbing(table: Any) -> Case:
    """A case on the first of two rungs, with a link to it."""
    return with_link(table, a_waiting_case(table, ladder=TWO_RUNGS))


def test_the_page_shows_until_when_one_can_decide_and_what_happens_then(climbing: Case) -> None:
    page = Page(ask("GET", query={"case": climbing.id})[1])

    assert "Decide by11 March 2026, 05:06 UTC" in page.text.replace("\n", "")
    assert "Now until 11 March 2026, 05:06 UTC: the approvers of the account" in page.text
    assert "Then until 18 March 2026, 05:06 UTC: the default approver as well" in page.text


def test_who_was_asked_on_the_first_rung_can_decide_on_the_second(
    table: Any, climbing: Case
) -> None:
    form = approving(climbing)
    asked(table, climbing, APPROVER, DEPUTY, now=NOW + timedelta(days=8))

    page = Page(ask("GET")[1])
    assert "Before: the approvers of the account" in page.text
    assert "Now until 18 March 2026, 05:06 UTC: the default approver as well" in page.text
    # Nor does a reminder make the page out of date that somebody has open.
    assert ask("POST", form)[0] == 200
    assert now_in(table, climbing).decision


def test_while_a_reminder_is_on_its_way_the_case_takes_decisions(
    table: Any, climbing: Case
) -> None:
    cases.record_evidence(
        table, case=climbing, keys=climbing.keys, quorum=ONE_PERSON, now=NOW + timedelta(days=2)
    )

    assert ask("POST", approving(climbing))[0] == 200
    assert now_in(table, climbing).decision


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("KillSwitchOn", "Your security team has stopped all deletions for now."),
        ("CanaryPending", "run one at a time"),
    ],
)
def test_who_comes_back_to_a_deletion_that_is_held_up_is_told_why(
    table: Any, case: Case, held: str, said: str
) -> None:
    ask("POST", approving(case))
    assert said not in ask("GET")[1]
    cases.record_held(table, case_id=case.id, held=held, now=LATER)

    status, html = ask("GET")
    for page in [Page(html)]:
        assert status == 200
        assert page.heading == "The deletion is approved, and waits"
        assert said in page.text
        assert "You may take it back" in page.text
        assert 'value="approve"' not in html

    cases.record_deletion_started(table, case_id=case.id, now=LATER)
    assert said not in ask("GET")[1]


@pytest.mark.parametrize("gone", ["the account is CLOSED", "the account has left the organization"])
def test_who_comes_when_the_account_is_gone_is_told_so(table: Any, case: Case, gone: str) -> None:
    cases.wake(table, case_id=case.id, account_gone=gone)
    cases.close_to_decisions(table, case_id=case.id, now=LATER)
    end_case(table, case.id, Outcome.RESOLVED, now=LATER, reason=gone)

    status, html = ask("GET")
    for page in [Page(html)]:
        assert status == 200
        assert page.heading == "This case has ended"
        assert f"{gone.capitalize()}." in page.text


# -- hostile names, sizes, failures ---------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_a_hostile_name_stays_text_on_every_page(table: Any, name: str) -> None:
    keys = [a_key(last_used_at="2026-03-01T00:00:00+00:00", last_used_service=name)]
    hostile = {"name": name, "ou": name, "keys": keys, "quorum": TWO_PEOPLE}
    one, two, three = several(table, 3, **hostile)

    for method, form, query in (
        ("GET", None, None),
        ("GET", None, {"case": one.id}),
        ("POST", approving_all([one, two], count="1", reason=name, until=name), None),
        ("POST", urlencode(approving(one, account_id=name, reason=name), errors="replace"), None),
        ("POST", approving_all([one, two]), None),
        ("POST", urlencode(declining(two, reason="r" + name[:900])), None),
        ("POST", urlencode(declining(three)), None),
        ("GET", None, None),
        ("GET", None, {"case": two.id}),
    ):
        _, page = ask(method, form, query=query)
        assert "<script" not in page
        assert "<img" not in page
        shown = re.sub(r'<textarea.*?</textarea>|value=".*?"', "", page, flags=re.DOTALL)
        assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x00\x1b]", shown)


def a_full_list(table: Any, approvers: list[str]) -> list[Case]:
    """Names as long as AWS lets them be, in characters that have to be escaped; two used keys."""
    used = {"last_used_at": "2026-03-01T00:00:00+00:00", "last_used_service": "secretsmanager"}
    return several(
        table,
        FULL + 1,
        name="'" * 128,
        ou="/".join(["&" * 128] * 5),
        keys=[a_key(**used), a_key(SECOND, **used)],
        quorum=TWO_PEOPLE,
        approvers=[APPROVER, *approvers],
    )


def test_a_full_list_stays_small_whatever_the_names(table: Any) -> None:
    """`reply_to` looks at the size of every page."""
    chosen = a_full_list(table, [f"somebody.with.a.name.{n}@example.com" for n in range(4)])[:FULL]
    typed = {"count": "1", "reason": "'" * 2000}

    for status, page in (ask("GET"), ask("POST", approving_all(chosen, **typed))):
        assert status in (200, 422)
        assert len(Page(page).boxes) == FULL
    assert ask("POST", approving_all(chosen))[0] == 200


LONG_DOMAIN = f"{'d' * 60}.{'d' * 60}.{'d' * 60}.com"


def test_the_page_of_one_case_stays_small_whatever_its_ladder_and_its_story(table: Any) -> None:
    """All of it as long as it can be, in characters that have to be escaped."""
    # A parameter of SSM holds four kilobytes.
    addresses = [f"{n:02}{chr(39) * 62}@{LONG_DOMAIN}" for n in range(4096 // 250)]
    rungs = [Rung(timedelta(days=7), ("approvers", address)) for address in addresses[:10]]
    rungs[-1] = replace(rungs[-1], notify=("approvers", *addresses[10:]))
    ladder = tuple(rungs)
    before = AccountException(
        account_id=ACCOUNT,
        owner=addresses[0],
        reason="'" * 1000,
        until="2026-03-03",
        keys=(a_key(),),
        case_id="c",
        ticket="'" * 100,
    )
    [case] = several(
        table,
        1,
        name="'" * 128,
        ou="/".join(["&" * 128] * 5),
        keys=[a_key(last_used_at="2026-03-01T00:00:00+00:00"), a_key(SECOND)],
        ladder=ladder,
        old_exception=before,
    )

    status, html = ask("POST", declining(case, reason="'" * 2000, ticket="'" * 200, until="'" * 50))

    assert status == 422
    assert len(Page(html).all("li")) == 11


def test_a_full_list_stays_small_whatever_the_addresses(table: Any) -> None:
    a_full_list(table, [f"{n}{chr(39) * 63}@{LONG_DOMAIN}" for n in range(4)])

    assert ask("GET")[0] == 200


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("table arn:aws:dynamodb:secret-detail"),
        an_error("ThrottlingException", "GetItem", "secret-detail"),
        ReadTimeoutError(endpoint_url="https://dynamodb.example.com/secret-detail"),
        KeyError("secret-detail"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("method", "module", "name"),
    [
        ("GET", approvers, "find_link"),
        ("HEAD", approvers, "open_requests"),
        ("POST", cases, "load_standings"),
        ("POST", cases, "decide"),
        ("POST", approvals, "choice_from"),
        ("GET", messages, "decision_page"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_is_an_apology_that_shows_nothing_of_it(
    table: Any,
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    module: Any,
    name: str,
    error: Exception,
) -> None:
    before = contents(table)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, name, fail)
    reply = reply_to(an_event(method, urlencode(approving(case))))

    assert reply.status == 503
    assert reply.headers["Retry-After"] == "60"
    for word in ("secret-detail", "Error", "Exception", "File ", ACCOUNT, APPROVER):
        assert word not in reply.page
    assert contents(table) == before


def test_a_failure_is_logged_without_the_link(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise an_error("InternalServerError", "UpdateItem")

    monkeypatch.setattr(cases, "decide", fail)

    assert ask("POST", approving(case))[0] == 503
    assert "InternalServerError" in caplog.text
    assert SECRET not in caplog.text
    assert approvals.page_token(SECRET, case) not in caplog.text


def test_a_link_to_a_case_that_is_not_there_is_an_apology(table: Any, case: Case) -> None:
    table.delete_item(Key={"pk": f"CASE#{case.id}", "sk": "CASE"})

    assert ask("GET", query={"case": case.id})[0] == 503
    assert ask("POST", approving(case))[0] == 503
    assert contents(table)


def test_the_style_is_the_one_that_the_policy_of_every_page_allows(case: Case) -> None:
    pages = [ask("GET"), ask("GET", link="unknown"), ask("PUT"), ask("POST", approving(case))]

    assert [status for status, _ in pages] == [200, 404, 405, 200]
    for _, page in pages:
        style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
        assert style
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest())
        policy = messages.PAGE_HEADERS["Content-Security-Policy"]
        assert f"style-src 'sha256-{digest.decode()}'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_among_several_decisions_does_not_claim_that_nothing_was_recorded(
    table: Any, three: list[Case], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    decide = cases.decide

    def fail_at(*args: Any, case: Case, **given: Any) -> Case:
        if case.id == three[failing].id:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "UpdateItem")
        return decide(*args, case=case, **given)

    monkeypatch.setattr(cases, "decide", fail_at)

    status, page = ask("POST", approving_all(three))

    assert answers(table, three)[0] == Answer.APPROVED
    assert "Nothing was recorded" not in page
    assert status in (200, 503)


def test_a_failure_after_a_decision_does_not_claim_that_nothing_was_recorded(
    table: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = cases.decide

    def decide_and_lose_the_answer(*args: Any, **given: Any) -> Case:
        decide(*args, **given)
        raise ReadTimeoutError(endpoint_url="https://dynamodb.example.com")

    monkeypatch.setattr(cases, "decide", decide_and_lose_the_answer)

    status, page = ask("POST", approving(case))

    assert now_in(table, case).decision
    assert status == 503
    assert "Nothing was recorded" not in page


@pytest.mark.parametrize(
    "fields",
    [
        {"account_id": "1"},
        {"decision": "decline", "reason": ""},
        {"decision": "decline", "until": ""},
        {"decision": "approve", "count": "1"},
        {"decision": "decline", "count": "1", "until": ""},
        {"decision": ""},
        {"decision": "", "count": "1"},
    ],
)
def test_the_complaint_leads_to_the_field(three: list[Case], fields: dict[str, str]) -> None:
    form = {**declining(three[0], account_id=""), "decision": "approve", **fields}
    if "count" in form and form["decision"] == "approve":
        form["count"] = "7"

    status, html = ask("POST", form)

    page = Page(html)
    anchors = [link["href"] for link in page.all("a") if link["href"].startswith("#")]
    assert status == 422
    assert len(anchors) == 1
    assert anchors[0].removeprefix("#") in [given.get("id") for _, given in page.elements]


def test_a_form_that_comes_when_nothing_waits_any_more_is_no_failure(
    table: Any, three: list[Case]
) -> None:
    for case in three:
        cases.decide(table, case=case, decision=a_decision(case))
    before = contents(table)

    for body in (approving_all(three, count="1"), declining_all(three, reason=""), "count=1"):
        assert ask("POST", body)[0] < 500

    assert contents(table) == before


def test_a_list_of_one_speaks_of_one(table: Any, case: Case) -> None:
    status, html = ask("POST", approving_all([case], count="7"))

    assert status == 422
    assert "1 accounts" not in Page(html).text
    assert answers(table, [case]) == [None]


def test_nothing_selected_on_a_later_page_shows_that_page_again(table: Any) -> None:
    many = several(table, FULL + 5)

    status, html = ask("POST", "count=&decision=approve", query={"after": many[FULL - 1].id})

    assert status == 422
    assert Page(html).boxes == [case.id for case in many[FULL:]]


def test_whoever_has_approved_and_posts_the_form_again_is_shown_a_page(
    table: Any, shared: Case
) -> None:
    ask("POST", approving(shared))
    before = contents(table)

    status, html = ask("POST", approving(shared, account_id="1"))

    assert status == 422
    assert "You have approved" in Page(html).text
    assert contents(table) == before


def test_what_was_typed_is_shown_as_text_that_can_be_sent(table: Any, case: Case) -> None:
    """Lambda encodes the answer in UTF-8, which has no lone surrogates; awslambdaric does not
    escape them since Python 3.12."""
    body = urlencode(declining(case, until="")).replace("migrating", "\ud800")

    status, page = ask("POST", body)

    assert status in (400, 422)
    assert page.encode()
    assert answers(table, [case]) == [None]


def test_a_reason_of_many_lines_is_kept_whole_or_refused(table: Any, case: Case) -> None:
    """Browsers count a line's end as one character and send two."""
    lines = [f"line {n:03}" for n in range(110)]

    status, _ = ask("POST", declining(case, reason="\r\n".join(lines)))

    decision = now_in(table, case).decision
    assert status == 200
    assert decision
    assert decision.reason == " ".join(lines)


def test_from_the_list_there_is_a_way_back_to_what_one_has_approved(table: Any) -> None:
    cases_of_two = several(table, 3, quorum=TWO_PEOPLE, approvers=[APPROVER, DEPUTY])

    _, results = ask("POST", approving_all(cases_of_two[:1]))
    _, listed = ask("GET")

    for html in (results, listed):
        assert f"?case={cases_of_two[0].id}" in [link["href"] for link in Page(html).all("a")]
    assert Page(listed).boxes == [case.id for case in cases_of_two[1:]]
    _, page = ask("GET", query={"case": cases_of_two[0].id})
    assert "You may take it back" in page
