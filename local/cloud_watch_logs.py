"""What CloudWatch Logs Insights does and MiniStack does not.

Source: CloudWatch Logs User Guide, "SOURCE", "display", "filter", "Supported logs and discovered
fields".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ministack.services import cloudwatch_logs as logs

if TYPE_CHECKING:
    from collections.abc import Callable

_original_resolve_log_groups = logs._resolve_query_log_groups
_original_fields = logs._parse_insights_fields
_original_filter = logs._compile_insights_filter
_original_public_record = logs._public_log_record


def install() -> None:
    logs._resolve_query_log_groups = resolve_log_groups
    logs._parse_insights_fields = fields
    logs._compile_insights_filter = compile_filter
    logs._public_log_record = public_record


def resolve_log_groups(data: dict[str, Any]) -> list[str]:
    """The log groups of a query; those of `SOURCE logGroups(namePrefix: [...])` by their names."""
    first, *_ = logs._split_insights_pipes(data.get("queryString", "")) or [""]
    source = re.fullmatch(r"SOURCE logGroups\(namePrefix: \[(.+)\]\)", first)
    if source is None:
        found: list[str] = _original_resolve_log_groups(data)
        return found
    prefixes = tuple(re.findall(r"'([^']*)'", source[1]))
    return [name for name in logs._log_groups if name.startswith(prefixes)]


def fields(query: str) -> list[str]:
    """What a query shows: the fields of its last `display`, if it has one."""
    displays = [
        stage.split(None, 1)[1]
        for stage in logs._split_insights_pipes(query)
        if stage.startswith("display ")
    ]
    if not displays:
        found: list[str] = _original_fields(query)
        return found
    return [*(name.strip() for name in displays[-1].split(",")), "@ptr"]


def compile_filter(stage: str) -> Callable[[dict[str, Any]], bool] | None:
    """A filter by a field that was discovered, too."""
    match = re.fullmatch(r"filter (\w+) = '([^']*)'", stage.strip())
    if match is None:
        found: Callable[[dict[str, Any]], bool] | None = _original_filter(stage)
        return found
    name, value = match.groups()
    return lambda record: public_record(record).get(name) == value


def public_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the fields of its message, if that is JSON; "@" is for AWS's own."""
    found: dict[str, Any] = _original_public_record(record)
    try:
        message = json.loads(found.get("@message", ""))
    except ValueError:
        return found
    return {**message, **found} if isinstance(message, dict) else found
