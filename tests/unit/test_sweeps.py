from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rootsweep import sweeps
from rootsweep.accounts import ACCOUNT_ID, ORGANIZATIONAL_UNIT_ID, AccountState
from rootsweep.errors import InvalidSweepInputError
from rootsweep.sweeps import CheckResult, SweepFiles, SweepRequest

from .builders import ACCOUNT, UNITS, an_account

UNIT = "ou-ab12-cdefgh34"
FIELDS = ("accounts", "organizational_units", "detect_only")

account_ids = st.text("0123456789", min_size=12, max_size=12)
unit_ids = st.from_regex(ORGANIZATIONAL_UNIT_ID, fullmatch=True)
states = st.sampled_from(
    ["ACTIVE", "PENDING_CLOSURE", "UNKNOWN", "SUSPENDED", "CLOSED", "PENDING_ACTIVATION"]
)
organizations = st.lists(
    st.builds(an_account, id=account_ids, name=st.text(), organizations_state=states),
    unique_by=lambda account: account.id,
    max_size=30,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=6,
)


def refused(given_input: Any) -> str:
    with pytest.raises(InvalidSweepInputError) as error:
        SweepRequest.parse(given_input)
    return str(error.value)


def test_no_input_is_the_whole_organization() -> None:
    assert SweepRequest.parse({}) == SweepRequest((), (), detect_only=False)


@given(
    st.lists(account_ids, min_size=1, max_size=3),
    st.lists(unit_ids, min_size=1, max_size=3),
    st.booleans(),
)
def test_a_good_request_is_taken_as_it_is_without_repetitions(
    ids: list[str], units: list[str], detect_only: bool
) -> None:
    request = SweepRequest.parse(
        {"accounts": ids + ids, "organizational_units": units, "detect_only": detect_only}
    )

    assert request.to_dict() == {
        "accounts": tuple(dict.fromkeys(ids)),
        "organizational_units": tuple(dict.fromkeys(units)),
        "detect_only": detect_only,
    }


@given(st.text(), json_values, st.sampled_from([{}, {"detect_only": True}]))
def test_an_unknown_field_is_refused_by_its_name(
    field: str, value: Any, rest: dict[str, Any]
) -> None:
    assume(field not in FIELDS)

    assert field in refused({**rest, field: value})


@given(json_values.filter(lambda value: not isinstance(value, bool)))
def test_detect_only_is_true_or_false_and_nothing_like_it(value: Any) -> None:
    assert "detect_only" in refused({"detect_only": value})


@pytest.mark.parametrize(
    ("field", "pattern"),
    [("accounts", ACCOUNT_ID), ("organizational_units", ORGANIZATIONAL_UNIT_ID)],
)
def test_a_malformed_id_is_refused_by_its_field_and_place(field: str, pattern: Any) -> None:
    good = {"accounts": ACCOUNT, "organizational_units": UNIT}[field]

    @given(json_values)
    def anything(value: Any) -> None:
        assume(not (isinstance(value, str) and pattern.fullmatch(value)))
        message = refused({field: [good, value]})
        assert message.startswith(f"{field}[1]: ")

    anything()


@pytest.mark.parametrize("field", ["accounts", "organizational_units"])
def test_what_is_no_list_of_ids_is_refused_by_its_field(field: str) -> None:
    @given(json_values.filter(lambda value: not isinstance(value, list) or not value))
    def anything(value: Any) -> None:
        assert refused({field: value}).startswith(f"{field}: ")

    anything()


@pytest.mark.parametrize(
    "id",
    [
        "33333333333",
        "3333333333333",
        "333333333333\n",
        " 333333333333",
        "٣٣٣٣٣٣٣٣٣٣٣٣",
        333333333333,
    ],
)
def test_what_only_looks_like_an_account_id_is_refused(id: object) -> None:
    assert refused({"accounts": [id]}).startswith("accounts[0]: ")


@given(json_values.filter(lambda value: not isinstance(value, dict)))
def test_an_input_that_is_no_object_is_refused(value: Any) -> None:
    assert refused(value).startswith("input: ")


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(), json_values, max_size=4))
def test_an_input_is_either_refused_by_a_known_error_or_a_valid_request(
    value: dict[str, Any],
) -> None:
    try:
        request = SweepRequest.parse(value)
    except InvalidSweepInputError:
        message = refused(value)
        assert any(field in message for field in value)
        return
    assert set(value) <= set(FIELDS)
    assert all(ACCOUNT_ID.fullmatch(id) for id in request.accounts)
    assert all(ORGANIZATIONAL_UNIT_ID.fullmatch(id) for id in request.organizational_units)


