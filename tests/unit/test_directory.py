from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from rootsweep import directory
from rootsweep.errors import ApproverUnknownError

from .builders import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

    from rootsweep.directory import Found

    Stub = Callable[[Any], Stubber]


@pytest.fixture
def organizations() -> Any:
    return boto3.client("organizations")


@pytest.fixture
def account_client() -> Any:
    return boto3.client("account")


UNITS = ("r-ab12", "ou-ab12-workload", "ou-ab12-prodprod")


def found(
    organizations: Any,
    account_client: Any,
    *,
    at_least: int = 1,
    parents: tuple[str, ...] = (),
    notify: tuple[str, ...] = ("approvers",),
    bounced: tuple[str, ...] = (),
    **addresses: str,
) -> Found:
    known = {"default": "security@example.com", "second": "deputy@example.com", **addresses}
    return directory.find_approvers(
        directory.Directory(organizations, account_client, "rootsweep-approver", **known),
        account_id=ACCOUNT,
        parents=parents,
        notify=notify,
        at_least=at_least,
        has_bounced=bounced.__contains__,
    )


def find(organizations: Any, account_client: Any, **given: Any) -> list[tuple[str, str]]:
    approvers = found(organizations, account_client, **given).approvers
    return [(approver.address, approver.source) for approver in approvers]


def tagged(stubbed: Stubber, value: str | None, resource: str = ACCOUNT) -> None:
    tags = [{"Key": "team", "Value": "wrong@example.com"}]
    if value is not None:
        tags.append({"Key": "rootsweep-approver", "Value": value})
    stubbed.add_response("list_tags_for_resource", {"Tags": tags}, {"ResourceId": resource})


def contact(stubbed: Stubber, address: str) -> None:
    stubbed.add_response(
        "get_alternate_contact",
        {
            "AlternateContact": {
                "EmailAddress": address,
                "Name": "n",
                "PhoneNumber": "1",
                "Title": "t",
                "AlternateContactType": "SECURITY",
            }
        },
        {"AccountId": ACCOUNT, "AlternateContactType": "SECURITY"},
    )


TAG = "the tag rootsweep-approver of the account"
UNIT_TAG = "the tag rootsweep-approver of the organizational unit ou-ab12-prodprod"
CONTACT = "the account's SECURITY alternate contact"
DEFAULT = "the default approver of the Rootsweep stack"
DEPUTY = "the second approver of the Rootsweep stack"


def test_the_tag_names_the_approver_and_nobody_else_is_looked_up(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stub(account_client)
    stubbed = stub(organizations)
    stubbed.add_response(
        "list_tags_for_resource", {"Tags": [], "NextToken": "1"}, {"ResourceId": ACCOUNT}
    )
    stubbed.add_response(
        "list_tags_for_resource",
        {"Tags": [{"Key": "rootsweep-approver", "Value": " payments-leads@example.com "}]},
        {"ResourceId": ACCOUNT, "NextToken": "1"},
    )

    assert find(organizations, account_client) == [("payments-leads@example.com", TAG)]


@pytest.mark.parametrize("at_least", [1, 2, 3])
def test_everybody_in_a_tag_is_asked_in_its_order_and_nobody_else(
    organizations: Any, account_client: Any, stub: Stub, at_least: int
) -> None:
    stub(account_client)
    tagged(stub(organizations), "c@example.com  a@example.com b@example.com")

    assert find(organizations, account_client, at_least=at_least) == [
        ("c@example.com", TAG),
        ("a@example.com", TAG),
        ("b@example.com", TAG),
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "payments leads",
        "a@b",
        "a@example.com, b@example.com",
        "a@example.com / b@example.com",
        "a@example.com b@example.com nobody",
        "a@example.com\r\nBcc: b@example.com",
        "Payments <a@example.com>",
        "a@" + "x" * 260 + ".com",
    ],
)
def test_a_tag_that_holds_anything_but_addresses_falls_through_to_the_security_contact(
    organizations: Any, account_client: Any, stub: Stub, value: str | None
) -> None:
    tagged(stub(organizations), value)
    contact(stub(account_client), "payments-sec@example.com")

    assert find(organizations, account_client) == [("payments-sec@example.com", CONTACT)]


