"""The page behind the e-mail link: GET shows the evidence, POST decides. The only function that is
not a state; it cannot speak to Step Functions, IAM or STS, only to the table."""

from __future__ import annotations

import base64
import logging
import os
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import boto3
from botocore.config import Config

from rootsweep import approvals, cases, messages
from rootsweep.errors import CaseEndedError

MAX_BODY_BYTES = 16_384
log = logging.getLogger()
table = boto3.resource(
    "dynamodb",
    config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"}),
).Table(os.environ["TABLE"])


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """An API Gateway proxy request -> an HTML page with the right status code, whatever happens."""
    try:
        status, page = answer(event, now=datetime.now(UTC))
    except Exception:
        log.exception("the approval page failed")
        status, page = 503, messages.notice_page("try_again")
    headers = dict(messages.PAGE_HEADERS)
    if status == 405:
        headers["Allow"] = "GET, HEAD, POST"
    if status == 503:
        headers["Retry-After"] = "60"
    return {
        "statusCode": status,
        "headers": headers,
        "body": "" if event.get("httpMethod") == "HEAD" else page,
    }


def answer(event: dict[str, Any], *, now: datetime) -> tuple[int, str]:
    """The status code and the page. Only a POST can change anything."""
    method = event.get("httpMethod")
    if method not in ("GET", "HEAD", "POST"):
        return 405, messages.notice_page("method")
    secret = (event.get("pathParameters") or {}).get("link") or ""
    link = cases.find_link(table, secret=secret, now=now)
    if link is None:
        return 404, messages.notice_page("not_found")
    case = cases.load(table, case_id=link.case_id)
    if case.is_decidable and link.approver != case.approver:
        return 410, messages.notice_page("not_yours", case=case)
    if method == "POST":
        return decide(event, case=case, link=link, secret=secret, now=now)
    if not case.is_decidable:
        return 200, notice(case)
    return 200, decision_page(case, link=link, secret=secret, now=now)


def decide(
    event: dict[str, Any], *, case: cases.Case, link: cases.Link, secret: str, now: datetime
) -> tuple[int, str]:
    """Take the form's decision, unless somebody or something was faster."""
    body = event.get("body") or ""
    if len(body) > MAX_BODY_BYTES:
        return 413, messages.notice_page("too_large")
    form = read_form(event, body)
    if form is None or "token" not in form:
        return 400, messages.notice_page("bad_request")
    if not case.is_decidable:
        return 409, notice(case)
    if not approvals.is_page_token(form["token"], secret, case):
        # The page was made from other evidence, or the token was made up.
        return 409, messages.notice_page("superseded", case=case)
    try:
        decision = approvals.decision_from(form, case=case, link=link, now=now)
    except approvals.FormError as error:
        return 422, decision_page(case, link=link, secret=secret, now=now, error=error)
    try:
        decided = cases.decide(table, case_id=case.id, decision=decision)
    except CaseEndedError:
        return 409, notice(cases.load(table, case_id=case.id))
    return 200, messages.notice_page("recorded", case=decided)


def read_form(event: dict[str, Any], body: str) -> dict[str, str] | None:
    """The fields of the form, or None if the body is no form."""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body
        text = raw.decode("utf-8", "strict") if isinstance(raw, bytes) else raw
        fields = parse_qs(
            text, keep_blank_values=True, strict_parsing=True, max_num_fields=20, errors="strict"
        )
    except ValueError:
        return None
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def notice(case: cases.Case) -> str:
    """The page for a case that cannot be decided now."""
    if case.decision:
        return messages.notice_page("decided", case=case)
    return messages.notice_page("ended" if case.ended_at else "not_yet", case=case)


def decision_page(
    case: cases.Case,
    *,
    link: cases.Link,
    secret: str,
    now: datetime,
    error: approvals.FormError | None = None,
) -> str:
    """The page with the evidence and the two forms."""
    return messages.decision_page(
        case,
        approver=link.approver,
        token=approvals.page_token(secret, case),
        last_day=approvals.last_day_of_exception(now.date()),
        now=now,
        error=error,
    )
