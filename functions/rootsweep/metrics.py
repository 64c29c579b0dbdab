"""Numbers for the dashboard, as lines of the log that CloudWatch makes metrics of.

Embedded metric format: CloudWatch User Guide, "Specification: Embedded metric format". There is no
call that could fail or wait, and no permission for one. Each value of a dimension is a metric that
costs, so there are few of them, and none is an account.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rootsweep import sweeps
from rootsweep.cases import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger()

_OPEN = {Outcome.AWAITING_APPROVAL, Outcome.AWAITING_REMOVAL}
# How old open cases are, as the dimension Age says it.
_AGES = {"up to 7 days": timedelta(days=7), "up to 30 days": timedelta(days=30)}
_OLDER = "over 30 days"


def put(
    namespace: str,
    values: Mapping[str, float],
    *,
    now: datetime,
    unit: str = "Count",
    **dimension: str,
) -> None:
    """Leave a line with the values of metrics, by name, in a dimension or in none.

    None without a namespace. The line has the lowest level that is logged, for at another one it
    could be left out.
    """
    if not namespace:
        return
    told = {
        "Timestamp": int(now.timestamp() * 1000),
        "CloudWatchMetrics": [
            {
                "Namespace": namespace,
                "Dimensions": [list(dimension)],
                "Metrics": [{"Name": name, "Unit": unit} for name in values],
            }
        ],
    }
    log.log(log.getEffectiveLevel(), "measured", extra={"_aws": told, **dimension, **values})


def put_sweep(
    namespace: str,
    report: Mapping[str, Any],
    *,
    cases_opened: int,
    rungs: int,
    is_of_all_accounts: bool,
) -> None:
    """What a sweep took and came to; how the accounts and cases stand, if it looked at them all.

    The escalation policy has so many `rungs`; a case can be on a later one of an older policy.
    """
    now = datetime.fromisoformat(report["finished_at"])
    seconds = (now - datetime.fromisoformat(report["started_at"])).total_seconds()
    put(namespace, {"SweepSeconds": seconds}, now=now, unit="Seconds")
    put(namespace, {"CasesOpened": cases_opened}, now=now)
    if not is_of_all_accounts:
        return
    states = sweeps.counts(report["accounts"])
    del states["total"]
    for state, count in states.items():
        put(namespace, {"Accounts": count}, now=now, State=state.upper())
    known = [row["case"] for row in report["accounts"] if row["case"]]
    open_cases = [case for case in known if case["outcome"] in _OPEN]
    by_rung = Counter(dict.fromkeys(range(1, rungs + 1), 0))
    by_rung.update(case["rung"] for case in open_cases)
    for rung, count in by_rung.items():
        put(namespace, {"OpenCases": count}, now=now, Rung=str(rung))
    by_age = Counter(dict.fromkeys((*_AGES, _OLDER), 0))
    by_age.update(_age(case, now) for case in open_cases)
    for age, count in by_age.items():
        put(namespace, {"OpenCases": count}, now=now, Age=age)


def put_change(namespace: str, told: Mapping[str, Any], *, now: datetime) -> None:
    """What was decided about a case, or how it ended, if that is what changed.

    `told` is the detail of an event, see `announcements`.
    """
    if "decision" in told["changed"] and told["decision"]:
        put(namespace, {"Decisions": 1}, now=now, Answer=told["decision"]["answer"])
    if "ended_at" in told["changed"]:
        put(namespace, {"CasesEnded": 1}, now=now, Outcome=told["outcome"])


def _age(case: Mapping[str, Any], now: datetime) -> str:
    age = now - datetime.fromisoformat(case["opened_at"])
    return next((name for name, limit in _AGES.items() if age <= limit), _OLDER)
