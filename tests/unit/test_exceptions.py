from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import exceptions
from rootsweep.exceptions import AccountException
from rootsweep.table import SCHEMA_VERSION, NewerItemError, exception_key

from .builders import ACCOUNT, APPROVER, NOW, SECOND, a_key, contents

DAY = timedelta(days=1)
LAST_DAY = date(2026, 5, 1)
EXCEPTION = AccountException(
    account_id=ACCOUNT,
    owner=APPROVER,
    reason="migrating in May",
    until="2026-05-01",
    keys=(a_key(), a_key(SECOND)),
    case_id="c",
    ticket="JIRA-1",
)


def keep(table: Any, exception: AccountException = EXCEPTION) -> None:
    table.put_item(Item={**exception_key(exception.account_id), **exception.to_item()})


@pytest.mark.parametrize("warned_at", ["", "2026-04-24T05:06:07Z"])
def test_an_exception_is_found_as_it_was_kept(table: Any, warned_at: str) -> None:
    exception = replace(EXCEPTION, warned_at=warned_at)
    keep(table, exception)

    assert exceptions.find(table, account_id=ACCOUNT) == exception
    assert exceptions.find(table, account_id="333333333334") is None


def test_an_exception_as_it_was_written_before_tickets_has_none(table: Any) -> None:
    keep(table)
    table.update_item(
        Key=exception_key(ACCOUNT),
        UpdateExpression="REMOVE ticket, warned_at SET later = :x",
        ExpressionAttributeValues={":x": 1},
    )

    assert exceptions.find(table, account_id=ACCOUNT) == replace(EXCEPTION, ticket="")


def test_an_exception_of_a_newer_version_is_not_half_understood(table: Any) -> None:
    newer = {**exception_key(ACCOUNT), **EXCEPTION.to_item(), "schema": SCHEMA_VERSION + 1}
    table.put_item(Item=newer)

    with pytest.raises(NewerItemError, match=f"ACCOUNT#{ACCOUNT} EXCEPTION has schema"):
        exceptions.find(table, account_id=ACCOUNT)


@pytest.mark.parametrize(
    ("keys", "covered"),
    [
        ([], False),
        ([a_key()], True),
        ([a_key(last_used_at="2026-03-04T00:00:00+00:00")], True),
        ([a_key(), a_key(SECOND)], True),
        ([a_key(), a_key(SECOND, status="Inactive")], True),
        ([a_key(), a_key("AKIAEXAMPLE00000003")], False),
        ([a_key("AKIAEXAMPLE00000003")], False),
    ],
)
def test_an_exception_covers_the_keys_that_its_owner_saw_as_long_as_they_are_no_more_in_use(
    keys: list[Any], covered: bool
) -> None:
    assert EXCEPTION.covers(keys) is covered


def test_an_inactive_key_that_is_activated_is_not_what_its_owner_saw() -> None:
    exception = replace(EXCEPTION, keys=(a_key(status="Inactive"),))

    assert exception.covers([a_key(status="Inactive")])
    assert not exception.covers([a_key()])


@given(st.integers(min_value=-400, max_value=400))
def test_an_exception_holds_to_its_last_day(days: int) -> None:
    assert EXCEPTION.is_in_force(LAST_DAY - days * DAY) is (days >= 0)


@given(st.integers(min_value=-400, max_value=400))
def test_its_owner_is_warned_in_its_last_seven_days(days: int) -> None:
    assert EXCEPTION.needs_warning(LAST_DAY - days * DAY) is (0 <= days <= 7)


def test_its_owner_is_warned_once(table: Any) -> None:
    keep(table)
    assert EXCEPTION.needs_warning(LAST_DAY)

    exceptions.record_warned(table, exception=EXCEPTION, now=NOW)

    after = exceptions.find(table, account_id=ACCOUNT)
    assert after == replace(EXCEPTION, warned_at="2026-03-04T05:06:07Z")
    assert after
    assert not after.needs_warning(LAST_DAY)


@pytest.mark.parametrize("there", [None, replace(EXCEPTION, case_id="another")])
def test_to_have_warned_of_one_exception_is_not_to_have_warned_of_another(
    table: Any, there: AccountException | None
) -> None:
    if there:
        keep(table, there)
    before = contents(table)

    exceptions.record_warned(table, exception=EXCEPTION, now=NOW)

    assert contents(table) == before
