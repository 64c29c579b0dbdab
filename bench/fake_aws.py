"""A fast fake of what checking accounts needs of AWS, so that no emulator is what is measured.

`python -m bench.fake_aws --accounts N [--latency-ms 30] [--rate ACTION=PER_SECOND:BURST ...]`
prints its port and answers until it is killed. Every call takes the same time, and costs the fake
next to no work; `GET /_calls` has the counts. Two accounts of a hundred have root access keys.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

FIRST_ACCOUNT = 400_000_000_000
FINDINGS = 50
PAGE = 20
ACTION = re.compile(rb"(?:^|&)Action=(\w+)")
ROLE_ACCOUNT = re.compile(rb"(?:arn%3Aaws%3Aiam%3A%3A|TargetPrincipal=)(\d{12})")
KEY_ACCOUNT = re.compile(rb"Credential=ASIA(\d{12})")
TARGET = re.compile(rb"x-amz-target: *\w+\.(\w+)", re.IGNORECASE)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
CREDENTIALS = (
    "<Credentials><AccessKeyId>ASIA{account}0000</AccessKeyId>"
    "<SecretAccessKey>none</SecretAccessKey><SessionToken>none</SessionToken>"
    "<Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>"
)
SESSION = (
    "<{action}Response><{action}Result>" + CREDENTIALS + "<AssumedRoleUser>"
    "<Arn>arn:aws:sts::{account}:assumed-role/any/any</Arn>"
    "<AssumedRoleId>AROAEXAMPLE:any</AssumedRoleId></AssumedRoleUser>"
    "</{action}Result></{action}Response>"
)
SUMMARY = (
    "<GetAccountSummaryResponse><GetAccountSummaryResult><SummaryMap>"
    "<entry><key>AccountAccessKeysPresent</key><value>{keys}</value></entry>"
    "<entry><key>AccountMFAEnabled</key><value>1</value></entry>"
    "<entry><key>AccountPasswordPresent</key><value>0</value></entry>"
    "<entry><key>AccountSigningCertificatesPresent</key><value>0</value></entry>"
    "<entry><key>Users</key><value>3</value></entry>"
    "</SummaryMap></GetAccountSummaryResult></GetAccountSummaryResponse>"
)
ALIASES = (
    "<ListAccountAliasesResponse><ListAccountAliasesResult><IsTruncated>false</IsTruncated>"
    "<AccountAliases/></ListAccountAliasesResult></ListAccountAliasesResponse>"
)
IDENTITY = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>{account}</Account>"
    "<Arn>arn:aws:iam::{account}:user/any</Arn><UserId>any</UserId>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
OTHER_ANSWERS: dict[str, Any] = {
    "DescribeOrganization": {
        "Organization": {"Id": "o-a1", "MasterAccountId": f"{FIRST_ACCOUNT}", "FeatureSet": "ALL"}
    },
    "ListOrganizationalUnitsForParent": {"OrganizationalUnits": []},
    "ListRoots": {"Roots": [{"Id": "r-ab12"}]},
}
TOO_MANY = json.dumps({"__type": "TooManyRequestsException", "Message": "Rate exceeded"})
THROTTLED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>"
    "<Message>Rate exceeded</Message></Error></ErrorResponse>"
)


@dataclass
class Bucket:
    """A token bucket, as AWS throttles."""

    per_second: float
    burst: float
    tokens: float = 0
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def takes(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Fake:
    """The accounts, the clock and the counts."""

    def __init__(self, accounts: int, latency: float, buckets: dict[str, Bucket]) -> None:
        self.accounts = accounts
        self.latency = latency
        self.buckets = buckets
        self.calls: Counter[str] = Counter()

    def answer(self, action: str, head: bytes, body: bytes) -> tuple[int, str, bytes]:
        """Status, media type and body for a call."""
        bucket = self.buckets.get(action)
        if bucket and not bucket.takes():
            self.calls[f"{action} throttled"] += 1
            if TARGET.search(head):
                return 400, "application/x-amz-json-1.1", TOO_MANY.encode()
            return 400, "text/xml", THROTTLED.encode()
        self.calls[action] += 1
        match action:
            case "AssumeRole" | "AssumeRoot":
                found = ROLE_ACCOUNT.search(body)
                account = found[1].decode() if found else f"{FIRST_ACCOUNT}"
                return 200, "text/xml", SESSION.format(action=action, account=account).encode()
            case "GetAccountSummary":
                found = KEY_ACCOUNT.search(head)
                account = int(found[1]) if found else FIRST_ACCOUNT
                keys = int((account - FIRST_ACCOUNT) % FINDINGS == 0)
                return 200, "text/xml", SUMMARY.format(keys=keys).encode()
            case "ListAccountAliases":
                return 200, "text/xml", ALIASES.encode()
            case "GetCallerIdentity":
                return 200, "text/xml", IDENTITY.format(account=FIRST_ACCOUNT).encode()
            case "ListAccounts":
                return 200, "application/x-amz-json-1.1", self._page(body)
            case _:
                answer = json.dumps(OTHER_ANSWERS.get(action, {}))
                return 200, "application/x-amz-json-1.1", answer.encode()

    def _page(self, body: bytes) -> bytes:
        first = int(json.loads(body or b"{}").get("NextToken") or 0)
        after = min(self.accounts, first + PAGE)
        accounts = [
            {
                "Id": f"{FIRST_ACCOUNT + number}",
                "Name": f"account-{number}",
                "Status": "ACTIVE",
                "State": "ACTIVE",
                "Email": f"account-{number}@example.com",
                "Arn": f"arn:aws:organizations::1:account/o-a1/{FIRST_ACCOUNT + number}",
                "Paths": [f"o-a1/r-ab12/{FIRST_ACCOUNT + number}/"],
            }
            for number in range(first, after)
        ]
        more: dict[str, Any] = {"NextToken": f"{after}"} if after < self.accounts else {}
        return json.dumps({"Accounts": accounts, **more}).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with as little work as it takes."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = LENGTH.search(head)
            after = end + 4 + (int(found[1]) if found else 0)
            if b"100-continue" in head and len(self._buffer) < after:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            if len(self._buffer) < after:
                return
            body, self._buffer = self._buffer[end + 4 : after], self._buffer[after:]
            self._take(head, body)

    def _take(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /_calls"):
            self._send(200, "application/json", json.dumps(self._fake.calls).encode())
            return
        found = ACTION.search(body) or TARGET.search(head)
        action = found[1].decode() if found else head.partition(b" ")[0].decode()
        answer = self._fake.answer(action, head, body)
        asyncio.get_running_loop().call_later(self._fake.latency, self._send, *answer)

    def _send(self, status: int, media_type: str, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                f"HTTP/1.1 {status} OK\r\nContent-Type: {media_type}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )


async def _serve(fake: Fake) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(fake), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fake_aws")
    parser.add_argument("--accounts", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--rate", action="append", default=[], metavar="ACTION=PER_SECOND:BURST")
    given = parser.parse_args()
    buckets = {}
    for text in given.rate:
        action, _, numbers = text.partition("=")
        per_second, _, burst = numbers.partition(":")
        buckets[action] = Bucket(float(per_second), float(burst))
    asyncio.run(_serve(Fake(given.accounts, given.latency_ms / 1000, buckets)))


if __name__ == "__main__":
    main()
