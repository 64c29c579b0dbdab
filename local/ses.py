"""What Amazon SES does and MiniStack does not: bounces, configuration sets, the account's limits.

Each function names the AWS page it follows (SES Developer Guide, unless it says otherwise).
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from email.utils import parseaddr
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ministack.core import responses
from ministack.services import eventbridge, ses, ses_v2

from local import pretend

if version("ministack") != pretend.MINISTACK:
    raise ImportError(f"local/ses.py fits ministack {pretend.MINISTACK}")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.pretend import Response

SEND = "/v2/email/outbound-emails"
SUPPRESSED = "/v2/email/suppression/addresses/"
ACCOUNT = "/v2/email/account"
IDENTITIES = "/v2/email/identities"
# Mails in 24 hours and in a second, in the sandbox and out of it ("Service quotas in Amazon SES").
SANDBOX = (200.0, 1.0)
PRODUCTION = (50000.0, 14.0)
# A bounce comes after SendEmail has answered; on AWS it takes seconds.
BOUNCE_SECONDS = 0.5

_original_request = ses_v2.handle_request
_original_verify = ses._verify_email_identity
_suppressed: responses.AccountRegionScopedDict = responses.AccountRegionScopedDict()
_limits: responses.AccountRegionScopedDict = responses.AccountRegionScopedDict()


def install() -> None:
    ses_v2.handle_request = handle_request
    ses._verify_email_identity = verify_email_identity


async def handle_request(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> Response:
    """SendEmail with a configuration set, the account's suppression list, and its limits.

    Source: SES API v2 reference, SendEmail (NotFoundException for an unknown set),
    PutSuppressedDestination, DeleteSuppressedDestination, PutAccountSendingAttributes, GetAccount,
    CreateEmailIdentity (AlreadyExistsException).
    """
    data = pretend.json_object(body)
    creates = method == "POST" and path.rstrip("/") == IDENTITIES
    if creates and data.get("EmailIdentity") in ses_v2._identities:
        message = {"message": f"Email identity {data['EmailIdentity']} already exists."}
        return _answer(message, 400, "AlreadyExistsException")
    if method == "PUT" and path == f"{ACCOUNT}/sending":
        _limits["sending"] = bool(data.get("SendingEnabled"))
        return _answer({})
    if method == "GET" and path == ACCOUNT:
        return _account(await _original_request(method, path, headers, body, query))
    if method == "PUT" and path == SUPPRESSED.rstrip("/"):
        _suppressed[str(data.get("EmailAddress")).lower()] = data.get("Reason")
        return _answer({})
    if method == "DELETE" and path.startswith(SUPPRESSED):
        if _suppressed.pop(unquote(path.removeprefix(SUPPRESSED)).lower(), None) is None:
            message = {"message": "Email address does not exist on the list."}
            return _answer(message, 404, "NotFoundException")
        return _answer({})
    name = str(data.get("ConfigurationSetName") or "")
    sends = method == "POST" and path.rstrip("/") == SEND
    if sends and name and name not in ses_v2._config_sets:
        missing: Response = ses_v2._missing_config_set(name)
        return missing
    answer: Response = await _original_request(method, path, headers, body, query)
    if sends and name and answer[0] == 200:
        _publish_bounces(name, data, json.loads(answer[2])["MessageId"])
    return answer


def verify_email_identity(params: dict[str, Any]) -> Response:
    """An identity of version 1 is one of version 2; the link in the mail is followed at once.

    Source: SES API v1 reference, VerifyEmailIdentity.
    """
    address = params["EmailAddress"]
    address = address[0] if isinstance(address, list) else address
    ses_v2._identities[address] = {
        "EmailIdentity": address,
        "IdentityType": "EMAIL_ADDRESS",
        "VerifiedForSendingStatus": True,
    }
    answer: Response = _original_verify(params)
    return answer


def quota() -> float:
    """How many mails the account may send in 24 hours, out of the sandbox."""
    return float(_limits.get("quota", PRODUCTION[0]))


def set_quota(mails: float) -> None:
    _limits["quota"] = mails


def _account(answer: Response) -> Response:
    """GetAccount with the quotas of the sandbox, while the account is in it."""
    account = json.loads(answer[2])
    most, rate = (quota(), PRODUCTION[1]) if account["ProductionAccessEnabled"] else SANDBOX
    account["SendQuota"] |= {"Max24HourSend": most, "MaxSendRate": rate}
    account["SendingEnabled"] = _limits.get("sending", True)
    return _answer(account)


def _answer(data: dict[str, Any], status: int = 200, error: str = "") -> Response:
    headers = {"Content-Type": "application/json"}
    if error:
        headers["x-amzn-errortype"] = error
    return status, headers, json.dumps(data).encode()


# -- bounces ------------------------------------------------------------------------------------


def _publish_bounces(name: str, data: dict[str, Any], message_id: str) -> None:
    """One "Email Bounced" event on the default bus for each recipient that bounces.

    Source: "Monitoring SES events using Amazon EventBridge" (source, detail-type), "Contents of
    event data that Amazon SES publishes" (the detail). ``mail`` comes without the headers.
    """
    configuration = ses_v2._config_sets[name]
    if not _wants_bounces(configuration):
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entries = [
        {
            "Source": "aws.ses",
            "DetailType": "Email Bounced",
            "Resources": [_arn("configuration-set", name)],
            "Detail": json.dumps(
                {
                    "eventType": "Bounce",
                    "bounce": _bounce(address, subtype, now),
                    "mail": _mail(name, data, message_id, now),
                }
            ),
        }
        for address, subtype in _bounces(configuration, _recipients(data))
    ]
    if entries:
        scope = responses.get_account_id(), responses.get_region()
        threading.Thread(target=_publish, args=(entries, *scope), daemon=True).start()


def _bounce(address: str, subtype: str, now: str) -> dict[str, Any]:
    """MiniStack's bounce object; one that SES suppressed carries no answer of a mail server."""
    kind = "General" if subtype == "General" else "Suppressed"
    bounce: dict[str, Any] = ses._notification_detail("Bounce", address, now, kind)["bounce"]
    return {**bounce, "bounceSubType": subtype}


