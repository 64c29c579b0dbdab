"""How things are measured: a fake AWS beside, a process of its own for each way, medians."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
LATENCY_MS = 30.0


@dataclass(frozen=True)
class Row:
    """A line of the table of what has to be reached; `holds` is None for what has no target."""

    figure: str
    target: str
    measured: str
    holds: bool | None


@dataclass(frozen=True)
class Spent:
    """What a way took: seconds of CPU and of time, the most memory in MiB, and what it found."""

    cpu: float
    wall: float
    peak_mib: float
    found: int


class Fake:
    """A running fake AWS."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def calls(self) -> dict[str, int]:
        """How often each action was answered, and how often it was throttled."""
        with urllib.request.urlopen(f"{self.endpoint}/_calls", timeout=10) as answer:
            counts: dict[str, int] = json.load(answer)
        return counts

    def environment(self) -> dict[str, str]:
        """What makes any SDK talk to it, and to nobody else."""
        return {
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
            "PATH": os.environ["PATH"],
            "HOME": str(ROOT / ".local"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'functions'}",
        }


@contextmanager
def fake_aws(
    accounts: int, *, latency_ms: float = LATENCY_MS, rates: Sequence[str] = ()
) -> Iterator[Fake]:
    """A fake AWS for so many accounts; `rates` are like `AssumeRole=600:60`."""
    command = [sys.executable, "-m", "bench.fake_aws", f"--accounts={accounts}"]
    command += [f"--latency-ms={latency_ms}", *(f"--rate={rate}" for rate in rates)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Fake(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()


def run_way(fake: Fake, way: str, accounts: int, concurrency: int) -> Spent:
    """What one of `bench.ways` takes for so many accounts, without the start of its process."""
    command = [sys.executable, "-m", "bench.ways", way, str(accounts), str(concurrency)]
    done = subprocess.run(
        command, cwd=ROOT, env=fake.environment(), check=True, capture_output=True, text=True
    )
    return Spent(**json.loads(done.stdout.splitlines()[-1]))


def run_command(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Spent:
    """What a command takes with all processes that it starts. Raises CalledProcessError."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        command, cwd=cwd, env=dict(environment), check=True, capture_output=True, text=True
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu=cpu, wall=wall, peak_mib=after.ru_maxrss / 1024, found=0)


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)
