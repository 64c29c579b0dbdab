from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import console, reports, sweeps
from rootsweep.accounts import AccountState
from rootsweep.cases import Outcome
from tests.reports import CALC, EVENT, HOSTILE_NAMES

from .builders import ACCOUNT, HOSTILE, REMEDIATE, a_key

COUNTS = {"total": 9, "clean": 4, "root_keys": 2, "excepted": 1, "unknown": 1, "skipped": 1}


def a_row(state: str = "CLEAN", id: str = ACCOUNT, **fields: Any) -> dict[str, Any]:
    row = {"id": id, "name": "payments-prod", "ou": "Workloads/Prod", "state": state}
    return row | {"reason": "", "keys": [], "case": None} | fields


def with_case(outcome: str, id: str = ACCOUNT, **fields: Any) -> dict[str, Any]:
    case = {
        "id": f"{id}-20260304T050607Z",
        "outcome": outcome,
        "execution_arn": REMEDIATE.replace("stateMachine", "execution") + f":{id}-20260304T050607Z",
        "opened_at": "2026-03-04T05:06:07Z",
        "rung": 1,
    }
    return a_row(
        **{"state": "ROOT_KEYS", "id": id, "keys": [a_key().to_dict()], "case": case} | fields
    )


def a_report(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "sweep_id": EVENT["sweep_id"],
        "started_at": EVENT["started_at"],
        "finished_at": "2026-11-27T06:05:00Z",
        "accounts": list(rows),
    }


def a_page(*rows: dict[str, Any], **given: Any) -> str:
    ids = [row["id"] for row in rows]
    return reports.page(
        a_report(*rows),
        **{
            "seen": reports.coverage(rows, listed=ids, organization=ids),
            "history": [],
            "execution_arn": EVENT["execution_arn"],
            "table": "cases",
            "detect_only": False,
        }
        | given,
    )


def a_sweep(day: int, **accounts: int) -> dict[str, Any]:
    return {
        "sweep_id": f"202611{day:02}T060000Z-1a2b3c4d",
        "started_at": f"2026-11-{day:02}T06:00:00Z",
        "accounts": COUNTS | accounts,
    }


# -- who needs somebody --------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_root_keys_always_need_somebody(outcome: Outcome) -> None:
    ended = {Outcome.REMEDIATED, Outcome.RESOLVED, Outcome.DECLINED}

    assert reports.need(with_case(outcome)) == (reports.NO_CASE if outcome in ended else outcome)


def test_so_does_what_is_unknown_and_nothing_else() -> None:
    assert reports.need(a_row("ROOT_KEYS")) == reports.NO_CASE
    assert reports.need(a_row("UNKNOWN")) == "UNKNOWN"
    assert reports.need(with_case("DECLINED", state="UNKNOWN")) == "UNKNOWN"
    for state in ("CLEAN", "SKIPPED", "EXCEPTED"):
        assert reports.need(a_row(state)) == ""
    assert reports.need(with_case("DECLINED", state="EXCEPTED")) == ""


def test_the_most_urgent_come_first() -> None:
    lately = a_key(last_used_at="2026-03-01T00:00:00+00:00").to_dict()
    long_ago = a_key(last_used_at="2019-03-01T00:00:00+00:00").to_dict()
    inactive = a_key(status="Inactive", last_used_at="2026-03-02T00:00:00+00:00").to_dict()
    rows = [
        a_row(),
        with_case("AWAITING_APPROVAL", "111111111111", keys=[inactive]),
        with_case("AWAITING_APPROVAL", "222222222222"),
        with_case("AWAITING_APPROVAL", "333333333333", keys=[long_ago]),
        with_case("AWAITING_APPROVAL", "444444444444", keys=[inactive, lately]),
        a_row("UNKNOWN", "555555555555"),
        with_case("FAILED", "666666666666"),
    ]

    found = reports.in_need(rows)

    assert list(found) == ["FAILED", "UNKNOWN", "AWAITING_APPROVAL"]
    assert [row["id"][0] for row in found["AWAITING_APPROVAL"]] == ["4", "3", "2", "1"]
    assert list(found) == [each for each in reports.NEEDS if each in found]


