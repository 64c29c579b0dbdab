"""For each function, calls that need every one of its permissions.

A probe raises RefusedError or AssertionError if its function could not do all of its work.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rootsweep import cases, exceptions
from rootsweep.accounts import Account, AccountState, OrganizationalUnits
from rootsweep.approvals import page_token
from rootsweep.cases import Answer, Case, Obstacle, Outcome
from rootsweep.exceptions import AccountException
from rootsweep.sweeps import CheckResult
from rootsweep.table import (
    case_key,
    exception_key,
    last_case_key,
    open_case_key,
    quarantine_key,
    root_session_key,
)
from tests.deployed.conftest import as_root

from .world import CLEAN, CONTACT, FULL, KEYED, LADDER, OWNER, THE_KEY, World

if TYPE_CHECKING:
    from collections.abc import Callable

    Probe = Callable[[World], None]

ACCOUNTS = [Account(id, "name", "Workloads/Prod", "ACTIVE") for id in (KEYED, CLEAN)]
POLICY_SUMMARY = "rootsweep-quarantine"


def request(world: World, **given: Any) -> dict[str, Any]:
    """What the first state of a sweep makes of its input."""
    answer: dict[str, Any] = world.invoke(
        "check_prerequisites",
        {
            "input": given,
            "execution_arn": f"arn:aws:states:us-east-1:222222222222:execution:s:{world.now()}",
            "started_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}",
        },
    )
    return answer


def sweep(world: World, **more: Any) -> dict[str, Any]:
    """A sweep whose checks are in its files, as the function after that gets it."""
    sweep_id = f"permissions-{next(world.seconds)}"
    files = world.files(sweep_id)
    files.write_units(OrganizationalUnits())
    files.write_organization(0, ACCOUNTS)
    files.write_accounts(0, ACCOUNTS)
    files.write_check_results(
        "0", [CheckResult(KEYED, AccountState.ROOT_KEYS), CheckResult(CLEAN, AccountState.CLEAN)]
    )
    files.write_cases({})
    return {
        "sweep_id": sweep_id,
        "started_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}",
        "detect_only": False,
        "escalation_policy": [rung.to_dict() for rung in LADDER],
        "accounts": 2,
        "parts": 1,
        "cases_opened": 0,
        **more,
    }


def check_prerequisites(world: World) -> None:
    assert request(world)["escalation_policy"]


def list_accounts(world: World) -> None:
    answer = world.invoke("list_accounts", request(world))
    files = world.files(answer["sweep_id"])
    assert answer["accounts"] == len(files.read_accounts(1)) == len(files.read_organization(1))
    assert {each.ou for each in files.read_accounts(1)} > {"Workloads/Prod"}


def list_more_accounts(world: World) -> None:
    event = sweep(world)
    files = world.files(event["sweep_id"])
    token = world.stack.client("organizations").list_accounts(MaxResults=1)["NextToken"]
    more = {"next_token": token, "accounts_of_this_part": 1}
    answer = world.invoke("list_accounts", event | more)
    assert (answer["parts"], "next_token" in answer) == (2, False)
    assert len(files.read_accounts(2)) >= answer["accounts"] - event["accounts"]


def check_accounts(world: World) -> None:
    sweep_id = f"permissions-{next(world.seconds)}"
    event = {"sweep_id": sweep_id, "batch": "0000-0000", "account_ids": [KEYED, CLEAN]}
    world.invoke("check_accounts", event)
    found = world.files(sweep_id).read_check_results()
    assert [found[id].state for id in (KEYED, CLEAN)] == ["ROOT_KEYS", "CLEAN"]


def open_a_case(world: World) -> None:
    time.sleep(1.1)  # Cases are named by the second.
    world.table.delete_item(Key=open_case_key(KEYED))
    world.table.delete_item(Key=last_case_key(KEYED))
    event = sweep(world)
    assert world.invoke("open_cases", event)["cases_opened"] == 1
    [row] = world.files(event["sweep_id"]).read_cases().values()
    assert (row["reason"], len(row["keys"])) == ("", 1)


def open_a_case_after_one_that_died(world: World) -> None:
    open_a_case(world)
    dead = cases.find_open_case(world.table, account_id=KEYED)
    assert dead
    # Its input is another one now, so that its name is taken.
    world.table.update_item(
        Key=case_key(dead.id),
        UpdateExpression="SET ou = :other",
        ExpressionAttributeValues={":other": str(world.now())},
    )
    event = sweep(world)
    time.sleep(1.1)
    world.invoke("open_cases", event)
    assert cases.load(world.table, case_id=dead.id).outcome == Outcome.FAILED
    [row] = world.files(event["sweep_id"]).read_cases().values()
    assert row["case"]
    assert row["case"]["id"] != dead.id


def wake_a_case_whose_account_is_clean(world: World) -> None:
    case = world.asked(CLEAN)
    cases.await_approval(world.table, case_id=case.id, task_token="a-token")
    world.invoke("open_cases", sweep(world))
    after = cases.load(world.table, case_id=case.id)
    assert after.woken or after.ended_at


def write_report(world: World) -> None:
    event = sweep(world)
    answer = world.invoke("write_report", event)
    assert answer["accounts"]["total"] == 2
    bucket, _, name = answer["report"][5:].partition("/")
    s3 = world.stack.client("s3")
    assert len(json.load(s3.get_object(Bucket=bucket, Key=name)["Body"])["accounts"]) == 2
    assert "not_written" not in answer
    for end in ("csv", "html"):
        s3.head_object(Bucket=bucket, Key=name.replace("json", end))
    assert json.load(s3.get_object(Bucket=bucket, Key="sweeps/history.json")["Body"])


def blocked(world: World, account_id: str = KEYED) -> Case:
    """A case whose root user is in quarantine."""
    case = world.decided(account_id=account_id, quarantine="1d")
    event = {"case_id": case.id, "task_token": "a-token"}
    world.invoke("quarantine_root_user", event)
    return cases.load(world.table, case_id=case.id)


def policies_of(world: World, account_id: str) -> list[str]:
    """The service control policies of an account that are ours."""
    listed = world.organizations().list_policies_for_target(
        TargetId=account_id, Filter="SERVICE_CONTROL_POLICY"
    )
    return [each["Id"] for each in listed["Policies"] if POLICY_SUMMARY in each["Name"]]


def quarantine_root_user(world: World) -> None:
    clear_quarantine(world)
    case = blocked(world)
    assert (case.quarantine_until, len(policies_of(world, KEYED))) > ("2", 0)
    assert len(policies_of(world, KEYED)) == 1


def quarantine_that_is_refused(world: World) -> None:
    clear_quarantine(world)
    organizations = world.organizations()
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
    attached = organizations.list_policies_for_target(
        TargetId=FULL, Filter="SERVICE_CONTROL_POLICY"
    )["Policies"]
    for number in range(len(attached), 5):
        made = organizations.create_policy(
            Name=f"full-{number}",
            Description="",
            Type="SERVICE_CONTROL_POLICY",
            Content=json.dumps(document),
        )["Policy"]["PolicySummary"]["Id"]
        organizations.attach_policy(PolicyId=made, TargetId=FULL)
    case = world.decided(account_id=FULL, quarantine="1d")
    answer = ""
    try:
        world.invoke("quarantine_root_user", {"case_id": case.id, "task_token": "a-token"})
    except Exception as error:
        answer = str(error)
    assert "QuarantineImpossibleError" in answer
    assert cases.load(world.table, case_id=case.id).quarantine_refused
    assert "Item" not in world.table.get_item(Key=quarantine_key(FULL))


def clear_quarantine(world: World) -> None:
    """Nobody is blocked, and there is no policy, by the hands of the administrators."""
    organizations = world.organizations()
    for id in (KEYED, FULL):
        world.table.delete_item(Key=quarantine_key(id))
    listed = organizations.list_policies(Filter="SERVICE_CONTROL_POLICY")["Policies"]
    for policy in listed:
        if POLICY_SUMMARY in policy["Name"]:
            for target in organizations.list_targets_for_policy(PolicyId=policy["Id"])["Targets"]:
                organizations.detach_policy(PolicyId=policy["Id"], TargetId=target["TargetId"])
            organizations.delete_policy(PolicyId=policy["Id"])


def lift_ended_quarantines(world: World) -> None:
    clear_quarantine(world)
    case = blocked(world)
    # So that the stream has no part in it.
    world.table.update_item(
        Key=case_key(case.id),
        UpdateExpression="REMOVE quarantined_at SET ended_at = :now, outcome = :failed",
        ExpressionAttributeValues={":now": "2026-11-25T00:00:00Z", ":failed": "FAILED"},
    )
    world.invoke("lift_ended_quarantines", sweep(world))
    assert policies_of(world, KEYED) == []
    assert "Item" not in world.table.get_item(Key=quarantine_key(KEYED))
    listed = world.organizations().list_policies(Filter="SERVICE_CONTROL_POLICY")
    assert not [each for each in listed["Policies"] if POLICY_SUMMARY in each["Name"]]


def warn_exception_owners(world: World) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    exception = AccountException(KEYED, OWNER, "why", until, (THE_KEY,), "c")
    world.table.put_item(Item={**exception_key(KEYED), **exception.to_item()})
    event = sweep(world)
    world.files(event["sweep_id"]).write_cases({KEYED: {"state": "EXCEPTED"}})
    before = world.mails()
    try:
        assert world.invoke("warn_exception_owners", event)["warned"] == 1
        after = exceptions.find(world.table, account_id=KEYED)
        assert (world.mails() - before, bool(after and after.warned_at)) == (1, True)
    finally:
        world.table.delete_item(Key=exception_key(KEYED))


def gather_evidence(world: World) -> None:
    case = world.opened()
    world.invoke("gather_evidence", {"case_id": case.id})
    assert len(cases.load(world.table, case_id=case.id).keys) == 1


def find(world: World, account_id: str, denied: str | None = None) -> Case:
    case = world.gathered(account_id)
    event = {"case_id": case.id, "denied": denied, "entered_at": "2026-11-25T00:00:00.000Z"}
    world.invoke("find_approvers", event)
    return cases.load(world.table, case_id=case.id)


def find_approvers_by_tag(world: World) -> None:
    assert find(world, KEYED).approver_sources == ("the tag rootsweep-approver of the account",)


def find_approvers_by_contact(world: World) -> None:
    assert find(world, CONTACT).approver_sources == ("the account's SECURITY alternate contact",)


def find_who_removes_by_hand(world: World) -> None:
    denied = json.dumps({"errorMessage": "no", "errorType": "RootSessionDeniedError"})
    assert find(world, KEYED, denied).obstacle == Obstacle.ROOT_SESSION_DENIED


def request_approval(world: World) -> None:
    case, before = world.asked(), world.mails()
    world.invoke("request_approval", {"case_id": case.id, "task_token": "a-token"})
    assert (world.mails() - before, cases.load(world.table, case_id=case.id).task_token) == (
        1,
        "a-token",
    )


def request_manual_removal(world: World) -> None:
    case, before = world.asked(obstacle=Obstacle.ROOT_SESSION_DENIED), world.mails()
    world.invoke("request_manual_removal", {"case_id": case.id})
    assert world.mails() - before == 1


def read_decision(world: World) -> None:
    case = world.decided()
    assert world.invoke("read_decision", {"case_id": case.id})["answer"] == "APPROVED"


def delete_root_keys(world: World) -> None:
    iam = as_root(world.stack, KEYED, "iam")
    made = iam.create_access_key()["AccessKey"]["AccessKeyId"]
    listed = {
        each["AccessKeyId"]: each["CreateDate"].isoformat()
        for each in iam.list_access_keys()["AccessKeyMetadata"]
    }
    del listed[made]
    keys = [replace(THE_KEY, id=id) for id in (*listed, made)]
    case = world.asked()
    cases.record_evidence(
        world.table, case=case, keys=keys, quorum=cases.Quorum(1, ""), now=world.now()
    )
    case = cases.load(world.table, case_id=case.id)
    decision = cases.Decision(Answer.APPROVED, OWNER, "2026-11-25T00:00:00Z", case.fingerprint)
    world.table.update_item(
        Key=case_key(case.id),
        UpdateExpression="SET approvals = :all, decision = :one, decided = :yes",
        ExpressionAttributeValues={
            ":all": [cases._decision_item(decision)],
            ":one": cases._decision_item(decision),
            ":yes": "YES",
        },
    )
    try:
        answer = world.invoke("delete_root_keys", {"case_id": case.id})
        assert made in answer["deleted_key_ids"]
    finally:
        world.ended(Outcome.REMEDIATED, case)
        world.table.delete_item(Key={"pk": "CANARY", "sk": release(world)})
        for each in iam.list_access_keys()["AccessKeyMetadata"]:
            iam.delete_access_key(AccessKeyId=each["AccessKeyId"])
        iam.create_access_key()


def release(world: World) -> str:
    """The release that the canary is about."""
    found = [
        item["sk"]
        for item in world.table.query(
            KeyConditionExpression="pk = :c", ExpressionAttributeValues={":c": "CANARY"}
        )["Items"]
    ]
    return str(found[0]) if found else "none"


def hold_deletion(world: World) -> None:
    switch = world.stack.client("ssm")
    name = world.stack.outputs["KillSwitchParameter"]
    switch.put_parameter(Name=name, Value="off", Overwrite=True)
    case = world.decided()
    error = {"Error": "KillSwitchOnError", "Cause": json.dumps({"errorMessage": "m"})}
    event = {"case_id": case.id, "error": error, "entered_at": "now"}
    assert world.invoke("hold_deletion", event)["tell"] is True
    version = switch.get_parameter(Name=name)["Parameter"]["Version"]
    told = world.table.get_item(Key={"pk": "KILL_SWITCH", "sk": str(version)})
    assert "Item" in told


def confirm_removal(world: World) -> None:
    case = world.asked(CLEAN)
    assert world.invoke("confirm_removal", {"case_id": case.id}) == {"deletion_started": False}


def check_manual_removal(world: World) -> None:
    case = world.asked(CLEAN, obstacle=Obstacle.ROOT_SESSION_DENIED)
    assert world.invoke("check_manual_removal", {"case_id": case.id})["state"] == "REMOVED"


def record(world: World, case: Case, outcome: Outcome) -> None:
    event = {"case_id": case.id, "outcome": outcome, "reason": "why"}
    assert world.invoke("record_outcome", event)["outcome"] == outcome


def record_an_exception(world: World) -> None:
    record(world, world.decided(Answer.DECLINED), Outcome.DECLINED)
    assert exceptions.find(world.table, account_id=KEYED)


def record_that_it_is_resolved(world: World) -> None:
    record(world, world.asked(CLEAN), Outcome.RESOLVED)
    assert cases.find_open_case(world.table, account_id=CLEAN) is None


def approval_page(world: World) -> None:
    case = world.asked()
    secret = world.link()
    event = {"httpMethod": "GET", "pathParameters": {"link": secret}, "queryStringParameters": None}
    shown = world.invoke("approval_page", event)
    assert (shown["statusCode"], KEYED in shown["body"]) == (200, True)
    form = f"case={case.id}.{page_token(secret, case)}&decision=approve&account_id={KEYED}"
    decided = world.invoke("approval_page", {**event, "httpMethod": "POST", "body": form})
    assert (decided["statusCode"], bool(cases.load(world.table, case_id=case.id).decision)) == (
        200,
        True,
    )


def record_bounce(world: World) -> None:
    case = world.asked()
    cases.await_approval(world.table, case_id=case.id, task_token="a-token")
    recipients = [{"emailAddress": OWNER, "diagnosticCode": "550"}]
    world.invoke("record_bounce", {"detail": {"bounce": {"bouncedRecipients": recipients}}})
    try:
        assert cases.load(world.table, case_id=case.id).woken
    finally:
        world.table.delete_item(Key={"pk": f"APPROVER#{OWNER}", "sk": "APPROVER"})


def deliver_decision(world: World) -> None:
    open_a_case(world)
    case = cases.find_open_case(world.table, account_id=KEYED)
    assert case
    for _ in range(100):
        case = cases.load(world.table, case_id=case.id)
        if case.task_token:
            break
        time.sleep(0.2)
    image = {"task_token": {"S": case.task_token}, "case_id": {"S": case.id}}
    world.invoke("deliver_decision", {"Records": [{"dynamodb": {"NewImage": image}}]})


def log_decisions(world: World) -> None:
    entries = DecisionLog(world)
    before, case = entries.exported(), world.decided()
    world.ended(Outcome.FAILED, case)
    world.invoke("log_decisions", {"case_ids": [case.id]})
    # Of this case two at least, whoever logged them first.
    assert entries.exported() - before >= 2


def tell_others(world: World) -> None:
    world.invoke("log_decisions", {"announce": [world.decided().id]})


def write_findings(world: World) -> None:
    hub = world.stack.client("securityhub")

    def statuses(case: Case) -> set[tuple[str, str]]:
        filters = {
            "ResourceId": [{"Value": f"AWS::::Account:{KEYED}", "Comparison": "EQUALS"}],
            "RecordState": [{"Value": "ACTIVE", "Comparison": "EQUALS"}],
        }
        found = hub.get_findings(Filters=filters)["Findings"]
        return {
            (each["GeneratorId"], each["Workflow"]["Status"])
            for each in found
            if each["Id"] == case.execution_arn or each["AwsAccountId"] == KEYED
        }

    def write(case: Case, status: str) -> None:
        event = {"body": json.dumps({"detail": {"case_id": case.id}}), "messageId": "m"}
        assert world.invoke("write_findings", {"Records": [event]}) == {"batchItemFailures": []}
        # The stack tells of the case by itself, too: an invocation that has read it before this
        # change may write after ours, and then mends it.
        for _ in range(50):
            found = statuses(case)
            if found == {("rootsweep", status), ("security-control/IAM.4", status)}:
                return
            time.sleep(0.2)
        raise AssertionError(found)

    case = world.asked()
    write(case, "NOTIFIED")
    world.ended(Outcome.ESCALATED, case)
    write(case, "NEW")


class DecisionLog:
    """What is exported of the decision log."""

    def __init__(self, world: World) -> None:
        self.s3 = world.stack.client("s3")
        self.bucket = world.stack.outputs["DecisionLogBucket"]

    def exported(self) -> int:
        """How many entries there are."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sum(page["KeyCount"] for page in pages)


