from __future__ import annotations

from typing import TYPE_CHECKING, Any

import confirm_removal
import pytest

from rootsweep import cases, root_access
from rootsweep.errors import KeysChangedError, RootKeysRemainError, RootSessionDeniedError

from .builders import ACCOUNT, NOW, SECOND, a_decided_case, a_key, contents
from .root_sessions import RootUser

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> RootUser:
    user = RootUser(ACCOUNT)
    monkeypatch.setattr(root_access, "audit_session", user.audit_session)
    monkeypatch.setattr(root_access, "delete_session", user.no_session)
    return user


def confirm(table: Any) -> None:
    case = a_decided_case(table)
    before = contents(table)
    try:
        answer = confirm_removal.handler({"case_id": case.id}, None)
        assert answer == {"deletion_started": False}
    finally:
        assert contents(table) == before


def test_an_account_without_keys_is_confirmed(table: Any, root: RootUser) -> None:
    confirm(table)

    assert root.calls == ["audit"]


def test_the_answer_says_whether_this_case_began_to_delete(table: Any, root: RootUser) -> None:
    case = a_decided_case(table)
    cases.record_deletion_started(table, case_id=case.id, now=NOW)

    answer = confirm_removal.handler({"case_id": case.id}, None)

    assert answer == {"deletion_started": True}
    assert root.calls == ["audit"]


def test_an_approved_key_that_is_still_shown_is_not_confirmed(table: Any, root: RootUser) -> None:
    root.keys = [a_key()]

    with pytest.raises(RootKeysRemainError):
        confirm(table)


def test_a_key_that_nobody_approved_goes_back_to_the_human(table: Any, root: RootUser) -> None:
    root.keys = [a_key(SECOND)]

    with pytest.raises(KeysChangedError):
        confirm(table)


def test_a_refused_session_confirms_nothing(table: Any, stub: Callable[[Any], Stubber]) -> None:
    stub(confirm_removal.sts).add_client_error("assume_root", "AccessDenied")

    with pytest.raises(RootSessionDeniedError):
        confirm(table)
