"""A sweep: what was asked for, and the files in which it keeps what it finds.

Results of checks never travel through the state machine; it passes names of files. In the bucket:

    sweeps/<sweep id>/units.json                  the units, as far as they have been read
    sweeps/<sweep id>/organization/<part>.json    the state of every account there is, by id
    sweeps/<sweep id>/accounts/<part>.json        every account of the sweep, N in
    sweeps/<sweep id>/batches/<part>.jsonl        a line for each batch that the Map checks
    sweeps/<sweep id>/checked/<part>-<batch>.json what the check of one batch found
    sweeps/<sweep id>/cases.json                  keys and case of each account with root keys
    sweeps/<sweep id>/report.json                 every account in exactly one state, N out
    sweeps/<sweep id>/report.csv, report.html     the same for people
    sweeps/history.json                           the counts of the last sweeps, for their chart

A large organization is listed in several parts, the first of which are checked meanwhile. The state
machine says how many there are, so that one that is missing is an error, and not fewer accounts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from rootsweep import words
from rootsweep.accounts import (
    ACCOUNT_ID,
    ORGANIZATIONAL_UNIT_ID,
    Account,
    AccountState,
    OrganizationalUnits,
)
from rootsweep.errors import InvalidSweepInputError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence

    from mypy_boto3_s3 import S3Client

_FIELDS = ("accounts", "organizational_units", "detect_only")
_HISTORY = "sweeps/history.json"


@dataclass(frozen=True)
class SweepRequest:
    """What a sweep was asked to look at. No accounts and no units means the whole organization."""

    accounts: tuple[str, ...] = ()
    organizational_units: tuple[str, ...] = ()
    detect_only: bool = False

    @classmethod
    def parse(cls, given: object) -> SweepRequest:
        """The request in an execution's input.

        Raises InvalidSweepInputError, whose message names the field and what is wrong with it.
        """
        if not isinstance(given, dict):
            raise InvalidSweepInputError("input: must be a JSON object, for example {}")
        for field in given:
            if field not in _FIELDS:
                raise InvalidSweepInputError(
                    f"{field}: unknown field; allowed are {', '.join(_FIELDS)}"
                )
        detect_only = given.get("detect_only", False)
        if not isinstance(detect_only, bool):
            raise InvalidSweepInputError("detect_only: must be true or false")
        return cls(
            accounts=_ids(given, "accounts", ACCOUNT_ID, "a 12-digit account id"),
            organizational_units=_ids(
                given,
                "organizational_units",
                ORGANIZATIONAL_UNIT_ID,
                "the id of an organizational unit like ou-ab12-cdefgh34, or of the root",
            ),
            detect_only=detect_only,
        )

    def to_dict(self) -> dict[str, Any]:
        """The request as the next states read it."""
        return asdict(self)


@dataclass(frozen=True)
class CheckResult:
    """What the check of an account came to: CLEAN, ROOT_KEYS or UNKNOWN with the reason."""

    account_id: str
    state: AccountState
    reason: str = ""


def sweep_id_for(*, execution_arn: str, started_at: str) -> str:
    """The id of the sweep that an execution makes: sorts by time, differs for each execution.

    `started_at` is the execution's start, ISO 8601 in UTC.
    """
    stamp = started_at[:19].replace("-", "").replace(":", "")
    return f"{stamp}Z-{hashlib.sha256(execution_arn.encode()).hexdigest()[:8]}"


def batches(
    accounts: Sequence[Account], *, size: int, sweep_id: str, part: int
) -> list[dict[str, Any]]:
    """The accounts to check, cut into inputs of the check function.

    There is at least one batch: a Distributed Map has to have something to read.
    """
    ids = [account.id for account in accounts if account.is_checked]
    cut = [ids[start : start + size] for start in range(0, len(ids), size)] or [[]]
    return [
        {"sweep_id": sweep_id, "batch": f"{part:04}-{number:04}", "account_ids": batch}
        for number, batch in enumerate(cut)
    ]


class SweepFiles:
    """Reads and writes the files of one sweep."""

    def __init__(self, s3: S3Client, *, bucket: str, sweep_id: str) -> None:
        """`bucket` is the report bucket of the stack."""
        self.sweep_id = sweep_id
        self._s3 = s3
        self._bucket = bucket
        self._prefix = f"sweeps/{sweep_id}/"

    def write_units(self, units: OrganizationalUnits) -> None:
        """Keep the units for the parts that are listed later, and for who reads the accounts."""
        self._write("units.json", asdict(units))

    def read_units(self) -> OrganizationalUnits:
        """What `write_units` kept."""
        return OrganizationalUnits(**self._read("units.json"))

    def write_organization(self, part: int, accounts: Sequence[Account]) -> None:
        """Keep which accounts there are, also those that the sweep was not asked for."""
        states = {account.id: account.organizations_state for account in accounts}
        self._write(f"organization/{part:04}.json", states)

    def read_organization(self, parts: int) -> dict[str, str]:
        """The state of every account of the organization, by id."""
        return {
            id: state
            for states in self._read_parts("organization", parts)
            for id, state in states.items()
        }

    def write_accounts(self, part: int, accounts: Sequence[Account]) -> None:
        """Keep the list of accounts that the report has to account for."""
        self._write(f"accounts/{part:04}.json", [asdict(account) for account in accounts])

    def read_accounts(self, parts: int) -> list[Account]:
        """The accounts of the sweep, as they were listed, sorted by id."""
        units = self.read_units()
        by_id = {
            item["id"]: units.placed(Account(**{**item, "parents": tuple(item["parents"])}))
            for items in self._read_parts("accounts", parts)
            for item in items
        }
        return [by_id[id] for id in sorted(by_id)]

    def write_batches(self, part: int, lines: Iterable[dict[str, Any]]) -> str:
        """Write one batch a line; return the key, for the Distributed Map's reader."""
        body = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        return self._put(f"batches/{part:04}.jsonl", body, "application/jsonl")

    def write_check_results(self, batch: str, results: Sequence[CheckResult]) -> None:
        """Keep what the check of a batch found. Writing it again replaces it."""
        self._write(f"checked/{batch}.json", [asdict(result) for result in results])

    def read_check_results(self) -> dict[str, CheckResult]:
        """What was found, by account id. An account whose batch failed is not in it."""
        keys = [
            entry["Key"]
            for page in self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}checked/"
            )
            for entry in page.get("Contents", [])
        ]
        return {
            item["account_id"]: CheckResult(
                item["account_id"], AccountState(item["state"]), item["reason"]
            )
            for items in self._get_all(keys)
            for item in items
        }

    def write_cases(self, cases: dict[str, dict[str, Any]]) -> None:
        """Keep what is known of each account with root access keys, by account id."""
        self._write("cases.json", cases)

    def read_cases(self) -> dict[str, dict[str, Any]]:
        """What `write_cases` kept."""
        cases: dict[str, dict[str, Any]] = self._read("cases.json")
        return cases

    def write_report(self, report: dict[str, Any]) -> str:
        """Write the report; return its address, `s3://bucket/key`."""
        key = self._put("report.json", json.dumps(report, indent=1), "application/json")
        return f"s3://{self._bucket}/{key}"

    def write_csv(self, text: str) -> None:
        """Write the report for spreadsheet programs."""
        self._put("report.csv", text, "text/csv; charset=utf-8")

    def write_page(self, html: str) -> None:
        """Write the report that people look at."""
        self._put("report.html", html, "text/html; charset=utf-8")

    def read_history(self) -> object:
        """What `write_history` of any sweep kept last; None if nothing, or no JSON, is there."""
        try:
            return self._get(_HISTORY)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        except ValueError:
            return None

    def write_history(self, history: Sequence[dict[str, Any]]) -> None:
        """Keep the counts of the last sweeps. Of two sweeps at once one is missing in it then."""
        self._put_at(_HISTORY, json.dumps(history, separators=(",", ":")), "application/json")

    def _write(self, name: str, content: Any) -> None:
        self._put(name, json.dumps(content, separators=(",", ":")), "application/json")

    def _put(self, name: str, body: str, content_type: str) -> str:
        return self._put_at(self._prefix + name, body, content_type)

    def _put_at(self, key: str, body: str, content_type: str) -> str:
        self._s3.put_object(
            Bucket=self._bucket, Key=key, Body=body.encode(), ContentType=content_type
        )
        return key

    def _read_parts(self, name: str, parts: int) -> list[Any]:
        """What is in each of these files; all of them have to be there."""
        return self._get_all([f"{self._prefix}{name}/{part:04}.json" for part in range(parts)])

    def _read(self, name: str) -> Any:
        return self._get(self._prefix + name)

    def _get_all(self, keys: Sequence[str]) -> list[Any]:
        with ThreadPoolExecutor(max_workers=32) as pool:
            return list(pool.map(self._get, keys))

    def _get(self, key: str) -> Any:
        return json.load(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"])


def report(
    *,
    sweep_id: str,
    started_at: str,
    finished_at: str,
    accounts: Sequence[Account],
    results: dict[str, CheckResult],
    cases: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The report: every listed account in exactly one state, in the shape of `report.json`."""
    return {
        "sweep_id": sweep_id,
        "started_at": started_at,
        "finished_at": finished_at,
        "accounts": [
            _row(account, results.get(account.id), cases.get(account.id, {}))
            for account in accounts
        ],
    }


def counts(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many accounts there are in all and in each state, as the sweep's output shows it."""
    states = Counter(AccountState(row["state"]) for row in rows)
    return {"total": states.total()} | {
        state.lower(): states[state]
        for state in (
            AccountState.CLEAN,
            AccountState.ROOT_KEYS,
            AccountState.EXCEPTED,
            AccountState.UNKNOWN,
            AccountState.SKIPPED,
        )
    }


def _row(account: Account, result: CheckResult | None, known: dict[str, Any]) -> dict[str, Any]:
    state, reason = _state_and_reason(account, result, known)
    return {
        "id": account.id,
        "name": account.name,
        "ou": account.ou,
        "state": state,
        "reason": reason,
        "keys": known.get("keys", []),
        "case": known.get("case"),
    }


def _state_and_reason(
    account: Account, result: CheckResult | None, known: dict[str, Any]
) -> tuple[AccountState, str]:
    if not account.is_checked:
        return AccountState.SKIPPED, words.is_shut(account.organizations_state)
    if result is None:
        return AccountState.UNKNOWN, words.BATCH_DID_NOT_FINISH
    if result.state == AccountState.ROOT_KEYS and not known:
        return AccountState.UNKNOWN, words.NOT_LOOKED_INTO
    return known.get("state", result.state), known.get("reason", result.reason)


def _ids(
    given: dict[str, Any], field: str, pattern: re.Pattern[str], meaning: str
) -> tuple[str, ...]:
    if field not in given:
        return ()
    values = given[field]
    if not isinstance(values, list) or not values:
        raise InvalidSweepInputError(
            f"{field}: must be a list of at least one id; leave it out to sweep every account"
        )
    for position, value in enumerate(values):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise InvalidSweepInputError(
                f"{field}[{position}]: {str(value)[:60]!r} is not {meaning}"
            )
    return tuple(dict.fromkeys(values))
