"""The kill switch in memory, as a client for SSM that knows one parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class KillSwitch:
    """A switch that is off, until it is put to something else."""

    def __init__(self) -> None:
        self.value = "off"
        self.version = 1
        self.reads = 0
        self.fails_with: Exception | None = None
        self.before_reading: Callable[[], object] = lambda: None

    def put(self, value: str) -> None:
        """What somebody does who changes the parameter."""
        self.value = value
        self.version += 1

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        assert Name == "/rootsweep/kill-switch"
        self.reads += 1
        self.before_reading()
        if self.fails_with:
            raise self.fails_with
        return {"Parameter": {"Name": Name, "Value": self.value, "Version": self.version}}
