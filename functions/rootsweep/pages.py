"""Lists that AWS sends in pages, of which none may be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class IncompleteAnswerError(Exception):
    """When an answer of AWS lacks what it always has, so that nobody knows what is missing."""


def listed(pages: Iterable[Mapping[str, Any]], name: str) -> Iterator[Any]:
    """What the list called `name` holds on all pages.

    To the SDK an answer that came empty looks like the last page. AWS sends an empty list where
    there is nothing, and a page that is not the last has a token; raises IncompleteAnswerError for
    a page with neither.
    """
    for page in pages:
        if name not in page and "NextToken" not in page:
            raise IncompleteAnswerError(
                f"AWS sent a page without {name}; others may be missing too"
            )
        yield from page.get(name, ())
