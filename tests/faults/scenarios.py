"""What happens to one account while calls about it fail, and what came of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local.faults import STATE_MACHINE, Kind
from rootsweep.mailing import LOCK

from .verdict import DELETIONS_WAIT, MAP_RUN
from .world import Rule, World, bouncing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

APPROVAL_PAGE = "ApprovalPageFunction"
DELETE = "DeleteRootKeysFunction"
BOUNCE = "RecordBounceFunction"
LIFT = "LiftEndedQuarantinesFunction"
FINDINGS = "WriteFindingsFunction"
LIST = "ListAccountsFunction"
EXPLAIN = "ExplainRootSessionFunction"
NOBODY = "Rootsweep knows nobody to ask about an account"
# The second part of a list is asked for by this.
NEXT_PART = "next_token"
LATER_IN_A_SWEEP = {
    LIFT,
    NEXT_PART,
    "OpenCasesFunction",
    "WarnExceptionOwnersFunction",
    "WriteReportFunction",
    "Rootsweep could not check every account",
    "Rootsweep could not do everything in a sweep",
}
# What they cannot do becomes a dead letter.
OF_EVENTS = {"ExplainRootSessionFunction", "RecordBounceFunction"}
DEAD_SECONDS = 120
# The request, and the warning.
MAILS_OF_AN_EXCEPTION = 2
LATER_SECONDS = 60
# Nobody clicks more often than this on a page that says that it does not work just now.
CLICKS = 4
# Fifty tries, a tenth of a second after each other.
UNLOGGED_SECONDS = 60
# Three tries, each with all that the clients try and a quarter of a minute.
UNWRITTEN_SECONDS = 120
TELL_SECONDS = 60
LIFT_SECONDS = 15
# Longer than a few looks, with all that the clients try.
LOOK_SECONDS = 150


@dataclass
class Story:
    """How it went for an account. Everything is as people and AWS see it."""

    account: str
    sweep: str = ""
    sweep_cause: str = ""
    row: str = ""
    row_reason: str = ""
    case_id: str = ""
    outcome: str = ""
    reason: str = ""
    execution: str = ""
    execution_cause: str = ""
    # What was answered, or that somebody could only look, and what the page said to that.
    answers: list[tuple[str, int]] = field(default_factory=list)
    keys_left: int = 0
    # The keys that were deleted in root sessions, and whether the case has an approval of that.
    deleted: list[str] = field(default_factory=list)
    approved: bool = False
    # How often the fault hit a call.
    hits: int = 0
    # How many facts of the case were in the decision log when it was put back.
    logged: int = 0
    # Whether the finding of the case was at last as the case is.
    is_found: bool = False
    mails: int = 0
    alerts: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    stays_blocked: bool = False
    by_hand: bool = False
    held: bool = False
    waited: bool = False
    warned_late: bool = False
    woken_late: bool = False
    asked_again: bool = False
    trouble: str = ""


class Scenario:
    """One run of a scenario for one account."""

    def __init__(self, world: World, account: str, rules: Iterable[Rule]) -> None:
        self.world = world
        self.account = account
        self.rules = list(rules)
        self.story = Story(account)
        # Whether its sweeps are of the whole organization.
        self.is_whole = False
        self._arns: list[str] = []
        self._sweep_id = ""
        self._rules_of_the_sweep: list[Rule] = []
        self._about: list[str] = []
        self._dead_before = len(world.dead_about(account))
        # Those name no account; only one cell at a time makes any.
        self._unlogged_before = len(world.dead_in("Unlogged"))

    # -- what every scenario is made of --------------------------------------------------------

    def fail(self, *functions: str, about: str = "", but: tuple[str, ...] = ()) -> None:
        """From now on calls fail: those of these functions, or of all but some.

        The later functions of a sweep are told its id only, which is known when it starts.
        """
        for rule in self.rules:
            if (functions and rule.function not in functions) or rule.function in but:
                continue
            name = rule.about[0] if rule.function == STATE_MACHINE else rule.function
            is_later = name in LATER_IN_A_SWEEP or (self.is_whole and name == LIST)
            if is_later:
                self._rules_of_the_sweep.append(rule)
            if not is_later or name == LIFT:
                self._add(rule, about or self.account)

    def have_fail_in_sweep(self, rule: Rule) -> None:
        """A fault that belongs to the scenario."""
        self._rules_of_the_sweep.append(rule)

    def _add(self, rule: Rule, about: str) -> None:
        self._about.append(about)
        texts = (about, *rule.about)
        self.world.fail(replace(rule, about=texts))

    def recover(self) -> None:
        """Nothing fails any more. Counts how often something did."""
        self.story.hits += self._hits(self._about)
        for about in self._about:
            self.world.recover(about)
        self._about.clear()
        # What a scenario itself has made fail.
        self.world.recover(self.account)

    def has_hit(self) -> bool:
        """Whether something has failed already."""
        return self.story.hits > 0 or self._hits(self._about) > 0

    def _hits(self, texts: Iterable[str]) -> int:
        known = {(rule.function, rule.operation) for rule in self.rules}
        about = set(texts)
        return sum(
            rule["hits"]
            for rule in self.world.faults()["rules"]
            if about.intersection(rule["about"]) and (rule["function"], rule["operation"]) in known
        )

    def sweep(self) -> bool:
        """Whether a sweep of the account succeeded."""
        arn, about = self.world.name_sweep()
        for rule in self._rules_of_the_sweep:
            self._add(rule, about)
        self._rules_of_the_sweep.clear()
        self._arns.append(arn)
        ended = self.world.sweep(arn, *([] if self.is_whole else [self.account]))
        self.story.sweep = ended["status"]
        self.story.sweep_cause = f"{ended.get('error', '')}: {ended.get('cause', '')}"
        if ended["status"] != "SUCCEEDED":
            return False
        self.story.sweep_cause = ""
        self._sweep_id = json.loads(ended["output"])["sweep_id"]
        row = self.world.row(ended, self.account)
        self.story.row, self.story.row_reason = row["state"], row.get("reason") or ""
        if MAP_RUN in self.story.row_reason:
            self.story.row_reason += f" {self.world.causes_of_batches(arn)}"
        case = row.get("case") or {}
        self.story.case_id = case.get("id", "") or self.story.case_id
        return True

    def redrive_sweep(self, state: str, *, goes_on: bool = False) -> None:
        """A sweep that failed goes on when nothing fails any more. `state` is the account's."""
        self.recover()
        row = self.world.row(self.world.redrive(self._arns[-1]), self.account)
        if (row["state"], bool(row["case"])) != (state, state == "ROOT_KEYS"):
            raise AssertionError(f"the sweep that was redriven says {row}")
        if (case := row["case"]) and not goes_on:
            # What is still under way would get into the way of the next story of the account.
            self.world.until(self._mails, "the mail about the case of the redriven sweep")
            self.world.stop(case["id"])

    def redrive_case(self) -> None:
        """A redrive of a case that has failed ends nothing else, deletes nothing, asks nobody."""
        self.recover()
        before = self._case_now()
        self.world.redrive(self._arns[-1])
        if self._case_now() != before:
            raise AssertionError(f"a redrive made {self._case_now()} of {before}")

    def _case_now(self) -> tuple[str, set[str], int]:
        outcome = self.world.case(self.story.case_id)["outcome"]
        return outcome, self.world.keys_of(self.account), self._mails()

    def mail(self, number: int = 1) -> str:
        """The link in a mail, when it has come; "" if the case ended without."""

        def found() -> str:
            mails = self.world.mails(self.account)[self._mails_before :]
            if len(mails) >= number:
                return self.world.link_in(mails[number - 1]) or "none"
            return "ended" if self.is_over() else ""

        link: str = self.world.until(found, f"mail {number} about {self.account}")
        return "" if link in ("ended", "none") else link

    def is_over(self) -> bool:
        """Whether the execution of the case has ended."""
        arn = self.world.execution_of(self.story.case_id)
        described = self.world.stepfunctions.describe_execution(executionArn=arn)
        return bool(described["status"] != "RUNNING")

    def ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.is_over():
                return True
            time.sleep(0.5)
        return False

    def answer(self, link: str, decision: str, *, days: int = 30) -> None:
        """Answer, again and again if the page does not work; when it never does, it recovers."""
        page = link.rpartition("/")[2]
        self.fail(APPROVAL_PAGE, about=page)
        for _ in range(CLICKS):
            status = self._try(link, decision, days)
            # Whoever came while the case looked again is told so, and looks again too.
            if status == 200 or (status == 409 and not self._is_asked()):
                break
            time.sleep(3 if status == 409 else 0.5)
        else:
            self.recover()
            self._try(link, decision, days)

    def _is_asked(self) -> bool:
        case = self.world.case(self.story.case_id)
        return not case.get("decided") and not case.get("ended_at")

    def _try(self, link: str, decision: str, days: int) -> int:
        is_sent, status = self.world.answer(
            self.account, f"{link}?case={self.story.case_id}", decision, days
        )
        self.story.answers.append((decision if is_sent else "look", status))
        return status

    def end(self) -> None:
        """The execution of the case ends, and the story is told."""
        arn = self.world.execution_of(self.story.case_id)
        execution = self.world.ended(arn)
        self._arns.append(arn)
        self.story.execution = execution["status"]
        self.story.execution_cause = f"{execution.get('error', '')}: {execution.get('cause', '')}"
        # A case whose execution died is recorded a moment later.
        deadline = time.monotonic() + 2 * LATER_SECONDS
        while not (case := self.world.case(self.story.case_id)).get("ended_at"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        self.story.outcome = case["outcome"]
        self.story.reason = case.get("reason", "")
        if not case.get("ended_at"):
            # Somebody was told, and either of the two ends it.
            self.recover()
            if any(list(Kind).index(Kind(rule.kind)) % 2 for rule in self.rules):
                self.world.redrive(arn)
            else:
                self.world.sweep(self.world.name_sweep()[0], self.account)
            if not self.world.case(self.story.case_id).get("ended_at"):
                raise AssertionError("neither a redrive nor a sweep ends the case")
        elif self.story.execution != "SUCCEEDED":
            self.redrive_case()

    def put_back_decision(self) -> None:
        """Where decisions never reach Step Functions: what docs/runbook.md says to do."""
        if self._waits_for_dead_letter("DeliverDecisionFunction", "Undelivered"):
            self.world.table.update_item(
                Key={"pk": f"CASE#{self.story.case_id}", "sk": "CASE"},
                ConditionExpression="decided = :yes AND attribute_not_exists(ended_at)",
                UpdateExpression="SET delivered_again = :yes",
                ExpressionAttributeValues={":yes": "YES"},
            )

    def see_to_it(self) -> None:
        """What people do about an approved deletion that does not come to its end.

        Where no root session is let in after all, the owner removes the key. Where nobody can tell
        whether the kill switch is on, somebody sees to that.
        """

        def next_step() -> str:
            case = self.world.case(self.story.case_id)
            if self.is_over():
                return "over"
            if case.get("outcome") == "AWAITING_REMOVAL":
                return "by hand"
            cannot_tell = any(
                (rule.function, rule.operation, rule.times) == (DELETE, "ssm:GetParameter", None)
                for rule in self.rules
            )
            is_held = cannot_tell and case.get("held")
            return "held" if is_held and not self.story.held else ""

        while (step := self.world.until(next_step, "the end, or a step to do")) != "over":
            if step == "by hand":
                self.story.by_hand = True
                self.world.remove_keys(self.account)
                return
            self.story.held = True
            self.recover()

    def put_back_bounce(self) -> None:
        """Where bounces cannot be noted: what docs/runbook.md says to do."""
        if any(rule.function == BOUNCE and rule.times is None for rule in self.rules):
            letters = self.world.until(
                lambda: (
                    self.world.dead_about(self.account)[self._dead_before :]
                    or [""] * (len(self.world.mails(self.account)) - self._mails_before)
                ),
                "a dead letter, or that it got over it",
            )
            self.recover()
            if letters[0]:
                self.world.invoke(BOUNCE, event_of(letters[0]))

    def put_back_log(self) -> None:
        """Where the decision log cannot be written: the same."""
        if not any(rule.function == "LogDecisionsFunction" for rule in self.rules):
            return
        before, case_id = self._unlogged_before, self.story.case_id
        self.world.until(
            lambda: self.world.logged(case_id) or len(self.world.dead_in("Unlogged")) > before,
            "an entry of the log, or a dead letter",
        )
        # What fails after the entry is tried as often.
        deadline = time.monotonic() + UNLOGGED_SECONDS
        while any(rule.times is None for rule in self.rules) and time.monotonic() < deadline:
            if len(self.world.dead_in("Unlogged")) > before:
                break
            time.sleep(0.5)
        self.story.dead = self.world.dead_in("Unlogged")[before:]
        if self.story.dead:
            self.recover()
            self.world.log_again(case_id)
            self.story.logged = self.world.logged(case_id)

    def wait_for_finding(self) -> None:
        """What is told of a case while it is open is told, or given up, before somebody answers."""
        for rule in self.rules:
            if rule.function != FINDINGS:
                continue
            deadline = time.monotonic() + (LATER_SECONDS if rule.times else UNWRITTEN_SECONDS)
            while time.monotonic() < deadline:
                if self._unwritten() or (rule.times and self.has_hit()):
                    break
                time.sleep(0.5)

    def _unwritten(self) -> list[str]:
        letters = self.world.dead_in("Unwritten")
        return [each for each in letters if self.story.case_id in each]

    def put_back_findings(self) -> None:
        """Where findings cannot be written: the same."""
        if not any(rule.function == FINDINGS for rule in self.rules):
            return
        told = "ARCHIVED", self.story.outcome
        case_id = self.story.case_id
        self.world.until(
            lambda: self._unwritten() or self.world.finding(case_id) == told,
            "a finding, or a dead letter",
        )
        if found := self._unwritten():
            self.recover()
            self.world.put_changes_back(found)
        self.story.is_found = self.world.until(
            lambda: self.world.finding(case_id) == told, "the finding as the case is"
        )

    def _waits_for_dead_letter(self, function: str, queue: str) -> bool:
        if not any(rule.function == function and rule.times is None for rule in self.rules):
            return False
        before = len(self.world.dead_in(queue))
        try:
            self.world.until(
                lambda: len(self.world.dead_in(queue)) > before, "a dead letter", DEAD_SECONDS
            )
        except TimeoutError:
            return False  # It got over it.
        self.story.dead = self.world.dead_in(queue)[before:]
        self.recover()
        return True

    def removes_keys(self) -> None:
        """The owner does, some time after the case was opened.

        One of the same second is none of the business of a sweep.
        """
        self.world.remove_keys(self.account)
        time.sleep(1.1)

    def looks_again(self) -> None:
        """The case is told that its keys are gone, by this sweep or by the next one."""
        case = self.world.case(self.story.case_id)
        is_told = case.get("woken") or not case.get("task_token") or case.get("ended_at")
        if not is_told:
            self.story.woken_late = True
            self.recover()
            self.world.sweep(self.world.name_sweep()[0], self.account)

    def until_it_waits(self) -> None:
        """The case waits for an answer, or has ended."""
        self.world.until(
            lambda: self.world.case(self.story.case_id).get("task_token") or self.is_over(),
            "the wait for somebody",
        )

    def is_in(self, unit: str) -> bool:
        """Whether the case knows that its account is in a unit."""
        return unit in self.world.case(self.story.case_id).get("parents", [])

    def tells_of_stranger(self, key: str) -> None:
        """Somebody is told of a root session, at once or when its dead letter is put back."""

        def letters() -> list[str]:
            return [each for each in self.world.dead_about(self.account) if key in each]

        self.world.until(
            lambda: self.world.told_about(key) or letters(), "an alert, or a dead letter"
        )
        if (found := letters()) and not self.world.told_about(key):
            self.recover()
            self.world.invoke(EXPLAIN, event_of(found[0]))
        self.world.until(lambda: self.world.told_about(key), "an alert", TELL_SECONDS)

    def is_warned(self) -> None:
        """Whoever has not been warned is warned by a later sweep."""
        if self._mails() < MAILS_OF_AN_EXCEPTION:
            self.story.warned_late = True
            self.recover()
            # Who died with the lock on the owner's mails keeps it for a while.
            self.world.until(self._sweeps_and_warns, "the warning", LOCK.total_seconds() + 60)

    def _sweeps_and_warns(self) -> bool:
        self.world.sweep(self.world.name_sweep()[0], self.account)
        return self._mails() >= MAILS_OF_AN_EXCEPTION

    def _mails(self) -> int:
        return len(self.world.mails(self.account)) - self._mails_before

    def count_mails(self) -> None:
        """Those that come later are about something else."""
        self.story.mails = self._mails()

    def is_lifted(self) -> bool:
        """Whether the root user is free again, soon."""
        deadline = time.monotonic() + LIFT_SECONDS
        while self.world.is_blocked(self.account):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _is_approved(self) -> bool:
        """Whether the case was last decided by an approval."""
        case = self.world.case(self.story.case_id) if self.story.case_id else {}
        past = case.get("past_decisions", [])
        last = case.get("decision") or (past[-1] if past else {})
        return bool(last.get("answer") == "APPROVED")

    def run(self, steps: Callable[[Scenario], None]) -> Story:
        """Live through it."""
        self._mails_before = len(self.world.mails(self.account))
        deleted_before = len(self.world.deleted_of(self.account))
        try:
            steps(self)
        except Exception as error:  # A cell that goes wrong is a finding, not the end of the run.
            self.story.trouble = f"{type(error).__name__}: {error}"
        story = self.story
        story.keys_left = len(self.world.keys_of(self.account))
        story.deleted = self.world.deleted_of(self.account)[deleted_before:]
        if self.is_whole:  # Of which the sweeps of others take no notice any more.
            self.world.remove_keys(self.account)
        story.approved = self._is_approved()
        story.mails = story.mails or self._mails()
        about = [*self._arns, *filter(None, (story.case_id, self._sweep_id))]
        needs_somebody = story.sweep != "SUCCEEDED" or story.execution != "SUCCEEDED"
        needs_somebody |= story.warned_late
        if needs_somebody or story.outcome in ("FAILED", "ESCALATED") or story.row == "UNKNOWN":
            deadline = time.monotonic() + TELL_SECONDS
            while not self.world.told_about(*about) and time.monotonic() < deadline:
                time.sleep(0.5)
        story.alerts = self.world.told_about(*about)
        if story.held:  # Of the kill switch somebody is told once, about the first that waits.
            story.alerts += self.world.told_about(DELETIONS_WAIT)
        # What happens beside the case may come a moment later.
        deadline = time.monotonic() + LATER_SECONDS
        while self.rules and not self.has_hit() and time.monotonic() < deadline:
            time.sleep(0.5)
        if any(rule.function in OF_EVENTS and rule.times is None for rule in self.rules):
            # Three attempts, each with all that the client tries.
            deadline = time.monotonic() + DEAD_SECONDS
            while not self.world.dead_about(self.account)[self._dead_before :]:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.5)
        story.dead += self.world.dead_about(self.account)[self._dead_before :]
        self.recover()
        return story


