from __future__ import annotations

from datetime import timedelta
from typing import Any

from rootsweep import root_sessions

from .builders import ACCOUNT, NOW, contents

SESSION = "ASIAEXAMPLE000000001"


def note(table: Any) -> None:
    root_sessions.record(
        table,
        access_key_id=SESSION,
        account_id=ACCOUNT,
        task="IAMAuditRootUserCredentials",
        opened_for="a-case",
        now=NOW,
    )


def test_a_session_is_known_by_its_access_key_id(table: Any) -> None:
    note(table)

    assert root_sessions.why_opened(table, access_key_id=SESSION) == "a-case"
    assert root_sessions.why_opened(table, access_key_id="ASIAEXAMPLE000000002") == ""


def test_notes_are_forgotten_with_the_event_history_of_cloudtrail(table: Any) -> None:
    note(table)

    [item] = contents(table)
    assert item == {
        "pk": f"ROOT_SESSION#{SESSION}",
        "sk": "ROOT_SESSION",
        "schema": 1,
        "account_id": ACCOUNT,
        "task": "IAMAuditRootUserCredentials",
        "opened_for": "a-case",
        "opened_at": f"{NOW:%Y-%m-%dT%H:%M:%SZ}",
        "forget_at": int((NOW + timedelta(days=90)).timestamp()),
    }
