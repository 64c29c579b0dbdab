"""The people who get the mails. Each has habits, and knows what mails and pages say.

They decide through the shipped page: they open the link, read what is there and send its form.
"""

from __future__ import annotations

import html
import random
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from .clock import DAY, expect
from .machine import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Clock
    from .stack import Stack
    from .world import Account, World

HOUR = 3600.0
KEY = re.compile(r"\b(AKIA[0-9]{16})\b.*?\b(Active|Inactive)\b", re.DOTALL)
LINK = re.compile(r"https://approvals\.example\.com/([\w-]+)")
ACCOUNT = re.compile(r"\(([0-9]{12})[,)]")

Keys = frozenset[tuple[str, str]]


@dataclass
class Mail:
    """A mail that was sent: to whom, about which accounts, with which link."""

    at: float
    to: str
    subject: str
    text: str
    accounts: tuple[str, ...]
    link: str
    # A function died, or the table did, before it was noted; it may be sent again.
    is_excused: bool = False


class Attempt(NamedTuple):
    """That somebody sent a form about a case, having seen these keys."""

    at: float
    by: str
    case_id: str
    answer: str
    keys: Keys
    # When approving: whether the root user is to be blocked first.
    blocks: bool = False


@dataclass(frozen=True)
class Habit:
    """How somebody treats mails: when they look, and how often they do what.

    `hours` is the range in which they look at a mail, `from_mail` the first mail about something
    that they take for serious. The rest of the weights is doing nothing.
    """

    hours: tuple[float, float]
    approves: float = 0
    declines: float = 0
    removes: float = 0
    from_mail: int = 1


HABITS = {
    "prompt": Habit((0.1, 8), approves=0.86, declines=0.07, removes=0.04),
    "slow": Habit((20, 150), approves=0.8, declines=0.1, removes=0.05),
    "reminded": Habit((1, 30), approves=0.8, declines=0.15, from_mail=2),
    "stubborn": Habit((1, 60), approves=0.05, declines=0.9),
    "handy": Habit((2, 70), approves=0.2, removes=0.75),
    "late": Habit((150, 420), approves=0.9, declines=0.1),
    "asleep": Habit((1, 2)),
    "fickle": Habit((0.1, 100), approves=0.4, declines=0.3, removes=0.1),
}
# Most people answer.
_CHOICES = ["prompt"] * 8 + ["slow"] * 4 + ["reminded"] * 4 + ["fickle"] * 3
_CHOICES += ["stubborn", "handy", "handy", "late", "asleep", "asleep", "asleep"]


@dataclass
class Person:
    """Somebody with an address. After `leaves` nobody reads their mail, and it bounces."""

    address: str
    habit: Habit
    habit_name: str
    dice: random.Random
    leaves: float = float("inf")
    # Mails about an account, and what they have made up their mind to do about its keys.
    seen: dict[str, int] = field(default_factory=dict)
    intentions: dict[tuple[str, Keys], str] = field(default_factory=dict)


