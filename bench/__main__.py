"""`make bench`: measures, prints what has to be reached beside what was, and writes it down.

`--quick` takes fewer rounds and smaller organizations, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import cost, imports, model, peers, prices, sweep, throttled
from .fake_aws import FINDINGS
from .measure import LATENCY_MS, ROOT, Row, Spent, fake_aws, median, run_way, table
from .settings import BATCHES_AT_ONCE, SESSIONS_A_SECOND, SESSIONS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

INTRODUCTION = """\
Written by `make bench`, which measured all of it in one run on two cores. What it is measured with
is in [bench/](../bench/); the pretended AWS of the checks is
[bench/fake_aws.py](../bench/fake_aws.py), which costs next to nothing."""
DOCUMENT = ROOT / "docs" / "performance.md"
CONCURRENCY = SESSIONS_AT_ONCE // BATCHES_AT_ONCE
MOST_MIB = 128
SWEEP_SECONDS = 300
PAGE_MS = 300


class Bench:
    """The sections of the document, and the rows of its table."""

    def __init__(self, *, quick: bool, latency_ms: float) -> None:
        self.quick = quick
        self.latency_ms = latency_ms
        self.rounds = 3 if quick else 5
        self.rows: list[Row] = []
        self.sections: list[str] = []

    def row(self, figure: str, target: str, measured: str, *, holds: bool | None) -> None:
        """Add a line to the table, and print it."""
        self.rows.append(Row(figure, target, measured, holds))
        mark = {True: "reached", False: "NOT REACHED", None: ""}[holds]
        print(f"{figure}: {measured} ({target}) {mark}", flush=True)

    def checks(self) -> None:
        """CPU and time for each account, beside the floor and beside others."""
        accounts = 300 if self.quick else 1000
        spent: dict[str, list[Spent]] = {}
        with fake_aws(accounts, latency_ms=self.latency_ms) as fake:
            for _ in range(self.rounds):
                for way in ("floor", "rootsweep", "bare floor"):
                    spent.setdefault(way, []).append(run_way(fake, way, accounts, CONCURRENCY))
            before = fake.calls()
            run_way(fake, "rootsweep", accounts, CONCURRENCY)
            made = sum(fake.calls().values()) - sum(before.values())
            some = 40 if self.quick else 100
            with_sessions = [run_way(fake, "boto3 session", some, CONCURRENCY)]
        calls = made / (accounts + 32)

        def ratio(way: str, what: Callable[[Spent], float]) -> float:
            pairs = zip(spent["rootsweep"], spent[way], strict=True)
            return median(what(ours) / what(theirs) for ours, theirs in pairs)

        ours = median(each.cpu for each in spent["rootsweep"]) / accounts
        lines = [
            [name, f"{1000 * cpu:.2f} ms", f"{cpu / ours:.2f} ×", how]
            for name, cpu, how in [
                ("**Rootsweep**, 16 threads", ours, f"{accounts} accounts"),
                (
                    "the floor: urllib3, the client below the SDK, unsigned, 16 threads",
                    median(each.cpu for each in spent["floor"]) / accounts,
                    f"{accounts} accounts",
                ),
                (
                    "below the floor: the client of Python's library, the same",
                    median(each.cpu for each in spent["bare floor"]) / accounts,
                    f"{accounts} accounts",
                ),
                (
                    "boto3, a session for each account, 16 threads",
                    with_sessions[0].cpu / some,
                    f"{some} accounts",
                ),
            ]
        ]
        least = 0.0
        for peer in peers.PEERS[: 1 if self.quick else None]:
            with fake_aws(peer.accounts, latency_ms=self.latency_ms) as fake:
                found = peers.measure(peer, fake)
            if isinstance(found, str):
                lines.append([peer.name, "", "", f"could not be run: {found[:120]}"])
                continue
            cpu = found[0].cpu / peer.accounts
            each = sum(found[1].values()) / peer.accounts
            how = f"{peer.accounts} accounts, {each:.1f} calls each, with its start"
            lines.append([peer.name, f"{1000 * cpu:.0f} ms", f"{cpu / ours:.0f} ×", how])
            if peer.name.startswith("c7n-org"):
                least = cpu / ours
        self.sections.append(
            "## CPU for each account\n\n"
            f"{self.latency_ms:.0f} ms a call, the median of {self.rounds} rounds, one process.\n\n"
            + table(["way", "CPU an account", "beside Rootsweep", "measured with"], lines)
        )
        cpu = ratio("floor", lambda each: each.cpu)
        wall = ratio("floor", lambda each: each.wall)
        self.row("CPU of a clean account", "≤ 3 × the floor", f"{cpu:.2f} ×", holds=cpu <= 3)
        if least:
            self.row("CPU beside c7n-org", "≥ 100 × below", f"{least:.0f} ×", holds=least >= 100)
        self.row(
            f"time for {accounts:,} accounts, one process",
            "≤ 1.3 × the floor",
            f"{wall:.2f} ×",
            holds=wall <= 1.3,
        )
        self.row("calls for a clean account", "2", f"{calls:.2f}", holds=calls == 2)

    def memory(self) -> None:
        """The most memory of a process that checks few and many accounts."""
        sizes = (100, 1000) if self.quick else (100, 1000, 10_000)
        peaks = []
        with fake_aws(sizes[-1], latency_ms=1) as fake:
            for size in sizes:
                spent = run_way(fake, "rootsweep in batches", size, CONCURRENCY)
                peaks.append(spent.peak_mib)
        flat = peaks[-1] - peaks[0] < 8 and max(peaks) < MOST_MIB
        text = ", ".join(
            f"{size:,}: {peak:.0f} MiB" for size, peak in zip(sizes, peaks, strict=True)
        )
        self.row("memory of check_accounts", "flat, under 128 MB", text, holds=flat)

    def throttling(self) -> None:
        """With token buckets at the published rates."""
        accounts = 10_000
        runs = [throttled.check(accounts)]
        if not self.quick:
            runs.append(throttled.list_and_check(accounts))
        lines = [
            [
                each.what,
                f"{each.wall:.1f} s",
                f"{each.ideal:.1f} s",
                f"{each.wall / each.ideal:.3f} ×",
                f"{each.throttled} of {each.calls}",
            ]
            for each in runs
        ]
        self.sections.append(
            f"## At the rates of AWS\n\n{accounts:,} accounts, {BATCHES_AT_ONCE} processes, "
            f"{SESSIONS_A_SECOND} sessions a second at most.\n\n"
            + table(["what", "time", "what the buckets allow", "ratio", "throttled calls"], lines)
        )
        worst = max(each.wall / each.ideal for each in runs)
        share = max(each.share for each in runs)
        self.row(
            "throttled run",
            "≤ 1.15 × the ideal, < 1 % throttled",
            f"{worst:.2f} ×, {share:.2%}",
            holds=worst <= 1.15 and share < 0.01,
        )

    def sweeps(self) -> None:
        """Whole sweeps on the embedded AWS."""
        sizes = (100,) if self.quick else (100, 1000, 10_000)
        swept = [sweep.sweep(size) for size in sizes]
        for each in swept:
            keys = -(-(each.accounts - 2) // FINDINGS)
            expected = {"total": each.accounts, "root_keys": keys, "unknown": 0}
            assert expected.items() <= each.counts.items(), each.counts
        lines = [
            [
                f"{each.accounts:,}",
                f"{each.wall:.0f} s",
                each.transitions,
                each.events,
                each.children,
                sum(each.invocations.values()),
                f"{each.gb_seconds:.0f}",
                f"{each.payload / 1024:.0f} KiB",
                f"{each.largest_payload / 1024:.1f} KiB",
            ]
            for each in swept
        ]
        names = sorted({name for each in swept for name in each.peak_mib})
        memory = [
            [name, *(f"{each.peak_mib.get(name, 0):.0f}" for each in swept)] for name in names
        ]
        self.sections.append(
            "## Whole sweeps on the embedded AWS\n\nTwo cores for everything, the pretended AWS "
            "too. Two accounts of a hundred have root keys.\n\n"
            + table(
                [
                    *("accounts", "time", "transitions", "events", "batches", "invocations"),
                    *("GB-seconds", "through states", "largest payload"),
                ],
                lines,
            )
            + "\n\nThe most memory of a process, in MiB:\n\n"
            + table(["function", *(f"{size:,}" for size in sizes)], memory)
        )
        last = swept[-1]
        growth = ""
        is_linear = True
        if len(swept) > 1:
            before = swept[-2]
            factor = (last.wall / before.wall) / (last.accounts / before.accounts)
            is_linear = factor <= 1
            growth = f", {factor:.2f} × linear"
        self.row(
            f"sweep of {last.accounts:,} accounts, embedded AWS",
            "< 5 minutes, growth at most linear",
            f"{last.wall:.0f} s{growth}",
            holds=last.wall < SWEEP_SECONDS and is_linear,
        )
        peak = max(last.peak_mib.values())
        self.row(
            f"memory of every function, {last.accounts:,} accounts",
            "under 128 MB",
            f"{peak:.0f} MiB at most",
            holds=peak < MOST_MIB,
        )

    def money(self) -> None:
        """What sweeps and months cost."""
        costs = [cost.of_a_sweep(accounts) for accounts in (100, 1000, 10_000, 50_000)]
        lines = [
            [
                f"{each.accounts:,}",
                f"${each.step_functions:.4f}",
                f"${each.functions:.4f}",
                f"${each.s3:.4f}",
                f"${each.total:.4f}",
                f"${each.config_and_security_hub:.2f}",
            ]
            for each in costs
        ]
        self.sections.append(
            "## Cost of a sweep\n\nEvery account clean; list prices without free tiers "
            "([bench/prices.py](../bench/prices.py)).\n\n"
            + table(
                ["accounts", "Step Functions", "Lambda", "S3", "all", "Config rule + Security Hub"],
                lines,
            )
        )
        ten_thousand = costs[2].step_functions + costs[2].functions
        self.row(
            "sweep of 10,000 clean accounts, Step Functions and Lambda",
            "< $0.01",
            f"${ten_thousand:.4f}",
            holds=ten_thousand < 0.01,
        )
        month = cost.of_an_idle_month()
        self.row(
            "an idle month",
            "< $1",
            f"${month:.2f}, {cost.alarm_metrics()} alarm metrics",
            holds=month < 1,
        )

    def on_aws(self) -> None:
        """The simulated sweep."""
        simulated = model.simulate()
        lines = [
            [
                f"{each.accounts:,}",
                f"{each.units:,}",
                f"{each.bound:.0f} s",
                f"{each.listed:.0f} s",
                f"{each.checked:.0f} s",
                f"{each.seconds:.0f} s",
                f"{each.seconds / each.bound:.2f} ×",
                f"{each.throttled / each.calls:.2%}",
            ]
            for each in simulated
        ]
        assumed = ", ".join(f"{name} {1000 * each:.0f} ms" for name, each in model.LATENCY.items())
        self.sections.append(
            "## Time on AWS, simulated\n\n"
            f"[bench/model.py](../bench/model.py). Assumed: {assumed}; {model.COLD_START} s for a "
            f"cold start, {model.MAP_RUN_START} s until a Map Run runs.\n\n"
            + table(
                [
                    *("accounts", "units", "bound of ListAccounts", "listed", "checked"),
                    *("report written", "beside the bound", "throttled"),
                ],
                lines,
            )
        )
        if not self.quick:
            self.sections.append(
                "## How batches, memory and concurrency were chosen\n\n"
                "The simulated sweep of 10,000 accounts with other parameters. Half of the lines "
                "have the assumption changed that weighs most: how long it takes until a Map Run "
                "runs. In bold what is deployed.\n\n"
                + table(
                    [
                        *("BatchSize", "MaxConcurrentBatches", "memory", "until a Map Run runs"),
                        *("sweep", "beside the bound", "checks in Lambda"),
                    ],
                    map(self._choice, model.choices()),
                )
            )
        for each in simulated[1:]:
            ratio = each.seconds / each.bound
            self.row(
                f"simulated sweep of {each.accounts:,} on AWS",
                "≤ 1.2 × the bound of ListAccounts",
                f"{ratio:.2f} ×",
                holds=ratio <= 1.2,
            )

    @staticmethod
    def _choice(choice: model.Choice) -> list[str]:
        swept = choice.swept
        gb_seconds = swept.checks_seconds * choice.memory_mb / 1024
        line = [
            str(choice.batch_size),
            str(choice.batches_at_once),
            f"{choice.memory_mb} MB",
            f"{choice.map_run_start:.0f} s",
            f"{swept.seconds:.0f} s",
            f"{swept.seconds / swept.bound:.2f} ×",
            f"${gb_seconds * prices.LAMBDA_ARM_GB_SECOND:.4f}",
        ]
        return [f"**{cell}**" for cell in line] if choice.is_deployed else line

    def page(self) -> None:
        """The page of an approver with many cases, and their mail."""
        cases = 1000
        done = subprocess.run(
            [sys.executable, "-m", "bench.page", str(cases)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        reads = sum(found["reads"].values())
        self.row(
            f"page of an approver with {cases:,} open cases",
            "< 300 ms, ≤ 2 reads for 100 cases",
            f"{found['ms']:.0f} ms, {reads} reads, {found['bytes'] / 1024:.0f} KiB; "
            f"embedded AWS {found['embedded_ms']:.0f} ms",
            holds=found["ms"] < PAGE_MS and reads <= 2 * cases / 100,
        )
        mail = found["mail"]
        [size] = mail["bytes"]
        calls = ", ".join(f"{count:,} {name}" for name, count in sorted(mail["calls"].items()))
        self.sections.append(
            f"## An approver with {cases:,} open cases\n\n"
            f"DynamoDB takes {1000 * model.LATENCY['DynamoDB']:.0f} ms for a call to the page, as "
            "a fake that answers again what the embedded AWS answered first. The reads of the "
            f"page: {', '.join(f'{n} {name}' for name, n in sorted(found['reads'].items()))}.\n\n"
            f"The mail about all of them is one, of {size / 1024:.0f} KiB, and takes "
            f"{mail['seconds']:.1f} s on the embedded AWS: {calls}."
        )

    def imports(self) -> None:
        """How long functions take to import."""
        lines = [
            [name, f"{1000 * imports.seconds(name, rounds=self.rounds):.0f} ms"]
            for name in imports.functions()
        ]
        self.sections.append(
            "## Imports\n\nOn this machine; most of it is boto3.\n\n"
            + table(["function", "import"], lines)
        )


def document(bench: Bench) -> str:
    """docs/performance.md."""
    marks = {True: "reached", False: "**not reached**", None: ""}
    rows = [[row.figure, row.target, row.measured, marks[row.holds]] for row in bench.rows]
    reasons = (ROOT / "bench" / "reasons.md").read_text(encoding="utf-8").strip()
    return "\n\n".join(
        [
            "# Performance",
            INTRODUCTION,
            table(["figure", "to reach", "measured", ""], rows),
            reasons,
            *bench.sections,
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--latency-ms", type=float, default=LATENCY_MS)
    parser.add_argument("sections", nargs="*", help="only these, for instance: checks money")
    given = parser.parse_args()
    bench = Bench(quick=given.quick, latency_ms=given.latency_ms)
    began = time.monotonic()
    every = ["checks", "memory", "throttling", "money", "on_aws", "page", "imports", "sweeps"]
    for name in given.sections or every:
        getattr(bench, name)()
    print(f"{time.monotonic() - began:.0f} s")
    if not given.quick and not given.sections and given.latency_ms == LATENCY_MS:
        Path(DOCUMENT).write_text(document(bench) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