# -- proof of coverage ---------------------------------------------------------------------------


def test_a_report_of_all_that_was_listed_is_complete() -> None:
    rows = [a_row(), a_row("UNKNOWN", "444444444444")]
    ids = {ACCOUNT, "444444444444"}

    assert reports.coverage(rows, listed=ids, organization=ids) == (2, 2, 2, True)
    assert reports.coverage(rows, listed=ids, organization=ids).is_whole
    assert not reports.coverage(rows, listed=ids, organization={*ids, "5" * 12}).is_whole


@pytest.mark.parametrize(
    ("rows", "accounted_for"),
    [
        ([a_row()], 1),
        ([a_row(), a_row()], 1),
        ([a_row(), a_row(id="4" * 12), a_row(id="5" * 12)], 2),
        ([a_row(), a_row(id="5" * 12)], 1),
    ],
)
def test_one_that_is_missing_twice_or_not_listed_shows(rows: Any, accounted_for: int) -> None:
    ids = {ACCOUNT, "4" * 12}
    seen = reports.coverage(rows, listed=ids, organization=ids)

    assert (seen.accounted_for, seen.is_complete) == (accounted_for, False)
    page = a_page(*rows, seen=seen)
    assert "does not account for every account" in page
    assert f"2 listed, {accounted_for} accounted for: this report is not complete" in page


# -- the last sweeps -----------------------------------------------------------------------------


def test_a_sweep_is_in_the_history_once_in_its_place() -> None:
    report = a_report(a_row())
    later = a_sweep(28)
    once = reports.history_with([a_sweep(26), later], report)

    assert [each["sweep_id"][:8] for each in once] == ["20261126", "20261127", "20261128"]
    assert once[1]["accounts"] == sweeps.counts(report["accounts"])
    assert reports.history_with(once, report) == once


def test_the_history_is_bounded() -> None:
    old = [a_sweep(day) for day in range(1, 27)] * 3
    old += [each | {"sweep_id": f"2025{number}"} for number, each in enumerate(old)]

    assert len(reports.history_with(old, a_report(a_row()))) == reports.MOST_SWEEPS


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        "x",
        [None, 7, {}, {"sweep_id": "a"}],
        [a_sweep(1) | {"accounts": {"clean": 7}}],
        [a_sweep(1) | {"accounts": COUNTS | {"clean": "7"}}],
        [a_sweep(1) | {"accounts": COUNTS | {"clean": -7}}],
        [a_sweep(1) | {"started_at": "<script>"}],
        [a_sweep(1) | {"sweep_id": ["a"]}],
    ],
)
def test_what_is_no_history_is_left_out(broken: object) -> None:
    known = [*broken, a_sweep(26)] if isinstance(broken, list) else broken

    history = reports.history_with(known, a_report(a_row()))

    expected = ["20261126", "20261127"] if isinstance(broken, list) else ["20261127"]
    assert [each["sweep_id"][:8] for each in history] == expected


@given(st.lists(st.tuples(*[st.integers(0, 50_000)] * 3), min_size=1, max_size=30))
def test_the_chart_stays_in_its_frame_and_shows_what_is_there(numbers: list[Any]) -> None:
    history = [
        a_sweep(1, root_keys=found, unknown=unknown, excepted=excepted)
        for found, unknown, excepted in numbers
    ]
    bars = reports.chart(history)

    assert len(bars) == len(numbers)
    for bar, counted in zip(bars, numbers, strict=True):
        assert bar.accounts == sum(counted)
        assert -0.1 <= bar.x < bar.x + bar.width <= 300.1
        for (_, top, height), count in zip(bar.parts, counted, strict=True):
            assert top >= -0.1
            assert (height > 0) == (count > 0)
    assert sorted(bar.x for bar in bars) == [bar.x for bar in bars]


