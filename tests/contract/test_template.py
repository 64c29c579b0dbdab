"""The template: least privilege, logs for everything, and of one mind with the code."""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import re
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

import pytest
from samtranslator.translator.transform import transform

from rootsweep.findings import MOST_CASES
from rootsweep.text import EMAIL_ADDRESS

from .calls import calls_of
from .policies import sam_template
from .shipped import (
    CODE_FILES,
    FUNCTIONS,
    HANDLER_FILES,
    REPOSITORY,
    as_list,
    environment_reads,
    functions,
    resources,
    statements,
    template,
)

TASK = re.compile(r"^arn:\$\{AWS::Partition\}:iam::aws:policy/root-task/(\w+)$")
each_function = pytest.mark.parametrize("name", sorted(functions()))
each_template = pytest.mark.parametrize("name", ["template.yaml", "member-role.yaml"])
MEMBER_TEMPLATES = ["member-role.yaml", "member-events.yaml"]
TEMPLATES = ["template.yaml", *MEMBER_TEMPLATES, "root-session-policy.yaml"]


def variables_of(name: str) -> dict[str, Any]:
    variables = functions()[name].get("Environment", {}).get("Variables", {})
    assert "Environment" not in template()["Globals"]["Function"]
    return dict(variables)


def test_every_handler_file_is_a_function_and_the_other_way_round() -> None:
    assert sorted(functions()) == [file.stem for file in HANDLER_FILES]


