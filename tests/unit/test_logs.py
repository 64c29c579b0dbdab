"""Log lines carry the ids of what they are about."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rootsweep import logs

CASE = "111122223333-20261125T060000Z"
log = logging.getLogger()


@pytest.fixture(autouse=True)
def from_info_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def ids(record: logging.LogRecord) -> dict[str, str]:
    names = ("sweep_id", "case_id", "account_id")
    return {name: vars(record)[name] for name in names if name in vars(record)}


def test_what_is_logged_has_the_ids_that_were_given_and_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with logs.about(sweep_id="a-sweep"):
        with logs.about(account_id="111122223333"):
            log.info("both")
        log.info("the sweep")
    log.info("nothing")

    assert [ids(each) for each in caplog.records] == [
        {"sweep_id": "a-sweep", "account_id": "111122223333"},
        {"sweep_id": "a-sweep"},
        {},
    ]


def test_a_case_names_its_account(caplog: pytest.LogCaptureFixture) -> None:
    with logs.about(case_id=CASE):
        log.info("hello")

    assert [ids(each) for each in caplog.records] == [
        {"case_id": CASE, "account_id": "111122223333"}
    ]


def test_threads_do_not_get_each_others_ids(caplog: pytest.LogCaptureFixture) -> None:
    def work(account_id: str) -> None:
        with logs.about(account_id=account_id):
            for _ in range(50):
                log.info(account_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ["111111111111", "222222222222", "333333333333", "444444444444"]))

    assert len(caplog.records) == 200
    assert all(ids(each) == {"account_id": each.getMessage()} for each in caplog.records)


def test_an_invocation_leaves_a_line_with_its_ids_and_nothing_else_of_its_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @logs.invocation
    def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
        return event

    event = {"case_id": CASE, "sweep_id": "a-sweep", "task_token": "a-token"}

    assert handler(event, None) == event
    [record] = caplog.records
    assert record.getMessage() == "done"
    assert ids(record) == {
        "sweep_id": "a-sweep",
        "case_id": CASE,
        "account_id": "111122223333",
    }
    assert "a-token" not in str(vars(record))


def test_an_invocation_that_fails_says_so_with_its_ids_and_still_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @logs.invocation
    def handler(_event: dict[str, Any], _context: object) -> None:
        raise KeyError("what is missing")

    with pytest.raises(KeyError):
        handler({"case_id": CASE}, None)
    log.info("the next invocation in the same environment")

    failed, after = caplog.records
    assert failed.levelno == logging.ERROR
    assert failed.exc_info
    assert str(failed.exc_info[1]) == "'what is missing'"
    assert ids(failed)["case_id"] == CASE
    assert ids(after) == {}


def test_an_error_is_logged_with_what_it_was_about(caplog: pytest.LogCaptureFixture) -> None:
    @logs.invocation
    def handler(_event: dict[str, Any], _context: object) -> None:
        with logs.about(case_id=CASE):
            raise KeyError("what is missing")

    with pytest.raises(KeyError):
        handler({"sweep_id": "a-sweep"}, None)

    [failed] = caplog.records
    assert ids(failed) == {"sweep_id": "a-sweep", "case_id": CASE, "account_id": "111122223333"}
