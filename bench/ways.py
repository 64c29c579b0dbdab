"""Ways to check accounts, each in a process of its own.

`python -m bench.ways WAY ACCOUNTS CONCURRENCY` checks that many accounts of the fake at
AWS_ENDPOINT_URL, after a few to warm up, and prints what it took as JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3

from .fake_aws import FIRST_ACCOUNT
from .settings import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARM_UP = 32
KEYS_PRESENT = re.compile(rb"AccountAccessKeysPresent</key><value>(\d)")
ACCESS_KEY = re.compile(rb"<AccessKeyId>(\w+)")


def rootsweep(
    concurrency: int, *, batches: int = 1, sessions_a_second: int = 1_000_000
) -> Callable[[list[str]], int]:
    """The function as it is deployed, with its part of what so many batches do at once."""
    os.environ |= {
        "MAX_CONCURRENT_BATCHES": str(batches),
        "MAX_CONCURRENT_SESSIONS": str(concurrency),
        "MAX_SESSIONS_PER_SECOND": str(sessions_a_second),
        "AUDIT_ROLE_NAME": "rootsweep-audit",
        "BUCKET": "bucket",
        "PARTITION": "aws",
        "TABLE": "table",
    }
    import check_accounts

    from rootsweep import sweeps

    written: list[Sequence[sweeps.CheckResult]] = []

    def keep(self: sweeps.SweepFiles, batch: str, results: Sequence[sweeps.CheckResult]) -> None:  # noqa: ARG001
        written.append(results)

    sweeps.SweepFiles.write_check_results = keep  # type: ignore[method-assign]

    class Context:
        aws_request_id = "bench"
        function_name = "bench"

        @staticmethod
        def get_remaining_time_in_millis() -> int:
            return 270_000

    def check(ids: list[str]) -> int:
        event = {"sweep_id": "a-sweep", "batch": "0", "account_ids": ids}
        check_accounts.handler(event, Context())
        return sum(result.state == "ROOT_KEYS" for result in written.pop())

    return check


def rootsweep_in_batches(concurrency: int) -> Callable[[list[str]], int]:
    """The function as a process of it lives: batch after batch of the size that is deployed."""
    check = rootsweep(concurrency)
    return lambda ids: sum(
        check(ids[start : start + BATCH_SIZE]) for start in range(0, len(ids), BATCH_SIZE)
    )


def floor(concurrency: int) -> Callable[[list[str]], int]:
    """The same two calls by a bare HTTP client: unsigned, connections kept, answers hardly read.

    urllib3 is the client below the SDK.
    """
    address = f"{os.environ['AWS_ENDPOINT_URL']}/"
    connections = urllib3.PoolManager(maxsize=concurrency)

    def call(body: str, headers: dict[str, str]) -> bytes:
        return connections.request("POST", address, body=body, headers=headers).data

    return _side_by_side(call, concurrency)


def bare_floor(concurrency: int) -> Callable[[list[str]], int]:
    """The same by the client of the standard library, a connection for each thread."""
    address = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    local = threading.local()

    def call(body: str, headers: dict[str, str]) -> bytes:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(address.hostname or "", address.port)
        local.connection.request("POST", "/", body, headers)
        answer: bytes = local.connection.getresponse().read()
        return answer

    return _side_by_side(call, concurrency)


def _side_by_side(
    call: Callable[[str, dict[str, str]], bytes], concurrency: int
) -> Callable[[list[str]], int]:
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def check_one(account: str) -> int:
        role = f"arn%3Aaws%3Aiam%3A%3A{account}%3Arole%2Fany"
        session = call(f"Action=AssumeRole&RoleArn={role}&RoleSessionName=any", form)
        access_key = ACCESS_KEY.search(session)[1].decode()  # type: ignore[index]
        signed = {**form, "Authorization": f"Credential={access_key}/"}
        keys = KEYS_PRESENT.search(call("Action=GetAccountSummary", signed))
        return int(keys[1])  # type: ignore[index]

    pool = ThreadPoolExecutor(concurrency)
    return lambda ids: sum(pool.map(check_one, ids))


def boto3_session(concurrency: int) -> Callable[[list[str]], int]:
    """As most tools do: a new session and new clients for each account."""
    import boto3

    def check_one(account: str) -> int:
        sts = boto3.Session().client("sts")
        role = f"arn:aws:iam::{account}:role/any"
        got = sts.assume_role(RoleArn=role, RoleSessionName="any")["Credentials"]
        iam = boto3.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"]).client(
            "iam"
        )
        return int(iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"])

    pool = ThreadPoolExecutor(concurrency)
    return lambda ids: sum(pool.map(check_one, ids))


WAYS = {
    "rootsweep": rootsweep,
    "rootsweep in batches": rootsweep_in_batches,
    "floor": floor,
    "bare floor": bare_floor,
    "boto3 session": boto3_session,
}


def main() -> None:
    way, accounts, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    check = WAYS[way](concurrency)
    ids = [f"{FIRST_ACCOUNT + number}" for number in range(accounts)]
    check(ids[:WARM_UP])
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    found = check(ids)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps({"cpu": cpu, "wall": wall, "found": found, "peak_mib": after.ru_maxrss / 1024})
    )


if __name__ == "__main__":
    main()
