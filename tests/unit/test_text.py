from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep.text import person, plain, quoted, unlinked

NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text())
def test_plain_is_one_line_without_anything_that_hides_or_turns(text: str) -> None:
    kept = plain(text)

    assert not NEVER & {unicodedata.category(character) for character in kept}
    assert kept == kept.strip()
    assert len(kept.splitlines()) <= 1
    assert len(kept) <= 200
    assert plain(kept) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("payments-prod", "payments-prod"),
        ("  pay\r\n\tments\u2028x\u2029y\x85z ", "pay ments x y z"),
        ("a\u202eb\u2066c\u200bd\u200de\ufefff\u00adg", "abcdefg"),
        ("\x00\x1b[31m\x7f", "[31m"),
        ("Zahlungen für 日本 🙂", "Zahlungen für 日本 🙂"),
        ("\ud800x\ue000y\uffff", "xy"),
        (None, "None"),
        (5, "5"),
        ("", ""),
    ],
)
def test_plain_keeps_what_people_read(text: object, kept: str) -> None:
    assert plain(text) == kept


def test_plain_cuts_what_is_too_long_and_shows_that() -> None:
    assert plain("x" * 10, 10) == "x" * 10
    assert plain("x" * 11, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example.com",
        "evil.com/x",
        "пример.рф",
        "evil\u3002com",
        "evil\uff0ecom",
        "a@b.рф",
    ],
)
def test_no_mail_program_makes_a_link_of_a_name(text: str) -> None:
    shown = unlinked(text)

    assert "://" not in shown
    assert not re.search(r"\w[.\u3002\uff0e\uff61]\w", shown)


def test_numbers_and_sentences_stay_as_they_are() -> None:
    assert unlinked("payments 2.0, 10 % of it. Really") == "payments 2.0, 10 % of it. Really"


def test_quotation_marks_cannot_be_closed_from_inside() -> None:
    assert quoted('a" b\nc') == '"a\' b c"'


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
    assert person(address) == "a.smith@example.com"


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
    assert person(address) != "a.smith@example.com"
