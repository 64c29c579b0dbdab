"""AWS as the functions come to it: what stands in the place of `boto3`.

Only the edges are played. Each client has the calls that the product makes, by their names; any
other call is an AttributeError, which ends the simulation.
"""

# ruff: noqa: ARG002, N803 - the names are boto3's

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .clock import expect
from .stack import REGION
from .world import ORGANIZATION, ROOT, Account, Policy

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from .stack import Stack
    from .table import Table
    from .world import World

AUDIT, DELETE = "IAMAuditRootUserCredentials", "IAMDeleteRootUserCredentials"
SCP = "SERVICE_CONTROL_POLICY"
PAGE = 20


def failure(code: str, message: str, operation: str) -> ClientError:
    """An error of a service."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class _Exceptions:
    """`client.exceptions`: a class for each name that is asked for."""

    def __init__(self) -> None:
        self._classes: dict[str, type[ClientError]] = {"ClientError": ClientError}

    def __getattr__(self, name: str) -> type[ClientError]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._classes.setdefault(name, type(name, (ClientError,), {}))


class Aws:
    """Stands in the place of the module `boto3`."""

    def __init__(
        self, world: World, stack: Stack, tables: dict[str, Table], dice: random.Random
    ) -> None:
        self.world = world
        self.stack = stack
        self.tables = tables
        self.dice = dice
        # What goes wrong: each looks at service, operation and account, and may give an error code.
        self.outages: list[Callable[[str, str, str], str | None]] = []
        self.on_mail: Callable[[dict[str, Any]], None] = lambda _: None
        self.on_delete: Callable[[Account, str], None] = lambda *_: None
        # What there was in an account when the session that may delete there looked last.
        self.seen: dict[str, set[tuple[str, str]]] = {}
        self.refuses_mail_to: set[str] = set()
        self.Session = lambda *, botocore_session: SimpleNamespace(
            client=lambda service, **more: self.client(
                service,
                # Whose credentials an IAM client uses is said by its session.
                **(
                    {"provider": botocore_session.get_component("credential_provider")}
                    if service == "iam"
                    else {}
                ),
                **more,
            )
        )

    def client(self, service: str, config: Any = None, **more: Any) -> Any:
        kinds: dict[str, Any] = {
            "account": AccountClient,
            "events": EventBridge,
            "iam": Iam,
            "organizations": Organizations,
            "s3": S3,
            "sesv2": Ses,
            "sns": _Client,  # Nobody but Rootsweep opens root sessions here.
            "ssm": Ssm,
            "stepfunctions": StepFunctions,
            "sts": Sts,
        }
        return kinds[service](self, **more)

    def resource(self, service: str, config: Any = None) -> Any:
        expect(service == "dynamodb", "an argument")

        def batch_get_item(*, RequestItems: dict[str, Any]) -> dict[str, Any]:
            ((name, _),) = RequestItems.items()
            return self.tables[name].batch_get_item(RequestItems=RequestItems)

        return SimpleNamespace(Table=self.tables.__getitem__, batch_get_item=batch_get_item)

    def passes(self, service: str, operation: str, *, account: str = "", write: str = "") -> None:
        """Let a call take its time, and fail if something is wrong with the service."""
        self.stack.passes(service, write=write)
        self.fails(service, operation, account)

    def fails(self, service: str, operation: str, account: str = "") -> None:
        """Raise what is wrong with the service, if something is."""
        for outage in self.outages:
            code = outage(service, operation, account)
            if code:
                raise failure(code, "the simulated AWS has an outage", operation)

    def account(self, id: str, operation: str) -> Account:
        """A member that may be looked into, else what STS says."""
        account = self.world.accounts.get(id)
        if account is None or not account.is_member or account.state in ("SUSPENDED", "CLOSED"):
            raise failure("AccessDenied", f"not authorized to access account {id}", operation)
        return account


def table_latency(stack: Stack, aws: Aws) -> Callable[[str], None]:
    """What each operation of the table takes, and what goes wrong with it."""

    def pass_(operation: str) -> None:
        write = operation if operation not in ("GetItem", "Query", "BatchGetItem") else ""
        invocation = stack.passes("dynamodb", write=write)
        if invocation is not None:
            try:
                aws.fails("dynamodb", operation)
            except ClientError:
                invocation.excuse_mails()
                raise

    return pass_


class _Client:
    service = ""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.world = aws.world
        self.exceptions = _Exceptions()
        self.meta = SimpleNamespace(region_name=REGION)

    def __getattr__(self, name: str) -> Any:
        expect(name.startswith("_"), f"{type(self).__name__}.{name} is not played")
        raise AttributeError(name)

    def get_paginator(self, operation: str) -> Any:
        """Pages of whatever the operation finds; some are empty, as some of AWS's are."""
        find = getattr(self, f"_{operation}")

        def pages(**request: Any) -> Iterator[dict[str, Any]]:
            name, found = find(**request)
            yield {name: []}
            for start in range(0, len(found), PAGE):
                yield {name: found[start : start + PAGE]}

        return SimpleNamespace(paginate=pages)


