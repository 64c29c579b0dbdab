from __future__ import annotations

import csv
import io
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import write_report
from botocore.exceptions import ClientError

from rootsweep import console
from rootsweep.accounts import Account, AccountState
from rootsweep.sweeps import CheckResult, SweepFiles
from tests import reports

from .builders import ACCOUNT, UNITS, a_key, an_account, an_error

EVENT = {
    "sweep_id": "a-sweep",
    "started_at": "2026-03-04T05:06:07Z",
    "execution_arn": "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-sweep:1",
    "detect_only": False,
    "parts": 1,
    "cases_opened": 1,
}
A_CASE = {
    "id": "c",
    "outcome": "AWAITING_APPROVAL",
    "execution_arn": "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-remediate:c",
    "opened_at": "2026-03-04T05:06:07Z",
    "rung": 1,
}
HISTORY = "sweeps/history.json"


@pytest.fixture
def files(s3: Any) -> SweepFiles:
    return SweepFiles(s3, bucket="reports", sweep_id="a-sweep")


def written(s3: Any) -> dict[str, Any]:
    body = s3.get_object(Bucket="reports", Key="sweeps/a-sweep/report.json")["Body"]
    report: dict[str, Any] = json.load(body)
    return report


def read(s3: Any, key: str) -> str:
    body: bytes = s3.get_object(Bucket="reports", Key=key)["Body"].read()
    return body.decode()


def list_accounts(files: SweepFiles, *accounts: Account) -> None:
    files.write_units(UNITS)
    files.write_organization(0, accounts)
    files.write_accounts(0, accounts)


def swept(s3: Any, day: int, **event: Any) -> dict[str, Any]:
    """The answer for another sweep of the one account of the organization."""
    id = f"202603{day:02}T060000Z-1a2b3c4d"
    files = SweepFiles(s3, bucket="reports", sweep_id=id)
    list_accounts(files, an_account())
    files.write_cases({})
    began = f"2026-03-{day:02}T06:00:00Z"
    return write_report.handler(EVENT | {"sweep_id": id, "started_at": began} | event, None)