def test_a_sweep_is_compared_with_the_one_before_it_and_not_with_a_later_one() -> None:
    report = a_report(with_case("AWAITING_APPROVAL"))
    history = reports.history_with([a_sweep(25), a_sweep(26, clean=3), a_sweep(28)], report)

    page = a_page(*report["accounts"], history=history)

    assert "Compared with the sweep of 26 November 2026, 06:00 UTC." in page
    assert "The last 3 sweeps" in page
    assert ">\N{MINUS SIGN}3</span>" in page.partition("CLEAN")[2][:200]
    assert "28 November" not in page


def test_a_sweep_of_some_accounts_is_not_compared() -> None:
    seen = reports.coverage([a_row()], listed=[ACCOUNT], organization=[ACCOUNT, "4" * 12])
    page = a_page(a_row(), seen=seen)

    assert "asked for 1 of the 2 accounts" in page
    assert "Compared with" not in page
    assert "<svg" not in page


# -- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arn", ["", "x", "arn:aws-iso:states:us-iso-east-1:2:execution:a:b"])
def test_where_no_console_is_known_there_is_no_link(arn: str) -> None:
    row = with_case("FAILED")
    row["case"]["execution_arn"] = arn
    page = a_page(row, execution_arn=arn)
    assert "/states/home" not in page
    assert row["case"]["id"] in page


# -- for spreadsheet programs --------------------------------------------------------------------


def cells(report: dict[str, Any]) -> list[dict[str, str]]:
    text = reports.csv_of(report)
    assert text.startswith("\ufeff")
    assert text.count("\r\n") == text.count("\n") == len(report["accounts"]) + 1
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_there_is_a_line_for_each_account() -> None:
    used = a_key(last_used_at="2026-03-01T00:00:00+00:00", last_used_service="s3")
    row = with_case("AWAITING_APPROVAL", "000000000042", keys=[a_key().to_dict(), used.to_dict()])
    first, second = cells(a_report(row, a_row("UNKNOWN", reason="AccessDenied")))

    assert first == {
        "account": "0000-0000-0042",
        "account_id": "000000000042",
        "name": "payments-prod",
        "ou": "Workloads/Prod",
        "state": "ROOT_KEYS",
        "needs": "AWAITING_APPROVAL",
        "reason": "",
        "keys": "2",
        **{f"key_1_{name}": value or "" for name, value in a_key().to_dict().items()},
        **{f"key_2_{name}": value or "" for name, value in used.to_dict().items()},
        **{f"case_{name}": str(value) for name, value in row["case"].items()},
    }
    assert (second["state"], second["needs"], second["reason"], second["keys"]) == (
        "UNKNOWN",
        "UNKNOWN",
        "AccessDenied",
        "0",
    )
    assert second["case_id"] == second["key_1_id"] == ""


def test_no_key_is_left_out() -> None:
    [row] = cells(
        a_report(with_case("FAILED", keys=[a_key(f"AKIA{n}").to_dict() for n in range(3)]))
    )

    assert [row[f"key_{n}_id"] for n in (1, 2, 3)] == ["AKIA0", "AKIA1", "AKIA2"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "name",
    [*HOSTILE_NAMES, *HOSTILE, "\t=1+1", "\r\n=1+1", " =1+1", "\uff1d1+1", '";=1+1', "a\t@x"],
)
def test_no_cell_is_a_formula_whatever_the_program_splits_by(name: str, separator: str) -> None:
    text = reports.csv_of(a_report(a_row("UNKNOWN", name=name, ou=name, reason=name)))
    # As a program reads it that knows no quotes, or takes other characters for the end of a cell.
    for line in text.removeprefix("\ufeff").split("\r\n"):
        for cell in line.split(separator):
            bare = cell.strip().strip("\"' ")
            quoted = cell.strip().strip('"').strip()
            assert not bare.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) or quoted.startswith(
                "'"
            )


