"""Service control policies of the pretend organization, and the delegation of their management.

Source: Organizations API reference (each operation by its name) and User Guide, "Service control
policies", "SCP evaluation" and "Delegated administrator for AWS Organizations".
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ministack.core import iam_evaluator

from local.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.pretend import Caller, Pretend

SCP = "SERVICE_CONTROL_POLICY"
FULL_ACCESS = "p-FullAWSAccess"
# Quotas of AWS Organizations: SCPs of a root, unit or account, and characters of one.
MOST_ATTACHED = 5
LONGEST = 5120
# What a delegation policy can hand to a member, beside every read.
DELEGABLE = (
    "AttachPolicy",
    "CreatePolicy",
    "DeletePolicy",
    "DetachPolicy",
    "TagResource",
    "UntagResource",
    "UpdatePolicy",
)


@dataclass(frozen=True)
class Policy:
    id: str
    name: str
    description: str
    content: str
    tags: dict[str, str] = field(default_factory=dict)


class ServiceControlPolicies:
    """The policies, what they are attached to, and the organization's delegation policy."""

    def __init__(self, pretend: Pretend) -> None:
        self.pretend = pretend
        full = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        content = json.dumps({"Version": "2012-10-17", "Statement": [full]})
        default = Policy(FULL_ACCESS, "FullAWSAccess", "Allows access to every operation", content)
        self.policies = {FULL_ACCESS: default}
        # Targets that are not in here have FullAWSAccess, like every new one.
        self._attached: dict[str, list[str]] = {}
        self.delegation: str | None = None

    def attached(self, target: str) -> list[str]:
        return self._attached.setdefault(target, [FULL_ACCESS])

    def forget(self, target: str) -> None:
        self._attached.pop(target, None)

    # -- the policies ---------------------------------------------------------------------------

    def _org_create_policy(self, data: dict[str, Any]) -> Any:
        _require_scp(data.get("Type"))
        self._require_new_name(data["Name"])
        policy = Policy(
            id=f"p-{secrets.token_hex(4)}",
            name=data["Name"],
            description=data.get("Description", ""),
            content=_scp(data["Content"]),
            tags={tag["Key"]: tag["Value"] for tag in data.get("Tags") or []},
        )
        self.policies[policy.id] = policy
        return self._view(policy)

    def _org_describe_policy(self, data: dict[str, Any]) -> Any:
        return self._view(self._known(data))

    def _org_update_policy(self, data: dict[str, Any]) -> Any:
        policy = self._changeable(data)
        if data.get("Name", policy.name) != policy.name:
            self._require_new_name(data["Name"])
        policy = replace(
            policy,
            name=data.get("Name", policy.name),
            description=data.get("Description", policy.description),
            content=_scp(data.get("Content", policy.content)),
        )
        self.policies[policy.id] = policy
        return self._view(policy)

    def _org_delete_policy(self, data: dict[str, Any]) -> Any:
        policy = self._changeable(data)
        if self._targets(policy):
            raise ApiError(
                "PolicyInUseException",
                "You cannot delete a policy that is attached to a root, OU, or account.",
            )
        del self.policies[policy.id]
        return {}

    def _org_list_policies(self, data: dict[str, Any]) -> Any:
        _require_scp(data.get("Filter"))
        return self.pretend._page("Policies", list(self.policies), data, self._summary)

    # -- attachments ----------------------------------------------------------------------------

    def _org_attach_policy(self, data: dict[str, Any]) -> Any:
        policy, attached = self._known(data), self.attached(self._known_target(data))
        if policy.id in attached:
            raise ApiError(
                "DuplicatePolicyAttachmentException",
                "A policy with the specified name and type already exists on the target.",
            )
        if len(attached) >= MOST_ATTACHED:
            raise ApiError(
                "ConstraintViolationException",
                "You have attached the maximum number of policies to the specified target.",
                reason="MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
            )
        attached.append(policy.id)
        return {}

    def _org_detach_policy(self, data: dict[str, Any]) -> Any:
        policy, attached = self._known(data), self.attached(self._known_target(data))
        if policy.id not in attached:
            raise ApiError(
                "PolicyNotAttachedException", "The policy isn't attached to the specified target."
            )
        if len(attached) == 1:
            raise ApiError(
                "ConstraintViolationException",
                "You cannot remove the last service control policy from the target.",
                reason="MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
            )
        attached.remove(policy.id)
        return {}

    def _org_list_policies_for_target(self, data: dict[str, Any]) -> Any:
        _require_scp(data.get("Filter"))
        attached = self.attached(self._known_target(data))
        return self.pretend._page("Policies", attached, data, self._summary)

    def _org_list_targets_for_policy(self, data: dict[str, Any]) -> Any:
        targets = self._targets(self._known(data))
        return self.pretend._page("Targets", targets, data, self._target_view)

    # -- delegation -----------------------------------------------------------------------------

    def _org_put_resource_policy(self, data: dict[str, Any]) -> Any:
        problem = iam_evaluator.validate_policy_document(data.get("Content") or "")
        if problem:
            raise ApiError("InvalidInputException", problem, reason="INVALID_RESOURCE_POLICY_JSON")
        self.delegation = str(data["Content"])
        return self._org_describe_resource_policy(data)

    def _org_describe_resource_policy(self, _data: dict[str, Any]) -> Any:
        if self.delegation is None:
            raise ApiError(
                "ResourcePolicyNotFoundException", "We can't find a resource policy request."
            )
        policy_id = f"rp-{self.pretend.id[2:]}"
        summary = {"Id": policy_id, "Arn": self.pretend._arn("resourcepolicy", policy_id)}
        return {"ResourcePolicy": {"ResourcePolicySummary": summary, "Content": self.delegation}}

    def _org_delete_resource_policy(self, data: dict[str, Any]) -> Any:
        self._org_describe_resource_policy(data)
        self.delegation = None
        return {}

    def delegates(
        self, caller: Caller, operation: str, resources: Iterable[str], data: dict[str, Any]
    ) -> bool:
        """Whether the delegation policy lets a member's principal do this.

        It names the member's account; the principal needs the permission of its own too, which
        IAM looks at before.
        """
        read = operation.startswith(("Describe", "List"))
        if self.delegation is None or not (read or operation in DELEGABLE):
            return False
        contexts = (
            iam_evaluator.EvalContext(
                principal_arn=caller.arn,
                principal_type="Root" if caller.root else "AssumedRole",
                principal_account=caller.account,
                action=f"organizations:{operation}",
                resource_arn=resource,
                region="us-east-1",
                service_context={
                    name.lower(): value for name, value in condition_keys(data).items()
                },
            )
            for resource in resources
        )
        return all(
            iam_evaluator.evaluate_resource_policy(self.delegation, context).decision == "Allow"
            for context in contexts
        )

    # -- what they forbid -----------------------------------------------------------------------

    def refusal(
        self, principal: Any, action: str, resource: str, region: str, *, assumed_root: bool
    ) -> str | None:
        """How AWS ends the message with which an SCP refuses the call; None if none does.

        Every level from the account up to the root has to allow and none may deny; nothing binds
        the management account. aws:AssumedRoot is there in root sessions only (IAM User Guide,
        global condition keys).
        """
        levels = self._levels(principal.account_id)
        context = iam_evaluator.EvalContext(
            principal_arn=principal.principal_arn,
            principal_type=principal.principal_type,
            principal_account=principal.account_id,
            action=action,
            resource_arn=resource,
            region=region,
            service_context={"aws:assumedroot": "true"} if assumed_root else {},
        )
        decisions = [iam_evaluator.evaluate(context, level).decision for level in levels]
        if "Deny" in decisions:
            return "with an explicit deny in a service control policy"
        if "ImplicitDeny" in decisions:
            return f"because no service control policy allows the {action} action"
        return None

    def _levels(self, account: str) -> list[list[Any]]:
        """The statements at each level that has anything but FullAWSAccess."""
        member = self.pretend.members.get(account)
        if member is None or account == self.pretend.management:
            return []
        targets, parent = [account], member.parent
        while parent in self.pretend.units:
            targets.append(parent)
            parent = self.pretend.units[parent].parent
        attached = [self._attached.get(target) for target in (*targets, parent)]
        return [
            [iam_evaluator.parse_policy_document(self.policies[each].content) for each in ids]
            for ids in attached
            if ids and ids != [FULL_ACCESS]
        ]

    # -- looking things up ----------------------------------------------------------------------

    def arn(self, policy_id: str) -> str:
        kind = SCP.lower()
        if policy_id == FULL_ACCESS:
            return f"arn:aws:organizations::aws:policy/{kind}/{policy_id}"
        return self.pretend._arn("policy", kind, policy_id)

    def _view(self, policy: Policy) -> Any:
        return {"Policy": {"PolicySummary": self._summary(policy.id), "Content": policy.content}}

    def _summary(self, policy_id: str) -> dict[str, Any]:
        policy = self.policies[policy_id]
        return {
            "Id": policy_id,
            "Arn": self.arn(policy_id),
            "Name": policy.name,
            "Description": policy.description,
            "Type": SCP,
            "AwsManaged": policy_id == FULL_ACCESS,
        }

    def _targets(self, policy: Policy) -> list[str]:
        everything = (self.pretend.root_id, *self.pretend.units, *self.pretend.members)
        return [target for target in everything if policy.id in self.attached(target)]

    def _target_view(self, target: str) -> dict[str, Any]:
        if target in self.pretend.members:
            kind, name = "ACCOUNT", self.pretend.members[target].account.name
        elif target in self.pretend.units:
            kind, name = "ORGANIZATIONAL_UNIT", self.pretend.units[target].name
        else:
            kind, name = "ROOT", "Root"
        return {
            "TargetId": target,
            "Arn": self.pretend.arn_of(target),
            "Name": name,
            "Type": kind,
        }

    def _known(self, data: dict[str, Any]) -> Policy:
        policy = self.policies.get(str(data.get("PolicyId")))
        if policy is None:
            raise ApiError("PolicyNotFoundException", "You specified a policy that doesn't exist.")
        return policy

    def _changeable(self, data: dict[str, Any]) -> Policy:
        policy = self._known(data)
        if policy.id == FULL_ACCESS:
            raise ApiError(
                "InvalidInputException",
                "You specified a policy that is managed by AWS and can't be modified.",
                reason="IMMUTABLE_POLICY",
            )
        return policy

    def _known_target(self, data: dict[str, Any]) -> str:
        target = str(data.get("TargetId"))
        known = (self.pretend.root_id, *self.pretend.units, *self.pretend.members)
        if target not in known:
            raise ApiError("TargetNotFoundException", "You specified a target that doesn't exist.")
        return target

    def _require_new_name(self, name: str) -> None:
        if any(policy.name == name for policy in self.policies.values()):
            raise ApiError(
                "DuplicatePolicyException", "A policy with the same name already exists."
            )


