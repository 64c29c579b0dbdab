"""Many sweeps and cases over one deployed stack: does anything grow, and does the ledger add up?

`python -m tests.faults.soak [SWEEPS]`. Each sweep opens two cases and, if an owner has removed keys
meanwhile, sees to a third one. Processes are looked at by /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from boto3.dynamodb.conditions import Key

from operate import verify_log

from . import document
from .matrix import deployed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .world import World

SWEEPS = 1000
CASES_OF_A_SWEEP = 2
SWEEPS_AT_ONCE = 6
PARTS = 10
# What a process may gain after the first part: allocators give little back.
MOST_KIB = 4096
# A connection to each of two services for each account of a sweep: it may take long until a
# function needed as many at once as it ever will.
MOST_FILES = 6
# Calls of a function for each sweep, in the last part beside the first.
MOST_CALLS = 1.05
# Of fewer, which of them had which fates is what one sees.
ENOUGH_SWEEPS = 50
SETTLING_SECONDS = 20
# What owners do, in turn; what their cases come to.
FATES = {"approve": "REMEDIATED", "decline": "DECLINED", "remove": "RESOLVED"}
TURNS = ("approve", "decline", "approve", "remove")
PROCESS = "ministack-lambda-rootsweep-"
READS = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")


class Process(NamedTuple):
    """A process of a function: how much memory it holds, and how many files it has open."""

    function: str
    resident_kib: int
    open_files: int


@dataclass
class Case:
    """What was done about a case, and what its table item has to say in the end."""

    id: str
    account: str
    key: str
    fate: str


@dataclass
class Part:
    """How things stand after a part of the run. Calls are those of this part, by function."""

    sweeps: int
    seconds: float
    processes: dict[int, Process]
    calls: Counter[tuple[str, str]]
    embedded_mib: float

    def calls_of(self, function: str) -> int:
        return sum(count for (name, _), count in self.calls.items() if name == function)


class Soak:
    """One run over one stack."""

    def __init__(self, world: World, sweeps: int, *, parts: int = PARTS) -> None:
        """The run is looked at after each of so many parts."""
        self.world = world
        self.wanted = sweeps
        self._parts = parts
        self.cases: list[Case] = []
        self.trouble: list[str] = []
        self.parts: list[Part] = []
        self._unlogged: list[Case] = []
        self._sweeps = 0
        self._calls: Counter[tuple[str, str]] = Counter()
        self._left: dict[int, list[Case]] = defaultdict(list)
        self._rounds_of: Counter[int] = Counter()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Sweep as often as is wanted, part after part."""
        self._calls = self._count_calls()
        for number in range(1, self._parts + 1):
            began, before = time.monotonic(), self._sweeps
            upto = self.wanted * number // self._parts
            with ThreadPoolExecutor(SWEEPS_AT_ONCE) as pool:
                for place in range(SWEEPS_AT_ONCE):
                    pool.submit(self._rounds, place, upto)
            if self._sweeps > before:
                self._wait_for_the_log()
                self._look(self._sweeps - before, time.monotonic() - began)
        for place in range(SWEEPS_AT_ONCE):
            self._see_to_those_left(place)
        self._wait_for_the_log()
        time.sleep(SETTLING_SECONDS)

    def _wait_for_the_log(self) -> None:
        """Entries are written one after the other, which takes longer than to decide here."""
        while self._unlogged:
            case = self._unlogged.pop()
            self.world.until(lambda case=case: self.world.logged(case.id), f"the log of {case.id}")

    def _rounds(self, place: int, upto: int) -> None:
        while (turn := self._next(upto)) is not None:
            try:
                self._round(place, turn)
            except Exception as error:  # One that goes wrong is a finding, not the end of the run.
                self.trouble.append(f"sweep {turn}: {type(error).__name__}: {error}")
                print(self.trouble[-1][:300], flush=True)

    def _next(self, upto: int) -> int | None:
        with self._lock:
            if self._sweeps >= upto:
                return None
            self._sweeps += 1
            return self._sweeps

    def _round(self, place: int, turn: int) -> None:
        """A sweep and its two cases; what an owner removes is left to the next one here."""
        world, left = self.world, self._left[place]
        accounts = world.accounts_of(place, self._rounds_of[place])
        self._rounds_of[place] += 1
        keys = {account: world.make_key(account) for account in accounts}
        mails = {account: len(world.mails(account)) for account in accounts}
        ended = world.sweep(world.name_sweep()[0], *accounts, *(case.account for case in left))
        if ended["status"] != "SUCCEEDED":
            raise AssertionError(f"the sweep is {ended['status']}: {ended.get('cause')}")
        made = []
        for number, account in enumerate(accounts):
            row = world.row(ended, account)
            fate = TURNS[(CASES_OF_A_SWEEP * turn + number) % len(TURNS)]
            made.append(Case(row["case"]["id"], account, keys[account], fate))
        self.cases += made
        for case in left:
            self._end(case)
        for case in made:
            link = world.until(
                lambda case=case: world.mails(case.account)[mails[case.account] :],
                f"the mail about {case.id}",
            )
            if case.fate == "remove":
                world.remove_keys(case.account)
                continue
            answered = world.answer(case.account, world.link_in(link[0]), case.fate, days=30)
            if answered != (True, 200):
                raise AssertionError(f"the page answers {answered} to {case}")
        for case in made:
            if case.fate != "remove":
                self._end(case)
        self._left[place] = [case for case in made if case.fate == "remove"]

    def _end(self, case: Case) -> None:
        self._unlogged.append(case)
        self.world.ended(self.world.execution_of(case.id))
        self.world.remove_keys(case.account)

    def _see_to_those_left(self, place: int) -> None:
        left = self._left[place]
        if left:
            self.world.sweep(self.world.name_sweep()[0], *(case.account for case in left))
        for case in left:
            self._end(case)

    # -- what is looked at ---------------------------------------------------------------------

    def _look(self, sweeps: int, seconds: float) -> None:
        now = self._count_calls()
        calls, self._calls = now - self._calls, now
        processes = dict(_processes(self.world.pid))
        self.parts.append(Part(sweeps, seconds, processes, calls, _kib(self.world.pid) / 1024))
        print(line(self.parts[-1]), flush=True)

    def _count_calls(self) -> Counter[tuple[str, str]]:
        return Counter(
            {
                (function, operation): count
                for function, operations in self.world.faults()["calls"].items()
                for operation, count in operations.items()
            }
        )

    def problems(self) -> list[str]:
        """Everything that does not add up, or grew."""
        return [*self.trouble, *self._ledger(), *self._growth()]

    def _ledger(self) -> Iterator[str]:
        if len(self.cases) != CASES_OF_A_SWEEP * self.wanted:
            yield f"there are {len(self.cases)} cases of {self.wanted} sweeps"
        if len({case.id for case in self.cases}) != len(self.cases):
            yield "two sweeps opened the same case"
        for case in self.cases:
            item = self.world.case(case.id)
            deleted = [key["id"] for key in item.get("deleted_keys", [])]
            wanted = (FATES[case.fate], [case.key] if case.fate == "approve" else [])
            if (item.get("outcome"), deleted) != wanted:
                yield f"{case} is {item.get('outcome')} and deleted {deleted}"
        made = self._count_calls()["DeleteRootKeysFunction", "iam:DeleteAccessKey"]
        approved = sum(case.fate == "approve" for case in self.cases)
        if made != approved:
            yield f"{made} keys were deleted, and {approved} deletions approved"
        asked = Counter(case.account for case in self.cases)
        for account, count in asked.items():
            if (mails := len(self.world.mails(account))) != count:
                yield f"the owner of {account} got {mails} mails about {count} cases"
        query = self.world.table.query(KeyConditionExpression=Key("pk").eq("OPEN_CASE"))
        yield from (f"{item} is still open" for item in query["Items"])
        yield from (f"somebody was told: {alert}" for alert in self.world.alerts)
        yield from (f"a dead letter: {letter}" for letter in self.world.dead)
        s3, bucket = self.world.stack.client("s3"), self.world.stack.outputs["DecisionLogBucket"]
        entries, broken = verify_log.read_bucket(s3, bucket)
        try:
            verify_log.verify(entries, broken=broken)
        except verify_log.BrokenEntryError as error:
            yield str(error)

    def _growth(self) -> Iterator[str]:
        first, last = self.parts[0], self.parts[-1]
        for pid, after in last.processes.items():
            before = first.processes.get(pid)
            if before and after.resident_kib > before.resident_kib + MOST_KIB:
                yield f"{after.function} had {before.resident_kib} KiB, has {after.resident_kib}"
            if before and after.open_files > before.open_files + MOST_FILES:
                yield f"{after.function} had {before.open_files} open files, has {after.open_files}"
        functions = {name for name, _ in last.calls} if last.sweeps >= ENOUGH_SWEEPS else set()
        for function in functions:
            before, after = (part.calls_of(function) / part.sweeps for part in (first, last))
            if before and after > before * MOST_CALLS + 1:
                yield f"{function} made {before:.1f} calls a sweep, and makes {after:.1f}"
        scans = sorted({name for name, operation in self._calls if operation.endswith(":Scan")})
        if scans:
            yield f"tables are scanned by {', '.join(scans)}"


