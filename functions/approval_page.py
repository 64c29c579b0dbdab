"""The page behind the e-mail link: GET shows the evidence, POST decides. The only function that is
not a state; it cannot speak to Step Functions, IAM or STS, only to the table."""

from __future__ import annotations

import base64
import logging
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import boto3
from botocore.config import Config

from rootsweep import approvals, approvers, cases, logs, messages
from rootsweep.errors import CaseEndedError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date

METHODS = ("GET", "HEAD", "OPTIONS", "POST")
EXCEPTION_DAYS = int(os.environ["MAX_EXCEPTION_DAYS"])
QUARANTINE = os.environ["QUARANTINE"]
MAX_BODY_BYTES = 20_480
# So many fit into a page of 30 KB, however long their names are and whatever has to be escaped.
CASES_OF_A_PAGE = 15
MOST_APPROVED = 5
CASE_ID = re.compile(r"[0-9]{12}-[0-9]{8}T[0-9]{6}Z")
log = logging.getLogger()
# Somebody waits for the page: three attempts fit into its time, those of `rootsweep.calls` do not.
dynamodb = boto3.resource(
    "dynamodb",
    config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"}),
)
table = dynamodb.Table(os.environ["TABLE"])

Answer = tuple[int, str]
Form = dict[str, str]


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """An API Gateway proxy request -> an HTML page with the right status code, whatever happens."""
    method = event.get("httpMethod")
    try:
        status, page = answer(event, now=datetime.now(UTC))
    except Exception:
        log.exception("failed to answer, so people are told to try again")
        status, page = 503, messages.notice_page("try_again")
    headers = dict(messages.PAGE_HEADERS)
    if status == 405 or method == "OPTIONS":
        headers["Allow"] = ", ".join(METHODS)
    if status == 503:
        headers["Retry-After"] = "60"
    return {
        "statusCode": status,
        "headers": headers,
        "body": "" if method in ("HEAD", "OPTIONS") else page,
    }


def answer(event: dict[str, Any], *, now: datetime) -> Answer:
    """The status code and the page. Only a POST can change anything."""
    method = event.get("httpMethod")
    if method not in METHODS:
        return 405, messages.notice_page("method")
    if method == "OPTIONS":
        return 204, ""
    secret = (event.get("pathParameters") or {}).get("link") or ""
    link = approvers.find_link(table, secret=secret, now=now)
    if link is None:
        return 404, messages.notice_page("not_found")
    if link.is_expired:
        return 410, messages.notice_page("expired")
    if link.is_revoked:
        return 410, messages.notice_page("revoked")
    query = event.get("queryStringParameters") or {}
    asked = open_cases(link)
    visit = Visit(
        link,
        secret,
        [case for case in asked if case.waits_for(link.approver) or case.is_for_people_to_remove],
        [
            case
            for case in asked
            if case.takes_decision_of(link.approver) and not case.waits_for(link.approver)
        ],
        now,
    )
    after = query.get("after") or ""
    if method == "POST":
        return post(event, visit, after=after)
    if query.get("case"):
        return show_one(visit, query["case"])
    if query.get("past"):
        return show_past(visit, after=after)
    if len(visit.waiting) == 1 and not after:
        return show_one(visit, visit.waiting[0].id)
    if visit.waiting:
        return 200, list_page(visit, after=after)
    return show_past(visit, after=after)


class Visit(NamedTuple):
    """A request that came with a good link: whose it is, and what is open for them.

    `waiting` waits for them: for a decision, or for a removal by hand. `approved` are those that
    they have approved and can take back: somebody else has to, too, or the root user is blocked
    first.
    """

    link: approvers.Link
    secret: str
    waiting: list[cases.Standing]
    approved: list[cases.Standing]
    now: datetime

    @property
    def approver(self) -> str:
        """Whose link it is."""
        return self.link.approver

    def more_than(self, case: cases.Case) -> int:
        """How many other cases wait for the approver."""
        return sum(each.id != case.id for each in self.waiting)


def open_cases(link: approvers.Link) -> list[cases.Standing]:
    """The cases that this link opens, that have not ended and where its approver has a say."""
    requests = approvers.open_requests(table, approver=link.approver)
    ids = [request.case_id for request in requests if link.opens(request)]
    return [
        case
        for case in cases.load_standings(dynamodb, table, ids)
        if case.asks(link.approver) or case.approval_of(link.approver)
    ]


def show_one(visit: Visit, case_id: str) -> Answer:
    """The page of one case."""
    case = find(visit, case_id)
    if case is None:
        return 404, messages.notice_page("not_found")
    if case.takes_decision_of(visit.approver):
        return 200, decision_page(visit, case)
    # Somebody else is asked by now.
    return 410 if case.is_decidable else 200, notice(visit, case)


