"""What AWS Lambda does for Python functions, on the embedded AWS."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.embedded.conftest import Aws

LOGGING = """
import logging

log = logging.getLogger()

def handler(event, context):
    log.debug("too much")
    log.info("hello %s", "you", extra={"case_id": "a-case"})
    log.warning("look out")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it broke")
    return context.aws_request_id
"""


def lines(aws: Aws, **logging: str) -> list[dict[str, Any]]:
    """What an invocation of a function with this LoggingConfig logs."""
    name = f"logging-{logging.get('ApplicationLogLevel', 'default')}"
    group = f"/logs/{name}"
    function = aws.function(name, LOGGING)
    aws.client("lambda").update_function_configuration(
        FunctionName=function,
        LoggingConfig={"LogFormat": "JSON", "LogGroup": group, **logging},
    )
    answer = aws.client("lambda").invoke(FunctionName=function)
    request_id = json.load(answer["Payload"])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        events = aws.client("logs").filter_log_events(logGroupName=group)["events"]
        found = [json.loads(each["message"]) for each in events if each["message"][0] == "{"]
        if found:
            assert {each["requestId"] for each in found} == {request_id}
            return found
        time.sleep(0.1)
    raise AssertionError("nothing was logged")


def test_lines_are_json_with_what_they_carry_beside_the_message(aws: Aws) -> None:
    """ "Working with Lambda function logs in Python", "Using the logging library"."""
    hello, _, broke = lines(aws)

    assert hello["message"] == "hello you"
    assert (hello["level"], hello["logger"], hello["case_id"]) == ("INFO", "root", "a-case")
    assert hello.keys() == {"timestamp", "level", "message", "logger", "requestId", "case_id"}
    assert (broke["level"], broke["errorType"]) == ("ERROR", "ValueError")
    assert broke["errorMessage"] == "broken"
    assert "handler.py" in broke["stackTrace"][0]


@pytest.mark.parametrize(("level", "count"), [("INFO", 3), ("WARN", 2), ("ERROR", 1)])
def test_nothing_is_logged_below_the_level_of_the_function(
    aws: Aws, level: str, count: int
) -> None:
    """ "Configuring advanced logging controls", "Log-level filtering"."""
    assert len(lines(aws, ApplicationLogLevel=level)) == count
