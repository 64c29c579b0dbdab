"""The pretend organization: the AWS APIs that MiniStack lacks or answers differently.

One `Pretend` holds the state of every account of an organization file. `install` puts it in front
of MiniStack's own organizations, iam, sts and account handlers in the same process; what it does
not answer itself passes through. Answers follow recordings of AWS and the botocore models; each
deviation from MiniStack names its AWS source.
"""

from __future__ import annotations

import base64
import binascii
import contextvars
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import yaml
from botocore import xform_name
from ministack import app as ministack_app
from ministack.core import iam_actions, iam_evaluator, responses
from ministack.core.router import extract_access_key_id
from ministack.services import iam as ministack_iam
from ministack.services import sts as ministack_sts

from local import cloud_trail
from local.api_error import ApiError
from local.organization import ACCOUNT_STATES, AccessKey, Account, Fault, Organization
from local.service_control_policies import ServiceControlPolicies, condition_keys

if TYPE_CHECKING:
    from pathlib import Path

EVICTION_SECONDS = 60
# `Paths` is no required member of an Account (the service model of Organizations).
WITHOUT_PATHS = "ACCOUNTS_WITHOUT_PATHS" in os.environ
MINISTACK = "1.5.33"
if version("ministack") != MINISTACK:
    raise ImportError(f"local/pretend.py fits ministack {MINISTACK}, not {version('ministack')}")

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[Response]]

ROOT_TASK = "arn:aws:iam::aws:policy/root-task/"
# The AWS managed task policies, reduced to what they let through (IAM User Guide, "AWS managed
# policies for AssumeRoot"; IAMAuditRootUserCredentials and IAMDeleteRootUserCredentials).
_READ_ROOT = {
    "iam:GetAccessKeyLastUsed",
    "iam:GetLoginProfile",
    "iam:GetUser",
    "iam:ListAccessKeys",
    "iam:ListMFADevices",
    "iam:ListSigningCertificates",
}
TASK_POLICIES: dict[str, frozenset[str]] = {
    "IAMAuditRootUserCredentials": frozenset(_READ_ROOT | {"iam:GetAccountSummary"}),
    "IAMDeleteRootUserCredentials": frozenset(
        _READ_ROOT
        | {
            "iam:DeactivateMFADevice",
            "iam:DeleteAccessKey",
            "iam:DeleteLoginProfile",
            "iam:DeleteSigningCertificate",
        }
    ),
    "IAMCreateRootUserPassword": frozenset({"iam:CreateLoginProfile", "iam:GetLoginProfile"}),
    "S3UnlockBucketPolicy": frozenset(
        {"s3:DeleteBucketPolicy", "s3:GetBucketPolicy", "s3:ListAllMyBuckets", "s3:PutBucketPolicy"}
    ),
    "SQSUnlockQueuePolicy": frozenset(
        {"sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueues", "sqs:SetQueueAttributes"}
    ),
}
STACK_SETS = "member.org.stacksets.cloudformation.amazonaws.com"
USABLE_STATES = ("ACTIVE", "PENDING_CLOSURE")
# A delegate may read; the changes of policies and tags only by a delegation policy.
MANAGEMENT_ONLY = (
    "AttachPolicy",
    "CloseAccount",
    "CreatePolicy",
    "DeletePolicy",
    "DeleteResourcePolicy",
    "DeregisterDelegatedAdministrator",
    "DetachPolicy",
    "DisableAWSServiceAccess",
    "DisablePolicyType",
    "EnableAWSServiceAccess",
    "EnableAllFeatures",
    "EnablePolicyType",
    "MoveAccount",
    "PutResourcePolicy",
    "RegisterDelegatedAdministrator",
    "RemoveAccountFromOrganization",
    "TagResource",
    "UntagResource",
    "UpdatePolicy",
)
PAGE = 20


@dataclass
class Member:
    """One account of the organization, and what is left of its root user."""

    account: Account
    state: str
    parent: str
    path: str
    tags: dict[str, str]
    keys: dict[str, AccessKey]
    password: bool
    faults: dict[str, int | None] = field(default_factory=dict)
    # The ids of keys that were deleted in root sessions.
    deleted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Unit:
    id: str
    name: str
    parent: str
    path: str


@dataclass(frozen=True)
class Caller:
    """Who signed a request. ``person`` is someone looking in with an account's own root key."""

    account: str
    arn: str
    root: bool
    person: bool
    access_key: str

    def identity(self) -> dict[str, Any]:
        """The caller as CloudTrail has it; a person signs in at the console, without a key."""
        role = _role_arn(self.arn) if ":assumed-role/" in self.arn else None
        key = None if self.person else self.access_key
        return cloud_trail.user_identity(self.account, self.arn, role, key)