def _wants_bounces(configuration: dict[str, Any]) -> bool:
    destinations = (configuration.get("EventDestinations") or {}).values()
    return any(
        "BOUNCE" in each["MatchingEventTypes"] and "EventBridgeDestination" in each
        for each in destinations
        if each["Enabled"]
    )


def _bounces(configuration: dict[str, Any], recipients: list[str]) -> Iterator[tuple[str, str]]:
    """The recipients that bounce, and the bounceSubType.

    Source: "Using the mailbox simulator" (bounce@, also with a label) and "Using the
    account-level suppression list": SES takes the mail, does not send it, and the event says
    OnAccountSuppressionList; SuppressionOptions of the configuration set override the reasons.
    """
    options = configuration.get("SuppressionOptions") or {}
    reasons = options.get("SuppressedReasons", ["BOUNCE", "COMPLAINT"])
    for address in recipients:
        local, _, domain = address.lower().partition("@")
        if domain == ses._SIMULATOR_DOMAIN:
            outcomes = dict(ses._SIMULATOR_OUTCOMES.get(local.partition("+")[0], ()))
            if "Bounce" in outcomes:
                yield address, outcomes["Bounce"]
        elif _suppressed.get(address.lower()) in reasons:
            yield address, "OnAccountSuppressionList"


def _recipients(data: dict[str, Any]) -> list[str]:
    destination = data.get("Destination") or {}
    return [
        parseaddr(address)[1]
        for kind in ("ToAddresses", "CcAddresses", "BccAddresses")
        for address in destination.get(kind) or []
    ]


def _mail(name: str, data: dict[str, Any], message_id: str, now: str) -> dict[str, Any]:
    sender = str(data.get("FromEmailAddress") or "")
    address = parseaddr(sender)[1]
    tags = {each["Name"]: [each["Value"]] for each in data.get("EmailTags") or []}
    return {
        "timestamp": now,
        "source": sender,
        "sourceArn": _arn("identity", address),
        "sendingAccountId": responses.get_account_id(),
        "messageId": message_id,
        "destination": _recipients(data),
        "headersTruncated": False,
        "tags": {
            **tags,
            "ses:configuration-set": [name],
            "ses:from-domain": [address.partition("@")[2]],
        },
    }


def _publish(entries: list[dict[str, Any]], account: str, region: str) -> None:
    time.sleep(BOUNCE_SECONDS)
    with responses.request_scope(account, region):
        for entry in entries:
            eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:ses:{responses.get_region()}:{responses.get_account_id()}:{kind}/{name}"