class Sts(_Client):
    """Credentials: their key id says for which account they are and what they allow."""

    def assume_root(
        self, *, TargetPrincipal: str, TaskPolicyArn: dict[str, str], DurationSeconds: int
    ) -> dict[str, Any]:
        self.aws.fails("sts", "AssumeRoot", TargetPrincipal)
        account = self.aws.account(TargetPrincipal, "AssumeRoot")
        if account.id == self.world.management:
            raise failure("AccessDenied", "no root session in this account", "AssumeRoot")
        task = TaskPolicyArn["arn"].rpartition("/")[2]
        expect(task in (AUDIT, DELETE), "an argument")
        expect(DurationSeconds <= 900, "an argument")
        if task == DELETE:
            self.aws.seen.pop(account.id, None)  # Each such session has to look itself.
        return _credentials(account.id, task)

    def assume_role(
        self, *, RoleArn: str, RoleSessionName: str, DurationSeconds: int, Policy: str
    ) -> dict[str, Any]:
        id = RoleArn.split(":")[4]
        self.aws.fails("sts", "AssumeRole", id)
        account = self.aws.account(id, "AssumeRole")
        if not account.has_audit_role:
            raise failure("AccessDenied", "not authorized to perform sts:AssumeRole", "AssumeRole")
        expect("iam:GetAccountSummary" in Policy, "an argument")
        return _credentials(account.id, "role")


def _credentials(account: str, task: str) -> dict[str, Any]:
    return {
        "Credentials": {
            "AccessKeyId": f"{account}/{task}",
            "SecretAccessKey": "secret",
            "SessionToken": "session",
        }
    }


