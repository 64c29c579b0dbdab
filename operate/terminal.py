"""What commands print: for people on a terminal, for files and pipes, and as JSON for scripts."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Account states, in the order of tables, case outcomes, and what doctor says of a precondition.
STYLES = {
    "ROOT_KEYS": "red",
    "UNKNOWN": "yellow",
    "EXCEPTED": "yellow",
    "CLEAN": "green",
    "SKIPPED": "dim",
    "REMEDIATED": "green",
    "RESOLVED": "green",
    "FAILED": "red",
    "ESCALATED": "red",
    "DECLINED": "yellow",
    "AWAITING_APPROVAL": "cyan",
    "AWAITING_REMOVAL": "cyan",
    "FINE": "green",
    "BROKEN": "red",
    "NOTE": "cyan",
    "WAITS": "dim",
}
# Nothing is cut where no screen is: whoever reads a file or a pipe wants all of a line.
WIDE = 1000


def printed() -> Console:
    """Where answers go: stdout."""
    return _console()


def said() -> Console:
    """Where everything else goes: stderr, so that a script finds nothing but answers on stdout."""
    return _console(stderr=True)


def print_json(value: Any) -> None:
    """Print an answer as JSON, of which a terminal shows no character that does not print."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def word(state: str) -> Text:
    """An account state, a case outcome or the like, in its colour."""
    return Text(state, style=STYLES.get(state, ""))


def text(value: object, limit: int = 200, style: str = "") -> Text:
    """Text from outside, of which nothing is markup and nothing moves the cursor."""
    return Text(plain(value, limit), style=style)


def table(headings: Sequence[str], rows: Sequence[Sequence[Text | str]]) -> Table:
    """A table whose last column is wrapped; the others are whole, however narrow the screen is."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    *others, last = zip(headings, *rows, strict=True)
    for heading, *cells in others:
        width = max(cell_len(str(cell)) for cell in (heading, *cells))
        made.add_column(heading, no_wrap=True, min_width=width)
    made.add_column(last[0], overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def pairs(rows: Iterable[tuple[Text | str, Text | str]]) -> Table:
    """Names and values, of which the values are wrapped."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="bold", min_width=9)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value if isinstance(value, Text) else text(value, limit=1000))
    return made


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the exit code to the command: that of Rich's own, 1, is that of a finding."""
        raise  # Rich calls this while it handles the BrokenPipeError.


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE
    return _Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
