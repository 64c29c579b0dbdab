"""What AWS Step Functions does and MiniStack does not.

Each function below replaces one function of MiniStack's and names the AWS page it follows (Step
Functions Developer Guide, unless it says otherwise). Most prepare the arguments and call the
original.
"""

from __future__ import annotations

import base64
import contextvars
import json
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import yaml
from ministack import app
from ministack.core import iam_actions
from ministack.services import stepfunctions as sfn
from ministack.services.cloudformation import provisioners

from local.pretend import MINISTACK

if version("ministack") != MINISTACK:
    raise ImportError(f"local/step_functions.py fits ministack {MINISTACK}")

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = tuple[int, dict[str, str], bytes]

_original_sfn_definition = provisioners._sfn_definition
_original_start_execution = sfn._start_execution
_original_stop_execution = sfn._stop_execution
_original_send_task_success = sfn._send_task_success
_original_send_task_failure = sfn._send_task_failure
_original_send_task_heartbeat = sfn._send_task_heartbeat
_original_execute_task = sfn._execute_task
_original_apply_parameters = sfn._apply_parameters
_original_apply_jsonata_arguments = sfn._apply_jsonata_arguments
_original_fail_execution = sfn._fail_execution
_original_nested_start = sfn._invoke_nested_start_execution
_original_run_distributed_map = sfn._run_distributed_map
_original_run_parallel_branches = sfn._run_parallel_branches
_original_run_sub_machine = sfn._run_sub_machine
_original_apply_state_assign = sfn._apply_state_assign
_original_handle_request = sfn.handle_request
_original_describe_execution = sfn._describe_execution

# Errors that end the execution whatever a state catches ("Handling errors", States.ALL).
UNCATCHABLE = ("States.DataLimitExceeded", "States.Runtime")
FOREVER = 99_999_999.0
# What is kept beside an execution for a redrive: its variables, and what branches have come to. The
# first Parallel state of a redrive, which is the one that failed, goes on with the latter.
VARIABLES = "_variables"
BRANCHES = "_branches"
REDRIVEN = "_redriven"
# In a context of a branch or an iteration.
INNER = "_inner"

_start_lock = threading.RLock()
_token_lock = threading.Lock()
_open: dict[str, Callback] = {}
_closed: dict[str, Callback] = {}


@dataclass
class Callback:
    """A task that waits for its token to come back."""

    execution: str
    machine: str
    answered: threading.Event = field(default_factory=threading.Event)
    heartbeat: float = field(default_factory=time.monotonic)
    result: Any = None
    error: tuple[str, str] | None = None
    stopped: bool = False


class _Attempt(dict[str, Any]):
    """A Task state as one attempt sees it: its own definition with the expressions evaluated."""

    def __init__(self, definition: dict[str, Any], execution: dict[str, Any]) -> None:
        super().__init__(definition)
        self.definition = definition
        self.execution = execution


def install() -> None:
    provisioners._sfn_definition = sfn_definition
    sfn._start_execution = start_execution
    sfn._stop_execution = stop_execution
    sfn._send_task_success = send_task_success
    sfn._send_task_failure = send_task_failure
    sfn._send_task_heartbeat = send_task_heartbeat
    sfn._execute_task = execute_task
    sfn._apply_parameters = apply_parameters
    sfn._apply_jsonata_arguments = apply_jsonata_arguments
    sfn._invoke_with_callback = invoke_with_callback
    sfn._invoke_nested_start_execution = invoke_nested_start_execution
    sfn._run_distributed_map = run_distributed_map
    sfn._run_parallel_branches = run_parallel_branches
    sfn._run_sub_machine = run_sub_machine
    sfn._apply_state_assign = apply_state_assign
    sfn._describe_execution = describe_execution
    # The table of handlers has the function itself.
    app.SERVICE_HANDLERS["states"] = handle_request
    sfn._sleep_until = sleep_until
    sfn._error_matches = error_matches
    sfn._fail_execution = fail_execution
    # Others wrap this function too, so the one to fall back to is the one found now.
    iam_actions.extract_resource_arn = resource_arn_before(iam_actions.extract_resource_arn)


# -- definitions --------------------------------------------------------------------------------


