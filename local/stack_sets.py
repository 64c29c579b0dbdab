"""Service-managed StackSets, which MiniStack lacks.

Source: CloudFormation API reference, ActivateOrganizationsAccess, DeactivateOrganizationsAccess,
DescribeOrganizationsAccess, CreateStackSet, CreateStackInstances, DeleteStackInstances,
DeleteStackSet, ListStackInstances. The stacks are there, or gone, when the operation answers. No
automatic deployment.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from ministack import app
from ministack.core import responses
from ministack.services.cloudformation import helpers

from local import pretend
from local.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.pretend import Handler, Pretend, Response

# Longer than a stack takes here.
STACK_SECONDS = 60


def install(organization: Pretend) -> None:
    handlers: dict[str, Handler] = app.SERVICE_HANDLERS
    inner = handlers["cloudformation"]
    handlers["cloudformation"] = _handler(StackSets(organization, inner), inner)


class StackSets:
    """The StackSets of the management account."""

    def __init__(self, organization: Pretend, cloudformation: Handler) -> None:
        self._organization = organization
        self._cloudformation = cloudformation
        # Of each: what its stacks are made of, and which there are, by account and Region.
        self._sets: dict[str, tuple[dict[str, str], dict[tuple[str, str], str]]] = {}

    async def answer(self, operation: str, params: Mapping[str, str]) -> str:
        """The result element of one of the operations."""
        if responses.get_account_id() != self._organization.management:
            raise ApiError("ValidationError", "You must be the management account.")
        trusted = self._organization.trusted
        if operation == "ActivateOrganizationsAccess":
            trusted.setdefault(pretend.STACK_SETS, time.time())
            return ""
        if operation == "DeactivateOrganizationsAccess":
            trusted.pop(pretend.STACK_SETS, None)
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
            return await self._deploy(name, params)
        if operation == "DeleteStackInstances":
            return await self._withdraw(name, params)
        if operation == "DeleteStackSet":
            return self._delete(name)
        return self._list(name)

    def _create(self, name: str, params: Mapping[str, str]) -> str:
        if name in self._sets:
            raise ApiError("NameAlreadyExistsException", f"StackSet {name} already exists", 409)
        if params.get("PermissionModel") != "SERVICE_MANAGED":
            raise ApiError("ValidationError", "Only SERVICE_MANAGED is pretended.")
        of_stacks = ("TemplateBody", "Parameters.", "Capabilities.")
        given = {key: value for key, value in params.items() if key.startswith(of_stacks)}
        self._sets[name] = given, {}
        return f"<StackSetId>{escape(name)}:{secrets.token_hex(16)}</StackSetId>"

    async def _deploy(self, name: str, params: Mapping[str, str]) -> str:
        given, there = self._sets[name]
        for place in self._places(params):
            if place not in there:
                there[place] = f"StackSet-{name}-{secrets.token_hex(16)}"
                await self._call(place, "CreateStack", {"StackName": there[place], **given})
                await self._until(place, there[place], "CREATE_COMPLETE")
        return f"<OperationId>{secrets.token_hex(16)}</OperationId>"

    async def _withdraw(self, name: str, params: Mapping[str, str]) -> str:
        there = self._sets[name][1]
        for place in self._places(params):
            stack = there.pop(place, "")
            if stack and params.get("RetainStacks") != "true":
                await self._call(place, "DeleteStack", {"StackName": stack})
                await self._until(place, stack, "")
        return f"<OperationId>{secrets.token_hex(16)}</OperationId>"

    def _delete(self, name: str) -> str:
        if self._sets[name][1]:
            raise ApiError("StackSetNotEmptyException", f"StackSet {name} is not empty", 409)
        del self._sets[name]
        return ""

    async def _until(self, place: tuple[str, str], stack: str, status: str) -> None:
        """Waits until the stack has the status; until it is gone if that is empty.

        Raises ApiError where it fails, or takes longer than a stack does here.
        """
        now = ""
        deadline = time.monotonic() + STACK_SECONDS
        while time.monotonic() < deadline:
            code, answer = await self._call(place, "DescribeStacks", {"StackName": stack})
            found = re.search(r"<StackStatus>(\w+)</StackStatus>", answer)
            now = found[1] if found and code == 200 else ""
            if now == status or (not status and now == "DELETE_COMPLETE"):
                return
            if "FAILED" in now or "ROLLBACK" in now:
                raise ApiError("ValidationError", f"the stack in {place} is {now}: {answer}")
            await asyncio.sleep(0.05)
        raise ApiError("ValidationError", f"the stack in {place} stays {now or 'away'}")

    async def _call(
        self, place: tuple[str, str], action: str, params: Mapping[str, str]
    ) -> tuple[int, str]:
        """Status and body of CloudFormation's answer in an account and Region."""
        body = urlencode({"Action": action, "Version": "2010-05-15", **params}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        with responses.request_scope(*place):
            status, _, answer = await self._cloudformation("POST", "/", headers, body, {})
        return status, answer.decode()

    def _places(self, params: Mapping[str, str]) -> list[tuple[str, str]]:
        regions = _members(params, "Regions")
        return [(account, region) for account in self._targets(params) for region in regions]

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
            f"<member><StackSetId>{escape(name)}</StackSetId><Region>{region}</Region>"
            f"<Account>{account}</Account><Status>CURRENT</Status></member>"
            for account, region in self._sets[name][1]
        )
        return f"<Summaries>{summaries}</Summaries>"


_OPERATIONS = (
    "ActivateOrganizationsAccess",
    "CreateStackInstances",
    "CreateStackSet",
    "DeactivateOrganizationsAccess",
    "DeleteStackInstances",
    "DeleteStackSet",
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
            answered = await sets.answer(operation, params)
            result = f"<{operation}Result>{answered}</{operation}Result>"
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
