"""Starting a sweep, and seeing how far it is."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from operate import reports, terminal
from rootsweep import sweeps

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rich.console import Console

    from operate.stack import Aws
    from rootsweep.sweeps import SweepRequest

# Step Functions answers one DescribeMapRun and one ListMapRuns a second, in the whole account
# (quotas, "API actions"): how far a sweep is, is looked at less often than whether it has ended.
SECONDS_BETWEEN_LOOKS = 1.5
LOOKS_FOR_ONE_AT_THE_PROGRESS = 3


class Seen(NamedTuple):
    """How far a sweep is: the state it came to last, and how many batches are checked of all that
    are known by now.
    """

    state: str
    checked: int
    batches: int


class Started(NamedTuple):
    """A sweep that runs: the ARN of its execution, and the id that it and its report have."""

    execution: str
    sweep_id: str


def start(aws: Aws, request: SweepRequest, *, name: str) -> Started:
    """Start a sweep. The same `name` starts none again, should the SDK repeat the call."""
    given = {field: value for field, value in request.to_dict().items() if value}
    started = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.stack.outputs["SweepStateMachineArn"],
        name=name,
        input=json.dumps(given),
    )
    execution = str(started["executionArn"])
    return Started(execution, sweep_id(execution, started["startDate"]))


def sweep_id(execution: str, start: datetime) -> str:
    """The id that the sweep of an execution gives itself."""
    started_at = start.astimezone(UTC).isoformat()
    return sweeps.sweep_id_for(execution_arn=execution, started_at=started_at)


def follow(aws: Aws, execution: str, see: Callable[[Seen], None] | None = None) -> dict[str, Any]:
    """Wait for the end of a sweep; return its execution as DescribeExecution has it.

    `see` gets how far it is from time to time, as far as AWS says so. Raises ClientError and
    BotoCoreError if AWS does not say whether it has ended; it goes on all the same.
    """
    states = aws.client("stepfunctions")
    progress = _Progress(states, execution)
    looks = 0
    while True:
        described: dict[str, Any] = states.describe_execution(executionArn=execution)
        ended = described["status"] != "RUNNING"
        if see and (ended or looks % LOOKS_FOR_ONE_AT_THE_PROGRESS == 0):
            # It is for the eye only.
            with contextlib.suppress(ClientError, BotoCoreError):
                see(progress.look())
        if ended:
            return described
        looks += 1
        time.sleep(SECONDS_BETWEEN_LOOKS)


def is_complete(described: dict[str, Any]) -> bool:
    """Whether the sweep succeeded, and every account could be checked."""
    became = result(described)
    return became["status"] == "SUCCEEDED" and not became["accounts"]["unknown"]


def result(described: dict[str, Any]) -> dict[str, Any]:
    """What became of a sweep: its output with `status` and `execution_arn`, or why it failed."""
    more = {"status": described["status"], "execution_arn": described["executionArn"]}
    if described["status"] == "SUCCEEDED":
        return {**more, **json.loads(described["output"])}
    return more | {"error": described.get("error", ""), "cause": cause(described)}


def cause(described: dict[str, Any]) -> str:
    """Why an execution failed, in the words of the function that did."""
    text = str(described.get("cause") or "")
    try:
        return str(json.loads(text)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return text


def show(aws: Aws, described: dict[str, Any], console: Console) -> None:
    """What became of a sweep, for people."""
    became = result(described)
    if became["status"] != "SUCCEEDED":
        console.print(terminal.word("FAILED"), f"the sweep ended {became['status']}:")
        console.print(terminal.text(f"{became['error']}: {became['cause']}", limit=2000))
        console.print('What to do: docs/runbook.md, "A sweep that FAILED".')
        return
    console.print(f"Sweep {became['sweep_id']} has SUCCEEDED.")
    reports.show_counts(became["accounts"], console)
    console.print(f"\nNew cases: {became['cases_opened']}")
    console.print(f"Report: {became['report']}", soft_wrap=True)
    if became["accounts"]["unknown"] or became["accounts"]["root_keys"]:
        again = aws.again(f"report {became['sweep_id']}")
        console.print(f"Which accounts, and why: {again}", soft_wrap=True)


class _Progress:
    """How far a sweep is. Map Runs that have ended are asked for once."""

    def __init__(self, states: Any, execution: str) -> None:
        self._states = states
        self._execution = execution
        self._ended: dict[str, dict[str, int]] = {}

    def look(self) -> Seen:
        events = self._states.get_execution_history(
            executionArn=self._execution,
            reverseOrder=True,
            maxResults=25,
            includeExecutionData=False,
        )["events"]
        entered = (
            event["stateEnteredEventDetails"]["name"]
            for event in events
            if "stateEnteredEventDetails" in event
        )
        listed = self._states.list_map_runs(executionArn=self._execution)["mapRuns"]
        runs = [self._counts(run["mapRunArn"]) for run in listed]
        return Seen(
            state=next(entered, ""),
            checked=sum(run["total"] - run["pending"] - run["running"] for run in runs),
            batches=sum(run["total"] for run in runs),
        )

    def _counts(self, run: str) -> dict[str, int]:
        if run in self._ended:
            return self._ended[run]
        described = self._states.describe_map_run(mapRunArn=run)
        counts: dict[str, int] = described["itemCounts"]
        if described["status"] != "RUNNING":
            self._ended[run] = counts
        return counts
