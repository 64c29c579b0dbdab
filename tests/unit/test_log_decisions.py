from __future__ import annotations

import json
import logging
from typing import Any

import log_decisions
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

from operate import verify_log
from rootsweep import announcements, cases
from rootsweep.cases import Outcome

from .builders import (
    APPROVER,
    LATER,
    NOW,
    a_decided_case,
    a_decision,
    a_waiting_case,
    an_error,
    end_case,
    item_of,
)

CASE = "333333333333-20260304T050607Z"


def stream(*items: dict[str, Any]) -> dict[str, Any]:
    """What Lambda hands over when these items are new."""
    value = TypeSerializer().serialize
    images = [{name: value(item[name]) for name in item} for item in items]
    return {"Records": [{"eventName": "INSERT", "dynamodb": {"NewImage": each}} for each in images]}


@pytest.fixture(autouse=True)
def bus(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was put on the event bus."""
    told: list[dict[str, Any]] = []

    def put_events(**given: Any) -> dict[str, Any]:
        assert len(given["Entries"]) <= 10  # What PutEvents takes (API Reference).
        told.extend(given["Entries"])
        return {"Entries": [{"EventId": "x"} for _ in given["Entries"]]}

    monkeypatch.setattr(log_decisions.events, "put_events", put_events)
    return told


def entries(s3: Any) -> list[dict[str, Any]]:
    """The exported log, which holds."""
    found, broken = verify_log.read_bucket(s3, "decisions")
    verify_log.verify(found, broken=broken)
    return [json.loads(found[number]) for number in sorted(found)]


def test_a_changed_case_is_logged_and_exported(
    table: Any, log: Any, s3: Any, stop_clock: Any
) -> None:
    stop_clock(log_decisions, LATER)
    case = a_decided_case(table)

    assert log_decisions.handler(stream(item_of(table, case)), None) == {"appended": 1}

    [entry] = entries(s3)
    assert (entry["case_id"], entry["what"]) == (case.id, "APPROVED")
    assert entry["logged_at"] == "2026-03-05T05:06:07Z"
    assert log.get_item(Key={"pk": "LOG", "sk": "HEAD"})["Item"]["exported"] == 1


def test_what_comes_twice_or_in_another_order_is_logged_once(
    table: Any,
    log: Any,  # noqa: ARG001
    s3: Any,
) -> None:
    case = a_decided_case(table)
    early = item_of(table, case)
    cases.record_deletion_started(table, case_id=case.id, now=NOW)
    cases.record_deleted(table, case_id=case.id, key_id="AKIA1", now=NOW)
    end_case(table, case.id, Outcome.REMEDIATED, reason="")
    late = item_of(table, case)

    for event in (stream(late, early, late), stream(early), stream(late)):
        log_decisions.handler(event, None)

    said = [entry["what"] for entry in entries(s3)]
    assert said == ["APPROVED", "DELETION_STARTED", "KEY_DELETED", "ENDED"]


def test_cases_can_be_logged_again_by_their_ids(
    table: Any,
    log: Any,  # noqa: ARG001
    s3: Any,
) -> None:
    case = a_decided_case(table)

    assert log_decisions.handler({"case_ids": [case.id]}, None) == {"appended": 1}
    assert log_decisions.handler({"case_ids": [case.id, case.id]}, None) == {"appended": 0}
    assert log_decisions.handler({"case_ids": []}, None) == {"appended": 0}

    assert len(entries(s3)) == 1


def test_a_case_that_is_not_there_is_an_error(
    table: Any,  # noqa: ARG001
    log: Any,  # noqa: ARG001
) -> None:
    with pytest.raises(KeyError, match="no-case"):
        log_decisions.handler({"case_ids": ["no-case"]}, None)


def test_a_case_that_nobody_has_answered_is_not_even_looked_up(
    table: Any, bus: list[dict[str, Any]]
) -> None:
    event = stream(item_of(table, a_waiting_case(table)))

    # There is no log, and nothing asks for it.
    assert log_decisions.handler(event, None) == {"appended": 0}

    assert len(bus) == 1


def test_others_are_told_what_changed_and_only_that(
    table: Any,
    log: Any,  # noqa: ARG001
    s3: Any,  # noqa: ARG001
    bus: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(log_decisions, "METRICS_NAMESPACE", "Rootsweep/rootsweep")
    case = a_waiting_case(table)
    before = item_of(table, case)
    waits_for_the_next_mail = {**before, "next_mail_at": "2026-03-09T05:06:07Z"}
    cases.decide(table, case=case, decision=a_decision(case))
    [record] = stream(item_of(table, case))["Records"]
    record |= {"eventID": "1a2b", "eventName": "MODIFY"}
    record["dynamodb"] |= {
        "OldImage": stream(before)["Records"][0]["dynamodb"]["NewImage"],
        "SequenceNumber": "4421584500000000017450439091",
        "ApproximateCreationDateTime": NOW.timestamp(),
    }
    [unseen] = stream(waits_for_the_next_mail)["Records"]
    unseen["dynamodb"]["OldImage"] = record["dynamodb"]["OldImage"]

    log_decisions.handler({"Records": [unseen, record]}, None)

    [entry] = bus
    detail = json.loads(entry.pop("Detail"))
    assert entry == {
        "Source": "rootsweep",
        "DetailType": "Rootsweep Case Changed",
        "Resources": [case.execution_arn],
        "Time": NOW,
    }
    assert (detail["id"], detail["sequence"]) == ("1a2b", "4421584500000000017450439091")
    assert detail["changed"] == ["approvals", "decision"]
    assert detail["previous_outcome"] == detail["outcome"] == "AWAITING_APPROVAL"
    assert detail["decision"]["by"] == APPROVER
    [measured] = [vars(each) for each in caplog.records if each.getMessage() == "measured"]
    assert (measured["Decisions"], measured["Answer"]) == (1, "APPROVED")


def test_whoever_cannot_be_told_holds_up_no_decision(
    table: Any,
    log: Any,  # noqa: ARG001
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = a_decided_case(table)

    def fails(**_: Any) -> None:
        raise an_error("InternalFailure", "PutEvents")

    monkeypatch.setattr(log_decisions.events, "put_events", fails)
    with caplog.at_level(logging.ERROR, logger="root"):
        assert log_decisions.handler(stream(item_of(table, case)), None) == {"appended": 1}

    assert len(entries(s3)) == 1
    [told] = caplog.records
    assert vars(told)["case_id"] == case.id
    assert told.getMessage() == "failed to tell others of a change"


def test_a_change_that_is_not_understood_is_the_only_one_that_is_not_told(
    table: Any,
    log: Any,  # noqa: ARG001
    bus: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, bad = a_waiting_case(table), a_waiting_case(table, id="333333333334")
    newer = {**item_of(table, bad), "schema": 1000}

    log_decisions.handler(stream(newer, item_of(table, good)), None)

    [entry] = bus
    assert json.loads(entry["Detail"])["case_id"] == good.id
    [told] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert vars(told)["case_id"] == bad.id


def test_a_stream_that_does_not_say_how_a_case_was_tells_nobody(
    table: Any,
    log: Any,  # noqa: ARG001
    bus: list[dict[str, Any]],
) -> None:
    event = stream(item_of(table, a_waiting_case(table)))
    event["Records"][0]["eventName"] = "MODIFY"

    log_decisions.handler(event, None)

    assert bus == []


def test_others_can_be_told_again_by_the_ids_of_cases(
    table: Any, bus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_decided_case(table)

    for _ in range(2):
        log_decisions.handler({"announce": [case.id]}, None)
    monkeypatch.setattr(log_decisions.events, "put_events", refuse)
    with pytest.raises(announcements.NotAnnouncedError, match="did not take 1 events"):
        log_decisions.handler({"announce": [case.id]}, None)

    first, again = (json.loads(entry["Detail"]) for entry in bus)
    assert first == again
    assert (first["previous_outcome"], first["sequence"]) == (None, None)
    assert first["decision"]["answer"] == "APPROVED"


def refuse(**given: Any) -> dict[str, Any]:
    """What EventBridge answers when it takes nothing, which is no error to the SDK."""
    return {"Entries": [{"ErrorCode": "InternalFailure"} for _ in given["Entries"]]}


def test_what_the_bucket_did_not_take_is_raised_and_exported_later(
    table: Any,
    log: Any,  # noqa: ARG001
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    event = stream(item_of(table, a_decided_case(table)))
    put = log_decisions.s3.put_object

    def fails(**_: Any) -> None:
        raise an_error("InternalError", "PutObject")

    monkeypatch.setattr(log_decisions.s3, "put_object", fails)
    with pytest.raises(ClientError, match="InternalError"):
        log_decisions.handler(event, None)
    monkeypatch.setattr(log_decisions.s3, "put_object", put)

    assert log_decisions.handler(event, None) == {"appended": 0}

    assert len(entries(s3)) == 1


def test_which_case_could_not_be_logged_is_logged(
    table: Any, caplog: pytest.LogCaptureFixture
) -> None:
    case = a_decided_case(table)  # And there is no log.

    with caplog.at_level(logging.ERROR, logger="root"), pytest.raises(ClientError):
        log_decisions.handler(stream(item_of(table, case)), None)

    told = {vars(each).get("case_id"): each.getMessage() for each in caplog.records}
    assert told[case.id] == "failed"


def test_no_task_token_gets_into_the_log(
    table: Any,
    log: Any,  # noqa: ARG001
    s3: Any,
) -> None:
    case = a_decided_case(table)
    assert item_of(table, case)["task_token"] == "a-token"

    log_decisions.handler(stream(item_of(table, case)), None)

    assert "a-token" not in json.dumps(entries(s3))
