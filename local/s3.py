"""What S3 does and MiniStack does not: Object Lock in templates, and a key of conditional writes.

Sources: CloudFormation template reference, "AWS::S3::Bucket ObjectLockConfiguration"; S3 User
Guide, "Enforce conditional writes on Amazon S3 buckets".
"""

from __future__ import annotations

from typing import Any

from ministack.core import iam_actions
from ministack.services import s3
from ministack.services.cloudformation import provisioners

_original_object_context = iam_actions._s3_object_context
_original_create = provisioners._s3_create
_original_update = provisioners._s3_update


def install() -> None:
    iam_actions._s3_object_context = object_context
    provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"] |= {"create": create, "update": update}


def object_context(
    action: str, query: dict[str, Any], path: str, headers: dict[str, Any]
) -> dict[str, Any]:
    """The condition keys of a request about an object: `s3:if-none-match` is the header's value."""
    context: dict[str, Any] = _original_object_context(action, query, path, headers)
    if action == "s3:PutObject" and headers.get("if-none-match"):
        context["s3:if-none-match"] = headers["if-none-match"]
    return context


def create(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
    """Make a bucket that a template describes, with its Object Lock."""
    made = _original_create(logical_id, properties, stack)
    _lock(made[0], properties)
    return made


def update(id: str, old: dict[str, Any], new: dict[str, Any], stack: str) -> Any:
    """Change a bucket that a template describes, and its Object Lock."""
    made = _original_update(id, old, new, stack)
    _lock(made[0], new)
    return made


def _lock(bucket: str, properties: dict[str, Any]) -> None:
    if str(properties.get("ObjectLockEnabled", False)).lower() != "true":
        return
    rule = properties.get("ObjectLockConfiguration", {}).get("Rule")
    retention = rule["DefaultRetention"] if rule else None
    if retention:
        retention = {"Mode": retention["Mode"], "Days": int(retention["Days"])}
    s3._bucket_object_lock[bucket] = {"enabled": True, "default_retention": retention}
