"""A sweep on AWS, as a discrete-event simulation: published quotas, and latencies that are assumed.

What the functions do is modelled call by call; what Step Functions and Lambda take between is a
constant. The numbers that are published have their source beside them; the others are `ASSUMED`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import simpy

from .settings import BATCH_SIZE, BATCHES_AT_ONCE, SESSIONS_A_SECOND, SESSIONS_AT_ONCE
from .throttled import LIST_ACCOUNTS, STS, at_best

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

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
TRANSITION = 0.03  # ASSUMED: from a state to the next one.
INVOCATION = 0.03  # ASSUMED: beside what the function does.
COLD_START = 0.7  # ASSUMED: a sandbox and Python, 0.3 s, and the imports as they are measured here.
MAP_RUN_START = 2.0  # ASSUMED: until the first child of a Distributed Map runs.
OPEN_CASES_AT_ONCE = 16  # open_cases.CONCURRENCY
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


@dataclass(frozen=True)
class Simulated:
    """What a simulated sweep came to; times in seconds since its start."""

    accounts: int
    units: int
    seconds: float
    listed: float
    checked: float
    bound: float
    throttled: int
    calls: int


@dataclass
class Sweep:
    """One sweep. `findings` is the part of the accounts that have root keys."""

    accounts: int
    units: int
    findings: float = 0.02
    seed: int = 1
    throttled: int = 0
    calls: int = 0
    checked: int = 0
    _listed: int = 0
    _checking: int = 0
    _part: int = 0
    _warm: dict[str, int] = field(default_factory=dict)

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
            Bucket(self.world, SESSIONS_A_SECOND / BATCHES_AT_ONCE, 1)
            for _ in range(BATCHES_AT_ONCE)
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
        )

    def _sweep(self) -> Events:
        yield from self._function("check_prerequisites", self._calls("other", 5))
        self._left = -(-self.accounts // PAGE)
        self._units_read = False
        self.world.process(self._read_units())
        yield from self._function("list_accounts", self._list(first=True))
        part, self._part = self._part, 0
        while part:
            self._checking = part
            both = [self.world.process(self._check(part))]
            if self._left:
                listing = self._function("list_accounts", self._list(first=False))
                both.append(self.world.process(listing))
            yield self.world.all_of(both)
            yield self.world.timeout(3 * TRANSITION)
            part, self._part = self._part, 0
        self.checked_at = self.world.now
        yield from self._function("open_cases", self._open_cases())
        yield from self._function("lift_ended_quarantines", self._calls("other", 2))
        yield from self._function("warn_exception_owners", self._calls("S3", 2))
        yield from self._function("write_report", self._write_report())
        yield self.world.timeout(3 * TRANSITION)

    def _list(self, *, first: bool) -> Events:
        pages = 0
        enough = max(BATCH_SIZE * BATCHES_AT_ONCE, self._checking / 3) / PAGE
        while self._left and (pages < enough or (first and not self._units_read)):
            yield self.world.timeout(self.accounts_pace.turn())
            yield from self._call("ListAccounts")
            pages += 1
            self._left -= 1
        if not self._left:
            while first and not self._units_read:
                yield self.world.timeout(0.05)
            self.listed_at = self.world.now
        yield from self._calls("S3", 3)
        already = self._listed
        self._listed = min(self.accounts, already + pages * PAGE)
        self._part = self._listed - already

    def _read_units(self) -> Events:
        yield from self._call("other")
        for _ in range(self.units + 1):
            yield self.world.timeout(self.parents_pace.turn())
            yield from self._call("ListOrganizationalUnitsForParent")
        self._units_read = True

    def _check(self, accounts: int) -> Events:
        yield self.world.timeout(MAP_RUN_START)
        sizes = [min(BATCH_SIZE, accounts - first) for first in range(0, accounts, BATCH_SIZE)]
        waiting = iter(sizes)
        yield self.world.all_of(
            [
                self.world.process(self._worker(number, waiting))
                for number in range(min(BATCHES_AT_ONCE, len(sizes)))
            ]
        )

    def _worker(self, number: int, waiting: Iterator[int]) -> Events:
        for size in waiting:
            yield from self._function(f"check_accounts {number}", self._batch(number, size))

    def _batch(self, number: int, size: int) -> Events:
        left = iter(range(size))
        threads = max(1, SESSIONS_AT_ONCE // BATCHES_AT_ONCE)
        yield self.world.all_of(
            [self.world.process(self._thread(number, left)) for _ in range(threads)]
        )
        yield from self._call("S3")

    def _thread(self, number: int, left: Iterator[int]) -> Events:
        for _ in left:
            yield self.world.timeout(self.session_paces[number].turn())
            yield from self._call("AssumeRole")
            yield from self._call("GetAccountSummary")
            self.checked += 1

    def _open_cases(self) -> Events:
        # The files of the batches, sixteen at a time, and the lists of the accounts.
        batches = -(-self.accounts // BATCH_SIZE)
        yield from self._calls("S3", -(-batches // 16) + 2)
        left = iter(range(int(self.accounts * self.findings)))
        yield self.world.all_of(
            [self.world.process(self._open(left)) for _ in range(OPEN_CASES_AT_ONCE)]
        )
        yield from self._calls("S3", 1)
        yield from self._calls("DynamoDB", 2)

    def _open(self, left: Iterator[int]) -> Events:
        for _ in left:
            yield from self._call("AssumeRoot")
            yield from self._calls("IAM", 2)
            yield from self._calls("DynamoDB", 6)
            yield from self._call("StartExecution")

    def _write_report(self) -> Events:
        batches = -(-self.accounts // BATCH_SIZE)
        yield from self._calls("S3", -(-batches // 16) + 4)

    def _function(self, sandbox: str, work: Events) -> Events:
        """An invocation; the first one in a sandbox is a cold start."""
        cold = 0.0 if self._warm.setdefault(sandbox, 0) else COLD_START
        self._warm[sandbox] += 1
        yield self.world.timeout(TRANSITION + INVOCATION + cold)
        yield from work
        yield self.world.timeout(TRANSITION)

    def _calls(self, operation: str, count: int) -> Events:
        for _ in range(count):
            yield from self._call(operation)

    def _call(self, operation: str) -> Events:
        """One call, tried again as the SDK does if AWS throttles it."""
        attempt = 0
        while True:
            self.calls += 1
            yield self.world.timeout(LATENCY[operation] * 2 ** self.dice.uniform(-1, 1))
            bucket = self.buckets.get(operation)
            if bucket is None or bucket.takes():
                return
            self.throttled += 1
            yield self.world.timeout(self.dice.uniform(0, min(20, 2**attempt)))
            attempt += 1


# How many units an organization of so many accounts is taken to have.
SIZES = {1_000: 50, 10_000: 200, 50_000: 1_000}


def simulate() -> list[Simulated]:
    """A sweep of each size."""
    return [Sweep(accounts, units).run() for accounts, units in SIZES.items()]


if __name__ == "__main__":
    for each in simulate():
        print(f"{each} {each.seconds / each.bound if each.bound else 0:.3f}")
