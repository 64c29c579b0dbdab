from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local import stack
from tests.deployed.conftest import (
    SECURITY_ACCOUNT,
    administer_security_hub,
    allow,
    as_root,
    delegate_policies,
    embedded_aws,
)

from .world import CLEAN, ORGANIZATION, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with embedded_aws(tmp_path_factory, ORGANIZATION) as (aws, organization):
        parameters = {"MailWindowSeconds": "0", "Quarantine": "1d", "SecurityHub": "ENABLED"}
        deployed = stack.deploy(aws, organization, parameters)
        pages = deployed.client("cloudformation").get_paginator("list_stack_resources")
        ids = {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for page in pages.paginate(StackName=stack.STACK_NAME)
            for each in page["StackResourceSummaries"]
        }
        delegate_policies(deployed)
        administer_security_hub(deployed)
        us = allow("sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{SECURITY_ACCOUNT}:root"})
        there = as_root(deployed, CLEAN, "iam")
        there.create_role(RoleName="other", AssumeRolePolicyDocument=us)
        iam = deployed.client("iam")
        iam.create_role(RoleName="administrator", AssumeRolePolicyDocument=us)
        may = allow("*", Resource="*")
        iam.put_role_policy(RoleName="administrator", PolicyName="all", PolicyDocument=may)
        yield World(deployed, {**ids, "administrator": "administrator"})
