"""Stories: sweeps, decisions, faults, deaths and steps of time in any order, as Hypothesis likes.

The same world and the same watch as of a year, with a few accounts, in which nothing happens by
itself. `python -m tests.year.stories RUNS [SABOTAGE]`: a story that breaks a promise is shrunk to
the shortest one that does, and printed as a script.
"""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_as_test

from .clock import DAY, Refused
from .invariants import Broken
from .people import HOUR, People
from .sabotage import SABOTAGE
from .stack import Trouble
from .world import TAG
from .year import Year

if TYPE_CHECKING:
    from collections.abc import Callable

    from .people import Keys, Mail, Person

ACCOUNTS = 5
# How many daily sweeps there are when everything works again, before the reckoning.
SWEEPS_AFTER = 8
LONG_ENOUGH_TO_ASK = 900.0
SERVICES = ["account", "dynamodb", "iam", "organizations", "s3", "sesv2", "ssm", "stepfunctions"]
SERVICES += ["sts"]
CODES = ["ServiceUnavailable", "ThrottlingException", "AccessDeniedException"]
WAITS = [1.0, 20.0, 300.0, HOUR, 7 * HOUR, DAY, 3 * DAY, 8 * DAY, 31 * DAY]


class Obedient(People):
    """People who keep their mails and do what they are told, when they are told."""

    wish = "nothing"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.inbox: list[Mail] = []

    def get(self, mail: Mail) -> None:
        if mail.link:
            self.inbox.append(mail)

    def _intention(self, person: Person, account_id: str, keys: Keys) -> str:  # noqa: ARG002
        return self.wish


class Ordered(Trouble):
    """Functions die, and answers get lost, when the story says so."""

    death = 0
    losses_to_come = 0

    def dies_at(self) -> int | None:
        at, self.death = self.death, 0
        return at or None

    def loses_answer(self) -> bool:
        self.losses_to_come -= 1
        return self.losses_to_come >= 0


class SmallWorld(Year):
    """A few accounts and their owners, and nothing planned."""

    kind_of_people = Obedient
    kind_of_trouble = Ordered
    people: Obedient

    def _choose_parameters(self) -> dict[str, str]:
        """Some account is in the unit whose accounts need two approvers."""
        chosen = super()._choose_parameters()
        units = [each.parents[-1] for each in self.world.accounts.values()]
        return chosen | {
            "TwoApproversOrganizationalUnits": next(
                (unit for unit in units if unit in self.world.units), next(iter(self.world.units))
            )
        }

    def _hire(self) -> None:
        for name in ("security", "lead", "boss", "one", "other"):
            self.people.add(f"{name}@example.com", habit="prompt")
        self.owners = ["one@example.com", "other@example.com"]
        for number, account in enumerate(self.world.accounts.values()):
            if number % 3:
                account.tags[TAG] = self.owners[number % 2]
            else:
                account.security_contact = self.owners[0]


