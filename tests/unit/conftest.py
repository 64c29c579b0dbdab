"""The handlers, imported as Lambda imports them, and no network."""

from __future__ import annotations

import importlib
import socket
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import moto
import pytest
from botocore.stub import Stubber
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "ALERT_TOPIC_ARN": "arn:aws:sns:eu-west-1:222222222222:alerts",
    "APPROVAL_URL": "https://approvals.example.com",
    "APPROVER_TAG": "rootsweep-approver",
    "AUDIT_ROLE_NAME": "rootsweep-audit",
    "BATCH_SIZE": "2",
    "BUCKET": "reports",
    "CANARY_DELETIONS": "1",
    "CASE_RETENTION_DAYS": "400",
    "CONFIGURATION_SET": "rootsweep-mails",
    "DEFAULT_APPROVER": "security@example.com",
    "ESCALATION_POLICY_PARAMETER": "/rootsweep/escalation-policy",
    "GOVCLOUD_EXCEPTION_REASON": "",
    "KILL_SWITCH_PARAMETER": "/rootsweep/kill-switch",
    "LOG_BUCKET": "decisions",
    "LOG_TABLE": "decision-log",
    "MAIL_WINDOW_SECONDS": "60",
    "MANUAL_REMOVAL_CHECK_SECONDS": "300",
    "MAX_CONCURRENT_BATCHES": "10",
    "MAX_CONCURRENT_SESSIONS": "160",
    "MAX_EXCEPTION_DAYS": "90",
    "MAX_SESSIONS_PER_SECOND": "10000",
    "METRICS_NAMESPACE": "",
    "OUR_ROLES": "arn:aws:iam::222222222222:role/rootsweep-GatherEvidenceRole-1A2B",
    "PARTITION": "aws",
    "PRODUCT_ARN": "arn:aws:securityhub:eu-west-1:222222222222:product/222222222222/default",
    "QUARANTINE": "",
    "QUARANTINE_POLICY_NAME": "rootsweep-quarantine",
    "REMEDIATE_ARN": "arn:aws:states:eu-west-1:222222222222:stateMachine:rootsweep-remediate",
    "SCAN_ACCESS": "MemberRole",
    "SECOND_APPROVER": "deputy@example.com",
    "SENDER": "rootsweep@mail.example.com",
    "TABLE": "cases",
    "TWO_APPROVERS_IF_USED_WITHIN_DAYS": "90",
    "TWO_APPROVERS_ORGANIZATIONAL_UNITS": "ou-ab12-payments, ou-ab12-critical",
}

settings.register_profile("unit", deadline=None, derandomize=True, database=None)


def _set(patch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)


# Handlers read the environment and make their clients when they are imported. moto has to be there
# before, for it can take over only clients that were made after it.
with pytest.MonkeyPatch.context() as _patch:
    _set(_patch)
    for _file in FUNCTIONS.glob("*.py"):
        importlib.import_module(_file.stem)
    # Made once: to make a client takes longer than most tests.
    DYNAMODB = boto3.resource("dynamodb")
    S3 = boto3.client("s3")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda sets, and a refusal of every connection."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a unit test reached for the network")

    _set(monkeypatch)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True, scope="package")
def hypothesis_profile() -> Iterator[None]:
    settings.load_profile("unit")
    yield
    settings.load_profile("default")


@pytest.fixture
def stub() -> Iterator[Callable[[Any], Stubber]]:
    """Stubs a client; at the end every answer must have been asked for."""
    stubs: list[Stubber] = []

    def make(client: Any) -> Stubber:
        stubs.append(Stubber(client))
        stubs[-1].activate()
        return stubs[-1]

    yield make
    for stubbed in stubs:
        stubbed.deactivate()
    for stubbed in stubs:
        stubbed.assert_no_pending_responses()


@pytest.fixture
def stop_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, datetime], None]:
    """Stops the clock of a module at a time."""

    def stop(module: Any, moment: datetime) -> None:
        class Stopped(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return moment.astimezone(tz)

        monkeypatch.setattr(module, "datetime", Stopped)

    return stop


@pytest.fixture
def aws() -> Iterator[None]:
    core = {"mock_credentials": False, "reset_boto3_session": False}
    with moto.mock_aws(config={"core": core}):
        yield


@pytest.fixture
def table(aws: None) -> Any:  # noqa: ARG001
    """The table of the cases, empty."""
    return _create_table(ENVIRONMENT["TABLE"])


@pytest.fixture
def log(aws: None) -> Any:  # noqa: ARG001
    """The table of the decision log, empty; with the bucket of the log."""
    S3.create_bucket(
        Bucket=ENVIRONMENT["LOG_BUCKET"],
        CreateBucketConfiguration={"LocationConstraint": ENVIRONMENT["AWS_DEFAULT_REGION"]},
        ObjectLockEnabledForBucket=True,
    )
    return _create_table(ENVIRONMENT["LOG_TABLE"])


def _create_table(name: str) -> Any:
    return DYNAMODB.create_table(
        TableName=name,
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture
def s3(aws: None) -> Any:  # noqa: ARG001
    """A client for S3, with the report bucket, empty."""
    S3.create_bucket(
        Bucket=ENVIRONMENT["BUCKET"],
        CreateBucketConfiguration={"LocationConstraint": ENVIRONMENT["AWS_DEFAULT_REGION"]},
    )
    return S3
