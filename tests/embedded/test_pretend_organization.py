"""The pretend organization answers as AWS does. Each test names where AWS says so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from ministack.services import sts as ministack_sts

from local import pretend

from .conftest import MANAGEMENT, SECURITY, TASKS, Aws, document

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIT = "IAMAuditRootUserCredentials"
DELETE = "IAMDeleteRootUserCredentials"
KEYS, CLEAN, THROTTLED, NO_ROLE = "333333333333", "333333333334", "333333333335", "333333333336"
SCP, CLOSED, LATE, CLOSING = "333333333337", "333333333338", "333333333339", "333333333340"
DELETING, MAKING = "333333333341", "333333333342"


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    error = refused.value.response["Error"]
    status = refused.value.response["ResponseMetadata"]["HTTPStatusCode"]
    return error["Code"], error["Message"], status


def may_assume_root(*tasks: str, target: str = "*") -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": "sts:AssumeRoot",
        "Resource": f"arn:aws:iam::{target}:root",
        "Condition": {"ArnEquals": {"sts:TaskPolicyArn": [TASKS + task for task in tasks]}},
    }


def allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


@pytest.fixture(scope="module")
def operator(aws: Aws) -> Any:
    """A role of the security account that may assume root for each of the tasks."""
    tasks = ("IAMAuditRootUserCredentials", "IAMDeleteRootUserCredentials", "S3UnlockBucketPolicy")
    return aws.role("operator", may_assume_root(*tasks), allow("iam:*", "organizations:*"))


@pytest.fixture(scope="module")
def assume_root(aws: Aws, operator: Any) -> Callable[..., Any]:
    sts = aws.client("sts", credentials=operator)

    def assume(account: str, task: str = AUDIT, **arguments: Any) -> Any:
        return sts.assume_root(
            TargetPrincipal=account, TaskPolicyArn={"arn": TASKS + task}, **arguments
        )["Credentials"]

    return assume


@pytest.fixture(scope="module")
def as_root(aws: Aws, assume_root: Callable[..., Any]) -> Callable[..., Any]:
    def client(account: str, task: str = AUDIT) -> Any:
        return aws.client("iam", credentials=assume_root(account, task))

    return client


# -- Organizations API reference ----------------------------------------------------------------


def test_accounts_are_listed_in_pages_of_twenty_with_state_and_path(aws: Aws) -> None:
    """ListAccounts: MaxResults 1 to 20; Account: State and Paths, Status is retired."""
    organizations = aws.client("organizations")
    pages = list(organizations.get_paginator("list_accounts").paginate())
    accounts = {account["Id"]: account for page in pages for account in page["Accounts"]}
    assert [len(page["Accounts"]) for page in pages] == [20, 20, 12]
    found, root = accounts[KEYS], organizations.list_roots()["Roots"][0]["Id"]
    organization = organizations.describe_organization()["Organization"]
    assert "Status" not in found
    assert (found["Name"], found["State"], found["JoinedMethod"]) == (
        "payments-prod",
        "ACTIVE",
        "CREATED",
    )
    assert found["Paths"][0].startswith(f"{organization['Id']}/{root}/ou-{root[2:]}-")
    assert found["Paths"][0].endswith(f"/{KEYS}/")
    assert accounts[CLOSED]["State"] == "CLOSED"
    assert refusal(organizations.list_accounts, NextToken="x")[0] == "InvalidInputException"


def test_every_account_sees_the_same_organization(aws: Aws) -> None:
    """DescribeOrganization: "can be called from any account in the organization"."""
    seen = [
        aws.client("organizations", account).describe_organization()["Organization"]
        for account in (MANAGEMENT, SECURITY, KEYS)
    ]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["MasterAccountId"] == MANAGEMENT
    stranger = aws.client("organizations", "999999999999").describe_organization
    assert refusal(stranger)[0] == "AWSOrganizationsNotInUseException"


def test_the_tree_can_be_walked_down_and_up(aws: Aws) -> None:
    """ListOrganizationalUnitsForParent, ListAccountsForParent, ListChildren, ListParents."""
    client = aws.client("organizations")
    root = client.list_roots()["Roots"][0]["Id"]
    units = client.list_organizational_units_for_parent(ParentId=root)["OrganizationalUnits"]
    workloads = next(unit["Id"] for unit in units if unit["Name"] == "Workloads")
    children = client.list_children(ParentId=workloads, ChildType="ORGANIZATIONAL_UNIT")
    prod = children["Children"][0]["Id"]
    members = client.list_accounts_for_parent(ParentId=prod)["Accounts"]
    assert {account["Id"] for account in members} == {KEYS, CLEAN}
    assert client.list_accounts_for_parent(ParentId=workloads)["Accounts"] == []
    assert client.list_parents(ChildId=KEYS)["Parents"] == [
        {"Id": prod, "Type": "ORGANIZATIONAL_UNIT"}
    ]
    assert client.list_parents(ChildId=workloads)["Parents"] == [{"Id": root, "Type": "ROOT"}]
    unit = client.describe_organizational_unit(OrganizationalUnitId=prod)["OrganizationalUnit"]
    assert unit["Name"] == "Prod"


def test_unknown_things_are_refused_with_the_modelled_errors(aws: Aws) -> None:
    """The errors sections of the Organizations API reference."""
    client = aws.client("organizations")
    nobody = "999999999999"
    assert refusal(client.describe_account, AccountId=nobody)[0] == "AccountNotFoundException"
    assert refusal(client.list_parents, ChildId=nobody)[0] == "ChildNotFoundException"
    assert refusal(client.list_tags_for_resource, ResourceId=nobody)[0] == "TargetNotFoundException"
    parent = "ou-abcd-12345678"
    refused = refusal(client.list_accounts_for_parent, ParentId=parent)
    assert refused[0] == "ParentNotFoundException"


def test_members_that_are_no_delegate_may_not_read_the_organization(aws: Aws) -> None:
    """ListAccounts: "only from the management account or a delegated administrator"."""
    assert refusal(aws.client("organizations", KEYS).list_accounts)[0] == "AccessDeniedException"
    assert refusal(aws.client("organizations").close_account, AccountId=CLEAN)[0] == (
        "AccessDeniedException"
    )


def test_tags_of_accounts_and_units_are_read_and_written(aws: Aws) -> None:
    """TagResource, UntagResource, ListTagsForResource."""
    client = aws.client("organizations", MANAGEMENT)
    assert client.list_tags_for_resource(ResourceId=KEYS)["Tags"] == [
        {"Key": "team", "Value": "payments"}
    ]
    unit = client.list_parents(ChildId=KEYS)["Parents"][0]["Id"]
    client.tag_resource(ResourceId=unit, Tags=[{"Key": "approver", "Value": "a@example.com"}])
    assert client.list_tags_for_resource(ResourceId=unit)["Tags"][1]["Value"] == "a@example.com"
    client.untag_resource(ResourceId=unit, TagKeys=["approver"])
    assert client.list_tags_for_resource(ResourceId=unit)["Tags"] == [
        {"Key": "approvers", "Value": "prod-lead@example.com"}
    ]
    root = client.list_roots()["Roots"][0]["Id"]
    assert client.list_tags_for_resource(ResourceId=root)["Tags"] == []
    client.tag_resource(ResourceId=root, Tags=[{"Key": "team", "Value": "cloud"}])
    read = aws.client("organizations").list_tags_for_resource
    assert read(ResourceId=root)["Tags"] == [{"Key": "team", "Value": "cloud"}]


def test_delegates_and_trusted_services_are_listed_and_a_closing_account_is_pending(
    aws: Aws,
) -> None:
    """RegisterDelegatedAdministrator, ListAWSServiceAccessForOrganization, CloseAccount."""
    client = aws.client("organizations", MANAGEMENT)
    delegates = client.list_delegated_administrators(ServicePrincipal="iam.amazonaws.com")
    assert [each["Id"] for each in delegates["DelegatedAdministrators"]] == [SECURITY]
    services = client.list_delegated_services_for_account(AccountId=SECURITY)["DelegatedServices"]
    assert {each["ServicePrincipal"] for each in services} == {
        "iam.amazonaws.com",
        "account.amazonaws.com",
    }
    enabled = client.list_aws_service_access_for_organization()["EnabledServicePrincipals"]
    assert "iam.amazonaws.com" in {each["ServicePrincipal"] for each in enabled}
    refused = refusal(client.disable_aws_service_access, ServicePrincipal="iam.amazonaws.com")
    assert refused[0] == "ConstraintViolationException"
    client.close_account(AccountId=CLOSING)
    state = client.describe_account(AccountId=CLOSING)["Account"]["State"]
    assert state == "PENDING_CLOSURE"
    refused = refusal(client.close_account, AccountId=CLOSING)
    assert refused[0] == "AccountAlreadyClosedException"


def test_policy_types_are_switched_by_the_management_account(aws: Aws) -> None:
    """EnablePolicyType, DisablePolicyType: one that is on already, or off, is an error."""
    client, kind = aws.client("organizations", MANAGEMENT), "SERVICE_CONTROL_POLICY"
    switch = {"RootId": client.list_roots()["Roots"][0]["Id"], "PolicyType": kind}
    assert refusal(client.enable_policy_type, **switch)[0] == "PolicyTypeAlreadyEnabledException"
    denied = refusal(aws.client("organizations").disable_policy_type, **switch)
    assert denied[0] == "AccessDeniedException"
    assert client.disable_policy_type(**switch)["Root"]["PolicyTypes"] == []
    assert refusal(client.disable_policy_type, **switch)[0] == "PolicyTypeNotEnabledException"
    types = client.enable_policy_type(**switch)["Root"]["PolicyTypes"]
    assert types == [{"Type": kind, "Status": "ENABLED"}]


def test_an_organization_gets_all_features(aws: Aws) -> None:
    """EnableAllFeatures, Organization: there is no way back, so it is made without them here."""
    client = aws.client("organizations", MANAGEMENT)
    refused = refusal(client.enable_all_features)
    assert refused[0] == "HandshakeConstraintViolationException"
    aws.post("/_rootsweep/organization", {"feature_set": "CONSOLIDATED_BILLING"})
    organization = client.describe_organization()["Organization"]
    assert organization["FeatureSet"] == "CONSOLIDATED_BILLING"
    assert client.enable_all_features()["Handshake"]["Action"] == "ENABLE_ALL_FEATURES"
    assert client.describe_organization()["Organization"]["FeatureSet"] == "ALL"
    with pytest.raises(OSError, match="400"):
        aws.post("/_rootsweep/organization", {"feature_set": "SOME"})


# -- Account Management API reference -----------------------------------------------------------


def test_the_security_contact_of_a_member_is_read_by_the_delegate(aws: Aws) -> None:
    """GetAlternateContact: AccountId for the management account and delegates; 404 for none."""
    read = aws.client("account").get_alternate_contact
    found = read(AccountId=KEYS, AlternateContactType="SECURITY")["AlternateContact"]
    assert found["EmailAddress"] == "payments-sec@example.com"
    refused = refusal(read, AccountId=CLEAN, AlternateContactType="SECURITY")
    assert (refused[0], refused[2]) == ("ResourceNotFoundException", 404)
    refused = refusal(read, AccountId=MANAGEMENT, AlternateContactType="SECURITY")
    assert (refused[0], refused[2]) == ("AccessDeniedException", 403)
    own = aws.client("account", KEYS).get_alternate_contact(AlternateContactType="SECURITY")
    assert own["AlternateContact"]["EmailAddress"] == "payments-sec@example.com"
    other = aws.client("account", CLEAN).get_alternate_contact
    refused = refusal(other, AccountId=KEYS, AlternateContactType="SECURITY")
    assert refused[0] == "AccessDeniedException"


# -- sts:AssumeRoot: STS API reference, and answers recorded from AWS ----------------------------


def test_an_audit_session_reads_the_root_user_of_the_member(
    aws: Aws, as_root: Callable[..., Any]
) -> None:
    """IAM User Guide, "Perform a privileged task": leave UserName out to act on root."""
    iam = as_root(KEYS)
    keys = iam.list_access_keys()["AccessKeyMetadata"]
    assert [(key["AccessKeyId"], key["Status"]) for key in keys] == [
        ("AKIAEXAMPLE00000001", "Active"),
        ("AKIAEXAMPLE00000002", "Inactive"),
    ]
    assert all("UserName" not in key for key in keys)
    assert keys[0]["CreateDate"].year == 2016
    used = iam.get_access_key_last_used(AccessKeyId="AKIAEXAMPLE00000001")["AccessKeyLastUsed"]
    assert (used["LastUsedDate"].year, used["ServiceName"]) == (2024, "s3")
    never = iam.get_access_key_last_used(AccessKeyId="AKIAEXAMPLE00000002")["AccessKeyLastUsed"]
    assert never == {"ServiceName": "N/A", "Region": "N/A"}
    assert iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 1
    user = iam.get_user()["User"]
    assert (user["Arn"], user.get("UserName")) == (f"arn:aws:iam::{KEYS}:root", None)
    assert len(iam.list_mfa_devices()["MFADevices"]) == 1
    assert iam.list_signing_certificates()["Certificates"] == []
    assert refusal(iam.get_login_profile) == (
        "NoSuchEntity",
        "Login Profile for User null cannot be found.",
        404,
    )
    identity = aws.client("sts", KEYS).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:iam::{KEYS}:root"


def test_a_session_may_do_what_its_task_policy_lets_through_and_nothing_else(
    as_root: Callable[..., Any],
) -> None:
    """IAM User Guide, contents of the two task policies: no UpdateAccessKey in either."""
    key = "AKIAEXAMPLE00000001"
    audit, delete = as_root(KEYS), as_root(KEYS, DELETE)
    refused = refusal(audit.delete_access_key, AccessKeyId=key)
    assert refused == (
        "AccessDenied",
        (
            f"User: arn:aws:iam::{KEYS}:root is not authorized to perform: iam:DeleteAccessKey "
            f"on resource: arn:aws:iam::{KEYS}:root because no session policy allows the "
            "iam:DeleteAccessKey action"
        ),
        403,
    )
    assert refusal(delete.get_account_summary)[0] == "AccessDenied"
    for iam in (audit, delete):
        assert refusal(iam.update_access_key, AccessKeyId=key, Status="Inactive")[0] == (
            "AccessDenied"
        )
        assert refusal(iam.create_access_key)[0] == "AccessDenied"
        assert refusal(iam.list_users)[0] == "AccessDenied"


def test_a_session_may_not_use_other_services(aws: Aws, assume_root: Callable[..., Any]) -> None:
    """IAM User Guide: the task policies are ceilings on everything the session does."""
    session = assume_root(KEYS)
    assert refusal(aws.client("s3", credentials=session).list_buckets)[0] == "AccessDenied"
    assert aws.client("sts", credentials=session).get_caller_identity()["Account"] == KEYS


def test_a_delete_session_deletes_exactly_the_named_key(
    aws: Aws, as_root: Callable[..., Any]
) -> None:
    """IAM API reference, DeleteAccessKey; NoSuchEntity for a key that is gone."""
    iam = as_root(DELETING, DELETE)
    assert "LoginProfile" in iam.get_login_profile()
    iam.delete_access_key(AccessKeyId="AKIAEXAMPLE00000004")
    assert iam.list_access_keys()["AccessKeyMetadata"] == []
    assert refusal(iam.delete_access_key, AccessKeyId="AKIAEXAMPLE00000004")[0] == "NoSuchEntity"
    seen = aws.get("/_rootsweep/organization")["accounts"][DELETING]
    assert seen["access_keys"] == []
    assert seen["deleted_in_root_sessions"] == ["AKIAEXAMPLE00000004"]
    summary = as_root(DELETING).get_account_summary()["SummaryMap"]
    assert (
        summary["AccountAccessKeysPresent"],
        summary["AccountMFAEnabled"],
        summary["AccountPasswordPresent"],
    ) == (0, 0, 1)


def test_an_scp_that_denies_root_denies_root_sessions(as_root: Callable[..., Any]) -> None:
    """IAM User Guide, aws:AssumedRoot: such an SCP hits AssumeRoot sessions too."""
    code, message, status = refusal(as_root(SCP).list_access_keys)
    assert (code, status) == ("AccessDenied", 403)
    assert message.endswith("with an explicit deny in a service control policy")


def test_a_session_lasts_at_most_900_seconds(assume_root: Callable[..., Any]) -> None:
    """STS API reference, AssumeRoot: DurationSeconds 0 to 900; 901 is a ValidationError."""
    session = assume_root(KEYS, DurationSeconds=60)
    assert 0 < session["Expiration"].timestamp() - time.time() <= 61
    code, message, status = refusal(assume_root, account=KEYS, DurationSeconds=901)
    assert (code, status) == ("ValidationError", 400)
    assert "less than or equal to 900" in message


def test_targets_that_cannot_be_assumed_are_refused_in_the_recorded_words(
    assume_root: Callable[..., Any],
) -> None:
    """Recorded from AWS: the management account and accounts outside are AccessDenied."""
    for target in (MANAGEMENT, CLOSED, "999999999999"):
        code, message, status = refusal(assume_root, account=target)
        assert (code, status) == ("AccessDenied", 403)
        assert message == (
            f"User: arn:aws:sts::{SECURITY}:assumed-role/operator/test is not authorized to "
            f"perform: sts:AssumeRoot on resource: arn:aws:iam::{target}:root"
        )


def test_wrong_targets_and_policies_are_validation_errors(aws: Aws) -> None:
    """Recorded from AWS: a user ARN as target, a policy that is no root task."""
    role = aws.role("anything", allow("sts:AssumeRoot"))
    assume = aws.client("sts", credentials=role).assume_root
    policy = {"arn": TASKS + AUDIT}
    user = f"arn:aws:iam::{KEYS}:user/someone"
    assert refusal(assume, TargetPrincipal=user, TaskPolicyArn=policy)[:2] == (
        "ValidationError",
        "Request must contain a valid target principal",
    )
    other = {"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}
    assert refusal(assume, TargetPrincipal=KEYS, TaskPolicyArn=other)[:2] == (
        "ValidationError",
        "Request must contain valid AWS managed task policy ARN",
    )


def test_root_itself_and_other_members_may_not_assume_root(aws: Aws) -> None:
    """STS API reference, AssumeRoot: not with root credentials; management or delegate only."""
    policy = {"arn": TASKS + AUDIT}
    by_root = aws.client("sts").assume_root
    refused = refusal(by_root, TargetPrincipal=KEYS, TaskPolicyArn=policy)
    assert (refused[0], f"User: arn:aws:iam::{SECURITY}:root is not" in refused[1]) == (
        "AccessDenied",
        True,
    )
    member = aws.role("operator", may_assume_root(AUDIT), account=CLEAN)
    by_member = aws.client("sts", credentials=member).assume_root
    assert refusal(by_member, TargetPrincipal=KEYS, TaskPolicyArn=policy)[0] == "AccessDenied"


def test_a_role_limited_to_the_audit_task_cannot_assume_root_to_delete(aws: Aws) -> None:
    """Service Authorization Reference, AssumeRoot: resource root user, sts:TaskPolicyArn."""
    auditor = aws.role("auditor", may_assume_root(AUDIT, target=KEYS))
    assume = aws.client("sts", credentials=auditor).assume_root
    assert assume(TargetPrincipal=KEYS, TaskPolicyArn={"arn": TASKS + AUDIT})
    code, message, _ = refusal(assume, TargetPrincipal=KEYS, TaskPolicyArn={"arn": TASKS + DELETE})
    assert code == "AccessDenied"
    assert message.endswith(f"sts:AssumeRoot on resource: arn:aws:iam::{KEYS}:root")
    refused = refusal(assume, TargetPrincipal=CLEAN, TaskPolicyArn={"arn": TASKS + AUDIT})
    assert refused[0] == "AccessDenied"


def test_switching_root_access_off_and_on_changes_what_assume_root_answers(
    start: Callable[[str], Aws],
) -> None:
    """Recorded from AWS: three texts for feature off, sessions off, trusted access off."""
    head = f'management_account: "{MANAGEMENT}"\nsecurity_account: "{SECURITY}"\n'
    aws = start(head + f'accounts: [{{id: "{KEYS}"}}]\n')
    role = aws.role("operator", allow("sts:AssumeRoot", "iam:ListOrganizationsFeatures"))
    assume, iam = aws.client("sts", credentials=role).assume_root, aws.client("iam")
    management = aws.client("iam", MANAGEMENT)

    def answer(task: str) -> str:
        policy = {"arn": TASKS + task}
        return refusal(assume, TargetPrincipal=KEYS, TaskPolicyArn=policy)[1]

    features = aws.client("iam", credentials=role).list_organizations_features()
    assert features["EnabledFeatures"] == ["RootCredentialsManagement", "RootSessions"]
    iam.disable_organizations_root_credentials_management()
    iam.disable_organizations_root_sessions()
    assert answer(AUDIT) == (
        "Root credentials management feature is not enabled for your AWS Organization."
    )
    assert answer("S3UnlockBucketPolicy") == (
        "Root sessions feature is not enabled for your AWS Organization."
    )
    refused = refusal(iam.enable_organizations_root_credentials_management)
    assert refused[0] == "CallerIsNotManagementAccountException"
    management.enable_organizations_root_credentials_management()
    assume(TargetPrincipal=KEYS, TaskPolicyArn={"arn": TASKS + AUDIT})
    refused = refusal(aws.client("iam", KEYS).list_organizations_features)
    assert refused[0] == "AccountNotManagementOrDelegatedAdministratorException"
    organizations = aws.client("organizations", MANAGEMENT)
    service = "iam.amazonaws.com"
    refused = refusal(organizations.disable_aws_service_access, ServicePrincipal=service)
    assert refused[0] == "ConstraintViolationException"
    organizations.deregister_delegated_administrator(AccountId=SECURITY, ServicePrincipal=service)
    organizations.disable_aws_service_access(ServicePrincipal=service)
    refused = refusal(management.list_organizations_features)
    assert refused[0] == "ServiceAccessNotEnabledException"
    assert answer(AUDIT) == "Service not enabled for AWS Organizations."
    organizations.enable_aws_service_access(ServicePrincipal=service)
    assert answer(AUDIT).endswith(f"sts:AssumeRoot on resource: arn:aws:iam::{KEYS}:root")


# -- accounts that change while a case waits ------------------------------------------------------

CHANGING = f"""\
management_account: "{MANAGEMENT}"
security_account: "{SECURITY}"
accounts:
  - {{id: "{KEYS}", ou: Workloads/Prod, root: {{access_keys: [{{id: AKIAEXAMPLE00000001}}]}}}}
  - {{id: "{CLEAN}", ou: Workloads}}
