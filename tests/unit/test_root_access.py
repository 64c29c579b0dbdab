from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import root_access
from rootsweep.errors import KeysChangedError, RootKeysRemainError, RootSessionDeniedError
from rootsweep.root_access import RootKey, RootSummary, SummaryReader

from .builders import ACCOUNT, FIRST, SECOND, TASKS, a_key, an_error, contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.stub import Stubber

    Stub = Callable[[Any], Stubber]

CREATED = datetime(2016, 4, 1, tzinfo=UTC)
CREDENTIALS = {
    "AccessKeyId": "ASIAEXAMPLE000000001",
    "SecretAccessKey": "secret",
    "SessionToken": "session",
    "Expiration": datetime(2026, 3, 4, 6, tzinfo=UTC),
}
root_keys = st.lists(
    st.builds(
        a_key, st.sampled_from([f"AKIAEXAMPLE0000000{n}" for n in range(5)]),
        st.sampled_from(["Active", "Inactive"]),
    ),
    unique_by=lambda key: key.id,
    max_size=3,
)  # fmt: skip


def delete_root_keys(iam: Any, *, account_id: str, approved: list[Any]) -> Iterator[str]:
    """As `Delete root keys` does it."""
    for key in root_access.keys_to_delete(iam, account_id=account_id, approved=approved):
        root_access.delete_root_key(iam, account_id=account_id, key_id=key.id)
        yield key.id


@pytest.fixture(autouse=True)
def a_client_of_our_own() -> Iterator[None]:
    """The one IAM client for all accounts is kept for as long as the process lives."""
    root_access._made_iam.cache_clear()
    yield
    root_access._made_iam.cache_clear()


@pytest.fixture
def iam() -> Any:
    return boto3.client("iam")


@pytest.fixture
def sts() -> Any:
    return boto3.client("sts")


def audit(sts: Any, table: Any, *, account_id: str = ACCOUNT, partition: str = "aws") -> Any:
    return root_access.audit_session(
        sts, table, account_id=account_id, partition=partition, opened_for="a-case"
    )


