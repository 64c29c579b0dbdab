"""moto's Step Functions interpreter, with JSONata and with functions that run in this process.

A second opinion beside the embedded AWS of `local/`. moto ships the evaluator of JSONata unwired
(moto issue 10105) and starts Lambda functions in Docker; both are private to moto, which is pinned.
"""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

from jsonata import Jsonata
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.eval import states
from moto.stepfunctions.parser.asl.jsonata import jsonata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest


def install(patch: pytest.MonkeyPatch, handlers: Mapping[str, Any]) -> None:
    """Wire JSONata, and run `handlers`, by function name, where a state invokes a function."""

    def invoke(env: Any, parameters: dict[str, Any], **_: object) -> None:
        name = parameters["FunctionName"].rpartition(":")[2]
        event = json.loads(parameters["Payload"])
        try:
            result = handlers[name](event, None)
        except Exception as error:
            payload = {
                "errorMessage": str(error),
                "errorType": type(error).__name__,
                "stackTrace": traceback.format_tb(error.__traceback__),
            }
            raise lambda_eval_utils.LambdaFunctionErrorException(
                "Unhandled", json.dumps(payload)
            ) from error
        # Through JSON, as Lambda sends it.
        env.stack.append({"StatusCode": 200, "Payload": json.loads(json.dumps(result))})

    def evaluate(expression: str) -> Any:
        try:
            return Jsonata(expression).evaluate(None)
        except Exception as error:
            raise jsonata.JSONataException("UNKNOWN", str(error)) from error

    patch.setattr(jsonata, "_eval_jsonata", evaluate)
    patch.setattr(lambda_eval_utils, "execute_lambda_function_integration", invoke)
    patch.setattr(states, "long_uid", _tokens())


def _tokens() -> Callable[[], str]:
    """Task tokens as long as AWS's, with every character that must survive table and wire."""
    number = 0

    def token() -> str:
        nonlocal number
        number += 1
        return f"AQCEAAAAKgAAAAMAAAAA{number:04}" + "bG9uZw+/x=" * 60 + "=="

    return token
