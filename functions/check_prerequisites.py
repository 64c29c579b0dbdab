"""Refuse a sweep that could not do its work, and say what to do about it."""

from __future__ import annotations

import os
from typing import Any

import boto3

from rootsweep import escalation, logs, sender, sweeps
from rootsweep.calls import CALLS
from rootsweep.errors import PrerequisiteError

ESCALATION_POLICY_PARAMETER = os.environ["ESCALATION_POLICY_PARAMETER"]
SENDER = os.environ["SENDER"]
USES_MEMBER_ROLE = os.environ["SCAN_ACCESS"] == "MemberRole"
organizations = boto3.client("organizations", config=CALLS)
iam = boto3.client("iam", config=CALLS)
ses = boto3.client("sesv2", config=CALLS)
ssm = boto3.client("ssm", config=CALLS)


@logs.invocation
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """`{"input", "execution_arn", "started_at"}` -> the request with `sweep_id`, `started_at` and
    `escalation_policy`, which goes on the way with the sweep and then stays in its cases.

    Raises InvalidSweepInputError or PrerequisiteError.
    """
    sweep_id = sweeps.sweep_id_for(
        execution_arn=event["execution_arn"], started_at=event["started_at"]
    )
    with logs.about(sweep_id=sweep_id):
        request = sweeps.SweepRequest.parse(event["input"])
        check_organization()
        ladder: escalation.Ladder = ()
        if not request.detect_only:
            check_root_credentials_management()
            check_sender()
            ladder = read_escalation_policy()
    return {
        **request.to_dict(),
        "escalation_policy": [rung.to_dict() for rung in ladder],
        "sweep_id": sweep_id,
        "started_at": event["started_at"],
    }


def check_organization() -> None:
    """Raise PrerequisiteError unless there is an organization with all features to be listed."""
    try:
        organization = organizations.describe_organization()["Organization"]
        organizations.list_accounts(MaxResults=1)
    except organizations.exceptions.AWSOrganizationsNotInUseException as error:
        raise PrerequisiteError(
            "This account is in no organization. Deploy Rootsweep in the security account of one."
        ) from error
    except organizations.exceptions.AccessDeniedException as error:
        raise PrerequisiteError(
            "This account may not list the organization's accounts. In the management account run: "
            "aws organizations register-delegated-administrator "
            f"--service-principal iam.amazonaws.com --account-id <this account> ({error})"
        ) from error
    if organization.get("FeatureSet") != "ALL":
        raise PrerequisiteError(
            "The organization has only consolidated billing. In the management account run: "
            "aws organizations enable-all-features"
        )


def check_root_credentials_management() -> None:
    """Raise PrerequisiteError if this account can open no root session, and has to.

    Where the accounts are checked by a member role, keys are found without root sessions, and the
    cases go the way of a removal by hand until root credentials management is on.
    """
    enable = (
        "In the management account run: aws iam enable-organizations-root-credentials-management"
    )
    try:
        features = iam.list_organizations_features().get("EnabledFeatures", [])
    except iam.exceptions.ServiceAccessNotEnabledException as error:
        if USES_MEMBER_ROLE:
            return
        raise PrerequisiteError(
            "IAM has no trusted access to the organization. In the management account run: "
            "aws organizations enable-aws-service-access --service-principal iam.amazonaws.com"
        ) from error
    except iam.exceptions.AccountNotManagementOrDelegatedAdministratorException as error:
        raise PrerequisiteError(
            "This account is no delegated administrator for IAM. In the management account run: "
            "aws organizations register-delegated-administrator "
            "--service-principal iam.amazonaws.com --account-id <this account>"
        ) from error
    if "RootCredentialsManagement" not in features and not USES_MEMBER_ROLE:
        raise PrerequisiteError(
            f"Root credentials management is off, so no account can be checked. {enable}"
        )


def read_escalation_policy() -> escalation.Ladder:
    """The escalation policy as it is now. Raises PrerequisiteError that names what is wrong."""
    repair = f"aws ssm put-parameter --overwrite --name {ESCALATION_POLICY_PARAMETER} --value ..."
    try:
        text = ssm.get_parameter(Name=ESCALATION_POLICY_PARAMETER)["Parameter"].get("Value", "")
        return escalation.parse(text)
    except ssm.exceptions.ParameterNotFound as error:
        raise PrerequisiteError(
            f"There is no escalation policy {ESCALATION_POLICY_PARAMETER}. Run: {repair}"
        ) from error
    except escalation.EscalationPolicyError as error:
        raise PrerequisiteError(
            f"The escalation policy {ESCALATION_POLICY_PARAMETER} cannot be used: {error}. "
            f"Run: {repair}"
        ) from error


def check_sender() -> None:
    """Raise PrerequisiteError unless SES would send mail from the sender of this stack."""
    if not sender.verified_identity(ses, SENDER):
        raise PrerequisiteError(
            f"SES has not verified the sender {SENDER} in this Region. Run: "
            f"{sender.verify(SENDER)} and follow the link in the mail that comes"
        )
