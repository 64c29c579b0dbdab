from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from operate import verify_log
from rootsweep import cases, decision_log
from rootsweep.cases import Answer, Outcome
from rootsweep.root_access import RootKey, fingerprint

from .builders import (
    ACCOUNT,
    APPROVER,
    DEPUTY,
    FIRST,
    HOSTILE,
    LATER,
    NOW,
    ONE_PERSON,
    SECOND,
    TWO_PEOPLE,
    a_decided_case,
    a_decision,
    a_key,
    a_waiting_case,
    an_error,
    asked,
    end_case,
    item_of,
    open_a_case,
)
from .quarantined import blocked, lifted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootsweep.cases import Case

BUCKET = "decisions"


def said(table: Any, case: Case) -> list[str]:
    return [fact["what"] for fact in decision_log.facts(item_of(table, case))]


def log_all(log: Any, item: dict[str, Any]) -> None:
    for fact in decision_log.new_facts(log, item):
        assert decision_log.append(log, fact=fact, now=NOW)


def fact(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"{number:064x}", "what": "APPROVED", "case_id": f"case-{number % 3}", **more}


def exported(s3: Any) -> dict[int, bytes]:
    entries, broken = verify_log.read_bucket(s3, BUCKET)
    assert broken == {}
    return entries


# -- what a case says -----------------------------------------------------------------------------


def test_a_case_that_nobody_has_answered_says_nothing(table: Any) -> None:
    assert said(table, open_a_case(table)) == []


def test_an_approval_says_who_when_about_which_keys_and_how_many_people_it_takes(
    table: Any,
) -> None:
    keys = (a_key(), a_key(SECOND, "Inactive"))
    case = a_waiting_case(table, keys=keys, quorum=TWO_PEOPLE, approvers=(APPROVER, DEPUTY))
    cases.decide(table, case=case, decision=a_decision(case, quarantine="14d"))

    [fact] = decision_log.facts(item_of(table, case))

    assert len(fact.pop("id")) == 64
    assert fact == {
        "what": "APPROVED",
        "case_id": case.id,
        "account_id": ACCOUNT,
        "by": APPROVER,
        "at": "2026-03-04T06:00:00Z",
        "fingerprint": case.fingerprint,
        "keys": [{"id": FIRST, "status": "Active"}, {"id": SECOND, "status": "Inactive"}],
        "quorum": 2,
        "quarantine": "14d",
    }
    # Whoever reads the log can see that the fingerprint is of these keys.
    seen = [RootKey(**key, created="") for key in fact["keys"]]
    assert fingerprint(fact["account_id"], seen) == fact["fingerprint"]


def test_the_approval_that_completes_the_quorum_is_one_fact(table: Any) -> None:
    case = a_decided_case(table, approvers=(APPROVER, DEPUTY), quorum=TWO_PEOPLE)

    found = decision_log.facts(item_of(table, case))

    assert [(fact["what"], fact["by"]) for fact in found] == [
        ("APPROVED", APPROVER),
        ("APPROVED", DEPUTY),
    ]


def test_a_decline_says_why_and_until_when(table: Any) -> None:
    case = a_waiting_case(table)
    declined = a_decision(case, Answer.DECLINED, ticket="SEC-1")
    cases.decide(table, case=case, decision=declined)
    end_case(table, case.id, Outcome.DECLINED, now=LATER)

    answer, end = decision_log.facts(item_of(table, case))

    assert (answer["what"], answer["reason"], answer["until"], answer["ticket"]) == (
        "DECLINED",
        declined.reason,
        declined.until,
        "SEC-1",
    )
    assert (end["what"], end["outcome"], end["at"], end["reason"]) == (
        "ENDED",
        "DECLINED",
        "2026-03-05T05:06:07Z",
        "r",
    )


