from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import delete_root_keys
import pytest
import record_outcome
from botocore.exceptions import ClientError

from rootsweep import cases, root_access
from rootsweep.cases import Answer, Obstacle, Outcome
from rootsweep.errors import (
    CanaryPendingError,
    CaseEndedError,
    KeysChangedError,
    KillSwitchOnError,
    NotApprovedError,
    RootSessionDeniedError,
)

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    FIRST,
    NOW,
    ONE_PERSON,
    SECOND,
    TWO_PEOPLE,
    a_decided_case,
    a_decision,
    a_key,
    a_waiting_case,
    an_error,
    asked,
    contents,
    end_case,
    item_of,
    open_a_case,
)
from .kill_switch import KillSwitch
from .root_sessions import RootUser

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> RootUser:
    user = RootUser(ACCOUNT)
    user.keys = [a_key(FIRST), a_key(SECOND, "Inactive")]
    monkeypatch.setattr(root_access, "delete_session", user.delete_session)
    monkeypatch.setattr(root_access, "audit_session", user.no_session)
    return user


@pytest.fixture(autouse=True)
def switch(monkeypatch: pytest.MonkeyPatch) -> KillSwitch:
    switch = KillSwitch()
    monkeypatch.setattr(delete_root_keys, "ssm", switch)
    return switch


def delete(case: cases.Case) -> dict[str, Any]:
    return delete_root_keys.handler({"case_id": case.id}, None)


def recorded(table: Any, case: cases.Case) -> list[str]:
    return [key["id"] for key in item_of(table, case).get("deleted_keys", [])]


def test_approved_keys_are_deleted_and_recorded(table: Any, root: RootUser) -> None:
    case = a_decided_case(table, keys=root.keys)

    assert delete(case) == {"deleted_key_ids": [FIRST, SECOND]}
    assert root.calls == ["delete", FIRST, SECOND]
    assert recorded(table, case) == [FIRST, SECOND]


def test_running_again_deletes_nothing_more_and_keeps_the_record(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys)
    delete(case)

    assert delete(case) == {"deleted_key_ids": []}
    assert recorded(table, case) == [FIRST, SECOND]


def test_a_key_deleted_before_a_failure_is_on_record_after_it_and_after_the_retry(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys)
    root.fails_to_delete = {SECOND}
    with pytest.raises(ClientError, match="ServiceFailure"):
        delete(case)
    assert recorded(table, case) == [FIRST]
    root.fails_to_delete = set()

    assert delete(case) == {"deleted_key_ids": [SECOND]}
    assert recorded(table, case) == [FIRST, SECOND]


def taken_back(table: Any, case: cases.Case) -> None:
    decision = a_decision(case, Answer.DECLINED)
    cases.decide(table, case=cases.load(table, case_id=case.id), decision=decision)


def made_history(table: Any, case: cases.Case) -> None:
    cases.record_evidence(table, case=case, keys=[a_key(SECOND)], quorum=ONE_PERSON, now=NOW)


@pytest.mark.parametrize("meanwhile", [taken_back, made_history])
def test_an_approval_that_is_none_any_more_when_the_deletion_begins_deletes_nothing(
    table: Any,
    root: RootUser,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Any, cases.Case], None],
) -> None:
    case = a_decided_case(table, keys=root.keys)
    case = cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=NOW)
    keys_to_delete = root_access.keys_to_delete

    def slowly(*given: Any, **named: Any) -> Any:
        found = keys_to_delete(*given, **named)
        meanwhile(table, case)
        return found

    monkeypatch.setattr(root_access, "keys_to_delete", slowly)

    with pytest.raises(CaseEndedError):
        delete(case)
    assert root.calls == ["delete"]
    assert "deletion_started_at" not in item_of(table, case)


def waiting(table: Any) -> cases.Case:
    return a_waiting_case(table)


def declined(table: Any) -> cases.Case:
    return a_decided_case(table, Answer.DECLINED)


