"""AWS on a laptop: ``python -m local.embedded_aws --port 4566 --organization FILE``.

MiniStack in this process, with the pretend organization and the missing SES, Step Functions and
API Gateway behaviour installed. It serves on the loopback interface until SIGTERM or SIGINT and
ends the Lambda workers it started. An unusable file or port is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from local.organization import Organization, OrganizationFileError, load

MEMBER_ROLE = Path(__file__).resolve().parent.parent / "member-role.yaml"
HOST = "127.0.0.1"


def main() -> NoReturn:
    arguments = _arguments()
    try:
        organization = load(arguments.organization)
        parameters = dict(_pair(text) for text in arguments.parameter)
        _require_free(arguments.port)
    except (OrganizationFileError, ValueError, OSError) as error:
        print(f"embedded AWS: {error}", file=sys.stderr)
        sys.exit(2)
    _set_environment(arguments.port, organization)
    _serve(arguments.port, organization, parameters)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.embedded_aws")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--organization", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of member-role.yaml, for instance AuditRoleName=audit",
    )
    return parser.parse_args()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--parameter {text}: write KEY=VALUE")
    return name, value


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"port {port} cannot be used: {reason}; take another one") from None


def _set_environment(port: int, organization: Organization) -> None:
    """MiniStack reads its settings when it is imported.

    Real credentials stay out of this process and of the Lambda workers it starts.
    """
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "PERSIST_STATE"):
        os.environ.pop(name, None)
    os.environ.update(
        AUTH="true",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        BIND_HOST=HOST,
        GATEWAY_PORT=str(port),
        IOT_MTLS_ENABLED="0",
        LAMBDA_EXECUTOR="local",
        LOG_LEVEL=os.environ.get("LOG_LEVEL", "WARNING"),
        MINISTACK_ACCOUNT_ID=organization.security_account,
        MINISTACK_HOST="localhost",
        SFN_WAIT_SCALE=os.environ.get("SFN_WAIT_SCALE", "0.1"),
        SFTP_ENABLED="0",
    )


def _serve(port: int, organization: Organization, parameters: dict[str, str]) -> NoReturn:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app
    from ministack.core import lambda_runtime

    from local import (
        api_gateway,
        cloud_formation,
        cloud_watch_logs,
        condition_keys,
        dynamodb_streams,
        event_bridge,
        faults,
        inbox,
        lambda_functions,
        pretend,
        s3,
        security_hub,
        service_quotas,
        ses,
        sqs,
        stack_sets,
        step_functions,
    )

    pretended = pretend.install(organization, MEMBER_ROLE, parameters)
    cloud_formation.install(pretended)
    stack_sets.install(pretended)
    security_hub.install(pretended)
    cloud_watch_logs.install()
    condition_keys.install()
    dynamodb_streams.install()
    event_bridge.install()
    lambda_functions.install()
    s3.install()
    service_quotas.install()
    ses.install()
    sqs.install()
    step_functions.install()
    api_gateway.install()
    faults.install()
    served = _as_if_encrypted(faults.with_faults(inbox.with_inbox(app.app)))
    config = Config()
    config.bind = [f"{HOST}:{port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = os.environ["LOG_LEVEL"]
    code = 0
    try:
        asyncio.run(serve(served, config))
    except OSError as error:
        print(f"embedded AWS: {error}", file=sys.stderr)
        code = 2
    lambda_runtime.reset()
    # Waiting executions hold threads that would keep the process for days.
    sys.stderr.flush()
    os._exit(code)


def _as_if_encrypted(inner: Any) -> Any:
    """Every call is served as one over TLS, which a bucket policy may ask for as on AWS."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
        await inner(scope, receive, send)

    return app


if __name__ == "__main__":
    main()
