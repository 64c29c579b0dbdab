"""A year in the life of an organization: what happens to accounts, keys and services, by the dice.

`python -m tests.year SEED` lives through one and says how it went.
"""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from .aws import Aws, table_latency
from .clock import DAY, Clock, loud
from .invariants import Broken, Watch
from .people import HOUR, People, read_mail
from .sabotage import SABOTAGE
from .stack import Stack, Trouble
from .table import Table
from .world import ROOT, TAG, Account, World

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2027, 1, 1, tzinfo=UTC)
SWEEP_AT = 6 * HOUR
NAMES = [
    "billing",
    "Ürün",
    "data & ml",
    "'; DROP TABLE",
    "=cmd|'!A0",
    "<b>bold</b>",
    "日本",
    "shop",
]
PARAMETERS = {
    "SenderAddress": "rootsweep@example.com",
    "DefaultApprover": "security@example.com",
    "SecondApprover": "lead@example.com",
    "ApprovalBaseUrl": "https://approvals.example.com",
    "AlertAddress": "soc@example.com",
}
# The escalation policies that are tried; the first is the default of the stack.
POLICIES = [
    "",
    """[{"after": "3d", "notify": ["approvers"], "remind_every": "1d"},
        {"after": "4d", "notify": ["organizational_unit"], "remind_every": "2d"},
        {"after": "5d", "notify": ["default_approver", "boss@example.com"]}]""",
    """[{"after": "10d", "notify": ["approvers"]},
        {"after": "2d", "notify": ["default_approver"], "remind_every": "12h"}]""",
    """[{"after": "30d", "notify": ["approvers", "boss@example.com"], "remind_every": "7d"}]""",
]


def live(seed: int, *, days: int, sabotage: str = "") -> tuple[str, dict[str, Any]]:
    """Live through a year: the story of a broken promise, or "", and the year in numbers."""
    logging.disable()
    with pytest.MonkeyPatch.context() as patch:
        if sabotage:
            patch.setattr(*SABOTAGE[sabotage][:3])
        try:
            counts = Year(seed, days=days).live()
        except Broken as broken:
            return str(broken), {}
    # A year in which nothing happens keeps every promise too.
    if counts.get("sweeps", 0) < days / 2 or not counts.get("deletions"):
        return f"seed {seed}: hardly anything happened: {counts}", {}
    return "", counts


