"""`make faults` tries all of this; a part of it beside the other tests only if it is asked for."""

import os

collect_ignore = [] if os.environ.get("FAULTS") else ["test_faults.py"]
