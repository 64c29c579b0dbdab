"""Sweeps of the deployed stack on the embedded AWS."""

from __future__ import annotations

import csv
import io
import re

import pytest

from tests.deployed.conftest import (
    LEAVES,
    MANAGEMENT_ACCOUNT,
    ORGANIZATION,
    SECURITY_ACCOUNT,
    Deployed,
)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"accounts": ["12345"]}, "accounts[0]"),
        ({"organizational_units": ["Workloads"]}, "organizational_units[0]"),
        ({"detect_only": "yes"}, "detect_only"),
        ({"acounts": ["400000000001"]}, "acounts"),
    ],
)
def test_a_bad_input_fails_the_first_state_and_names_the_field(
    deployed: Deployed, given: dict, named: str
) -> None:
    execution = deployed.start_sweep(**given)

    described = deployed.ended(execution)

    assert described["status"] == "FAILED"
    assert described["error"] == "InvalidSweepInputError"
    assert named in described["cause"]
    history = deployed.stepfunctions.get_execution_history(executionArn=execution)["events"]
    entered = [event for event in history if event["type"].endswith("StateEntered")]
    assert [event["stateEnteredEventDetails"]["name"] for event in entered] == [
        "Check prerequisites"
    ]


def test_an_account_that_is_not_in_the_organization_is_refused(deployed: Deployed) -> None:
    described = deployed.ended(deployed.start_sweep(accounts=["499999999999"]))

    assert described["error"] == "InvalidSweepInputError"
    assert "accounts: 499999999999" in described["cause"]


def test_detect_only_reports_every_account_and_opens_no_case(deployed: Deployed) -> None:
    output = deployed.sweep(detect_only=True)

    listed = {entry["id"] for entry in ORGANIZATION["accounts"]}
    listed |= {MANAGEMENT_ACCOUNT, SECURITY_ACCOUNT}
    assert output["rows"].keys() - {LEAVES} == listed - {LEAVES}
    assert output["accounts"]["total"] == len(output["rows"])
    assert sum(output["accounts"].values()) == 2 * len(output["rows"])
    assert output["cases_opened"] == 0
    row = output["rows"]["400000000016"]
    assert row["state"] == "ROOT_KEYS"
    assert row["ou"] == "Workloads/Prod"
    assert [(key["id"], key["status"]) for key in row["keys"]] == [
        ("AKIAEXAMPLE000000016", "Active"),
        ("AKIAEXAMPLE000000017", "Inactive"),
    ]

    # What people look at says the same as report.json.
    states = {id: row["state"] for id, row in output["rows"].items()}
    text = beside(deployed, output, "report.csv").removeprefix("\ufeff")
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {line["account_id"]: line["state"] for line in lines} == states
    page = beside(deployed, output, "report.html")
    cells = re.findall(
        r'<td class="id">(\d{12})<td [^>]+>[^<]*<td [^>]+>[^<]*<td [^>]+>(\w+)', page
    )
    assert dict(cells) == states
    assert f"{len(states)} listed, {len(states)} accounted for, each in exactly one state" in page
    assert "This sweep only looked" in page
    assert f"#/v2/executions/details/{output['execution']}" in page


def beside(deployed: Deployed, output: dict, name: str) -> str:
    """A file beside the report of a sweep."""
    bucket, _, key = output["report"][5:].partition("/")
    key = key.replace("report.json", name)
    body: bytes = deployed.stack.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return body.decode()


def test_a_unit_brings_the_accounts_below_it_too(deployed: Deployed) -> None:
    organizations = deployed.as_management("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    units = organizations.list_organizational_units_for_parent(ParentId=root)
    unit = next(u["Id"] for u in units["OrganizationalUnits"] if u["Name"] == "Filtered")

    output = deployed.sweep(organizational_units=[unit], detect_only=True)

    assert output["rows"].keys() == {"400000000005", "400000000006"}


def test_two_sweeps_at_once_open_one_case_and_send_one_mail(deployed: Deployed) -> None:
    executions = [deployed.start_sweep(accounts=["400000000002"]) for _ in range(2)]
    for execution in executions:
        assert deployed.ended(execution)["status"] == "SUCCEEDED"
    mail = deployed.mail_about("400000000002")
    again = deployed.sweep(accounts=["400000000002"])

    cases = [
        item
        for item in deployed.table.scan()["Items"]
        if item["sk"] == "CASE" and item["account_id"] == "400000000002"
    ]
    assert len(cases) == 1
    assert again["cases_opened"] == 0
    assert again["rows"]["400000000002"]["case"]["id"] == cases[0]["case_id"]
    assert deployed.mails_about("400000000002") == [mail]
    deployed.approve("400000000002", mail.link)
    deployed.case_when("400000000002", "REMEDIATED")
    assert len(deployed.mails_about("400000000002")) == 1


def test_an_unverified_sender_stops_a_sweep_that_would_send_mail(deployed: Deployed) -> None:
    ses = deployed.stack.client("sesv2")
    ses.delete_email_identity(EmailIdentity="rootsweep@example.com")
    try:
        described = deployed.ended(deployed.start_sweep(accounts=["400000000006"]))
    finally:
        ses.create_email_identity(EmailIdentity="rootsweep@example.com")

    assert described["error"] == "PrerequisiteError"
    assert "verify-email-identity" in described["cause"]


def test_a_case_whose_execution_was_stopped_is_asked_about_again(deployed: Deployed) -> None:
    deployed.sweep(accounts=["400000000013"])
    deployed.mail_about("400000000013")
    stopped = deployed.waits("400000000013")
    deployed.stepfunctions.stop_execution(executionArn=stopped["execution_arn"])
    failed = deployed.case_when("400000000013", "FAILED")
    assert "ABORTED" in failed["reason"]
    # Whoever redrives it all the same does nothing by that.
    deployed.stepfunctions.redrive_execution(executionArn=stopped["execution_arn"])
    deployed.ended(stopped["execution_arn"])
    assert deployed.case_of("400000000013") == failed
    assert len(deployed.mails_about("400000000013")) == 1

    deployed.sweep(accounts=["400000000013"])

    reopened = deployed.case_of("400000000013")
    assert reopened["case_id"] != stopped["case_id"]
    assert reopened["outcome"] == "AWAITING_APPROVAL"
    deployed.mail_about("400000000013", number=2)
    told = deployed.until(
        lambda: [
            text
            for text in deployed.alerts()
            if "ABORTED" in text and str(stopped["case_id"]) in text
        ],
        "the security team to be told of the stopped execution",
    )
    assert not [text for text in told if stopped["task_token"] in text]
