"""`make faults`: the matrix, the stories and the mutants; exit code 1 if anything does not hold.

`python -m tests.faults [--again] [WORD ...]`; a part of it is in test_faults.py.

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
from .expected import expected, expected_without
from .verdict import DEAD_LETTER, NOTHING_FAILED, SAME, gets_over, label, problems

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .scenarios import Story
    from .world import World

STORIES = 1000
IN_PROCESS = "tests/unit/test_streams_for_ever.py"


class Matrix:
    """What came of each cell, what must not be, and which cells are not for the deployed stack.

    `.local/faults.jsonl` gets the whole story of each. `again` goes on from there: what held is not
    tried once more. `count` is for a sample, `words` for cells that have one of them.
    """

    def __init__(self, *, count: int = 0, words: Sequence[str] = (), again: bool = False) -> None:
        self.labels: dict[matrix.Cell, str] = {}
        self.wrong: list[str] = []
        self.elsewhere: list[matrix.Cell] = []
        self._count = count
        self._words = words
        self._held = _held() if again else {}
        self.known: set[matrix.Call] = set()
        STATE.mkdir(exist_ok=True)
        self._file = STATE / "faults.jsonl"
        if not again:
            self._file.write_text("")

    def try_on(self, settings: matrix.Settings) -> None:
        """Try the cells of the scenarios that are for this stack, and deploy it for them."""
        with matrix.deployed(settings) as world:
            self.try_in(world, settings.scenarios)

    def try_in(self, world: World, scenarios: Collection[str]) -> None:
        """The same on a stack that is there."""
        base = matrix.without_faults(world, scenarios)
        found = matrix.cells_of(base.calls, self.known)
        if "approve" in base.stories:
            found += matrix.storms()
        self.known |= {(cell.function, cell.operation, cell.about) for cell in found}
        # Of cells that are none any more nothing is said.
        self.labels |= {cell: self._held[cell] for cell in found if cell in self._held}
        self.elsewhere += [cell for cell in found if not cell.is_deployed]
        cells = [cell for cell in found if cell.is_deployed and cell not in self.labels]
        if self._words:
            cells = [cell for cell in cells if any(word in str(cell) for word in self._words)]
        if self._count:
            cells = matrix.sample(cells, self._count)
        print(f"{len(cells)} cells", flush=True)
        with self._file.open("a") as file:

            def done(cell: matrix.Cell, story: Story, is_last: bool) -> None:
                before = base.stories[cell.scenario]
                # A life in which nothing has failed goes as without faults.
                wanted = expected(cell) if is_last and story.hits else expected_without(cell)
                wrong = problems(cell, story, before, wanted)
                if not is_last or (cell.may_not_come and not story.hits):
                    wrong = [each for each in wrong if each != NOTHING_FAILED]
                    if not wrong:
                        return
                self.labels[cell] = label(story, before)
                entry = {"cell": cell, "label": self.labels[cell], "problems": wrong}
                print(json.dumps({**entry, "story": vars(story)}), file=file, flush=True)
                if wrong:
                    self.wrong.append(f"{cell}: {'; '.join(wrong)}")
                    print(self.wrong[-1][:400], flush=True)

            matrix.run(world, cells, done)


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
    parser.add_argument("--again", action="store_true", help="only cells that did not hold")
    parser.add_argument("words", nargs="*", help="only cells that have one of them")
    given = parser.parse_args()
    logging.disable()
    began = time.monotonic()
    tried = Matrix(words=given.words, again=given.again)
    for settings in (matrix.USUAL, matrix.OTHER):
        tried.try_on(settings)
    print(document.table(tried.labels))
    print(f"{len(tried.labels)} cells, {len(tried.wrong)} do not hold; {_seconds(began)}")
    if given.words:
        return bool(tried.wrong)
    untried = matrix.never_called(tried.known) ^ matrix.NEVER_CALLED
    print(f"never called, or called after all: {untried}" if untried else "every call is tried")
    in_process = try_in_process(tried.elsewhere)
    print(f"{len(in_process)} of {len(tried.elsewhere)} cells in process")
    broken = try_stories(STORIES)
    print(broken or f"{STORIES} stories keep every promise; {_seconds(began)}")
    found = mutants.run_all(mutants.MUTANTS)
    for mutant, test in found:
        print(f"without {mutant.safeguard}: {test or 'NO TEST COMPLAINS'}")
    if not broken:
        document.write(
            tried.labels,
            in_process=in_process,
            wrong=len(tried.wrong),
            stories=STORIES,
            mutants=found,
        )
    print(_seconds(began))
    is_whole = len(in_process) == len(tried.elsewhere) and all(test for _, test in found)
    return bool(tried.wrong or untried or broken or not is_whole)


def _seconds(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