class Pretend:
    """The organization's state, shared by all accounts, and the rules of the four services."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.management = organization.management_account
        self.lock = threading.RLock()
        self.started = time.time()
        self.id = "o-" + _digest(self.management, "organization")[:10]
        self.root_id = "r-" + _digest(self.management, "root")[:4]
        self.units: dict[str, Unit] = {}
        self.unit_tags = {self.root_id: dict(organization.unit_tags.get((), {}))}
        self.members = {account.id: self._member(account) for account in organization.accounts}
        services = ("account.amazonaws.com", "iam.amazonaws.com")
        self.trusted = dict.fromkeys((*services, STACK_SETS), self.started)
        self.feature_set = "ALL"
        self.policy_types = ["SERVICE_CONTROL_POLICY"]
        self.delegates = {organization.security_account: dict.fromkeys(services, self.started)}
        self.features = {"RootCredentialsManagement", "RootSessions"}
        self.policies = ServiceControlPolicies(self)

    # -- building -------------------------------------------------------------------------------

    def _member(self, account: Account) -> Member:
        parent, path = self.root_id, f"{self.id}/{self.root_id}/"
        for depth in range(len(account.ou)):
            unit = self._unit(account.ou[: depth + 1], parent, path)
            parent, path = unit.id, unit.path
        return Member(
            account=account,
            state=account.state,
            parent=parent,
            path=f"{path}{account.id}/",
            tags=dict(account.tags),
            keys={key.id: key for key in account.access_keys},
            password=account.password,
            faults={operation: fault.times for operation, fault in account.faults.items()},
        )

    def _unit(self, names: tuple[str, ...], parent: str, path: str) -> Unit:
        digest = _digest(self.management, "/".join(names))
        unit_id = f"ou-{self.root_id[2:]}-{digest[:8]}"
        unit = Unit(unit_id, names[-1], parent, f"{path}{unit_id}/")
        self.unit_tags.setdefault(unit_id, dict(self.organization.unit_tags.get(names, {})))
        return self.units.setdefault(unit_id, unit)

    # -- who calls, and what goes wrong on purpose ----------------------------------------------

    def caller(self, headers: Mapping[str, str], query: dict[str, Any]) -> Caller:
        account = responses.get_account_id()
        key = extract_access_key_id(dict(headers), query)
        credential = iam_evaluator.resolve_credential(key, account)
        arn = getattr(credential, "principal_arn", f"arn:aws:iam::{account}:root")
        return Caller(
            account=account,
            arn=arn,
            root=arn.endswith(":root"),
            person=iam_evaluator.is_root_access_key(key),
            access_key=key,
        )

    def fault(self, caller: Caller, account: str, operation: str) -> Fault | None:
        """The fault that hits this call, used up by one. People looking in are never hit."""
        member = self.members.get(account)
        if caller.person or member is None or operation not in member.faults:
            return None
        with self.lock:
            left = member.faults[operation]
            if left == 0:
                return None
            member.faults[operation] = None if left is None else left - 1
        return member.account.faults[operation]

    def fail(self, caller: Caller, account: str, operation: str) -> Fault | None:
        """Raises the fault's error; hands back a fault that only changes the answer."""
        fault = self.fault(caller, account, operation)
        if fault is not None and fault.error is not None:
            raise ApiError(
                fault.error, fault.message or _fault_text(fault.error, operation, caller)
            )
        return fault

    def administrator(self, account: str, service: str | None = None) -> bool:
        """The management account, or a delegate: for one service, or for any."""
        if account == self.management:
            return True
        services = self.delegates.get(account, {})
        return bool(services) if service is None else service in services

    def view(self) -> dict[str, Any]:
        """What people and tests want to look at: accounts and what is left of their root keys."""
        return {
            "accounts": {
                account_id: {
                    "name": member.account.name,
                    "state": member.state,
                    "ou": self._unit_names(member.parent),
                    "access_keys": [
                        {"id": key.id, "status": key.status} for key in list(member.keys.values())
                    ],
                    "deleted_in_root_sessions": list(member.deleted),
                }
                for account_id, member in self.members.items()
            }
        }

    def set_feature_set(self, features: str) -> None:
        """What an organization was created with: no API takes features away again.

        Raises ValueError with what is wrong.
        """
        if features not in ("ALL", "CONSOLIDATED_BILLING"):
            raise ValueError(f"feature_set {features!r} is neither ALL nor CONSOLIDATED_BILLING")
        self.feature_set = features

    def set_state(self, account: str, state: str) -> None:
        """What AWS does to an account and no API can: suspend it, end its closure, reopen it.

        Raises ValueError with what is wrong.
        """
        if account not in self.members:
            raise ValueError(f"account {account!r} is not in the organization")
        if state not in ACCOUNT_STATES:
            raise ValueError(f"state {state!r} is none of {', '.join(ACCOUNT_STATES)}")
        self.members[account].state = state

    def _unit_names(self, parent: str) -> str:
        names: list[str] = []
        while parent in self.units:
            names.insert(0, self.units[parent].name)
            parent = self.units[parent].parent
        return "/".join(names) or "root"

    # -- organizations --------------------------------------------------------------------------

    def organizations(self, caller: Caller, operation: str, data: dict[str, Any]) -> Any:
        name = f"_org_{xform_name(operation)}"
        action = getattr(self, name, None) or getattr(self.policies, name, None)
        if action is None:
            raise ApiError("UnknownOperationException", f"{operation} is not pretended")
        if caller.account not in self.members:
            raise ApiError(
                "AWSOrganizationsNotInUseException",
                "Your account is not a member of an organization.",
            )
        # Organizations API reference: the reads are for the management account and delegated
        # administrators, the changes for the management account, DescribeOrganization for all.
        allowed = (
            operation == "DescribeOrganization"
            or caller.account == self.management
            or (operation not in MANAGEMENT_ONLY and self.administrator(caller.account))
            or self.policies.delegates(caller, operation, self.arns_of(data), data)
        )
        if not allowed:
            raise ApiError(
                "AccessDeniedException", "You don't have permissions to access this resource."
            )
        # A fault of a call that names no account is looked up at the management account.
        named = next((data[f] for f in ("AccountId", "ResourceId", "ChildId") if data.get(f)), None)
        self.fail(caller, str(named or self.management), f"organizations:{operation}")
        return action(data)

    def _org_describe_organization(self, _data: dict[str, Any]) -> Any:
        return {
            "Organization": {
                "Id": self.id,
                "Arn": self._arn("organization"),
                "FeatureSet": self.feature_set,
                "MasterAccountArn": self._arn("account", self.management),
                "MasterAccountId": self.management,
                "MasterAccountEmail": self.members[self.management].account.email,
                "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
            }
        }

    def _org_enable_all_features(self, _data: dict[str, Any]) -> Any:
        """At once: the handshakes with accounts that were invited are not pretended."""
        if self.feature_set == "ALL":
            raise ApiError(
                "HandshakeConstraintViolationException",
                "Your organization already has all features enabled.",
                reason="ORGANIZATION_ALREADY_HAS_ALL_FEATURES",
            )
        self.feature_set = "ALL"
        parties = [{"Id": self.management, "Type": "ACCOUNT"}]
        handshake = {"Action": "ENABLE_ALL_FEATURES", "State": "ACCEPTED", "Parties": parties}
        return {"Handshake": {"Id": f"h-{_digest(self.id, 'features')[:10]}", **handshake}}

    def _org_list_accounts(self, data: dict[str, Any]) -> Any:
        def shown(account: str) -> dict[str, Any]:
            entry = self._account(account)
            if WITHOUT_PATHS:
                entry.pop("Paths")
            return entry

        return self._page("Accounts", list(self.members), data, shown)

    def _org_describe_account(self, data: dict[str, Any]) -> Any:
        return {"Account": self._account(self._known_account(data))}

    def _org_list_roots(self, _data: dict[str, Any]) -> Any:
        root = {
            "Id": self.root_id,
            "Arn": self._arn("root", self.root_id),
            "Name": "Root",
            "PolicyTypes": [{"Type": each, "Status": "ENABLED"} for each in self.policy_types],
        }
        return {"Roots": [root]}

    def _org_enable_policy_type(self, data: dict[str, Any]) -> Any:
        kind = str(data.get("PolicyType"))
        if kind in self.policy_types:
            raise ApiError(
                "PolicyTypeAlreadyEnabledException", "The policy type is already enabled."
            )
        self.policy_types.append(kind)
        return {"Root": self._org_list_roots(data)["Roots"][0]}

    def _org_disable_policy_type(self, data: dict[str, Any]) -> Any:
        kind = str(data.get("PolicyType"))
        if kind not in self.policy_types:
            raise ApiError("PolicyTypeNotEnabledException", "The policy type is not enabled.")
        self.policy_types.remove(kind)
        return {"Root": self._org_list_roots(data)["Roots"][0]}

    def _org_list_organizational_units_for_parent(self, data: dict[str, Any]) -> Any:
        parent = self._known_parent(data)
        units = [unit.id for unit in self.units.values() if unit.parent == parent]
        return self._page("OrganizationalUnits", units, data, self._unit_view)

    def _org_list_accounts_for_parent(self, data: dict[str, Any]) -> Any:
        parent = self._known_parent(data)
        members = [key for key, member in self.members.items() if member.parent == parent]
        return self._page("Accounts", members, data, self._account)

    def _org_list_children(self, data: dict[str, Any]) -> Any:
        parent, kind = self._known_parent(data), data.get("ChildType")
        if kind == "ACCOUNT":
            ids = [key for key, member in self.members.items() if member.parent == parent]
        elif kind == "ORGANIZATIONAL_UNIT":
            ids = [unit.id for unit in self.units.values() if unit.parent == parent]
        else:
            raise ApiError("InvalidInputException", "You provided a value that is not a ChildType.")
        return self._page("Children", ids, data, lambda child: {"Id": child, "Type": kind})

    def _org_list_parents(self, data: dict[str, Any]) -> Any:
        child = data.get("ChildId", "")
        if child in self.members:
            parent = self.members[child].parent
        elif child in self.units:
            parent = self.units[child].parent
        else:
            raise ApiError(
                "ChildNotFoundException", f"You specified a child that doesn't exist: {child}"
            )
        kind = "ROOT" if parent == self.root_id else "ORGANIZATIONAL_UNIT"
        return {"Parents": [{"Id": parent, "Type": kind}]}

    def _org_describe_organizational_unit(self, data: dict[str, Any]) -> Any:
        unit = data.get("OrganizationalUnitId", "")
        if unit not in self.units:
            raise ApiError(
                "OrganizationalUnitNotFoundException",
                "You specified an organizational unit that doesn't exist.",
            )
        return {"OrganizationalUnit": self._unit_view(unit)}

    def _org_list_tags_for_resource(self, data: dict[str, Any]) -> Any:
        return {"Tags": [{"Key": k, "Value": v} for k, v in self._tags(data).items()]}

    def _org_tag_resource(self, data: dict[str, Any]) -> Any:
        self._tags(data).update({tag["Key"]: tag["Value"] for tag in data.get("Tags", [])})
        return {}

    def _org_untag_resource(self, data: dict[str, Any]) -> Any:
        tags = self._tags(data)
        for key in data.get("TagKeys", []):
            tags.pop(key, None)
        return {}

    def _org_list_delegated_administrators(self, data: dict[str, Any]) -> Any:
        wanted = data.get("ServicePrincipal")
        ids = [key for key, services in self.delegates.items() if not wanted or wanted in services]

        def shown(account: str) -> dict[str, Any]:
            since = min(self.delegates[account].values())
            entry = {**self._account(account), "DelegationEnabledDate": since}
            entry.pop("Paths")
            return entry

        return self._page("DelegatedAdministrators", ids, data, shown)

    def _org_list_delegated_services_for_account(self, data: dict[str, Any]) -> Any:
        account = self._known_account(data)
        if account not in self.delegates:
            raise ApiError("AccountNotRegisteredException", _NOT_REGISTERED)
        services = self.delegates[account]
        return self._page(
            "DelegatedServices",
            list(services),
            data,
            lambda name: {"ServicePrincipal": name, "DelegationEnabledDate": services[name]},
        )

    def _org_register_delegated_administrator(self, data: dict[str, Any]) -> Any:
        account, service = self._known_account(data), data.get("ServicePrincipal", "")
        if account == self.management:
            raise ApiError(
                "ConstraintViolationException",
                "You cannot register master account/yourself as delegated administrator "
                "for your organization.",
                reason="CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR",
            )
        services = self.delegates.setdefault(account, {})
        if service in services:
            raise ApiError(
                "AccountAlreadyRegisteredException",
                "The provided account is already a delegated administrator for your organization.",
            )
        services[service] = time.time()
        return {}

    def _org_deregister_delegated_administrator(self, data: dict[str, Any]) -> Any:
        account, service = self._known_account(data), data.get("ServicePrincipal", "")
        if service not in self.delegates.get(account, {}):
            raise ApiError("AccountNotRegisteredException", _NOT_REGISTERED)
        del self.delegates[account][service]
        if not self.delegates[account]:
            del self.delegates[account]
        return {}

    def _org_enable_aws_service_access(self, data: dict[str, Any]) -> Any:
        self.trusted.setdefault(data.get("ServicePrincipal", ""), time.time())
        return {}

    def _org_disable_aws_service_access(self, data: dict[str, Any]) -> Any:
        service = data.get("ServicePrincipal", "")
        if any(service in services for services in self.delegates.values()):
            raise ApiError(
                "ConstraintViolationException",
                "You must deregister the delegated administrators of this service first.",
                reason="DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE",
            )
        self.trusted.pop(service, None)
        return {}

    def _org_list_aws_service_access_for_organization(self, data: dict[str, Any]) -> Any:
        return self._page(
            "EnabledServicePrincipals",
            list(self.trusted),
            data,
            lambda name: {"ServicePrincipal": name, "DateEnabled": self.trusted[name]},
        )

    def _org_close_account(self, data: dict[str, Any]) -> Any:
        member = self.members[self._known_account(data)]
        if member.account.id == self.management:
            raise ApiError(
                "ConstraintViolationException",
                "You cannot close the management account.",
                reason="CANNOT_CLOSE_MANAGEMENT_ACCOUNT",
            )
        if member.state in ("PENDING_CLOSURE", "SUSPENDED", "CLOSED"):
            raise ApiError(
                "AccountAlreadyClosedException", "You attempted to close an account that is closed."
            )
        member.state = "PENDING_CLOSURE"
        return {}

    def _org_remove_account_from_organization(self, data: dict[str, Any]) -> Any:
        account = self._known_account(data)
        if account == self.management:
            raise ApiError(
                "MasterCannotLeaveOrganizationException",
                "You can't remove a management account from an organization.",
            )
        if account in self.delegates:
            raise ApiError(
                "ConstraintViolationException",
                "You must deregister the account as a delegated administrator first.",
                reason="CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG",
            )
        del self.members[account]
        self.policies.forget(account)
        return {}

    def _org_move_account(self, data: dict[str, Any]) -> Any:
        member = self.members[self._known_account(data)]
        source, target = data.get("SourceParentId"), str(data.get("DestinationParentId"))
        # What AWS says where the source exists and is another one is not documented.
        if source != member.parent:
            raise ApiError(
                "SourceParentNotFoundException", "You specified a source parent that doesn't exist."
            )
        if target != self.root_id and target not in self.units:
            raise ApiError(
                "DestinationParentNotFoundException",
                "You specified a destination parent that doesn't exist.",
            )
        if target == member.parent:
            raise ApiError(
                "DuplicateAccountException", "The account is already in the destination."
            )
        path = self.units[target].path if target in self.units else f"{self.id}/{self.root_id}/"
        member.parent, member.path = target, f"{path}{member.account.id}/"
        return {}

    def _account(self, account_id: str) -> dict[str, Any]:
        """An Account. No Status: AWS retired that member on 9 Sep 2026 in favour of State."""
        member = self.members[account_id]
        return {
            "Id": account_id,
            "Arn": self._arn("account", account_id),
            "Email": member.account.email,
            "Name": member.account.name,
            "State": member.state,
            "Paths": [member.path],
            "JoinedMethod": "INVITED" if account_id == self.management else "CREATED",
            "JoinedTimestamp": _JOINED,
        }

    def _unit_view(self, unit_id: str) -> dict[str, Any]:
        unit = self.units[unit_id]
        return {
            "Id": unit.id,
            "Arn": self._arn("ou", unit.id),
            "Name": unit.name,
            "Path": unit.path,
        }

    def _known_account(self, data: dict[str, Any]) -> str:
        account = str(data.get("AccountId", ""))
        if account not in self.members:
            raise ApiError(
                "AccountNotFoundException", "You specified an account that doesn't exist."
            )
        return account

    def _known_parent(self, data: dict[str, Any]) -> str:
        parent = str(data.get("ParentId", ""))
        if parent != self.root_id and parent not in self.units:
            raise ApiError("ParentNotFoundException", "You specified parent that doesn't exist.")
        return parent

    def _tags(self, data: dict[str, Any]) -> dict[str, str]:
        resource = str(data.get("ResourceId", ""))
        if resource in self.members:
            return self.members[resource].tags
        if resource in self.unit_tags:
            return self.unit_tags[resource]
        if resource in self.policies.policies:
            return self.policies.policies[resource].tags
        raise ApiError("TargetNotFoundException", "You specified a target that doesn't exist.")

    def arns_of(self, data: dict[str, Any]) -> list[str]:
        """What a call is authorized on: the policy, then what else it names.

        Source: Service Authorization Reference, Organizations; AttachPolicy and DetachPolicy need
        both ("Attaching and detaching service control policies", minimum permissions).
        """
        others = ("TargetId", "ResourceId", "AccountId", "ChildId", "ParentId")
        first = next((data[n] for n in (*others, "OrganizationalUnitId") if data.get(n)), None)
        return [self.arn_of(str(each)) for each in (data.get("PolicyId"), first) if each] or ["*"]

    def arn_of(self, resource: str) -> str:
        if resource.startswith("p-"):
            return self.policies.arn(resource)
        kinds = {"ou-": "ou", "r-": "root"}
        kind = next((kinds[each] for each in kinds if resource.startswith(each)), "account")
        return self._arn(kind, resource)

    def _arn(self, kind: str, *rest: str) -> str:
        return f"arn:aws:organizations::{self.management}:{'/'.join((kind, self.id, *rest))}"

    def _page(
        self,
        member: str,
        ids: list[str],
        data: dict[str, Any],
        show: Callable[[str], dict[str, Any]],
    ) -> dict[str, Any]:
        """One page; MaxResults is 1 to 20 in the Organizations API, and 20 is the default."""
        size = data.get("MaxResults", PAGE)
        if not isinstance(size, int) or not 1 <= size <= PAGE:
            raise ApiError("InvalidInputException", "You provided an invalid value for MaxResults.")
        start = _offset(data.get("NextToken"))
        page: dict[str, Any] = {member: [show(each) for each in ids[start : start + size]]}
        if start + size < len(ids):
            page["NextToken"] = base64.b64encode(f"from:{start + size}".encode()).decode()
        return page

    # -- account --------------------------------------------------------------------------------

    def alternate_contact(self, caller: Caller, data: dict[str, Any]) -> dict[str, Any]:
        """account:GetAlternateContact as its API reference has it: AccountId names a member and
        is for the management account and the delegate; without it the caller's own account."""
        account = str(data.get("AccountId") or caller.account)
        self.fail(caller, account, "account:GetAlternateContact")
        kind = data.get("AlternateContactType")
        if kind not in ("BILLING", "OPERATIONS", "SECURITY"):
            raise ApiError("ValidationException", "AlternateContactType is not valid.")
        own = not data.get("AccountId")
        permitted = own or (
            self.administrator(caller.account, "account.amazonaws.com")
            and "account.amazonaws.com" in self.trusted
            and account in self.members
            and account != self.management
        )
        if not permitted:
            raise ApiError(
                "AccessDeniedException",
                f"User: {caller.arn} is not authorized to perform: account:GetAlternateContact",
            )
        member = self.members.get(account)
        contact = member.account.security_contact if member and kind == "SECURITY" else None
        if contact is None:
            raise ApiError(
                "ResourceNotFoundException",
                "No contact of the inputted alternate contact type found.",
            )
        return {
            "AlternateContact": {
                "AlternateContactType": kind,
                "EmailAddress": contact,
                "Name": "Security",
                "PhoneNumber": "+1 555 0100",
                "Title": "Security",
            }
        }

    # -- sts:AssumeRoot -------------------------------------------------------------------------

    def assume_root(self, caller: Caller, params: Mapping[str, str]) -> str:
        """The result element of AssumeRoot; refusals in the words recorded from AWS."""
        target = _root_account(params.get("TargetPrincipal", ""))
        if target is None:
            raise ApiError("ValidationError", "Request must contain a valid target principal")
        self.fail(caller, target, "sts:AssumeRoot")
        policy = params.get("TaskPolicyArn.arn", "").removeprefix(ROOT_TASK)
        if policy not in TASK_POLICIES or not params["TaskPolicyArn.arn"].startswith(ROOT_TASK):
            raise ApiError(
                "ValidationError", "Request must contain valid AWS managed task policy ARN"
            )
        duration = _duration(params.get("DurationSeconds", "900"))
        denied = ApiError(
            "AccessDenied",
            f"User: {caller.arn} is not authorized to perform: sts:AssumeRoot "
            f"on resource: arn:aws:iam::{target}:root",
        )
        if caller.root or caller.account not in self.members:
            raise denied
        # Before the delegate: trusted access ends only after the last delegate is deregistered.
        if "iam.amazonaws.com" not in self.trusted:
            raise ApiError("AccessDenied", "Service not enabled for AWS Organizations.")
        if not self.administrator(caller.account, "iam.amazonaws.com"):
            raise denied
        if policy.startswith("IAM") and "RootCredentialsManagement" not in self.features:
            raise ApiError(
                "AccessDenied",
                "Root credentials management feature is not enabled for your AWS Organization.",
            )
        if not policy.startswith("IAM") and "RootSessions" not in self.features:
            raise ApiError(
                "AccessDenied",
                "Root sessions feature is not enabled for your AWS Organization.",
            )
        member = self.members.get(target)
        if member is None or target == self.management or member.state not in USABLE_STATES:
            raise denied
        return _root_session(caller, target, policy, duration)

    def admit(self, caller: Caller, role: str) -> None:
        """Refuses AssumeRole into an account that is closed or suspended.

        Source: Organizations User Guide, account states: only PENDING_CLOSURE still functions.
        """
        member = self.members.get(_arn_account(role))
        if member is not None and member.state not in USABLE_STATES:
            raise ApiError(
                "AccessDenied",
                f"User: {caller.arn} is not authorized to perform: sts:AssumeRole "
                f"on resource: {role}",
            )

    def refusal(self, access_key: str, action: str, resource: str, region: str) -> str | None:
        """Why a call is refused, whatever the caller's own policies allow; None if it is not.

        An account that does not function refuses its sessions, a service control policy every
        principal of a member, a task policy the root session.
        """
        if not access_key or action in iam_evaluator._ALWAYS_ALLOWED_ACTIONS:
            return None
        session = ministack_sts._sessions.get(access_key) or {}
        policy = session.get("RootTaskPolicy")
        member = self.members.get(session.get("AccountId", ""))
        principal = iam_evaluator.resolve_credential(access_key, responses.get_account_id())
        arn = principal.principal_arn
        if action.startswith("iam:") and arn.endswith(":root"):
            resource = arn
        text = f"User: {arn} is not authorized to perform: {action} on resource: {resource}"
        # Roles of an account that left are its own; its root user is out of reach.
        if member.state not in USABLE_STATES if member else policy:
            return text
        # An SCP that denies root denies AssumeRoot sessions too, unless it tests aws:AssumedRoot
        # (IAM User Guide, global condition keys).
        if policy and member and member.account.scp_denies_root:
            return f"{text} with an explicit deny in a service control policy"
        forbidden = self.policies.refusal(
            principal, action, resource, region, assumed_root=bool(policy)
        )
        if forbidden:
            return f"{text} {forbidden}"
        if policy and action not in TASK_POLICIES[policy]:
            return f"{text} because no session policy allows the {action} action"
        return None

    # -- iam as root ----------------------------------------------------------------------------

    def features_of(self, caller: Caller, operation: str) -> str:
        """iam:ListOrganizationsFeatures and the four switches, refused as recorded from AWS."""
        if "iam.amazonaws.com" not in self.trusted:
            raise ApiError(
                "ServiceAccessNotEnabledException",
                "IAM does not have trusted access in your organization.",
                403,
            )
        if not self.administrator(caller.account, "iam.amazonaws.com"):
            raise ApiError(
                "AccountNotManagementOrDelegatedAdministratorException",
                "Your account is neither the management account nor a delegated administrator.",
                403,
            )
        if operation.startswith("Enable") and caller.account != self.management:
            raise ApiError(
                "CallerIsNotManagementAccountException",
                "Only the management account can enable this feature.",
                403,
            )
        feature = operation.partition("Organizations")[2]
        with self.lock:
            if operation.startswith("Enable"):
                self.features.add(feature)
            elif operation.startswith("Disable"):
                self.features.discard(feature)
            names = "".join(f"<member>{name}</member>" for name in sorted(self.features))
        enabled = f"<EnabledFeatures>{names}</EnabledFeatures>"
        return f"<OrganizationId>{self.id}</OrganizationId>{enabled}"

    def account_summary(self, account: str, body: bytes, fault: Fault | None) -> bytes:
        """MiniStack's summary, with what it says about the root user put right.

        A flag, not a count: AccountAccessKeysPresent is 1 with two keys as well, and inactive
        keys count (IAM API reference, GetAccountSummary).
        """
        member = self.members[account]
        values: dict[str, Any] = {
            "AccountAccessKeysPresent": int(bool(member.keys)),
            "AccountMFAEnabled": int(member.account.mfa),
            "AccountPasswordPresent": int(member.password),
        }
        if fault is not None:
            values.update(fault.answer or {})
        text = body.decode()
        for key in values:
            text = re.sub(f"<entry><key>{key}</key><value>[^<]*</value></entry>", "", text)
        entries = "".join(
            f"<entry><key>{escape(key)}</key><value>{value}</value></entry>"
            for key, value in values.items()
        )
        return text.replace("</SummaryMap>", f"{entries}</SummaryMap>").encode()

    def root_operation(
        self, caller: Caller, operation: str, params: Mapping[str, str]
    ) -> str | None:
        """The result of an IAM call on the caller's own root user; None if it is none of these.

        Root answers leave UserName and Path out (recorded from AWS).
        """
        action = getattr(self, f"_root_{xform_name(operation)}", None)
        if action is None:
            return None
        with self.lock:
            member = self.members[caller.account]
            result = str(action(member, params))
            session = ministack_sts._sessions.get(caller.access_key) or {}
            if operation == "DeleteAccessKey" and session.get("RootTaskPolicy"):
                member.deleted.append(params["AccessKeyId"])
            return result

    def _root_list_access_keys(self, member: Member, _params: Mapping[str, str]) -> str:
        keys = "".join(
            f"<member><AccessKeyId>{key.id}</AccessKeyId><Status>{key.status}</Status>"
            f"<CreateDate>{_stamp(key.created)}</CreateDate></member>"
            for key in member.keys.values()
        )
        return f"<AccessKeyMetadata>{keys}</AccessKeyMetadata><IsTruncated>false</IsTruncated>"

    def _root_get_access_key_last_used(self, member: Member, params: Mapping[str, str]) -> str:
        used = self._root_key(member, params).last_used
        if used is None:
            inner = "<ServiceName>N/A</ServiceName><Region>N/A</Region>"
        else:
            inner = (
                f"<LastUsedDate>{_stamp(used.date)}</LastUsedDate>"
                f"<ServiceName>{escape(used.service)}</ServiceName>"
                f"<Region>{escape(used.region)}</Region>"
            )
        return f"<AccessKeyLastUsed>{inner}</AccessKeyLastUsed>"

    def _root_delete_access_key(self, member: Member, params: Mapping[str, str]) -> str:
        del member.keys[self._root_key(member, params).id]
        return ""

    def _root_update_access_key(self, member: Member, params: Mapping[str, str]) -> str:
        key, status = self._root_key(member, params), params.get("Status", "")
        if status not in ("Active", "Inactive"):
            raise ApiError("ValidationError", f"{status} is not a status of an access key.", 400)
        member.keys[key.id] = AccessKey(key.id, status, key.created, key.last_used)
        return ""

    def _root_create_access_key(self, member: Member, _params: Mapping[str, str]) -> str:
        if len(member.keys) >= 2:
            raise ApiError("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2", 409)
        key = AccessKey(ministack_iam._gen_access_key_id(), created=datetime.now().astimezone())
        member.keys[key.id] = key
        return (
            f"<AccessKey><AccessKeyId>{key.id}</AccessKeyId><Status>Active</Status>"
            f"<SecretAccessKey>{ministack_iam._gen_secret()}</SecretAccessKey>"
            f"<CreateDate>{_stamp(key.created)}</CreateDate></AccessKey>"
        )

    def _root_get_user(self, member: Member, _params: Mapping[str, str]) -> str:
        account = member.account.id
        return (
            f"<User><UserId>{account}</UserId><Arn>arn:aws:iam::{account}:root</Arn>"
            f"<CreateDate>{_stamp(datetime.fromtimestamp(_JOINED).astimezone())}</CreateDate></User>"
        )

    def _root_get_login_profile(self, member: Member, _params: Mapping[str, str]) -> str:
        if not member.password:
            raise ApiError("NoSuchEntity", "Login Profile for User null cannot be found.", 404)
        created = _stamp(datetime.fromtimestamp(_JOINED).astimezone())
        return f"<LoginProfile><CreateDate>{created}</CreateDate></LoginProfile>"

    def _root_delete_login_profile(self, member: Member, _params: Mapping[str, str]) -> str:
        # AWS answered {} where there was no profile either (recorded).
        member.password = False
        return ""

    def _root_list_mfa_devices(self, member: Member, _params: Mapping[str, str]) -> str:
        serial = f"arn:aws:iam::{member.account.id}:mfa/root-account-mfa-device"
        enabled = _stamp(datetime.fromtimestamp(_JOINED).astimezone())
        device = (
            f"<member><SerialNumber>{serial}</SerialNumber>"
            f"<EnableDate>{enabled}</EnableDate></member>"
            if member.account.mfa
            else ""
        )
        return f"<MFADevices>{device}</MFADevices><IsTruncated>false</IsTruncated>"

    def _root_list_signing_certificates(self, _member: Member, _params: Mapping[str, str]) -> str:
        return "<Certificates></Certificates><IsTruncated>false</IsTruncated>"

    def _root_key(self, member: Member, params: Mapping[str, str]) -> AccessKey:
        key_id = params.get("AccessKeyId", "")
        if key_id not in member.keys:
            raise ApiError("NoSuchEntity", f"The Access Key with id {key_id} cannot be found.", 404)
        return member.keys[key_id]