def test_a_deletion_says_when_it_began_and_which_keys_went(table: Any) -> None:
    case = a_decided_case(table, keys=(a_key(), a_key(SECOND)))
    cases.record_deletion_started(table, case_id=case.id, now=NOW)
    for key in (FIRST, SECOND):
        cases.record_deleted(table, case_id=case.id, key_id=key, now=LATER)
    end_case(table, case.id, Outcome.REMEDIATED, now=LATER, reason="")

    assert said(table, case) == [
        "APPROVED",
        "DELETION_STARTED",
        "KEY_DELETED",
        "KEY_DELETED",
        "ENDED",
    ]
    deleted = decision_log.facts(item_of(table, case))[2:4]
    assert [fact["key_id"] for fact in deleted] == [FIRST, SECOND]


def test_a_deletion_that_was_taken_back_is_told_from_a_decline(table: Any) -> None:
    case = lifted(table, blocked(table))

    assert said(table, case) == ["APPROVED", "TAKEN_BACK"]


def test_what_became_history_is_set_aside_and_is_still_the_same_fact(table: Any) -> None:
    case = a_waiting_case(table, quorum=TWO_PEOPLE, approvers=(APPROVER, DEPUTY))
    case = cases.decide(table, case=case, decision=a_decision(case))
    [before] = decision_log.facts(item_of(table, case))

    more = (a_key(), a_key(SECOND))
    cases.record_evidence(table, case=case, keys=more, quorum=ONE_PERSON, now=LATER)
    case = asked(table, cases.load(table, case_id=case.id), APPROVER)
    cases.decide(table, case=case, decision=a_decision(case, at="2026-03-06T06:00:00Z"))

    past, present, aside = decision_log.facts(item_of(table, case))
    assert past["id"] == before["id"]
    assert [key["id"] for key in before["keys"]] == [FIRST]
    assert "keys" not in past  # The case does not know any more which they were.
    assert len(present["keys"]) == 2
    assert (aside["what"], aside["answer"], aside["by"]) == ("SET_ASIDE", past["id"], APPROVER)


def test_an_answer_of_an_older_release_is_the_same_fact_with_the_fields_of_a_newer_one() -> None:
    case = {"case_id": "c", "account_id": ACCOUNT, "fingerprint": "f", "keys": []}
    old = {"answer": "APPROVED", "by": APPROVER, "at": "t", "fingerprint": "f"}

    [one] = decision_log.facts(case | {"approvals": [old]})
    [same] = decision_log.facts(case | {"approvals": [old | {"quarantine": "", "ticket": ""}]})

    assert one == same


def test_an_end_without_any_answer_is_logged_too(table: Any) -> None:
    case = a_waiting_case(table)
    end_case(table, case.id, Outcome.ESCALATED)

    assert said(table, case) == ["ENDED"]


# -- the chain ------------------------------------------------------------------------------------


def test_the_chain_has_each_fact_once_and_holds(table: Any, log: Any, s3: Any) -> None:
    case = a_decided_case(table)
    log_all(log, item_of(table, case))
    end_case(table, case.id, Outcome.REMEDIATED, reason="")
    for _ in range(3):
        log_all(log, item_of(table, case))

    decision_log.export(s3, log, bucket=BUCKET)

    entries = exported(s3)
    number, hash = verify_log.verify(entries)
    assert number == 2
    first, second = (json.loads(entries[number]) for number in (1, 2))
    assert (first["what"], second["what"]) == ("APPROVED", "ENDED")
    assert (first["number"], first["previous"]) == (1, "0" * 64)
    assert (second["number"], second["previous"], second["hash"]) == (2, first["hash"], hash)
    assert first["logged_at"] == "2026-03-04T05:06:07Z"


def test_a_fact_that_somebody_else_has_logged_meanwhile_gets_no_second_entry(log: Any) -> None:
    assert decision_log.append(log, fact=fact(1), now=NOW)

    assert not decision_log.append(log, fact=fact(1, what="else"), now=LATER)

    assert decision_log.append(log, fact=fact(2), now=NOW)
    assert log.get_item(Key={"pk": "LOG", "sk": "HEAD"})["Item"]["newest"] == 2


