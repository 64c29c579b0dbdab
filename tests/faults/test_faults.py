"""A part of `make faults`, always the same one; docs/faults.md has all of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import mutants
from .__main__ import try_matrix, try_stories

if TYPE_CHECKING:
    import pytest


def test_calls_fail_and_nothing_is_lost_deleted_or_called_clean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    labels, wrong, _ = try_matrix(count=16)

    assert wrong == []
    assert len(labels) == 16


def test_stories_keep_every_promise() -> None:
    assert try_stories(30) == ""


def test_for_each_safeguard_that_is_taken_out_a_test_complains() -> None:
    assert len(mutants.MUTANTS) >= 20
    assert [
        mutant.safeguard for mutant, test in mutants.run_all(mutants.MUTANTS[3::12]) if not test
    ] == []
