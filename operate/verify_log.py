"""Check the decision log: `python -m operate.verify_log --bucket NAME` or `--directory FOLDER`.

Knows the form of the log and none of the code that writes it. Exit code 0: every entry is good, and
the newest one is shown as NUMBER:HASH. 1: the first broken entry is named. 2: nothing was checked.

Who leaves out the newest entries, or writes all of them anew from some entry on, breaks no chain:
keep what the command showed, elsewhere, and give it as `--head` the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_s3 import S3Client

PREFIX = "entries/"
NAME = re.compile(r"([0-9]{12})\.json")
NOTHING_BEFORE = "0" * 64


class BrokenEntryError(Exception):
    """When an entry is not what was logged, or not there."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"entry {number} {problem}")
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m operate.verify_log")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bucket", help="the bucket of the decision log")
    where.add_argument("--directory", type=Path, help="a folder with a copy of its entries")
    parser.add_argument("--head", type=_head, metavar="NUMBER:HASH", help="what it has to hold")
    given = parser.parse_args(arguments)
    try:
        if given.bucket:
            entries, broken = read_bucket(boto3.client("s3"), given.bucket)
        else:
            entries, broken = read_directory(given.directory), {}
    except (BotoCoreError, ClientError, OSError) as error:
        print(f"The decision log cannot be read: {error}", file=sys.stderr)
        return 2
    if not entries and not broken and not given.head:
        print("There is no entry.", file=sys.stderr)
        return 2
    try:
        number, hash = verify(entries, broken=broken, head=given.head)
    except BrokenEntryError as error:
        print(f"BROKEN: {error}. The {error.number - 1} before it are good.", file=sys.stderr)
        return 1
    print(f"{number} entries, all good. The newest is {number}:{hash}")
    return 0


def read_directory(directory: Path) -> dict[int, bytes]:
    """The entries in a folder, by number. Raises OSError."""
    return {
        int(match[1]): path.read_bytes()
        for path in directory.iterdir()
        if (match := NAME.fullmatch(path.name))
    }


def read_bucket(s3: S3Client, bucket: str) -> tuple[dict[int, bytes], dict[int, str]]:
    """The entries in a bucket, by number, and what is wrong with those that are not as exported.

    An entry has one version. One more hides what was there before, and so does a delete marker.
    """
    versions: dict[int, list[str]] = defaultdict(list)
    broken = {}
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=PREFIX)
    for page in pages:
        for version in page.get("Versions", []):
            if match := NAME.fullmatch(version["Key"].removeprefix(PREFIX)):
                versions[int(match[1])].append(version["VersionId"])
        for marker in page.get("DeleteMarkers", []):
            if match := NAME.fullmatch(marker["Key"].removeprefix(PREFIX)):
                broken[int(match[1])] = "was deleted: a delete marker hides it"
    for number, ids in versions.items():
        if len(ids) > 1:
            broken.setdefault(number, f"was overwritten: it has {len(ids)} versions")

    def read(number: int) -> bytes:
        answer = s3.get_object(
            Bucket=bucket, Key=f"{PREFIX}{number:012}.json", VersionId=versions[number][0]
        )
        return answer["Body"].read()

    with ThreadPoolExecutor(10) as pool:
        return dict(zip(versions, pool.map(read, versions), strict=True)), broken


def verify(
    entries: Mapping[int, bytes],
    *,
    broken: Mapping[int, str] | None = None,
    head: tuple[int, str] | None = None,
) -> tuple[int, str]:
    """Check every entry and that each follows the one before; return number and hash of the last.

    `broken` says what is known to be wrong already, and `head` the number and hash of an entry that
    has to be there. Raises BrokenEntryError for the first entry that is not good.
    """
    broken = broken or {}
    last = max([*entries, *broken, head[0] if head else 0], default=0)
    hash = NOTHING_BEFORE
    for number in range(1, last + 1):
        if number in broken:
            raise BrokenEntryError(number, broken[number])
        if number not in entries:
            raise BrokenEntryError(number, "is missing")
        hash = _checked(number, entries[number], previous=hash)
        if head and number == head[0] and hash != head[1]:
            raise BrokenEntryError(number, "is another one than the head that was given")
    return last, hash


def _checked(number: int, content: bytes, *, previous: str) -> str:
    """The hash of an entry that is good. Raises BrokenEntryError."""
    try:
        text = content.decode("ascii")
        entry: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenEntryError(number, "is not JSON in ASCII") from None
    # Two texts can mean the same; only one was exported.
    if not isinstance(entry, dict) or _canonical(entry) != text:
        raise BrokenEntryError(number, "is not written as it was exported")
    claimed = entry.pop("hash", None)
    hash = hashlib.sha256(_canonical(entry).encode()).hexdigest()
    if claimed != hash:
        raise BrokenEntryError(number, "has been changed: it does not have the hash that it says")
    if entry.get("number") != number:
        there = entry.get("number")
        raise BrokenEntryError(number, f"is in the wrong place: its number is {there!r}")
    if entry.get("previous") != previous:
        raise BrokenEntryError(
            number, f"does not follow entry {number - 1}: one of the two is not what was logged"
        )
    return hash


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _head(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"([1-9][0-9]{0,11}):([0-9a-f]{64})", text)
    if not match:
        raise argparse.ArgumentTypeError("write NUMBER:HASH, as the command shows it")
    return int(match[1]), match[2]


if __name__ == "__main__":
    sys.exit(main())
