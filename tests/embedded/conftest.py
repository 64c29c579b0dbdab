"""The embedded AWS, started once for all tests of its own behaviour."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
MANAGEMENT = "111111111111"
SECURITY = "222222222222"
TASKS = "arn:aws:iam::aws:policy/root-task/"

ORGANIZATION = (
    """\
management_account: "111111111111"
security_account: "222222222222"
accounts:
  - id: "333333333333"
    name: payments-prod
    ou: Workloads/Prod
    tags: {team: payments}
    security_contact: payments-sec@example.com
    root:
      access_keys:
        - {id: AKIAEXAMPLE00000001, created: 2016-04-01,
           last_used: {date: 2024-02-03, service: s3, region: us-east-1}}
        - {id: AKIAEXAMPLE00000002, status: Inactive, created: 2017-04-01}
  - {id: "333333333334", name: clean, ou: Workloads/Prod}
  - id: "333333333335"
    name: throttled
    faults:
      "iam:GetAccountSummary": {error: Throttling, times: 2}
      "sts:AssumeRole": {error: AccessDenied, times: 1}
      "account:GetAlternateContact": {error: TooManyRequestsException, times: 1}
      "organizations:ListTagsForResource": {error: TooManyRequestsException, times: 1}
      "iam:ListAccessKeys": {error: ServiceFailure, times: 1}
  - {id: "333333333336", name: no-role, audit_role: false}
  - id: "333333333337"
    name: scp
    scp_denies_root: true
    root: {access_keys: [{id: AKIAEXAMPLE00000003}]}
  - {id: "333333333338", name: closed, state: CLOSED}
  - id: "333333333339"
    name: late-summary
    faults: {"iam:GetAccountSummary": {answer: {AccountAccessKeysPresent: 1}, times: 1}}
  - {id: "333333333340", name: to-be-closed, ou: Sandbox}
  - id: "333333333341"
    name: keys-to-delete
    root: {access_keys: [{id: AKIAEXAMPLE00000004}], password: true, mfa: false}
  - {id: "333333333342", name: key-maker}
"""
    + "".join(f'  - {{id: "44444444{n:04}"}}\n' for n in range(40))
    + """\
organizational_units:
  Workloads/Prod: {tags: {approvers: prod-lead@example.com}}
"""
)


@dataclass(frozen=True)
class Aws:
    """The running embedded AWS and clients for it."""

    endpoint: str

    def client(
        self, service: str, account: str = SECURITY, credentials: dict[str, Any] | None = None
    ) -> Any:
        """A client that signs as the root of an account, or with temporary credentials."""
        keys = (
            {
                "aws_access_key_id": credentials["AccessKeyId"],
                "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials["SessionToken"],
            }
            if credentials
            else {"aws_access_key_id": account, "aws_secret_access_key": "test"}
        )
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            config=Config(retries={"total_max_attempts": 1}),
            **keys,
        )

    def role(self, name: str, *statements: dict[str, Any], account: str = SECURITY) -> Any:
        """Temporary credentials of a new role that may do what the statements say."""
        arn = self.make_role(name, *statements, account=account)
        sts = self.client("sts", account)
        return sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]

    def make_role(self, name: str, *statements: dict[str, Any], account: str = SECURITY) -> str:
        iam = self.client("iam", account)
        principal = {"AWS": f"arn:aws:iam::{account}:root", "Service": "lambda.amazonaws.com"}
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
        if statements:
            iam.put_role_policy(
                RoleName=name, PolicyName="may", PolicyDocument=document(*statements)
            )
        return str(role["Role"]["Arn"])

    def function(self, name: str, code: str, *statements: dict[str, Any]) -> str:
        """A Lambda function with the given handler module; its role may answer task tokens, and
        what the statements say."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("handler.py", code)
        statement = {"Effect": "Allow", "Action": "states:*", "Resource": "*"}
        function = self.client("lambda").create_function(
            FunctionName=name,
            Runtime=f"python3.{sys.version_info.minor}",
            Role=self.make_role(f"{name}-role", statement, *statements),
            Handler="handler.handler",
            Timeout=30,
            Code={"ZipFile": archive.getvalue()},
        )
        return str(function["FunctionArn"])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.endpoint}{path}", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, data: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{self.endpoint}{path}", json.dumps(data).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Aws]]:
    """Starts an embedded AWS with an organization; all are stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(organization: str) -> Aws:
        path = tmp_path_factory.mktemp("organization") / "organization.yaml"
        path.write_text(organization)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "local.embedded_aws", "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--organization", str(path)],
            cwd=REPOSITORY,
            env={**os.environ, "SFN_WAIT_SCALE": "0", "STREAM_RETRY_SECONDS": "0.1"},
        )
        started.append(process)
        aws = Aws(f"http://localhost:{port}")
        _wait_for(aws, process)
        return aws

    yield run
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        assert process.wait(timeout=15) == 0


def _wait_for(aws: Aws, process: subprocess.Popen[bytes]) -> None:
    for _ in range(150):
        try:
            aws.get("/_rootsweep/organization")
            return
        except OSError:
            assert process.poll() is None, "the embedded AWS ended at its start"
            time.sleep(0.2)
    raise AssertionError("the embedded AWS did not start")


@pytest.fixture(scope="session")
def aws(start: Callable[[str], Aws]) -> Aws:
    return start(ORGANIZATION)
