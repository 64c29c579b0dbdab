from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import accounts
from rootsweep.accounts import Account, OrganizationalUnits, Paces
from rootsweep.pace import Pace
from rootsweep.pages import IncompleteAnswerError

from .builders import ACCOUNT, an_account

if TYPE_CHECKING:
    from collections.abc import Callable

    Stub = Callable[[Any], Stubber]

UNITS = "list_organizational_units_for_parent"
PROD = "ou-ab12-prodprod"
WORKLOADS = "ou-ab12-workload"


@pytest.fixture
def organizations() -> Any:
    return boto3.client("organizations")


class OneAfterTheOther(ThreadPoolExecutor):
    """Threads that are waited for at once, so that stubs know what is asked when."""

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:  # type: ignore[override]
        future = super().submit(function, *given)
        wait([future])
        return future


class WhenWaitedFor(ThreadPoolExecutor):
    """A thread that comes to its work only when somebody waits for it."""

    def submit(self, function: Callable[..., Any], *given: Any) -> Any:  # type: ignore[override]
        return SimpleNamespace(result=lambda: function(*given))


@pytest.fixture(autouse=True)
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ThreadPoolExecutor", OneAfterTheOther)


def paces() -> Paces:
    return Paces(accounts=Pace(1e6), parents=Pace(1e6))


def list_all(organizations: Any) -> list[Account]:
    part = accounts.list_accounts(organizations, paces())
    assert part.next_token == ""
    return [part.units.placed(account) for account in part.accounts]


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
    with_tree(stubbed)
    page = [listed("333333333334"), listed(ACCOUNT, WORKLOADS, PROD)]
    stubbed.add_response("list_accounts", {"Accounts": page}, {})

    assert list_all(organizations) == [
        Account(ACCOUNT, "payments", "Workloads/Prod", "ACTIVE", ("r-ab12", WORKLOADS, PROD)),
        Account("333333333334", "payments", "root", "ACTIVE", ("r-ab12",)),
    ]


