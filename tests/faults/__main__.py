"""`make faults`: the matrix, the stories and the mutants; exit code 1 if anything does not hold.

`python -m tests.faults [--quick] [--again] [WORD ...]`.

All of it, without words, also writes docs/faults.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from local.faults import Kind
from local.stack import STATE

from . import document, matrix, mutants
from .expected import expected
from .verdict import DEAD_LETTER, NOTHING_FAILED, SAME, gets_over, label, problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .scenarios import Story
    from .world import World

STORIES = 1000
IN_PROCESS = "tests/unit/test_streams_for_ever.py"


def try_matrix(
    world: World, *, count: int = 0, words: Sequence[str] = (), again: bool = False
) -> tuple[dict[matrix.Cell, str], list[str], list[matrix.Cell]]:
    """What came of each cell; what must not be; which cells are not for the deployed stack.

    `.local/faults.jsonl` gets the whole story of each. `again` goes on from there: what held is not
    tried once more.
    """
    wrong: list[str] = []
    base = matrix.without_faults(world)
    all_cells = matrix.cells_of(base.calls)
    held = _held() if again else {}
    # Of cells that are none any more nothing is said.
    labels = {cell: held[cell] for cell in all_cells if cell in held}
    cells = [cell for cell in all_cells if cell.is_deployed]
    if words:
        cells = [cell for cell in cells if any(word in str(cell) for word in words)]
    cells = [cell for cell in cells if cell not in labels]
    elsewhere = [cell for cell in all_cells if not cell.is_deployed]
    if count:
        cells = matrix.sample(cells, count)
    print(f"{len(cells)} cells", flush=True)
    STATE.mkdir(exist_ok=True)
    with (STATE / "faults.jsonl").open("a" if again else "w") as file:

        def done(cell: matrix.Cell, story: Story, is_last: bool) -> None:
            before = base.stories[cell.scenario]
            # A life in which nothing has failed goes as without faults.
            found = problems(cell, story, before, expected(cell) if is_last else SAME)
            if not is_last:
                found = [each for each in found if each != NOTHING_FAILED]
                if not found:
                    return
            labels[cell] = label(story, before)
            entry = {"cell": cell, "label": labels[cell], "problems": found, "story": vars(story)}
            print(json.dumps(entry), file=file, flush=True)
            if found:
                wrong.append(f"{cell}: {'; '.join(found)}")
                print(wrong[-1][:400], flush=True)

        matrix.run(world, cells, done)
    return labels, wrong, elsewhere


def _held() -> dict[matrix.Cell, str]:
    """The cells of the last run that held, with what came of them."""
    labels: dict[matrix.Cell, str] = {}
    for line in (STATE / "faults.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        scenario, function, operation, kind, is_permanent, about, after = entry["cell"]
        cell = matrix.Cell(scenario, function, operation, Kind(kind), is_permanent, about, after)
        labels.pop(cell, None)
        if not entry["problems"]:
            labels[cell] = entry["label"]
    return labels


def try_in_process(cells: list[matrix.Cell]) -> dict[matrix.Cell, str]:
    """What comes of cells that would take hours on the deployed stack; nothing if a test fails.

    As many tests as there are cells: none of these is left out.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "--no-header", IN_PROCESS],
        capture_output=True,
        text=True,
        check=False,
    )
    if f"{len(cells)} passed" not in done.stdout:
        print(done.stdout[-2000:])
        return {}
    return {cell: SAME if gets_over(cell) else DEAD_LETTER for cell in cells}


def try_stories(runs: int) -> str:
    """The shortest story that breaks a promise, or ""."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.year.stories", str(runs)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", action="store_true", help="only cells that did not hold")
    parser.add_argument("words", nargs="*", help="only cells that have one of them")
    given = parser.parse_args()
    logging.disable()
    began = time.monotonic()
    with matrix.deployed() as world:
        count = 24 if given.quick else 0
        labels, wrong, elsewhere = try_matrix(
            world, count=count, words=given.words, again=given.again
        )
    print(document.table(labels))
    print(f"{len(labels)} cells, {len(wrong)} do not hold; {time.monotonic() - began:.0f} s")
    if given.words:
        return bool(wrong)
    in_process = try_in_process(elsewhere)
    print(f"{len(in_process)} of {len(elsewhere)} cells in process")
    runs = STORIES // 20 if given.quick else STORIES
    broken = try_stories(runs)
    print(broken or f"{runs} stories keep every promise; {time.monotonic() - began:.0f} s")
    chosen = mutants.MUTANTS[::6] if given.quick else mutants.MUTANTS
    found = mutants.run_all(chosen)
    for mutant, test in found:
        print(f"without {mutant.safeguard}: {test or 'NO TEST COMPLAINS'}")
    if not given.quick and not broken:
        document.write(labels, in_process=in_process, wrong=len(wrong), stories=runs, mutants=found)
    print(f"{time.monotonic() - began:.0f} s")
    is_whole = len(in_process) == len(elsewhere) and all(test for _, test in found)
    return bool(wrong or broken or not is_whole)


if __name__ == "__main__":
    sys.exit(main())
