"""Cases of the deployed stack, through its front door: mail, link, page, POST, keys gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.deployed.conftest import APPROVAL_TIMEOUT_SECONDS, Deployed


def test_approved_keys_are_deleted_and_the_record_says_who_when_and_where(
    deployed: Deployed,
) -> None:
    output = deployed.sweep(accounts=["400000000001"])
    mail = deployed.mail_about("400000000001")
    page = deployed.browser.get(mail.link)

    assert mail.to == "cloud-security@example.com"
    for shown in ("AKIAEXAMPLE000000001", "AKIAEXAMPLE000000002", "Inactive", "account-1"):
        assert shown in mail.text
        assert shown in mail.html
        assert shown in page.text
    answer = deployed.approve("400000000001", mail.link)

    assert answer.status_code == 200
    assert "recorded" in answer.text
    case = deployed.case_when("400000000001", "REMEDIATED")
    assert deployed.keys_of("400000000001") == set()
    assert case["decision"]["by"] == "cloud-security@example.com"
    assert case["decision"]["answer"] == "APPROVED"
    assert case["decision"]["at"] <= case["ended_at"]
    assert [key["id"] for key in case["deleted_keys"]] == [
        "AKIAEXAMPLE000000001",
        "AKIAEXAMPLE000000002",
    ]
    assert case["execution_arn"] == output["rows"]["400000000001"]["case"]["execution_arn"]
    execution = deployed.ended(case["execution_arn"])
    assert json.loads(execution["output"])["outcome"] == "REMEDIATED"
    assert "task_token" not in case
    assert "decided" in deployed.browser.get(mail.link).text
    assert deployed.approve("400000000001", mail.link, token="0" * 64).status_code == 409


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_opening_a_link_changes_nothing(deployed: Deployed, method: str) -> None:
    deployed.sweep(accounts=["400000000003"])
    mail = deployed.mail_about("400000000003")
    before = deployed.case_of("400000000003")

    for _ in range(5):
        deployed.browser.request(method, f"{mail.link}?decision=approve&account_id=400000000003")

    assert deployed.case_of("400000000003") == before
    assert deployed.keys_of("400000000003") == {"AKIAEXAMPLE000000004"}


def test_a_form_without_the_pages_token_or_the_account_id_decides_nothing(
    deployed: Deployed,
) -> None:
    deployed.sweep(accounts=["400000000004"])
    link = deployed.mail_about("400000000004").link
    token = deployed.token_on(link)

    forged = deployed.browser.post(
        link, data={"decision": "approve", "account_id": "400000000004", "token": "f" * 64}
    )
    mistyped = deployed.browser.post(
        link, data={"decision": "approve", "account_id": "400000000003", "token": token}
    )
    empty = deployed.browser.post(link, data={})
    foreign = deployed.browser.post(
        f"{deployed.stack.outputs['ApprovalUrl']}/{'A' * 43}",
        data={"decision": "approve", "account_id": "400000000004", "token": token},
    )

    codes = [answer.status_code for answer in (forged, mistyped, empty, foreign)]
    assert codes == [409, 422, 400, 404]
    assert "decision" not in deployed.case_of("400000000004")
    assert deployed.keys_of("400000000004") == {"AKIAEXAMPLE000000005"}


def test_declined_keys_stay_until_the_exception_ends_and_new_keys_are_not_covered(
    deployed: Deployed,
) -> None:
    deployed.sweep(accounts=["400000000007"])
    link = deployed.mail_about("400000000007").link
    until = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    form = {"decision": "decline", "reason": "The batch job moves to a role.", "until": until}

    answer = deployed.browser.post(link, data=form | {"token": deployed.token_on(link)})

    assert until in answer.text
    deployed.case_when("400000000007", "DECLINED")
    excepted = deployed.sweep(accounts=["400000000007"])
    row = excepted["rows"]["400000000007"]
    assert (row["state"], excepted["cases_opened"]) == ("EXCEPTED", 0)
    assert "The batch job moves to a role." in row["reason"]
    assert deployed.keys_of("400000000007") == {"AKIAEXAMPLE000000007"}

    deployed.root_of("400000000007").create_access_key()
    found = deployed.sweep(accounts=["400000000007"])
    assert found["rows"]["400000000007"]["state"] == "ROOT_KEYS"
    assert found["cases_opened"] == 1


def test_nobody_answers_so_the_case_is_escalated_and_somebody_is_told(
    deployed: Deployed, alerts
) -> None:
    deployed.sweep(accounts=["400000000008"])
    mail = deployed.mail_about("400000000008")

    case = deployed.until(
        lambda: (
            item if (item := deployed.case_of("400000000008"))["outcome"] == "ESCALATED" else None
        ),
        "the escalation",
        seconds=APPROVAL_TIMEOUT_SECONDS + 60,
    )

    assert case["reason"] == "nobody answered in time"
    assert deployed.keys_of("400000000008") == {"AKIAEXAMPLE000000008"}
    deployed.until(
        lambda: any("400000000008" in text and "ESCALATED" in text for text in alerts()),
        "the security team to be told",
    )
    assert "Nobody settled it in time" in deployed.browser.get(mail.link).text


def test_a_key_added_between_approval_and_deletion_survives_and_is_asked_about(
    deployed: Deployed,
) -> None:
    deployed.sweep(accounts=["400000000009"])
    first = deployed.mail_about("400000000009")
    functions = deployed.stack.client("lambda")
    mapping = functions.list_event_source_mappings()["EventSourceMappings"][0]["UUID"]
    # While decisions are not delivered, the approval is in the table and the deletion still ahead.
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    try:
        assert deployed.approve("400000000009", first.link).status_code == 200
        new = deployed.root_of("400000000009").create_access_key()["AccessKey"]["AccessKeyId"]
    finally:
        functions.update_event_source_mapping(UUID=mapping, Enabled=True)

    second = deployed.mail_about("400000000009", number=2)

    assert deployed.keys_of("400000000009") == {"AKIAEXAMPLE000000009", new}
    assert new in second.text
    assert deployed.case_of("400000000009")["outcome"] == "AWAITING_APPROVAL"
    deployed.approve("400000000009", second.link)
    deployed.case_when("400000000009", "REMEDIATED")
    assert deployed.keys_of("400000000009") == set()


def test_where_no_root_session_is_let_in_people_remove_the_key_and_rootsweep_notices(
    deployed: Deployed,
) -> None:
    deployed.sweep(accounts=["400000000010"])
    mail = deployed.mail_about("400000000010")
    case = deployed.case_when("400000000010", "AWAITING_REMOVAL")

    assert "service control policy" in case["reason"]
    assert "service control policy" in mail.text
    assert mail.link == ""
    deployed.root_of("400000000010").delete_access_key(AccessKeyId="AKIAEXAMPLE000000010")
    deployed.case_when("400000000010", "REMEDIATED")


def test_a_key_that_its_owner_removes_before_the_approval_resolves_the_case(
    deployed: Deployed,
) -> None:
    deployed.sweep(accounts=["400000000011"])
    mail = deployed.mail_about("400000000011")
    deployed.root_of("400000000011").delete_access_key(AccessKeyId="AKIAEXAMPLE000000011")

    deployed.approve("400000000011", mail.link)

    case = deployed.case_when("400000000011", "RESOLVED")
    assert "deleted_keys" not in case
    assert "No root access key was left" in deployed.browser.get(mail.link).text


def test_hostile_names_reach_people_as_text(deployed: Deployed) -> None:
    deployed.sweep(accounts=["400000000012"])
    mail = deployed.mail_about("400000000012")
    page = deployed.browser.get(mail.link)

    assert "\u202e" not in mail.subject + mail.text + mail.html + page.text
    for html in (mail.html, page.text):
        assert "<script" not in html
        assert "&lt;script&gt;" in html
        assert "Work&lt;b&gt;loads" in html
    assert "\n" not in mail.subject
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert len(page.content) < 30_000


def test_the_task_token_and_the_link_are_nowhere_but_where_they_belong(deployed: Deployed) -> None:
    deployed.sweep(accounts=["400000000014"])
    mail = deployed.mail_about("400000000014")
    token = deployed.case_of("400000000014")["task_token"]
    secret = mail.link.rpartition("/")[2]
    page = deployed.browser.get(mail.link).text
    deployed.approve("400000000014", mail.link)
    case = deployed.case_when("400000000014", "REMEDIATED")

    assert token not in mail.text + mail.html + page
    items = json.dumps(deployed.table.scan()["Items"], default=str)
    assert secret not in items
    assert token not in items
    history = deployed.stepfunctions.get_execution_history(executionArn=case["execution_arn"])
    assert secret not in json.dumps(history["events"], default=str)
    logs = deployed.stack.client("logs")
    lines = [
        event["message"]
        for group in logs.describe_log_groups()["logGroups"]
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]
    ]
    assert not [line for line in lines if secret in line or token in line]


def test_nonsense_in_the_approver_tag_falls_through_to_the_next_source(deployed: Deployed) -> None:
    deployed.sweep(accounts=["400000000015"])

    assert deployed.mail_about("400000000015").to == "cloud-security@example.com"
    source = deployed.case_of("400000000015")["approver_source"]
    assert source == "the default approver of the Rootsweep stack"
