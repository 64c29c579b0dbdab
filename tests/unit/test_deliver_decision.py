from __future__ import annotations

from typing import TYPE_CHECKING, Any

import deliver_decision
import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

    Stub = Callable[[Any], Stubber]

TOKEN = "AQCE+/=" * 100


def record(token: str | None = TOKEN) -> dict[str, Any]:
    image = {"case_id": {"S": "a-case"}, "decided": {"S": "YES"}}
    if token is not None:
        image["task_token"] = {"S": token}
    return {"eventName": "MODIFY", "dynamodb": {"NewImage": image}}


def deliver(*records: dict[str, Any]) -> None:
    assert deliver_decision.handler({"Records": list(records)}, None) is None


def taken(stubbed: Stubber, token: str = TOKEN) -> None:
    stubbed.add_response("send_task_success", {}, {"taskToken": token, "output": "{}"})


def test_the_wait_is_ended_and_nothing_else_is_said(stub: Stub) -> None:
    taken(stub(deliver_decision.stepfunctions))

    deliver(record())


def test_each_decision_of_a_batch_is_delivered(stub: Stub) -> None:
    stubbed = stub(deliver_decision.stepfunctions)
    taken(stubbed, "one")
    taken(stubbed, "two")

    deliver(record("one"), record("two"))


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_a_wait_that_is_over_holds_up_nobody(stub: Stub, code: str) -> None:
    stubbed = stub(deliver_decision.stepfunctions)
    stubbed.add_client_error("send_task_success", code)
    taken(stubbed, "two")

    deliver(record("one"), record("two"))


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException", "InvalidOutput"])
def test_what_step_functions_did_not_take_is_raised_so_that_it_comes_again(
    stub: Stub, code: str
) -> None:
    stub(deliver_decision.stepfunctions).add_client_error("send_task_success", code)

    with pytest.raises(ClientError, match=code):
        deliver(record())


@pytest.mark.parametrize("item", [record(None), record(""), {"dynamodb": {}}])
def test_an_item_without_a_token_ends_no_wait(stub: Stub, item: dict[str, Any]) -> None:
    stub(deliver_decision.stepfunctions)

    deliver(item)


def test_no_token_is_logged(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    stub(deliver_decision.stepfunctions).add_client_error("send_task_success", "TaskTimedOut")

    with caplog.at_level("DEBUG", logger="root"):
        deliver_decision.deliver(TOKEN)

    assert "the wait of the case is over: TaskTimedOut" in caplog.text
    assert TOKEN not in [argument for each in caplog.records for argument in each.args or ()]
    assert all(TOKEN not in each.getMessage() for each in caplog.records if each.name == "root")
