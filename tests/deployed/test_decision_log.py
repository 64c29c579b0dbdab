"""The decision log of the deployed stack, from the approval page to the bucket and the checker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from operate import verify_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployed.conftest import Deployed

APPROVED, DECLINED = "400000000204", "400000000205"


@pytest.fixture(scope="module")
def case_ids(deployed: Deployed) -> list[str]:
    """Two cases that have ended: one was approved, one declined."""
    deployed.sweep(accounts=[APPROVED, DECLINED])
    for account in (APPROVED, DECLINED):
        deployed.waits(account)
    deployed.approve(APPROVED, deployed.mail_about(APPROVED).link)
    link = deployed.mail_about(DECLINED).link
    deployed.browser.post(link, data=deployed.form(DECLINED, link, "decline"))
    ended = [
        deployed.case_when(APPROVED, "REMEDIATED"),
        deployed.case_when(DECLINED, "DECLINED"),
    ]
    return [case["case_id"] for case in ended]


def test_what_was_decided_is_in_the_bucket_and_one_changed_byte_is_named(
    deployed: Deployed,
    case_ids: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3, bucket = deployed.stack.client("s3"), deployed.stack.outputs["DecisionLogBucket"]

    def told(case_id: str) -> list[dict[str, Any]]:
        entries, broken = verify_log.read_bucket(s3, bucket)
        verify_log.verify(entries, broken=broken)
        every = [json.loads(entries[number]) for number in sorted(entries)]
        return [entry for entry in every if entry["case_id"] == case_id]

    deployed.until(
        lambda: all(each and each[-1]["what"] == "ENDED" for each in map(told, case_ids)),
        "both cases to be logged to their end",
    )
    approval, began, deleted, end = told(case_ids[0])
    assert approval["what"] == "APPROVED"
    assert approval["by"] == f"test-{APPROVED[-3:]}@example.com"
    assert [key["id"] for key in approval["keys"]] == ["AKIAEXAMPLE000000204"]
    assert (began["what"], deleted["what"]) == ("DELETION_STARTED", "KEY_DELETED")
    assert deleted["key_id"] == "AKIAEXAMPLE000000204"
    assert end["outcome"] == "REMEDIATED"
    decline, end = told(case_ids[1])
    assert (decline["what"], decline["reason"]) == ("DECLINED", "The batch job moves to a role.")
    assert end["outcome"] == "DECLINED"

    entries, _ = verify_log.read_bucket(s3, bucket)
    for number, content in entries.items():
        (tmp_path / f"{number:012}.json").write_bytes(content)
    assert verify_log.main(["--directory", str(tmp_path)]) == 0
    number = decline["number"]
    changed = tmp_path / f"{number:012}.json"
    changed.write_bytes(changed.read_bytes().replace(b"batch job", b"batch Job"))
    assert verify_log.main(["--directory", str(tmp_path)]) == 1
    assert f"entry {number} has been changed" in capsys.readouterr().err


def test_cases_that_are_logged_again_add_nothing(deployed: Deployed, case_ids: list[str]) -> None:
    answer = deployed.stack.client("lambda").invoke(
        FunctionName=function_of(deployed), Payload=json.dumps({"case_ids": case_ids})
    )

    assert "FunctionError" not in answer
    assert json.load(answer["Payload"]) == {"appended": 0}


@pytest.mark.usefixtures("case_ids")
def test_an_entry_is_locked_and_nobody_puts_another_in_its_place(deployed: Deployed) -> None:
    bucket, key = deployed.stack.outputs["DecisionLogBucket"], "entries/000000000001.json"
    held = deployed.stack.client("s3").head_object(Bucket=bucket, Key=key)
    assert held["ObjectLockMode"] == "GOVERNANCE"
    iam, sts = deployed.stack.client("iam"), deployed.stack.client("sts")
    principal = {"AWS": f"arn:aws:iam::{deployed.stack.account}:root"}
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    role = iam.create_role(RoleName="all-of-s3", AssumeRolePolicyDocument=document(trust))
    iam.put_role_policy(RoleName="all-of-s3", PolicyName="s3", PolicyDocument=document(everything))
    session = sts.assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="test")["Credentials"]
    s3 = deployed.in_session(session, "s3")

    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}", IfNoneMatch="*")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=key, VersionId=held["VersionId"])


def document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def function_of(deployed: Deployed) -> str:
    """The name of the function, as an operator finds it."""
    found = deployed.stack.client("cloudformation").describe_stack_resource(
        StackName="rootsweep", LogicalResourceId="LogDecisionsFunction"
    )
    return str(found["StackResourceDetail"]["PhysicalResourceId"])
