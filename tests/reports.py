"""The files of a sweep of a pretended organization, as they are when its report is written."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING, Any

from rootsweep import reports, sweeps
from rootsweep.accounts import Account, AccountState, OrganizationalUnits
from rootsweep.sweeps import CheckResult

if TYPE_CHECKING:
    from rootsweep.sweeps import SweepFiles

MACHINE = "arn:aws:states:eu-west-1:222222222222:execution:rootsweep"
EVENT = {
    "sweep_id": "20261127T060000Z-1a2b3c4d",
    "started_at": "2026-11-27T06:00:00Z",
    "execution_arn": f"{MACHINE}-sweep:0f3c",
    "detect_only": False,
    "parts": 1,
    "cases_opened": 1,
}
CALC = "=cmd|' /C calc'!A0"
HOSTILE_NAMES = (
    CALC,
    "</script><script>alert(1)</script>",
    "--><img src=x onerror=alert(1)>",
    "\u202egnp.tnuocca\u202c",
    "a\u2028b\u2029c",
    "+1;=1+1",
    "חשבון",
    "{{ 7 * 7 }}",
    '"><b>bold</b>',
    "@SUM(1+1)*cmd",
)
_UNITS = ("Workloads/Prod", "Workloads/Test", "Security", "Sandbox/People/Interns", "root")


def write_files(files: SweepFiles, organization: dict[str, Any]) -> None:
    """Write what the functions before the report leave, for the content of an organization file."""
    accounts, results, cases = found_in(organization)
    files.write_units(_units_of(accounts))
    files.write_organization(0, accounts)
    files.write_accounts(0, accounts)
    files.write_check_results("0000", list(results.values()))
    files.write_cases(cases)


def report_of(organization: dict[str, Any]) -> dict[str, Any]:
    """What `report.json` says of the content of an organization file, without the files."""
    accounts, results, cases = found_in(organization)
    return sweeps.report(
        sweep_id=EVENT["sweep_id"],
        started_at=EVENT["started_at"],
        finished_at="2026-11-27T06:05:41Z",
        accounts=accounts,
        results=results,
        cases=cases,
    )


def found_in(
    organization: dict[str, Any],
) -> tuple[list[Account], dict[str, CheckResult], dict[str, dict[str, Any]]]:
    """The accounts of an organization file, and what a sweep finds in each and knows of its case.

    A case has the outcome that the file expects.
    """
    accounts, results, cases = [], {}, {}
    for entry in sorted(organization["accounts"], key=lambda entry: entry["id"]):
        id, state = entry["id"], AccountState(entry["expect"]["account"])
        ou = entry.get("ou", "root")
        parents = tuple(_id_of(path) for path in _paths(ou))
        accounts.append(Account(id, entry["name"], ou, entry.get("state", "ACTIVE"), parents))
        if state == AccountState.UNKNOWN:
            why = (
                "AssumeRole: AccessDenied: User arn:aws:sts::222222222222:assumed-role/rootsweep-"
                "CheckAccountsRole/check is not authorized to perform sts:AssumeRole on resource "
                f"arn:aws:iam::{id}:role/rootsweep-audit"
            )
            results[id] = CheckResult(id, state, why)
        elif state == AccountState.CLEAN:
            results[id] = CheckResult(id, state)
        elif state != AccountState.SKIPPED:
            results[id] = CheckResult(id, AccountState.ROOT_KEYS)
            cases[id] = _known(entry)
    return accounts, results, cases


def _units_of(accounts: list[Account]) -> OrganizationalUnits:
    paths = {path for account in accounts for path in _paths(account.ou)}
    return OrganizationalUnits(names={_id_of(path): path.rpartition("/")[2] for path in paths})


def _paths(ou: str) -> list[str]:
    """The units on the path of names, from the top: `A/B` is in `A` and in `A/B`."""
    names = [] if ou == "root" else ou.split("/")
    return ["/".join(names[: number + 1]) for number in range(len(names))]


def _id_of(path: str) -> str:
    return f"ou-ab12-{zlib.crc32(path.encode()):08x}"


def last_sweeps(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A history of twelve sweeps, in which things got better, and the one of the report."""
    now = sweeps.counts(report["accounts"])
    before = [
        {
            "sweep_id": f"202611{day:02}T060000Z-1a2b3c4d",
            "started_at": f"2026-11-{day:02}T06:00:00Z",
            "accounts": now
            | {
                "clean": max(0, now["clean"] - (27 - day)),
                "root_keys": now["root_keys"] + 27 - day,
            },
        }
        for day in range(15, 27)
    ]
    return reports.history_with(before, report)