@each_function
def test_a_handler_imports_with_nothing_but_the_environment_the_template_gives_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in {read for file in CODE_FILES for read in environment_reads(file)}:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables_of(name).items():
        parameter = template()["Parameters"].get(isinstance(value, dict) and value.get("Ref"), {})
        monkeypatch.setenv(variable, str(parameter.get("Default", "text")))
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # As Lambda does.
        monkeypatch.setenv(variable, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    spec = importlib.util.spec_from_file_location(f"contract_{name}", FUNCTIONS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)

    spec.loader.exec_module(module)

    assert callable(module.handler)


@each_function
def test_a_function_reads_the_environment_that_the_template_sets(name: str) -> None:
    assert environment_reads(FUNCTIONS / f"{name}.py") == set(variables_of(name))


def test_the_domain_reads_no_environment() -> None:
    for file in (FUNCTIONS / "rootsweep").glob("*.py"):
        assert environment_reads(file) == set(), file.name
        assert "os.environ" not in file.read_text(), file.name


@each_function
def test_what_a_function_logs_has_the_ids_of_what_it_is_about(name: str) -> None:
    assert "@logs.invocation\ndef handler(" in (FUNCTIONS / f"{name}.py").read_text()


def test_logs_are_json_from_a_level_on_that_shows_no_credentials() -> None:
    logging = template()["Globals"]["Function"]["LoggingConfig"]
    levels = template()["Parameters"]["LogLevel"]["AllowedValues"]

    assert logging == {"ApplicationLogLevel": {"Ref": "LogLevel"}, "LogFormat": "JSON"}
    assert not {"DEBUG", "TRACE"} & {*levels}


@each_function
def test_a_function_has_a_role_and_a_log_group_of_its_own(name: str) -> None:
    properties = functions()[name]
    stem = "".join(word.title() for word in name.split("_"))

    assert properties["Role"] == {"Fn::GetAtt": [f"{stem}Role", "Arn"]}
    assert "Policies" not in properties
    assert properties["LoggingConfig"] == {"LogGroup": {"Ref": f"{stem}LogGroup"}}
    group = resources("AWS::Logs::LogGroup")[f"{stem}LogGroup"]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert group["LogGroupName"]["Fn::Sub"].endswith(f"/{name}")


@each_function
def test_a_function_writes_to_its_own_log_group_only(name: str) -> None:
    stem = "".join(word.title() for word in name.split("_"))
    role = resources("AWS::IAM::Role")[f"{stem}Role"]

    logging = [statement for statement in statements(role) if "logs:" in str(statement["Action"])]
    assert [statement["Resource"] for statement in logging] == [
        {"Fn::GetAtt": [f"{stem}LogGroup", "Arn"]}
    ]


def test_nothing_is_named_so_that_two_stacks_could_not_live_side_by_side() -> None:
    for type, field in (
        ("AWS::Serverless::Function", "FunctionName"),
        ("AWS::DynamoDB::Table", "TableName"),
        ("AWS::S3::Bucket", "BucketName"),
        ("AWS::IAM::Role", "RoleName"),
        ("AWS::SNS::Topic", "TopicName"),
        ("AWS::SQS::Queue", "QueueName"),
    ):
        for id, properties in resources(type).items():
            assert field not in properties, id


def test_no_role_has_a_managed_policy_or_a_wildcard_action() -> None:
    roles = resources("AWS::IAM::Role")

    assert len(roles) >= 18
    for id, role in roles.items():
        assert "ManagedPolicyArns" not in role, id
        for statement in statements(role):
            assert statement["Effect"] == "Allow", id
            assert "NotAction" not in statement, id
            assert "NotResource" not in statement, id
            for action in as_list(statement["Action"]):
                assert "*" not in action, f"{id}: {action}"


@each_template
def test_everything_is_allowed_on_everything_only_where_the_line_says_why(name: str) -> None:
    lines = (REPOSITORY / name).read_text().splitlines()
    wide = [line for line in lines if re.search(r"""\bResource: *\[? *["']\*["']""", line)]

    parsed = [
        statement
        for resource in template(name)["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
        for statement in statements(resource["Properties"])
        if "*" in as_list(statement["Resource"])
    ]
    assert len(wide) == len(parsed) > 0
    assert [line for line in wide if "#" not in line] == []


def root_tasks(role: dict[str, Any]) -> list[str]:
    tasks = []
    for statement in statements(role):
        if "sts:AssumeRoot" in as_list(statement["Action"]):
            assert as_list(statement["Action"]) == ["sts:AssumeRoot"]
            assert list(statement["Condition"]) == ["ArnEquals", "ArnLike"]
            task = TASK.match(statement["Condition"]["ArnEquals"]["sts:TaskPolicyArn"]["Fn::Sub"])
            assert task
            tasks.append(task[1])
    return tasks


def test_only_one_role_may_open_a_session_that_deletes_and_it_may_open_no_other() -> None:
    tasks = {id: root_tasks(role) for id, role in resources("AWS::IAM::Role").items()}
    delete = "IAMDeleteRootUserCredentials"

    assert tasks["DeleteRootKeysRole"] == [delete]
    assert [id for id, allowed in tasks.items() if delete in allowed] == ["DeleteRootKeysRole"]
    assert {task for allowed in tasks.values() for task in allowed} == {
        delete,
        "IAMAuditRootUserCredentials",
    }


def test_only_one_file_opens_a_session_that_deletes() -> None:
    calling = [file.name for file in HANDLER_FILES if "delete_session" in file.read_text()]

    assert calling == ["delete_root_keys.py"]


def test_the_page_can_reach_the_table_and_nothing_else() -> None:
    role = resources("AWS::IAM::Role")["ApprovalPageRole"]
    actions = {action for item in statements(role) for action in as_list(item["Action"])}

    assert actions == {
        "dynamodb:BatchGetItem",
        "dynamodb:GetItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


@each_function
def test_a_function_may_call_what_its_code_calls_and_nothing_else(name: str) -> None:
    stem = "".join(word.title() for word in name.split("_"))
    role = resources("AWS::IAM::Role")[f"{stem}Role"]
    allowed = {
        action
        for statement in statements(role)
        for action in as_list(statement["Action"])
        if not action.startswith("logs:")
    }
    if "EventInvokeConfig" in functions()[name]:
        allowed -= {"sqs:SendMessage"}  # Lambda keeps what it failed at, with the function's role.
    if name in ("deliver_decision", "lift_ended_quarantines", "log_decisions"):
        # Lambda reads the stream, and keeps what could not be delivered, with the function's role.
        allowed -= {
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            "sqs:SendMessage",
        }
    if name in FROM_A_QUEUE:
        allowed -= {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
    calls = [actions for _, actions in calls_of(name)]

    assert calls
    assert [call for call in calls if not call & allowed] == [], "is called and not allowed"
    assert allowed - set().union(*calls) == set(), "is allowed and never called"


def test_the_layout_of_the_table_is_in_one_file() -> None:
    layout = FUNCTIONS / "rootsweep" / "table.py"
    kinds = set(re.findall(r'f?"([A-Z_]+)#', layout.read_text()))

    assert kinds == {
        *("CASE", "ACCOUNT", "APPROVER", "REQUEST", "LINK", "ROOT_SESSION"),
        *("ENTRY", "FACT"),
    }
    for file in set(CODE_FILES) - {layout}:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    assert not text.startswith(tuple(f"{kind}#" for kind in kinds)), file.name
                case ast.Dict(keys=keys):
                    names = {key.value for key in keys if isinstance(key, ast.Constant)}
                    assert names.isdisjoint({"pk", "sk"}), file.name


def test_only_one_role_may_write_the_decision_log_and_none_may_delete_from_it() -> None:
    may = {
        (id, action)
        for id, role in resources("AWS::IAM::Role").items()
        for statement in statements(role)
        if re.search("DecisionLog(Table|Bucket)", json.dumps(statement["Resource"]))
        for action in as_list(statement["Action"])
    }

    assert may == {
        ("LogDecisionsRole", action)
        for action in (
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
            "s3:PutObject",
        )
    }


def test_the_decision_log_is_locked_and_nothing_in_it_expires_or_is_covered() -> None:
    bucket = resources("AWS::S3::Bucket")["DecisionLogBucket"]
    statements = resources("AWS::S3::BucketPolicy")["DecisionLogBucketPolicy"]["PolicyDocument"][
        "Statement"
    ]

    assert bucket["ObjectLockEnabled"] is True
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "LifecycleConfiguration" not in bucket
    assert "TimeToLiveSpecification" not in resources("AWS::DynamoDB::Table")["DecisionLogTable"]
    condition, rule, without = bucket["ObjectLockConfiguration"]["Rule"]["Fn::If"]
    assert (condition, without) == ("LocksDecisionLog", {"Ref": "AWS::NoValue"})
    assert rule["DefaultRetention"]["Mode"] == {"Ref": "DecisionLogLock"}
    denied = {each["Action"]: each.get("Condition") for each in statements}
    assert all((each["Effect"], each["Principal"]) == ("Deny", "*") for each in statements)
    assert denied == {
        "s3:*": {"Bool": {"aws:SecureTransport": "false"}},
        "s3:PutObject": {"Null": {"s3:if-none-match": "true"}},
        "s3:DeleteObject": None,
    }


def test_only_the_delivery_may_end_a_wait() -> None:
    may = [
        id
        for id, role in resources("AWS::IAM::Role").items()
        for statement in statements(role)
        if any(action.startswith("states:SendTask") for action in as_list(statement["Action"]))
    ]

    assert may == ["DeliverDecisionRole"]


def test_executions_log_no_data_for_the_task_token_is_in_it() -> None:
    for id, machine in resources("AWS::Serverless::StateMachine").items():
        assert machine["Logging"]["IncludeExecutionData"] is False, id


def test_the_page_answers_exactly_the_methods_it_knows() -> None:
    events = functions()["approval_page"]["Events"].values()

    assert sorted(event["Properties"]["Method"] for event in events) == [
        "GET",
        "HEAD",
        "OPTIONS",
        "POST",
    ]


def test_the_access_log_holds_nothing_that_can_hold_the_link() -> None:
    api = resources("AWS::Serverless::Api")["ApprovalApi"]
    condition, settings, without = api["AccessLogSetting"]["Fn::If"]

    assert (condition, without) == ("HasApprovalAccessLogs", {"Ref": "AWS::NoValue"})
    line = json.loads(settings["Format"])
    assert {value.removeprefix("$context.") for value in line.values()} == {
        "error.responseType",
        "extendedRequestId",
        "httpMethod",
        "identity.sourceIp",
        "integrationLatency",
        "integrationStatus",
        "requestId",
        "requestTime",
        "responseLatency",
        "responseLength",
        "status",
        "wafResponseCode",
    }
    for setting in api["MethodSettings"]:
        assert (setting["LoggingLevel"], setting["DataTraceEnabled"]) == ("OFF", False)


def test_what_api_gateway_answers_itself_is_a_page_with_strict_headers_and_no_details() -> None:
    answers = resources("AWS::Serverless::Api")["ApprovalApi"]["GatewayResponses"]

    assert {type: answer.get("StatusCode") for type, answer in answers.items()} == {
        "ACCESS_DENIED": 403,
        "DEFAULT_4XX": None,
        "DEFAULT_5XX": None,
        "MISSING_AUTHENTICATION_TOKEN": 404,
        "REQUEST_TOO_LARGE": 413,
        "THROTTLED": 429,
        "WAF_FILTERED": 403,
    }
    strict = answers["DEFAULT_4XX"]["ResponseParameters"]["Headers"]
    policy = "'default-src 'none'; frame-ancestors 'none'; base-uri 'none''"
    assert strict["Content-Security-Policy"] == policy
    assert all(value[0] == value[-1] == "'" for value in strict.values())
    for type, answer in answers.items():
        headers = dict(answer["ResponseParameters"]["Headers"])
        retry = headers.pop("Retry-After", None)
        assert retry == ("'60'" if type == "THROTTLED" else None)
        assert headers == strict, type
        [(media_type, page)] = answer["ResponseTemplates"].items()
        assert media_type == "application/json", type  # The one that is always used.
        html, words = page["Fn::Sub"]
        assert set(words) == {"Title", "Text"}, type
        assert "$context" not in html + "".join(words.values()), type


def test_other_source_networks_deploy_the_api_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed resource policy takes effect with the next deployment only."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    def deployments(networks: str) -> list[str]:
        content = copy.deepcopy(sam_template())
        transformed = transform(
            content, {"ApprovalSourceNetworks": networks}, SimpleNamespace(load=dict)
        )
        return [
            id
            for id, resource in transformed["Resources"].items()
            if resource["Type"] == "AWS::ApiGateway::Deployment"
        ]

    [one], [same], [other] = map(deployments, ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/9"))
    assert one == same != other


def test_what_must_outlive_the_stack_is_retained() -> None:
    # The two of API Gateway may serve other APIs of the account by then.
    api_gateway = ("ApiGatewayAccount", "ApiGatewayLogRole")
    decision_log = ("DecisionLogTable", "DecisionLogBucket")
    for id in ("CasesTable", "ReportBucket", *decision_log, *api_gateway):
        resource = template()["Resources"][id]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_stack_says_what_others_need() -> None:
    outputs = template()["Outputs"]

    assert set(outputs) >= {
        "SweepStateMachineArn",
        "RemediateStateMachineArn",
        "ApprovalUrl",
        "TableName",
        "ReportBucket",
    }
    assert all(output["Description"] for output in outputs.values())


def test_mails_and_outputs_agree_on_where_the_page_is() -> None:
    assert (
        variables_of("request_approval")["APPROVAL_URL"]
        == (template()["Outputs"]["ApprovalUrl"]["Value"])
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_parameter_is_described_and_held_within_limits(name: str) -> None:
    for id, parameter in template(name)["Parameters"].items():
        assert parameter["Description"], id
        pattern = parameter.get("AllowedPattern")
        default = parameter.get("Default")
        assert default is not None or pattern, id
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], id
        elif parameter["Type"] == "Number":
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], id
        else:
            assert parameter["ConstraintDescription"], id
            assert default is None or re.fullmatch(pattern, default), id


def test_every_parameter_is_in_one_group_of_the_console() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    listed = [parameter for group in groups for parameter in group["Parameters"]]

    assert sorted(listed) == sorted(template()["Parameters"])


def test_the_member_role_can_do_one_thing_for_roles_that_exist() -> None:
    [role] = template("member-role.yaml")["Resources"].values()
    [statement] = statements(role["Properties"])
    [trust] = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    assert statement["Action"] == "iam:GetAccountSummary"
    assert "ManagedPolicyArns" not in role["Properties"]
    assert trust["Action"] == "sts:AssumeRole"
    arns = trust["Condition"]["ArnLike"]["aws:PrincipalArn"]
    name = re.compile(r":role\$\{RolePath\}\$\{RootsweepStackName\}-(\w+)-\*$")
    trusted = [name.search(arn["Fn::Sub"])[1] for arn in arns]
    # Who calls it: what has an AUDIT_ROLE_NAME.
    callers = {
        properties["Role"]["Fn::GetAtt"][0]
        for name, properties in functions().items()
        if "AUDIT_ROLE_NAME" in variables_of(name)
    }
    assert set(trusted) == callers
    assert callers <= set(resources("AWS::IAM::Role"))


@pytest.mark.parametrize("name", MEMBER_TEMPLATES)
def test_a_member_template_is_one_that_a_stack_set_takes(name: str) -> None:
    assert "Transform" not in template(name)


def roles_that_open_root_sessions() -> set[str]:
    return {id for id, role in resources("AWS::IAM::Role").items() if root_tasks(role)}


def test_the_policy_of_the_security_account_spares_exactly_the_roles_that_open_root_sessions() -> (
    None
):
    [policy] = template("root-session-policy.yaml")["Resources"].values()
    by_us, here = policy["Properties"]["Content"]["Statement"]

    for statement in (by_us, here):
        assert (statement["Effect"], statement["Action"]) == ("Deny", "sts:AssumeRoot")
        assert statement["Resource"] == "*"
    [(operator, condition)] = by_us["Condition"].items()
    assert operator == "ArnNotLike"
    spared = {
        re.search(r":role\$\{RolePath\}\$\{RootsweepStackName\}-(\w+)-\*$", arn["Fn::Sub"])[1]
        for arn in condition["aws:PrincipalArn"]
    }
    assert spared == roles_that_open_root_sessions()
    assert here["Condition"] == {
        "StringNotEquals": {"aws:RequestedRegion": {"Ref": "RootsweepRegion"}}
    }
    assert policy["Properties"]["TargetIds"] == [{"Ref": "SecurityAccountId"}]


def test_a_refusal_is_ours_exactly_where_one_of_our_roles_met_it() -> None:
    listed = variables_of("explain_root_session")["OUR_ROLES"]["Fn::Sub"]

    assert set(re.findall(r"\$\{(\w+)\.Arn\}", listed)) == roles_that_open_root_sessions()


def test_whoever_may_open_a_root_session_may_note_it_and_no_more_of_the_table() -> None:
    for id in roles_that_open_root_sessions() - {"OpenCasesRole"}:
        role = resources("AWS::IAM::Role")[id]
        [note] = [item for item in statements(role) if item["Action"] == "dynamodb:PutItem"]
        assert note["Condition"] == {
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["ROOT_SESSION#*"]}
        }, id


def test_what_the_accounts_tell_of_is_what_the_bus_listens_for() -> None:
    ours, theirs = resources("AWS::Events::Rule"), template("member-events.yaml")["Resources"]
    bus = resources("AWS::Events::EventBus")["RootActivityBus"]
    rules = {id: rule for id, rule in theirs.items() if rule["Type"] == "AWS::Events::Rule"}
    on_the_bus = {id for id, rule in ours.items() if "EventBusName" in rule}

    assert set(rules) == {"RootKeyCreatedRule", "RootAccessChangedRule", "RootSessionOpenedRule"}
    assert len(on_the_bus) == len(rules)
    for id, rule in rules.items():
        listening = ours["ForwardedRootSessionRule" if id == "RootSessionOpenedRule" else id]
        told, heard = rule["Properties"]["EventPattern"], listening["EventPattern"]
        detail = {key: value for key, value in heard["detail"].items() if key != "errorCode"}
        assert told == {**heard, "detail": detail}, id
        [target] = rule["Properties"]["Targets"]
        assert target["Arn"]["Fn::Sub"].endswith(
            ":event-bus/" + bus["Name"]["Fn::Sub"].replace("AWS::StackName", "RootsweepStackName")
        )
    [put] = statements(theirs["TellRole"]["Properties"])
    assert put == {"Effect": "Allow", "Action": "events:PutEvents", "Resource": target["Arn"]}


def test_nothing_but_the_account_of_an_event_decides_what_is_swept() -> None:
    rule = resources("AWS::Events::Rule")["RootKeyCreatedRule"]
    [sweep] = [target for target in rule["Targets"] if target["Id"] == "sweep"]

    assert sweep["InputTransformer"] == {
        "InputPathsMap": {"account": "$.account"},
        "InputTemplate": '{"accounts": [<account>]}',
    }


def test_only_the_organization_may_tell_of_root_activity() -> None:
    [statement] = resources("AWS::Events::EventBus")["RootActivityBus"]["Policy"]["Statement"]

    assert (statement["Effect"], statement["Action"]) == ("Allow", "events:PutEvents")
    assert statement["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}}
    }


def test_the_session_token_in_an_event_reaches_no_function() -> None:
    explaining = {
        id: target
        for id, rule in resources("AWS::Events::Rule").items()
        for target in rule["Targets"]
        if target["Arn"] == {"Fn::GetAtt": ["ExplainRootSessionFunction", "Arn"]}
    }

    for id, target in explaining.items():
        if id != "RootSessionRefusedRule":  # No session was opened.
            paths = target["InputTransformer"]["InputPathsMap"].values()
            assert [path for path in paths if "responseElements" in path] == [
                "$.detail.responseElements.credentials.accessKeyId"
            ]
            assert not {"$", "$.detail"} & set(paths)
    assert len(explaining) == 3


def test_the_layer_keeps_the_services_that_the_functions_call() -> None:
    called = set()
    for file in CODE_FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="client" | "resource"),
                    args=[ast.Constant(value=str(service)), *_],
                ):
                    called.add(service)
    makefile = (FUNCTIONS / "Makefile").read_text()
    kept = re.search(r"^SERVICES = (.+)$", makefile, re.MULTILINE)

    assert kept
    assert set(kept[1].split()) == called


def test_functions_are_tested_with_the_packages_they_run_with() -> None:
    def pins(path: str) -> dict[str, str]:
        text = (REPOSITORY / path).read_text()
        return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))

    shipped, tested = pins("functions/requirements.txt"), pins("requirements-dev.txt")

    assert {"boto3", "botocore", "jinja2"} <= set(shipped)
    assert {name: tested.get(name) for name in shipped} == shipped


