"""Requests that nobody would think of: FUZZ_EXAMPLES of them in all, more or less."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

import approval_page
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from rootsweep import approvals, approvers, cases
from rootsweep.cases import Case, Obstacle
from rootsweep.table import approver_key, iso

from .builders import (
    APPROVER,
    DEPUTY,
    FAR_FUTURE,
    LATER,
    NOW,
    THIRD,
    TWO_PEOPLE,
    a_waiting_case,
    asked,
    contents,
    with_link,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2000"))


def fuzz(percent: int) -> settings:
    """So much of all examples."""
    return settings(
        max_examples=max(1, EXAMPLES * percent // 100),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


GOOD, DEPUTYS, EXPIRED, REVOKED = "the-good-link", "the-deputys-link", "expired-link", "old-link"
LINKS = [GOOD, DEPUTYS, EXPIRED, REVOKED]
READS = {"GetItem", "BatchGetItem", "Query"}
STATUSES = {200, 204, 400, 404, 405, 409, 410, 413, 422}


@dataclass
class World:
    """What is in the table, what a link may show of it, and what was written to it."""

    table: Any
    mine: list[Case]
    theirs: list[Case]
    before: list[dict[str, Any]]
    writes: list[str] = field(default_factory=list)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """For hypothesis, which would fill pages with it."""
        printer.text("World()")

    def cases_of(self, link: Any) -> list[Case]:
        return {GOOD: self.mine, DEPUTYS: self.theirs}.get(link, [])

    def restore(self) -> None:
        """Undo what a form did."""
        for item in self.before:
            if item["sk"] == "CASE":
                self.table.put_item(Item=item)
        self.writes.clear()


@pytest.fixture
def world(table: Any) -> Iterator[World]:
    def waiting(id: str, name: str, approver: str, link: str, **given: Any) -> Case:
        case = a_waiting_case(table, id=id, name=name, approvers=[approver, THIRD], **given)
        return with_link(table, case, secret=link, approver=approver, expires_at=FAR_FUTURE)

    mine = [
        waiting("444444444441", "confidential-mine-1", APPROVER, GOOD),
        waiting("444444444442", "confidential-mine-2", APPROVER, GOOD, quorum=TWO_PEOPLE),
        waiting("444444444443", "confidential-mine-3", APPROVER, GOOD),
    ]
    by_hand = waiting("444444444444", "confidential-mine-4", APPROVER, GOOD)
    asked(table, by_hand, APPROVER, obstacle=Obstacle.ROOT_SESSION_DENIED)
    theirs = [waiting("555555555555", "confidential-theirs", DEPUTY, DEPUTYS)]
    for secret, made, ends in ((EXPIRED, NOW, NOW), (REVOKED, NOW - timedelta(1), FAR_FUTURE)):
        approvers.save_link(table, secret=secret, approver=APPROVER, now=made, expires_at=ends)
    table.put_item(Item={**approver_key(APPROVER), "schema": 1, "links_valid_from": iso(NOW)})
    here = World(table, mine, theirs, contents(table))

    def watch(model: Any, **_: Any) -> None:
        if model.name not in READS:
            here.writes.append(model.name)

    events = approval_page.table.meta.client.meta.events
    events.register("before-call.dynamodb", watch, unique_id="fuzz")
    yield here
    events.unregister("before-call.dynamodb", unique_id="fuzz")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(approval_page.datetime):  # type: ignore[name-defined,misc]
        @classmethod
        def now(cls, tz: object = None) -> Any:
            assert tz
            return LATER

    monkeypatch.setattr(approval_page, "datetime", Clock)


# -- what is generated ----------------------------------------------------------------------------

ANY_TEXT = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(codec=None), max_size=40),  # With lone surrogates.
    st.sampled_from(
        ["", " ", "\x00", "\ud800", "\u202e", "../..", "%00", "a\r\nB: c", "x" * 9_999]
    ),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
METHODS = st.sampled_from(
    ["GET", "HEAD", "OPTIONS", "POST", "POST", "POST", "PUT", "get", "", "TRACE"]
)
CASE_IDS = st.sampled_from(
    [f"{n * 12}-20260304T050607Z" for n in "45"]
    + [f"44444444444{n}-20260304T050607Z" for n in range(1, 6)]
    + ["444444444441-20260304T050607Z\n", "CASE#444444444441-20260304T050607Z", "٤" * 12]
)
SOME_LINK = st.one_of(
    st.sampled_from([*LINKS, GOOD, GOOD]),
    st.sampled_from(LINKS).flatmap(lambda link: damaged(link)),
    ANY_TEXT,
)
NO_GOOD_LINK = SOME_LINK.filter(lambda link: link not in (GOOD, DEPUTYS))
FIELD_NAMES = st.sampled_from(["case", "decision", "account_id", "count", "reason", "until"])
FIELD_VALUES = st.one_of(
    st.sampled_from(["approve", "decline", "444444444441", "1", "2", "2026-04-01", "migrating"]),
    CASE_IDS,
    ANY_TEXT.map(lambda text: text[:3000]),
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "content-type", "Host", "Cookie", "X-HTTP-Method-Override"]),
    st.sampled_from(
        ["application/json", "text/html", "multipart/form-data", "DELETE", "", "a\r\nb"]
    ),
    max_size=3,
)
QUERIES = st.none() | st.dictionaries(
    st.sampled_from(["case", "after", "count", "decision", "x"]), CASE_IDS | ANY_TEXT, max_size=3
)


def damaged(text: str) -> st.SearchStrategy[str]:
    """The text, cut, longer, or with one character changed."""
    places = st.integers(0, len(text))
    return st.one_of(
        places.map(lambda place: text[:place]),
        places.map(lambda place: text[place + 1 :]),
        places.map(lambda place: text[:place] + text[place:].swapcase()),
        st.builds(
            lambda place, other: text[:place] + other + text[place + 1 :],
            places,
            st.sampled_from([*"01aAfz.-_ %+", "\x00", "\u0661"]),
        ),
        st.sampled_from([text + " ", text * 2, text + "\x00", text[::-1], quote(text)]),
    )


def encoded(fields: list[tuple[str, str]]) -> str:
    return urlencode(fields, errors="replace")


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Any, Any]:
    """A body and whether it says that it is in base64."""
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return draw(st.sampled_from(["", None, "&", "=", "x" * 1_000_000, "a=b&" * 20_000])), False
    if kind == 1:
        raw = draw(st.binary(max_size=200))
        return base64.b64encode(raw).decode(), True
    if kind == 2:
        return draw(ANY_TEXT), draw(st.booleans())
    if kind == 3:
        return json.dumps(draw(ANY_JSON)), draw(st.booleans())
    if kind == 4:
        return draw(st.text("%0123456789abcdefABCDEF=&+;", max_size=60)), False
    fields = draw(st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=40))
    text = encoded(fields)
    if kind == 5:
        return base64.b64encode(text.encode()).decode(), True
    return text, False


@st.composite
def requests(draw: st.DrawFn, links: st.SearchStrategy[str] = SOME_LINK) -> dict[str, Any]:
    """A request as API Gateway would pass it on, however strange its contents."""
    body, is_base64 = draw(bodies())
    return {
        "httpMethod": draw(METHODS),
        "pathParameters": {"link": draw(links)},
        "queryStringParameters": draw(QUERIES),
        "headers": draw(HEADERS),
        "body": body,
        "isBase64Encoded": is_base64,
    }


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """A request of which some parts have a type that API Gateway never sends."""
    event = draw(requests())
    for name in draw(st.lists(st.sampled_from([*event, "pathParameters.link"]), max_size=3)):
        if name == "pathParameters.link":
            event["pathParameters"] = {"link": draw(ANY_JSON)}
        elif draw(st.booleans()):
            event.pop(name, None)
        else:
            event[name] = draw(ANY_JSON)
    return event


def form_of(chosen: list[Case], link: str, button: str, *, as_list: bool) -> list[tuple[str, str]]:
    """The form that decides about these cases."""
    fields = [("case", f"{case.id}.{approvals.page_token(link, case)}") for case in chosen]
    if as_list:
        fields.append(("count", str(len(chosen))))
    elif button == "approve":
        fields.append(("account_id", chosen[0].account_id))
    if button == "decline":
        fields += [("reason", "migrating"), ("until", "2026-04-01")]
    return [*fields, ("decision", button)]


@st.composite
def forms(draw: st.DrawFn, world: World) -> tuple[str, list[tuple[str, str]], list[Case]]:
    """A link, a form that counts, and what it decides about."""
    link = draw(st.sampled_from([GOOD, GOOD, GOOD, DEPUTYS]))
    chosen = draw(
        st.lists(st.sampled_from(world.cases_of(link)), min_size=1, unique_by=lambda each: each.id)
    )
    as_list = len(chosen) > 1 or draw(st.booleans())
    button = draw(st.sampled_from(["approve", "decline"]))
    return link, form_of(chosen, link, button, as_list=as_list), chosen


@st.composite
def mutants(draw: st.DrawFn, world: World) -> dict[str, Any]:
    """A form that counts, and then something happened to it or to its request."""
    link, fields, _ = draw(forms(world))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(fields) - 1)) if fields else -1
        kind = draw(st.integers(0, 6))
        if kind == 0 or not fields:
            fields.append((draw(FIELD_NAMES), draw(FIELD_VALUES)))
        elif kind == 1:
            del fields[place]
        elif kind == 2:
            fields.insert(draw(st.integers(0, len(fields))), fields[place])
        elif kind == 3:
            fields[place] = (fields[place][0], draw(damaged(fields[place][1])))
        elif kind == 4:
            fields[place] = (draw(damaged(fields[place][0])), fields[place][1])
        elif kind == 5:
            link = draw(SOME_LINK)
        else:
            # The case of one page with the token of another.
            other = draw(st.sampled_from([*world.mine, *world.theirs]))
            secret = draw(st.sampled_from(LINKS))
            case_id = draw(CASE_IDS | st.just(other.id))
            fields[place] = ("case", f"{case_id}.{approvals.page_token(secret, other)}")
    body = encoded(fields)
    is_base64 = draw(st.booleans())
    text = base64.b64encode(body.encode()).decode() if is_base64 else body
    if draw(st.integers(0, 4)) == 0:
        text = draw(damaged(text))
    if draw(st.integers(0, 9)) == 0:
        is_base64 = not is_base64
    return {
        "httpMethod": draw(
            st.sampled_from(["POST"] * 9 + ["GET", "HEAD", "OPTIONS", "PUT", "post"])
        ),
        "pathParameters": {"link": link},
        "queryStringParameters": draw(QUERIES),
        "headers": draw(HEADERS),
        "body": text,
        "isBase64Encoded": is_base64,
    }


# -- what has to be true --------------------------------------------------------------------------


def decided_by(event: dict[str, Any], world: World) -> set[str]:
    """The ids of the cases that this request may decide about, said in other words than the page's.

    A case needs its own token for this very link, and the form one decision with all that it needs.
    """
    link = event["pathParameters"]["link"]
    waiting = {case.id: case for case in world.cases_of(link)}
    body = event["body"]
    if event["httpMethod"] != "POST" or not waiting or not isinstance(body, str):
        return set()
    try:
        raw = base64.b64decode(body, validate=True).decode() if event["isBase64Encoded"] else body
        form = parse_qs(raw, keep_blank_values=True, errors="strict")
    except ValueError:
        return set()
    named = {value.rpartition(".")[0] for value in form.get("case", [])}
    proved = {
        case_id
        for case_id in named & set(waiting)
        if f"{case_id}.{approvals.page_token(link, waiting[case_id])}" in form["case"]
    }

    def said(name: str) -> str:
        return form[name][0].strip() if len(form.get(name, [])) == 1 else ""

    if said("decision") == "decline":
        return proved if said("reason") and said("until").startswith("20") else set()
    if said("decision") != "approve":
        return set()
    if "count" in form:
        return proved if said("count") == str(len(named)) else set()
    typed = said("account_id").replace("-", "")
    return {case_id for case_id in proved if case_id.startswith(f"{typed}-") and len(named) == 1}


def check(event: dict[str, Any]) -> dict[str, Any]:
    """Ask, and look at what has to be true of every answer."""
    answer = approval_page.handler(event, None)
    status, body = answer["statusCode"], answer["body"]

    assert status in STATUSES
    assert set(answer) == {"statusCode", "headers", "body"}
    assert answer["headers"]["Cache-Control"] == "no-store"
    json.dumps(answer, ensure_ascii=False).encode()
    assert len(body.encode()) < 40_000
    for secret in (*LINKS, "a-token"):
        assert secret not in body
    return answer


def check_privacy(event: dict[str, Any], answer: dict[str, Any]) -> None:
    """Nobody sees a case that is not theirs; a link that is not good shows nothing at all."""
    parameters = event.get("pathParameters")
    link = parameters.get("link") if isinstance(parameters, dict) else None
    hidden = {GOOD: ["confidential-theirs"], DEPUTYS: ["confidential-mine"]}.get(
        link if isinstance(link, str) else "",
        ["confidential", "AKIA", APPROVER, DEPUTY, THIRD, "Workloads"],
    )
    for word in hidden:
        assert word not in answer["body"]


def undecided(event: dict[str, Any], world: World) -> dict[str, Any]:
    answer = check(event)
    check_privacy(event, answer)
    assert world.writes == []
    return answer


@fuzz(35)
@given(requests())
def test_no_request_without_a_pages_own_token_fails_shows_or_changes_anything(
    world: World, event: dict[str, Any]
) -> None:
    undecided(event, world)


@fuzz(15)
@given(requests(NO_GOOD_LINK))
def test_behind_links_that_are_not_good_is_the_same_for_everybody(
    world: World, event: dict[str, Any]
) -> None:
    status = undecided(event, world)["statusCode"]

    known = event["pathParameters"]["link"] in (EXPIRED, REVOKED)
    expected = {"OPTIONS": 204, "GET": 410 if known else 404}
    expected |= dict.fromkeys(["HEAD", "POST"], expected["GET"])
    assert status == expected.get(event["httpMethod"], 405)


@fuzz(25)
@given(events())
def test_whatever_the_types_of_an_event_nothing_is_shown_or_changed(
    world: World, event: dict[str, Any]
) -> None:
    answer = approval_page.handler(event, None)

    assert answer["statusCode"] in STATUSES | {503}
    assert "Traceback" not in answer["body"]
    assert "Error" not in answer["body"].replace("<title>Error: ", "")
    check_privacy(event, answer)
    assert world.writes == []


@fuzz(23)
@given(data=st.data())
def test_a_form_that_was_tampered_with_decides_nothing_that_it_has_no_token_for(
    world: World, data: st.DataObject
) -> None:
    event = data.draw(mutants(world))
    allowed = decided_by(event, world)
    note(f"may decide {allowed}")

    check_privacy(event, check(event))

    if not allowed:
        assert world.writes == []
    if world.writes:
        before = {item["pk"]: item for item in world.before if item["sk"] == "CASE"}
        changed = [item for item in contents(world.table) if item not in world.before]
        assert {item["pk"] for item in changed} <= {f"CASE#{case_id}" for case_id in allowed}
        link = event["pathParameters"]["link"]
        for item in changed:
            after, was = Case.from_item(item), Case.from_item(before[item["pk"]])
            people = {each.by for each in [*after.approvals, after.decision] if each}
            assert people == {APPROVER if link == GOOD else DEPUTY}
            assert (after.keys, after.fingerprint, after.outcome, after.task_token) == (
                was.keys,
                was.fingerprint,
                was.outcome,
                was.task_token,
            )
        world.restore()


@fuzz(2)
@given(data=st.data())
def test_a_form_that_was_not_tampered_with_decides_exactly_what_it_says(
    world: World, data: st.DataObject
) -> None:
    """Without this, the tests above might never come near a form that counts."""
    link, fields, chosen = data.draw(forms(world))
    event = {
        "httpMethod": "POST",
        "pathParameters": {"link": link},
        "queryStringParameters": data.draw(QUERIES),
        "headers": data.draw(HEADERS),
        "body": encoded(data.draw(st.permutations(fields))),
        "isBase64Encoded": False,
    }
    assert decided_by(event, world) == {case.id for case in chosen}

    assert check(event)["statusCode"] == 200

    changed = {item["pk"] for item in contents(world.table) if item not in world.before}
    assert changed == {f"CASE#{case.id}" for case in chosen}
    by = APPROVER if link == GOOD else DEPUTY
    for case in chosen:
        after = cases.load(world.table, case_id=case.id)
        assert [each.by for each in after.approvals or [after.decision] if each] == [by]
    world.restore()
