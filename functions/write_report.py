"""Write the report: every account of the sweep in exactly one state."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import boto3

from rootsweep import logs, sweeps
from rootsweep.calls import CALLS

BUCKET = os.environ["BUCKET"]
s3 = boto3.client("s3", config=CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The sweep -> `{"sweep_id", "accounts": {counts}, "cases_opened", "report"}`."""
    files = sweeps.SweepFiles(s3, bucket=BUCKET, sweep_id=event["sweep_id"])
    report = sweeps.report(
        sweep_id=event["sweep_id"],
        started_at=event["started_at"],
        finished_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        accounts=files.read_accounts(event["parts"]),
        findings=files.read_findings(),
        cases=files.read_cases(),
    )
    return {
        "sweep_id": event["sweep_id"],
        "accounts": sweeps.counts(report["accounts"]),
        "cases_opened": event["cases_opened"],
        "report": files.write_report(report),
    }
