"""A year in the life, for some seeds. `YEAR_SEEDS=200` tries so many, `YEAR_SEED=17` this one.

`YEAR_DAYS` makes a year shorter. `python -m tests.year 17` lives through one without pytest.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .sabotage import SABOTAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from .conftest import Lived

DAYS = int(os.environ.get("YEAR_DAYS", "365"))
COUNT = int(os.environ.get("YEAR_SEEDS", "0"))


def seeds() -> list[int]:
    """The seeds to try: the one, so many, or two that are always the same and one that is not."""
    if "YEAR_SEED" in os.environ:
        return [int(os.environ["YEAR_SEED"])]
    if COUNT:
        return list(range(1, COUNT + 1))
    # All processes of a run of pytest collect the same.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or random.SystemRandom().randbytes(4).hex()
    return [2, 3, random.Random(run).randrange(1000, 1_000_000)]


SEEDS = seeds()


@pytest.fixture(scope="module")
def years(begin: Callable[..., Future[Lived]]) -> dict[int, Future[Lived]]:
    """All of them, begun at once."""
    return {seed: begin(seed, DAYS) for seed in SEEDS}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_year_keeps_every_promise(years: dict[int, Future[Lived]], seed: int) -> None:
    lived = years[seed].result()
    print(lived.story)
    assert lived.is_good, lived.story


def test_a_year_has_one_course() -> None:
    """A seed can be repeated: nothing depends on the order of sets, which processes differ in."""
    command = [sys.executable, "-m", "tests.year", "4", "30"]
    running = [
        subprocess.Popen(
            command,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    first, second = (process.communicate()[0] for process in running)
    assert "course" in first
    assert first == second


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_broken_promise_is_found(begin: Callable[..., Future[Lived]], name: str) -> None:
    """The test can fail: whatever is taken out of the product is missed, sooner or later.

    Each call that the product makes or leaves out changes what happens when in a year.
    """
    lives = (begin(seed, 60, name).result() for seed in range(2, 6))
    lived = next((each for each in lives if not each.is_good), None)
    assert lived, "nobody missed it"
    assert SABOTAGE[name].says in lived.story
    assert "Repeat it with" in lived.story
