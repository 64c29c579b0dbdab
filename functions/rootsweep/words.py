"""What Rootsweep says to people beside the templates: in forms, cases, the report and alerts.

What an error says is where it is raised; what states and rules say by themselves is in their
definitions and in the template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# -- the form of the page -------------------------------------------------------------------------

CHOOSE_A_BUTTON = "Choose one of the two buttons."
SELECT_AN_ACCOUNT = "Select at least one account."
SAY_WHY = "Say why the keys have to stay."
TYPE_THE_ACCOUNT = "Type the 12 digits of the account to approve the deletion."
FOR_KEEPING_ONLY = (
    "This is for keeping the keys. Empty it to delete them, or press the button below to keep them."
)
GIVE_A_DATE = "Give the date until which the keys stay."


def too_long(what: str, characters: int) -> str:
    return f"The {what} is longer than {characters} characters."


def type_the_number(selected: int) -> str:
    return f"You selected {selected}. Type that number to approve the deletion of their keys."


def choose_a_date(days: int) -> str:
    return f"Choose a date after today and within the next {days} days."


# -- why two people have to approve ---------------------------------------------------------------

UNIT_NEEDS_TWO = "accounts in this organizational unit need two approvers"
PLACE_UNKNOWN = "AWS did not say where in the organization it is, and some units need two approvers"


def used_within(days: int) -> str:
    return f"a key was used in the last {days} days"


# -- where approvers are named, and why a source names nobody -------------------------------------

THE_ACCOUNT = "the account"
THE_ROOT = "the root"
SECURITY_CONTACT = "the account's SECURITY alternate contact"
DEFAULT_APPROVER = "the default approver of the Rootsweep stack"
SECOND_APPROVER = "the second approver of the Rootsweep stack"
THERE_IS_NONE = "there is none"
NO_ADDRESSES = "holds something else than e-mail addresses"


def organizational_unit(id: str) -> str:
    return f"the organizational unit {id}"


def tag(key: str, of: str) -> str:
    return f"the tag {key} of {of}"


def escalation_policy(target: str) -> str:
    return f"the escalation policy ({target})"


def may_not_be_read(code: str) -> str:
    return f"may not be read ({code})"


def mails_bounce(address: str) -> str:
    return f"mails to {address} bounce"


# -- what became of an account, for the report ----------------------------------------------------

TIME_RAN_OUT = "the time for its batch ran out before its turn"
BATCH_DID_NOT_FINISH = (
    "the check of its batch did not finish; the Map Run of this sweep's execution says why"
)
NOT_LOOKED_INTO = "it has root access keys, and this sweep did not look into it: no case was opened"
HAS_LEFT = "the account has left the organization"


def is_shut(state: str) -> str:
    return f"the account is {state}"


def no_case(why: str) -> str:
    return f"it has root access keys, but no case: {why}"


def keys_unread(why: str) -> str:
    return f"its keys could not be read: {why}"


def govcloud(why: str) -> str:
    return f"root users of GovCloud cannot sign in: {why}"


def excepted(*, until: str, owner: str, why: str, ticket: str) -> str:
    return f"until {until}, by {owner}: {why}" + (f" ({ticket})" if ticket else "")


def given_up_before(times: int, *, last: str) -> str:
    return f"given up {'once' if times == 1 else f'{times} times'} before, last {last}"


# -- why a case looks again, or how it ended ------------------------------------------------------

EXECUTION_IS_OVER = "its execution was stopped or failed before it recorded an outcome"
SOMETHING_IS_NEW = "something is new"
MAIL_IS_DUE = "the next mail is due"
KEYS_ARE_GONE = "the keys are gone"
KEYS_ARE_THERE = "the keys are still there"
NOBODY_ANSWERED = "nobody answered in time"
MANAGEMENT_ACCOUNT = "AWS opens no root session in the management account of an organization."


def was_settled(state: str) -> str:
    return f"the account was {state} when Rootsweep looked"


def sweep_is_old(started_at: str) -> str:
    return f"the sweep began {started_at}, and what it saw may not be so any more; start another"


def account_unread(why: str) -> str:
    return f"the account could not be read: {why}"


def may_stay(*, until: str, owner: str) -> str:
    return f"what is left may stay until {until}, by a decision of {owner}"


def nobody_answers(notes: Iterable[str]) -> str:
    return f"nobody answers for this account: {'; '.join(notes)}"


def too_few_approved(people: Iterable[str], *, quorum: int, why: str) -> str:
    return (
        f"approved in time by {', '.join(people)} only, and {quorum} people have to approve, "
        f"because {why}"
    )


def no_mail_reached(people: Iterable[str]) -> str:
    return f"; no mail reached {', '.join(people)}"


def given_up_in_a_row(times: int) -> str:
    return f"; given up before, {times} times in a row"


# -- alerts about root sessions -------------------------------------------------------------------

SOMEBODY_TRIED = "Somebody tried to open a root session"
NO_CASE_EXPLAINS = "A root session that no case explains"
NOT_IN_THE_EVENT = "not in the event"
CALLER = "Caller"
ROOT_USER_OF = "Account of the root user"
TASK_POLICY = "Task policy"
TIME = "Time"
CALLED_IN = "Account and Region of the call"
SESSION_KEY = "Access key id of the session"
ERROR = "Error"


def subject(what: str) -> str:
    return f"Rootsweep: {what}"


def see_the_runbook(what: str) -> str:
    return f"{what}. docs/runbook.md says what to do."