"""


@pytest.fixture(scope="module")
def changing(start: Callable[[str], Aws]) -> Aws:
    return start(CHANGING)


@pytest.fixture(scope="module")
def operator_there(changing: Aws) -> Any:
    return changing.role("operator", allow("sts:*"))


def test_a_suspended_or_closed_account_is_out_of_reach(changing: Aws, operator_there: Any) -> None:
    """Organizations User Guide, account states: PENDING_CLOSURE functions, SUSPENDED and CLOSED
    do not. AWS suspends accounts itself, so there is no API for it."""
    sts = changing.client("sts", credentials=operator_there)
    task = {"arn": TASKS + AUDIT}
    role = changing.make_role("audit", allow("iam:ListUsers"), account=KEYS)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": SECURITY}}
    changing.client("iam", KEYS).update_assume_role_policy(
        RoleName="audit", PolicyDocument=document(trust)
    )
    opened = sts.assume_root(TargetPrincipal=KEYS, TaskPolicyArn=task)["Credentials"]
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="check")["Credentials"]
    sessions = [changing.client("iam", credentials=each) for each in (opened, assumed)]
    for state in ("SUSPENDED", "CLOSED"):
        view = changing.post("/_rootsweep/organization", {"account": KEYS, "state": state})
        assert view["accounts"][KEYS]["state"] == state
        organizations = changing.client("organizations")
        assert organizations.describe_account(AccountId=KEYS)["Account"]["State"] == state
        refused = refusal(sts.assume_root, TargetPrincipal=KEYS, TaskPolicyArn=task)
        assert refused[0] == "AccessDenied"
        refused = refusal(sts.assume_role, RoleArn=role, RoleSessionName="check")
        assert (refused[0], refused[1].endswith(f"sts:AssumeRole on resource: {role}")) == (
            "AccessDenied",
            True,
        )
        assert refusal(sessions[0].list_access_keys)[0] == "AccessDenied"
        assert refusal(sessions[1].list_users)[0] == "AccessDenied"
    for state in ("PENDING_CLOSURE", "ACTIVE"):
        changing.post("/_rootsweep/organization", {"account": KEYS, "state": state})
        assert sessions[0].list_access_keys()["AccessKeyMetadata"]
        assert sts.assume_role(RoleArn=role, RoleSessionName="check")
    for wrong in ({"account": KEYS, "state": "GONE"}, {"account": "1", "state": "CLOSED"}):
        with pytest.raises(OSError, match="400"):
            changing.post("/_rootsweep/organization", wrong)


def test_an_account_moves(changing: Aws) -> None:
    """Organizations API reference, MoveAccount: for the management account."""
    client = changing.client("organizations", MANAGEMENT)
    root = client.list_roots()["Roots"][0]["Id"]
    prod = client.list_parents(ChildId=KEYS)["Parents"][0]["Id"]
    workloads = client.list_parents(ChildId=prod)["Parents"][0]["Id"]
    move = {"AccountId": KEYS, "SourceParentId": prod, "DestinationParentId": workloads}
    by_delegate = changing.client("organizations").move_account
    assert refusal(by_delegate, **move)[0] == "AccessDeniedException"
    client.move_account(**move)
    assert client.list_parents(ChildId=KEYS)["Parents"][0]["Id"] == workloads
    moved = client.describe_account(AccountId=KEYS)["Account"]
    assert moved["Paths"][0].endswith(f"/{workloads}/{KEYS}/")
    assert client.list_accounts_for_parent(ParentId=prod)["Accounts"] == []
    assert changing.get("/_rootsweep/organization")["accounts"][KEYS]["ou"] == "Workloads"
    assert refusal(client.move_account, **move)[0] == "SourceParentNotFoundException"
    move["SourceParentId"] = workloads
    assert refusal(client.move_account, **move)[0] == "DuplicateAccountException"
    move["DestinationParentId"] = "ou-abcd-12345678"
    assert refusal(client.move_account, **move)[0] == "DestinationParentNotFoundException"
    client.move_account(**{**move, "DestinationParentId": root})
    assert changing.get("/_rootsweep/organization")["accounts"][KEYS]["ou"] == "root"


def test_an_account_that_left_is_in_no_list_and_its_root_is_out_of_reach(
    changing: Aws, operator_there: Any
) -> None:
    """Organizations API reference, RemoveAccountFromOrganization; STS, AssumeRoot: members."""
    sts = changing.client("sts", credentials=operator_there)
    task = {"arn": TASKS + AUDIT}
    opened = sts.assume_root(TargetPrincipal=CLEAN, TaskPolicyArn=task)["Credentials"]
    client = changing.client("organizations", MANAGEMENT)
    parent = client.list_parents(ChildId=CLEAN)["Parents"][0]["Id"]
    remove = client.remove_account_from_organization
    by_delegate = changing.client("organizations").remove_account_from_organization
    assert refusal(by_delegate, AccountId=CLEAN)[0] == "AccessDeniedException"
    assert refusal(remove, AccountId=MANAGEMENT)[0] == "MasterCannotLeaveOrganizationException"
    assert refusal(remove, AccountId=SECURITY)[0] == "ConstraintViolationException"
    remove(AccountId=CLEAN)
    assert refusal(remove, AccountId=CLEAN)[0] == "AccountNotFoundException"
    assert refusal(client.describe_account, AccountId=CLEAN)[0] == "AccountNotFoundException"
    assert refusal(client.list_tags_for_resource, ResourceId=CLEAN)[0] == "TargetNotFoundException"
    assert CLEAN not in {each["Id"] for each in client.list_accounts()["Accounts"]}
    found = client.list_accounts_for_parent(ParentId=parent)["Accounts"]
    assert CLEAN not in {each["Id"] for each in found}
    assert CLEAN not in changing.get("/_rootsweep/organization")["accounts"]
    refused = refusal(sts.assume_root, TargetPrincipal=CLEAN, TaskPolicyArn=task)
    assert refused[0] == "AccessDenied"
    iam = changing.client("iam", credentials=opened)
    assert refusal(iam.list_access_keys)[0] == "AccessDenied"
    itself = changing.client("organizations", CLEAN).describe_organization
    assert refusal(itself)[0] == "AWSOrganizationsNotInUseException"


# -- the root user's keys, as the root user ------------------------------------------------------


def test_the_root_user_makes_at_most_two_keys_and_no_user_is_called_root(aws: Aws) -> None:
    """IAM User Guide, "Root user access keys": two at most; UserName names an IAM user."""
    iam = aws.client("iam", MAKING)
    first = iam.create_access_key()["AccessKey"]["AccessKeyId"]
    iam.create_access_key()
    refused = refusal(iam.create_access_key)
    assert (refused[0], refused[2]) == ("LimitExceeded", 409)
    iam.update_access_key(AccessKeyId=first, Status="Inactive")
    statuses = [key["Status"] for key in iam.list_access_keys()["AccessKeyMetadata"]]
    assert statuses == ["Inactive", "Active"]
    assert refusal(iam.list_access_keys, UserName="root")[0] == "NoSuchEntity"
    assert iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 1


def test_iam_users_are_left_to_the_embedded_iam(aws: Aws) -> None:
    """A call that names a user is none of the root user's."""
    iam = aws.client("iam", MAKING)
    iam.create_user(UserName="someone")
    key = iam.create_access_key(UserName="someone")["AccessKey"]["AccessKeyId"]
    listed = iam.list_access_keys(UserName="someone")["AccessKeyMetadata"]
    assert [each["AccessKeyId"] for each in listed] == [key]