def test_who_comes_second_looks_at_the_head_again(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = decision_log._write
    faster = iter([fact(7), fact(8)])

    def late(log: Any, chained: dict[str, Any]) -> None:
        other = next(faster, None)
        if other:
            monkeypatch.setattr(decision_log, "_write", write)
            decision_log.append(log, fact=other, now=NOW)
            monkeypatch.setattr(decision_log, "_write", late)
        write(log, chained)

    monkeypatch.setattr(decision_log, "_write", late)

    assert decision_log.append(log, fact=fact(1), now=NOW)

    newest = log.get_item(Key={"pk": "LOG", "sk": "ENTRY#000000000003"})["Item"]
    assert json.loads(newest["entry"])["id"] == fact(1)["id"]


def a_transaction(*codes: str) -> Callable[..., None]:
    def cancelled(log: Any, _: dict[str, Any]) -> None:
        response: Any = {
            "Error": {"Code": "TransactionCanceledException", "Message": "no"},
            "CancellationReasons": [{"Code": code} for code in codes],
        }
        raise log.meta.client.exceptions.TransactionCanceledException(response, "Write")

    return cancelled


@pytest.mark.parametrize(
    "codes", [("ThrottlingError", "None", "None"), ("TransactionConflict", "None", "None")]
)
def test_what_cannot_be_logged_is_raised(
    log: Any, monkeypatch: pytest.MonkeyPatch, codes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(decision_log, "_write", a_transaction(*codes))

    with pytest.raises(ClientError, match="TransactionCanceled"):
        decision_log.append(log, fact=fact(1), now=NOW)


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800"])
def test_whatever_people_wrote_is_in_the_log_as_ascii(log: Any, s3: Any, text: str) -> None:
    decision_log.append(log, fact=fact(1, reason=text), now=NOW)
    decision_log.export(s3, log, bucket=BUCKET)

    entries = exported(s3)
    assert verify_log.verify(entries)[0] == 1
    assert json.loads(entries[1].decode("ascii"))["reason"] == text


# -- the export -----------------------------------------------------------------------------------


def test_an_export_that_broke_off_is_done_by_the_next_one_in_order(
    log: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        decision_log.append(log, fact=fact(number), now=NOW)
    put = s3.put_object

    def fails(**request: Any) -> Any:
        if request["Key"].endswith("2.json"):
            raise an_error("SlowDown", "PutObject")
        return put(**request)

    monkeypatch.setattr(s3, "put_object", fails)
    with pytest.raises(ClientError, match="SlowDown"):
        decision_log.export(s3, log, bucket=BUCKET)
    assert set(exported(s3)) == {1}

    monkeypatch.setattr(s3, "put_object", put)
    decision_log.append(log, fact=fact(3), now=NOW)
    decision_log.export(s3, log, bucket=BUCKET)

    assert verify_log.verify(exported(s3))[0] == 4


def test_an_entry_that_is_there_is_left_as_it_is(log: Any, s3: Any) -> None:
    decision_log.append(log, fact=fact(1), now=NOW)
    s3.put_object(Bucket=BUCKET, Key="entries/000000000001.json", Body=b"already")
    decision_log.append(log, fact=fact(2), now=NOW)

    decision_log.export(s3, log, bucket=BUCKET)

    entries = exported(s3)
    assert entries[1] == b"already"
    assert set(entries) == {1, 2}


def test_who_is_overtaken_does_not_set_back_how_far_the_export_is(
    log: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        decision_log.append(log, fact=fact(number), now=NOW)
    put = s3.put_object

    def overtaken(**request: Any) -> Any:
        monkeypatch.setattr(s3, "put_object", put)
        decision_log.export(s3, log, bucket=BUCKET)
        return put(**request)

    monkeypatch.setattr(s3, "put_object", overtaken)
    decision_log.export(s3, log, bucket=BUCKET)

    assert verify_log.verify(exported(s3))[0] == 2
    assert log.get_item(Key={"pk": "LOG", "sk": "HEAD"})["Item"]["exported"] == 2
