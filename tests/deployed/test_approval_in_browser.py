"""The way of an approver, in a real browser: inbox, mail, page, decision."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.deployed.browser import (
    SCHEMES,
    is_wider_than_its_window,
    open_from_inbox,
    screenshot,
    violations,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.deployed.browser import PageAt, Traffic
    from tests.deployed.conftest import Deployed


def approve(page: Page, account_id: str) -> None:
    page.get_by_label("Type the account id").fill(account_id)
    page.get_by_role("button", name="Delete this key").click()


def test_an_approver_without_javascript_gets_from_the_mail_to_a_deleted_key(
    deployed: Deployed, page_at: PageAt, traffic: Traffic
) -> None:
    deployed.sweep(accounts=["400000000017"])
    page = open_from_inbox(page_at(320, javascript=False), deployed, "400000000017")

    approve(page, "400000000017")

    expect(page.get_by_role("heading", level=1)).to_have_text("Your decision is recorded")
    deployed.case_when("400000000017", "REMEDIATED")
    assert deployed.keys_of("400000000017") == set()
    assert traffic.errors == []
    assert traffic.outside(deployed.stack.endpoint) == []


def test_every_page_is_accessible_and_fits_in_every_window(
    deployed: Deployed, page_at: PageAt, traffic: Traffic
) -> None:
    deployed.sweep(accounts=["400000000018"])
    link = deployed.mail_about("400000000018").link
    pages = {
        f"{width}-{scheme}": page_at(width, scheme)
        for width, scheme in product((320, 1280), SCHEMES)
    }
    found = {}

    def look(moment: str) -> None:
        for window, page in pages.items():
            name = f"{moment}-{window}"
            screenshot(page, name)
            found[name] = violations(page) + ["too wide"] * is_wider_than_its_window(page)

    for page in pages.values():
        page.goto(link)
        expect(page.get_by_role("button", name="Delete this key")).to_be_visible()
    look("decision")
    for page in pages.values():
        approve(page, "400000000017")
        expect(page.get_by_role("alert")).to_be_visible()
    look("mistyped")
    for number, page in enumerate(pages.values()):
        approve(page, "400000000018")
        expect(page.get_by_role("heading", level=1)).to_have_text(
            "This has been decided" if number else "Your decision is recorded"
        )
    look("decided")

    assert {name: flaws for name, flaws in found.items() if flaws} == {}
    assert traffic.errors == []
    assert traffic.outside(deployed.stack.endpoint) == []


def test_what_is_smuggled_into_the_page_neither_runs_nor_calls_out(
    deployed: Deployed, page_at: PageAt, traffic: Traffic
) -> None:
    page = page_at()
    page.goto(f"{deployed.stack.outputs['ApprovalUrl']}/{'A' * 43}")

    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'smuggled'";
            const style = document.createElement("style");
            style.textContent = "main { display: none }";
            const image = document.createElement("img");
            const failed = new Promise((resolve) => { image.onerror = resolve; });
            image.src = "https://example.com/pixel.png";
            document.body.append(script, style, image);
            return failed;
        }"""
    )

    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.title() != "smuggled"
    assert len(traffic.errors) == 3, traffic.errors
    assert all("Content Security Policy" in error for error in traffic.errors)
    assert traffic.outside(deployed.stack.endpoint) == []
