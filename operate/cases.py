"""The cases, for people to look at. Nothing here changes one."""

from __future__ import annotations

import itertools
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from operate import terminal
from operate.stack import CommandError
from rootsweep import cases
from rootsweep.accounts import ACCOUNT_ID
from rootsweep.cases import Case, Outcome
from rootsweep.console import link_or_arn
from rootsweep.table import case_key, last_case_key
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.console import Console

    from operate.stack import Aws

CASE_ID = re.compile(r"[0-9]{12}-[0-9]{8}T[0-9]{6}Z")
OPEN = {Outcome.AWAITING_APPROVAL, Outcome.AWAITING_REMOVAL}
MOST_SHOWN = 1000
# Who has one of these could end the wait of a case.
_SECRET = ("task_token", "quarantine_token")


@dataclass(frozen=True)
class Detail:
    """A case, and when which of its keys was deleted: `{"id", "deleted_at"}` of each."""

    case: Case
    deleted_keys: list[dict[str, str]]


def find(aws: Aws, *, account_id: str, outcomes: Collection[Outcome]) -> list[Case]:
    """The cases of an account (empty: of all) with these outcomes (none: any).

    Of all accounts without an outcome, the open ones; of an account without an outcome, the open
    one and the one that ended last. Raises CommandError for what is no account id.
    """
    if account_id and not ACCOUNT_ID.fullmatch(account_id):
        raise CommandError(f"--account: {plain(account_id, 60)!r} is not a 12-digit account id")
    if account_id and not outcomes:
        return _newest_cases_of(aws, account_id)
    wanted = set(outcomes) or OPEN
    found: list[Case] = []
    if wanted & OPEN:
        found += _open_cases(aws, account_id)
    if wanted - OPEN:
        found += _ended_cases(aws, account_id, wanted)
    return [case for case in found if case.outcome in wanted]


def detail(aws: Aws, case_id: str) -> Detail:
    """One case. Raises CommandError if there is none."""
    if not CASE_ID.fullmatch(case_id):
        raise CommandError(
            f"{plain(case_id, 60)!r} is not the id of a case like"
            " 333333333333-20261122T060102Z. Those of an account: rootsweep cases --account ID"
        )
    item = aws.cases.get_item(Key=case_key(case_id), ConsistentRead=True).get("Item")
    if item is None:
        raise CommandError(
            f"There is no case {case_id}. Ended cases leave the table after CaseRetentionDays; the"
            " decision log keeps what was decided (docs/runbook.md)."
        )
    return Detail(Case.from_item(item), item.get("deleted_keys", []))


def to_dict(case: Case) -> dict[str, Any]:
    """A case as `--json` prints it: all but the tokens, and where the console shows it."""
    made = {name: value for name, value in asdict(case).items() if name not in _SECRET}
    return made | {
        "asked": sorted(case.asked),
        "unreachable": sorted(case.unreachable),
        "ladder": [rung.to_dict() for rung in case.ladder],
        "rung": case.rung + 1,
        "first_rung": case.first_rung + 1,
        "execution": link_or_arn(case.execution_arn),
    }


def show_list(found: list[Case], console: Console) -> None:
    """A line for each case: with its deadline, or the day that it ended."""
    rows = [
        (
            case.id,
            terminal.word(case.outcome),
            (case.ended_at or case.deadline)[:10],
            terminal.text(case.account_name or case.account_id, 60),
        )
        for case in found
    ]
    console.print(terminal.table(("Case", "Outcome", "Ends", "Account"), rows))


def show(shown: Detail, console: Console) -> None:
    """One case, with everything that somebody who is asked about it wants to know."""
    case = shown.case
    console.print(Text(f"Case {case.id}: ").append_text(terminal.word(case.outcome)))
    console.print(terminal.pairs(_rows(shown)))
    console.print("Execution", style="bold")
    console.print(f"  {link_or_arn(case.execution_arn)}", soft_wrap=True)


