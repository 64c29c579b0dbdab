"""Starting a sweep, and seeing how far it is."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from operate import reports, terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from operate.stack import Aws
    from rootsweep.sweeps import SweepRequest

# Step Functions answers one DescribeMapRun and one ListMapRuns a second (quotas, "API actions").
SECONDS_BETWEEN_LOOKS = 1.5


class Seen(NamedTuple):
    """How far a sweep is: the state it came to last, and how many batches are checked of all that
    are known by now.
    """

    state: str
    checked: int
    batches: int


def start(aws: Aws, request: SweepRequest) -> str:
    """Start a sweep; return the ARN of its execution."""
    given = {name: value for name, value in request.to_dict().items() if value}
    started = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.stack.outputs["SweepStateMachineArn"], input=json.dumps(given)
    )
    return str(started["executionArn"])


def follow(aws: Aws, execution: str, see: Callable[[Seen], None]) -> dict[str, Any]:
    """Wait for the end of a sweep; return its execution as DescribeExecution has it."""
    states = aws.client("stepfunctions")
    while True:
        described: dict[str, Any] = states.describe_execution(executionArn=execution)
        see(_look(states, execution))
        if described["status"] != "RUNNING":
            return described
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


def show(described: dict[str, Any], console: Console) -> None:
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
        console.print(f"Which accounts, and why: rootsweep report {became['sweep_id']}")


def _look(states: Any, execution: str) -> Seen:
    events = states.get_execution_history(
        executionArn=execution, reverseOrder=True, maxResults=25, includeExecutionData=False
    )["events"]
    entered = (
        event["stateEnteredEventDetails"]["name"]
        for event in events
        if "stateEnteredEventDetails" in event
    )
    runs = [
        states.describe_map_run(mapRunArn=run["mapRunArn"])["itemCounts"]
        for run in states.list_map_runs(executionArn=execution)["mapRuns"]
    ]
    return Seen(
        state=next(entered, ""),
        checked=sum(run["total"] - run["pending"] - run["running"] for run in runs),
        batches=sum(run["total"] for run in runs),
    )