class Iam(_Client):
    """IAM in the account whose credentials are used, with what they allow."""

    def __init__(
        self,
        aws: Aws,
        provider: Any = None,
        aws_access_key_id: str = "",
        aws_secret_access_key: str = "",
        aws_session_token: str = "",
    ) -> None:
        super().__init__(aws)
        self._provider = provider
        self._key_id = aws_access_key_id

    def _account(self, operation: str, *tasks: str) -> Account:
        key_id = self._key_id or self._provider.get_frozen_credentials().access_key
        id, _, task = key_id.partition("/")
        self.aws.fails("iam", operation, id)
        account = self.aws.account(id, operation)
        expect(task in tasks, f"{task} does not allow {operation}")
        if task != "role" and self.world.is_root_denied(account):
            message = (
                f"User: arn:aws:iam::{id}:root is not authorized to perform: iam:{operation} "
                "with an explicit deny in a service control policy"
            )
            raise failure("AccessDenied", message, operation)
        return account

    def get_account_summary(self) -> dict[str, Any]:
        account = self._account("GetAccountSummary", "role", AUDIT)
        present = int(bool(self.world.visible_keys(account)))
        return {"SummaryMap": {"AccountAccessKeysPresent": present, "AccountMFAEnabled": 1}}

    def _list_access_keys(self) -> tuple[str, list[dict[str, Any]]]:
        account = self._account("ListAccessKeys", AUDIT, DELETE)
        if self._key_id.endswith(f"/{DELETE}"):
            # Whatever IAM shows of it.
            self.aws.seen[account.id] = {(key.id, key.status) for key in account.keys.values()}
        return "AccessKeyMetadata", [
            {"AccessKeyId": key.id, "Status": key.status, "CreateDate": key.created}
            for key in self.world.visible_keys(account)
        ]

    def get_access_key_last_used(self, *, AccessKeyId: str) -> dict[str, Any]:
        account = self._account("GetAccessKeyLastUsed", AUDIT, DELETE)
        for key in self.world.visible_keys(account):
            if key.id == AccessKeyId:
                if key.used is None:
                    return {"AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}
                used = {"LastUsedDate": key.used, "ServiceName": "s3", "Region": REGION}
                return {"AccessKeyLastUsed": used}
        raise self.exceptions.NoSuchEntityException(
            {"Error": {"Code": "NoSuchEntity", "Message": "gone"}}, "GetAccessKeyLastUsed"
        )

    def delete_access_key(self, *, AccessKeyId: str) -> None:
        self.aws.stack.passes("iam", write="DeleteAccessKey")
        account = self._account("DeleteAccessKey", DELETE)
        if AccessKeyId not in account.keys:
            raise self.exceptions.NoSuchEntityException(
                {"Error": {"Code": "NoSuchEntity", "Message": "gone"}}, "DeleteAccessKey"
            )
        self.aws.on_delete(account, AccessKeyId)
        self.world.remove_key(account, AccessKeyId, "Rootsweep")

    def list_organizations_features(self) -> dict[str, Any]:
        self.aws.passes("iam", "ListOrganizationsFeatures")
        return {"EnabledFeatures": ["RootCredentialsManagement", "RootSessions"]}


class Organizations(_Client):
    """The organization. Accounts that left are unknown; closed ones are listed for a while."""

    def describe_organization(self) -> dict[str, Any]:
        self.aws.passes("organizations", "DescribeOrganization")
        return {
            "Organization": {
                "Id": ORGANIZATION,
                "FeatureSet": "ALL",
                "MasterAccountId": self.world.management,
            }
        }

    def list_accounts(self, *, MaxResults: int = 20, NextToken: str = "") -> dict[str, Any]:
        self.aws.passes("organizations", "ListAccounts")
        # Whoever leaves meanwhile moves nobody to a page that was listed before.
        everyone = sorted(self.world.members(), key=lambda account: account.id)
        rest = [account for account in everyone if account.id > NextToken]
        page = rest[:MaxResults]
        return {
            "Accounts": [
                {
                    "Id": account.id,
                    "Name": account.name,
                    "State": account.state,
                    "Paths": [f"{ORGANIZATION}/{'/'.join(account.parents)}/{account.id}/"],
                }
                for account in page
            ],
            **({"NextToken": page[-1].id} if len(rest) > MaxResults else {}),
        }

    def _list_roots(self) -> tuple[str, list[dict[str, Any]]]:
        self.aws.passes("organizations", "ListRoots")
        return "Roots", [{"Id": ROOT, "Name": "Root"}]

    def _list_organizational_units_for_parent(
        self, *, ParentId: str
    ) -> tuple[str, list[dict[str, Any]]]:
        self.aws.fails("organizations", "ListOrganizationalUnitsForParent")
        return "OrganizationalUnits", [
            {"Id": id, "Name": name}
            for id, (name, parent) in self.world.units.items()
            if parent == ParentId
        ]

    def _list_tags_for_resource(self, *, ResourceId: str) -> tuple[str, list[dict[str, Any]]]:
        self.aws.passes("organizations", "ListTagsForResource", account=ResourceId)
        if ResourceId in self.world.units or ResourceId == ROOT:
            tags = self.world.unit_tags.get(ResourceId, {})
        else:
            tags = self._member(ResourceId, "ListTagsForResource").tags
        return "Tags", [{"Key": key, "Value": value} for key, value in tags.items()]

    def _list_policies(self, *, Filter: str) -> tuple[str, list[dict[str, Any]]]:
        self.aws.passes("organizations", "ListPolicies")
        expect(Filter == SCP, Filter)
        return "Policies", [
            {"Id": policy.id, "Name": policy.name} for policy in self.world.policies.values()
        ]

    def _list_targets_for_policy(self, *, PolicyId: str) -> tuple[str, list[dict[str, Any]]]:
        self.aws.passes("organizations", "ListTargetsForPolicy")
        targets = self._policy(PolicyId, "ListTargetsForPolicy").targets
        return "Targets", [{"TargetId": target} for target in sorted(targets)]

    def create_policy(self, *, Name: str, Description: str, Type: str, Content: str) -> Any:
        self.aws.passes("organizations", "CreatePolicy", write="CreatePolicy")
        expect((Type, "aws:AssumedRoot" in Content) == (SCP, True), Content)
        if any(policy.name == Name for policy in self.world.policies.values()):
            raise self._error("DuplicatePolicyException", Name, "CreatePolicy")
        policy = self.world.make_policy(Name)
        return {"Policy": {"PolicySummary": {"Id": policy.id, "Name": policy.name}}}

    def attach_policy(self, *, PolicyId: str, TargetId: str) -> None:
        self.aws.passes("organizations", "AttachPolicy", write="AttachPolicy")
        policy = self._policy(PolicyId, "AttachPolicy")
        account = self.world.accounts[TargetId]
        if not account.is_member:
            raise self._error("TargetNotFoundException", TargetId, "AttachPolicy")
        if account.has_many_policies:
            raise self._error("ConstraintViolationException", TargetId, "AttachPolicy")
        if TargetId in policy.targets:
            raise self._error("DuplicatePolicyAttachmentException", TargetId, "AttachPolicy")
        self.world.attach(policy, account)

    def detach_policy(self, *, PolicyId: str, TargetId: str) -> None:
        self.aws.passes("organizations", "DetachPolicy", write="DetachPolicy")
        policy = self._policy(PolicyId, "DetachPolicy")
        if TargetId not in policy.targets:
            raise self._error("PolicyNotAttachedException", TargetId, "DetachPolicy")
        self.world.detach(policy, self.world.accounts[TargetId])

    def delete_policy(self, *, PolicyId: str) -> None:
        self.aws.passes("organizations", "DeletePolicy", write="DeletePolicy")
        if self._policy(PolicyId, "DeletePolicy").targets:
            raise self._error("PolicyInUseException", PolicyId, "DeletePolicy")
        del self.world.policies[PolicyId]

    def _policy(self, id: str, operation: str) -> Policy:
        if id not in self.world.policies:
            raise self._error("PolicyNotFoundException", id, operation)
        return self.world.policies[id]

    def _error(self, code: str, message: str, operation: str) -> ClientError:
        return getattr(self.exceptions, code)(
            {"Error": {"Code": code, "Message": message}}, operation
        )

    def _member(self, id: str, operation: str) -> Account:
        account = self.world.accounts.get(id)
        if account is None or not account.is_member:
            raise self.exceptions.AccountNotFoundException(
                {"Error": {"Code": "AccountNotFoundException", "Message": id}}, operation
            )
        return account


class AccountClient(_Client):
    """Account Management."""

    def get_alternate_contact(self, *, AccountId: str, AlternateContactType: str) -> dict[str, Any]:
        self.aws.passes("account", "GetAlternateContact", account=AccountId)
        expect(AlternateContactType == "SECURITY", "an argument")
        account = self.world.accounts.get(AccountId)
        if account is None or not account.is_member:
            raise failure("AccessDeniedException", "not in the organization", "GetAlternateContact")
        if not account.security_contact:
            raise failure("ResourceNotFoundException", "no such contact", "GetAlternateContact")
        return {"AlternateContact": {"EmailAddress": account.security_contact}}


class S3(_Client):
    """The buckets of the reports and of the decision log."""

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str,
        IfNoneMatch: str = "",
        ChecksumAlgorithm: str = "",
    ) -> None:
        self.aws.passes("s3", "PutObject", write="PutObject")
        expect(IfNoneMatch in ("", "*"), "an argument")
        if IfNoneMatch and (Bucket, Key) in self.aws.stack.files:
            raise failure("PreconditionFailed", "there is such an object", "PutObject")
        self.aws.stack.files[Bucket, Key] = Body.decode()

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.aws.passes("s3", "GetObject")
        if (Bucket, Key) not in self.aws.stack.files:
            raise failure("NoSuchKey", "there is no such object", "GetObject")
        return {"Body": io.BytesIO(self.aws.stack.files[Bucket, Key].encode())}

    def _list_objects_v2(self, *, Bucket: str, Prefix: str) -> tuple[str, list[dict[str, Any]]]:
        self.aws.passes("s3", "ListObjectsV2")
        keys = sorted(key for _, key in self.aws.stack.files if key.startswith(Prefix))
        return "Contents", [{"Key": key} for key in keys]


