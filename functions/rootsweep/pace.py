"""How fast AWS is asked, where it says how fast it may be."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Pace:
    """Lets calls through at a rate, from any number of threads: a token bucket, as AWS throttles.

    Who keeps to a rate is hardly ever throttled; who finds it out by being throttled asks for
    nothing a good part of the time, and waits longer than needed for the rest.
    """

    def __init__(self, per_second: float, *, burst: float = 1) -> None:
        """`burst` is how many calls may come at once after a while without any."""
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) * self._interval
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self, at_most: float = math.inf) -> bool:
        """Return True when it is the turn of the next call.

        Returns False at once, and takes no turn, if that is more than so many seconds away.
        """
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now - self._tolerance)
            if turn - now > at_most:
                return False
            self._next = turn + self._interval
        if turn > now:
            time.sleep(turn - now)
        return True

    def paced(self, pages: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The pages of a paginator, each asked for when it is its turn."""
        self.wait()
        for page in pages:
            yield page
            if page.get("NextToken"):
                self.wait()
