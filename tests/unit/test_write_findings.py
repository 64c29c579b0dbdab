from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import write_findings
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters

from rootsweep.cases import Outcome

from .builders import ACCOUNT, LATER, NOW, a_waiting_case, an_error, end_case, open_a_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OTHER = "333333333334"
CONTROLS = "arn:aws:securityhub:eu-west-1::product/aws/securityhub"
OF_A_PERSON = {"Text": "mine", "UpdatedBy": "somebody"}


@dataclass
class Hub:
    """Security Hub, as far as it takes what the SDK's model of it takes."""

    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False
    page_size: int = 1
    calls: list[str] = field(default_factory=list)
    when_imported: Callable[[], object] = lambda: None

    def batch_import_findings(self, **given: Any) -> dict[str, Any]:
        self._check("BatchImportFindings", given)
        failed = []
        for each in given["Findings"]:
            id = each["Id"]
            if id in self.refused:
                error = {"ErrorCode": "InvalidInput", "ErrorMessage": self.refused[id]}
                failed.append({"Id": id, **error})
                continue
            before = self.findings.get(id)
            if before is None or before["UpdatedAt"] < each["UpdatedAt"]:
                kept = {"Workflow": before["Workflow"]} if before else {}
                self.findings[id] = {**each, **kept}
        self.when_imported()
        return {"FailedCount": len(failed), "SuccessCount": 0, "FailedFindings": failed}

    def batch_update_findings(self, **given: Any) -> dict[str, Any]:
        self._check("BatchUpdateFindings", given)
        ids = given.pop("FindingIdentifiers")
        if self.is_lost:
            error = {"ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found"}
            failed = [{"FindingIdentifier": id, **error} for id in ids]
            return {"ProcessedFindings": [], "UnprocessedFindings": failed}
        for id in ids:
            assert self.findings[id["Id"]]["ProductArn"] == id["ProductArn"]
            self.findings[id["Id"]] |= given
        return {"ProcessedFindings": ids, "UnprocessedFindings": []}

    def get_paginator(self, operation: str) -> Hub:
        assert operation == "get_findings"
        return self

    def paginate(self, **given: Any) -> Iterator[dict[str, Any]]:
        self._check("GetFindings", given)
        wanted = {
            name: {each["Value"] for each in values} for name, values in given["Filters"].items()
        }

        def found() -> list[dict[str, Any]]:
            return [
                each
                for each in self.findings.values()
                if all(FIELDS[name](each) in values for name, values in wanted.items())
            ]

        # A page is what there is when it is asked for.
        start = 0
        while page := found()[start : start + self.page_size]:
            yield {"Findings": page}
            start += self.page_size

    def _check(self, operation: str, given: dict[str, Any]) -> None:
        self.calls.append(operation)
        model = boto3.client("securityhub").meta.service_model.operation_model(operation)
        validate_parameters(given, model.input_shape)

    def control(self, account: str = ACCOUNT, **more: Any) -> dict[str, Any]:
        """The finding of IAM.4 about an account, made if it is not there."""
        made: dict[str, Any] = {
            "Id": f"iam-4-of-{account}",
            "ProductArn": CONTROLS,
            "AwsAccountId": account,
            "RecordState": "ACTIVE",
            "Compliance": {"Status": "FAILED", "SecurityControlId": "IAM.4"},
            "Workflow": {"Status": "NEW"},
            **more,
        }
        return self.findings.setdefault(str(made["Id"]), made)

    def of(self, case: Any) -> tuple[str, str, str]:
        """State and workflow status of a case's finding, and the outcome it tells."""
        found = self.findings[case.execution_arn]
        outcome = found["ProductFields"]["rootsweep/outcome"]
        return found["RecordState"], found["Workflow"]["Status"], outcome


FIELDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Id": lambda each: each["Id"],
    "ProductArn": lambda each: each["ProductArn"],
    "AwsAccountId": lambda each: each["AwsAccountId"],
    "ComplianceSecurityControlId": lambda each: each.get("Compliance", {}).get("SecurityControlId"),
    "ComplianceStatus": lambda each: each.get("Compliance", {}).get("Status"),
    "RecordState": lambda each: each["RecordState"],
    "WorkflowStatus": lambda each: each["Workflow"]["Status"],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(write_findings, "hub", made)
    return made


def tell(*case_ids: str) -> list[str]:
    """What the queue delivers of changes of cases; the messages that come again."""
    records = [
        {"messageId": f"m{number}", "body": json.dumps({"detail": {"case_id": id}})}
        for number, id in enumerate(case_ids)
    ]
    answer = write_findings.handler({"Records": records}, None)
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]


def test_a_finding_follows_its_case(table: Any, hub: Hub) -> None:
    case = a_waiting_case(table)

    assert tell(case.id, case.id) == []
    assert hub.of(case) == ("ACTIVE", "NOTIFIED", "AWAITING_APPROVAL")
    assert hub.calls.count("BatchImportFindings") == 1

    end_case(table, case.id, Outcome.REMEDIATED)
    assert tell(case.id) == []
    assert hub.of(case) == ("ARCHIVED", "NOTIFIED", "REMEDIATED")


def test_a_case_that_is_given_up_is_news_until_the_next_one(table: Any, hub: Hub) -> None:
    first = a_waiting_case(table)
    tell(first.id)
    end_case(table, first.id, Outcome.ESCALATED)
    assert tell(first.id) == []
    assert hub.of(first) == ("ACTIVE", "NEW", "ESCALATED")

    second = open_a_case(table, now=LATER)
    assert second.reopened == 1
    assert tell(second.id) == []

    assert hub.of(second) == ("ACTIVE", "NOTIFIED", "AWAITING_APPROVAL")
    assert hub.of(first) == ("ARCHIVED", "NEW", "ESCALATED")
    # What is told of it late does not bring it back.
    assert tell(first.id) == []
    assert hub.of(first) == ("ARCHIVED", "NEW", "ESCALATED")


def test_a_case_about_other_keys_takes_the_place_too(table: Any, hub: Hub) -> None:
    first = a_waiting_case(table)
    end_case(table, first.id, Outcome.FAILED)
    tell(first.id)
    second = open_a_case(table, now=LATER, key_ids=["AKIAANOTHER000000001"])
    assert second.reopened == 0

    assert tell(second.id) == []
    assert hub.of(first) == ("ARCHIVED", "NEW", "FAILED")


def test_the_place_is_taken_also_by_a_case_that_is_over_when_it_is_told_of(
    table: Any, hub: Hub
) -> None:
    first = a_waiting_case(table)
    end_case(table, first.id, Outcome.ESCALATED)
    tell(first.id)
    second = open_a_case(table, now=LATER)
    end_case(table, second.id, Outcome.REMEDIATED)

    assert tell(second.id) == []
    assert hub.of(first)[0] == "ARCHIVED"


@pytest.mark.parametrize("is_newer", [True, False])
def test_a_case_comes_again_for_the_one_before_it(table: Any, hub: Hub, is_newer: bool) -> None:
    first = a_waiting_case(table)
    end_case(table, first.id, Outcome.ESCALATED)
    second, other = open_a_case(table, now=LATER), a_waiting_case(table, id=OTHER)
    if is_newer:
        table.update_item(
            Key={"pk": f"CASE#{first.id}", "sk": "CASE"},
            UpdateExpression="SET #s = :two",
            ExpressionAttributeNames={"#s": "schema"},
            ExpressionAttributeValues={":two": 2},
        )
    else:
        hub.refused[first.execution_arn] = "no"

    assert tell(second.id, other.id) == ["m0"]
    assert set(hub.findings) == {second.execution_arn, other.execution_arn}


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"detail": {}}', '{"detail": {"case_id": 7}}', '{"detail": []}']
)
def test_an_event_of_another_shape_comes_again_alone(table: Any, hub: Hub, body: str) -> None:
    case = a_waiting_case(table)
    good = json.dumps({"detail": {"case_id": case.id}})
    records = [{"messageId": "bad", "body": body}, {"messageId": "good", "body": good}]

    answer = write_findings.handler({"Records": records}, None)

    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    assert hub.of(case)[0] == "ACTIVE"


