from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import cases, holds
from rootsweep.cases import Answer, Case, Obstacle, Outcome
from rootsweep.errors import CanaryPendingError, CaseEndedError, KillSwitchOnError
from rootsweep.table import case_key

from .builders import (
    LATER,
    NOW,
    ONE_PERSON,
    SECOND,
    a_decided_case,
    a_key,
    an_error,
    asked,
    contents,
    end_case,
)
from .kill_switch import KillSwitch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARAMETER = "/rootsweep/kill-switch"
UNREADABLE = [
    an_error("ParameterNotFound", "GetParameter"),
    an_error("AccessDeniedException", "GetParameter"),
    an_error("ThrottlingException", "GetParameter"),
    EndpointConnectionError(endpoint_url="https://ssm.amazonaws.com"),
]


def require_off(switch: Any) -> None:
    holds.require_kill_switch_off(switch, parameter=PARAMETER)


# -- the kill switch ------------------------------------------------------------------------------


def test_a_switch_that_is_off_stops_nothing() -> None:
    switch = KillSwitch()

    require_off(switch)

    assert switch.reads == 1


@given(st.text().filter(lambda text: text != "off"))
def test_whatever_is_not_exactly_off_stops_deletions(value: str) -> None:
    switch = KillSwitch()
    switch.put(value)

    with pytest.raises(KillSwitchOnError) as error:
        require_off(switch)

    assert str(error.value) == f"the kill switch {PARAMETER} is {value[:40]!r}, not 'off'"


@pytest.mark.parametrize(
    "value", ["Off", "OFF", "off\n", " off", "'off'", "off,off", "\u043eff", "of\u200bf"]
)
def test_what_only_looks_like_off_stops_deletions(value: str) -> None:
    switch = KillSwitch()
    switch.put(value)

    with pytest.raises(KillSwitchOnError):
        require_off(switch)


@pytest.mark.parametrize("error", UNREADABLE, ids=str)
def test_a_switch_that_cannot_be_read_stops_deletions(error: Exception) -> None:
    switch = KillSwitch()
    switch.fails_with = error

    with pytest.raises(KillSwitchOnError, match="could not be read, so nothing is deleted"):
        require_off(switch)


@pytest.mark.parametrize("answer", [{}, {"Parameter": {}}], ids=str)
def test_an_answer_of_an_odd_shape_stops_deletions_and_is_told_about_once_a_day(
    answer: dict[str, Any],
) -> None:
    class Odd:
        def get_parameter(self, **_: Any) -> Any:
            return answer

    with pytest.raises(KillSwitchOnError):
        require_off(Odd())
    assert version(Odd()) == version(Odd()) != version(Odd(), NOW + timedelta(days=1))


def version(switch: Any, now: datetime = NOW) -> str:
    return holds.kill_switch_version(switch, parameter=PARAMETER, now=now)


def test_a_switch_counts_its_changes() -> None:
    switch = KillSwitch()
    before = version(switch)
    switch.put("on")

    assert int(version(switch)) == int(before) + 1


@pytest.mark.parametrize("error", UNREADABLE, ids=str)
def test_a_switch_that_cannot_be_read_is_told_about_once_a_day(error: Exception) -> None:
    switch = KillSwitch()
    switch.fails_with = error

    today, again, tomorrow = (version(switch, NOW + timedelta(hours=hours)) for hours in (0, 1, 24))
    assert today == again != tomorrow


def test_people_are_told_once_for_each_change_of_the_switch(table: Any) -> None:
    def tell(version: str, visit: int) -> bool:
        return holds.is_first_to_tell(table, version=version, visit=f"v{visit}", now=NOW)

    assert [tell(each, n) for n, each in enumerate(("1", "1", "2", "1", "2", "0", "0"))] == [
        *(True, False, True, False, False, True, False)
    ]
    # A retry of those that told.
    assert [tell("1", 0), tell("2", 2), tell("0", 5), tell("2", 0)] == [True, True, True, False]
    assert {item["forget_at"] for item in contents(table)} == {
        (NOW + timedelta(days=400)).timestamp()
    }


def test_another_failure_of_the_table_is_not_taken_for_having_told(table: Any) -> None:
    table.delete()

    with pytest.raises(table.meta.client.exceptions.ResourceNotFoundException):
        holds.is_first_to_tell(table, version="1", visit="v", now=NOW)


# -- the wait -------------------------------------------------------------------------------------

held = st.integers(min_value=0, max_value=10**8).map(lambda number: timedelta(seconds=number))


@given(held, held)
def test_the_wait_grows_from_a_minute_to_six_hours(one: timedelta, two: timedelta) -> None:
    short, long = (holds.wait_before_next_try(each) for each in (min(one, two), max(one, two)))

    assert timedelta(minutes=1) <= short <= long <= timedelta(hours=6)


