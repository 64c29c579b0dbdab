"""What each role must not do: the calls that test_denial.py tries, and documents name."""

from __future__ import annotations

from typing import Any

from .world import CLEAN, KEYED, OWNER

TASKS = "arn:aws:iam::aws:policy/root-task"
TABLE, BUCKET = "<table>", "<bucket>"


def root_session(task: str) -> tuple[str, str, dict[str, Any]]:
    given = {"TargetPrincipal": KEYED, "TaskPolicyArn": {"arn": f"{TASKS}/{task}"}}
    return "sts", "assume_root", {**given, "DurationSeconds": 900}


def item(method: str, pk: str, table: str = TABLE) -> tuple[str, str, dict[str, Any]]:
    key = {"pk": {"S": pk}, "sk": {"S": "x"}}
    name = "Item" if method == "put_item" else "Key"
    return "dynamodb", method, {"TableName": table, name: key}


def put(name: str) -> tuple[str, str, dict[str, Any]]:
    return "s3", "put_object", {"Bucket": BUCKET, "Key": f"sweeps/s/{name}", "Body": "x"}


def mail(sender: str) -> tuple[str, str, dict[str, Any]]:
    text = {"Data": "x"}
    content = {"Simple": {"Subject": text, "Body": {"Text": text}}}
    destination = {"ToAddresses": [OWNER]}
    given = {"FromEmailAddress": sender, "Destination": destination, "Content": content}
    return "sesv2", "send_email", given


def invoke(function: str) -> tuple[str, str, dict[str, Any]]:
    return "lambda", "invoke", {"FunctionName": f"<{function}>"}


def start(machine: str) -> tuple[str, str, dict[str, Any]]:
    given = {"stateMachineArn": f"<{machine}StateMachine>", "input": "{}"}
    return "stepfunctions", "start_execution", given


def set_workflow(status: str) -> tuple[str, str, dict[str, Any]]:
    finding = {"Id": "x", "ProductArn": "arn:aws:securityhub:us-east-1::product/aws/securityhub"}
    given = {"FindingIdentifiers": [finding], "Workflow": {"Status": status}}
    return "securityhub", "batch_update_findings", given


