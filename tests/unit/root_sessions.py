"""The root user of an account in memory, for handlers that open root sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import ClientError

from .builders import an_error

if TYPE_CHECKING:
    from rootsweep.root_access import RootKey


class NoSuchEntityError(ClientError):
    """What IAM says of a key that is gone."""


class RootUser:
    """The root user: its keys, and what was done to them in which kind of session."""

    class exceptions:  # noqa: N801 - boto3's name
        NoSuchEntityException = NoSuchEntityError

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.keys: list[RootKey] = []
        self.calls: list[str] = []
        self.fails_to_delete: set[str] = set()

    def audit_session(
        self, _sts: object, _table: object, *, account_id: str, partition: str, opened_for: str
    ) -> RootUser:
        return self._session("audit", account_id, partition, opened_for)

    def delete_session(
        self, _sts: object, _table: object, *, account_id: str, partition: str, opened_for: str
    ) -> RootUser:
        return self._session("delete", account_id, partition, opened_for)

    def no_session(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("this session is not for this function")

    def _session(self, kind: str, account_id: str, partition: str, opened_for: str) -> RootUser:
        assert (account_id, partition) == (self.account_id, "aws")
        assert opened_for.startswith(f"{account_id}-"), "not a case of this account"
        self.calls.append(kind)
        return self

    def get_paginator(self, operation: str) -> RootUser:
        assert operation == "list_access_keys"
        return self

    def paginate(self) -> list[dict[str, Any]]:
        listed = [
            {
                "AccessKeyId": key.id,
                "Status": key.status,
                "CreateDate": datetime(2016, 4, 1, tzinfo=UTC),
            }
            for key in self.keys
        ]
        return [{"AccessKeyMetadata": listed}]

    def get_access_key_last_used(self, *, AccessKeyId: str) -> dict[str, Any]:  # noqa: N803
        [used_at] = [key.last_used_at for key in self.keys if key.id == AccessKeyId]
        if used_at is None:
            return {"AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}
        used: dict[str, Any] = {"ServiceName": "s3", "Region": "eu-west-1"}
        return {"AccessKeyLastUsed": {**used, "LastUsedDate": datetime.fromisoformat(used_at)}}

    def get_account_summary(self) -> dict[str, Any]:
        return {"SummaryMap": {"AccountAccessKeysPresent": int(bool(self.keys))}}

    def delete_access_key(self, *, AccessKeyId: str) -> None:  # noqa: N803 - boto3's name
        self.calls.append(AccessKeyId)
        if AccessKeyId in self.fails_to_delete:
            raise an_error("ServiceFailure", "DeleteAccessKey")
        self.keys = [key for key in self.keys if key.id != AccessKeyId]
