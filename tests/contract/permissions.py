"""Writes docs/permissions.md, and the roles in docs/security.md: `make permissions`.

From the templates, the definitions and the code. What a role may do and why stands in its template,
who uses it is read from code and definitions, what it must not do is what the tests try.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.permissions.denied import DENIED, named

from .calls import calls_of
from .shipped import (
    DEFINITIONS,
    REPOSITORY,
    as_list,
    functions,
    invocations,
    machine_of,
    snake_case,
    statements,
    states,
    template,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = REPOSITORY / "docs" / "permissions.md"
SECURITY = REPOSITORY / "docs" / "security.md"
TEMPLATES = ("template.yaml", "member-role.yaml", "member-events.yaml")
# What Lambda itself does with the role of a function that has a log, a stream or a queue.
BY_LAMBDA = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "sqs:SendMessage",
}
# What stands before it in the document is written by hand.
MARK = "<!-- From here on made by `make permissions`. -->\n"


@cache
def document() -> str:
    """The text of docs/permissions.md."""
    parts = [DOCUMENT.read_text().partition(MARK)[0], MARK]
    for name in TEMPLATES:
        resources = template(name)["Resources"]
        roles = [id for id, each in resources.items() if each["Type"] == "AWS::IAM::Role"]
        policies = [id for id, each in resources.items() if _resource_policy(each) is not None]
        parts.append(f"\n## {name}\n")
        parts += [_role(id, resources[id]) for id in roles]
        if policies:
            parts.append("\n### Resource policies\n\n| Policy | Says |\n| --- | --- |\n")
            parts += [_policy_row(id, resources[id]) for id in policies]
    return "".join(parts)


# What is made in it begins and ends with one of these.
SECURITY_MARK = "<!-- Made by `make permissions`. -->\n"
# Roles in other accounts, and where it is shown what stops them.
ELSEWHERE = {
    "AuditRole": (
        "everything but `iam:GetAccountSummary`, by its policy and by the policy of each session",
        "test_a_summary_takes_two_calls_the_second_held_to_one_action",
    ),
    "TellRole": (
        "another bus, by its policy; events that look like AWS's",
        "test_nobody_but_aws_sends_as_aws",
    ),
}


@cache
def security() -> str:
    """The text of docs/security.md with a row for each role."""
    before, _, rest = SECURITY.read_text().partition(SECURITY_MARK)
    rows = [
        _attacker_row(id.removesuffix("Role"), id, resource)
        for name in TEMPLATES
        for id, resource in template(name)["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    ]
    header = "| With | At worst | Denied | Test |\n| --- | --- | --- | --- |\n"
    after = rest.partition(SECURITY_MARK)[2]
    return "".join([before, SECURITY_MARK, header, *rows, SECURITY_MARK, after])


def _attacker_row(stem: str, id: str, resource: dict[str, Any]) -> str:
    denied, test = ELSEWHERE.get(id) or (
        ", ".join(f"`{named(call)}`" for call in DENIED[stem]),
        "test_what_a_role_is_not_for_is_denied",
    )
    return f"| {id} | {resource['Metadata']['Worst']} | {denied} | `{test}` |\n"


def whys(resource: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Each statement of a role that is not about its own log, with its reason."""
    metadata = resource["Metadata"]
    wanted = [
        statement
        for statement in statements(resource["Properties"])
        if not set(as_list(statement["Action"])) <= {"logs:CreateLogStream", "logs:PutLogEvents"}
    ]
    return list(zip(wanted, metadata["Why"], strict=True))


def _role(id: str, resource: dict[str, Any]) -> str:
    used = _uses(id)
    trusted = [_trust(each) for each in _trust_statements(resource)]
    rows = "".join(
        f"| {_code(actions)} | {_code(_arns(statement['Resource']))} | {_condition(statement)} "
        f"| {_places(used, actions)} | {why} |\n"
        for statement, why in whys(resource)
        for actions in [as_list(statement["Action"])]
    )
    return (
        f"\n### {id}\n\n{_belongs_to(id)}Trusts {'; '.join(trusted)}.\n\n"
        f"At worst: {resource['Metadata']['Worst']}\n\n"
        "| Action | Resource | Condition | Used in | Why |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}"
    )