def event_of(letter: str) -> Any:
    """The event of an invocation that failed, from its dead letter."""
    return json.JSONDecoder().raw_decode(letter)[0]["requestPayload"]


# -- the scenarios -----------------------------------------------------------------------------


def approve(here: Scenario) -> None:
    """A sweep finds a key, its deletion is approved, it is deleted."""
    here.fail(but=(APPROVAL_PAGE,))
    if not here.sweep():
        here.redrive_sweep("ROOT_KEYS")
    elif here.story.case_id:
        here.put_back_bounce()
        if link := here.mail():
            here.wait_for_finding()
            here.answer(link, "approve")
            here.put_back_decision()
        here.see_to_it()
        here.end()
        here.put_back_log()
        here.put_back_findings()


def hold(here: Scenario) -> None:
    """A deletion cannot tell for a while whether the kill switch is on."""
    here.world.set_kill_switch()
    # As often as the client tries.
    here.world.fail(Rule(DELETE, "ssm:GetParameter", "server_error", (here.account,), 4))
    approve(here)


def decline(here: Scenario) -> None:
    """The keys may stay for three days, of which their owner is reminded in the next sweep."""
    here.fail(but=(APPROVAL_PAGE, "WarnExceptionOwnersFunction"))
    if here.sweep() and here.story.case_id:
        if link := here.mail():
            here.answer(link, "decline", days=3)  # Within the week before which one is warned.
        here.end()
    here.fail("WarnExceptionOwnersFunction")
    here.sweep()
    here.is_warned()


