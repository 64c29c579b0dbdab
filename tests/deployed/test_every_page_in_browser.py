"""Every page and mail that an approver can see, in a real browser: accessible, narrow, dark."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from rootsweep import messages
from rootsweep.approvals import FormError
from rootsweep.cases import Answer, Obstacle, Outcome
from rootsweep.escalation import Rung
from rootsweep.exceptions import AccountException
from tests.deployed.browser import SCHEMES, is_wider_than_its_window, screenshot, violations
from tests.unit.builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    HOSTILE,
    NOW,
    SECOND,
    TWO_RUNGS,
    a_case,
    a_decision,
    a_key,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from rootsweep.cases import Case
    from tests.deployed.browser import PageAt, Scheme, Traffic

ORIGIN = "https://approvals.example.com"
LAST_DAY = date(2026, 6, 2)
TYPED = {
    "account_id": "1",
    "count": "7",
    "reason": "a batch job",
    "ticket": "SEC-7",
    "until": "2026-05-01",
}
EXCEPTION = AccountException(
    account_id=ACCOUNT,
    owner=DEPUTY,
    reason=f"The payroll runs on it. {HOSTILE[0]}",
    ticket="SEC-42",
    until="2026-03-01",
    keys=(),
    case_id="c",
)
USED = a_key(last_used_at="2026-02-20T00:00:00+00:00", last_used_service="s3")


def cases() -> dict[str, Case]:
    one = a_case()
    two = a_case(
        keys=[USED, a_key(SECOND, "Inactive")],
        id="444444444444-20260304T050607Z",
        account_id="444444444444",
        account_name=f"{HOSTILE[0]} {HOSTILE[5]} " + "long-" * 30,
        quorum=2,
        quorum_reason="a key was used in the last 90 days",
        approvers=(APPROVER, DEPUTY),
    )
    climbing = replace(
        one,
        ladder=(*TWO_RUNGS, Rung(timedelta(days=3), ("organizational_unit", "ciso@example.com"))),
        rung=1,
        approvers=(APPROVER, DEPUTY),
        approver_sources=("the tag rootsweep-approver of the account", "the default approver"),
        answer_by="2026-03-18T05:06:07Z",
        deadline="2026-03-21T05:06:07Z",
        reopened=2,
        old_exception=EXCEPTION,
        quarantine_refused=f"account 3: {HOSTILE[0]} ConstraintViolationException",
    )
    approved = replace(two, approvals=(a_decision(two),))
    both = replace(approved, approvals=(a_decision(two), a_decision(two, by=DEPUTY)))
    return {
        "one": one,
        "two": two,
        "approved": approved,
        "climbing": climbing,
        "quarantined": replace(
            both,
            approvals=tuple(replace(each, quarantine="14d") for each in both.approvals),
            decision=both.approvals[1],
            decided="YES",
            quarantine_until="2026-03-20T05:06:07Z",
            quarantine_token="a-token",
        ),
        "held": replace(both, decision=both.approvals[1], decided="YES", held="KillSwitchOn"),
        "gone": replace(
            one,
            outcome=Outcome.RESOLVED,
            ended_at="2026-03-05T00:00:00Z",
            account_gone="the account has left the organization",
        ),
        "decided": replace(both, decision=both.approvals[1], decided="YES"),
        "declined": replace(one, decision=a_decision(one, Answer.DECLINED), decided="YES"),
        "remediated": replace(one, outcome=Outcome.REMEDIATED, ended_at="2026-03-05T00:00:00Z"),
        "by_hand": replace(
            one,
            id="111111111111-20260304T050607Z",
            account_id="111111111111",
            outcome=Outcome.AWAITING_REMOVAL,
            obstacle=Obstacle.MANAGEMENT_ACCOUNT,
            reason="AWS opens no root session in the management account of an organization.",
        ),
    }


def pages() -> dict[str, str]:
    known = cases()

    def decision(name: str, approver: str = APPROVER, error: FormError | None = None) -> str:
        return messages.decision_page(
            known[name],
            approver=approver,
            token="f" * 64,
            last_day=LAST_DAY,
            now=NOW,
            more=3,
            approved=2,
            quarantine="" if name == "climbing" else "14d",
            form=TYPED if error else {},
            error=error,
        )

    def listed(error: FormError | None = None) -> str:
        shown = [known["one"], known["two"], known["by_hand"]]
        return messages.list_page(
            shown,
            approver=APPROVER,
            tokens={case.id: "f" * 64 for case in shown[:2]},
            total=45,
            first=16,
            next_page="?after=x",
            last_day=LAST_DAY,
            now=NOW,
            form=TYPED if error else {},
            selected=[known["two"].id] if error else [],
            approved=[known["approved"], known["quarantined"]],
            more_approved=7,
            error=error,
        )

    def notice(moment: str, name: str) -> str:
        return messages.notice_page(moment, case=known[name], approver=APPROVER, more=1)

    def mail(*names: str, reminds: bool = False) -> str:
        return messages.request_mail(
            [known[name] for name in names],
            approver=APPROVER,
            page_url=f"{ORIGIN}/{'x' * 43}",
            waiting_longer=2,
            threads=[],
            reminded={known[name].id for name in names if reminds},
            now=NOW,
        ).html

    results = [
        (known["decided"], "recorded"),
        (known["approved"], "recorded"),
        (known["one"], "superseded"),
        (known["declined"], "decided"),
    ]
    return {
        "page": decision("one"),
        "page-two-people": decision("two"),
        "page-approved": decision("approved"),
        "page-second": decision("approved", DEPUTY),
        "page-climbing": decision("climbing"),
        "page-quarantined": decision("quarantined"),
        **{
            f"page-error-{field}": decision("one", error=FormError(field, "Please look again."))
            for field in ("account_id", "reason", "ticket", "until")
        },
        "list": listed(),
        **{
            f"list-error-{field}": listed(FormError(field, "Please look again."))
            for field in ("case", "count", "reason", "ticket", "until")
        },
        "results": messages.results_page(results, more=2),
        "recorded": notice("recorded", "decided"),
        "recorded-one-of-two": notice("recorded", "approved"),
        "recorded-declined": notice("recorded", "declined"),
        "decided": notice("decided", "decided"),
        "decided-held": notice("decided", "held"),
        "recorded-block-first": notice("recorded", "quarantined"),
        "ended": notice("ended", "remediated"),
        "ended-gone": notice("ended", "gone"),
        "by-hand": notice("by_hand", "by_hand"),
        "superseded": notice("superseded", "one"),
        "not-yours": notice("not_yours", "one"),
        "too-late": notice("too_late", "one"),
        "revoked": messages.notice_page("revoked"),
        "past": messages.notice_page(
            "nothing_waits",
            cases=[known["quarantined"], known["decided"], known["remediated"]],
            approver=APPROVER,
            next_page="?past=1&after=x",
        ),
        "no-such-link": messages.notice_page("not_found"),
        "expired": messages.notice_page("expired"),
        "try-again": messages.notice_page("try_again"),
        "mail": mail("one"),
        "mail-two-people": mail("two"),
        "mail-by-hand": mail("by_hand"),
        "mail-list": mail("one", "two", "by_hand"),
        "mail-reminder": mail("climbing", reminds=True),
        "mail-reminder-list": mail("one", "two", "by_hand", reminds=True),
        "mail-exceptions-end": messages.exceptions_end_mail(
            [EXCEPTION, replace(EXCEPTION, account_id="444444444444")],
            owner=APPROVER,
            names={ACCOUNT: "payments-prod", "444444444444": HOSTILE[0]},
        ).html,
    }


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [320, 1280])
def test_every_moment_is_accessible_and_fits(
    page_at: PageAt, traffic: Traffic, width: int, scheme: Scheme
) -> None:
    shown = pages()
    page = serve(page_at(width, scheme), shown)
    found = {}
    for name in shown:
        page.goto(f"{ORIGIN}/{name}")
        screenshot(page, f"{name}-{width}-{scheme}")
        flaws = violations(page) + ["too wide"] * is_wider_than_its_window(page)
        # A mail is shown inside a mail program, which has the landmarks and the heading.
        found[name] = [
            flaw
            for flaw in flaws
            if not name.startswith("mail")
            or not flaw.startswith(("landmark-", "region ", "page-has-heading-one"))
        ]

    assert {name: flaws for name, flaws in found.items() if flaws} == {}
    assert traffic.errors == []
    assert traffic.outside(ORIGIN) == []


def test_a_keyboard_is_enough_and_shows_where_one_is(page_at: PageAt) -> None:
    page = serve(page_at(), pages())
    page.goto(f"{ORIGIN}/list")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        at = page.evaluate(
            """() => {
                const here = document.activeElement;
                const style = getComputedStyle(here);
                const outlined = style.outlineStyle !== "none" && style.outlineWidth !== "0px";
                return [here.tagName, here.name || here.getAttribute("href") || "", outlined];
            }"""
        )
        if at[0] == "BODY":
            break
        reached.append(at)

    # The parts of a date take the focus inside their field.
    bare = {name for _, name, outlined in reached if not outlined} - {"until"}
    assert bare == set()
    assert ["INPUT", "until", True] in reached
    names = [name for _, name, _ in reached]
    assert names.count("case") == 2
    for name in ("count", "reason", "until", "decision", "?after=x"):
        assert name in names
    # In the order in which they are read.
    assert names.index("case") < names.index("count") < names.index("reason")


def test_the_enter_key_deletes_nothing_on_the_list(page_at: PageAt, traffic: Traffic) -> None:
    page = serve(page_at(javascript=False), pages())
    for field in ("count", "until"):
        page.goto(f"{ORIGIN}/list")
        page.get_by_role("checkbox").first.check()
        page.locator("#count").fill("1")
        page.locator("#reason").fill("keep these")
        page.locator("#until").fill("2026-05-01")
        page.locator(f"#{field}").press("Enter")
    page.get_by_role("button", name="Keep the keys").click()

    posted = [
        parse_qs(request.post_data or "", keep_blank_values=True)["decision"]
        for request in traffic.requests
        if request.method == "POST"
    ]
    assert posted == [[""], [""], ["decline"]]


def test_errors_lead_to_their_field(page_at: PageAt) -> None:
    page = serve(page_at(), pages())
    for field in ("account_id", "reason", "ticket", "until"):
        page.goto(f"{ORIGIN}/page-error-{field}")
        page.get_by_role("alert").get_by_role("link").click()

        control = page.locator(f"#{field}")
        assert control.get_attribute("aria-invalid") == "true"
        described_by = control.get_attribute("aria-describedby")
        assert page.locator(f"#{described_by}").inner_text() == "Please look again."
        assert page.locator(f"[id='{field}']").count() == 1
        assert control.input_value() == TYPED[field]


def serve(page: Page, shown: dict[str, str]) -> Page:
    """The page, in a world where these pages are on the web, with their real headers."""

    def answer(route: Route) -> None:
        name = route.request.url.partition(f"{ORIGIN}/")[2].partition("?")[0].partition("#")[0]
        headers = {} if name.startswith("mail") else messages.PAGE_HEADERS
        route.fulfill(
            status=200 if name in shown else 404,
            headers=headers | {"Content-Type": "text/html; charset=utf-8"},
            body=shown.get(name, ""),
        )

    page.route("**/*", answer)
    return page
