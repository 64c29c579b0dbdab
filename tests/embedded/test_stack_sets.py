"""StackSets of the pretend organization. Each test names its page of the CloudFormation API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .conftest import MANAGEMENT, REPOSITORY, SECURITY

if TYPE_CHECKING:
    from .conftest import Aws

NO_ROLE, CLOSED = "333333333336", "333333333338"
PRINCIPAL = "member.org.stacksets.cloudformation.amazonaws.com"
NAME = {"StackSetName": "audit"}


def create(cloudformation: Any) -> None:
    cloudformation.create_stack_set(
        **NAME,
        TemplateBody=(REPOSITORY / "member-role.yaml").read_text(),
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": "SecurityAccountId", "ParameterValue": SECURITY},
            {"ParameterKey": "AuditRoleName", "ParameterValue": "other-audit"},
        ],
    )


def test_stack_sets_need_trusted_access(aws: Aws) -> None:
    """ActivateOrganizationsAccess, DescribeOrganizationsAccess."""
    cloudformation = aws.client("cloudformation", MANAGEMENT)
    aws.client("organizations", MANAGEMENT).disable_aws_service_access(ServicePrincipal=PRINCIPAL)
    assert cloudformation.describe_organizations_access()["Status"] == "DISABLED"
    with pytest.raises(ClientError, match="You must enable organizations access"):
        create(cloudformation)
    with pytest.raises(ClientError, match="management account"):
        aws.client("cloudformation").activate_organizations_access()
    cloudformation.activate_organizations_access()
    assert cloudformation.describe_organizations_access()["Status"] == "ENABLED"


def test_a_role_comes_into_the_accounts_that_function(aws: Aws) -> None:
    """CreateStackInstances, DeploymentTargets: the accounts of the units that are named too."""
    cloudformation = aws.client("cloudformation", MANAGEMENT)
    create(cloudformation)
    with pytest.raises(ClientError, match="NameAlreadyExists"):
        create(cloudformation)
    root = aws.client("organizations", MANAGEMENT).list_roots()["Roots"][0]["Id"]
    cloudformation.create_stack_instances(
        **NAME,
        DeploymentTargets={
            "OrganizationalUnitIds": [root],
            "Accounts": [NO_ROLE, CLOSED, MANAGEMENT],
            "AccountFilterType": "INTERSECTION",
        },
        Regions=["us-east-1"],
    )
    listed = cloudformation.list_stack_instances(**NAME)["Summaries"]
    assert [(each["Account"], each["Status"]) for each in listed] == [(NO_ROLE, "CURRENT")]
    role = aws.client("iam", NO_ROLE).get_role(RoleName="other-audit")["Role"]
    assert SECURITY in str(role["AssumeRolePolicyDocument"])
    with pytest.raises(ClientError, match="StackSetNotFoundException"):
        cloudformation.list_stack_instances(StackSetName="another")