def sfn_definition(properties: dict[str, Any]) -> str:
    """A definition in S3 may be YAML.

    Source: CloudFormation, AWS::StepFunctions::StateMachine, DefinitionS3Location ("the state
    machine definition file must be JSON or YAML"). Substitutions are made in the text before it
    is parsed, so ``TimeoutSeconds: ${Seconds}`` becomes a number. CreateStateMachine itself takes
    JSON only, and refuses a definition with broken JSONata; so does the deployment here.
    """
    text = str(_original_sfn_definition(properties))
    if properties.get("DefinitionS3Location") and not text.lstrip().startswith("{"):
        try:
            text = json.dumps(yaml.safe_load(text))
        except (yaml.YAMLError, TypeError) as error:
            raise ValueError(f"Invalid State Machine Definition: {error}") from None
    problem = sfn._validate_definition_jsonata(text)
    if problem:
        raise ValueError(f"Invalid State Machine Definition: {problem}")
    return text


# -- starting and stopping ----------------------------------------------------------------------


def start_execution(data: dict[str, Any]) -> Answer:
    """The same name and input as a running execution is that execution again.

    Source: Step Functions API reference, StartExecution, "idempotent for STANDARD workflows".
    """
    with _start_lock:
        running = _same_execution(data)
        if running is None:
            answer: Answer = _original_start_execution(data)
            return answer
    again: Answer = sfn.json_response(
        {"executionArn": running["executionArn"], "startDate": running["startDate"]}
    )
    return again


def _same_execution(data: dict[str, Any]) -> dict[str, Any] | None:
    machine = sfn._state_machines.get(sfn._resolve_state_machine_arn(data.get("stateMachineArn")))
    if machine is None or not data.get("name"):
        return None
    arn = machine["stateMachineArn"].replace(":stateMachine:", ":execution:")
    execution: dict[str, Any] | None = sfn._executions.get(f"{arn}:{data['name']}")
    if execution is None or execution["status"] != "RUNNING":
        return None
    return execution if execution["input"] == data.get("input", "{}") else None


def stop_execution(data: dict[str, Any]) -> Answer:
    """Stopping ends a waiting task too, and closes its token.

    Source: API reference, SendTaskSuccess, TaskTimedOut: "the task token has either expired or
    the task associated with the token has already been closed".
    """
    answer: Answer = _original_stop_execution(data)
    if answer[0] == 200:
        with _token_lock:
            waiting = [t for t, each in _open.items() if each.execution == data["executionArn"]]
            for token in waiting:
                callback = _close(token)
                callback.stopped = True
                callback.answered.set()
    return answer


def fail_execution(execution: dict[str, Any], error: str, cause: str) -> None:
    """A task that fails after StopExecution leaves the execution ABORTED.

    Source: API reference, DescribeExecution: a closed execution does not change its status.
    """
    if execution["status"] == "RUNNING":
        _original_fail_execution(execution, error, cause)


def invoke_nested_start_execution(resource: str, input_data: dict[str, Any]) -> Any:
    """Errors of states:startExecution carry the integration's prefix.

    Source: "Handling errors": a service integration's error is <Service>.<Exception>, here
    StepFunctions.ExecutionAlreadyExistsException.
    """
    try:
        return _original_nested_start(resource, input_data)
    except sfn._ExecutionError as error:
        name = error.error.removesuffix("Exception")
        raise sfn._ExecutionError(f"StepFunctions.{name}Exception", error.cause) from None


def sleep_until(timestamp: str) -> None:
    """A wait until a time lasts until then, whatever the scale: the clock is not scaled.

    Source: "Wait workflow state", Timestamp: "An absolute time to wait until".
    """
    until = datetime.fromisoformat(timestamp)
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))


# -- tasks --------------------------------------------------------------------------------------


def execute_task(
    state: dict[str, Any], raw_input: Any, execution: dict[str, Any], context: dict[str, Any]
) -> Any:
    return _original_execute_task(_Attempt(state, execution), raw_input, execution, context)


