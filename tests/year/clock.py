"""Simulated time: one queue of events, and greenlets that sleep in it.

Whatever takes time, an execution, a function, a person, is a greenlet that runs alone until it
sleeps or waits. So functions meet each other between any two of their calls to AWS, as they do in
Lambda, and yet a year has only one course for each seed.
"""

from __future__ import annotations

import heapq
import threading
from concurrent.futures import Future
from datetime import UTC, date, datetime
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DAY = 86_400.0


class Refused(BaseException):
    """When the simulation is asked for what it does not know. The product cannot catch it."""


def expect(holds: object, what: object) -> None:
    """An assertion inside of what the product calls, which it cannot catch."""
    if not holds:
        raise Refused(str(what))


def loud(check: Callable[..., None]) -> Callable[..., None]:
    """A check whose own mistakes the product cannot take for AWS's."""

    def checked(*given: Any) -> None:
        try:
            check(*given)
        except Exception as error:
            raise Refused(f"a mistake of {check.__qualname__}: {error!r}") from error

    return checked


class Timer:
    """Something that happens at a time, unless it is cancelled."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], Any] | None) -> None:
        self.at = at
        self.action = action

    def cancel(self) -> None:
        self.action = None


class Clock:
    """The time, and what is still to happen. Times are seconds since 1970."""

    def __init__(self, start: datetime) -> None:
        self.time = start.timestamp()
        self._queue: list[tuple[float, int, Timer]] = []
        self._number = 0
        self._until = self.time
        self._hub: greenlet | None = None

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def at(self, time: float, action: Callable[[], Any]) -> Timer:
        """Run `action` at a time; what was entered first comes first."""
        timer = Timer(max(time, self.time), action)
        self._number += 1
        heapq.heappush(self._queue, (timer.at, self._number, timer))
        return timer

    def start(self, run: Callable[..., Any], *values: Any, after: float = 0) -> greenlet:
        """Have something run by itself. What it raises ends the simulation."""
        task = greenlet(lambda: run(*values), self._hub or getcurrent())
        self.at(self.time + after, task.switch)
        return task

    def sleep(self, seconds: float) -> None:
        """Let the others run for so long."""
        until = self.time + seconds
        # The common case, and a cheap one: nobody else has anything to do meanwhile.
        if (not self._queue or self._queue[0][0] > until) and until <= self._until:
            self.time = until
            return
        assert self._hub is not getcurrent(), "only what was started can sleep"
        self.at(until, getcurrent().switch)
        self._switch_to_hub()

    def run(self, until: float) -> None:
        """Let everything happen that happens until then."""
        self._hub, self._until = getcurrent(), until
        while self._queue and self._queue[0][0] <= until:
            self.time, _, timer = heapq.heappop(self._queue)
            if timer.action is not None:
                timer.action()
        self.time = until

    def _switch_to_hub(self) -> Any:
        assert self._hub is not None
        return self._hub.switch()


class Signal:
    """What one greenlet waits for and others give, once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: greenlet | None = None
        self.is_given = False
        self.value: Any = None
        self.waits_until: float | None = None

    def give(self, value: Any = None) -> None:
        """Give it; only the first time counts."""
        if self.is_given:
            return
        self.is_given, self.value = True, value
        if self._waiting is not None:
            self._clock.at(self._clock.time, self._waiting.switch)
            self._waiting = None

    def wait(self, seconds: float) -> bool:
        """Wait for it so long; whether it was given."""
        if not self.is_given:
            self._waiting = getcurrent()
            self.waits_until = self._clock.time + seconds
            timer = self._clock.at(self.waits_until, self._time_is_up)
            self._clock._switch_to_hub()
            timer.cancel()
            self.waits_until = None
        return self.is_given

    def _time_is_up(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.switch()


class GreenletLocal:
    """What `threading.local` is to threads: in Lambda no two functions share a process."""

    def __setattr__(self, name: str, value: Any) -> None:
        vars(getcurrent())[f"{id(self)} {name}"] = value

    def __getattr__(self, name: str) -> Any:
        return vars(getcurrent())[f"{id(self)} {name}"]


class OneByOne:
    """A `ThreadPoolExecutor` without threads."""

    def __init__(self, max_workers: int = 0) -> None:
        assert max_workers > 0

    def __enter__(self) -> OneByOne:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*given))
        except Exception as error:
            future.set_exception(error)
        return future

    def map(self, function: Callable[[Any], Any], *values: Iterable[Any]) -> Iterator[Any]:
        return iter(list(map(function, *values)))


def put_into(module: ModuleType, clock: Clock) -> None:
    """Make a module of the product live in simulated time, whatever it uses to know the time."""

    class SimulatedDatetime(datetime):
        fromisoformat = staticmethod(datetime.fromisoformat)
        fromtimestamp = staticmethod(datetime.fromtimestamp)

        @staticmethod
        def now(tz: Any = None) -> datetime:
            assert tz is UTC, "a time without a zone"
            return clock.now

        @staticmethod
        def utcnow() -> datetime:
            raise AssertionError("a time without a zone")

    class SimulatedDate(date):
        fromisoformat = staticmethod(date.fromisoformat)

        @staticmethod
        def today() -> date:
            raise AssertionError("a date without a zone")

    replacements = {
        "datetime": SimulatedDatetime,
        "date": SimulatedDate,
        "time": SimpleNamespace(monotonic=lambda: clock.time, sleep=clock.sleep),
        "threading": SimpleNamespace(local=GreenletLocal, Lock=threading.Lock),
        "ThreadPoolExecutor": OneByOne,
    }
    for name in replacements.keys() & vars(module).keys():
        setattr(module, name, replacements[name])
