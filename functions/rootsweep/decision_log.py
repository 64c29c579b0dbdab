"""The decision log: what people decided about root keys and what came of it, as one chain.

An entry says one fact about a case. It has a `number`, from 1 without a gap, the hash of the entry
before it as `previous`, and a `hash` of itself. It is exported as a file of its own, in the order
of the numbers, so that a bucket holds the whole log up to some entry. `operate/verify_log.py`
checks the files without this code.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError

from rootsweep.table import (
    SCHEMA_VERSION,
    case_key,
    every_item,
    fact_key,
    iso,
    log_entry_key,
    log_head_key,
)

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3 import S3Client

# What the first entry has for the hash of the one before.
NOTHING_BEFORE = "0" * 64
# Others append at the same moment, one for each shard of the stream at the most.
MOST_TRIES = 20


def load(table: Table, *, case_id: str) -> dict[str, Any]:
    """The item of a case, for `facts`. Raises KeyError if there is none."""
    item: Any = table.get_item(Key=case_key(case_id), ConsistentRead=True).get("Item")
    if item is None:
        raise KeyError(case_id)
    return dict(item)


def facts(case: dict[str, Any]) -> list[dict[str, Any]]:
    """What the item of a case says that belongs into the log, in the order in which it happened.

    A case keeps what was true of it, so whoever looks later finds the same facts and more. The `id`
    of each is made of the fact itself; the rest is how the case explains it at this moment.
    """

    def fact(what: str, *identity: Any, **more: Any) -> dict[str, Any]:
        text = canonical([case["case_id"], *identity])
        return {
            "id": hashlib.sha256(text.encode()).hexdigest(),
            "what": what,
            "case_id": case["case_id"],
            "account_id": case["account_id"],
            **_filled(more),
        }

    def answer(given: dict[str, str]) -> dict[str, Any]:
        took_back = "lifted" in case and given == decision and given["answer"] == "DECLINED"
        seen: dict[str, Any] = {}
        if given["fingerprint"] == case.get("fingerprint"):
            keys = [{name: key[name] for name in ("id", "status")} for key in case["keys"]]
            seen = {"keys": keys, "quorum": int(case.get("quorum", 1))}
        about = {name: value for name, value in given.items() if name != "answer"}
        what = "TAKEN_BACK" if took_back else given["answer"]
        return fact(what, "ANSWER", _filled(given), **about, **seen)

    decision = case.get("decision")
    past = case.get("past_decisions", [])
    answers = [*past, *case.get("approvals", []), *([decision] if decision else [])]
    found = [answer(given) for given in answers]
    for given in past:
        of = answer(given)
        found.append(fact("SET_ASIDE", "SET_ASIDE", of["id"], answer=of["id"], by=given["by"]))
    started = case.get("deletion_started_at")
    if started:
        found.append(fact("DELETION_STARTED", "DELETION_STARTED", started, at=started))
    for key in case.get("deleted_keys", []):
        about = {"key_id": key["id"], "at": key["deleted_at"]}
        found.append(fact("KEY_DELETED", "KEY_DELETED", key, **about))
    ended = case.get("ended_at")
    if ended:
        outcome, reason = case["outcome"], case.get("reason", "")
        about = {"at": ended, "outcome": outcome, "reason": reason}
        found.append(fact("ENDED", "ENDED", ended, outcome, **about))
    # The approval that completes a quorum is the decision too.
    return list({each["id"]: each for each in found}.values())


def new_facts(log: Table, case: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts of a case that have no entry yet."""
    found = facts(case)
    if not found:
        return []
    of_the_case = Key("pk").eq(fact_key(case["case_id"], "")["pk"])
    known = {item["sk"] for item in every_item(log, KeyConditionExpression=of_the_case)}
    return [fact for fact in found if fact["id"] not in known]


