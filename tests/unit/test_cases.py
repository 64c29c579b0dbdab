from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

from rootsweep import cases
from rootsweep.cases import Answer, Case, Decision, Link, Outcome
from rootsweep.errors import CaseEndedError, NotApprovedError
from rootsweep.root_access import fingerprint

from .builders import (
    ACCOUNT,
    FIRST,
    LATER,
    NOW,
    REMEDIATE,
    SECOND,
    a_case,
    a_decided_case,
    a_decision,
    a_key,
    a_waiting_case,
    contents,
    item_of,
    open_a_case,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ENDS = [
    Outcome.REMEDIATED,
    Outcome.RESOLVED,
    Outcome.DECLINED,
    Outcome.ESCALATED,
    Outcome.FAILED,
]


def end(table: Any, case: Case, outcome: Outcome = Outcome.RESOLVED) -> Case:
    return cases.record_outcome(
        table, case_id=case.id, outcome=outcome, reason="because", now=LATER
    )


def test_an_opened_case_is_the_open_one_of_its_account(table: Any) -> None:
    case = open_a_case(table)

    assert case == cases.load(table, case_id=case.id)
    assert case == cases.find_open_case(table, account_id=ACCOUNT)
    assert case.id == "333333333333-20260304T050607Z"
    assert case.outcome == Outcome.AWAITING_APPROVAL
    assert case.opened_at == "2026-03-04T05:06:07Z"
    assert case.execution_arn == (
        "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-remediate:" + case.id
    )
    assert not case.is_decidable


@pytest.mark.parametrize("seconds", [0, 1, 86_400])
def test_opening_twice_gives_one_case(table: Any, seconds: int) -> None:
    first = open_a_case(table)
    before = contents(table)

    second = open_a_case(table, now=NOW + timedelta(seconds=seconds), name="renamed")

    assert second == first
    assert contents(table) == before


def test_cases_of_different_accounts_do_not_meet(table: Any) -> None:
    one, two = open_a_case(table), open_a_case(table, id="333333333334")

    assert one.id != two.id
    assert cases.find_open_case(table, account_id="333333333334") == two


def test_after_a_case_has_ended_a_new_one_is_opened(table: Any) -> None:
    first = open_a_case(table)
    end(table, first)

    second = open_a_case(table, now=LATER)

    assert second.id != first.id
    assert cases.load(table, case_id=first.id).outcome == Outcome.RESOLVED


def test_a_case_that_ends_while_another_sweep_opens_one_is_no_silent_nothing(table: Any) -> None:
    end(table, open_a_case(table))

    # The same second again: the case id is taken, and no case is open.
    with pytest.raises(ClientError, match="TransactionCanceled"):
        open_a_case(table)


def test_an_account_without_a_case_has_none(table: Any) -> None:
    assert cases.find_open_case(table, account_id=ACCOUNT) is None
    with pytest.raises(KeyError, match="nothing"):
        cases.load(table, case_id="nothing")


def test_a_case_of_an_older_version_is_read_with_what_it_has() -> None:
    item = {
        "case_id": "c",
        "account_id": ACCOUNT,
        "outcome": "AWAITING_APPROVAL",
        "opened_at": "2026-03-04T05:06:07Z",
        "execution_arn": "arn",
        "something": "else",
    }

    assert Case.from_item(item).keys == ()
    with pytest.raises(ValueError, match="NEARLY"):
        Case.from_item({**item, "outcome": "NEARLY"})


def test_a_waiting_case_holds_evidence_token_approver_and_deadline(table: Any) -> None:
    keys = [a_key(last_used_at="2024-02-03T00:00:00+00:00"), a_key(SECOND, "Inactive")]

    case = a_waiting_case(table, keys=keys)

    assert case.keys == tuple(keys)
    assert case.fingerprint == fingerprint(ACCOUNT, keys)
    assert case.task_token == "a-token"
    assert case.approver == "payments-leads@example.com"
    assert case.deadline == "2026-03-11T05:06:07Z"
    assert case.is_decidable
    assert item_of(table, case)["approver_source"] == "the test"


@pytest.mark.parametrize("answer", list(Answer))
def test_a_decision_is_kept_as_it_was_made(table: Any, answer: Answer) -> None:
    case = a_waiting_case(table)

    decided = cases.decide(table, case_id=case.id, decision=a_decision(case, answer))

    assert decided.decision == a_decision(case, answer)
    assert decided == cases.load(table, case_id=case.id)
    assert not decided.is_decidable
    assert item_of(table, case)["decided"] == "YES"


@pytest.mark.parametrize("second", list(Answer))
@pytest.mark.parametrize("first", list(Answer))
def test_the_first_decision_wins(table: Any, first: Answer, second: Answer) -> None:
    case = a_decided_case(table, first)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(
            table, case_id=case.id, decision=a_decision(case, second, by="late@example.com")
        )

    assert contents(table) == before


def test_a_decision_about_other_keys_is_not_taken(table: Any) -> None:
    case = a_waiting_case(table)
    shown = a_case([a_key(), a_key(SECOND)])
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id=case.id, decision=a_decision(shown))

    assert contents(table) == before


