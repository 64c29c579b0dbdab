"""The command `rootsweep`: what an operator otherwise types as long AWS CLI calls.

It looks, and it starts sweeps; it decides and deletes nothing.
"""

from __future__ import annotations

import os
import secrets
import sys
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from operate import cases, doctor, reports, sweep, terminal
from operate.stack import DEFAULT_NAME, Aws, CommandError
from rootsweep.cases import Outcome
from rootsweep.console import link_or_arn
from rootsweep.errors import InvalidSweepInputError
from rootsweep.root_access import reason
from rootsweep.sweeps import SweepRequest
from rootsweep.table import NewerItemError
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FINE, FINDING, NOTHING_CHECKED, INTERRUPTED = 0, 1, 2, 130
# As a shell has it of a program that the signal SIGPIPE has ended.
NOBODY_READS = 141
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; whatever AWS refuses is told in a line, and not as a traceback."""
    try:
        code = commands.main(arguments, prog_name="rootsweep", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = NOTHING_CHECKED
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # What is left is written when Python ends, which would be told as an error once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NOBODY_READS
    except (BotoCoreError, ClientError, CommandError, NewerItemError, OSError) as error:
        terminal.said().print(f"rootsweep: {plain(_in_words(error), 2000)}", soft_wrap=True)
        code = NOTHING_CHECKED
    sys.exit(code)


def _in_words(error: Exception) -> str:
    """What happened, and what to do."""
    if isinstance(error, NoCredentialsError):
        return "there are no AWS credentials. Sign in, or say which with --profile."
    if isinstance(error, NoRegionError):
        return "say in which Region the stack is, with --region."
    if isinstance(error, ProfileNotFound):
        return f"{error}. `aws configure list-profiles` shows which there are."
    if not isinstance(error, ClientError):
        return str(error)
    if error.response["Error"]["Code"] in _EXPIRED:
        return f"{reason(error)}. Sign in again."
    if "Denied" in error.response["Error"]["Code"]:
        return f"{reason(error)}. What this command has to be allowed: docs/operate.md."
    return reason(error)


def on_a_stack(command: Callable[..., int]) -> Callable[..., int]:
    """The options that every command has; the command gets `aws` and `as_json` for them."""

    @click.option("--stack-name", default=DEFAULT_NAME, show_default=True, help="The stack's name.")
    @click.option("--region", help="The Region of the stack; as the AWS CLI has it.")
    @click.option("--profile", help="The profile to sign in with; as the AWS CLI has it.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
    @wraps(command)
    def with_options(
        *, stack_name: str, region: str | None, profile: str | None, **rest: Any
    ) -> int:
        aws = Aws(stack_name=stack_name, profile=profile, region=region)
        return command(aws=aws, **rest)

    return with_options


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all is well; 1 something was found; 2 nothing could be looked at.",
)
def commands() -> None:
    """Look after Rootsweep: doctor, sweep, cases, report.

    Sign in to the security account first. Everything is explained in docs/operate.md.
    """


@commands.command("doctor", short_help="Check what Rootsweep needs; say what repairs it.")
@click.option("--sender", default="", help="Where there is no stack yet: the SenderAddress to be.")
@on_a_stack
def doctor_command(aws: Aws, sender: str, as_json: bool) -> int:
    """Check everything that Rootsweep needs, and say what repairs it.

    Changes nothing. Before a deploy it looks at the organization and at this account, after it at
    the stack as well.

    \b
    Examples:
      rootsweep doctor --sender rootsweep@example.com
      rootsweep doctor --profile security --region eu-west-1
      rootsweep doctor --json | jq -r '.checks[] | select(.state == "BROKEN") | .repair[]'

    Exit codes: 0 all is FINE, but for NOTEs; 1 something is BROKEN, or UNKNOWN because it could not
    be looked at; 2 nothing could be looked at.
    """
    results = doctor.examine(aws, sender=sender, now=datetime.now(UTC))
    if as_json:
        terminal.print_json(doctor.to_dict(aws, results))
    else:
        doctor.show(aws, results, terminal.printed())
    return FINE if doctor.is_fine(results) else FINDING


@commands.command("sweep", short_help="Start a sweep, and wait for its end.")
@click.option("--account", "accounts", multiple=True, metavar="ID", help="Only this account.")
@click.option(
    "--organizational-unit",
    "units",
    multiple=True,
    metavar="ID",
    help="Only the accounts in and below this unit.",
)
@click.option("--detect-only", is_flag=True, help="Open no case and mail no approver.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the end.")
@on_a_stack
def sweep_command(
    aws: Aws,
    accounts: tuple[str, ...],
    units: tuple[str, ...],
    detect_only: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Start a sweep and wait for its end; of everything, unless options say of what.

    Ctrl-C stops the waiting, not the sweep.

    \b
    Examples:
      rootsweep sweep --detect-only
      rootsweep sweep --account 333333333333 --account 444444444444
      rootsweep sweep --organizational-unit ou-ab12-cdefgh34 --no-wait --json

    Exit codes: 0 the sweep has SUCCEEDED and no account is UNKNOWN (with --no-wait: it has
    started); 1 it has not, or one is, or AWS no longer said how it goes; 2 it was not started; 130
    after Ctrl-C.
    """
    given = {"accounts": list(accounts), "organizational_units": list(units)}
    try:
        request = SweepRequest.parse(
            {name: ids for name, ids in given.items() if ids} | {"detect_only": detect_only}
        )
    except InvalidSweepInputError as error:
        raise click.UsageError(plain(error)) from error
    # It sorts by time, as the ids of sweeps do.
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    execution, id = sweep.start(aws, request, name=name)
    said = terminal.said()
    if not wait:
        if as_json:
            terminal.print_json({"status": "RUNNING", "execution_arn": execution})
        else:
            terminal.printed().print(f"The sweep has started: {execution}", soft_wrap=True)
        return FINE
    said.print(f"The sweep has started: {link_or_arn(execution)}", soft_wrap=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("batches"),
        TimeElapsedColumn(),
    )
    in_report = aws.again(f"report {id}")
    try:
        with Progress(*columns, console=said, transient=True, disable=not said.is_terminal) as bar:
            line = bar.add_task("Starting", total=None)

            def see(seen: sweep.Seen) -> None:
                total = seen.batches or None
                bar.update(
                    line, description=seen.state or "Starting", completed=seen.checked, total=total
                )

            described = sweep.follow(aws, execution, see if said.is_terminal else None)
    except KeyboardInterrupt:
        said.print(
            f"The sweep goes on without you. Its result will be in: {in_report}", soft_wrap=True
        )
        return INTERRUPTED
    except (BotoCoreError, ClientError) as error:
        said.print(
            f"rootsweep: {plain(_in_words(error), 2000).rstrip('.')}. Whether the sweep has ended"
            f" could not be seen; it goes on: {execution}. Its result will be in: {in_report}",
            soft_wrap=True,
        )
        return FINDING
    if as_json:
        terminal.print_json(sweep.result(described))
    else:
        sweep.show(aws, described, terminal.printed())
    return FINE if sweep.is_complete(described) else FINDING


