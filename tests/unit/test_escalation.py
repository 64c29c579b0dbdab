from __future__ import annotations

import json
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootsweep import escalation
from rootsweep.escalation import EscalationPolicyError, Ladder, Position, Rung

from .builders import A_WEEK, HOSTILE, NOW, TWO_RUNGS

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TARGETS = ["approvers", "organizational_unit", "default_approver", "ciso@example.com"]

seconds = st.integers(min_value=1, max_value=10**6).map(lambda number: timedelta(seconds=number))


@st.composite
def rungs(draw: Any) -> Rung:
    """A rung of up to a dozen mails."""
    after = draw(seconds)
    turns = draw(st.integers(min_value=0, max_value=12))
    every = -(-after // (timedelta(seconds=1) * turns)) if turns else 0
    notify = draw(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3))
    return Rung(after, tuple(notify), timedelta(seconds=every) if every else None)


ladders = st.lists(rungs(), min_size=1, max_size=5).map(tuple)


def a_rung(**fields: Any) -> dict[str, Any]:
    return {"after": "7d", "notify": ["approvers"], **fields}


def parse(*given_rungs: Any) -> Ladder:
    return escalation.parse(json.dumps(given_rungs))


def refusal(text: str) -> str:
    with pytest.raises(EscalationPolicyError) as error:
        escalation.parse(text)
    return str(error.value)


def refusal_of(*given_rungs: Any) -> str:
    return refusal(json.dumps(given_rungs))


# -- reading a policy -----------------------------------------------------------------------------


