"""Write the report: every account of the sweep in exactly one state."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3

from rootsweep import console, logs, metrics, reports, root_access, sweeps
from rootsweep.calls import CALLS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BUCKET = os.environ["BUCKET"]
METRICS_NAMESPACE = os.environ["METRICS_NAMESPACE"]
TABLE = os.environ["TABLE"]
log = logging.getLogger()
s3 = boto3.client("s3", config=CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The sweep -> `{"sweep_id", "accounts": {counts}, "cases_opened", "report", "execution"}`.

    The event has the `execution_arn` of the sweep, if its definition is new enough. `not_written`
    is there if what people look at could not be written beside the report, and says why.
    """
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    accounts = files.read_accounts(event["parts"])
    report = sweeps.report(
        sweep_id=event["sweep_id"],
        started_at=event["started_at"],
        finished_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        accounts=accounts,
        results=files.read_check_results(),
        cases=files.read_cases(),
    )
    output = {
        "sweep_id": event["sweep_id"],
        "accounts": sweeps.counts(report["accounts"]),
        "cases_opened": event["cases_opened"],
        "report": files.write_report(report),
        "execution": console.link_or_arn(event.get("execution_arn", "")),
    }
    not_written = write_for_people(files, report, event, listed={each.id for each in accounts})
    return output | {"not_written": not_written} if not_written else output


def write_for_people(
    files: sweeps.SweepFiles,
    report: dict[str, Any],
    event: dict[str, Any],
    *,
    listed: Collection[str],
) -> str:
    """Write what people look at, and measure; return why something was not written, or "".

    It never fails: the sweep has its report by now, and may have to alert somebody.
    """
    failed: list[str] = []
    history: list[dict[str, Any]] = []
    with noted(failed, "report.csv"):
        files.write_csv(reports.csv_of(report))
    with noted(failed, "report.html"):
        seen = reports.coverage(
            report["accounts"],
            listed=listed,
            organization=files.read_organization(event["parts"]),
        )
        if METRICS_NAMESPACE:
            measure(event, report, is_of_all_accounts=seen.is_whole)
        if seen.is_whole:
            with noted(failed, "history.json"):
                history = reports.history_with(files.read_history(), report)
                files.write_history(history)
        files.write_page(
            reports.page(
                report,
                seen=seen,
                history=history,
                execution_arn=event.get("execution_arn", ""),
                table=TABLE,
                detect_only=event["detect_only"],
            )
        )
    return "; ".join(failed)


@contextmanager
def noted(failed: list[str], file: str) -> Iterator[None]:
    """Inside, an error is logged, and noted in `failed` as why there is no such file."""
    try:
        yield
    except Exception as error:
        log.exception("%s was not written", file)
        failed.append(f"{file}: {root_access.reason(error)}")


def measure(event: dict[str, Any], report: dict[str, Any], *, is_of_all_accounts: bool) -> None:
    """Put what is to be seen of the sweep on the dashboard. Raises nothing: there is the report."""
    try:
        metrics.put_sweep(
            METRICS_NAMESPACE,
            report,
            cases_opened=event["cases_opened"],
            rungs=len(event["escalation_policy"]),
            is_of_all_accounts=is_of_all_accounts,
        )
    except Exception:
        log.exception("the sweep could not be measured")