def test_nothing_that_is_shipped_knows_of_a_laptop() -> None:
    files = [REPOSITORY / name for name in TEMPLATES]
    files += [path for path in (REPOSITORY / "statemachine").iterdir() if path.is_file()]
    files += [
        path for path in FUNCTIONS.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]

    assert len(files) > 30
    for file in files:
        text = file.read_text().lower()
        for word in ("aws_endpoint_url", "endpoint_url", "localhost", "127.0.0.1", "is_local"):
            assert word not in text, f"{file.name}: {word}"


@pytest.mark.parametrize(
    "name", ["SenderAddress", "DefaultApprover", "SecondApprover", "AlertAddress"]
)
def test_an_address_that_the_template_takes_is_one_for_the_code(name: str) -> None:
    pattern = template()["Parameters"][name]["AllowedPattern"]

    assert pattern.removeprefix("^$|") == f"^{EMAIL_ADDRESS.pattern}$"


# -- what goes wrong is told -----------------------------------------------------------------------

# Functions that something else than a state machine invokes, too.
INVOKED_BY_EVENTS = {"explain_root_session", "record_bounce", "record_outcome"}
ON_THE_STREAM = {"deliver_decision", "lift_ended_quarantines", "log_decisions"}
# What a message of theirs says is tried again by the queue, whose last queue rings.
FROM_A_QUEUE = {"write_findings"}