# -- permissions ---------------------------------------------------------------------------------


def test_a_role_without_permission_is_refused_on_every_pretended_call(aws: Aws) -> None:
    """Service Authorization Reference: each of these is an action of its own."""
    role = aws.role("nobody", allow("s3:ListAllMyBuckets"))
    organizations = aws.client("organizations", credentials=role)
    assert refusal(organizations.list_accounts)[0] == "AccessDeniedException"
    account = aws.client("account", credentials=role).get_alternate_contact
    refused = refusal(account, AccountId=KEYS, AlternateContactType="SECURITY")
    assert refused[0] == "AccessDeniedException"
    iam = aws.client("iam", credentials=role)
    assert refusal(iam.list_organizations_features)[0] == "AccessDenied"


def test_a_role_is_allowed_by_resource(aws: Aws) -> None:
    """Service Authorization Reference: account ARNs of Organizations and Account Management."""
    organization = aws.client("organizations").describe_organization()["Organization"]["Id"]
    one = f"arn:aws:organizations::{MANAGEMENT}:account/{organization}/{KEYS}"
    contact = f"arn:aws:account::{MANAGEMENT}:account/{organization}/{KEYS}"
    role = aws.role(
        "reader",
        allow("organizations:ListAccounts", "organizations:DescribeOrganization"),
        allow("organizations:ListTagsForResource", resource=one),
        allow("account:GetAlternateContact", resource=contact),
    )
    organizations = aws.client("organizations", credentials=role)
    assert organizations.list_accounts()["Accounts"]
    assert organizations.list_tags_for_resource(ResourceId=KEYS)["Tags"]
    refused = refusal(organizations.list_tags_for_resource, ResourceId=CLEAN)
    assert refused[0] == "AccessDeniedException"
    account = aws.client("account", credentials=role)
    assert account.get_alternate_contact(AccountId=KEYS, AlternateContactType="SECURITY")


