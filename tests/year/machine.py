"""Step Functions in simulated time: the shipped definitions, walked state by state.

It knows the part of the Amazon States Language that the definitions use, and refuses to start with
a field or a resource that it does not know, so that it never skips one in silence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from jsonata import Jsonata
from jsonata.utils import Utils

from .clock import Signal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .clock import Clock

LAMBDA = "arn:aws:states:::lambda:invoke"
WAIT_FOR_TOKEN = f"{LAMBDA}.waitForTaskToken"
PUBLISH = "arn:aws:states:::sns:publish"
MOST_EVENTS = 25_000  # Step Functions quotas, "Maximum execution history size".
MOST_SECONDS = 365 * 86_400  # "Maximum execution time".
LONGEST_PAYLOAD = 262_144  # "Maximum input or output size".

_ANY_STATE = {"Type", "Comment", "Next", "End", "Output"}
_FIELDS = {
    "Task": _ANY_STATE | {"Resource", "Arguments", "TimeoutSeconds", "Retry", "Catch", "Assign"},
    "Choice": {"Type", "Comment", "Choices", "Default"},
    "Wait": _ANY_STATE | {"Seconds", "Timestamp"},
    "Succeed": {"Type", "Comment"},
    "Pass": _ANY_STATE,
    "Parallel": _ANY_STATE | {"Assign", "Branches"},
    "Map": _ANY_STATE
    | {"Label", "MaxConcurrency", "ToleratedFailurePercentage", "ItemReader", "ItemProcessor"},
}
_BRANCH = {"StartAt", "States"}
_MACHINE = {"Comment", "QueryLanguage", "StartAt", "States"}
_PROCESSOR = {"ProcessorConfig", "StartAt", "States"}
_RETRIER = {"ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "JitterStrategy"}
_RETRIER |= {"MaxDelaySeconds"}
_CATCHER = {"ErrorEquals", "Assign", "Output", "Next"}
_CHOICE = {"Condition", "Next", "Output"}
_READER = {"Resource", "ReaderConfig", "Arguments"}


class StatesError(Exception):
    """An error that a state can retry or catch by its name."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class StoppedError(Exception):
    """When somebody stops an execution."""


class World(Protocol):
    """What is around the state machines."""

    clock: Clock
    jitter: random.Random

    def invoke(self, arn: str, event: Any, done: Callable[[Any], None]) -> None: ...
    def publish(self, arguments: dict[str, Any]) -> Any: ...
    def read_object(self, *, bucket: str, key: str) -> str: ...
    def execution_ended(self, execution: Execution) -> None: ...


@dataclass
class Failure:
    """How a function failed, as Step Functions has it."""

    error: str
    cause: str


