from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import find_approvers
import pytest
from botocore.exceptions import ClientError

from rootsweep import approvers, cases, directory, escalation
from rootsweep.cases import Obstacle, Outcome
from rootsweep.directory import Approver, Found
from rootsweep.errors import ApproverUnknownError, CaseEndedError
from rootsweep.escalation import Rung

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    FIRST,
    LATER,
    MANAGEMENT,
    NOW,
    ONE_PERSON,
    SECOND,
    THIRD,
    TWO_PEOPLE,
    TWO_RUNGS,
    a_decided_case,
    a_gathered_case,
    a_key,
    contents,
    end_case,
    open_a_case,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

DAY, WEEK = timedelta(days=1), timedelta(days=7)
DENIED = "AssumeRoot: AccessDenied: with an explicit deny in a service control policy"
THREE_RUNGS = (
    *TWO_RUNGS,
    Rung(timedelta(days=3), ("ciso@example.com",)),
)


class People:
    """Whom the sources name, by what a rung says; and how they were looked for."""

    def __init__(self) -> None:
        self.known = {
            escalation.APPROVERS: (APPROVER, DEPUTY),
            escalation.DEFAULT_APPROVER: (THIRD,),
            "ciso@example.com": ("ciso@example.com",),
        }
        self.looked_for: list[dict[str, Any]] = []

    def find(self, sources: object, **given: Any) -> Found:
        assert sources is find_approvers.sources
        self.looked_for.append(given)
        named = [person for target in given["notify"] for person in self.known.get(target, ())]
        return Found(tuple(Approver(each, f"as {each}") for each in named), ("nobody: why",))


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> People:
    people = People()
    monkeypatch.setattr(directory, "find_approvers", people.find)
    return people


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still."""

    def set_clock(now: datetime) -> None:
        stop_clock(find_approvers, now)

    set_clock(NOW)
    return set_clock


@pytest.fixture
def organization(stub: Callable[[Any], Stubber]) -> Stubber:
    return stub(find_approvers.organizations)


def with_management_account(organization: Stubber) -> None:
    organization.add_response(
        "describe_organization", {"Organization": {"MasterAccountId": MANAGEMENT}}, {}
    )


visits = itertools.count()


def find(case: cases.Case, **event: Any) -> dict[str, Any]:
    """What one visit of the state gives; as one of its retries if it gets that one's time."""
    visit = NOW + timedelta(seconds=next(visits))
    given = {"denied": None, "entered_at": f"{visit:%Y-%m-%dT%H:%M:%S.123Z}", **event}
    return find_approvers.handler({"case_id": case.id, **given}, None)


def found(table: Any, case: cases.Case, **event: Any) -> cases.Case:
    """The case after its approvers were found."""
    find(case, **event)
    return cases.load(table, case_id=case.id)


def cause(message: str) -> str:
    """What Step Functions catches of a function's error."""
    return json.dumps({"errorMessage": message, "errorType": "RootSessionDeniedError"})


def test_who_answers_for_the_account_is_asked_for_an_approval(table: Any, people: People) -> None:
    case = a_gathered_case(table, quorum=TWO_PEOPLE)

    answer = find(case)

    [looked_for] = people.looked_for
    del looked_for["has_bounced"]
    assert looked_for == {
        "account_id": ACCOUNT,
        "parents": case.parents,
        "notify": ("approvers",),
        "at_least": 2,
    }
    after = cases.load(table, case_id=case.id)
    assert after.approvers == (APPROVER, DEPUTY)
    assert after.asked == {APPROVER, DEPUTY}
    assert after.approver_sources == (f"as {APPROVER}", f"as {DEPUTY}")
    assert after.approver_notes == ("nobody: why",)
    assert (after.obstacle, after.reason, after.request_number) == (None, "", 1)
    assert after.is_decidable
    assert (answer["by_hand"], answer["tell"]) == (False, False)
    assert [item["pk"] for item in contents(table) if item["sk"] == f"REQUEST#{case.id}"] == [
        f"APPROVER#{DEPUTY}",
        f"APPROVER#{APPROVER}",
    ]


def test_the_sources_are_those_of_the_stack() -> None:
    sources = find_approvers.sources

    assert sources.organizations is find_approvers.organizations
    assert sources.account_client.meta.service_model.service_name == "account"
    assert (sources.tag_key, sources.default, sources.second) == (
        "rootsweep-approver",
        "security@example.com",
        "deputy@example.com",
    )


