"""A whole sweep by the shipped template on the embedded AWS, and what it is made of.

Two accounts of a hundred have root keys; their cases are opened, and wait while the sweep ends.
Processes are looked at by /proc, so it needs Linux.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from local import stack
from local.organization import load

from .fake_aws import FINDINGS, FIRST_ACCOUNT
from .settings import memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS = "ministack-lambda-rootsweep-"
REPORT = re.compile(r"^REPORT .*Duration: ([0-9.]+) ms\s", re.MULTILINE)
PATIENCE_SECONDS = 1800


@dataclass
class Swept:
    """What a sweep took. Times in seconds, memory in MiB, `payload` in bytes."""

    accounts: int
    wall: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    transitions: int = 0
    children: int = 0
    events: int = 0
    payload: int = 0
    largest_payload: int = 0
    # By function: how often it was invoked, for how long in all, the most memory that a process of
    # it held, and the CPU time of all its processes, with their start.
    invocations: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak_mib: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def gb_seconds(self) -> float:
        """What Lambda bills."""
        return sum(
            seconds * memory_of(name.title().replace("_", "")) / 1024
            for name, seconds in self.seconds.items()
        )


def organization(accounts: int) -> dict[str, Any]:
    """An organization file; some accounts have a root key."""
    return {
        "management_account": "111111111111",
        "security_account": "222222222222",
        "accounts": [
            {
                "id": f"{FIRST_ACCOUNT + number}",
                "ou": f"Unit {number % 20}",
                **({"root": {"access_keys": [a_key(number)]}} if number % FINDINGS == 0 else {}),
            }
            for number in range(accounts - 2)
        ],
    }


def a_key(number: int) -> dict[str, str]:
    """A root key as an organization file has it."""
    return {"id": f"AKIAEXAMPLE{number:09}", "created": "2016-04-01"}


@contextmanager
def deployed(
    content: dict[str, Any], parameters: dict[str, str]
) -> Iterator[tuple[stack.Stack, stack.EmbeddedAws]]:
    """The stack on an embedded AWS of its own, for the content of an organization file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "organization.yaml"
        file.write_text(yaml.safe_dump(content))
        aws = stack.EmbeddedAws(port=stack.free_port(), organization=file)
        try:
            stack.build()
            aws.wait_until_ready(300)
            yield stack.deploy(aws, load(file), parameters), aws
        finally:
            aws.stop()


def sweep(accounts: int) -> Swept:
    """Deploy the stack for so many accounts, and sweep them once. Nobody is mailed meanwhile."""
    with deployed(organization(accounts), {"MailWindowSeconds": "600"}) as (there, aws):
        return _sweep(there, aws, accounts)


def _sweep(there: stack.Stack, aws: stack.EmbeddedAws, accounts: int) -> Swept:
    stepfunctions = there.client("stepfunctions")
    swept = Swept(accounts)
    began = time.monotonic()
    execution = stepfunctions.start_execution(
        stateMachineArn=there.outputs["SweepStateMachineArn"], input="{}"
    )["executionArn"]
    processes: dict[int, Process] = {}
    while True:
        described = stepfunctions.describe_execution(executionArn=execution)
        processes |= {process.id: process for process in _processes(aws.pid)}
        if described["status"] != "RUNNING":
            break
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise TimeoutError(f"the sweep of {accounts} accounts did not end")
        time.sleep(0.5)
    swept.wall = time.monotonic() - began
    if described["status"] != "SUCCEEDED":
        raise RuntimeError(f"the sweep ended {described['status']}: {described.get('cause')}")
    for process in processes.values():
        function = process.function
        swept.peak_mib[function] = max(process.peak_mib, swept.peak_mib.get(function, 0))
        swept.cpu[function] = swept.cpu.get(function, 0) + process.cpu
    swept.counts = json.loads(described["output"])["accounts"]
    _count_events(stepfunctions, execution, swept)
    _count_invocations(there.client("logs"), swept)
    swept.children = swept.invocations["check_accounts"]
    return swept


def _count_events(stepfunctions: Any, execution: str, swept: Swept) -> None:
    pages = stepfunctions.get_paginator("get_execution_history").paginate(executionArn=execution)
    for page in pages:
        for event in page["events"]:
            swept.events += 1
            swept.transitions += event["type"].endswith("StateEntered")
            for details in event.values():
                if isinstance(details, dict):
                    for name in ("input", "output", "parameters"):
                        size = len(details.get(name, "").encode())
                        swept.payload += size
                        swept.largest_payload = max(size, swept.largest_payload)


def _count_invocations(logs: Any, swept: Swept) -> None:
    groups = logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix="/aws/lambda/rootsweep/"
    )
    for page in groups:
        for group in page["logGroups"]:
            name = group["logGroupName"].rpartition("/")[2]
            events = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group["logGroupName"]
            )
            for lines in events:
                for event in lines["events"]:
                    for duration in REPORT.findall(event["message"]):
                        swept.invocations[name] += 1
                        swept.seconds[name] += float(duration) / 1000


class Process(NamedTuple):
    """A process in which a function runs: the most memory it held, its CPU time in seconds."""

    id: int
    function: str
    peak_mib: float
    cpu: float


def _processes(parent: int) -> Iterator[Process]:
    """The processes of functions that run now."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_text()
            function = command.partition(PROCESS)[2].partition("Function")[0]
            # proc(5): the second field, in parentheses, is the name of the program.
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if not function or int(stat[1]) != parent:
                continue
            cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
            for line in (folder / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    yield Process(int(folder.name), function, int(line.split()[1]) / 1024, cpu)
        except (OSError, ValueError):
            continue  # It has ended, or is none.


if __name__ == "__main__":
    for size in sys.argv[1:]:
        print(sweep(int(size)))
