"""The inbox: every mail that the stack sent, as the people who got it would see it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from jinja2 import DictLoader, Environment
from ministack.services import ses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

PATH = "/_rootsweep/inbox"
_STYLE = """
:root{color-scheme:light dark}
body{margin:0;font:16px/1.5 system-ui,sans-serif}
main{max-width:46rem;margin:0 auto;padding:1rem}
h1{font-size:1.3rem}
a{color:inherit}
ul{list-style:none;padding:0}
li{border-top:1px solid #8886;padding:.6rem 0}
li a{text-decoration:none;display:block}
.who{font-weight:600}
.when{opacity:.7;font-size:.85rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;margin:0 0 1rem}
dt{opacity:.7}dd{margin:0;overflow-wrap:anywhere}
h2{font-size:1.1rem}
iframe,pre{box-sizing:border-box;width:100%}
iframe{height:80vh;border:1px solid #8886;border-radius:.4rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere}
pre{border:1px solid #8886;border-radius:.4rem;padding:1rem}
"""
_environment = Environment(
    autoescape=True,
    loader=DictLoader(
        {
            "page": (
                "<!DOCTYPE html><html lang=en><meta charset=utf-8>"
                "<meta name=viewport content='width=device-width'><link rel=icon href='data:,'>"
                "<title>Inbox</title>"
                "<style>{{ style }}</style><main>{% block content %}{% endblock %}</main></html>"
            ),
            "list": (
                "{% extends 'page' %}{% block content %}<h1>Inbox ({{ mails|length }})</h1>"
                "{% if not mails %}<p>No mail yet. Reload in a moment.</p>{% endif %}<ul>"
                "{% for mail in mails|reverse %}<li><a href='?mail={{ mail.MessageId|urlencode }}'>"
                "<span class=who>{{ mail.To|join(', ') }}</span> "
                "<span class=when>{{ mail.Timestamp }}</span><br>{{ mail.Subject }}</a></li>"
                "{% endfor %}</ul>{% endblock %}"
            ),
            "mail": (
                "{% extends 'page' %}{% block content %}<p><a href='?'>Inbox</a></p>"
                "<h1>{{ mail.Subject }}</h1><dl><dt>From</dt><dd>{{ mail.Source }}</dd>"
                "<dt>To</dt><dd>{{ mail.To|join(', ') }}</dd><dt>At</dt><dd>{{ mail.Timestamp }}"
                "</dd></dl>"
                # No script runs in the frame, and links open beside the inbox, as in a mail reader.
                "<iframe sandbox='allow-popups allow-popups-to-escape-sandbox' title='The mail' "
                "srcdoc='{{ html }}'></iframe>"
                "<h2>As plain text</h2><pre>{{ mail.BodyText }}</pre>{% endblock %}"
            ),
        }
    ),
)


def sent() -> list[dict[str, Any]]:
    """Every mail that SES took, oldest first."""
    mails = [
        mail
        for key, value in ses._sent_emails.to_dict().items()
        if key[-1] == "entries"
        for mail in value
    ]
    return sorted(mails, key=lambda mail: float(mail["Timestamp"]))


def mails_to(addresses: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What these people got, or everybody, oldest first."""
    return [
        {
            "MessageId": mail["MessageId"],
            "Source": mail["Source"],
            "To": mail.get("To", []),
            "Timestamp": f"{datetime.fromtimestamp(mail['Timestamp'], UTC):%-d %B %H:%M:%S} UTC",
            "Subject": mail.get("RenderedSubject") or mail.get("Subject", ""),
            "BodyText": mail.get("RenderedBodyText") or mail.get("BodyText", ""),
            "BodyHtml": mail.get("RenderedBodyHtml") or mail.get("BodyHtml") or "",
        }
        for mail in sent()
        if not addresses or not set(addresses).isdisjoint(mail.get("To", []))
    ]


def page(mails: list[dict[str, Any]], wanted: str) -> str:
    """The mail with the wanted id, or the list."""
    for mail in mails:
        if mail["MessageId"] == wanted:
            html = "<base target=_blank>" + mail["BodyHtml"]
            return _environment.get_template("mail").render(style=_STYLE, mail=mail, html=html)
    return _environment.get_template("list").render(style=_STYLE, mails=mails)


def with_inbox(inner: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The ASGI application `inner` with the inbox in front of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != PATH:
            await inner(scope, receive, send)
            return
        query = parse_qs(scope["query_string"].decode())
        mails = mails_to(query.get("to", []))
        if (b"accept", b"application/json") in scope["headers"]:
            media_type, body = b"application/json", json.dumps(mails).encode()
        else:
            media_type = b"text/html; charset=utf-8"
            body = page(mails, query.get("mail", [""])[0]).encode()
        headers = [(b"content-type", media_type), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
