"""The accounts of an organization."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from rootsweep.pages import IncompleteAnswerError, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from mypy_boto3_organizations import OrganizationsClient
    from mypy_boto3_organizations.type_defs import AccountTypeDef

    from rootsweep.pace import Pace

# AWS lets organizational units be nested five levels deep (Organizations User Guide, Quotas).
MOST_LEVELS = 10
ACCOUNT_ID = re.compile(r"[0-9]{12}")
ORGANIZATIONAL_UNIT_ID = re.compile(r"(ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}|r-[0-9a-z]{4,32})")

# An account that is listed without a state is checked, never skipped: skipping must be earned.
_CHECKED_STATES = {"ACTIVE", "PENDING_CLOSURE"}
SKIPPED_STATES = {"SUSPENDED", "CLOSED", "PENDING_ACTIVATION"}
_STATE_OF_STATUS = {
    "ACTIVE": "ACTIVE",
    "SUSPENDED": "SUSPENDED",
    "PENDING_CLOSURE": "PENDING_CLOSURE",
}


class AccountState(StrEnum):
    """How an account ends a sweep; every account ends in exactly one of these."""

    CLEAN = "CLEAN"
    ROOT_KEYS = "ROOT_KEYS"
    UNKNOWN = "UNKNOWN"
    SKIPPED = "SKIPPED"
    EXCEPTED = "EXCEPTED"


@dataclass(frozen=True)
class Account:
    """A member of the organization as Organizations lists it.

    `ou` is the path of names below the root, like `Workloads/Prod`, or `root` for an account
    directly under it; empty until the units are read. `parents` holds the ids on that path, root
    first.
    """

    id: str
    name: str
    ou: str
    organizations_state: str = "UNKNOWN"
    parents: tuple[str, ...] = field(default=())

    @property
    def is_checked(self) -> bool:
        """Whether a sweep looks into the account; AWS keeps suspended and closed ones shut."""
        return self.organizations_state not in SKIPPED_STATES

    def to_dict(self) -> dict[str, Any]:
        """The account as the files of a sweep and the input of a case hold it."""
        return {"id": self.id, "name": self.name, "ou": self.ou}


class Paces(NamedTuple):
    """How fast Organizations may be asked: for accounts, and for what is below a parent."""

    accounts: Pace
    parents: Pace


class Part(NamedTuple):
    """Some accounts, sorted by id; what is known of the units; where the next part begins."""

    accounts: list[Account]
    units: OrganizationalUnits
    next_token: str


def list_accounts(
    organizations: OrganizationsClient,
    paces: Paces,
    *,
    enough: float = math.inf,
    next_token: str = "",
    units: OrganizationalUnits | None = None,
) -> Part:
    """The accounts of the organization from a token on, all or about as many as are `enough`.

    The units are read meanwhile, from where the part before came to: with the last part there are
    all of them, and `units.placed` says where an account is. Pages may be empty while there are
    more (Organizations API, ListAccounts). Raises ClientError, and IncompleteAnswerError rather
    than leave out an account.
    """
    found: dict[str, AccountTypeDef] = {}
    units = units or OrganizationalUnits()
    is_last = units_are_enough = False
    with ThreadPoolExecutor(max_workers=1) as pool:
        reading = pool.submit(units.read_on, organizations, paces, lambda: units_are_enough)
        try:
            while not is_last and len(found) < enough:
                paces.accounts.wait()
                page = organizations.list_accounts(**_from(next_token))
                for account in listed([page], "Accounts"):
                    if not account.get("Id"):
                        raise IncompleteAnswerError(
                            f"AWS listed an account without its id: {account}"
                        )
                    found[account["Id"]] = account
                next_token = page.get("NextToken", "")
                is_last = not next_token
        finally:
            units_are_enough = not is_last
        reading.result()
    paths = {id: _parents_from(account) for id, account in found.items()}
    if not all(paths.values()):
        units.read_on(organizations, paces)
        lost = {id for id, parents in paths.items() if not parents}
        for id, parents in units.parents_of_accounts(organizations, paces):
            if id in lost:
                paths[id] = parents
                lost.remove(id)
            if not lost:
                break
    accounts = [
        Account(
            id=id,
            name=found[id].get("Name", ""),
            ou="",
            organizations_state=_state(found[id]),
            parents=tuple(paths[id]),
        )
        for id in sorted(found)
    ]
    return Part(accounts, units, next_token)


def select(
    accounts: list[Account], *, ids: Collection[str], organizational_units: Collection[str]
) -> list[Account]:
    """The accounts that a sweep was asked for: all, or those named by id or below a named unit.

    Raises KeyError with the first id that is not in the organization.
    """
    known = {account.id for account in accounts}
    known_units = {parent for account in accounts for parent in account.parents}
    for wanted in ids:
        if wanted not in known:
            raise KeyError(wanted)
    for wanted in organizational_units:
        if wanted not in known_units:
            raise KeyError(wanted)
    if not ids and not organizational_units:
        return accounts
    return [
        account
        for account in accounts
        if account.id in ids or not set(organizational_units).isdisjoint(account.parents)
    ]


def _from(next_token: str) -> dict[str, Any]:
    return {"NextToken": next_token} if next_token else {}


def _state(account: Any) -> str:
    # `Status` is retired; SDKs and partitions that still send it are understood.
    state: str | None = account.get("State") or _STATE_OF_STATUS.get(account.get("Status", ""))
    return state if state in _CHECKED_STATES | SKIPPED_STATES else "UNKNOWN"


def _parents_from(account: Any) -> list[str]:
    """The ids above an account from `Paths`, like `o-a1/r-ab12/ou-ab12-cd34/123456789012/`."""
    for path in account.get("Paths") or []:
        parts = [part for part in path.split("/") if part]
        return [part for part in parts if ORGANIZATIONAL_UNIT_ID.fullmatch(part)]
    return []


@dataclass
class OrganizationalUnits:
    """The roots and organizational units: names by id, and the ids on the path to each.

    `unread` are the paths to those of which it is not known yet what is below them.
    """

    names: dict[str, str] = field(default_factory=dict)
    paths: dict[str, list[str]] = field(default_factory=dict)
    unread: list[list[str]] = field(default_factory=list)

    def read_on(
        self,
        organizations: OrganizationsClient,
        paces: Paces,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read the units that are not read yet, one call for each at the least.

        Raises ClientError, and IncompleteAnswerError rather than leave out a unit.
        """
        if not self.paths:
            for root in listed(organizations.get_paginator("list_roots").paginate(), "Roots"):
                self._add([root["Id"]])
        units_of = organizations.get_paginator("list_organizational_units_for_parent")
        while self.unread and not is_enough():
            path = self.unread.pop()
            pages = paces.parents.paced(units_of.paginate(ParentId=path[-1]))
            for unit in listed(pages, "OrganizationalUnits"):
                self.names[unit["Id"]] = unit.get("Name", unit["Id"])
                self._add([*path, unit["Id"]])

    def _add(self, path: list[str]) -> None:
        self.paths[path[-1]] = path
        self.unread.append(path)

    def placed(self, account: Account) -> Account:
        """The account with its `ou`."""
        return replace(account, ou=self._path_of_names(account.parents))

    def _path_of_names(self, parents: Sequence[str]) -> str:
        """The names for people to read; of more than AWS lets anybody have, both ends."""
        names = [self.names.get(id, id) for id in parents if id.startswith("ou-")]
        if len(names) > MOST_LEVELS:
            names = [*names[:2], "…", *names[3 - MOST_LEVELS :]]
        return "/".join(names) or "root"

    def parents_of_accounts(
        self, organizations: OrganizationsClient, paces: Paces
    ) -> Iterator[tuple[str, list[str]]]:
        """Each account with its parents, for answers of ListAccounts that came without `Paths`."""
        accounts_of = organizations.get_paginator("list_accounts_for_parent")
        for parent, path in self.paths.items():
            pages = paces.parents.paced(accounts_of.paginate(ParentId=parent))
            for account in listed(pages, "Accounts"):
                yield account["Id"], path