def quarantine(here: Scenario) -> None:
    """The root user is blocked first, and then its owner keeps the keys."""
    here.fail(but=(APPROVAL_PAGE,))
    if not here.sweep() or not here.story.case_id:
        return
    if link := here.mail():
        here.answer(link, "quarantine")

        def next_step() -> str:
            case = here.world.case(here.story.case_id)
            if here.is_over():
                return "over"
            if case.get("quarantine_token") and case.get("quarantine_until"):
                return "blocked"
            return "asked again" if case.get("quarantine_refused") else ""

        step = here.world.until(next_step, "the block")
        if step == "blocked":
            here.answer(link, "decline")
        elif step == "asked again":
            here.story.asked_again = True
            here.answer(here.mail(2), "approve")
    here.end()
    if not here.is_lifted():
        # Then the next sweep does it.
        here.story.stays_blocked = any(rule.function == LIFT for rule in here.rules)
        here.recover()
        here.count_mails()  # The sweep opens a case again that has failed, and asks.
        here.world.sweep(here.world.name_sweep()[0], here.account)
        if not here.is_lifted():
            raise AssertionError("the root user stays blocked")


def refused(here: Scenario) -> None:
    """The root user cannot be blocked first, as its approvers want, so they are asked again."""
    here.world.fail(
        Rule(
            "QuarantineRootUserFunction",
            "organizations:AttachPolicy",
            "access_denied",
            (here.account,),
        )
    )
    quarantine(here)
    here.world.until(
        lambda: not here.world.is_noted_as_blocked(here.account),
        "the end of the note of a block that AWS refused",
        LATER_SECONDS,
    )