def show_past(visit: Visit, *, after: str) -> Answer:
    """How the cases stand that no longer wait for this approver: what comes `after` a case."""
    open_ones = approvers.open_requests(table, approver=visit.approver)
    ended = approvers.ended_requests(table, approver=visit.approver)
    waiting = {case.id for case in visit.waiting}
    ids = [
        request.case_id
        for each in (open_ones, ended)
        for request in each
        if visit.link.opens(request) and request.case_id not in waiting
    ]
    # What they can take back comes first, then the latest.
    back = {case.id for case in visit.approved}
    ids.sort(key=lambda case_id: (case_id in back, case_id.partition("-")[2]), reverse=True)
    if len(ids) == 1 and not waiting:
        return show_one(visit, ids[0])
    rest = ids[ids.index(after) + 1 :] if after in ids else ids
    shown = rest[:CASES_OF_A_PAGE]
    return 200, messages.notice_page(
        "nothing_waits",
        cases=cases.load_many(dynamodb, table, shown),
        approver=visit.approver,
        more=len(waiting),
        next_page=f"?past=1&after={shown[-1]}" if len(rest) > len(shown) else "",
    )


def post(event: dict[str, Any], visit: Visit, *, after: str) -> Answer:
    """Take the form's decision about one case or about several."""
    body = event.get("body") or ""
    if len(body) > MAX_BODY_BYTES:
        return 413, messages.notice_page("too_large")
    form = read_form(event, body)
    if form is None:
        return 400, messages.notice_page("bad_request")
    # Each case of a form comes with the token of the page that showed it.
    chosen = dict(value.rpartition(".")[::2] for value in form.get("case", []))
    fields = {
        # Browsers count the end of a line as one character and send two.
        name: values[0][: 2 * approvals.REASON_LENGTH]
        for name, values in form.items()
        if len(values) == 1
    }
    if "count" in form:
        return decide_several(chosen, fields, visit, after=after)
    if len(chosen) != 1:
        return 400, messages.notice_page("bad_request")
    ((case_id, token),) = chosen.items()
    return decide_one(case_id, token, fields, visit)


def decide_one(case_id: str, token: str, form: Form, visit: Visit) -> Answer:
    """Take the decision about one case, unless somebody or something was faster."""
    case = find(visit, case_id)
    if case is None:
        return 404, messages.notice_page("not_found")
    if not case.takes_decision_of(visit.approver):
        return 410 if case.is_decidable else 409, notice(visit, case)
    if not approvals.is_page_token(token, visit.secret, case):
        # The page was made from other evidence, or the token was made up.
        return 409, messages.notice_page("superseded", case=case)
    try:
        choice = approvals.choice_from(
            form,
            now=visit.now,
            exception_days=EXCEPTION_DAYS,
            quarantine=quarantine_of(case),
            account_id=case.account_id,
        )
    except approvals.FormError as error:
        return 422, decision_page(visit, case, form=form, error=error)
    after, moment = record(visit, case, choice)
    page = messages.notice_page(
        moment, case=after, approver=visit.approver, more=visit.more_than(case)
    )
    return 200 if moment == "recorded" else 409, page


def decide_several(chosen: dict[str, str], form: Form, visit: Visit, *, after: str) -> Answer:
    """Take one decision about several cases, each for itself."""
    try:
        choice = approvals.choice_from(
            form, now=visit.now, exception_days=EXCEPTION_DAYS, selected=len(chosen)
        )
    except approvals.FormError as error:
        if not visit.waiting:
            return 409, show_past(visit, after="")[1]
        return 422, list_page(visit, after=after, form=form, selected=chosen, error=error)
    results = []
    for case_id, token in sorted(chosen.items()):
        case = find(visit, case_id)
        if case is None:
            continue
        if not case.takes_decision_of(visit.approver):
            results.append((case, moment_of(case)))
        elif not approvals.is_page_token(token, visit.secret, case):
            results.append((case, "superseded"))
        else:
            results.append(record(visit, case, choice))
    if not results:
        return 404, messages.notice_page("not_found")
    recorded = {case.id for case, moment in results if moment == "recorded"}
    more = sum(case.id not in recorded for case in visit.waiting)
    return 200 if recorded else 409, messages.results_page(results, more=more)