def queues() -> dict[str, dict[str, Any]]:
    return resources("AWS::SQS::Queue")


def test_a_queue_gives_its_function_time_and_tries_again() -> None:
    for name in FROM_A_QUEUE:
        [source] = functions()[name]["Events"].values()
        queue = queues()[source["Properties"]["Queue"]["Fn::GetAtt"][0]]
        timeout = functions()[name]["Timeout"]
        # Lambda Developer Guide, "Using Lambda with Amazon SQS": six times, and five at the least.
        assert queue["VisibilityTimeout"] >= 6 * timeout
        assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
        assert source["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        # Each case can bring the one before it along.
        assert 2 * source["Properties"]["BatchSize"] <= MOST_CASES


def test_every_function_that_an_event_invokes_keeps_what_it_failed_at() -> None:
    invoked = {
        target["Arn"]["Fn::GetAtt"][0]
        for rule in resources("AWS::Events::Rule").values()
        for target in rule["Targets"]
        if "Fn::GetAtt" in target["Arn"] and target["Arn"]["Fn::GetAtt"][0] not in queues()
    }
    keeping = {
        properties["Role"]["Fn::GetAtt"][0].replace("Role", "Function")
        for properties in functions().values()
        if "EventInvokeConfig" in properties
    }

    assert invoked == keeping
    for name in INVOKED_BY_EVENTS:
        destination = functions()[name]["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
        assert destination["Destination"] == {"Fn::GetAtt": ["UnhandledEventsQueue", "Arn"]}


def test_every_function_behind_a_stream_keeps_what_it_failed_at() -> None:
    kept = {
        name: source["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]
        for name, properties in functions().items()
        for source in properties.get("Events", {}).values()
        if source["Type"] == "DynamoDB"
    }
    assert kept == {
        "deliver_decision": {"Fn::GetAtt": ["UndeliveredDecisionsQueue", "Arn"]},
        "lift_ended_quarantines": {"Fn::GetAtt": ["UnhandledEventsQueue", "Arn"]},
        "log_decisions": {"Fn::GetAtt": ["UnloggedDecisionsQueue", "Arn"]},
    }
    watched = {
        dimension["Value"]["Fn::GetAtt"][0]
        for alarm in alarms().values()
        for dimension in alarm.get("Dimensions", [])
        if "Fn::GetAtt" in dimension["Value"]
    }
    assert watched.issuperset(queue["Fn::GetAtt"][0] for queue in kept.values())


def test_every_event_that_cannot_be_delivered_is_kept() -> None:
    for id, rule in resources("AWS::Events::Rule").items():
        for target in rule["Targets"]:
            kept = target["DeadLetterConfig"]["Arn"]
            assert kept == {"Fn::GetAtt": ["UnhandledEventsQueue", "Arn"]}, id
    [schedule] = resources("AWS::Scheduler::Schedule").values()
    kept = schedule["Target"]["DeadLetterConfig"]["Arn"]
    assert kept == {"Fn::GetAtt": ["UnhandledEventsQueue", "Arn"]}


def alarms() -> dict[str, dict[str, Any]]:
    return resources("AWS::CloudWatch::Alarm")


def test_every_alarm_is_told_and_says_where_help_is() -> None:
    for id, alarm in alarms().items():
        assert alarm["AlarmActions"] == [{"Ref": "AlertTopic"}], id
        assert alarm["AlarmDescription"].endswith("see docs/runbook.md."), id
        assert alarm["TreatMissingData"] == "notBreaching", id
        assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (0, 1), id


def test_every_queue_rings_when_something_is_in_it() -> None:
    watched = {
        alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
        for alarm in alarms().values()
        if alarm.get("Namespace") == "AWS/SQS"
    }

    last = {
        properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for properties in queues().values()
        if "RedrivePolicy" in properties
    }
    read = {id for id, properties in queues().items() if "RedrivePolicy" in properties}
    assert len(last) == len(read) == len(FROM_A_QUEUE)
    assert watched == set(queues()) - read
    assert last <= watched


def summed(id: str) -> set[tuple[str, str]]:
    """The metrics of an alarm: of AWS with the resource each is about, ours with nothing."""
    total, *metrics = alarms()[id]["Metrics"]
    assert total == {"Id": "all", "Expression": "SUM(FILL(METRICS(), 0))"}
    assert all(metric["ReturnData"] is False for metric in metrics)
    found = set()
    for metric in (metric["MetricStat"]["Metric"] for metric in metrics):
        [dimension] = metric.get("Dimensions") or [{"Value": {"Ref": ""}}]
        ours = metric["Namespace"] == {"Fn::Sub": "Rootsweep/${AWS::StackName}"}
        assert ours == ("Dimensions" not in metric)
        found.add((metric["MetricName"], dimension["Value"]["Ref"]))
    return found


def counted_in(metric: str) -> dict[str, str]:
    """The log groups in which something counts for a metric, each with the pattern for it."""
    return {
        filter["LogGroupName"]["Ref"]: filter["FilterPattern"]
        for filter in resources("AWS::Logs::MetricFilter").values()
        for counted in filter["MetricTransformations"]
        if counted
        == {
            "MetricNamespace": {"Fn::Sub": "Rootsweep/${AWS::StackName}"},
            "MetricName": metric,
            "MetricValue": "1",
        }
    }


def test_no_execution_ends_badly_unheard() -> None:
    machines = resources("AWS::Serverless::StateMachine")
    [(group, pattern)] = counted_in("ExecutionsEndedBadly").items()

    assert summed("ExecutionsAlarm") == {
        ("ExecutionsEndedBadly", ""),
        *(("ExecutionsFailed", machine) for machine in machines),
    }
    # Log levels, Step Functions Developer Guide: these three are logged at ERROR, and at FATAL.
    assert set(re.findall(r'"(Execution\w+)"', pattern)) == {
        f"Execution{ending}" for ending in ("Aborted", "Failed", "TimedOut")
    }
    for id, machine in machines.items():
        [destination] = machine["Logging"]["Destinations"]
        assert machine["Logging"]["Level"] == "ERROR", id
        assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"] == {
            "Fn::GetAtt": [group, "Arn"]
        }, id


def test_no_function_fails_unheard_where_no_state_machine_looks() -> None:
    def stem(name: str) -> str:
        return str(functions()[name]["Role"]["Fn::GetAtt"][0]).removesuffix("Role")

    counted = counted_in("FunctionsFailed")

    assert summed("FunctionErrorsAlarm") == {
        ("Errors", "ApprovalPageFunction"),
        ("FunctionsFailed", ""),
    }
    heard = INVOKED_BY_EVENTS | ON_THE_STREAM | {"approval_page"}
    assert set(counted) == {f"{stem(name)}LogGroup" for name in heard}
    [pattern] = set(counted.values())
    line = re.search(r'\$\.message = "([^"*]+)\*"', pattern)
    assert line
    assert f'log.exception("{line[1]}")' in (FUNCTIONS / "rootsweep" / "logs.py").read_text()
    assert f'NOT_TOLD = "{line[1]} ' in (FUNCTIONS / "log_decisions.py").read_text()
    assert f'log.exception("{line[1]} ' in (FUNCTIONS / "approval_page.py").read_text()
    # Lambda's own lines are INFO at the least, which is what it logs if nobody says otherwise.
    assert "SystemLogLevel" not in template()["Globals"]["Function"]["LoggingConfig"]


def counts(pattern: str, line: dict[str, Any]) -> bool:
    """Whether a metric filter counts a line of JSON (CloudWatch Logs User Guide, "Filter pattern
    syntax"): selectors, = and !=, text with asterisks, && and ||."""

    def compared(found: re.Match[str]) -> str:
        value: Any = line
        for name in found[1].split("."):
            value = value.get(name) if isinstance(value, dict) else None
        is_same = value is not None and fnmatchcase(str(value), found[3])
        # What is not there is neither the same nor another.
        return str(is_same if found[2] == "=" else value is not None and not is_same)

    text = re.sub(r'\$\.([\w.]+) (!?=) "([^"]*)"', compared, pattern.strip("{ }"))
    assert re.fullmatch(r"(True|False|&&|\|\||[() ])+", text), text
    return bool(eval(text.replace("&&", "and").replace("||", "or")))


@pytest.mark.parametrize("ending", ["Aborted", "Failed", "TimedOut"])
def test_the_end_of_an_execution_is_counted_and_that_of_a_child_is_not(ending: str) -> None:
    """Log lines of Step Functions, as its Developer Guide has them."""
    [pattern] = counted_in("ExecutionsEndedBadly").values()
    arn = "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-sweep:a1b2"
    child = "arn:aws:states:eu-west-1:222222222222:express:rootsweep-sweep/CheckAccounts:a1b2:c3d4"
    line = {"id": "9", "type": f"Execution{ending}", "execution_arn": arn, "details": {}}

    assert counts(pattern, line)
    assert not counts(pattern, line | {"execution_arn": child})
    assert not counts(pattern, line | {"type": "TaskFailed"})
    assert not counts(pattern, line | {"type": "ExecutionSucceeded"})


@pytest.mark.parametrize(
    ("line", "is_counted"),
    [
        ({"level": "ERROR", "message": "failed", "requestId": "a1b2"}, True),
        ({"level": "ERROR", "message": "failed to tell others of a change"}, True),
        ({"level": "INFO", "message": "done"}, False),
        ({"level": "ERROR", "message": "root session unexplained: ..."}, False),
        # Lambda's own, as the Telemetry API has them.
        ({"type": "platform.report", "record": {"status": "success"}}, False),
        ({"type": "platform.report", "record": {"status": "timeout"}}, True),
        ({"type": "platform.report", "record": {"status": "error"}}, True),
        ({"type": "platform.report", "record": {"status": "failure"}}, True),
        ({"type": "platform.start", "record": {"requestId": "a1b2"}}, False),
    ],
)
def test_a_function_that_fails_is_counted_whatever_it_fails_of(
    line: dict[str, Any], is_counted: bool
) -> None:
    for pattern in counted_in("FunctionsFailed").values():
        assert counts(pattern, line) == is_counted


def test_an_unexplained_root_session_is_counted_by_the_line_that_the_function_logs() -> None:
    metric = resources("AWS::Logs::MetricFilter")["UnexplainedRootSessionsMetric"]
    words = re.search(r'\$\.message = "([^"*]+)\*"', metric["FilterPattern"])

    assert words
    assert f'log.error("{words[1]}' in (FUNCTIONS / "explain_root_session.py").read_text()
    [transformation] = metric["MetricTransformations"]
    alarm = alarms()["UnexplainedRootSessionsAlarm"]
    assert alarm["Namespace"] == transformation["MetricNamespace"]
    assert alarm["MetricName"] == transformation["MetricName"]
