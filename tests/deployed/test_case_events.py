"""What others are told of cases: events, as a rule of somebody else's on the default event bus gets
them, and findings, as an administrator of Security Hub sees them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from jsonschema import Draft202012Validator

from .conftest import allow

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Deployed

CONTROL = "security-control/IAM.4"
APPROVED, DECLINED = "400000000206", "400000000207"
DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
SCHEMA = DOCUMENT.with_name("case-changed.schema.json")


class Told(NamedTuple):
    """All events about two cases, of which one was approved and one declined; what chat got.

    And what findings there were about each account while it was asked about, and at the end.
    """

    events: list[dict[str, Any]]
    chat: list[dict[str, Any]]
    asked: dict[str, dict[str, dict[str, Any]]]
    ended: dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def told(deployed: Deployed) -> Told:
    everything = listen(deployed, {"EventPattern": {"source": ["rootsweep"]}}, "everything")
    [rule] = yaml.safe_load(block("yaml").replace("!Ref ", "")).values()
    chat = listen(deployed, rule["Properties"], "chat")
    deployed.sweep(accounts=[APPROVED, DECLINED])
    for account in (APPROVED, DECLINED):
        deployed.waits(account)
    asked = findings_when(deployed, "AWAITING_APPROVAL", "AWAITING_APPROVAL")
    deployed.approve(APPROVED, deployed.mail_about(APPROVED).link)
    link = deployed.mail_about(DECLINED).link
    deployed.browser.post(link, data=deployed.form(DECLINED, link, "decline"))
    deployed.case_when(APPROVED, "REMEDIATED")
    deployed.case_when(DECLINED, "DECLINED")
    events: list[dict[str, Any]] = []

    def are_over() -> bool:
        events.extend(everything())
        ends = {event["detail"]["account_id"]: event["detail"]["ended_at"] for event in events}
        return all(ends.get(account) for account in (APPROVED, DECLINED))

    deployed.until(are_over, "events about the end of both cases")
    ours = [event for event in events if event["detail"]["account_id"] in (APPROVED, DECLINED)]
    return Told(ours, chat(), asked, findings_when(deployed, "REMEDIATED", "DECLINED"))


def findings_when(deployed: Deployed, *outcomes: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The findings about both accounts, by generator, once they tell these outcomes."""
    hub = deployed.stack.client("securityhub")

    def about(account: str, outcome: str) -> dict[str, dict[str, Any]]:
        resource = {"Value": f"AWS::::Account:{account}", "Comparison": "EQUALS"}
        found = hub.get_findings(Filters={"ResourceId": [resource]})["Findings"]
        by_generator = {each["GeneratorId"]: each for each in found}
        ours = by_generator.get("rootsweep", {"ProductFields": {}})
        is_told = ours["ProductFields"].get("rootsweep/outcome") == outcome
        return by_generator if is_told else {}

    def findings() -> dict[str, dict[str, dict[str, Any]]] | None:
        told = {
            account: about(account, outcome)
            for account, outcome in zip((APPROVED, DECLINED), outcomes, strict=True)
        }
        return told if all(told.values()) else None

    found = deployed.until(findings, f"findings about {outcomes}")
    assert found
    return found


def listen(
    deployed: Deployed, rule: dict[str, Any], name: str
) -> Callable[[], list[dict[str, Any]]]:
    """Returns what gives all that came by a rule since it was last called."""
    sqs, events = deployed.stack.client("sqs"), deployed.stack.client("events")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    by_events = {"Service": "events.amazonaws.com"}
    policy = allow("sqs:SendMessage", Principal=by_events, Resource=got["QueueArn"])
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_rule(Name=name, EventPattern=json.dumps(rule["EventPattern"]))
    [target] = rule.get("Targets", [{"Id": "queue"}])
    events.put_targets(Rule=name, Targets=[{**target, "Arn": got["QueueArn"]}])

    def received() -> list[dict[str, Any]]:
        found = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    return received


def block(language: str) -> str:
    """The first block in a language in the document."""
    return DOCUMENT.read_text().partition(f"```{language}\n")[2].partition("```")[0]


def story(told: Told, account: str) -> list[dict[str, Any]]:
    """What was told of an account's case, in the order of the changes."""
    details = [event["detail"] for event in told.events if event["detail"]["account_id"] == account]
    return sorted(details, key=lambda detail: int(detail["sequence"]))


