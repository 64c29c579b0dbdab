"""The pretend organization, and the chronicle of what happened in it.

Only what is outside of Rootsweep: accounts, root keys, policies. Nothing here knows what Rootsweep
should do about them; `invariants.py` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random

    from .clock import Clock

ORGANIZATION = "o-exampleorg1"
ROOT = "r-ab12"
TAG = "rootsweep-approver"
# How long IAM still shows a key that is gone; it is eventually consistent.
LONGEST_GHOST_SECONDS = 12


@dataclass
class RootKey:
    """A root access key as AWS knows it."""

    id: str
    created: datetime
    status: str = "Active"
    used: datetime | None = None


@dataclass
class Account:
    """An account and its root user. `owners` are people, whatever tags and contacts say."""

    id: str
    name: str
    parents: tuple[str, ...]
    state: str = "ACTIVE"
    tags: dict[str, str] = field(default_factory=dict)
    security_contact: str = ""
    has_audit_role: bool = True
    has_many_policies: bool = False
    is_member: bool = True
    keys: dict[str, RootKey] = field(default_factory=dict)
    ghosts: dict[str, tuple[RootKey, float]] = field(default_factory=dict)
    # When anything about it changed that a sweep could see.
    changed: float = 0


@dataclass
class Policy:
    """A service control policy that Rootsweep made: it blocks root users, not root sessions."""

    id: str
    name: str
    targets: set[str] = field(default_factory=set)


class Event(NamedTuple):
    """A line of the chronicle. `about` is an account, or "" for all of them."""

    at: float
    about: str
    text: str


class World:
    """The organization in which the stack is deployed, at the present moment."""

    def __init__(self, clock: Clock, dice: random.Random) -> None:
        self.clock = clock
        self.dice = dice
        self.accounts: dict[str, Account] = {}
        self.units: dict[str, tuple[str, str]] = {}  # id -> name, parent
        self.unit_tags: dict[str, dict[str, str]] = {}
        self.management = ""
        self.security = ""
        # Accounts and units whose service control policies deny their root users everything.
        self.denies_root: set[str] = set()
        self.policies: dict[str, Policy] = {}
        # Since when the root users in quarantine are blocked.
        self.blocked: dict[str, float] = {}
        self.retagged = 0.0
        self.chronicle: list[Event] = []
        self._key_number = 0
        self._policy_number = 0

    def tell(self, account: str, text: str) -> None:
        """Add a line to the chronicle."""
        self.chronicle.append(Event(self.clock.time, account, text))

    def story(self, account: str, states: list[tuple[float, str]]) -> str:
        """Everything that happened to an account, a line each, with the `states` of its cases."""
        lines = [(event.at, event.text) for event in self.chronicle if event.about in ("", account)]
        lines += [(at, f"state {name}") for at, name in states]
        return "\n".join(
            f"  {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S.%f}  {text}"
            for at, text in sorted(lines, key=lambda line: line[0])
        )

    def members(self) -> list[Account]:
        return [account for account in self.accounts.values() if account.is_member]

    def is_root_denied(self, account: Account) -> bool:
        return not self.denies_root.isdisjoint((account.id, *account.parents))

    def visible_keys(self, account: Account) -> list[RootKey]:
        """The keys that IAM shows at this moment, with those that are just gone."""
        now = self.clock.time
        ghosts = [key for key, until in account.ghosts.values() if until > now]
        return [*account.keys.values(), *ghosts]

    # -- what happens to accounts; each is told ------------------------------------------------

    def add_key(self, account: Account, *, age: timedelta = timedelta(0)) -> RootKey:
        self._key_number += 1
        key = RootKey(f"AKIA{self._key_number:016}", self.clock.now - age)
        account.keys[key.id] = key
        self._changed(account, f"root key {key.id} appears")
        return key

    def remove_key(self, account: Account, key_id: str, by: str) -> RootKey | None:
        """Delete a key; None if it is not there."""
        key = account.keys.pop(key_id, None)
        if key is not None:
            until = self.clock.time + self.dice.uniform(0, LONGEST_GHOST_SECONDS)
            account.ghosts[key_id] = key, until
            account.changed = until
            self.tell(account.id, f"root key {key_id} is deleted by {by}")
        return key

    def is_blocked(self, account: Account) -> bool:
        """Whether its root user is in quarantine."""
        return account.id in self.blocked

    def use_key(self, account: Account, key_id: str) -> None:
        if self.is_blocked(account):
            self.tell(account.id, f"root key {key_id} is used in vain")
        elif key_id in account.keys and account.keys[key_id].status == "Active":
            account.keys[key_id].used = self.clock.now.replace(second=0, microsecond=0)
            self.tell(account.id, f"root key {key_id} is used")

    def set_status(self, account: Account, key_id: str, status: str) -> None:
        if key_id in account.keys:
            account.keys[key_id].status = status
            self._changed(account, f"root key {key_id} is {status} now")

    def tag(self, account: Account, key: str, value: str) -> None:
        account.tags[key] = value
        self._changed(account, f"tag {key}={value}")

    def tag_unit(self, unit: str, key: str, value: str) -> None:
        self.unit_tags.setdefault(unit, {})[key] = value
        self.retagged = self.clock.time
        self.tell("", f"tag of {unit}: {key}={value}")

    def move(self, account: Account, parents: tuple[str, ...]) -> None:
        account.parents = parents
        self._changed(account, f"the account moves to {parents[-1]}")

    def set_state(self, account: Account, state: str) -> None:
        account.state = state
        self._changed(account, f"the account is {state} now")

    def leave(self, account: Account) -> None:
        account.is_member = False
        for policy in self.policies.values():
            policy.targets.discard(account.id)
        self.blocked.pop(account.id, None)
        self._changed(account, "the account leaves the organization")

    def make_policy(self, name: str) -> Policy:
        self._policy_number += 1
        id = f"p-{self._policy_number:08}"
        self.policies[id] = Policy(id, name)
        return self.policies[id]

    def attach(self, policy: Policy, account: Account) -> None:
        policy.targets.add(account.id)
        self.blocked[account.id] = self.clock.time
        self.tell(account.id, "its root user is blocked")

    def detach(self, policy: Policy, account: Account) -> None:
        policy.targets.discard(account.id)
        self.blocked.pop(account.id, None)
        self.tell(account.id, "its root user is no longer blocked")

    def set_root_denied(self, target: str, denied: bool, accounts: list[Account]) -> None:
        (self.denies_root.add if denied else self.denies_root.discard)(target)
        for account in accounts:
            word = "denies" if denied else "no longer denies"
            self._changed(account, f"a policy of {target} {word} its root user everything")

    def set_audit_role(self, account: Account, *, is_there: bool) -> None:
        account.has_audit_role = is_there
        self._changed(account, f"the audit role is {'there' if is_there else 'missing'}")

    def _changed(self, account: Account, text: str) -> None:
        # A key that is gone may still be seen for a while.
        account.changed = max(account.changed, self.clock.time)
        self.tell(account.id, text)
