"""What is shipped, parsed: the template, the definitions and the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from cfnlint.decode import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
FUNCTIONS = REPOSITORY / "functions"
HANDLER_FILES = sorted(FUNCTIONS.glob("*.py"))
CODE_FILES = sorted(FUNCTIONS.rglob("*.py"))
TEMPLATES = sorted(REPOSITORY.glob("[a-z]*.yaml"))
DEFINITIONS = sorted((REPOSITORY / "statemachine").iterdir())
PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


@cache
def template(name: str = "template.yaml") -> dict[str, Any]:
    """A template with `!Ref` and its like in their long form."""
    content, errors = decode(str(REPOSITORY / name))
    assert not errors
    return content


def resources(type: str) -> dict[str, dict[str, Any]]:
    """The properties of all resources of a type, by logical id."""
    return {
        id: resource.get("Properties", {})
        for id, resource in template()["Resources"].items()
        if resource["Type"] == type
    }


def functions() -> dict[str, dict[str, Any]]:
    """The properties of the functions, by file name without `.py`."""
    return {
        properties["Handler"].removesuffix(".handler"): properties
        for properties in resources("AWS::Serverless::Function").values()
    }


def machine_of(definition: Path) -> dict[str, Any]:
    """The properties of the state machine that a definition belongs to."""
    uri = f"statemachine/{definition.name}"
    [machine] = [
        properties
        for properties in resources("AWS::Serverless::StateMachine").values()
        if properties["DefinitionUri"] == uri
    ]
    return machine


@cache
def asl(definition: Path) -> dict[str, Any]:
    """A definition as it stands in the repository; it is YAML before its substitutions too."""
    content: dict[str, Any] = yaml.safe_load(definition.read_text())
    return content


def substituted(definition: Path) -> dict[str, Any]:
    """A definition as it is deployed, with likely values: numbers for numbers, ARNs for ARNs."""

    def value(match: re.Match[str]) -> str:
        source = machine_of(definition)["DefinitionSubstitutions"][match[1]]
        parameter = template()["Parameters"].get(source.get("Ref"))
        if parameter:
            return str(parameter["Default"])
        service = "sns" if "Topic" in match[1] else "lambda"
        middle = "" if service == "sns" else "function:"
        if not match[1].endswith("Arn"):
            return match[1].lower()
        return f"arn:aws:{service}:eu-west-1:222222222222:{middle}{match[1]}"

    content: dict[str, Any] = yaml.safe_load(PLACEHOLDER.sub(value, definition.read_text()))
    return content


def levels(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The machine, and every smaller one inside it."""
    yield machine
    for state in machine["States"].values():
        inside = [*state.get("Branches", [])]
        inside += [state["ItemProcessor"]] if "ItemProcessor" in state else []
        for processor in inside:
            yield from levels(processor)


def states() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Every state of every definition: (file, name, state)."""
    for definition in DEFINITIONS:
        for level in levels(asl(definition)):
            for name, state in level["States"].items():
                yield definition, name, state


def invocations() -> Iterator[tuple[Path, str, dict[str, Any], str]]:
    """Every state that invokes a function: (file, name, state, logical id of the function)."""
    for definition, name, state in states():
        if state.get("Resource", "").startswith("arn:aws:states:::lambda:invoke"):
            [placeholder] = PLACEHOLDER.findall(state["Arguments"]["FunctionName"])
            source = machine_of(definition)["DefinitionSubstitutions"][placeholder]
            id, attribute = source["Fn::GetAtt"]
            assert attribute == "Arn"
            assert placeholder == f"{id}Arn"
            yield definition, name, state, id


def snake_case(words: str) -> str:
    """`Delete root keys` or `DeleteRootKeys` as `delete_root_keys`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])| ", "_", words).lower()


def environment_reads(file: Path) -> set[str]:
    """The names of environment variables that a file reads."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=name)):
                names.add(name)
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ")),
                args=[ast.Constant(value=name), *_],
            ):
                names.add(name)
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=name), *_]):
                names.add(name)
    return names


def statements(role: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The statements of a role's policies, with both sides of every condition."""

    def flat(item: Any) -> Iterator[dict[str, Any]]:
        if "Fn::If" in item:
            for side in item["Fn::If"][1:]:
                yield from flat(side)
        elif item != {"Ref": "AWS::NoValue"}:
            yield item

    for policy in role.get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            yield from flat(statement)


def as_list(value: Any) -> list[Any]:
    """AWS takes one or many."""
    return value if isinstance(value, list) else [value]
