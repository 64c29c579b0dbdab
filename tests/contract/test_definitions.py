"""The state machines: well formed, and of one mind with the template and the code."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cfnlint.api import lint
from jsonata import Jsonata
from statelint.config import Config
from statelint.linter import Linter
from statelint.problem import ProblemType

from rootsweep import errors
from rootsweep.cases import Answer, Outcome

from .shipped import (
    CODE_FILES,
    DEFINITIONS,
    FUNCTIONS,
    PLACEHOLDER,
    REPOSITORY,
    as_list,
    asl,
    functions,
    invocations,
    levels,
    machine_of,
    snake_case,
    statements,
    states,
    substituted,
    template,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

each_definition = pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.name)
# It wants 2.0 for a BackoffRate; in JSON, which is what AWS reads, 2 is the same number.
STATELINT = Config(ignored_problem_types={ProblemType.FLOAT})
# What AWS documents and statelint does not know yet: fields of a Distributed Map, and a Wait whose
# seconds or time is an expression (Amazon States Language, Wait State). A timeout may be one too
# (Task State, TimeoutSeconds), which neither statelint nor cfn-lint knows.
CHECKS = "State Machine.States.Check accounts and list more"
MAP = f"{CHECKS}.Branches[0].States.Check accounts in batches"
UNKNOWN_TO_STATELINT = {
    f'Field "Label" not allowed in {MAP}',
    f'Field "InputType" not allowed in {MAP}.ItemReader.ReaderConfig',
    (
        "State Machine.States.Wait for manual removal.Seconds is "
        '"{% $states.input.wait_seconds %}" but should be an Integer'
    ),
    (
        "State Machine.States.Wait until deletions go on.Seconds is "
        '"{% $states.input.wait_seconds %}" but should be an Integer'
    ),
    (
        "State Machine.States.Wait for the other cases of the sweep.Timestamp is "
        '"{% $states.input.ask_at %}" but should be an RFC3339 timestamp'
    ),
    (
        "State Machine.States.Request approval.TimeoutSeconds is "
        '"{% $states.input.timeout_seconds %}" but should be an Integer'
    ),
    (
        "State Machine.States.Quarantine root user.TimeoutSeconds is "
        '"{% $states.input.timeout_seconds %}" but should be an Integer'
    ),
}
UNKNOWN_TO_CFN_LINT = "'{% $states.input.timeout_seconds %}' is not of type 'number'"
ERROR_NAMES = {name for name in vars(errors) if name.endswith("Error")}


def next_states(state: dict[str, Any]) -> list[str]:
    branches = [*state.get("Choices", []), *state.get("Catch", []), state]
    return [branch[key] for branch in branches for key in ("Next", "Default") if key in branch]


def lint_findings(definition: dict[str, Any]) -> list[str]:
    """cfn-lint does not look behind DefinitionUri, so it gets the definition in a template."""
    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": "arn:aws:iam::222222222222:role/any", "Definition": definition},
    }
    found = map(str, lint(json.dumps({"Resources": {"Machine": machine}})))
    return [finding for finding in found if UNKNOWN_TO_CFN_LINT not in finding]


def expressions(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for inside in value.values():
                yield from expressions(inside)
        case list():
            for inside in value:
                yield from expressions(inside)
        case str() if "{%" in value:
            yield value


def test_each_definition_belongs_to_a_state_machine_of_the_template() -> None:
    assert [path.name for path in DEFINITIONS] == ["remediate.asl.yaml", "sweep.asl.yaml"]
    for definition in DEFINITIONS:
        assert machine_of(definition)


@each_definition
def test_placeholders_and_substitutions_are_the_same(definition: Path) -> None:
    used = set(PLACEHOLDER.findall(definition.read_text()))

    assert used == set(machine_of(definition)["DefinitionSubstitutions"])


@each_definition
def test_a_definition_is_yaml_without_anchors_and_aliases(definition: Path) -> None:
    for event in yaml.parse(definition.read_text(), Loader=yaml.SafeLoader):
        assert getattr(event, "anchor", None) is None, event


@each_definition
def test_cfn_lint_has_nothing_to_say(definition: Path) -> None:
    assert lint_findings(substituted(definition)) == []


def test_cfn_lint_would_say_something() -> None:
    broken = substituted(DEFINITIONS[0])
    broken["States"]["Approved?"]["Type"] = "Chice"

    assert any("E3601" in finding for finding in lint_findings(broken))


@each_definition
def test_statelint_has_nothing_to_say(definition: Path) -> None:
    assert set(Linter.validate(substituted(definition), STATELINT)) <= UNKNOWN_TO_STATELINT


def test_statelint_would_say_something() -> None:
    broken = substituted(DEFINITIONS[0])
    del broken["States"]["Approved?"]["Choices"]

    assert Linter.validate(broken, STATELINT) != []


@each_definition
def test_every_expression_is_jsonata(definition: Path) -> None:
    found = list(expressions(asl(definition)))

    assert asl(definition)["QueryLanguage"] == "JSONata"
    assert found
    for expression in found:
        inside = re.fullmatch(r"\{%(.+)%\}", expression.strip(), re.DOTALL)
        assert inside, f"text around an expression: {expression}"
        Jsonata(inside[1])


@each_definition
def test_every_transition_leads_somewhere_and_every_state_is_reached(definition: Path) -> None:
    for level in levels(asl(definition)):
        todo, reached = [level["StartAt"]], set()
        while todo:
            name = todo.pop()
            assert name in level["States"], f"there is no state {name}"
            if name not in reached:
                reached.add(name)
                todo += next_states(level["States"][name])

        assert reached == set(level["States"])


def test_every_task_has_a_timeout() -> None:
    tasks = [(name, state) for _, name, state in states() if state["Type"] == "Task"]

    assert [name for name, state in tasks if "TimeoutSeconds" not in state] == []


def test_silence_of_a_person_is_caught_and_never_retried() -> None:
    waiting = [
        (name, state)
        for _, name, state in states()
        if state.get("Resource", "").endswith(".waitForTaskToken")
    ]

    assert {name for name, _ in waiting} == {"Quarantine root user", "Request approval"}
    for name, state in waiting:
        never, others = state["Retry"]
        # The first that names an error is the one that counts (Amazon States Language, Errors).
        impossible = ["QuarantineImpossibleError"] if name == "Quarantine root user" else []
        assert (never["ErrorEquals"], never["MaxAttempts"]) == (
            ["States.Timeout", "CaseEndedError", *impossible],
            0,
        )
        # The function can be run again: `tests/workflow` has the same mailbox after it.
        assert others["ErrorEquals"] == ["States.ALL"]
        assert others["MaxAttempts"] > 0
        first = state["Catch"][0]
        assert first["ErrorEquals"] == ["States.Timeout"]
        assert first["Next"] == "Read decision"


def test_what_cannot_be_caught_later_is_not_hidden_behind_states_all() -> None:
    for _, name, state in states():
        for field in ("Retry", "Catch"):
            lists = [handler["ErrorEquals"] for handler in state.get(field, [])]
            for errors_of_handler in lists[:-1]:
                assert "States.ALL" not in errors_of_handler, f"{name}: {field}"
            for errors_of_handler in lists:
                assert "States.ALL" not in errors_of_handler or errors_of_handler == ["States.ALL"]


def test_every_task_of_a_case_that_can_fail_leads_to_a_record() -> None:
    remediate = asl(REPOSITORY / "statemachine" / "remediate.asl.yaml")
    for name, state in remediate["States"].items():
        if state["Type"] != "Task" or name.startswith(("Record ", "Tell ")):
            continue
        last = state["Catch"][-1]
        assert last["ErrorEquals"] == ["States.ALL"], name
        assert last["Next"] == "Record failed", name


def test_the_distributed_map_loses_nobody_and_waits_for_nobody() -> None:
    maps = [state for _, _, state in states() if state["Type"] == "Map"]

    assert len(maps) == 1
    [batches] = maps
    assert batches["ItemProcessor"]["ProcessorConfig"] == {
        "Mode": "DISTRIBUTED",
        "ExecutionType": "EXPRESS",
    }
    assert batches["ToleratedFailurePercentage"] == 100
    assert "waitForTaskToken" not in json.dumps(batches)
    for state in batches["ItemProcessor"]["States"].values():
        assert state.get("TimeoutSeconds", 0) < 300, "an Express execution ends after 5 minutes"


def test_a_sweep_never_waits_for_a_person() -> None:
    sweep = REPOSITORY / "statemachine" / "sweep.asl.yaml"

    assert "waitForTaskToken" not in sweep.read_text()
    assert all(state["Type"] != "Wait" for path, _, state in states() if path == sweep)


def test_state_resource_file_and_test_have_one_name() -> None:
    found = list(invocations())

    assert len(found) >= 14
    for _, name, _, id in found:
        if name.startswith("Record "):
            assert id == "RecordOutcomeFunction", name
        elif name == "List more accounts":
            assert id == "ListAccountsFunction"
        else:
            assert id == f"{name.title().replace(' ', '')}Function", name
    for id in {id for *_, id in found}:
        file = snake_case(id.removesuffix("Function"))
        handler = template()["Resources"][id]["Properties"]["Handler"]
        assert handler == f"{file}.handler"
        assert (FUNCTIONS / f"{file}.py").is_file()
        assert (REPOSITORY / "tests" / "unit" / f"test_{file}.py").is_file()


def test_only_what_answers_to_the_world_is_no_state() -> None:
    invoked = {snake_case(id.removesuffix("Function")) for *_, id in invocations()}

    assert set(functions()) - invoked == {
        "approval_page",
        "deliver_decision",
        "explain_root_session",
        "log_decisions",
        "record_bounce",
        "write_findings",
    }


@each_definition
def test_a_state_machine_may_invoke_what_it_invokes_and_nothing_else(definition: Path) -> None:
    role = machine_of(definition)["Role"]["Fn::GetAtt"][0]
    allowed = {
        resource["Fn::GetAtt"][0]
        for statement in statements(template()["Resources"][role]["Properties"])
        if statement["Action"] == "lambda:InvokeFunction"
        for resource in as_list(statement["Resource"])
    }

    assert allowed == {id for path, _, _, id in invocations() if path == definition}


def test_a_function_ends_before_the_state_that_waits_for_it() -> None:
    default = template()["Globals"]["Function"]["Timeout"]
    checked = 0
    for _, name, state, id in invocations():
        timeout = template()["Resources"][id]["Properties"].get("Timeout", default)
        if isinstance(state["TimeoutSeconds"], int):
            assert timeout <= state["TimeoutSeconds"], name
            checked += 1
        else:  # The time of a person; what the function takes is a part of it.
            assert state["Resource"].endswith(".waitForTaskToken"), name

    assert checked >= 13


def test_every_alert_leads_to_the_execution() -> None:
    alerts = [each for each in states() if each[2].get("Resource", "").endswith("sns:publish")]
    assert len(alerts) == 5
    for _, name, state in alerts:
        assert re.search(r"Execution: ' & \$[\w.]*execution %}$", state["Arguments"]["Message"]), (
            name
        )


def test_every_error_name_of_our_own_is_a_class() -> None:
    for _, name, state in states():
        for handler in [*state.get("Retry", []), *state.get("Catch", [])]:
            for error in handler["ErrorEquals"]:
                if not error.startswith(("States.", "Lambda.")):
                    assert error in ERROR_NAMES, f"{name}: {error}"


def test_every_error_class_is_raised() -> None:
    raised = set()
    for file in CODE_FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                    raised.add(name)
                case ast.Return(value=ast.Call(func=ast.Name(id=name))):
                    raised.add(name)

    assert raised >= ERROR_NAMES


def test_outcomes_are_spelled_as_in_the_code() -> None:
    recorded = {
        name: state["Arguments"]["Payload"]["outcome"]
        for _, name, state, id in invocations()
        if id == "RecordOutcomeFunction"
    }

    assert set(recorded.values()) == set(Outcome) - {
        Outcome.AWAITING_APPROVAL,
        Outcome.AWAITING_REMOVAL,
    }
    assert recorded["Record exception"] == Outcome.DECLINED


def test_answers_in_conditions_are_answers_that_functions_give() -> None:
    remediate = asl(REPOSITORY / "statemachine" / "remediate.asl.yaml")["States"]

    def compared_with(state: str) -> set[str]:
        return set(re.findall(r"= '(\w+)'", json.dumps(remediate[state])))

    code = (FUNCTIONS / "read_decision.py").read_text()
    others = {"ACCOUNT_GONE", "LOOK_AGAIN", "QUARANTINE"}
    assert compared_with("Approved?") == {*Answer, *others}
    assert all(f'"answer": "{answer}"' in code for answer in others)
    code = (FUNCTIONS / "check_manual_removal.py").read_text()
    assert compared_with("Removed by hand?") == {
        "ACCOUNT_GONE",
        "LOOK_AGAIN",
        "REMOVED",
        "TOO_LATE",
    }
    assert all(f'"{answer}"' in code for answer in compared_with("Removed by hand?"))


def test_a_function_reads_from_its_event_what_its_states_put_there() -> None:
    checked = set()
    for _, name, state, id in invocations():
        payload = state["Arguments"]["Payload"]
        file = FUNCTIONS / f"{snake_case(id.removesuffix('Function'))}.py"
        if isinstance(payload, dict):
            assert event_reads(file) == set(payload), name
            checked.add(id)

    assert len(checked) >= 10


def event_reads(file: Path) -> set[Any]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Subscript(value=ast.Name(id="event"), slice=ast.Constant(value=name)):
                names.add(name)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="event"), attr="get"),
                args=[ast.Constant(value=name), *_],
            ):
                names.add(name)
    return names
