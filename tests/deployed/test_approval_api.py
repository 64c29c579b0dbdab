"""The approval API: what it logs, whom it lets in, and what it answers without the function."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from local import stack

from .conftest import MANAGEMENT_ACCOUNT, SECURITY_ACCOUNT, embedded_aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Deployed

LOG_GROUP = f"/aws/apigateway/{stack.STACK_NAME}/approval_api"
STRICT = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
}


def log_lines(deployed: stack.Stack) -> dict[str, dict[str, Any]]:
    """The access log, by request id."""
    pages = deployed.client("logs").get_paginator("filter_log_events")
    events = [event for page in pages.paginate(logGroupName=LOG_GROUP) for event in page["events"]]
    lines = [json.loads(event["message"]) for event in events]
    by_id = {line["requestId"]: line for line in lines}
    assert len(by_id) == len(lines)
    return by_id


def line_of(response: httpx.Response, deployed: stack.Stack) -> dict[str, Any]:
    return log_lines(deployed)[response.headers["x-amzn-requestid"]]


def assert_notice(response: httpx.Response, status: int, title: str) -> None:
    """It is the plain page of API Gateway itself, with the strict headers."""
    assert response.status_code == status, response.text
    assert {name: response.headers.get(name) for name in STRICT} == STRICT
    if response.request.method != "HEAD":
        assert f"<title>{title} - Rootsweep</title>" in response.text
        assert f"<h1>{title}</h1>" in response.text
        assert '<html lang="en">' in response.text
        for word in ("$", "{", "execute-api", "Token", "Exception", "arn:"):
            assert word not in response.text, word


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_a_request_leaves_one_line_in_the_access_log_without_the_link(
    deployed: Deployed, method: str
) -> None:
    link = f"link{uuid.uuid4().hex}"
    url = f"{deployed.stack.outputs['ApprovalUrl']}/{link}"

    response = deployed.browser.request(
        method, f"{url}?query={link}", headers={"Referer": url, "User-Agent": link}
    )

    line = line_of(response, deployed.stack)
    assert line["httpMethod"] == method
    assert line["status"] == str(response.status_code)
    assert line["sourceIp"] == "127.0.0.1"
    assert line["integrationStatus"] == "200"
    assert line["integrationLatency"].isdigit()
    assert line["errorType"] == "-"
    assert line["extendedRequestId"] == response.headers["x-amz-apigw-id"]
    assert link not in json.dumps(log_lines(deployed.stack))


def test_a_client_cannot_put_the_link_into_the_access_log_as_request_id(
    deployed: Deployed,
) -> None:
    link = f"link{uuid.uuid4().hex}"
    url = f"{deployed.stack.outputs['ApprovalUrl']}/{link}"

    response = deployed.browser.get(url, headers={"x-amzn-requestid": link})

    line = line_of(response, deployed.stack)
    assert line["requestId"].endswith("_REPLACED_INVALID_REQUEST_ID")
    assert link not in json.dumps(log_lines(deployed.stack))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/one/two"),
        ("POST", "/one/two"),
        ("PUT", "/one"),
        ("PATCH", "/one"),
        ("DELETE", "/one"),
    ],
)
def test_an_unknown_path_or_method_is_a_plain_page(
    deployed: Deployed, method: str, path: str
) -> None:
    mark = uuid.uuid4().hex
    url = f"{deployed.stack.outputs['ApprovalUrl']}{path}?{mark}"

    response = deployed.browser.request(method, url)

    assert_notice(response, 404, "There is nothing here")
    line = line_of(response, deployed.stack)
    assert line["errorType"] == "MISSING_AUTHENTICATION_TOKEN"
    assert "/one" not in json.dumps(line)
    assert mark not in json.dumps(line)


def test_options_reaches_the_function(deployed: Deployed) -> None:
    response = deployed.browser.options(f"{deployed.stack.outputs['ApprovalUrl']}/unknown")

    assert response.status_code < 500
    assert line_of(response, deployed.stack)["integrationStatus"] == "200"


def test_too_many_requests_are_told_to_come_back(deployed: Deployed) -> None:
    url = f"{deployed.stack.outputs['ApprovalUrl']}/unknown"

    with ThreadPoolExecutor(100) as pool, httpx.Client(timeout=60) as browser:
        responses = list(pool.map(browser.options, [url] * 100))

    refused = [response for response in responses if response.status_code == 429]
    assert 0 < len(refused) <= 50
    assert_notice(refused[0], 429, "Please try again in a minute")
    assert refused[0].headers["retry-after"] == "60"
    assert line_of(refused[0], deployed.stack)["errorType"] == "THROTTLED"


@pytest.fixture(scope="module")
def web_acl() -> dict[str, Any]:
    return {
        "Name": "page",
        "Scope": "REGIONAL",
        "VisibilityConfig": {
            "SampledRequestsEnabled": False,
            "CloudWatchMetricsEnabled": False,
            "MetricName": "page",
        },
    }


@pytest.fixture(scope="module")
def restricted(
    tmp_path_factory: pytest.TempPathFactory, web_acl: dict[str, Any]
) -> Iterator[stack.Stack]:
    """A stack of its own, for a network that the tests are not in, behind AWS WAF."""
    organization = {"management_account": MANAGEMENT_ACCOUNT, "security_account": SECURITY_ACCOUNT}
    with embedded_aws(tmp_path_factory, organization) as (aws, pretended):
        before = stack.Stack(aws.endpoint, stack.REGION, SECURITY_ACCOUNT, "", {})
        made = before.client("wafv2").create_web_acl(**web_acl, DefaultAction={"Allow": {}})
        parameters = {
            "ApprovalSourceNetworks": "10.0.0.0/8,2001:db8::/32",
            "WebAclArn": made["Summary"]["ARN"],
        }
        yield stack.deploy(aws, pretended, parameters)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_the_page_is_closed_to_other_networks(restricted: stack.Stack, method: str) -> None:
    link = f"link{uuid.uuid4().hex}"

    response = httpx.request(method, f"{restricted.outputs['ApprovalUrl']}/{link}")

    assert_notice(response, 403, "This cannot be opened from here")
    line = line_of(response, restricted)
    assert line["errorType"] == "ACCESS_DENIED"
    assert line["wafResponseCode"] == "WAF_ALLOW"
    assert line["integrationStatus"] == "-"
    assert link not in json.dumps(log_lines(restricted))


def test_the_web_acl_stands_in_front(restricted: stack.Stack, web_acl: dict[str, Any]) -> None:
    wafv2 = restricted.client("wafv2")
    [acl] = wafv2.list_web_acls(Scope="REGIONAL")["WebACLs"]
    api = restricted.outputs["ApprovalApiId"]
    assert wafv2.list_resources_for_web_acl(WebACLArn=acl["ARN"])["ResourceArns"] == [
        f"arn:aws:apigateway:{restricted.region}::/restapis/{api}/stages/v1"
    ]
    wafv2.update_web_acl(
        **web_acl, Id=acl["Id"], LockToken=acl["LockToken"], DefaultAction={"Block": {}}
    )

    response = httpx.get(f"{restricted.outputs['ApprovalUrl']}/unknown")

    assert_notice(response, 403, "This cannot be opened from here")
    assert line_of(response, restricted)["errorType"] == "WAF_FILTERED"


def test_the_log_role_of_the_account_outlives_the_stack(restricted: stack.Stack) -> None:
    restricted.client("cloudformation").delete_stack(StackName=stack.STACK_NAME)
    restricted.client("cloudformation").get_waiter("stack_delete_complete").wait(
        StackName=stack.STACK_NAME, WaiterConfig={"Delay": 1}
    )

    role = restricted.client("apigateway").get_account()["cloudwatchRoleArn"]
    assert (
        restricted.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]["Arn"] == role
    )
