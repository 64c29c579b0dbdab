"""Approvers and what reaches their links: many cases, many people, many machines at once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain, cycle, islice
from threading import Barrier
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.deployed.conftest import Deployed, Mail

MANY = [str(number) for number in range(400000000100, 400000000112)]
BY_HAND = "400000000111"
SINGLE = "400000000112"
PAIR = ["400000000113", "400000000114"]
LISTED = [str(number) for number in range(400000000120, 400000000124)]
SCANNED, SCANNED_LIST = "400000000130", ["400000000131", "400000000132"]
RACED = ["400000000140", "400000000141"]
TWO_PEOPLE = "400000000150"
REVOKED, EXPIRED = "400000000160", "400000000161"

# As they introduce themselves in access logs: they open links before people do.
SCANNERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Edg/120.0.0.0 (Microsoft Safe Links)",
    "Mozilla/5.0 (compatible; Proofpoint URL Defense)",
    "Mimecast-URL-Protect/1.0",
    "Mozilla/5.0 (compatible; Barracuda Sentinel; +http://www.barracudanetworks.com/)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
]


@pytest.fixture(scope="module", autouse=True)
def swept(deployed: Deployed) -> None:
    """Two sweeps for all tests here, each of which has accounts and approvers of its own."""
    first = deployed.sweep(accounts=[*MANY, SINGLE, *PAIR])
    assert first["cases_opened"] == 15
    deployed.mail_to("many@example.com")
    deployed.sweep(accounts=[*LISTED, SCANNED, *SCANNED_LIST, *RACED, TWO_PEOPLE, REVOKED, EXPIRED])


@pytest.fixture
def unthrottled(deployed: Deployed) -> Iterator[None]:
    """The API takes whatever comes, so that it is the page that has to stand it."""
    api = deployed.stack.client("apigateway")
    stage = {"restApiId": deployed.stack.outputs["ApprovalApiId"], "stageName": "v1"}
    settings = api.get_stage(**stage)["methodSettings"]["*/*"]

    def limit(rate: float, burst: int) -> None:
        values = {"rateLimit": rate, "burstLimit": burst}
        api.update_stage(
            **stage,
            patchOperations=[
                {"op": "replace", "path": f"/*/*/throttling/{name}", "value": str(value)}
                for name, value in values.items()
            ],
        )

    limit(10_000, 5_000)
    yield
    limit(settings["throttlingRateLimit"], settings["throttlingBurstLimit"])


@pytest.fixture
def recorded(deployed: Deployed) -> Iterator[None]:
    """CloudTrail records."""

    def switch(state: str) -> None:
        address = f"{deployed.stack.endpoint}/_ministack/config"
        answer = httpx.post(address, json={"cloudtrail._recording_enabled": state})
        assert answer.json()["applied"] == {"cloudtrail._recording_enabled": state == "true"}

    switch("true")
    yield
    switch("false")


def calls(client: Any, name: str) -> list[dict[str, Any]]:
    """The parameters of all recorded calls of an operation."""
    pages = client.get_paginator("lookup_events").paginate(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}]
    )
    events = [event for page in pages for event in page["Events"]]
    return [json.loads(event["CloudTrailEvent"])["requestParameters"] for event in events]


def at_once(browser: httpx.Client, requests: Sequence[dict[str, Any]]) -> list[httpx.Response]:
    """The answers to requests that are all sent at the same moment."""
    barrier = Barrier(len(requests))

    def send(request: dict[str, Any]) -> httpx.Response:
        barrier.wait()
        return browser.request(**request)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


def test_an_approver_gets_one_mail_about_all_cases_and_never_a_second_one(
    deployed: Deployed,
) -> None:
    everybody = ("many@example.com", "single@example.com", "pair@example.com")
    accounts = [*MANY, SINGLE, *PAIR]

    def about(mail: Mail) -> set[str]:
        return {account for account in accounts if account in mail.text}

    for account in set(accounts) - {BY_HAND}:
        deployed.waits(account)
    deployed.mail_about(BY_HAND)
    mails = deployed.mails_to(*everybody)
    assert {mail.to: about(mail) for mail in mails} == {
        "many@example.com": set(MANY),
        "single@example.com": {SINGLE},
        "pair@example.com": set(PAIR),
    }
    assert len(mails) == 3
    many = deployed.mail_to("many@example.com")
    assert "12 accounts" in many.text
    by_hand = many.text.partition("Rootsweep cannot delete the keys")[2]
    assert [account for account in MANY if account in by_hand] == [BY_HAND]
    # The one to be settled by hand is on the page too, and takes no decision there.
    assert deployed.tickets_on(many.link).keys() == set(MANY) - {BY_HAND}
    assert BY_HAND in deployed.browser.get(many.link).text

    before = deployed.executions()
    again = deployed.sweep(accounts=accounts)
    assert again["cases_opened"] == 0
    assert len(deployed.executions()) == len(before) + 1
    assert deployed.mails_to(*everybody) == mails

    deployed.approve(MANY[0], many.link)
    declined = deployed.form(MANY[1], many.link, "decline")
    assert deployed.browser.post(many.link, data=declined).status_code == 200
    deployed.approve(SINGLE, deployed.mail_to("single@example.com").link)
    deployed.case_when(MANY[0], "REMEDIATED")
    deployed.case_when(MANY[1], "DECLINED")
    deployed.case_when(SINGLE, "REMEDIATED")
    after = deployed.sweep(accounts=accounts)
    states = {account: after["rows"][account]["state"] for account in accounts}
    assert states.pop(MANY[1]) == "EXCEPTED"
    assert (states.pop(MANY[0]), states.pop(SINGLE)) == ("CLEAN", "CLEAN")
    assert set(states.values()) == {"ROOT_KEYS"}
    assert after["cases_opened"] == 0
    assert deployed.mails_to(*everybody) == mails
    assert deployed.tickets_on(many.link).keys() == set(MANY[2:]) - {BY_HAND}


def test_several_accounts_are_decided_together_when_their_number_is_typed(
    deployed: Deployed,
) -> None:
    for account in LISTED:
        deployed.waits(account)
    [mail] = deployed.mails_to("list@example.com")
    tickets = deployed.tickets_on(mail.link)
    assert tickets.keys() == set(LISTED)
    chosen = [tickets[account] for account in LISTED[:3]]
    before = [deployed.case_of(account) for account in LISTED]

    for count in ("4", "", "2", "three"):
        form = {"case": chosen, "decision": "approve", "count": count}
        answer = deployed.browser.post(mail.link, data=form)
        assert answer.status_code == 422, count
        assert "You selected 3." in answer.text
    assert [deployed.case_of(account) for account in LISTED] == before

    form = {"case": chosen, "decision": "approve", "count": "3"}
    answer = deployed.browser.post(mail.link, data=form)

    assert answer.status_code == 200
    assert "deletion of the keys of 3 accounts" in answer.text
    for account in LISTED[:3]:
        case = deployed.case_when(account, "REMEDIATED")
        assert case["decision"]["by"] == "list@example.com"
        assert deployed.keys_of(account) == set()
    assert deployed.case_of(LISTED[3]) == before[3]
    assert len(deployed.keys_of(LISTED[3])) == 1
    # The page is about the one that is left, and the old form does nothing more.
    assert deployed.tickets_on(mail.link).keys() == {LISTED[3]}
    assert deployed.browser.post(mail.link, data=form).status_code == 409


@pytest.mark.usefixtures("unthrottled")
def test_machines_that_open_every_link_change_nothing(deployed: Deployed) -> None:
    accounts = [SCANNED, *SCANNED_LIST]
    cases = {account: deployed.waits(account) for account in accounts}
    single = deployed.mail_to("scanned@example.com").link
    several = deployed.mail_to("scanned-list@example.com").link
    urls = {
        single: ["", f"?case={cases[SCANNED]['case_id']}"],
        several: ["", "?after=4", *(f"?case={cases[one]['case_id']}" for one in SCANNED_LIST)],
    }
    requests = [
        {"method": method, "url": link + query, "headers": {"User-Agent": scanner}}
        for link, queries in urls.items()
        for method in ("GET", "HEAD", "OPTIONS")
        for query, scanner in islice(zip(cycle(queries), cycle(SCANNERS), strict=False), 200)
    ]
    assert len(requests) == 1200

    def state() -> tuple[Any, ...]:
        items = chain.from_iterable(deployed.items_about(account) for account in accounts)
        arns = [case["execution_arn"] for case in cases.values()]
        histories = [deployed.history(arn) for arn in arns]
        keys = [deployed.keys_of(account) for account in accounts]
        return list(items), histories, keys, len(deployed.executions()), len(deployed.mails())

    before = state()

    with httpx.Client(timeout=60) as machine, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda request: machine.request(**request), requests))

    codes = Counter((answer.request.method, answer.status_code) for answer in answers)
    assert codes == {("GET", 200): 400, ("HEAD", 200): 400, ("OPTIONS", 204): 400}
    assert state() == before
    # And a person still finds what they were asked.
    assert deployed.approve(SCANNED, single).status_code == 200
    deployed.case_when(SCANNED, "REMEDIATED")


@pytest.mark.usefixtures("unthrottled", "recorded")
@pytest.mark.parametrize("account", RACED)
def test_of_fifty_decisions_at_once_one_counts(deployed: Deployed, account: str) -> None:
    token = deployed.waits(account)["task_token"]
    link = deployed.mail_about(account).link
    forms = [deployed.form(account, link, decision) for decision in ("approve", "decline")]
    if account == RACED[1]:
        forms.reverse()
    posts = [{"method": "POST", "url": link, "data": form} for form in islice(cycle(forms), 50)]

    with httpx.Client(timeout=60, limits=httpx.Limits(max_connections=50)) as browser:
        answers = at_once(browser, posts)

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 49}
    [winner] = [
        post["data"]["decision"]
        for post, answer in zip(posts, answers, strict=True)
        if answer.status_code == 200
    ]
    approved = winner == "approve"
    case = deployed.case_when(account, "REMEDIATED" if approved else "DECLINED")
    deployed.ended(case["execution_arn"])
    assert case["decision"]["answer"] == ("APPROVED" if approved else "DECLINED")
    assert len(case.get("approvals", [])) == approved
    assert "past_decisions" not in case
    assert len(case.get("deleted_keys", [])) == approved
    assert len(deployed.keys_of(account)) == (not approved)
    sent = calls(deployed.stack.client("cloudtrail"), "SendTaskSuccess")
    assert [call["output"] for call in sent if call["taskToken"] == token] == ["{}"]
    # The embedded CloudTrail knows operations of IAM by their parameters only.
    in_the_account = calls(deployed.as_root(account, "cloudtrail"), "POST.iam")
    assert in_the_account
    deletions = [call for call in in_the_account if call["Action"] == "DeleteAccessKey"]
    assert len(deletions) == approved
    entered = Counter(
        event["stateEnteredEventDetails"]["name"]
        for event in deployed.history(case["execution_arn"])
        if event["type"].endswith("StateEntered")
    )
    assert entered["Request approval"] == entered["Read decision"] == 1
    assert entered["Delete root keys"] == approved


def test_a_key_that_is_in_use_is_deleted_when_two_people_have_approved(deployed: Deployed) -> None:
    case = deployed.waits(TWO_PEOPLE)
    mails = deployed.mails_about(TWO_PEOPLE)
    assert sorted(mail.to for mail in mails) == ["first@example.com", "second@example.com"]
    assert mails[0].link != mails[1].link
    for mail in mails:
        assert "2 people have to approve, because a key was used in the last 90 days" in mail.text
    one, other = mails

    answer = deployed.approve(TWO_PEOPLE, one.link)

    assert answer.status_code == 200
    for page in (answer.text, deployed.browser.get(other.link).text):
        assert f"Approved by {one.to} on" in page
        missing = page.partition("Missing: ")[2].partition("<")[0]
        assert missing.startswith(other.to), page
    # Their own approval is there already, so what they can do is take it back.
    mine = deployed.browser.get(one.link).text
    assert "You have approved; somebody else has to, too" in mine
    assert 'value="approve"' not in mine
    half = deployed.case_of(TWO_PEOPLE)
    assert "decided" not in half
    assert "decision" not in half
    assert half["task_token"] == case["task_token"]
    again = deployed.form(TWO_PEOPLE, one.link)
    assert deployed.browser.post(one.link, data=again).status_code == 200
    assert deployed.case_of(TWO_PEOPLE) == half
    assert len(deployed.keys_of(TWO_PEOPLE)) == 1
    last = deployed.history(case["execution_arn"])[-1]
    assert not last["type"].endswith(("StateExited", "Succeeded"))

    answer = deployed.approve(TWO_PEOPLE, other.link)

    for who in (one.to, other.to):
        assert f"<strong>{who}</strong>" in answer.text
    case = deployed.case_when(TWO_PEOPLE, "REMEDIATED")
    assert deployed.keys_of(TWO_PEOPLE) == set()
    assert [approval["by"] for approval in case["approvals"]] == [one.to, other.to]
    output = json.loads(deployed.ended(case["execution_arn"])["output"])
    assert output["decided_by"] == f"{one.to}, {other.to}"
    assert len(deployed.mails_about(TWO_PEOPLE)) == 2


def test_a_revoked_or_expired_link_says_so_and_decides_nothing(deployed: Deployed) -> None:
    accounts = [REVOKED, EXPIRED]
    for account in accounts:
        deployed.waits(account)
    links = {account: deployed.mail_about(account).link for account in accounts}
    forms = {account: deployed.form(account, links[account]) for account in accounts}
    now = datetime.now(UTC)
    deployed.table.update_item(
        Key={"pk": f"APPROVER#{deployed.mail_about(REVOKED).to}", "sk": "APPROVER"},
        UpdateExpression="SET links_valid_from = :now",
        ExpressionAttributeValues={":now": f"{now:%Y-%m-%dT%H:%M:%SZ}"},
    )
    secret = links[EXPIRED].rpartition("/")[2]
    deployed.table.update_item(
        Key={"pk": f"LINK#{hashlib.sha256(secret.encode()).hexdigest()}", "sk": "LINK"},
        UpdateExpression="SET expires_at = :past",
        ConditionExpression="attribute_exists(pk)",
        ExpressionAttributeValues={":past": f"{now - timedelta(seconds=2):%Y-%m-%dT%H:%M:%SZ}"},
    )
    before = [deployed.items_about(account) for account in accounts]

    for account, link in links.items():
        case_id = forms[account]["case"].partition(".")[0]
        for query in ("", f"?case={case_id}"):
            page = deployed.browser.get(link + query)
            assert page.status_code == 410
            assert (
                f"This link has {'been revoked' if account == REVOKED else 'expired'}" in page.text
            )
            assert account not in page.text
            assert deployed.browser.head(link + query).status_code == 410
        assert deployed.browser.post(link, data=forms[account]).status_code == 410
        several = forms[account] | {"count": "1"}
        assert deployed.browser.post(link, data=several).status_code == 410

    assert [deployed.items_about(account) for account in accounts] == before
    for account in accounts:
        assert len(deployed.keys_of(account)) == 1
