"""What came of a cell, in a word, and whether that is as it has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.faults import STATE_MACHINE, TEXT, Kind

if TYPE_CHECKING:
    from .matrix import Cell
    from .scenarios import Story

SAME = "same"
REFUSED = "the page says so"
DEAD_LETTER = "dead letter"
STAYS_BLOCKED = "blocked until the next sweep"
WAITS = "goes on looking"
ASKED_AGAIN = "asked again"
BY_HAND = "removed by hand"
HELD = "held up"
UNWARNED = "warned by a later sweep"
WOKEN_LATE = "looked at again by a later sweep"
EXECUTION_FAILED = "execution FAILED"
# In these the owner removes the keys before the last sweep, which so finds the account CLEAN.
CLEAN_AT_LAST = ("nobody", "woken")
# In all of these it is the owner who removes the keys.
BY_OWNER = (*CLEAN_AT_LAST, "by hand", "denied", "denied late")
# Nobody has to be told, or an alert about just that says so.
GOES_ON = (SAME, REFUSED, UNWARNED, WAITS, STAYS_BLOCKED, ASKED_AGAIN, BY_HAND, HELD, WOKEN_LATE)
MAP_RUN = "the Map Run of this sweep's execution says why"
NOTHING_FAILED = "nothing failed"
DELETIONS_WAIT = "Approved deletions wait"
# Of AWS's errors, those that name their operation and say something.
SAID = (Kind.THROTTLING, Kind.SERVER_ERROR, Kind.ACCESS_DENIED, Kind.EXPIRED_TOKEN)
DEATHS = (Kind.CRASH, Kind.CRASH_DONE)
NOT_HEARD = (Kind.TIMEOUT, Kind.TIMEOUT_DONE, Kind.DROPPED)
# The answer to a mail that was sent may be lost, and then it is sent again.
MAY_BE_DONE = (*NOT_HEARD, Kind.MALFORMED, Kind.EMPTY, Kind.CRASH_DONE)


def label(story: Story, base: Story) -> str:
    """What came of it: the state or outcome that is not as without faults."""
    if story.sweep != base.sweep:
        return f"sweep {story.sweep}"
    if story.row != base.row:
        return story.row
    if story.asked_again and not base.asked_again and story.outcome == "REMEDIATED":
        return ASKED_AGAIN
    if story.outcome != base.outcome:
        return story.outcome
    if story.by_hand and not base.by_hand:
        return BY_HAND
    if story.execution != base.execution:
        return EXECUTION_FAILED
    if story.woken_late:
        return WOKEN_LATE
    if story.held:
        return HELD
    if story.stays_blocked:
        return STAYS_BLOCKED
    if story.waited:
        return WAITS
    if story.dead:
        return DEAD_LETTER
    if story.warned_late:
        return UNWARNED
    if [status for _, status in story.answers] != [status for _, status in base.answers]:
        return REFUSED
    return SAME


def problems(cell: Cell, story: Story, base: Story, expected: str) -> list[str]:
    """Everything that must not be. `expected` is what should come of it."""
    found = [story.trouble] if story.trouble else []
    if not story.hits:
        found.append(NOTHING_FAILED)
    if (got := label(story, base)) not in expected.split(" or "):
        found.append(f"it is {got}, not {expected}")
    found += _broken_promises(cell, story, base)
    # Of a stream's function that fails, FunctionErrorsAlarm tells; alarms do not ring here.
    if got not in GOES_ON:
        found += _untold(cell, story)
    text = _alert_of(cell, got)
    if text and not any(text in alert for alert in story.alerts):
        found.append(f"no alert says: {text}")
    return found


def _alert_of(cell: Cell, got: str) -> str:
    """What an alert has to say where all goes on without the call that fails; "" for none."""
    if got == HELD:
        return DELETIONS_WAIT
    # An answer without its fields looks as if there were nothing to do.
    if not cell.is_permanent or cell.kind in (Kind.MALFORMED, Kind.EMPTY, Kind.SLOW):
        return ""
    # Who dies with the lock on the owner's mails keeps it from the next attempts; an alarm rings.
    if got == UNWARNED and cell.kind not in DEATHS:
        return "Owners of exceptions that end soon were not warned"
    call = cell.function, cell.operation
    is_query = call == ("OpenCasesFunction", "dynamodb:Query")
    if got == WOKEN_LATE or (is_query and cell.kind in (*SAID, *NOT_HEARD)):
        return "were not woken or ended"
    return ""


def gets_over(cell: Cell) -> bool:
    """Whether a function behind the stream goes on though a call fails for ever."""
    if cell.kind == Kind.SLOW:
        return True
    # Whom it cannot tell hears nothing, and the log goes on.
    is_told = cell.operation == "events:PutEvents"
    return is_told and cell.kind not in DEATHS


def _broken_promises(cell: Cell, story: Story, base: Story) -> list[str]:
    found = []
    # A form may count though its answer was lost; then the table says so.
    sent = any(answer in ("approve", "quarantine") for answer, _ in story.answers)
    if story.deleted and not (story.approved and sent):
        found.append("a key is deleted without an approval")
    is_removed = story.by_hand or cell.scenario in BY_OWNER
    if not story.keys_left and not (story.deleted or is_removed):
        found.append("a key is gone, and nobody has deleted it")
    if story.outcome == "REMEDIATED" and story.keys_left:
        found.append("REMEDIATED, and the key is there")
    if story.row == "CLEAN" and cell.scenario not in CLEAN_AT_LAST:
        found.append("an account with a key is CLEAN")
    if story.sweep == "SUCCEEDED" and story.row == "ROOT_KEYS" and not story.case_id:
        found.append("root keys and no case")
    if story.case_id and not story.outcome:
        found.append("a case is lost")
    if cell.function == "LogDecisionsFunction" and story.dead and not story.logged:
        found.append("what was not logged could not be put back")
    if cell.function == "WriteFindingsFunction" and not story.is_found:
        found.append("the finding is not as the case is")
    if story.mails < base.mails and story.outcome in ("REMEDIATED", "DECLINED"):
        found.append("a mail is missing")
    # Who dies after a mail, and before it is noted, sends it again.
    is_later = cell.after > 0 and cell.kind in DEATHS and "Request" in cell.function
    is_mail = cell.operation == "ses:SendEmail" and cell.kind in MAY_BE_DONE
    more = 1 if is_mail or is_later or cell.is_storm else 0
    if cell.is_permanent or cell.is_storm:
        more *= 40  # As often as it is tried, if nobody can tell whether it was sent.
    more += label(story, base) in (ASKED_AGAIN, BY_HAND)
    if story.mails > base.mails + more:
        found.append(f"{story.mails} mails instead of {base.mails}")
    return found


def _untold(cell: Cell, story: Story) -> list[str]:
    found = []
    if not story.alerts and not story.dead:
        found.append("nobody is told")
    reason = f"{story.sweep_cause} {story.reason} {story.row_reason} {' '.join(story.alerts)}"
    reason += f"{story.execution_cause} {' '.join(story.dead)}"
    operation = cell.operation.partition(":")[2]
    if cell.kind in SAID and story.dead == [] and TEXT not in reason:
        found.append(f"the reason does not say what AWS said: {reason[:300]}")
    # What breaks off while a file is read is no error of the call that opened it.
    is_read_on = cell.operation == "s3:GetObject" and cell.kind == Kind.DROPPED
    is_call = cell.function != STATE_MACHINE and cell.kind in (*SAID, *NOT_HEARD)
    is_call = is_call and not is_read_on
    if is_call and story.dead == [] and operation not in reason:
        found.append(f"the reason does not name {operation}: {reason[:300]}")
    # Who dies with the lock on somebody's mails keeps it from the next attempts.
    died = "ExitError" in reason or "MailPendingError" in reason
    if cell.kind in DEATHS and not story.dead and not died:
        found.append(f"the reason does not say that it was killed: {reason[:300]}")
    return found
