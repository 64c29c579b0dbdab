from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import hold_deletion
import pytest

from rootsweep import cases, console
from rootsweep.cases import Outcome
from rootsweep.errors import CaseEndedError

from .builders import NOW, a_decided_case, an_error, contents, end_case
from .kill_switch import KillSwitch

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


@pytest.fixture(autouse=True)
def switch(monkeypatch: pytest.MonkeyPatch) -> KillSwitch:
    switch = KillSwitch()
    monkeypatch.setattr(hold_deletion, "ssm", switch)
    return switch


@pytest.fixture(autouse=True)
def at(stop_clock: Callable[[Any, datetime], None]) -> Callable[[datetime], None]:
    """Sets the clock; it stands still."""

    def set_clock(now: datetime) -> None:
        stop_clock(hold_deletion, now)

    set_clock(NOW)
    return set_clock


visits = itertools.count()


def hold(
    case: cases.Case, error: str = "KillSwitchOnError", message: str = "m", visit: str = ""
) -> dict[str, Any]:
    """What a visit of the state gives; each is another one, unless it is named."""
    cause = json.dumps({"errorMessage": message, "errorType": error})
    event = {
        "case_id": case.id,
        "error": {"Error": error, "Cause": cause},
        "entered_at": visit or str(next(visits)),
    }
    return hold_deletion.handler(event, None)


@pytest.mark.parametrize("held", ["KillSwitchOn", "CanaryPending"])
def test_what_holds_a_deletion_up_is_in_the_case_and_told(table: Any, held: str) -> None:
    case = a_decided_case(table)

    answer = hold(case, f"{held}Error", "the switch is 'on'")

    after = cases.load(table, case_id=case.id)
    assert (after.held, after.held_since) == (held, "2026-03-04T05:06:07Z")
    assert (after.decision, after.is_deleting) == (case.decision, True)
    assert answer == {
        "held": held,
        "tell": held == "KillSwitchOn",
        "message": "the switch is 'on'",
        "execution": console.link_or_arn(case.execution_arn),
        "wait_seconds": 60,
    }


def test_people_are_told_once_however_many_deletions_wait(table: Any, switch: KillSwitch) -> None:
    waiting = [a_decided_case(table, id=f"33333333333{n}") for n in range(3)]

    assert [hold(case)["tell"] for case in (*waiting, waiting[0])] == [True, False, False, False]
    switch.put("on")
    assert [hold(case)["tell"] for case in waiting] == [True, False, False]


def test_a_retry_tells_what_the_attempt_before_could_not(table: Any) -> None:
    case, other = (a_decided_case(table, id=f"33333333333{n}") for n in range(2))

    told = [hold(case, visit="v")["tell"], hold(case, visit="v")["tell"]]
    assert (told, hold(other, visit="v")["tell"]) == ([True, True], False)


def test_nobody_is_told_that_the_first_deletions_run_one_at_a_time(
    table: Any, switch: KillSwitch
) -> None:
    hold(a_decided_case(table), "CanaryPendingError")

    assert switch.reads == 0
    assert not [item for item in contents(table) if item["pk"] == "KILL_SWITCH"]


def test_a_switch_that_cannot_be_read_is_told_too(table: Any, switch: KillSwitch) -> None:
    switch.fails_with = an_error("AccessDeniedException", "GetParameter")

    assert hold(a_decided_case(table))["tell"] is True


def test_the_longer_a_deletion_is_held_up_the_longer_it_waits(
    table: Any, at: Callable[[datetime], None]
) -> None:
    case = a_decided_case(table)
    waits = []
    for hours in (0, 1, 5, 24 * 30):
        at(NOW + timedelta(hours=hours))
        waits.append(hold(case)["wait_seconds"])

    assert waits == [60, 360, 1800, 21600]
    assert cases.load(table, case_id=case.id).held_since == "2026-03-04T05:06:07Z"


def test_a_deletion_of_a_case_that_has_ended_is_not_held_up(table: Any) -> None:
    case = a_decided_case(table)
    end_case(table, case.id, Outcome.FAILED)
    before = contents(table)

    with pytest.raises(CaseEndedError):
        hold(case)

    assert contents(table) == before
