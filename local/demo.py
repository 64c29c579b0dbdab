"""`make demo`: one sweep of a pretend organization, end to end, and people who answer.

With `AUTO` the people are played: they read their mail, open the link and post the form, as a
browser would. Then every account and case has to end as the organization file says.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local import stack
from operate.terminal import STYLES
from rootsweep import cases, escalation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.organization import Account, Organization

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 120  # A log has no width of its own.

WAITING = {cases.Outcome.AWAITING_APPROVAL, cases.Outcome.AWAITING_REMOVAL}


@dataclass
class Progress:
    """What is known of one case: the account it is about, its latest state, all it went through."""

    account_id: str
    case_id: str
    outcome: cases.Outcome = cases.Outcome.AWAITING_APPROVAL
    ended: bool = False
    asked: bool = False
    seen: set[cases.Outcome] = field(default_factory=set)


def run(
    path: Path,
    organization: Organization,
    *,
    port: int,
    auto: str | None,
    parameters: dict[str, str],
) -> int:
    """Run the demo; return 0 only if everything ended as the organization file says."""
    started = time.monotonic()
    aws = stack.EmbeddedAws(port=port, organization=path, parameters=parameters)
    try:
        with _phase(f"Starting the embedded AWS with {len(organization.accounts)} accounts"):
            aws.wait_until_ready()
        with _phase("Building the stack (sam build)"):
            stack.build()
        with _phase("Deploying the stack (sam deploy)"):
            deployed = stack.deploy(aws, organization, _times(organization, auto) | parameters)
        demo = Demo(deployed, organization, auto)
        demo.make_exceptions()
        problems = demo.sweep_and_answer()
    finally:
        aws.stop()
    console.print(f"[dim]{time.monotonic() - started:.0f} s[/dim]")
    for problem in problems:
        console.print(f"[red]{escape(problem)}[/red]", soft_wrap=True)
    if not problems and auto:
        console.print("[green]Every account and every case ended as expected.[/green]")
    return 1 if problems else 0


class Demo:
    """One sweep with people who answer."""

    def __init__(self, deployed: stack.Stack, organization: Organization, auto: str | None) -> None:
        """`auto` is what people do whose account does not say: approve, decline, ignore; or None
        for a person at the browser."""
        self._stack = deployed
        self._accounts = {entry.id: entry for entry in organization.accounts}
        self._auto = auto
        self._stepfunctions = deployed.client("stepfunctions")
        self._s3 = deployed.client("s3")
        self._table = deployed.resource("dynamodb").Table(deployed.outputs["TableName"])
        self._answered: set[str] = set()
        self._people = httpx.Client(timeout=30)
        self._keys_before = self._keys()

    def make_exceptions(self) -> None:
        """Have those declined, in an earlier sweep, that are to be EXCEPTED in this one."""
        excepted = [
            entry.id for entry in self._accounts.values() if entry.expect.account == "EXCEPTED"
        ]
        if not excepted:
            return
        with _phase(f"An earlier sweep, in which {_count(excepted, 'account')} declined"):
            report = self._sweep({"accounts": excepted}, answer="decline")
            progress = self._progress(report)
            self._wait(progress, lambda: all(case.ended for case in progress), answer="decline")

    def sweep_and_answer(self) -> list[str]:
        """The sweep, the answers and the tables. Returns what did not end as expected."""
        with _phase("Sweeping the organization"):
            report = self._sweep({})
        rows = report["accounts"]
        progress = self._progress(report)
        # A case that ended in an earlier sweep is history.
        excepted = {row["id"] for row in rows if row["state"] == "EXCEPTED"}
        running = [case for case in progress if case.account_id not in excepted]
        console.print(self._table_of(rows, {}, "What the sweep found"))
        console.print("The report, for a browser: .local/report.html\n")
        if self._auto is None:
            console.print(
                f"\nThe mails are in the inbox: [bold]{self._stack.inbox}[/bold]\n"
                "Open it in a browser and decide. Ctrl-C ends the demo.\n"
            )
            with _phase("Waiting for the people") as say:

                def nobody_is_asked_any_more() -> bool:
                    asked = [case.case_id for case in running if self._waits_for_person(case)]
                    say(f"Waiting for the people: {_count(asked, 'case')} to decide")
                    return not asked

                self._wait(running, nobody_is_asked_any_more)
        else:
            with _phase(f"People answer: they {self._auto}, unless the file says otherwise"):
                self._wait(running, lambda: all(self._is_done(case) for case in running))
        outcomes = {case.account_id: case for case in running}
        console.print(self._table_of(rows, outcomes, "How it ended"))
        if self._auto is None:
            return self._wrong_deletions(outcomes)
        return self._wrong_endings(rows, outcomes) + self._wrong_deletions(outcomes)

    def _sweep(self, given: dict[str, Any], answer: str | None = None) -> dict[str, Any]:
        """A sweep, and its report, which is left in `.local/` as people see it. People answer as
        soon as they are asked.
        """
        execution = self._stepfunctions.start_execution(
            stateMachineArn=self._stack.outputs["SweepStateMachineArn"], input=json.dumps(given)
        )["executionArn"]
        while True:
            described = self._stepfunctions.describe_execution(executionArn=execution)
            if described["status"] != "RUNNING":
                break
            self._answer_mails(answer)
            time.sleep(0.3)
        if described["status"] != "SUCCEEDED":
            raise stack.StackError(
                f"the sweep {described['status']}: {described.get('error')}: "
                f"{described.get('cause')}"
            )
        bucket, _, key = json.loads(described["output"])["report"][5:].partition("/")
        report: dict[str, Any] = json.load(self._s3.get_object(Bucket=bucket, Key=key)["Body"])
        page = self._s3.get_object(Bucket=bucket, Key=key.replace("report.json", "report.html"))
        (stack.STATE / "report.html").write_bytes(page["Body"].read())
        return report

    def _progress(self, report: dict[str, Any]) -> list[Progress]:
        return [Progress(row["id"], row["case"]["id"]) for row in report["accounts"] if row["case"]]

    def _wait(
        self, progress: list[Progress], is_over: Callable[[], bool], answer: str | None = None
    ) -> None:
        while True:
            self._answer_mails(answer)
            for case in progress:
                if not case.ended:
                    self._refresh(case)
            if is_over():
                return
            time.sleep(0.5)

    def _refresh(self, case: Progress) -> None:
        loaded = cases.load(self._table, case_id=case.case_id)
        case.outcome = loaded.outcome
        case.ended = bool(loaded.ended_at)
        if case.outcome != cases.Outcome.AWAITING_APPROVAL or loaded.task_token:
            case.seen.add(case.outcome)
        case.asked = case.asked or bool(loaded.task_token) or loaded.decision is not None

    def _waits_for_person(self, case: Progress) -> bool:
        return not case.ended and case.outcome == cases.Outcome.AWAITING_APPROVAL

    def _is_done(self, case: Progress) -> bool:
        expected = self._expected_case(case)
        return case.ended or (expected in WAITING and expected in case.seen)

    # -- people -----------------------------------------------------------------------------------

    def _answer_mails(self, answer: str | None) -> None:
        if self._auto is None and answer is None:
            return
        listed = self._people.get(f"{self._stack.endpoint}/_ministack/ses/messages").json()
        for mail in (mail for mails in listed["messages"].values() for mail in mails):
            if mail["MessageId"] in self._answered:
                continue
            self._answered.add(mail["MessageId"])
            link = re.search(
                re.escape(self._stack.outputs["ApprovalUrl"]) + r"/[\w-]+", mail["BodyText"]
            )
            if link:
                self._decide(link.group(), answer)

    def _decide(self, link: str, answer: str | None) -> None:
        """Open the link, and answer each case on its pages as the people of its account do."""
        url = link
        while url:
            page = self._people.get(url).text
            shown = dict(re.findall(r'name="case" value="([^".]+)\.([^"]+)"', page))
            for case, token in shown.items():
                entry = self._accounts[case.partition("-")[0]]
                chosen = answer or entry.answer or self._auto
                if chosen == "ignore":
                    continue
                form = {"case": f"{case}.{token}", "decision": chosen}
                if chosen == "approve":
                    form["account_id"] = entry.id
                else:
                    form["reason"] = "A batch job still signs with this key; it moves to a role."
                    form["until"] = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
                self._people.post(link, data=form)
            after = re.search(r'href="(\?after=[^"]+)"', page)
            url = link + unescape(after.group(1)) if after else ""

    # -- what should have happened ----------------------------------------------------------------

    def _expected_case(self, case: Progress) -> str | None:
        entry = self._accounts[case.account_id]
        if entry.answer is None and case.asked and self._auto in ("decline", "ignore"):
            return "DECLINED" if self._auto == "decline" else "ESCALATED"
        return entry.expect.case

    def _wrong_endings(
        self, rows: list[dict[str, Any]], outcomes: dict[str, Progress]
    ) -> list[str]:
        problems = []
        if missing := self._accounts.keys() - {row["id"] for row in rows}:
            problems.append(f"not in the report: {', '.join(sorted(missing))}")
        for row in rows:
            entry = self._accounts[row["id"]]
            if entry.expect.account and entry.expect.account != row["state"]:
                problems.append(
                    f"{_name(entry)} is {row['state']} ({row['reason']}), "
                    f"expected {entry.expect.account}"
                )
            case = outcomes.get(row["id"])
            if case is None:
                actual = row["case"]["outcome"] if row["case"] else None
                expected = entry.expect.case
            else:
                expected = self._expected_case(case)
                actual = expected if expected in WAITING & case.seen else case.outcome
            if expected and expected != actual:
                problems.append(f"the case of {_name(entry)} is {actual}, expected {expected}")
        return problems

    def _wrong_deletions(self, outcomes: dict[str, Progress]) -> list[str]:
        """Keys that are gone though nobody approved, and keys of remediated cases still there."""
        problems = []
        now = self._keys()
        for account_id, before in self._keys_before.items():
            case = outcomes.get(account_id)
            gone = before - now[account_id]
            remediated = case is not None and case.outcome == cases.Outcome.REMEDIATED
            if gone and not remediated:
                problems.append(f"{account_id}: {', '.join(sorted(gone))} was deleted")
            if remediated and now[account_id]:
                problems.append(
                    f"{account_id}: {', '.join(sorted(now[account_id]))} is still there"
                )
        return problems

    def _keys(self) -> dict[str, set[str]]:
        view = self._people.get(f"{self._stack.endpoint}/_rootsweep/organization").json()
        return {
            account_id: {key["id"] for key in account["access_keys"]}
            for account_id, account in view["accounts"].items()
        }

    def _table_of(
        self, rows: list[dict[str, Any]], outcomes: dict[str, Progress], title: str
    ) -> Table:
        """Accounts with something to say one by one, then how many there are of each state."""
        table = Table(
            title=f"\n{title}", title_justify="left", box=None, pad_edge=False, expand=True
        )
        for heading in ("Account", "State", "Case"):
            table.add_column(heading, no_wrap=True)
        table.add_column("Name, root keys or reason", overflow="ellipsis", no_wrap=True, ratio=1)
        shown = sorted(
            (row for row in rows if row["state"] != "CLEAN"),
            key=lambda row: list(STYLES).index(row["state"]),
        )
        limit = 40
        for row in shown[:limit]:
            case = outcomes.get(row["id"])
            outcome = case.outcome if case else row["case"]["outcome"] if row["case"] else ""
            detail = ", ".join(key["id"] for key in row["keys"]) or row["reason"]
            table.add_row(
                row["id"],
                _styled(row["state"]),
                _styled(outcome),
                escape(f"{row['name']}  {detail}" if detail else row["name"]),
            )
        if len(shown) > limit:
            table.add_row("…", "", "", f"and {len(shown) - limit} more")
        clean = sum(row["state"] == "CLEAN" for row in rows)
        table.add_row(f"{clean} more", _styled("CLEAN"), "", "")
        return table


@contextmanager
def _phase(text: str) -> Iterator[Callable[[str], None]]:
    """A line of progress: alive on a terminal, with the seconds it took when it is over.

    What it yields changes the line while it lives.
    """
    started = time.monotonic()
    with console.status(text) as status:
        if not console.is_terminal:
            console.print(text, end=" ", soft_wrap=True)
        yield status.update
    seconds = f"[dim]{time.monotonic() - started:.1f} s[/dim]"
    console.print(seconds if not console.is_terminal else f"[green]✓[/green] {text} {seconds}")


def _times(organization: Organization, auto: str | None) -> dict[str, str]:
    """Waits that a demo can sit through; longer where more people have to answer."""
    if auto is None:
        return {"EscalationPolicy": _ladder("30m", remind_every="10m")}
    with_keys = sum(bool(entry.access_keys) for entry in organization.accounts)
    seconds = max(10, (12 + with_keys) // 2)
    return {"EscalationPolicy": _ladder(f"{seconds}s"), "ManualRemovalCheckSeconds": "20"}


def _ladder(after: str, **more: str) -> str:
    """An escalation policy: the owners, then the default approver too."""
    return json.dumps(
        [
            {"after": after, "notify": [target], **more}
            for target in (escalation.APPROVERS, escalation.DEFAULT_APPROVER)
        ]
    )


def _styled(word: str) -> str:
    return f"[{STYLES[word]}]{word}[/]" if word in STYLES else word


def _name(entry: Account) -> str:
    return f"{entry.name} ({entry.id})"


def _count(things: list[str], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
