"""How calls fail that get no answer: in time, and with the name of the operation."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from rootsweep import calls


def test_a_connection_that_fails_says_which_operation_it_was() -> None:
    once = calls.CALLS.merge(Config(retries={"mode": "standard", "total_max_attempts": 2}))
    session = boto3.Session(botocore_session=calls.session())
    table = session.client("dynamodb", region_name="us-east-1", config=once)
    tried = []

    def break_off(**_: object) -> None:
        tried.append("")
        raise ConnectionClosedError(endpoint_url="https://dynamodb")

    table.meta.events.register("before-send", break_off)
    with pytest.raises(ConnectionClosedError) as told:
        table.get_item(TableName="cases", Key={})
    assert len(tried) == 2
    assert str(told.value).startswith("GetItem: Connection was closed")
    assert str(told.value).count("GetItem") == 1


def test_an_error_of_aws_names_its_operation_itself() -> None:
    error = ClientError({"Error": {"Code": "Throttling", "Message": "slow"}}, "GetItem")
    before = str(error)
    calls._name_operation(caught_exception=error, operation=None)

    assert str(error) == before


def test_no_call_outlasts_the_functions_that_have_half_a_minute() -> None:
    backoff = sum(2**attempt for attempt in range(calls.CALLS.retries["total_max_attempts"] - 1))  # type: ignore[attr-defined]
    longest = calls.CALLS.read_timeout * calls.CALLS.retries["total_max_attempts"]  # type: ignore[attr-defined]
    assert longest + backoff < 30