def append(log: Table, *, fact: dict[str, Any], now: datetime) -> bool:
    """Make a fact the newest entry, unless it has one; whether it was made.

    Raises ClientError, also if others were faster again and again.
    """
    tried = 0
    while True:
        tried += 1
        head = _head(log)
        number = int(head.get("newest", 0)) + 1
        chained = {
            **fact,
            "number": number,
            "previous": head.get("newest_hash", NOTHING_BEFORE),
            "logged_at": iso(now),
        }
        try:
            _write(log, chained)
            return True
        except log.meta.client.exceptions.TransactionCanceledException as error:
            reasons: Any = error.response.get("CancellationReasons", [])
            codes = [reason.get("Code", "None") for reason in reasons]
            if codes[-1] == "ConditionalCheckFailed":
                return False
            in_the_way = {"None", "ConditionalCheckFailed", "TransactionConflict"}
            if tried == MOST_TRIES or not set(codes) <= in_the_way:
                raise


def _write(log: Table, chained: dict[str, Any]) -> None:
    """One transaction: the entry, that its fact has it, and the head, if that is still the same."""
    number = chained["number"]
    hash = hashlib.sha256(canonical(chained).encode()).hexdigest()
    absent = "attribute_not_exists(pk)"
    entry: dict[str, Any] = {
        **log_entry_key(number),
        "schema": SCHEMA_VERSION,
        "entry": canonical({**chained, "hash": hash}),
    }
    fact: dict[str, Any] = {
        **fact_key(chained["case_id"], chained["id"]),
        "schema": SCHEMA_VERSION,
        "entry_number": number,
    }
    head: Any = {
        "TableName": log.name,
        "Key": log_head_key(),
        "UpdateExpression": "SET #schema = :schema, newest = :number, newest_hash = :hash",
        "ConditionExpression": "newest = :before AND newest_hash = :previous",
        "ExpressionAttributeNames": {"#schema": "schema"},
        "ExpressionAttributeValues": {
            ":schema": SCHEMA_VERSION,
            ":number": number,
            ":hash": hash,
            ":before": number - 1,
            ":previous": chained["previous"],
        },
    }
    if number == 1:
        head["ConditionExpression"] = absent
        del head["ExpressionAttributeValues"][":before"]
        del head["ExpressionAttributeValues"][":previous"]
    log.meta.client.transact_write_items(
        TransactItems=[
            {"Update": head},
            {"Put": {"TableName": log.name, "Item": entry, "ConditionExpression": absent}},
            {"Put": {"TableName": log.name, "Item": fact, "ConditionExpression": absent}},
        ]
    )


def export(s3: S3Client, log: Table, *, bucket: str) -> None:
    """Put all entries into the bucket that are not in it yet, the oldest first.

    Whatever an earlier export left undone is done by the next one. Nothing is ever overwritten.
    Raises ClientError.
    """
    head = _head(log)
    for number in range(int(head.get("exported", 0)) + 1, int(head.get("newest", 0)) + 1):
        item: Any = log.get_item(Key=log_entry_key(number), ConsistentRead=True)["Item"]
        try:
            s3.put_object(
                Bucket=bucket,
                Key=f"entries/{number:012}.json",
                Body=item["entry"].encode(),
                ContentType="application/json",
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",  # Object Lock wants one.
            )
        except ClientError as error:
            # Somebody else has exported it, or this did and could not note it.
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
        try:
            log.update_item(
                Key=log_head_key(),
                UpdateExpression="SET exported = :number",
                ConditionExpression="attribute_not_exists(exported) OR exported < :number",
                ExpressionAttributeValues={":number": number},
            )
        except log.meta.client.exceptions.ConditionalCheckFailedException:
            continue  # Somebody else is further.


def canonical(value: Any) -> str:
    """The one text that stands for a value: JSON, in ASCII, with sorted names and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _head(log: Table) -> dict[str, Any]:
    item: Any = log.get_item(Key=log_head_key(), ConsistentRead=True).get("Item", {})
    return dict(item)