def moved(here: Scenario) -> None:
    """The account moves to another unit while people are asked, and a sweep finds it there."""
    if not here.sweep() or not (link := here.mail()):
        raise AssertionError("nobody was asked before anything failed")
    with here.world.moved(here.account) as unit:
        here.fail()
        if not here.sweep():
            here.redrive_sweep("ROOT_KEYS", goes_on=True)
        if here.story.row != "UNKNOWN" and not here.is_in(unit):
            raise AssertionError("the case is not where its account is")
        here.answer(link, "approve")
        here.end()


def woken(here: Scenario) -> None:
    """The keys are gone before anybody answers, and a sweep has the case look again."""
    if not here.sweep() or not here.mail():
        raise AssertionError("nobody was asked before anything failed")
    here.removes_keys()
    here.fail()
    if not here.sweep():
        here.redrive_sweep("CLEAN")
    here.looks_again()
    here.end()


def nobody(here: Scenario) -> None:
    """Nobody answers for the account, and whoever is told of it sees that the keys go."""
    here.fail()
    if not here.sweep():
        here.redrive_sweep("ROOT_KEYS")
    elif here.story.case_id:
        here.until_it_waits()
        here.removes_keys()
        here.sweep()
        here.looks_again()
        here.end()


def denied_late(here: Scenario) -> None:
    """AWS lets no root session delete what one could read, so the owner removes the key."""
    here.world.fail(Rule(DELETE, "sts:AssumeRoot", "access_denied", (here.account,)))
    approve(here)


