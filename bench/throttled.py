"""Ten batches at once against token buckets at the rates that AWS publishes.

Each worker is a process with the function in it, as Lambda has it; who hands out the batches is
this one. `python -m bench.throttled` is such a worker.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .fake_aws import FIRST_ACCOUNT, PAGE
from .measure import ROOT, fake_aws
from .settings import BATCH_SIZE, BATCHES_AT_ONCE, SESSIONS_A_SECOND, SESSIONS_AT_ONCE
from .ways import rootsweep

if TYPE_CHECKING:
    from .measure import Fake

# STS: 600 requests a second for an account in a Region (IAM User Guide, "IAM and AWS STS quotas");
# how many may come at once is not published: a tenth of a second's.
STS = (600.0, 60.0)
# Organizations User Guide, "Quotas and service limits": throttles of ListAccounts for an account.
LIST_ACCOUNTS = (8.0, 12.0)


@dataclass(frozen=True)
class Throttled:
    """How long it took and would take at best, in seconds, and what was throttled of all calls."""

    what: str
    wall: float
    ideal: float
    throttled: int
    calls: int
    found: int

    @property
    def share(self) -> float:
        """The part of the calls that were throttled."""
        return self.throttled / self.calls


def at_best(count: int, rate: tuple[float, float]) -> float:
    """Seconds for so many calls by a token bucket that begins full."""
    per_second, burst = rate
    return max(0.0, (count - burst) / per_second)


def check(accounts: int, *, rate: tuple[float, float] = STS) -> Throttled:
    """Check so many accounts that are listed already."""
    with (
        fake_aws(accounts, rates=[f"AssumeRole={rate[0]}:{rate[1]}"]) as fake,
        ExitStack() as stack,
    ):
        batches = _Batches(fake, stack)
        began = time.monotonic()
        batches.put([f"{FIRST_ACCOUNT + number}" for number in range(accounts)])
        found = batches.finish()
        wall = time.monotonic() - began
        calls = fake.calls()
    throttled = sum(count for name, count in calls.items() if name.endswith("throttled"))
    return Throttled("checks", wall, at_best(accounts, rate), throttled, sum(calls.values()), found)


def list_and_check(accounts: int) -> Throttled:
    """List and check so many accounts, as the state machine does: the one beside the other."""
    rates = [f"AssumeRole={STS[0]}:{STS[1]}", f"ListAccounts={LIST_ACCOUNTS[0]}:{LIST_ACCOUNTS[1]}"]
    with fake_aws(accounts, rates=rates) as fake, ExitStack() as stack:
        batches = _Batches(fake, stack)
        command = [sys.executable, "-m", "bench.throttled", "list"]
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=ROOT, env=fake.environment(), stdout=subprocess.PIPE, text=True
        ) as listing:
            assert listing.stdout is not None
            for line in listing.stdout:
                batches.put(json.loads(line))
        found = batches.finish()
        wall = time.monotonic() - began
        calls = fake.calls()
    throttled = sum(count for name, count in calls.items() if name.endswith("throttled"))
    pages = -(-accounts // PAGE)
    return Throttled(
        "listing and checks",
        wall,
        max(at_best(pages, LIST_ACCOUNTS), at_best(accounts, STS)),
        throttled,
        sum(calls.values()),
        found,
    )


class _Batches:
    """Workers that wait for batches."""

    def __init__(self, fake: Fake, stack: ExitStack) -> None:
        self._waiting: queue.Queue[list[str] | None] = queue.Queue()
        self._found: list[int] = []
        command = [sys.executable, "-m", "bench.throttled"]
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=fake.environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(BATCHES_AT_ONCE)
        ]
        for worker in workers:
            worker.stdout.readline()  # type: ignore[union-attr]  # It is ready.
        self._threads = [
            threading.Thread(target=self._feed, args=(worker,), daemon=True) for worker in workers
        ]
        for thread in self._threads:
            thread.start()

    def put(self, ids: list[str]) -> None:
        for first in range(0, len(ids), BATCH_SIZE):
            self._waiting.put(ids[first : first + BATCH_SIZE])

    def finish(self) -> int:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        return sum(self._found)

    def _feed(self, worker: Any) -> None:
        while (batch := self._waiting.get()) is not None:
            worker.stdin.write(json.dumps(batch) + "\n")
            worker.stdin.flush()
            self._found.append(int(worker.stdout.readline()))
        worker.stdin.close()


def _work() -> None:
    check_batch = rootsweep(
        SESSIONS_AT_ONCE, batches=BATCHES_AT_ONCE, sessions_a_second=SESSIONS_A_SECOND
    )
    print("ready", flush=True)
    for line in sys.stdin:
        print(check_batch(json.loads(line)), flush=True)


def _list() -> None:
    os.environ |= {
        "BATCH_SIZE": str(BATCH_SIZE),
        "BUCKET": "bucket",
        "MAX_CONCURRENT_BATCHES": str(BATCHES_AT_ONCE),
    }
    import list_accounts

    from rootsweep import accounts

    token = ""
    units: Any = None
    while True:
        part = accounts.list_accounts(
            list_accounts.organizations,
            list_accounts.PACES,
            enough=list_accounts.ACCOUNTS_OF_A_PART,
            next_token=token,
            units=units,
        )
        units, token = part.units, part.next_token
        print(json.dumps([account.id for account in part.accounts]), flush=True)
        if not token:
            return


if __name__ == "__main__":
    _list() if sys.argv[1:] == ["list"] else _work()
