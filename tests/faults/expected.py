"""What has to come of each cell, and why where it is not what one would think.

A fault that passes changes nothing. One that stays ends where the function stands: the sweep or the
case fails and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.faults import STATE_MACHINE, Kind

from .scenarios import NEXT_PART
from .verdict import (
    ASKED_AGAIN,
    BY_HAND,
    DEAD_LETTER,
    DEATHS,
    EXECUTION_FAILED,
    HELD,
    REFUSED,
    SAME,
    STAYS_BLOCKED,
    UNWARNED,
    WAITS,
    WOKEN_LATE,
)

if TYPE_CHECKING:
    from .matrix import Cell

SWEEP_FAILED = "sweep FAILED"
# In a storm all may go well; if not, whatever fails is said.
ANYTHING = " or ".join(
    (*(SAME, REFUSED, SWEEP_FAILED, "UNKNOWN", "FAILED", "AWAITING_APPROVAL"), BY_HAND, HELD)
)
BY_FUNCTION = {
    "ApprovalPage": REFUSED,
    "CheckAccounts": "UNKNOWN",
    "CheckPrerequisites": SWEEP_FAILED,
    "DeliverDecision": DEAD_LETTER,
    "ExplainRootSession": DEAD_LETTER,
    "LiftEndedQuarantines": STAYS_BLOCKED,
    "ListAccounts": SWEEP_FAILED,
    "LogDecisions": DEAD_LETTER,
    "OpenCases": SWEEP_FAILED,
    "RecordBounce": DEAD_LETTER,
    # The case is open, its execution is not: the next sweep ends it.
    "RecordOutcome": "AWAITING_APPROVAL",
    "WarnExceptionOwners": UNWARNED,
    "WriteFindings": DEAD_LETTER,
    "WriteReport": SWEEP_FAILED,
}
# Where it depends on what the call is for; not if the function is killed.
BY_SCENARIO = {
    ("moved", "OpenCases", "dynamodb:UpdateItem"): "UNKNOWN",
    ("woken", "OpenCases", "dynamodb:UpdateItem"): WOKEN_LATE,
}
# Where a function gets over a call that fails; not if it is killed.
BY_OPERATION = {
    # Detached already; a policy without targets is deleted by the next sweep.
    ("LiftEndedQuarantines", "organizations:DeletePolicy"): SAME,
    ("LiftEndedQuarantines", "dynamodb:DeleteItem"): SAME,
    # An account that cannot be read is not taken for one whose keys are gone.
    ("CheckManualRemoval", "iam:GetAccountSummary"): WAITS,
    ("CheckManualRemoval", "sts:AssumeRole"): WAITS,
    ("CheckManualRemoval", "sts:AssumeRoot"): WAITS,
    ("CheckManualRemoval", "dynamodb:PutItem"): WAITS,
    # Nobody can tell whether the kill switch is on, so it is taken for on.
    ("DeleteRootKeys", "ssm:GetParameter"): HELD,
    # What says that the kill switch has changed; without it somebody is told once a day.
    ("HoldDeletion", "ssm:GetParameter"): SAME,
    # One account must not cost the others their cases.
    ("OpenCases", "dynamodb:GetItem"): "UNKNOWN",
    ("OpenCases", "dynamodb:TransactWriteItems"): "UNKNOWN",
    ("OpenCases", "states:StartExecution"): "UNKNOWN",
    # The keys are read again by the case.
    ("OpenCases", "dynamodb:PutItem"): SAME,
    ("OpenCases", "iam:GetAccessKeyLastUsed"): SAME,
    ("OpenCases", "iam:ListAccessKeys"): SAME,
    ("OpenCases", "sts:AssumeRoot"): SAME,
    # Chat and tickets do not hear of it, and an alarm rings; the log has it.
    ("LogDecisions", "events:PutEvents"): SAME,
    # Open cases are not woken; somebody is told, and the next sweep does it.
    ("OpenCases", "dynamodb:Query"): SAME,
}
# A denial is an answer of AWS and no fault; it may pass, and is acted on all the same.
IF_DENIED = {
    # Who may not read tags or contacts asks whom it knows otherwise, and notes that.
    ("FindApprovers", "organizations:ListTagsForResource"): SAME,
    ("FindApprovers", "account:GetAlternateContact"): SAME,
    # Whom AWS lets no root session into is asked to remove the keys.
    ("GatherEvidence", "sts:AssumeRoot"): BY_HAND,
    ("GatherEvidence", "iam:ListAccessKeys"): BY_HAND,
    ("GatherEvidence", "iam:GetAccessKeyLastUsed"): BY_HAND,
    ("DeleteRootKeys", "sts:AssumeRoot"): BY_HAND,
    ("DeleteRootKeys", "iam:ListAccessKeys"): BY_HAND,
    ("DeleteRootKeys", "iam:GetAccessKeyLastUsed"): BY_HAND,
    ("DeleteRootKeys", "iam:DeleteAccessKey"): BY_HAND,
    # The root user cannot be blocked first, so people are asked again; here they approve.
    ("QuarantineRootUser", "organizations:ListPolicies"): ASKED_AGAIN,
    ("QuarantineRootUser", "organizations:CreatePolicy"): ASKED_AGAIN,
    ("QuarantineRootUser", "organizations:AttachPolicy"): ASKED_AGAIN,
}
IF_DENIED_ONCE = {
    ("CheckPrerequisites", "organizations:DescribeOrganization"): SWEEP_FAILED,
    ("CheckPrerequisites", "organizations:ListAccounts"): SWEEP_FAILED,
}
# Where an answer without its fields looks as if there were nothing, an account is never CLEAN.
JOINS = ("OpenCases", "WriteReport")
# The work is done, or what is missing in the answer is not missed.
NO_ANSWER = (Kind.MALFORMED, Kind.EMPTY)
DONE = (*NO_ANSWER, Kind.TIMEOUT_DONE, Kind.CRASH_DONE)


def expected_without(cell: Cell) -> str:
    """What should come of a life of this cell in which nothing failed."""
    return _of_one_that_passes(cell.function.removesuffix("Function"), may_be_unknown=False)


def expected(cell: Cell) -> str:
    """What should come of it; several, if it depends on the moment, with `or` between them."""
    if cell.is_storm:
        return ANYTHING
    name = cell.function.removesuffix("Function")
    call = name, cell.operation
    if (
        cell.kind == Kind.ACCESS_DENIED
        and call in IF_DENIED
        and (cell.is_permanent or IF_DENIED[call] != BY_HAND)
    ):
        return IF_DENIED[call]
    if cell.kind == Kind.ACCESS_DENIED and not cell.is_permanent and call in IF_DENIED_ONCE:
        return IF_DENIED_ONCE[call]
    if (
        name == STATE_MACHINE
        and cell.about == "CheckAccountsFunction"
        and cell.kind == Kind.TIMEOUT
    ):
        return "UNKNOWN"  # A child of the Map has five minutes, and they are over.
    if not cell.is_permanent:
        return _of_one_that_passes(name, may_be_unknown=cell.kind in NO_ANSWER)
    if cell.kind == Kind.SLOW:
        return SAME
    if name == STATE_MACHINE:
        return _of_a_task(cell)
    known = BY_SCENARIO.get((cell.scenario, *call)) or BY_OPERATION.get(call, "")
    found = "" if cell.kind in DEATHS else known
    if call == ("RecordOutcome", "dynamodb:UpdateItem"):
        found = EXECUTION_FAILED  # The outcome is in the table, but the canary goes on as before.
    found = found or BY_FUNCTION.get(name, "FAILED")
    if name == "CheckManualRemoval" and cell.kind in DEATHS:
        found = f"{found} or {WAITS}"  # If nothing fails any more before the last of its deaths.
    may_be_same = cell.kind in NO_ANSWER or (not cell.is_read and cell.kind in DONE)
    # A key that is deleted is found to be gone, whether or not that could be noted.
    may_be_same = may_be_same or cell.after > 0
    # The table says already that nobody is blocked where the function comes a second time.
    may_be_same = may_be_same or call == ("QuarantineRootUser", "dynamodb:DeleteItem")
    # Where it is called in another scenario than its own, there is nobody to warn.
    # And the sweeps of other accounts, which go on beside it, lift what is to be lifted.
    if may_be_same or name in ("WarnExceptionOwners", "LiftEndedQuarantines"):
        found = f"{found} or {SAME}"
    if name == "RecordBounce":
        found = f"{found} or {REFUSED}"  # As where it passes.
    if name == "LiftEndedQuarantines":
        # Or behind a stream that another cell holds up.
        found = f"{found} or {STAYS_BLOCKED}"
    return f"{found} or UNKNOWN" if cell.kind in NO_ANSWER and name in JOINS else found


def _of_one_that_passes(name: str, *, may_be_unknown: bool) -> str:
    if name == "ApprovalPage":
        # The SDK of the page may get over it.
        return f"{REFUSED} or {SAME}"
    if name == "WarnExceptionOwners":
        # There is a week for it; nobody is warned twice for the sake of a day.
        return f"{SAME} or {UNWARNED}"
    if name == "LiftEndedQuarantines":
        # Behind a stream that another cell holds up.
        return f"{SAME} or {STAYS_BLOCKED}"
    if name == "RecordBounce":
        # Done twice, it has the case look twice whom to ask; who answers meanwhile is told so.
        return f"{SAME} or {REFUSED}"
    return f"{SAME} or UNKNOWN" if may_be_unknown and name in JOINS else SAME


def _of_a_task(cell: Cell) -> str:
    if cell.operation == "sns:publish":
        # Of accounts that were not checked, and of cases, somebody has to know.
        if "every account" in cell.about:
            return SWEEP_FAILED
        return EXECUTION_FAILED if "case" in cell.about else SAME
    name = cell.about.removesuffix("Function")
    if name == "RecordOutcome":
        return "FAILED"  # Recorded by the rule for executions that died.
    if name == "LiftEndedQuarantines":
        return SAME  # The stream does it.
    if name == NEXT_PART:
        return SWEEP_FAILED
    found = BY_FUNCTION.get(name, "FAILED")
    return f"{found} or {SAME}" if name == "WarnExceptionOwners" else found
