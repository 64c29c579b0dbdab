"""Years run in processes of their own: simulated time is put into the modules of the product."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Lived(NamedTuple):
    """How a year went: whether every promise was kept, and what there is to tell."""

    is_good: bool
    story: str


def live(seed: int, days: int, sabotage: str = "") -> Lived:
    done = subprocess.run(
        [sys.executable, "-m", "tests.year", str(seed), str(days), sabotage],
        capture_output=True,
        text=True,
        check=False,
    )
    return Lived(done.returncode == 0, done.stdout or done.stderr)


@pytest.fixture(scope="session")
def begin() -> Iterator[Callable[..., Future[Lived]]]:
    """Begins a year: `begin(seed, days, sabotage)`; as many at once as there are processors."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield lambda *given: pool.submit(live, *given)
        pool.shutdown(cancel_futures=True)
