"""What AWS Lambda does for Python functions and MiniStack does not.

Errors with the name of their class, and logs in JSON. Both are parts of the worker, a script that
MiniStack starts for each function.
"""

from __future__ import annotations

import os
import threading
from importlib.metadata import version
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local.pretend import MINISTACK

if version("ministack") != MINISTACK:
    raise ImportError(f"local/lambda_functions.py fits ministack {MINISTACK}")

_original_execute_function = lambda_svc._execute_function_warm
_original_spawn = lambda_runtime.Worker._spawn

# How the worker of a Python function reports an exception: with its text only, after which
# MiniStack drops the worker. Reported as a result, it can say more and the worker lives on.
_TEXT_ONLY = """{"status": "error", "error": str(e), "trace": traceback.format_exc()}"""
_WHOLE_ERROR = """{"status": "ok", "result": {"__raised__": {
                "errorMessage": str(e), "errorType": type(e).__name__,
                "stackTrace": traceback.format_tb(e.__traceback__)}}}"""
_MODULE_IS_NEXT = "mod = importlib.import_module(module_name)"
_INVOCATION = """_ms_ctx = _ms_msg.get("ctx") or {}"""
_REQUEST_ID = """; _ms_logs.request_id = _ms_ctx.get("request_id", "")"""
# What a formatter finds in a record that is no `extra` of who logs.
_LOGS = """
def _ms_log_in_json():
    import json, logging, os, sys, time, traceback
    own = {*vars(logging.makeLogRecord({})), "message"}

    class Formatter(logging.Formatter):
        converter = time.gmtime
        request_id = ""

        def format(self, record):
            line = {
                "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
                "level": record.levelname,
                "message": record.getMessage(),
                "logger": record.name,
                "requestId": self.request_id,
            }
            if record.exc_info:
                kind, error, trace = record.exc_info
                line["stackTrace"] = traceback.format_tb(trace)
                line["errorType"], line["errorMessage"] = kind.__name__, str(error)
            line |= {k: v for k, v in vars(record).items() if k not in own and k not in line}
            return json.dumps(line, default=str, ensure_ascii=False)

    formatter = Formatter()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(os.environ["AWS_LAMBDA_LOG_LEVEL"])
    return formatter

"""

# A laptop has room for this many invocations at once; on AWS the others would run elsewhere.
# Where most of them only wait for an answer that never comes, there is room for more.
_room = threading.BoundedSemaphore(int(os.environ.get("LAMBDA_CONCURRENCY", "4")))
# More starts at once than processors only make each of them slower than its timeout.
_starts = threading.BoundedSemaphore(os.cpu_count() or 1)


def install() -> None:
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    for part in (_TEXT_ONLY, _MODULE_IS_NEXT, _INVOCATION):
        if script.count(part) != 1:
            raise ImportError(f"the Lambda worker of this MiniStack has no single {part!r}")
    lambda_runtime._PYTHON_WORKER_SCRIPT = _LOGS + (
        script.replace(_TEXT_ONLY, _WHOLE_ERROR)
        .replace(_MODULE_IS_NEXT, f"_ms_logs = _ms_log_in_json(); {_MODULE_IS_NEXT}")
        .replace(_INVOCATION, _INVOCATION + _REQUEST_ID)
    )
    lambda_svc._execute_function_warm = execute_function
    lambda_runtime.Worker._spawn = spawn
    # Others wrap this function too, so the one to call is the one found now.
    environment = lambda_runtime.execution_credentials
    lambda_runtime.execution_credentials = lambda config: environment(config) | log_level(config)


def spawn(worker: Any) -> None:
    """Start a worker, when there is a processor for it. Its timeout begins after that."""
    with _starts:
        _original_spawn(worker)


def log_level(config: dict[str, Any]) -> dict[str, str]:
    """The level at which the root logger of a function begins, in its environment.

    Source: Lambda Developer Guide, "Configuring advanced logging controls for Lambda functions":
    INFO, unless ApplicationLogLevel says otherwise. The shape of a line is that of the runtime
    interface client for Python, `lambda_runtime_log_utils.JsonFormatter`, with `extra`.
    """
    level = (config.get("LoggingConfig") or {}).get("ApplicationLogLevel", "INFO")
    return {"AWS_LAMBDA_LOG_LEVEL": level}


def execute_function(func: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
    """A Python exception is reported with its class name, which Retry and Catch match.

    Source: Lambda Developer Guide, "Python function errors": errorMessage, errorType, requestId,
    stackTrace. MiniStack calls every exception Runtime.HandlerError.
    """
    with _room:
        result: dict[str, Any] = _original_execute_function(func, event, request_id)
    body = result.get("body")
    if isinstance(body, dict) and body.get("errorMessage") == "Worker process died":
        # Lambda Developer Guide, "Troubleshoot invocation issues": a runtime that is killed.
        cause = f"RequestId: {request_id} Error: Runtime exited with error: signal: killed"
        return {**result, "body": {"errorMessage": cause, "errorType": "Runtime.ExitError"}}
    if not isinstance(body, dict) or body.keys() != {"__raised__"}:
        return result
    raised = {**body["__raised__"], "requestId": request_id}
    line = f"[ERROR] {raised['errorType']}: {raised['errorMessage']}"
    log = "\n".join([result.get("log", ""), line, *raised["stackTrace"]])
    return {**result, "body": raised, "error": True, "log": log}
