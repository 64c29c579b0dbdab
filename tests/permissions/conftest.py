from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from local import stack
from local.organization import load
from tests.deployed.conftest import MANAGEMENT_ACCOUNT, SECURITY_ACCOUNT, free_port

from .world import ORGANIZATION, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    file = tmp_path_factory.mktemp("organization") / "organization.yaml"
    file.write_text(yaml.safe_dump(ORGANIZATION))
    aws = stack.EmbeddedAws(port=free_port(), organization=file)
    try:
        stack.build()
        aws.wait_until_ready()
        deployed = stack.deploy(aws, load(file), {"Quarantine": "1d", "MailWindowSeconds": "0"})
        pages = deployed.client("cloudformation").get_paginator("list_stack_resources")
        ids = {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for page in pages.paginate(StackName=stack.STACK_NAME)
            for each in page["StackResourceSummaries"]
        }
        world = World(deployed, ids)
        # The organization lets the security account manage service control policies.
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{SECURITY_ACCOUNT}:root"},
            "Action": [
                f"organizations:{action}"
                for action in (
                    *("AttachPolicy", "CreatePolicy", "DeletePolicy", "DetachPolicy"),
                    *("ListPolicies", "ListTargetsForPolicy"),
                )
            ],
            "Resource": "*",
            "Condition": {"StringEquals": {"organizations:PolicyType": "SERVICE_CONTROL_POLICY"}},
        }
        world.as_root(MANAGEMENT_ACCOUNT, "organizations").put_resource_policy(
            Content=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )
        yield world
    finally:
        aws.stop()
