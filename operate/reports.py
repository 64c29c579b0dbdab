"""The reports of sweeps: the latest one, what is in one, and a copy of its files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError
from rich.text import Text

from operate import terminal
from operate.stack import CommandError
from rootsweep import sweeps
from rootsweep.accounts import AccountState
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from operate.stack import Aws

SWEEP_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
LATEST = "latest"
# The first one is there for each sweep that succeeded.
FILES = ("report.json", "report.csv", "report.html")
MOST_SHOWN = 50
# Of sweeps, among which one of all accounts is looked for.
MOST_SWEEPS = 100


class Latest(NamedTuple):
    """A sweep that has a report: the latest one of all accounts or, if there is none, of others.

    `newer` is the id of the latest one, if that is of selected accounts only.
    """

    sweep_id: str
    is_of_all_accounts: bool
    newer: str = ""


def latest(aws: Aws) -> Latest:
    """The sweep that somebody means who names none. Raises CommandError if none has succeeded."""
    newer = ""
    for described in sweeps_started(aws, statusFilter="SUCCEEDED"):
        id = str(json.loads(described["output"])["sweep_id"])
        if is_of_all_accounts(described):
            return Latest(id, is_of_all_accounts=True, newer=newer)
        newer = newer or id
    if newer:
        return Latest(newer, is_of_all_accounts=False)
    raise CommandError(
        f"No sweep has succeeded yet, or not within 90 days. Start one: {aws.again('sweep')}"
    )


def sweeps_started(aws: Aws, **which: str) -> Iterator[dict[str, Any]]:
    """The newest executions of sweeps, as DescribeExecution has them, the newest one first.

    `which` goes to ListExecutions.
    """
    states = aws.client("stepfunctions")
    listed = states.list_executions(
        stateMachineArn=aws.stack.outputs["SweepStateMachineArn"], maxResults=MOST_SWEEPS, **which
    )["executions"]
    for execution in listed:
        yield states.describe_execution(executionArn=execution["executionArn"])


def is_of_all_accounts(described: dict[str, Any]) -> bool:
    """Whether an execution was asked to sweep everything. Anybody may have started it with
    anything, and it has then failed.
    """
    try:
        given = json.loads(described.get("input") or "{}")
    except ValueError:
        return False
    if not isinstance(given, dict):
        return False
    return not given.get("accounts") and not given.get("organizational_units")


def checked_id(aws: Aws, given: str) -> str:
    """The id of a sweep, as somebody gives it. Raises CommandError if it is none."""
    if not SWEEP_ID.fullmatch(given):
        raise CommandError(
            f"{plain(given, 60)!r} is not the id of a sweep like 20261122T060000Z-1a2b3c4d; the"
            f" latest report is: {aws.again('report')}"
        )
    return given


def read(aws: Aws, id: str) -> dict[str, Any]:
    """The report of a sweep, as report.json has it. Raises CommandError if there is none."""
    content = _file(aws, id, FILES[0])
    if content is None:
        raise CommandError(
            f"There is no report of sweep {id}: it has not come so far, it failed, or its report is"
            " older than ReportRetentionDays."
        )
    report: dict[str, Any] = json.loads(content)
    return report


def download(aws: Aws, id: str, directory: Path) -> list[Path]:
    """Copy the files of the report into a folder, which is made; return what was written.

    Raises CommandError if there is no report, and OSError.
    """
    read(aws, id)
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in FILES:
        content = _file(aws, id, name)
        if content is not None:
            path = directory / name
            path.write_bytes(content)
            written.append(path)
    return written


def has_unknown(report: dict[str, Any]) -> bool:
    """Whether an account could not be checked."""
    return any(row["state"] == AccountState.UNKNOWN for row in report["accounts"])


def show(report: dict[str, Any], console: Console) -> None:
    """The counts, and the accounts that need somebody: UNKNOWN, or with root access keys."""
    rows = report["accounts"]
    console.print(f"Sweep {report['sweep_id']}, finished {report['finished_at']}")
    show_counts(sweeps.counts(rows), console)
    shown = [row for row in rows if row["state"] in (AccountState.UNKNOWN, AccountState.ROOT_KEYS)]
    if not shown:
        console.print("\nNo account is UNKNOWN or has root access keys.")
        return
    shown.sort(key=lambda row: (row["state"] != AccountState.UNKNOWN, row["id"]))
    rows = [(row["id"], terminal.word(row["state"]), _why(row)) for row in shown[:MOST_SHOWN]]
    console.print()
    console.print(terminal.table(("Account", "State", "Name, and what there is to know"), rows))
    if len(shown) > MOST_SHOWN:
        console.print(f"and {len(shown) - MOST_SHOWN} more; --json prints all of them")


def show_counts(counts: dict[str, int], console: Console) -> None:
    """How many accounts there are of each state, as the output of a sweep has them."""
    rows = [
        (f"{count:>8}", terminal.word(state.upper() if state != "total" else "in all"))
        for state, count in sorted(counts.items(), key=lambda each: each[0] == "total")
    ]
    console.print(terminal.table(("Accounts", "State"), rows))


def _why(row: dict[str, Any]) -> Text:
    """Its name, why it is in its state, its keys and its case, each in a line."""
    lines = [terminal.text(row["name"], 60)]
    if row["reason"]:
        lines.append(terminal.text(row["reason"], 400, style="dim"))
    lines += [terminal.text(f"{key['id']} ({key['status']})", style="dim") for key in row["keys"]]
    if row["case"]:
        case = Text(f"case {row['case']['id']}: ", style="dim")
        lines.append(case.append_text(terminal.word(row["case"]["outcome"])))
    return Text("\n").join(lines)


def _file(aws: Aws, id: str, name: str) -> bytes | None:
    try:
        answer = aws.client("s3").get_object(
            Bucket=aws.stack.outputs["ReportBucket"], Key=f"sweeps/{id}/{name}"
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    content: bytes = answer["Body"].read()
    return content
