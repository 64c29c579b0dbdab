from __future__ import annotations

import pytest

from rootsweep import console


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("aws-us-gov", "us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
        ("aws-cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
    ],
)
def test_links_lead_to_the_console_of_the_partition(partition: str, region: str, host: str) -> None:
    arn = f"arn:{partition}:states:{region}:222222222222:execution:rootsweep-remediate:c-1"

    assert console.execution_link(arn) == (
        f"https://{host}/states/home?region={region}#/v2/executions/details/{arn}"
    )
    assert console.evidence_link({"id": "c-1", "execution_arn": arn}, table="t&x") == (
        f"https://{host}/dynamodbv2/home?region={region}"
        "#item-explorer?operation=QUERY&pk=CASE%23c-1&table=t%26x"
    )


@pytest.mark.parametrize("arn", ["", "x", "arn:aws-iso:states:us-iso-east-1:2:execution:a:b"])
def test_where_no_console_is_known_there_is_no_link(arn: str) -> None:
    assert console.execution_link(arn) == ""
    assert console.evidence_link({"id": "c-1", "execution_arn": arn}, table="t") == ""
