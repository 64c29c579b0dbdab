"""The report in a real browser: it opens, sorts, filters and prints, few accounts and many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rootsweep import reports, sweeps
from tests.deployed.browser import is_wider_than_its_window, screenshot, violations
from tests.reports import CALC, EVENT, HOSTILE_NAMES, last_sweeps, organization, report_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.deployed.browser import PageAt, Scheme, Traffic

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "organization.yaml"
ROWS = "#accounts tbody tr"


def few() -> dict[str, Any]:
    """The example organization, some of whose accounts have names that mean no good."""
    content: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    for entry, name in zip(content["accounts"], HOSTILE_NAMES, strict=False):
        entry["name"] = name
    return report_of(content)


@pytest.fixture(scope="module")
def many() -> dict[str, Any]:
    return report_of(organization(10_000))


def opened(page: Page, folder: Path, report: dict[str, Any]) -> int:
    """Open the report as a file; return its size in bytes."""
    ids = [row["id"] for row in report["accounts"]]
    html = reports.page(
        report,
        seen=reports.coverage(report["accounts"], listed=ids, organization=ids),
        history=last_sweeps(report),
        execution_arn=EVENT["execution_arn"],
        table="cases",
        detect_only=False,
    )
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    page.goto(file.as_uri())
    return file.stat().st_size


def column(page: Page, number: int) -> list[str]:
    """The texts of a column of the table of all accounts, as far as it is seen."""
    return [
        text.strip()
        for text in page.locator(f"{ROWS}:visible td:nth-child({number})").all_inner_texts()
    ]


def shows(page: Page, report: dict[str, Any]) -> None:
    """The numbers on the page are those of the report."""
    for name, count in sweeps.counts(report["accounts"]).items():
        if name != "total":
            shown = page.locator(f".tiles .{name} dd").inner_text().split()[0]
            assert int(shown.replace(",", "")) == count, name
    assert page.locator(ROWS).count() == len(report["accounts"])
    needing = [row for row in report["accounts"] if reports.need(row)]
    assert page.locator(".needs tbody tr").count() == len(needing)


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1280, "light")])
def test_a_report_is_accessible_fits_and_asks_nobody_for_anything(
    page_at: PageAt, traffic: Traffic, tmp_path: Path, width: int, scheme: Scheme
) -> None:
    page, report = page_at(width, scheme), few()
    opened(page, tmp_path, report)

    screenshot(page, f"report-{width}-{scheme}")
    shows(page, report)
    page.get_by_text("The figures of the chart").click()
    assert violations(page) == []
    assert not is_wider_than_its_window(page)
    assert page.get_by_text(CALC).count() >= 1
    assert page.evaluate("document.scripts.length") == 1
    assert traffic.errors == []
    assert traffic.outside(tmp_path.as_uri()) == []


def test_it_can_be_sorted_and_filtered_by_keyboard(page_at: PageAt, tmp_path: Path) -> None:
    page, report = page_at(), few()
    opened(page, tmp_path, report)
    ids = sorted(row["id"] for row in report["accounts"])
    assert column(page, 1) == ids

    account = page.get_by_role("button", name="Account")
    account.focus()
    page.keyboard.press("Enter")
    assert column(page, 1) == ids[::-1]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Account")

    page.get_by_role("button", name="Case").press("Enter")
    cases = column(page, 5)
    with_case = [each for each in cases if each]
    assert cases == sorted(with_case) + [""] * (len(cases) - len(with_case))

    page.get_by_label("State", exact=True).select_option("UNKNOWN")
    unknown = {row["id"] for row in report["accounts"] if row["state"] == "UNKNOWN"}
    assert set(column(page, 1)) == unknown
    assert page.get_by_role("status").inner_text() == f"{len(unknown)} of {len(ids)} accounts fit."

    page.get_by_label("State", exact=True).select_option("all")
    page.get_by_label("Filter").fill(CALC.upper())
    assert column(page, 2) == [CALC]
    page.get_by_label("Filter").fill("nothing is called so")
    assert column(page, 1) == []


def test_everything_is_there_without_javascript_and_on_paper(
    page_at: PageAt, tmp_path: Path
) -> None:
    report = report_of(organization(250, with_keys=0.1))
    plain = page_at(javascript=False)
    opened(plain, tmp_path, report)
    assert plain.locator(f"{ROWS}:visible").count() == 250
    assert not plain.locator("#controls").is_visible()

    page = page_at()
    opened(page, tmp_path, report)
    assert page.locator(f"{ROWS}:visible").count() == 100
    on_screen = page.pdf()
    page.get_by_label("State", exact=True).select_option("ROOT_KEYS")
    filtered = page.pdf()
    page.emulate_media(media="print")
    printed = column(page, 1)

    assert not page.locator("#controls").is_visible()
    assert printed == [row["id"] for row in report["accounts"] if row["state"] == "ROOT_KEYS"]
    assert on_screen.startswith(b"%PDF")
    assert on_screen.count(b"/Type /Page\n") > filtered.count(b"/Type /Page\n") > 0


def test_ten_thousand_accounts_are_one_file_that_opens_sorts_and_filters(
    page_at: PageAt, traffic: Traffic, tmp_path: Path, many: dict[str, Any]
) -> None:
    page = page_at()
    size = opened(page, tmp_path, many)

    assert size < 5_000_000
    shows(page, many)
    assert page.locator(f"{ROWS}:visible").count() == 100
    assert page.get_by_role("status").inner_text() == "100 of 10,000 accounts are shown."
    assert violations(page) == []

    page.get_by_role("button", name="Account").click()
    ids = sorted((row["id"] for row in many["accounts"]), reverse=True)
    assert column(page, 1) == ids[:100]

    page.get_by_label("Filter").fill("billing-")
    fit = [row["id"] for row in many["accounts"] if row["name"].startswith("billing-")]
    said = page.get_by_role("status").inner_text()
    assert said == f"{len(fit):,} of 10,000 accounts fit, 100 of them are shown."
    page.get_by_role("button", name="Show all").click()
    assert column(page, 1) == sorted(fit, reverse=True)
    assert traffic.errors == []
