"""`python -m tests.year SEED [DAYS]`: live through one year and say how it went."""

from __future__ import annotations

import logging
import sys
import time

from .year import Year

if __name__ == "__main__":
    logging.disable()
    seed, days = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 365
    begin = time.process_time()
    counts = Year(seed, days=days).live().counts
    seconds = time.process_time() - begin
    print(f"seed {seed}, {days} days: {seconds:.1f} s of CPU, {counts}")
