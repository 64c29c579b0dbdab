"""An SES client that keeps what is sent."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Mailbox:
    """What was sent, in order."""

    meta = SimpleNamespace(region_name="eu-west-1")

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.fails_with: Exception | None = None
        self.before_sending: Callable[[], object] = lambda: None

    def send_email(self, **request: Any) -> dict[str, str]:
        self.before_sending()
        if self.fails_with:
            raise self.fails_with
        self.sent.append(request)
        return {"MessageId": str(len(self.sent))}

    @property
    def recipients(self) -> list[str]:
        """Whom each mail went to."""
        return [address for mail in self.sent for address in mail["Destination"]["ToAddresses"]]

    def text(self, number: int) -> str:
        """The plain text of a mail."""
        return str(self.sent[number]["Content"]["Simple"]["Body"]["Text"]["Data"])

    def html(self, number: int) -> str:
        """The HTML of a mail."""
        return str(self.sent[number]["Content"]["Simple"]["Body"]["Html"]["Data"])

    def subject(self, number: int) -> str:
        """The subject of a mail."""
        return str(self.sent[number]["Content"]["Simple"]["Subject"]["Data"])

    def headers(self, number: int) -> dict[str, str]:
        """The header lines of a mail that are not SES's own."""
        headers = self.sent[number]["Content"]["Simple"]["Headers"]
        return {header["Name"]: header["Value"] for header in headers}

    def link(self, number: int) -> str:
        """The secret of the one link in a mail."""
        links = set(re.findall(r"https://approvals\.example\.com/(\S+)", self.text(number)))
        assert len(links) == 1
        return str(links.pop())
