"""What the template says, so that nothing is measured with other numbers than are deployed."""

from __future__ import annotations

from typing import Any

from samtranslator.yaml_helper import yaml_parse

from .measure import ROOT

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())


def default(parameter: str) -> int:
    """The default of a number among the parameters."""
    return int(TEMPLATE["Parameters"][parameter]["Default"])


BATCH_SIZE = default("BatchSize")
BATCHES_AT_ONCE = default("MaxConcurrentBatches")
SESSIONS_AT_ONCE = default("MaxConcurrentSessions")
SESSIONS_A_SECOND = default("MaxSessionsPerSecond")


def memory_of(function: str) -> int:
    """The memory of the function of this name, in MB."""
    properties = TEMPLATE["Resources"][f"{function}Function"]["Properties"]
    return int(properties.get("MemorySize", TEMPLATE["Globals"]["Function"]["MemorySize"]))