def condition_keys(data: dict[str, Any]) -> dict[str, str]:
    """organizations:PolicyType of a call (Service Authorization Reference, Organizations)."""
    named = data.get("Type") or data.get("Filter")
    kind = named or (SCP if str(data.get("PolicyId")).startswith("p-") else None)
    return {"organizations:PolicyType": str(kind)} if kind else {}


def _require_scp(kind: Any) -> None:
    if kind != SCP:
        raise ApiError(
            "InvalidInputException",
            f"Only policies of the type {SCP} are pretended.",
            reason="INVALID_ENUM_POLICY_TYPE",
        )


def _scp(content: str) -> str:
    problem = iam_evaluator.validate_policy_document(content)
    statements = [] if problem else json.loads(content)["Statement"]
    every = statements if isinstance(statements, list) else [statements]
    if problem or any("Principal" in each or "NotPrincipal" in each for each in every):
        raise ApiError(
            "MalformedPolicyDocumentException",
            "The provided policy document does not meet the requirements of the specified policy "
            f"type. {problem or 'A service control policy has no Principal.'}",
        )
    if len(content) > LONGEST:
        raise ApiError(
            "ConstraintViolationException",
            "You exceeded the maximum policy size.",
            reason="POLICY_CONTENT_LIMIT_EXCEEDED",
        )
    return content
