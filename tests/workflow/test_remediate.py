"""A case from its opening to its outcome."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rootsweep import cases, exceptions, holds
from rootsweep.accounts import Account
from rootsweep.cases import Outcome
from rootsweep.root_access import RootKey
from rootsweep.table import exception_key

from .world import ACCOUNT, DEFAULT, FIRST, OWNER, SECOND, World, patience

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeWorld = Callable[..., World]


def one_rung(after: str) -> str:
    return json.dumps([{"after": after, "notify": ["approvers"]}])


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
        "Anybody to ask?",
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
    exception = exceptions.find(here.table, account_id=ACCOUNT)
    assert exception
    assert (exception.owner, exception.reason, exception.until) == (
        OWNER,
        "migrating in May",
        until,
    )


def test_nobody_answers_so_the_case_is_escalated_and_somebody_is_told(world: MakeWorld) -> None:
    here = world(one_rung("1s"))

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
    here = world(one_rung("4s"))

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
    here = world(one_rung("4s"))
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
    here = world(one_rung("4s"))
    here.root.lets_root_sessions_in = False

    here.start()

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert states.count("Check manual removal") >= 2
    assert len(here.mailbox.texts) == 1
    assert "ESCALATED, the keys are still there" in here.alerts[0]


def test_a_session_denied_after_the_approval_is_for_people_too(world: MakeWorld) -> None:
    here = world(one_rung("6s"))

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
    here = world(one_rung("4s"))

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


def test_ending_the_wait_without_a_decision_in_the_table_only_looks_again(
    world: MakeWorld,
) -> None:
    here = world(one_rung("6s"))

    here.start()
    here.mail(1)
    token = here.case.task_token
    record = {"eventName": "MODIFY", "dynamodb": {"NewImage": here.item}}
    here.handlers["deliver_decision"]({"Records": [record]}, None)
    here.case_waits(after=token)

    _, states = here.end()
    assert here.case.outcome == Outcome.ESCALATED
    assert "Delete root keys" not in states
    assert here.root.attempts == []
    assert len(here.mailbox.texts) == 1


def test_when_only_keys_are_left_that_may_stay_by_an_exception_nobody_is_asked_any_more(
    world: MakeWorld,
) -> None:
    here = world()
    here.root.keys = {FIRST: "Active", SECOND: "Active"}
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    kept = (RootKey(FIRST, "Active", "2016-04-01T00:00:00+00:00"),)
    exception = exceptions.AccountException(ACCOUNT, OWNER, "migrating", until, kept, "c")
    here.table.put_item(Item={**exception_key(ACCOUNT), **exception.to_item()})
    here.start()
    here.mail(1)

    here.root.keys = {FIRST: "Active"}
    here.wake()

    status, _ = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.RESOLVED)
    assert here.case.reason == f"what is left may stay until {until}, by a decision of {OWNER}"
    assert exceptions.find(here.table, account_id=ACCOUNT) == exception
    assert (len(here.mailbox.texts), here.root.deleted, here.alerts) == (1, [], [])


def test_keys_that_went_while_people_thought_end_the_wait_as_resolved(world: MakeWorld) -> None:
    here = world()
    here.start()
    here.mail(1)
    here.root.keys.clear()

    here.wake()

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

    here.wake()
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


LADDER = json.dumps(
    [
        {"after": "10s", "notify": ["approvers"], "remind_every": "4s"},
        {"after": "8s", "notify": ["default_approver", "ciso@example.com"]},
    ]
)


def test_while_nobody_answers_people_are_reminded_and_more_are_asked(world: MakeWorld) -> None:
    here = world(LADDER)

    here.start()

    status, states = here.end()
    assert (status, here.case.outcome) == ("SUCCEEDED", Outcome.ESCALATED)
    assert here.root.attempts == []
    assert here.mailbox.recipients == [OWNER] * 3 + [OWNER, DEFAULT, "ciso@example.com"]
    assert "reminder" not in here.mailbox.texts[0]
    assert all("reminder" in text for text in here.mailbox.texts[1:4])
    assert all("reminder" not in text for text in here.mailbox.texts[4:])
    assert "also asks the default approver and ciso@example. com" in here.mailbox.texts[0]
    assert states.count("Request approval") == 4
    assert here.case.rung == 1
    assert "Rung: 2." in here.alerts[0]
    assert len(here.alerts) == 1


def test_an_answer_on_a_later_rung_counts_whoever_it_comes_from(world: MakeWorld) -> None:
    here = world(LADDER)

    here.start()
    first = here.mail(1)
    with patience("the second rung") as waiting:
        while waiting():
            if "ciso@example.com" in here.mailbox.recipients and here.case.task_token:
                break
    here.approve(first)  # The first link is as good as the last.

    _, _ = here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert here.case.decision is not None
    assert here.case.decision.by == OWNER
    assert here.alerts == []


def test_an_account_that_nobody_answers_for_goes_straight_to_the_last_rung(
    world: MakeWorld,
) -> None:
    ladder = json.dumps(
        [
            {"after": "90s", "notify": ["organizational_unit"]},
            {"after": "60s", "notify": ["ciso@example.com"]},
        ]
    )
    here = world(ladder)

    here.start()
    here.approve(here.mail(1))

    here.end()
    assert here.mailbox.recipients == ["ciso@example.com"]
    assert (here.case.outcome, here.case.rung) == (Outcome.REMEDIATED, 1)


def test_where_nobody_can_be_asked_at_all_somebody_is_told_once_and_whoever_is_named_is_asked(
    world: MakeWorld,
) -> None:
    rungs = [{"after": "90s", "notify": ["organizational_unit"], "remind_every": "2s"}]
    here = world(json.dumps(rungs))

    here.start()
    with patience("a second look") as waiting:
        while waiting():
            if here.case.reminder == 2:
                break
    assert here.mailbox.texts == []
    assert len(here.alerts) == 1
    assert "Nobody answers for the account" in here.alerts[0]
    here.organizations.tags["ou-ab12-prodprod"] = "unit@example.com"
    here.approve(here.mail(1))

    here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert here.mailbox.recipients == ["unit@example.com"]
    assert len(here.alerts) == 1


def test_where_nobody_is_ever_named_the_case_is_escalated_at_the_end_of_the_last_rung(
    world: MakeWorld,
) -> None:
    here = world(json.dumps([{"after": "4s", "notify": ["organizational_unit"]}]))

    here.start()

    _, states = here.end()
    assert here.case.outcome == Outcome.ESCALATED
    assert states.count("Request approval") == 1
    assert "nobody answers for this account: the tag" in here.alerts[1]


def test_a_case_whose_keys_are_still_there_goes_on_where_the_last_one_ended(
    world: MakeWorld,
) -> None:
    here = world(LADDER)
    here.start()
    here.end()
    here.mailbox.texts.clear()
    here.mailbox.recipients.clear()

    here.start()
    mails = [here.mail(number) for number in (1, 2, 3)]

    assert sorted(here.mailbox.recipients) == sorted([OWNER, DEFAULT, "ciso@example.com"])
    assert all("has given up on this key once before" in mail for mail in mails)
    assert (here.case.rung, here.case.reopened) == (1, 1)
    _, states = here.end()
    assert states.count("Request approval") == 1
    assert here.case.outcome == Outcome.ESCALATED
    assert "Given up before: 1 times" in here.alerts[1]


def test_by_hand_people_are_reminded_too_and_more_are_asked(world: MakeWorld) -> None:
    here = world(LADDER)
    here.root.lets_root_sessions_in = False

    here.start()

    _, states = here.end()
    assert here.case.outcome == Outcome.ESCALATED
    assert here.mailbox.recipients == [OWNER] * 3 + [OWNER, DEFAULT, "ciso@example.com"]
    assert "Request approval" not in states


def test_once_root_sessions_are_let_in_the_keys_need_an_approval_only(world: MakeWorld) -> None:
    here = world(json.dumps([{"after": "60s", "notify": ["approvers"], "remind_every": "2s"}]))
    here.root.lets_root_sessions_in = False
    here.start()
    with patience("the request for a manual removal") as waiting:
        while waiting():
            if len(here.mailbox.texts) == 1:
                break

    here.root.lets_root_sessions_in = True
    here.approve(here.mail(2))

    _, states = here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert states.index("Request manual removal") < states.index("Request approval")
    assert here.root.deleted == [FIRST]


def test_a_case_whose_account_is_gone_ends_with_that_reason(world: MakeWorld) -> None:
    here = world()
    here.start()
    here.mail(1)

    here.wake(account_gone="the account is CLOSED")

    _, states = here.end()
    assert (here.case.outcome, here.case.reason) == (Outcome.RESOLVED, "the account is CLOSED")
    assert states.count("Gather evidence") == 1
    assert here.root.attempts == []


def test_by_hand_too_a_case_whose_account_is_gone_ends_with_that_reason(world: MakeWorld) -> None:
    here = world()
    here.root.lets_root_sessions_in = False
    here.start()
    with patience("the request for a manual removal") as waiting:
        while waiting():
            if here.mailbox.texts:
                break

    assert cases.wake(here.table, case_id=here.started, account_gone="the account is SUSPENDED")

    here.end()
    assert (here.case.outcome, here.case.reason) == (Outcome.RESOLVED, "the account is SUSPENDED")


def test_while_the_kill_switch_is_on_nothing_is_deleted_and_people_are_told_once(
    world: MakeWorld,
) -> None:
    here = world()
    here.kill_switch("on")

    here.start()
    here.approve(here.mail(1))
    with patience("the deletion to wait") as waiting:
        while waiting():
            if here.case.held and here.alerts:
                break
    assert (here.case.held, here.root.attempts) == ("KillSwitchOn", [])
    here.kill_switch("off")

    _, states = here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert here.case.held == ""
    assert states.count("Delete root keys") >= 2
    assert len(here.alerts) == 1
    assert "the kill switch /rootsweep/kill-switch is 'on'" in here.alerts[0]


def test_a_first_deletion_waits_for_the_one_before_it(world: MakeWorld) -> None:
    here = world()
    other = cases.open_case(
        here.table,
        account=Account("444444444444", "other", "root"),
        sweep_id="a-sweep",
        remediate_arn=here.machine_arn,
        ladder=here.ladder,
        key_ids=[],
        old_exception=None,
        now=datetime.now(UTC),
        ask_at=datetime.now(UTC),
    )
    # It is being deleted.
    here.table.update_item(
        Key={"pk": f"CASE#{other.id}", "sk": "CASE"},
        UpdateExpression="SET decision = :decision",
        ExpressionAttributeValues={
            ":decision": {"answer": "APPROVED", "by": "b", "at": "a", "fingerprint": "f"}
        },
    )
    release = here.release
    holds.enter_canary(
        here.table,
        case=cases.load(here.table, case_id=other.id),
        release=release,
        deletions=1,
    )

    here.start()
    here.approve(here.mail(1))
    with patience("the deletion to wait") as waiting:
        while waiting():
            if here.case.held:
                break
    assert (here.case.held, here.root.attempts) == ("CanaryPending", [])
    event = {"case_id": other.id, "outcome": "REMEDIATED", "reason": "r"}
    here.handlers["record_outcome"](event, None)

    here.end()
    assert here.case.outcome == Outcome.REMEDIATED
    assert here.root.deleted == [FIRST]
    assert here.alerts == []
