"""The organization file: one YAML file that says what the pretend AWS Organization looks like.

Others write such files too, so the form is fixed, and reading is strict: a misspelled field would
quietly test something else than its author meant. The first thing that is wrong is refused as
``path:LINE: what is wrong and what is allowed``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ACCOUNT_STATES = ("PENDING_ACTIVATION", "ACTIVE", "SUSPENDED", "PENDING_CLOSURE", "CLOSED")
SWEEP_STATES = ("CLEAN", "ROOT_KEYS", "UNKNOWN", "SKIPPED", "EXCEPTED")
CASE_OUTCOMES = (
    "AWAITING_APPROVAL",
    "AWAITING_REMOVAL",
    "REMEDIATED",
    "RESOLVED",
    "DECLINED",
    "ESCALATED",
    "FAILED",
)
ANSWERS = ("approve", "decline", "ignore")
KEY_STATUSES = ("Active", "Inactive")
FAULT_SERVICES = ("account", "iam", "organizations", "sts")
ANSWERABLE = "iam:GetAccountSummary"

# Organizations: at most five levels of OUs under the root (AWS Organizations quotas).
MAX_OU_DEPTH = 5
MAX_ROOT_KEYS = 2
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

T = TypeVar("T")
UnitTags = dict[tuple[str, ...], dict[str, str]]
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class OrganizationFileError(Exception):
    """The file cannot be used; the message is one line and says where and why."""


@dataclass(frozen=True, slots=True)
class LastUsed:
    date: datetime
    service: str = "N/A"
    region: str = "N/A"


@dataclass(frozen=True, slots=True)
class AccessKey:
    id: str
    status: str = "Active"
    created: datetime = LONG_AGO
    last_used: LastUsed | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What one operation does instead of answering: an error, or an answer that is not true yet.

    ``times`` is how often; None is for ever.
    """

    error: str | None = None
    message: str | None = None
    times: int | None = None
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """How the account and its case have to end when every approver approves."""

    account: str | None = None
    case: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    name: str
    email: str
    state: str = "ACTIVE"
    ou: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    security_contact: str | None = None
    access_keys: tuple[AccessKey, ...] = ()
    mfa: bool = True
    password: bool = False
    audit_role: bool = True
    scp_denies_root: bool = False
    faults: Mapping[str, Fault] = field(default_factory=dict)
    answer: str | None = None
    expect: Expectation = Expectation()


@dataclass(frozen=True, slots=True)
class Organization:
    management_account: str
    security_account: str
    accounts: tuple[Account, ...]
    # By the names from the root down to the unit; the root itself is ().
    unit_tags: Mapping[tuple[str, ...], Mapping[str, str]] = field(default_factory=dict)


def load(path: str | Path) -> Organization:
    """The organization a file describes, with the accounts that design.md says are always there."""
    reader = _Reader(str(path))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise OrganizationFileError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise OrganizationFileError(f"{path}: cannot be read: it is not UTF-8 text") from None
    try:
        document = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(str(error.problem or error.context or error).split())
        raise OrganizationFileError(f"{path}:{line}: this is not YAML: {problem}") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise OrganizationFileError(f"{path}:1: this is not YAML: {problem}") from None
    if document is None:
        raise OrganizationFileError(
            f"{path}:1: the file is empty; it needs management_account, security_account, accounts"
        )
    return reader.organization(document)