def _processes(parent: int) -> Iterator[tuple[int, Process]]:
    """The processes of functions that an embedded AWS has started."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_text()
            stat = (folder / "stat").read_text()
            function = command.partition(PROCESS)[2].partition("Function")[0]
            if (
                folder.name.isdigit()
                and function
                and int(stat.rpartition(")")[2].split()[1]) == parent
            ):
                files = sum(1 for _ in (folder / "fd").iterdir())
                yield int(folder.name), Process(function, _kib(int(folder.name)), files)
        except (OSError, ValueError):
            continue  # It has ended, or is none.


def _kib(pid: int) -> int:
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1])
    return 0


def line(part: Part) -> str:
    """A part as a row of the table in docs/faults.md."""
    mib = [each.resident_kib / 1024 for each in part.processes.values()]
    files = [each.open_files for each in part.processes.values()]
    calls = sum(part.calls.values()) / part.sweeps
    reads = sum(count for (_, name), count in part.calls.items() if name in READS) / part.sweeps
    return (
        f"| {part.sweeps} | {part.seconds:.0f} | {len(mib)} | {max(mib):.1f} | {max(files)}"
        f" | {calls:.1f} | {reads:.1f} | {part.embedded_mib:.0f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("sweeps", nargs="?", type=int, default=SWEEPS)
    given = parser.parse_args()
    logging.disable()
    with deployed() as world:
        soak = Soak(world, given.sweeps)
        soak.run()
        problems = soak.problems()
    for problem in problems:
        print(problem[:500])
    print(f"{given.sweeps} sweeps, {len(soak.cases)} cases, {len(problems)} problems")
    if given.sweeps >= SWEEPS:
        document.write_soak(
            [line(part) for part in soak.parts],
            sweeps=given.sweeps,
            cases=len(soak.cases),
            problems=len(problems),
        )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
