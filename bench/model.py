"""A sweep on AWS, as a discrete-event simulation: published quotas, and latencies that are assumed.

What the functions do is modelled call by call, with the CPU that their memory gives them; what
Step Functions and Lambda take between is a constant. The numbers that are published have their
source beside them; the others are `ASSUMED`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import simpy

from .settings import (
    BATCH_SIZE,
    BATCHES_AT_ONCE,
    SESSIONS_A_SECOND,
    SESSIONS_AT_ONCE,
    memory_of,
)
from .throttled import LIST_ACCOUNTS, STS, at_best

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Events = Generator[simpy.Event, None, None]

PAGE = 20  # ListAccounts, MaxResults (Organizations API).
PARENTS = (5.0, 8.0)  # ListOrganizationalUnitsForParent (Organizations User Guide, Quotas).
# ASSUMED, in seconds: the median of a call; each takes between half and twice of it.
LATENCY = {
    "ListAccounts": 0.1,
    "ListOrganizationalUnitsForParent": 0.08,
    "AssumeRole": 0.06,
    "AssumeRoot": 0.1,
    "GetAccountSummary": 0.06,
    "IAM": 0.08,
    "DynamoDB": 0.01,
    "S3": 0.04,
    "StartExecution": 0.05,
    "other": 0.1,
}
# So much memory has the equivalent of one vCPU (Lambda Developer Guide, Memory).
WHOLE_CPU_MB = 1769
# What a call takes of a whole vCPU: half of what an account with two was measured at (CPU for each
# account in docs/performance.md). ASSUMED: that the cores of Lambda are like those.
CPU_OF_A_CALL = 0.0012
# What an account takes in the files of the report, of a whole vCPU, measured in the same way.
CPU_OF_A_ROW = 0.00006
TRANSITION = 0.03  # ASSUMED: from a state to the next one.
INVOCATION = 0.03  # ASSUMED: beside what the function does.
COLD_START = 0.7  # ASSUMED: a sandbox and Python, 0.3 s, and the imports as they are measured here.
MAP_RUN_START = 2.0  # ASSUMED: until the first child of a Distributed Map runs.
OPEN_CASES_AT_ONCE = 64  # open_cases.CONCURRENCY
FILES_AT_ONCE = 32  # SweepFiles._get_all
# list_accounts.PACES
PACE_OF_ACCOUNTS = (8.0, 10.0)
PACE_OF_PARENTS = (5.0, 6.0)


class Bucket:
    """A token bucket: of AWS, which throttles, or of a function, which waits for its turn."""

    def __init__(self, world: simpy.Environment, per_second: float, burst: float) -> None:
        self._world, self._rate, self._burst = world, per_second, burst
        self._tokens, self._at = burst, 0.0
        self._next = 0.0

    def takes(self) -> bool:
        """Whether a call that comes now is let through."""
        now = self._world.now
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def turn(self) -> float:
        """In how many seconds it is the turn of the next call."""
        now = self._world.now
        at = max(self._next, now - (self._burst - 1) / self._rate)
        self._next = at + 1 / self._rate
        return max(0.0, at - now)


class Sandbox:
    """Where a function runs: one at a time, with as much CPU as its memory gives."""

    def __init__(self, world: simpy.Environment, memory_mb: int) -> None:
        self._world = world
        self._share = min(1, memory_mb / WHOLE_CPU_MB)
        self._cpu = simpy.Resource(world)
        self.is_cold = True

    def computes(self, seconds: float) -> Events:
        """What takes so long on a whole vCPU, after whatever else runs."""
        with self._cpu.request() as turn:
            yield turn
            yield self._world.timeout(seconds / self._share)


@dataclass(frozen=True)
class Simulated:
    """What a simulated sweep came to; times in seconds since its start.

    `checks_seconds` is what the invocations of check_accounts lasted together.
    """

    accounts: int
    units: int
    seconds: float
    listed: float
    checked: float
    bound: float
    throttled: int
    calls: int
    batches: int
    checks_seconds: float


@dataclass
class Sweep:
    """One sweep. `with_keys` is the part of the accounts that have root keys.

    What is not given is as the template has it; `memory_mb` is that of check_accounts.
    """

    accounts: int
    units: int
    batch_size: int = BATCH_SIZE
    batches_at_once: int = BATCHES_AT_ONCE
    memory_mb: int = memory_of("CheckAccounts")
    map_run_start: float = MAP_RUN_START
    with_keys: float = 0.02
    seed: int = 1
    throttled: int = 0
    calls: int = 0
    checked: int = 0
    _listed: int = 0
    _checking: int = 0
    _part: int = 0
    _sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    _batches: int = 0
    _checks_seconds: float = 0.0

    def run(self) -> Simulated:
        self.dice = random.Random(self.seed)
        self.world = simpy.Environment()
        self.buckets = {
            "ListAccounts": Bucket(self.world, *LIST_ACCOUNTS),
            "ListOrganizationalUnitsForParent": Bucket(self.world, *PARENTS),
            "AssumeRole": Bucket(self.world, *STS),
        }
        self.accounts_pace = Bucket(self.world, *PACE_OF_ACCOUNTS)
        self.parents_pace = Bucket(self.world, *PACE_OF_PARENTS)
        # Each sandbox of a function has its own pace; as many run as there are batches at once.
        self.session_paces = [
            Bucket(self.world, SESSIONS_A_SECOND / self.batches_at_once, 1)
            for _ in range(self.batches_at_once)
        ]
        self.listed_at = self.checked_at = 0.0
        self.world.run(self.world.process(self._sweep()))
        assert self.checked == self.accounts
        return Simulated(
            accounts=self.accounts,
            units=self.units,
            seconds=self.world.now,
            listed=self.listed_at,
            checked=self.checked_at,
            bound=at_best(-(-self.accounts // PAGE), LIST_ACCOUNTS),
            throttled=self.throttled,
            calls=self.calls,
            batches=self._batches,
            checks_seconds=self._checks_seconds,
        )

    def _sweep(self) -> Events:
        yield from self._function("CheckPrerequisites", self._calling("other", 6))
        self._left = -(-self.accounts // PAGE)
        self._units_read = False
        self.world.process(self._read_units())
        yield from self._function("ListAccounts", self._list)
        part, self._part = self._part, 0
        while part:
            self._checking = part
            both = [self.world.process(self._check(part))]
            if self._left:
                both.append(self.world.process(self._function("ListAccounts", self._list)))
            yield self.world.all_of(both)
            yield self.world.timeout(3 * TRANSITION)
            part, self._part = self._part, 0
        self.checked_at = self.world.now
        yield from self._function("OpenCases", self._open_cases)
        last = {
            "LiftEndedQuarantines": self._calling("other", 2),
            "WarnExceptionOwners": self._calling("S3", 4),
            "WriteReport": self._write_report,
        }
        yield self.world.all_of(
            [self.world.process(self._function(name, work)) for name, work in last.items()]
        )
        yield self.world.timeout(3 * TRANSITION)

    def _list(self, there: Sandbox) -> Events:
        pages = 0
        enough = max(self.batch_size * self.batches_at_once, self._checking / 3) / PAGE
        while self._left and pages < enough:
            yield self.world.timeout(self.accounts_pace.turn())
            yield from self._call("ListAccounts", there)
            pages += 1
            self._left -= 1
        if not self._left:
            while not self._units_read:
                yield self.world.timeout(0.05)
            self.listed_at = self.world.now
        yield from self._calls("S3", 5, there)
        already = self._listed
        self._listed = min(self.accounts, already + pages * PAGE)
        self._part = self._listed - already

    def _read_units(self) -> Events:
        there = self._sandbox("ListAccounts")
        yield from self._call("other", there)
        for _ in range(self.units + 1):
            yield self.world.timeout(self.parents_pace.turn())
            yield from self._call("ListOrganizationalUnitsForParent", there)
        self._units_read = True

    def _check(self, accounts: int) -> Events:
        yield self.world.timeout(self.map_run_start)
        sizes = [
            min(self.batch_size, accounts - first) for first in range(0, accounts, self.batch_size)
        ]
        self._batches += len(sizes)
        waiting = iter(sizes)
        yield self.world.all_of(
            [
                self.world.process(self._worker(number, waiting))
                for number in range(min(self.batches_at_once, len(sizes)))
            ]
        )

    def _worker(self, number: int, waiting: Iterator[int]) -> Events:
        for size in waiting:
            yield from self._function(f"CheckAccounts {number}", partial(self._batch, number, size))

    def _batch(self, number: int, size: int, there: Sandbox) -> Events:
        began = self.world.now
        left = iter(range(size))
        threads = max(1, SESSIONS_AT_ONCE // self.batches_at_once)
        yield self.world.all_of(
            [self.world.process(self._thread(number, left, there)) for _ in range(threads)]
        )
        yield from self._call("S3", there)
        self._checks_seconds += self.world.now - began

    def _thread(self, number: int, left: Iterator[int], there: Sandbox) -> Events:
        for _ in left:
            yield self.world.timeout(self.session_paces[number].turn())
            yield from self._call("AssumeRole", there)
            yield from self._call("GetAccountSummary", there)
            self.checked += 1

    def _open_cases(self, there: Sandbox) -> Events:
        yield from self._read_files(there, of_parts=2)
        left = iter(range(int(self.accounts * self.with_keys)))
        yield self.world.all_of(
            [self.world.process(self._open(left, there)) for _ in range(OPEN_CASES_AT_ONCE)]
        )
        yield from self._calls("S3", 1, there)
        yield from self._calls("DynamoDB", 2, there)

    def _open(self, left: Iterator[int], there: Sandbox) -> Events:
        for _ in left:
            yield from self._call("AssumeRoot", there)
            yield from self._calls("IAM", 2, there)
            yield from self._calls("DynamoDB", 6, there)
            yield from self._call("StartExecution", there)

    def _write_report(self, there: Sandbox) -> Events:
        yield from self._read_files(there, of_parts=2)
        yield from there.computes(self.accounts * CPU_OF_A_ROW)
        yield from self._calls("S3", 5, there)

    def _read_files(self, there: Sandbox, *, of_parts: int) -> Events:
        """The units, the lists by part, and what each batch found, so many at a time."""
        parts = -(-self.accounts // (self.batch_size * self.batches_at_once))
        left = iter(range(self._batches + of_parts * parts + 1))

        def read() -> Events:
            for _ in left:
                yield from self._call("S3", there)

        yield self.world.all_of([self.world.process(read()) for _ in range(FILES_AT_ONCE)])

    def _sandbox(self, name: str) -> Sandbox:
        function = name.partition(" ")[0]
        memory = self.memory_mb if function == "CheckAccounts" else memory_of(function)
        return self._sandboxes.setdefault(name, Sandbox(self.world, memory))

    def _function(self, name: str, work: Callable[[Sandbox], Events]) -> Events:
        """An invocation; the first one in a sandbox is a cold start."""
        there = self._sandbox(name)
        cold, there.is_cold = COLD_START if there.is_cold else 0.0, False
        yield self.world.timeout(TRANSITION + INVOCATION + cold)
        yield from work(there)
        yield self.world.timeout(TRANSITION)

    def _calling(self, operation: str, count: int) -> Callable[[Sandbox], Events]:
        return partial(self._calls, operation, count)

    def _calls(self, operation: str, count: int, there: Sandbox) -> Events:
        for _ in range(count):
            yield from self._call(operation, there)

    def _call(self, operation: str, there: Sandbox) -> Events:
        """One call, tried again as the SDK does if AWS throttles it."""
        attempt = 0
        while True:
            self.calls += 1
            yield from there.computes(CPU_OF_A_CALL)
            yield self.world.timeout(LATENCY[operation] * 2 ** self.dice.uniform(-1, 1))
            bucket = self.buckets.get(operation)
            if bucket is None or bucket.takes():
                return
            self.throttled += 1
            yield self.world.timeout(self.dice.uniform(0, min(20, 2**attempt)))
            attempt += 1


# How many units an organization of so many accounts is taken to have.
SIZES = {1_000: 50, 10_000: 200, 50_000: 1_000}


class Choice(NamedTuple):
    """A simulated sweep of 10,000 accounts with other parameters than the template's."""

    batch_size: int
    batches_at_once: int
    memory_mb: int
    map_run_start: float
    swept: Simulated

    @property
    def is_deployed(self) -> bool:
        """Whether these are the defaults of the template, and the assumption that is made here."""
        chosen = (BATCH_SIZE, BATCHES_AT_ONCE, memory_of("CheckAccounts"), MAP_RUN_START)
        return self[:4] == chosen


def choices() -> list[Choice]:
    """Sweeps with other sizes of batches, as many at once as make the same parts or not."""
    sizes = [(50, 10), (50, 20), (100, 5), (100, 10), (100, 20), (200, 5), (200, 10), (500, 4)]
    tried = [(size, at_once, 512, start) for start in (2.0, 4.0) for size, at_once in sizes]
    tried += [(BATCH_SIZE, BATCHES_AT_ONCE, memory, MAP_RUN_START) for memory in (128, 256, 1024)]
    return [
        Choice(
            *(size, at_once, memory, start),
            swept=Sweep(
                10_000,
                SIZES[10_000],
                batch_size=size,
                batches_at_once=at_once,
                memory_mb=memory,
                map_run_start=start,
            ).run(),
        )
        for size, at_once, memory, start in sorted(tried)
    ]


def simulate() -> list[Simulated]:
    """A sweep of each size."""
    return [Sweep(accounts, units).run() for accounts, units in SIZES.items()]


if __name__ == "__main__":
    for each in simulate():
        print(f"{each} {each.seconds / each.bound if each.bound else 0:.3f}")