def test_of_a_case_that_was_settled_the_next_one_tells_nothing(table: Any, hub: Hub) -> None:
    first = a_waiting_case(table)
    end_case(table, first.id, Outcome.REMEDIATED)
    second = open_a_case(table, now=LATER)

    assert tell(second.id) == []
    assert set(hub.findings) == {second.execution_arn}


def test_the_control_is_notified_while_a_case_is_open(table: Any, hub: Hub) -> None:
    case = a_waiting_case(table)
    ours, other = hub.control(), hub.control(OTHER)
    elsewhere = hub.control(Id="in-another-region")

    tell(case.id)

    assert ours["Workflow"] == elsewhere["Workflow"] == {"Status": "NOTIFIED"}
    assert ours["Note"]["UpdatedBy"] == "rootsweep"
    assert ours["Note"]["Text"].startswith(f"Rootsweep: case {case.id} is about it.")
    assert other["Workflow"] == {"Status": "NEW"}
    assert "Note" not in other


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.ESCALATED, "NEW"),
        (Outcome.FAILED, "NEW"),
        (Outcome.DECLINED, "NOTIFIED"),
        (Outcome.REMEDIATED, "NOTIFIED"),
    ],
)
def test_the_control_is_news_again_when_nobody_sees_to_it(
    table: Any, hub: Hub, outcome: Outcome, status: str
) -> None:
    case = a_waiting_case(table)
    control = hub.control()
    tell(case.id)

    end_case(table, case.id, outcome)
    tell(case.id)

    assert control["Workflow"] == {"Status": status}
    assert (f"ended {outcome}" in control["Note"]["Text"]) == (status == "NEW")


@pytest.mark.parametrize("status", ["NOTIFIED", "SUPPRESSED", "RESOLVED"])
def test_what_people_have_set_is_left(table: Any, hub: Hub, status: str) -> None:
    case = a_waiting_case(table)
    control = hub.control(Workflow={"Status": status}, Note=OF_A_PERSON)
    before = dict(control)

    tell(case.id)
    end_case(table, case.id, Outcome.ESCALATED)
    tell(case.id)

    assert control == before


@pytest.mark.parametrize("status", ["SUPPRESSED", "RESOLVED", "NOTIFIED"])
def test_what_people_have_set_about_a_case_is_left(table: Any, hub: Hub, status: str) -> None:
    case = a_waiting_case(table)
    tell(case.id)
    end_case(table, case.id, Outcome.ESCALATED)
    tell(case.id)
    hub.findings[case.execution_arn]["Workflow"] = {"Status": status}

    assert tell(case.id) == []
    assert hub.of(case) == ("ACTIVE", status, "ESCALATED")


def test_very_many_findings_are_all_set_in_few_calls(table: Any, hub: Hub) -> None:
    """So many Regions has no account, but each of its standards can have a finding of its own."""
    hub.page_size = 100
    case = a_waiting_case(table)
    many = [hub.control(Id=f"{number}-of-{ACCOUNT}") for number in range(170)]

    assert tell(case.id) == []
    assert {each["Workflow"]["Status"] for each in many} == {"NOTIFIED"}
    assert hub.calls.count("BatchUpdateFindings") == 2


def test_a_note_of_a_person_stays(table: Any, hub: Hub) -> None:
    case = a_waiting_case(table)
    control = hub.control(Note=OF_A_PERSON)

    tell(case.id)

    assert control["Workflow"] == {"Status": "NOTIFIED"}
    assert control["Note"] == OF_A_PERSON


