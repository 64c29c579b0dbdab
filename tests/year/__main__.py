"""`python -m tests.year SEED [DAYS [SABOTAGE]]`: live through one year and say how it went."""

from __future__ import annotations

import sys
import time

from rootsweep import reports

from .year import live

if __name__ == "__main__":
    # What the reports of a thousand sweeps look like is nothing that a year shows, and slow.
    reports.csv_of = reports.page = lambda *_, **__: ""
    seed, days = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 365
    sabotage = sys.argv[3] if len(sys.argv) > 3 else ""
    begin = time.process_time()
    story, counts = live(seed, days=days, sabotage=sabotage)
    print(f"{time.process_time() - begin:.1f} s of CPU", file=sys.stderr)
    print(story or f"seed {seed}, {days} days: {counts}")
    sys.exit(bool(story))
