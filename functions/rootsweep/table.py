"""The tables: the key of each kind of item. Every item has `schema`, the version of its shape.

The table of the cases:

    CASE#<case id>        CASE                the case, from opening to outcome, and for years after
    OPEN_CASE             <account id>        which case is the open one; exists while there is one
    ACCOUNT#<account id>  EXCEPTION           root keys that may stay until a date: a declined case
    ACCOUNT#<account id>  LAST_CASE           how the account's latest case ended, on which rung
    APPROVER#<address>    APPROVER            what is true of an approver, whatever the case
    APPROVER#<address>    REQUEST#<case id>   that an approver is asked about a case
    LINK#<hash>           LINK                what an e-mail link opens; the link itself is nowhere
    QUARANTINE            <account id>        that the root user of an account is blocked
    CANARY                <release>           which deletion runs alone, and how many were confirmed
    KILL_SWITCH           <version>           that people were told that deletions are stopped
    ROOT_SESSION#<id>     ROOT_SESSION        what a root session was opened for, by its key id

`forget_at`, in seconds since 1970, is when DynamoDB may delete an item: links that have expired,
cases that ended and their requests, what was told about the kill switch, root sessions. Everything
is found by its key; nothing ever scans.

The table of the decision log, which only the log writes; nothing in it is ever deleted:

    LOG                   HEAD                number and hash of the newest entry; what is exported
    LOG                   ENTRY#<number>      an entry, as the text that is exported
    FACT#<case id>        <id of the fact>    which entry a fact has, so that it gets no second one
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table

# Raised when an item gets fields that an older version must not overlook. What older versions wrote
# is read for as long as cases of theirs can be open: see tests/workflow/stored.
SCHEMA_VERSION = 1
OPEN_CASE = "OPEN_CASE"
QUARANTINE = "QUARANTINE"

Key = dict[str, str]


def case_key(case_id: str) -> Key:
    """The key of a case."""
    return {"pk": f"CASE#{case_id}", "sk": "CASE"}


def open_case_key(account_id: str) -> Key:
    """The key of the lock that says which case of an account is open."""
    return {"pk": OPEN_CASE, "sk": account_id}


def exception_key(account_id: str) -> Key:
    """The key of an account's exception."""
    return {"pk": f"ACCOUNT#{account_id}", "sk": "EXCEPTION"}


def last_case_key(account_id: str) -> Key:
    """The key of what is known of an account's latest case that ended."""
    return {"pk": f"ACCOUNT#{account_id}", "sk": "LAST_CASE"}


def approver_key(approver: str) -> Key:
    """The key of an approver."""
    return {"pk": f"APPROVER#{approver.lower()}", "sk": "APPROVER"}


def request_key(approver: str, case_id: str) -> Key:
    """The key of what an approver is asked about a case."""
    return {"pk": f"APPROVER#{approver.lower()}", "sk": f"REQUEST#{case_id}"}


def link_key(secret: str) -> Key:
    """The key of a link: its hash, so that nobody who reads the table can open a page."""
    return {
        "pk": f"LINK#{hashlib.sha256(secret.encode(errors='replace')).hexdigest()}",
        "sk": "LINK",
    }


def quarantine_key(account_id: str) -> Key:
    """The key of an account's quarantine."""
    return {"pk": QUARANTINE, "sk": account_id}


def canary_key(release: str) -> Key:
    """The key of the first deletions of a release."""
    return {"pk": "CANARY", "sk": release}


def kill_switch_key(version: str) -> Key:
    """The key of what was told when the kill switch was put to this version."""
    return {"pk": "KILL_SWITCH", "sk": version}


def root_session_key(access_key_id: str) -> Key:
    """The key of a root session that Rootsweep opened."""
    return {"pk": f"ROOT_SESSION#{access_key_id}", "sk": "ROOT_SESSION"}


def log_head_key() -> Key:
    """The key of the newest entry's number and hash."""
    return {"pk": "LOG", "sk": "HEAD"}


def log_entry_key(number: int) -> Key:
    """The key of an entry of the decision log."""
    return {"pk": "LOG", "sk": f"ENTRY#{number:012}"}


def fact_key(case_id: str, fact_id: str) -> Key:
    """The key that says which entry a fact about a case has."""
    return {"pk": f"FACT#{case_id}", "sk": fact_id}


class NewerItemError(Exception):
    """When an item was written by a newer version, so that this one may not know what it says."""


def readable(item: dict[str, Any]) -> dict[str, Any]:
    """The item, unless it has a `schema` that this version does not know.

    Who goes back to an older version after an upgrade deletes nothing by half of the rules. Raises
    NewerItemError.
    """
    if int(item.get("schema", SCHEMA_VERSION)) > SCHEMA_VERSION:
        raise NewerItemError(
            f"{item.get('pk')} {item.get('sk')} has schema {item['schema']}; this version of"
            f" Rootsweep knows {SCHEMA_VERSION}. Deploy the version that wrote it, or a newer one."
        )
    return item


def every_item(table: Table, **query: Any) -> Iterator[dict[str, Any]]:
    """Every item that a query finds, page after page, as it is at this moment."""
    while True:
        answer: Any = table.query(**query, ConsistentRead=True)
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def iso(moment: datetime) -> str:
    """A time in UTC as every item has it: ISO 8601, to the second, so that text order is time's."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
