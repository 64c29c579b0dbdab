"""What people look at in a report: who needs somebody, the last sweeps, and ways to the evidence.

`sweeps.report` is where a report comes from. The words around it are in `templates/report.html`.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rootsweep import console, messages
from rootsweep.accounts import AccountState
from rootsweep.cases import Outcome
from rootsweep.frameworks import REQUIREMENTS
from rootsweep.sweeps import counts
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# Who needs somebody, and how much: the most urgent first. The words are in `templates/report.html`.
NO_CASE = "NO_CASE"
NEEDS = (
    Outcome.FAILED,
    Outcome.ESCALATED,
    AccountState.UNKNOWN,
    NO_CASE,
    Outcome.AWAITING_REMOVAL,
    Outcome.AWAITING_APPROVAL,
)
# So many are shown with everything about them; a page of 10,000 that all need somebody opens still.
MOST_IN_DETAIL = 1000
# The sweeps of the chart.
MOST_SWEEPS = 30
_STATES_OF_THE_CHART = ("root_keys", "unknown", "excepted")
_CHART_WIDTH, _CHART_HEIGHT = 300, 100

# What a spreadsheet program takes for a formula, in any script, at the beginning of a cell (OWASP,
# "CSV Injection"): also after what another locale takes for the end of one.
_FORMULA = re.compile(r"(^|[\"',;|])(\s*)([=+\-@\uff1d\uff0b\uff0d\uff20])")


class Coverage(NamedTuple):
    """How many accounts the organization has, the sweep listed, and the report accounts for."""

    organization: int
    listed: int
    accounted_for: int
    is_complete: bool

    @property
    def is_whole(self) -> bool:
        """Whether the sweep was one of the whole organization."""
        return self.listed == self.organization


class Bar(NamedTuple):
    """A sweep in the chart: how many accounts were not clean, where its bar is, and its parts.

    A part is `(state, top, height)`, from the ground up; sizes are units of the drawing.
    """

    accounts: int
    x: float
    width: float
    parts: list[tuple[str, float, float]]


def coverage(
    rows: Sequence[dict[str, Any]], *, listed: Collection[str], organization: Collection[str]
) -> Coverage:
    """Whether each listed account is in the report once, in one state; counted, not assumed."""
    ids = [row["id"] for row in rows]
    found = counts(rows)
    total = found.pop("total")
    is_complete = len(ids) == len(set(ids)) and set(ids) == set(listed)
    return Coverage(
        organization=len(organization),
        listed=len(listed),
        accounted_for=len(set(ids) & set(listed)),
        is_complete=is_complete and sum(found.values()) == total == len(ids),
    )


def need(row: dict[str, Any]) -> str:
    """What an account in the report needs somebody for, one of `NEEDS`, or ""."""
    if row["state"] == AccountState.UNKNOWN:
        return AccountState.UNKNOWN
    if row["state"] != AccountState.ROOT_KEYS:
        return ""
    outcome = row["case"]["outcome"] if row["case"] else NO_CASE
    # A case that has ended asks nobody about keys that are there again, or still.
    return outcome if outcome in NEEDS else NO_CASE


def in_need(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The accounts that need somebody, by what for; the most urgent first.

    Among them those come first that have an active key, and of these those with the latest use.
    """
    found: dict[str, list[dict[str, Any]]] = {each: [] for each in NEEDS}
    for row in rows:
        if what_for := need(row):
            found[what_for].append(row)
    for those in found.values():
        those.sort(key=lambda row: row["id"])
        those.sort(key=_latest_use, reverse=True)
        those.sort(key=lambda row: all(key["status"] != "Active" for key in row["keys"]))
    return {what_for: those for what_for, those in found.items() if those}


