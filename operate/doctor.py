"""Every precondition of Rootsweep looked at, and told with the command that repairs it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.text import Text

from operate import terminal
from operate.preconditions import CHECKS, Check, Result, Seen, State, Where
from operate.stack import CommandError
from rootsweep.root_access import reason
from rootsweep.text import plain

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

    from operate.stack import Aws

INDENT = " " * 11
_REGIONAL = ("aws cloudformation ", "aws securityhub ")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")


def examine(aws: Aws, *, sender: str, now: datetime) -> dict[str, Result]:
    """What every check that applies has seen, by its name.

    `sender` is the address that mails will come from, where there is no stack that says so. Raises
    ClientError and BotoCoreError where it is not even known who asks, and about which stack.
    """
    seen = Seen(aws, sender, now)
    results: dict[str, Result] = {}
    _ = aws.account, aws.found
    for check in CHECKS:
        before = results.get(check.after)
        if before is not None and before.state not in (State.FINE, State.NOTE):
            found: Result | None = Result(
                State.WAITS, f"Not looked at; see to {check.after} first."
            )
        else:
            found = _look(check, seen)
        if found is not None:
            results[check.name] = found
    return results


def is_fine(results: dict[str, Result]) -> bool:
    """Whether everything was looked at, and nothing has to be repaired."""
    return all(result.state in (State.FINE, State.NOTE) for result in results.values())


def to_dict(aws: Aws, results: dict[str, Result]) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "account": aws.account,
        "region": aws.region,
        "stack": aws.found.name if aws.found else None,
        "checks": [
            {
                "name": name,
                "state": result.state,
                "detail": result.detail,
                "repair": _commands(aws, result),
                "repair_in": result.where if result.repair else None,
            }
            for name, result in results.items()
        ],
    }


def show(aws: Aws, results: dict[str, Result], console: Console) -> None:
    """What was seen, for people; commands in lines of their own, whole, to be copied."""
    stack = aws.found
    if stack:
        console.print(f"The stack {stack.name} in account {aws.account}, {aws.region}")
    else:
        console.print(
            f"There is no stack {aws.stack_name} in account {aws.account}, {aws.region}: only"
            " what has to be there before a deploy is looked at."
        )
    console.print()
    waiting = [name for name, result in results.items() if result.state == State.WAITS]
    for name, result in results.items():
        if result.state == State.WAITS:
            continue
        line = Text(f"{name}  ", style="bold").append(plain(result.detail, 2000), style="not bold")
        console.print(terminal.pairs([(terminal.word(result.state), line)]))
        if result.repair:
            in_account = f", {aws.account}" if result.where == Where.SECURITY else ""
            console.print(f"{INDENT}In the {result.where} account{in_account}, run:")
            for command in _commands(aws, result):
                console.print(f"{INDENT}{command}", soft_wrap=True, style="bold")
    if waiting:
        line = Text("not looked at before that is repaired: ").append(", ".join(waiting))
        console.print(terminal.pairs([(terminal.word(State.WAITS), line)]))
    counts = Counter(result.state for result in results.values())
    told = [f"{counts[state]} {state}" for state in State if counts[state]]
    console.print(f"\n{', '.join(told)}")


def _commands(aws: Aws, result: Result) -> list[str]:
    """The repair, with the profile and the Region that the caller gave for the security account.

    In the management account, stacks, StackSets and Security Hub's administrator are in the Region
    of the stack.
    """
    if result.where == Where.SECURITY:
        return [command + aws.options for command in result.repair]
    return [
        f"{command} --region {aws.region}" if command.startswith(_REGIONAL) else command
        for command in result.repair
    ]


def _look(check: Check, seen: Seen) -> Result | None:
    try:
        return check.look(seen)
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            more = f"You need {check.calls} (docs/operate.md)."
            return Result(State.UNKNOWN, f"AWS does not let you look: {reason(error)}. {more}")
        return Result(State.UNKNOWN, f"AWS did not answer: {reason(error)}")
    except (BotoCoreError, CommandError) as error:
        return Result(State.UNKNOWN, f"AWS did not answer: {error}")
    except (KeyError, ValueError) as error:
        return Result(State.UNKNOWN, f"AWS's answer was not understood: {error!r}")
