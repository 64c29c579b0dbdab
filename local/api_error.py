"""The errors that the pretended services answer with."""

from __future__ import annotations


class ApiError(Exception):
    """An AWS error to answer with, in whatever form the service writes its errors.

    ``reason`` is the Reason of Organizations' ConstraintViolation- and InvalidInputException.
    """

    def __init__(
        self, code: str, message: str, status: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.reason = reason