def _belongs_to(id: str) -> str:
    name = snake_case(id.removesuffix("Role"))
    if name not in functions():
        machines = [
            f"`statemachine/{each.name}`. "
            for each in DEFINITIONS
            if machine_of(each)["Role"] == {"Fn::GetAtt": [id, "Arn"]}
        ]
        return "".join(machines)
    in_states = [
        f"*{state}*"
        for _, state, _, function in invocations()
        if f"{name}.handler" == _handler(function)
    ]
    where = f", the state{'s' * (len(in_states) > 1)} {', '.join(in_states)}" if in_states else ""
    return f"`functions/{name}.py`{where}. "


def _handler(function: str) -> str:
    return str(template()["Resources"][function]["Properties"]["Handler"])


def _uses(id: str) -> dict[str, set[str]]:
    """Where each action of a role is used."""
    found: dict[str, set[str]] = {}
    name = snake_case(id.removesuffix("Role"))
    if name in functions():
        for where, actions in calls_of(name):
            for action in actions:
                found.setdefault(action, set()).add(f"`{where}`")
    for definition in DEFINITIONS:
        if machine_of(definition)["Role"] == {"Fn::GetAtt": [id, "Arn"]}:
            for file, state, body in states():
                kind = str(body.get("Resource", ""))
                if file == definition and "lambda:invoke" in kind:
                    found.setdefault("lambda:InvokeFunction", set()).add(f"*{state}*")
                if file == definition and "sns:publish" in kind:
                    found.setdefault("sns:Publish", set()).add(f"*{state}*")
    return found


def _places(used: dict[str, set[str]], actions: list[str]) -> str:
    places = sorted({place for action in actions for place in used.get(action, ())})
    return "<br>".join(places) or "who is trusted, by itself"


def _trust_statements(resource: dict[str, Any]) -> list[dict[str, Any]]:
    return as_list(resource["Properties"]["AssumeRolePolicyDocument"]["Statement"])


def _trust(statement: dict[str, Any]) -> str:
    [principals] = statement["Principal"].values()
    condition = _condition(statement)
    return _code(_arns(principals)) + (f" if {condition}" if condition else ", without a condition")


def _condition(statement: dict[str, Any]) -> str:
    return "<br>".join(
        f"`{operator} {key}` = {_code(_arns(values))}"
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _code(texts: list[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _arns(values: Any) -> list[str]:
    return [_text(value) for value in as_list(values)]


def _text(value: Any) -> str:
    """An intrinsic function as people read it."""
    match value:
        case {"Ref": name}:
            return f"<{name.removeprefix('AWS::')}>"
        case {"Fn::GetAtt": [name, *_]}:
            return f"<{name}>"
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{(?:AWS::)?([\w.]+)\}", r"<\1>", str(text)).replace(".Arn>", ">")
        case _:
            return str(value)


def _resource_policy(resource: dict[str, Any]) -> dict[str, Any] | None:
    properties = resource.get("Properties", {})
    if resource["Type"] == "AWS::Lambda::Permission":
        return {"Statement": [properties]}
    if resource["Type"] == "AWS::IAM::Role":
        return None
    policy = properties.get("PolicyDocument") or properties.get("Policy")
    return policy if isinstance(policy, dict) else None


def _policy_row(id: str, resource: dict[str, Any]) -> str:
    return f"| {id} | {'<br>'.join(_sayings(resource))} |\n"


def _sayings(resource: dict[str, Any]) -> Iterator[str]:
    policy = _resource_policy(resource)
    assert policy
    for statement in policy["Statement"]:
        principal = statement["Principal"]
        who = next(iter(principal.values())) if isinstance(principal, dict) else principal
        on = statement.get("Resource") or statement.get("FunctionName")
        limits = _condition(statement)
        if "SourceArn" in statement:
            limits = f"`SourceArn` = {_code(_arns(statement['SourceArn']))}"
        yield (
            f"{statement.get('Effect', 'Allow')} {_code(_arns(who))} "
            f"{_code(_arns(statement['Action']))} on {_code(_arns(on))}"
            f"{f' if {limits}' if limits else ''}"
        )


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    SECURITY.write_text(security())