def test_a_deletion_that_is_held_up_tries_again_soon_and_seldom_in_the_end() -> None:
    assert holds.wait_before_next_try(timedelta(0)) == timedelta(minutes=1)
    assert holds.wait_before_next_try(timedelta(hours=1)) == timedelta(minutes=6)
    assert holds.wait_before_next_try(timedelta(days=30)) == timedelta(hours=6)


def test_a_clock_that_goes_back_does_not_make_the_wait_shorter() -> None:
    assert holds.wait_before_next_try(-timedelta(hours=1)) == timedelta(minutes=1)


def test_an_execution_has_room_for_a_year_of_tries() -> None:
    tries, now = 0, timedelta(0)
    while now < timedelta(days=365):
        now += holds.wait_before_next_try(now)
        tries += 1

    # At fourteen events a try, of the 25,000 that an execution has (Step Functions quotas).
    assert tries * 14 < 25_000


# -- the release ----------------------------------------------------------------------------------


def test_a_release_is_another_one_when_any_file_of_code_is(tmp_path: Path) -> None:
    def write(name: str, text: str) -> str:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return holds.release_of(tmp_path)

    releases = [
        write("handler.py", "1"),
        write("handler.py", "2"),
        write("rootsweep/cases.py", "1"),
        write("rootsweep/cases.py", "2"),
        write("rootsweep/cases2.py", ""),
    ]

    assert len(set(releases)) == len(releases)
    assert releases[-1] == holds.release_of(tmp_path)
    assert write("README.md", "not code") == releases[-1]
    (tmp_path / "handler.py").rename(tmp_path / "handler2.py")
    assert holds.release_of(tmp_path) not in releases


# -- the canary -----------------------------------------------------------------------------------


def approved(table: Any, number: int = 0) -> Case:
    return a_decided_case(table, id=f"{333333333330 + number}")


def enter(table: Any, case: Case, *, release: str = "r1", deletions: int = 1) -> None:
    holds.enter_canary(table, case=case, release=release, deletions=deletions)


def waits(table: Any, case: Case, **given: Any) -> bool:
    """Whether the case has to wait for another one."""
    try:
        enter(table, case, **given)
    except CanaryPendingError:
        return True
    return False


def leave(table: Any, case: Case, outcome: Outcome = Outcome.REMEDIATED) -> Case:
    ended = end_case(table, case.id, outcome, now=LATER)
    holds.leave_canary(table, case=ended)
    return ended


def place(table: Any, release: str = "r1") -> dict[str, Any]:
    item: dict[str, Any] = table.get_item(Key={"pk": "CANARY", "sk": release}).get("Item", {})
    return item


def test_the_first_deletion_of_a_release_runs_alone(table: Any) -> None:
    first, second = approved(table), approved(table, 1)
    enter(table, first)

    with pytest.raises(CanaryPendingError, match=first.id):
        enter(table, second)

    assert place(table)["running"] == first.id
    assert cases.load(table, case_id=first.id).canary == "r1"
    assert cases.load(table, case_id=second.id).canary == ""


def test_whoever_runs_alone_may_try_again(table: Any) -> None:
    case = approved(table)
    enter(table, case)
    before = contents(table)

    enter(table, case)

    assert contents(table) == before


def test_after_a_deletion_that_was_confirmed_all_others_run(table: Any) -> None:
    first, *others = (approved(table, number) for number in range(3))
    enter(table, first)
    leave(table, first)
    before = contents(table)

    for case in others:
        enter(table, case)

    assert place(table)["confirmed"] == 1
    assert contents(table) == before


@pytest.mark.parametrize("outcome", [each for each in Outcome if each != Outcome.REMEDIATED])
def test_a_deletion_that_was_not_confirmed_makes_room_and_does_not_count(
    table: Any, outcome: Outcome
) -> None:
    first, second, third = (approved(table, number) for number in range(3))
    enter(table, first)
    leave(table, first, outcome)

    assert not waits(table, second)
    assert waits(table, third)
    assert "confirmed" not in place(table)


def test_several_first_deletions_run_one_after_the_other(table: Any) -> None:
    first, second, third, fourth = (approved(table, number) for number in range(4))

    for case, next_one in ((first, second), (second, third), (third, fourth)):
        enter(table, case, deletions=3)
        assert waits(table, next_one, deletions=3)
        leave(table, case)

    assert place(table)["confirmed"] == 3
    assert not waits(table, fourth, deletions=3)
    assert cases.load(table, case_id=fourth.id).canary == ""


def test_a_deletion_is_confirmed_once_however_often_its_outcome_is_recorded(table: Any) -> None:
    first, second = approved(table), approved(table, 1)
    enter(table, first, deletions=3)
    ended = leave(table, first)
    enter(table, second, deletions=3)

    for _ in range(2):
        holds.leave_canary(table, case=ended)

    assert place(table)["confirmed"] == 1
    assert place(table)["running"] == second.id


def test_who_never_was_among_the_first_leaves_no_place(table: Any) -> None:
    first, second = approved(table), approved(table, 1)
    enter(table, first)

    leave(table, second)

    assert place(table)["running"] == first.id
    assert "confirmed" not in place(table)


