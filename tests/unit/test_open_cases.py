from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import open_cases
import pytest
from botocore.exceptions import EndpointConnectionError

from rootsweep import cases, exceptions, root_access
from rootsweep.accounts import AccountState
from rootsweep.cases import Answer, Case, Obstacle, Outcome
from rootsweep.errors import CaseEndedError, RootSessionDeniedError
from rootsweep.sweeps import CheckResult, SweepFiles
from rootsweep.table import SCHEMA_VERSION, case_key

from .builders import (
    A_WEEK,
    ACCOUNT,
    APPROVER,
    HOSTILE,
    NOW,
    ONE_PERSON,
    SECOND,
    TWO_RUNGS,
    UNITS,
    a_decided_case,
    a_decision,
    a_key,
    a_waiting_case,
    an_account,
    an_error,
    asked,
    contents,
    end_case,
    open_a_case,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CLEAN = "333333333334"
EVENT = {
    "sweep_id": "a-sweep",
    # After all cases of these tests.
    "started_at": f"{datetime.now(UTC) + timedelta(hours=2):%FT%TZ}",
    "detect_only": False,
    "escalation_policy": [rung.to_dict() for rung in TWO_RUNGS],
    "accounts": 2,
    "batches": "",
    "parts": 1,
}


class ExecutionAlreadyExistsError(Exception):
    """What Step Functions says of a name that was used."""


class StepFunctions:
    """Starts executions as AWS does: the same name and input again is the running one."""

    class exceptions:  # noqa: N801 - boto3's name
        ExecutionAlreadyExists = ExecutionAlreadyExistsError

    def __init__(self) -> None:
        self.running: dict[str, str] = {}
        self.ended: set[str] = set()
        self.started = 0

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> None:  # noqa: N803
        assert stateMachineArn == open_cases.REMEDIATE_ARN
        if name in self.ended or self.running.get(name, input) != input:
            raise ExecutionAlreadyExistsError
        self.started += name not in self.running
        self.running[name] = input


@pytest.fixture(autouse=True)
def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto's transactions do not stand threads."""
    monkeypatch.setattr(open_cases, "CONCURRENCY", 1)


@pytest.fixture
def stepfunctions(monkeypatch: pytest.MonkeyPatch) -> StepFunctions:
    fake = StepFunctions()
    monkeypatch.setattr(open_cases, "stepfunctions", fake)
    return fake


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What reading the keys of an account gives or raises, by account."""
    answers: dict[str, Any] = {ACCOUNT: [a_key()]}

    def session(
        _sts: object, _table: object, *, account_id: str, partition: str, opened_for: str
    ) -> str:
        assert (partition, opened_for[1:]) == ("aws", "-sweep")
        return account_id

    def keys(iam: Any, *, account_id: str) -> Any:
        assert iam == account_id
        answer = answers[account_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(root_access, "audit_session", session)
    monkeypatch.setattr(root_access, "list_root_keys", keys)
    return answers


@pytest.fixture
def files(s3: Any) -> SweepFiles:
    """A sweep that found root keys in one account, and another one clean."""
    files = SweepFiles(s3, bucket="reports", sweep_id="a-sweep")
    files.write_units(UNITS)
    everyone = [an_account(), an_account(CLEAN), an_account("333333333335")]
    files.write_organization(0, everyone)
    files.write_accounts(0, everyone)
    files.write_check_results(
        "0", [CheckResult(ACCOUNT, AccountState.ROOT_KEYS), CheckResult(CLEAN, AccountState.CLEAN)]
    )
    return files


def run(**fields: Any) -> dict[str, Any]:
    return open_cases.handler({**EVENT, **fields}, None)


def the_case(table: Any) -> Case:
    case = cases.find_open_case(table, account_id=ACCOUNT)
    assert case
    return case


def test_an_account_with_root_keys_gets_a_case_and_an_execution(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, found: Any
) -> None:
    assert run() == {**EVENT, "cases_opened": 1}

    case = the_case(table)
    assert json.loads(stepfunctions.running[case.id]) == {
        "case_id": case.id,
        "sweep_id": "a-sweep",
        "account": {"id": ACCOUNT, "name": "payments-prod", "ou": "Workloads/Prod"},
    }
    assert files.read_cases() == {
        ACCOUNT: {
            "keys": [key.to_dict() for key in found[ACCOUNT]],
            "reason": "",
            "case": {
                "id": case.id,
                "outcome": "AWAITING_APPROVAL",
                "execution_arn": case.execution_arn,
                "opened_at": case.opened_at,
                "rung": 1,
            },
        }
    }


@pytest.mark.usefixtures("stepfunctions")
def test_the_mails_wait_for_the_window_and_a_moment_for_each_case(
    table: Any, files: SweepFiles, found: Any
) -> None:
    everyone = [an_account(f"{n:012}") for n in range(10)]
    clean = [an_account(f"{n:012}") for n in range(10, 20)]
    files.write_accounts(0, [*everyone, *clean])
    files.write_check_results(
        "0",
        [CheckResult(account.id, AccountState.ROOT_KEYS) for account in everyone]
        + [CheckResult(account.id, AccountState.CLEAN) for account in clean],
    )
    found |= {account.id: [a_key()] for account in everyone}
    start = datetime.now(UTC).replace(microsecond=0)

    run()

    times = set()
    for account in everyone:
        case = cases.find_open_case(table, account_id=account.id)
        assert case
        assert case.parents == account.parents
        times.add(case.ask_at)
    [ask_at] = times
    # A minute, as the stack's parameter says here, and ten times three tenths of a second.
    assert timedelta(seconds=62) <= datetime.fromisoformat(ask_at) - start < timedelta(seconds=68)


@pytest.mark.usefixtures("files", "found", "stepfunctions")
def test_another_sweep_does_not_put_off_the_mail_about_an_open_case(table: Any) -> None:
    case = open_a_case(table)

    run()

    assert the_case(table).ask_at == case.ask_at == "2026-03-04T05:06:07Z"


@pytest.mark.usefixtures("files", "found")
def test_a_case_that_replaces_a_dead_one_waits_for_the_window_too(
    table: Any, stepfunctions: StepFunctions
) -> None:
    stepfunctions.ended.add(open_a_case(table).id)
    start = datetime.now(UTC).replace(microsecond=0)

    run()

    assert datetime.fromisoformat(the_case(table).ask_at) - start >= timedelta(seconds=60)


def test_an_account_that_is_clean_or_unchecked_gets_no_case(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    found: Any,  # noqa: ARG001
) -> None:
    files.write_check_results("0", [CheckResult(CLEAN, AccountState.CLEAN)])
    files.write_check_results("1", [CheckResult(ACCOUNT, AccountState.UNKNOWN, "throttled")])

    assert run()["cases_opened"] == 0
    assert contents(table) == []
    assert stepfunctions.started == 0
    assert files.read_cases() == {}


@pytest.mark.usefixtures("files", "found")
def test_running_again_opens_and_counts_the_same(table: Any, stepfunctions: StepFunctions) -> None:
    first = run()
    before = contents(table)

    assert run() == first
    assert contents(table) == before
    assert stepfunctions.started == 1


@pytest.mark.usefixtures("found")
def test_another_sweep_finds_the_open_case_and_counts_none(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, s3: Any
) -> None:
    run()
    case = the_case(table)
    other = SweepFiles(s3, bucket="reports", sweep_id="b-sweep")
    other.write_units(UNITS)
    other.write_organization(0, [an_account(name="renamed")])
    other.write_accounts(0, [an_account(name="renamed")])
    other.write_check_results("0", [CheckResult(ACCOUNT, AccountState.ROOT_KEYS)])

    assert run(sweep_id="b-sweep")["cases_opened"] == 0
    assert the_case(table) == case
    assert stepfunctions.started == 1
    assert other.read_cases()[ACCOUNT]["case"] == files.read_cases()[ACCOUNT]["case"]


@pytest.mark.usefixtures("files", "found")
def test_a_case_whose_execution_was_never_started_is_started(
    table: Any, stepfunctions: StepFunctions
) -> None:
    case = open_a_case(table)

    run()

    assert list(stepfunctions.running) == [case.id]
    assert the_case(table) == case


@pytest.mark.usefixtures("files", "found")
def test_a_case_whose_execution_is_dead_is_failed_and_replaced(
    table: Any, stepfunctions: StepFunctions
) -> None:
    dead = open_a_case(table)
    stepfunctions.ended.add(dead.id)

    assert run()["cases_opened"] == 1

    ended = cases.load(table, case_id=dead.id)
    assert ended.outcome == Outcome.FAILED
    assert "execution was stopped or failed" in ended.reason
    assert the_case(table).id != dead.id
    assert list(stepfunctions.running) == [the_case(table).id]


@pytest.mark.usefixtures("found")
def test_a_case_that_ends_properly_this_very_moment_keeps_its_outcome(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = open_a_case(table)
    stepfunctions.ended.add(case.id)
    record = cases.record_outcome

    def too_late(table: Any, **given: Any) -> Case:
        monkeypatch.setattr(cases, "record_outcome", record)
        record(table, **{**given, "outcome": Outcome.REMEDIATED})
        raise CaseEndedError(case.id)

    monkeypatch.setattr(cases, "record_outcome", too_late)

    assert run()["cases_opened"] == 0
    assert files.read_cases()[ACCOUNT]["case"]["outcome"] == "REMEDIATED"
    assert cases.load(table, case_id=case.id).outcome == Outcome.REMEDIATED


@pytest.mark.usefixtures("found")
def test_detecting_opens_nothing_and_starts_nothing(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions
) -> None:
    assert run(detect_only=True) == {**EVENT, "detect_only": True, "cases_opened": 0}
    assert contents(table) == []
    assert stepfunctions.started == 0
    assert files.read_cases()[ACCOUNT]["case"] is None
    assert files.read_cases()[ACCOUNT]["keys"]


@pytest.mark.usefixtures("found")
def test_detecting_shows_the_open_case(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions
) -> None:
    case = open_a_case(table)

    run(detect_only=True)

    assert files.read_cases()[ACCOUNT]["case"]["id"] == case.id
    assert stepfunctions.started == 0


def declined(table: Any, *, until: datetime, ticket: str = "") -> Case:
    """An account whose keys somebody decided to keep until a day."""
    case = a_waiting_case(table)
    decision = a_decision(case, Answer.DECLINED, until=f"{until:%Y-%m-%d}", ticket=ticket)
    cases.decide(table, case=case, decision=decision)
    return end_case(table, case.id, Outcome.DECLINED, now=datetime.now(UTC))


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("detect_only", [True, False])
def test_keys_under_an_exception_are_excepted_and_nobody_is_asked(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, detect_only: bool
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    case = declined(table, until=tomorrow)

    assert run(detect_only=detect_only)["cases_opened"] == 0

    row = files.read_cases()[ACCOUNT]
    assert row["state"] == "EXCEPTED"
    assert row["reason"] == (
        f"until {tomorrow:%Y-%m-%d}, by payments-leads@example.com: migrating in May"
    )
    assert row["case"]["id"] == case.id
    assert stepfunctions.started == 0


@pytest.mark.parametrize(
    "keys", [[a_key(), a_key(SECOND)], [a_key(SECOND)], [a_key(SECOND, status="Inactive")]]
)
def test_an_exception_covers_only_the_keys_it_was_made_for(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, found: Any, keys: list[Any]
) -> None:
    declined(table, until=datetime.now(UTC) + timedelta(days=1))
    found[ACCOUNT] = keys

    assert run()["cases_opened"] == 1
    assert "state" not in files.read_cases()[ACCOUNT]
    assert stepfunctions.started == 1


@pytest.mark.usefixtures("found")
def test_when_an_exception_is_over_somebody_is_asked_again(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions
) -> None:
    declined(table, until=datetime.now(UTC) - timedelta(days=1))

    assert run()["cases_opened"] == 1
    assert "state" not in files.read_cases()[ACCOUNT]
    assert stepfunctions.started == 1


@pytest.mark.usefixtures("files", "found", "stepfunctions")
def test_a_new_case_names_the_exception_that_is_over(table: Any) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    before = declined(table, until=yesterday)

    run()

    exception = the_case(table).old_exception
    assert exception
    assert (exception.case_id, exception.owner) == (before.id, APPROVER)
    assert (exception.reason, exception.until) == ("migrating in May", f"{yesterday:%Y-%m-%d}")


@pytest.mark.usefixtures("files", "stepfunctions")
def test_a_new_case_knows_the_exception_that_still_holds_for_some_of_its_keys(
    table: Any, found: Any
) -> None:
    before = declined(table, until=datetime.now(UTC) + timedelta(days=30))
    found[ACCOUNT] = [a_key(), a_key(SECOND)]

    run()

    exception = the_case(table).old_exception
    assert exception
    assert (exception.case_id, exception.keys) == (before.id, before.keys)


@pytest.mark.usefixtures("files", "stepfunctions")
def test_a_case_looks_again_when_what_is_left_may_stay_by_an_exception(
    table: Any, found: Any
) -> None:
    declined(table, until=datetime.now(UTC) + timedelta(days=30))
    found[ACCOUNT] = [a_key(), a_key(SECOND)]
    run()
    case = the_case(table)
    cases.await_approval(table, case_id=case.id, task_token="token")
    run()
    assert not cases.load(table, case_id=case.id).woken

    found[ACCOUNT] = [a_key()]
    run(started_at=f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}")

    assert cases.load(table, case_id=case.id).woken


@pytest.mark.usefixtures("stepfunctions", "found")
def test_a_case_knows_where_its_account_was_moved_to(table: Any, files: SweepFiles) -> None:
    run()
    before = the_case(table)
    moved = replace(an_account(), parents=("r-1", "ou-new"), ou="New")
    for there in (moved, replace(moved, parents=(), ou="it is not known where")):
        files.write_accounts(0, [there])
        run()

        case = the_case(table)
        assert (case.id, case.parents, case.outcome) == (
            before.id,
            ("r-1", "ou-new"),
            Outcome.AWAITING_APPROVAL,
        )


@pytest.mark.usefixtures("found", "stepfunctions")
def test_an_exception_is_told_with_its_ticket(table: Any, files: SweepFiles) -> None:
    declined(table, until=datetime.now(UTC) + timedelta(days=1), ticket="JIRA-1")

    run()

    reason = files.read_cases()[ACCOUNT]["reason"]
    assert reason.endswith("by payments-leads@example.com: migrating in May (JIRA-1)")


@pytest.mark.usefixtures("files", "found", "stepfunctions")
def test_a_case_keeps_the_policy_of_the_sweep_that_opened_it(table: Any) -> None:
    run()
    run(sweep_id="a-sweep", escalation_policy=[rung.to_dict() for rung in A_WEEK])

    assert the_case(table).ladder == TWO_RUNGS


@pytest.mark.usefixtures("found", "stepfunctions")
def test_a_case_that_was_given_up_goes_on_where_it_ended(table: Any, files: SweepFiles) -> None:
    given_up(table)

    run()

    case = the_case(table)
    assert (case.rung, case.reopened) == (1, 1)
    assert files.read_cases()[ACCOUNT]["case"]["rung"] == 2


@pytest.mark.usefixtures("files", "stepfunctions")
def test_other_keys_than_those_that_were_given_up_begin_on_the_first_rung(
    table: Any, found: Any
) -> None:
    given_up(table)
    found[ACCOUNT] = [a_key(SECOND)]

    run()

    assert (the_case(table).rung, the_case(table).reopened) == (0, 0)


def given_up(table: Any) -> None:
    """An account with a case that was escalated on the second rung."""
    case = asked(table, a_waiting_case(table, ladder=TWO_RUNGS), now=NOW + timedelta(days=8))
    assert case.rung == 1
    end_case(table, case.id, Outcome.ESCALATED)


# -- GovCloud -------------------------------------------------------------------------------------


@pytest.fixture
def govcloud(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(_sts: object, _table: object, *, account_id: str, partition: str, **_: str) -> str:
        assert partition == "aws-us-gov"
        return account_id

    monkeypatch.setattr(open_cases, "PARTITION", "aws-us-gov")
    monkeypatch.setattr(root_access, "audit_session", session)


@pytest.mark.usefixtures("found", "govcloud")
@pytest.mark.parametrize("detect_only", [True, False])
def test_keys_of_govcloud_are_excepted_as_a_class_if_the_stack_says_so(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    monkeypatch: pytest.MonkeyPatch,
    detect_only: bool,
) -> None:
    monkeypatch.setattr(open_cases, "GOVCLOUD_EXCEPTION_REASON", "RISK-7, accepted by the CISO")

    assert run(detect_only=detect_only)["cases_opened"] == 0

    row = files.read_cases()[ACCOUNT]
    assert (row["state"], row["case"]) == ("EXCEPTED", None)
    assert row["reason"] == ("root users of GovCloud cannot sign in: RISK-7, accepted by the CISO")
    assert row["keys"]
    assert stepfunctions.started == 0
    assert contents(table) == []


@pytest.mark.usefixtures("table", "files", "found", "govcloud", "stepfunctions")
def test_without_a_reason_keys_of_govcloud_are_like_all_others() -> None:
    assert run()["cases_opened"] == 1


@pytest.mark.usefixtures("table", "files", "found", "stepfunctions")
def test_the_class_exception_of_govcloud_is_for_govcloud_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_cases, "GOVCLOUD_EXCEPTION_REASON", "RISK-7")

    assert run()["cases_opened"] == 1


UNREADABLE = [
    RootSessionDeniedError("account 333333333333: AssumeRoot: AccessDenied: no"),
    an_error("Throttling", "ListAccessKeys"),
    EndpointConnectionError(endpoint_url="https://iam.amazonaws.com"),
]


@pytest.mark.parametrize("error", UNREADABLE, ids=lambda error: type(error).__name__)
def test_an_account_whose_keys_cannot_be_read_gets_a_case_all_the_same(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    found: Any,
    error: Exception,
) -> None:
    found[ACCOUNT] = error

    assert run()["cases_opened"] == 1

    row = files.read_cases()[ACCOUNT]
    assert row["keys"] == []
    assert row["reason"].startswith("its keys could not be read: ")
    assert "state" not in row
    assert row["case"]["id"] == the_case(table).id
    assert stepfunctions.started == 1


def test_keys_under_an_exception_that_cannot_be_read_are_unknown_and_nobody_is_asked(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    found: Any,
) -> None:
    declined(table, until=datetime.now(UTC) + timedelta(days=1))
    found[ACCOUNT] = an_error("Throttling", "ListAccessKeys")

    run()

    assert stepfunctions.started == 0
    assert cases.find_open_case(table, account_id=ACCOUNT) is None
    row = files.read_cases()[ACCOUNT]
    assert row["state"] == "UNKNOWN"
    assert "ListAccessKeys: Throttling" in row["reason"]


@pytest.mark.usefixtures("files")
def test_a_case_about_new_keys_runs_though_those_of_an_exception_cannot_be_read(
    table: Any, stepfunctions: StepFunctions, found: Any
) -> None:
    declined(table, until=datetime.now(UTC) + timedelta(days=1))
    case = open_a_case(table, now=NOW + timedelta(seconds=1))
    found[ACCOUNT] = an_error("Throttling", "ListAccessKeys")

    run()

    assert list(stepfunctions.running) == [case.id]


def test_many_accounts_get_a_case_each_and_each_its_own_keys(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, found: Any
) -> None:
    everyone = [an_account(f"{n:012}", name=HOSTILE[n % len(HOSTILE)][:50]) for n in range(40)]
    files.write_accounts(0, everyone)
    files.write_check_results(
        "0", [CheckResult(account.id, AccountState.ROOT_KEYS) for account in everyone]
    )
    found |= {account.id: [a_key(f"AKIA{account.id}")] for account in everyone}

    assert run()["cases_opened"] == 40
    assert stepfunctions.started == 40
    rows = files.read_cases()
    assert {id: row["keys"][0]["id"] for id, row in rows.items()} == {
        account.id: f"AKIA{account.id}" for account in everyone
    }
    assert all(row["case"]["id"].startswith(id) for id, row in rows.items())
    assert len(contents(table)) == 80


@pytest.mark.usefixtures("found")
def test_an_account_that_fails_costs_the_others_nothing(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files.write_check_results(
        "0",
        [CheckResult(ACCOUNT, AccountState.ROOT_KEYS), CheckResult(CLEAN, AccountState.ROOT_KEYS)],
    )
    find = exceptions.find

    def fail_for_one(*args: Any, account_id: str, **given: Any) -> Any:
        if account_id == CLEAN:
            raise an_error("ProvisionedThroughputExceededException", "GetItem")
        return find(*args, account_id=account_id, **given)

    monkeypatch.setattr(exceptions, "find", fail_for_one)
    monkeypatch.setattr(root_access, "list_root_keys", lambda *_, **__: [a_key()])

    assert run()["cases_opened"] == 1

    rows = files.read_cases()
    assert rows[ACCOUNT]["case"]["id"] == the_case(table).id
    assert rows[CLEAN]["state"] == "UNKNOWN"
    assert rows[CLEAN]["case"] is None
    assert rows[CLEAN]["reason"].startswith("it has root access keys, but no case: ")
    assert list(stepfunctions.running) == [the_case(table).id]


def cancelled(monkeypatch: pytest.MonkeyPatch, table: Any, times: int) -> list[float]:
    """Transactions are in each other's way so often; how long was slept in between."""
    naps: list[float] = []
    answers = [None] * times
    open_case = cases.open_case

    def meet_another(*args: Any, **given: Any) -> Case:
        if not answers:
            return open_case(*args, **given)
        answers.pop()
        raise table.meta.client.exceptions.TransactionCanceledException(
            {"Error": {"Code": "TransactionCanceledException", "Message": "conflict"}},
            "TransactWriteItems",
        )

    monkeypatch.setattr(cases, "open_case", meet_another)
    monkeypatch.setattr(open_cases.time, "sleep", naps.append)
    return naps


@pytest.mark.usefixtures("files", "found")
def test_a_sweep_that_meets_another_at_the_same_account_tries_again(
    table: Any, stepfunctions: StepFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps = cancelled(monkeypatch, table, 2)

    assert run()["cases_opened"] == 1

    assert naps == [0.2, 0.4]
    assert list(stepfunctions.running) == [the_case(table).id]


@pytest.mark.usefixtures("found")
def test_a_sweep_that_meets_others_every_time_says_that_it_opened_no_case(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled(monkeypatch, table, 3)

    assert run()["cases_opened"] == 0

    row = files.read_cases()[ACCOUNT]
    assert (row["state"], row["case"]) == ("UNKNOWN", None)
    assert "no case" in row["reason"]
    assert contents(table) == []
    assert stepfunctions.started == 0


@pytest.mark.usefixtures("found", "stepfunctions", "table")
@pytest.mark.parametrize(("times", "naps"), [(1, [0.2]), (2, [0.2, 0.4]), (3, [0.2, 0.4])])
def test_what_the_sdk_takes_for_final_may_pass(
    files: SweepFiles, monkeypatch: pytest.MonkeyPatch, times: int, naps: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(open_cases.time, "sleep", slept.append)
    denials = [an_error("ExpiredTokenException", "GetItem")] * times
    find = exceptions.find

    def deny(*args: Any, **given: Any) -> Any:
        if denials:
            raise denials.pop()
        return find(*args, **given)

    monkeypatch.setattr(exceptions, "find", deny)

    assert run()["cases_opened"] == int(times < 3)

    state = files.read_cases()[ACCOUNT].get("state")
    assert state == ("UNKNOWN" if times == 3 else None)
    assert slept == naps


@pytest.mark.usefixtures("found", "stepfunctions", "table")
def test_what_the_sdk_has_tried_again_is_not_tried_for_longer(
    files: SweepFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = an_error("ThrottlingException", "GetItem")
    error.response["ResponseMetadata"] = {"RetryAttempts": 9}
    tried: list[str] = []

    def throttle(*_: Any, account_id: str) -> Any:
        tried.append(account_id)
        raise error

    monkeypatch.setattr(exceptions, "find", throttle)

    assert run()["cases_opened"] == 0

    assert tried == [ACCOUNT]
    assert files.read_cases()[ACCOUNT]["state"] == "UNKNOWN"


@pytest.mark.usefixtures("found")
def test_a_case_of_a_newer_version_is_left_alone(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions
) -> None:
    case = open_a_case(table)
    table.update_item(
        Key=case_key(case.id),
        UpdateExpression="SET #schema = :newer",
        ExpressionAttributeNames={"#schema": "schema"},
        ExpressionAttributeValues={":newer": SCHEMA_VERSION + 1},
    )
    before = contents(table)

    assert run()["cases_opened"] == 0

    row = files.read_cases()[ACCOUNT]
    assert row["state"] == "UNKNOWN"
    assert f"has schema {SCHEMA_VERSION + 1}; this version of Rootsweep knows" in row["reason"]
    assert contents(table) == before
    assert stepfunctions.started == 0


# -- cases whose keys are gone --------------------------------------------------------------------


@pytest.mark.usefixtures("found", "stepfunctions")
def test_a_case_whose_account_is_clean_by_now_looks_again(table: Any, files: SweepFiles) -> None:
    gone, there = a_waiting_case(table, id=CLEAN), a_waiting_case(table)
    files.write_check_results(
        "0", [CheckResult(ACCOUNT, AccountState.ROOT_KEYS), CheckResult(CLEAN, AccountState.CLEAN)]
    )

    assert run()["cases_opened"] == 0

    assert cases.load(table, case_id=gone.id).woken
    assert not cases.load(table, case_id=there.id).woken


@pytest.mark.usefixtures("found", "stepfunctions")
@pytest.mark.parametrize("state", [AccountState.UNKNOWN, None])
def test_an_account_that_was_not_seen_clean_wakes_nobody(
    table: Any, files: SweepFiles, state: AccountState | None
) -> None:
    case = a_waiting_case(table, id=CLEAN)
    files.write_check_results("0", [CheckResult(CLEAN, state, "why")] if state else [])

    run()

    assert not cases.load(table, case_id=case.id).woken


@pytest.mark.usefixtures("found", "stepfunctions")
@pytest.mark.parametrize("accounts", [[CLEAN, ACCOUNT], [ACCOUNT], []], ids=str)
@pytest.mark.parametrize(
    ("state", "gone"),
    [
        ("SUSPENDED", "the account is SUSPENDED"),
        ("CLOSED", "the account is CLOSED"),
        (None, "the account has left the organization"),
        ("PENDING_CLOSURE", ""),
        ("ACTIVE", ""),
        ("UNKNOWN", ""),
    ],
)
def test_a_case_whose_account_is_gone_is_told_so_whatever_the_sweep_was_about(
    table: Any, files: SweepFiles, state: str | None, gone: str, accounts: list[str]
) -> None:
    case = a_waiting_case(table, id=CLEAN)
    there = [an_account()]
    if state:
        there.append(an_account(CLEAN, organizations_state=state))
    files.write_organization(0, there)
    files.write_accounts(0, [account for account in there if account.id in accounts])
    files.write_check_results("0", [CheckResult(ACCOUNT, AccountState.ROOT_KEYS)])

    run()

    after = cases.load(table, case_id=case.id)
    assert (after.account_gone, after.woken) == (gone, bool(gone))


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("gone", [True, False])
def test_a_case_that_never_was_started_is_though_its_keys_or_its_account_are_gone(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, gone: bool
) -> None:
    case = open_a_case(table, id=CLEAN)
    if gone:
        files.write_organization(0, [an_account()])

    run()

    assert case.id in stepfunctions.running
    assert not cases.load(table, case_id=case.id).ended_at


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("gone", "deleting", "outcome", "reason"),
    [
        (False, False, Outcome.RESOLVED, "the account was CLEAN"),
        (False, True, Outcome.REMEDIATED, "the account was CLEAN"),
        (True, False, Outcome.RESOLVED, "the account has left the organization"),
        (True, True, Outcome.RESOLVED, "the account has left the organization"),
    ],
)
def test_a_case_whose_execution_is_over_ends_when_its_keys_or_its_account_are_gone(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    gone: bool,
    deleting: bool,
    outcome: Outcome,
    reason: str,
) -> None:
    case = a_decided_case(table, id=CLEAN) if deleting else a_waiting_case(table, id=CLEAN)
    if deleting:
        cases.record_deletion_started(table, case_id=case.id, now=NOW)
    stepfunctions.ended.add(case.id)
    if gone:
        files.write_organization(0, [an_account()])

    run()

    after = cases.load(table, case_id=case.id)
    assert after.outcome == outcome
    assert after.reason.startswith(reason)
    assert cases.find_open_case(table, account_id=CLEAN) is None


@pytest.mark.usefixtures("files")
def test_a_case_whose_execution_is_over_leaves_the_exception_for_what_is_left(
    table: Any, found: Any, stepfunctions: StepFunctions
) -> None:
    declined(table, until=datetime.now(UTC) + timedelta(days=30))
    before = exceptions.find(table, account_id=ACCOUNT)
    found[ACCOUNT] = [a_key(), a_key(SECOND)]
    run()
    case = the_case(table)
    keys = found[ACCOUNT]
    cases.record_evidence(table, case=case, keys=keys, quorum=ONE_PERSON, now=NOW)
    stepfunctions.ended.add(case.id)

    found[ACCOUNT] = [a_key()]
    run(started_at=f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}")

    assert cases.load(table, case_id=case.id).outcome == Outcome.RESOLVED
    assert exceptions.find(table, account_id=ACCOUNT) == before


@pytest.mark.usefixtures("found", "stepfunctions")
def test_an_outage_while_cases_are_woken_does_not_cost_the_sweep_its_report(
    table: Any, files: SweepFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"4444000000{n:02}" for n in range(20)]
    for id in ids:
        open_a_case(table, id=id)
    files.write_check_results("0", [CheckResult(id, AccountState.CLEAN) for id in ids])
    files.write_organization(0, [an_account(id) for id in (ACCOUNT, *ids)])
    tried = []

    def down(_table: Any, *, case_id: str, account_gone: str = "") -> bool:
        tried.append((case_id, account_gone))
        error = an_error("InternalServerError", "UpdateItem")
        error.response["ResponseMetadata"] = {"RetryAttempts": 9}
        raise error

    monkeypatch.setattr(cases, "wake", down)

    told = run()["not_seen_to"]

    assert len(tried) == open_cases.MOST_FAILED
    assert told.count("UpdateItem: InternalServerError") == open_cases.MOST_FAILED
    assert tried[0][0] in told


@pytest.mark.usefixtures("found", "stepfunctions")
def test_a_denial_that_passes_does_not_keep_a_case_from_being_woken(
    table: Any, files: SweepFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_waiting_case(table, id=CLEAN)
    files.write_check_results("0", [CheckResult(CLEAN, AccountState.CLEAN)])
    denials = [an_error("AccessDeniedException", "UpdateItem")]
    wake = cases.wake

    def denied_once(table: Any, *, case_id: str, account_gone: str = "") -> bool:
        if denials:
            raise denials.pop()
        return wake(table, case_id=case_id, account_gone=account_gone)

    monkeypatch.setattr(cases, "wake", denied_once)

    assert "not_seen_to" not in run()
    assert cases.load(table, case_id=case.id).woken


@pytest.mark.usefixtures("found", "stepfunctions", "files")
def test_somebody_is_told_when_nobody_can_say_which_cases_are_open(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> NoReturn:
        raise an_error("ThrottlingException", "Query")

    assert "not_seen_to" not in run()
    monkeypatch.setattr(cases, "open_case_ids", down)

    assert run()["not_seen_to"].startswith("Query: ThrottlingException")
    assert cases.find_open_case(table, account_id=ACCOUNT)


@pytest.mark.usefixtures("found")
def test_a_case_that_cannot_be_woken_does_not_cost_the_others_their_end(
    table: Any, files: SweepFiles, stepfunctions: StepFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ("333333333330", CLEAN)
    broken, dead = (open_a_case(table, id=id) for id in ids)
    stepfunctions.ended.add(dead.id)
    files.write_check_results("0", [CheckResult(id, AccountState.CLEAN) for id in ids])
    files.write_organization(0, [an_account(id) for id in (ACCOUNT, *ids)])
    wake = cases.wake

    def refused(table: Any, *, case_id: str, account_gone: str = "") -> bool:
        if case_id == broken.id:
            raise KeyError(case_id)
        return wake(table, case_id=case_id, account_gone=account_gone)

    monkeypatch.setattr(cases, "wake", refused)

    run()

    assert not cases.load(table, case_id=broken.id).ended_at
    assert cases.load(table, case_id=dead.id).outcome == Outcome.RESOLVED


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("accounts", [[CLEAN, ACCOUNT], [ACCOUNT]], ids=str)
@pytest.mark.parametrize("state", [AccountState.UNKNOWN, None])
def test_a_case_whose_execution_is_over_fails_though_its_account_cannot_be_checked(
    table: Any,
    files: SweepFiles,
    stepfunctions: StepFunctions,
    state: AccountState | None,
    accounts: list[str],
) -> None:
    dead = open_a_case(table, id=CLEAN)
    stepfunctions.ended.add(dead.id)
    files.write_accounts(0, [an_account(each) for each in accounts])
    files.write_check_results("0", [CheckResult(CLEAN, state, "why")] if state else [])

    run()

    after = cases.load(table, case_id=dead.id)
    if CLEAN in accounts:
        assert after.outcome == Outcome.FAILED
        assert after.reason == "its execution was stopped or failed before it recorded an outcome"
    else:
        assert not after.ended_at  # The sweep was not about it.


@pytest.mark.usefixtures("found", "stepfunctions")
@pytest.mark.parametrize("gone", [True, False])
def test_a_removal_by_hand_looks_again_too(table: Any, files: SweepFiles, gone: bool) -> None:
    case = asked(table, open_a_case(table, id=CLEAN), obstacle=Obstacle.ROOT_SESSION_DENIED)
    if gone:
        files.write_organization(0, [an_account()])

    run()

    after = cases.load(table, case_id=case.id)
    assert (after.woken, bool(after.account_gone)) == (True, gone)


@pytest.mark.usefixtures("found", "stepfunctions")
def test_detecting_wakes_nobody(table: Any, files: SweepFiles) -> None:
    case = a_waiting_case(table, id=CLEAN)
    files.write_check_results("0", [CheckResult(CLEAN, AccountState.CLEAN)])
    files.write_organization(0, [])
    before = contents(table)

    run(detect_only=True)

    assert contents(table) == before
    assert not cases.load(table, case_id=case.id).woken


@pytest.mark.usefixtures("found", "stepfunctions")
@pytest.mark.parametrize("name", ["open_case_ids", "wake"])
def test_waking_never_costs_the_sweep_its_report(
    table: Any, files: SweepFiles, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    a_waiting_case(table, id=CLEAN)

    def fail(*_: object, **__: object) -> None:
        raise an_error("InternalServerError", "Query")

    monkeypatch.setattr(cases, name, fail)

    assert run()["cases_opened"] == 1
    assert files.read_cases()[ACCOUNT]["case"]


@pytest.mark.usefixtures("found", "stepfunctions")
def test_a_redriven_sweep_knows_nothing_of_accounts_that_came_after_it(
    table: Any, files: SweepFiles, stop_clock: Callable[[Any, datetime], None]
) -> None:
    stop_clock(open_cases, NOW)
    case = a_waiting_case(table, id=CLEAN, now=NOW)
    files.write_organization(0, [an_account()])
    before, after = (f"{NOW + timedelta(seconds=n):%FT%T.123Z}" for n in (-1, 1))

    run(started_at=before)
    assert not cases.load(table, case_id=case.id).woken

    run(started_at=after)
    assert cases.load(table, case_id=case.id).account_gone


@pytest.mark.usefixtures("found", "stepfunctions")
def test_a_sweep_that_is_redriven_days_later_ends_no_case(
    table: Any, files: SweepFiles, stop_clock: Callable[[Any, datetime], None]
) -> None:
    case = a_waiting_case(table, id=CLEAN, now=NOW)
    files.write_organization(0, [an_account(CLEAN, organizations_state="SUSPENDED"), an_account()])
    # It was suspended then, and is not any more.
    started = NOW + timedelta(minutes=1)
    stop_clock(open_cases, started + open_cases.TOO_OLD + timedelta(seconds=1))

    # Somebody is told to start another.
    assert "start another" in run(started_at=f"{started:%FT%TZ}")["not_seen_to"]
    assert not cases.load(table, case_id=case.id).woken

    stop_clock(open_cases, started + open_cases.TOO_OLD)
    run(started_at=f"{started:%FT%TZ}")
    assert cases.load(table, case_id=case.id).account_gone == "the account is SUSPENDED"


@pytest.mark.usefixtures("found", "stepfunctions")
def test_the_report_says_what_was_given_up(table: Any, files: SweepFiles) -> None:
    last = a_waiting_case(table)
    end_case(table, last.id, Outcome.ESCALATED, reason="")

    run(detect_only=True)
    detected = files.read_cases()[ACCOUNT]
    assert (detected["case"]["id"], detected["case"]["outcome"]) == (last.id, "ESCALATED")

    run()
    row = files.read_cases()[ACCOUNT]
    assert row["case"]["outcome"] == "AWAITING_APPROVAL"
    assert row["reason"] == "given up once before, last ESCALATED"