def test_a_refusal_repeats_only_the_beginning_of_a_huge_value() -> None:
    assert len(refused({"accounts": ["9" * 100_000]})) < 200


def test_a_sweep_id_sorts_by_time_and_tells_executions_apart() -> None:
    one = sweeps.sweep_id_for(execution_arn="arn:1", started_at="2026-03-04T05:06:07.123Z")
    two = sweeps.sweep_id_for(execution_arn="arn:2", started_at="2026-03-04T05:06:07.456Z")
    next_day = sweeps.sweep_id_for(execution_arn="arn:1", started_at="2026-03-05T00:00:00Z")

    assert one.startswith("20260304T050607Z-")
    assert one != two
    assert max(one, two) < next_day
    assert one == sweeps.sweep_id_for(execution_arn="arn:1", started_at="2026-03-04T05:06:07.123Z")


@given(organizations, st.integers(min_value=1, max_value=10))
def test_batches_hold_every_account_to_check_once_and_no_other(
    everyone: list[Any], size: int
) -> None:
    cut = sweeps.batches(everyone, size=size, sweep_id="s", part=7)

    assert [id for batch in cut for id in batch["account_ids"]] == [
        account.id for account in everyone if account.is_checked
    ]
    assert all(len(batch["account_ids"]) <= size for batch in cut)
    assert [batch["batch"] for batch in cut] == [f"0007-{number:04}" for number in range(len(cut))]
    assert {batch["sweep_id"] for batch in cut} == {"s"}


def test_there_is_a_batch_even_if_there_is_nobody_to_check() -> None:
    closed = an_account(organizations_state="CLOSED")

    assert sweeps.batches([closed], size=5, sweep_id="s", part=0) == [
        {"sweep_id": "s", "batch": "0000-0000", "account_ids": []}
    ]


@given(st.data())
def test_as_many_accounts_come_out_as_went_in_each_in_exactly_one_state(
    data: st.DataObject,
) -> None:
    everyone = data.draw(organizations)
    found = {
        account.id: CheckResult(
            account.id,
            data.draw(st.sampled_from(["CLEAN", "ROOT_KEYS", "UNKNOWN"]).map(AccountState)),
        )
        for account in everyone
        if account.is_checked and data.draw(st.booleans(), "its batch finished")
    }
    stranger = CheckResult("999999999999", AccountState.CLEAN)
    known = {
        id: {"keys": [], "reason": "", "case": None}
        | ({"state": "EXCEPTED"} if data.draw(st.booleans(), "excepted") else {})
        for id, result in found.items()
        if result.state == AccountState.ROOT_KEYS and data.draw(st.booleans(), "looked into")
    }

    report = sweeps.report(
        sweep_id="s",
        started_at="a",
        finished_at="b",
        accounts=everyone,
        results={**found, stranger.account_id: stranger},
        cases=known,
    )

    rows = {row["id"]: row for row in report["accounts"]}
    assert [row["id"] for row in report["accounts"]] == [account.id for account in everyone]
    counts = sweeps.counts(report["accounts"])
    assert counts.pop("total") == len(everyone) == sum(counts.values())
    for account in everyone:
        row, result = rows[account.id], found.get(account.id)
        assert row["state"] in set(AccountState)
        if not account.is_checked:
            assert row["state"] == "SKIPPED"
            assert account.organizations_state in row["reason"]
        elif result is None:
            assert row["state"] == "UNKNOWN"
            assert row["reason"]
        elif result.state == "ROOT_KEYS" and account.id not in known:
            assert row["state"] == "UNKNOWN"
            assert "no case was opened" in row["reason"]
        else:
            assert (row["state"] == "CLEAN") == (result.state == "CLEAN")
            assert row["state"] == known.get(account.id, {}).get("state", result.state)


