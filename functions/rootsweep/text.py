"""Text from outside: account names, addresses, reasons. Hostile until it is plain."""

from __future__ import annotations

import unicodedata


def plain(text: object, limit: int = 200) -> str:
    """Text from outside as one line without control, direction or zero-width characters."""
    kept = (
        " " if unicodedata.category(character) in ("Zl", "Zp") or character.isspace() else character
        for character in str(text)
        if unicodedata.category(character) not in ("Cf", "Cs", "Co", "Cn")
        and (unicodedata.category(character) != "Cc" or character.isspace())
    )
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
