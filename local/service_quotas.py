"""Service Quotas, which MiniStack lacks: a request for a higher quota, granted at once.

Source: Service Quotas API reference, RequestServiceQuotaIncrease. AWS takes hours or days, and some
requests are refused.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import router
from ministack.services import lambda_svc

from local import pretend, ses

if TYPE_CHECKING:
    from local.pretend import Response

LAMBDA_CONCURRENCY = ("lambda", "L-B99A9384")
SES_SENDING = ("ses", "L-804C8AE8")


def install() -> None:
    router.SERVICE_PATTERNS["servicequotas"] = {"target_prefixes": ["ServiceQuotasV20190624"]}
    app.SERVICE_HANDLERS["servicequotas"] = handle_request


async def handle_request(
    _method: str, _path: str, headers: dict[str, str], body: bytes, _query: dict[str, Any]
) -> Response:
    if not headers.get("x-amz-target", "").endswith(".RequestServiceQuotaIncrease"):
        return _answer({"__type": "NoSuchResourceException", "Message": "not pretended"}, 400)
    data = pretend.json_object(body)
    quota, wanted = (data.get("ServiceCode"), data.get("QuotaCode")), float(data["DesiredValue"])
    if quota not in (LAMBDA_CONCURRENCY, SES_SENDING):
        return _answer({"__type": "NoSuchResourceException", "Message": "There is no quota."}, 400)
    if wanted <= _value(quota):
        message = "You must provide a quota value greater than the current quota value."
        return _answer({"__type": "IllegalArgumentException", "Message": message}, 400)
    if quota == LAMBDA_CONCURRENCY:
        lambda_svc._ACCOUNT_CONCURRENCY_CAP = int(wanted)
    else:
        ses.set_quota(wanted)
    request = {"ServiceCode": quota[0], "QuotaCode": quota[1], "DesiredValue": wanted}
    return _answer(
        {"RequestedQuota": {"Id": secrets.token_hex(16), "Status": "APPROVED", **request}}
    )


def _value(quota: tuple[str, str]) -> float:
    if quota == LAMBDA_CONCURRENCY:
        return float(lambda_svc._ACCOUNT_CONCURRENCY_CAP)
    return ses.quota()


def _answer(data: dict[str, Any], status: int = 200) -> Response:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(data).encode()
