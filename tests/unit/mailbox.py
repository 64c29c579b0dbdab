"""An SES client that keeps what is sent."""

from __future__ import annotations

from typing import Any


class Mailbox:
    """What was sent, in order."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.fails_with: Exception | None = None

    def send_email(self, **request: Any) -> dict[str, str]:
        if self.fails_with:
            raise self.fails_with
        self.sent.append(request)
        return {"MessageId": str(len(self.sent))}

    def text(self, number: int) -> str:
        """The plain text of a mail."""
        return str(self.sent[number]["Content"]["Simple"]["Body"]["Text"]["Data"])