_JOINED = datetime.fromisoformat("2020-01-01T00:00:00+00:00").timestamp()
_NOT_REGISTERED = "The provided account is not a registered delegated administrator."
_denial: contextvars.ContextVar[str] = contextvars.ContextVar("rootsweep_denial", default="")
_further: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("further", default=())
_sender: contextvars.ContextVar[str] = contextvars.ContextVar("rootsweep_sender", default="")


# -- installing ---------------------------------------------------------------------------------


def install(
    organization: Organization, member_role: Path, parameters: Mapping[str, str]
) -> Pretend:
    """Puts a pretend organization in front of MiniStack and returns it.

    ``member_role`` is the StackSet template of the role in each member; ``parameters`` override
    the defaults of its own parameters.
    """
    pretend = Pretend(organization)
    handlers: dict[str, Handler] = ministack_app.SERVICE_HANDLERS
    handlers["organizations"] = _organizations_handler(pretend)
    handlers["account"] = _account_handler(pretend, handlers["account"])
    handlers["iam"] = _iam_handler(pretend, handlers["iam"])
    handlers["sts"] = _sts_handler(pretend, handlers["sts"])
    ministack_app.app = _with_view(pretend, ministack_app.app)
    _enforce_on_pretended_calls(pretend)
    _put_condition_keys_right(pretend)
    _forget_sessions_seldom()
    create_member_roles(organization, member_role, parameters)
    return pretend


