from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from rootsweep import accounts
from rootsweep.accounts import Account
from rootsweep.errors import ApproverUnknownError

from .builders import ACCOUNT, an_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

    Stub = Callable[[Any], Stubber]

UNITS = "list_organizational_units_for_parent"
PROD = "ou-ab12-prodprod"
WORKLOADS = "ou-ab12-workload"


@pytest.fixture
def organizations() -> Any:
    return boto3.client("organizations")


def with_tree(stubbed: Stubber) -> None:
    """root r-ab12 > Workloads > Prod"""
    stubbed.add_response("list_roots", {"Roots": [{"Id": "r-ab12"}]}, {})
    stubbed.add_response(
        UNITS,
        {"OrganizationalUnits": [{"Id": WORKLOADS, "Name": "Workloads"}]},
        {"ParentId": "r-ab12"},
    )
    stubbed.add_response(
        UNITS, {"OrganizationalUnits": [{"Id": PROD, "Name": "Prod"}]}, {"ParentId": WORKLOADS}
    )
    stubbed.add_response(UNITS, {"OrganizationalUnits": []}, {"ParentId": PROD})


def listed(id: str, *units: str, **fields: Any) -> dict[str, Any]:
    path = "/".join(["o-a1b2c3d4e5", "r-ab12", *units, id]) + "/"
    return {"Id": id, "Name": "payments", "State": "ACTIVE", "Paths": [path], **fields}


