from __future__ import annotations

from typing import TYPE_CHECKING, Any

import explain_root_session
import pytest
from botocore.exceptions import ClientError

from rootsweep import root_sessions

from .builders import ACCOUNT, HOSTILE, NOW, TASKS, contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

SESSION = "ASIAEXAMPLE000000001"
OURS = "arn:aws:iam::222222222222:role/rootsweep-GatherEvidenceRole-1A2B"
THEIRS = "arn:aws:iam::222222222222:role/operator"


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it slept between its looks, without that anybody waits."""
    slept: list[float] = []
    monkeypatch.setattr(explain_root_session.time, "sleep", slept.append)
    return slept


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The alerts."""
    published: list[dict[str, str]] = []
    monkeypatch.setattr(
        explain_root_session.sns, "publish", lambda **given: published.append(given)
    )
    return published


def an_event(role: str = THEIRS, **detail: Any) -> dict[str, Any]:
    """What the rule hands over of CloudTrail's event (IAM User Guide, "Track privileged tasks")."""
    session = role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
    return {
        "account": "222222222222",
        "region": "eu-west-1",
        "detail": {
            "eventTime": "2026-03-04T05:06:07Z",
            "userIdentity": {
                "type": "AssumedRole",
                "arn": f"{session}/anybody",
                "sessionContext": {"sessionIssuer": {"type": "Role", "arn": role}},
            },
            "requestParameters": {
                "targetPrincipal": ACCOUNT,
                "taskPolicyArn": {"arn": f"{TASKS}IAMDeleteRootUserCredentials"},
            },
            "responseElements": {"credentials": {"accessKeyId": SESSION}},
            **detail,
        },
    }


def refused(role: str = THEIRS, **detail: Any) -> dict[str, Any]:
    error = {"errorCode": "AccessDenied", "errorMessage": f"User: {role} is not authorized"}
    event = an_event(role, **error, **detail)
    del event["detail"]["responseElements"]
    return event


def note(table: Any, access_key_id: str = SESSION) -> None:
    root_sessions.record(
        table,
        access_key_id=access_key_id,
        account_id=ACCOUNT,
        task="IAMAuditRootUserCredentials",
        opened_for="a-case",
        now=NOW,
    )


def explain(event: dict[str, Any]) -> None:
    assert explain_root_session.handler(event, None) is None


def test_a_session_that_was_opened_for_a_case_is_explained(
    table: Any, told: list[Any], naps: list[float]
) -> None:
    note(table)

    explain(an_event(OURS))

    assert told == naps == []


@pytest.mark.parametrize("role", [THEIRS, OURS])
def test_a_session_that_nothing_was_noted_about_is_told_whoever_opened_it(
    table: Any, told: list[dict[str, str]], naps: list[float], role: str
) -> None:
    note(table, "ASIAEXAMPLE000000002")

    explain(an_event(role))

    [alert] = told
    assert alert["TopicArn"] == explain_root_session.ALERT_TOPIC_ARN
    assert alert["Subject"] == "Rootsweep: A root session that no case explains"
    for fact in (
        role.rpartition("/")[2],
        f"Account of the root user: {ACCOUNT}",
        "IAMDeleteRootUserCredentials",
        "2026-03-04T05:06:07Z",
        "222222222222, eu-west-1",
        SESSION,
    ):
        assert fact in alert["Message"]
    assert naps == [explain_root_session.SECONDS_BETWEEN_LOOKS] * 3


def test_a_note_that_comes_after_the_event_is_waited_for(
    table: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_root_session.time, "sleep", lambda _: note(table))

    explain(an_event(OURS))

    assert told == []


def test_a_refusal_is_told_unless_one_of_our_roles_met_it(
    table: Any, told: list[dict[str, str]]
) -> None:
    explain(refused(OURS))
    assert told == []

    explain(refused(THEIRS))
    explain(refused(THEIRS, requestParameters=None))
    explain(refused(userIdentity={"type": "IAMUser", "arn": "arn:aws:iam::1:user/eve"}))
    explain(refused(userIdentity={"type": "AWSAccount"}))

    assert {alert["Subject"] for alert in told} == {
        "Rootsweep: Somebody tried to open a root session"
    }
    assert [ACCOUNT in alert["Message"] for alert in told] == [True, False, True, True]
    assert "not authorized" in told[0]["Message"]
    assert "user/eve" in told[2]["Message"]
    assert "Caller: AWSAccount" in told[3]["Message"]
    assert contents(table) == []


def test_what_comes_from_outside_is_one_plain_line(table: Any, told: list[dict[str, str]]) -> None:
    assert contents(table) == []

    explain(refused(requestParameters={"targetPrincipal": f"{HOSTILE}\nCaller: nobody"}))

    [alert] = told
    assert [line for line in alert["Message"].splitlines() if line.startswith("Caller:")] == [
        "Caller: arn:aws:sts::222222222222:assumed-role/operator/anybody"
    ]


def test_an_alert_that_cannot_be_sent_is_tried_again_by_lambda(
    table: Any, stub: Callable[[Any], Stubber], caplog: pytest.LogCaptureFixture
) -> None:
    assert contents(table) == []
    stub(explain_root_session.sns).add_client_error("publish", "InternalError")

    with pytest.raises(ClientError, match="InternalError"):
        explain(an_event())

    assert "root session unexplained: Caller: arn:aws:sts::" in caplog.text
