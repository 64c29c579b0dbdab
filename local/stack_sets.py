"""Service-managed StackSets, which MiniStack lacks, of templates that make IAM roles.

Source: CloudFormation API reference, ActivateOrganizationsAccess, DescribeOrganizationsAccess,
CreateStackSet, CreateStackInstances, ListStackInstances. Roles are there at once, without stacks in
the accounts; what is in no region, like a role, is made once. No automatic deployment.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from ministack import app
from ministack.core import responses
from ministack.services.cloudformation import helpers

from local import pretend
from local.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.pretend import Handler, Pretend, Response


def install(organization: Pretend) -> None:
    handlers: dict[str, Handler] = app.SERVICE_HANDLERS
    handlers["cloudformation"] = _handler(StackSets(organization), handlers["cloudformation"])


class StackSets:
    """The StackSets of the management account."""

    def __init__(self, organization: Pretend) -> None:
        self._organization = organization
        # Of each: the template, its parameters, and when the role came into which account.
        self._sets: dict[str, tuple[str, dict[str, str], dict[str, float]]] = {}

    def answer(self, operation: str, params: Mapping[str, str]) -> str:
        """The result element of one of the operations."""
        if responses.get_account_id() != self._organization.management:
            raise ApiError("ValidationError", "You must be the management account.")
        trusted = self._organization.trusted
        if operation == "ActivateOrganizationsAccess":
            trusted.setdefault(pretend.STACK_SETS, time.time())
            return ""
        status = "ENABLED" if pretend.STACK_SETS in trusted else "DISABLED"
        if operation == "DescribeOrganizationsAccess":
            return f"<Status>{status}</Status>"
        if status == "DISABLED":
            raise ApiError(
                "ValidationError",
                "You must enable organizations access to operate a service managed stack set",
            )
        name = params["StackSetName"]
        if operation == "CreateStackSet":
            return self._create(name, params)
        if name not in self._sets:
            raise ApiError("StackSetNotFoundException", f"StackSet {name} not found", 404)
        if operation == "CreateStackInstances":
            return self._deploy(name, params)
        return self._list(name)

    def _create(self, name: str, params: Mapping[str, str]) -> str:
        if name in self._sets:
            raise ApiError("NameAlreadyExistsException", f"StackSet {name} already exists", 409)
        if params.get("PermissionModel") != "SERVICE_MANAGED":
            raise ApiError("ValidationError", "Only SERVICE_MANAGED is pretended.")
        given = dict(
            zip(
                _members(params, "Parameters", ".ParameterKey"),
                _members(params, "Parameters", ".ParameterValue"),
                strict=True,
            )
        )
        self._sets[name] = params["TemplateBody"], given, {}
        return f"<StackSetId>{escape(name)}:{secrets.token_hex(16)}</StackSetId>"

    def _deploy(self, name: str, params: Mapping[str, str]) -> str:
        template, given, there = self._sets[name]
        accounts = self._targets(params)
        pretend.create_roles(template, given, accounts)
        there.update(dict.fromkeys(accounts, time.time()))
        return f"<OperationId>{secrets.token_hex(16)}</OperationId>"

    def _targets(self, params: Mapping[str, str]) -> list[str]:
        """Accounts that function, below the units; StackSets leave the management account out."""
        units = _members(params, "DeploymentTargets.OrganizationalUnitIds")
        named = _members(params, "DeploymentTargets.Accounts")
        kind = params.get("DeploymentTargets.AccountFilterType", "NONE")
        if kind not in ("NONE", "INTERSECTION"):
            raise ApiError("ValidationError", f"AccountFilterType {kind} is not pretended.")
        return [
            id
            for id, member in self._organization.members.items()
            if id != self._organization.management
            and member.state in pretend.USABLE_STATES
            and any(f"/{unit}/" in member.path for unit in units)
            and (kind == "NONE" or id in named)
        ]

    def _list(self, name: str) -> str:
        summaries = "".join(
            f"<member><StackSetId>{escape(name)}</StackSetId><Region>us-east-1</Region>"
            f"<Account>{account}</Account><Status>CURRENT</Status></member>"
            for account in self._sets[name][2]
        )
        return f"<Summaries>{summaries}</Summaries>"


_OPERATIONS = (
    "ActivateOrganizationsAccess",
    "CreateStackInstances",
    "CreateStackSet",
    "DescribeOrganizationsAccess",
    "ListStackInstances",
)


def _handler(sets: StackSets, inner: Handler) -> Handler:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        params = pretend._params(body, query)
        operation = params.get("Action", "")
        if operation not in _OPERATIONS:
            return await inner(method, path, headers, body, query)
        try:
            result = f"<{operation}Result>{sets.answer(operation, params)}</{operation}Result>"
        except ApiError as error:
            refused: Response = helpers._error(error.code, error.message, error.status or 400)
            return refused
        answer: Response = helpers._xml(200, f"{operation}Response", result)
        return answer

    return handle


def _members(params: Mapping[str, str], name: str, field: str = "") -> list[str]:
    """The values of a list in a request of the query protocol."""
    pattern = re.compile(re.escape(name) + r"\.member\.([0-9]+)" + re.escape(field))
    found = {int(match[1]): params[key] for key in params if (match := pattern.fullmatch(key))}
    return [found[number] for number in sorted(found)]
