from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from rootsweep import pace
from rootsweep.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def turns(pace: Pace, clock: Clock, count: int) -> list[float]:
    """When each of so many calls comes, in seconds from now."""
    began = clock.time
    times = []
    for _ in range(count):
        pace.wait()
        times.append(round(clock.time - began, 3))
    return times


def test_calls_come_at_the_rate(clock: Clock) -> None:
    paced = Pace(4)

    assert turns(paced, clock, 4) == [0, 0.25, 0.5, 0.75]


def test_a_burst_comes_at_once(clock: Clock) -> None:
    paced = Pace(4, burst=3)

    assert turns(paced, clock, 5) == [0, 0, 0, 0.25, 0.5]


def test_a_pause_gives_a_burst_and_no_more(clock: Clock) -> None:
    paced = Pace(4, burst=3)
    turns(paced, clock, 5)
    clock.time += 3600

    assert turns(paced, clock, 5) == [0, 0, 0, 0.25, 0.5]


def test_who_is_late_makes_up_for_no_more_than_the_burst(clock: Clock) -> None:
    paced = Pace(4)
    turns(paced, clock, 1)
    clock.time += 0.3

    assert turns(paced, clock, 3) == [0, 0.25, 0.5]


def test_who_cannot_wait_so_long_takes_no_turn(clock: Clock) -> None:
    paced = Pace(4)
    turns(paced, clock, 1)

    assert not paced.wait(at_most=0.2)
    assert turns(paced, clock, 2) == [0.25, 0.5]


def test_threads_share_the_rate(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(clock, "sleep", slept.append)
    shared = Pace(2)

    with ThreadPoolExecutor(max_workers=8) as pool:
        for _ in range(8):
            pool.submit(shared.wait)

    assert sorted(slept) == [0.5 * turn for turn in range(1, 8)]


def test_pages_are_asked_for_when_it_is_their_turn(clock: Clock) -> None:
    pace = Pace(2)
    asked = []

    def pages() -> Iterator[dict[str, str]]:
        for number in range(3):
            asked.append(clock.time)
            yield {"NextToken": f"{number}"} if number < 2 else {}

    assert len(list(pace.paced(pages()))) == 3
    assert len(list(pace.paced(pages()))) == 3
    assert [moment - asked[0] for moment in asked] == [0, 0.5, 1, 1.5, 2, 2.5]
