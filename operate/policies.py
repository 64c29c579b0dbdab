"""Which service control policies stop root sessions, or their opening, by their text.

A root session acts as `arn:aws:iam::<account>:root`, with the key aws:AssumedRoot in its requests
(IAM User Guide, "AWS global condition context keys"). A policy that denies the root user stops it
too, unless it spares requests that have the key.
"""

from __future__ import annotations

import copy
import json
from enum import Enum
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# What Rootsweep does in a root session (functions/rootsweep/root_access.py).
ACTIONS = (
    "iam:GetAccountSummary",
    "iam:ListAccessKeys",
    "iam:GetAccessKeyLastUsed",
    "iam:DeleteAccessKey",
)
# How it opens one.
OPENING = ("sts:AssumeRoot",)
_ROOT = "arn:aws:iam::000000000000:root"
_SPARES = {"Null": {"aws:AssumedRoot": "true"}}


class Verdict(Enum):
    """Whether a policy stops root sessions; MAYBE where it depends on what is not known here."""

    NO = 0
    MAYBE = 1
    YES = 2


def verdict(content: str) -> Verdict:
    """What a policy does to root sessions.

    Raises ValueError or KeyError for a text that is no policy.
    """
    verdicts = map(_statement, _statements(json.loads(content)))
    return max(verdicts, key=lambda each: each.value, default=Verdict.NO)


def opening(content: str, *, roles: Iterable[str], region: str) -> Verdict:
    """Whether a policy that binds their account keeps one of the roles from opening root sessions.

    `roles` are ARNs; `region` is where they open them. Raises ValueError or KeyError for a text
    that is no policy.
    """
    denying = [
        statement
        for statement in _statements(json.loads(content))
        if statement["Effect"] == "Deny" and _covers(statement, OPENING)
    ]
    verdicts = [
        _all_hold(statement, partial(_condition_of_a_role, role=role, region=region))
        for role in roles
        for statement in denying
    ]
    return max(verdicts, key=lambda each: each.value, default=Verdict.NO)


def spared(content: str) -> str:
    """The policy, with root sessions spared by each statement that stops them."""
    document = copy.deepcopy(json.loads(content))
    statements = _statements(document)
    for statement in statements:
        if _statement(statement) == Verdict.YES:
            condition = statement.setdefault("Condition", {})
            condition["Null"] = {**condition.get("Null", {}), **_SPARES["Null"]}
    document["Statement"] = statements
    return json.dumps(document, separators=(",", ":"))


def listed(given: Any) -> list[Any]:
    """What a policy may write as a list or, if it is one, without."""
    return given if isinstance(given, list) else [given]


def _statements(document: Any) -> list[Any]:
    return listed(document["Statement"])


def _statement(statement: Any) -> Verdict:
    if statement["Effect"] != "Deny" or not _covers(statement, ACTIONS):
        return Verdict.NO
    return _all_hold(statement, _condition)


def _all_hold(statement: Any, condition: Callable[[str, str, Any], Verdict]) -> Verdict:
    """Whether all conditions hold: only then does a statement deny."""
    verdicts = [
        condition(operator, key, values)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    ]
    return min(verdicts, key=lambda each: each.value, default=Verdict.YES)


def _covers(statement: Any, actions: Iterable[str]) -> bool:
    """Whether it is about one of the actions on a root user, among whatever else."""
    if "NotResource" in statement:
        on_root = not any(map(_is_a_root, listed(statement["NotResource"])))
    else:
        on_root = any(map(_is_a_root, listed(statement["Resource"])))
    if "NotAction" in statement:
        return on_root and any(not _matches(each, statement["NotAction"]) for each in actions)
    return on_root and any(_matches(each, statement["Action"]) for each in actions)


def _condition(operator: str, key: str, values: Any) -> Verdict:
    """Whether a condition holds in a root session."""
    name, wanted = _compared(operator, values)
    if key.lower() == "aws:assumedroot":
        return _of_assumed_root(name, {value.lower() for value in wanted})
    if key.lower() != "aws:principalarn":
        return Verdict.MAYBE
    if name == "null":
        return _yes("false" in wanted)
    if name in ("stringequals", "stringequalsignorecase"):  # An asterisk is none there.
        return _yes(any("*" not in each and _is_a_root(each) for each in wanted))
    if name in ("stringlike", "arnlike", "arnequals"):
        return _yes(any(map(_is_a_root, wanted)))
    if name in ("stringnotlike", "arnnotlike", "arnnotequals"):
        return _yes(not any(fnmatchcase(_ROOT, each) for each in wanted))
    return Verdict.YES if name == "stringnotequals" else Verdict.MAYBE


def _condition_of_a_role(
    operator: str, key: str, values: Any, *, role: str, region: str
) -> Verdict:
    """Whether a condition holds when a role opens a root session."""
    name, wanted = _compared(operator, values)
    if key.lower() == "aws:assumedroot" and name == "null":  # It is in no root session yet.
        return _yes("true" in wanted)
    actual = {"aws:principalarn": role, "aws:requestedregion": region}.get(key.lower())
    if actual is None:
        return Verdict.MAYBE
    is_like = any(fnmatchcase(actual, each) for each in wanted)
    holds = {
        "null": "false" in wanted,
        "stringequals": actual in wanted,
        "stringequalsignorecase": actual in wanted,
        "stringlike": is_like,
        "arnlike": is_like,
        "arnequals": is_like,
        "stringnotequals": actual not in wanted,
        "stringnotequalsignorecase": actual not in wanted,
        "stringnotlike": not is_like,
        "arnnotlike": not is_like,
        "arnnotequals": not is_like,
    }
    return _yes(holds[name]) if name in holds else Verdict.MAYBE


def _compared(operator: str, values: Any) -> tuple[str, list[str]]:
    """The operator without what is put before and after it, and the values it compares with."""
    name = operator.lower().removesuffix("ifexists").rpartition(":")[2]
    return name, [str(value) for value in listed(values)]


def _of_assumed_root(name: str, wanted: set[str]) -> Verdict:
    """The key is there, and "true"."""
    holds = {"null": "false", "bool": "true", "stringequals": "true"}
    if name in holds:
        return _yes(holds[name] in wanted)
    return _yes("true" not in wanted) if name == "stringnotequals" else Verdict.MAYBE


def _is_a_root(pattern: str) -> bool:
    """Whether a pattern of ARNs is about the root user, of one account or of all."""
    parts = pattern.split(":")
    if len(parts) == 6 and parts[4].isdigit():
        pattern = ":".join([*parts[:4], "*", parts[5]])
    return fnmatchcase(_ROOT, pattern)


def _yes(holds: bool) -> Verdict:
    return Verdict.YES if holds else Verdict.NO


def _matches(action: str, patterns: Any) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in listed(patterns))
