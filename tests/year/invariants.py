"""What has to be true of a year, whatever happened in it. Each check names its promise.

The watch keeps ledgers of its own: of mails as SES got them, of forms as people sent them, of keys
as IAM deleted them. Where it reads the table, it is to compare the table with these.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import getcurrent

from .clock import DAY
from .people import Attempt, Keys, Mail

if TYPE_CHECKING:
    from .machine import Execution
    from .table import Item
    from .world import Account
    from .year import Year

FINAL = {"REMEDIATED", "RESOLVED", "DECLINED", "ESCALATED", "FAILED"}
WAITING = {"AWAITING_APPROVAL", "AWAITING_REMOVAL"}
# How soon the same person may get two mails about the same case, if nothing has changed.
SOON = 20 * 3600.0
USED_LATELY = timedelta(days=90)


class Broken(BaseException):
    """When a promise is broken. No `except Exception` of the product sees it."""


class Deletion(NamedTuple):
    """A key that Rootsweep deleted."""

    at: float
    account: str
    key_id: str
    case_id: str


class Sent(NamedTuple):
    """What a mail was about, for one case: which request, and which reminder of it."""

    mail: Mail
    request: int
    reminder: int


class Watch:
    """Looks at everything, believes nothing."""

    def __init__(self, year: Year, *, two_approver_unit: str) -> None:
        self.year = year
        self.world = year.world
        self.stack = year.stack
        self.table = year.table
        self.clock = year.clock
        self.two_approver_unit = two_approver_unit
        self.mails: list[Mail] = []
        self.sent: dict[tuple[str, str], list[Sent]] = defaultdict(list)
        self.deletions: list[Deletion] = []
        self.decisions: list[tuple[str, dict[str, Any]]] = []
        self.reports = 0
        self.rows: Counter[str] = Counter()
        self.table.observers.append(self.on_change)
        self.stack.on_end = self.on_end
        self.stack.on_alert = self.on_alert
        self.year.aws.on_delete = self.on_delete

    def require(self, holds: object, promise: str, account: str = "") -> None:
        """Stop the year if a promise is broken, with the seed and the story of the account."""
        if holds:
            return
        story = self.world.story(account) if account else ""
        states = "\n".join(
            f"  {self.year.clock_text(at)}  state {name}"
            for execution in self.stack.machine("remediate").executions.values()
            if execution.name.startswith(account or "-")
            for at, name in execution.entered[-30:]
        )
        items = "\n".join(
            f"  {json.dumps(item, default=str, sort_keys=True)}"
            for item in self.table.every_item()
            if account and account in item["pk"] + item["sk"]
        )
        raise Broken(
            f"seed {self.year.seed}, {self.year.clock_text(self.clock.time)}: {promise}\n"
            f"Repeat it with: YEAR_SEED={self.year.seed} YEAR_DAYS={self.year.days} "
            f"python -m pytest tests/year\n"
            f"The story of account {account or '(none)'}:\n{story}\n"
            f"The last states of its executions:\n{states}\nIts items:\n{items}"
        )

    # -- while it happens ----------------------------------------------------------------------

    def on_mail(self, mail: Mail) -> None:
        """Nobody gets two mails about the same thing at the same time."""
        self.mails.append(mail)
        invocation: Any = getattr(getcurrent(), "invocation", None)
        invocation.mails.append(mail)
        for account in mail.accounts:
            self.world.tell(account, f"mail to {mail.to}: {mail.subject}")
            lock = self.table.look("OPEN_CASE", account)
            self.require(lock, f"a mail to {mail.to} about an account without a case", account)
            assert lock is not None
            case = self.table.look(f"CASE#{lock['case_id']}", "CASE")
            assert case is not None
            sent = Sent(mail, int(case["request_number"]), int(case.get("reminder", 0)))
            before = self.sent[mail.to.lower(), lock["case_id"]]
            for other in before:
                if other.mail.is_excused:
                    continue
                self.require(
                    (other.request, other.reminder) != (sent.request, sent.reminder),
                    f"{mail.to} gets two mails about the same thing",
                    account,
                )
                self.require(
                    other.request != sent.request or mail.at - other.mail.at > SOON,
                    f"{mail.to} gets two mails about the same thing at the same time",
                    account,
                )
            before.append(sent)

    def on_delete(self, account: Account, key_id: str) -> None:
        """Nothing is deleted without the approval of exactly the keys that are there."""
        lock = self.table.look("OPEN_CASE", account.id)
        self.require(lock, f"{key_id} is deleted without a case", account.id)
        assert lock is not None
        case_id = lock["case_id"]
        approved: dict[Keys, set[str]] = defaultdict(set)
        for attempt in self.year.people.attempts:
            if attempt.case_id != case_id:
                continue
            if attempt.answer == "approve":
                approved[attempt.keys].add(attempt.by.lower().partition("+")[0])
        present = {(key.id, key.status) for key in account.keys.values()}
        people = max((len(by) for keys, by in approved.items() if present <= set(keys)), default=0)
        needed = 1
        if self.two_approver_unit in account.parents:
            needed = 2
        for key in account.keys.values():
            # What happened in the last seconds, the function may not have seen.
            if key.used and key.used > self.clock.now - USED_LATELY + timedelta(minutes=2):
                just_now = self.clock.now - key.used < timedelta(minutes=2)
                needed = needed if just_now else 2
        self.require(
            people >= needed,
            f"{key_id} is deleted with {people} of {needed} approvals of {sorted(present)}",
            account.id,
        )
        self.deletions.append(Deletion(self.clock.time, account.id, key_id, case_id))

    def on_alert(self, text: str) -> None:
        for account in self.world.accounts:
            if account in text:
                self.world.tell(account, f"alert: {text[:200]}")

    def on_end(self, execution: Execution) -> None:
        if execution.machine is self.stack.machine("sweep"):
            self._after_a_sweep(execution)
        else:
            self.world.tell(execution.name[:12], f"execution {execution.name}: {execution.status}")

    def on_change(self, old: Item | None, new: Item | None) -> None:
        """Every change of the table; a case ends once, and decisions are those of people."""
        item = new or old
        assert item is not None
        if item["sk"] != "CASE":
            return
        account = item["account_id"]
        self.require(new, "a case is deleted", account)
        assert new is not None
        if old is None:
            self.world.tell(account, f"case {new['case_id']} is opened")
            self._require_no_exception(new)
            return
        for name in ("outcome", "request_number", "decided", "woken", "rung", "reminder", "held"):
            if old.get(name) != new.get(name):
                self.world.tell(account, f"{name}: {old.get(name)} -> {new.get(name)}")
        if "ended_at" in old:
            same = {name: new.get(name) for name in ("outcome", "ended_at", "reason")}
            self.require(
                same == {name: old.get(name) for name in same}, "a case ended twice", account
            )
        if "ended_at" in new:
            self.require(new["outcome"] in FINAL, "a case ended without an outcome", account)
        else:
            self.require(new["outcome"] in WAITING, "an open case has an outcome", account)
        for name in ("approvals", "decision"):
            known = old.get(name, []) if name == "approvals" else [old.get("decision")]
            given = new.get(name, []) if name == "approvals" else [new.get("decision")]
            for decision in given:
                if decision and decision not in known:
                    self._on_decision(new, decision)

    def _on_decision(self, case: Item, decision: dict[str, Any]) -> None:
        """What is recorded was sent by this person, who saw exactly these keys."""
        keys = frozenset((key["id"], key["status"]) for key in case.get("keys", []))
        answer = {"APPROVED": "approve", "DECLINED": "decline"}[decision["answer"]]
        same = [
            attempt
            for attempt in reversed(self.year.people.attempts)
            if (attempt.case_id, attempt.by, attempt.answer)
            == (case["case_id"], decision["by"], answer)
        ]
        self.require(
            any(attempt.keys == keys for attempt in same),
            f"a decision that nobody sent: {decision}, keys {sorted(keys)}",
            case["account_id"],
        )
        self.decisions.append((case["case_id"], decision))
        self.world.tell(case["account_id"], f"recorded: {answer} by {decision['by']}")

    def _require_no_exception(self, case: Item) -> None:
        """Who declined is not asked about the same keys before the exception ends."""
        exception = self.table.look(f"ACCOUNT#{case['account_id']}", "EXCEPTION")
        if exception is None or exception["until"] < f"{self.clock.now:%Y-%m-%d}":
            return
        account = self.world.accounts[case["account_id"]]
        declined = self.table.look(f"CASE#{exception['case_id']}", "CASE")
        assert declined is not None
        keys = {(key["id"], key["status"]) for key in declined["keys"]}
        present = {(key.id, key.status) for key in account.keys.values()}
        just_now = self.clock.time - account.changed < 60
        self.require(
            keys != present or just_now, "a case is opened despite an exception", account.id
        )

    def _after_a_sweep(self, execution: Execution) -> None:
        """Every account ends a sweep in exactly one state, and the state is true."""
        if execution.status != "SUCCEEDED":
            return
        output = execution.output
        bucket, _, key = output["report"].removeprefix("s3://").partition("/")
        report = json.loads(self.stack.files[bucket, key])
        rows = {row["id"]: row for row in report["accounts"]}
        self.require(len(rows) == len(report["accounts"]), "an account is twice in a report")
        self.require(
            sum(count for name, count in output["accounts"].items() if name != "total")
            == output["accounts"]["total"]
            == len(rows),
            f"the counts of a sweep do not add up: {output['accounts']}",
        )
        asked = execution.input.get("accounts")
        for account in self.world.members():
            if account.changed >= execution.started or (asked and account.id not in asked):
                continue
            self.require(account.id in rows, "an account is not in the report", account.id)
            self._check_row(account, rows[account.id], execution)
        self.reports += 1

    def _check_row(self, account: Account, row: dict[str, Any], execution: Execution) -> None:
        state = row["state"]
        self.rows[state] += 1
        is_shut = account.state in ("SUSPENDED", "CLOSED", "PENDING_ACTIVATION")
        self.require((state == "SKIPPED") == is_shut, f"it is {account.state}: {state}", account.id)
        if state == "CLEAN":
            self.require(not account.keys, "an account with keys is CLEAN", account.id)
        if state in ("ROOT_KEYS", "EXCEPTED"):
            self.require(account.keys, f"an account without keys is {state}", account.id)
        if state == "ROOT_KEYS" and not execution.input.get("detect_only"):
            self.require(row["case"], "root keys, and no case", account.id)

    # -- at the end ----------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """What can be said only when the year is over."""
        cases = {item["case_id"]: item for item in self.table.every_item() if item["sk"] == "CASE"}
        locks = {
            item["sk"]: item["case_id"]
            for item in self.table.every_item()
            if item["pk"] == "OPEN_CASE"
        }
        for case in cases.values():
            self._check_case(case, locks)
        for account, case_id in locks.items():
            self.require(
                case_id in cases and "ended_at" not in cases[case_id], "a stale lock", account
            )
        self._check_decisions(cases)
        self._check_deletions(cases)
        self._check_mails(cases)

    def _check_case(self, case: Item, locks: dict[str, str]) -> None:
        """Every case has exactly one outcome, or a living wait and somebody who was told."""
        account = case["account_id"]
        execution = self.stack.machine("remediate").executions.get(case["case_id"])
        age = self.clock.time - self.year.parse(case["opened_at"])
        if "ended_at" in case:
            self.require(locks.get(account) != case["case_id"], "an ended case is open", account)
            if execution is not None:
                ended = self.clock.time - self.year.parse(case["ended_at"])
                self.require(
                    execution.status != "RUNNING" or ended < 600, "it ended and runs on", account
                )
            if case["outcome"] in ("ESCALATED", "FAILED"):
                told = any(
                    case["case_id"] in text or account in text
                    for at, text in self.stack.alerts
                    if at >= self.year.parse(case["opened_at"])
                )
                self.require(told or age < 3600, f"{case['outcome']}, and nobody told", account)
            return
        self.require(locks.get(account) == case["case_id"], "an open case without lock", account)
        if execution is None or execution.status != "RUNNING":
            # The next sweep makes it good.
            self.require(age < 1.5 * DAY, "an open case does not run", account)
            return
        wait = execution.waits_for
        self.require(
            wait is not None and wait.waits_until is not None,
            "an open case waits for nothing",
            account,
        )
        assert wait is not None
        assert wait.waits_until is not None
        self.require(
            wait.waits_until - self.clock.time < 181 * DAY, "a case waits too long", account
        )
        if age > 3600:
            told = [
                sent
                for (_, case_id), all_sent in self.sent.items()
                if case_id == case["case_id"]
                for sent in all_sent
            ]
            self.require(told, "a case waits, and nobody was told", account)

    def _check_decisions(self, cases: dict[str, Item]) -> None:
        """Every decision that was recorded is still there, in the case or in its past."""
        kept: Counter[tuple[str, str, str, str]] = Counter()
        for case in cases.values():
            seen = {}
            for decision in [
                *case.get("approvals", []),
                *case.get("past_decisions", []),
                *([case["decision"]] if "decision" in case else []),
            ]:
                seen[decision["answer"], decision["by"], decision["at"]] = True
            for answer, by, at in seen:
                kept[case["case_id"], answer, by, at] = 1
        for case_id, decision in self.decisions:
            self.require(
                (case_id, decision["answer"], decision["by"], decision["at"]) in kept,
                f"a decision is lost: {decision}",
                case_id[:12],
            )
        recorded = {
            (case_id, decision["answer"], decision["by"], decision["at"])
            for case_id, decision in self.decisions
        }
        for entry in kept:
            self.require(entry in recorded, f"a decision from nowhere: {entry}", entry[0][:12])

    def _check_deletions(self, cases: dict[str, Item]) -> None:
        """The table says of every deletion that it was begun, and of none that was not."""
        deleted: dict[str, set[str]] = defaultdict(set)
        for deletion in self.deletions:
            deleted[deletion.case_id].add(deletion.key_id)
        for case_id, case in cases.items():
            account = case["account_id"]
            noted = {key["id"] for key in case.get("deleted_keys", [])}
            if deleted[case_id]:
                self.require("deletion_started_at" in case, "a deletion is not noted", account)
            if case["outcome"] == "RESOLVED":
                self.require(not deleted[case_id], "RESOLVED, but Rootsweep deleted", account)
            if case["outcome"] == "REMEDIATED" and not case.get("obstacle"):
                approved = {key["id"] for key in case.get("keys", [])}
                self.require(deleted[case_id] <= approved, "others were deleted", account)
            # A function may die, or a key go, between the deletion and its note.
            self.require(
                noted <= {key["id"] for key in case.get("keys", [])} | deleted[case_id],
                f"{noted} is noted as deleted",
                account,
            )

    def _check_mails(self, cases: dict[str, Item]) -> None:
        """What the table says was mailed was mailed, to those who are asked and to nobody else."""
        for item in self.table.every_item():
            if not item["sk"].startswith("REQUEST#") or not item.get("mailed"):
                continue
            address = item["pk"].removeprefix("APPROVER#")
            self.require(
                self.sent.get((address, item["case_id"])),
                f"a mail to {address} is noted and was not sent",
                item["case_id"][:12],
            )
        for address, case_id in self.sent:
            asked = {each.lower() for each in cases[case_id].get("asked", ())}
            self.require(address in asked, f"{address} was not asked", case_id[:12])

    def counts(self) -> dict[str, int]:
        """The year in numbers."""
        cases = [item for item in self.table.every_item() if item["sk"] == "CASE"]
        remediate = self.stack.machine("remediate").executions.values()
        counts: Counter[str] = Counter(case["outcome"] for case in cases)
        counts |= {
            "cases": len(cases),
            "mails": len(self.mails),
            "pages": self.year.people.pages,
            "forms": len(self.year.people.attempts),
            "decisions": len(self.decisions),
            "deletions": len(self.deletions),
            "alerts": len(self.stack.alerts),
            "deaths": len(self.stack.died),
            "reports": self.reports,
            "states": sum(len(execution.entered) for execution in remediate),
            "longest history": max((each.events for each in remediate), default=0),
        }
        counts |= {f"rows {state}": count for state, count in self.rows.items()}
        return dict(sorted(counts.items()))


__all__ = ["Attempt", "Broken", "Watch"]
