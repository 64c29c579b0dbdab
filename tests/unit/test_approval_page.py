from __future__ import annotations

import base64
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import approval_page
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootsweep import approvals, cases
from rootsweep.cases import Answer, Case, Outcome

from .builders import (
    ACCOUNT,
    HOSTILE,
    LATER,
    NOW,
    SECOND,
    a_decision,
    a_key,
    a_link,
    a_waiting_case,
    contents,
)

SECRET = "a-secret"
OTHER_METHODS = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "post", "", None]


@pytest.fixture
def case(table: Any) -> Case:
    """A case that waits, with a link to it."""
    return with_link(table, a_waiting_case(table))


def with_link(table: Any, case: Case, secret: str = SECRET, **fields: Any) -> Case:
    cases.save_link(table, secret=secret, link=a_link(case, **fields))
    return case


def request(
    method: str | None, body: Any = None, link: str = SECRET, **more: Any
) -> dict[str, Any]:
    form = urlencode(body) if isinstance(body, dict) else body
    return {"httpMethod": method, "pathParameters": {"link": link}, "body": form, **more}


def ask(method: str | None, body: Any = None, **more: Any) -> tuple[int, str]:
    return approval_page.answer(request(method, body, **more), now=NOW)


def approving(case: Case, **fields: str) -> dict[str, str]:
    token = approvals.page_token(SECRET, case)
    return {"token": token, "decision": "approve", "account_id": ACCOUNT, **fields}


def declining(case: Case, **fields: str) -> dict[str, str]:
    form = approving(case, decision="decline", reason="migrating", until="2026-04-01")
    return form | fields


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_opening_a_link_changes_nothing(table: Any, case: Case, method: str, times: int) -> None:
    before = contents(table)

    for _ in range(times):
        status, page = ask(method)
        assert status == 200
        assert "Delete this key" in page

    assert contents(table) == before
    assert cases.load(table, case_id=case.id).is_decidable


@pytest.mark.parametrize("method", ["GET", "HEAD", *OTHER_METHODS])
def test_a_form_that_is_not_posted_decides_nothing(
    table: Any, case: Case, method: str | None
) -> None:
    before = contents(table)

    for form in (approving(case), declining(case)):
        ask(method, form)
        ask(method, form, queryStringParameters=form)

    assert contents(table) == before


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_other_methods_are_told_which_there_are(table: Any, case: Case, method: str | None) -> None:
    answer = approval_page.handler(request(method, approving(case)), None)

    assert answer["statusCode"] == 405
    assert answer["headers"]["Allow"] == "GET, HEAD, POST"
    assert cases.load(table, case_id=case.id).decision is None


def test_an_answer_to_head_has_the_head_of_the_page_and_no_body(case: Case) -> None:  # noqa: ARG001
    got, headed = (approval_page.handler(request(method), None) for method in ("GET", "HEAD"))

    assert headed == {**got, "body": ""}
    assert got["body"]
    assert got["headers"]["Cache-Control"] == "no-store"


def test_the_page_shows_the_evidence_and_a_form_that_counts(table: Any, case: Case) -> None:
    _, page = ask("GET")
    token = re.search(r'name="token" value="(\w+)"', page)

    assert case.keys[0].id in page
    assert "payments-leads@example.com" in page
    assert token
    assert ask("POST", approving(case, token=token[1]))[0] == 200
    assert cases.load(table, case_id=case.id).decision


def test_an_approval_is_recorded_with_who_when_and_what(table: Any, case: Case) -> None:
    status, page = ask("POST", approving(case))

    decision = cases.load(table, case_id=case.id).decision
    assert status == 200
    assert "Your decision is recorded" in page
    assert decision == a_decision(case, at="2026-03-04T05:06:07Z")


def test_declining_is_recorded_with_reason_and_end(table: Any, case: Case) -> None:
    status, page = ask("POST", declining(case))

    decision = cases.load(table, case_id=case.id).decision
    assert status == 200
    assert "After 2026-04-01 Rootsweep asks again" in page
    assert decision
    assert (decision.answer, decision.reason, decision.until) == (
        Answer.DECLINED,
        "migrating",
        "2026-04-01",
    )


def test_a_form_in_base64_is_a_form_too(table: Any, case: Case) -> None:
    body = base64.b64encode(urlencode(approving(case)).encode()).decode()

    assert ask("POST", body, isBase64Encoded=True)[0] == 200
    assert cases.load(table, case_id=case.id).decision


