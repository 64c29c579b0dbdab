"""Calls behind the table's stream that fail for ever, in the ways that take long.

The stream tries a batch fifty times, so that these cells of the matrix (docs/faults.md) would take
hours on the deployed stack. Here the real client meets the fault. What the handler raises, the
stream delivers again, and then it goes to the queue of dead letters, as the deployed cells show.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import deliver_decision
import log_decisions
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from local.faults import Kind

from .builders import a_decided_case, item_of

if TYPE_CHECKING:
    from collections.abc import Iterator

READS = {"GetItem", "Query"}
SLOW_FOR_EVER = (
    *(Kind.THROTTLING, Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.TIMEOUT_DONE),
    *(Kind.DROPPED, Kind.SLOW, Kind.CRASH, Kind.CRASH_DONE),
)
DONE = (Kind.TIMEOUT_DONE, Kind.CRASH_DONE)
CALLS = (
    ("dynamodb", "GetItem"),
    ("dynamodb", "Query"),
    ("dynamodb", "TransactWriteItems"),
    ("dynamodb", "UpdateItem"),
    ("events", "PutEvents"),
    ("s3", "PutObject"),
)
# No error of Python: the process is gone.
Died = type("Died", (BaseException,), {})
RAISED: dict[Kind, type[BaseException]] = {
    Kind.THROTTLING: ClientError,
    Kind.SERVER_ERROR: ClientError,
    Kind.TIMEOUT: ReadTimeoutError,
    Kind.TIMEOUT_DONE: ReadTimeoutError,
    Kind.DROPPED: ConnectionClosedError,
    Kind.CRASH: Died,
    Kind.CRASH_DONE: Died,
}


class Fails:
    """A call of a client that fails each time, before its work is done or after it."""

    def __init__(self, client: Any, operation: str, kind: Kind) -> None:
        self.client, self.operation, self.kind = client, operation, kind
        self.hits = 0
        self.service = client.meta.service_model.service_id.hyphenize()
        after = kind in DONE
        # After the work: as soon as the answer is read. Before it: instead of sending the request.
        self.event = f"{'after-call' if after else 'before-send'}.{self.service}.{operation}"
        client.meta.events.register_first(self.event, self.fail)

    def end(self) -> None:
        self.client.meta.events.unregister(self.event, self.fail)

    def fail(self, **event: Any) -> AWSResponse | None:
        self.hits += 1
        where = self.client.meta.endpoint_url
        match self.kind:
            case Kind.TIMEOUT | Kind.TIMEOUT_DONE:
                raise ReadTimeoutError(endpoint_url=where)
            case Kind.DROPPED:
                raise ConnectionClosedError(endpoint_url=where)
            case Kind.CRASH | Kind.CRASH_DONE:
                raise Died
            case Kind.SLOW:
                return None
        is_throttled = self.kind == Kind.THROTTLING
        code = "ThrottlingException" if is_throttled else "InternalServerError"
        body = json.dumps({"__type": code, "message": "no"})
        if self.service == "s3":
            body = f"<Error><Code>{'SlowDown' if is_throttled else 'InternalError'}</Code></Error>"
        status = (503 if self.service == "s3" else 400) if is_throttled else 500
        answer = AWSResponse(event["request"].url, status, {}, None)
        answer._content = body.encode()
        return answer


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes calls fail until the end of the test; nobody waits between tries."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    made: list[Fails] = []

    def fail(client: Any, operation: str, kind: Kind) -> Fails:
        made.append(Fails(client, operation, kind))
        return made[-1]

    yield fail
    for each in made:
        each.end()


def record_of(item: dict[str, Any]) -> dict[str, Any]:
    value = TypeSerializer().serialize
    image = {name: value(content) for name, content in item.items()}
    return {"eventName": "INSERT", "dynamodb": {"NewImage": image}}


def tried(kind: Kind) -> int:
    """How often the client tries: a process that died tries nothing, a done answer comes once."""
    return 4 if kind in (Kind.THROTTLING, Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.DROPPED) else 1


@pytest.mark.parametrize(
    ("service", "operation", "kind"),
    [
        (*call, kind)
        for call in CALLS
        for kind in SLOW_FOR_EVER
        # A read has nothing to do.
        if not (call[1] in READS and kind in DONE)
    ],
)
def test_what_cannot_be_logged_is_raised_and_who_cannot_be_told_holds_up_nothing(
    table: Any,
    log: Any,  # noqa: ARG001
    fails: Any,
    service: str,
    operation: str,
    kind: Kind,
) -> None:
    event = {"Records": [record_of(item_of(table, a_decided_case(table)))]}
    clients = {
        "dynamodb": log_decisions.log.meta.client,
        "events": log_decisions.events,
        "s3": log_decisions.s3,
    }
    fault = fails(clients[service], operation, kind)

    if kind == Kind.SLOW or (service == "events" and kind not in (Kind.CRASH, Kind.CRASH_DONE)):
        assert log_decisions.handler(event, None) == {"appended": 1}
    else:
        with pytest.raises(RAISED[kind]):
            log_decisions.handler(event, None)
    least = 2 if service == "events" else 4
    assert fault.hits >= min(least, tried(kind))


@pytest.mark.parametrize("kind", SLOW_FOR_EVER)
@pytest.mark.usefixtures("aws")
def test_a_decision_that_is_not_delivered_is_raised(fails: Any, kind: Kind) -> None:
    client = deliver_decision.stepfunctions

    def take(**event: Any) -> AWSResponse:
        answer = AWSResponse(event["request"].url, 200, {}, None)
        answer._content = b"{}"
        return answer

    fault = fails(client, "SendTaskSuccess", kind)
    # Of moto no task waits.
    client.meta.events.register("before-send.sfn.SendTaskSuccess", take)
    item = {"case_id": "a-case", "decided": "YES", "task_token": "AQC" * 99}
    event = {"Records": [record_of(item)]}
    try:
        if kind == Kind.SLOW:
            deliver_decision.handler(event, None)
        else:
            with pytest.raises(RAISED[kind]):
                deliver_decision.handler(event, None)
    finally:
        client.meta.events.unregister("before-send.sfn.SendTaskSuccess", take)
    assert fault.hits >= tried(kind)
