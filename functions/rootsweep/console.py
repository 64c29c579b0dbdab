"""Where AWS's console shows what a case is about."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from rootsweep.table import case_key

# By partition. Neither form is documented; they are the addresses of these pages in the console:
# of an execution also in AWS's own solution Centralized Logging with OpenSearch.
_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def execution_link(execution_arn: str) -> str:
    """Where the console of Step Functions shows an execution; "" where no console is known."""
    region, console = _console(execution_arn)
    if not console:
        return ""
    arn = quote(execution_arn, safe=":")
    return f"{console}/states/home?region={region}#/v2/executions/details/{arn}"


def link_or_arn(execution_arn: str) -> str:
    """What an alert says of an execution: where the console shows it, or else its ARN."""
    return execution_link(execution_arn) or execution_arn


def evidence_link(case: dict[str, Any], *, table: str) -> str:
    """Where the console of DynamoDB shows the item of a case, with its evidence; or ""."""
    region, console = _console(case["execution_arn"])
    if not console:
        return ""
    key = quote(case_key(case["id"])["pk"], safe="")
    return (
        f"{console}/dynamodbv2/home?region={region}"
        f"#item-explorer?operation=QUERY&pk={key}&table={quote(table, safe='')}"
    )


def _console(arn: str) -> tuple[str, str]:
    """The Region of an ARN, and the address of the console there; "" if it is none."""
    match arn.split(":"):
        case ["arn", partition, _, region, *_] if partition in _CONSOLES and region:
            return region, f"https://{region}.{_CONSOLES[partition]}"
    return "", ""
