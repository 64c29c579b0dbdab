"""Root access keys of a member account: see that there are any, read them, delete them.

Three ways in, from least to most. A role in the member may only read the account summary. A root
session (`sts:AssumeRoot`, at most 15 minutes) under the audit task policy may read the keys. A root
session under the delete task policy may delete them. No root session can deactivate a key: neither
task policy allows `iam:UpdateAccessKey` (IAM User Guide, "AWS managed policies for IAM").
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import ClientError

from rootsweep import calls, root_sessions
from rootsweep.calls import CALLS
from rootsweep.errors import KeysChangedError, RootKeysRemainError, RootSessionDeniedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

ROOT_SESSION_SECONDS = 900  # The longest that AWS allows (STS API, AssumeRoot).

_AUDIT = "IAMAuditRootUserCredentials"
_DELETE = "IAMDeleteRootUserCredentials"
_DENIED = {"AccessDenied", "AccessDeniedException"}

# Only what the check needs, whatever the role in the member would allow.
_SUMMARY_ONLY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}],
    }
)


@dataclass(frozen=True)
class RootKey:
    """A root access key as evidence shows it. `created` and `last_used_at` are ISO 8601 in UTC.

    `last_used_at` is None for a key that AWS has not seen used since April 2015.
    """

    id: str
    status: str
    created: str
    last_used_at: str | None = None
    last_used_service: str | None = None
    last_used_region: str | None = None

    @classmethod
    def from_dict(cls, item: dict[str, Any]) -> Self:
        """The key from what `to_dict` made of it."""
        known = {name: item[name] for name in cls.__dataclass_fields__ if name in item}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The key as the table and the report hold it."""
        return asdict(self)


@dataclass(frozen=True)
class RootSummary:
    """What `GetAccountSummary` says of the root user of an account."""

    access_keys: bool
    mfa: bool
    password: bool
    signing_certificates: bool


class SummaryReader:
    """Reads account summaries, two calls an account, from any number of threads."""

    def __init__(self, table: Table, *, partition: str, audit_role_name: str | None) -> None:
        """Without an `audit_role_name` root sessions under the audit task policy are used."""
        self._table = table
        self._iam, self._credentials = _iam_of_every_account()
        session = calls.session()
        # Nobody looks at when a session ends, and to read a time takes longer than the rest.
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
        self._sts = boto3.Session(botocore_session=session).client("sts", config=CALLS)
        self._partition = partition
        self._audit_role_name = audit_role_name

    def read(self, account_id: str, *, opened_for: str) -> RootSummary:
        """The summary of one account, for a case or a sweep.

        Raises BotoCoreError or ClientError with AWS's reason.
        """
        self._credentials.use(self._open_session(account_id, opened_for))
        return _summary(self._iam)

    def _open_session(self, account_id: str, opened_for: str) -> CredentialsTypeDef:
        if self._audit_role_name is None:
            session = _assume_root(self._sts, account_id, _AUDIT, self._partition)
            _note(self._table, session, account_id, _AUDIT, opened_for)
            return session
        answer = self._sts.assume_role(
            RoleArn=f"arn:{self._partition}:iam::{account_id}:role/{self._audit_role_name}",
            RoleSessionName="rootsweep",
            DurationSeconds=900,
            Policy=_SUMMARY_ONLY,
        )
        return answer["Credentials"]


class _CredentialsOfThisThread(Credentials):
    """Credentials that are, in each thread, the last ones that this thread was given.

    A credential provider too: it provides itself.
    """

    def __init__(self) -> None:
        super().__init__("unused", "unused")
        self._local = threading.local()

    def use(self, session: CredentialsTypeDef) -> None:
        self._local.frozen = ReadOnlyCredentials(
            session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
        )

    def load_credentials(self) -> Self:
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        frozen: ReadOnlyCredentials = self._local.frozen
        return frozen


_making = threading.Lock()


def _iam_of_every_account() -> tuple[IAMClient, _CredentialsOfThisThread]:
    """One IAM client for all accounts: at each call it asks whose credentials its thread uses.

    Making a client for each account would cost a hundred times what the calls do, and making one in
    each of the threads that come first ten megabytes for each.
    """
    with _making:
        return _made_iam()


@cache
def _made_iam() -> tuple[IAMClient, _CredentialsOfThisThread]:
    credentials = _CredentialsOfThisThread()
    session = calls.session()
    session.register_component("credential_provider", credentials)
    return boto3.Session(botocore_session=session).client("iam", config=CALLS), credentials


def audit_session(
    sts: STSClient, table: Table, *, account_id: str, partition: str, opened_for: str
) -> IAMClient:
    """An IAM client that may look at the root user of an account and change nothing.

    The table keeps which case or sweep it was `opened_for`. It looks at this account until its
    thread opens another session. Raises RootSessionDeniedError when AWS refuses; other failures are
    ClientError.
    """
    iam, credentials = _iam_of_every_account()
    credentials.use(_open_root_session(sts, table, account_id, _AUDIT, partition, opened_for))
    return iam


def delete_session(
    sts: STSClient, table: Table, *, account_id: str, partition: str, opened_for: str
) -> IAMClient:
    """An IAM client of its own, which may delete the root user's credentials in this account only.

    It is noted, and raises, as `audit_session`.
    """
    session = _open_root_session(sts, table, account_id, _DELETE, partition, opened_for)
    return boto3.client(
        "iam",
        config=CALLS,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )


def list_root_keys(iam: IAMClient, *, account_id: str) -> list[RootKey]:
    """The root access keys of the account that `iam` is a root session of, sorted by id.

    In a root session the user name is left out, and the answer is about the root user (IAM User
    Guide, "Perform a privileged task on an AWS Organizations member account"). Raises
    RootSessionDeniedError when the session may not list them, else ClientError.
    """
    try:
        listed = [
            key
            for page in iam.get_paginator("list_access_keys").paginate()
            for key in page["AccessKeyMetadata"]
        ]
        return sorted((_with_last_use(iam, key) for key in listed), key=lambda key: key.id)
    except ClientError as error:
        raise _named(error, account_id) from error


def keys_to_delete(
    iam: IAMClient, *, account_id: str, approved: Sequence[RootKey]
) -> list[RootKey]:
    """The approved keys that are still there, as they are now; those that are gone are done.

    Raises KeysChangedError, before anything is deleted, if the account has a key that is not among
    the approved ones, or one whose status is no longer what the approver saw.
    """
    present = list_root_keys(iam, account_id=account_id)
    unapproved = _ids_and_status(present) - _ids_and_status(approved)
    if unapproved:
        raise KeysChangedError(
            f"account {account_id}: {_describe(unapproved)} is not what was approved; "
            "nothing was deleted, and the approver is asked again"
        )
    return present


def delete_root_key(iam: IAMClient, *, account_id: str, key_id: str) -> None:
    """Delete one key that was there a moment ago. Raises RootSessionDeniedError or ClientError."""
    try:
        iam.delete_access_key(AccessKeyId=key_id)
    except iam.exceptions.NoSuchEntityException:
        pass  # Our own call, whose answer was lost and which was tried again.
    except ClientError as error:
        raise _named(error, account_id) from error


def confirm_removal(iam: IAMClient, *, account_id: str, approved: Sequence[RootKey]) -> None:
    """Return if the account has no root access key left, by its list and by its summary.

    Raises RootKeysRemainError while an approved key is still shown, for IAM is eventually
    consistent, and KeysChangedError when there is a key that nobody approved.
    """
    present = list_root_keys(iam, account_id=account_id)
    approved_ids = {key.id for key in approved}
    unapproved = [key for key in present if key.id not in approved_ids]
    if unapproved:
        raise KeysChangedError(
            f"account {account_id}: {_describe(_ids_and_status(unapproved))} appeared meanwhile"
        )
    if present:
        raise RootKeysRemainError(
            f"account {account_id}: {_describe(_ids_and_status(present))} is still listed"
        )
    try:
        summary = _summary(iam)
    except ClientError as error:
        raise _named(error, account_id) from error
    if summary.access_keys:
        raise RootKeysRemainError(
            f"account {account_id}: no key is listed, but the account summary still reports one"
        )


def fingerprint(account_id: str, keys: Iterable[RootKey]) -> str:
    """What an approval is bound to: the account, the key ids and whether each is active."""
    text = json.dumps([account_id, sorted(_ids_and_status(keys))])
    return hashlib.sha256(text.encode()).hexdigest()


def reason(error: Exception) -> str:
    """One line that says which operation failed and what AWS said, for reports and cases."""
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{error.operation_name}: {details.get('Code')}: {details.get('Message')}"
    return f"{type(error).__name__}: {error}"


def _ids_and_status(keys: Iterable[RootKey]) -> set[tuple[str, str]]:
    return {(key.id, key.status) for key in keys}


def _describe(keys: Collection[tuple[str, str]]) -> str:
    return ", ".join(f"{key_id} ({status})" for key_id, status in sorted(keys))


def _with_last_use(iam: IAMClient, key: Any) -> RootKey:
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]
    date = used.get("LastUsedDate")
    return RootKey(
        id=key["AccessKeyId"],
        status=key["Status"],
        created=key["CreateDate"].isoformat(timespec="seconds"),
        last_used_at=date.isoformat(timespec="seconds") if date else None,
        # Both are "N/A" for a key that was never used (IAM API, GetAccessKeyLastUsed).
        last_used_service=used.get("ServiceName") if date else None,
        last_used_region=used.get("Region") if date else None,
    )


def _summary(iam: IAMClient) -> RootSummary:
    summary = iam.get_account_summary()["SummaryMap"]
    return RootSummary(
        # No default: an answer without this member says nothing, and must not read as clean.
        access_keys=summary["AccountAccessKeysPresent"] != 0,
        mfa=summary.get("AccountMFAEnabled", 0) != 0,
        password=summary.get("AccountPasswordPresent", 0) != 0,
        signing_certificates=summary.get("AccountSigningCertificatesPresent", 0) != 0,
    )


def _open_root_session(
    sts: STSClient, table: Table, account_id: str, task: str, partition: str, opened_for: str
) -> CredentialsTypeDef:
    try:
        session = _assume_root(sts, account_id, task, partition)
    except ClientError as error:
        raise _named(error, account_id) from error
    _note(table, session, account_id, task, opened_for)
    return session


def _assume_root(sts: STSClient, account_id: str, task: str, partition: str) -> CredentialsTypeDef:
    answer = sts.assume_root(
        TargetPrincipal=account_id,
        TaskPolicyArn={"arn": f"arn:{partition}:iam::aws:policy/root-task/{task}"},
        DurationSeconds=ROOT_SESSION_SECONDS,
    )
    return answer["Credentials"]


def _note(
    table: Table, session: CredentialsTypeDef, account_id: str, task: str, opened_for: str
) -> None:
    """Before the session is used: one that cannot be noted is not used, for nobody could tell it
    from somebody else's.
    """
    root_sessions.record(
        table,
        access_key_id=session["AccessKeyId"],
        account_id=account_id,
        task=task,
        opened_for=opened_for,
        now=datetime.now(UTC),
    )


def _named(error: ClientError, account_id: str) -> Exception:
    if error.response.get("Error", {}).get("Code") in _DENIED:
        return RootSessionDeniedError(f"account {account_id}: {reason(error)}")
    return error
