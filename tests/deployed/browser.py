"""A real browser before the deployed stack: Chromium without a window."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

    from tests.deployed.conftest import Deployed

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".local" / "screenshots"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
NO_BROWSER = (
    f"needs Chromium or Chrome, one of {', '.join(PROGRAMS)} on the PATH; "
    "on Debian: apt-get install chromium"
)
ACCESSIBILITY_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@dataclass
class Traffic:
    """What all pages of a test asked for, and what the browser complained about."""

    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def outside(self, origin: str) -> list[str]:
        """The requests that went anywhere but to `origin`."""
        return [
            request.url
            for request in self.requests
            # What the policy of the page stops is reported as a request, and as an error; it is
            # never sent.
            if request.failure != "csp" and not request.url.startswith(f"{origin}/")
        ]

    def note(self, message: ConsoleMessage) -> None:
        """Keep a message of the console if it is an error; the status of an answer is none."""
        if message.type == "error" and "responded with a status" not in message.text:
            self.errors.append(message.text)


class PageAt(Protocol):
    """Opens an empty page in a browser that knows nothing of the others: no cookies, no cache."""

    def __call__(
        self, width: int = 1280, scheme: Scheme = "light", *, javascript: bool = True
    ) -> Page: ...


# Not for the whole session: while Playwright runs, this thread is inside its event loop, and a test
# in another folder could start none of its own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program,
            chromium_sandbox=os.geteuid() != 0,  # Chromium has no sandbox for root.
            # Playwright turns off updates, sync and the like; this is the rest that could call out.
            args=["--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def page_at(browser: Browser, traffic: Traffic) -> Iterator[PageAt]:
    contexts = []

    def open_page(width: int = 1280, scheme: Scheme = "light", *, javascript: bool = True) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=javascript,
        )
        contexts.append(context)
        # On the context: pages count too that a link opens beside the first.
        context.on("request", lambda request: traffic.requests.append(request))
        context.on("console", traffic.note)
        context.on("weberror", lambda problem: traffic.errors.append(str(problem.error)))
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


def open_from_inbox(page: Page, deployed: Deployed, account_id: str) -> Page:
    """Go the way of an approver: inbox, the newest mail about the account, its link."""
    deployed.mail_about(account_id)
    page.goto(deployed.stack.inbox)
    page.get_by_role("link", name=re.compile(account_id)).first.click()
    with page.expect_popup() as opened:
        page.frame_locator("iframe").get_by_role("link").first.click()
    opened.value.wait_for_load_state()
    return opened.value


def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and good practice. Wants a page with JavaScript.

    It gets in by the debugger, which no Content-Security-Policy binds: the page keeps its own.
    """
    # Without JavaScript axe would never end.
    assert page.evaluate("matchMedia('(scripting: enabled)').matches")
    found = Axe().run(
        page, options={"runOnly": {"type": "tag", "values": list(ACCESSIBILITY_RULES)}}
    )
    return [
        f"{rule['id']} ({rule['impact']}): {' '.join(map(str, node['target']))}: "
        + " ".join(node["failureSummary"].split())
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


def is_wider_than_its_window(page: Page) -> bool:
    """Whether one has to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def screenshot(page: Page, name: str) -> None:
    """Save the whole page as .local/screenshots/<name>.png."""
    # Hiding the caret takes a style of Playwright's, which the page's policy refuses.
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, caret="initial")
