"""How long each function takes to import, which is most of its cold start."""

from __future__ import annotations

import os
import subprocess
import sys

from .measure import ROOT, median
from .settings import TEMPLATE

TIMED = """\
import time
began = time.perf_counter()
import {name}
print(time.perf_counter() - began)
"""


def functions() -> list[str]:
    """The files of the functions, without `.py`."""
    return sorted(path.stem for path in (ROOT / "functions").glob("*.py"))


def seconds(name: str, *, rounds: int) -> float:
    """The median of so many imports, each in a new process."""
    variables = {
        variable
        for resource in TEMPLATE["Resources"].values()
        for variable in resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
        if resource["Type"] == "AWS::Serverless::Function"
    }
    environment = dict.fromkeys(variables, "1") | {
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "functions"),
    }
    command = [sys.executable, "-c", TIMED.format(name=name)]
    times = [
        float(
            subprocess.run(
                command, env=environment, cwd="/", check=True, capture_output=True, text=True
            ).stdout
        )
        for _ in range(rounds)
    ]
    return median(times)


if __name__ == "__main__":
    for each in functions():
        print(f"{each:28} {1000 * seconds(each, rounds=3):6.0f} ms")