def apply_jsonata_arguments(
    state: dict[str, Any], raw_input: Any, context: dict[str, Any] | None = None
) -> Any:
    """Runs at the start of each attempt: a new token, then TimeoutSeconds and HeartbeatSeconds.

    Source: "Transforming data with JSONata": both fields take an expression. They are evaluated
    here, inside the attempt, so that a failing expression can be retried and caught.
    """
    _new_token(state, context)
    if isinstance(state, _Attempt):
        for name in ("TimeoutSeconds", "HeartbeatSeconds"):
            if name in state.definition:
                state[name] = sfn._jsonata_state_field(
                    state.definition, name, "number", raw_input, context
                )
    return _original_apply_jsonata_arguments(state, raw_input, context)


def apply_parameters(
    state: dict[str, Any], data: Any, context: dict[str, Any] | None = None
) -> Any:
    _new_token(state, context)
    return _original_apply_parameters(state, data, context)


def _new_token(state: dict[str, Any], context: dict[str, Any] | None) -> None:
    """Every attempt has its own token.

    Source: "Wait for a callback with task token": "if a task state using the callback task token
    times out, a new random token is generated".
    """
    if context is not None and ".waitForTaskToken" in state.get("Resource", ""):
        context["Task"] = {"Token": _token()}


def _token() -> str:
    """Long, and with every character that needs care in a URL, as tokens of AWS are.

    Source: API reference, TaskToken: a string of 1 to 2048 characters.
    """
    while True:
        token = "AQC" + base64.b64encode(os.urandom(481)).decode()
        if "+" in token and "/" in token:
            return token


def invoke_with_callback(resource: str, input_data: Any, token: str, state: dict[str, Any]) -> Any:
    """Delivers the token, then waits for it, for the timeout, or for the execution to be stopped.

    Source: "Wait for a callback with task token" and "Handling errors". A Lambda function that
    raises fails the task at once with its own error; a missed heartbeat is
    States.HeartbeatTimeout.
    """
    execution = state.execution if isinstance(state, _Attempt) else {}
    callback = Callback(execution.get("executionArn", ""), execution.get("stateMachineArn", ""))
    with _token_lock:
        _open[token] = callback
    started = time.monotonic()
    try:
        sfn._invoke_resource(resource.replace(".waitForTaskToken", ""), input_data)
    except sfn._ExecutionError:
        if _expired(token):
            raise
    _wait(token, callback, started, state)
    if callback.stopped:
        # Ends this thread without a trace; nothing in the engine may go on after StopExecution.
        raise SystemExit
    if callback.error is not None:
        raise sfn._ExecutionError(*callback.error)
    return callback.result


def _wait(token: str, callback: Callback, started: float, state: dict[str, Any]) -> None:
    timeout = float(state.get("TimeoutSeconds", FOREVER))
    heartbeat = float(state.get("HeartbeatSeconds", FOREVER))
    while not callback.answered.is_set():
        now = time.monotonic()
        until_timeout = started + timeout - now
        until_heartbeat = callback.heartbeat + heartbeat - now
        if until_timeout <= 0 and _expired(token):
            raise sfn._ExecutionError("States.Timeout", "")
        if until_heartbeat <= 0 and _expired(token):
            raise sfn._ExecutionError("States.HeartbeatTimeout", "")
        callback.answered.wait(max(0.001, min(until_timeout, until_heartbeat, 3600)))


def error_matches(patterns: list[str], error: str) -> bool:
    """Source: "Handling errors": States.ALL leaves out two terminal errors, States.TaskFailed
    matches all but a timeout, and States.Timeout covers a missed heartbeat too."""
    if error in patterns:
        return True
    if error == "States.HeartbeatTimeout" and "States.Timeout" in patterns:
        return True
    if error in UNCATCHABLE:
        return False
    return "States.ALL" in patterns or (
        "States.TaskFailed" in patterns and error != "States.Timeout"
    )


# -- tokens -------------------------------------------------------------------------------------


def send_task_success(data: dict[str, Any]) -> Answer:
    """A token works once.

    Source: API reference, SendTaskSuccess: InvalidOutput, InvalidToken, TaskTimedOut.
    """
    if _is_activity(data):
        answer: Answer = _original_send_task_success(data)
        return answer
    try:
        result = json.loads(data.get("output", ""))
    except ValueError:
        return _refused("InvalidOutput", "Invalid Output: 'not a JSON document'")
    return _answer(data, result=result)