def with_keys(stubbed: Stubber, *keys: RootKey) -> None:
    """What a session sees whose account has these keys; none of them was ever used."""
    listed = [
        {"AccessKeyId": key.id, "Status": key.status, "CreateDate": CREATED, "UserName": "x"}
        for key in keys
    ]
    for item in listed:
        del item["UserName"]  # A root user has none.
    stubbed.add_response("list_access_keys", {"AccessKeyMetadata": listed}, {})
    for key in keys:
        used = {"AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}
        stubbed.add_response("get_access_key_last_used", used, {"AccessKeyId": key.id})


def with_summary(stubbed: Stubber, **members: int) -> None:
    stubbed.add_response("get_account_summary", {"SummaryMap": members}, {})


@pytest.mark.parametrize(
    ("opens", "task"),
    [
        (root_access.audit_session, "IAMAuditRootUserCredentials"),
        (root_access.delete_session, "IAMDeleteRootUserCredentials"),
    ],
)
def test_a_root_session_is_short_held_to_its_task_and_signs_as_that_root(
    opens: Any, task: str, sts: Any, stub: Stub, table: Any
) -> None:
    stub(sts).add_response(
        "assume_root",
        {"Credentials": CREDENTIALS},
        {
            "TargetPrincipal": ACCOUNT,
            "TaskPolicyArn": {"arn": TASKS + task},
            "DurationSeconds": 900,
        },
    )

    iam = opens(sts, table, account_id=ACCOUNT, partition="aws", opened_for="a-case")

    assert signs_as(iam) == "ASIAEXAMPLE000000001"
    [noted] = contents(table)
    assert (noted["pk"], noted["account_id"]) == ("ROOT_SESSION#ASIAEXAMPLE000000001", ACCOUNT)
    assert (noted["task"], noted["opened_for"]) == (task, "a-case")
    assert not {"secret", "token"} & set(noted.values())


def signs_as(iam: Any) -> str:
    """The access key id that a request of this client is signed with."""
    url = iam.generate_presigned_url("list_access_keys")
    found = re.search(r"(?:Credential|AWSAccessKeyId)=(\w+)", url)
    assert found
    return found[1]


def test_a_session_that_only_looks_never_gets_the_credentials_of_one_that_deletes(
    sts: Any, stub: Stub, table: Any
) -> None:
    stubbed = stub(sts)
    for id in ("ASIALOOKS0000000001", "ASIADELETES000000001"):
        stubbed.add_response("assume_root", {"Credentials": {**CREDENTIALS, "AccessKeyId": id}})

    looking = audit(sts, table)
    deleting = root_access.delete_session(
        sts, table, account_id=ACCOUNT, partition="aws", opened_for="a-case"
    )

    assert looking is not deleting
    assert signs_as(looking) == "ASIALOOKS0000000001"
    assert signs_as(deleting) == "ASIADELETES000000001"


def test_task_policies_are_those_of_the_partition(sts: Any, stub: Stub, table: Any) -> None:
    stub(sts).add_response(
        "assume_root",
        {"Credentials": CREDENTIALS},
        {
            "TargetPrincipal": ACCOUNT,
            "TaskPolicyArn": {
                "arn": "arn:aws-us-gov:iam::aws:policy/root-task/IAMAuditRootUserCredentials"
            },
            "DurationSeconds": 900,
        },
    )

    client = audit(sts, table, partition="aws-us-gov")

    assert client.meta.service_model.service_name == "iam"


@pytest.mark.parametrize("opens", [root_access.audit_session, root_access.delete_session])
@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
def test_a_refused_root_session_has_a_name_of_its_own(
    opens: Any, code: str, sts: Any, stub: Stub, table: Any
) -> None:
    stub(sts).add_client_error("assume_root", code, "Root sessions are off.")

    with pytest.raises(
        RootSessionDeniedError, match=r"333333333333: AssumeRoot: .*sessions are off"
    ):
        opens(sts, table, account_id=ACCOUNT, partition="aws", opened_for="a-case")
    assert contents(table) == []


def test_another_failure_to_open_a_session_is_no_refusal(sts: Any, stub: Stub, table: Any) -> None:
    stub(sts).add_client_error("assume_root", "Throttling")

    with pytest.raises(ClientError, match="Throttling"):
        audit(sts, table)


@pytest.mark.parametrize("opens", [root_access.audit_session, root_access.delete_session])
def test_a_session_that_cannot_be_noted_is_not_used_and_no_refusal_of_aws(
    opens: Any, sts: Any, stub: Stub, table: Any
) -> None:
    stub(sts).add_response("assume_root", {"Credentials": CREDENTIALS})
    stub(table.meta.client).add_client_error("put_item", "AccessDeniedException", "not today")

    with pytest.raises(ClientError, match=r"PutItem.*not today"):
        opens(sts, table, account_id=ACCOUNT, partition="aws", opened_for="a-case")


def test_keys_are_listed_with_their_age_and_last_use_sorted_by_id(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    page = {"Status": "Active", "CreateDate": CREATED}
    stubbed.add_response(
        "list_access_keys",
        {
            "AccessKeyMetadata": [{**page, "AccessKeyId": SECOND}],
            "IsTruncated": True,
            "Marker": "m",
        },
        {},
    )
    stubbed.add_response(
        "list_access_keys",
        {"AccessKeyMetadata": [{**page, "AccessKeyId": FIRST, "Status": "Inactive"}]},
        {"Marker": "m"},
    )
    stubbed.add_response(
        "get_access_key_last_used",
        {
            "AccessKeyLastUsed": {
                "LastUsedDate": datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC),
                "ServiceName": "s3",
                "Region": "us-east-1",
            }
        },
        {"AccessKeyId": SECOND},
    )
    stubbed.add_response(
        "get_access_key_last_used",
        {"AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}},
        {"AccessKeyId": FIRST},
    )

    assert root_access.list_root_keys(iam, account_id=ACCOUNT) == [
        RootKey(FIRST, "Inactive", "2016-04-01T00:00:00+00:00"),
        RootKey(
            SECOND,
            "Active",
            "2016-04-01T00:00:00+00:00",
            "2024-02-03T04:05:06+00:00",
            "s3",
            "us-east-1",
        ),
    ]


def test_an_account_without_root_keys_has_none(iam: Any, stub: Stub) -> None:
    with_keys(stub(iam))

    assert root_access.list_root_keys(iam, account_id=ACCOUNT) == []


def test_a_session_that_may_not_list_is_refused_by_name(iam: Any, stub: Stub) -> None:
    stub(iam).add_client_error("list_access_keys", "AccessDenied", "explicit deny in an SCP")

    with pytest.raises(RootSessionDeniedError, match="explicit deny"):
        root_access.list_root_keys(iam, account_id=ACCOUNT)


def test_a_key_whose_use_cannot_be_read_is_not_left_out(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    listed = {"AccessKeyId": FIRST, "Status": "Active", "CreateDate": CREATED}
    stubbed.add_response("list_access_keys", {"AccessKeyMetadata": [listed]}, {})
    stubbed.add_client_error("get_access_key_last_used", "ServiceFailure")

    with pytest.raises(ClientError, match="ServiceFailure"):
        root_access.list_root_keys(iam, account_id=ACCOUNT)


def test_exactly_the_approved_keys_are_deleted(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    approved = [a_key(FIRST), a_key(SECOND, "Inactive")]
    with_keys(stubbed, *approved)
    for key in approved:
        stubbed.add_response("delete_access_key", {}, {"AccessKeyId": key.id})

    deleted = delete_root_keys(iam, account_id=ACCOUNT, approved=approved)

    assert list(deleted) == [FIRST, SECOND]


# No answer to DeleteAccessKey is stubbed in these: to call it would be an error.
@pytest.mark.parametrize(
    ("present", "approved"),
    [
        ([a_key(FIRST), a_key(SECOND)], [a_key(FIRST)]),
        ([a_key(SECOND)], [a_key(FIRST)]),
        ([a_key(FIRST)], []),
        ([a_key(FIRST, "Active")], [a_key(FIRST, "Inactive")]),
        ([a_key(FIRST, "Inactive")], [a_key(FIRST, "Active")]),
        ([a_key(FIRST), a_key(SECOND, "Inactive")], [a_key(FIRST), a_key(SECOND)]),
    ],
)
def test_nothing_is_deleted_if_anything_is_not_as_it_was_approved(
    iam: Any, stub: Stub, present: list[RootKey], approved: list[RootKey]
) -> None:
    with_keys(stub(iam), *present)

    with pytest.raises(KeysChangedError, match="nothing was deleted"):
        list(delete_root_keys(iam, account_id=ACCOUNT, approved=approved))


class Session:
    """An account with keys, and what was deleted of it."""

    class exceptions:  # noqa: N801 - boto3's name
        NoSuchEntityException = type("NoSuchEntityException", (ClientError,), {})

    def __init__(self, keys: list[RootKey]) -> None:
        self.keys = keys
        self.deleted: set[str] = set()

    def get_paginator(self, _: str) -> Session:
        return self

    def paginate(self) -> list[Any]:
        listed = [
            {"AccessKeyId": key.id, "Status": key.status, "CreateDate": CREATED}
            for key in self.keys
        ]
        return [{"AccessKeyMetadata": listed}]

    def get_access_key_last_used(self, **_: str) -> Any:
        return {"AccessKeyLastUsed": {}}

    def delete_access_key(self, *, AccessKeyId: str) -> None:  # noqa: N803
        self.deleted.add(AccessKeyId)


@given(root_keys, root_keys)
def test_whatever_is_there_all_of_it_was_approved_or_none_of_it_is_deleted(
    present: list[RootKey], approved: list[RootKey]
) -> None:
    def shown(keys: list[RootKey]) -> set[tuple[str, str]]:
        return {(key.id, key.status) for key in keys}

    session: Any = Session(present)
    try:
        deleted = list(delete_root_keys(session, account_id=ACCOUNT, approved=approved))
    except KeysChangedError:
        assert session.deleted == set()
        assert not shown(present) <= shown(approved)
    else:
        assert session.deleted == set(deleted) == {key.id for key in present}
        assert shown(present) <= shown(approved)


def test_an_approved_key_that_is_gone_already_is_done(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    with_keys(stubbed, a_key(SECOND))
    stubbed.add_response("delete_access_key", {}, {"AccessKeyId": SECOND})

    approved = [a_key(FIRST), a_key(SECOND)]
    deleted = delete_root_keys(iam, account_id=ACCOUNT, approved=approved)
    assert list(deleted) == [SECOND]


def test_a_deletion_whose_answer_was_lost_is_a_deletion_all_the_same(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    with_keys(stubbed, a_key(FIRST), a_key(SECOND))
    stubbed.add_client_error("delete_access_key", "NoSuchEntity")
    stubbed.add_response("delete_access_key", {}, {"AccessKeyId": SECOND})

    approved = [a_key(FIRST), a_key(SECOND)]
    deleted = delete_root_keys(iam, account_id=ACCOUNT, approved=approved)
    assert list(deleted) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", RootSessionDeniedError), ("ServiceFailure", ClientError)]
)
def test_a_deletion_that_fails_is_raised(
    iam: Any, stub: Stub, code: str, error: type[Exception]
) -> None:
    stubbed = stub(iam)
    with_keys(stubbed, a_key())
    stubbed.add_client_error("delete_access_key", code)

    with pytest.raises(error, match=code):
        list(delete_root_keys(iam, account_id=ACCOUNT, approved=[a_key()]))


def test_what_was_deleted_before_a_failure_is_told(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    approved = [a_key(FIRST), a_key(SECOND)]
    with_keys(stubbed, *approved)
    stubbed.add_response("delete_access_key", {}, {"AccessKeyId": FIRST})
    stubbed.add_client_error("delete_access_key", "ServiceFailure")
    deleted = delete_root_keys(iam, account_id=ACCOUNT, approved=approved)

    assert next(deleted) == FIRST
    with pytest.raises(ClientError, match="ServiceFailure"):
        next(deleted)


def test_removal_is_confirmed_by_list_and_summary(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    with_keys(stubbed)
    with_summary(stubbed, AccountAccessKeysPresent=0)

    root_access.confirm_removal(iam, account_id=ACCOUNT, approved=[a_key()])


def test_a_deleted_key_that_is_still_listed_needs_patience(iam: Any, stub: Stub) -> None:
    with_keys(stub(iam), a_key())

    with pytest.raises(RootKeysRemainError, match="still listed"):
        root_access.confirm_removal(iam, account_id=ACCOUNT, approved=[a_key()])


def test_a_summary_that_still_reports_a_key_needs_patience(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    with_keys(stubbed)
    with_summary(stubbed, AccountAccessKeysPresent=1)

    with pytest.raises(RootKeysRemainError, match="summary"):
        root_access.confirm_removal(iam, account_id=ACCOUNT, approved=[a_key()])


def test_a_key_that_appeared_meanwhile_is_for_the_human(iam: Any, stub: Stub) -> None:
    with_keys(stub(iam), a_key(FIRST), a_key(SECOND))

    with pytest.raises(KeysChangedError, match=SECOND):
        root_access.confirm_removal(iam, account_id=ACCOUNT, approved=[a_key(FIRST)])


def test_a_summary_without_the_member_confirms_nothing(iam: Any, stub: Stub) -> None:
    stubbed = stub(iam)
    with_keys(stubbed)
    with_summary(stubbed, Users=3)

    with pytest.raises(KeyError, match="AccountAccessKeysPresent"):
        root_access.confirm_removal(iam, account_id=ACCOUNT, approved=[a_key()])


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", RootSessionDeniedError), ("ServiceFailure", ClientError)]
)
def test_a_summary_that_cannot_be_read_confirms_nothing(
    iam: Any, stub: Stub, code: str, error: type[Exception]
) -> None:
    stubbed = stub(iam)
    with_keys(stubbed)
    stubbed.add_client_error("get_account_summary", code)

    with pytest.raises(error, match=code):
        root_access.confirm_removal(iam, account_id=ACCOUNT, approved=[a_key()])


@given(root_keys, root_keys)
def test_a_fingerprint_is_of_ids_and_status_in_any_order(
    one: list[RootKey], two: list[RootKey]
) -> None:
    same = {(key.id, key.status) for key in one} == {(key.id, key.status) for key in two}

    assert (root_access.fingerprint("1", one) == root_access.fingerprint("1", two)) == same
    assert root_access.fingerprint("1", one) == root_access.fingerprint("1", one[::-1])
    assert root_access.fingerprint("1", one) != root_access.fingerprint("2", one)


def test_using_a_key_does_not_change_what_was_approved() -> None:
    used = a_key(last_used_at="2026-03-04T00:00:00+00:00", last_used_service="s3")

    assert root_access.fingerprint(ACCOUNT, [a_key()]) == root_access.fingerprint(ACCOUNT, [used])


@given(root_keys)
def test_a_key_comes_back_from_its_item_whatever_else_is_in_it(keys: list[RootKey]) -> None:
    assert [RootKey.from_dict({**key.to_dict(), "new_field": 1}) for key in keys] == keys


def test_a_reason_is_one_line_for_people() -> None:
    assert root_access.reason(an_error("AccessDenied", "AssumeRoot", "no")) == (
        "AssumeRoot: AccessDenied: no"
    )
    assert root_access.reason(ClientError({}, "AssumeRoot")) == "AssumeRoot: None: None"
    assert root_access.reason(TimeoutError("slow")) == "TimeoutError: slow"


def a_reader(role: str | None = "rootsweep-audit", table: Any = None) -> SummaryReader:
    """Without a table it may open no root session."""
    return SummaryReader(table, partition="aws", audit_role_name=role)


def stub_session(stub: Stub, reader: SummaryReader) -> None:
    stub(reader._sts).add_response(
        "assume_role",
        {"Credentials": CREDENTIALS},
        {
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/rootsweep-audit",
            "RoleSessionName": "rootsweep",
            "DurationSeconds": 900,
            "Policy": root_access._SUMMARY_ONLY,
        },
    )


def test_a_summary_takes_two_calls_the_second_held_to_one_action(stub: Stub) -> None:
    reader = a_reader()
    stub_session(stub, reader)
    with_summary(
        stub(reader._iam),
        AccountAccessKeysPresent=1,
        AccountMFAEnabled=1,
        AccountPasswordPresent=0,
        AccountSigningCertificatesPresent=1,
    )

    assert reader.read(ACCOUNT, opened_for="a-sweep") == RootSummary(
        access_keys=True, mfa=True, password=False, signing_certificates=True
    )
    assert '"Action": "iam:GetAccountSummary"' in root_access._SUMMARY_ONLY


def test_without_a_role_a_summary_is_read_in_an_audit_root_session(stub: Stub, table: Any) -> None:
    reader = a_reader(None, table)
    stub(reader._sts).add_response(
        "assume_root",
        {"Credentials": CREDENTIALS},
        {
            "TargetPrincipal": ACCOUNT,
            "TaskPolicyArn": {"arn": TASKS + "IAMAuditRootUserCredentials"},
            "DurationSeconds": 900,
        },
    )
    with_summary(stub(reader._iam), AccountAccessKeysPresent=0)

    assert reader.read(ACCOUNT, opened_for="a-sweep") == RootSummary(
        access_keys=False, mfa=False, password=False, signing_certificates=False
    )
    [noted] = contents(table)
    assert (noted["account_id"], noted["opened_for"]) == (ACCOUNT, "a-sweep")


@pytest.mark.parametrize("members", [{}, {"AccountMFAEnabled": 1}])
def test_a_summary_that_does_not_say_is_an_error_and_not_clean(
    stub: Stub, members: dict[str, int]
) -> None:
    reader = a_reader()
    stub_session(stub, reader)
    with_summary(stub(reader._iam), **members)

    with pytest.raises(KeyError, match="AccountAccessKeysPresent"):
        reader.read(ACCOUNT, opened_for="a-sweep")


def test_an_answer_without_a_summary_is_an_error_and_not_clean(stub: Stub) -> None:
    reader = a_reader()
    stub_session(stub, reader)
    stub(reader._iam).add_response("get_account_summary", {}, {})

    with pytest.raises(KeyError, match="SummaryMap"):
        reader.read(ACCOUNT, opened_for="a-sweep")


def test_a_role_that_cannot_be_assumed_leads_to_no_second_call(stub: Stub) -> None:
    reader = a_reader()
    stub(reader._sts).add_client_error("assume_role", "AccessDenied", "no such role")
    stub(reader._iam)

    with pytest.raises(ClientError, match="no such role"):
        reader.read(ACCOUNT, opened_for="a-sweep")


def answering(client: Any, event: str, answer: Callable[[Any], str]) -> None:
    """Answer a client's requests in its own protocol, after they were signed."""

    def respond(request: Any, **_: object) -> AWSResponse:
        body = answer(request).encode()
        response = AWSResponse(request.url, 200, {}, None)
        response._content = body
        return response

    client.meta.events.register(event, respond)


def test_threads_that_come_first_together_share_one_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root_access._made_iam.cache_clear()
    together = threading.Barrier(8, timeout=5)
    made: list[Any] = []
    session = root_access.calls.session

    def slowly() -> Any:
        made.append(None)
        time.sleep(0.1)
        return session()

    monkeypatch.setattr(root_access.calls, "session", slowly)

    def first(_: int) -> Any:
        together.wait()
        return root_access._iam_of_every_account()

    with ThreadPoolExecutor(max_workers=8) as pool:
        clients = list(pool.map(first, range(8)))

    assert len(made) == 1
    assert all(client is clients[0] for client in clients)


def test_each_of_many_threads_lists_the_keys_of_its_own_account(sts: Any) -> None:
    noted: list[Any] = []
    table = SimpleNamespace(put_item=lambda Item: noted.append(Item))  # noqa: N803 - boto3's name

    def session(request: Any) -> str:
        account = re.search(r"TargetPrincipal=(\d{12})", request.body)[1]
        return (
            "<AssumeRootResponse><AssumeRootResult><Credentials>"
            f"<AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            "<SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
            "</Credentials></AssumeRootResult></AssumeRootResponse>"
        )

    def answer(request: Any) -> str:
        authorization = request.headers["Authorization"].decode()
        account = re.search(r"Credential=ASIA(\d{12})/", authorization)[1]
        if "GetAccessKeyLastUsed" in request.body:
            return (
                "<R><GetAccessKeyLastUsedResult><AccessKeyLastUsed><Region>N/A</Region>"
                "</AccessKeyLastUsed></GetAccessKeyLastUsedResult></R>"
            )
        return (
            "<R><ListAccessKeysResult><AccessKeyMetadata><member>"
            f"<AccessKeyId>AKIA{account}</AccessKeyId><Status>Active</Status>"
            "<CreateDate>2016-04-01T00:00:00Z</CreateDate>"
            "</member></AccessKeyMetadata></ListAccessKeysResult></R>"
        )

    answering(sts, "before-send.sts", session)
    answering(root_access._iam_of_every_account()[0], "before-send.iam", answer)

    def keys_of(account_id: str) -> list[str]:
        iam = audit(sts, table, account_id=account_id)
        return [key.id for key in root_access.list_root_keys(iam, account_id=account_id)]

    ids = [f"{n:012}" for n in range(100)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = list(pool.map(keys_of, ids))

    assert found == [[f"AKIA{id}"] for id in ids]
    assert {(item["pk"], item["account_id"]) for item in noted} == {
        (f"ROOT_SESSION#ASIA{id}", id) for id in ids
    }


def test_each_of_many_threads_reads_with_the_credentials_of_its_own_account() -> None:
    reader = a_reader()

    def session(request: Any) -> str:
        account = re.search(r"%3A%3A(\d{12})%3Arole", request.body)[1]
        return (
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            "<SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )

    def summary(request: Any) -> str:
        authorization = request.headers["Authorization"].decode()
        account = re.search(r"Credential=ASIA(\d{12})/", authorization)[1]
        return (
            "<GetAccountSummaryResponse><GetAccountSummaryResult><SummaryMap><entry>"
            f"<key>AccountAccessKeysPresent</key><value>{int(account) % 2}</value>"
            "</entry></SummaryMap></GetAccountSummaryResult></GetAccountSummaryResponse>"
        )

    answering(reader._sts, "before-send.sts", session)
    answering(reader._iam, "before-send.iam", summary)
    ids = [f"{n:012}" for n in range(200)]

    with ThreadPoolExecutor(max_workers=16) as pool:
        summaries = list(pool.map(partial(reader.read, opened_for="a-sweep"), ids))

    assert [summary.access_keys for summary in summaries] == [n % 2 == 1 for n in range(200)]