def test_a_formula_is_text_and_can_be_read() -> None:
    [row] = cells(a_report(a_row(name=CALC)))

    assert row["name"] == "'" + CALC


# -- the page ------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """What a browser would find in a page: its elements, and which addresses it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("hostile", [*HOSTILE_NAMES, *HOSTILE])
def test_nothing_from_outside_becomes_a_part_of_the_page(hostile: str) -> None:
    rows = [
        with_case("FAILED", name=hostile, ou=hostile, reason=hostile),
        a_row("UNKNOWN", "4" * 12, name=hostile, ou=hostile, reason=hostile),
        a_row(id="5" * 12, name=hostile, ou=hostile),
    ]
    harmless = [row | {"name": "x", "ou": "x", "reason": row["reason"] and "x"} for row in rows]

    page, other = a_page(*rows), a_page(*harmless)

    assert Parsed(page).elements == Parsed(other).elements
    assert Parsed(page).attributes == Parsed(other).attributes
    assert "\u2028" not in page
    assert "\u202e" not in page


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    page = a_page(with_case("FAILED"), a_row())
    parsed = Parsed(page)

    assert {name for name, _ in parsed.attributes} & {"src", "srcset", "style", "onclick"} == set()
    assert "link" not in parsed.elements
    assert parsed.elements.count("script") == parsed.elements.count("style") == 1
    [policy] = [value for name, value in parsed.attributes if value and "default-src" in value]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "@import" not in page
    assert "url(" not in page


def test_the_numbers_are_those_of_the_report() -> None:
    rows = [
        a_row(),
        with_case("FAILED", "4" * 12),
        with_case("DECLINED", "5" * 12, state="EXCEPTED", reason="until 2027-01-31"),
        a_row("UNKNOWN", "6" * 12, reason="AccessDenied"),
        a_row("SKIPPED", "7" * 12),
    ]
    page = a_page(*rows)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.partition("</style>")[2]))

    assert "2 accounts need somebody, of 5." in text
    assert "2 accounts have root access keys (1 of them by an exception), and 1 could not" in text
    assert "5 listed, 5 accounted for, each in exactly one state." in text
    assert "1 CLEAN + 1 ROOT_KEYS + 1 UNKNOWN + 1 EXCEPTED + 1 SKIPPED = 5" in text
    assert "not met in 2 of 4, 1 unknown" in text
    assert "about 1 nothing is known" in text
    assert page.count("<tr><td class=") == 5


def test_a_clean_organization_needs_nobody() -> None:
    page = a_page(a_row(), a_row("SKIPPED", "4" * 12))

    assert "No account needs somebody" in page
    assert "No account has root access keys." in page
    assert '<b class="clean">met</b> in 1 of 1' in page
    assert "not met" not in page


def test_what_is_unknown_is_not_taken_for_met() -> None:
    page = a_page(a_row(), a_row("UNKNOWN", "4" * 12))

    assert '<b class="unknown">unknown</b> in 1 of 2' in page
    assert ">met</b>" not in page


def test_where_everybody_needs_somebody_the_rest_is_in_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "MOST_IN_DETAIL", 2)
    rows = [a_row("UNKNOWN", f"{number:012}") for number in range(5)]
    rows.append(with_case("AWAITING_REMOVAL", "9" * 12))

    page = a_page(*rows)

    assert page.count('<tr id="a') == 2
    assert "And 3 more in the" in page
    assert "All of them are in the" in page
    assert f'<a href="{console.execution_link(rows[-1]["case"]["execution_arn"])}">' in page


def test_a_report_can_be_made_of_its_json() -> None:
    row = with_case("FAILED", state=AccountState.ROOT_KEYS)

    assert a_page(*json.loads(json.dumps([row]))) == a_page(row)
