"""Text from outside: account names, addresses, reasons. Hostile until it is plain."""

from __future__ import annotations

import re
import unicodedata

EMAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# Dots as IDNA knows them, before the letters of any script.
_HOST = re.compile(r"(?<=\w)([.\u3002\uff0e\uff61])(?=[^\W\d_])")
# Characters that are letters or marks by their category and nothing to the eye.
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
_INVISIBLE |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


def plain(text: object, limit: int = 200) -> str:
    """Text from outside as one line without control, direction or zero-width characters."""
    kept = given = str(text)
    if not (given.isascii() and given.isprintable()):  # Most of it is, and a report has a lot.
        kept = "".join(
            " " if unicodedata.category(each) in ("Zl", "Zp") or each.isspace() else each
            for each in given
            if ord(each) not in _INVISIBLE
            and unicodedata.category(each) not in ("Cf", "Cs", "Co", "Cn")
            and (unicodedata.category(each) != "Cc" or each.isspace())
        )
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def unlinked(text: str) -> str:
    """Plain text of which no mail program makes a link: https: //evil. example. com."""
    return _HOST.sub(r"\1 ", text.replace("://", ": //"))


def quoted(text: object, limit: int = 200) -> str:
    """A name from outside, in quotation marks: what is in them does not read as our own words."""
    return '"' + unlinked(plain(text, limit)).replace('"', "'") + '"'


def person(address: str) -> str:
    """What tells people apart: `A.Smith+aws@Example.com` is the same person as without the tag."""
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"
