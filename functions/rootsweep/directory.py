"""Who answers for an account: where approvers are looked up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from rootsweep import escalation, words
from rootsweep.errors import ApproverUnknownError
from rootsweep.pages import IncompleteAnswerError, listed
from rootsweep.text import EMAIL_ADDRESS, person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mypy_boto3_account import AccountClient
    from mypy_boto3_organizations import OrganizationsClient


@dataclass(frozen=True)
class Approver:
    """Who is asked about an account, and where the address was found."""

    address: str
    source: str


@dataclass(frozen=True)
class Directory:
    """Where approvers are looked up: two AWS services, and what the stack says."""

    organizations: OrganizationsClient
    account_client: AccountClient
    tag_key: str
    default: str
    second: str


@dataclass(frozen=True)
class Found:
    """Who is asked about an account, and why some sources named nobody."""

    approvers: tuple[Approver, ...]
    notes: tuple[str, ...]


def find_approvers(
    directory: Directory,
    *,
    account_id: str,
    parents: Sequence[str],
    notify: Iterable[str],
    at_least: int,
    has_bounced: Callable[[str], bool],
) -> Found:
    """Who is asked about an account by the rungs of a ladder that say `notify`.

    "approvers" are everybody in the first source that names somebody: the account's tag (several
    addresses with spaces between), the same tag of its organizational unit or one above it,
    `parents` with the root first, its SECURITY alternate contact, the default of the stack.
    "organizational_unit" is the first of those units with such a tag. Where fewer than `at_least`
    different people are found, the next sources add theirs, the second approver of the stack last;
    there may still be fewer. A source that is missing, may not be read, or holds no e-mail address
    or only some that have bounced falls through to the next, and is noted.

    Raises ApproverUnknownError if AWS gives no answer at all: a hiccup must not hand the decision
    to somebody else.
    """
    account, units, security, default, second = _sources(directory, account_id, parents)
    ranked = [account, *units, security, default]
    targets = {
        escalation.APPROVERS: ranked,
        escalation.ORGANIZATIONAL_UNIT: units,
        escalation.DEFAULT_APPROVER: [default],
    }
    found: dict[str, Approver] = {}
    notes: list[str] = []
    tried: dict[str, bool] = {}

    def names_somebody(source: _Source) -> bool:
        """Whether the source names somebody whom mails reach; asks it once."""
        if source.name not in tried:
            tried[source.name] = False
            try:
                addresses = source.addresses()
            except _NobodyNamedError as nobody:
                notes.append(f"{source.name}: {nobody}")
                return False
            for address in addresses:
                if has_bounced(address):
                    notes.append(f"{source.name}: {words.mails_bounce(address)}")
                else:
                    tried[source.name] = True
                    found.setdefault(person(address), Approver(address, source.name))
        return tried[source.name]

    for target in notify:
        named = _Source(words.escalation_policy(target), partial(_addresses, target))
        for source in targets.get(target, [named]):
            if names_somebody(source):
                break
    if found:
        for source in [*ranked, second]:
            if len(found) >= at_least:
                break
            names_somebody(source)
    return Found(tuple(found.values()), tuple(notes))


class _NobodyNamedError(Exception):
    """When a source holds nobody; the message says why."""


@dataclass(frozen=True)
class _Source:
    """Where approvers may be named. `addresses` raises _NobodyNamedError."""

    name: str
    addresses: Callable[[], list[str]]


def _sources(
    directory: Directory, account_id: str, parents: Sequence[str]
) -> tuple[_Source, list[_Source], _Source, _Source, _Source]:
    """The account's tag, those of the units above it, the contact, the default, the second."""

    def tag_of(resource: str, name: str) -> _Source:
        return _Source(
            words.tag(directory.tag_key, of=name),
            partial(_tagged_addresses, directory, account_id, resource),
        )

    units = [
        tag_of(parent, words.organizational_unit(parent) if parent[:2] == "ou" else words.THE_ROOT)
        for parent in reversed(parents)
    ]
    contact = partial(_security_contact, directory.account_client, account_id)
    return (
        tag_of(account_id, words.THE_ACCOUNT),
        units,
        _Source(words.SECURITY_CONTACT, contact),
        _Source(words.DEFAULT_APPROVER, partial(_addresses, directory.default)),
        _Source(words.SECOND_APPROVER, partial(_addresses, directory.second)),
    )


def _tagged_addresses(directory: Directory, account_id: str, resource: str) -> list[str]:
    try:
        pages = directory.organizations.get_paginator("list_tags_for_resource").paginate(
            ResourceId=resource
        )
        tags = {tag["Key"]: tag["Value"] for tag in listed(pages, "Tags")}
    except (ClientError, BotoCoreError, IncompleteAnswerError) as error:
        raise _absence(error, account_id) from error
    return _addresses(tags.get(directory.tag_key, ""))


def _security_contact(account_client: AccountClient, account_id: str) -> list[str]:
    try:
        answer = account_client.get_alternate_contact(
            AccountId=account_id, AlternateContactType="SECURITY"
        )
    except (ClientError, BotoCoreError) as error:
        raise _absence(error, account_id) from error
    if "AlternateContact" not in answer:
        raise ApproverUnknownError(f"account {account_id}: AWS sent a contact without its fields")
    return _addresses(answer["AlternateContact"].get("EmailAddress", ""))


def _absence(error: Exception, account_id: str) -> Exception:
    """What an error of AWS means: that nobody is named, or that nobody knows."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    if "NotFound" in code:
        return _NobodyNamedError(words.THERE_IS_NONE)
    if "AccessDenied" in code:
        return _NobodyNamedError(words.may_not_be_read(code))
    return ApproverUnknownError(f"account {account_id}: {error}")


def _addresses(text: str) -> list[str]:
    """The e-mail addresses in a text. A text that holds anything else names nobody."""
    given = text.split()
    if not given:
        raise _NobodyNamedError(words.THERE_IS_NONE)
    if all(len(word) <= 254 and EMAIL_ADDRESS.fullmatch(word) for word in given):
        return given
    raise _NobodyNamedError(words.NO_ADDRESSES)
