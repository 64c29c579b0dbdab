"""The approval page of an approver with many open cases, on the table of the embedded AWS.

`python -m bench.page CASES` prints what a page takes as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx

from .fake_aws import FIRST_ACCOUNT
from .measure import median
from .sweep import a_key, deployed

if TYPE_CHECKING:
    from local import stack

PAGES = 15


def measure(cases: int) -> dict[str, Any]:
    """Milliseconds at the median for a page, its bytes, and its reads by operation."""
    account = f"{FIRST_ACCOUNT}"
    members = [{"id": account, "root": {"access_keys": [a_key(0)]}}]
    content = {
        "management_account": "111111111111",
        "security_account": "222222222222",
        "accounts": members,
    }
    with deployed(content, {"MailWindowSeconds": "0"}) as (there, _):
        link = _link(there)
        _copy(there, account, cases - 1)
        return _open(there, link)


def _link(there: stack.Stack) -> str:
    there.client("stepfunctions").start_execution(
        stateMachineArn=there.outputs["SweepStateMachineArn"], input="{}"
    )
    for _ in range(120):
        sent = httpx.get(f"{there.endpoint}/_ministack/ses/messages").json()["messages"]
        for mails in sent.values():
            for mail in mails:
                found = re.search(
                    re.escape(there.outputs["ApprovalUrl"]) + r"/([\w-]+)", mail["BodyText"]
                )
                if found:
                    return found[1]
        time.sleep(0.5)
    raise TimeoutError("no mail came")


def _copy(there: stack.Stack, account: str, copies: int) -> None:
    """As many cases more, which are the same but for their accounts."""
    table = there.resource("dynamodb").Table(there.outputs["TableName"])
    originals = [
        item for item in table.scan()["Items"] if item["sk"].startswith(("CASE", "REQUEST#"))
    ]
    with table.batch_writer() as batch:
        for number in range(1, copies + 1):
            id = f"{FIRST_ACCOUNT + number}"
            for item in originals:
                batch.put_item(
                    Item={
                        name: value.replace(account, id) if isinstance(value, str) else value
                        for name, value in item.items()
                    }
                )


def _open(there: stack.Stack, link: str) -> dict[str, Any]:
    functions = there.client("lambda").get_paginator("list_functions").paginate()
    [variables] = [
        each["Environment"]["Variables"]
        for page in functions
        for each in page["Functions"]
        if "ApprovalPage" in each["FunctionName"]
    ]
    os.environ |= variables | {
        "AWS_ENDPOINT_URL": there.endpoint,
        "AWS_DEFAULT_REGION": there.region,
        "AWS_ACCESS_KEY_ID": there.account,
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    page: Any = importlib.import_module("approval_page")
    reads: Counter[str] = Counter()
    page.dynamodb.meta.client.meta.events.register(
        "before-call.dynamodb", lambda model, **_: reads.update([model.name])
    )
    event = {"httpMethod": "GET", "pathParameters": {"link": link}}
    times = []
    for _ in range(PAGES):
        reads.clear()
        began = time.monotonic()
        answer = page.handler(event, None)
        times.append(1000 * (time.monotonic() - began))
        assert answer["statusCode"] == 200
    size = len(answer["body"].encode())
    waiting = re.search(r"(\d[\d,]*) accounts", answer["body"])
    assert waiting
    return {"ms": median(times), "bytes": size, "reads": dict(reads), "says": waiting[0]}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