def session_event(access_key_id: str) -> dict[str, Any]:
    """CloudTrail's event of a root session."""
    detail = {
        "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::222222222222:x/y/z"},
        "requestParameters": {"targetPrincipal": KEYED},
        "responseElements": {"credentials": {"accessKeyId": access_key_id}},
        "eventTime": "2026-11-25T00:00:00Z",
    }
    return {"account": "222222222222", "region": "us-east-1", "detail": detail}


def explain_one_of_ours(world: World) -> None:
    id = f"ASIA{next(world.seconds):016}"
    world.table.put_item(
        Item={**root_session_key(id), "schema": 1, "opened_for": "c", "opened_by": "x"}
    )
    world.invoke("explain_root_session", session_event(id))


def explain_a_strange_one(world: World) -> None:
    world.invoke("explain_root_session", session_event("ASIAEXAMPLE00000ELSE"))


PROBES: dict[str, list[Probe]] = {
    "approval_page": [approval_page],
    "check_accounts": [check_accounts],
    "check_manual_removal": [check_manual_removal],
    "check_prerequisites": [check_prerequisites],
    "confirm_removal": [confirm_removal],
    "delete_root_keys": [delete_root_keys],
    "deliver_decision": [deliver_decision],
    "explain_root_session": [explain_one_of_ours, explain_a_strange_one],
    "find_approvers": [find_approvers_by_tag, find_approvers_by_contact, find_who_removes_by_hand],
    "gather_evidence": [gather_evidence],
    "hold_deletion": [hold_deletion],
    "lift_ended_quarantines": [lift_ended_quarantines],
    "list_accounts": [list_accounts, list_more_accounts],
    "log_decisions": [log_decisions, tell_others],
    "open_cases": [
        open_a_case,
        open_a_case_after_one_that_died,
        wake_a_case_whose_account_is_clean,
    ],
    "quarantine_root_user": [quarantine_root_user, quarantine_that_is_refused],
    "read_decision": [read_decision],
    "record_bounce": [record_bounce],
    "record_outcome": [record_an_exception, record_that_it_is_resolved],
    "request_approval": [request_approval],
    "request_manual_removal": [request_manual_removal],
    "warn_exception_owners": [warn_exception_owners],
    "write_findings": [write_findings],
    "write_report": [write_report],
}
