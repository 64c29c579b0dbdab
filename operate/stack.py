"""The stack that a command is about, and clients of the AWS SDK for the account that it is in."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# Of calls that somebody waits for.
CALLS = Config(
    user_agent_extra="rootsweep-cli",
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 5},
)


DEFAULT_NAME = "rootsweep"


class CommandError(Exception):
    """When a command cannot do what it was asked for; the message is for people."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack, as CloudFormation describes it."""

    name: str
    status: str
    outputs: dict[str, str]
    parameters: dict[str, str]


class Aws:
    """AWS as the caller sees it: one account, one Region and, perhaps, the stack in it."""

    def __init__(self, *, stack_name: str, profile: str | None, region: str | None) -> None:
        """`profile` and `region` are those of the AWS CLI; None for its defaults.

        Raises ProfileNotFound and NoRegionError, of botocore.
        """
        self.stack_name = stack_name
        given = {"region": region, "profile": profile}
        # For other commands about the same account, as the caller would have to type them.
        self.options = "".join(
            f" --{name} {shlex.quote(value)}" for name, value in given.items() if value
        )
        # The AWS CLI reads AWS_REGION, and the SDK for Python does not.
        region = region or os.environ.get("AWS_REGION") or None
        self._session = boto3.Session(profile_name=profile, region_name=region)
        self.client = cache(self._client)
        self.region: str = self.client("cloudformation").meta.region_name

    def again(self, command: str) -> str:
        """A command of `rootsweep` about the same stack, as the caller would have to type it."""
        named = f" --stack-name {shlex.quote(self.stack_name)}"
        name = "" if self.stack_name == DEFAULT_NAME else named
        return f"rootsweep {command}{name}{self.options}"

    def _client(self, service: str) -> Any:
        session: Any = self._session
        return session.client(service, config=CALLS)

    @cached_property
    def account(self) -> str:
        """The account of the caller. Raises ClientError and BotoCoreError."""
        return str(self.client("sts").get_caller_identity()["Account"])

    @cached_property
    def found(self) -> Stack | None:
        """The stack, if there is one in this account and Region. Raises ClientError."""
        try:
            answer = self.client("cloudformation").describe_stacks(StackName=self.stack_name)
        except ClientError as error:
            # What CloudFormation says of a stack that is not there (API reference, DescribeStacks).
            if error.response["Error"]["Code"] == "ValidationError":
                return None
            raise
        described = answer["Stacks"][0]
        if described["StackStatus"] == "REVIEW_IN_PROGRESS":  # A change set that nobody executed.
            return None
        return Stack(
            name=self.stack_name,
            status=described["StackStatus"],
            outputs={each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
            if described.get("Outputs")
            else {},
            parameters={
                each["ParameterKey"]: each.get("ParameterValue", "")
                for each in described.get("Parameters", [])
            },
        )

    @property
    def stack(self) -> Stack:
        """The stack, which has to be there. Raises CommandError."""
        if self.found is None or "TableName" not in self.found.outputs:
            raise CommandError(
                f"There is no Rootsweep stack called {self.stack_name} in account {self.account},"
                f" {self.region}. Say where it is with --profile, --region and --stack-name, or"
                " deploy it first (docs/deploy.md)."
            )
        return self.found

    @cached_property
    def dynamodb(self) -> Any:
        """DynamoDB as a resource of the SDK."""
        session: Any = self._session
        return session.resource("dynamodb", config=CALLS)

    @property
    def cases(self) -> Any:
        """The table of the cases."""
        return self.dynamodb.Table(self.stack.outputs["TableName"])

    def resource(self, logical_id: str) -> str:
        """The physical id of a resource of the stack."""
        found = self.client("cloudformation").describe_stack_resource(
            StackName=self.stack_name, LogicalResourceId=logical_id
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])