def test_a_policy_is_read_rung_by_rung() -> None:
    assert parse(
        {"after": "7d", "notify": ["approvers"], "remind_every": "2d"},
        {"after": "7d", "notify": ["default_approver"]},
    ) == (TWO_RUNGS[0], Rung(timedelta(days=7), ("default_approver",)))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1s", timedelta(seconds=1)),
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("180d", timedelta(days=180)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse(a_rung(after=text)) == (Rung(duration, ("approvers",)),)


@pytest.mark.parametrize(
    "given_duration",
    [
        *("", "7", "d", "7 d", " 7d", "7d ", "7d\n", "0d", "07d", "-1d", "+1d", "1.5d", "1e3s"),
        *("7D", "7w", "7days", "1d12h", "P7D", "\u0667d", "12345678s", 7, 7.0, None, True, ["7d"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("field", ["after", "remind_every"])
def test_what_is_no_duration_is_refused_by_its_rung_and_field(
    field: str, given_duration: Any
) -> None:
    message = refusal_of(a_rung(), a_rung(**{field: given_duration}))

    assert message.startswith(f"rung 2: {field}: {str(given_duration)[:40]!r} is not a duration")
    assert "like 30m, 12h or 7d" in message


@pytest.mark.parametrize("target", TARGETS)
def test_a_rung_may_name_a_source_or_an_address(target: str) -> None:
    assert parse(a_rung(notify=[target]))[0].notify == (target,)


@pytest.mark.parametrize(
    "target",
    [
        *("", "approver", "Approvers", " approvers", "nobody", "a@b", "a@example.com "),
        *("a@example.com,b@example.com", "Payments <a@example.com>", "a@" + "x" * 260 + ".com"),
        *(7, None, True, [], {}, ["approvers"], *HOSTILE[:-1], "x" * 1000),
    ],
    ids=lambda target: ascii(target)[:20],
)
def test_whom_a_rung_cannot_ask_is_refused_by_rung_and_field(target: Any) -> None:
    message = refusal_of(a_rung(notify=["approvers", target]))

    assert message.startswith(f"rung 1: notify: {str(target)[:60]!r} is neither approvers, ")
    assert message.isprintable()


@pytest.mark.parametrize("notify", [[], "approvers", {}, None, 7], ids=repr)
def test_a_rung_that_asks_nobody_is_refused(notify: Any) -> None:
    assert refusal_of(a_rung(notify=notify)) == (
        "rung 1: notify: must be a list of at least one name or address"
    )


@pytest.mark.parametrize("text", ["", "seven days", "[", "{]", "[{}", "\x00", "\ud800", "[1e]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    assert refusal(text).startswith("it is not JSON: ")


def test_json_that_is_nested_too_deeply_is_refused_like_any_other() -> None:
    assert refusal("[" * 4096)


@pytest.mark.parametrize("text", ["[]", "{}", '"7d"', "7", "null", "true", "NaN"])
def test_what_is_no_list_of_rungs_is_refused(text: str) -> None:
    assert refusal(text) == "it must be a list of at least one rung"


@pytest.mark.parametrize("rung", [7, "7d", None, [], ["approvers"]], ids=repr)
def test_what_is_no_rung_is_refused_by_its_number(rung: Any) -> None:
    assert refusal_of(a_rung(), a_rung(), rung) == (
        "rung 3: must be an object with after, notify, remind_every"
    )


@pytest.mark.parametrize("field", ["remind", "Notify", "", "x" * 500])
def test_an_unknown_field_is_refused_by_its_name(field: str) -> None:
    assert refusal_of(a_rung(**{field: "7d"})) == (
        f"rung 1: {field[:40]}: unknown field; allowed are after, notify, remind_every"
    )


@pytest.mark.parametrize("field", ["after", "notify"])
def test_a_missing_field_is_named(field: str) -> None:
    rung = a_rung()
    del rung[field]

    assert refusal_of(a_rung(), rung) == f"rung 2: {field}: is missing"


def test_a_ladder_has_ten_rungs_and_no_more() -> None:
    assert len(parse(*[a_rung()] * 10)) == 10
    assert refusal_of(*[a_rung()] * 11) == "it has 11 rungs; at most 10 are allowed"


def test_a_ladder_takes_half_a_year_and_no_more() -> None:
    assert parse(a_rung(after="90d"), a_rung(after="90d"))
    for longer in ("91d", "9999999d"):
        assert "at most 180 days are allowed" in refusal_of(
            a_rung(after="90d"), a_rung(after=longer)
        )
    assert "rungs take 180 days, 0:00:01 together" in refusal_of(
        a_rung(after="180d"), a_rung(after="1s")
    )


def test_a_ladder_names_thirty_addresses_and_no_more() -> None:
    thirty = [f"a{n}@example.com" for n in range(30)]
    most = [a_rung(notify=[*TARGETS[:3], *thirty[:15]]), a_rung(notify=thirty[15:])]

    assert parse(*most)
    assert refusal_of(*most, a_rung(notify=["ciso@example.com"])) == (
        "its rungs name 31 addresses; at most 30 are allowed"
    )


def test_a_ladder_sends_two_hundred_mails_and_no_more() -> None:
    most = [a_rung(after="100h", remind_every="1h")] * 2

    assert parse(*most)
    assert refusal_of(*most, a_rung()).startswith(
        "its rungs send 201 mails to a person about one case; at most 200 are allowed"
    )
    assert "15552000 mails" in refusal_of(a_rung(after="180d", remind_every="1s"))


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(st.sampled_from(["after", "notify", "remind_every", "x"]), inside)
        ),
        max_leaves=8,
    ).map(json.dumps)
)
def test_whatever_a_policy_says_it_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        ladder, message = escalation.parse(text), ""
    except EscalationPolicyError as error:
        ladder, message = (), str(error)

    assert bool(ladder) is not bool(message)
    assert all(rung.notify and rung.after for rung in ladder)


@given(ladders)
def test_a_ladder_is_kept_as_it_is(ladder: Ladder) -> None:
    kept = json.loads(json.dumps([rung.to_dict() for rung in ladder]))

    assert tuple(Rung.from_dict(rung) for rung in kept) == ladder


@pytest.mark.parametrize("rung", [*A_WEEK, *TWO_RUNGS], ids=repr)
def test_a_rung_without_reminders_is_kept_without_them(rung: Rung) -> None:
    assert ("remind_every_seconds" in rung.to_dict()) is bool(rung.remind_every)


# -- the position on a ladder ---------------------------------------------------------------------


def at(ladder: Ladder, after: timedelta, *, first: int = 0) -> Position:
    return escalation.position(ladder, first=first, since=NOW, now=NOW + after)


def climb(ladder: Ladder, *, first: int = 0) -> list[Position]:
    """Each position of a climb, looked up when its mail is due."""
    positions = [at(ladder, timedelta(0), first=first)]
    while positions[-1].next_mail_at < positions[-1].deadline:
        positions.append(at(ladder, positions[-1].next_mail_at - NOW, first=first))
    return positions


def test_a_climb_is_told_mail_by_mail() -> None:
    seen = [
        (each.rung, each.reminder, (each.mail_at - NOW).days, (each.next_mail_at - NOW).days)
        for each in climb(TWO_RUNGS)
    ]

    assert seen == [(0, 0, 0, 2), (0, 1, 2, 4), (0, 2, 4, 6), (0, 3, 6, 7), (1, 4, 7, 14)]
    assert [(each.answer_by - NOW).days for each in climb(TWO_RUNGS)] == [7, 7, 7, 7, 14]


def test_a_climb_that_begins_in_the_middle_has_only_what_is_above() -> None:
    [only] = climb(TWO_RUNGS, first=1)

    assert (only.rung, only.reminder, only.mail_at) == (1, 0, NOW)
    assert only.next_mail_at == only.answer_by == only.deadline == NOW + 7 * DAY


def test_a_mail_is_due_at_its_second_and_not_before() -> None:
    due = at(TWO_RUNGS, timedelta(0)).next_mail_at - NOW

    assert at(TWO_RUNGS, due - timedelta(seconds=1)).reminder == 0
    assert at(TWO_RUNGS, due).reminder == 1
    assert at(TWO_RUNGS, due).mail_at == NOW + due


@pytest.mark.parametrize("after", [-DAY, timedelta(0)])
def test_before_a_climb_begins_it_is_at_its_first_mail(after: timedelta) -> None:
    assert at(TWO_RUNGS, after) == at(TWO_RUNGS, timedelta(0))


@pytest.mark.parametrize("after", [14 * DAY, 15 * DAY, 3650 * DAY])
def test_after_the_end_it_stays_at_its_last_mail(after: timedelta) -> None:
    last = at(TWO_RUNGS, after)

    assert (last.rung, last.reminder) == (1, 4)
    assert last.next_mail_at == last.deadline == NOW + 14 * DAY


@pytest.mark.parametrize("every", [7 * DAY, 8 * DAY])
def test_a_reminder_that_would_come_with_the_end_of_the_rung_does_not_come(
    every: timedelta,
) -> None:
    assert climb((Rung(7 * DAY, ("approvers",), every),)) == climb(A_WEEK)


def test_a_reminder_that_would_come_a_second_before_the_end_comes() -> None:
    rung = Rung(7 * DAY, ("approvers",), 7 * DAY - timedelta(seconds=1))

    assert len(climb((rung,))) == 2


@given(ladders, st.data())
def test_each_mail_is_one_later_than_the_one_before_and_no_rung_is_left_out(
    ladder: Ladder, data: st.DataObject
) -> None:
    first = data.draw(st.integers(min_value=0, max_value=len(ladder) - 1))
    positions = climb(ladder, first=first)

    assert [each.reminder for each in positions] == list(range(len(positions)))
    assert sorted({each.rung for each in positions}) == list(range(first, len(ladder)))
    assert [each.rung for each in positions] == sorted(each.rung for each in positions)
    end = NOW + sum((rung.after for rung in ladder[first:]), timedelta())
    assert {each.deadline for each in positions} == {end}
    for each, after in zip(positions, [*positions[1:], None], strict=True):
        assert each.mail_at < each.next_mail_at <= each.answer_by <= each.deadline
        assert each.next_mail_at == (after.mail_at if after else end)


@given(ladders, st.data())
def test_between_two_mails_nothing_changes(ladder: Ladder, data: st.DataObject) -> None:
    positions = climb(ladder)
    each = data.draw(st.sampled_from(positions))
    wait = int((each.next_mail_at - each.mail_at).total_seconds())
    later = timedelta(seconds=data.draw(st.integers(min_value=0, max_value=wait - 1)))

    assert at(ladder, each.mail_at - NOW + later) == each


@given(ladders, seconds, seconds)
def test_time_leads_up_and_never_down(ladder: Ladder, one: timedelta, two: timedelta) -> None:
    before, after = at(ladder, min(one, two)), at(ladder, max(one, two))

    assert before.rung <= after.rung
    assert before.reminder <= after.reminder
    assert before.next_mail_at <= after.next_mail_at
    assert before.deadline == after.deadline


def test_a_ladder_that_was_read_sends_as_many_mails_as_it_said() -> None:
    ladder = parse(a_rung(after="100h", remind_every="1h"), a_rung(after="50h", remind_every="30m"))

    assert len(climb(ladder)) == escalation.MOST_MAILS


def test_a_climb_across_time_zones_is_the_same() -> None:
    now = NOW.astimezone(timezone(9 * HOUR)) + 3 * DAY

    assert escalation.position(TWO_RUNGS, first=0, since=NOW, now=now) == at(TWO_RUNGS, 3 * DAY)


# -- who is asked ---------------------------------------------------------------------------------


def test_each_rung_adds_its_people_to_those_below_it() -> None:
    ladder = (
        Rung(DAY, ("approvers",)),
        Rung(DAY, ("organizational_unit", "approvers")),
        Rung(DAY, ("ciso@example.com",)),
    )

    assert [escalation.notified(ladder, rung=rung) for rung in range(3)] == [
        ("approvers",),
        ("approvers", "organizational_unit"),
        ("approvers", "organizational_unit", "ciso@example.com"),
    ]


@given(ladders)
def test_nobody_is_dropped_on_the_way_up_and_nobody_is_named_twice(ladder: Ladder) -> None:
    notified = [escalation.notified(ladder, rung=rung) for rung in range(len(ladder))]

    for number, names in enumerate(notified):
        assert len(set(names)) == len(names)
        assert set(ladder[number].notify) <= set(names)
        assert not number or names[: len(notified[number - 1])] == notified[number - 1]


def test_a_text_that_no_parameter_holds_is_refused() -> None:
    assert refusal("[" + " " * 4096) == "it is longer than 4096 characters"