def test_accounts_are_listed_with_their_place_in_the_organization(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    page = [listed("333333333334"), listed(ACCOUNT, WORKLOADS, PROD)]
    stubbed.add_response("list_accounts", {"Accounts": page}, {})
    with_tree(stubbed)

    assert accounts.list_accounts(organizations) == [
        Account(ACCOUNT, "payments", "Workloads/Prod", "ACTIVE", ("r-ab12", WORKLOADS, PROD)),
        Account("333333333334", "payments", "root", "ACTIVE", ("r-ab12",)),
    ]


def test_an_empty_page_is_not_the_end_while_there_is_a_token(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    stubbed.add_response("list_accounts", {"Accounts": [], "NextToken": "1"}, {})
    stubbed.add_response("list_accounts", {"NextToken": "2"}, {"NextToken": "1"})
    stubbed.add_response("list_accounts", {"Accounts": [listed(ACCOUNT)]}, {"NextToken": "2"})
    with_tree(stubbed)

    assert [account.id for account in accounts.list_accounts(organizations)] == [ACCOUNT]


def test_empty_pages_of_roots_and_units_are_not_the_end_either(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    page = {"Accounts": [listed(ACCOUNT, WORKLOADS)]}
    stubbed.add_response("list_accounts", page, {})
    stubbed.add_response("list_roots", {"NextToken": "1"}, {})
    stubbed.add_response("list_roots", {"Roots": [{"Id": "r-ab12"}]}, {"NextToken": "1"})
    stubbed.add_response(UNITS, {"NextToken": "2"}, {"ParentId": "r-ab12"})
    units = {"OrganizationalUnits": [{"Id": WORKLOADS}]}
    stubbed.add_response(UNITS, units, {"ParentId": "r-ab12", "NextToken": "2"})
    stubbed.add_response(UNITS, {}, {"ParentId": WORKLOADS})

    [account] = accounts.list_accounts(organizations)

    assert account.ou == WORKLOADS  # A unit without a name goes by its id.


def test_an_account_with_hardly_any_field_is_still_an_account_and_is_checked(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    stubbed.add_response("list_accounts", {"Accounts": [{"Id": ACCOUNT}]}, {})
    with_tree(stubbed)
    for parent in ("r-ab12", WORKLOADS, PROD):
        stubbed.add_response("list_accounts_for_parent", {}, {"ParentId": parent})

    [account] = accounts.list_accounts(organizations)

    assert account == Account(ACCOUNT, "", "root", "UNKNOWN", ())
    assert account.is_checked


def test_without_paths_the_place_is_looked_up_in_the_tree(organizations: Any, stub: Stub) -> None:
    stubbed = stub(organizations)
    known = listed("333333333334")
    for paths in ([], ["nonsense"]):
        other = listed(ACCOUNT, Paths=paths)
        stubbed.add_response("list_accounts", {"Accounts": [known, other]}, {})
        with_tree(stubbed)
        below = {
            "r-ab12": [{"Id": "333333333334"}, {"Id": "999999999999"}],
            WORKLOADS: [],
            PROD: [{"Id": ACCOUNT}],
        }
        for parent, there in below.items():
            stubbed.add_response(
                "list_accounts_for_parent", {"Accounts": there}, {"ParentId": parent}
            )

        first, second = accounts.list_accounts(organizations)

        assert (first.id, first.ou) == (ACCOUNT, "Workloads/Prod")
        assert first.parents == ("r-ab12", WORKLOADS, PROD)
        assert (second.id, second.ou) == ("333333333334", "root")


def test_an_account_that_pages_show_twice_is_one_account(organizations: Any, stub: Stub) -> None:
    stubbed = stub(organizations)
    first = {"Accounts": [listed(ACCOUNT), {"Name": "without id"}], "NextToken": "1"}
    stubbed.add_response("list_accounts", first, {})
    stubbed.add_response("list_accounts", {"Accounts": [listed(ACCOUNT)]}, {"NextToken": "1"})
    with_tree(stubbed)

    assert len(accounts.list_accounts(organizations)) == 1


@pytest.mark.parametrize(
    ("fields", "state", "is_checked"),
    [
        ({"State": "ACTIVE"}, "ACTIVE", True),
        ({"State": "PENDING_CLOSURE"}, "PENDING_CLOSURE", True),
        ({"State": "SUSPENDED"}, "SUSPENDED", False),
        ({"State": "CLOSED"}, "CLOSED", False),
        ({"State": "PENDING_ACTIVATION"}, "PENDING_ACTIVATION", False),
        ({"State": "CLOSED", "Status": "SUSPENDED"}, "CLOSED", False),
        ({"Status": "ACTIVE"}, "ACTIVE", True),
        ({"Status": "SUSPENDED"}, "SUSPENDED", False),
        ({"Status": "PENDING_CLOSURE"}, "PENDING_CLOSURE", True),
        ({}, "UNKNOWN", True),
        ({"Status": "SOMETHING_NEW"}, "UNKNOWN", True),
        ({"State": "SOMETHING_NEW"}, "UNKNOWN", True),
    ],
)
def test_only_a_state_that_is_known_to_be_shut_is_skipped(
    organizations: Any, stub: Stub, fields: dict[str, str], state: str, is_checked: bool
) -> None:
    stubbed = stub(organizations)
    account = {"Id": ACCOUNT, "Paths": [f"o-a1b2c3d4e5/r-ab12/{ACCOUNT}/"], **fields}
    stubbed.add_response("list_accounts", {"Accounts": [account]}, {})
    with_tree(stubbed)

    [found] = accounts.list_accounts(organizations)

    assert (found.organizations_state, found.is_checked) == (state, is_checked)


def test_a_case_knows_of_an_account_its_id_name_and_place() -> None:
    assert an_account().to_dict() == {
        "id": ACCOUNT,
        "name": "payments-prod",
        "ou": "Workloads/Prod",
    }


ONE = an_account("333333333331", parents=("r-ab12",))
TWO = an_account("333333333332", parents=("r-ab12", WORKLOADS))
THREE = an_account("333333333333", parents=("r-ab12", WORKLOADS, PROD))


@pytest.mark.parametrize(
    ("ids", "units", "chosen"),
    [
        ([], [], [ONE, TWO, THREE]),
        ([TWO.id], [], [TWO]),
        ([], [WORKLOADS], [TWO, THREE]),
        ([], [PROD], [THREE]),
        ([], ["r-ab12"], [ONE, TWO, THREE]),
        ([ONE.id], [PROD], [ONE, THREE]),
        ([THREE.id], [PROD], [THREE]),
    ],
)
def test_a_sweep_gets_the_accounts_it_asked_for(
    ids: list[str], units: list[str], chosen: list[Account]
) -> None:
    assert accounts.select([ONE, TWO, THREE], ids=ids, organizational_units=units) == chosen


@pytest.mark.parametrize(
    ("ids", "units", "unknown"),
    [
        ([ONE.id, "999999999999"], [], "999999999999"),
        ([], ["ou-ab12-notthere"], "ou-ab12-notthere"),
        ([ONE.id], ["ou-ab12-notthere"], "ou-ab12-notthere"),
    ],
)
def test_what_is_not_in_the_organization_is_never_silently_left_out(
    ids: list[str], units: list[str], unknown: str
) -> None:
    with pytest.raises(KeyError, match=unknown):
        accounts.select([ONE], ids=ids, organizational_units=units)


@pytest.fixture
def account_client() -> Any:
    return boto3.client("account")


def find(
    organizations: Any, account_client: Any, *, at_least: int = 1, **addresses: str
) -> list[tuple[str, str]]:
    found = accounts.find_approvers(
        organizations,
        account_client,
        account_id=ACCOUNT,
        tag_key="rootsweep-approver",
        at_least=at_least,
        **{"default": "security@example.com", "second": "deputy@example.com", **addresses},
    )
    return [(approver.address, approver.source) for approver in found]


def tagged(stubbed: Stubber, value: str | None) -> None:
    tags = [{"Key": "team", "Value": "wrong@example.com"}]
    if value is not None:
        tags.append({"Key": "rootsweep-approver", "Value": value})
    stubbed.add_response("list_tags_for_resource", {"Tags": tags}, {"ResourceId": ACCOUNT})


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


TAG = "the account's tag rootsweep-approver"
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


@pytest.mark.parametrize(
    "address",
    [
        "a.smith@example.com",
        "A.Smith@Example.COM",
        "a.smith+aws@example.com",
        "A.SMITH+aws+prod@example.com",
        "a.smith+@example.com",
    ],
)
def test_one_person_has_many_spellings(address: str) -> None:
    assert accounts.person(address) == "a.smith@example.com"


@pytest.mark.parametrize(
    "address",
    [
        "asmith@example.com",
        "a.smith@example.org",
        "a.smith@mail.example.com",
        "aws+a.smith@example.com",
    ],
)
def test_other_addresses_are_other_people(address: str) -> None:
    assert accounts.person(address) != "a.smith@example.com"
