"""How calls fail that get no answer: in time, and with the name of the operation."""

from __future__ import annotations

from types import SimpleNamespace

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
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


def test_a_call_says_who_makes_it_and_sends_what_the_sdk_would() -> None:
    empty = SimpleNamespace(stream=lambda: [b"<A><AssumeRoleResult/></A>"])
    sent = []
    sessions = {"ours": calls.session(), "of the SDK": botocore.session.get_session()}
    for session in sessions.values():
        sts = boto3.Session(botocore_session=session).client(
            "sts",
            region_name="eu-west-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",
            config=calls.CALLS,
        )
        sts.meta.events.register(
            "before-send",
            lambda request, **_: sent.append(request) or AWSResponse("", 200, {}, empty),
        )
        policy = '{"Resource": "*", "ä": "a b&c=d/"}'
        arn = "arn:aws:iam::333333333333:role/rootsweep-audit"
        sts.assume_role(RoleArn=arn, RoleSessionName="test", Policy=policy)

    ours, theirs = sent
    assert as_bytes(ours.body) == as_bytes(theirs.body)
    assert ours.headers["Content-Type"] == theirs.headers["Content-Type"]
    assert as_bytes(ours.headers["User-Agent"]).startswith(b"rootsweep (boto3/")


def as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def test_an_error_of_aws_names_its_operation_itself() -> None:
    error = ClientError({"Error": {"Code": "Throttling", "Message": "slow"}}, "GetItem")
    before = str(error)
    calls._name_operation(caught_exception=error, operation=None)

    assert str(error) == before


def test_no_call_outlasts_the_functions_that_have_half_a_minute() -> None:
    backoff = sum(2**attempt for attempt in range(calls.CALLS.retries["total_max_attempts"] - 1))  # type: ignore[attr-defined]
    longest = calls.CALLS.read_timeout * calls.CALLS.retries["total_max_attempts"]  # type: ignore[attr-defined]
    assert longest + backoff < 30
