"""How calls to AWS fail: any operation of any function, as often as a rule says.

A rule is made with `POST /_rootsweep/faults` and names the function (the logical id of the
template), the operation, a kind of `Kind`, how often, and texts that the event of the invocation or
the call itself has to have, like the id of an account. `DELETE` takes all rules away, or those
about a text; `GET` says how often each hit, and which function made which calls.

Which invocation makes a call is known by its trace id: Lambda gives one to each invocation in
`_X_AMZN_TRACE_ID` (Lambda Developer Guide, "Defined runtime environment variables"), and the SDK
sends it along as `X-Amzn-Trace-Id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ministack.core import lambda_runtime
from ministack.services import lambda_svc
from ministack.services import stepfunctions as sfn

from local.pretend import MINISTACK, read_body

if version("ministack") != MINISTACK:
    raise ImportError(f"local/faults.py fits ministack {MINISTACK}")

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/_rootsweep/faults"
SLOW_SECONDS = 2.0
# Longer than any client of the product waits for an answer.
NEVER_SECONDS = 900.0
# Of what these are asked for, it is clear which account it is about.
ONE_ACCOUNT = ("dynamodb", "organizations")
# Services that are called by paths: what stands for an operation.
_BY_PATH = {
    ("account", "POST", "/getAlternateContact"): "GetAlternateContact",
    ("securityhub", "PATCH", "/findings/batchupdate"): "BatchUpdateFindings",
    ("securityhub", "POST", "/findings/import"): "BatchImportFindings",
    ("securityhub", "POST", "/findings"): "GetFindings",
    ("ses", "GET", "/v2/email/identities/"): "GetEmailIdentity",
    ("ses", "POST", "/v2/email/outbound-emails"): "SendEmail",
    ("s3", "PUT", "/"): "PutObject",
    ("s3", "GET", "/"): "GetObject",
}


class Kind(StrEnum):
    """What happens to a call. Those that end in `_done` do their work first."""

    THROTTLING = "throttling"
    SERVER_ERROR = "server_error"
    ACCESS_DENIED = "access_denied"
    EXPIRED_TOKEN = "expired_token"
    TIMEOUT = "timeout"
    TIMEOUT_DONE = "timeout_done"
    DROPPED = "dropped"
    MALFORMED = "malformed"
    EMPTY = "empty"
    SLOW = "slow"
    CRASH = "crash"
    CRASH_DONE = "crash_done"


# How each service says it: code and HTTP status. "" is for those that are not named.
ERRORS: dict[Kind, dict[str, tuple[str, int]]] = {
    Kind.THROTTLING: {
        "": ("ThrottlingException", 400),
        "account": ("TooManyRequestsException", 429),
        "dynamodb": ("ProvisionedThroughputExceededException", 400),
        "iam": ("Throttling", 400),
        "organizations": ("TooManyRequestsException", 400),
        "s3": ("SlowDown", 503),
        "securityhub": ("LimitExceededException", 429),
        "ses": ("TooManyRequestsException", 429),
        "sts": ("Throttling", 400),
    },
    Kind.SERVER_ERROR: {
        "": ("InternalServerError", 500),
        "account": ("InternalServerException", 500),
        "iam": ("ServiceFailure", 500),
        "organizations": ("ServiceException", 500),
        "s3": ("InternalError", 500),
        "securityhub": ("InternalException", 500),
        "sts": ("InternalFailure", 500),
    },
    Kind.ACCESS_DENIED: {
        "": ("AccessDeniedException", 400),
        "account": ("AccessDeniedException", 403),
        "iam": ("AccessDenied", 403),
        "s3": ("AccessDenied", 403),
        "securityhub": ("AccessDeniedException", 403),
        "ses": ("AccessDeniedException", 403),
        "sts": ("AccessDenied", 403),
    },
    Kind.EXPIRED_TOKEN: {
        "": ("ExpiredTokenException", 400),
        "iam": ("ExpiredToken", 403),
        "s3": ("ExpiredToken", 400),
        "securityhub": ("ExpiredTokenException", 403),
        "sts": ("ExpiredToken", 403),
    },
}
# What a task of a state machine fails with: "Handling errors in Step Functions workflows".
TASK_ERRORS = {
    ("lambda", Kind.THROTTLING): "Lambda.TooManyRequestsException",
    ("lambda", Kind.SERVER_ERROR): "Lambda.ServiceException",
    ("lambda", Kind.ACCESS_DENIED): "Lambda.AWSLambdaException",
    ("sns", Kind.THROTTLING): "SNS.ThrottledException",
    ("sns", Kind.SERVER_ERROR): "SNS.InternalErrorException",
    ("sns", Kind.ACCESS_DENIED): "SNS.AuthorizationErrorException",
}
TEXT = "a fault that was asked for"
# The tasks of the state machines are calls of this "function".
STATE_MACHINE = "StateMachine"


@dataclass
class Rule:
    """Which calls fail, and how. Without `times` for ever; `about` are texts in event or call.

    `*` stands for all functions, but not StateMachine, or for all operations. The first `after` of
    the calls pass, and of the others a `share` fails: `seed` says which.
    """

    function: str
    operation: str
    kind: Kind
    about: list[str] = field(default_factory=list)
    times: int | None = None
    after: int = 0
    share: float = 1.0
    seed: int = 0
    passed: int = 0
    hits: int = 0

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Rule:
        """The rule of a request. Raises ValueError or TypeError with what is wrong."""
        rule = cls(**given)
        rule.kind = Kind(rule.kind)
        return rule

    def is_about(self, function: str, operation: str, about: str) -> bool:
        """Whether it is about this call, and not over yet."""
        return (
            (self.function == function or (self.function == "*" and function != STATE_MACHINE))
            and self.operation in ("*", operation)
            and all(text in about for text in self.about)
            and (self.times is None or self.hits < self.times)
        )

    def hit_next(self) -> bool:
        """Count a call that it is about; whether that one fails."""
        number = self.passed + self.hits
        is_hit = number >= self.after and (
            random.Random(f"{self.seed}/{number}").random() < self.share
        )
        self.hits += is_hit
        self.passed += not is_hit
        return is_hit


@dataclass
class Invocation:
    """An invocation that runs: of which function, with what, and in which process."""

    function: str
    event: str
    worker: Any = None
    trace_ids: list[str] = field(default_factory=list)

    def kill(self) -> None:
        """The process ends here and now, as if out of memory."""
        process = self.worker and self.worker._proc
        if process:
            os.kill(process.pid, signal.SIGKILL)


class Faults:
    """The rules, and what was called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        self.running: dict[str, Invocation] = {}

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear(self, about: str = "") -> None:
        """Forget all rules, or those about a text."""
        with self._lock:
            self._rules = [rule for rule in self._rules if about and about not in rule.about]

    def to_dict(self) -> dict[str, Any]:
        with self._lock:
            calls: dict[str, dict[str, int]] = {}
            for (function, operation), count in sorted(self._calls.items()):
                calls.setdefault(function, {})[operation] = count
            return {"rules": [asdict(rule) for rule in self._rules], "calls": calls}

    def hit(self, function: str, operation: str, about: str) -> Kind | None:
        """Count a call of a function; what happens to it, if a rule says so."""
        with self._lock:
            # A physical name is like rootsweep-DeleteRootKeysFunction-1A2B.
            ids = [part for part in function.split("-") if part.endswith("Function")]
            name = ids[0] if ids else function
            self._calls[name, operation] += 1
            for rule in self._rules:
                if rule.is_about(name, operation, about) and rule.hit_next():
                    return rule.kind
        return None


