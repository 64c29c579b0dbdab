"""Ways to break the product on purpose, each with what a year then has to complain about.

A test that cannot fail proves nothing. Each takes one safeguard out of the shipped code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rootsweep import (
    approvals,
    approvers,
    cases,
    decision_log,
    exceptions,
    holds,
    root_access,
    sweeps,
)


class Sabotage(NamedTuple):
    """What is put in the place of a function of a module, and what breaks by that."""

    module: Any
    name: str
    replacement: Any
    says: str


def _one_is_enough(*_: Any, **__: Any) -> approvals.Quorum:
    return approvals.Quorum(1, "")


def _whatever_is_there(iam: Any, *, account_id: str, **_: Any) -> Any:
    return root_access.list_root_keys(iam, account_id=account_id)


def _without_the_first(**given: Any) -> dict[str, Any]:
    return _report(**given | {"accounts": given["accounts"][1:]})


def _clean(_iam: Any) -> root_access.RootSummary:
    return root_access.RootSummary(False, mfa=True, password=False, signing_certificates=False)


_report = sweeps.report

SABOTAGE = {
    "mails without a lock": Sabotage(
        approvers, "lock_mails", lambda *_, **__: True, "two mails about the same thing"
    ),
    "mails that are not noted": Sabotage(
        approvers, "record_mailed", lambda *_, **__: None, "is asked and has no mail"
    ),
    "one approval is enough": Sabotage(
        approvals.QuorumPolicy, "quorum", _one_is_enough, "is deleted with 1 of 2 approvals"
    ),
    "other keys are deleted too": Sabotage(
        root_access, "keys_to_delete", _whatever_is_there, "approvals of"
    ),
    "keys are deleted without a look": Sabotage(
        root_access, "keys_to_delete", lambda *_, approved, **__: list(approved), "deleted unseen"
    ),
    "the kill switch is ignored": Sabotage(
        holds, "require_kill_switch_off", lambda *_, **__: None, "while the kill switch is"
    ),
    "the canary is ignored": Sabotage(
        holds, "enter_canary", lambda *_, **__: None, "deletes beside"
    ),
    "exceptions are ignored": Sabotage(
        exceptions, "find", lambda *_, **__: None, "a case is opened despite an exception"
    ),
    "an account is missing in the report": Sabotage(
        sweeps, "report", _without_the_first, "an account is not in the report"
    ),
    "everything is clean": Sabotage(
        root_access, "_summary", _clean, "an account with keys is CLEAN"
    ),
    "nobody looks for accounts that are gone": Sabotage(
        cases, "wake", lambda *_, **__: False, "a case of an account that is gone"
    ),
    "what happens is not logged": Sabotage(
        decision_log, "new_facts", lambda *_: [], "not in the decision log"
    ),
}