@commands.command("cases", short_help="List cases, or show one.")
@click.argument("case_id", required=False)
@click.option("--account", metavar="ID", default="", help="The cases of this account.")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice([str(each) for each in Outcome], case_sensitive=False),
    help="The cases with this outcome; of ended ones, the newest 1,000 of the last 90 days.",
)
@on_a_stack
def cases_command(
    aws: Aws,
    case_id: str | None,
    account: str,
    outcomes: tuple[str, ...],
    as_json: bool,
) -> int:
    """List the open cases, or others, or show one case with all that is known of it.

    \b
    Examples:
      rootsweep cases
      rootsweep cases 333333333333-20261122T060102Z
      rootsweep cases --account 333333333333
      rootsweep cases --outcome ESCALATED --outcome FAILED --json

    Exit codes: 0 they were listed, also if there are none; 2 they could not be, or there is no such
    case.
    """
    if case_id:
        if account or outcomes:
            raise click.UsageError("CASE_ID is one case: leave --account and --outcome out.")
        shown = cases.detail(aws, case_id)
        if as_json:
            terminal.print_json(cases.to_dict(shown.case) | {"deleted_keys": shown.deleted_keys})
        else:
            cases.show(shown, terminal.printed())
        return FINE
    found = cases.find(aws, account_id=account, outcomes={Outcome(each) for each in outcomes})
    if as_json:
        terminal.print_json([cases.to_dict(case) for case in found])
    elif found:
        cases.show_list(found, terminal.printed())
    else:
        terminal.printed().print(
            "There is no such case." if account or outcomes else "No case is open."
        )
    return FINE


@commands.command("report", short_help="Show what a sweep found; copy its report.")
@click.argument("sweep_id", default=reports.LATEST)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Copy report.json, report.csv and report.html there, as far as there are such.",
)
@on_a_stack
def report_command(aws: Aws, sweep_id: str, output: Path | None, as_json: bool) -> int:
    """Show what a sweep found, the latest one of all accounts unless SWEEP_ID says which.

    \b
    Examples:
      rootsweep report
      rootsweep report 20261122T060000Z-1a2b3c4d --output reports/20261122
      rootsweep report --json | jq -r '.accounts[] | select(.state == "UNKNOWN") | .id'

    Exit codes: 0 every account could be checked; 1 one is UNKNOWN; 2 there is no report.
    """
    id = _latest(aws) if sweep_id == reports.LATEST else reports.checked_id(aws, sweep_id)
    report = reports.read(aws, id)
    if as_json:
        terminal.print_json(report)
    else:
        reports.show(report, terminal.printed())
    if output:
        for path in reports.download(aws, id, output):
            terminal.said().print(f"Written: {path}", soft_wrap=True)
    return FINDING if reports.has_unknown(report) else FINE


def _latest(aws: Aws) -> str:
    found = reports.latest(aws)
    if not found.is_of_all_accounts:
        terminal.said().print(
            "This sweep was of selected accounts only; none of all accounts has succeeded lately."
        )
    elif found.newer:
        terminal.said().print(
            "This is the last sweep of all accounts. A later one was of selected accounts only:"
            f" {aws.again(f'report {found.newer}')}",
            soft_wrap=True,
        )
    return found.sweep_id