# -- the member role -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checker(aws: Aws) -> Any:
    return aws.role(
        "rootsweep-CheckAccountsRole-1", allow("sts:AssumeRole", "sts:GetCallerIdentity")
    )


def member(aws: Aws, checker: Any, account: str) -> Any:
    role = f"arn:aws:iam::{account}:role/rootsweep-audit"
    sts = aws.client("sts", credentials=checker)
    return sts.assume_role(RoleArn=role, RoleSessionName="check")["Credentials"]


def test_the_member_role_reads_the_summary_and_nothing_else(aws: Aws, checker: Any) -> None:
    """member-role.yaml; aws:PrincipalArn of an assumed role is its role (IAM User Guide)."""
    iam = aws.client("iam", credentials=member(aws, checker, KEYS))
    assert iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 1
    assert refusal(iam.list_access_keys)[0] == "AccessDenied"
    clean = aws.client("iam", credentials=member(aws, checker, CLEAN))
    assert clean.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 0


def test_only_the_named_role_of_the_security_account_may_assume_the_member_role(
    aws: Aws, checker: Any
) -> None:
    """The trust policy in member-role.yaml."""
    other = aws.role("rootsweep-Other-1", allow("sts:AssumeRole"))
    with pytest.raises(ClientError, match="AccessDenied"):
        member(aws, other, KEYS)
    with pytest.raises(ClientError, match="AccessDenied"):
        member(aws, checker, NO_ROLE)


