"""What AWS Security Hub CSPM is told: a finding for each case, and that IAM.4 is being seen to.

The finding of a case is in the security account, for only the account in `AwsAccountId` can import
with the default product ARN (Security Hub API reference, BatchImportFindings). It is ACTIVE while
somebody has something to do: NOTIFIED while the case is open, NEW when it was given up and no later
case has taken its place. Then it is ARCHIVED.

The finding of control IAM.4 about the account becomes NOTIFIED with the case, and NEW again if the
case is given up. Whether the account passes is for the control to say.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rootsweep import cases, console, messages
from rootsweep.frameworks import SECURITY_HUB
from rootsweep.text import plain, unlinked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_securityhub import SecurityHubClient
    from mypy_boto3_securityhub.literals import WorkflowStatusType
    from mypy_boto3_securityhub.type_defs import (
        AwsSecurityFindingOutputTypeDef,
        AwsSecurityFindingTypeDef,
        ResourceTypeDef,
    )

    from rootsweep.cases import Case

# Who made a finding, and who wrote the note beside that of a control.
ROOTSWEEP = "rootsweep"
CONTROL = "IAM.4"
# Filter values that GetFindings takes for one field, and so the cases that are told of at once.
MOST_CASES = 20
MOST_UPDATES = 100


@dataclass(frozen=True)
class Subject:
    """A case to tell of, and whether a later one of its account has taken its place."""

    case: Case
    has_successor: bool

    @property
    def is_given_up(self) -> bool:
        """Whether it ended with keys that nobody sees to any more."""
        return self.case.outcome in cases.GIVEN_UP and not self.has_successor

    @property
    def is_active(self) -> bool:
        """Whether somebody has something to do about it."""
        return not self.case.ended_at or self.is_given_up


def load(table: Table, *, case_id: str) -> Subject:
    """The case as it is now. Raises KeyError if there is none, NewerItemError, ClientError."""
    case = cases.load(table, case_id=case_id)
    if not case.ended_at:
        return Subject(case, has_successor=False)
    is_last = cases.last_case_id(table, account_id=case.account_id) == case.id
    # In this order: between the two, a case can end and be the last one, but none can open unseen.
    is_open = cases.find_open_case(table, account_id=case.account_id) is not None
    return Subject(case, has_successor=is_open or not is_last)


def put(
    hub: SecurityHubClient, subjects: Sequence[Subject], *, product_arn: str, now: datetime
) -> dict[str, str]:
    """Make or update the findings of up to MOST_CASES cases; case id -> why, where it failed.

    `product_arn` is the default one of this account and Region. Raises ClientError.
    """
    given_up = {each.case.execution_arn: each.case for each in subjects if each.is_given_up}
    # Before the import, which says that it was done. An import changes no workflow status itself
    # (BatchImportFindings), and what people have set since stays.
    failed = {
        arn: reason
        for arn in _that_are_notified(hub, given_up, product_arn=product_arn)
        for reason in _update(hub, [(arn, product_arn)], status="NEW", note="")
    }
    found = [
        finding(subject, product_arn=product_arn, now=now)
        for subject in subjects
        if subject.case.execution_arn not in failed
    ]
    # The call succeeds even if nothing was imported.
    answer: Any = hub.batch_import_findings(Findings=found) if found else {}
    for each in answer.get("FailedFindings", []):
        failed[each["Id"]] = f"{each['ErrorCode']}: {each['ErrorMessage']}"
    return {
        subject.case.id: failed[subject.case.execution_arn]
        for subject in subjects
        if subject.case.execution_arn in failed
    }


def set_control(hub: SecurityHubClient, subjects: Sequence[Subject]) -> dict[str, str]:
    """Set the findings of IAM.4 about the accounts of up to MOST_CASES cases.

    NEW becomes NOTIFIED while a case is open. What has our note becomes NEW if the case was given
    up. Findings of other accounts are seen from Security Hub's administrator only. Returns case id
    -> why, where it failed; raises ClientError.
    """
    is_open = {each.case.account_id: each.case for each in subjects if not each.case.ended_at}
    given_up = {each.case.account_id: each.case for each in subjects if each.is_given_up}
    return {
        **_move(hub, is_open, of="NEW", to="NOTIFIED"),
        **_move(hub, given_up, of="NOTIFIED", to="NEW"),
    }


def finding(subject: Subject, *, product_arn: str, now: datetime) -> AwsSecurityFindingTypeDef:
    """The finding of a case in the AWS Security Finding Format.

    `UpdatedAt` is `now`: Security Hub overlooks an update that is not later than what it has.
    """
    case = subject.case
    _, partition, _, region, account, _ = product_arn.split(":", 5)
    about = {
        "case_id": case.id,
        "sweep_id": case.sweep_id,
        "outcome": case.outcome,
        "account_id": case.account_id,
        "account_name": unlinked(plain(case.account_name)),
        "organizational_unit": unlinked(plain(case.ou)),
    }
    title, description = messages.finding(case, has_successor=subject.has_successor)
    resource: ResourceTypeDef = {
        "Type": "AwsAccount",
        "Id": f"AWS::::Account:{case.account_id}",  # As the control names it.
        "Partition": partition,  # type: ignore[typeddict-item]
        "Region": region,
    }
    made: AwsSecurityFindingTypeDef = {
        "SchemaVersion": "2018-10-08",
        "Id": case.execution_arn,
        "ProductArn": product_arn,
        "GeneratorId": ROOTSWEEP,
        "AwsAccountId": account,
        "FirstObservedAt": case.opened_at,
        "CreatedAt": case.opened_at,
        "UpdatedAt": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "FindingProviderFields": {
            "Severity": {"Label": "CRITICAL"},  # That of the control.
            "Types": ["Software and Configuration Checks/AWS Security Best Practices"],
        },
        "Title": title,
        "Description": description,
        "Remediation": {
            "Recommendation": {"Text": messages.FINDING_RECOMMENDATION, "Url": SECURITY_HUB}
        },
        # Security Hub refuses values without a sign in them.
        "ProductFields": {f"{ROOTSWEEP}/{name}": text for name, text in about.items() if text},
        "Resources": [resource],
        "RecordState": "ACTIVE" if subject.is_active else "ARCHIVED",
        # Counts only when the finding is made.
        "Workflow": {"Status": "NEW" if subject.is_given_up else "NOTIFIED"},
    }
    if link := console.execution_link(case.execution_arn):
        made["SourceUrl"] = link
    return made


def _that_are_notified(
    hub: SecurityHubClient, given_up: Mapping[str, Case], *, product_arn: str
) -> list[str]:
    """Of cases that were given up, by the ids of their findings, those that say nothing of it."""
    found = _search(
        hub,
        Id=list(given_up),
        ProductArn=[product_arn],
        WorkflowStatus=["NOTIFIED"],
    )
    told = f"{ROOTSWEEP}/outcome"
    return [
        each["Id"]
        for each in found
        if each.get("ProductFields", {}).get(told) != given_up[each["Id"]].outcome
    ]


def _move(
    hub: SecurityHubClient,
    cases_of: Mapping[str, Case],
    *,
    of: WorkflowStatusType,
    to: WorkflowStatusType,
) -> dict[str, str]:
    ours: dict[str, list[tuple[str, str]]] = defaultdict(list)
    theirs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    found = _search(
        hub,
        AwsAccountId=list(cases_of),
        ComplianceSecurityControlId=[CONTROL],
        ComplianceStatus=["FAILED"],
        RecordState=["ACTIVE"],
        WorkflowStatus=[of],
    )
    for each in found:
        note_by = each.get("Note", {}).get("UpdatedBy", "")
        if to == "NEW" and note_by != ROOTSWEEP:
            continue
        # What somebody has written is left; there is room for one note.
        noted = ours if note_by in ("", ROOTSWEEP) else theirs
        noted[each["AwsAccountId"]].append((each["Id"], each["ProductArn"]))
    failed = {}
    for account_id, case in cases_of.items():
        for ids, note in ((ours, messages.finding_note(case)), (theirs, "")):
            for reason in _update(hub, ids[account_id], status=to, note=note):
                failed[case.id] = reason
    return failed


def _search(hub: SecurityHubClient, **wanted: list[str]) -> list[AwsSecurityFindingOutputTypeDef]:
    """All findings that have one of the values in each of the fields; none if a field has none.

    All of them at once: what is found changes by what is done with it.
    """
    if not all(wanted.values()):
        return []
    filters: Any = {
        field: [{"Value": value, "Comparison": "EQUALS"} for value in values]
        for field, values in wanted.items()
    }
    pages = hub.get_paginator("get_findings").paginate(Filters=filters)
    return [each for page in pages for each in page["Findings"]]


def _update(
    hub: SecurityHubClient,
    findings: Sequence[tuple[str, str]],
    *,
    status: WorkflowStatusType,
    note: str,
) -> list[str]:
    """Set findings, each an id and a product ARN; the reasons where it failed."""
    failed = []
    for start in range(0, len(findings), MOST_UPDATES):
        answer = hub.batch_update_findings(
            FindingIdentifiers=[
                {"Id": id, "ProductArn": arn} for id, arn in findings[start : start + MOST_UPDATES]
            ],
            Workflow={"Status": status},
            **({"Note": {"Text": note, "UpdatedBy": ROOTSWEEP}} if note else {}),  # type: ignore[arg-type]
        )
        failed += [
            f"{each['ErrorCode']}: {each['ErrorMessage']}" for each in answer["UnprocessedFindings"]
        ]
    return failed