class EventBridge(_Client):
    """The event bus, on which others may listen."""

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.aws.passes("events", "PutEvents", write="PutEvents")
        expect(0 < len(Entries) <= 10, "so many entries")
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "an-event"} for _ in Entries]}


class Ses(_Client):
    """The way out for mails."""

    def get_email_identity(self, *, EmailIdentity: str) -> dict[str, Any]:
        self.aws.passes("sesv2", "GetEmailIdentity")
        return {"VerifiedForSendingStatus": True}

    def send_email(self, **mail: Any) -> dict[str, Any]:
        self.aws.passes("sesv2", "SendEmail", write="SendEmail")
        (to,) = mail["Destination"]["ToAddresses"]
        name = self.aws.stack.physical("MailConfigurationSet")
        expect(mail["ConfigurationSetName"] == name, mail["ConfigurationSetName"])
        if to in self.aws.refuses_mail_to:
            raise failure("MessageRejected", "Address is on the suppression list", "SendEmail")
        mail["MessageId"] = f"{self.aws.dice.getrandbits(96):024x}"
        self.aws.on_mail(mail)
        return {"MessageId": mail["MessageId"]}


class Ssm(_Client):
    """Parameter Store."""

    def get_parameter(self, *, Name: str) -> dict[str, Any]:
        self.aws.passes("ssm", "GetParameter")
        if Name not in self.aws.stack.settings:
            raise self.exceptions.ParameterNotFound(
                {"Error": {"Code": "ParameterNotFound", "Message": Name}}, "GetParameter"
            )
        value, version = self.aws.stack.settings[Name]
        return {"Parameter": {"Name": Name, "Value": value, "Version": version}}


