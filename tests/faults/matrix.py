"""The matrix: every operation of every function, failing in every way, once and for ever."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from local import stack
from local.faults import STATE_MACHINE, Kind
from local.organization import load
from tests.contract.permissions import BY_LAMBDA
from tests.contract.shipped import as_list, invocations, resources, statements

from .scenarios import ENDS, NEXT_PART, NOBODY, OTHER_SCENARIOS, SCENARIOS, Rule, Story, live
from .verdict import DEATHS
from .world import ORGANIZATION, OTHER_ORGANIZATION, OTHER_PARAMETERS, PARAMETERS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

# So many cells at once: most of them wait for an answer that does not come.
CELLS_AT_ONCE = 40
LAMBDA_CONCURRENCY = 96
LIVES = 3
# What streams and events still set off when a story is over.
SETTLING_SECONDS = 4
# Waits of state machines, and what is between their retries, take this part of their time.
WAIT_SCALE = 0.01
# A client tries a call four times, so that the whole function fails once by this, and is retried.
# An answer that does not come costs seconds; a client alone gets over it.
TIMES = {Kind.THROTTLING: 5, Kind.SERVER_ERROR: 5, Kind.DROPPED: 5}
# Those of PATIENT_CALLS try ten times. Where one account fails by that, it gets over five.
TIMES_OF_PATIENT: dict[Any, int] = {
    ("ListAccountsFunction", "organizations"): 11,
    ("ListAccountsFunction", "s3"): 11,
    ("OpenCasesFunction", "s3"): 11,
}
# The same call again, for something else: of the intent to delete, then of what was deleted.
LATER_CALLS = {("DeleteRootKeysFunction", "dynamodb:UpdateItem"): 1}
# Where one operation is called for different things, what is in the call that is meant.
MEANT = {
    ("moved", "OpenCasesFunction", "dynamodb:UpdateItem"): "SET parents",
    ("woken", "OpenCasesFunction", "dynamodb:UpdateItem"): "SET woken",
    ("nobody", "OpenCasesFunction", "dynamodb:UpdateItem"): "SET woken",
    ("refused", "QuarantineRootUserFunction", "dynamodb:UpdateItem"): "SET quarantine_refused",
    ("in root sessions", "DeleteRootKeysFunction", "dynamodb:GetItem"): "CANARY",
    ("in root sessions", "DeleteRootKeysFunction", "dynamodb:UpdateItem"): "CANARY",
}
# What roles allow, and no scenario has their functions call: these writes are part of transactions.
NEVER_CALLED = {
    ("LogDecisionsFunction", "dynamodb:PutItem"),
    ("OpenCasesFunction", "dynamodb:DeleteItem"),
    ("RecordOutcomeFunction", "dynamodb:DeleteItem"),
    ("RecordOutcomeFunction", "dynamodb:PutItem"),
}
READS = ("Get", "List", "Query", "Describe", "BatchGet")
# Fails after all that the client tries, or costs a new process each time.
SLOW_FOR_EVER = (Kind.THROTTLING, Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.TIMEOUT_DONE)
SLOW_FOR_EVER += (Kind.DROPPED, Kind.SLOW, Kind.CRASH, Kind.CRASH_DONE)
# Behind streams that try fifty times: what is slow for ever would take hours there.
STREAMS = ("DeliverDecisionFunction", "LogDecisionsFunction")
# All of them may be slow at once, each ten times over.
FINDINGS = "WriteFindingsFunction"
FINDINGS_AT_ONCE = 12
# Each looks into all accounts.
WHOLE_AT_ONCE = 12
IN_PARTS = "in parts"
# What is called for the policy of all quarantines can only be tried alone.
OF_ALL_ACCOUNTS = tuple(
    f"organizations:{name}" for name in ("CreatePolicy", "DeletePolicy", "ListTargetsForPolicy")
)
OF_A_TASK = (Kind.THROTTLING, Kind.SERVER_ERROR, Kind.ACCESS_DENIED, Kind.TIMEOUT)
# Of all calls about an account, this part fails in a storm.
SHARE = 0.1
STORMS = 8
ANY = "*"


class Cell(NamedTuple):
    """One operation of a function that fails in one way, in the scenario that has it.

    Or a storm: ANY operation fails now and then, and `after` is the seed that says when.
    """

    scenario: str
    function: str
    operation: str
    kind: Kind
    is_permanent: bool
    # For a task of a state machine: the function it invokes, or the subject that it tells. Else a
    # text that is in the call.
    about: str = ""
    # How many of these calls pass before.
    after: int = 0

    @property
    def is_read(self) -> bool:
        return self.operation.partition(":")[2].startswith(READS)

    @property
    def is_storm(self) -> bool:
        return self.function == ANY

    @property
    def may_not_come(self) -> bool:
        """Whether there need not be such a call: one more where others write at the same moment."""
        return self.after > 0 and self.function in (*STREAMS, FINDINGS)

    @property
    def is_deployed(self) -> bool:
        """Whether it is tried on the deployed stack."""
        return not (self.function in STREAMS and self.is_permanent and self.kind in SLOW_FOR_EVER)

    @property
    def rule(self) -> Rule:
        if self.is_storm:
            return Rule(ANY, ANY, self.kind, share=SHARE, seed=self.after)
        about = (self.about,) if self.about else ()
        # A task of a state machine has no client that tries again.
        # Nor is there one for a file that breaks off while it is read.
        is_tried_once = self.function == STATE_MACHINE or self.operation == "s3:GetObject"
        patient = self.kind in TIMES and (self.function, self.operation.partition(":")[0])
        often = 1 if is_tried_once else TIMES_OF_PATIENT.get(patient, TIMES.get(self.kind, 1))
        times = None if self.is_permanent else often
        return Rule(self.function, self.operation, self.kind, about, times, self.after)

    def __str__(self) -> str:
        if self.is_storm:
            return f"storm {self.after} {self.kind}"
        how = "for ever" if self.is_permanent else "at first"
        call = f" call {self.after + 1}" if self.after else ""
        return f"{self.function} {self.operation}{call} {self.about} {self.kind} {how}"


Call = tuple[str, str, str]


def cells_of(
    calls: Mapping[str, Mapping[str, Mapping[str, int]]], known: Collection[Call] = ()
) -> list[Cell]:
    """All cells for what each scenario calls: scenario -> function -> operation -> how often.

    But for those calls that are `known`: function, operation and what it is about.
    """
    found: dict[Call, str] = {}
    for scenario, functions in calls.items():
        for function, operations in functions.items():
            for operation in operations:
                if function != STATE_MACHINE:
                    about = MEANT.get((scenario, function, operation), "")
                    found.setdefault((function, operation, about), scenario)
                elif operation == "sns:publish" and scenario in SUBJECTS:
                    found.setdefault((function, operation, SUBJECTS[scenario]), scenario)
        for function in TASKS.intersection(functions):
            found.setdefault((STATE_MACHINE, "lambda:invoke", function), scenario)
        if scenario == IN_PARTS:
            found.setdefault((STATE_MACHINE, "lambda:invoke", NEXT_PART), scenario)
    cells = []
    for (function, operation, about), scenario in sorted(found.items()):
        if (function, operation, about) in known:
            continue
        for kind, is_permanent in itertools.product(Kind, (False, True)):
            first = Cell(scenario, function, operation, kind, is_permanent, about)
            later = LATER_CALLS.get((function, operation), 0) if not about else 0
            if kind in DEATHS and not is_permanent and function != STATE_MACHINE and not about:
                # A function is killed at each of its calls.
                later = max(later, calls[scenario][function][operation] - 1)
            cells += [first._replace(after=after) for after in range(1 + later)]
    return [cell for cell in cells if _means_something(cell)]


def never_called(calls: Collection[Call]) -> set[tuple[str, str]]:
    """What the roles of functions allow that is not among these calls: function and action."""
    roles = resources("AWS::IAM::Role")
    allowed = {
        (function, action)
        for function in resources("AWS::Serverless::Function")
        for statement in statements(roles[function.removesuffix("Function") + "Role"])
        for action in as_list(statement["Action"])
        if action not in BY_LAMBDA and action.partition(":")[0] not in ("logs", "sqs")
    }
    called = {(function, operation) for function, operation, _ in calls}
    # S3 names that permission otherwise (Service Authorization Reference).
    called |= {(each, "s3:ListBucket") for each, name in called if name == "s3:ListObjectsV2"}
    return allowed - called


# What the tasks tell in each scenario.
SUBJECTS = {
    "hold": "Rootsweep deletes nothing for now",
    "fail": "Rootsweep case",
    "undone": "Rootsweep could not do everything in a sweep",
    "unknown": "Rootsweep could not check every account",
    "nobody": NOBODY,
}
# Whatever a state invokes, and waits for.
TASKS = {id for _, _, _, id in invocations()}
WAITS = {id for *_, state, id in invocations() if "waitForTaskToken" in state["Resource"]}


def storms() -> list[Cell]:
    """Of each kind of fault some storms."""
    seeds = range(STORMS)
    return [Cell("approve", ANY, ANY, kind, False, after=seed) for kind in Kind for seed in seeds]


def _means_something(cell: Cell) -> bool:
    if cell.function == STATE_MACHINE:
        # That the time of a wait is over is no fault.
        return cell.kind in OF_A_TASK and (cell.kind != Kind.TIMEOUT or cell.about not in WAITS)
    # A read has done nothing, whether or not its answer comes.
    return not (cell.is_read and cell.kind in (Kind.TIMEOUT_DONE, Kind.CRASH_DONE))


class Settings(NamedTuple):
    """A stack: its organization, parameters, which scenarios are for it, and how its AWS is."""

    organization: Mapping[str, Any]
    parameters: Mapping[str, str]
    scenarios: Collection[str]
    environment: Mapping[str, str]


USUAL = Settings(ORGANIZATION, PARAMETERS, SCENARIOS, {})
OTHER = Settings(
    OTHER_ORGANIZATION, OTHER_PARAMETERS, OTHER_SCENARIOS, {"ACCOUNTS_WITHOUT_PATHS": "1"}
)


@contextmanager
def deployed(settings: Settings = USUAL) -> Iterator[World]:
    """The stack on an embedded AWS with room for many functions that wait for nothing."""
    before = dict(os.environ)
    os.environ.update(
        LAMBDA_CONCURRENCY=str(LAMBDA_CONCURRENCY),
        SFN_WAIT_SCALE=str(WAIT_SCALE),
        STREAM_RETRY_SECONDS="0.1",
        **settings.environment,
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "organization.yaml"
            file.write_text(yaml.safe_dump(settings.organization))
            aws = stack.EmbeddedAws(port=stack.free_port(), organization=file)
            try:
                stack.build()
                aws.wait_until_ready()
                made = stack.deploy(aws, load(file), settings.parameters)
                world = World(made, pid=aws.pid)
                yield world
                world.close()
            finally:
                aws.stop()
    finally:
        os.environ.clear()
        os.environ.update(before)


class Base(NamedTuple):
    """How each scenario goes without faults, and what is called in it, how often."""

    stories: dict[str, Story]
    calls: dict[str, dict[str, dict[str, int]]]


def without_faults(world: World, scenarios: Collection[str]) -> Base:
    """Live through each scenario once."""
    stories, calls = {}, {}
    before: dict[str, dict[str, int]] = world.faults()["calls"]
    for name in scenarios:
        stories[name] = live(world, name)
        # What goes wrong without faults is nothing to compare with.
        ended = stories[name].outcome, stories[name].trouble
        assert ended == (ENDS.get(name, "REMEDIATED"), ""), f"{name}: {stories[name]}"
        time.sleep(SETTLING_SECONDS)
        after = world.faults()["calls"]
        calls[name] = {
            function: more
            for function, operations in after.items()
            if (more := _more(operations, before.get(function, {})))
        }
        before = after
    return Base(stories, calls)


def _more(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """How often each operation was called since."""
    counts = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in counts.items() if count}


class Pool(NamedTuple):
    """Cells that can run beside each other, and how many of them at once."""

    cells: list[Cell]
    at_once: int


def pools(cells: list[Cell]) -> list[list[Pool]]:
    """All cells, so that none gets into the way of another: pools beside each other, then the next.

    What fails for ever behind a stream holds it up for what fails there at first too, of the kill
    switch somebody is told once, and the policy of the quarantines is that of all accounts.
    """
    others, holds, streams, policy, findings, whole = [], [], [], [], [], []
    for cell in cells:
        if cell.scenario == IN_PARTS:
            whole.append(cell)
        elif cell.operation in OF_ALL_ACCOUNTS and cell.scenario == "quarantine":
            policy.append(cell)
        elif cell.function == FINDINGS:
            findings.append(cell)
        elif cell.function in STREAMS:
            streams.append(cell)
        elif cell.scenario == "hold":
            holds.append(cell)
        else:
            others.append(cell)
    # Those that wait for long come in a row of functions; mixed, they wait beside each other.
    random.Random("faults").shuffle(others)
    beside = [Pool(others, CELLS_AT_ONCE), Pool(holds, 1)]
    # Beside many others a stream falls behind, by as much as a cell has patience for.
    alone = [
        [Pool(streams, 1)],
        [Pool(policy, 1)],
        [Pool(whole, WHOLE_AT_ONCE)],
        [Pool(findings, FINDINGS_AT_ONCE)],
    ]
    return [beside, *alone]


def run(world: World, cells: list[Cell], done: Callable[[Cell, Story, bool], None]) -> None:
    """Live through the scenario of each cell, many at once.

    Calls `done` with one at a time, and whether it was the last life of its cell.
    """
    lock = threading.Lock()

    def one(cell: Cell) -> None:
        # What is done for all accounts, somebody else may have done before it could fail.
        lives = 1 if cell.may_not_come else LIVES
        for number in range(1, lives + 1):
            story = live(world, cell.scenario, [cell.rule])
            is_last = bool(story.hits) or number == lives
            with lock:
                done(cell, story, is_last)
            if is_last:
                break

    def all_of(pool: Pool) -> None:
        with ThreadPoolExecutor(max_workers=pool.at_once) as executor:
            for _ in executor.map(one, pool.cells):
                pass

    for beside in pools(cells):
        if not any(pool.cells for pool in beside):
            continue
        if any(cell.scenario == IN_PARTS for cell in beside[0].cells):
            world.remove_all_keys()
        world.follow_with_findings(any(cell.function == FINDINGS for cell in beside[0].cells))
        with ThreadPoolExecutor(max_workers=len(beside)) as executor:
            for _ in executor.map(all_of, beside):
                pass


def sample(cells: list[Cell], count: int) -> list[Cell]:
    """Some cells, always the same ones, without those that take minutes or need not come."""
    quick = [
        cell
        for cell in cells
        if not (cell.is_permanent and cell.kind in SLOW_FOR_EVER) and not cell.may_not_come
    ]
    return random.Random("faults").sample(quick, min(count, len(quick)))