class Stories(RuleBasedStateMachine):
    """What can happen. Each rule is one line of the script."""

    def __init__(self) -> None:
        super().__init__()
        self.world: SmallWorld

    @initialize(seed=st.integers(0, 49), with_keys=st.integers(0, ACCOUNTS))
    def begins(self, seed: int, with_keys: int) -> None:
        """The parameters of the stack, and chance, follow from the seed.

        There are accounts with old keys, about which people have mails.
        """
        self.world = SmallWorld(seed, days=365, accounts=ACCOUNTS)
        self.outages: list[list[Any]] = []
        self.world.aws.outages.append(self._outage)
        for account in list(self.world.world.accounts.values())[:with_keys]:
            self.world.world.add_key(account, age=timedelta(days=900))
        if with_keys:
            self._do(self.world._sweep, LONG_ENOUGH_TO_ASK)

    def _outage(self, service: str, _operation: str, _account: str) -> str | None:
        for outage in self.outages:
            if outage[0] == service and outage[2] > 0:
                outage[2] -= 1
                return str(outage[1])
        return None

    def _account(self, number: int) -> Any:
        return list(self.world.world.accounts.values())[number]

    def _do(self, action: Callable[[], Any], seconds: float = 0.5) -> None:
        """Let something happen, and what follows in so many seconds."""
        try:
            self.world.clock.start(action)
            self.world.clock.run(self.world.clock.time + seconds)
            self.world.watch.every_day()
        except (Broken, Refused) as broken:
            raise AssertionError(str(broken)) from None

    # -- sweeps and time -----------------------------------------------------------------------

    @rule(detect_only=st.booleans())
    def sweep(self, *, detect_only: bool) -> None:
        self._do(lambda: self.world._sweep({"detect_only": True} if detect_only else {}))

    @rule(account=st.integers(0, ACCOUNTS - 1))
    def sweep_one(self, account: int) -> None:
        id = self._account(account).id
        if self._account(account).is_member:
            self._do(lambda: self.world._sweep({"accounts": [id]}))

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: float) -> None:
        self._do(lambda: None, seconds)

    # -- accounts and keys ---------------------------------------------------------------------

    @rule(account=st.integers(0, ACCOUNTS - 1), days=st.sampled_from([0, 400]))
    def key_appears(self, account: int, days: int) -> None:
        there = self._account(account)
        if len(there.keys) < 2 and there.state == "ACTIVE":
            self._do(lambda: self.world.world.add_key(there, age=timedelta(days=days)))

    @rule(account=st.integers(0, ACCOUNTS - 1))
    def owner_removes_keys(self, account: int) -> None:
        there = self._account(account)
        for key in list(there.keys):
            self.world.world.remove_key(there, key, "its owner")

    @rule(account=st.integers(0, ACCOUNTS - 1), status=st.sampled_from(["Active", "Inactive", ""]))
    def key_is_used_or_changed(self, account: int, status: str) -> None:
        there = self._account(account)
        for key in list(there.keys)[:1]:
            if status:
                self.world.world.set_status(there, key, status)
            else:
                self.world.world.use_key(there, key)

    @rule(account=st.integers(2, ACCOUNTS - 1), what=st.sampled_from(["leaves", "SUSPENDED", ""]))
    def account_goes(self, account: int, what: str) -> None:
        there = self._account(account)
        if what == "leaves":
            self.world.world.leave(there)
        elif there.is_member:
            self.world.world.set_state(there, what or "ACTIVE")

    @rule(account=st.integers(0, ACCOUNTS - 1), is_denied=st.booleans())
    def root_sessions_are_denied(self, account: int, *, is_denied: bool) -> None:
        there = self._account(account)
        self.world.world.set_root_denied(there.id, is_denied, [there])

    @rule(account=st.integers(0, ACCOUNTS - 1), owner=st.integers(0, 1))
    def owner_changes(self, account: int, owner: int) -> None:
        self.world.world.tag(self._account(account), TAG, self.world.owners[owner])

    # -- people --------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.world.people.inbox))
    @rule(
        mail=st.integers(1, 6),
        wish=st.sampled_from(["approve", "approve", "decline", "remove", "nothing"]),
    )
    def answer(self, mail: int, wish: str) -> None:
        """Somebody answers one of the last mails."""
        people = self.world.people
        mails = people.inbox
        chosen = mails[-min(mail, len(mails))]
        people.wish = wish
        person = people.everybody[chosen.to.lower()]
        self._do(lambda: people._look_at(person, chosen), 2.0)

    @rule(word=st.sampled_from(["on", "off"]))
    def switch(self, word: str) -> None:
        self.world.stack.set("KillSwitchParameter", word)
        self.world.watch.on_switch(word)

    @rule()
    def release(self) -> None:
        self.releases = getattr(self, "releases", 0) + 1
        self.world._release(self.releases)

    # -- what goes wrong -----------------------------------------------------------------------

    @rule(
        service=st.sampled_from(SERVICES),
        code=st.sampled_from(CODES),
        calls=st.sampled_from([1, 5, 60]),
    )
    def calls_fail(self, service: str, code: str, calls: int) -> None:
        self.outages.append([service, code, calls])

    @rule(call=st.integers(1, 25))
    def function_dies(self, call: int) -> None:
        """The next one, before this call."""
        self.world.stack.trouble.death = call  # type: ignore[attr-defined]

    @rule(writes=st.integers(1, 3))
    def answers_are_lost(self, writes: int) -> None:
        self.world.stack.trouble.losses_to_come = writes  # type: ignore[attr-defined]

    @rule()
    def execution_is_stopped(self) -> None:
        self._do(self.world._stop_an_execution)

    # -- the reckoning -------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.outages.clear()
        # Whatever waits for the kill switch goes on waiting, also when all else works.
        self._do(lambda: None, HOUR)
        self.world.stack.set("KillSwitchParameter", "off")
        self.world.watch.on_switch("off")
        # What docs/runbook.md says to do about dead letters comes to the same.
        for function, event in self.world.stack.dead:
            self._do(lambda function=function, event=event: self.world.stack.call(function, event))
        for _ in range(SWEEPS_AFTER):
            self._do(self.world._sweep, DAY)
        try:
            self.world.watch.at_the_end()
        except (Broken, Refused) as broken:
            raise AssertionError(str(broken)) from None


def run(runs: int, *, sabotage: str = "") -> None:
    """Live through so many stories. Raises AssertionError with the shortest that is wrong.

    With a `sabotage` of `sabotage.py` the product is broken on purpose.
    """
    logging.disable()
    with pytest.MonkeyPatch.context() as patch:
        if sabotage:
            patch.setattr(*SABOTAGE[sabotage][:3])
        run_as_test(
            Stories,
            settings=settings(
                max_examples=runs,
                stateful_step_count=25,
                deadline=None,
                database=None,
                derandomize=True,
                print_blob=False,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate, Phase.shrink),
            ),
        )


if __name__ == "__main__":
    run(int(sys.argv[1]), sabotage=sys.argv[2] if len(sys.argv) > 2 else "")