def test_an_empty_page_is_not_the_end_while_there_is_a_token(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    with_tree(stubbed)
    stubbed.add_response("list_accounts", {"Accounts": [], "NextToken": "1"}, {})
    stubbed.add_response("list_accounts", {"NextToken": "2"}, {"NextToken": "1"})
    stubbed.add_response("list_accounts", {"Accounts": [listed(ACCOUNT)]}, {"NextToken": "2"})

    assert [account.id for account in list_all(organizations)] == [ACCOUNT]


def test_empty_pages_of_roots_and_units_are_not_the_end_either(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    stubbed.add_response("list_roots", {"NextToken": "1"}, {})
    stubbed.add_response("list_roots", {"Roots": [{"Id": "r-ab12"}]}, {"NextToken": "1"})
    stubbed.add_response(UNITS, {"NextToken": "2"}, {"ParentId": "r-ab12"})
    units = {"OrganizationalUnits": [{"Id": WORKLOADS}]}
    stubbed.add_response(UNITS, units, {"ParentId": "r-ab12", "NextToken": "2"})
    stubbed.add_response(UNITS, {"OrganizationalUnits": []}, {"ParentId": WORKLOADS})
    page = {"Accounts": [listed(ACCOUNT, WORKLOADS)]}
    stubbed.add_response("list_accounts", page, {})

    [account] = list_all(organizations)

    assert account.ou == WORKLOADS  # A unit without a name goes by its id.


def test_an_account_with_hardly_any_field_is_still_an_account_and_is_checked(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    with_tree(stubbed)
    stubbed.add_response("list_accounts", {"Accounts": [{"Id": ACCOUNT}]}, {})
    for parent in ("r-ab12", WORKLOADS, PROD):
        stubbed.add_response("list_accounts_for_parent", {"Accounts": []}, {"ParentId": parent})

    [account] = list_all(organizations)

    assert account == Account(ACCOUNT, "", "root", "UNKNOWN", ())
    assert account.is_checked


def test_without_paths_the_place_is_looked_up_in_the_tree(organizations: Any, stub: Stub) -> None:
    stubbed = stub(organizations)
    known = listed("333333333334")
    for paths in ([], ["nonsense"]):
        other = listed(ACCOUNT, Paths=paths)
        with_tree(stubbed)
        stubbed.add_response("list_accounts", {"Accounts": [known, other]}, {})
        below = {
            "r-ab12": [{"Id": "333333333334"}, {"Id": "999999999999"}],
            WORKLOADS: [],
            PROD: [{"Id": ACCOUNT}],
        }
        for parent, there in below.items():
            stubbed.add_response(
                "list_accounts_for_parent", {"Accounts": there}, {"ParentId": parent}
            )

        first, second = list_all(organizations)

        assert (first.id, first.ou) == (ACCOUNT, "Workloads/Prod")
        assert first.parents == ("r-ab12", WORKLOADS, PROD)
        assert (second.id, second.ou) == ("333333333334", "root")


def test_an_account_that_pages_show_twice_is_one_account(organizations: Any, stub: Stub) -> None:
    stubbed = stub(organizations)
    with_tree(stubbed)
    first = {"Accounts": [listed(ACCOUNT)], "NextToken": "1"}
    stubbed.add_response("list_accounts", first, {})
    stubbed.add_response("list_accounts", {"Accounts": [listed(ACCOUNT)]}, {"NextToken": "1"})

    assert len(list_all(organizations)) == 1


def test_a_part_ends_when_there_are_enough_and_the_next_begins_there(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    with_tree(stubbed)
    for number in range(3):
        token = {"NextToken": f"{number}"} if number else {}
        page = {"Accounts": [listed(f"33333333333{number}", WORKLOADS)]}
        more = {"NextToken": f"{number + 1}"} if number < 2 else {}
        stubbed.add_response("list_accounts", page | more, token)

    first = accounts.list_accounts(organizations, paces(), enough=2)
    second = accounts.list_accounts(
        organizations, paces(), enough=2, next_token=first.next_token, units=first.units
    )

    assert [account.id for account in first.accounts] == ["333333333330", "333333333331"]
    assert first.next_token == "2"
    [last] = second.accounts
    assert second.units.placed(last) == Account(
        "333333333332", "payments", "Workloads", "ACTIVE", ("r-ab12", WORKLOADS)
    )
    assert second.next_token == ""


def test_a_part_does_not_wait_for_the_units_and_the_last_one_reads_the_rest(
    organizations: Any, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "ThreadPoolExecutor", WhenWaitedFor)
    stubbed = stub(organizations)
    page = {"Accounts": [listed(ACCOUNT, WORKLOADS, PROD)], "NextToken": "1"}
    stubbed.add_response("list_accounts", page, {})
    stubbed.add_response("list_roots", {"Roots": [{"Id": "r-ab12"}]}, {})

    first = accounts.list_accounts(organizations, paces(), enough=1)

    assert first.units == OrganizationalUnits({}, {"r-ab12": ["r-ab12"]}, [["r-ab12"]])

    other = listed("333333333334", WORKLOADS)
    stubbed.add_response("list_accounts", {"Accounts": [other]}, {"NextToken": "1"})
    for parent, below in (("r-ab12", WORKLOADS), (WORKLOADS, PROD), (PROD, "")):
        units = [{"Id": below, "Name": below[-8:]}] if below else []
        stubbed.add_response(UNITS, {"OrganizationalUnits": units}, {"ParentId": parent})

    second = accounts.list_accounts(
        organizations, paces(), enough=1, next_token=first.next_token, units=first.units
    )

    assert not second.units.unread
    places = [second.units.placed(each).ou for each in (*first.accounts, *second.accounts)]
    assert places == ["workload/prodprod", "workload"]


def test_a_listing_that_fails_does_not_wait_for_the_units(
    organizations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "ThreadPoolExecutor", ThreadPoolExecutor)
    asked_again = threading.Event()
    calls = itertools.count()

    def units_below(**_: Any) -> Any:
        """Units without end."""
        number = next(calls)
        if number > 2:
            asked_again.set()
        return {"OrganizationalUnits": [{"Id": f"ou-ab12-{number:08}", "Name": "deeper"}]}

    def no_page(**_: Any) -> Any:
        assert asked_again.wait(10)
        return {}

    monkeypatch.setattr(organizations, "list_roots", lambda **_: {"Roots": [{"Id": "r-ab12"}]})
    monkeypatch.setattr(organizations, UNITS, units_below)
    monkeypatch.setattr(organizations, "list_accounts", no_page)

    with pytest.raises(IncompleteAnswerError):
        accounts.list_accounts(organizations, paces())


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "Name": st.text(min_size=1, max_size=128),
        "State": st.sampled_from(["ACTIVE", "CLOSED", "SUSPENDED", "PENDING_CLOSURE", "NEW", ""]),
        "Status": st.sampled_from(["ACTIVE", "SUSPENDED", "PENDING_CLOSURE", "NEW", ""]),
        "Paths": st.lists(st.text(max_size=80) | st.just(f"o-a1/r-ab12/{PROD}/1/"), max_size=3),
    },
)


@given(st.lists(st.lists(FIELDS, max_size=4), min_size=1, max_size=4))
def test_whatever_is_missing_or_odd_no_account_is_lost_or_skipped_without_a_known_reason(
    pages: list[list[dict[str, Any]]],
) -> None:
    organizations = boto3.client("organizations", region_name="us-east-1")
    ids = (f"{number:012}" for number in itertools.count())
    sent = [[{"Id": next(ids), **fields} for fields in page] for page in pages]
    with Stubber(organizations) as stubbed:
        with_tree(stubbed)
        for number, page in enumerate(sent):
            token = {"NextToken": str(number)} if number else {}
            more = {"NextToken": str(number + 1)} if number + 1 < len(sent) else {}
            stubbed.add_response("list_accounts", {"Accounts": page, **more}, token)
        for parent in ("r-ab12", WORKLOADS, PROD):
            stubbed.add_response("list_accounts_for_parent", {"Accounts": []}, {"ParentId": parent})

        found = list_all(organizations)

    everyone = {account["Id"]: account for page in sent for account in page}
    assert {account.id for account in found} == set(everyone)
    for account in found:
        known = everyone[account.id]
        shut = {"CLOSED", "SUSPENDED"} & {known.get("State"), known.get("Status")}
        assert account.is_checked or shut


@pytest.mark.parametrize(
    ("incomplete", "says"),
    [
        ({}, "without Accounts"),
        ({"Accounts": [{"Name": "payments"}]}, "without its id: {'Name': 'payments'}"),
    ],
)
def test_an_answer_that_may_lack_an_account_is_no_list_of_all_of_them(
    organizations: Any, stub: Stub, incomplete: dict[str, Any], says: str
) -> None:
    stubbed = stub(organizations)
    with_tree(stubbed)
    first = {"Accounts": [listed(ACCOUNT)], "NextToken": "1"}
    stubbed.add_response("list_accounts", first, {})
    stubbed.add_response("list_accounts", incomplete, {"NextToken": "1"})

    with pytest.raises(IncompleteAnswerError, match=says):
        list_all(organizations)


@pytest.mark.parametrize("which", ["Roots", "OrganizationalUnits", "Accounts"])
def test_a_place_in_the_organization_is_not_guessed_from_an_answer_without_its_list(
    organizations: Any, stub: Stub, which: str
) -> None:
    stubbed = stub(organizations)
    answers = {
        "Roots": ("list_roots", {}),
        "OrganizationalUnits": (UNITS, {"ParentId": "r-ab12"}),
        "Accounts": ("list_accounts_for_parent", {"ParentId": "r-ab12"}),
    }
    good = {"Roots": [{"Id": "r-ab12"}], "OrganizationalUnits": []}
    for name in good:
        operation, request = answers[name]
        stubbed.add_response(operation, {} if name == which else {name: good[name]}, request)
        if name == which:
            break
    stubbed.add_response("list_accounts", {"Accounts": [{"Id": ACCOUNT}]}, {})
    if which == "Accounts":
        stubbed.add_response("list_accounts_for_parent", {}, {"ParentId": "r-ab12"})

    with pytest.raises(IncompleteAnswerError, match=which):
        list_all(organizations)


def test_names_of_128_characters_and_a_thousand_units_deep_are_listed(
    organizations: Any, stub: Stub
) -> None:
    stubbed = stub(organizations)
    units = [f"ou-ab12-{number:08}" for number in range(1000)]
    name = "ä" * 128
    account = listed(ACCOUNT, *units, Name=name)
    stubbed.add_response("list_roots", {"Roots": [{"Id": "r-ab12"}]}, {})
    for parent, unit in zip(["r-ab12", *units], [*units, ""], strict=True):
        below = [{"Id": unit, "Name": name}] if unit else []
        stubbed.add_response(UNITS, {"OrganizationalUnits": below}, {"ParentId": parent})
    stubbed.add_response("list_accounts", {"Accounts": [account]}, {})

    [found] = list_all(organizations)

    assert found.parents == ("r-ab12", *units)
    assert found.ou == "/".join([name, name, "…", *[name] * 7])


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
    with_tree(stubbed)
    stubbed.add_response("list_accounts", {"Accounts": [account]}, {})

    [found] = list_all(organizations)

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
