"""Writes the part of docs/faults.md that `make faults` finds out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from local.faults import Kind
from tests.contract.shipped import REPOSITORY

from .matrix import LATER_CALLS
from .verdict import (
    ASKED_AGAIN,
    BY_HAND,
    DEAD_LETTER,
    DEATHS,
    EXECUTION_FAILED,
    HELD,
    REFUSED,
    SAME,
    STAYS_BLOCKED,
    UNWARNED,
    WAITS,
    WOKEN_LATE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .matrix import Cell
    from .mutants import Mutant

DOCUMENT = REPOSITORY / "docs" / "faults.md"
# What stands before these in the document is written by hand; each part goes up to the next mark.
MARK = "<!-- Made by `{}`. -->\n"
SIGNS = {
    SAME: "=",
    "sweep FAILED": "S",
    "UNKNOWN": "U",
    "FAILED": "F",
    "AWAITING_APPROVAL": "O",
    DEAD_LETTER: "D",
    STAYS_BLOCKED: "B",
    UNWARNED: "W",
    REFUSED: "P",
    WAITS: "L",
    ASKED_AGAIN: "A",
    BY_HAND: "H",
    HELD: "K",
    WOKEN_LATE: "N",
    EXECUTION_FAILED: "X",
}


def table(labels: Mapping[Cell, str]) -> str:
    """A row for each operation of each function; in each field what came of a fault that passed,
    then of one that stayed."""
    rows: dict[tuple[str, str, str, int], dict[Kind, list[str]]] = {}
    for cell, label in sorted(labels.items(), key=lambda each: str(each[0])):
        if cell.is_storm or _is_later_death(cell):
            continue
        row = rows.setdefault((cell.function, cell.operation, cell.about, cell.after), {})
        fields = row.setdefault(cell.kind, ["·", "·"])
        fields[cell.is_permanent] = SIGNS.get(label, label)
    kinds = list(Kind)
    lines = [
        f"| Function, operation | {' | '.join(kind.replace('_', ' ') for kind in kinds)} |",
        f"| --- |{' --- |' * len(kinds)}",
    ]
    for (function, operation, about, after), row in sorted(rows.items()):
        name = f"{function.removesuffix('Function')} `{operation}`"
        name += f", call {after + 1}" if after else ""
        name += f" {about.removesuffix('Function')}" if about else ""
        fields_of = [" ".join(row[kind]) if kind in row else "" for kind in kinds]
        lines.append(f"| {name} | {' | '.join(fields_of)} |")
    return "\n".join(lines) + "\n"


def _is_later_death(cell: Cell) -> bool:
    """Whether it kills a function at a call at which nothing else is tried."""
    tried = LATER_CALLS.get((cell.function, cell.operation), 0)
    return cell.after > tried and cell.kind in DEATHS and not cell.is_storm


def later_deaths(labels: Mapping[Cell, str]) -> str:
    """A row for each operation: how many calls there are, and what came of a death at each.

    A call that did not come has its place, so that what stands there is of the call it seems to be.
    """
    rows: dict[tuple[str, str], dict[Kind, dict[int, str]]] = {}
    for cell, label in labels.items():
        if _is_later_death(cell):
            row = rows.setdefault((cell.function, cell.operation), {})
            row.setdefault(cell.kind, {})[cell.after] = SIGNS.get(label, label)
    lines = ["| Function, operation | Calls | crash | crash done |", "| --- | --- | --- | --- |"]
    for (function, operation), row in sorted(rows.items()):
        numbers = set().union(*row.values())
        calls = range(min(numbers), max(numbers) + 1)
        signs = [
            " ".join(row[kind].get(number, "·") for number in calls) if kind in row else ""
            for kind in DEATHS
        ]
        name = f"{function.removesuffix('Function')} `{operation}`"
        lines.append(f"| {name} | {calls[0] + 1} to {calls[-1] + 1} | {' | '.join(signs)} |")
    return "\n".join(lines) + "\n"


def storms(labels: Mapping[Cell, str]) -> str:
    """A row for each kind of fault, and how many storms of it came to what."""
    rows: dict[Kind, Counter[str]] = {}
    for cell, label in labels.items():
        if cell.is_storm:
            rows.setdefault(cell.kind, Counter())[SIGNS.get(label, label)] += 1
    signs = sorted({sign for found in rows.values() for sign in found})
    lines = [f"| Fault | {' | '.join(signs)} |", f"| --- |{' --- |' * len(signs)}"]
    for kind in Kind:
        if kind in rows:
            counts = " | ".join(str(rows[kind][sign] or "") for sign in signs)
            lines.append(f"| {kind.replace('_', ' ')} | {counts} |")
    return "\n".join(lines) + "\n"


def write(
    labels: Mapping[Cell, str],
    *,
    in_process: Mapping[Cell, str],
    wrong: int,
    stories: int,
    mutants: Sequence[tuple[Mutant, str]],
) -> None:
    """The latest results, on the deployed stack and `in_process`."""
    storm_count = sum(cell.is_storm for cell in labels)
    cells = len(labels) - storm_count
    share = cells / (cells + len(in_process))
    mutant_rows = [
        f"| {mutant.safeguard} | `{mutant.file.rpartition('/')[2]}` | `{test or 'none'}` |"
        for mutant, test in mutants
    ]
    text = f"""
## The matrix

{cells} cells on the deployed stacks, {share:.1%} of all; {len(in_process)} in process. Of all of \
these, and of the storms, {wrong} do not hold.

{table({**labels, **in_process})}
The later calls of an operation, at each of which the function is killed once:

{later_deaths(labels)}
## Storms

{storm_count} accounts, of whose calls one in ten fails, whatever it is; the seed of each storm \
says which.

{storms(labels)}
## Stories

{stories} stories of up to 25 steps, against the same watch as the simulated years: none broke a \
promise.

## Safeguards that were taken out

| Safeguard | File | The first test that complains |
| --- | --- | --- |
{chr(10).join(mutant_rows)}
"""
    _replace("make faults", text)


def write_soak(rows: Sequence[str], *, sweeps: int, cases: int, problems: int) -> None:
    """The latest soak: a row for each part of it."""
    lines = "\n".join(rows)
    text = f"""
## The soak

{sweeps} sweeps and {cases} cases over one stack; {problems} problems. The embedded AWS keeps \
everything that ever happened in its memory; the functions' processes must not.

| Sweeps | Seconds | Processes of functions | The largest, MiB | Most open files | Calls a sweep \
| of them reads of a table | The embedded AWS, MiB |
| --- | --- | --- | --- | --- | --- | --- | --- |
{lines}

"""
    _replace("make soak", text)


def _replace(command: str, text: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    before, mark, rest = document.partition(MARK.format(command))
    _, next_mark, after = rest.partition(MARK.partition("{")[0])
    DOCUMENT.write_text(before + mark + text + next_mark + after, encoding="utf-8")
