from __future__ import annotations

import logging
from typing import Any

import pytest

from rootsweep import metrics

from .builders import NOW

NAMESPACE = "Rootsweep/rootsweep"
Put = tuple[str, str, str, float]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR)
    return caplog


def put(caplog: pytest.LogCaptureFixture) -> list[Put]:
    """Name, dimension with its value, and value of each metric in the log."""
    found = []
    for line in map(vars, caplog.records):
        [directive] = line["_aws"]["CloudWatchMetrics"]
        [dimensions] = directive["Dimensions"]
        about = "".join(f"{name} {line[name]}" for name in dimensions)
        assert directive["Namespace"] == NAMESPACE
        found += [
            (metric["Name"], metric["Unit"], about, line[metric["Name"]])
            for metric in directive["Metrics"]
        ]
    return found


def row(state: str = "CLEAN", case: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"state": state, "case": case}


def case(opened_at: str, rung: int = 1, outcome: str = "AWAITING_APPROVAL") -> dict[str, Any]:
    return {"outcome": outcome, "opened_at": f"{opened_at}T05:06:07Z", "rung": rung}


REPORT = {
    "started_at": "2026-03-04T05:00:00Z",
    "finished_at": "2026-03-04T05:06:07Z",
    "accounts": [
        row(),
        row("UNKNOWN"),
        row("SKIPPED"),
        row("ROOT_KEYS", case("2026-03-04")),
        row("ROOT_KEYS", case("2026-02-25", rung=2)),
        row("ROOT_KEYS", case("2026-02-24", rung=3, outcome="AWAITING_REMOVAL")),
        row("ROOT_KEYS", case("2025-12-31", rung=2)),
        # They have ended.
        row("ROOT_KEYS", case("2025-12-31", outcome="FAILED")),
        row("EXCEPTED", case("2025-12-31", outcome="DECLINED")),
    ],
}


def test_a_line_is_in_the_embedded_metric_format(logged: pytest.LogCaptureFixture) -> None:
    metrics.put(NAMESPACE, {"Decisions": 1}, now=NOW, Answer="APPROVED")

    [line] = map(vars, logged.records)
    assert line["_aws"] == {
        "Timestamp": 1772600767000,
        "CloudWatchMetrics": [
            {
                "Namespace": NAMESPACE,
                "Dimensions": [["Answer"]],
                "Metrics": [{"Name": "Decisions", "Unit": "Count"}],
            }
        ],
    }
    assert (line["Decisions"], line["Answer"]) == (1, "APPROVED")


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR"])
def test_no_level_leaves_a_metric_out(caplog: pytest.LogCaptureFixture, level: str) -> None:
    caplog.set_level(level)

    metrics.put(NAMESPACE, {"CasesOpened": 0}, now=NOW)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (level, "measured")
    ]


def test_without_a_namespace_nothing_is_measured(logged: pytest.LogCaptureFixture) -> None:
    metrics.put("", {"CasesOpened": 1}, now=NOW)

    assert logged.records == []


def test_a_sweep_of_all_accounts_says_how_they_and_their_cases_stand(
    logged: pytest.LogCaptureFixture,
) -> None:
    metrics.put_sweep(NAMESPACE, REPORT, cases_opened=1, rungs=2, is_of_all_accounts=True)

    assert put(logged) == [
        ("SweepSeconds", "Seconds", "", 367),
        ("CasesOpened", "Count", "", 1),
        ("Accounts", "Count", "State CLEAN", 1),
        ("Accounts", "Count", "State ROOT_KEYS", 5),
        ("Accounts", "Count", "State EXCEPTED", 1),
        ("Accounts", "Count", "State UNKNOWN", 1),
        ("Accounts", "Count", "State SKIPPED", 1),
        ("OpenCases", "Count", "Rung 1", 1),
        ("OpenCases", "Count", "Rung 2", 2),
        ("OpenCases", "Count", "Rung 3", 1),
        ("OpenCases", "Count", "Age up to 7 days", 2),
        ("OpenCases", "Count", "Age up to 30 days", 1),
        ("OpenCases", "Count", "Age over 30 days", 1),
    ]


def test_nobody_takes_some_accounts_for_all(logged: pytest.LogCaptureFixture) -> None:
    metrics.put_sweep(NAMESPACE, REPORT, cases_opened=1, rungs=2, is_of_all_accounts=False)

    assert [name for name, *_ in put(logged)] == ["SweepSeconds", "CasesOpened"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"changed": ["decision"], "decision": {"answer": "DECLINED"}},
            [("Decisions", "Count", "Answer DECLINED", 1)],
        ),
        # People are asked anew.
        ({"changed": ["decision"], "decision": None}, []),
        (
            {"changed": ["ended_at", "outcome"], "outcome": "ESCALATED"},
            [("CasesEnded", "Count", "Outcome ESCALATED", 1)],
        ),
        ({"changed": ["keys"], "decision": {"answer": "APPROVED"}, "outcome": "FAILED"}, []),
    ],
)
def test_decisions_and_ends_are_counted_when_they_come(
    logged: pytest.LogCaptureFixture, told: dict[str, Any], expected: list[Put]
) -> None:
    metrics.put_change(NAMESPACE, told, now=NOW)

    assert put(logged) == expected
