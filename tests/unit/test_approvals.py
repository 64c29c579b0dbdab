from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import approvals
from rootsweep.approvals import FormError
from rootsweep.cases import Answer, Decision

from .builders import ACCOUNT, NOW, a_case, a_key, a_link

SECRET = "a-secret"


def decision(form: dict[str, str], **case: Any) -> Decision:
    asked = a_case(**case)
    return approvals.decision_from(form, case=asked, link=a_link(asked), now=NOW)


def refusal(form: dict[str, str]) -> FormError:
    with pytest.raises(FormError) as error:
        decision(form)
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
    ],
    ids=["another case", "another key", "another status", "no key"],
)
def test_a_page_token_of_other_evidence_or_another_case_is_worth_nothing(other: Any) -> None:
    assert not approvals.is_page_token(approvals.page_token(SECRET, other), SECRET, a_case())


def test_a_page_token_of_another_link_is_worth_nothing() -> None:
    assert not approvals.is_page_token(approvals.page_token("other", a_case()), SECRET, a_case())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_nobody_guesses_a_page_token(guess: str) -> None:
    assert not approvals.is_page_token(guess, SECRET, a_case())


def test_a_page_token_does_not_show_the_link() -> None:
    assert SECRET not in approvals.page_token(SECRET, a_case())


@pytest.mark.parametrize("typed", [ACCOUNT, f" {ACCOUNT} ", "3333-3333-3333"])
def test_an_approval_is_by_the_links_owner_and_bound_to_the_evidence(typed: str) -> None:
    assert decision({"decision": "approve", "account_id": typed}) == Decision(
        Answer.APPROVED,
        "payments-leads@example.com",
        "2026-03-04T05:06:07Z",
        a_case().fingerprint,
    )


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
    declined = decision(declining(reason=" migrating\r\n in  May "))

    assert (declined.answer, declined.until) == (Answer.DECLINED, "2026-04-01")
    assert declined.reason == "migrating in May"
    assert declined.fingerprint == a_case().fingerprint


@pytest.mark.parametrize("reason", ["", "  \n\t "])
def test_declining_without_a_reason_is_refused(reason: str) -> None:
    assert refusal(declining(reason=reason)).field == "reason"


def test_a_form_without_a_reason_or_an_end_is_refused() -> None:
    assert refusal({"decision": "decline", "until": "2026-04-01"}).field == "reason"
    assert refusal({"decision": "decline", "reason": "r"}).field == "until"


def test_a_reason_may_be_long_but_not_longer() -> None:
    assert len(decision(declining(reason="x" * 1000)).reason) == 1000
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
        assert decision(declining(until=f" {until} ")).until == until
    else:
        assert refusal(declining(until=until)).field == "until"


def test_the_last_day_that_the_page_offers_is_one_that_the_form_takes() -> None:
    last = approvals.last_day_of_exception(NOW.date())

    assert last == date(2026, 6, 2)
    assert decision(declining(until=last.isoformat())).until == "2026-06-02"
