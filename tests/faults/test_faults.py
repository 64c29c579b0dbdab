"""A part of `make faults`, always the same one; docs/faults.md has all of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from . import mutants
from .__main__ import Matrix, try_stories
from .matrix import deployed
from .soak import Soak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .world import World


# Of these the cells are, for a life of each takes seconds before the first of them can begin.
SCENARIOS = ("approve", "decline", "by hand", "woken")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with deployed() as world:
        yield world


# First, for its ledger is of everything that ever happened on the stack.
def test_sweeps_and_their_cases_add_up_and_nothing_grows(world: World) -> None:
    soak = Soak(world, 4, parts=2)
    soak.run()

    assert soak.problems() == []
    assert len(soak.cases) == 8
    assert len(soak.parts) == 2


def test_calls_fail_and_nothing_is_lost_deleted_or_called_clean(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    matrix = Matrix(count=12)
    matrix.try_in(world, SCENARIOS)

    assert matrix.wrong == []
    assert len(matrix.labels) == 12


def test_stories_keep_every_promise() -> None:
    assert try_stories(30) == ""


def test_for_each_safeguard_that_is_taken_out_a_test_complains() -> None:
    assert len(mutants.MUTANTS) >= 20
    for mutant in mutants.MUTANTS:
        text = (mutants.REPOSITORY / mutant.file).read_text(encoding="utf-8")
        assert mutant.is_now in text, mutant.safeguard
    assert [
        mutant.safeguard for mutant, test in mutants.run_all(mutants.MUTANTS[3::18]) if not test
    ] == []
