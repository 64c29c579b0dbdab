from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rootsweep import announcements, cases
from rootsweep.cases import Answer, Obstacle, Outcome

from .builders import (
    APPROVER,
    DEPUTY,
    FIRST,
    HOSTILE,
    LATER,
    NOW,
    TWO_PEOPLE,
    a_decided_case,
    a_decision,
    a_waiting_case,
    asked,
    end_case,
    item_of,
    open_a_case,
)

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/case-changed.schema.json").read_text())


def detail_of(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What an event says: as documented, and nothing that is not."""
    entry = announcements.entry(case=item, **more)
    assert entry
    detail: dict[str, Any] = json.loads(entry["Detail"])
    Draft202012Validator(SCHEMA).validate(detail)
    assert detail.keys() == SCHEMA["properties"].keys()
    return detail


def test_a_case_is_told_of_at_every_moment_of_its_life(table: Any) -> None:
    case = open_a_case(table)
    items = [item_of(table, case)]

    def then(_: Any) -> None:
        items.append(item_of(table, case))

    then(asked(table, case, APPROVER, obstacle=Obstacle.SERVICE_CONTROL_POLICY))
    end_case(table, case.id, Outcome.ESCALATED, reason="nobody answered in time")
    then(None)
    case = a_waiting_case(table, now=LATER, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    then(None)
    for by in (APPROVER, DEPUTY):
        seen = cases.load(table, case_id=case.id)
        then(cases.decide(table, case=seen, decision=a_decision(case, by=by)))
    then(cases.record_held(table, case_id=case.id, held="KillSwitchOn", now=LATER))
    then(
        cases.record_quarantined(
            table, case_id=case.id, until=LATER, task_token="another-token", now=LATER
        )
    )
    then(cases.record_deletion_started(table, case_id=case.id, now=LATER))
    then(cases.record_deleted(table, case_id=case.id, key_id=FIRST, now=LATER))
    end_case(table, case.id, Outcome.REMEDIATED, reason="")
    then(None)

    told = [
        detail_of(item, before=before if before["case_id"] == item["case_id"] else None)
        for before, item in pairwise(items)
    ]
    assert [(each["outcome"], each["changed"][0]) for each in told] == [
        ("AWAITING_REMOVAL", "answer_by"),
        ("ESCALATED", "ended_at"),
        ("AWAITING_APPROVAL", "account_id"),
        ("AWAITING_APPROVAL", "approvals"),
        ("AWAITING_APPROVAL", "approvals"),
        ("AWAITING_APPROVAL", "held"),
        ("AWAITING_APPROVAL", "blocked_until"),
        ("AWAITING_APPROVAL", "deletion_started_at"),
        ("AWAITING_APPROVAL", "deleted_key_ids"),
        ("REMEDIATED", "ended_at"),
    ]
    assert told[4]["decision"]["by"] == f"{APPROVER}, {DEPUTY}"
    assert (told[-1]["previous_outcome"], told[-1]["deleted_key_ids"]) == (
        "AWAITING_APPROVAL",
        [FIRST],
    )


def test_a_case_that_was_opened_has_no_outcome_before(table: Any) -> None:
    item = item_of(table, open_a_case(table))

    detail = detail_of(item, id="1a", sequence="17", at=NOW.timestamp())

    assert detail["previous_outcome"] is None
    assert detail["changed"] == sorted(
        name for name, value in announcements.told(item).items() if value
    )
    assert {"case_id", "outcome"} < {*detail["changed"]}
    assert "ended_at" not in detail["changed"]
    assert (detail["version"], detail["id"], detail["sequence"]) == (1, "1a", "17")


def test_what_nobody_is_told_of_is_no_event(table: Any) -> None:
    case = a_waiting_case(table)
    before = item_of(table, case)
    cases.await_approval(table, case_id=case.id, task_token="a-newer-token")

    assert announcements.entry(case=item_of(table, case), before=before) is None


def test_nothing_in_an_event_ends_a_wait_or_says_who_is_asked(table: Any) -> None:
    case = a_waiting_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)
    cases.record_quarantined(
        table, case_id=case.id, until=LATER, task_token="another-token", now=NOW
    )
    item = item_of(table, case)

    text = json.dumps(announcements.entry(case=item), default=str)

    for secret in ("a-token", "another-token", APPROVER, DEPUTY, item["fingerprint"]):
        assert secret in json.dumps(item, default=str)
        assert secret not in text


@pytest.mark.parametrize("words", HOSTILE)
def test_words_of_others_are_one_plain_line(table: Any, words: str) -> None:
    case = a_decided_case(table, Answer.DECLINED, name=words)
    item = item_of(table, case)
    item["decision"] |= {"reason": words, "ticket": words}

    detail = detail_of({**item, "ou": words, "reason": words})

    said = [detail[name] or "" for name in ("account_name", "ou", "reason")]
    said += [detail["decision"][name] or "" for name in ("reason", "ticket")]
    assert all(text.isprintable() and len(text) <= 1000 for text in said)
    assert not any("https://" in text for text in said[:2])


def test_what_the_bus_did_not_take_is_put_again_and_the_rest_is_not() -> None:
    given: list[list[str]] = []

    class Bus:
        def put_events(self, **request: Any) -> Any:
            names = [entry["Detail"] for entry in request["Entries"]]
            given.append(names)
            refused = {"7", "11"} if len(given) in (1, 3) else set()
            taken = {"EventId": "x"}
            return {
                "Entries": [{"ErrorCode": "Throttled"} if n in refused else taken for n in names]
            }

    bus: Any = Bus()
    announcements.put(bus, [{"Detail": str(number)} for number in range(12)])

    assert given == [[str(number) for number in range(10)], ["7"], ["10", "11"], ["11"]]


def test_nothing_to_tell_is_no_call() -> None:
    bus: Any = None

    announcements.put(bus, [])