class Year:
    """One simulated year. Everything in it follows from the seed."""

    kind_of_people = People
    kind_of_trouble = Trouble

    def __init__(self, seed: int, *, days: int = 365, accounts: int = 300) -> None:
        self.seed = seed
        self.days = days
        self.clock = Clock(START)
        self.start = self.clock.time
        self.end = self.start + days * DAY
        self.dice = random.Random(f"{seed} fates")
        self.world = World(self.clock, random.Random(f"{seed} world"))
        self._make_organization(accounts)
        self.parameters = self._choose_parameters()
        self.stack = Stack(
            self.clock,
            account=self.world.security,
            parameters=self.parameters,
            trouble=self.kind_of_trouble(random.Random(f"{seed} trouble")),
            dice=random.Random(f"{seed} chance"),
        )
        self.table = Table(self.stack.physical("CasesTable"))
        self.log = Table(self.stack.physical("DecisionLogTable"))
        tables = {table.name: table for table in (self.table, self.log)}
        self.aws = Aws(self.world, self.stack, tables, random.Random(f"{seed} aws"))
        for table in tables.values():
            table.latency = table_latency(self.stack, self.aws)
            table.loses_answer = self.stack.trouble.loses_answer
        self.stack.deploy(self.aws, self.table)
        self.people = self.kind_of_people(self.world, self.stack, seed)
        self._hire()
        self.watch = Watch(self)
        self.aws.on_mail = self._on_mail

    def live(self) -> dict[str, Any]:
        """Live through it. Raises Broken where a promise was."""
        self._schedule_sweeps()
        self._schedule_fates()
        self._schedule_outages()
        self.clock.run(self.end)
        self.watch.at_the_end()
        return self.watch.counts()

    @staticmethod
    def parse(text: str) -> float:
        """A time of the table as the clock has it."""
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    @staticmethod
    def text(time: float) -> str:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S.%f}"

    def _on_mail(self, sent: dict[str, Any]) -> None:
        mail = read_mail(self.clock.time, sent)
        loud(self.watch.on_mail)(mail)
        self.people.get(mail)

    # -- the organization ----------------------------------------------------------------------

    def _choose_parameters(self) -> dict[str, str]:
        dice = random.Random(f"{self.seed} parameters")
        unit = dice.choice(list(self.world.units))
        chosen = PARAMETERS | {
            "TwoApproversOrganizationalUnits": unit,
            "CanaryDeletions": dice.choice(["0", "1", "1", "3"]),
            "MailWindowSeconds": dice.choice(["0", "120", "120", "600"]),
            "MaxExceptionDays": dice.choice(["30", "90", "90", "365"]),
            "EscalationPolicy": dice.choice(POLICIES),
            "Quarantine": dice.choice(["", "7d", "36h"]),
        }
        if dice.random() < 0.15:
            chosen["DefaultApprover"] = chosen["SecondApprover"] = ""
        if not chosen["EscalationPolicy"]:
            del chosen["EscalationPolicy"]
        return chosen

    def _make_organization(self, count: int) -> None:
        ids = [str(id) for id in self.dice.sample(range(10**11, 10**12), count)]
        parents = [ROOT]
        for number in range(12):
            id = f"ou-ab12-{number:08}"
            parent = self.dice.choice(parents[:5])
            self.world.units[id] = f"Unit {number}", parent
            parents.append(id)
        for id in ids:
            self._add_account(id)
        self.world.management, self.world.security = ids[:2]

    def _add_account(self, id: str) -> Account:
        path = [self.dice.choice([ROOT, *self.world.units])]
        while path[0] != ROOT:
            path.insert(0, self.world.units[path[0]][1])
        name = f"{self.dice.choice(NAMES)} {id[-4:]}"
        account = self.world.accounts[id] = Account(id, name, tuple(path))
        return account

    def _hire(self) -> None:
        """People, and who answers for what."""
        self.people.add("security@example.com", habit="prompt")
        self.people.add("lead@example.com", habit="slow")
        self.people.add("boss@example.com", habit="slow")
        self.owners = [f"person{number}@example.com" for number in range(45)]
        for address in self.owners:
            leaves = self.dice.uniform(20, 365) if self.dice.random() < 0.15 else None
            time = float("inf") if leaves is None else self.start + leaves * DAY
            self.people.add(address, leaves=time)
            if leaves is not None and self.dice.random() < 0.7:
                self.clock.at(
                    time + DAY * self.dice.uniform(1, 60), lambda who=address: self._replace(who)
                )
            if leaves is not None and self.dice.random() < 0.2:
                self.clock.at(time + DAY, lambda who=address: self.aws.refuses_mail_to.add(who))
        for account in self.world.accounts.values():
            self._appoint(account)
        for unit in self.dice.sample(list(self.world.units), 5):
            self.world.tag_unit(unit, TAG, self.dice.choice(self.owners))

    def _appoint(self, account: Account) -> None:
        chance = self.dice.random()
        if chance < 0.6:
            count = self.dice.choice([1, 1, 2, 3])
            owners = " ".join(self.dice.sample(self.owners, count))
            account.tags[TAG] = owners
        elif chance < 0.8:
            account.security_contact = self.dice.choice(self.owners)
        elif chance < 0.83:
            account.tags[TAG] = "ask Bob"

    def _replace(self, gone: str) -> None:
        """Somebody who left is replaced wherever a tag or a contact names them."""
        for unit, tags in self.world.unit_tags.items():
            if gone in tags.get(TAG, "").split():
                self.world.tag_unit(unit, TAG, self.dice.choice(self.owners))
        for account in self.world.accounts.values():
            tag = account.tags.get(TAG, "")
            if gone in tag.split():
                successor = self.dice.choice(self.owners)
                names = " ".join(dict.fromkeys(tag.replace(gone, successor).split()))
                self.world.tag(account, TAG, names)
            if account.security_contact == gone:
                account.security_contact = self.dice.choice(self.owners)
                account.changed = self.clock.time

    # -- sweeps --------------------------------------------------------------------------------

    def _schedule_sweeps(self) -> None:
        for day in range(self.days):
            self.clock.at(self.start + day * DAY + SWEEP_AT, self._sweep)
            chance = self.dice.random()
            if chance < 0.03:
                # Somebody starts another one at the same time.
                seconds = self.dice.uniform(0, 90)
                self.clock.at(self.start + day * DAY + SWEEP_AT + seconds, self._sweep)
            elif chance < 0.05:
                moment = self.start + day * DAY + self.dice.uniform(0, DAY)
                self.clock.at(moment, lambda: self._sweep({"detect_only": True}))
            elif chance < 0.07:
                moment = self.start + day * DAY + self.dice.uniform(0, DAY)
                account = self.dice.choice(list(self.world.accounts))
                self.clock.at(moment, lambda one=account: self._sweep({"accounts": [one]}))
            self.clock.at(self.start + (day + 1) * DAY - 1, self._tidy_up)

    def _sweep(self, input: dict[str, Any] | None = None) -> None:
        machine = self.stack.machine("sweep")
        machine.start(f"sweep-{len(machine.executions)}", input or {})

    def _tidy_up(self) -> None:
        """What AWS does behind the scenes: TTL, and what nobody looks at any more."""
        now = self.clock.time
        for item in self.table.every_item():
            if "forget_at" in item and item["forget_at"] < now - DAY:
                self.table.forget(item)
        for machine in self.stack.machines.values():
            machine.tokens = {
                token: signal for token, signal in machine.tokens.items() if not signal.is_given
            }
        log = self.stack.physical("DecisionLogBucket")
        self.stack.files = {name: file for name, file in self.stack.files.items() if name[0] == log}
        self.watch.every_day()

    # -- fates ---------------------------------------------------------------------------------

    def _schedule_fates(self) -> None:
        dice = self.dice
        for account in list(self.world.accounts.values()):
            if dice.random() < 0.1 or account.id == self.world.management:
                self._get_keys(account, age=timedelta(days=dice.uniform(10, 4000)))
            while dice.random() < 0.3:
                self._later(lambda each=account: self._get_keys(each))
            if dice.random() < 0.04:
                self._later(lambda each=account: self._close(each))
            elif dice.random() < 0.03:
                self._later(lambda each=account: self._leave(each))
            account.has_many_policies = dice.random() < 0.1
            if dice.random() < 0.04:
                self._later(lambda each=account: self._lose_role(each))
            if dice.random() < 0.03:
                self._later(lambda each=account: self._deny_root(each.id, [each]))
            if dice.random() < 0.05:
                self._later(lambda each=account: self._move_owner(each))
            if dice.random() < 0.03:
                self._later(lambda each=account: self._move(each))
        for unit in dice.sample(list(self.world.units), 2):
            inside = [each for each in self.world.accounts.values() if unit in each.parents]
            self._later(lambda one=unit, those=inside: self._deny_root(one, those))
        for _ in range(8):
            id = str(dice.randrange(10**11, 10**12))
            self._later(lambda new=id: self._join(new))
        for _ in range(4):
            self._later(self._stop_an_execution)
        for _ in range(3):
            self._later(self._throw_the_switch)
        for number in range(4):
            self._later(lambda count=number: self._release(count))
        for _ in range(2):
            self._later(self._change_policy)

    def _later(self, action: Callable[[], None]) -> None:
        """At some time of the year."""
        self.clock.at(self.start + self.dice.uniform(0, self.days) * DAY, action)

    def _in_days(self, least: float, most: float, action: Callable[[], Any]) -> None:
        self.clock.at(self.clock.time + DAY * self.dice.uniform(least, most), action)

    def _get_keys(self, account: Account, *, age: timedelta = timedelta(0)) -> None:
        for _ in range(self.dice.choice([1, 1, 1, 2])):
            if len(account.keys) < 2 and account.state == "ACTIVE":
                self._get_key(account, age)

    def _get_key(self, account: Account, age: timedelta) -> None:
        """A key, and what becomes of it if Rootsweep does nothing."""
        dice, world = self.dice, self.world
        key = world.add_key(account, age=age)
        if dice.random() < 0.3:
            self.clock.start(self._use, account, key.id, dice.uniform(0.5, 20))
        elif age and dice.random() < 0.5:
            key.used = self.clock.now - dice.random() * age
        if dice.random() < 0.1:
            status = dice.choice(["Inactive", "Inactive", "Active"])
            self._in_days(0, 30, lambda: world.set_status(account, key.id, status))
        if dice.random() < 0.08:
            self._in_days(0, 20, lambda: world.remove_key(account, key.id, "its owner"))
        if dice.random() < 0.06:
            self._in_days(0, 20, lambda: self._rotate(account, key.id))
        # What happens to the account while its case is likely to be open.
        meanwhile: list[tuple[float, Callable[[], None]]] = [
            (0.03, lambda: self._close(account)),
            (0.02, lambda: self._leave(account)),
            (0.05, lambda: self._deny_root(account.id, [account])),
            (0.03, lambda: self._lose_role(account)),
            (0.04, lambda: self._move(account)),
            (0.05, lambda: self._move_owner(account)),
        ]
        for share, action in meanwhile:
            if dice.random() < share:
                self._in_days(0.5, 15, action)

    def _use(self, account: Account, key_id: str, every_days: float) -> None:
        until = self.clock.time + self.dice.uniform(1, 200) * DAY
        while self.clock.time < until and key_id in account.keys:
            self.world.use_key(account, key_id)
            self.clock.sleep(every_days * DAY)

    def _rotate(self, account: Account, key_id: str) -> None:
        if key_id in account.keys and len(account.keys) < 2:
            self.world.add_key(account)
            self._in_days(0, 2, lambda: self.world.remove_key(account, key_id, "its owner"))

    def _close(self, account: Account) -> None:
        if account.id in (self.world.management, self.world.security):
            return
        self.world.set_state(account, "PENDING_CLOSURE")

        def closed() -> None:
            self.world.set_state(account, self.dice.choice(["SUSPENDED", "CLOSED"]))
            self._in_days(85, 95, lambda: self.world.leave(account))

        self._in_days(0, 1, closed)

    def _leave(self, account: Account) -> None:
        if account.id not in (self.world.management, self.world.security):
            self.world.leave(account)

    def _lose_role(self, account: Account) -> None:
        self.world.set_audit_role(account, is_there=False)
        self._in_days(0.5, 10, lambda: self.world.set_audit_role(account, is_there=True))

    def _deny_root(self, target: str, accounts: list[Account]) -> None:
        self.world.set_root_denied(target, True, accounts)
        self._in_days(2, 60, lambda: self.world.set_root_denied(target, False, accounts))

    def _move_owner(self, account: Account) -> None:
        account.security_contact = ""
        self.world.tag(account, TAG, self.dice.choice(self.owners))

    def _move(self, account: Account) -> None:
        """Into another unit; the place for cases that are open already stays the old one."""
        self.world.move(account, self.dice.choice(list(self.world.accounts.values())).parents)

    def _throw_the_switch(self) -> None:
        word = self.dice.choice(["on", "ON", "", "off "])
        self.stack.set("KillSwitchParameter", word)
        self.world.tell("", f"the kill switch is {word!r}")
        self.watch.on_switch(word)

        def back() -> None:
            self.stack.set("KillSwitchParameter", "off")
            self.world.tell("", "the kill switch is 'off'")
            self.watch.on_switch("off")

        self._in_days(0.1, 12, back)

    def _release(self, number: int) -> None:
        self.stack.function("delete_root_keys").module.RELEASE = f"release-{number}"
        self.world.tell("", f"release {number} is deployed")
        self.watch.on_release(f"release-{number}")

    def _change_policy(self) -> None:
        """A new policy for the cases that are opened from now on; sometimes a broken one first."""
        policy = self.dice.choice(POLICIES[1:])
        self.stack.set("EscalationPolicyParameter", policy)
        if self.dice.random() < 0.3:
            self.stack.set("EscalationPolicyParameter", policy[:-2])
            later = lambda: self.stack.set("EscalationPolicyParameter", policy)  # noqa: E731
            self._in_days(1, 2, later)
        self.world.tell("", f"the escalation policy is {policy} now")

    def _join(self, id: str) -> None:
        account = self._add_account(id)
        self._appoint(account)
        self.world.tell(id, "the account joins the organization")
        if self.dice.random() < 0.6:
            self._get_keys(account, age=timedelta(days=self.dice.uniform(10, 2000)))

    def _stop_an_execution(self) -> None:
        running = [
            each
            for each in self.stack.machine("remediate").executions.values()
            if each.status == "RUNNING"
        ]
        if running:
            execution = self.dice.choice(running)
            self.world.tell(execution.name[:12], f"somebody stops {execution.name}")
            execution.stop()

    # -- outages -------------------------------------------------------------------------------

    def _schedule_outages(self) -> None:
        dice = random.Random(f"{self.seed} outages")
        services = ["sts", "iam", "organizations", "account", "sesv2", "dynamodb", "ssm"]
        services += ["stepfunctions", "s3"]
        for _ in range(max(1, round(14 * self.days / 365))):
            day = dice.randrange(self.days) * DAY
            seconds = SWEEP_AT - 60 if dice.random() < 0.6 else dice.uniform(0, DAY)
            begin = self.start + day + seconds
            end = begin + 60 * dice.choice([3, 10, 60, 400])
            chosen = dice.choice(services)
            share = dice.choice([0.05, 0.3, 1.0])
            self._plan_outage(begin, end, chosen, share)

    def _plan_outage(self, begin: float, end: float, chosen: str, share: float) -> None:
        dice = random.Random(f"{self.seed} outage {begin}")

        def outage(service: str, _operation: str, _account: str) -> str | None:
            if service == chosen and dice.random() < share:
                return "ServiceUnavailable"
            return None

        def start() -> None:
            self.world.tell("", f"{chosen} has an outage: {share:.0%} of the calls fail")
            self.aws.outages.append(outage)

        def stop() -> None:
            self.aws.outages.remove(outage)
            self.world.tell("", f"{chosen} works again")

        self.clock.at(begin, start)
        self.clock.at(end, stop)
