"""Systems Manager parameters: MiniStack alone answers as AWS does, and has to go on doing so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from .conftest import REGION, SECURITY

if TYPE_CHECKING:
    from .conftest import Aws

NAME = "/rootsweep/kill-switch"


def test_a_parameter_of_a_template_is_read_by_who_may_and_counts_its_versions(aws: Aws) -> None:
    """CloudFormation, AWS::SSM::Parameter; Systems Manager API reference, PutParameter and
    GetParameter; Service Authorization Reference: resource parameter, without a double slash."""
    switch = {"Type": "String", "Name": NAME, "Value": "off"}
    template = {"Resources": {"Switch": {"Type": "AWS::SSM::Parameter", "Properties": switch}}}
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(StackName="switch", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="switch", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    statement = {
        "Effect": "Allow",
        "Action": "ssm:GetParameter",
        "Resource": f"arn:aws:ssm:{REGION}:{SECURITY}:parameter{NAME}",
    }
    reader = aws.client("ssm", credentials=aws.role("reader-of-switch", statement))
    assert reader.get_parameter(Name=NAME)["Parameter"]["Value"] == "off"
    with pytest.raises(ClientError, match="AccessDeniedException"):
        reader.put_parameter(Name=NAME, Value="on", Overwrite=True)
    with pytest.raises(ClientError, match=r"AccessDeniedException.*parameter/rootsweep/other"):
        reader.get_parameter(Name="/rootsweep/other")
    owner = aws.client("ssm")
    with pytest.raises(ClientError, match="ParameterAlreadyExists"):
        owner.put_parameter(Name=NAME, Value="on")
    assert owner.put_parameter(Name=NAME, Value="on", Overwrite=True)["Version"] == 2
    found = reader.get_parameter(Name=NAME)["Parameter"]
    assert (found["Value"], found["Version"]) == ("on", 2)
    with pytest.raises(ClientError, match="ParameterNotFound"):
        owner.get_parameter(Name="/rootsweep/other")
