"""What API Gateway does for REST APIs and MiniStack does not.

Each function below replaces one function of MiniStack's and names the AWS page it follows (API
Gateway Developer Guide, unless it says otherwise). Most prepare the arguments and call the
original.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import re
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ministack.core import iam_evaluator
from ministack.services import apigateway_v1 as apigw
from ministack.services import cloudwatch_logs, iam, waf
from ministack.services.cloudformation import changesets, engine, handlers, provisioners, stacks

from local.pretend import MINISTACK

if version("ministack") != MINISTACK:
    raise ImportError(f"local/api_gateway.py fits ministack {MINISTACK}")

if TYPE_CHECKING:
    from collections.abc import Mapping

Answer = tuple[int, dict[str, str], bytes]
sam: Any = import_module("samtranslator.translator.transform")

_original_import_rest_api = apigw._import_rest_api
_original_invoke_lambda_proxy = apigw._invoke_lambda_proxy_v1
_original_lambda_proxy_response = apigw._lambda_proxy_response
_original_build_lambda_event = apigw._build_lambda_event_v1
_original_update_stage = apigw._update_stage
_original_stage_create = provisioners._apigw_stage_create
_original_stage_update = provisioners._apigw_stage_update
_original_apply_transforms = engine._apply_transforms
_original_extract_deps = engine._extract_deps
_original_sam_transform = sam.transform

MAX_PAYLOAD_BYTES = 10 * 1024 * 1024  # "Quotas for configuring and running a REST API"
VARIABLE = re.compile(r"\$context\.(\w+(?:\.\w+)*)")

# What is known about the call that is being answered, by the names of the $context variables.
_call: ContextVar[dict[str, Any]] = ContextVar("api_gateway_call")
_sam_parameters: ContextVar[dict[str, Any] | None] = ContextVar("sam_parameters", default=None)


def install() -> None:
    apigw._handle_execute_in_scope = handle_execute_in_scope
    apigw._invoke_lambda_proxy_v1 = invoke_lambda_proxy
    apigw._lambda_proxy_response = lambda_proxy_response
    apigw._build_lambda_event_v1 = build_lambda_event
    apigw._import_rest_api = import_rest_api
    apigw._update_stage = update_stage
    provisioners._RESOURCE_HANDLERS["AWS::ApiGateway::Stage"] |= {
        "create": stage_create,
        "update": stage_update,
    }
    provisioners._RESOURCE_HANDLERS["AWS::WAFv2::WebACLAssociation"] = {
        "create": associate_web_acl,
        "update": lambda _id, _old, new, stack: associate_web_acl("", new, stack),
        "delete": disassociate_web_acl,
    }
    for module in (engine, changesets, handlers):
        module._apply_transforms = apply_transforms
    sam.transform = sam_transform
    for module in (engine, stacks):
        module._extract_deps = extract_deps


# -- answering a request --------------------------------------------------------------------------


async def handle_execute_in_scope(
    api_id: str,
    stage_name: str,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    query_params: dict[str, Any],
    account: str,
    region: str,
) -> Answer:
    """One request: AWS WAF and the size of the payload first, an access log line last.

    Sources: "Use AWS WAF to protect your REST APIs" (it comes before every other access control),
    "Gateway response types for API Gateway", "Access logging for REST APIs" (the request ids).
    """
    started = time.time()
    stage = apigw._stages_v1.get(api_id, {}).get(stage_name)
    call = {
        "accountId": account,
        "apiId": api_id,
        "domainName": headers.get("host", "").partition(":")[0],
        "extendedRequestId": base64.b64encode(os.urandom(11)).decode(),
        "httpMethod": method,
        "identity.sourceIp": iam_evaluator._request_origin.get()[0],
        "identity.userAgent": headers.get("user-agent"),
        "path": f"/{stage_name}{path}",
        "protocol": "HTTP/1.1",
        "requestId": _request_id(headers.get("x-amzn-requestid")),
        "requestTime": datetime.fromtimestamp(started, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": int(started * 1000),
        "stage": stage_name,
    }
    request = {
        "api_id": api_id,
        "stage_name": stage_name,
        "stage": stage,
        "headers": headers,
        "query_params": query_params or {},
        "path_params": {},
        "resource_path": "",
        "request_id": call["requestId"],
    }
    token = _call.set(call)
    try:
        answer = _refusal(f"arn:aws:apigateway:{region}::/restapis/{api_id}/stages/{stage_name}")
        if answer is None and len(body or b"") > MAX_PAYLOAD_BYTES:
            answer = apigw._gw_error("REQUEST_TOO_LARGE", "Request Too Long")
        if answer is None or stage is None:
            answer = await apigw._execute_in_scope(
                request, api_id, stage_name, method, path, headers, body, query_params,
                account, region,
            )  # fmt: skip
    finally:
        _call.reset(token)
    if call.pop("functionFailed", False):
        answer = apigw._gw_error("DEFAULT_5XX", "Internal server error")
    if isinstance(answer, apigw._GatewayError):
        call["error.message"] = answer.message
        call["error.messageString"] = json.dumps(answer.message)
        call["error.responseType"] = answer.response_type
        answer = apigw._gateway_error_response(answer, request)
        if "integrationStatus" in call and answer[0] == 500:
            answer = (502, *answer[1:])
    status, response_headers, content = answer
    response_headers["x-amzn-requestid"] = str(call["requestId"])
    response_headers["x-amz-apigw-id"] = str(call["extendedRequestId"])
    if stage is not None:
        call["resourcePath"] = request["resource_path"]
        call["status"] = status
        call["responseLength"] = len(content)
        call["responseLatency"] = int((time.time() - started) * 1000)
        write_access_log(stage.get("accessLogSettings") or {}, call)
    return status, response_headers, content


def _request_id(given: str | None) -> str:
    """The client may choose the request id, but only a UUID ("Access logging for REST APIs")."""
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return f"{uuid.uuid4()}_REPLACED_INVALID_REQUEST_ID"


def _refusal(stage_arn: str) -> Any:
    """A web ACL without rules does its default action. Rules are not evaluated.

    Source: AWS WAF Developer Guide, "Setting the protection pack (web ACL) default action".
    """
    associated = waf._associations.get(stage_arn)
    acl = waf._resolve_local_web_acl(associated)[0] if associated else None
    if acl is None:
        return None
    blocked = "Block" in acl["DefaultAction"] and not acl["Rules"]
    _call.get()["wafResponseCode"] = "WAF_BLOCK" if blocked else "WAF_ALLOW"
    return apigw._gw_error("WAF_FILTERED", "Forbidden") if blocked else None


async def invoke_lambda_proxy(*arguments: Any, **more: Any) -> Any:
    """Remember how the integration did ("Variables for access logging for API Gateway")."""
    call, started = _call.get(), time.monotonic()
    answer = await _original_invoke_lambda_proxy(*arguments, **more)
    latency = int((time.monotonic() - started) * 1000)
    call["integrationLatency"] = call["integration.latency"] = latency
    if isinstance(answer, tuple):
        call["integrationStatus"] = call["integration.integrationStatus"] = 200  # Lambda's own
        call["integration.status"] = answer[0]
    return answer


def lambda_proxy_response(result: dict[str, Any]) -> Any:
    """A function that fails is 502 through DEFAULT_5XX, and its words stay inside.

    Source: "Handle Lambda errors in API Gateway", and the type DEFAULT_5XX.
    """
    response, error = _original_lambda_proxy_response(result)
    if error:
        _call.get()["functionFailed"] = True
    return response, error


def build_lambda_event(*arguments: Any, **more: Any) -> dict[str, Any]:
    """The function sees the request id of the access log.

    Source: "Variables for data transformations for API Gateway", $context.requestId.
    """
    event: dict[str, Any] = _original_build_lambda_event(*arguments, **more)
    event["requestContext"]["requestId"] = _call.get()["requestId"]
    event["requestContext"]["extendedRequestId"] = _call.get()["extendedRequestId"]
    return event


# -- access logs ----------------------------------------------------------------------------------


def write_access_log(settings: Mapping[str, str], call: Mapping[str, Any]) -> None:
    """One line for each request, with the role of the account, if it may.

    Sources: "Set up CloudWatch logging for REST APIs in API Gateway", "Variables for access logging
    for API Gateway". A variable without a value is a hyphen.
    """
    arn = settings.get("destinationArn", "").removesuffix(":*")
    group = arn.partition(":log-group:")[2]
    stream = hashlib.sha256(f"{call['apiId']}/{call['stage']}".encode()).hexdigest()[:32]
    if not group or not _may_log(f"{arn}:log-stream:{stream}"):
        return

    def value(match: re.Match[str]) -> str:
        found = call.get(match[1])
        return "-" if found in (None, "") else str(found)

    line = VARIABLE.sub(value, settings.get("format", ""))
    where = {"logGroupName": group, "logStreamName": stream}
    cloudwatch_logs._create_log_stream(where)
    event = {"timestamp": int(time.time() * 1000), "message": line}
    cloudwatch_logs._put_log_events({**where, "logEvents": [event]})


def _may_log(stream_arn: str) -> bool:
    """Whether the role of the account trusts API Gateway and may write there."""
    region, account = stream_arn.split(":")[3:5]
    name = _log_role().rpartition("/")[2]
    role = iam._roles.get_scoped(account, None, name)
    if role is None:
        return False
    trust = role["AssumeRolePolicyDocument"]
    statements = (json.loads(trust) if isinstance(trust, str) else trust)["Statement"]
    if not any(
        statement["Effect"] == "Allow"
        and iam_evaluator._service_principal_matches(
            statement["Principal"], "apigateway.amazonaws.com"
        )
        for statement in statements
    ):
        return False
    policies = iam_evaluator._gather_role_policies(name, account)
    return all(
        iam_evaluator.evaluate(
            iam_evaluator.EvalContext(role["Arn"], "Role", account, action, stream_arn, region),
            policies,
        ).decision
        == "Allow"
        for action in ("logs:CreateLogStream", "logs:PutLogEvents")
    )


def _log_role() -> str:
    return str((apigw._account_settings.get("settings") or {}).get("cloudwatchRoleArn") or "")


def _complaint(settings: Mapping[str, str]) -> str | None:
    """What is wrong with the access log settings of a stage.

    Source: "Set up CloudWatch logging for REST APIs in API Gateway": the account needs a role, and
    the format is one line with a request id.
    """
    if not settings.get("destinationArn"):
        return None
    if not _log_role():
        return "CloudWatch Logs role ARN must be set in account settings to enable logging"
    text = settings.get("format", "")
    if not {"requestId", "extendedRequestId"} & set(VARIABLE.findall(text)):
        return "Access Log format must include $context.requestId or $context.extendedRequestId"
    return "Access Log format must be a single line" if "\n" in text.rstrip("\n") else None


def update_stage(api_id: str, stage_name: str, data: dict[str, Any]) -> Answer:
    """UpdateStage refuses access logs that cannot be written (see `_complaint`)."""
    stage = copy.deepcopy(apigw._stages_v1.get(api_id, {}).get(stage_name) or {})
    apigw._apply_stage_patch(stage, copy.deepcopy(data.get("patchOperations", [])))
    complaint = _complaint(stage.get("accessLogSettings") or {})
    answer: Answer = (
        apigw._v1_error("BadRequestException", complaint, 400)
        if complaint
        else _original_update_stage(api_id, stage_name, data)
    )
    return answer


def stage_create(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
    """AccessLogSetting of a stage (CloudFormation, AWS::ApiGateway::Stage)."""
    settings = _access_log_settings(properties)
    made = _original_stage_create(logical_id, properties, stack_name)
    apigw._stages_v1[properties["RestApiId"]][properties["StageName"]]["accessLogSettings"] = (
        settings
    )
    return made


def stage_update(
    physical_id: str, old: dict[str, Any], new: dict[str, Any], stack_name: str
) -> Any:
    """As `stage_create`."""
    settings = _access_log_settings(new)
    made = _original_stage_update(physical_id, old, new, stack_name)
    apigw._stages_v1[new["RestApiId"]][new["StageName"]]["accessLogSettings"] = settings
    return made


def _access_log_settings(properties: dict[str, Any]) -> dict[str, str]:
    given = properties.get("AccessLogSetting") or {}
    settings = {name[0].lower() + name[1:]: str(value) for name, value in given.items()}
    complaint = _complaint(settings)
    if complaint:
        raise ValueError(complaint)
    return settings


# -- deploying ------------------------------------------------------------------------------------


def import_rest_api(spec: dict[str, Any], base_data: dict[str, Any] | None = None) -> str:
    """An OpenAPI body can hold the resource policy and the gateway responses.

    Sources: "x-amazon-apigateway-policy", "x-amazon-apigateway-gateway-responses object".
    """
    data = dict(base_data or {})
    data["policy"] = data.get("policy") or spec.get("x-amazon-apigateway-policy")
    api_id = str(_original_import_rest_api(spec, data))
    for type, response in (spec.get("x-amazon-apigateway-gateway-responses") or {}).items():
        status, _, body = apigw._put_gateway_response(api_id, type, response)
        if status >= 400:
            raise ValueError(json.loads(body)["message"])
    return api_id


def associate_web_acl(_logical_id: str, properties: dict[str, Any], _stack_name: str) -> Any:
    """CloudFormation, AWS::WAFv2::WebACLAssociation."""
    resource, acl = properties["ResourceArn"], properties["WebACLArn"]
    status, _, body = waf._associate_web_acl({"ResourceArn": resource, "WebACLArn": acl})
    if status >= 400:
        raise ValueError(json.loads(body)["__type"])
    return f"{resource}|{acl}", {}


def disassociate_web_acl(_physical_id: str, properties: dict[str, Any]) -> None:
    waf._disassociate_web_acl({"ResourceArn": properties["ResourceArn"]})


def apply_transforms(
    template: dict[str, Any], provided_params: Any = None, previous_params: Any = None
) -> Any:
    """The SAM transform sees the parameters of the operation, not only their defaults.

    Source: CloudFormation User Guide, "CloudFormation macros", templateParameterValues.
    """
    values = engine._transform_parameters(template, provided_params, previous_params)
    token = _sam_parameters.set(values)
    try:
        return _original_apply_transforms(template, provided_params, previous_params)
    finally:
        _sam_parameters.reset(token)


def sam_transform(template: dict[str, Any], parameters: dict[str, Any], *more: Any) -> Any:
    """See `apply_transforms`."""
    return _original_sam_transform(template, {**(_sam_parameters.get() or {}), **parameters}, *more)


def extract_deps(resource: dict[str, Any], names: set[str]) -> set[str]:
    """References in a resource's Metadata count as dependencies.

    Source: CloudFormation User Guide, "Metadata attribute" (it takes intrinsic functions, which are
    resolved with those of the properties).
    """
    metadata = {"Properties": resource.get("Metadata", {})}
    return {*_original_extract_deps(metadata, names), *_original_extract_deps(resource, names)}