def denied(here: Scenario) -> None:
    """AWS lets no root session read the keys, so the owner removes them."""
    here.world.fail(
        Rule("GatherEvidenceFunction", "sts:AssumeRoot", "access_denied", (here.account,))
    )
    by_hand(here)


def stranger(here: Scenario) -> None:
    """Somebody opens a root session that is none of Rootsweep's, beside a case."""
    here.fail()
    key = here.world.open_root_session(here.account)
    approve(here)
    here.tells_of_stranger(key)


def in_parts(here: Scenario) -> None:
    """A sweep of the whole organization, which is listed in parts."""
    here.is_whole = True
    approve(here)


def by_hand(here: Scenario) -> None:
    """AWS lets no root session in, so the owner removes the key."""
    here.fail()
    if here.sweep() and here.story.case_id:
        if here.mail() or not here.is_over():
            here.world.remove_keys(here.account)
        # What cannot be read is not taken for done: it looks again until it can.
        if not here.ends_within(LOOK_SECONDS):
            here.story.waited = True
            here.recover()
        here.end()


def bounce(here: Scenario) -> None:
    """Mails to the first approver bounce, so the next one is asked."""
    here.world.appoint(here.account, bouncing(here.account))
    try:
        approve(here)
    finally:
        here.world.appoint(here.account)