def test_a_decision_about_a_case_that_does_not_exist_makes_none(table: Any) -> None:
    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id="nothing", decision=a_decision(a_case()))

    assert contents(table) == []


@pytest.mark.parametrize("outcome", ENDS)
def test_an_ended_case_takes_no_decision(table: Any, outcome: Outcome) -> None:
    case = a_waiting_case(table)
    end(table, case, outcome)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id=case.id, decision=a_decision(case))

    assert contents(table) == before


def test_a_case_that_waits_for_removal_takes_no_decision(table: Any) -> None:
    case = a_waiting_case(table)
    waiting = cases.await_removal(
        table, case_id=case.id, approver="a@example.com", reason="denied", deadline=LATER
    )

    assert (waiting.outcome, waiting.reason) == (Outcome.AWAITING_REMOVAL, "denied")
    assert waiting.deadline == "2026-03-05T05:06:07Z"
    assert not waiting.is_decidable
    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id=case.id, decision=a_decision(case))


@pytest.mark.parametrize("answer", list(Answer))
def test_a_decision_that_came_before_the_close_is_found_by_it(table: Any, answer: Answer) -> None:
    case = a_decided_case(table, answer)
    before = contents(table)

    for _ in range(2):
        found = cases.close_to_decisions(table, case_id=case.id, now=LATER)
        assert found == a_decision(case, answer)

    assert contents(table) == before


def test_after_the_close_no_decision_is_taken(table: Any) -> None:
    case = a_waiting_case(table)

    for _ in range(2):
        assert cases.close_to_decisions(table, case_id=case.id, now=LATER) is None
    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id=case.id, decision=a_decision(case))

    assert cases.load(table, case_id=case.id).decision is None
    assert item_of(table, case)["decided"] == "NO"
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)


def test_a_decision_in_the_moment_of_the_close_is_either_found_or_refused(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_waiting_case(table)
    update = cases._update_open

    def just_too_late(*args: Any, **given: Any) -> Case:
        cases.decide(table, case_id=case.id, decision=a_decision(case))
        return update(*args, **given)

    monkeypatch.setattr(cases, "_update_open", just_too_late)

    assert cases.close_to_decisions(table, case_id=case.id, now=LATER) == a_decision(case)


def test_a_case_that_ended_without_a_decision_cannot_be_closed(table: Any) -> None:
    case = a_waiting_case(table)
    end(table, case)

    with pytest.raises(CaseEndedError):
        cases.close_to_decisions(table, case_id=case.id, now=LATER)


def test_the_approved_keys_are_those_of_the_evidence(table: Any) -> None:
    keys = (a_key(), a_key(SECOND, "Inactive"))
    case = a_decided_case(table, keys=keys)

    assert cases.approved_keys(table, case_id=case.id) == (case, keys)


def waiting(table: Any) -> Case:
    return a_waiting_case(table)


def declined(table: Any) -> Case:
    return a_decided_case(table, Answer.DECLINED)


def ended_approved(table: Any) -> Case:
    return end(table, a_decided_case(table), Outcome.FAILED)


def with_another_key_in_its_evidence(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "keys", [a_key().to_dict(), a_key(SECOND).to_dict()])
    return case


def with_another_status_in_its_evidence(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "keys", [a_key(status="Inactive").to_dict()])
    return case


def of_another_account(table: Any) -> Case:
    case = a_decided_case(table)
    tamper(table, case, "account_id", "333333333334")
    return case


def without_keys(table: Any) -> Case:
    return a_decided_case(table, keys=())


def without_lock(table: Any) -> Case:
    case = a_decided_case(table)
    table.delete_item(Key={"pk": f"ACCOUNT#{ACCOUNT}", "sk": "OPEN_CASE"})
    return case


def behind_another_open_case(table: Any) -> Case:
    case = a_decided_case(table)
    table.delete_item(Key={"pk": f"ACCOUNT#{ACCOUNT}", "sk": "OPEN_CASE"})
    open_a_case(table, now=LATER)
    return case


def tamper(table: Any, case: Case, name: str, value: Any) -> None:
    table.update_item(
        Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": value},
    )


@pytest.mark.parametrize(
    "make",
    [
        open_a_case,
        waiting,
        declined,
        ended_approved,
        with_another_key_in_its_evidence,
        with_another_status_in_its_evidence,
        of_another_account,
        without_keys,
        without_lock,
        behind_another_open_case,
    ],
    ids=lambda make: make.__name__,
)
def test_no_keys_are_approved_of_a_case(table: Any, make: Callable[[Any], Case]) -> None:
    case = make(table)

    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)