def send_task_failure(data: dict[str, Any]) -> Answer:
    if _is_activity(data):
        answer: Answer = _original_send_task_failure(data)
        return answer
    return _answer(data, error=(data.get("error", ""), data.get("cause", "")))


def send_task_heartbeat(data: dict[str, Any]) -> Answer:
    if _is_activity(data):
        answer: Answer = _original_send_task_heartbeat(data)
        return answer
    with _token_lock:
        callback = _open.get(data.get("taskToken", ""))
        if callback is None:
            return _unknown(data)
        callback.heartbeat = time.monotonic()
    return _done()


def _answer(
    data: dict[str, Any], result: Any = None, error: tuple[str, str] | None = None
) -> Answer:
    token = data.get("taskToken", "")
    with _token_lock:
        if token not in _open:
            return _unknown(data)
        callback = _close(token)
        callback.result, callback.error = result, error
        callback.answered.set()
    return _done()


def _expired(token: str) -> bool:
    """Closes a token nobody has answered; False if an answer was faster."""
    with _token_lock:
        if token not in _open:
            return False
        _close(token)
        return True


def _close(token: str) -> Callback:
    _closed[token] = _open.pop(token)
    return _closed[token]


def _unknown(data: dict[str, Any]) -> Answer:
    if data.get("taskToken") in _closed:
        return _refused("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
    return _refused("InvalidToken", "Invalid Token: 'Invalid token'")


def _is_activity(data: dict[str, Any]) -> bool:
    return data.get("taskToken") in sfn._task_tokens


def _refused(code: str, message: str) -> Answer:
    answer: Answer = sfn.error_response_json(code, message, 400)
    return answer


def _done() -> Answer:
    answer: Answer = sfn.json_response({})
    return answer


# -- permissions --------------------------------------------------------------------------------


def resource_arn_before(original: Callable[..., str]) -> Callable[..., str]:
    """What a policy can limit a call to: the execution, or the machine that made the token.

    Source: Service Authorization Reference, AWS Step Functions. It lists no resource for
    SendTask*, but IAM evaluates them on the state machine's ARN (aws/aws-cdk issue 8486).
    """

    def extract_resource_arn(service: str, *request: Any) -> str:
        found = _states_resource(request[3]) if service == "states" else None
        return found or original(service, *request)

    return extract_resource_arn


def _states_resource(body: bytes) -> str | None:
    try:
        data = json.loads(body or b"{}")
    except ValueError:
        return None
    token = data.get("taskToken")
    callback = _open.get(token) or _closed.get(token)
    found = callback.machine if callback else data.get("executionArn") or data.get("mapRunArn")
    return str(found) if found else None


# -- Distributed Map ----------------------------------------------------------------------------


def run_distributed_map(
    state: dict[str, Any],
    raw_input: Any,
    effective: Any,
    iterator: dict[str, Any],
    execution: dict[str, Any],
    context: dict[str, Any],
) -> Any:
    """A Distributed Map in JSONata: its fields are evaluated here, the original runs the items.

    Source: "Map state in Distributed mode" and "ItemReader" (Arguments, Items, ItemSelector,
    Output, Assign, expressions for the limits); "Passing data with variables" (children cannot
    reference variables of the parent).
    """
    if sfn._state_query_language(state, context) != "JSONata":
        return _original_run_distributed_map(
            state, raw_input, effective, iterator, execution, context
        )
    items = _items(state, raw_input, context)
    selector = state.get("ItemSelector")
    if selector is not None:
        items = [
            sfn._apply_jsonata_template(
                selector,
                raw_input,
                {**context, "Map": {"Item": {"Index": index, "Value": item}}},
            )
            for index, item in enumerate(items)
        ]
    limits: dict[str, Any] = {
        name: sfn._jsonata_state_field(state, name, "number", raw_input, context)
        for name in ("MaxConcurrency", "ToleratedFailureCount", "ToleratedFailurePercentage")
        if name in state
    }
    dropped = ("Assign", "ItemReader", "ItemSelector", "Items", "Output")
    plain = {name: value for name, value in state.items() if name not in dropped}
    plain.update(limits)
    results, following = _original_run_distributed_map(
        plain, raw_input, items, iterator, execution, {**context, "variables": {}}
    )
    output = sfn._apply_jsonata_output(state, raw_input, context, result=results, default=results)
    sfn._apply_state_assign(state, raw_input, context, result=results)
    return output, following


def _items(state: dict[str, Any], raw_input: Any, context: dict[str, Any]) -> list[Any]:
    if "ItemReader" in state:
        reader = sfn._apply_jsonata_template(state["ItemReader"], raw_input, context)
        items = sfn._read_map_items(reader, raw_input, context)
    elif "Items" in state:
        items = sfn._jsonata_state_field(state, "Items", "array", raw_input, context)
    else:
        items = raw_input
    return items if isinstance(items, list) else [items]


# -- Parallel -----------------------------------------------------------------------------------


def run_parallel_branches(
    state: dict[str, Any], raw_input: Any, execution: dict[str, Any], context: dict[str, Any]
) -> Any:
    """A Parallel state in JSONata: Arguments, Output and Assign are evaluated here.

    Source: "Parallel workflow state" (Arguments, Output, Assign); "Transforming data with JSONata"
    (`$states.result` is the array of what the branches came to).
    """
    if sfn._state_query_language(state, context) != "JSONata":
        return _original_run_parallel_branches(state, raw_input, execution, context)
    given = sfn._apply_jsonata_template(state.get("Arguments", raw_input), raw_input, context)
    plain = {name: state[name] for name in ("Type", "Branches", "Next", "End") if name in state}
    done = execution[BRANCHES] = execution.pop(REDRIVEN, {})
    results, following = _original_run_parallel_branches(
        plain, given, execution, {**context, BRANCHES: done}
    )
    execution[BRANCHES] = {}
    output = sfn._apply_jsonata_output(state, raw_input, context, result=results, default=results)
    sfn._apply_state_assign(state, raw_input, context, result=results)
    return output, following


def run_sub_machine(
    states: dict[str, Any], start_at: str, data: Any, execution: Any, context: dict[str, Any]
) -> Any:
    """A branch or an iteration, with variables and a context of its own.

    Source: "Passing data between states with variables", "Variable scope": what is assigned inside
    is not seen outside, nor by the other branches.
    """
    inner = {**context, "variables": dict(context.get("variables", {})), INNER: True}
    # Of a Parallel state; what a branch has come to stays for a redrive.
    done = inner.pop(BRANCHES, {})
    if start_at not in done:
        done[start_at] = _original_run_sub_machine(states, start_at, data, execution, inner)
    return done[start_at]


# -- redrive ------------------------------------------------------------------------------------


async def handle_request(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> Any:
    if headers.get("x-amz-target", "").endswith(".RedriveExecution"):
        return sfn._finalize_response(redrive_execution(json.loads(body or b"{}")))
    return await _original_handle_request(method, path, headers, body, query)


def redrive_execution(data: dict[str, Any]) -> Answer:
    """An execution that did not succeed goes on from the state that failed, with its input.

    Source: API reference, RedriveExecution; "Restarting state machine executions with redrive":
    steps that succeeded are not run again, nor are the branches of a Parallel state that did. A Map
    Run that failed is started anew here, where AWS goes on with the children that failed. It can be
    redriven for ever, where AWS has 14 days.
    """
    arn = data.get("executionArn", "")
    with _start_lock:
        execution = sfn._executions.get(arn)
        if execution is None:
            return _refused("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")
        if execution["status"] in ("RUNNING", "SUCCEEDED") or execution.get("mapRunArn"):
            reason = f"Execution is {execution['status']} and cannot be redriven"
            return _refused("ExecutionNotRedrivable", reason)
        # Another one, so that the thread of one that was stopped does not go on with it.
        execution = {**execution, "events": [*execution["events"]], "status": "RUNNING"}
        execution |= {"stopDate": None, "output": None, "error": None, "cause": None}
        execution |= {"redriveCount": execution.get("redriveCount", 0) + 1}
        execution |= {"redriveDate": sfn.now_iso(), REDRIVEN: {**execution.get(BRANCHES, {})}}
        sfn._executions[arn] = execution
    details = {"redriveCount": execution["redriveCount"]}
    sfn._add_event(execution, "ExecutionRedriven", {"executionRedrivenEventDetails": details})
    sfn._emit_execution_status_event(execution)
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(_go_on, execution), daemon=True).start()
    answer: Answer = sfn.json_response({"redriveDate": execution["redriveDate"]})
    return answer


def _go_on(execution: dict[str, Any]) -> None:
    """Run the states from the one on that was entered last, as MiniStack runs all of them."""
    machine = sfn._state_machines[execution["stateMachineArn"]]
    definition = json.loads(machine["definition"])
    last = {"name": definition["StartAt"], "input": execution["input"]}
    for each in execution["events"]:
        last = each.get("stateEnteredEventDetails", last)
    context = {
        "QueryLanguage": definition.get("QueryLanguage", "JSONPath"),
        "Execution": {
            "Id": execution["executionArn"],
            "Input": json.loads(execution["input"]),
            "Name": execution["name"],
            "RedriveCount": execution["redriveCount"],
            "RedriveTime": execution["redriveDate"],
            "StartTime": execution["startDate"],
        },
        "StateMachine": {"Id": execution["stateMachineArn"], "Name": machine["name"]},
        "variables": dict(execution.get(VARIABLES, {})),
    }
    name, data = last["name"], json.loads(last["input"])
    try:
        while name and execution["status"] == "RUNNING":
            state = definition["States"][name]
            context["State"] = {"Name": name, "EnteredTime": sfn.now_iso(), "RetryCount": 0}
            _add_state_event(execution, state, "Entered", name=name, input=json.dumps(data))
            data, following = _run_state(state, data, execution, context)
            _add_state_event(execution, state, "Exited", name=name, output=json.dumps(data))
            name = following
    except sfn._ExecutionError as error:
        fail_execution(execution, error.error, error.cause)
        return
    if execution["status"] == "RUNNING":
        output = json.dumps(data)
        execution |= {"status": "SUCCEEDED", "output": output, "stopDate": sfn.now_iso()}
        details = {"executionSucceededEventDetails": {"output": output}}
        sfn._add_event(execution, "ExecutionSucceeded", details)
        sfn._emit_execution_status_event(execution)


def _run_state(
    state: dict[str, Any], data: Any, execution: dict[str, Any], context: dict[str, Any]
) -> tuple[Any, str | None]:
    kind = state["Type"]
    if kind == "Succeed":
        return data, None
    if kind == "Fail":
        raise sfn._ExecutionError(*sfn._fail_state_error(state, data, context))
    execute = getattr(sfn, f"_execute_{kind.lower()}")
    within = (execution, context) if kind in ("Task", "Parallel", "Map") else (context,)
    output, following = execute(state, data, *within)
    return output, following


def _add_state_event(
    execution: dict[str, Any], state: dict[str, Any], what: str, **details: str
) -> None:
    field = f"state{what}EventDetails"
    sfn._add_event(execution, f"{state['Type']}State{what}", {field: details})


def apply_state_assign(
    state: dict[str, Any],
    raw_input: Any,
    context: dict[str, Any] | None,
    result: Any = None,
    error_output: Any = None,
) -> None:
    """Keeps what the variables are outside of branches and iterations, for a redrive."""
    _original_apply_state_assign(state, raw_input, context, result, error_output)
    if context is not None and not context.get(INNER):
        execution = sfn._executions.get(context.get("Execution", {}).get("Id"))
        if execution is not None:
            execution[VARIABLES] = dict(context["variables"])


def describe_execution(data: dict[str, Any]) -> Answer:
    """Says how often an execution was redriven, and when at last.

    Source: API reference, DescribeExecution, redriveCount and redriveDate.
    """
    answer: Answer = _original_describe_execution(data)
    execution = sfn._executions.get(data.get("executionArn"))
    if execution is None:
        return answer
    found = {**json.loads(answer[2]), "redriveCount": execution.get("redriveCount", 0)}
    if "redriveDate" in execution:
        found["redriveDate"] = execution["redriveDate"]
    again: Answer = sfn.json_response(found)
    return again