def test_an_address_that_bounced_lately_is_told_apart(table: Any, people: People) -> None:
    approvers.record_bounce(table, approver=APPROVER, reason="550", now=NOW - timedelta(days=29))
    approvers.record_bounce(table, approver=DEPUTY, reason="550", now=NOW - timedelta(days=31))

    find(open_a_case(table))

    has_bounced = people.looked_for[0]["has_bounced"]
    assert [has_bounced(each) for each in (APPROVER, DEPUTY, THIRD)] == [True, False, False]


def test_people_are_asked_at_the_end_of_the_mail_window_and_have_a_week_from_then(
    table: Any,
) -> None:
    ask_at = NOW + timedelta(minutes=10)
    case = with_window(table, ask_at)

    answer = find(case)

    after = cases.load(table, case_id=case.id)
    assert answer["ask_at"] == case.ask_at == after.ladder_since
    assert answer["timeout_seconds"] == WEEK.total_seconds()
    assert after.deadline == after.answer_by == after.next_mail_at == f"{ask_at + WEEK:%FT%TZ}"


def with_window(table: Any, ask_at: datetime, **given: Any) -> cases.Case:
    case = open_a_case(table, **given)
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="SET ask_at = :at",
        ExpressionAttributeValues={":at": f"{ask_at:%FT%TZ}"},
    )
    return cases.load(table, case_id=case.id)


@pytest.mark.parametrize("window", ["over", "never set"])
def test_after_the_mail_window_people_are_asked_at_once(
    table: Any, at: Callable[[datetime], None], window: str
) -> None:
    case = open_a_case(table)
    if window == "never set":
        table.update_item(
            Key={"pk": f"CASE#{case.id}", "sk": "CASE"}, UpdateExpression="REMOVE ask_at"
        )
    at(LATER)

    answer = find(case)

    assert answer["ask_at"] == f"{LATER:%FT%TZ}"
    assert cases.load(table, case_id=case.id).deadline == f"{LATER + WEEK:%FT%TZ}"


def test_looking_again_gives_nobody_more_time(table: Any, at: Callable[[datetime], None]) -> None:
    case = open_a_case(table)
    first = found(table, case)
    at(NOW + WEEK - timedelta(seconds=90))

    answer = find(case)

    assert cases.load(table, case_id=case.id) == first
    assert answer["timeout_seconds"] == 90


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), WEEK])
def test_when_the_time_is_up_looking_again_leaves_a_moment_and_no_more(
    table: Any, at: Callable[[datetime], None], late: timedelta
) -> None:
    case = open_a_case(table)
    first = found(table, case)
    at(NOW + WEEK + late)

    assert [find(case)["timeout_seconds"] for _ in range(2)] == [1, 1]
    assert cases.load(table, case_id=case.id) == first


def test_a_part_of_a_second_is_waited_for(table: Any, at: Callable[[datetime], None]) -> None:
    case = open_a_case(table)
    at(NOW + timedelta(milliseconds=400))
    find(case)
    at(NOW + timedelta(milliseconds=500))

    assert find(case)["timeout_seconds"] == WEEK.total_seconds()


# -- climbing -------------------------------------------------------------------------------------


def test_a_case_climbs_rung_by_rung_and_mail_by_mail(
    table: Any, people: People, at: Callable[[datetime], None]
) -> None:
    case = open_a_case(table, ladder=THREE_RUNGS)
    seen = []
    for days in range(18):
        at(NOW + days * DAY)
        answer = find(case)
        wait = timedelta(seconds=answer["timeout_seconds"])
        left = (datetime.fromisoformat(answer["ask_at"]) + wait - NOW).days - days
        after = cases.load(table, case_id=case.id)
        assert (after.first_rung, after.ladder_since) == (0, "2026-03-04T05:06:07Z")
        assert after.deadline == f"{NOW + 17 * DAY:%FT%TZ}"
        assert after.request_number == 0
        seen.append((after.rung, after.reminder, left, len(after.approvers)))

    first, second, third = seen[:7], seen[7:14], seen[14:17]
    assert [each[:3] for each in first] == [
        *((0, 0, 2), (0, 0, 1)),
        *((0, 1, 2), (0, 1, 1)),
        *((0, 2, 2), (0, 2, 1)),
        (0, 3, 1),
    ]
    assert [each[:3] for each in second] == [(1, 4, left) for left in range(7, 0, -1)]
    assert [each[:3] for each in third] == [(2, 5, left) for left in range(3, 0, -1)]
    # At the end nothing is left but to read what was decided.
    assert seen[17][:2] == (2, 5)
    assert [{each[3] for each in rung} for rung in (first, second, third)] == [{2}, {3}, {4}]
    assert people.looked_for[-1]["notify"] == ("approvers", "default_approver", "ciso@example.com")


