"""Years run in processes of their own: simulated time is put into the modules of the product."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessPoolExecutor]:
    # A year leaves garbage behind, so a process lives through a few only.
    with ProcessPoolExecutor(
        max_workers=os.cpu_count(),
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=10,
    ) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)
