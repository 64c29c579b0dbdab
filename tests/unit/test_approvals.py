from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import approvals
from rootsweep.approvals import Choice, FormError, Quorum, QuorumPolicy
from rootsweep.cases import Answer, Decision

from .builders import ACCOUNT, APPROVER, DEPUTY, NOW, SECOND, a_case, a_key

SECRET = "a-secret"
DAYS = 90
UNIT = "ou-ab12-payments"


def choice(form: dict[str, str]) -> Choice:
    """The choice that the form makes on the page of a single case."""
    return approvals.choice_from(form, account_id=ACCOUNT, exception_days=DAYS, now=NOW)


def choice_about(selected: int, form: dict[str, str]) -> Choice:
    """The choice that the form makes on the page with a list of cases."""
    return approvals.choice_from(form, selected=selected, exception_days=DAYS, now=NOW)


def refusal(form: dict[str, str], selected: int | None = None) -> FormError:
    with pytest.raises(FormError) as error:
        choice(form) if selected is None else choice_about(selected, form)
    assert error.value.message
    assert str(error.value) == error.value.message
    return error.value


def declining(**fields: str) -> dict[str, str]:
    return {"decision": "decline", "reason": "migrating", "until": "2026-04-01", **fields}


def test_a_link_is_256_random_bits_that_fit_into_a_path() -> None:
    secrets = {approvals.new_link_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(len(secret) == 43 for secret in secrets)
    assert all(secret.replace("-", "").replace("_", "").isalnum() for secret in secrets)


def test_a_page_token_is_good_for_its_link_case_and_evidence() -> None:
    case = a_case()

    assert approvals.is_page_token(approvals.page_token(SECRET, case), SECRET, case)


@pytest.mark.parametrize(
    "other",
    [
        a_case(id="333333333333-20260101T000000Z"),
        a_case(keys=[a_key(), a_key("AKIAEXAMPLE00000002")]),
        a_case(keys=[a_key(status="Inactive")]),
        a_case(keys=[]),
        a_case(request_number=2),
    ],
    ids=["another case", "another key", "another status", "no key", "another request"],
)
def test_a_page_token_of_other_evidence_or_another_case_is_worth_nothing(other: Any) -> None:
    assert not approvals.is_page_token(approvals.page_token(SECRET, other), SECRET, a_case())


def test_a_page_token_of_another_version_of_the_page_is_worth_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = approvals.page_token(SECRET, a_case())
    monkeypatch.setattr(approvals, "PAGE_VERSION", approvals.PAGE_VERSION + 1)

    assert not approvals.is_page_token(before, SECRET, a_case())


def test_a_page_token_of_another_link_is_worth_nothing() -> None:
    assert not approvals.is_page_token(approvals.page_token("other", a_case()), SECRET, a_case())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_nobody_guesses_a_page_token(guess: str) -> None:
    assert not approvals.is_page_token(guess, SECRET, a_case())


def test_a_page_token_does_not_show_the_link() -> None:
    assert SECRET not in approvals.page_token(SECRET, a_case())


def test_a_page_token_stays_good_while_others_approve() -> None:
    case = a_case(quorum=2)
    later = a_case(quorum=2, approvals=(Decision(Answer.APPROVED, DEPUTY, "t", case.fingerprint),))

    assert approvals.is_page_token(approvals.page_token(SECRET, case), SECRET, later)


@pytest.mark.parametrize("typed", [ACCOUNT, f" {ACCOUNT} ", "3333-3333-3333"])
def test_whoever_types_the_account_id_approves(typed: str) -> None:
    assert choice({"decision": "approve", "account_id": typed}) == Choice(Answer.APPROVED)


def test_a_choice_becomes_the_decision_of_one_person_about_exactly_this_evidence() -> None:
    case = a_case([a_key(), a_key(SECOND)])

    assert Choice(Answer.DECLINED, "migrating", "2026-04-01", "JIRA-1").about(
        case, by=APPROVER, now=NOW
    ) == Decision(
        Answer.DECLINED,
        APPROVER,
        "2026-03-04T05:06:07Z",
        case.fingerprint,
        "migrating",
        "2026-04-01",
        "JIRA-1",
    )


@pytest.mark.parametrize("typed", ["2", " 2 "])
def test_whoever_types_how_many_are_selected_approves_them(typed: str) -> None:
    form = {"decision": "approve", "count": typed, "reason": " ", "until": ""}

    assert choice_about(2, form) == Choice(Answer.APPROVED)


@pytest.mark.parametrize("field", ["reason", "until", "ticket"])
def test_whoever_filled_in_why_keys_of_a_list_stay_does_not_delete_them(field: str) -> None:
    filled = {"decision": "approve", "count": "2", field: "2026-05-01"}

    assert refusal(filled, selected=2).field == field


@pytest.mark.parametrize("typed", ["", "1", "3", "22", "2.0", "+2", "two", ACCOUNT, "٢", "²"])
def test_without_the_right_number_nothing_is_approved(typed: str) -> None:
    error = refusal({"decision": "approve", "count": typed, "account_id": ACCOUNT}, selected=2)

    assert error.field == "count"
    assert "You selected 2." in error.message


def test_a_missing_number_approves_nothing() -> None:
    assert refusal({"decision": "approve", "account_id": ACCOUNT}, selected=1).field == "count"


@pytest.mark.parametrize("form", [{"decision": "approve", "count": "0"}, {"decision": "decline"}])
def test_about_no_case_at_all_nothing_is_decided(form: dict[str, str]) -> None:
    reasoned = {"reason": "migrating", "until": "2026-04-01", **form}

    assert refusal(reasoned, selected=0).field == "case"


def test_the_number_of_cases_does_not_stand_in_for_the_account_id_of_a_single_one() -> None:
    form = {"decision": "approve", "count": "1"}

    with pytest.raises(FormError) as error:
        approvals.choice_from(form, account_id=ACCOUNT, selected=1, exception_days=DAYS, now=NOW)

    assert error.value.field == "account_id"


def test_declining_several_needs_a_reason_and_an_end_and_no_number() -> None:
    assert choice_about(3, declining()) == Choice(Answer.DECLINED, "migrating", "2026-04-01")
    assert refusal(declining(reason=" "), selected=3).field == "reason"
    assert refusal(declining(until="2026-03-04"), selected=3).field == "until"


@pytest.mark.parametrize("typed", ["", "333333333334", "33333333333", "333333333333x", "٣" * 12])
def test_without_the_account_id_nothing_is_approved(typed: str) -> None:
    assert refusal({"decision": "approve", "account_id": typed}).field == "account_id"


def test_a_missing_account_id_approves_nothing() -> None:
    assert refusal({"decision": "approve"}).field == "account_id"


@given(st.text().filter(lambda text: text not in ("approve", "decline")))
def test_what_is_neither_approve_nor_decline_decides_nothing(answer: str) -> None:
    form = declining(decision=answer, account_id=ACCOUNT)

    assert refusal(form).field == "decision"


def test_a_form_without_an_answer_decides_nothing() -> None:
    assert refusal({"account_id": ACCOUNT, "reason": "r", "until": "2026-04-01"}).field == (
        "decision"
    )


def test_declining_needs_a_reason_and_an_end() -> None:
    declined = choice(declining(reason=" migrating\r\n in  May "))

    assert declined == Choice(Answer.DECLINED, "migrating in May", "2026-04-01")


@pytest.mark.parametrize("reason", ["", "  \n\t "])
def test_declining_without_a_reason_is_refused(reason: str) -> None:
    assert refusal(declining(reason=reason)).field == "reason"


def test_a_form_without_a_reason_or_an_end_is_refused() -> None:
    assert refusal({"decision": "decline", "until": "2026-04-01"}).field == "reason"
    assert refusal({"decision": "decline", "reason": "r"}).field == "until"


def test_a_reason_may_be_long_but_not_longer() -> None:
    assert len(choice(declining(reason="x" * 1000)).reason) == 1000
    assert refusal(declining(reason="x" * 1001)).field == "reason"
    too_long = {"decision": "approve", "account_id": ACCOUNT, "reason": "x" * 1001}
    assert refusal(too_long).field == "reason"


@pytest.mark.parametrize("until", ["", "soon", "2026-13-01", "2026-02-30", "01.04.2026", "0"])
def test_an_end_that_is_no_date_is_refused(until: str) -> None:
    assert refusal(declining(until=until)).field == "until"


@given(st.integers(min_value=-4000, max_value=4000))
def test_an_exception_ends_after_today_and_within_ninety_days(days: int) -> None:
    until = (NOW.date() + timedelta(days=days)).isoformat()

    if 0 < days <= 90:
        assert choice(declining(until=f" {until} ")).until == until
    else:
        assert refusal(declining(until=until)).field == "until"


@pytest.mark.parametrize("days", [1, 30, 365])
def test_an_exception_is_as_long_as_the_stack_allows_and_no_longer(days: int) -> None:
    def until(after: int) -> str:
        form = declining(until=(NOW.date() + timedelta(days=after)).isoformat())
        return approvals.choice_from(form, account_id=ACCOUNT, exception_days=days, now=NOW).until

    assert date.fromisoformat(until(days)) == NOW.date() + timedelta(days=days)
    with pytest.raises(FormError, match=f"within the next {days} days") as error:
        until(days + 1)
    assert error.value.field == "until"


@pytest.mark.parametrize("selected", [None, 2])
def test_declining_may_name_a_ticket(selected: int | None) -> None:
    def ticket(**fields: str) -> str:
        form = declining(**fields)
        return (choice(form) if selected is None else choice_about(selected, form)).ticket

    assert ticket() == ticket(ticket="") == ticket(ticket=" \n ") == ""
    assert ticket(ticket=" JIRA-1\r\n(see wiki) ") == "JIRA-1 (see wiki)"
    assert ticket(ticket="x" * 100) == "x" * 100
    assert refusal(declining(ticket="x" * 101), selected).field == "ticket"


def test_an_approval_has_no_ticket() -> None:
    form = {"decision": "approve", "account_id": ACCOUNT, "ticket": "JIRA-1"}

    assert choice(form) == Choice(Answer.APPROVED)


def quorum(
    *keys: Any, days: int = DAYS, units: str = "", parents: tuple[str, ...] = ("r-ab12", UNIT)
) -> Quorum:
    policy = QuorumPolicy.parse(used_within_days=str(days), organizational_units=units)
    return policy.quorum(keys, parents=parents, now=NOW)


def used(ago: timedelta, **fields: Any) -> Any:
    return a_key(last_used_at=(NOW - ago).isoformat(), **fields)


@pytest.mark.parametrize(
    ("ago", "people"),
    [
        (timedelta(0), 2),
        (timedelta(days=-1), 2),
        (timedelta(days=DAYS, seconds=-1), 2),
        (timedelta(days=DAYS), 2),
        (timedelta(days=DAYS, seconds=1), 1),
        (timedelta(days=3650), 1),
    ],
)
def test_a_key_that_was_used_lately_needs_two_people_to_the_second(
    ago: timedelta, people: int
) -> None:
    needed = quorum(used(ago))

    assert needed.people == people
    assert needed.reason == ("a key was used in the last 90 days" if people == 2 else "")


def test_one_used_key_of_two_is_enough_whatever_its_status_and_place() -> None:
    fresh, stale = used(timedelta(days=1), status="Inactive"), used(timedelta(days=400), id=SECOND)

    assert quorum(fresh, stale).people == quorum(stale, fresh).people == 2
    assert quorum(stale, a_key()).people == 1


def test_the_time_of_a_use_is_compared_as_a_time_and_not_as_text() -> None:
    # 24 hours ago, as the clocks of Honolulu had it: on another date, and smaller as text.
    key = a_key(last_used_at="2026-03-02T19:06:07-10:00")

    assert quorum(key, days=1).people == 2
    assert quorum(a_key(last_used_at="2026-03-02T19:06:06-10:00"), days=1).people == 1


def test_keys_that_were_never_used_and_no_keys_need_one_person() -> None:
    assert quorum(a_key()) == quorum() == Quorum(1, "")


def test_with_zero_days_one_person_is_enough_for_a_key_used_this_second() -> None:
    assert quorum(used(timedelta(0)), used(timedelta(days=-1)), days=0) == Quorum(1, "")


@pytest.mark.parametrize(
    "units", [UNIT, f" {UNIT} ", f"ou-ab12-others00,{UNIT}", f",{UNIT},", "r-ab12"]
)
@pytest.mark.parametrize("days", [0, DAYS])
def test_accounts_in_or_below_a_listed_unit_always_need_two_people(units: str, days: int) -> None:
    assert quorum(
        a_key(), days=days, units=units, parents=("r-ab12", UNIT, "ou-ab12-below000")
    ) == (Quorum(2, "accounts in this organizational unit need two approvers"))


@pytest.mark.parametrize("parents", [("r-ab12",), ("r-ab12", "ou-ab12-payment"), ("",)])
@pytest.mark.parametrize("units", ["", ",", f"{UNIT}, {UNIT}"])
def test_accounts_elsewhere_need_one_person(parents: tuple[str, ...], units: str) -> None:
    assert quorum(a_key(), units=units, parents=parents) == Quorum(1, "")


def test_an_account_that_may_be_anywhere_needs_two_people_if_any_unit_does() -> None:
    assert quorum(a_key(), units=UNIT, parents=()).people == 2
    assert quorum(a_key(), parents=()) == Quorum(1, "")


@pytest.mark.parametrize("days", ["", "soon", "1.5"])
def test_a_policy_that_cannot_be_read_is_none(days: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        QuorumPolicy.parse(used_within_days=days, organizational_units="")


def test_page_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return False

    case = a_case()
    right = approvals.page_token(SECRET, case)
    monkeypatch.setattr(approvals.hmac, "compare_digest", compare_digest)

    assert not approvals.is_page_token(right, SECRET, case)
    assert compared == [(right.encode(), right.encode())]