def _forget_sessions_seldom() -> None:
    """MiniStack looks through all sessions for each one that it makes, in whichever thread makes
    it: that is slow when there are many, and fails when another thread makes one meanwhile."""
    lock = threading.Lock()
    last = time.monotonic()

    def evict_seldom() -> None:
        nonlocal last
        with lock:
            if time.monotonic() - last < EVICTION_SECONDS:
                return
            last = time.monotonic()
        now = time.time()
        for key, session in list(ministack_sts._sessions.items()):
            if session.get("Expiration", now) < now:
                ministack_sts._sessions.pop(key, None)

    ministack_sts._evict_expired_sessions = evict_seldom


def _organizations_handler(pretend: Pretend) -> Handler:
    async def handle(
        _method: str, _path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            caller = pretend.caller(headers, query)
            with pretend.lock:
                answer = pretend.organizations(caller, operation, json_object(body))
        except ApiError as error:
            return _json_error("organizations", error)
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()

    return handle


def _account_handler(pretend: Pretend, inner: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        if path.rstrip("/") != "/getAlternateContact":
            return await inner(method, path, headers, body, query)
        try:
            answer = pretend.alternate_contact(pretend.caller(headers, query), json_object(body))
        except ApiError as error:
            return _json_error("account", error)
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    return handle


def _sts_handler(pretend: Pretend, inner: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        params = _params(body, query)
        operation = params.get("Action", "")
        caller = pretend.caller(headers, query)
        try:
            if operation == "AssumeRoot":
                result = pretend.assume_root(caller, params)
                cloud_trail.assumed_root(caller.identity(), params, result)
                return _query_answer("sts", operation, result)
            if operation == "AssumeRole":
                role = params.get("RoleArn", "")
                pretend.fail(caller, _arn_account(role), "sts:AssumeRole")
                pretend.admit(caller, role)
        except ApiError as error:
            if operation == "AssumeRoot":
                cloud_trail.refused_root(caller.identity(), params, error.code, error.message)
            return _query_error("sts", error)
        return await inner(method, path, headers, body, query)

    return handle


def _iam_handler(pretend: Pretend, inner: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        params = _params(body, query)
        operation = params.get("Action", "")
        caller = pretend.caller(headers, query)
        try:
            fault = pretend.fail(caller, caller.account, f"iam:{operation}")
            result = _iam_answer(pretend, caller, operation, params)
        except ApiError as error:
            if _is_reported(operation):
                failure = error.code, error.message
                cloud_trail.iam_call(caller.identity(), operation, failure)
            return _query_error("iam", error)
        if result is not None:
            if _is_reported(operation):
                cloud_trail.iam_call(caller.identity(), operation, None)
            return _query_answer("iam", operation, result)
        status, answer_headers, answer = await inner(method, path, headers, body, query)
        if operation == "GetAccountSummary" and status == 200 and caller.account in pretend.members:
            answer = pretend.account_summary(caller.account, answer, fault)
        return status, answer_headers, answer

    return handle


def _is_reported(operation: str) -> bool:
    """Of the calls that are answered here, those that CloudTrail's events are pretended of."""
    return operation == "CreateAccessKey" or operation.startswith(
        ("EnableOrganizationsRoot", "DisableOrganizationsRoot")
    )


def _iam_answer(
    pretend: Pretend, caller: Caller, operation: str, params: Mapping[str, str]
) -> str | None:
    """What the pretend organization answers itself; None passes the call on to MiniStack."""
    if re.fullmatch(
        r"ListOrganizationsFeatures"
        r"|(Enable|Disable)Organizations(RootCredentialsManagement|RootSessions)",
        operation,
    ):
        return pretend.features_of(caller, operation)
    if caller.account not in pretend.members:
        return None
    if params.get("UserName") == "root" and "root" not in ministack_iam._users:
        # UserName names an IAM user; the root user is none (IAM API reference, ListAccessKeys).
        raise ApiError("NoSuchEntity", "The user with name root cannot be found.", 404)
    if caller.root and not params.get("UserName"):
        return pretend.root_operation(caller, operation, params)
    return None


def _with_view(pretend: Pretend, inner: Any) -> Any:
    """/_rootsweep/organization, before anything asks for a signature: GET shows the accounts,
    POST {"account": ..., "state": ...} changes the state of one, {"feature_set": ...} that of the
    organization."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/_rootsweep/organization":
            await inner(scope, receive, send)
            return
        status, answer = 200, None
        if scope["method"] == "POST":
            change = json_object(await read_body(receive))
            try:
                if "feature_set" in change:
                    pretend.set_feature_set(str(change["feature_set"]))
                else:
                    pretend.set_state(str(change.get("account")), str(change.get("state")))
            except ValueError as error:
                status, answer = 400, {"error": str(error)}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = json.dumps(answer or pretend.view()).encode()
        await send({"type": "http.response.body", "body": body})

    return app


async def read_body(receive: Any) -> bytes:
    """The whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _enforce_on_pretended_calls(pretend: Pretend) -> None:
    """Lets MiniStack's own policy evaluation see the pretended calls as AWS does.

    Actions, resources and condition keys are those of the Service Authorization Reference.
    """
    resource_arn = iam_actions.extract_resource_arn
    tag_context = iam_actions.request_tag_context
    enforce = iam_evaluator.enforce
    denied_response = iam_actions.access_denied_response
    # MiniStack derives rest-json action names from botocore routes, for services listed here.
    iam_actions._BOTOCORE_SERVICE_MAP["account"] = ["account"]

    def extract_resource_arn(
        service: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        params: dict[str, Any],
        region: str,
        account_id: str,
    ) -> str:
        _further.set(())
        if service == "organizations":
            arns = pretend.arns_of(json_object(body))
            _further.set(tuple(arns[1:]))
            return arns[0]
        if service == "account":
            member = json_object(body).get("AccountId")
            management = f"{pretend.management}:account/{pretend.id}/{member}"
            return f"arn:aws:account::{management if member else account_id + ':account'}"
        if service == "sts" and _one(params.get("Action")) == "AssumeRoot":
            target = _root_account(_one(params.get("TargetPrincipal")))
            return f"arn:aws:iam::{target}:root" if target else "*"
        if service == "ses" and path == "/v2/email/outbound-emails":
            # SendEmail is authorized on the identity that sends and on the configuration set, and
            # ses:FromAddress names the sender (Service Authorization Reference, SES v2).
            mail = json_object(body)
            _sender.set(str(mail.get("FromEmailAddress") or ""))
            arn = f"arn:aws:ses:{region}:{account_id}"
            if mail.get("ConfigurationSetName"):
                _further.set((f"{arn}:configuration-set/{mail['ConfigurationSetName']}",))
            return f"{arn}:identity/{_sender.get()}"
        return str(resource_arn(service, method, path, headers, body, params, region, account_id))

    def request_tag_context(
        service: str, action: str, body: bytes, params: dict[str, Any]
    ) -> dict[str, Any]:
        context: dict[str, Any] = tag_context(service, action, body, params)
        if service == "organizations":
            context = {**context, **condition_keys(json_object(body))}
        if action == "sts:AssumeRoot":
            context = {**context, "sts:TaskPolicyArn": _one(params.get("TaskPolicyArn.arn"))}
        return context

    def enforce_more(access_key: str, action: str, *rest: Any, **named: Any) -> Any:
        """On every resource of the call, and with what limits a principal beside its policies."""
        _denial.set("")
        if action == "ses:SendEmail":
            named["service_context"] = {"ses:FromAddress": _sender.get()}
        denied = enforce(access_key, action, *rest, **named)
        if denied:
            return denied
        for resource in _further.get():
            denied = enforce(access_key, action, *rest, **{**named, "resource_arn": resource})
            if denied:
                explicit = denied.decision == "Deny"
                _denial.set(
                    iam_actions.identity_denial_message(
                        action, denied.principal_arn, resource, explicit
                    )
                )
                return denied
        refusal = pretend.refusal(access_key, action, named.get("resource_arn", "*"), rest[1])
        _denial.set(refusal or "")
        return iam_evaluator.EvalResult("Deny", "", "", refusal) if refusal else None

    def access_denied_response(
        service: str, action: str, principal: str, *rest: Any, **named: Any
    ) -> Any:
        if _denial.get():
            named["message"] = _denial.get()
            _denial.set("")
        elif action == "sts:AssumeRoot" and not named.get("message"):
            named["message"] = (
                f"User: {principal} is not authorized to perform: sts:AssumeRoot "
                f"on resource: {named.get('resource_arn', '*')}"
            )
        if action == "sts:AssumeRoot":
            account = responses.get_account_id()
            role = _role_arn(principal) if ":assumed-role/" in principal else None
            identity = cloud_trail.user_identity(account, principal, role, None)
            cloud_trail.refused_root(
                identity,
                {"TargetPrincipal": _arn_account(named.get("resource_arn", ""))},
                "AccessDenied",
                named["message"],
            )
        return denied_response(service, action, principal, *rest, **named)

    iam_actions.extract_resource_arn = extract_resource_arn
    iam_actions.request_tag_context = request_tag_context
    iam_actions.access_denied_response = access_denied_response
    iam_evaluator.enforce = enforce_more


def _put_condition_keys_right(pretend: Pretend) -> None:
    """aws:PrincipalArn and aws:PrincipalOrgID as the IAM User Guide defines them.

    For an assumed role aws:PrincipalArn is the ARN of the role, not of the session; the member
    role's trust policy depends on it. MiniStack gives the session's ARN, and an organization to
    every account that asks for one.
    """
    resolve = iam_evaluator._resolve_condition_key

    def resolve_condition_key(key: str, ctx: Any) -> Any:
        name = key.lower()
        if name == "aws:principalarn" and ":assumed-role/" in ctx.principal_arn:
            return _role_arn(ctx.principal_arn)
        if name == "aws:principalorgid":
            return pretend.id if ctx.principal_account in pretend.members else None
        return resolve(key, ctx)

    iam_evaluator._resolve_condition_key = resolve_condition_key


def _role_arn(session_arn: str) -> str:
    account, name = _arn_account(session_arn), session_arn.split("/")[1]
    role = ministack_iam._roles.get_scoped(account, None, name) or {}
    return str(role.get("Arn", f"arn:aws:iam::{account}:role/{name}"))


# -- the member role ----------------------------------------------------------------------------


def create_member_roles(
    organization: Organization, template: Path, parameters: Mapping[str, str]
) -> None:
    """The IAM roles of the StackSet template in every account that has the audit role.

    A StackSet would deploy the template; here its role goes into MiniStack directly, because a
    thousand stacks would take minutes.
    """
    values = {"SecurityAccountId": organization.security_account, **parameters}
    accounts = [account.id for account in organization.accounts if account.audit_role]
    create_roles(template.read_text(encoding="utf-8"), values, accounts)


def create_roles(template: str, parameters: Mapping[str, str], accounts: Iterable[str]) -> None:
    """The IAM roles of a template in these accounts. Raises ValueError for what is not pretended.

    Names of parameters that the template does not have are left to whoever else they are for.
    """
    document = yaml.load(template, Loader=_CloudFormationLoader)
    values = {name: entry.get("Default") for name, entry in document["Parameters"].items()}
    values.update({name: value for name, value in parameters.items() if name in values})
    roles = [
        resource["Properties"]
        for resource in document["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
    ]
    for account in accounts:
        pseudo = {"AWS::AccountId": account, "AWS::Partition": "aws"}
        for role in roles:
            _create_role(account, _resolved(role, {**values, **pseudo}))


def _create_role(account_id: str, role: dict[str, Any]) -> None:
    known = {
        "AssumeRolePolicyDocument",
        "Description",
        "MaxSessionDuration",
        "Path",
        "Policies",
        "RoleName",
    }
    if role.keys() - known:
        raise ValueError(f"the member role has properties not pretended: {role.keys() - known}")
    params = {name: role[name] for name in known & role.keys() if name != "Policies"}
    params["AssumeRolePolicyDocument"] = json.dumps(role["AssumeRolePolicyDocument"])
    with responses.request_scope(account_id, responses.get_region()):
        _succeed(ministack_iam._create_role(params))
        for policy in role.get("Policies", []):
            _succeed(
                ministack_iam._put_role_policy(
                    {
                        "RoleName": role["RoleName"],
                        "PolicyName": policy["PolicyName"],
                        "PolicyDocument": json.dumps(policy["PolicyDocument"]),
                    }
                )
            )


def _succeed(response: Response) -> None:
    if response[0] != 200:
        raise ValueError(response[2].decode())


class _CloudFormationLoader(yaml.SafeLoader):
    """Reads !Ref and !Sub as the long forms {"Ref": ...} and {"Fn::Sub": ...}."""


def _tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        value = loader.construct_object(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_CloudFormationLoader.add_multi_constructor("!", _tag)


def _resolved(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_resolved(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"}:
        return names[value["Ref"]]
    if value.keys() == {"Fn::Sub"}:
        return re.sub(r"\$\{([^!}]+)}", lambda match: str(names[match[1]]), value["Fn::Sub"])
    if any(key.startswith("Fn::") for key in value):
        raise ValueError(f"the member role uses {next(iter(value))}, which is not pretended")
    return {key: _resolved(item, names) for key, item in value.items()}


# -- wire formats -------------------------------------------------------------------------------


def _params(body: bytes, query: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a query-protocol request, from the URL and the form body."""
    form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True) if body else {}
    return {name: _one(value) for name, value in {**form, **query}.items()}


def _one(value: Any) -> str:
    if isinstance(value, list):
        return str(value[0]) if value else ""
    return str(value or "")


def json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body or b"{}")
    except ValueError:
        data = {}
    return data if isinstance(data, dict) else {}


def _query_answer(service: str, operation: str, result: str) -> Response:
    inner = f"<{operation}Result>{result}</{operation}Result>" if result else ""
    response: Response = ministack_iam._xml(200, f"{operation}Response", inner, ns=service)
    return response


def _query_error(service: str, error: ApiError) -> Response:
    status = error.status or _status(service, error.code)
    response: Response = ministack_iam._error(
        status, escape(error.code), escape(error.message), ns=service
    )
    return response


def _json_error(service: str, error: ApiError) -> Response:
    status = error.status or _status(service, error.code)
    key = "Message" if service == "organizations" else "message"
    response: Response = responses.error_response_json(
        error.code, error.message, status, message_key=key
    )
    if error.reason:
        body = {**json_object(response[2]), "Reason": error.reason}
        return response[0], response[1], json.dumps(body).encode()
    return response


# Generic AWS errors that service models do not list (IAM API reference, "Common errors").
_COMMON_STATUS = {
    "AccessDenied": 403,
    "InternalFailure": 500,
    "InternalServiceError": 500,
    "NoSuchEntity": 404,
    "RequestExpired": 400,
    "ServiceException": 500,
    "ServiceUnavailable": 503,
    "ServiceUnavailableException": 503,
}


def _status(service: str, code: str) -> int:
    """The HTTP status the service's model gives an error code, else the generic one, else 400."""
    model = responses._service_model(service)
    for shape in model.error_shapes:
        if code in (shape.error_code, shape.name):
            status = shape.metadata.get("error", {}).get("httpStatusCode")
            if status:
                return int(status)
    return _COMMON_STATUS.get(code, 400)


def _fault_text(code: str, operation: str, caller: Caller) -> str:
    if "Throttl" in code or code.startswith(("TooManyRequests", "RequestLimitExceeded")):
        return "Rate exceeded"
    if code.startswith("AccessDenied"):
        return f"User: {caller.arn} is not authorized to perform: {operation}"
    return "The request processing has failed because of an unknown error."


def _root_session(caller: Caller, target: str, policy: str, duration: int) -> str:
    key, secret = ministack_iam._gen_session_access_key(), ministack_iam._gen_secret()
    token = ministack_iam._gen_session_token()
    ministack_sts.register_session(
        key,
        {
            "Arn": f"arn:aws:iam::{target}:root",
            "UserId": target,
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": time.time() + duration,
            "AccountId": target,
            "PrincipalType": "Root",
            "SourceAccessKeyId": caller.access_key,
            "SourcePrincipalArn": caller.arn,
            "RootTaskPolicy": policy,
        },
    )
    return (
        f"<Credentials><AccessKeyId>{key}</AccessKeyId>"
        f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
        f"<Expiration>{ministack_iam._future(duration)}</Expiration></Credentials>"
    )


def _duration(text: str) -> int:
    if not text.isdigit() or int(text) > 900:
        raise ApiError(
            "ValidationError",
            f"1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy "
            "constraint: Member must have value less than or equal to 900",
        )
    return int(text)


def _root_account(principal: str) -> str | None:
    match = re.fullmatch(r"([0-9]{12})|arn:aws:iam::([0-9]{12}):root", principal)
    return (match[1] or match[2]) if match else None


def _arn_account(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) > 4 else ""


def _offset(token: Any) -> int:
    if token is None:
        return 0
    try:
        return int(base64.b64decode(str(token), validate=True).decode().removeprefix("from:"))
    except (binascii.Error, ValueError):
        raise ApiError(
            "InvalidInputException", "You specified an invalid value for nextToken."
        ) from None


def _stamp(moment: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment.timestamp()))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