def organization(accounts: int, *, with_keys: float = 0.02) -> dict[str, Any]:
    """The content of an organization file, of which so many accounts have root access keys."""
    dice = random.Random(accounts)
    return {"accounts": [_account(number, dice, with_keys) for number in range(accounts)]}


def _account(number: int, dice: random.Random, with_keys: float) -> dict[str, Any]:
    id = f"{300_000_000_001 + 7 * number:012}" if number else "000000000042"
    name = f"{dice.choice(('billing', 'payments', 'data', 'Ürün', '日本'))}-{number}"
    if number % 50 == 7:
        name = HOSTILE_NAMES[number // 50 % len(HOSTILE_NAMES)]
    entry: dict[str, Any] = {"id": id, "name": name, "ou": dice.choice(_UNITS)}
    chance = dice.random()
    if chance >= with_keys:
        shut = dice.random() < 0.01
        state = "SKIPPED" if shut else "CLEAN"
        return entry | {"state": "CLOSED" if shut else "ACTIVE", "expect": {"account": state}}
    if chance < with_keys / 8:
        return entry | {"expect": {"account": "UNKNOWN"}}
    outcomes = ["AWAITING_APPROVAL"] * 6 + ["AWAITING_REMOVAL", "ESCALATED", "FAILED", "DECLINED"]
    outcome = dice.choice(outcomes)
    key = {"id": f"AKIAEXAMPLE{number:09}", "status": dice.choice(["Active", "Inactive"])}
    key["created"] = f"{dice.randint(2008, 2025)}-{dice.randint(1, 12):02}-17"
    if dice.random() < 0.5:
        used = f"{dice.randint(2019, 2026)}-0{dice.randint(1, 9)}-03"
        key["last_used"] = {"date": used, "service": "s3", "region": "eu-west-1"}
    state = "EXCEPTED" if outcome == "DECLINED" else "ROOT_KEYS"
    return entry | {
        "root": {"access_keys": [key]},
        "expect": {"account": state, "case": outcome},
    }


def _known(entry: dict[str, Any]) -> dict[str, Any]:
    """What `cases.json` says of an account with root access keys."""
    keys = [
        {
            "id": key["id"],
            "status": key["status"],
            "created": f"{key['created']}T00:00:00+00:00",
            "last_used_at": f"{used['date']}T00:00:00+00:00" if used else None,
            "last_used_service": used.get("service"),
            "last_used_region": used.get("region"),
        }
        for key in entry.get("root", {}).get("access_keys", [])
        for used in [key.get("last_used", {})]
    ]
    case_id = f"{entry['id']}-20261127T060512Z"
    outcome = entry["expect"].get("case", "AWAITING_APPROVAL")
    known: dict[str, Any] = {
        "keys": keys,
        "reason": "",
        "case": {
            "id": case_id,
            "outcome": outcome,
            "execution_arn": f"{MACHINE}-remediate:{case_id}",
            "opened_at": "2026-11-27T06:05:12Z",
            "rung": 1,
        },
    }
    if entry["expect"]["account"] == "EXCEPTED":
        known["state"] = "EXCEPTED"
        known["reason"] = "until 2027-01-31, by erp-owner@example.com: moves in January (ERP-17)"
    return known
