"""Service control policies in memory, as a client for Organizations shows them: page after page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import boto3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCP = "SERVICE_CONTROL_POLICY"
PAGE = 2
MOST_OF_AN_ACCOUNT = 5


class ServiceControlPolicies:
    """The policies of an organization and what they are attached to.

    `calls` are the operations that were asked for, a page at a time. `fails` makes an operation
    fail, for one target or (under "") for all; `before` is what happens right before one, once.
    """

    exceptions = boto3.client("organizations", region_name="us-east-1").exceptions

    def __init__(self) -> None:
        self.policies: dict[str, dict[str, Any]] = {}
        self.attached: dict[str, set[str]] = {}
        self.left: set[str] = set()
        self.calls: list[str] = []
        self.fails: dict[tuple[str, str], str] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self._made = 0

    def named(self, name: str) -> list[str]:
        """The ids of the policies with this name."""
        return [id for id, policy in self.policies.items() if policy["Name"] == name]

    def blocked(self, name: str = "rootsweep-quarantine") -> set[str]:
        """What the policies with this name are attached to."""
        return {target for id in self.named(name) for target in self.attached[id]}

    def get_paginator(self, operation: str) -> Paginator:
        return Paginator(
            {"list_policies": self._list, "list_targets_for_policy": self._targets}[operation]
        )

    def create_policy(self, **given: str) -> dict[str, Any]:
        self._called("create_policy")
        assert set(given) == {"Name", "Description", "Type", "Content"}
        assert given["Type"] == SCP
        if self.named(given["Name"]):
            self._refuse("DuplicatePolicyException", "create_policy")
        self._made += 1
        id = f"p-{self._made:08}"
        self.policies[id], self.attached[id] = given, set()
        return {"Policy": {"PolicySummary": {"Id": id, "Name": given["Name"]}}}

    def attach_policy(self, *, PolicyId: str, TargetId: str) -> None:  # noqa: N803 - boto3's name
        self._called("attach_policy", TargetId)
        self._is_there(PolicyId, TargetId, "attach_policy")
        if TargetId in self.attached[PolicyId]:
            self._refuse("DuplicatePolicyAttachmentException", "attach_policy")
        if sum(TargetId in targets for targets in self.attached.values()) == MOST_OF_AN_ACCOUNT:
            self._refuse("ConstraintViolationException", "attach_policy")
        self.attached[PolicyId].add(TargetId)

    def detach_policy(self, *, PolicyId: str, TargetId: str) -> None:  # noqa: N803
        self._called("detach_policy", TargetId)
        self._is_there(PolicyId, TargetId, "detach_policy")
        if TargetId not in self.attached[PolicyId]:
            self._refuse("PolicyNotAttachedException", "detach_policy")
        self.attached[PolicyId].remove(TargetId)

    def delete_policy(self, *, PolicyId: str) -> None:  # noqa: N803
        self._called("delete_policy")
        self._is_there(PolicyId, "", "delete_policy")
        if self.attached[PolicyId]:
            self._refuse("PolicyInUseException", "delete_policy")
        del self.policies[PolicyId], self.attached[PolicyId]

    def _list(self, *, Filter: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        assert Filter == SCP

        def policies() -> list[dict[str, str]]:
            return [{"Id": id, "Name": policy["Name"]} for id, policy in self.policies.items()]

        return self._pages("list_policies", "Policies", policies)

    def _targets(self, *, PolicyId: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        def targets() -> list[dict[str, str]]:
            self._is_there(PolicyId, "", "list_targets_for_policy")
            return [{"TargetId": target} for target in sorted(self.attached[PolicyId])]

        return self._pages("list_targets_for_policy", "Targets", targets)

    def _pages(
        self, operation: str, name: str, read: Callable[[], list[dict[str, str]]]
    ) -> Iterator[dict[str, Any]]:
        """The pages, of which there is always one."""
        start, left = 0, True
        while left:
            self._called(operation)
            items = read()
            yield {name: items[start : start + PAGE]}
            start += PAGE
            left = start < len(items)

    def _called(self, operation: str, target: str = "") -> None:
        self.calls.append(f"{operation} {target}".strip())
        self.before.pop(operation, lambda: None)()
        for failing in (target, ""):
            if (operation, failing) in self.fails:
                self._refuse(self.fails[operation, failing], operation)

    def _is_there(self, policy_id: str, target: str, operation: str) -> None:
        if policy_id not in self.policies:
            self._refuse("PolicyNotFoundException", operation)
        if target in self.left:
            self._refuse("TargetNotFoundException", operation)

    def _refuse(self, code: str, operation: str) -> NoReturn:
        error = {"Error": {"Code": code, "Message": "AWS says no."}}
        raise self.exceptions.from_code(code)(error, operation)


class Paginator:
    """What boto3 gives for an operation that answers page after page."""

    def __init__(self, paginate: Callable[..., Iterator[dict[str, Any]]]) -> None:
        self.paginate = paginate
