"""A part of `make faults`, always the same one; docs/faults.md has all of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from local.faults import Kind

from . import document, matrix, mutants
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
    part = Matrix(count=12)
    part.try_in(world, SCENARIOS)

    assert part.wrong == []
    assert len(part.labels) == 12


def test_the_part_is_the_same_however_often_others_wrote_at_the_same_moment() -> None:
    def part(calls: int) -> list[matrix.Cell]:
        of = {"approve": {"LogDecisionsFunction": {"dynamodb:UpdateItem": calls}}}
        return matrix.sample(matrix.cells_of(of), 12)

    assert part(9) == part(1)


def test_a_call_that_did_not_come_has_its_place_in_the_row_of_its_operation() -> None:
    first = matrix.Cell("approve", "LogDecisionsFunction", "events:PutEvents", Kind.CRASH, False)
    came = [
        first._replace(after=3),
        *(first._replace(kind=Kind.CRASH_DONE, after=after) for after in (1, 2, 4)),
    ]

    rows = document.later_deaths(dict.fromkeys(came, document.SAME)).splitlines()

    assert rows[2:] == ["| LogDecisions `events:PutEvents` | 2 to 5 | · · = · | = = · = |"]


def test_of_an_operation_of_which_only_one_death_came_there_is_a_row() -> None:
    cell = matrix.Cell(
        "approve", "LogDecisionsFunction", "s3:PutObject", Kind.CRASH_DONE, False, "", 1
    )

    rows = document.later_deaths({cell: document.SAME}).splitlines()

    assert rows[2:] == ["| LogDecisions `s3:PutObject` | 2 to 2 |  | = |"]


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