def test_gathering_the_same_keys_again_keeps_the_decision(table: Any) -> None:
    case = a_decided_case(table)

    used = a_key(last_used_at="2026-03-04T00:00:00+00:00")
    cases.record_evidence(table, case=case, keys=[used], now=LATER)

    again = cases.load(table, case_id=case.id)
    assert again.decision == case.decision
    assert again.keys == (used,)
    assert cases.approved_keys(table, case_id=case.id)[1] == (used,)


@pytest.mark.parametrize(
    "keys",
    [[a_key(), a_key(SECOND)], [a_key(SECOND)], [a_key(status="Inactive")], []],
    ids=["added", "replaced", "status", "gone"],
)
def test_other_keys_make_the_decision_history_and_the_page_decidable_again_only_when_asked(
    table: Any, keys: list[Any]
) -> None:
    case = a_decided_case(table)

    cases.record_evidence(table, case=case, keys=keys, now=LATER)

    again = cases.load(table, case_id=case.id)
    assert again.decision is None
    assert not again.is_decidable
    assert [past["by"] for past in item_of(table, case)["past_decisions"]] == [case.approver]
    with pytest.raises(NotApprovedError):
        cases.approved_keys(table, case_id=case.id)
    with pytest.raises(CaseEndedError):
        cases.decide(table, case_id=case.id, decision=a_decision(case))


def test_every_decision_that_became_history_is_kept(table: Any) -> None:
    case = a_decided_case(table)
    for id in (SECOND, FIRST):
        cases.record_evidence(table, case=case, keys=[a_key(id)], now=LATER)
        case = cases.load(table, case_id=case.id)
        case = cases.decide(table, case_id=case.id, decision=a_decision(case))
    cases.record_evidence(table, case=case, keys=[], now=LATER)

    assert len(item_of(table, case)["past_decisions"]) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda table, case: cases.record_evidence(table, case=case, keys=[], now=LATER),
        lambda table, case: cases.await_approval(
            table, case_id=case.id, task_token="t", approver="a", source="s", deadline=LATER
        ),
        lambda table, case: cases.await_removal(
            table, case_id=case.id, approver="a", reason="r", deadline=LATER
        ),
        lambda table, case: cases.mark_mailed(table, case_id=case.id, about="a"),
        lambda table, case: cases.record_deleted(table, case_id=case.id, key_id=FIRST, now=LATER),
    ],
    ids=["evidence", "approval", "removal", "mailed", "deleted"],
)
def test_nothing_is_written_into_a_case_that_has_ended_or_never_was(
    table: Any, write: Callable[[Any, Case], Any]
) -> None:
    case = open_a_case(table)
    end(table, case)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        write(table, case)
    with pytest.raises(CaseEndedError):
        write(table, a_case(id="333333333333-20000101T000000Z"))

    assert contents(table) == before


def test_another_failure_of_the_table_is_not_taken_for_an_ended_case(table: Any) -> None:
    case = open_a_case(table)
    table.delete()

    with pytest.raises(ClientError, match="ResourceNotFound"):
        cases.mark_mailed(table, case_id=case.id, about="a")


def test_deleted_keys_are_recorded_one_after_the_other(table: Any) -> None:
    case = open_a_case(table)

    for key_id in (FIRST, SECOND):
        cases.record_deleted(table, case_id=case.id, key_id=key_id, now=LATER)

    assert item_of(table, case)["deleted_keys"] == [
        {"id": FIRST, "deleted_at": "2026-03-05T05:06:07Z"},
        {"id": SECOND, "deleted_at": "2026-03-05T05:06:07Z"},
    ]


@pytest.mark.parametrize("outcome", ENDS)
def test_an_outcome_ends_the_case_frees_the_account_and_forgets_the_token(
    table: Any, outcome: Outcome
) -> None:
    case = a_waiting_case(table)

    ended = end(table, case, outcome)

    assert (ended.outcome, ended.reason) == (outcome, "because")
    assert ended.ended_at == "2026-03-05T05:06:07Z"
    assert ended.task_token == ""
    assert cases.find_open_case(table, account_id=ACCOUNT) is None


@pytest.mark.parametrize("outcome", ENDS)
def test_recording_an_outcome_again_changes_nothing(table: Any, outcome: Outcome) -> None:
    case = a_decided_case(table, Answer.DECLINED)
    first = end(table, case, outcome)
    newer = open_a_case(table, now=LATER)
    before = contents(table)

    again = cases.record_outcome(
        table, case_id=case.id, outcome=outcome, reason="other", now=LATER + timedelta(days=1)
    )

    assert again == first
    assert contents(table) == before
    assert cases.find_open_case(table, account_id=ACCOUNT) == newer