def history_with(history: object, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The last sweeps of the whole organization, oldest first, with the one of the report.

    Each is `{"sweep_id", "started_at", "accounts": counts}`. Of a `history` that is none, or has
    entries that are none, the rest is kept: it makes a chart and nothing else.
    """
    accounts = counts(report["accounts"])
    known = history if isinstance(history, list) else []
    by_id = {each["sweep_id"]: each for each in known if _is_sweep(each, accounts)}
    by_id[report["sweep_id"]] = {
        "sweep_id": report["sweep_id"],
        "started_at": report["started_at"],
        "accounts": accounts,
    }
    return sorted(by_id.values(), key=lambda each: each["sweep_id"])[-MOST_SWEEPS:]


def chart(history: Sequence[dict[str, Any]]) -> list[Bar]:
    """The sweeps of a history as bars of a drawing of 300 × 100 units: what was not clean."""
    most = max((sum(_parts(each).values()) for each in history), default=0) or 1
    step = _CHART_WIDTH / max(len(history), 8)
    bars = []
    for number, each in enumerate(history):
        top, parts = float(_CHART_HEIGHT), []
        for state, count in _parts(each).items():
            # What is there is seen, however much there is of the rest.
            height = max(count / most * (_CHART_HEIGHT - 6), 1.5) if count else 0.0
            top -= height
            parts.append((state, round(top, 1), round(height, 1)))
        x = _CHART_WIDTH - step * (len(history) - number)
        not_clean = sum(_parts(each).values())
        bars.append(Bar(not_clean, round(x, 1), round(step * 0.8, 1), parts))
    return bars


def page(
    report: dict[str, Any],
    *,
    seen: Coverage,
    history: Sequence[dict[str, Any]],
    execution_arn: str,
    table: str,
    detect_only: bool,
) -> str:
    """The report as one HTML file.

    `history` is that of `history_with`, and empty for a sweep of selected accounts; `execution_arn`
    is the sweep's, "" if it is not known; `table` is the name of the table of the cases.
    """
    history = [each for each in history if each["sweep_id"] <= report["sweep_id"]]
    needs = in_need(report["accounts"])
    in_detail = [row["id"] for rows in needs.values() for row in rows][:MOST_IN_DETAIL]
    return messages.report_page(
        report,
        counts=counts(report["accounts"]),
        coverage=seen,
        needs=needs,
        in_detail=frozenset(in_detail),
        history=history,
        before=history[-2] if len(history) > 1 else None,
        bars=chart(history),
        requirements=REQUIREMENTS,
        execution_arn=execution_arn,
        stack=_stack(execution_arn),
        execution_link=console.execution_link,
        evidence_link=partial(console.evidence_link, table=table),
        detect_only=detect_only,
    )


def csv_of(report: dict[str, Any]) -> str:
    """The report for spreadsheet programs: a line for each account, CRLF, all cells quoted.

    It begins with a byte order mark, without which Excel takes it for another encoding. Programs
    read `account_id`; `account` has dashes as in the AWS console, so that no spreadsheet program
    makes a number of it. Names are plain, and what would be a formula has an apostrophe before it.
    """
    most_keys = max(2, *(len(row["keys"]) for row in report["accounts"]), 0)
    of_a_key = ("id", "status", "created", "last_used_at", "last_used_service", "last_used_region")
    of_a_case = ("id", "outcome", "rung", "opened_at", "execution_arn")
    file = io.StringIO()
    file.write("\ufeff")
    lines = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    lines.writerow(
        [
            *("account", "account_id", "name", "ou", "state", "needs", "reason", "keys"),
            *(f"key_{number + 1}_{name}" for number in range(most_keys) for name in of_a_key),
            *(f"case_{name}" for name in of_a_case),
        ]
    )
    for row in report["accounts"]:
        id, keys, case = row["id"], row["keys"], row["case"] or {}
        keys = [*keys, *[{}] * (most_keys - len(keys))]
        cells = [
            *(f"{id[:4]}-{id[4:8]}-{id[8:]}", id, row["name"], row["ou"], row["state"]),
            *(need(row), row["reason"], len(row["keys"])),
            *(key.get(name) for key in keys for name in of_a_key),
            *(case.get(name) for name in of_a_case),
        ]
        lines.writerow([_harmless(cell) for cell in cells])
    return file.getvalue()


def _harmless(cell: object) -> object:
    """A cell in which no spreadsheet program finds a formula."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return _FORMULA.sub(r"\1\2'\3", plain(cell, 1000))
    return cell


def _latest_use(row: dict[str, Any]) -> str:
    return max((key["last_used_at"] or "" for key in row["keys"]), default="")


def _parts(sweep: dict[str, Any]) -> dict[str, int]:
    return {state: sweep["accounts"][state] for state in _STATES_OF_THE_CHART}


def _is_sweep(each: object, accounts: dict[str, int]) -> bool:
    match each:
        case {"sweep_id": str(), "started_at": str(started_at), "accounts": {**numbers}}:
            try:
                datetime.fromisoformat(started_at)
            except ValueError:
                return False
            return numbers.keys() == accounts.keys() and all(
                isinstance(number, int) and number >= 0 for number in numbers.values()
            )
    return False


def _stack(execution_arn: str) -> dict[str, str]:
    """Name, account and Region of the stack that a sweep's execution belongs to."""
    match execution_arn.split(":"):
        case ["arn", _, _, region, account, "execution", machine, *_]:
            return {"name": machine.removesuffix("-sweep"), "account": account, "region": region}
    return {}
