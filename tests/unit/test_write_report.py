from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import write_report
from botocore.exceptions import ClientError

from rootsweep.accounts import AccountState
from rootsweep.sweeps import Finding, SweepFiles

from .builders import ACCOUNT, UNITS, a_key, an_account

EVENT = {
    "sweep_id": "a-sweep",
    "started_at": "2026-03-04T05:06:07Z",
    "parts": 1,
    "cases_opened": 1,
}


@pytest.fixture
def files(s3: Any) -> SweepFiles:
    files = SweepFiles(s3, bucket="reports", sweep_id="a-sweep")
    files.write_units(UNITS)
    return files


def written(s3: Any) -> dict[str, Any]:
    body = s3.get_object(Bucket="reports", Key="sweeps/a-sweep/report.json")["Body"]
    report: dict[str, Any] = json.load(body)
    return report


def test_every_account_of_the_sweep_is_in_the_report_once(s3: Any, files: SweepFiles) -> None:
    case = {"id": "c", "outcome": "AWAITING_APPROVAL"}
    files.write_accounts(
        0,
        [
            an_account(),
            an_account("333333333334"),
            an_account("333333333335", organizations_state="SUSPENDED"),
            an_account("333333333336"),
            an_account("333333333337"),
        ],
    )
    files.write_findings(
        "0",
        [
            Finding(ACCOUNT, AccountState.ROOT_KEYS),
            Finding("333333333334", AccountState.CLEAN),
            Finding("333333333337", AccountState.UNKNOWN, "AssumeRole: AccessDenied: no"),
        ],
    )
    files.write_cases({ACCOUNT: {"keys": [a_key().to_dict()], "reason": "", "case": case}})

    assert write_report.handler(EVENT, None) == {
        "sweep_id": "a-sweep",
        "accounts": {
            "total": 5,
            "clean": 1,
            "root_keys": 1,
            "excepted": 0,
            "unknown": 2,
            "skipped": 1,
        },
        "cases_opened": 1,
        "report": "s3://reports/sweeps/a-sweep/report.json",
    }
    report = written(s3)
    assert [(row["id"], row["state"]) for row in report["accounts"]] == [
        (ACCOUNT, "ROOT_KEYS"),
        ("333333333334", "CLEAN"),
        ("333333333335", "SKIPPED"),
        ("333333333336", "UNKNOWN"),
        ("333333333337", "UNKNOWN"),
    ]
    assert report["accounts"][0] == {
        "id": ACCOUNT,
        "name": "payments-prod",
        "ou": "Workloads/Prod",
        "state": "ROOT_KEYS",
        "reason": "",
        "keys": [a_key().to_dict()],
        "case": case,
    }
    assert "did not finish" in report["accounts"][3]["reason"]
    assert report["accounts"][4]["reason"] == "AssumeRole: AccessDenied: no"
    assert report["started_at"] == "2026-03-04T05:06:07Z"
    assert datetime.fromisoformat(report["finished_at"]) <= datetime.now(UTC)


def test_writing_it_again_says_the_same(s3: Any, files: SweepFiles) -> None:
    files.write_accounts(0, [an_account()])
    files.write_cases({})

    first = write_report.handler(EVENT, None)
    accounts = written(s3)["accounts"]

    assert write_report.handler(EVENT, None) == first
    assert written(s3)["accounts"] == accounts


def test_without_the_list_of_accounts_there_is_no_report(files: SweepFiles) -> None:
    files.write_cases({})

    with pytest.raises(ClientError, match="NoSuchKey"):
        write_report.handler(EVENT, None)