def test_every_event_is_as_documented(told: Told) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))

    for event in told.events:
        validator.validate(event["detail"])
        assert event["detail-type"] == "Rootsweep Case Changed"
        assert event["resources"] == [event["detail"]["execution_arn"]]
    ids = [event["detail"]["id"] for event in told.events]
    assert len(ids) == len(set(ids)) > 8


def test_a_case_is_told_of_from_its_begin_to_its_end(told: Told) -> None:
    approved, declined = story(told, APPROVED), story(told, DECLINED)

    opened, *_, ended = approved
    assert (opened["previous_outcome"], opened["outcome"]) == (None, "AWAITING_APPROVAL")
    assert (ended["previous_outcome"], ended["outcome"]) == ("AWAITING_APPROVAL", "REMEDIATED")
    assert ended["deleted_key_ids"] == ["AKIAEXAMPLE000000206"]
    names = ("keys", "answer_by", "decision", "deletion_started_at", "deleted_key_ids", "ended_at")
    first = [next(n for n, detail in enumerate(approved) if detail[name]) for name in names]
    assert first == sorted(set(first))
    decision = declined[-1]["decision"]
    assert (decision["answer"], decision["by"]) == ("DECLINED", f"test-{DECLINED[-3:]}@example.com")
    assert declined[-1]["outcome"] == "DECLINED"


def test_the_patterns_in_the_document_find_what_they_are_for(
    deployed: Deployed, told: Told
) -> None:
    rows = re.findall(r"^\| (.+) \| `(\{.+\})` \|$", DOCUMENT.read_text(), flags=re.M)
    patterns = dict(rows)
    events = deployed.stack.client("events")

    def found(purpose: str) -> list[dict[str, Any]]:
        return [
            event["detail"]
            for event in told.events
            if events.test_event_pattern(EventPattern=patterns[purpose], Event=json.dumps(event))[
                "Result"
            ]
        ]

    opened = found("A ticket for each case that is opened")
    assert sorted(each["account_id"] for each in opened) == [APPROVED, DECLINED]
    assert {each["previous_outcome"] for each in opened} == {None}
    ended = found("Its end")
    assert sorted(each["outcome"] for each in ended) == ["DECLINED", "REMEDIATED"]
    assert found("What the security team has to look at") == []
    assert found("Each rung after the first") == []
    assert len(patterns) == 4


def test_chat_gets_the_message_that_the_document_makes(told: Told) -> None:
    """In the form of custom notifications of Amazon Q Developer in chat applications."""
    ours = [message for message in told.chat if APPROVED in message["metadata"]["threadId"]]
    _, ended = sorted(message["content"]["title"] for message in ours)

    assert ended == f"Root access keys of {APPROVED}: REMEDIATED"
    for message in ours:
        assert (message["version"], message["source"]) == ("1.0", "custom")
        assert message["content"]["description"].endswith(", rung 1")


def test_the_example_in_the_document_is_one(told: Told) -> None:
    example = json.loads(block("json"))

    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(example["detail"])
    assert list(example["detail"]) == list(told.events[0]["detail"])
    assert example.keys() == told.events[0].keys()


def test_a_case_is_a_finding_and_the_control_is_notified(told: Told) -> None:
    for account in (APPROVED, DECLINED):
        ours, control = (told.asked[account][each] for each in ("rootsweep", CONTROL))
        assert (ours["RecordState"], ours["Workflow"]["Status"]) == ("ACTIVE", "NOTIFIED")
        assert ours["AwsAccountId"] == "222222222222"
        assert ours["Resources"] == control["Resources"]
        assert (control["Compliance"]["Status"], control["Workflow"]["Status"]) == (
            "FAILED",
            "NOTIFIED",
        )
        assert f"case {ours['ProductFields']['rootsweep/case_id']} is" in control["Note"]["Text"]


def test_the_finding_of_a_case_that_has_ended_is_archived(told: Told) -> None:
    for account, status in ((APPROVED, ("PASSED", "RESOLVED")), (DECLINED, ("FAILED", "NOTIFIED"))):
        ours, control = (told.ended[account][each] for each in ("rootsweep", CONTROL))
        assert ours["RecordState"] == "ARCHIVED"
        # Whether the account passes is for the control to say.
        assert (control["Compliance"]["Status"], control["Workflow"]["Status"]) == status