def test_a_second_click_repeats_nothing_and_says_what_was_decided(table: Any, case: Case) -> None:
    ask("POST", approving(case))
    before = contents(table)

    for form in (approving(case), declining(case)):
        status, page = ask("POST", form)
        assert status == 409
        assert "Deletion was approved" in page
    assert ask("GET")[0] == 200

    assert contents(table) == before


def test_two_clicks_at_once_leave_the_first_decision(
    table: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = cases.decide

    def someone_was_faster(*args: Any, **given: Any) -> Case:
        monkeypatch.setattr(cases, "decide", decide)
        first = a_decision(case, Answer.DECLINED, by="faster@example.com")
        decide(table, case_id=case.id, decision=first)
        return decide(*args, **given)

    monkeypatch.setattr(cases, "decide", someone_was_faster)
    status, page = ask("POST", approving(case))

    assert status == 409
    assert "faster@example.com" in page
    assert cases.load(table, case_id=case.id).decision.answer == Answer.DECLINED


def test_a_decision_after_the_close_is_refused(table: Any, case: Case) -> None:
    cases.close_to_decisions(table, case_id=case.id, now=LATER)
    before = contents(table)

    assert ask("POST", approving(case))[0] == 409
    assert contents(table) == before


def test_a_page_about_keys_that_have_changed_since_decides_nothing(table: Any, case: Case) -> None:
    cases.record_evidence(table, case=case, keys=[a_key(), a_key(SECOND)], now=LATER)
    before = contents(table)

    for form in (approving(case), declining(case)):
        status, page = ask("POST", form)
        assert status == 409
        assert "This page is out of date" in page

    assert contents(table) == before


def test_a_page_of_another_case_or_another_link_decides_nothing(table: Any, case: Case) -> None:
    other = with_link(table, a_waiting_case(table, id="333333333334"), "other-secret")
    before = contents(table)

    for token in (approvals.page_token(SECRET, other), approvals.page_token("other-secret", case)):
        assert ask("POST", approving(case, token=token))[0] == 409

    assert contents(table) == before


def test_a_form_of_another_site_has_no_token_and_decides_nothing(table: Any, case: Case) -> None:
    form = approving(case)
    del form["token"]
    before = contents(table)

    assert ask("POST", form)[0] == 400
    assert ask("POST", {**form, "token": ""})[0] == 409
    assert contents(table) == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("link", ["", "unknown", "A-SECRET", "../cases", "x" * 5000])
def test_behind_an_unknown_link_there_is_nothing(
    table: Any, case: Case, method: str, link: str
) -> None:
    before = contents(table)

    status, page = ask(method, approving(case), link=link)

    assert status == 404
    assert case.account_name not in page
    assert contents(table) == before


def test_a_request_without_a_path_is_no_link(table: Any) -> None:  # noqa: ARG001
    event = {"httpMethod": "GET", "pathParameters": None}

    assert approval_page.answer(event, now=NOW)[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_expired_link_shows_and_decides_nothing(table: Any, case: Case, method: str) -> None:
    with_link(table, case, expires_at="2026-03-04T05:06:06Z")
    before = contents(table)

    status, page = ask(method, approving(case))

    assert status == 404
    assert case.account_name not in page
    assert contents(table) == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"account_id": "333333333334"}, "12 digits"),
        ({"account_id": ""}, "12 digits"),
        ({"decision": "maybe"}, "Choose one"),
        ({"decision": "decline"}, "Say why"),
        ({"decision": "decline", "reason": "r", "until": "2036-01-01"}, "90 days"),
    ],
)
def test_a_form_that_says_too_little_is_shown_again(
    table: Any, case: Case, fields: dict[str, str], words: str
) -> None:
    before = contents(table)

    status, page = ask("POST", approving(case, **fields))

    assert status == 422
    assert words in page
    assert "What was found" in page
    assert contents(table) == before


def test_a_field_that_comes_twice_does_not_count(table: Any, case: Case) -> None:
    before = contents(table)

    for twice in ("decision=decline", "decision=approve", f"account_id={ACCOUNT}"):
        assert ask("POST", f"{urlencode(approving(case))}&{twice}")[0] == 422

    assert contents(table) == before


