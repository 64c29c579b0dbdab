from __future__ import annotations

import json
from typing import Any

import list_accounts
import pytest

from rootsweep import accounts
from rootsweep.errors import InvalidSweepInputError
from rootsweep.sweeps import SweepFiles

from .builders import an_account

EVERYONE = [
    an_account("333333333331"),
    an_account("333333333332", organizations_state="CLOSED"),
    an_account("333333333333", parents=("r-ab12",)),
    an_account("333333333334"),
]

POLICY = [{"after_seconds": 60, "notify": ["approvers"]}]


@pytest.fixture(autouse=True)
def organization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "list_accounts", lambda client: EVERYONE if client else [])


def run(**fields: Any) -> dict[str, Any]:
    event = {
        "accounts": [],
        "organizational_units": [],
        "detect_only": False,
        "escalation_policy": POLICY,
        "sweep_id": "a-sweep",
        "started_at": "2026-03-04T05:06:07Z",
        **fields,
    }
    return list_accounts.handler(event, None)


def batches(s3: Any) -> list[list[str]]:
    body = s3.get_object(Bucket="reports", Key="sweeps/a-sweep/batches.jsonl")["Body"].read()
    return [json.loads(line)["account_ids"] for line in body.decode().splitlines()]


def test_everyone_is_listed_and_those_to_check_are_cut_into_batches(s3: Any) -> None:
    assert run() == {
        "sweep_id": "a-sweep",
        "started_at": "2026-03-04T05:06:07Z",
        "detect_only": False,
        "escalation_policy": POLICY,
        "accounts": 4,
        "batches": "sweeps/a-sweep/batches.jsonl",
    }
    assert SweepFiles(s3, bucket="reports", sweep_id="a-sweep").read_accounts() == EVERYONE
    assert batches(s3) == [["333333333331", "333333333333"], ["333333333334"]]


def test_only_the_accounts_that_were_asked_for_are_checked(s3: Any) -> None:
    assert run(accounts=["333333333333"])["accounts"] == 1
    assert batches(s3) == [["333333333333"]]


@pytest.mark.parametrize("fields", [{}, {"accounts": ["333333333333"]}])
def test_whatever_was_asked_for_it_is_known_which_accounts_there_are(
    s3: Any, fields: dict[str, Any]
) -> None:
    run(**fields)

    assert SweepFiles(s3, bucket="reports", sweep_id="a-sweep").read_organization() == {
        "333333333331": "ACTIVE",
        "333333333332": "CLOSED",
        "333333333333": "ACTIVE",
        "333333333334": "ACTIVE",
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"accounts": ["333333333331", "999999999999"]}, "accounts: 999999999999"),
        ({"organizational_units": ["ou-ab12-nothere0"]}, "organizational_units: ou-ab12-nothere0"),
    ],
)
def test_what_is_not_in_the_organization_is_refused_by_its_field(
    s3: Any, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidSweepInputError, match=named):
        run(**fields)

    assert s3.list_objects_v2(Bucket="reports")["KeyCount"] == 0
