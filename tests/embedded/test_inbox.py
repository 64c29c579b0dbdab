"""The inbox of the embedded AWS: for people as pages, for programs as JSON."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.embedded.conftest import Aws


def inbox(aws: Aws, query: str, media_type: str) -> str:
    request = urllib.request.Request(
        f"{aws.endpoint}/_rootsweep/inbox{query}", headers={"accept": media_type}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_it_shows_everybodys_mails_or_those_of_one(aws: Aws) -> None:
    ses = aws.client("sesv2")
    ses.create_email_identity(EmailIdentity="inbox@example.com")
    for name in ("one", "other"):
        ses.send_email(
            FromEmailAddress="inbox@example.com",
            Destination={"ToAddresses": [f"{name}@inbox.example.com"]},
            Content={
                "Simple": {
                    "Subject": {"Data": f"for {name}"},
                    "Body": {"Text": {"Data": f"<b>hello</b> {name}"}},
                }
            },
        )

    theirs = "?to=one%40inbox.example.com"
    [mail] = json.loads(inbox(aws, theirs, "application/json"))
    assert (mail["Subject"], mail["BodyText"]) == ("for one", "<b>hello</b> one")
    page = inbox(aws, "", "text/html")
    assert "for one" in page
    assert "for other" in page
    assert "for other" not in inbox(aws, theirs, "text/html")
    opened = inbox(aws, f"?mail={mail['MessageId']}", "text/html")
    assert "&lt;b&gt;hello&lt;/b&gt; one" in opened