def _rows(shown: Detail) -> Iterator[tuple[str, Text | str]]:
    case = shown.case
    yield "Account", f"{case.account_id}, {plain(case.account_name, 60)}, in {case.ou}"
    yield "Opened", f"{case.opened_at} by sweep {case.sweep_id}{_reopened(case)}"
    for key in case.keys:
        used = f"last used {key.last_used_at[:10]}" if key.last_used_at else "never used"
        yield "Key", f"{key.id}, {key.status}, made {key.created[:10]}, {used}"
    for approver in case.approvers:
        yield "Asked", f"{approver}, by {case.source_of(approver)}{_unreachable(case, approver)}"
    for note in case.approver_notes:
        yield "Not asked", note
    if case.quorum > 1:
        yield "Approvals", f"{len(case.approvals)} of {case.quorum}: {case.quorum_reason}"
    for approval in case.approvals:
        yield "Approved", f"by {approval.by} at {approval.at}"
    if case.decision and case.decision.answer == cases.Answer.DECLINED:
        until = f"until {case.decision.until}: {case.decision.reason} {case.decision.ticket}"
        yield "Declined", f"by {case.decision.by} at {case.decision.at}, {until}"
    if not case.ended_at and case.ladder_since:
        yield "Rung", f"{case.rung + 1} of {len(case.ladder)}, until {case.answer_by}"
        yield "Next mail", case.next_mail_at
        yield "Deadline", case.deadline
    if case.obstacle:
        yield "Obstacle", case.obstacle
    if case.held:
        yield "Waits", f"{case.held} since {case.held_since}"
    if case.quarantine_until:
        yield "Blocked", f"the root user, until {case.quarantine_until}"
    for deleted in shown.deleted_keys:
        yield "Deleted", f"{deleted['id']} at {deleted['deleted_at']}"
    if case.ended_at:
        yield "Ended", case.ended_at
    if case.reason:
        yield "Reason", case.reason


def _reopened(case: Case) -> str:
    if not case.reopened:
        return ""
    times = "once" if case.reopened == 1 else f"{case.reopened} times"
    return f"; given up {times} before, last {case.reopened_after}"


def _unreachable(case: Case, approver: str) -> str:
    return "; SES refused the mail" if approver in case.unreachable else ""


def _open_cases(aws: Aws, account_id: str) -> list[Case]:
    ids = cases.open_case_ids(aws.cases)
    wanted = (ids[account] for account in sorted(ids) if account.startswith(account_id))
    return cases.load_many(aws.dynamodb, aws.cases, wanted)


def _ended_cases(aws: Aws, account_id: str, outcomes: Collection[Outcome]) -> list[Case]:
    """The newest ones, at most MOST_SHOWN.

    The table has no list of them, and nothing scans it. Step Functions has one, for 90 days: of
    executions, whose names are the ids.
    """
    found: list[Case] = []
    ids = (id for id in _execution_names(aws) if id.startswith(account_id))
    while len(found) < MOST_SHOWN and (some := list(itertools.islice(ids, 100))):
        loaded = cases.load_many(aws.dynamodb, aws.cases, some)
        found += [case for case in loaded if case.ended_at and case.outcome in outcomes]
    return found[:MOST_SHOWN]


def _newest_cases_of(aws: Aws, account_id: str) -> list[Case]:
    last = aws.cases.get_item(Key=last_case_key(account_id)).get("Item") or {}
    opened = cases.find_open_case(aws.cases, account_id=account_id)
    ids = [opened.id if opened else "", last.get("case_id", "")]
    return cases.load_many(aws.dynamodb, aws.cases, dict.fromkeys(filter(None, ids)))


def _execution_names(aws: Aws) -> Iterator[str]:
    pages = aws.client("stepfunctions").get_paginator("list_executions")
    for page in pages.paginate(stateMachineArn=aws.stack.outputs["RemediateStateMachineArn"]):
        for execution in page["executions"]:
            if CASE_ID.fullmatch(execution["name"]):
                yield execution["name"]