class People:
    """Everybody, their inboxes, and what they did."""

    def __init__(self, world: World, stack: Stack, seed: int) -> None:
        self.world = world
        self.stack = stack
        self.clock: Clock = stack.clock
        self.seed = seed
        self.everybody: dict[str, Person] = {}
        self.attempts: list[Attempt] = []
        self.on_get: Callable[[list[str]], None] = lambda _: None
        self.pages = 0
        self._page = stack.function("approval_page")

    def add(self, address: str, *, habit: str = "", leaves: float = float("inf")) -> Person:
        """Somebody new, with habits by the dice unless they are given."""
        dice = random.Random(f"{self.seed} {address}")
        name = habit or dice.choice(_CHOICES)
        person = Person(address, HABITS[name], name, dice, leaves)
        self.everybody[address.lower()] = person
        return person

    def get(self, mail: Mail) -> None:
        """A mail arrives."""
        person = self.everybody.get(mail.to.lower())
        expect(person, f"a mail to nobody: {mail.to}")
        assert person is not None
        for account in mail.accounts:
            person.seen[account] = person.seen.get(account, 0) + 1
        if person.leaves <= self.clock.time:
            self.clock.start(self._bounce, mail, after=person.dice.uniform(1, 300))
            return
        if not mail.link:
            return
        if person.dice.random() < 0.1:
            # A scanner of mails opens every link at once.
            self.clock.start(self._open, mail.link, after=5)
        if person.dice.random() < 0.2:
            # Those who read their mail at nine, all at the same moment.
            morning = (self.clock.time // DAY + 1) * DAY + 9 * HOUR
            delay = morning - self.clock.time
        else:
            delay = HOUR * person.dice.uniform(*person.habit.hours)
        self.clock.start(self._look_at, person, mail, after=delay)

    def _bounce(self, mail: Mail) -> None:
        """What SES tells of a mail to an address that is no more."""
        recipient = {"emailAddress": mail.to, "diagnosticCode": "550 5.1.1 no such user"}
        tags = {"ses:configuration-set": [self.stack.physical("MailConfigurationSet")]}
        detail = {
            "bounce": {"bounceType": "Permanent", "bouncedRecipients": [recipient]},
            "mail": {"tags": tags},
        }
        for account in mail.accounts:
            self.world.tell(account, f"the mail to {mail.to} bounces")
        self.stack.put_event("aws.ses", "Email Bounced", detail)

    def _look_at(self, person: Person, mail: Mail) -> None:
        """Sit down with a mail: open its link and do what there is to do."""
        if person.leaves <= self.clock.time:
            return
        after = ""
        for _ in range(10):
            page = self._open(mail.link, after=after)
            if page is None:
                return
            after = self._decide(person, mail, page)
            if not after:
                return

    def _decide(self, person: Person, mail: Mail, page: str) -> str:
        """Answer a page; return where the next one is, if there is one."""
        if 'name="account_id"' in page:
            account_id = _only(r"<dt>Account id</dt><dd>([0-9]{12})</dd>", page)
            token = _only(r'name="case" value="([^"]+)"', page)
            keys = _keys(page.partition("<h2>What was found</h2>")[2].partition("<form")[0])
            answer = self._intention(person, account_id, keys)
            self._act(person, mail, answer, {account_id: (token, keys)}, page)
            return ""
        if 'name="until"' in page and 'name="count"' not in page:
            # Approved already, perhaps in quarantine: some take it back.
            if person.dice.random() < 0.3:
                account_id = _only(r"<dt>Account id</dt><dd>([0-9]{12})</dd>", page)
                token = _only(r'name="case" value="([^"]+)"', page)
                keys = _keys(page.partition("<h2>What was found</h2>")[2].partition("<form")[0])
                self._act(person, mail, "decline", {account_id: (token, keys)}, page)
            return ""
        if 'name="count"' not in page:
            if "Rootsweep cannot delete" in page:
                self._remove_by_hand(person, re.findall(r"<dd>([0-9]{12})</dd>", page))
            return ""
        groups: dict[str, dict[str, tuple[str, Keys]]] = {}
        for block in page.split('<div class="case">')[1:]:
            account_id = _only(r"\(([0-9]{12})\)", block)
            token = re.search(r'name="case" value="([^"]+)"', block)
            if token is None:
                self._remove_by_hand(person, [account_id])
                continue
            keys = _keys(block.partition("</p>")[0])
            answer = self._intention(person, account_id, keys)
            groups.setdefault(answer, {})[account_id] = token[1], keys
        for answer, chosen in groups.items():
            self._act(person, mail, answer, chosen, page)
        next_page = re.search(r'href="\?after=([^"]+)"', page)
        return next_page[1] if next_page else ""

    def _intention(self, person: Person, account_id: str, keys: Keys) -> str:
        """What somebody wants to do about these keys; they do not change their mind."""
        if person.seen.get(account_id, 0) < person.habit.from_mail:
            return "nothing"
        if (account_id, keys) not in person.intentions:
            habit = person.habit
            weights = [habit.approves, habit.declines, habit.removes]
            weights.append(max(0.0, 1 - sum(weights)))
            words = ["approve", "decline", "remove", "nothing"]
            [choice] = person.dice.choices(words, weights)
            person.intentions[account_id, keys] = choice
        return person.intentions[account_id, keys]

    def _act(
        self,
        person: Person,
        mail: Mail,
        answer: str,
        chosen: dict[str, tuple[str, Keys]],
        page: str,
    ) -> None:
        if answer == "nothing":
            return
        if answer == "remove":
            self._remove_by_hand(person, list(chosen))
            return
        if person.dice.random() < 0.1:
            # The page stays open in a tab, and the form is sent when it comes to mind.
            self.clock.sleep(person.dice.uniform(60, 2 * DAY))
        form: list[tuple[str, str]] = [("case", token) for token, _ in chosen.values()]
        blocks = answer == "approve" and 'value="quarantine"' in page and person.dice.random() < 0.4
        form.append(("decision", "quarantine" if blocks else answer))
        if 'name="count"' in page:
            form.append(("count", str(len(chosen)) if answer == "approve" else ""))
        if answer == "decline":
            last = date.fromisoformat(_only(r'type="date" max="([0-9-]+)"', page))
            today = self.clock.now.date()
            days = person.dice.choice([7, 14, 30, 60, 90])
            until = min(last, today + timedelta(days=days))
            form += [("reason", "the nightly <b>job</b> needs it"), ("until", f"{until}")]
            form.append(("ticket", person.dice.choice(["", "OPS-12"])))
        elif 'name="count"' not in page:
            form.append(("account_id", next(iter(chosen))))
        for token, keys in chosen.values():
            case_id = token.rpartition(".")[0]
            self.attempts.append(
                Attempt(self.clock.time, person.address, case_id, answer, keys, blocks)
            )
        if person.dice.random() < 0.1:
            # A double click.
            self.clock.start(self._send, mail.link, form, after=person.dice.uniform(0, 0.2))
        status = self._send(mail.link, form)
        for account_id in chosen:
            word = "quarantine" if blocks else answer
            self.world.tell(account_id, f"{person.address} sends {word}: {status}")
        if answer == "approve" and person.dice.random() < 0.2:
            # A second look, some days later, after something stopped working.
            self.clock.start(self._look_at, person, mail, after=person.dice.uniform(0, 6) * DAY)

    def _remove_by_hand(self, person: Person, account_ids: list[str]) -> None:
        for account_id in account_ids:
            account = self.world.accounts[account_id]
            if person.dice.random() < 0.6:
                self.clock.sleep(person.dice.uniform(60, DAY))
                remove_every_key(self.world, account, person.address)

    def _open(self, link: str, *, after: str = "") -> str | None:
        """The page behind a link; None if there is none today."""
        answer = self._request("GET", link, after=after)
        return answer["body"] if answer and answer["statusCode"] in (200, 409) else None

    def _send(self, link: str, form: list[tuple[str, str]]) -> int:
        answer = self._request("POST", link, body=urlencode(form))
        return answer["statusCode"] if answer else 502

    def _request(
        self, method: str, link: str, *, after: str = "", body: str = ""
    ) -> dict[str, Any] | None:
        self.pages += 1
        event = {
            "httpMethod": method,
            "pathParameters": {"link": link},
            "queryStringParameters": {"after": after} if after else None,
            "body": body,
        }
        answer = self.stack.call(self._page, event)
        if method == "GET":
            self.on_get(self.stack.latest.writes)
        if isinstance(answer, Failure):
            return None
        expect(answer["statusCode"] in (200, 404, 409, 410, 503), (method, answer))
        return answer


def remove_every_key(world: World, account: Account, by: str) -> None:
    """What an owner does in the console."""
    for key_id in list(account.keys):
        world.remove_key(account, key_id, by)


def read_mail(at: float, sent: dict[str, Any]) -> Mail:
    """A mail as its reader sees it."""
    (to,) = sent["Destination"]["ToAddresses"]
    expect(parseaddr(to)[1] == to, to)
    content = sent["Content"]["Simple"]
    text = content["Body"]["Text"]["Data"]
    link = LINK.search(text)
    return Mail(
        at=at,
        to=to,
        subject=content["Subject"]["Data"],
        text=text,
        accounts=tuple(dict.fromkeys(ACCOUNT.findall(text))),
        link=link[1] if link else "",
    )


def _keys(text: str) -> Keys:
    return frozenset(KEY.findall(html.unescape(text)))


def _only(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    expect(match, f"no {pattern} in {text}")
    assert match is not None
    return match[1]