# -- faults --------------------------------------------------------------------------------------


def test_a_fault_hits_as_often_as_it_says_and_then_never_again(aws: Aws, checker: Any) -> None:
    """IAM API reference, common errors: Throttling is 400. STS: AccessDenied is 403."""
    with pytest.raises(ClientError, match="AccessDenied"):
        member(aws, checker, THROTTLED)
    iam = aws.client("iam", credentials=member(aws, checker, THROTTLED))
    refused = [refusal(iam.get_account_summary) for _ in range(2)]
    assert refused == [("Throttling", "Rate exceeded", 400)] * 2
    assert iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 0


def test_faults_have_the_form_of_their_service_and_do_not_hit_people(
    aws: Aws, as_root: Callable[..., Any]
) -> None:
    """Service models: account 429, Organizations 400, IAM ServiceFailure 500."""
    aws.client("iam", THROTTLED).list_access_keys()
    role = aws.role("reader-of-throttled", allow("account:*", "organizations:*"))
    contact = aws.client("account", credentials=role).get_alternate_contact
    refused = refusal(contact, AccountId=THROTTLED, AlternateContactType="SECURITY")
    assert (refused[0], refused[2]) == ("TooManyRequestsException", 429)
    tags = aws.client("organizations", credentials=role).list_tags_for_resource
    refused = refusal(tags, ResourceId=THROTTLED)
    assert (refused[0], refused[2]) == ("TooManyRequestsException", 400)
    refused = refusal(as_root(THROTTLED).list_access_keys)
    assert (refused[0], refused[2]) == ("ServiceFailure", 500)


