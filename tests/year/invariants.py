"""What has to be true of a year, whatever happened in it. Each check names its promise.

The watch keeps ledgers of its own: of mails as SES got them, of forms as people sent them, of keys
as IAM deleted them. Where it reads the table, it is to compare the table with these.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import getcurrent

from operate import verify_log

from .clock import DAY, loud
from .world import TAG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .machine import Execution
    from .people import Keys, Mail
    from .table import Item
    from .world import Account
    from .year import Year

HOUR = 3600.0
FINAL = {"REMEDIATED", "RESOLVED", "DECLINED", "ESCALATED", "FAILED"}
WAITING = {"AWAITING_APPROVAL", "AWAITING_REMOVAL"}
GIVEN_UP = {"ESCALATED", "FAILED"}
SHUT = {"SUSPENDED", "CLOSED", "PENDING_ACTIVATION"}
USED_LATELY = timedelta(days=90)
# What happened in the last seconds, a function that runs may not have seen.
A_MOMENT = 120.0
# Changes of a case that are worth a line in its story.
TOLD = ("outcome", "request_number", "rung", "reminder", "decided", "woken", "account_gone", "held")


def _apart(sweeps: Iterable[float]) -> int:
    """How many sweeps there were; of those that are seconds apart, one: they meet one moment."""
    count, last = 0, 0.0
    for at in sweeps:
        if at - last >= 9 * HOUR:
            count, last = count + 1, at
    return count


class Broken(BaseException):
    """When a promise is broken. No `except Exception` of the product sees it."""


class Deletion(NamedTuple):
    """A key that Rootsweep deleted."""

    account: str
    key_id: str
    case_id: str
    release: str


class Sent(NamedTuple):
    """A mail that mentions a case, and which request of the case it was about."""

    mail: Mail
    request: int


class Watch:
    """Looks at everything, believes nothing."""

    def __init__(self, year: Year) -> None:
        self.year = year
        self.world = year.world
        self.stack = year.stack
        self.table = year.table
        self.clock = year.clock
        self.unit_of_two = year.parameters["TwoApproversOrganizationalUnits"]
        self.canaries = int(year.parameters["CanaryDeletions"])
        self.window = int(year.parameters["MailWindowSeconds"])
        self.mails: list[Mail] = []
        self.sent: dict[tuple[str, str], list[Sent]] = defaultdict(list)
        self.warned: dict[tuple[str, str], list[Mail]] = defaultdict(list)
        self.deletions: list[Deletion] = []
        self.decisions: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.ended: dict[str, Item] = {}
        # When cases last waited for the end of a quarantine, or for deletions to go on.
        self.waited: dict[str, float] = {}
        self.held_by_switch = 0.0
        self.switch, self.switched_at = "off", 0.0
        self.release, self.released_at = "first", 0.0
        self.full_sweeps: list[float] = []
        self.excepted: dict[str, list[float]] = defaultdict(list)
        self.rows: Counter[str] = Counter()
        self.table.observers.append(loud(self.on_change))
        self.stack.on_end = self.on_end
        self.stack.on_alert = self.on_alert
        self.stack.tell = lambda text: self.world.tell("", text)
        self.year.aws.on_delete = self.on_delete
        self.year.people.on_get = lambda writes: self.require(
            not writes, f"opening a link changes something: {writes}"
        )

    def require(self, holds: object, promise: str, account: str = "") -> None:
        """Stop the year if a promise is broken, with the seed and the story of the account."""
        if holds:
            return
        executions = self.stack.machine("remediate").executions.values()
        states = [
            (at, name)
            for execution in executions
            if account and execution.name.startswith(account)
            for at, name in execution.entered
        ]
        items = [
            f"  {json.dumps(item, default=str, sort_keys=True)}"
            for item in self.table.every_item()
            if account and account in item["pk"] + item["sk"]
        ]
        raise Broken(
            f"seed {self.year.seed}, {self.year.text(self.clock.time)}: {promise}\n"
            f"Repeat it with: YEAR_SEED={self.year.seed} YEAR_DAYS={self.year.days} "
            "python -m pytest tests/year\n"
            f"The story of account {account or '(none)'}:\n{self.world.story(account, states)}\n"
            "Its items:\n" + "\n".join(items)
        )

    # -- mails ---------------------------------------------------------------------------------

    def on_mail(self, mail: Mail) -> None:
        """A mail goes out; what it is about is known when the function notes it."""
        self.mails.append(mail)
        invocation: Any = getattr(getcurrent(), "invocation", None)
        invocation.mails.append(mail)
        for account in mail.accounts:
            self.world.tell(account, f"mail to {mail.to}: {mail.subject}")
            if mail.link:
                is_open = self.table.look("OPEN_CASE", account)
                # It may have ended while the mail was written.
                ended = self.ended.get(account, {"ended_at": "1970-01-01"})["ended_at"]
                just_now = self.clock.time - self.year.parse(ended) < A_MOMENT
                self.require(
                    is_open or just_now, f"{mail.to} is asked, and there is no case", account
                )
            else:
                self._on_warning(mail, account)

    def _on_note(self, request: Item) -> None:
        """Nobody gets two mails about the same thing at the same time."""
        address = request["pk"].removeprefix("APPROVER#")
        invocation: Any = getattr(getcurrent(), "invocation", None)
        mails = [mail for mail in invocation.mails if mail.to.lower() == address]
        if not mails:
            return
        mail, case = mails[-1], self.case(request["case_id"])
        account = case["account_id"]
        self.require(account in mail.accounts, "a mail is noted that did not tell", account)
        before = self.sent[address, case["case_id"]]
        if before and before[-1].mail is mail:
            return  # The answer to the note was lost, and it is written again.
        same = [
            other
            for other in before
            if other.request == request["mailed"] and not other.mail.is_excused
        ]
        due, gap, _ = self._schedule(case)
        # Its evidence may change this very moment, and then the rung begins anew.
        since = self.year.parse(case.get("ladder_since", request["asked_at"]))
        late = self.year.parse(request["asked_at"]) - since
        if len(same) == 1 and late > self.window + 600:
            # Who is asked late is reminded with the others, but not shortly after.
            gap = min(gap, 6 * HOUR - self.window - 600)
        self.require(
            not same or mail.at - same[-1].mail.at > gap,
            f"{mail.to} gets two mails about the same thing at the same time",
            account,
        )
        self.require(
            len(same) < due,
            f"{mail.to} gets mail number {len(same) + 1} about the same thing, of {due}",
            account,
        )
        before.append(Sent(mail, int(request["mailed"])))

    def _schedule(self, case: Item) -> tuple[int, float, float]:
        """How many mails a person gets from a ladder; the least and the most time between two."""
        times = [0.0]
        start = 0.0
        for rung in case["ladder"]:
            after = float(rung["after_seconds"])
            every = float(rung.get("remind_every_seconds", after))
            turn = every
            while turn < after:
                times.append(start + turn)
                turn += every
            start += after
            times.append(start)
        gaps = [late - early for early, late in itertools.pairwise(times)]
        # A reminder that is nearly due shares an earlier mail, at most six hours before its time,
        # and the mail before it may have waited for the others of its sweep.
        least = min(gap - min(6 * HOUR, gap / 4) for gap in gaps)
        return len(times) - 1, least - self.window - 600, max(gaps)

    def _on_warning(self, mail: Mail, account: str) -> None:
        exception = self.table.look(f"ACCOUNT#{account}", "EXCEPTION")
        self.require(exception, f"{mail.to} is told that no exception ends", account)
        assert exception is not None
        left = self.year.parse(exception["until"]) + DAY - self.clock.time
        self.require(0 < left <= 8 * DAY, f"a warning {left / DAY:.1f} days before", account)
        self.require(mail.to == exception["owner"], "somebody else is warned", account)
        before = self.warned[account, exception["case_id"]]
        self.require(
            all(other.is_excused for other in before), f"{mail.to} is warned twice", account
        )
        before.append(mail)

    # -- deletions -----------------------------------------------------------------------------

    def on_delete(self, account: Account, key_id: str) -> None:
        """Nothing is deleted without the approval of exactly the keys that are there.

        As the session that deletes found them: a key that is made after its look is seen by nobody,
        and stays.
        """
        lock = self.table.look("OPEN_CASE", account.id)
        self.require(lock, f"{key_id} is deleted without a case", account.id)
        assert lock is not None
        case_id = lock["case_id"]
        approved: dict[Keys, set[str]] = defaultdict(set)
        for attempt in self.year.people.attempts:
            if (attempt.case_id, attempt.answer) == (case_id, "approve"):
                approved[attempt.keys].add(attempt.by.lower())
        self.require(
            self.case(case_id).get("decision", {}).get("answer") == "APPROVED",
            f"{key_id} is deleted after a decline",
            account.id,
        )
        self.require(account.id in self.year.aws.seen, f"{key_id} is deleted unseen", account.id)
        present = self.year.aws.seen[account.id]
        people = max((len(by) for keys, by in approved.items() if present <= keys), default=0)
        needed = 2 if self.unit_of_two in self.case(case_id)["parents"] else 1
        for key in account.keys.values():
            ago = self.clock.now - key.used if key.used else USED_LATELY
            if timedelta(seconds=A_MOMENT) < ago < USED_LATELY - timedelta(seconds=A_MOMENT):
                needed = 2
        self.require(
            people >= needed,
            f"{key_id} is deleted with {people} of {needed} approvals of {sorted(present)}",
            account.id,
        )
        self.require(
            self.switch == "off" or self.clock.time - self.switched_at < 2,
            f"{key_id} is deleted while the kill switch is {self.switch!r}",
            account.id,
        )
        self._require_canary(case_id)
        self._require_quarantine(account, case_id)
        self.deletions.append(Deletion(account.id, key_id, case_id, self.release))

    def _require_canary(self, case_id: str) -> None:
        """The first deletions of a release run alone, each confirmed before the next begins."""
        others = {
            deletion.case_id
            for deletion in self.deletions
            if deletion.release == self.release and deletion.case_id != case_id
        }
        cases = [self.case(other) for other in others]
        confirmed = sum(case["outcome"] == "REMEDIATED" for case in cases)
        running = [
            case["case_id"]
            for case in cases
            if "ended_at" not in case and case.get("decision", {}).get("answer") == "APPROVED"
        ]
        self.require(
            confirmed >= self.canaries
            or not running
            or self.clock.time - self.released_at < A_MOMENT,
            f"{case_id} deletes beside {running}, after {confirmed} of {self.canaries}",
            case_id[:12],
        )

    def _require_quarantine(self, account: Account, case_id: str) -> None:
        """Where somebody wanted the root user blocked first, it was, and for so long."""
        wanted = [
            each["quarantine"]
            for (case, answer, _, _), each in self.decisions.items()
            if (case, answer) == (case_id, "APPROVED") and each.get("quarantine")
            if each["request"] == self.case(case_id)["request_number"]
        ]
        for text in wanted:
            seconds = int(text[:-1]) * {"h": HOUR, "d": DAY}[text[-1]]
            blocked = self.clock.time - self.world.blocked.get(account.id, self.clock.time)
            self.require(
                blocked > seconds - A_MOMENT,
                f"deleted after {blocked / HOUR:.1f} hours in quarantine, not {text}",
                account.id,
            )

    def on_switch(self, value: str) -> None:
        self._require_told_of_the_switch()
        self.switch, self.switched_at = value, self.clock.time

    def on_release(self, release: str) -> None:
        self.release, self.released_at = release, self.clock.time

    def _require_told_of_the_switch(self) -> None:
        """Somebody is told when the kill switch holds up a deletion."""
        self.require(
            self.held_by_switch <= self.switched_at
            or self.clock.time - self.held_by_switch < HOUR
            or any(
                at > self.switched_at and "deletes nothing for now" in text
                for at, text in self.stack.alerts
            ),
            "the kill switch holds up a deletion, and nobody is told",
        )

    # -- alerts, executions, sweeps ------------------------------------------------------------

    def on_alert(self, text: str) -> None:
        for account in self.world.accounts:
            if account in text:
                self.world.tell(account, f"alert: {text[:300]}")

    def on_end(self, execution: Execution) -> None:
        if execution.machine is self.stack.machine("sweep"):
            self._after_a_sweep(execution)
        else:
            self.world.tell(execution.name[:12], f"execution {execution.name}: {execution.status}")

    def _after_a_sweep(self, execution: Execution) -> None:
        """Every account ends a sweep in exactly one state, and the state is true."""
        if execution.status != "SUCCEEDED":
            self.world.tell("", f"sweep {execution.name} {execution.status}: {execution.failure}")
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
        if not execution.input:
            self.full_sweeps.append(self.clock.time)

    def _check_row(self, account: Account, row: dict[str, Any], execution: Execution) -> None:
        state = row["state"]
        self.rows[state] += 1
        is_shut = account.state in SHUT
        self.require((state == "SKIPPED") == is_shut, f"it is {account.state}: {state}", account.id)
        if state == "CLEAN":
            self.require(not account.keys, "an account with keys is CLEAN", account.id)
        if state in ("ROOT_KEYS", "EXCEPTED"):
            self.require(account.keys, f"an account without keys is {state}", account.id)
        if state == "ROOT_KEYS" and not execution.input.get("detect_only"):
            self.require(row["case"], "root keys, and no case", account.id)
        if state == "EXCEPTED":
            if not execution.input:
                self.excepted[account.id].append(execution.started)
            exception = self.table.look(f"ACCOUNT#{account.id}", "EXCEPTION")
            self.require(
                exception and exception["until"] >= row["reason"][6:16] >= self.today(-1),
                "it is EXCEPTED without an exception",
                account.id,
            )

    # -- the table -----------------------------------------------------------------------------

    def case(self, case_id: str) -> Item:
        case = self.table.look(f"CASE#{case_id}", "CASE")
        assert case is not None
        return case

    def today(self, days: int = 0) -> str:
        return f"{self.clock.now + timedelta(days=days):%Y-%m-%d}"

    def on_change(self, old: Item | None, new: Item | None) -> None:
        """Every change of the table is one that it may go through."""
        item = new or old
        assert item is not None
        if item["sk"] == "CASE":
            self.require(new, "a case is deleted", item["account_id"])
            assert new is not None
            if old is None:
                self._on_opened(new)
            else:
                self._on_changed(old, new)
        elif item["sk"].startswith("REQUEST#") and old and new and "mailed" in new:
            self._on_note(new)
            before = old.get("mailed", 0), old.get("reminded", 0)
            after = new["mailed"], new.get("reminded", 0)
            self.require(
                before <= after,
                f"{new['pk']} is noted as mailed about {after} after {before}",
                new["case_id"][:12],
            )

    def _on_opened(self, case: Item) -> None:
        account = case["account_id"]
        self.world.tell(account, f"case {case['case_id']} is opened on rung {case['rung']}")
        self._require_no_exception(case)
        last = self.ended.get(account)
        if last is None or last["outcome"] not in GIVEN_UP:
            expected = (0, 0)
        else:
            before = {key["id"] for key in last.get("keys", [])}
            present = set(self.world.accounts[account].keys)
            if before and not before & present:
                return  # Whether they are other keys, it may have been unable to see.
            expected = (int(last["reopened"]) + 1, min(int(last["rung"]), len(case["ladder"]) - 1))
        found = int(case["reopened"]), int(case["rung"])
        self.require(found == expected, f"reopened, rung: {found}, not {expected}", account)

    def _require_no_exception(self, case: Item) -> None:
        """Who declined is not asked about the same keys before the exception ends."""
        exception = self.table.look(f"ACCOUNT#{case['account_id']}", "EXCEPTION")
        if exception is None or exception["until"] < self.today():
            return
        account = self.world.accounts[case["account_id"]]
        just_now = self.clock.time - account.changed < A_MOMENT
        self.require(
            just_now or not self.may_all_stay(account, exception),
            "a case is opened despite an exception",
            account.id,
        )

    def may_all_stay(self, account: Account, exception: Item) -> bool:
        """Whether who declined saw every key that there is, and none is more in use than then."""
        seen = {key["id"]: key["status"] for key in self.case(exception["case_id"])["keys"]}
        return bool(account.keys) and all(
            key.id in seen and key.status in (seen[key.id], "Inactive")
            for key in account.keys.values()
        )

    def _on_changed(self, old: Item, new: Item) -> None:
        """A case ends once, climbs up only, and its decisions are those of people."""
        account = new["account_id"]
        for name in TOLD:
            if old.get(name) != new.get(name):
                self.world.tell(account, f"{name}: {old.get(name)} -> {new.get(name)}")
        if "ended_at" in old:
            same = all(old.get(name) == new.get(name) for name in ("outcome", "ended_at", "reason"))
            self.require(same, "a case ended twice", account)
        elif "ended_at" in new:
            self.require(new["outcome"] in FINAL, "a case ended without an outcome", account)
            self.ended[account] = new
        else:
            self.require(new["outcome"] in WAITING, "an open case has an outcome", account)
        self.require(new["rung"] >= old["rung"], "a case climbs down", account)
        if "held" in old or "quarantine_token" in old:
            self.waited[new["case_id"]] = self.clock.time
        if new.get("approvers", []) != old.get("approvers", []):
            self._check_asked(new)
        if new["outcome"] == "ESCALATED" and "ended_at" not in old:
            self._check_escalated(new)
        if new.get("held") == "KillSwitchOn" and old.get("held") != "KillSwitchOn":
            self.held_by_switch = self.clock.time
        known = [*old.get("approvals", []), old.get("decision")]
        for decision in [*new.get("approvals", []), new.get("decision")]:
            if decision and decision not in known:
                self._on_decision(new, decision)

    def _check_asked(self, case: Item) -> None:
        """Nobody is asked who is not named by the account, by what is above it or by the stack."""
        account = self.world.accounts[case["account_id"]]
        if self.clock.time - account.changed < A_MOMENT:
            return
        named = [account.tags.get(TAG, ""), account.security_contact]
        named += [self.world.unit_tags.get(unit, {}).get(TAG, "") for unit in case["parents"]]
        named += [self.year.parameters[name] for name in ("DefaultApprover", "SecondApprover")]
        named += [target for rung in case["ladder"] for target in rung["notify"]]
        known = {address.lower() for text in named for address in text.split()}
        for address in case.get("approvers", []):
            self.require(
                address.lower() in known or self.clock.time - self.world.retagged < A_MOMENT,
                f"{address} is asked, whom nobody names",
                account.id,
            )

    def _check_escalated(self, case: Item) -> None:
        """A case is given up at the end of its ladder, when everybody there was asked."""
        if case["reason"].startswith("nobody answers for this account"):
            self.require(not case["approvers"], "somebody answers", case["account_id"])
        self.require(
            self.clock.time >= self.year.parse(case["deadline"]),
            "given up early",
            case["account_id"],
        )
        self._check_told(case)

    def _on_decision(self, case: Item, decision: dict[str, Any]) -> None:
        """What is recorded was sent by this person, who saw exactly these keys."""
        keys = frozenset((key["id"], key["status"]) for key in case["keys"])
        answer = {"APPROVED": "approve", "DECLINED": "decline"}[decision["answer"]]
        wanted = case["case_id"], decision["by"], answer, keys
        self.require(
            any(
                (attempt.case_id, attempt.by, attempt.answer, attempt.keys) == wanted
                for attempt in reversed(self.year.people.attempts)
            ),
            f"a decision that nobody sent: {decision}, keys {sorted(keys)}",
            case["account_id"],
        )
        entry = case["case_id"], decision["answer"], decision["by"], decision["at"]
        if entry not in self.decisions:
            self.world.tell(case["account_id"], f"recorded: {answer} by {decision['by']}")
        self.decisions[entry] = {**decision, "request": case["request_number"]}

    # -- at the end ----------------------------------------------------------------------------

    def every_day(self) -> None:
        """What has to be true at any time, but takes a while to look at."""
        locks = self._locks()
        for account, case_id in locks.items():
            case = self.case(case_id)
            self.require("ended_at" not in case, "a stale lock", account)
            self._check_waiting(case)
        self._check_accounts(locks)
        self._check_quarantines()

    def at_the_end(self) -> None:
        """What can be said only when the year is over."""
        self.every_day()
        items = self.table.every_item()
        cases = {item["case_id"]: item for item in items if item["sk"] == "CASE"}
        locks = self._locks()
        self._check_mails(items, cases)
        for case in cases.values():
            is_open = locks.get(case["account_id"]) == case["case_id"]
            self.require(
                is_open is ("ended_at" not in case), "the lock is wrong", case["account_id"]
            )
            if not is_open:
                self._check_ended(case)
        self._require_told_of_the_switch()
        self._check_decisions(cases)
        self._check_deletions(cases)
        self._check_warnings(cases)
        self._check_log(cases)

    def _check_log(self, cases: dict[str, Item]) -> None:
        """The exported log holds; it has each decision, deletion and end once, and nothing else."""
        bucket = self.stack.physical("DecisionLogBucket")
        entries = {
            int(key[len(verify_log.PREFIX) : -len(".json")]): file.encode()
            for (name, key), file in self.stack.files.items()
            if name == bucket
        }
        try:
            verify_log.verify(entries)
        except verify_log.BrokenEntryError as broken:
            self.require(False, f"the decision log: {broken}", "")
        told = [json.loads(text) for text in entries.values()]
        twice = [id for id, count in Counter(each["id"] for each in told).items() if count > 1]
        self.require(not twice, f"twice in the decision log: {twice}", "")
        logged = {
            (
                each["case_id"],
                "DECLINED" if each["what"] == "TAKEN_BACK" else each["what"],
                each.get("by", each.get("key_id", "")),
                each["at"],
            )
            for each in told
            if each["what"] not in ("SET_ASIDE", "DELETION_STARTED")
        }
        happened = set(self.decisions)
        for id, case in cases.items():
            if "ended_at" in case:
                happened.add((id, "ENDED", "", case["ended_at"]))
            for key in case.get("deleted_keys", []):
                happened.add((id, "KEY_DELETED", key["id"], key["deleted_at"]))
        self.require(logged <= happened, f"only the log knows of it: {logged - happened}", "")
        for id, what, who, at in sorted(happened - logged):
            self.require(
                # What happened lately may be on its way.
                self.year.parse(at) > self.clock.time - HOUR,
                f"not in the decision log: {what} {who} {at}",
                cases[id]["account_id"],
            )

    def _locks(self) -> dict[str, str]:
        """The open case of each account that has one."""
        return {item["sk"]: item["case_id"] for item in self.table.part("OPEN_CASE")}

    def _check_ended(self, case: Item) -> None:
        """An ended case ended in every respect, and where it matters somebody was told."""
        account = case["account_id"]
        ended = self.year.parse(case["ended_at"])
        execution = self.stack.machine("remediate").executions.get(case["case_id"])
        lately = self.clock.time - ended < HOUR
        if execution is not None:
            self.require(execution.status != "RUNNING" or lately, "it ended and runs on", account)
        if case["outcome"] in GIVEN_UP:
            told = any(case["case_id"] in text for _, text in self.stack.alerts)
            self.require(told or lately, f"{case['outcome']}, and nobody is told", account)

    def _check_waiting(self, case: Item) -> None:
        """An open case has a living wait, and the people it waits for were told."""
        account, now = case["account_id"], self.clock.time
        age = now - self.year.parse(case["opened_at"])
        execution = self.stack.machine("remediate").executions.get(case["case_id"])
        if execution is None or execution.status != "RUNNING":
            # The next sweep that succeeds makes it good.
            died = execution.ended if execution and execution.ended else now - age
            good = [at for at in self.full_sweeps if at > died + HOUR]
            self.require(len(good) < 2, "an open case does not run", account)
            return
        wait = execution.waits_for
        self.require(wait and wait.waits_until, "an open case waits for nothing", account)
        assert wait is not None
        assert wait.waits_until is not None
        self.require(wait.waits_until - now < 181 * DAY, "a case waits too long", account)
        settled = "held" in case or "quarantine_token" in case or case.get("obstacle")
        if case.get("decided") == "YES" and not settled:
            at = self.year.parse(case["decision"]["at"])
            # The deletion goes on when its quarantine or what held it up is over.
            at = max(at, self.waited.get(case["case_id"], 0))
            self.require(now - at < DAY, "it is decided, and nothing happens", account)
        if "deadline" in case and "approvers" in case and case.get("decided") != "YES":
            late = now - self.year.parse(case["next_mail_at"])
            self.require(late < 9 * HOUR, "a mail is overdue", account)
            self._check_told(case)
            self._check_reminded(case)
        self._check_gone(case)

    def _check_quarantines(self) -> None:
        """No root user stays blocked whose case has ended."""
        for policy in self.world.policies.values():
            for account in sorted(policy.targets):
                lock = self.table.look("OPEN_CASE", account)
                ended = self.ended.get(account)
                since = self.year.parse(ended["ended_at"]) if ended else 0
                sweeps = [at for at in self.full_sweeps if at > since + HOUR]
                self.require(lock or len(sweeps) < 2, "its root user stays blocked", account)

    def _check_told(self, case: Item) -> None:
        """Those whom an open case asks have a mail about it, and one of them can read it."""
        told = []
        for address in case["approvers"]:
            mails = self.sent.get((address.lower(), case["case_id"]), [])
            about_this = [sent for sent in mails if sent.request == case["request_number"]]
            approved = any(each["by"] == address for each in case.get("approvals", []))
            self.require(
                about_this
                or approved
                or address in case.get("unreachable", ())
                or self.clock.time - self.year.parse(case["next_mail_at"]) > -HOUR
                or self._is_young(case),
                f"{address} is asked and has no mail",
                case["account_id"],
            )
            told += about_this
        people = self.year.people.everybody
        reads = any(people[sent.mail.to.lower()].leaves > sent.mail.at for sent in told)
        lately = any(self.clock.time - sent.mail.at < HOUR for sent in told)
        default = self.year.parameters["DefaultApprover"]
        self.require(
            reads or lately or self._is_young(case) or not default,
            "it asks only people whose mails bounce",
            case["account_id"],
        )

    def _check_reminded(self, case: Item) -> None:
        """Whoever still has to do something hears of it as often as the ladder says."""
        _, _, most = self._schedule(case)
        for address in case["approvers"]:
            mails = self.sent.get((address.lower(), case["case_id"]), [])
            approved = any(each["by"] == address for each in case.get("approvals", []))
            if mails and not approved and address not in case.get("unreachable", ()):
                silent = self.clock.time - max(sent.mail.at for sent in mails)
                self.require(
                    silent < most + 9 * HOUR,
                    f"{address} heard nothing for {silent / DAY:.1f} days",
                    case["account_id"],
                )

    def _is_young(self, case: Item) -> bool:
        return bool(self.clock.time - self.year.parse(self._latest(case)) < HOUR)

    @staticmethod
    def _latest(case: Item) -> str:
        """When the evidence was last gathered, which may never have been possible."""
        return str(case.get("evidence_at", case["opened_at"]))

    def _check_gone(self, case: Item) -> None:
        """The case of an account that is gone, or whose keys may all stay, ends with a next sweep.

        A deletion that is held up, or waits for the end of a quarantine, finds it only then.
        """
        account = self.world.accounts[case["account_id"]]
        waits = "held" in case or "quarantine_token" in case
        since = max(account.changed, self.waited.get(case["case_id"], 0))
        kept = self.table.look(f"ACCOUNT#{account.id}", "EXCEPTION")
        if kept and kept["until"] >= self.today() and self.may_all_stay(account, kept):
            sweeps = _apart(at for at in self.excepted[account.id] if at > since)
            self.require(sweeps < 3 or waits, "a case about keys that may stay", account.id)
        if account.is_member and account.state not in SHUT:
            return
        sweeps = _apart(at for at in self.full_sweeps if at > since)
        self.require(sweeps < 3 or waits, "a case of an account that is gone", account.id)

    def _check_accounts(self, locks: dict[str, str]) -> None:
        """No account with keys is forgotten: it has an open case, an exception, or is not shown."""
        for account in self.world.members():
            since = max([key.created.timestamp() for key in account.keys.values()], default=0)
            since = max(since, account.changed)
            ended = self.ended.get(account.id)
            if ended is not None:
                since = max(since, self.year.parse(ended["ended_at"]))
            exception = self.table.look(f"ACCOUNT#{account.id}", "EXCEPTION")
            if exception is not None:
                since = max(since, self.year.parse(exception["until"]) + DAY)
            if account.keys and account.state not in SHUT and account.has_audit_role:
                sweeps = [at for at in self.full_sweeps if at > since + HOUR]
                self.require(
                    account.id in locks or len(sweeps) < 3, "keys, and nobody is asked", account.id
                )

    def _check_decisions(self, cases: dict[str, Item]) -> None:
        """Every decision that was recorded is still there, in the case or in its past."""
        kept = {
            (case["case_id"], decision["answer"], decision["by"], decision["at"])
            for case in cases.values()
            for decision in [
                *case.get("approvals", []),
                *case.get("past_decisions", []),
                *([case["decision"]] if "decision" in case else []),
            ]
        }
        for entry in kept ^ self.decisions.keys():
            self.require(
                False, f"a decision is lost, or comes from nowhere: {entry}", entry[0][:12]
            )
        for case in cases.values():
            if case["outcome"] == "DECLINED":
                answer = case.get("decision", {}).get("answer")
                self.require(answer == "DECLINED", "DECLINED by nobody", case["account_id"])

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
                self.require(case["outcome"] != "RESOLVED", "RESOLVED, but we deleted", account)
            if case["outcome"] == "REMEDIATED" and not case.get("obstacle"):
                self.require("deletion_started_at" in case, "REMEDIATED by nobody", account)
            # IAM may still have shown one that its owner had just removed.
            known = {key["id"] for key in case.get("keys", [])}
            # The evidence may have changed since; then it was one that somebody had approved.
            for attempt in self.year.people.attempts:
                if (attempt.case_id, attempt.answer) == (case_id, "approve"):
                    known |= {id for id, _ in attempt.keys}
            self.require(noted <= known | deleted[case_id], f"{noted} noted as deleted", account)

    def _check_mails(self, items: list[Item], cases: dict[str, Item]) -> None:
        """What the table says was mailed was mailed, to those who are asked and to nobody else."""
        for item in items:
            if item["sk"].startswith("REQUEST#") and item.get("mailed"):
                address = item["pk"].removeprefix("APPROVER#")
                self.require(
                    self.sent.get((address, item["case_id"])),
                    f"a mail to {address} is noted and was not sent",
                    item["case_id"][:12],
                )
        for address, case_id in list(self.sent):
            if self.sent[address, case_id]:
                asked = {each.lower() for each in cases[case_id].get("asked", ())}
                self.require(address in asked, f"{address} was not asked", case_id[:12])
        noted = {
            (id(sent.mail), case_id[:12])
            for (_, case_id), all_sent in self.sent.items()
            for sent in all_sent
        }
        for mail in self.mails:
            for account in mail.accounts if mail.link and not mail.is_excused else ():
                lately = self.clock.time - mail.at < HOUR
                self.require(
                    (id(mail), account) in noted or lately, f"a mail to {mail.to} unnoted", account
                )

    def _check_warnings(self, cases: dict[str, Item]) -> None:
        """Who keeps keys is told before the exception ends, if the keys are still there."""
        for case in cases.values():
            old = case.get("old_exception")
            if old is None or old["owner"] in self.year.aws.refuses_mail_to:
                continue
            since = max(
                self.year.parse(cases[old["case_id"]]["ended_at"]),
                self.year.parse(old["until"]) - 7 * DAY,
            )
            # Sweeps that saw the account EXCEPTED, and not only that it could not be read.
            until = self.year.parse(case["opened_at"])
            sweeps = [at for at in self.excepted[case["account_id"]] if since < at < until]
            told = self.warned.get((case["account_id"], old["case_id"]))
            self.require(
                told or len(sweeps) < 3,
                f"{old['owner']} is not told that an exception ends",
                case["account_id"],
            )

    def counts(self) -> dict[str, Any]:
        """The year in numbers, and what tells it from every other."""
        cases = [item for item in self.table.every_item() if item["sk"] == "CASE"]
        executions = self.stack.machine("remediate").executions.values()
        counts: Counter[str] = Counter(case["outcome"] for case in cases)
        counts |= {
            "cases": len(cases),
            "reopened": sum(case["reopened"] > 0 for case in cases),
            "mails": len(self.mails),
            "warnings": sum(not mail.link for mail in self.mails),
            "pages": self.year.people.pages,
            "forms": len(self.year.people.attempts),
            "decisions": len(self.decisions),
            "deletions": len(self.deletions),
            "alerts": len(self.stack.alerts),
            "deaths": len(self.stack.died),
            "sweeps": len(self.full_sweeps),
            "states": sum(len(execution.entered) for execution in executions),
            "longest history": max((each.events for each in executions), default=0),
        }
        counts |= {f"rows {state}": count for state, count in self.rows.items()}
        course = hashlib.sha256(repr(self.world.chronicle).encode()).hexdigest()[:16]
        return {name: int(count) for name, count in sorted(counts.items())} | {"course": course}