def closed(table: Any) -> cases.Case:
    case = a_waiting_case(table)
    cases.close_to_decisions(table, case_id=case.id, now=NOW)
    return case


def ended(table: Any) -> cases.Case:
    case = a_decided_case(table)
    return end_case(table, case.id, Outcome.FAILED)


def with_new_evidence(table: Any) -> cases.Case:
    case = a_decided_case(table)
    cases.record_evidence(table, case=case, keys=[a_key(SECOND)], quorum=ONE_PERSON, now=NOW)
    return case


def approved_by_one_of_two(table: Any) -> cases.Case:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    return cases.decide(table, case=case, decision=a_decision(case))


def that_needs_two_people_by_now(table: Any) -> cases.Case:
    case = a_decided_case(table)
    cases.record_evidence(table, case=case, keys=case.keys, quorum=TWO_PEOPLE, now=NOW)
    return case


def to_be_settled_by_hand(table: Any) -> cases.Case:
    return asked(table, a_waiting_case(table), obstacle=Obstacle.ROOT_SESSION_DENIED)


@pytest.mark.parametrize(
    "make",
    [
        open_a_case,
        waiting,
        declined,
        closed,
        ended,
        with_new_evidence,
        approved_by_one_of_two,
        that_needs_two_people_by_now,
        to_be_settled_by_hand,
    ],
    ids=lambda make: make.__name__,
)
def test_without_an_approval_not_even_a_session_is_opened(
    table: Any, root: RootUser, make: Callable[[Any], cases.Case]
) -> None:
    case = make(table)
    before = contents(table)

    with pytest.raises(NotApprovedError):
        delete(case)

    assert root.calls == []
    assert contents(table) == before


@pytest.mark.parametrize(
    "approved",
    [
        [a_key(FIRST)],
        [a_key(FIRST), a_key(SECOND, "Active")],
        [a_key(FIRST, "Inactive"), a_key(SECOND, "Inactive")],
        [a_key("AKIAEXAMPLE00000009")],
    ],
    ids=["one more key", "activated?", "deactivated?", "other keys"],
)
def test_an_approval_of_other_keys_or_statuses_deletes_nothing(
    table: Any, root: RootUser, approved: list[Any]
) -> None:
    case = a_decided_case(table, keys=approved)
    before = contents(table)

    with pytest.raises(KeysChangedError):
        delete(case)

    assert root.calls == ["delete"]
    assert contents(table) == before


def test_an_unknown_case_deletes_nothing(table: Any, root: RootUser) -> None:  # noqa: ARG001
    with pytest.raises(KeyError):
        delete_root_keys.handler({"case_id": "nothing"}, None)

    assert root.calls == []


def test_what_the_event_says_about_keys_is_not_believed(table: Any, root: RootUser) -> None:
    case = a_waiting_case(table, keys=root.keys)

    with pytest.raises(NotApprovedError):
        delete_root_keys.handler(
            {"case_id": case.id, "approved": True, "answer": "APPROVED", "key_ids": [FIRST]}, None
        )

    assert root.calls == []


def test_a_refused_session_has_a_name_of_its_own(
    table: Any, stub: Callable[[Any], Stubber]
) -> None:
    case = a_decided_case(table)
    stub(delete_root_keys.sts).add_client_error("assume_root", "AccessDenied", "by a policy")

    with pytest.raises(RootSessionDeniedError, match="by a policy"):
        delete(case)


