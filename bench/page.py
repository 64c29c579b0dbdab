"""The approval page of an approver with many open cases, and the mail about all of them.

What the table of the embedded AWS answered is answered again by a fake of DynamoDB that takes a
fixed time for each call, so that the slowness of the emulator is not what is measured.
`python -m bench.page CASES` prints what they take as JSON.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx

from .fake_aws import FIRST_ACCOUNT
from .measure import median
from .model import LATENCY
from .sweep import a_key, deployed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local import stack

PAGES = 15


def measure(cases: int) -> dict[str, Any]:
    """Milliseconds at the median for a page, and on the embedded AWS; its bytes and its reads.

    And what the one mail about all of these cases takes there: seconds, calls, bytes.
    """
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
        with _answering_again(there.endpoint) as fake:
            fast = _open(there, link, endpoint=fake)
        slow = _open(there, link, endpoint=there.endpoint)
        return fast | {"embedded_ms": slow["ms"], "mail": _mail(there)}


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
                copied = {
                    name: value.replace(account, id) if isinstance(value, str) else value
                    for name, value in item.items()
                }
                # Nobody has a mail about a copy yet.
                batch.put_item(Item=copied | ({"mailed": 0} if "mailed" in item else {}))


@contextmanager
def _answering_again(endpoint: str) -> Iterator[str]:
    """The address of a DynamoDB that answers a request as `endpoint` did the first time."""
    answers: dict[tuple[str, bytes], httpx.Response] = {}

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # An answer is one packet, which waits for no other.

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = (self.headers["X-Amz-Target"], body)
            if asked not in answers:
                answers[asked] = httpx.post(endpoint, content=body, headers=dict(self.headers))
            time.sleep(LATENCY["DynamoDB"])
            answer = answers[asked]
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            """Nothing: there is a terminal to be read."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    # In a process of its own, so that the page does not wait for it.
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        process.terminate()
        process.join()
        server.server_close()


def _open(there: stack.Stack, link: str, *, endpoint: str) -> dict[str, Any]:
    page = _module(there, "ApprovalPage", endpoint)
    reads = _counted(page.dynamodb.meta.client)
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


def _mail(there: stack.Stack) -> dict[str, Any]:
    module = _module(there, "RequestApproval", there.endpoint)
    from rootsweep import cases, mailing

    sent: list[int] = []
    client = module.post.ses
    client.meta.events.register(
        "before-call.sesv2", lambda params, **_: sent.append(len(params["body"]))
    )
    case = cases.load(
        module.table,
        case_id=next(iter(cases.open_case_ids(module.table).values())).replace(
            f"{FIRST_ACCOUNT}", f"{FIRST_ACCOUNT + 1}"
        ),
    )
    calls = _counted(module.dynamodb.meta.client)
    began = time.monotonic()
    mailing.see_to_it(module.post, case)
    return {"seconds": time.monotonic() - began, "calls": dict(calls), "bytes": sent}


def _counted(client: Any) -> Counter[str]:
    """How often each operation is called from now on."""
    calls: Counter[str] = Counter()
    client.meta.events.register(
        "before-call.dynamodb", lambda model, **_: calls.update([model.name])
    )
    return calls


def _module(there: stack.Stack, function: str, endpoint: str) -> Any:
    """The handler's module, with the function's environment, on the AWS at this address."""
    functions = there.client("lambda").get_paginator("list_functions").paginate()
    [deployed] = [
        each for page in functions for each in page["Functions"] if function in each["FunctionName"]
    ]
    os.environ |= deployed["Environment"]["Variables"] | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": there.region,
        "AWS_ACCESS_KEY_ID": there.account,
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    name = deployed["Handler"].partition(".")[0]
    sys.modules.pop(name, None)
    return importlib.import_module(name)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