@pytest.mark.parametrize(
    ("late", "waits"), [(0, 60), (1, 59), (60, 0), (3600, 0)], ids=lambda each: str(each)
)
def test_a_reminder_waits_a_moment_for_those_of_other_cases(
    table: Any, at: Callable[[datetime], None], late: int, waits: int
) -> None:
    case = open_a_case(table, ladder=TWO_RUNGS)
    first = find(case)
    now = NOW + 2 * DAY + timedelta(seconds=late)
    at(now)

    reminder = find(case)

    assert first["ask_at"] == f"{NOW:%FT%TZ}"
    assert reminder["ask_at"] == f"{now + timedelta(seconds=waits):%FT%TZ}"
    assert reminder["timeout_seconds"] == (2 * DAY).total_seconds() - late - waits


def test_who_is_asked_is_looked_up_anew_each_time(
    table: Any, people: People, at: Callable[[datetime], None]
) -> None:
    case = open_a_case(table, ladder=TWO_RUNGS)
    find(case)
    people.known[escalation.APPROVERS] = (DEPUTY,)
    at(NOW + 2 * DAY)

    after = found(table, case)

    assert after.approvers == (DEPUTY,)
    assert after.asked == {APPROVER, DEPUTY}
    assert (after.rung, after.reminder) == (0, 1)