AUDIT = root_session("IAMAuditRootUserCredentials")
DELETE = root_session("IAMDeleteRootUserCredentials")
PASSWORD = root_session("IAMCreateRootUserPassword")
MAIL = mail("rootsweep@example.com")
ELSE = mail("ceo@example.com")
TASK = ("stepfunctions", "send_task_success", {"taskToken": "x" * 200, "output": "{}"})
ROLE = (
    "sts",
    "assume_role",
    {"RoleArn": f"arn:aws:iam::{CLEAN}:role/other", "RoleSessionName": "probe"},
)
USERS = ("iam", "list_users", {})
OTHER_TABLE = item("get_item", "CASE#1", "other")
POLICY = {"PolicyId": "p-examplepolicyid1", "TargetId": KEYED}
ATTACH = ("organizations", "attach_policy", POLICY)
DETACH = ("organizations", "detach_policy", POLICY)
KILL_SWITCH = ("ssm", "put_parameter", {"Name": "/rootsweep/kill-switch", "Value": "off"})
# With these roles AWS services act, and no function.
BY_SERVICES = ("Sweep", "Remediate", "Schedule", "RootKeyCreated", "ApiGatewayLog")
DENIED = {
    "ApprovalPage": [
        *(AUDIT, DELETE, PASSWORD, ROLE, USERS, MAIL, TASK, OTHER_TABLE),
        *(put("report.json"), item("put_item", "LINK#1"), item("put_item", "CASE#1")),
        *(item("update_item", "LINK#1"), item("update_item", "APPROVER#a@example.com")),
        *(item("update_item", "OPEN_CASE"), item("update_item", "ACCOUNT#1")),
        *(item("delete_item", "CASE#1"), item("get_item", "ACCOUNT#1")),
        ("dynamodb", "scan", {"TableName": TABLE}),
    ],
    "ListAccounts": [
        *(AUDIT, DELETE, ROLE, USERS, MAIL, TASK, OTHER_TABLE, item("get_item", "CASE#1")),
        *(put("report.json"), put("checked/0.json"), put("cases.json")),
        *(ATTACH, KILL_SWITCH),
    ],
    "CheckAccounts": [
        *(AUDIT, DELETE, ROLE, USERS, MAIL, TASK, item("get_item", "CASE#1")),
        *(put("report.json"), put("accounts/0.json")),
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "sweeps/s/accounts/0.json"}),
    ],
    "GatherEvidence": [DELETE, PASSWORD, ROLE, MAIL, item("update_item", "ACCOUNT#1"), TASK],
    "OpenCases": [DELETE, PASSWORD, MAIL, TASK, put("report.json"), OTHER_TABLE],
    "ConfirmRemoval": [DELETE, PASSWORD, item("update_item", "CASE#1"), MAIL],
    "DeleteRootKeys": [
        *(AUDIT, PASSWORD, ROLE, USERS, MAIL, TASK, OTHER_TABLE),
        *(item("put_item", "CASE#1"), item("delete_item", "CASE#1")),
        *(item("update_item", "LINK#1"), item("update_item", "ACCOUNT#1")),
        KILL_SWITCH,
    ],
    "RequestApproval": [
        *(AUDIT, DELETE, ELSE, TASK, OTHER_TABLE),
        *(item("update_item", "LINK#1"), item("put_item", "CASE#1"), item("get_item", "CASE#1")),
    ],
    "DeliverDecision": [
        *(AUDIT, DELETE, MAIL, item("get_item", "CASE#1"), item("update_item", "CASE#1")),
        ("stepfunctions", "send_task_failure", {"taskToken": "x" * 200}),
    ],
    "ReadDecision": [AUDIT, DELETE, MAIL, TASK, item("update_item", "APPROVER#a@example.com")],
    "WriteReport": [
        *(AUDIT, DELETE, MAIL, TASK, item("get_item", "CASE#1")),
        *(put("cases.json"), put("accounts/0.json"), put("history.json")),
    ],
    "RecordOutcome": [AUDIT, DELETE, MAIL, TASK, OTHER_TABLE],
    "CheckPrerequisites": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("get_item", "CASE#1"), put("report.json")),
        ("iam", "enable_organizations_root_sessions", {}),
        KILL_SWITCH,
    ],
    "LiftEndedQuarantines": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("update_item", "CASE#1")),
        *(item("put_item", "QUARANTINE"), ATTACH),
    ],
    "WarnExceptionOwners": [
        *(AUDIT, DELETE, ROLE, ELSE, TASK, item("update_item", "CASE#1")),
        *(item("put_item", "LINK#1"), item("delete_item", "ACCOUNT#1"), put("report.json")),
    ],
    "FindApprovers": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, OTHER_TABLE, put("report.json")),
        *(item("put_item", "CASE#1"), item("delete_item", "CASE#1")),
        ATTACH,
    ],
    "QuarantineRootUser": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("put_item", "CASE#1")),
        *(item("update_item", "ACCOUNT#1"), DETACH),
    ],
    "HoldDeletion": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("get_item", "CASE#1")),
        *(item("put_item", "CASE#1"), item("update_item", "CANARY"), KILL_SWITCH),
    ],
    "RequestManualRemoval": [
        *(AUDIT, DELETE, ROLE, ELSE, TASK, OTHER_TABLE),
        *(item("update_item", "LINK#1"), item("put_item", "CASE#1")),
    ],
    "CheckManualRemoval": [
        *(DELETE, PASSWORD, ROLE, USERS, MAIL, TASK, item("update_item", "CASE#1")),
        item("get_item", "ACCOUNT#1"),
    ],
    "LogDecisions": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("update_item", "CASE#1")),
        item("delete_item", "LOG", "<log table>"),
        ("s3", "list_objects_v2", {"Bucket": "<log bucket>"}),
        (
            "events",
            "put_events",
            {"Entries": [{"Source": "payroll", "DetailType": "x", "Detail": "{}"}]},
        ),
    ],
    "RecordBounce": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("get_item", "CASE#1")),
        *(item("put_item", "LINK#1"), item("update_item", "ACCOUNT#1")),
    ],
    "ExplainRootSession": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("get_item", "CASE#1")),
        item("put_item", "ROOT_SESSION#1"),
    ],
    "WriteFindings": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("update_item", "CASE#1")),
        *(item("get_item", "LINK#1"), set_workflow("SUPPRESSED"), set_workflow("RESOLVED")),
        ("securityhub", "disable_security_hub", {}),
    ],
    "Sweep": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("get_item", "CASE#1"), put("report.json")),
        *(invoke("DeleteRootKeysFunction"), invoke("ApprovalPageFunction")),
    ],
    "Remediate": [
        *(AUDIT, DELETE, ROLE, MAIL, TASK, item("update_item", "CASE#1"), put("report.json")),
        *(invoke("ApprovalPageFunction"), start("Remediate")),
    ],
    "Schedule": [AUDIT, DELETE, MAIL, invoke("DeleteRootKeysFunction"), start("Remediate")],
    "RootKeyCreated": [AUDIT, DELETE, MAIL, invoke("DeleteRootKeysFunction"), start("Remediate")],
    "ApiGatewayLog": [AUDIT, DELETE, ROLE, MAIL, item("get_item", "CASE#1"), put("report.json")],
}


# Where a permission is called otherwise than the operation.
ACTIONS = {"list_objects_v2": "ListBucket", "invoke": "InvokeFunction"}


def named(value: Any) -> str:
    """A call as `service:Action`, and what it is about."""
    if isinstance(value, str):
        return value
    service, method, given = value
    prefix = {"sesv2": "ses", "stepfunctions": "states"}.get(service, service)
    action = ACTIONS.get(method) or "".join(word.title() for word in method.split("_"))
    key = given.get("Key", given.get("Item", ""))
    task = given.get("TaskPolicyArn", {}).get("arn", "")
    table = {"other": "in another table", "<log table>": "in the decision log"}
    names = ("FromEmailAddress", "FunctionName", "stateMachineArn", "RoleArn", "Name")
    about = [
        key["pk"]["S"] if isinstance(key, dict) else key,
        *(text.rpartition("/")[2] for text in (task, *(given.get(name, "") for name in names))),
        table.get(given.get("TableName", ""), ""),
        given.get("Workflow", {}).get("Status", ""),
        *(f"from {entry['Source']}" for entry in given.get("Entries", ())),
    ]
    return " ".join([f"{prefix}:{action}", *(text.strip("<>") for text in about if text)])