class _Reader:
    """Turns YAML nodes into the data classes; nodes, because only they know their line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.key_lines: dict[str, int] = {}

    # -- what the file holds --------------------------------------------------------------------

    def organization(self, node: yaml.Node) -> Organization:
        fields = self.mapping(
            node,
            "the file",
            ("management_account", "security_account", "accounts", "organizational_units"),
        )
        management = self.required(node, fields, "management_account", self.account_id)
        security = self.required(node, fields, "security_account", self.account_id)
        if management == security:
            self.refuse(
                fields["security_account"],
                "security_account must be another account than management_account: AWS does not "
                "let the management account be a delegated administrator",
            )
        listed: dict[str, Account] = {}
        items: list[yaml.Node] = self.optional(fields, "accounts", self.sequence, [])
        for item in items:
            account = self.account(item, management, security)
            if account.id in listed:
                self.refuse(item, f"account {account.id} is listed twice")
            listed[account.id] = account
        always = {
            account_id: _unlisted(account_id, name)
            for account_id, name in ((management, "management"), (security, "security"))
            if account_id not in listed
        }
        units = {each.ou[:depth] for each in listed.values() for depth in range(len(each.ou) + 1)}
        no_tags: UnitTags = {}
        read = self.unit_tags({(), *units})
        unit_tags = self.optional(fields, "organizational_units", read, no_tags)
        return Organization(management, security, (*always.values(), *listed.values()), unit_tags)

    def unit_tags(self, known: set[tuple[str, ...]]) -> Callable[[yaml.Node], UnitTags]:
        """Reads the tags of units. A unit is there because an account is in it or below it."""

        def read(node: yaml.Node) -> UnitTags:
            tags: UnitTags = {}
            for key, value in self.pairs(node, "organizational_units"):
                names = self.ou(key)
                if names not in known:
                    self.refuse(key, f"no account is in the organizational unit {key.value!r}")
                fields = self.mapping(value, "an organizational unit", ("tags",))
                tags[names] = self.tags(fields["tags"]) if "tags" in fields else {}
            return tags

        return read

    def account(self, node: yaml.Node, management: str, security: str) -> Account:
        fields = self.mapping(
            node,
            "an account",
            (
                "id",
                "name",
                "email",
                "state",
                "ou",
                "tags",
                "security_contact",
                "root",
                "audit_role",
                "scp_denies_root",
                "faults",
                "answer",
                "expect",
            ),
        )
        account_id = self.required(node, fields, "id", self.account_id)
        name = {management: "management", security: "security"}.get(
            account_id, f"account-{account_id}"
        )
        root = self.root(fields["root"]) if "root" in fields else {}
        return Account(
            id=account_id,
            name=self.optional(fields, "name", self.text_up_to(128), name),
            email=self.optional(fields, "email", self.email(6, 64), _email(account_id)),
            state=self.optional(fields, "state", self.one_of(ACCOUNT_STATES), "ACTIVE"),
            ou=self.optional(fields, "ou", self.ou, ()),
            tags=self.optional(fields, "tags", self.tags, {}),
            security_contact=self.optional(fields, "security_contact", self.email(3, 254), None),
            audit_role=self.optional(fields, "audit_role", self.boolean, True),
            scp_denies_root=self.optional(fields, "scp_denies_root", self.boolean, False),
            faults=self.optional(fields, "faults", self.faults, {}),
            answer=self.optional(fields, "answer", self.one_of(ANSWERS), None),
            expect=self.optional(fields, "expect", self.expectation, Expectation()),
            **root,
        )

    def root(self, node: yaml.Node) -> dict[str, Any]:
        fields = self.mapping(node, "root", ("access_keys", "mfa", "password"))
        keys: list[yaml.Node] = self.optional(fields, "access_keys", self.sequence, [])
        if len(keys) > MAX_ROOT_KEYS:
            self.refuse(
                keys[MAX_ROOT_KEYS],
                f"a root user has at most {MAX_ROOT_KEYS} access keys, active or not",
            )
        return {
            "access_keys": tuple(self.access_key(key) for key in keys),
            "mfa": self.optional(fields, "mfa", self.boolean, True),
            "password": self.optional(fields, "password", self.boolean, False),
        }

    def access_key(self, node: yaml.Node) -> AccessKey:
        fields = self.mapping(node, "an access key", ("id", "status", "created", "last_used"))
        key_id = self.required(node, fields, "id", self.key_id)
        if key_id in self.key_lines:
            self.refuse(
                fields["id"],
                f"access key {key_id} is already on line {self.key_lines[key_id]}; "
                "key ids are unique in all of AWS",
            )
        self.key_lines[key_id] = _line(fields["id"])
        return AccessKey(
            id=key_id,
            status=self.optional(fields, "status", self.one_of(KEY_STATUSES), "Active"),
            created=self.optional(fields, "created", self.moment, LONG_AGO),
            last_used=self.optional(fields, "last_used", self.last_used, None),
        )

    def last_used(self, node: yaml.Node) -> LastUsed:
        fields = self.mapping(node, "last_used", ("date", "service", "region"))
        return LastUsed(
            date=self.required(node, fields, "date", self.moment),
            service=self.optional(fields, "service", self.text_up_to(64), "N/A"),
            region=self.optional(fields, "region", self.text_up_to(64), "N/A"),
        )

    def faults(self, node: yaml.Node) -> dict[str, Fault]:
        return {
            self.operation(key): self.fault(key.value, value)
            for key, value in self.pairs(node, "faults")
        }

    def fault(self, operation: str, node: yaml.Node) -> Fault:
        fields = self.mapping(node, "a fault", ("error", "message", "times", "answer"))
        if ("error" in fields) == ("answer" in fields):
            self.refuse(node, "a fault has either error or answer, and not both")
        if "answer" in fields and operation != ANSWERABLE:
            self.refuse(fields["answer"], f"answer has a meaning for {ANSWERABLE} only; use error")
        if "answer" in fields and "message" in fields:
            self.refuse(fields["message"], "message goes with error, not with answer")
        return Fault(
            error=self.optional(fields, "error", self.error_code, None),
            message=self.optional(fields, "message", self.text_up_to(1000), None),
            times=self.optional(fields, "times", self.positive, None),
            answer=self.optional(fields, "answer", self.summary_members, None),
        )

    def expectation(self, node: yaml.Node) -> Expectation:
        fields = self.mapping(node, "expect", ("account", "case"))
        return Expectation(
            account=self.optional(fields, "account", self.one_of(SWEEP_STATES), None),
            case=self.optional(fields, "case", self.one_of(CASE_OUTCOMES), None),
        )

    # -- what a value may be --------------------------------------------------------------------

    def account_id(self, node: yaml.Node) -> str:
        value = self.scalar(node, "a 12-digit account id")
        quoted = getattr(node, "style", None) in ("'", '"')
        if value.startswith("0") and not quoted:
            # 012345670123 is a string to one YAML reader and an octal number to the next.
            self.refuse(node, f'an account id that starts with 0 must be quoted: "{value}"')
        if not re.fullmatch(r"[0-9]{12}", value):
            self.refuse(
                node,
                f"{value!r} is not an account id: 12 digits, in quotes, because YAML drops "
                "leading zeros of numbers",
            )
        return value

    def key_id(self, node: yaml.Node) -> str:
        value = self.text(node)
        if not re.fullmatch(r"[A-Za-z0-9_]{16,128}", value):
            self.refuse(node, f"{value!r} is not an access key id: 16 to 128 letters, digits and _")
        return value

    def moment(self, node: yaml.Node) -> datetime:
        value = self.scalar(node, "a date")
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.refuse(node, f"{value!r} is not a date: write 2016-04-01 or 2016-04-01T12:30:00Z")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def ou(self, node: yaml.Node) -> tuple[str, ...]:
        value = self.text(node).strip("/")
        if value.lower() in ("", "root"):
            return ()
        names = tuple(value.split("/"))
        if any(not name.strip() or len(name) > 128 for name in names):
            self.refuse(
                node, f"{value!r} is not a path of OUs: names of 1 to 128 characters with / between"
            )
        if len(names) > MAX_OU_DEPTH:
            self.refuse(
                node, f"{value!r} is {len(names)} OUs deep; AWS allows {MAX_OU_DEPTH} levels"
            )
        return names

    def tags(self, node: yaml.Node) -> dict[str, str]:
        tags = {}
        for key, value in self.pairs(node, "tags"):
            if not 1 <= len(key.value) <= 128:
                self.refuse(key, "a tag key has 1 to 128 characters")
            tags[key.value] = self.scalar(value, "a text")
            if len(tags[key.value]) > 256:
                self.refuse(value, "a tag value has at most 256 characters")
        return tags

    def operation(self, node: yaml.ScalarNode) -> str:
        service, _, operation = node.value.partition(":")
        if service not in FAULT_SERVICES or operation not in _operations(service):
            self.refuse(
                node,
                f"{node.value!r} is not an operation: write service:Operation, for instance "
                f"iam:GetAccountSummary; services: {', '.join(FAULT_SERVICES)}",
            )
        return str(node.value)

    def error_code(self, node: yaml.Node) -> str:
        value = self.text(node)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.]*", value):
            self.refuse(node, f"{value!r} is not an AWS error code, for instance Throttling")
        return value

    def summary_members(self, node: yaml.Node) -> dict[str, int]:
        return {str(key.value): self.integer(value) for key, value in self.pairs(node, "answer")}

    def boolean(self, node: yaml.Node) -> bool:
        if node.tag != "tag:yaml.org,2002:bool":
            self.refuse(node, f"{_shown(node)} is not true or false")
        return str(node.value).lower() in ("true", "yes", "on")

    def integer(self, node: yaml.Node) -> int:
        if node.tag != "tag:yaml.org,2002:int" or not re.fullmatch(r"-?[0-9]+", node.value):
            self.refuse(node, f"{_shown(node)} is not a whole number")
        return int(node.value)

    def positive(self, node: yaml.Node) -> int:
        value = self.integer(node)
        if value < 1:
            self.refuse(node, f"{value} is not 1 or more; leave times out for ever")
        return value

    def text(self, node: yaml.Node) -> str:
        if node.tag != "tag:yaml.org,2002:str":
            self.refuse(node, f"{_shown(node)} is not a text; put it in quotes if it is meant so")
        return str(node.value)

    def text_up_to(self, length: int) -> Callable[[yaml.Node], str]:
        def read(node: yaml.Node) -> str:
            value = self.text(node)
            if not 1 <= len(value) <= length:
                self.refuse(node, f"a text of 1 to {length} characters is needed")
            return value

        return read

    def email(self, shortest: int, longest: int) -> Callable[[yaml.Node], str]:
        def read(node: yaml.Node) -> str:
            value = self.text(node)
            # The pattern of Email in the Organizations API; nothing more, so that a file can
            # hold the ugly addresses that AWS would also let through.
            if not re.fullmatch(r"[^\s@]+@[^\s@]+\.[^\s@]+", value):
                self.refuse(node, f"{value!r} is not a mail address")
            if not shortest <= len(value) <= longest:
                self.refuse(node, f"a mail address has {shortest} to {longest} characters")
            return value

        return read

    def one_of(self, allowed: Iterable[str]) -> Callable[[yaml.Node], str]:
        def read(node: yaml.Node) -> str:
            value = self.scalar(node, "one of " + ", ".join(allowed))
            if value not in allowed:
                self.refuse(node, f"{value!r} is not allowed here; allowed: {', '.join(allowed)}")
            return value

        return read

    # -- nodes ----------------------------------------------------------------------------------

    def mapping(self, node: yaml.Node, what: str, allowed: tuple[str, ...]) -> dict[str, yaml.Node]:
        """The fields that are set. A field with nothing behind it counts as left out."""
        fields = {}
        for key, value in self.pairs(node, what):
            if key.value not in allowed:
                self.refuse(
                    key, f"unknown field {key.value!r} in {what}; allowed: {', '.join(allowed)}"
                )
            if value.tag != "tag:yaml.org,2002:null":
                fields[key.value] = value
        return fields

    def pairs(self, node: yaml.Node, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, f"{what} must be a map of fields, not {_shown(node)}")
        seen: set[str] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.refuse(key, f"a field name in {what} must be a text")
            if key.value in seen:
                self.refuse(key, f"{key.value!r} is set twice in {what}")
            seen.add(key.value)
        return list(node.value)

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self.refuse(node, f"a list is needed here, not {_shown(node)}")
        return list(node.value)

    def scalar(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, f"{what} is needed here, not {_shown(node)}")
        return str(node.value)

    def required(
        self,
        node: yaml.Node,
        fields: dict[str, yaml.Node],
        name: str,
        read: Callable[[yaml.Node], T],
    ) -> T:
        if name not in fields:
            self.refuse(node, f"{name} is missing")
        return read(fields[name])

    def optional(
        self, fields: dict[str, yaml.Node], name: str, read: Callable[[yaml.Node], T], default: T
    ) -> T:
        return read(fields[name]) if name in fields else default

    def refuse(self, node: yaml.Node, problem: str) -> NoReturn:
        raise OrganizationFileError(f"{self.path}:{_line(node)}: {problem}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value else "nothing"
    return "a map" if isinstance(node, yaml.MappingNode) else "a list"


def _email(account_id: str) -> str:
    return f"aws+{account_id}@example.com"


def _unlisted(account_id: str, name: str) -> Account:
    return Account(id=account_id, name=name, email=_email(account_id))


@cache
def _operations(service: str) -> frozenset[str]:
    """The names botocore knows, so that a misspelled fault is found when the file is read."""
    import botocore.session

    return frozenset(botocore.session.get_session().get_service_model(service).operation_names)
