"""Which AWS operations the code of a function calls, read from the code itself."""

from __future__ import annotations

import ast
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name

from .shipped import FUNCTIONS

# The services that functions call, and what IAM calls them.
SERVICES = {
    "account": "account",
    "dynamodb": "dynamodb",
    "events": "events",
    "iam": "iam",
    "organizations": "organizations",
    "s3": "s3",
    "securityhub": "securityhub",
    "sesv2": "ses",
    "sns": "sns",
    "ssm": "ssm",
    "stepfunctions": "states",
    "sts": "sts",
}
# Calls whose permission has another name (Service Authorization Reference).
PERMISSIONS = {
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "dynamodb:TransactWriteItems": set(),  # Each of its writes needs its own.
}
WRITES = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
# Made in the sessions that AssumeRoot and AssumeRole open, with the rights of those.
OF_THE_MEMBER = {
    "delete_access_key",
    "get_access_key_last_used",
    "get_account_summary",
    "list_access_keys",
}


@cache
def operations() -> dict[str, set[str]]:
    """The permissions that a method of a client may stand for, by its name."""
    found: dict[str, set[str]] = {}
    session = botocore.session.get_session()
    for service, prefix in SERVICES.items():
        for operation in session.get_service_model(service).operation_names:
            action = f"{prefix}:{operation}"
            names = found.setdefault(xform_name(operation), set())
            names |= PERMISSIONS.get(action, {action})
    return found


@cache
def calls_of(handler: str) -> list[tuple[str, set[str]]]:
    """What the code calls that a handler file can reach: where, and what each call may stand for.

    Where is like `delete_root_keys.py` or `rootsweep/cases.py: decide`.
    """
    found: list[tuple[str, set[str]]] = []
    for where, node in _reachable(handler):
        match node:
            case ast.Attribute(attr=name) if name in operations():
                if name not in OF_THE_MEMBER:
                    found.append((where, operations()[name]))
            case ast.Call(
                func=ast.Attribute(attr="get_paginator"), args=[ast.Constant(value=str(name))]
            ) if name not in OF_THE_MEMBER:
                found.append((where, operations()[name]))
            case ast.Dict(keys=keys):
                writes = [key.value for key in keys if isinstance(key, ast.Constant)]
                found += [
                    (where, {f"dynamodb:{WRITES[write]}"}) for write in writes if write in WRITES
                ]
    return [(where, actions) for where, actions in found if actions]


def _reachable(handler: str) -> list[tuple[str, ast.AST]]:
    """The nodes of a handler file, and of everything in `rootsweep` that they lead to, with places.

    Methods are found by their names, in the classes that are found.
    """
    nodes: list[tuple[str, ast.AST]] = []
    names: set[tuple[str, str]] = set()
    methods: set[str] = set()
    classes: list[tuple[str, ast.ClassDef]] = []
    done: set[ast.AST] = set()
    todo: list[tuple[str, ast.AST]] = [(handler, _parsed(f"{handler}.py"))]
    while todo:
        module, tree = todo.pop()
        if tree in done:
            continue
        done.add(tree)
        imported = _imports(module)
        variables = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        where = _path(module)
        if isinstance(tree, ast.FunctionDef):
            where += f": {tree.name}"
        for node in ast.walk(tree):
            nodes.append((where, node))
            match node:
                case ast.Attribute(value=ast.Name(id=alias), attr=name) if alias in imported:
                    names.add((imported[alias][0], name))
                case ast.Name(id=name) if name not in variables:
                    names.add(imported.get(name, (module, name)))
            if isinstance(node, ast.Attribute):
                methods.add(node.attr)
        for home, name in names:
            definition = _definitions(home).get(name)
            if isinstance(definition, ast.ClassDef):
                classes.append((home, definition))
            elif definition:
                todo.append((home, definition))
        todo += [
            (home, member)
            for home, definition in classes
            for member in definition.body
            if isinstance(member, ast.FunctionDef)
            and (member.name in methods or member.name.startswith("__"))
        ]
    return nodes


@cache
def _parsed(path: str) -> ast.Module:
    return ast.parse((FUNCTIONS / path).read_text())


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """What a module imports from the domain: (module, name) by its name here."""
    found = {}
    for node in ast.walk(_parsed(_path(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rootsweep"):
            inside = (node.module or "").removeprefix("rootsweep").lstrip(".")
            for alias in node.names:
                target = (inside, alias.name) if inside else (alias.name, "")
                found[alias.asname or alias.name] = (f"rootsweep.{target[0]}", target[1])
    return found


@cache
def _definitions(module: str) -> dict[str, Any]:
    """The functions and classes of a module of the domain, by name."""
    if not module.startswith("rootsweep."):
        return {}
    return {
        node.name: node
        for node in _parsed(_path(module)).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def _path(module: str) -> str:
    return f"{module.replace('.', '/')}.py"