def test_every_account_of_the_sweep_is_in_the_report_once(s3: Any, files: SweepFiles) -> None:
    case = A_CASE
    list_accounts(
        files,
        an_account(),
        an_account("333333333334"),
        an_account("333333333335", organizations_state="SUSPENDED"),
        an_account("333333333336"),
        an_account("333333333337"),
    )
    files.write_check_results(
        "0",
        [
            CheckResult(ACCOUNT, AccountState.ROOT_KEYS),
            CheckResult("333333333334", AccountState.CLEAN),
            CheckResult("333333333337", AccountState.UNKNOWN, "AssumeRole: AccessDenied: no"),
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
        "execution": console.execution_link(EVENT["execution_arn"]),
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
    list_accounts(files, an_account())
    files.write_cases({})

    first = write_report.handler(EVENT, None)
    accounts, history = written(s3)["accounts"], read(s3, HISTORY)

    assert write_report.handler(EVENT, None) == first
    assert written(s3)["accounts"] == accounts
    assert read(s3, HISTORY) == history


def test_without_the_list_of_accounts_there_is_no_report(files: SweepFiles) -> None:
    files.write_cases({})

    with pytest.raises(ClientError, match="NoSuchKey"):
        write_report.handler(EVENT, None)


# -- what people look at -------------------------------------------------------------------------


def test_what_people_look_at_says_what_the_report_says(s3: Any) -> None:
    files = SweepFiles(s3, bucket="reports", sweep_id=reports.EVENT["sweep_id"])
    organization = reports.organization(300, with_keys=0.2)
    reports.write_files(files, organization)

    output = write_report.handler(reports.EVENT, None)

    report = json.loads(read(s3, output["report"].removeprefix("s3://reports/")))
    expected = {entry["id"]: entry["expect"]["account"] for entry in organization["accounts"]}
    assert {row["id"]: row["state"] for row in report["accounts"]} == expected
    stem = output["report"].removeprefix("s3://reports/").removesuffix("json")
    lines = csv.DictReader(io.StringIO(read(s3, f"{stem}csv").removeprefix("\ufeff"), newline=""))
    assert {line["account_id"]: line["state"] for line in lines} == expected
    page = read(s3, f"{stem}html")
    rows = re.findall(r'<td class="id">(\d{12})<td [^>]+>[^<]*<td [^>]+>[^<]*<td [^>]+>(\w+)', page)
    assert len(rows) == 300
    assert dict(rows) == expected
    for name, count in output["accounts"].items():
        if name != "total":
            [shown] = re.findall(rf'<div class="{name}">.*?<dd>([\d,]+)', page, flags=re.S)
            assert int(shown.replace(",", "")) == count
    assert "300 listed, 300 accounted for, each in exactly one state." in page


def test_they_are_files_that_a_browser_and_a_spreadsheet_program_open(s3: Any) -> None:
    stem = swept(s3, 1)["report"].removeprefix("s3://reports/").removesuffix("json")

    types = [s3.head_object(Bucket="reports", Key=f"{stem}{end}") for end in ("csv", "html")]
    assert [each["ContentType"] for each in types] == [
        "text/csv; charset=utf-8",
        "text/html; charset=utf-8",
    ]


def test_sweeps_of_the_whole_organization_are_compared(s3: Any) -> None:
    for day in (1, 2, 3):
        output = swept(s3, day)

    assert [each["started_at"][:10] for each in json.loads(read(s3, HISTORY))] == [
        "2026-03-01",
        "2026-03-02",
        "2026-03-03",
    ]
    page = read(s3, output["report"].removeprefix("s3://reports/").replace(".json", ".html"))
    assert "The last 3 sweeps" in page


def test_a_sweep_of_some_accounts_is_no_part_of_the_history(s3: Any, files: SweepFiles) -> None:
    files.write_organization(0, [an_account(), an_account("333333333334")])
    files.write_units(UNITS)
    files.write_accounts(0, [an_account()])
    files.write_cases({})

    write_report.handler(EVENT, None)

    assert "asked for 1 of the 2 accounts" in read(s3, "sweeps/a-sweep/report.html")
    with pytest.raises(ClientError, match="NoSuchKey"):
        read(s3, HISTORY)


@pytest.mark.parametrize("broken", ["", "{", "null", "7", '["x"]', '[{"sweep_id": 7}]'])
def test_a_broken_history_is_begun_anew(s3: Any, broken: str) -> None:
    s3.put_object(Bucket="reports", Key=HISTORY, Body=broken)

    assert "not_written" not in swept(s3, 1)
    assert len(json.loads(read(s3, HISTORY))) == 1


def test_a_history_that_cannot_be_read_is_kept_and_costs_only_the_chart(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(s3, 1)
    before = read(s3, HISTORY)

    def refuse(_: SweepFiles) -> object:
        raise an_error("SlowDown", "GetObject")

    monkeypatch.setattr(SweepFiles, "read_history", refuse)
    output = swept(s3, 2)

    assert output["not_written"] == "history.json: GetObject: SlowDown: no"
    assert read(s3, HISTORY) == before
    assert "1 listed" in read(s3, "sweeps/20260302T060000Z-1a2b3c4d/report.html")


@pytest.mark.parametrize(
    ("method", "file", "other"),
    [("write_csv", "report.csv", "report.html"), ("write_page", "report.html", "report.csv")],
)
def test_what_cannot_be_written_for_people_costs_neither_the_report_nor_the_rest(
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    file: str,
    other: str,
) -> None:
    def fail(_: SweepFiles, __: str) -> None:
        raise RuntimeError("it is full")

    monkeypatch.setattr(SweepFiles, method, fail)
    with caplog.at_level(logging.ERROR):
        output = swept(s3, 1)

    assert output["not_written"] == f"{file}: RuntimeError: it is full"
    assert f"{file} was not written" in caplog.text
    assert output["accounts"]["total"] == 1
    assert read(s3, output["report"].removeprefix("s3://reports/"))
    assert read(s3, f"sweeps/20260301T060000Z-1a2b3c4d/{other}")


def test_a_case_that_nobody_foresaw_costs_no_report(files: SweepFiles) -> None:
    list_accounts(files, an_account())
    files.write_check_results("0", [CheckResult(ACCOUNT, AccountState.ROOT_KEYS)])
    files.write_cases({ACCOUNT: {"keys": [{}], "reason": "", "case": {"id": "c"}}})

    output = write_report.handler(EVENT, None)

    assert "report.html: " in output["not_written"]
    assert output["accounts"]["root_keys"] == 1


def test_a_sweep_of_an_older_definition_has_a_report_too(s3: Any) -> None:
    started = {name: value for name, value in EVENT.items() if name != "execution_arn"}
    files = SweepFiles(s3, bucket="reports", sweep_id="a-sweep")
    list_accounts(files, an_account())
    files.write_cases({})

    assert "not_written" not in write_report.handler(started, None)
    assert "its execution in Step Functions" not in read(s3, "sweeps/a-sweep/report.html")
    swept(s3, 2)
    page = read(s3, "sweeps/20260302T060000Z-1a2b3c4d/report.html")
    assert "#/v2/executions/details/" + EVENT["execution_arn"] in page
    assert "rootsweep, account 222222222222, eu-west-1." in page


def test_the_report_is_there_even_if_the_sweep_cannot_be_measured(
    s3: Any,
    files: SweepFiles,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(write_report, "METRICS_NAMESPACE", "Rootsweep/rootsweep")
    list_accounts(files, an_account())
    files.write_check_results("0", [CheckResult(ACCOUNT, AccountState.CLEAN)])
    files.write_cases({})

    write_report.handler(EVENT, None)  # Nobody says how many rungs there are.
    write_report.handler({**EVENT, "escalation_policy": [{}]}, None)

    said = [record.getMessage() for record in caplog.records]
    assert said.count("the sweep could not be measured") == 1
    assert said.count("measured") == 2 + 5 + 1 + 3
    assert len(written(s3)["accounts"]) == 1