def test_what_has_passed_or_is_archived_is_left(table: Any, hub: Hub) -> None:
    case = a_waiting_case(table)
    passed = hub.control(Compliance={"Status": "PASSED", "SecurityControlId": "IAM.4"})
    archived = hub.control(Id="archived", RecordState="ARCHIVED")
    another = hub.control(
        Id="another", Compliance={"Status": "FAILED", "SecurityControlId": "IAM.6"}
    )

    tell(case.id)

    assert {each["Workflow"]["Status"] for each in (passed, archived, another)} == {"NEW"}


def test_a_case_that_changes_meanwhile_is_written_again(table: Any, hub: Hub) -> None:
    """Whoever writes last has written what is there: two batches can be under way at once."""
    case = a_waiting_case(table)

    def end_it() -> None:
        hub.when_imported = lambda: None
        end_case(table, case.id, Outcome.ESCALATED)

    hub.when_imported = end_it

    assert tell(case.id) == []
    assert hub.of(case) == ("ACTIVE", "NEW", "ESCALATED")


def test_a_case_that_goes_on_changing_comes_again(table: Any, hub: Hub) -> None:
    case = a_waiting_case(table)
    names = iter(range(100))

    def change() -> None:
        table.update_item(
            Key={"pk": f"CASE#{case.id}", "sk": "CASE"},
            UpdateExpression="SET account_name = :name",
            ExpressionAttributeValues={":name": f"name {next(names)}"},
        )

    hub.when_imported = change

    assert tell(case.id) == ["m0"]


def test_one_case_that_cannot_be_told_of_does_not_keep_the_others(
    table: Any, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    good, newer, refused = (a_waiting_case(table, id=f"33333333333{n}", now=NOW) for n in range(3))
    table.update_item(
        Key={"pk": f"CASE#{newer.id}", "sk": "CASE"},
        UpdateExpression="SET #s = :two",
        ExpressionAttributeNames={"#s": "schema"},
        ExpressionAttributeValues={":two": 2},
    )
    hub.refused[refused.execution_arn] = "data.Title is wrong"

    with caplog.at_level(logging.ERROR):
        again = tell(newer.id, refused.id, good.id, "a-case-that-is-not-there")

    assert again == ["m0", "m1", "m3"]
    assert hub.of(good)[0] == "ACTIVE"
    assert set(hub.findings) == {good.execution_arn}
    lines = {vars(line)["case_id"]: line.getMessage() for line in caplog.records}
    assert lines[refused.id] == (
        "Security Hub does not take a finding: InvalidInput: data.Title is wrong"
    )
    assert set(lines) == {newer.id, refused.id, "a-case-that-is-not-there"}


def test_nothing_is_asked_of_security_hub_about_cases_that_cannot_be_read(
    table: Any,  # noqa: ARG001
    hub: Hub,
) -> None:
    assert tell("a-case-that-is-not-there") == ["m0"]
    assert hub.calls == []


def test_what_is_not_updated_comes_again(table: Any, hub: Hub) -> None:
    case = a_waiting_case(table)
    hub.control()
    hub.is_lost = True

    assert tell(case.id) == ["m0"]
    hub.is_lost = False
    assert tell(case.id) == []
    end_case(table, case.id, Outcome.ESCALATED)
    hub.is_lost = True
    assert tell(case.id) == ["m0"]
    hub.is_lost = False
    assert tell(case.id) == []
    assert hub.of(case) == ("ACTIVE", "NEW", "ESCALATED")


def test_a_case_whose_last_one_is_forgotten_is_told_of_alone(table: Any, hub: Hub) -> None:
    first = a_waiting_case(table)
    end_case(table, first.id, Outcome.ESCALATED)
    second = open_a_case(table, now=LATER)
    table.delete_item(Key={"pk": f"CASE#{first.id}", "sk": "CASE"})

    assert tell(second.id) == []
    assert set(hub.findings) == {second.execution_arn}


def test_an_error_of_security_hub_brings_the_batch_again(
    table: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: Any) -> None:
        raise an_error("InvalidAccessException", "BatchImportFindings", "not subscribed")

    monkeypatch.setattr(hub, "batch_import_findings", fails)

    with pytest.raises(ClientError, match="not subscribed"):
        tell(a_waiting_case(table).id)
