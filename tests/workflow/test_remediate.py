"""A case from its opening to its outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rootsweep import cases
from rootsweep.cases import Outcome

from .world import ACCOUNT, DEFAULT, FIRST, OWNER, SECOND, World, patience

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeWorld = Callable[..., World]


def test_approved_keys_are_deleted_and_the_case_is_remediated(world: MakeWorld) -> None:
    here = world()
    here.root.keys = {FIRST: "Active", SECOND: "Inactive"}

    here.start()
    mail = here.mail(1)
    assert here.root.deleted == []
    here.approve(mail)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST, SECOND]
    assert [key["M"]["id"]["S"] for key in here.item["deleted_keys"]["L"]] == [FIRST, SECOND]
    assert states == [
        "Gather evidence",
        "Any root keys left?",
        "Find approvers",
        "Wait for the other cases of the sweep",
        "By hand?",
        "Request approval",
        "Read decision",
        "Approved?",
        "Delete root keys",
        "Confirm removal",
        "Any deleted by Rootsweep?",
        "Record remediated",
    ]
    assert here.alerts == []
    assert cases.find_open_case(here.table, account_id=ACCOUNT) is None


def test_declined_keys_stay_under_an_exception(world: MakeWorld) -> None:
    here = world()
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()

    here.start()
    here.answer(here.mail(1), decision="decline", reason="migrating in May", until=until)

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.DECLINED)
    assert here.root.attempts == []
    exception = cases.find_exception(here.table, account_id=ACCOUNT, now=datetime.now(UTC))
    assert exception
    assert (exception.owner, exception.reason, exception.until) == (
        OWNER,
        "migrating in May",
        until,
    )


def test_nobody_answers_so_the_case_is_escalated_and_somebody_is_told(world: MakeWorld) -> None:
    here = world(approval_seconds=1)

    here.start()

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert here.root.attempts == []
    assert here.root.keys == {FIRST: "Active"}
    assert states[-2:] == ["Record escalated", "Tell the security team"]
    assert len(here.alerts) == 1
    assert "ESCALATED, nobody answered in time" in here.alerts[0]


def test_keys_that_are_gone_when_the_evidence_is_gathered_need_nobody(world: MakeWorld) -> None:
    here = world()
    here.root.keys = {}

    here.start()

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.RESOLVED)
    assert here.mailbox.texts == []
    assert here.root.attempts == []


def test_a_key_added_after_the_approval_stops_the_deletion_until_it_is_approved_too(
    world: MakeWorld,
) -> None:
    here = world()

    here.start()
    first = here.mail(1)
    here.root.keys[SECOND] = "Active"
    here.approve(first)
    second = here.mail(2)
    assert here.root.attempts == []
    assert SECOND not in first
    assert FIRST in second
    assert SECOND in second
    here.approve(second)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST, SECOND]
    assert states.count("Request approval") == 2
    assert len(here.item["past_decisions"]["L"]) == 1


def test_a_key_whose_status_changed_after_the_approval_is_asked_about_again(
    world: MakeWorld,
) -> None:
    here = world()
    here.root.keys = {FIRST: "Inactive"}

    here.start()
    first = here.mail(1)
    here.root.keys = {FIRST: "Active"}
    here.approve(first)
    second = here.mail(2)
    assert here.root.attempts == []
    here.approve(second)

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]


def test_a_second_question_that_nobody_answers_deletes_nothing(world: MakeWorld) -> None:
    here = world(approval_seconds=4)

    here.start()
    first = here.mail(1)
    here.root.keys[SECOND] = "Active"
    here.approve(first)

    status, states = here.end()
    assert states.count("Request approval") == 2
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert here.root.attempts == []


def test_a_key_that_changed_and_changed_back_needs_no_second_mail(world: MakeWorld) -> None:
    here = world()

    here.start()
    mail = here.mail(1)
    gather = here.handlers["gather_evidence"]

    def change_back_first(event: dict[str, str], context: object) -> object:
        here.root.keys.pop(SECOND, None)
        return gather(event, context)

    here.handlers["gather_evidence"] = change_back_first
    here.root.keys[SECOND] = "Active"
    token = here.case.task_token
    here.approve(mail)
    here.case_waits(after=token)
    here.deliver()  # The table's stream does, for the new token came to the old decision.

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states.count("Request approval") == 2
    assert len(here.mailbox.texts) == 1
    assert here.root.deleted == [FIRST]


def test_a_key_that_is_in_use_needs_two_people(world: MakeWorld) -> None:
    here = world()
    here.root.last_used[FIRST] = datetime.now(UTC) - timedelta(days=10)

    here.start()
    mails = [here.mail(1), here.mail(2)]
    assert sorted(here.mailbox.recipients) == [OWNER, DEFAULT]
    for mail in mails:
        assert "2 people have to approve" in mail
    here.approve(mails[0], deliver=False)
    here.approve(mails[0], deliver=False)
    assert "decided" not in here.item
    assert len(here.case.approvals) == 1
    assert here.root.attempts == []
    here.approve(mails[1])

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]
    assert here.output["decided_by"] == ", ".join(here.mailbox.recipients)
    assert states.count("Request approval") == 1
    assert len(here.mailbox.texts) == 2


def test_a_second_person_who_declines_keeps_the_keys(world: MakeWorld) -> None:
    here = world()
    here.root.last_used[FIRST] = datetime.now(UTC) - timedelta(days=10)
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()

    here.start()
    mails = [here.mail(1), here.mail(2)]
    here.approve(mails[0], deliver=False)
    here.answer(mails[1], decision="decline", reason="it runs the payroll", until=until)

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.DECLINED)
    assert here.root.attempts == []
    assert here.output["decided_by"] == here.mailbox.recipients[1]


def test_a_second_person_who_never_comes_deletes_nothing(world: MakeWorld) -> None:
    here = world(approval_seconds=4)
    here.root.last_used[FIRST] = datetime.now(UTC) - timedelta(days=10)

    here.start()
    mail, _ = here.mail(1), here.mail(2)
    here.approve(mail, deliver=False)

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert here.root.attempts == []
    assert here.case.reason == (
        f"approved in time by {here.mailbox.recipients[0]} only, and 2 people have to approve, "
        "because a key was used in the last 90 days"
    )
    assert here.case.reason in here.alerts[0]


def test_a_key_that_was_used_after_the_approval_is_asked_about_again_and_by_two_people(
    world: MakeWorld,
) -> None:
    here = world()

    here.start()
    first = here.mail(1)
    here.root.last_used[FIRST] = datetime.now(UTC)
    here.approve(first)
    mails = [here.mail(2), here.mail(3)]
    assert here.root.attempts == []
    assert sorted(here.mailbox.recipients[1:]) == [OWNER, DEFAULT]
    here.approve(mails[0], deliver=False)
    assert here.root.attempts == []
    here.approve(mails[1])

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states.count("Delete root keys") == 2
    assert here.root.deleted == [FIRST]
    assert len(here.item["past_decisions"]["L"]) == 1


def test_a_decision_that_comes_before_the_wait_is_delivered_when_it_begins(
    world: MakeWorld,
) -> None:
    here = world()

    here.start()
    mail = here.mail(1)
    token = here.case.task_token
    request = here.handlers["request_approval"]

    def approved_first(event: dict[str, str], context: object) -> object:
        # The link of the first mail opens the new evidence as soon as it is in the table.
        here.approve(mail)
        assert not here.case.task_token
        return request(event, context)

    here.handlers["request_approval"] = approved_first
    here.root.keys[SECOND] = "Active"
    here.approve(mail)
    here.case_waits(after=token)
    here.deliver()

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states.count("Request approval") == 2
    assert here.root.deleted == [FIRST, SECOND]
    assert len(here.mailbox.texts) == 1


def test_a_person_who_was_asked_is_not_asked_again_when_the_request_is_retried(
    world: MakeWorld,
) -> None:
    here = world()
    request = here.handlers["request_approval"]
    done = []

    def dies_late_once(event: dict[str, str], context: object) -> None:
        request(event, context)
        done.append(event["task_token"])
        if len(done) == 1:
            raise RuntimeError("the function died after its work")

    here.handlers["request_approval"] = dies_late_once
    here.start()
    mail = here.mail(1)
    with patience("the second attempt") as waiting:
        while waiting():
            if len(done) == 2:
                break
    here.approve(mail)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states.count("Request approval") == 1
    assert len(here.mailbox.texts) == 1


def test_an_account_that_lets_no_root_session_in_waits_until_the_keys_are_removed_by_hand(
    world: MakeWorld,
) -> None:
    here = world()
    here.root.lets_root_sessions_in = False

    here.start()
    with patience("the request for manual removal") as waiting:
        while waiting():
            if here.case.outcome == Outcome.AWAITING_REMOVAL and here.mailbox.texts:
                break
    assert "AccessDenied: not today" in here.mailbox.texts[0]
    here.root.keys = {}

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.attempts == []
    assert len(here.mailbox.texts) == 1
    assert "Request approval" not in states


def test_keys_that_nobody_removes_by_hand_are_escalated(world: MakeWorld) -> None:
    here = world(removal_seconds=4)
    here.root.lets_root_sessions_in = False

    here.start()

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert states.count("Check manual removal") >= 2
    assert len(here.mailbox.texts) == 1
    assert "ESCALATED, the keys are still there" in here.alerts[0]


def test_a_session_denied_after_the_approval_is_for_people_too(world: MakeWorld) -> None:
    here = world(removal_seconds=0)

    here.start()
    mail = here.mail(1)
    here.root.lets_root_sessions_in = False
    here.approve(mail)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert "Request manual removal" in states
    assert here.root.keys == {FIRST: "Active"}


def test_a_deletion_that_fails_for_ever_ends_as_failed_and_somebody_is_told(
    world: MakeWorld,
) -> None:
    here = world()
    here.root.delete_fails = True

    here.start()
    here.approve(here.mail(1))

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.FAILED)
    assert here.root.attempts == [FIRST, FIRST]
    assert states[-2:] == ["Record failed", "Tell the security team"]
    assert "FAILED" in here.alerts[0]
    assert "ServiceFailure" in here.case.reason


def test_a_decision_just_before_the_time_is_up_is_honoured_without_delivery(
    world: MakeWorld,
) -> None:
    here = world(approval_seconds=4)

    here.start()
    here.approve(here.mail(1), deliver=False)

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert here.root.deleted == [FIRST]


def test_delivering_a_decision_twice_and_after_the_end_changes_nothing(world: MakeWorld) -> None:
    here = world()

    here.start()
    mail = here.mail(1)
    here.approve(mail, deliver=False)
    decided = here.item
    record = {"eventName": "MODIFY", "dynamodb": {"NewImage": decided}}
    here.handlers["deliver_decision"]({"Records": [record, record]}, None)

    status, states = here.end()
    here.handlers["deliver_decision"]({"Records": [record]}, None)
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.REMEDIATED)
    assert states.count("Delete root keys") == 1


def test_ending_the_wait_without_a_decision_in_the_table_deletes_nothing(
    world: MakeWorld,
) -> None:
    here = world()

    here.start()
    here.mail(1)
    record = {"eventName": "MODIFY", "dynamodb": {"NewImage": here.item}}
    here.handlers["deliver_decision"]({"Records": [record]}, None)

    _, states = here.end()
    assert here.case.outcome == Outcome.ESCALATED
    assert "Delete root keys" not in states
    assert here.root.attempts == []


def wake(here: World) -> None:
    """What a sweep does that finds the account clean, and the stream after it."""
    assert cases.wake(here.table, case_id=here.started)
    item = here.item
    assert item["woken"] == {"S": "YES"}, "the stream's filter lets this through"
    record = {"eventName": "MODIFY", "dynamodb": {"NewImage": item}}
    here.handlers["deliver_decision"]({"Records": [record]}, None)


def test_keys_that_went_while_people_thought_end_the_wait_as_resolved(world: MakeWorld) -> None:
    here = world()
    here.start()
    here.mail(1)
    here.root.keys.clear()

    wake(here)

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.RESOLVED)
    assert states.count("Gather evidence") == 2
    assert states.count("Request approval") == 1
    assert here.root.attempts == []
    assert here.alerts == []


def test_a_case_that_was_woken_in_vain_waits_on_and_mails_nobody(world: MakeWorld) -> None:
    here = world()
    here.start()
    mail = here.mail(1)
    deadline = here.case.deadline

    wake(here)
    with patience("the second wait") as waiting:
        while waiting():
            if here.case.task_token and not here.case.woken:
                break

    assert len(here.mailbox.texts) == 1
    assert here.case.deadline == deadline
    here.approve(mail)
    here.end()
    assert here.case.outcome == Outcome.REMEDIATED


def test_no_task_token_is_in_what_the_execution_ends_with(world: MakeWorld) -> None:
    here = world()

    here.start()
    mail = here.mail(1)
    token = here.case.task_token
    here.approve(mail)

    here.end()
    assert len(token) > 500
    assert token not in mail
    assert "task_token" not in here.item
