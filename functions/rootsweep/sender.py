"""Whether Amazon SES lets mails come from an address, and the command that has it do so."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rootsweep.pages import IncompleteAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sesv2 import SESV2Client


def verified_identity(ses: SESV2Client, address: str) -> str:
    """The identity that lets mails come from an address, or "".

    Raises ClientError, and IncompleteAnswerError where SES does not say whether one is verified.
    """
    for identity in _identities(address):
        try:
            answer = ses.get_email_identity(EmailIdentity=identity)
        except ses.exceptions.NotFoundException:
            continue
        if "VerifiedForSendingStatus" not in answer:
            raise IncompleteAnswerError(f"SES does not say whether {identity} is verified")
        if answer["VerifiedForSendingStatus"]:
            return identity
    return ""


def verify(address: str) -> str:
    """The command after which SES sends a mail with a link that verifies an address.

    Also to an address that waits for it already, which create-email-identity of sesv2 refuses
    (SES API v2 reference, CreateEmailIdentity, AlreadyExistsException).
    """
    return f"aws ses verify-email-identity --email-address {shlex.quote(address)}"


def _identities(address: str) -> Iterator[str]:
    """An address, its domain and the domains above that.

    "When you verify a domain identity, you can send email from any subdomain or email address of
    the verified domain" (SES Developer Guide, "Creating and verifying identities").
    """
    yield address
    labels = address.rpartition("@")[2].split(".")
    for first in range(len(labels) - 1):
        yield ".".join(labels[first:])