@pytest.mark.parametrize(
    ("body", "is_base64"),
    [
        ("nonsense", False),
        ('{"decision": "approve"}', False),
        ("&".join(f"f{n}=1" for n in range(21)), False),
        ("token=%ff%fe", False),
        ("not base64!", True),
        ("4pyTÄ", True),
        (base64.b64encode(b"\xff\xfe=1").decode(), True),
    ],
)
def test_a_body_that_is_no_form_is_not_understood(
    table: Any, case: Case, body: str, is_base64: bool
) -> None:
    before = contents(table)

    assert ask("POST", body, isBase64Encoded=is_base64)[0] == 400
    assert contents(table) == before
    assert cases.load(table, case_id=case.id).decision is None


@pytest.mark.parametrize("body", ["", None])
def test_an_empty_body_decides_nothing(table: Any, case: Case, body: str | None) -> None:
    assert ask("POST", body)[0] in (400, 409)
    assert cases.load(table, case_id=case.id).decision is None


def test_a_huge_body_is_not_even_read(table: Any, case: Case) -> None:
    assert ask("POST", approving(case, reason="x" * 20_000))[0] == 413
    assert cases.load(table, case_id=case.id).decision is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["token", "decision", "account_id", "reason", "until"]) | st.text(),
        st.sampled_from(["approve", "decline", ACCOUNT, "2026-04-01"]) | st.text(),
    )
)
def test_no_form_without_the_pages_own_token_decides_anything(
    table: Any, case: Case, form: dict[str, str]
) -> None:
    body = urlencode(form, errors="replace")

    answer = approval_page.handler(request("POST", body), None)

    assert answer["statusCode"] in (400, 409, 413)
    assert cases.load(table, case_id=case.id).decision is None


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
    cases.record_outcome(table, case_id=case.id, outcome=outcome, reason="r", now=LATER)

    assert ask("GET")[0] == 200
    assert words in ask("GET")[1]
    assert ask("POST", approving(case))[0] == 409


def test_while_the_evidence_is_gathered_the_page_asks_for_patience(table: Any, case: Case) -> None:
    decided = cases.decide(table, case_id=case.id, decision=a_decision(case))
    cases.record_evidence(table, case=decided, keys=[a_key(SECOND)], now=LATER)

    status, page = ask("GET")

    assert status == 200
    assert "gathering the evidence" in page


def test_a_case_that_waits_for_removal_by_hand_offers_no_buttons(table: Any, case: Case) -> None:
    cases.await_removal(
        table, case_id=case.id, approver="a@example.com", reason="r", deadline=LATER
    )

    status, page = ask("GET")

    assert status == 200
    assert "removed them by hand" in page
    assert "<form" not in page


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_a_hostile_account_name_stays_text(table: Any, name: str) -> None:
    with_link(table, a_waiting_case(table, name=name))

    for method, form in (("GET", None), ("POST", {"token": "x"})):
        _, page = ask(method, form)
        assert "<script" not in page
        assert "<img" not in page
        assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x00\x1b]", page)


def test_a_failure_is_an_apology_that_shows_nothing_of_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("table arn:aws:dynamodb:secret-detail")

    monkeypatch.setattr(cases, "find_link", fail)

    answer = approval_page.handler(request("POST", approving(case)), None)

    assert answer["statusCode"] == 503
    assert answer["headers"]["Retry-After"] == "60"
    assert "secret-detail" not in answer["body"]
    assert "Nothing was recorded" in answer["body"]


def test_a_link_to_a_case_that_is_not_there_is_an_apology(table: Any) -> None:
    cases.save_link(
        table,
        secret=SECRET,
        link=cases.Link("a@example.com", "nothing", f"{NOW + timedelta(days=9999):%Y-%m-%d}"),
    )

    assert approval_page.handler(request("GET"), None)["statusCode"] == 503


def test_a_former_approver_cannot_decide_about_a_case_that_names_another(
    table: Any, case: Case
) -> None:
    with_link(table, case, secret="former", approver="former@example.com")
    token = approvals.page_token("former", case)

    shown = ask("GET", link="former")
    posted = ask("POST", approving(case, token=token), link="former")

    for status, page in (shown, posted):
        assert status == 410
        assert "Somebody else is asked" in page
    assert cases.load(table, case_id=case.id).decision is None
