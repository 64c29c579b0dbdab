"""The quarantine: the root user of an account is blocked before its keys are deleted, reversibly.

A service control policy denies whatever the root user does with its long-term credentials and
spares root sessions (IAM User Guide, "AWS global condition context keys", aws:AssumedRoot). There
is one policy for all accounts in quarantine, made when the first needs it and deleted after the
last. What it is attached to is in the table before it is attached, and until it is detached.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Key

from rootsweep import cases
from rootsweep.errors import QuarantineImpossibleError
from rootsweep.table import QUARANTINE, SCHEMA_VERSION, every_item, iso, quarantine_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_organizations import OrganizationsClient

_SCP: Any = "SERVICE_CONTROL_POLICY"
_BLOCK = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {
                    "ArnLike": {"aws:PrincipalArn": ["arn:*:iam::*:root"]},
                    "Null": {"aws:AssumedRoot": "true"},
                },
            }
        ],
    }
)


def begin(
    organizations: OrganizationsClient,
    table: Table,
    *,
    case: cases.Case,
    policy_name: str,
    until: datetime,
) -> None:
    """Block the root user of the case's account; again changes nothing.

    Raises QuarantineImpossibleError if AWS refuses for good, as where the account has as many
    policies as it can have (five) or the organization lets this account attach none.
    """
    before: Any = table.put_item(
        Item={
            **quarantine_key(case.account_id),
            "schema": SCHEMA_VERSION,
            "account_id": case.account_id,
            "case_id": case.id,
            "until": iso(until),
        },
        ReturnValues="ALL_OLD",
    ).get("Attributes")
    errors = organizations.exceptions
    try:
        policy_id = _find(organizations, policy_name) or _create(organizations, policy_name)
        organizations.attach_policy(PolicyId=policy_id, TargetId=case.account_id)
    except errors.DuplicatePolicyAttachmentException:
        return
    except (
        errors.AccessDeniedException,
        errors.ConstraintViolationException,
        errors.PolicyTypeNotEnabledException,
        errors.TargetNotFoundException,
    ) as error:
        if before is None:  # Else it may be attached since an earlier attempt.
            table.delete_item(Key=quarantine_key(case.account_id))
        raise QuarantineImpossibleError(f"account {case.account_id}: {error}") from error


def lift_ended(
    organizations: OrganizationsClient, table: Table, *, policy_name: str, is_in_use: bool
) -> list[str]:
    """Lift the block of each account where no deletion is under way; return their ids.

    That is so when its case has ended, or people are asked anew: a removal by hand is impossible
    while the root user is blocked, and nobody chose a block that lasts until they decide again.
    Whatever else our policy is attached to is no quarantine that anybody knows of, and is lifted
    too. If the stack puts nobody into quarantine, this looks only whether anybody is left in it.
    An account that it fails about costs no other its end: the last error is raised after all have
    been tried.
    """
    if not is_in_use and not any(_items(table)):
        return []
    policy_id = _find(organizations, policy_name)
    # The targets before the items: what is attached meanwhile has its item first.
    targets = _targets(organizations, policy_id) if policy_id else set()
    cases_of = {item["account_id"]: item["case_id"] for item in _items(table)}
    over: dict[str, str] = {}
    problem: Exception | None = None
    for account_id, case_id in cases_of.items():
        try:
            if _is_over(table, case_id):
                over[account_id] = case_id
        except Exception as error:
            problem = error
    for account_id in [*over, *sorted(targets - set(cases_of))]:
        try:
            if policy_id and account_id in targets:
                _detach(organizations, policy_id, account_id)
            _forget(table, account_id, over.get(account_id, ""))
        except Exception as error:
            problem = error
    if problem:
        raise problem
    if policy_id and targets.isdisjoint(set(cases_of) - set(over)):
        _delete(organizations, policy_id)
    return list(over)


def _detach(organizations: OrganizationsClient, policy_id: str, account_id: str) -> None:
    errors = organizations.exceptions
    # Somebody else has done it, or the account has left the organization.
    with contextlib.suppress(
        errors.PolicyNotAttachedException,
        errors.PolicyNotFoundException,
        errors.TargetNotFoundException,
    ):
        organizations.detach_policy(PolicyId=policy_id, TargetId=account_id)


def _forget(table: Table, account_id: str, case_id: str) -> None:
    """Delete the item of a quarantine that is over, unless another case has begun one since."""
    with contextlib.suppress(table.meta.client.exceptions.ConditionalCheckFailedException):
        table.delete_item(
            Key=quarantine_key(account_id),
            ConditionExpression="case_id = :case",
            ExpressionAttributeValues={":case": case_id},
        )


def _items(table: Table) -> Iterator[dict[str, Any]]:
    return every_item(table, KeyConditionExpression=Key("pk").eq(QUARANTINE))


def _is_over(table: Table, case_id: str) -> bool:
    """Whether no deletion is under way any more: the case has ended, or people are asked anew."""
    return cases.find_deleting(table, case_id=case_id) is None


def _find(organizations: OrganizationsClient, name: str) -> str | None:
    for page in organizations.get_paginator("list_policies").paginate(Filter=_SCP):
        for policy in page["Policies"]:
            if policy.get("Name") == name:
                return policy["Id"]
    return None


def _create(organizations: OrganizationsClient, name: str) -> str:
    made = organizations.create_policy(
        Name=name,
        Description="Made and deleted by Rootsweep: blocks root users whose keys will be deleted.",
        Type=_SCP,
        Content=_BLOCK,
    )
    return made["Policy"]["PolicySummary"]["Id"]


def _targets(organizations: OrganizationsClient, policy_id: str) -> set[str]:
    pages = organizations.get_paginator("list_targets_for_policy").paginate(PolicyId=policy_id)
    try:
        return {target["TargetId"] for page in pages for target in page["Targets"]}
    except organizations.exceptions.PolicyNotFoundException:
        return set()  # Somebody else has just deleted it, for it was attached to nothing.


def _delete(organizations: OrganizationsClient, policy_id: str) -> None:
    errors = organizations.exceptions
    # If another account came into quarantine this very moment, it is still needed.
    with contextlib.suppress(errors.PolicyInUseException, errors.PolicyNotFoundException):
        organizations.delete_policy(PolicyId=policy_id)