@pytest.mark.parametrize("address", [" ", "nobody", "a@example.com, b@example.com"])
def test_a_contact_that_is_no_address_falls_through_to_the_default(
    organizations: Any, account_client: Any, stub: Stub, address: str
) -> None:
    tagged(stub(organizations), None)
    contact(stub(account_client), address)

    assert find(organizations, account_client) == [("security@example.com", DEFAULT)]


def test_sources_that_may_not_be_read_fall_through_to_the_default(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stub(organizations).add_client_error("list_tags_for_resource", "AccessDeniedException")
    stub(account_client).add_client_error("get_alternate_contact", "ResourceNotFoundException")

    assert find(organizations, account_client) == [("security@example.com", DEFAULT)]


@pytest.mark.parametrize(
    "code", ["TooManyRequestsException", "ServiceException", "InternalServerException"]
)
def test_a_hiccup_does_not_hand_the_decision_to_somebody_else(
    organizations: Any, account_client: Any, stub: Stub, code: str
) -> None:
    stub(organizations).add_client_error("list_tags_for_resource", code)

    with pytest.raises(ApproverUnknownError, match=code):
        find(organizations, account_client)


@pytest.mark.parametrize("at_least", [1, 2])
def test_a_hiccup_of_the_contact_does_not_hand_it_to_the_default(
    organizations: Any, account_client: Any, stub: Stub, at_least: int
) -> None:
    tagged(stub(organizations), "a@example.com" if at_least == 2 else None)
    stub(account_client).add_client_error("get_alternate_contact", "InternalServerException")

    with pytest.raises(ApproverUnknownError, match="InternalServer"):
        find(organizations, account_client, at_least=at_least)


@pytest.mark.parametrize("empty", ["tags", "contact"])
def test_an_answer_that_came_empty_is_a_hiccup_too(
    organizations: Any, account_client: Any, stub: Stub, empty: str
) -> None:
    if empty == "tags":
        stub(organizations).add_response("list_tags_for_resource", {}, {"ResourceId": ACCOUNT})
    else:
        tagged(stub(organizations), None)
        stub(account_client).add_response("get_alternate_contact", {})

    with pytest.raises(ApproverUnknownError):
        find(organizations, account_client)


def test_no_answer_at_all_is_a_hiccup_too(
    organizations: Any, account_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> NoReturn:
        raise EndpointConnectionError(endpoint_url="https://organizations.amazonaws.com")

    monkeypatch.setattr(organizations, "get_paginator", unreachable)

    with pytest.raises(ApproverUnknownError, match="Could not connect"):
        find(organizations, account_client)


@pytest.mark.parametrize(
    ("tag", "security", "at_least", "found"),
    [
        ("a@x.com", "b@x.com", 2, [("a@x.com", TAG), ("b@x.com", CONTACT)]),
        ("a@x.com", "nobody", 2, [("a@x.com", TAG), ("security@example.com", DEFAULT)]),
        ("nobody", "b@x.com", 2, [("b@x.com", CONTACT), ("security@example.com", DEFAULT)]),
        (None, "-", 2, [("security@example.com", DEFAULT), ("deputy@example.com", DEPUTY)]),
        # The same person again is nobody new.
        ("a@x.com", "A@X.com", 2, [("a@x.com", TAG), ("security@example.com", DEFAULT)]),
        ("a@x.com", "a+sec@x.com", 2, [("a@x.com", TAG), ("security@example.com", DEFAULT)]),
        ("a+aws@x.com a@x.com A@x.com", "b@x.com", 2, [("a+aws@x.com", TAG), ("b@x.com", CONTACT)]),
        # Everybody of a source that is needed is asked, not just as many as are missing.
        (
            "a@x.com",
            "b@x.com c@x.com",
            2,
            [("a@x.com", TAG), ("b@x.com", CONTACT), ("c@x.com", CONTACT)],
        ),
        (
            "a@x.com",
            "a@x.com",
            3,
            [("a@x.com", TAG), ("security@example.com", DEFAULT), ("deputy@example.com", DEPUTY)],
        ),
        # There may still be too few.
        (
            "deputy@example.com",
            "security@example.com",
            3,
            [("deputy@example.com", TAG), ("security@example.com", CONTACT)],
        ),
    ],
)
def test_where_more_people_are_needed_the_next_sources_add_theirs(
    organizations: Any,
    account_client: Any,
    stub: Stub,
    tag: str | None,
    security: str,
    at_least: int,
    found: list[tuple[str, str]],
) -> None:
    tagged(stub(organizations), tag)
    contact(stub(account_client), security)

    assert find(organizations, account_client, at_least=at_least) == found


@pytest.mark.parametrize("at_least", [0, 1])
def test_the_second_approver_is_not_asked_where_one_is_enough(
    organizations: Any, account_client: Any, stub: Stub, at_least: int
) -> None:
    tagged(stub(organizations), None)
    contact(stub(account_client), "-")

    assert find(organizations, account_client, at_least=at_least) == [
        ("security@example.com", DEFAULT)
    ]


def test_without_a_second_approver_there_is_one(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    tagged(stub(organizations), None)
    contact(stub(account_client), "-")

    assert find(organizations, account_client, at_least=2, second="") == [
        ("security@example.com", DEFAULT)
    ]


def test_the_nearest_unit_with_a_tag_comes_after_the_account_and_before_its_contact(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stub(account_client)
    stubbed = stub(organizations)
    tagged(stubbed, None)
    tagged(stubbed, "prod@example.com", UNITS[2])

    assert find(organizations, account_client, parents=UNITS) == [("prod@example.com", UNIT_TAG)]


def test_every_unit_up_to_the_root_is_tried(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stub(account_client)
    stubbed = stub(organizations)
    for resource in (ACCOUNT, UNITS[2], UNITS[1]):
        tagged(stubbed, None, resource)
    tagged(stubbed, "everybody@example.com", UNITS[0])

    assert find(organizations, account_client, parents=UNITS) == [
        ("everybody@example.com", "the tag rootsweep-approver of the root")
    ]


def test_it_is_noted_why_a_source_names_nobody(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    tagged(stubbed, "ask Bob")
    stubbed.add_client_error(
        "list_tags_for_resource",
        "AccessDeniedException",
        expected_params={"ResourceId": UNITS[2]},
    )
    stub(account_client).add_client_error("get_alternate_contact", "ResourceNotFoundException")

    answer = found(organizations, account_client, parents=UNITS[2:], default="")

    assert answer.approvers == ()
    assert answer.notes == (
        f"{TAG}: holds something else than e-mail addresses",
        f"{UNIT_TAG}: may not be read (AccessDeniedException)",
        f"{CONTACT}: there is none",
        f"{DEFAULT}: there is none",
    )


def test_the_second_approver_alone_answers_for_nobody(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    tagged(stub(organizations), None)
    stub(account_client).add_client_error("get_alternate_contact", "ResourceNotFoundException")

    assert find(organizations, account_client, default="", at_least=2) == []


def test_an_address_that_bounced_counts_as_nobody(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    tagged(stub(organizations), "gone@example.com")
    contact(stub(account_client), "contact@example.com")

    answer = found(organizations, account_client, bounced=("gone@example.com",))

    assert [each.address for each in answer.approvers] == ["contact@example.com"]
    assert answer.notes == (f"{TAG}: mails to gone@example.com bounce",)


def test_beside_an_address_that_bounced_the_others_of_its_source_are_asked(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stub(account_client)
    tagged(stub(organizations), "gone@example.com here@example.com")

    assert find(organizations, account_client, bounced=("gone@example.com",)) == [
        ("here@example.com", TAG)
    ]


def test_each_rung_adds_its_people(organizations: Any, account_client: Any, stub: Stub) -> None:
    stub(account_client)
    stubbed = stub(organizations)
    tagged(stubbed, "owner@example.com")
    tagged(stubbed, "unit@example.com", UNITS[2])

    assert find(
        organizations,
        account_client,
        parents=UNITS,
        notify=("approvers", "organizational_unit", "default_approver", "ciso@example.com"),
    ) == [
        ("owner@example.com", TAG),
        ("unit@example.com", UNIT_TAG),
        ("security@example.com", DEFAULT),
        ("ciso@example.com", "the escalation policy (ciso@example.com)"),
    ]


def test_who_is_named_twice_is_asked_once(
    organizations: Any, account_client: Any, stub: Stub
) -> None:
    stub(account_client)
    tagged(stub(organizations), "security+aws@example.com")

    assert find(organizations, account_client, notify=("approvers", "default_approver")) == [
        ("security+aws@example.com", TAG)
    ]
