from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local import stack
from tests.deployed.conftest import delegate_policies, embedded_aws

from .world import ORGANIZATION, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with embedded_aws(tmp_path_factory, ORGANIZATION) as (aws, organization):
        deployed = stack.deploy(aws, organization, {"Quarantine": "1d", "MailWindowSeconds": "0"})
        pages = deployed.client("cloudformation").get_paginator("list_stack_resources")
        ids = {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for page in pages.paginate(StackName=stack.STACK_NAME)
            for each in page["StackResourceSummaries"]
        }
        delegate_policies(deployed)
        yield World(deployed, ids)
