"""CloudWatch Logs Insights as AWS documents it, where MiniStack alone answers differently."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Aws

LINES = {
    "/aws/lambda/one/a": [{"case_id": "1", "level": "ERROR", "message": "first"}, "no JSON"],
    "/aws/lambda/one/b": [{"case_id": "1", "message": "second"}, {"case_id": "2", "message": "no"}],
    "/aws/lambda/other/a": [{"case_id": "1", "message": "of another stack"}],
}


@pytest.fixture(scope="module")
def logs(aws: Aws) -> Any:
    """A client, and log groups with some lines, each a second after the one before."""
    logs, at = aws.client("logs"), int(time.time() * 1000) - 60_000
    for group, lines in LINES.items():
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="it")
        for line in lines:
            at += 1000
            text = line if isinstance(line, str) else json.dumps(line)
            event = {"timestamp": at, "message": text}
            logs.put_log_events(logGroupName=group, logStreamName="it", logEvents=[event])
    return logs


def ask(logs: Any, query: str, **more: Any) -> list[dict[str, str]]:
    now = int(time.time())
    started = logs.start_query(startTime=now - 600, endTime=now, queryString=query, **more)
    answer = logs.get_query_results(queryId=started["queryId"])
    assert answer["status"] == "Complete"
    return [{each["field"]: each["value"] for each in row} for row in answer["results"]]


def test_source_names_the_groups_by_how_their_names_begin(logs: Any) -> None:
    """ "SOURCE": namePrefix; "Supported logs and discovered fields": those of JSON."""
    found = ask(
        logs,
        "SOURCE logGroups(namePrefix: ['/aws/lambda/one/']) | filter case_id = '1'"
        " | sort @timestamp | display @log, level, message",
    )

    shown = [(row["@log"][-1], row["level"], row["message"]) for row in found]
    assert shown == [("a", "ERROR", "first"), ("b", "", "second")]
    assert {"@log", "level", "message", "@ptr"} == found[0].keys()


def test_groups_that_are_given_are_asked_as_before(logs: Any) -> None:
    found = ask(
        logs, "fields @message | filter @message like /no/", logGroupName="/aws/lambda/one/a"
    )
    assert [row["@message"] for row in found] == ["no JSON"]