FAULTS = Faults()
_current: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def install() -> None:
    """Know which invocation makes a call, and hit the tasks of state machines too."""
    trace_id = lambda_svc._xray_trace_id_for_invocation
    execute = lambda_svc._execute_function_warm
    invoke = lambda_runtime.Worker.invoke
    task = sfn._invoke_resource

    def with_trace_id(config: dict[str, Any], inbound: str | None = None) -> str | None:
        invocation = _current.get()
        if invocation is None or inbound:
            found: str | None = trace_id(config, inbound)
            return found
        # AWS X-Ray Developer Guide, "Tracing header". Functions that are not traced have one too.
        made = f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Sampled=0"
        invocation.trace_ids.append(made)
        FAULTS.running[made] = invocation
        return made

    def with_invocation(func: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        name = (func.get("config") or func).get("FunctionName", "")
        invocation = Invocation(name, json.dumps(event, default=str, ensure_ascii=False))
        token = _current.set(invocation)
        try:
            result: dict[str, Any] = execute(func, event, request_id)
            return result
        finally:
            _current.reset(token)
            for id in invocation.trace_ids:
                del FAULTS.running[id]

    def with_worker(self: Any, event: Any, request_id: str, **named: Any) -> dict[str, Any]:
        invocation = FAULTS.running.get(named.get("trace_id") or "")
        if invocation:
            invocation.worker = self
        result: dict[str, Any] = invoke(self, event, request_id, **named)
        return result

    def task_or_fault(resource: str, arguments: Any) -> Any:
        _, _, call = resource.partition(":states:::")
        service, _, operation = call.removesuffix(".waitForTaskToken").partition(":")
        event = json.dumps(arguments, default=str, ensure_ascii=False)
        kind = FAULTS.hit(STATE_MACHINE, f"{service}:{operation}", event)
        if kind == Kind.TIMEOUT:
            raise sfn._ExecutionError("States.Timeout", TEXT)
        if kind is not None:
            raise sfn._ExecutionError(TASK_ERRORS[service, kind], TEXT)
        return task(resource, arguments)

    lambda_svc._xray_trace_id_for_invocation = with_trace_id
    lambda_svc._execute_function_warm = with_invocation
    lambda_runtime.Worker.invoke = with_worker
    sfn._invoke_resource = task_or_fault


def with_faults(inner: Any) -> Any:
    """The port of the embedded AWS, with its calls hit by the rules."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
        elif scope["path"] == PATH:
            await _control(scope["method"], await read_body(receive), send)
        else:
            headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            invocation = FAULTS.running.get(headers.get("x-amzn-trace-id", ""))
            if invocation is None:
                await inner(scope, receive, send)
                return
            body = await read_body(receive)
            service, operation = _operation(scope, headers, body)
            about = invocation.event
            if service in ONE_ACCOUNT:
                about += body.decode(errors="replace")
            kind = FAULTS.hit(invocation.function, f"{service}:{operation}", about)
            call = _Call(inner, scope, body, receive, send, service, invocation)
            await call.answer(kind)

    return app


async def _control(method: str, body: bytes, send: Any) -> None:
    status, answer = 200, b""
    if method == "POST":
        try:
            FAULTS.add(Rule.from_dict(json.loads(body)))
        except (TypeError, ValueError) as error:
            status, answer = 400, f"{error}\n".encode()
    elif method == "DELETE":
        FAULTS.clear(body.decode())
    else:
        answer = json.dumps(FAULTS.to_dict()).encode()
    await _send(send, status, answer)


@dataclass
class _Call:
    """A call of a function to AWS."""

    inner: Any
    scope: Any
    body: bytes
    receive: Any
    send: Any
    service: str
    invocation: Invocation

    async def answer(self, kind: Kind | None) -> None:
        match kind:
            case None:
                await self._do(self.send)
            case Kind.SLOW:
                await asyncio.sleep(SLOW_SECONDS)
                await self._do(self.send)
            case Kind.CRASH | Kind.CRASH_DONE:
                await self._do_if(kind == Kind.CRASH_DONE)
                self.invocation.kill()
            case Kind.TIMEOUT | Kind.TIMEOUT_DONE:
                await self._do_if(kind == Kind.TIMEOUT_DONE)
                await self._wait_until_given_up()
            case Kind.DROPPED:
                # It breaks off in the middle of the answer.
                await _send(self.send, 200, b"{", length=1000)
            case Kind.MALFORMED | Kind.EMPTY:
                await self._do_if(True)
                await _send(self.send, 200, b"" if kind == Kind.EMPTY else b"<html>{]")
            case _:
                code, status = ERRORS[kind].get(self.service) or ERRORS[kind][""]
                await _send(self.send, status, *_error(self.service, code))

    async def _do(self, send: Any) -> None:
        read = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def receive() -> Any:
            return read.pop() if read else await self.receive()

        await self.inner(self.scope, receive, send)

    async def _do_if(self, wanted: bool) -> None:
        async def drop(_: Any) -> None:
            """Nobody gets to know the answer."""

        if wanted:
            await self._do(drop)

    async def _wait_until_given_up(self) -> None:
        async def given_up() -> None:
            while (await self.receive())["type"] != "http.disconnect":
                pass

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(given_up(), NEVER_SECONDS)


def _operation(scope: Any, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Service and operation of a signed call, as IAM's actions name them."""
    # Signature Version 4: Credential=<key>/<date>/<Region>/<service>/aws4_request
    credential = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0]
    service = credential.split("/")[3] if credential.count("/") == 4 else ""
    if target := headers.get("x-amz-target"):
        return service, target.rpartition(".")[2]
    if action := parse_qs(body.decode(errors="replace")).get("Action"):
        return service, action[0]
    if "list-type=2" in scope["query_string"].decode():
        return service, "ListObjectsV2"
    for (name, method, path), operation in _BY_PATH.items():
        if (name, method) == (service, scope["method"]) and scope["path"].startswith(path):
            return service, operation
    return service, f"{scope['method']} {scope['path']}"


def _error(service: str, code: str) -> tuple[bytes, dict[str, str]]:
    """An error as the protocol of the service writes it."""
    if service in ("iam", "sns", "sts"):
        inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{TEXT}</Message></Error>"
        return f"<ErrorResponse>{inner}</ErrorResponse>".encode(), {"content-type": "text/xml"}
    if service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{TEXT}</Message></Error>"
        return text.encode(), {"content-type": "application/xml"}
    text = json.dumps({"__type": code, "message": TEXT})
    return text.encode(), {"content-type": "application/json", "x-amzn-errortype": code}


async def _send(
    send: Any,
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
) -> None:
    all_headers = {"content-length": str(length or len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in all_headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": length is not None})