def record(visit: Visit, case: cases.Case, choice: approvals.Choice) -> tuple[cases.Case, str]:
    """The case after the decision, and the moment that it is in now."""
    decision = choice.about(case, by=visit.approver, now=visit.now)
    with logs.about(case_id=case.id):
        try:
            return cases.decide(table, case=case, decision=decision), "recorded"
        except CaseEndedError:
            case = cases.load(table, case_id=case.id)
            if case.takes_decision_of(visit.approver):
                return case, "superseded"
            return case, moment_of(case)


def find(visit: Visit, case_id: str) -> cases.Case | None:
    """The case, if the link opens it."""
    if not CASE_ID.fullmatch(case_id):
        return None
    request = approvers.find_request(table, approver=visit.approver, case_id=case_id)
    return cases.load(table, case_id=case_id) if visit.link.opens(request) else None


def read_form(event: dict[str, Any], body: str) -> dict[str, list[str]] | None:
    """The fields of the form, or None if the body is no form."""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body
        text = raw.decode("utf-8", "strict") if isinstance(raw, bytes) else raw
        text.encode("utf-8", "strict")  # What cannot be shown again is no text.
        return parse_qs(
            text,
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=CASES_OF_A_PAGE + 10,
            errors="strict",
        )
    except ValueError:
        return None


def moment_of(case: cases.Case) -> str:
    """Which notice fits a case that takes no decision of the visitor."""
    if case.is_for_people_to_remove:
        return "by_hand"
    if case.decision:
        return "decided"
    if case.ended_at:
        return "ended"
    if case.is_decidable:
        return "not_yours"
    return "too_late" if case.decided else "not_yet"


def notice(visit: Visit, case: cases.Case) -> str:
    """The page for a case that this approver cannot decide now."""
    return messages.notice_page(
        moment_of(case), case=case, approver=visit.approver, more=visit.more_than(case)
    )


def decision_page(
    visit: Visit,
    case: cases.Case,
    *,
    form: Form | None = None,
    error: approvals.FormError | None = None,
) -> str:
    """The page with the evidence of one case and the two forms."""
    return messages.decision_page(
        case,
        approver=visit.approver,
        token=approvals.page_token(visit.secret, case),
        last_day=last_day_of_exception(visit),
        now=visit.now,
        more=visit.more_than(case),
        approved=len(visit.approved),
        quarantine=quarantine_of(case),
        form=shown_again(form or {}),
        error=error,
    )


def quarantine_of(case: cases.Case) -> str:
    """How long the root user can be blocked before its keys are deleted; empty if it cannot."""
    return "" if case.quarantine_refused else QUARANTINE


def last_day_of_exception(visit: Visit) -> date:
    """The latest date until which keys may be kept."""
    return visit.now.date() + timedelta(days=EXCEPTION_DAYS)


def shown_again(form: Form) -> Form:
    """What was typed, as much of it as a page has room for."""
    most = {"reason": approvals.REASON_LENGTH + 1, "ticket": approvals.TICKET_LENGTH + 1}
    return {name: value.replace("\r\n", "\n")[: most.get(name, 40)] for name, value in form.items()}


def list_page(
    visit: Visit,
    *,
    after: str,
    form: Form | None = None,
    selected: Collection[str] = (),
    error: approvals.FormError | None = None,
) -> str:
    """One part of the list of cases: what comes `after` a case, or else what is selected."""
    rest = [case for case in visit.waiting if case.id > after] or visit.waiting
    if not set(selected) <= {case.id for case in rest[:CASES_OF_A_PAGE]}:
        rest = [case for case in visit.waiting if case.id >= min(selected)] or rest
    ids = [case.id for case in rest[:CASES_OF_A_PAGE]]
    approved = [case.id for case in visit.approved[:MOST_APPROVED]]
    loaded = cases.load_many(dynamodb, table, [*ids, *approved])
    # Somebody may have decided one meanwhile.
    shown = [
        case
        for case in loaded
        if case.id in ids and (case.waits_for(visit.approver) or case.is_for_people_to_remove)
    ]
    if not shown:
        return show_past(visit, after="")[1]
    return messages.list_page(
        shown,
        approver=visit.approver,
        tokens={
            case.id: approvals.page_token(visit.secret, case)
            for case in shown
            if case.waits_for(visit.approver)
        },
        total=len(visit.waiting),
        first=len(visit.waiting) - len(rest) + 1,
        next_page=f"?after={ids[-1]}" if len(rest) > len(ids) else "",
        last_day=last_day_of_exception(visit),
        now=visit.now,
        form=shown_again(form or {}),
        selected=selected,
        approved=[case for case in loaded if case.id in approved],
        more_approved=len(visit.approved[MOST_APPROVED:]),
        error=error,
    )