def test_other_keys_begin_the_rung_anew_and_not_the_ladder(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = a_gathered_case_on(table, TWO_RUNGS)
    find(case)
    at(NOW + 8 * DAY)
    climbed = found(table, case)
    at(NOW + 10 * DAY)
    cases.record_evidence(
        table, case=climbed, keys=[a_key(SECOND)], quorum=ONE_PERSON, now=NOW + 10 * DAY
    )

    answer = find(case)

    after = cases.load(table, case_id=case.id)
    assert (climbed.rung, climbed.reminder) == (1, 4)
    assert (after.rung, after.first_rung, after.reminder, after.request_number) == (1, 1, 0, 2)
    assert after.deadline == after.answer_by == f"{NOW + 17 * DAY:%FT%TZ}"
    assert after.approvers == (APPROVER, DEPUTY, THIRD)
    assert answer["timeout_seconds"] == WEEK.total_seconds()


def a_gathered_case_on(table: Any, ladder: escalation.Ladder) -> cases.Case:
    case = open_a_case(table, ladder=ladder)
    cases.record_evidence(table, case=case, keys=[a_key(FIRST)], quorum=ONE_PERSON, now=NOW)
    return cases.load(table, case_id=case.id)


def test_the_same_keys_do_not_begin_the_rung_anew(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = found(table, a_gathered_case_on(table, TWO_RUNGS))
    at(NOW + 3 * DAY)
    cases.record_evidence(table, case=case, keys=case.keys, quorum=ONE_PERSON, now=NOW + 3 * DAY)

    after = found(table, case)

    assert (after.reminder, after.deadline) == (1, case.deadline)


def test_an_obstacle_begins_the_rung_anew_and_so_does_its_end(
    table: Any, organization: Stubber, at: Callable[[datetime], None]
) -> None:
    with_management_account(organization)
    with_management_account(organization)
    case = a_gathered_case_on(table, TWO_RUNGS)
    find(case)
    at(NOW + 9 * DAY)
    find(case)
    at(NOW + 10 * DAY)
    denied = found(table, case, denied=cause(DENIED))
    at(NOW + 11 * DAY)
    denied_again = found(table, case, denied=cause(DENIED))
    at(NOW + 12 * DAY)
    after = found(table, case)

    assert (denied.rung, denied.first_rung, denied.reminder) == (1, 1, 0)
    assert denied.deadline == denied_again.deadline == f"{NOW + 17 * DAY:%FT%TZ}"
    assert denied.ladder_since == denied_again.ladder_since == f"{NOW + 10 * DAY:%FT%TZ}"
    assert (after.rung, after.deadline) == (1, f"{NOW + 19 * DAY:%FT%TZ}")
    assert [each.request_number for each in (denied, denied_again, after)] == [2, 2, 3]


def test_a_reopened_case_goes_on_with_everybody_up_to_its_rung(table: Any) -> None:
    case = open_a_case(table, ladder=THREE_RUNGS)
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="SET rung = :r",
        ExpressionAttributeValues={":r": 1},
    )

    after = found(table, case)

    assert (after.rung, after.first_rung, after.reminder) == (1, 1, 0)
    assert after.approvers == (APPROVER, DEPUTY, THIRD)
    assert (after.answer_by, after.deadline) == (
        f"{NOW + WEEK:%FT%TZ}",
        f"{NOW + 10 * DAY:%FT%TZ}",
    )


def test_where_nobody_answers_the_last_rung_is_asked_at_once(
    table: Any, people: People, at: Callable[[datetime], None]
) -> None:
    del people.known[escalation.APPROVERS], people.known[escalation.DEFAULT_APPROVER]
    case = with_window(table, NOW + timedelta(minutes=10), ladder=THREE_RUNGS)

    answer = find(case)

    after = cases.load(table, case_id=case.id)
    assert answer["tell"] is False
    assert after.approvers == ("ciso@example.com",)
    assert (after.rung, after.first_rung, after.reminder) == (2, 2, 0)
    assert after.ladder_since == after.ask_at
    assert after.deadline == f"{NOW + timedelta(days=3, minutes=10):%FT%TZ}"
    assert answer["timeout_seconds"] == timedelta(days=3).total_seconds()
    at(NOW + DAY)
    assert found(table, case) == after


def test_a_climb_to_a_rung_where_nobody_is_left_goes_to_the_last_one(
    table: Any, people: People, at: Callable[[datetime], None]
) -> None:
    case = open_a_case(table, ladder=THREE_RUNGS)
    find(case)
    people.known = {"ciso@example.com": ("ciso@example.com",)}
    at(NOW + 8 * DAY)

    after = found(table, case)

    assert (after.rung, after.first_rung, after.approvers) == (2, 2, ("ciso@example.com",))
    assert after.deadline == f"{NOW + 11 * DAY:%FT%TZ}"


@pytest.mark.parametrize("ladder", [TWO_RUNGS[:1], THREE_RUNGS], ids=["one rung", "three rungs"])
def test_where_nobody_answers_at_all_the_case_says_so(
    table: Any, people: People, ladder: escalation.Ladder
) -> None:
    people.known = {}
    case = open_a_case(table, ladder=ladder)

    answer = find(case)

    after = cases.load(table, case_id=case.id)
    assert (answer["tell"], answer["by_hand"]) == (True, False)
    assert answer["reason"] == "nobody: why"
    assert (after.approvers, after.asked) == ((), frozenset())
    assert after.rung == len(ladder) - 1
    assert not after.is_decidable
    # Nobody was looked for twice on the same rung.
    assert len(people.looked_for) == min(2, len(ladder))
    assert find(case)["tell"] is False, "people are told once"


def test_a_retry_tells_what_the_attempt_before_could_not(table: Any, people: People) -> None:
    people.known = {}
    case = open_a_case(table)
    visit = {"entered_at": "2026-03-04T05:06:07.890Z"}

    assert [find(case, **visit)["tell"] for _ in range(2)] == [True, True]
    assert find(case)["tell"] is False


def test_a_removal_by_hand_that_nobody_answers_for_is_no_different(
    table: Any, people: People, organization: Stubber
) -> None:
    with_management_account(organization)
    people.known = {}

    answer = find(open_a_case(table), denied=cause(DENIED))

    assert (answer["tell"], answer["by_hand"]) == (True, True)


# -- removals by hand -----------------------------------------------------------------------------


def test_where_aws_lets_no_root_session_in_one_person_is_asked_to_remove_the_keys(
    table: Any, organization: Stubber, people: People
) -> None:
    with_management_account(organization)
    case = a_gathered_case(table, quorum=TWO_PEOPLE)

    answer = find(case, denied=cause(DENIED))

    assert answer["by_hand"] is True
    assert people.looked_for[0]["at_least"] == 1
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


@pytest.mark.parametrize(
    ("reason", "obstacle"),
    [
        (
            "AssumeRoot: AccessDeniedException: RootSessions feature is not enabled",
            Obstacle.ROOT_CREDENTIALS_MANAGEMENT_OFF,
        ),
        (
            "AssumeRoot: AccessDenied: Service not enabled for the organization",
            Obstacle.ROOT_CREDENTIALS_MANAGEMENT_OFF,
        ),
        (DENIED, Obstacle.SERVICE_CONTROL_POLICY),
        ("AssumeRoot: AccessDenied: no", Obstacle.ROOT_SESSION_DENIED),
    ],
)
def test_the_obstacle_is_what_aws_says_it_is(
    organization: Stubber, reason: str, obstacle: Obstacle
) -> None:
    with_management_account(organization)

    assert find_approvers.why(cause(reason), account_id=ACCOUNT) == (obstacle, reason)


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

    monkeypatch.setattr(directory, "find_approvers", hiccup)
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
    end_case(table, case.id, Outcome.FAILED)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        find(case)

    assert contents(table) == before