def gone_to_people(table: Any, case: Case) -> None:
    """Its keys have to be removed by hand after all."""
    asked(table, case, obstacle=Obstacle.ROOT_SESSION_DENIED)


def with_other_keys(table: Any, case: Case) -> None:
    cases.record_evidence(table, case=case, keys=[a_key(SECOND)], quorum=ONE_PERSON, now=NOW)


def ended_and_died(table: Any, case: Case) -> None:
    """Its outcome was recorded, and nobody lived to give the place back."""
    end_case(table, case.id, Outcome.FAILED)


def forgotten(table: Any, case: Case) -> None:
    """It ended, nobody gave the place back, and the table keeps it no longer."""
    ended_and_died(table, case)
    table.delete_item(Key=case_key(case.id))


def blocked_first(table: Any, case: Case) -> None:
    """Other keys came up, and whoever approved those wants the root user blocked before."""
    cases.record_quarantined(table, case_id=case.id, until=LATER, task_token="a-token", now=NOW)


@pytest.mark.parametrize(
    "stop",
    [gone_to_people, with_other_keys, blocked_first, ended_and_died, forgotten],
    ids=lambda each: each.__name__,
)
def test_the_place_of_a_case_that_deletes_no_longer_is_taken_over(
    table: Any, stop: Callable[[Any, Case], None]
) -> None:
    first, second, third = (approved(table, number) for number in range(3))
    enter(table, first)
    stop(table, first)

    assert not waits(table, second)
    assert waits(table, third)
    assert place(table)["running"] == second.id


def test_who_lost_the_place_waits_for_it_again_and_counts_when_it_was_its_turn(
    table: Any,
) -> None:
    first, second = approved(table), approved(table, 1)
    enter(table, first, deletions=5)
    with_other_keys(table, first)
    enter(table, second, deletions=5)
    first = asked(table, cases.load(table, case_id=first.id))
    first = cases.decide(
        table,
        case=first,
        decision=cases.Decision(Answer.APPROVED, first.approvers[0], "t", first.fingerprint),
    )

    assert waits(table, first, deletions=5)
    leave(table, second)
    enter(table, first, deletions=5)
    leave(table, first)
    assert place(table)["confirmed"] == 2


def test_a_place_is_that_of_its_release(table: Any) -> None:
    first, second = approved(table), approved(table, 1)
    enter(table, first, release="r1")

    enter(table, second, release="r2")

    leave(table, second)
    assert place(table, "r2")["confirmed"] == 1
    assert "confirmed" not in place(table, "r1")


def test_who_was_held_up_over_a_deployment_counts_for_the_release_that_deleted(
    table: Any,
) -> None:
    case = approved(table)
    enter(table, case, release="r1")
    enter(table, case, release="r2")
    leave(table, case)

    assert place(table, "r2")["confirmed"] == 1
    assert not waits(table, approved(table, 1), release="r1")


def test_without_canary_deletions_nothing_is_kept(table: Any) -> None:
    case = approved(table)
    before = contents(table)

    enter(table, case, deletions=0)

    assert contents(table) == before


def test_a_case_that_has_ended_gets_no_place(table: Any) -> None:
    case = approved(table)
    leave(table, case, Outcome.FAILED)

    with pytest.raises(CaseEndedError):
        enter(table, case)

    assert place(table) == {}


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens between the look at the place and the grasp for it."""
    record = cases.record_canary

    def slow(*args: Any, **given: Any) -> None:
        monkeypatch.setattr(cases, "record_canary", record)
        happens()
        record(*args, **given)

    monkeypatch.setattr(cases, "record_canary", slow)


def test_of_two_at_once_one_gets_the_place(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = approved(table), approved(table, 1)
    meanwhile(monkeypatch, lambda: enter(table, second))

    with pytest.raises(CanaryPendingError, match="faster"):
        enter(table, first)

    assert place(table)["running"] == second.id
    # Who did not get it gives nothing back.
    leave(table, first)
    assert place(table)["running"] == second.id


def test_of_two_that_take_a_place_over_at_once_one_gets_it(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, first, second = (approved(table, number) for number in range(3))
    enter(table, dead)
    ended_and_died(table, dead)
    meanwhile(monkeypatch, lambda: enter(table, second))

    assert waits(table, first)
    assert place(table)["running"] == second.id


def test_who_comes_when_the_last_place_was_confirmed_tries_again(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = approved(table), approved(table, 1)

    def be_fast() -> None:
        enter(table, second)
        leave(table, second)

    meanwhile(monkeypatch, be_fast)

    assert waits(table, first)
    assert "running" not in place(table)
    assert not waits(table, first)


def test_another_failure_of_the_table_is_not_taken_for_a_place(table: Any) -> None:
    case = approved(table)
    table.delete()

    with pytest.raises(table.meta.client.exceptions.ResourceNotFoundException):
        enter(table, case)
