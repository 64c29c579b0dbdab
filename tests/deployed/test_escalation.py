"""What happens on the deployed stack when nobody answers, somebody declines, or things change."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.deployed.conftest import LEAVES, SECURITY_ACCOUNT, approver, delegate_policies

if TYPE_CHECKING:
    from tests.deployed.conftest import Deployed, Mail

QUARANTINE = f"rootsweep-quarantine-{SECURITY_ACCOUNT}-us-east-1"
LONG = {"after": "3m", "notify": ["approvers"]}


def everything(effect: str, **more: Any) -> dict[str, Any]:
    """A policy about every action on everything."""
    statement = {"Effect": effect, "Action": "*", "Resource": "*", **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def swept_together(deployed: Deployed, *accounts: str) -> None:
    """Sweep these accounts; their cases wait for people after it."""
    deployed.sweep(accounts=list(accounts))
    for account_id in accounts:
        deployed.mail_about(account_id)


def test_while_nobody_answers_one_mail_reminds_of_all_then_more_are_asked_then_it_is_escalated(
    deployed: Deployed,
) -> None:
    ladder = (
        {"after": "20s", "notify": ["approvers"], "remind_every": "10s"},
        {"after": "15s", "notify": ["ladder-lead@example.com"]},
    )
    both = ["400000000180", "400000000181"]
    with deployed.policy(*ladder):
        swept_together(deployed, *both)
    cases = [deployed.case_when(account_id, "ESCALATED") for account_id in both]

    to_owner = deployed.mails_to("ladder@example.com")
    to_lead = deployed.mails_to("ladder-lead@example.com")
    assert (len(to_owner), len(to_lead)) == (3, 1)
    for mail in [*to_owner, *to_lead]:
        assert all(account_id in mail.text for account_id in both)
    assert "You were asked" not in to_owner[0].text
    assert all("You were asked about all of them before" in mail.text for mail in to_owner[1:])
    assert {mail.subject for mail in to_owner} == {to_owner[0].subject}
    for case in cases:
        assert (case["reason"], case["rung"]) == ("nobody answered in time", 1)
        told = deployed.until(
            lambda case=case: [
                text
                for text in deployed.alerts()
                if case["account_id"] in text and "ESCALATED" in text
            ],
            "the security team to be told",
        )
        assert len(told) == 1
        assert deployed.keys_of(case["account_id"])
    assert "Nobody settled it in time" in deployed.browser.get(to_owner[0].link).text

    # The next sweep goes on where this ended: both are asked at once, and reminded of the story.
    with deployed.policy(*ladder):
        swept = deployed.sweep(accounts=both)
    row = swept["rows"][both[0]]
    assert (row["case"]["rung"], swept["cases_opened"]) == (2, 2)
    again = deployed.until(
        lambda: deployed.mails_to("ladder-lead@example.com")[1:], "the mails of the second case"
    )[0]
    page = deployed.browser.get(f"{again.link}?case={row['case']['id']}")
    assert "has given up on this key once before" in page.text
    for account_id in both:
        deployed.approve(account_id, f"{again.link}?case={deployed.case_of(account_id)['case_id']}")
        assert deployed.case_when(account_id, "REMEDIATED")["reopened"] == 1


def test_the_page_says_who_is_asked_next(deployed: Deployed) -> None:
    with deployed.policy(LONG, {"after": "1h", "notify": ["ciso@example.com"]}):
        swept_together(deployed, "400000000182")

    page = deployed.browser.get(deployed.mail_about("400000000182").link).text
    assert "If nobody decides" in page
    assert "ciso@example.com as well" in page


def test_the_tag_of_a_unit_above_the_account_comes_before_its_contact(deployed: Deployed) -> None:
    mail = deployed.mail_about("400000000182")

    assert mail.to == "unit@example.com"
    case = deployed.case_of("400000000182")
    [source] = case["approver_sources"]
    assert source.startswith("the tag rootsweep-approver of the organizational unit ou-")
    notes = case["approver_notes"]
    assert notes[0] == "the tag rootsweep-approver of the account: there is none"


def test_an_address_that_bounces_counts_as_nobody(deployed: Deployed) -> None:
    with deployed.policy(LONG):
        deployed.sweep(accounts=["400000000183"])

    mail = deployed.mail_to("after-bounce@example.com")
    assert len(deployed.mails_to("bounce+183@simulator.amazonses.com")) == 1
    case = deployed.case_of("400000000183")
    assert case["approvers"] == ["after-bounce@example.com"]
    assert any("bounce+183@simulator.amazonses.com bounce" in n for n in case["approver_notes"])
    deployed.approve("400000000183", mail.link)
    assert deployed.case_when("400000000183", "REMEDIATED")["decision"]["by"] == mail.to


def test_where_nobody_answers_for_an_account_the_security_team_is_told_and_whoever_is_named_asked(
    deployed: Deployed,
) -> None:
    account_id = "400000000195"
    rung = {"after": "2m", "notify": ["organizational_unit"], "remind_every": "10s"}
    with deployed.policy(rung):
        deployed.sweep(accounts=[account_id])
    told = deployed.until(
        lambda: [text for text in deployed.alerts() if account_id in text], "the alert"
    )
    assert "Nobody answers for the account" in told[0]
    assert deployed.mails_about(account_id) == []

    organizations = deployed.as_management("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    tags = [{"Key": k, "Value": v} for k, v in approver("root-lead@example.com").items()]
    organizations.tag_resource(ResourceId=root, Tags=tags)
    mail = deployed.mail_about(account_id)
    organizations.untag_resource(ResourceId=root, TagKeys=["rootsweep-approver"])

    assert mail.to == "root-lead@example.com"
    deployed.approve(account_id, mail.link)
    deployed.case_when(account_id, "REMEDIATED")
    assert len([text for text in deployed.alerts() if account_id in text]) == 1


def test_an_exception_is_seen_warned_about_and_named_when_it_is_over(deployed: Deployed) -> None:
    with deployed.policy(LONG):
        swept_together(deployed, "400000000184")
    first = deployed.mail_about("400000000184")
    soon = f"{datetime.now(UTC) + timedelta(days=5):%Y-%m-%d}"
    form = deployed.form("400000000184", first.link, "decline")
    form |= {"until": soon, "ticket": "SEC-42", "reason": "The payroll runs on it."}
    assert deployed.browser.post(first.link, data=form).status_code == 200
    deployed.case_when("400000000184", "DECLINED")

    rows = [deployed.sweep(accounts=["400000000184"])["rows"]["400000000184"] for _ in range(2)]

    assert [row["state"] for row in rows] == ["EXCEPTED", "EXCEPTED"]
    assert "The payroll runs on it. (SEC-42)" in rows[0]["reason"]
    warned = [mail for mail in deployed.mails_to(first.to) if "exception" in mail.subject]
    assert len(warned) == 1, "once, however many sweeps there are"
    assert "The payroll runs on it." in warned[0].text

    expire(deployed, "400000000184")
    deployed.sweep(accounts=["400000000184"])
    again: Mail = deployed.until(
        lambda: next((m for m in deployed.mails_to(first.to)[2:] if m.link), None), "a new request"
    )
    assert "The payroll runs on it." in again.text
    assert "SEC-42" in deployed.browser.get(again.link).text
    deployed.approve("400000000184", again.link)
    deployed.case_when("400000000184", "REMEDIATED")


def expire(deployed: Deployed, account_id: str) -> None:
    """Let the last day of an exception be yesterday."""
    deployed.table.update_item(
        Key={"pk": f"ACCOUNT#{account_id}", "sk": "EXCEPTION"},
        UpdateExpression="SET #until = :day",
        ExpressionAttributeNames={"#until": "until"},
        ExpressionAttributeValues={":day": f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"},
    )


@pytest.mark.parametrize(
    ("account_id", "reason"),
    [("400000000185", "the account is CLOSED"), ("400000000186", "the account is SUSPENDED")],
)
def test_the_case_of_an_account_that_is_shut_ends_with_that_reason(
    deployed: Deployed, account_id: str, reason: str
) -> None:
    with deployed.policy(LONG):
        swept_together(deployed, account_id)
    deployed.waits(account_id)
    deployed.set_state(account_id, reason.rpartition(" ")[2])

    found = deployed.sweep(accounts=[account_id])

    assert found["rows"][account_id]["state"] == "SKIPPED"
    assert deployed.case_when(account_id, "RESOLVED")["reason"] == reason
    page = deployed.browser.get(deployed.mail_about(account_id).link)
    assert f"{reason[0].upper()}{reason[1:].lower()}." in page.text


def test_the_case_of_an_account_that_left_the_organization_ends_with_that_reason(
    deployed: Deployed,
) -> None:
    with deployed.policy(LONG):
        swept_together(deployed, LEAVES)
        deployed.waits(LEAVES)
        deployed.as_management("organizations").remove_account_from_organization(AccountId=LEAVES)
        deployed.sweep(accounts=["400000000006"])

    case = deployed.case_when(LEAVES, "RESOLVED")
    assert case["reason"] == "the account has left the organization"


def test_the_next_mail_goes_to_the_new_approver_and_the_old_one_decides_no_more(
    deployed: Deployed,
) -> None:
    account_id = "400000000188"
    with deployed.policy({"after": "2m", "notify": ["approvers"], "remind_every": "12s"}):
        swept_together(deployed, account_id)
    old = deployed.mail_about(account_id)
    tags = [{"Key": k, "Value": v} for k, v in approver("successor@example.com").items()]
    deployed.as_management("organizations").tag_resource(ResourceId=account_id, Tags=tags)

    new = deployed.mail_to("successor@example.com")

    assert deployed.browser.get(old.link).status_code in (200, 410)
    assert "<form" not in deployed.browser.get(old.link).text
    deployed.approve(account_id, new.link)
    assert deployed.case_when(account_id, "REMEDIATED")["decision"]["by"] == new.to
    assert len(deployed.mails_to(old.to)) == 1


def test_while_the_kill_switch_is_on_approved_deletions_wait_and_people_are_told_once(
    deployed: Deployed,
) -> None:
    both = ["400000000189", "400000000190"]
    with deployed.policy(LONG):
        swept_together(deployed, *both)
    deployed.put_parameter("KillSwitch", "on")
    try:
        for account_id in both:
            deployed.approve(account_id, deployed.mail_about(account_id).link)
        for account_id in both:
            deployed.until(
                lambda account_id=account_id: deployed.case_of(account_id).get("held"), "the wait"
            )
            assert deployed.keys_of(account_id)
            page = deployed.browser.get(deployed.mail_about(account_id).link)
            assert "Your security team has stopped all deletions for now" in page.text
        told = deployed.until(
            lambda: [text for text in deployed.alerts() if "kill switch" in text], "the alert"
        )
        assert len(told) == 1
    finally:
        deployed.put_parameter("KillSwitch", "off")

    for account_id in both:
        assert "held" not in deployed.case_when(account_id, "REMEDIATED")
        assert deployed.keys_of(account_id) == set()


def test_the_first_deletion_after_a_deployment_runs_alone(deployed: Deployed) -> None:
    both = ["400000000191", "400000000192"]
    with deployed.policy(LONG):
        swept_together(deployed, *both)
    for item in deployed.items():
        if item["pk"] == "CANARY":  # As after a deployment.
            deployed.table.delete_item(Key={"pk": item["pk"], "sk": item["sk"]})
    for account_id in both:
        deployed.waits(account_id)
    for account_id in both:
        deployed.approve(account_id, deployed.mail_about(account_id).link)

    cases = [deployed.case_when(account_id, "REMEDIATED") for account_id in both]

    first, second = sorted(cases, key=lambda case: case["deletion_started_at"])
    assert second["deletion_started_at"] >= first["ended_at"]
    [canary] = [item for item in deployed.items() if item["pk"] == "CANARY"]
    assert (int(canary["confirmed"]), canary.get("running")) == (1, None)


def test_without_root_credentials_management_people_hear_how_to_turn_it_on_and_then_approve(
    deployed: Deployed,
) -> None:
    account_id = "400000000193"
    iam = deployed.as_management("iam")
    iam.disable_organizations_root_credentials_management()
    try:
        with deployed.policy({"after": "2m", "notify": ["approvers"], "remind_every": "15s"}):
            deployed.sweep(accounts=[account_id])
        by_hand = deployed.mail_about(account_id)
        case = deployed.case_when(account_id, "AWAITING_REMOVAL")
        assert case["obstacle"] == "ROOT_CREDENTIALS_MANAGEMENT_OFF"
        assert "aws iam enable-organizations-root-credentials-management" in by_hand.text
    finally:
        iam.enable_organizations_root_credentials_management()

    asked = deployed.mail_about(account_id, number=2)

    assert f"AKIAEXAMPLE{193:09}" in asked.text
    deployed.approve(account_id, asked.link)
    deployed.case_when(account_id, "REMEDIATED")


def test_a_service_control_policy_is_named_and_once_it_spares_root_sessions_people_approve(
    deployed: Deployed,
) -> None:
    account_id = "400000000194"
    organizations = deployed.as_management("organizations")
    policy_id = organizations.create_policy(
        Name="no-root",
        Description="",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps(
            everything("Deny", Condition={"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:root"}})
        ),
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy_id, TargetId=account_id)
    with deployed.policy({"after": "2m", "notify": ["approvers"], "remind_every": "15s"}):
        deployed.sweep(accounts=[account_id])
    by_hand = deployed.mail_about(account_id)
    assert deployed.case_of(account_id)["obstacle"] == "SERVICE_CONTROL_POLICY"
    assert "spares root sessions" in by_hand.text

    organizations.detach_policy(PolicyId=policy_id, TargetId=account_id)

    asked = deployed.mail_about(account_id, number=2)
    deployed.approve(account_id, asked.link)
    deployed.case_when(account_id, "REMEDIATED")


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ("{}", "it must be a list of at least one rung"),
        ('[{"after": "7 weeks", "notify": ["approvers"]}]', "rung 1: after: '7 weeks'"),
        (
            '[{"after": "1d", "notify": ["approvers"]}, {"after": "1d", "notify": ["Bob"]}]',
            "rung 2: notify: 'Bob'",
        ),
        ('[{"after": "1d", "notify": ["approvers"], "escalate": 1}]', "rung 1: escalate: unknown"),
    ],
)
def test_an_escalation_policy_that_cannot_be_used_stops_the_sweep_and_names_the_rung(
    deployed: Deployed, policy: str, named: str
) -> None:
    deployed.put_parameter("EscalationPolicy", policy)
    try:
        described: dict[str, Any] = deployed.ended(deployed.start_sweep(accounts=["400000000006"]))
    finally:
        with deployed.policy(LONG):
            pass

    assert described["error"] == "PrerequisiteError"
    assert named in described["cause"]


def block_first(deployed: Deployed, account_id: str) -> Mail:
    """The mail whose approver had the root user blocked before the deletion."""
    with deployed.policy(LONG):
        swept_together(deployed, account_id)
    mail = deployed.mail_about(account_id)
    page = deployed.browser.get(mail.link).text
    assert "denies everything that the root user does" in page
    form = deployed.form(account_id, mail.link) | {"decision": "quarantine"}
    answer = deployed.browser.post(mail.link, data=form)
    assert "Rootsweep blocks the root user of the account" in answer.text
    return mail


def blocked(deployed: Deployed, account_id: str) -> bool:
    """Whether the root user of an account can do nothing with its own credentials."""
    try:
        deployed.root_of(account_id).list_access_keys()
    except ClientError as error:
        return "explicit deny in a service control policy" in str(error)
    return False


@pytest.fixture(scope="module")
def delegated(deployed: Deployed) -> None:
    delegate_policies(deployed.stack)


def our_policies(deployed: Deployed) -> list[str]:
    listed = deployed.as_management("organizations").list_policies(Filter="SERVICE_CONTROL_POLICY")
    return [each["Id"] for each in listed["Policies"] if each["Name"] == QUARANTINE]


def test_a_root_user_is_blocked_for_a_while_then_its_keys_are_deleted_and_the_block_is_lifted(
    deployed: Deployed,
    delegated: None,  # noqa: ARG001
) -> None:
    account_id = "400000000196"
    mail = block_first(deployed, account_id)

    deployed.until(lambda: blocked(deployed, account_id), "the block")
    assert "is blocked until its keys are deleted" in deployed.browser.get(mail.link).text
    assert "deletion_started_at" not in deployed.case_of(account_id)

    case = deployed.case_when(account_id, "REMEDIATED")
    waited = datetime.fromisoformat(case["deletion_started_at"]) - datetime.fromisoformat(
        case["quarantined_at"]
    )
    assert waited > timedelta(seconds=15)
    deployed.until(lambda: not blocked(deployed, account_id), "the end of the block")
    assert deployed.keys_of(account_id) == set()
    deployed.until(lambda: not our_policies(deployed), "the policy to be deleted")
    assert not [item for item in deployed.items() if item["pk"] == "QUARANTINE"]


def test_a_block_is_lifted_when_an_approver_wants_to_keep_the_keys_after_all(
    deployed: Deployed,
    delegated: None,  # noqa: ARG001
) -> None:
    account_id = "400000000197"
    mail = block_first(deployed, account_id)
    deployed.until(lambda: blocked(deployed, account_id), "the block")
    deployed.until(lambda: deployed.case_of(account_id).get("quarantine_token"), "the wait")

    assert 'value="approve"' not in deployed.browser.get(mail.link).text
    answer = deployed.browser.post(mail.link, data=deployed.form(account_id, mail.link, "decline"))

    assert answer.status_code == 200
    case = deployed.case_when(account_id, "DECLINED")
    assert case["ended_at"] < case["quarantine_until"]
    deployed.until(lambda: not blocked(deployed, account_id), "the end of the block")
    assert deployed.keys_of(account_id) == {f"AKIAEXAMPLE{197:09}"}
    assert deployed.sweep(accounts=[account_id])["rows"][account_id]["state"] == "EXCEPTED"


def test_an_account_with_five_policies_cannot_be_blocked_so_people_are_asked_again(
    deployed: Deployed,
    delegated: None,  # noqa: ARG001
) -> None:
    account_id = "400000000198"
    organizations = deployed.as_management("organizations")
    for number in range(4):
        policy = organizations.create_policy(
            Name=f"one-of-four-{number}",
            Description="",
            Type="SERVICE_CONTROL_POLICY",
            Content=json.dumps(everything("Allow")),
        )["Policy"]["PolicySummary"]
        organizations.attach_policy(PolicyId=policy["Id"], TargetId=account_id)
    block_first(deployed, account_id)

    again = deployed.mail_about(account_id, number=2)

    assert "The root user could not be blocked first" in again.text
    page = deployed.browser.get(again.link).text
    assert 'value="quarantine"' not in page
    assert deployed.keys_of(account_id)
    assert not [item for item in deployed.items() if item["pk"] == "QUARANTINE"]
    deployed.approve(account_id, again.link)
    deployed.case_when(account_id, "REMEDIATED")


def test_the_block_of_a_case_that_died_is_lifted_too(
    deployed: Deployed,
    delegated: None,  # noqa: ARG001
) -> None:
    account_id = "400000000199"
    block_first(deployed, account_id)
    deployed.until(lambda: blocked(deployed, account_id), "the block")
    case = deployed.until(
        lambda: c if (c := deployed.case_of(account_id)).get("quarantine_token") else None,
        "the wait",
    )

    deployed.stepfunctions.stop_execution(executionArn=case["execution_arn"])

    deployed.case_when(account_id, "FAILED")
    deployed.until(lambda: not blocked(deployed, account_id), "the end of the block")
    assert deployed.keys_of(account_id) == {f"AKIAEXAMPLE{199:09}"}


def test_a_block_that_nobody_knows_of_is_lifted_by_the_next_sweep(
    deployed: Deployed,
    delegated: None,  # noqa: ARG001
) -> None:
    account_id = "400000000006"
    organizations = deployed.as_management("organizations")
    policy = organizations.create_policy(
        Name=QUARANTINE,
        Description="",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps(everything("Deny")),
    )["Policy"]["PolicySummary"]
    organizations.attach_policy(PolicyId=policy["Id"], TargetId=account_id)
    assert blocked(deployed, account_id)

    deployed.sweep(accounts=[SECURITY_ACCOUNT])

    assert not blocked(deployed, account_id)
    assert not our_policies(deployed)