class StepFunctions(_Client):
    """Executions and task tokens."""

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:
        self.aws.passes("stepfunctions", "StartExecution", write="StartExecution")
        machine = self.aws.stack.machines[stateMachineArn]
        execution = machine.executions.get(name)
        given = json.loads(input)
        if execution is None:
            execution = machine.start(name, given)
        elif execution.status != "RUNNING" or execution.input != given:
            raise self.exceptions.ExecutionAlreadyExists(
                {"Error": {"Code": "ExecutionAlreadyExists", "Message": name}}, "StartExecution"
            )
        started = datetime.fromtimestamp(execution.started, UTC)
        return {"executionArn": execution.arn, "startDate": started}

    def send_task_success(self, *, taskToken: str, output: str) -> dict[str, Any]:
        self.aws.passes("stepfunctions", "SendTaskSuccess", write="SendTaskSuccess")
        for machine in self.aws.stack.machines.values():
            signal = machine.tokens.get(taskToken)
            if signal is not None and not signal.is_given:
                signal.give(json.loads(output))
                return {}
            if signal is not None:
                raise self.exceptions.TaskTimedOut(
                    {"Error": {"Code": "TaskTimedOut", "Message": "it is over"}}, "SendTaskSuccess"
                )
        raise self.exceptions.InvalidToken(
            {"Error": {"Code": "InvalidToken", "Message": taskToken}}, "SendTaskSuccess"
        )
