from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.validate import validate_parameters

from rootsweep import findings
from rootsweep.cases import Obstacle, Outcome
from rootsweep.console import execution_link
from rootsweep.findings import Subject

from .builders import ACCOUNT, HOSTILE, NOW, a_case, a_decision, a_key, end_case, open_a_case

if TYPE_CHECKING:
    from rootsweep.cases import Case

PRODUCT_ARN = "arn:aws:securityhub:eu-west-1:222222222222:product/222222222222/default"
ENDED = "2026-03-05T00:00:00Z"


def made(case: Case, *, has_successor: bool = False) -> dict[str, Any]:
    """The finding of a case, which the SDK's model of Security Hub takes."""
    subject = Subject(case, has_successor=has_successor)
    found: Any = findings.finding(subject, product_arn=PRODUCT_ARN, now=NOW)
    model = boto3.client("securityhub").meta.service_model.operation_model("BatchImportFindings")
    validate_parameters({"Findings": [found]}, model.input_shape)
    return dict(found)


def test_the_finding_of_an_open_case() -> None:
    case = a_case()

    assert made(case) == {
        "SchemaVersion": "2018-10-08",
        "Id": case.execution_arn,
        "ProductArn": PRODUCT_ARN,
        "GeneratorId": "rootsweep",
        "AwsAccountId": "222222222222",
        "FirstObservedAt": "2026-03-04T05:06:07Z",
        "CreatedAt": "2026-03-04T05:06:07Z",
        "UpdatedAt": NOW.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "FindingProviderFields": {
            "Severity": {"Label": "CRITICAL"},
            "Types": ["Software and Configuration Checks/AWS Security Best Practices"],
        },
        "Title": f"Root access keys in account {ACCOUNT}",
        "Description": (
            f'The root user of account {ACCOUNT} "payments-prod" has access keys:'
            f" AKIAEXAMPLE00000001 (Active). Case {case.id} is AWAITING_APPROVAL; it was opened on"
            " 4 March 2026, 05:06 UTC. Its approvers are asked whether they may be deleted, until"
            " 11 March 2026, 05:06 UTC on rung 1 of 1."
        ),
        "Remediation": {
            "Recommendation": {
                "Text": made(case)["Remediation"]["Recommendation"]["Text"],
                "Url": "https://docs.aws.amazon.com/securityhub/latest/userguide/"
                "iam-controls.html#iam-4",
            }
        },
        "ProductFields": {
            "rootsweep/case_id": case.id,
            "rootsweep/sweep_id": "a-sweep",
            "rootsweep/outcome": "AWAITING_APPROVAL",
            "rootsweep/account_id": ACCOUNT,
            "rootsweep/account_name": "payments-prod",
            "rootsweep/organizational_unit": "Workloads/Prod",
        },
        "Resources": [
            {
                "Type": "AwsAccount",
                "Id": f"AWS::::Account:{ACCOUNT}",
                "Partition": "aws",
                "Region": "eu-west-1",
            }
        ],
        "RecordState": "ACTIVE",
        "Workflow": {"Status": "NOTIFIED"},
        "SourceUrl": execution_link(case.execution_arn),
    }


@pytest.mark.parametrize(
    ("outcome", "has_successor", "state", "workflow"),
    [
        (Outcome.REMEDIATED, False, "ARCHIVED", "NOTIFIED"),
        (Outcome.RESOLVED, False, "ARCHIVED", "NOTIFIED"),
        (Outcome.DECLINED, False, "ARCHIVED", "NOTIFIED"),
        (Outcome.ESCALATED, False, "ACTIVE", "NEW"),
        (Outcome.FAILED, False, "ACTIVE", "NEW"),
        (Outcome.ESCALATED, True, "ARCHIVED", "NOTIFIED"),
        (Outcome.FAILED, True, "ARCHIVED", "NOTIFIED"),
    ],
)
def test_a_finding_is_active_while_somebody_has_something_to_do(
    outcome: Outcome, has_successor: bool, state: str, workflow: str
) -> None:
    case = a_case(outcome=outcome, ended_at=ENDED, reason="so it was")

    found = made(case, has_successor=has_successor)

    assert (found["RecordState"], found["Workflow"]["Status"]) == (state, workflow)
    assert f"ended {outcome} on 5 March 2026, 00:00 UTC" in found["Description"]
    assert '"so it was"' in found["Description"]
    assert ("A later case" in found["Description"]) == has_successor


def test_what_is_to_be_done_is_said() -> None:
    approved = a_case(decision=a_decision(a_case()), decided="APPROVED")
    by_hand = a_case(outcome=Outcome.AWAITING_REMOVAL, obstacle=Obstacle.ROOT_SESSION_DENIED)

    assert made(approved)["Description"].endswith("Their deletion is approved.")
    assert "Somebody has to remove them by hand, until" in made(by_hand)["Description"]


@pytest.mark.parametrize("text", HOSTILE)
def test_words_of_others_stay_one_harmless_line_of_the_length_that_is_taken(text: str) -> None:
    long = text * 200
    keys = [replace(a_key(), id="A" * 128), replace(a_key(), id="B" * 128)]
    case = a_case(keys, account_name=long, ou=long, outcome="FAILED", ended_at=ENDED, reason=long)

    found = made(case)

    assert len(found["Title"]) <= 256
    assert len(found["Description"]) <= 1024
    assert all(0 < len(each) <= 2048 for each in found["ProductFields"].values())
    assert found["Description"].isprintable()


def test_what_is_empty_is_left_out() -> None:
    case = a_case(account_name="", ou="", sweep_id="", execution_arn="arn:aws-iso:states:a:b:c:d:e")

    found = made(case)

    assert set(found["ProductFields"]) == {
        "rootsweep/case_id",
        "rootsweep/outcome",
        "rootsweep/account_id",
    }
    assert "SourceUrl" not in found


def test_a_case_that_was_given_up_is_so_until_there_is_another(table: Any) -> None:
    first = end_case(table, open_a_case(table).id, Outcome.ESCALATED)
    first = findings.load(table, case_id=first.id).case
    assert findings.load(table, case_id=first.id) == Subject(first, has_successor=False)

    second = open_a_case(table, now=NOW.replace(year=2027))
    assert findings.load(table, case_id=first.id).has_successor
    assert not findings.load(table, case_id=second.id).has_successor

    end_case(table, second.id, Outcome.REMEDIATED)
    assert findings.load(table, case_id=first.id).has_successor
    assert not findings.load(table, case_id=second.id).has_successor


def test_a_case_that_is_not_there_is_said(table: Any) -> None:
    with pytest.raises(KeyError, match="case c-1 is not in the table"):
        findings.load(table, case_id="c-1")
