"""Every permission of a function is needed: without it, the function cannot do all of its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.shipped import functions
from tests.contract.test_documents import TESTS

from .probes import PROBES
from .world import RefusedError

if TYPE_CHECKING:
    from .probes import Probe
    from .world import World

# What is done with a function's role by Lambda itself; the embedded AWS does it without.
BY_LAMBDA = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
}

# Needed where the embedded AWS does not lead: the test that shows it.
ELSEWHERE = {
    ("list_accounts", "organizations:ListAccountsForParent"): (
        "test_without_paths_the_place_is_looked_up_in_the_tree"
    ),
    ("request_manual_removal", "dynamodb:UpdateItem"): (
        "test_an_address_that_ses_refuses_is_noted_and_the_others_are_enough"
    ),
}


def works(world: World, probe: Probe) -> bool:
    try:
        probe(world)
    except (AssertionError, RefusedError, KeyError, ValueError):
        return False
    return True


def test_every_function_has_a_probe() -> None:
    assert set(PROBES) == set(functions())


def test_what_is_shown_elsewhere_is_shown() -> None:
    assert set(ELSEWHERE.values()) <= TESTS


@pytest.mark.parametrize("function", sorted(PROBES))
def test_no_permission_of_a_function_is_one_too_many(world: World, function: str) -> None:
    role = "".join(word.title() for word in function.split("_")) + "Role"
    for probe in PROBES[function]:
        probe(world)
    needless = []
    for number, statement in enumerate(world.statements(role)):
        actions = statement["Action"]
        for action in actions if isinstance(actions, list) else [actions]:
            if action not in BY_LAMBDA and (function, action) not in ELSEWHERE:
                with world.without(role, number, action):
                    if all(works(world, probe) for probe in PROBES[function]):
                        needless.append((number, action))
    assert needless == []
    for probe in PROBES[function]:
        probe(world)