def test_a_summary_can_be_late(as_root: Callable[..., Any]) -> None:
    """IAM User Guide, troubleshooting: IAM is eventually consistent."""
    iam = as_root(LATE)
    answers = [iam.get_account_summary()["SummaryMap"] for _ in range(2)]
    assert [answer["AccountAccessKeysPresent"] for answer in answers] == [1, 0]


# -- size ----------------------------------------------------------------------------------------


def test_a_thousand_accounts_are_there_at_once(start: Callable[[str], Aws]) -> None:
    head = f'management_account: "{MANAGEMENT}"\nsecurity_account: "{SECURITY}"\naccounts:\n'
    accounts = "".join(f'  - {{id: "5{n:011}", ou: Many/Of/Them}}\n' for n in range(1000))
    begun = time.monotonic()
    aws = start(head + accounts)
    assert time.monotonic() - begun < 15
    begun = time.monotonic()
    listed = (
        aws.client("organizations").get_paginator("list_accounts").paginate().build_full_result()
    )
    assert len(listed["Accounts"]) == len(aws.get("/_rootsweep/organization")["accounts"]) == 1002
    assert time.monotonic() - begun < 5


def test_sessions_are_forgotten_seldom_and_only_when_they_have_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = time.monotonic()
    sessions = {"OLD": {"Expiration": time.time() - 1}, "NEW": {"Expiration": time.time() + 900}}
    monkeypatch.setattr(ministack_sts, "_sessions", sessions)
    monkeypatch.setattr(ministack_sts, "_evict_expired_sessions", None)
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    pretend._forget_sessions_seldom()

    ministack_sts._evict_expired_sessions()
    assert "OLD" in sessions

    clock += pretend.EVICTION_SECONDS
    ministack_sts._evict_expired_sessions()
    assert "OLD" not in sessions
    assert "NEW" in sessions