def test_a_deletion_that_nobody_lived_to_record_is_known_to_be_ours(
    table: Any, root: RootUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_decided_case(table)
    root.keys = list(case.keys)
    with monkeypatch.context() as dying:
        dying.setattr(cases, "record_deleted", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            delete(case)

    assert root.keys == []
    assert delete(case) == {"deleted_key_ids": []}
    assert cases.load(table, case_id=case.id).deletion_started_at


def test_keys_that_their_owner_removed_are_not_taken_for_ours(table: Any, root: RootUser) -> None:
    case = a_decided_case(table)
    root.keys = []

    assert delete(case) == {"deleted_key_ids": []}
    assert not cases.load(table, case_id=case.id).deletion_started_at


def use(root: RootUser, *ids: str) -> None:
    """Somebody uses these keys."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    root.keys = [
        replace(key, last_used_at=yesterday) if key.id in ids else key for key in root.keys
    ]


@pytest.mark.parametrize("id", [FIRST, SECOND])
def test_a_key_that_was_used_after_one_person_approved_deletes_nothing(
    table: Any, root: RootUser, id: str
) -> None:
    case = a_decided_case(table, keys=root.keys)
    before = contents(table)
    use(root, id)

    with pytest.raises(KeysChangedError, match="a key was used in the last 90 days, which was not"):
        delete(case)

    assert root.calls == ["delete"]
    assert contents(table) == before


def test_an_account_that_came_to_need_two_people_is_not_touched_for_one(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys, parents=("r-ab12", "ou-ab12-critical"))
    before = contents(table)

    with pytest.raises(KeysChangedError, match="organizational unit need two approvers"):
        delete(case)

    assert root.calls == ["delete"]
    assert contents(table) == before


def test_a_key_that_is_in_use_is_deleted_when_two_people_approved(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    use(root, FIRST, SECOND)

    assert delete(case) == {"deleted_key_ids": [FIRST, SECOND]}


def test_a_key_that_is_no_longer_in_use_is_deleted_all_the_same(table: Any, root: RootUser) -> None:
    case = a_decided_case(table, keys=root.keys, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    assert delete(case) == {"deleted_key_ids": [FIRST, SECOND]}


def test_a_key_that_was_used_between_two_deletions_is_left_for_two_people(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys)
    root.fails_to_delete = {SECOND}
    with pytest.raises(ClientError, match="ServiceFailure"):
        delete(case)
    root.fails_to_delete = set()
    use(root, SECOND)

    with pytest.raises(KeysChangedError):
        delete(case)

    assert [key.id for key in root.keys] == [SECOND]
    assert recorded(table, case) == [FIRST]


# -- the kill switch ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["on", "", "OFF", "off ", "of", "false"])
def test_with_the_kill_switch_on_not_even_a_session_is_opened(
    table: Any, root: RootUser, switch: KillSwitch, value: str
) -> None:
    case = a_decided_case(table, keys=root.keys)
    before = contents(table)
    switch.put(value)

    with pytest.raises(KillSwitchOnError):
        delete(case)

    assert root.calls == []
    assert contents(table) == before
    switch.put("off")
    assert delete(case) == {"deleted_key_ids": [FIRST, SECOND]}


@pytest.mark.parametrize(
    "error",
    [an_error("ParameterNotFound", "GetParameter"), an_error("AccessDenied", "GetParameter")],
)
def test_a_kill_switch_that_cannot_be_read_is_on(
    table: Any, root: RootUser, switch: KillSwitch, error: Exception
) -> None:
    switch.fails_with = error

    with pytest.raises(KillSwitchOnError, match="could not be read"):
        delete(a_decided_case(table, keys=root.keys))

    assert root.calls == []


def test_a_kill_switch_that_is_thrown_between_two_keys_saves_the_second(
    table: Any, root: RootUser, switch: KillSwitch
) -> None:
    case = a_decided_case(table, keys=root.keys)
    switch.before_reading = lambda: switch.put("on") if FIRST in root.calls else None

    with pytest.raises(KillSwitchOnError):
        delete(case)

    assert [key.id for key in root.keys] == [SECOND]
    assert recorded(table, case) == [FIRST]
    assert cases.load(table, case_id=case.id).deletion_started_at
    switch.before_reading = lambda: None
    switch.put("off")
    assert delete(case) == {"deleted_key_ids": [SECOND]}
    assert recorded(table, case) == [FIRST, SECOND]


def test_a_kill_switch_that_is_thrown_while_the_keys_are_read_saves_all(
    table: Any, root: RootUser, switch: KillSwitch
) -> None:
    case = a_decided_case(table, keys=root.keys)
    switch.before_reading = lambda: switch.put("on") if root.calls else None

    with pytest.raises(KillSwitchOnError):
        delete(case)

    assert root.calls == ["delete"]
    assert recorded(table, case) == []


# -- the canary -----------------------------------------------------------------------------------


def of_another_account(table: Any, root: RootUser) -> cases.Case:
    """An approved case whose keys `root` has from now on."""
    root.account_id = "333333333334"
    root.keys = [a_key(FIRST)]
    return a_decided_case(table, id=root.account_id, keys=root.keys)


def end(case: cases.Case, outcome: Outcome) -> None:
    record_outcome.handler({"case_id": case.id, "outcome": outcome, "reason": "r"}, None)


def test_until_the_first_deletion_is_confirmed_the_next_one_waits(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys)
    delete(case)
    other = of_another_account(table, root)
    root.calls.clear()

    with pytest.raises(CanaryPendingError, match=case.id):
        delete(other)

    assert root.calls == ["delete"]
    assert recorded(table, other) == []
    assert not cases.load(table, case_id=other.id).deletion_started_at
    end(case, Outcome.REMEDIATED)
    assert delete(other) == {"deleted_key_ids": [FIRST]}


def test_after_a_first_deletion_that_failed_the_next_one_is_the_first(
    table: Any, root: RootUser
) -> None:
    case = a_decided_case(table, keys=root.keys)
    delete(case)
    end(case, Outcome.FAILED)
    other = of_another_account(table, root)
    delete(other)
    third = of_a_third_account(table, root)

    with pytest.raises(CanaryPendingError, match=other.id):
        delete(third)


def of_a_third_account(table: Any, root: RootUser) -> cases.Case:
    case = a_decided_case(table, id="333333333335", keys=[a_key(FIRST)])
    root.account_id, root.keys = case.account_id, [a_key(FIRST)]
    return case


def test_a_deletion_that_is_tried_again_keeps_its_place(table: Any, root: RootUser) -> None:
    case = a_decided_case(table, keys=root.keys)
    root.fails_to_delete = {FIRST}
    with pytest.raises(ClientError, match="ServiceFailure"):
        delete(case)
    root.fails_to_delete = set()

    assert delete(case) == {"deleted_key_ids": [FIRST, SECOND]}


def test_keys_that_are_gone_already_need_no_place(table: Any, root: RootUser) -> None:
    delete(a_decided_case(table, keys=root.keys))
    other = of_another_account(table, root)
    root.keys = []

    assert delete(other) == {"deleted_key_ids": []}


def test_a_new_release_has_a_first_deletion_of_its_own(
    table: Any, root: RootUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_decided_case(table, keys=root.keys)
    delete(case)
    end(case, Outcome.REMEDIATED)
    monkeypatch.setattr(delete_root_keys, "RELEASE", "the-next")
    other = of_another_account(table, root)
    delete(other)

    with pytest.raises(CanaryPendingError, match=other.id):
        delete(of_a_third_account(table, root))


def test_without_canary_deletions_nobody_waits(
    table: Any, root: RootUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete_root_keys, "CANARY_DELETIONS", 0)
    delete(a_decided_case(table, keys=root.keys))

    assert delete(of_another_account(table, root)) == {"deleted_key_ids": [FIRST]}
    assert not [item for item in contents(table) if item["pk"] == "CANARY"]


def test_a_case_that_ends_this_very_moment_deletes_nothing(
    table: Any, root: RootUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_decided_case(table, keys=root.keys)
    delete_session = root.delete_session

    def too_late(*args: Any, **given: Any) -> RootUser:
        end(case, Outcome.FAILED)
        return delete_session(*args, **given)

    monkeypatch.setattr(root_access, "delete_session", too_late)

    with pytest.raises(CaseEndedError):
        delete(case)

    assert root.calls == ["delete"]
