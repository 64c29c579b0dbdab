"""Makes the pictures of README.md from the running product: `make pictures`.

The example organization is swept on an embedded AWS of its own, and what people get is opened in
Chromium.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from playwright.sync_api import sync_playwright

from local import stack
from local.organization import load

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PICTURES = stack.ROOT / "docs" / "pictures"
ORGANIZATION = stack.ROOT / "examples" / "organization.yaml"
# Asked about one account whose key is in use, together with somebody else.
APPROVER = "webshop@example.com"
# A chart of several sweeps shows more than one of a single sweep.
SWEEPS_BEFORE = 3
POLICY = [{"after": "7d", "notify": ["approvers"], "remind_every": "2d"}]


def main() -> int:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        print("Chromium is not here; on Debian: apt-get install chromium", file=sys.stderr)
        return 2
    PICTURES.mkdir(exist_ok=True)
    aws = stack.EmbeddedAws(port=stack.free_port(), organization=ORGANIZATION)
    try:
        stack.build()
        aws.wait_until_ready()
        parameters = {"EscalationPolicy": json.dumps(POLICY), "MailWindowSeconds": "0"}
        there = stack.deploy(aws, load(ORGANIZATION), parameters)
        for _ in range(SWEEPS_BEFORE):
            sweep(there, {"detect_only": True})
        report = sweep(there, {})
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            browser = playwright.chromium.launch(
                executable_path=program, chromium_sandbox=os.geteuid() != 0
            )
            file = Path(folder) / "report.html"
            file.write_bytes(report)
            take(browser, file.as_uri(), "report.png")
            take(browser, link_of(there, APPROVER), "approval_page.png")
            browser.close()
    finally:
        aws.stop()
    return 0


def sweep(there: stack.Stack, given: dict[str, Any]) -> bytes:
    """Sweep, and return the page of the report."""
    stepfunctions = there.client("stepfunctions")
    execution = stepfunctions.start_execution(
        stateMachineArn=there.outputs["SweepStateMachineArn"], input=json.dumps(given)
    )["executionArn"]
    while (described := stepfunctions.describe_execution(executionArn=execution))[
        "status"
    ] == "RUNNING":
        time.sleep(0.5)
    address = json.loads(described["output"])["report"].removeprefix("s3://")
    bucket, _, key = address.replace("report.json", "report.html").partition("/")
    page: bytes = there.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return page


def link_of(there: stack.Stack, approver: str) -> str:
    """The link in the mail to this approver."""
    address = re.escape(there.outputs["ApprovalUrl"])
    for _ in range(120):
        mails = httpx.get(f"{there.endpoint}/_ministack/ses/messages").json()["messages"]
        for mail in (mail for sent in mails.values() for mail in sent):
            found = re.search(rf"{address}/[\w-]+", mail["BodyText"])
            if found and approver in json.dumps(mail):
                return found[0]
        time.sleep(0.5)
    raise TimeoutError(f"no mail to {approver} came")


def take(browser: Browser, address: str, name: str) -> None:
    """A picture of the first screen of a page."""
    page = browser.new_page(viewport={"width": 1200, "height": 820}, color_scheme="light")
    page.goto(address)
    page.screenshot(path=PICTURES / name)
    print(PICTURES.joinpath(name).relative_to(stack.ROOT))


if __name__ == "__main__":
    sys.exit(main())