def test_counts_name_every_state_even_if_nobody_is_in_it() -> None:
    rows = [{"state": "CLEAN"}, {"state": "CLEAN"}, {"state": "UNKNOWN"}]

    assert sweeps.counts(rows) == {
        "total": 3,
        "clean": 2,
        "root_keys": 0,
        "excepted": 0,
        "unknown": 1,
        "skipped": 0,
    }


def test_a_state_that_nobody_knows_is_not_counted_as_anything() -> None:
    with pytest.raises(ValueError, match="FINE"):
        sweeps.counts([{"state": "FINE"}])


@pytest.fixture
def files(s3: Any) -> SweepFiles:
    files = SweepFiles(s3, bucket="reports", sweep_id="a-sweep")
    files.write_units(UNITS)
    return files


def test_accounts_come_back_as_they_were_written(files: SweepFiles) -> None:
    everyone = [an_account(), an_account("333333333334", name="\u202eévil", ou="root", parents=())]

    files.write_accounts(0, everyone)

    assert files.read_accounts(1) == everyone


def test_the_accounts_of_all_parts_come_back_each_once_and_in_order(files: SweepFiles) -> None:
    one, two, three = (an_account(f"33333333333{number}") for number in range(3))
    files.write_accounts(0, [two, three])
    files.write_accounts(1, [one, two])
    files.write_organization(0, [two, three])
    files.write_organization(1, [one, two])

    assert files.read_accounts(2) == [one, two, three]
    assert files.read_organization(2) == dict.fromkeys([one.id, two.id, three.id], "ACTIVE")


def test_a_part_that_is_missing_is_an_error_and_not_fewer_accounts(
    files: SweepFiles, s3: Any
) -> None:
    files.write_accounts(0, [an_account()])
    files.write_organization(0, [an_account()])

    with pytest.raises(s3.exceptions.NoSuchKey):
        files.read_accounts(2)
    with pytest.raises(s3.exceptions.NoSuchKey):
        files.read_organization(2)


def test_batches_are_written_one_a_line_for_the_map(files: SweepFiles, s3: Any) -> None:
    lines = sweeps.batches([an_account()], size=1, sweep_id="a-sweep", part=3) * 2

    key = files.write_batches(3, lines)

    assert key == "sweeps/a-sweep/batches/0003.jsonl"
    body = s3.get_object(Bucket="reports", Key=key)["Body"].read().decode()
    assert [json.loads(line) for line in body.splitlines()] == lines


def test_results_of_all_batches_come_back_and_a_repeated_batch_counts_once(
    files: SweepFiles, s3: Any
) -> None:
    one = CheckResult("333333333331", AccountState.CLEAN)
    two = CheckResult("333333333332", AccountState.UNKNOWN, "AssumeRole: AccessDenied: no")
    files.write_check_results("0", [CheckResult("333333333331", AccountState.UNKNOWN, "throttled")])
    files.write_check_results("0", [one])
    files.write_check_results("12", [two])
    SweepFiles(s3, bucket="reports", sweep_id="b-sweep").write_check_results(
        "0", [CheckResult("333333333339", AccountState.CLEAN)]
    )

    assert files.read_check_results() == {one.account_id: one, two.account_id: two}


def test_without_a_finished_batch_there_are_no_results(files: SweepFiles) -> None:
    assert files.read_check_results() == {}


def test_more_batches_than_one_page_lists_are_all_read(
    files: SweepFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for number in range(5):
        files.write_check_results(f"{number}", [CheckResult(f"{number:012}", AccountState.CLEAN)])

    assert len(files.read_check_results()) == 5


def test_cases_come_back_as_they_were_written(files: SweepFiles) -> None:
    files.write_cases({ACCOUNT: {"keys": [], "reason": "", "case": {"id": "c"}}})

    assert files.read_cases() == {ACCOUNT: {"keys": [], "reason": "", "case": {"id": "c"}}}


def test_the_report_is_json_at_the_address_that_is_given(files: SweepFiles, s3: Any) -> None:
    address = files.write_report({"sweep_id": "a-sweep", "accounts": []})

    assert address == "s3://reports/sweeps/a-sweep/report.json"
    answer = s3.get_object(Bucket="reports", Key="sweeps/a-sweep/report.json")
    assert answer["ContentType"] == "application/json"
    assert json.load(answer["Body"]) == {"sweep_id": "a-sweep", "accounts": []}
