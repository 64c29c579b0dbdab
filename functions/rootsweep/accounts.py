"""The accounts of an organization."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rootsweep.pages import IncompleteAnswerError, listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mypy_boto3_organizations import OrganizationsClient

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
    directly under it. `parents` holds the ids on that path, root first.
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


def list_accounts(organizations: OrganizationsClient) -> list[Account]:
    """Every account of the organization, sorted by id.

    Pages may be empty while there are more (Organizations API, ListAccounts); the paginator goes
    on until there is no token. Raises ClientError, and IncompleteAnswerError rather than leave out
    an account.
    """
    pages = organizations.get_paginator("list_accounts").paginate()
    found = list(listed(pages, "Accounts"))
    if nameless := [account for account in found if not account.get("Id")]:
        raise IncompleteAnswerError(f"AWS listed an account without its id: {nameless[0]}")
    tree = _OrganizationTree.read(organizations)
    paths = {account["Id"]: _parents_from(account) for account in found}
    if not all(paths.values()):
        paths |= {id: parents for id, parents in tree.parents_of_accounts() if not paths.get(id)}
    accounts = {
        account["Id"]: Account(
            id=account["Id"],
            name=account.get("Name", ""),
            ou=tree.path_of_names(paths[account["Id"]]),
            organizations_state=_state(account),
            parents=tuple(paths[account["Id"]]),
        )
        for account in found
    }
    return sorted(accounts.values(), key=lambda account: account.id)


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


@dataclass(frozen=True)
class _OrganizationTree:
    """The roots and organizational units: names by id, and what lies below what."""

    organizations: OrganizationsClient
    names: dict[str, str]
    paths: dict[str, list[str]]

    @classmethod
    def read(cls, organizations: OrganizationsClient) -> _OrganizationTree:
        names: dict[str, str] = {}
        paths: dict[str, list[str]] = {}
        roots = listed(organizations.get_paginator("list_roots").paginate(), "Roots")
        todo = [[root["Id"]] for root in roots]
        units_of = organizations.get_paginator("list_organizational_units_for_parent")
        while todo:
            path = todo.pop()
            paths[path[-1]] = path
            for unit in listed(units_of.paginate(ParentId=path[-1]), "OrganizationalUnits"):
                names[unit["Id"]] = unit.get("Name", unit["Id"])
                todo.append([*path, unit["Id"]])
        return cls(organizations, names, paths)

    def path_of_names(self, parents: list[str]) -> str:
        """The names for people to read; of more than AWS lets anybody have, both ends."""
        names = [self.names.get(id, id) for id in parents if id.startswith("ou-")]
        if len(names) > MOST_LEVELS:
            names = [*names[:2], "…", *names[3 - MOST_LEVELS :]]
        return "/".join(names) or "root"

    def parents_of_accounts(self) -> Iterator[tuple[str, list[str]]]:
        """Each account with its parents, for answers of ListAccounts that came without `Paths`."""
        accounts_of = self.organizations.get_paginator("list_accounts_for_parent")
        for parent, path in self.paths.items():
            for account in listed(accounts_of.paginate(ParentId=parent), "Accounts"):
                yield account["Id"], path
