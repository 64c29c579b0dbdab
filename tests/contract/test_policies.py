"""Every policy document, read by an IAM linter, which knows what AWS offers for each action."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .policies import documents
from .shipped import REPOSITORY, as_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    Document = tuple[str, dict[str, Any]]

LINTER = REPOSITORY / ".venv-checks" / "bin" / "parliament"

ROOT_SESSIONS = (
    "CheckAccountsRole",
    "CheckManualRemovalRole",
    "ConfirmRemovalRole",
    "DeleteRootKeysRole",
    "GatherEvidenceRole",
    "OpenCasesRole",
)
UNKNOWN = "Unknown condition lambda:SourceFunctionArn for action"
# Where the linter is wrong: (resource, finding, what it says): why.
KNOWN = {
    ("ApiGatewayLogRole", "RESOURCE_MISMATCH", "logs:DescribeLogGroups"): (
        "AWS asks for it on the log groups of the account and Region, which are the resource here"
    ),
    ("DeliverDecisionRole", "RESOURCE_MISMATCH", "states:SendTaskSuccess"): (
        "the reference names no resource, but AWS asks for it on the state machine"
    ),
    ("SweepRole", "RESOURCE_MISMATCH", "states:DescribeExecution"): (
        "the linter wants a resource for Express executions too, and those are never described"
    ),
    **{
        (role, "MISMATCHED_TYPE", "ArnEquals requires a value of type Arn but given String"): (
            "sts:TaskPolicyArn: the linter's data say string, AWS's reference says ARN"
        )
        for role in ROOT_SESSIONS
    },
    **{
        (role, "UNKNOWN_CONDITION_FOR_ACTION", f"{UNKNOWN} sts:{action}"): (
            "Lambda puts it into the context of every call that a function makes (Lambda Developer "
            "Guide, Using source function ARN to control function access behavior)"
        )
        for role, action in [
            *((role, "AssumeRoot") for role in ROOT_SESSIONS),
            *((role, "AssumeRole") for role in ("CheckAccountsRole", "CheckManualRemovalRole")),
        ]
    },
}


def findings(directory: Path, documents: Iterable[Document]) -> set[tuple[str, str, str]]:
    for number, (id, document) in enumerate(documents):
        statements = [complete(id, statement) for statement in as_list(document["Statement"])]
        content = json.dumps({**document, "Statement": statements})
        (directory / f"{id}.{number}.json").write_text(content)
    command = [LINTER, "--directory", directory, "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == bool(found), run.stderr
    return {
        (Path(finding["location"]["filepath"]).name.split(".")[0], finding["issue"], words)
        for finding in found
        for words in subjects(finding["detail"])
    }


def complete(id: str, statement: dict[str, Any]) -> dict[str, Any]:
    """With what AWS adds: a trust policy is about its role, the policy of an API about this API."""
    resources = as_list(statement.get("Resource", f"arn:aws:iam::222222222222:role/{id}"))
    api = "arn:aws:execute-api:eu-west-1:222222222222:api/"
    return {**statement, "Resource": [text.replace("execute-api:/", api) for text in resources]}


def subjects(detail: Any) -> list[str]:
    match detail:
        case [*actions]:
            return [item["action"] if isinstance(item, dict) else item for item in actions]
        case None:
            return [""]
    return [str(detail).removeprefix("Type mismatch: ")]


def test_no_policy_asks_for_what_aws_does_not_offer_or_for_more_than_it_has_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    found = findings(tmp_path, documents())

    assert found - set(KNOWN) == set()
    assert set(KNOWN) - found == set(), "is known and gone"


def test_the_linter_gets_every_kind_of_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    written = list(documents())

    assert "Fn::" not in json.dumps(written)
    assert '"Ref"' not in json.dumps(written)
    for id, kind in [
        ("AuditRole", "iam:GetAccountSummary"),
        ("AuditRole", "aws:PrincipalArn"),
        ("AlertTopicPolicy", "sns:Publish"),
        ("ReportBucketPolicy", "aws:SecureTransport"),
        ("ApprovalApi", "execute-api:Invoke"),
        ("CheckAccountsRole", "sts:AssumeRole"),
        ("CheckAccountsRole", "sts:AssumeRoot"),
    ]:
        assert any(name == id and kind in json.dumps(document) for name, document in written), id


def test_the_linter_finds_what_is_broken(tmp_path: Path) -> None:
    broken = {
        "UNKNOWN_ACTION": {"Action": "iam:DeleteRootAccessKey"},
        "UNKNOWN_PREFIX": {"Action": "rootsweep:Sweep"},
        "RESOURCE_MISMATCH": {"Action": "dynamodb:GetItem", "Resource": "arn:aws:s3:::bucket"},
        "RESOURCE_STAR": {"Action": "dynamodb:GetItem"},
        "UNKNOWN_CONDITION_FOR_ACTION": {"Condition": {"ArnEquals": {"sts:TaskPolicyArn": "*"}}},
        "UNKNOWN_OPERATOR": {"Condition": {"ArnIs": {"aws:PrincipalArn": "*"}}},
        "MALFORMED": {"Resources": "*"},
    }
    sound = {"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}
    documents = [
        (issue, {"Version": "2012-10-17", "Statement": [{**sound, **fault}]})
        for issue, fault in {**broken, "sound": {}}.items()
    ]

    found = {(name, issue) for name, issue, _ in findings(tmp_path, documents)}

    assert found >= {(issue, issue) for issue in broken}
    assert "sound" not in {name for name, _ in found}
