"""The approval page of an approver with many open cases, on the table of the embedded AWS.

`python -m bench.page CASES` prints what a page takes as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import yaml

from local import stack
from local.organization import load

from .fake_aws import FIRST_ACCOUNT
from .measure import median
from .sweep import _free_port, a_key

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
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "organization.yaml"
        file.write_text(yaml.safe_dump(content))
        aws = stack.EmbeddedAws(port=_free_port(), organization=file)
        try:
            stack.build()
            aws.wait_until_ready()
            deployed = stack.deploy(aws, load(file), {"MailWindowSeconds": "0"})
            link = _link(deployed)
            _copy(deployed, account, cases - 1)
            return _open(deployed, link)
        finally:
            aws.stop()


def _link(deployed: stack.Stack) -> str:
    deployed.client("stepfunctions").start_execution(
        stateMachineArn=deployed.outputs["SweepStateMachineArn"], input="{}"
    )
    for _ in range(120):
        sent = httpx.get(f"{deployed.endpoint}/_ministack/ses/messages").json()["messages"]
        for mails in sent.values():
            for mail in mails:
                found = re.search(
                    re.escape(deployed.outputs["ApprovalUrl"]) + r"/([\w-]+)", mail["BodyText"]
                )
                if found:
                    return found[1]
        time.sleep(0.5)
    raise TimeoutError("no mail came")


def _copy(deployed: stack.Stack, account: str, copies: int) -> None:
    """As many cases more, which are the same but for their accounts."""
    table = deployed.resource("dynamodb").Table(deployed.outputs["TableName"])
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


def _open(deployed: stack.Stack, link: str) -> dict[str, Any]:
    functions = deployed.client("lambda").get_paginator("list_functions").paginate()
    [variables] = [
        each["Environment"]["Variables"]
        for page in functions
        for each in page["Functions"]
        if "ApprovalPage" in each["FunctionName"]
    ]
    os.environ |= variables | {
        "AWS_ENDPOINT_URL": deployed.endpoint,
        "AWS_DEFAULT_REGION": deployed.region,
        "AWS_ACCESS_KEY_ID": deployed.account,
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
