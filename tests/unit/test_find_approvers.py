from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import find_approvers
import pytest
from botocore.exceptions import ClientError

from rootsweep import accounts, cases
from rootsweep.accounts import Approver
from rootsweep.cases import Obstacle, Outcome
from rootsweep.errors import ApproverUnknownError, CaseEndedError

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    MANAGEMENT,
    NOW,
    TWO_PEOPLE,
    a_decided_case,
    a_gathered_case,
    contents,
    item_of,
    open_a_case,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

WEEK = timedelta(seconds=604800)
DENIED = "AssumeRoot: AccessDenied: with an explicit deny in a service control policy"


@pytest.fixture(autouse=True)
def looked_for(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How the approvers were looked for."""
    asked: list[dict[str, Any]] = []

    def find(*clients: object, **given: Any) -> list[Approver]:
        assert clients == (find_approvers.organizations, find_approvers.account_client)
        asked.append(given)
        return [Approver(APPROVER, "the account's tag"), Approver(DEPUTY, "the second approver")]

    monkeypatch.setattr(accounts, "find_approvers", find)
    return asked


@pytest.fixture
def organization(stub: Callable[[Any], Stubber]) -> Stubber:
    return stub(find_approvers.organizations)


def with_management_account(organization: Stubber) -> None:
    organization.add_response(
        "describe_organization", {"Organization": {"MasterAccountId": MANAGEMENT}}, {}
    )


def find(case: cases.Case, **event: Any) -> dict[str, Any]:
    return find_approvers.handler({"case_id": case.id, **event}, None)


def cause(message: str) -> str:
    """What Step Functions catches of a function's error."""
    return json.dumps({"errorMessage": message, "errorType": "RootSessionDeniedError"})


def seconds_from_now(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize("event", [{}, {"denied": None}], ids=["no field", "null"])
def test_who_answers_for_the_account_is_asked_for_an_approval(
    table: Any, looked_for: list[dict[str, Any]], event: dict[str, Any]
) -> None:
    case = a_gathered_case(table, quorum=TWO_PEOPLE)

    answer = find(case, **event)

    assert looked_for == [
        {
            "account_id": ACCOUNT,
            "tag_key": "rootsweep-approver",
            "default": "security@example.com",
            "second": "deputy@example.com",
            "at_least": 2,
        }
    ]
    after = cases.load(table, case_id=case.id)
    assert after.approvers == (APPROVER, DEPUTY)
    assert after.asked == {APPROVER, DEPUTY}
    assert item_of(table, case)["approver_sources"] == ["the account's tag", "the second approver"]
    assert (after.obstacle, after.reason, after.request_number) == (None, "", 1)
    assert after.is_decidable
    assert answer["by_hand"] is False
    assert [item["pk"] for item in contents(table) if item["sk"] == f"REQUEST#{case.id}"] == [
        f"APPROVER#{DEPUTY}",
        f"APPROVER#{APPROVER}",
    ]


def test_people_are_asked_at_the_end_of_the_mail_window_and_have_a_week_from_then(
    table: Any,
) -> None:
    opening = datetime.now(UTC)
    case = cases.load(table, case_id=with_window(table, opening + timedelta(minutes=10)).id)

    answer = find(case)

    after = cases.load(table, case_id=case.id)
    assert answer["ask_at"] == case.ask_at
    assert answer["timeout_seconds"] == WEEK.total_seconds()
    assert datetime.fromisoformat(after.deadline) == datetime.fromisoformat(case.ask_at) + WEEK


def with_window(table: Any, ask_at: datetime) -> cases.Case:
    case = open_a_case(table)
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="SET ask_at = :at",
        ExpressionAttributeValues={":at": f"{ask_at:%Y-%m-%dT%H:%M:%SZ}"},
    )
    return case


@pytest.mark.parametrize("window", ["over", "never set"])
def test_after_the_mail_window_people_are_asked_at_once(table: Any, window: str) -> None:
    case = open_a_case(table)
    if window == "never set":
        table.update_item(
            Key={"pk": f"CASE#{case.id}", "sk": "CASE"}, UpdateExpression="REMOVE ask_at"
        )

    answer = find(case)

    assert -5 < seconds_from_now(answer["ask_at"]) <= 0
    deadline = cases.load(table, case_id=case.id).deadline
    assert WEEK.total_seconds() - 5 < seconds_from_now(deadline) <= WEEK.total_seconds()


def test_looking_again_gives_nobody_more_time(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_approvers, "APPROVAL_TIMEOUT_SECONDS", 1000)
    case = open_a_case(table)
    find(case)
    deadline = cases.load(table, case_id=case.id).deadline
    monkeypatch.setattr(find_approvers, "APPROVAL_TIMEOUT_SECONDS", 5000)

    answer = find(case)

    assert cases.load(table, case_id=case.id).deadline == deadline
    assert 990 < answer["timeout_seconds"] <= 1000


def test_when_the_time_is_up_looking_again_leaves_a_moment_and_no_more(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_approvers, "APPROVAL_TIMEOUT_SECONDS", -1000)
    case = open_a_case(table)

    assert [find(case)["timeout_seconds"] for _ in range(2)] == [1, 1]


def test_an_approval_and_a_removal_have_deadlines_of_their_own(
    table: Any, organization: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_approvers, "APPROVAL_TIMEOUT_SECONDS", 1000)
    monkeypatch.setattr(find_approvers, "MANUAL_REMOVAL_TIMEOUT_SECONDS", 2000)
    with_management_account(organization)
    case = open_a_case(table)

    find(case)
    for_approval = cases.load(table, case_id=case.id).deadline
    find(case, denied=cause(DENIED))
    for_removal = cases.load(table, case_id=case.id).deadline

    assert 995 < seconds_from_now(for_approval) <= 1000
    assert 1995 < seconds_from_now(for_removal) <= 2000


def test_where_aws_lets_no_root_session_in_one_person_is_asked_to_remove_the_keys(
    table: Any, organization: Stubber, looked_for: list[dict[str, Any]]
) -> None:
    with_management_account(organization)
    case = a_gathered_case(table, quorum=TWO_PEOPLE)

    answer = find(case, denied=cause(DENIED))

    assert answer["by_hand"] is True
    assert looked_for[0]["at_least"] == 1
    after = cases.load(table, case_id=case.id)
    assert after.outcome == Outcome.AWAITING_REMOVAL
    assert (after.obstacle, after.reason) == (Obstacle.SERVICE_CONTROL_POLICY, DENIED)
    assert after.request_number == 2


@pytest.mark.parametrize("denied", [cause(DENIED), cause("no"), "plain text", "null"])
def test_the_management_account_has_a_reason_of_its_own(
    table: Any, organization: Stubber, denied: str
) -> None:
    with_management_account(organization)
    case = open_a_case(table, id=MANAGEMENT)

    find(case, denied=denied)

    after = cases.load(table, case_id=case.id)
    assert after.obstacle == Obstacle.MANAGEMENT_ACCOUNT
    assert after.reason == "AWS opens no root session in the management account of an organization."


@pytest.mark.parametrize(
    ("denied", "reason"),
    [
        (cause("AssumeRoot: AccessDenied: no"), "AssumeRoot: AccessDenied: no"),
        ("plain text", "plain text"),
        ("[1]", "[1]"),
        ("{}", "{}"),
        ("null", "null"),
    ],
)
def test_a_reason_is_read_from_whatever_step_functions_caught(
    organization: Stubber, denied: str, reason: str
) -> None:
    with_management_account(organization)

    assert find_approvers.why(denied, account_id=ACCOUNT) == (
        Obstacle.ROOT_SESSION_DENIED,
        reason,
    )


def test_running_again_asks_for_nothing_new(table: Any, organization: Stubber) -> None:
    with_management_account(organization)
    with_management_account(organization)
    case = a_gathered_case(table)

    numbers = []
    for event in ({}, {}, {"denied": cause(DENIED)}, {"denied": cause(DENIED)}):
        find(case, **event)
        numbers.append(cases.load(table, case_id=case.id).request_number)

    assert numbers == [1, 1, 2, 2]


def test_a_decision_that_survived_a_second_look_stays(table: Any) -> None:
    case = a_decided_case(table)

    find(case)

    after = cases.load(table, case_id=case.id)
    assert (after.decision, after.approvals) == (case.decision, case.approvals)
    assert after.request_number == 1


def test_a_hiccup_asks_nobody(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hiccup(*_: object, **__: object) -> None:
        raise ApproverUnknownError("account 3: TooManyRequests")

    monkeypatch.setattr(accounts, "find_approvers", hiccup)
    case = open_a_case(table)
    before = contents(table)

    with pytest.raises(ApproverUnknownError):
        find(case)

    assert contents(table) == before


def test_without_the_organizations_answer_nobody_is_told_a_wrong_reason(
    table: Any, organization: Stubber
) -> None:
    organization.add_client_error("describe_organization", "ServiceException")
    case = open_a_case(table)
    before = contents(table)

    with pytest.raises(ClientError, match="ServiceException"):
        find(case, denied=cause(DENIED))

    assert contents(table) == before


def test_nobody_is_asked_about_a_case_that_has_ended(table: Any) -> None:
    case = open_a_case(table)
    cases.record_outcome(table, case_id=case.id, outcome=Outcome.FAILED, reason="r", now=NOW)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        find(case)

    assert contents(table) == before