def test_a_case_has_one_outcome(table: Any) -> None:
    case = open_a_case(table)
    end(table, case, Outcome.RESOLVED)
    before = contents(table)

    with pytest.raises(CaseEndedError, match="ended RESOLVED"):
        end(table, case, Outcome.FAILED)

    assert contents(table) == before


def test_two_outcomes_at_once_leave_one(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = open_a_case(table)
    load = cases.load

    def stale(*args: Any, **given: Any) -> Case:
        monkeypatch.setattr(cases, "load", load)
        loaded = load(*args, **given)
        end(table, case, Outcome.RESOLVED)
        return loaded

    monkeypatch.setattr(cases, "load", stale)
    with pytest.raises(CaseEndedError, match="changed"):
        end(table, case, Outcome.FAILED)

    assert load(table, case_id=case.id).outcome == Outcome.RESOLVED


def test_an_end_does_not_free_an_account_whose_open_case_is_another(table: Any) -> None:
    case = behind_another_open_case(table)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        end(table, case)

    assert contents(table) == before


def test_an_account_that_was_freed_already_does_not_keep_a_case_from_ending(table: Any) -> None:
    case = without_lock(table)

    assert end(table, case).outcome == Outcome.RESOLVED


def test_declined_keys_are_excepted_until_the_day_and_no_longer(table: Any) -> None:
    case = a_decided_case(table, Answer.DECLINED)
    end(table, case, Outcome.DECLINED)

    last_day = NOW.replace(month=5, day=1, hour=23)
    exception = cases.find_exception(table, account_id=ACCOUNT, now=last_day)
    assert exception
    assert exception.owner == case.approver
    assert exception.reason == "migrating in May"
    assert exception.until == "2026-05-01"
    assert exception.fingerprint == case.fingerprint
    assert exception.case_id == case.id
    next_day = NOW.replace(month=5, day=2, hour=0)
    assert cases.find_exception(table, account_id=ACCOUNT, now=next_day) is None
    assert cases.find_exception(table, account_id="333333333334", now=NOW) is None


@pytest.mark.parametrize("outcome", [end for end in ENDS if end != Outcome.DECLINED])
def test_only_a_declined_case_leaves_an_exception(table: Any, outcome: Outcome) -> None:
    end(table, a_decided_case(table, Answer.DECLINED), outcome)

    assert cases.find_exception(table, account_id=ACCOUNT, now=NOW) is None


def test_a_declined_outcome_without_a_decision_leaves_no_exception(table: Any) -> None:
    end(table, a_waiting_case(table), Outcome.DECLINED)

    assert cases.find_exception(table, account_id=ACCOUNT, now=NOW) is None


def test_a_link_opens_its_case_until_it_expires(table: Any) -> None:
    link = Link("a@example.com", "a-case", "2026-03-04T05:06:07Z")
    cases.save_link(table, secret="a-secret", link=link)

    assert cases.find_link(table, secret="a-secret", now=NOW) == link
    assert cases.find_link(table, secret="a-secret", now=NOW + timedelta(seconds=1)) is None


@pytest.mark.parametrize("secret", ["", "A-secret", "a-secret ", "LINK", "*"])
def test_another_link_opens_nothing(table: Any, secret: str) -> None:
    cases.save_link(
        table, secret="a-secret", link=Link("a@example.com", "c", "2999-01-01T00:00:00Z")
    )

    assert cases.find_link(table, secret=secret, now=NOW) is None


def test_the_link_itself_is_nowhere_in_the_table(table: Any) -> None:
    cases.save_link(table, secret="a-secret", link=Link("a@example.com", "c", "2999"))

    assert "a-secret" not in str(contents(table))


def test_every_item_says_which_version_of_the_schema_it_has(table: Any) -> None:
    end(table, a_decided_case(table, Answer.DECLINED), Outcome.DECLINED)
    open_a_case(table, now=LATER)
    cases.save_link(table, secret="a-secret", link=Link("a@example.com", "c", "2999"))

    kinds = table.scan(FilterExpression=Attr("schema").eq(cases.SCHEMA_VERSION))["Items"]
    assert {item["sk"] for item in kinds} == {"CASE", "OPEN_CASE", "EXCEPTION", "LINK"}
    assert len(kinds) == len(contents(table))


def test_a_decision_is_made_of_what_the_table_holds() -> None:
    decision = a_decision(a_case(), Answer.DECLINED)

    assert Decision(**cases._decision_item(decision)) == decision


def test_an_execution_has_the_name_of_its_case() -> None:
    assert cases.execution_arn(REMEDIATE, "c").endswith(":execution:rootsweep-remediate:c")
