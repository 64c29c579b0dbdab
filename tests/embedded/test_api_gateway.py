"""API Gateway as AWS documents it, where MiniStack alone answers differently.

Each test names its source in the API Gateway Developer Guide, unless it says otherwise.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGION, SECURITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    from .conftest import Aws

ELSEWHERE = "444444440001"  # An account whose API Gateway settings nobody here changes.
FORMAT = (
    '{"id":"$context.requestId","path":"$context.path","resource":"$context.resourcePath",'
    '"status":"$context.status","length":"$context.responseLength","ip":"$context.identity.sourceIp",'
    '"function":"$context.integration.status","lambda":"$context.integrationStatus",'
    '"error":"$context.error.responseType","words":$context.error.messageString,'
    '"waf":"$context.wafResponseCode","caller":"$context.identity.caller"}'
)
WORDS = "the account 333333333333 is in trouble"
FUNCTION = f"""
def handler(event, context):
    if event["queryStringParameters"]:
        raise ValueError("{WORDS}")
    return {{"statusCode": 201, "body": event["requestContext"]["requestId"]}}
"""


def allow(*actions: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def template(function: str, **body: Any) -> dict[str, Any]:
    """An API with access logs; its log group waits for the account by Metadata alone."""
    path = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations"
    integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": path}
    trust = allow("sts:AssumeRole")
    del trust["Statement"][0]["Resource"]
    trust["Statement"][0]["Principal"] = {"Service": "apigateway.amazonaws.com"}
    policy = {
        "PolicyName": "log",
        "PolicyDocument": allow("logs:CreateLogStream", "logs:PutLogEvents"),
    }
    resources = {
        "Stage": {
            "Type": "AWS::ApiGateway::Stage",
            "Properties": {
                "RestApiId": {"Ref": "Api"},
                "DeploymentId": {"Ref": "Deployment"},
                "StageName": "v1",
                "AccessLogSetting": {
                    "DestinationArn": {"Fn::GetAtt": ["Log", "Arn"]},
                    "Format": FORMAT,
                },
            },
        },
        "Deployment": {
            "Type": "AWS::ApiGateway::Deployment",
            "Properties": {"RestApiId": {"Ref": "Api"}},
        },
        "Api": {
            "Type": "AWS::ApiGateway::RestApi",
            "Properties": {
                "Body": {
                    "openapi": "3.0.1",
                    "info": {"title": "tested", "version": "1"},
                    "paths": {
                        "/{link}": {
                            method: {"x-amazon-apigateway-integration": integration}
                            for method in ("get", "post")
                        }
                    },
                    **body,
                }
            },
        },
        "Log": {"Type": "AWS::Logs::LogGroup", "Metadata": {"After": {"Ref": "Account"}}},
        "Account": {
            "Type": "AWS::ApiGateway::Account",
            "Properties": {"CloudWatchRoleArn": {"Fn::GetAtt": ["Role", "Arn"]}},
        },
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {"AssumeRolePolicyDocument": trust, "Policies": [policy]},
        },
    }
    outputs = {"Api": {"Ref": "Api"}, "Log": {"Ref": "Log"}, "Role": {"Ref": "Role"}}
    return {
        "Resources": resources,
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }


class Api:
    """A deployed API, and what its access log says."""

    def __init__(self, aws: Aws, outputs: dict[str, str]) -> None:
        self.aws = aws
        self.id, self.log, self.role = outputs["Api"], outputs["Log"], outputs["Role"]

    def call(
        self, path: str = "/a-link", *, body: bytes | None = None, **headers: str
    ) -> tuple[int, str, Message]:
        url = f"{self.aws.endpoint}/_aws/execute-api/{self.id}/v1{path}"
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers

    def lines(self) -> list[dict[str, Any]]:
        events = self.aws.client("logs").filter_log_events(logGroupName=self.log)["events"]
        return [
            json.loads(event["message"].replace('"words":-', '"words":null')) for event in events
        ]


@pytest.fixture(scope="module")
def deploy(aws: Aws) -> Iterator[Callable[[dict[str, Any]], dict[str, str]]]:
    """Deploys templates; the stacks are gone at the end."""
    cloudformation = aws.client("cloudformation")
    names = []

    def run(content: dict[str, Any], **parameters: str) -> dict[str, str]:
        names.append(f"api-{uuid.uuid4().hex[:8]}")
        cloudformation.create_stack(
            StackName=names[-1],
            TemplateBody=json.dumps(content),
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in parameters.items()
            ],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=names[-1], WaiterConfig={"Delay": 1}
        )
        [described] = cloudformation.describe_stacks(StackName=names[-1])["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    yield run
    for name in reversed(names):
        cloudformation.delete_stack(StackName=name)


@pytest.fixture(scope="module")
def function(aws: Aws) -> str:
    return aws.function("behind-an-api", FUNCTION)


@pytest.fixture(scope="module")
def api(aws: Aws, deploy: Callable[..., dict[str, str]], function: str) -> Api:
    responses = {
        "DEFAULT_5XX": {"responseTemplates": {"application/json": "<p>later</p>"}},
        "MISSING_AUTHENTICATION_TOKEN": {
            "statusCode": "404",
            "responseParameters": {"gatewayresponse.header.Content-Type": "'text/html'"},
            "responseTemplates": {"application/json": "<p>nothing</p>"},
        },
    }
    body = {"x-amazon-apigateway-gateway-responses": responses}
    return Api(aws, deploy(template(function, **body)))


def test_a_request_leaves_a_line_in_the_form_of_the_stage(api: Api) -> None:
    """Variables for access logging for API Gateway; a variable without a value is a hyphen."""
    status, body, headers = api.call("/a-link")

    line = api.lines()[-1]
    assert status == 201
    # The function, the client and the log have one request id.
    assert line["id"] == headers["x-amzn-requestid"] == body
    assert headers["x-amz-apigw-id"]
    assert line["path"] == "/v1/a-link"
    assert line["resource"] == "/{link}"
    assert (line["status"], line["function"], line["lambda"]) == ("201", "201", "200")
    assert line["length"] == str(len(body))
    assert line["ip"] == "127.0.0.1"
    assert {line[name] for name in ("error", "waf", "caller")} == {"-"}


def test_the_client_may_choose_the_request_id_if_it_is_a_uuid(api: Api) -> None:
    """Access logging for REST APIs, $context.requestId."""
    chosen = str(uuid.uuid4())

    assert api.call(**{"x-amzn-RequestId": chosen})[2]["x-amzn-requestid"] == chosen
    api.call(**{"x-amzn-RequestId": "a-link"})
    assert [line["id"] == chosen for line in api.lines()[-2:]] == [True, False]
    assert api.lines()[-1]["id"].endswith("_REPLACED_INVALID_REQUEST_ID")


def test_gateway_responses_can_come_with_the_body(api: Api) -> None:
    """x-amazon-apigateway-gateway-responses object."""
    status, body, headers = api.call("/no/such/path")

    assert (status, body, headers["Content-Type"]) == (404, "<p>nothing</p>", "text/html")
    line = api.lines()[-1]
    assert line["error"] == "MISSING_AUTHENTICATION_TOKEN"
    assert line["words"] == "Missing Authentication Token"
    assert line["lambda"] == "-"


def test_a_function_that_fails_is_502_and_its_words_stay_inside(api: Api) -> None:
    """Handle Lambda errors in API Gateway."""
    status, body, headers = api.call("/a-link?fail=yes")

    assert (status, body) == (502, "<p>later</p>")
    assert WORDS not in str(headers)
    assert api.lines()[-1]["error"] == "DEFAULT_5XX"
    assert WORDS not in json.dumps(api.lines())


def test_more_than_ten_megabytes_are_too_large(api: Api) -> None:
    """Quotas for configuring and running a REST API, "Payload size"."""
    status, _, _ = api.call(body=b"x" * (10 * 1024 * 1024 + 1))

    assert status == 413
    assert api.lines()[-1]["error"] == "REQUEST_TOO_LARGE"


def test_no_line_is_written_without_the_permission(aws: Aws, api: Api) -> None:
    """Set up CloudWatch logging for REST APIs in API Gateway, "Permissions"."""
    before = api.lines()
    iam = aws.client("iam")
    iam.put_role_policy(
        RoleName=api.role,
        PolicyName="log",
        PolicyDocument=json.dumps(allow("logs:CreateLogStream")),
    )
    try:
        assert api.call()[0] == 201
        assert api.lines() == before
    finally:
        iam.put_role_policy(
            RoleName=api.role,
            PolicyName="log",
            PolicyDocument=json.dumps(allow("logs:CreateLogStream", "logs:PutLogEvents")),
        )


@pytest.mark.parametrize(
    ("text", "role", "message"),
    [
        ("$context.requestId", False, "CloudWatch Logs role ARN must be set in account settings"),
        ("$context.status", True, "must include"),
        ("$context.requestId\n$context.status", True, "single line"),
    ],
)
def test_access_logs_that_cannot_be_written_are_refused(
    aws: Aws, text: str, role: bool, message: str
) -> None:
    """Set up CloudWatch logging for REST APIs in API Gateway."""
    client = aws.client("apigateway", ELSEWHERE)
    if role:
        operation = {
            "op": "replace",
            "path": "/cloudwatchRoleArn",
            "value": f"arn:aws:iam::{ELSEWHERE}:role/logs",
        }
        client.update_account(patchOperations=[operation])
    api_id = client.create_rest_api(name="refused")["id"]
    deployment = client.create_deployment(restApiId=api_id)["id"]
    client.create_stage(restApiId=api_id, stageName="v1", deploymentId=deployment)
    arn = f"arn:aws:logs:{REGION}:{ELSEWHERE}:log-group:access"
    settings = {"destinationArn": arn, "format": text}

    with pytest.raises(ClientError, match=message):
        client.update_stage(
            restApiId=api_id,
            stageName="v1",
            patchOperations=[
                {"op": "replace", "path": f"/accessLogSettings/{name}", "value": value}
                for name, value in settings.items()
            ],
        )

    assert not client.get_stage(restApiId=api_id, stageName="v1").get("accessLogSettings")


def test_a_web_acl_without_rules_does_its_default_action(
    aws: Aws, api: Api, deploy: Callable[..., dict[str, str]]
) -> None:
    """AWS WAF Developer Guide, "Setting the protection pack (web ACL) default action"."""
    visibility = {
        "SampledRequestsEnabled": False,
        "CloudWatchMetricsEnabled": False,
        "MetricName": "api",
    }
    arn = aws.client("wafv2").create_web_acl(
        Name="api", Scope="REGIONAL", DefaultAction={"Block": {}}, VisibilityConfig=visibility
    )["Summary"]["ARN"]
    stage = f"arn:aws:apigateway:{REGION}::/restapis/{api.id}/stages/v1"
    association = {
        "Type": "AWS::WAFv2::WebACLAssociation",
        "Properties": {"ResourceArn": stage, "WebACLArn": arn},
    }
    deploy({"Resources": {"Acl": association}, "Outputs": {"Acl": {"Value": {"Ref": "Acl"}}}})

    assert api.call()[0] == 403
    assert (api.lines()[-1]["error"], api.lines()[-1]["waf"]) == ("WAF_FILTERED", "WAF_BLOCK")

    aws.client("wafv2").disassociate_web_acl(ResourceArn=stage)
    assert api.call()[0] == 201


def test_the_resource_policy_can_come_with_the_body_and_parameters_reach_the_transform(
    aws: Aws, deploy: Callable[..., dict[str, str]], function: str
) -> None:
    """x-amazon-apigateway-policy; CloudFormation User Guide, "CloudFormation macros"."""
    invoke = {"Action": "execute-api:Invoke", "Principal": "*", "Resource": "execute-api:/*"}
    networks = {"NotIpAddress": {"aws:SourceIp": {"Fn::Split": [",", {"Ref": "Networks"}]}}}
    statements = [
        {"Effect": "Allow", **invoke},
        {"Effect": "Deny", **invoke, "Condition": networks},
    ]
    definition = template(function)["Resources"]["Api"]["Properties"]["Body"]
    content = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Parameters": {"Networks": {"Type": "String", "Default": "0.0.0.0/0"}},
        "Resources": {
            "Api": {
                "Type": "AWS::Serverless::Api",
                "Properties": {
                    "StageName": "v1",
                    "DefinitionBody": definition,
                    "Auth": {"ResourcePolicy": {"CustomStatements": statements}},
                },
            }
        },
        "Outputs": {name: {"Value": {"Ref": "Api"}} for name in ("Api", "Log", "Role")},
    }

    assert Api(aws, deploy(content)).call()[0] == 201
    assert Api(aws, deploy(content, Networks="10.0.0.0/8,127.0.0.0/8")).call()[0] == 201
    status, body, _ = Api(aws, deploy(content, Networks="10.0.0.0/8,192.168.0.0/16")).call()
    assert status == 403
    assert "with an explicit deny in a resource-based policy" in body
    assert f"********{SECURITY[-4:]}" in body
