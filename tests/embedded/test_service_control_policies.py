"""Service control policies: Organizations API reference and User Guide, as each test names it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .conftest import MANAGEMENT, SECURITY, TASKS, document
from .test_pretend_organization import allow, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Aws

KEYS, OTHER, DEEP = "333333333333", "333333333334", "333333333335"
ORGANIZATION = f"""\
management_account: "{MANAGEMENT}"
security_account: "{SECURITY}"
accounts:
  - {{id: "{KEYS}", ou: Workloads/Prod, root: {{access_keys: [{{id: AKIAEXAMPLE00000001}}]}}}}
  - {{id: "{OTHER}", ou: Workloads}}
  - {{id: "{DEEP}", ou: Workloads/Prod}}
"""
SCP = "SERVICE_CONTROL_POLICY"
FULL = "p-FullAWSAccess"


def quarantine(**spared: Any) -> str:
    condition = {"ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::*:root"]}, **spared}
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
    return document(deny)


# AWS's own example: the long-term root user is denied, root sessions are spared (IAM User Guide,
# global condition keys, aws:AssumedRoot).
QUARANTINE = quarantine(Null={"aws:AssumedRoot": "true"})


@pytest.fixture(scope="module")
def aws(start: Callable[[str], Aws]) -> Aws:
    return start(ORGANIZATION)


@pytest.fixture
def owner(aws: Aws) -> Any:
    return aws.client("organizations", MANAGEMENT)


@pytest.fixture
def make(owner: Any) -> Iterator[Callable[..., str]]:
    """Makes policies, which are detached and deleted at the end."""
    made: list[str] = []

    def create(name: str, content: str = QUARANTINE, *targets: str) -> str:
        policy = owner.create_policy(Name=name, Description="", Type=SCP, Content=content)
        made.append(policy["Policy"]["PolicySummary"]["Id"])
        for target in targets:
            owner.attach_policy(PolicyId=made[-1], TargetId=target)
        return made[-1]

    yield create
    for policy in made:
        for target in owner.list_targets_for_policy(PolicyId=policy)["Targets"]:
            owner.detach_policy(PolicyId=policy, TargetId=target["TargetId"])
        owner.delete_policy(PolicyId=policy)


def attached(client: Any, target: str) -> list[str]:
    found = client.list_policies_for_target(TargetId=target, Filter=SCP)["Policies"]
    return [policy["Id"] for policy in found]


def unit_of(client: Any, account: str) -> str:
    return str(client.list_parents(ChildId=account)["Parents"][0]["Id"])


def test_a_policy_is_made_changed_and_deleted(owner: Any) -> None:
    """CreatePolicy, DescribePolicy, UpdatePolicy, ListPolicies, DeletePolicy, TagResource."""
    made = {"Name": "q", "Description": "d", "Type": SCP, "Content": QUARANTINE}
    tags = [{"Key": "stack", "Value": "rootsweep"}]
    summary = owner.create_policy(**made, Tags=tags)["Policy"]["PolicySummary"]
    policy = summary["Id"]
    assert (summary["Name"], summary["Type"], summary["AwsManaged"]) == ("q", SCP, False)
    assert summary["Arn"].endswith(f"/service_control_policy/{policy}")
    assert owner.list_tags_for_resource(ResourceId=policy)["Tags"] == tags
    assert refusal(owner.create_policy, **made)[0] == "DuplicatePolicyException"
    owner.update_policy(PolicyId=policy, Description="other")
    found = owner.describe_policy(PolicyId=policy)["Policy"]
    assert found["PolicySummary"]["Description"] == "other"
    assert json.loads(found["Content"]) == json.loads(QUARANTINE)
    listed = owner.list_policies(Filter=SCP)["Policies"]
    assert {each["Id"] for each in listed} == {FULL, policy}
    for wrong in (
        "{",
        document({"Effect": "Deny", "Action": "*", "Resource": "*", "Principal": "*"}),
    ):
        refused = refusal(owner.update_policy, PolicyId=policy, Content=wrong)
        assert refused[0] == "MalformedPolicyDocumentException"
    owner.delete_policy(PolicyId=policy)
    for call in (owner.describe_policy, owner.delete_policy):
        assert refusal(call, PolicyId=policy)[0] == "PolicyNotFoundException"
    assert refusal(owner.delete_policy, PolicyId=FULL)[0] == "InvalidInputException"


def test_a_policy_is_attached_and_detached(owner: Any, make: Callable[..., str]) -> None:
    """AttachPolicy, DetachPolicy, ListPoliciesForTarget, ListTargetsForPolicy, DeletePolicy, and
    the quota of five SCPs for a root, unit or account."""
    root, unit = owner.list_roots()["Roots"][0]["Id"], unit_of(owner, KEYS)
    assert attached(owner, root) == attached(owner, unit) == attached(owner, KEYS) == [FULL]
    policy = make("q", QUARANTINE, KEYS, unit)
    assert attached(owner, KEYS) == [FULL, policy]
    targets = owner.list_targets_for_policy(PolicyId=policy)["Targets"]
    assert [(each["TargetId"], each["Type"]) for each in targets] == [
        (unit, "ORGANIZATIONAL_UNIT"),
        (KEYS, "ACCOUNT"),
    ]
    both = {"PolicyId": policy, "TargetId": KEYS}
    assert refusal(owner.attach_policy, **both)[0] == "DuplicatePolicyAttachmentException"
    assert refusal(owner.delete_policy, PolicyId=policy)[0] == "PolicyInUseException"
    owner.detach_policy(**both)
    assert refusal(owner.detach_policy, **both)[0] == "PolicyNotAttachedException"
    refused = refusal(owner.attach_policy, PolicyId=policy, TargetId="999999999999")
    assert refused[0] == "TargetNotFoundException"
    for number in range(4):
        make(f"filler-{number}", QUARANTINE, OTHER)
    with pytest.raises(ClientError) as full:
        owner.attach_policy(PolicyId=policy, TargetId=OTHER)
    assert full.value.response["Error"]["Code"] == "ConstraintViolationException"
    assert full.value.response["Reason"] == "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"
    with pytest.raises(ClientError) as last:
        owner.detach_policy(PolicyId=FULL, TargetId=KEYS)
    assert last.value.response["Reason"] == "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"


def test_a_member_manages_policies_only_by_delegation(
    aws: Aws, owner: Any, make: Callable[..., str]
) -> None:
    """ "Delegated administrator for AWS Organizations": PutResourcePolicy names the account, its
    principals need the permission too; "Attaching and detaching service control policies": on
    the policy and on the target. Service Authorization Reference: organizations:PolicyType."""
    policy, other = make("q"), make("other")
    organization = owner.describe_organization()["Organization"]["Id"]
    arns = f"arn:aws:organizations::{MANAGEMENT}:"
    scp = f"{arns}policy/{organization}/service_control_policy/"
    account = f"{arns}account/{organization}/"
    actions = ["organizations:AttachPolicy", "organizations:DetachPolicy"]
    resources = [scp + policy, account + "*"]
    role = aws.role(
        "quarantine",
        {"Effect": "Allow", "Action": actions, "Resource": resources},
        {
            "Effect": "Allow",
            "Action": "organizations:List*",
            "Resource": "*",
            "Condition": {"StringEquals": {"organizations:PolicyType": SCP}},
        },
    )
    delegate = aws.client("organizations", credentials=role)
    both = {"PolicyId": policy, "TargetId": KEYS}
    assert delegate.list_policies(Filter=SCP)["Policies"]
    assert refusal(delegate.list_roots)[0] == "AccessDeniedException"
    assert refusal(delegate.attach_policy, **both)[0] == "AccessDeniedException"
    assert refusal(owner.describe_resource_policy)[0] == "ResourcePolicyNotFoundException"
    delegation = document(
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{SECURITY}:root"},
            "Action": actions,
            "Resource": [scp + policy, account + KEYS],
            "Condition": {"StringLikeIfExists": {"organizations:PolicyType": SCP}},
        }
    )
    put = aws.client("organizations").put_resource_policy
    assert refusal(put, Content=delegation)[0] == "AccessDeniedException"
    owner.put_resource_policy(Content=delegation)
    shown = owner.describe_resource_policy()["ResourcePolicy"]
    assert shown["Content"] == delegation
    delegate.attach_policy(**both)
    assert attached(owner, KEYS) == [FULL, policy]
    delegate.detach_policy(**both)
    # The role may, the delegation does not.
    refused = refusal(delegate.attach_policy, PolicyId=policy, TargetId=OTHER)
    assert refused[0] == "AccessDeniedException"
    refused = refusal(delegate.attach_policy, PolicyId=other, TargetId=KEYS)
    assert refused[0] == "AccessDeniedException"
    # The delegation may, the role does not.
    only_policy = aws.role("half", {"Effect": "Allow", "Action": actions, "Resource": scp + policy})
    refused = refusal(aws.client("organizations", credentials=only_policy).attach_policy, **both)
    assert refused[0] == "AccessDeniedException"
    assert f"organizations:AttachPolicy on resource: {account}{KEYS}" in refused[1]
    create = {"Name": "x", "Description": "", "Type": SCP, "Content": QUARANTINE}
    refused = refusal(aws.client("organizations").create_policy, **create)
    assert refused[0] == "AccessDeniedException"
    owner.delete_resource_policy()
    assert refusal(delegate.attach_policy, **both)[0] == "AccessDeniedException"


def root_session(aws: Aws, account: str, task: str) -> Any:
    role = aws.role(f"operator-{uuid.uuid4().hex[:8]}", allow("sts:AssumeRoot"))
    sts = aws.client("sts", credentials=role)
    answer = sts.assume_root(TargetPrincipal=account, TaskPolicyArn={"arn": TASKS + task})
    return aws.client("iam", credentials=answer["Credentials"])


@pytest.mark.parametrize(
    "content", [QUARANTINE, quarantine(BoolIfExists={"aws:AssumedRoot": "false"})]
)
def test_a_quarantine_denies_the_root_user_and_spares_root_sessions(
    aws: Aws, owner: Any, make: Callable[..., str], content: str
) -> None:
    """IAM User Guide, aws:AssumedRoot: present in root sessions only. SCPs affect the root user
    of a member, and take effect at once."""
    policy = make("quarantine", content, KEYS)
    root, session = aws.client("iam", KEYS), root_session(aws, KEYS, "IAMAuditRootUserCredentials")
    code, message, status = refusal(root.list_access_keys)
    assert (code, status) == ("AccessDenied", 403)
    assert message == (
        f"User: arn:aws:iam::{KEYS}:root is not authorized to perform: iam:ListAccessKeys on "
        f"resource: arn:aws:iam::{KEYS}:root with an explicit deny in a service control policy"
    )
    assert refusal(aws.client("s3", KEYS).list_buckets)[0] == "AccessDenied"
    assert aws.client("sts", KEYS).get_caller_identity()["Account"] == KEYS
    assert session.list_access_keys()["AccessKeyMetadata"]
    assert session.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 1
    assert aws.client("iam", OTHER).list_access_keys()["AccessKeyMetadata"] == []
    shown = aws.get("/_rootsweep/organization")["accounts"][KEYS]
    assert [key["id"] for key in shown["access_keys"]] == ["AKIAEXAMPLE00000001"]
    owner.detach_policy(PolicyId=policy, TargetId=KEYS)
    assert root.list_access_keys()["AccessKeyMetadata"]


def test_policies_of_units_and_the_root_bind_accounts_below_but_never_the_management_account(
    aws: Aws, owner: Any, make: Callable[..., str]
) -> None:
    """ "SCP evaluation": a Deny at any level denies, every level has to allow. "Service control
    policies": no effect on the management account; roles are bound too."""
    key = {"AccessKeyId": "AKIAEXAMPLE00000001", "Status": "Active"}
    statement = {"Effect": "Deny", "Action": "iam:*AccessKey", "Resource": "*"}
    condition = {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::*:root"}}
    policy = make("keys", document({**statement, "Condition": condition}))
    top = owner.list_roots()["Roots"][0]["Id"]
    unit = unit_of(owner, KEYS)
    owner.attach_policy(PolicyId=policy, TargetId=unit)
    root, deep = aws.client("iam", KEYS), aws.client("iam", DEEP)
    assert root.list_access_keys()["AccessKeyMetadata"]
    assert "service control policy" in refusal(root.update_access_key, **key)[1]
    assert "service control policy" in refusal(deep.create_access_key)[1]
    other = aws.client("iam", OTHER).create_access_key()["AccessKey"]["AccessKeyId"]
    owner.attach_policy(PolicyId=policy, TargetId=top)
    refused = refusal(aws.client("iam", OTHER).delete_access_key, AccessKeyId=other)
    assert "explicit deny in a service control policy" in refused[1]
    session = root_session(aws, OTHER, "IAMDeleteRootUserCredentials")
    refused = refusal(session.delete_access_key, AccessKeyId=other)
    assert "explicit deny in a service control policy" in refused[1]
    aws.client("iam", MANAGEMENT).create_access_key()
    role = aws.role("reader", allow("iam:ListUsers", "iam:ListRoles"), account=DEEP)
    reader = aws.client("iam", credentials=role)
    reader.list_users()
    listing = make("list", document(allow("iam:ListUsers", "sts:*")), DEEP)
    owner.detach_policy(PolicyId=FULL, TargetId=DEEP)
    reader.list_users()
    assert refusal(reader.list_roles)[1].endswith(
        "because no service control policy allows the iam:ListRoles action"
    )
    owner.attach_policy(PolicyId=FULL, TargetId=DEEP)
    owner.detach_policy(PolicyId=listing, TargetId=DEEP)
