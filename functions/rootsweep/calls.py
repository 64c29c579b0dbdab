"""How calls to AWS are made: how long each waits for an answer, and how often it is tried."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

# Without limits of its own the SDK waits minutes for an answer that does not come. These are over
# before the time of a function is, so that its error says which call it was.
# The user agent is what CloudTrail shows of a call, in every account. Without one the SDK describes
# itself and the machine, anew for each call.
CALLS = Config(
    user_agent=f"rootsweep (boto3/{boto3.__version__})",
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=64,
)
# For functions that have a quarter of an hour, whose calls AWS throttles by the organization.
PATIENT_CALLS = CALLS.merge(Config(retries={"mode": "standard", "total_max_attempts": 10}))


def session() -> botocore.session.Session:
    """A session of the SDK in which an error of the connection names the operation.

    As errors of AWS do; of a connection that breaks, the SDK tells only the address.
    """
    made = botocore.session.get_session()
    made.register("needs-retry", _name_operation)
    for service in ("iam", "sts"):
        made.register(f"before-call.{service}", _encode_form)
    return made


def _encode_form(**event: Any) -> None:
    """Once, before the SDK does it four times for each call."""
    request = event["params"]
    if isinstance(request["body"], dict):
        request["body"] = urlencode(request["body"])


def _name_operation(**event: Any) -> None:
    error = event["caught_exception"]
    if isinstance(error, BotoCoreError):
        error.args = (f"{event['operation'].name}: {error}",)


# For `boto3.client` and `boto3.resource` in all handler files.
boto3.setup_default_session(botocore_session=session())
