from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep.text import plain

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
