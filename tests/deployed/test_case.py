"""Cases of the deployed stack, through its front door: mail, link, page, POST, keys gone."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

import pytest

from rootsweep import console
from tests.deployed.conftest import (
    APPROVAL_TIMEOUT_SECONDS,
    NAME_OF_A_HEADER,
    NAME_OF_A_TRICKSTER,
    SILENT,
)

if TYPE_CHECKING:
    from tests.deployed.conftest import Deployed

ACCOUNTS = [f"4000000000{number:02}" for number in (1, 3, 4, 7, 9, 10, 11, 12, 14, 15, 19)]


@pytest.fixture(scope="module", autouse=True)
def swept(deployed: Deployed) -> dict[str, Any]:
    """One sweep for all tests here, each of which has accounts and approvers of its own."""
    return deployed.sweep(accounts=ACCOUNTS)


def test_approved_keys_are_deleted_and_the_record_says_who_when_and_where(
    deployed: Deployed, swept: dict[str, Any]
) -> None:
    mail = deployed.mail_about("400000000001")
    page = deployed.browser.get(mail.link)

    assert mail.to == "test-01@example.com"
    for shown in ("AKIAEXAMPLE000000001", "AKIAEXAMPLE000000002", "Inactive", "account-1"):
        assert shown in mail.text
        assert shown in mail.html
        assert shown in page.text
    form = deployed.form("400000000001", mail.link)
    answer = deployed.browser.post(mail.link, data=form)

    assert answer.status_code == 200
    assert "recorded" in answer.text
    case = deployed.case_when("400000000001", "REMEDIATED")
    assert deployed.keys_of("400000000001") == set()
    assert case["decision"]["by"] == "test-01@example.com"
    assert case["decision"]["answer"] == "APPROVED"
    assert case["decision"]["at"] <= case["ended_at"]
    assert [key["id"] for key in case["deleted_keys"]] == [
        "AKIAEXAMPLE000000001",
        "AKIAEXAMPLE000000002",
    ]
    assert case["execution_arn"] == swept["rows"]["400000000001"]["case"]["execution_arn"]
    execution = deployed.ended(case["execution_arn"])
    assert json.loads(execution["output"])["outcome"] == "REMEDIATED"
    assert "task_token" not in case
    assert "decided" in deployed.browser.get(mail.link).text
    assert deployed.browser.post(mail.link, data=form).status_code == 409
    # And each function that worked on it logged so, where `filter case_id = ...` finds it.
    lines = [json.loads(line) for line in deployed.log_lines() if line.startswith("{")]
    done = [line for line in lines if line.get("case_id") == case["case_id"]]
    assert {line["account_id"] for line in done} == {"400000000001"}
    assert len([line for line in done if line["message"] == "done"]) >= 6
    assert any(line.get("sweep_id") == swept["sweep_id"] for line in lines)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_opening_a_link_changes_nothing(deployed: Deployed, method: str) -> None:
    mail = deployed.mail_about("400000000003")
    before = deployed.case_of("400000000003")

    for _ in range(5):
        deployed.browser.request(method, f"{mail.link}?decision=approve&account_id=400000000003")

    assert deployed.case_of("400000000003") == before
    assert deployed.keys_of("400000000003") == {"AKIAEXAMPLE000000004"}


def test_a_form_without_the_pages_token_or_the_account_id_decides_nothing(
    deployed: Deployed,
) -> None:
    link = deployed.mail_about("400000000004").link
    form = deployed.form("400000000004", link)
    case_id, _, _ = form["case"].partition(".")

    forged = deployed.browser.post(link, data=form | {"case": f"{case_id}.{'f' * 64}"})
    mistyped = deployed.browser.post(link, data=form | {"account_id": "400000000003"})
    empty = deployed.browser.post(link, data={})
    unknown = f"{deployed.stack.outputs['ApprovalUrl']}/{'A' * 43}"
    foreign = deployed.browser.post(unknown, data=form)

    codes = [answer.status_code for answer in (forged, mistyped, empty, foreign)]
    assert codes == [409, 422, 400, 404]
    assert "decision" not in deployed.case_of("400000000004")
    assert deployed.keys_of("400000000004") == {"AKIAEXAMPLE000000005"}


def test_a_link_and_a_form_of_one_approver_decide_nothing_for_another(deployed: Deployed) -> None:
    mine = deployed.mail_about("400000000003").link
    theirs = deployed.mail_about("400000000004").link
    form = deployed.form("400000000004", theirs)

    assert deployed.browser.post(mine, data=form).status_code == 404
    case_id, _, _ = form["case"].partition(".")
    assert deployed.browser.get(f"{mine}?case={case_id}").status_code == 404
    assert "decision" not in deployed.case_of("400000000004")


def test_declined_keys_stay_until_the_exception_ends_and_new_keys_are_not_covered(
    deployed: Deployed,
) -> None:
    link = deployed.mail_about("400000000007").link
    form = deployed.form("400000000007", link, "decline")

    answer = deployed.browser.post(link, data=form)

    assert form["until"] in answer.text
    deployed.case_when("400000000007", "DECLINED")
    excepted = deployed.sweep(accounts=["400000000007"])
    row = excepted["rows"]["400000000007"]
    assert (row["state"], excepted["cases_opened"]) == ("EXCEPTED", 0)
    assert form["reason"] in row["reason"]
    assert deployed.keys_of("400000000007") == {"AKIAEXAMPLE000000007"}

    deployed.root_of("400000000007").create_access_key()
    found = deployed.sweep(accounts=["400000000007"])
    assert found["rows"]["400000000007"]["state"] == "ROOT_KEYS"
    assert found["cases_opened"] == 1


def test_a_key_added_between_approval_and_deletion_survives_and_is_asked_about(
    deployed: Deployed,
) -> None:
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
    assert second.subject == first.subject
    assert deployed.case_of("400000000009")["outcome"] == "AWAITING_APPROVAL"
    deployed.approve("400000000009", second.link)
    deployed.case_when("400000000009", "REMEDIATED")
    assert deployed.keys_of("400000000009") == set()


def test_where_no_root_session_is_let_in_people_remove_the_key_and_rootsweep_notices(
    deployed: Deployed,
) -> None:
    mail = deployed.mail_about("400000000010")
    case = deployed.case_when("400000000010", "AWAITING_REMOVAL")

    assert "service control policy" in case["reason"]
    assert "service control policy" in mail.text
    page = deployed.browser.get(mail.link)
    assert "These keys have to be removed by hand" in page.text
    assert "<form" not in page.text
    deployed.root_of("400000000010").delete_access_key(AccessKeyId="AKIAEXAMPLE000000010")
    deployed.case_when("400000000010", "REMEDIATED")


def test_a_key_that_its_owner_removes_before_the_approval_resolves_the_case(
    deployed: Deployed,
) -> None:
    mail = deployed.mail_about("400000000011")
    deployed.root_of("400000000011").delete_access_key(AccessKeyId="AKIAEXAMPLE000000011")

    deployed.approve("400000000011", mail.link)

    case = deployed.case_when("400000000011", "RESOLVED")
    assert "deleted_keys" not in case
    assert "No root access key was left" in deployed.browser.get(mail.link).text


@pytest.mark.parametrize(
    ("account_id", "approver", "source"),
    [
        ("400000000003", "test-03@example.com", "the tag rootsweep-approver of the account"),
        (
            "400000000004",
            "contact-04@example.com",
            "the account's SECURITY alternate contact",
        ),
        (
            "400000000015",  # Its tag is nonsense.
            "cloud-security@example.com",
            "the default approver of the Rootsweep stack",
        ),
    ],
)
def test_the_first_source_that_names_somebody_says_who_is_asked(
    deployed: Deployed, account_id: str, approver: str, source: str
) -> None:
    assert [mail.to for mail in [deployed.mail_about(account_id)]] == [approver]
    case = deployed.case_of(account_id)
    assert (case["approvers"], case["approver_sources"]) == ([approver], [source])


def test_keys_that_are_gone_while_nobody_answers_are_resolved_by_the_next_sweep(
    deployed: Deployed,
) -> None:
    deployed.sweep(accounts=["400000000170"])
    mail = deployed.mail_about("400000000170")
    deployed.root_of("400000000170").delete_access_key(AccessKeyId="AKIAEXAMPLE000000170")
    deployed.sweep(accounts=["400000000170"], detect_only=True)
    assert deployed.case_of("400000000170")["outcome"] == "AWAITING_APPROVAL"

    found = deployed.sweep(accounts=["400000000170"])

    assert found["rows"]["400000000170"]["state"] == "CLEAN"
    case = deployed.case_when("400000000170", "RESOLVED")
    assert "decision" not in case
    assert "No root access key was left" in deployed.browser.get(mail.link).text


@pytest.mark.parametrize(
    ("account_id", "raw", "in_mails", "on_the_page", "unit"),
    [
        (
            "400000000012",
            NAME_OF_A_HEADER,
            "<script>alert(1)</script> Bcc: x@example. com",
            "<script>alert(1)</script> Bcc: x@example.com",
            "Work<b>loads",
        ),
        (
            "400000000019",
            NAME_OF_A_TRICKSTER,
            "gnp. tnuoccapayments x",
            "gnp.tnuoccapayments x",
            "Workloads",
        ),
    ],
)
def test_hostile_names_reach_people_as_text(
    deployed: Deployed,
    swept: dict[str, Any],
    account_id: str,
    raw: str,
    in_mails: str,
    on_the_page: str,
    unit: str,
) -> None:
    mail = deployed.mail_about(account_id)
    page = deployed.browser.get(mail.link)

    # In mails no program makes a link of it, and quotation marks keep it apart from our words.
    assert mail.subject == f'[Rootsweep] Root access keys in "{in_mails}" ({account_id})'
    assert f'The root user of "{in_mails}" ({account_id}, {unit}) has an access key' in mail.text
    for html, name in ((mail.html, in_mails), (page.text, on_the_page)):
        assert f"<strong>{escape(name)}</strong>" in html
        assert "<script" not in html
        assert "<b>" not in html
    for text in (mail.subject, mail.text, mail.html, page.text):
        assert is_plain(text)
    assert mail.to == f"test-{account_id[-2:]}@example.com"
    assert not deployed.mails_to("x@example.com")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert len(page.content) < 30_000
    # Machines read the report: it has the name as it is, spelled in ASCII. People get it plain.
    assert swept["rows"][account_id]["name"] == raw
    for key, file in deployed.reports().items():
        for_people = key.endswith((".csv", ".html"))
        assert for_people or file.isascii(), key
        assert is_plain(file.removeprefix("\ufeff").replace("\r\n", "\n")), key
    # Lambda's own lines have tabs.
    lines = [line.replace("\t", " ") for line in deployed.log_lines()]
    assert lines
    assert [line for line in lines if not is_plain(line)] == []


def is_plain(text: str) -> bool:
    """Whether a text is without characters that could forge a line or turn others around."""
    return all(character.isprintable() or character == "\n" for character in text)


def test_nobody_answers_so_the_case_is_escalated_and_somebody_is_told(deployed: Deployed) -> None:
    mail = deployed.mail_about(SILENT)

    case = deployed.until(
        lambda: item if (item := deployed.case_of(SILENT))["outcome"] == "ESCALATED" else None,
        "the escalation",
        seconds=APPROVAL_TIMEOUT_SECONDS + 60,
    )

    assert case["reason"] == "nobody answered in time"
    assert deployed.keys_of(SILENT) == {"AKIAEXAMPLE000000008"}
    told = deployed.until(
        lambda: [text for text in deployed.alerts() if SILENT in text and "ESCALATED" in text],
        "the security team to be told",
    )
    assert not [each for each in deployed.task_tokens | deployed.links if each in told[0]]
    assert told[0].endswith(f" Execution: {console.execution_link(case['execution_arn'])}")
    assert "Nobody settled it in time" in deployed.browser.get(mail.link).text


def test_a_link_or_a_task_token_is_nowhere_but_where_it_belongs(deployed: Deployed) -> None:
    mail = deployed.mail_about("400000000014")
    token = deployed.waits("400000000014")["task_token"]
    deployed.approve("400000000014", mail.link)
    case = deployed.case_when("400000000014", "REMEDIATED")
    deployed.ended(case["execution_arn"])
    # One way or the other, the security team is told of a case that nobody can decide any more.
    other = deployed.case_of("400000000003")
    if "ended_at" not in other:
        deployed.stepfunctions.stop_execution(executionArn=other["execution_arn"])
    deployed.until(
        lambda: any(str(other["case_id"]) in text for text in deployed.alerts()), "an alert"
    )

    assert token in deployed.task_tokens
    assert len(token) > 500
    assert mail.link.rpartition("/")[2] in deployed.links
    items = json.dumps(deployed.items(), default=str)
    assert token not in items
    # All that this session has seen, whatever test it belonged to.
    assert deployed.pages
    mails = deployed.mails()
    for found in deployed.links:
        assert sum(found in each.text for each in mails) == 1
    letters = [each.subject + each.text + each.html for each in mails]
    executions = [json.dumps(each, default=str) for each in deployed.executions()]
    histories = [json.dumps(each, default=str) for each in deployed.histories()]
    elsewhere = {
        "table": [items],
        "pages": deployed.pages,
        "logs": deployed.log_lines(),
        "reports": [*deployed.reports().values()],
        "alerts": deployed.alerts(),
        "executions": executions,
        "histories": histories,
    }
    for place, texts in elsewhere.items():
        assert texts, place
        assert not [each for each in deployed.links if any(each in text for text in texts)], place
    del elsewhere["table"]  # Cases that wait for a person have theirs.
    for place, texts in {**elsewhere, "mails": letters}.items():
        found = [each for each in deployed.task_tokens if any(each in text for text in texts)]
        assert not found, place
