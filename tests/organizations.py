"""Random organizations, with what a sweep has to find in them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

_STATES = ["ACTIVE"] * 30 + ["PENDING_CLOSURE", "SUSPENDED", "CLOSED", "PENDING_ACTIVATION"]
_UNITS = ["Workloads/Prod", "Workloads/Test", "Security", "Sandbox/People/Interns", "root"]
_NAMES = [
    "billing",
    "Ürün",
    "data & ml",
    "'; DROP TABLE",
    "=cmd|' /C calc'!A0",
    "<b>bold</b>",
    "日本",
]
# They answer for many accounts each, alone or together.
_TEAMS = ["platform@example.com", "apps@example.com", "platform@example.com data@example.com"]


def organization(*, accounts: int, with_keys: float, seed: int) -> dict[str, Any]:
    """The content of an organization file; `with_keys` is the share of accounts with root keys."""
    dice = random.Random(seed)
    ids = dice.sample(range(100_000_000_000, 999_999_999_999), accounts + 2)
    management, security, *rest = map(str, ids)
    return {
        "management_account": management,
        "security_account": security,
        "accounts": [_account(id, dice, has_keys=dice.random() < with_keys) for id in rest],
    }


def _account(id: str, dice: random.Random, *, has_keys: bool) -> dict[str, Any]:
    state = dice.choice(_STATES)
    entry: dict[str, Any] = {"id": id, "name": f"{dice.choice(_NAMES)} {id[-4:]}", "state": state}
    unit = dice.choice(_UNITS)
    if unit != "root":
        entry["ou"] = unit
    if dice.random() < 0.6:
        owner = dice.choice([f"owner{id[-3:]}@example.com", *_TEAMS])
        entry["tags"] = {"rootsweep-approver": owner}
    elif dice.random() < 0.5:
        entry["security_contact"] = f"security{id[-3:]}@example.com"
    if has_keys:
        entry["root"] = {"access_keys": [_key(dice) for _ in range(dice.choice([1, 1, 2]))]}
    if state not in ("ACTIVE", "PENDING_CLOSURE"):
        entry["expect"] = {"account": "SKIPPED"}
        return entry
    trouble = dice.random()
    if trouble < 0.04:
        entry["audit_role"] = False
        entry["expect"] = {"account": "UNKNOWN"}
    elif trouble < 0.06:
        entry["faults"] = {"iam:GetAccountSummary": {"error": "AccessDenied"}}
        entry["expect"] = {"account": "UNKNOWN"}
    elif not has_keys:
        entry["expect"] = {"account": "CLEAN"}
    else:
        entry |= _case(trouble)
    return entry


def _case(trouble: float) -> dict[str, Any]:
    if trouble < 0.12:
        case = {"answer": "decline", "expect": {"account": "ROOT_KEYS", "case": "DECLINED"}}
    elif trouble < 0.18:
        case = {"answer": "ignore", "expect": {"account": "ROOT_KEYS", "case": "ESCALATED"}}
    elif trouble < 0.24:
        case = {
            "scp_denies_root": True,
            "expect": {"account": "ROOT_KEYS", "case": "AWAITING_REMOVAL"},
        }
    else:
        case = {"expect": {"account": "ROOT_KEYS", "case": "REMEDIATED"}}
    if trouble > 0.9:
        case["faults"] = {
            "iam:GetAccountSummary": {"error": "Throttling", "times": 2},
            "iam:ListAccessKeys": {"error": "ServiceFailure", "times": 1},
        }
    return case


def _key(dice: random.Random) -> dict[str, Any]:
    key: dict[str, Any] = {
        "id": "AKIA" + "".join(dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16)),
        "status": dice.choice(["Active", "Inactive"]),
        "created": f"{dice.randint(2008, 2025)}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}",
    }
    if dice.random() < 0.6:
        # Some are in use, which takes two approvers.
        ago = timedelta(days=dice.choice([1, 40, 200, 2000]))
        date = f"{datetime.now(UTC) - ago:%Y-%m-%d}"
        key["last_used"] = {"date": date, "service": "s3", "region": "eu-west-1"}
    return key
