from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import check_accounts
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from rootsweep.accounts import AccountState
from rootsweep.pace import Pace
from rootsweep.root_access import RootSummary
from rootsweep.sweeps import CheckResult, SweepFiles

from .builders import ACCOUNT, an_error

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENT = 300_000


class Context:
    """What Lambda says of the time that is left."""

    def __init__(self, *milliseconds: int) -> None:
        self._left = list(milliseconds)

    def get_remaining_time_in_millis(self) -> int:
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]


def a_summary(*, access_keys: bool) -> RootSummary:
    return RootSummary(access_keys, mfa=True, password=False, signing_certificates=False)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Says what reading an account gives or raises."""

    def use(answers: dict[str, Any]) -> None:
        def read(account_id: str, *, opened_for: str) -> Any:
            assert opened_for == "a-sweep"
            answer = answers[account_id]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(check_accounts.reader, "read", read)

    return use


def check(s3: Any, ids: list[str], context: Any = None) -> dict[str, CheckResult]:
    event = {"sweep_id": "a-sweep", "batch": "0000-0003", "account_ids": ids}
    assert check_accounts.handler(event, context or Context(PATIENT)) is None
    return SweepFiles(s3, bucket="reports", sweep_id="a-sweep").read_check_results()


@pytest.mark.parametrize(
    ("access_keys", "state"), [(True, AccountState.ROOT_KEYS), (False, AccountState.CLEAN)]
)
def test_an_account_is_what_its_summary_says(
    s3: Any, reading: Any, access_keys: bool, state: AccountState
) -> None:
    reading({ACCOUNT: a_summary(access_keys=access_keys)})

    assert check(s3, [ACCOUNT]) == {ACCOUNT: CheckResult(ACCOUNT, state)}


@pytest.mark.parametrize(
    "error",
    [
        an_error("AccessDenied", "AssumeRole", "no such role"),
        an_error("Throttling", "GetAccountSummary"),
        ClientError({}, "GetAccountSummary"),
        EndpointConnectionError(endpoint_url="https://iam.amazonaws.com"),
        ReadTimeoutError(endpoint_url="https://iam.amazonaws.com"),
        KeyError("AccountAccessKeysPresent"),
        KeyError("SummaryMap"),
        TypeError("'NoneType' object is not subscriptable"),
        ValueError("nonsense"),
        RuntimeError("nobody foresaw this"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_account_with_a_strange_answer_is_unknown_with_the_reason_and_never_clean(
    s3: Any, reading: Any, error: Exception
) -> None:
    clean = "333333333334"
    reading({ACCOUNT: error, clean: a_summary(access_keys=False)})

    found = check(s3, [ACCOUNT, clean])

    assert found[ACCOUNT].state == AccountState.UNKNOWN
    assert found[ACCOUNT].reason
    assert found[clean].state == AccountState.CLEAN


def test_the_reason_says_which_call_failed(s3: Any, reading: Any) -> None:
    reading({ACCOUNT: an_error("AccessDenied", "AssumeRole", "no such role")})

    assert check(s3, [ACCOUNT])[ACCOUNT].reason == "AssumeRole: AccessDenied: no such role"


def test_as_many_results_come_out_as_accounts_went_in(s3: Any, reading: Any) -> None:
    ids = [f"{n:012}" for n in range(100)]
    reading(
        {id: an_error() if n % 3 else a_summary(access_keys=n % 2 == 0) for n, id in enumerate(ids)}
    )

    found = check(s3, ids)

    assert list(found) == ids
    assert sum(result.state == AccountState.UNKNOWN for result in found.values()) == 66


def test_accounts_are_checked_side_by_side(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8, timeout=5)  # Passes only if eight are inside at once.

    def read(_: str, **__: str) -> RootSummary:
        together.wait()
        return a_summary(access_keys=False)

    monkeypatch.setattr(check_accounts.reader, "read", read)

    found = check(s3, [f"{n:012}" for n in range(8)])
    assert {result.state for result in found.values()} == {AccountState.CLEAN}


def test_each_look_waits_for_its_turn(
    s3: Any, reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[None] = []
    monkeypatch.setattr(check_accounts.pace, "wait", lambda **_: turns.append(None) or True)
    reading({ACCOUNT: an_error(), "333333333334": a_summary(access_keys=False)})

    check(s3, [ACCOUNT, "333333333334"])

    assert len(turns) == 3  # Two of them at the account that cannot be checked.


def test_who_would_wait_for_a_turn_until_the_time_is_over_is_unknown_and_the_others_are_not(
    s3: Any, reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"{n:012}" for n in range(20)]
    reading({id: a_summary(access_keys=False) for id in ids})
    monkeypatch.setattr(check_accounts, "pace", Pace(1 / 3600))

    found = check(s3, ids)

    states = [result.state for result in found.values()]
    assert (states.count(AccountState.CLEAN), states.count(AccountState.UNKNOWN)) == (1, 19)


def test_what_is_left_when_the_time_runs_out_is_unknown_and_written_down(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def note(account_id: str, **_: str) -> RootSummary:
        read.append(account_id)
        return a_summary(access_keys=False)

    monkeypatch.setattr(check_accounts.reader, "read", note)
    ids = [f"{n:012}" for n in range(40)]
    almost_over = check_accounts.RESERVE_MILLISECONDS - 1

    found = check(s3, ids, Context(*[PATIENT] * 10, almost_over))

    assert len(read) == 10
    assert set(found) == set(ids)
    for id in set(ids) - set(read):
        assert found[id].state == AccountState.UNKNOWN
        assert "time" in found[id].reason


def test_a_batch_of_nobody_is_a_file_of_nothing(s3: Any) -> None:
    assert check(s3, []) == {}
    key = "sweeps/a-sweep/checked/0000-0003.json"
    assert s3.get_object(Bucket="reports", Key=key)["Body"].read() == b"[]"


def test_results_that_cannot_be_written_fail_the_batch(
    reading: Any,
    aws: None,  # noqa: ARG001
) -> None:
    reading({ACCOUNT: a_summary(access_keys=False)})
    event = {"sweep_id": "a-sweep", "batch": "0000-0000", "account_ids": [ACCOUNT]}
    context: Any = Context(PATIENT)

    with pytest.raises(ClientError, match="NoSuchBucket"):
        check_accounts.handler(event, context)


@pytest.mark.parametrize("code", ["Throttling", "AccessDenied"])
def test_a_hiccup_is_worth_a_second_look(
    s3: Any, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    looked = []

    def read(account_id: str, **_: str) -> RootSummary:
        looked.append(account_id)
        if len(looked) == 1:
            raise an_error(code, "GetAccountSummary")
        return a_summary(access_keys=False)

    monkeypatch.setattr(check_accounts.reader, "read", read)

    assert check(s3, [ACCOUNT])[ACCOUNT].state == AccountState.CLEAN
    assert len(looked) == 2
