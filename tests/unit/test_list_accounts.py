from __future__ import annotations

import json
from typing import Any

import list_accounts
import pytest

from rootsweep import accounts
from rootsweep.accounts import Part
from rootsweep.errors import InvalidSweepInputError
from rootsweep.sweeps import SweepFiles

from .builders import UNITS, an_account

EVERYONE = [
    an_account("333333333331"),
    an_account("333333333332", organizations_state="CLOSED"),
    an_account("333333333333", ou="root", parents=("r-ab12",)),
    an_account("333333333334"),
]

POLICY = [{"after_seconds": 60, "notify": ["approvers"]}]


@pytest.fixture(autouse=True)
def organization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists two accounts a part, if that is enough."""

    def listed(
        client: Any, _: Any, *, enough: float, next_token: str = "", units: Any = None
    ) -> Part:
        assert client is list_accounts.organizations
        assert (units == UNITS) == bool(next_token)
        first = int(next_token or 0)
        after = first + 2 if enough < len(EVERYONE) else len(EVERYONE)
        return Part(EVERYONE[first:after], UNITS, f"{after}" if after < len(EVERYONE) else "")

    monkeypatch.setattr(accounts, "list_accounts", listed)
    monkeypatch.setattr(list_accounts, "ACCOUNTS_OF_A_PART", 100)


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


def batches(s3: Any, part: int = 0) -> list[list[str]]:
    key = f"sweeps/a-sweep/batches/{part:04}.jsonl"
    body = s3.get_object(Bucket="reports", Key=key)["Body"].read()
    return [json.loads(line)["account_ids"] for line in body.decode().splitlines()]


def test_everyone_is_listed_and_those_to_check_are_cut_into_batches(s3: Any) -> None:
    assert run() == {
        "sweep_id": "a-sweep",
        "started_at": "2026-03-04T05:06:07Z",
        "detect_only": False,
        "escalation_policy": POLICY,
        "accounts": 4,
        "accounts_of_this_part": 4,
        "batches": "sweeps/a-sweep/batches/0000.jsonl",
        "parts": 1,
    }
    assert SweepFiles(s3, bucket="reports", sweep_id="a-sweep").read_accounts(1) == EVERYONE
    assert batches(s3) == [["333333333331", "333333333333"], ["333333333334"]]


def test_a_large_organization_is_listed_in_parts(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_accounts, "ACCOUNTS_OF_A_PART", 2)

    first = run()
    second = list_accounts.handler(first, None)

    assert (first["accounts"], first["parts"], first["next_token"]) == (2, 1, "2")
    assert second == {
        "sweep_id": "a-sweep",
        "started_at": "2026-03-04T05:06:07Z",
        "detect_only": False,
        "escalation_policy": POLICY,
        "accounts": 4,
        "accounts_of_this_part": 2,
        "batches": "sweeps/a-sweep/batches/0001.jsonl",
        "parts": 2,
    }
    files = SweepFiles(s3, bucket="reports", sweep_id="a-sweep")
    assert files.read_accounts(2) == EVERYONE
    assert set(files.read_organization(2)) == {account.id for account in EVERYONE}
    assert batches(s3, 0) == [["333333333331"]]
    assert batches(s3, 1) == [["333333333333", "333333333334"]]


def test_after_a_large_part_more_are_listed_at_once_for_it_takes_long_to_check(
    s3: Any,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_accounts, "ACCOUNTS_OF_A_PART", 2)
    first = run() | {"accounts_of_this_part": 12}

    asked: list[float] = []
    listed = accounts.list_accounts
    monkeypatch.setattr(
        accounts,
        "list_accounts",
        lambda *_, **given: asked.append(given["enough"]) or listed(*_, **given),
    )
    list_accounts.handler(first, None)
    list_accounts.handler(run(), None)

    assert asked == [4, 2, 2]


def test_a_part_that_is_listed_again_changes_nothing(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_accounts, "ACCOUNTS_OF_A_PART", 2)
    first = run()

    assert list_accounts.handler(first, None) == list_accounts.handler(first, None)
    assert SweepFiles(s3, bucket="reports", sweep_id="a-sweep").read_accounts(2) == EVERYONE


def test_what_was_asked_for_is_looked_for_in_all_of_the_organization(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_accounts, "ACCOUNTS_OF_A_PART", 2)

    assert run(accounts=["333333333334"])["accounts"] == 1
    assert run(organizational_units=["r-ab12"])["accounts"] == 4
    assert "next_token" not in run(accounts=["333333333334"])
    assert batches(s3)


def test_only_the_accounts_that_were_asked_for_are_checked(s3: Any) -> None:
    assert run(accounts=["333333333333"])["accounts"] == 1
    assert batches(s3) == [["333333333333"]]


@pytest.mark.parametrize("fields", [{}, {"accounts": ["333333333333"]}])
def test_whatever_was_asked_for_it_is_known_which_accounts_there_are(
    s3: Any, fields: dict[str, Any]
) -> None:
    run(**fields)

    assert SweepFiles(s3, bucket="reports", sweep_id="a-sweep").read_organization(1) == {
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
