"""Service Quotas on the embedded AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from .conftest import Aws


def test_a_quota_is_raised_and_never_lowered(aws: Aws) -> None:
    """Service Quotas API reference, RequestServiceQuotaIncrease: IllegalArgumentException."""
    quotas = aws.client("service-quotas")

    def ask(service: str, code: str, value: float) -> str:
        answer = quotas.request_service_quota_increase(
            ServiceCode=service, QuotaCode=code, DesiredValue=value
        )
        return str(answer["RequestedQuota"]["Status"])

    assert ask("lambda", "L-B99A9384", 2000) == "APPROVED"
    limit = aws.client("lambda").get_account_settings()["AccountLimit"]
    assert limit["ConcurrentExecutions"] == 2000
    assert ask("ses", "L-804C8AE8", 60000) == "APPROVED"
    assert aws.client("sesv2").get_account()["SendQuota"]["Max24HourSend"] == 60000
    for code, value in (("L-804C8AE8", 60000), ("L-804C8AE8", 1)):
        with pytest.raises(ClientError, match="IllegalArgumentException"):
            ask("ses", code, value)
    with pytest.raises(ClientError, match="NoSuchResourceException"):
        ask("ses", "L-00000000", 1)