@dataclass
class Machine:
    """A deployed state machine and its executions by name."""

    arn: str
    definition: dict[str, Any]
    world: World
    executions: dict[str, Execution] = field(default_factory=dict)
    tokens: dict[str, Signal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_unknown(self.definition, _MACHINE, "machine")
        if self.definition["QueryLanguage"] != "JSONata":
            raise ValueError("only JSONata is understood")
        _check_states(self.definition["States"])

    def start(self, name: str, input: Any) -> Execution:
        """Start an execution; it runs by itself."""
        arn = f"{self.arn.replace(':stateMachine:', ':execution:')}:{name}"
        execution = self.executions[name] = Execution(self, name, arn, input)
        self.world.clock.start(execution.run)
        return execution


class Execution:
    """One execution: where it is, how it got there and how it ended."""

    def __init__(self, machine: Machine, name: str, arn: str, input: Any) -> None:
        self.machine, self.name, self.arn, self.input = machine, name, arn, input
        self.world = machine.world
        self.started = self.world.clock.time
        self.ended: float | None = None
        self.status = "RUNNING"
        self.output: Any = None
        self.failure: Failure | None = None
        self.events = 1
        self.entered: list[tuple[float, str]] = []
        self.waits_for: Signal | None = None
        self.variables: dict[str, Any] = {}
        self._is_stopped = False

    def run(self) -> None:
        try:
            self.output = self._walk(self.machine.definition, _json(self.input))
            self.status = "SUCCEEDED"
        except StoppedError:
            self.status = "ABORTED"
        except StatesError as error:
            self.status, self.failure = "FAILED", Failure(error.error, error.cause)
        self.ended = self.world.clock.time
        assert self.ended - self.started < MOST_SECONDS, self.name
        self.world.execution_ended(self)

    def stop(self) -> None:
        """What StopExecution does."""
        self._is_stopped = True
        if self.waits_for is not None:
            self.waits_for.give()

    def _walk(self, level: dict[str, Any], input: Any) -> Any:
        name = level["StartAt"]
        while True:
            state = level["States"][name]
            self.entered.append((self.world.clock.time, name))
            self._count(2)
            step = getattr(self, f"_{state['Type'].lower()}")
            output, following = step(state, input)
            if following is None:
                return output
            name, input = following, output

    def _task(self, state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        attempts: dict[int, int] = {}
        while True:
            try:
                result = self._attempt(state, input)
                output = self._output(state, input, result)
                assigned = self._evaluate(
                    state.get("Assign", {}), self._states(input, result=result)
                )
                self.variables |= assigned
                return output, state.get("Next")
            except StatesError as error:
                delay = self._delay(state, error, attempts)
                if delay is None:
                    return self._caught(state, input, error)
                self._pause(Signal(self.world.clock), delay)

    def _attempt(self, state: dict[str, Any], input: Any) -> Any:
        self._count(3)
        token = f"token-{self.name}-{self.events}"
        states = self._states(input, token=token)
        seconds = self._evaluate(state["TimeoutSeconds"], states)
        if not isinstance(seconds, int) or not 0 < seconds <= 99_999_999:
            raise StatesError("States.Runtime", f"no number of seconds: {seconds!r}")
        arguments = self._evaluate(state["Arguments"], states)
        resource = state["Resource"]
        if resource == PUBLISH:
            return self.world.publish(arguments)
        signal = Signal(self.world.clock)
        if resource == WAIT_FOR_TOKEN:
            self.machine.tokens[token] = signal

        def done(result: Any) -> None:
            # With a token, a function that ends well ends nothing.
            if resource == LAMBDA or isinstance(result, Failure):
                signal.give(result)

        event = _json(arguments.get("Payload"))
        self.world.invoke(arguments["FunctionName"], event, done)
        is_given = self._pause(signal, seconds)
        # From here on nobody ends this wait.
        signal.give()
        if not is_given:
            raise StatesError("States.Timeout", "")
        if isinstance(signal.value, Failure):
            raise StatesError(signal.value.error, signal.value.cause)
        return signal.value if resource == WAIT_FOR_TOKEN else {"Payload": signal.value}

    def _delay(
        self, state: dict[str, Any], error: StatesError, attempts: dict[int, int]
    ) -> float | None:
        """How long to wait before the next attempt; None if there is none."""
        for number, retrier in enumerate(state.get("Retry", [])):
            if _matches(error, retrier["ErrorEquals"]):
                count = attempts.get(number, 0)
                if count >= retrier.get("MaxAttempts", 3):
                    return None
                attempts[number] = count + 1
                delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2) ** count
                delay = min(delay, retrier.get("MaxDelaySeconds", delay))
                if retrier.get("JitterStrategy", "NONE") == "FULL":
                    return float(self.world.jitter.uniform(0, delay))
                return float(delay)
        return None

    def _caught(
        self, state: dict[str, Any], input: Any, error: StatesError
    ) -> tuple[Any, str | None]:
        for catcher in state.get("Catch", []):
            if _matches(error, catcher["ErrorEquals"]):
                told = {"Error": error.error, "Cause": error.cause}
                states = self._states(input, errorOutput=told)
                output = self._evaluate(catcher["Output"], states) if "Output" in catcher else told
                # Variables change when the state is left, so they are computed from the old ones.
                self.variables |= self._evaluate(catcher.get("Assign", {}), states)
                return output, catcher["Next"]
        raise error

    def _choice(self, state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        states = self._states(input)
        for choice in state["Choices"]:
            holds = self._evaluate(choice["Condition"], states)
            if not isinstance(holds, bool):
                raise StatesError("States.QueryEvaluationError", f"no boolean: {holds!r}")
            if holds:
                output = self._evaluate(choice["Output"], states) if "Output" in choice else input
                return output, choice["Next"]
        if "Default" not in state:
            raise StatesError("States.NoChoiceMatched", "")
        return input, state["Default"]

    def _wait(self, state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        states = self._states(input)
        if "Seconds" in state:
            seconds = self._evaluate(state["Seconds"], states)
            if not isinstance(seconds, int) or not 0 <= seconds <= 99_999_999:
                raise StatesError("States.Runtime", f"no number of seconds: {seconds!r}")
        else:
            moment = self._evaluate(state["Timestamp"], states)
            seconds = max(0.0, _timestamp(moment) - self.world.clock.time)
        self._pause(Signal(self.world.clock), seconds)
        return self._output(state, input, None), state.get("Next")

    def _succeed(self, _state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        return input, None

    def _pass(self, state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        return self._output(state, input, None), state.get("Next")

    def _parallel(self, state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        branches = state["Branches"]
        results: list[Any] = [None] * len(branches)
        errors: list[StatesError] = []
        left = len(branches)
        all_done = Signal(self.world.clock)

        def walk(number: int) -> None:
            nonlocal left
            child = Execution(self.machine, self.name, self.arn, self.input)
            child.started, child.variables = self.started, dict(self.variables)
            try:
                results[number] = child._walk(branches[number], input)
            except StatesError as error:
                errors.append(error)
            self._count(child.events)
            left -= 1
            if errors or left == 0:
                all_done.give()

        for number in range(len(branches)):
            self.world.clock.start(lambda number=number: walk(number))
        self._pause(all_done, MOST_SECONDS)
        if errors:
            raise errors[0]
        output = self._output(state, input, results)
        states = self._states(input, result=results)
        self.variables |= self._evaluate(state.get("Assign", {}), states)
        return output, state.get("Next")

    def _map(self, state: dict[str, Any], input: Any) -> tuple[Any, str | None]:
        states = self._states(input)
        source = self._evaluate(state["ItemReader"]["Arguments"], states)
        text = self.world.read_object(bucket=source["Bucket"], key=source["Key"])
        items = [json.loads(line) for line in text.splitlines()]
        results: list[Any] = []
        failed = []
        left = len(items)
        all_done = Signal(self.world.clock)

        def worker() -> None:
            nonlocal left
            while items:
                item = items.pop(0)
                child = Execution(self.machine, f"{self.name}/{len(items)}", "", item)
                try:
                    results.append(child._walk(state["ItemProcessor"], item))
                except StatesError as error:
                    failed.append(error)
                left -= 1
            if left == 0:
                all_done.give()

        count = len(items)
        for _ in range(min(count, state["MaxConcurrency"])):
            self.world.clock.start(worker)
        self._pause(all_done, MOST_SECONDS)
        if 100 * len(failed) / max(1, count) > state["ToleratedFailurePercentage"]:
            raise StatesError("States.ExceedToleratedFailureThreshold", "")
        return self._output(state, input, results), state.get("Next")

    def _output(self, state: dict[str, Any], input: Any, result: Any) -> Any:
        if "Output" not in state:
            return input if result is None else result
        return self._evaluate(state["Output"], self._states(input, result=result))

    def _evaluate(self, value: Any, states: dict[str, Any]) -> Any:
        return _evaluate(value, states, self.variables)

    def _states(self, input: Any, *, token: str = "", **more: Any) -> dict[str, Any]:
        context: dict[str, Any] = {
            "Execution": {
                "Id": self.arn,
                "Input": self.input,
                "Name": self.name,
                "StartTime": _iso(self.started),
            },
            "State": {"EnteredTime": _iso(self.entered[-1][0]), "Name": self.entered[-1][1]},
        }
        if token:
            context["Task"] = {"Token": token}
        return {"input": input, "context": context, **more}

    def _pause(self, signal: Signal, seconds: float) -> bool:
        self.waits_for = signal
        is_given = signal.wait(seconds)
        self.waits_for = None
        if self._is_stopped:
            raise StoppedError
        return is_given

    def _count(self, events: int) -> None:
        self.events += events
        assert self.events < MOST_EVENTS, f"{self.name}: the history is full"


# -- definitions -------------------------------------------------------------------------------


def _check_states(states: dict[str, Any]) -> None:
    for name, state in states.items():
        if state["Type"] not in _FIELDS:
            raise ValueError(f"{name}: a state of the type {state['Type']} is not understood")
        _refuse_unknown(state, _FIELDS[state["Type"]], name)
        for retrier in state.get("Retry", []):
            _refuse_unknown(retrier, _RETRIER, name)
        for catcher in state.get("Catch", []):
            _refuse_unknown(catcher, _CATCHER, name)
        for choice in state.get("Choices", []):
            _refuse_unknown(choice, _CHOICE, name)
        if state["Type"] == "Task" and state["Resource"] not in (LAMBDA, WAIT_FOR_TOKEN, PUBLISH):
            raise ValueError(f"{name}: {state['Resource']} is not understood")
        for branch in state.get("Branches", []):
            _refuse_unknown(branch, _BRANCH, name)
            _check_states(branch["States"])
        if state["Type"] == "Map":
            reader, processor = state["ItemReader"], state["ItemProcessor"]
            _refuse_unknown(reader, _READER, name)
            _refuse_unknown(processor, _PROCESSOR, name)
            config = processor["ProcessorConfig"]
            if (reader["Resource"], reader["ReaderConfig"], config) != (
                "arn:aws:states:::s3:getObject",
                {"InputType": "JSONL"},
                {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
            ):
                raise ValueError(f"{name}: this kind of Map is not understood")
            _check_states(processor["States"])


def _refuse_unknown(given: dict[str, Any], known: set[str], where: str) -> None:
    if unknown := given.keys() - known:
        raise ValueError(f"{where}: {', '.join(sorted(unknown))} is not understood")


def _matches(error: StatesError, names: list[str]) -> bool:
    """Whether a retrier or a catcher is meant (States Language, "Errors")."""
    if error.error == "States.Runtime":
        return False
    return (
        error.error in names
        or "States.ALL" in names
        or ("States.TaskFailed" in names and error.error != "States.Timeout")
    )


# -- JSONata -----------------------------------------------------------------------------------

_PATH = re.compile(r"\$states((?:\.[A-Za-z_]\w*)*)")


def _evaluate(value: Any, states: dict[str, Any], variables: dict[str, Any]) -> Any:
    """A value of a definition, with what its expressions come to."""
    if isinstance(value, dict):
        return {name: _evaluate(part, states, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [_evaluate(part, states, variables) for part in value]
    if not isinstance(value, str) or not value.startswith("{%"):
        return value
    assert value.rstrip().endswith("%}"), value
    text = value.strip()[2:-2].strip()
    result = _along(text, states)
    if result is None:
        bindings = {"states": states, **variables}
        result = _compiled(text).evaluate(None, _with_nulls(bindings))
        if result is None:
            raise StatesError("States.QueryEvaluationError", f"{text} is undefined")
        result = _json(Utils.convert_nulls(result))
    if len(json.dumps(result)) > LONGEST_PAYLOAD:
        raise StatesError("States.DataLimitExceeded", text)
    return result


def _along(text: str, states: Any) -> Any:
    """What a plain path of names leads to; None if it takes JSONata to say."""
    match = _PATH.fullmatch(text)
    if match is None:
        return None
    for name in match[1].split(".")[1:]:
        if not isinstance(states, dict) or name not in states:
            return None
        states = states[name]
    # What JSONata does to lists on the way and at the end is left to it.
    return states if isinstance(states, (dict, str)) else None


@cache
def _compiled(text: str) -> Jsonata:
    expression = Jsonata(text)
    expression.set_output_convert_nulls(False)
    return expression


def _with_nulls(value: Any) -> Any:
    """JSON as jsonata-python takes it: there None is what JSONata calls undefined."""
    if value is None:
        return Utils.NULL_VALUE
    if isinstance(value, dict):
        return {name: _with_nulls(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_nulls(part) for part in value]
    return value


def _json(value: Any) -> Any:
    """Through JSON and back, as everything goes between states and functions."""
    return json.loads(json.dumps(value))


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None, text
    return moment.timestamp()


def _iso(time: float) -> str:
    moment = datetime.fromtimestamp(time, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