def fail(here: Scenario) -> None:
    """A case that cannot go on."""
    here.world.fail(
        Rule("GatherEvidenceFunction", "sts:AssumeRoot", "server_error", (here.account,))
    )
    approve(here)


def undone(here: Scenario) -> None:
    """A sweep that cannot lift what is to be lifted, if anything is."""
    here.have_fail_in_sweep(Rule(LIFT, "dynamodb:Query", "server_error"))
    approve(here)


def unknown(here: Scenario) -> None:
    """An account that cannot be checked."""
    here.world.fail(
        Rule("CheckAccountsFunction", "sts:AssumeRole", "server_error", (here.account,))
    )
    here.fail()
    if not here.sweep():
        here.redrive_sweep("UNKNOWN")


SCENARIOS: dict[str, Callable[[Scenario], None]] = {
    "approve": approve,
    "hold": hold,
    "decline": decline,
    "quarantine": quarantine,
    "by hand": by_hand,
    "bounce": bounce,
    "fail": fail,
    "undone": undone,
    "unknown": unknown,
    "refused": refused,
    "moved": moved,
    "woken": woken,
    "denied late": denied_late,
    "stranger": stranger,
}
# On a stack with other parameters.
OTHER_SCENARIOS: dict[str, Callable[[Scenario], None]] = {
    "in root sessions": approve,
    "denied": denied,
    "nobody": nobody,
    "in parts": in_parts,
}
# How the case of each ends if nothing else fails.
ENDS = {
    "decline": "DECLINED",
    "quarantine": "DECLINED",
    "fail": "FAILED",
    "unknown": "",
    "woken": "RESOLVED",
    "nobody": "RESOLVED",
}
# Those that need an account which is special in its organization.
SPECIAL = ("by hand", "nobody")


def live(world: World, name: str, rules: Iterable[Rule] = ()) -> Story:
    """Live through a scenario with an account of its own."""
    steps = {**SCENARIOS, **OTHER_SCENARIOS}[name]
    with world.account(is_special=name in SPECIAL) as account:
        return Scenario(world, account, rules).run(steps)
