"""What Rootsweep needs to do its work: how each thing is looked at, and what repairs it.

`CHECKS`, at the end, is the list. Looking changes nothing.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from operate import policies, reports, sweep
from operate.policies import Verdict
from rootsweep import escalation, holds
from rootsweep import sender as senders
from rootsweep.accounts import AccountState
from rootsweep.console import link_or_arn
from rootsweep.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from operate.stack import Aws, Stack

IAM = "iam.amazonaws.com"
ACCOUNT_MANAGEMENT = "account.amazonaws.com"
# What IAM says of them (API reference, ListOrganizationsFeatures).
NO_TRUST = "ServiceAccessNotEnabledException"
NO_DELEGATE = "AccountNotManagementOrDelegatedAdministratorException"
STACK_SETS = "member.org.stacksets.cloudformation.amazonaws.com"
_SCP = "SERVICE_CONTROL_POLICY"
# Cases, the page and the table's streams run beside the batches of a sweep.
FUNCTIONS_BESIDE_BATCHES = 10
FEWEST_MAILS = 100
# What Security Hub CSPM says where it is off, or the caller is no administrator (API reference).
HUB_IS_OFF = ("InvalidAccessException", "ResourceNotFoundException")
LONGEST_SWEEP = timedelta(days=1)
# Of a weekly schedule, and a day for a sweep that starts late.
LONGEST_WITHOUT_SWEEP = timedelta(days=8)
# Service Quotas knows them by these: concurrent executions of Lambda; mails of SES in 24 hours.
LAMBDA_QUOTA = ("lambda", "L-B99A9384")
SES_QUOTA = ("ses", "L-804C8AE8")
STACK_IS_FINE = (
    "CREATE_COMPLETE",
    "IMPORT_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
)
# It changes, or it is what it was before a change that failed.
STACK_WORKS = (
    "CREATE_IN_PROGRESS",
    "IMPORT_IN_PROGRESS",
    "IMPORT_ROLLBACK_COMPLETE",
    "IMPORT_ROLLBACK_IN_PROGRESS",
    "UPDATE_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_IN_PROGRESS",
)
# There is nothing in them to keep, so they are best deleted (CloudFormation User Guide, "Stack
# status codes"); tables and buckets stay all the same.
STACK_ENDS = ("CREATE_FAILED", "DELETE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
# What cannot be seen from the security account.
STACK_SET_AS_IT_IS = (
    " If there is no StackSet rootsweep-audit-role: docs/deploy.md, step 2. Where"
    " list-stack-instances has it as CURRENT: give the StackSet the right parameters with"
    " update-stack-set or, if they are right, delete the instances and create them anew."
)
# One that can be used, where none is.
A_POLICY = '[{"after": "7d", "notify": ["approvers"]}]'
MOST_NAMED = 10
# Where the role is missing in more accounts, it is put into all of them.
MOST_TARGETS = 50
# The roles of the stack that open root sessions, which root-session-policy.yaml spares.
OPENERS = (
    "CheckAccountsRole",
    "CheckManualRemovalRole",
    "ConfirmRemovalRole",
    "DeleteRootKeysRole",
    "GatherEvidenceRole",
    "OpenCasesRole",
)
# What the security account has to be allowed by the organization for the quarantine.
QUARANTINE_ACTIONS = {
    f"organizations:{action}"
    for action in (
        "AttachPolicy",
        "CreatePolicy",
        "DeletePolicy",
        "DetachPolicy",
        "ListPolicies",
        "ListTargetsForPolicy",
    )
}


class State(StrEnum):
    """What is known of a precondition.

    NOTE: it is as somebody may want it, and worth knowing. UNKNOWN: it could not be looked at.
    WAITS: it cannot be told before another one is repaired.
    """

    FINE = "FINE"
    NOTE = "NOTE"
    BROKEN = "BROKEN"
    UNKNOWN = "UNKNOWN"
    WAITS = "WAITS"


class Where(StrEnum):
    """In which account a repair is run."""

    MANAGEMENT = "management"
    SECURITY = "security"


@dataclass(frozen=True)
class Result:
    """What was seen of a precondition, and the commands that repair it, each one line."""

    state: State
    detail: str
    repair: tuple[str, ...] = ()
    where: Where = Where.SECURITY


class Check(NamedTuple):
    """A precondition: `look` says how it is, or None where it does not apply.

    `calls` are the actions it has to be allowed; `after` names the check that has to be fine before
    this one tells anything.
    """

    name: str
    look: Callable[[Seen], Result | None]
    calls: str
    after: str = ""


@dataclass
class Seen:
    """What the checks look at; what AWS has answered once is not asked again."""

    aws: Aws
    sender: str
    now: datetime

    @property
    def stack(self) -> Stack | None:
        """The stack; one that was never made to the end has no outputs, and is none."""
        return self.aws.found if self.aws.found and self.aws.found.outputs else None

    def parameter(self, name: str, default: str) -> str:
        """A parameter of the stack, or its default before there is a stack."""
        return self.aws.found.parameters.get(name, default) if self.aws.found else default

    @cached_property
    def organization(self) -> dict[str, Any]:
        described: dict[str, Any] = self.aws.client("organizations").describe_organization()
        return dict(described["Organization"])

    @cached_property
    def root_id(self) -> str:
        return str(self.aws.client("organizations").list_roots()["Roots"][0]["Id"])

    @cached_property
    def lineage(self) -> set[str]:
        """The account of the caller, and all that it is in up to the root."""
        organizations = self.aws.client("organizations")
        found, last = {self.aws.account}, self.aws.account
        while not last.startswith("r-"):
            last = str(organizations.list_parents(ChildId=last)["Parents"][0]["Id"])
            found.add(last)
        return found

    @cached_property
    def openers(self) -> list[str]:
        """The ARNs of the roles that open root sessions; as they will be, before a stack."""
        path = self.parameter("RolePath", "/")
        names = [
            self.aws.resource(id) if self.stack else f"{self.aws.stack_name}-{id}-1A2B3C4D5E6F"
            for id in OPENERS
        ]
        return [f"arn:aws:iam::{self.aws.account}:role{path}{name}" for name in names]

    @cached_property
    def iam_features(self) -> set[str] | str:
        """The features of centralized root access that are on, or the code of IAM's refusal."""
        try:
            answer = self.aws.client("iam").list_organizations_features()
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            if code not in (NO_TRUST, NO_DELEGATE):
                raise
            return code
        return set(answer.get("EnabledFeatures", []))

    @cached_property
    def last_sweep(self) -> dict[str, Any] | None:
        """The newest sweep of everything that has ended, as DescribeExecution has it."""
        for described in reports.sweeps_started(self.aws):
            if described["status"] != "RUNNING" and reports.is_of_all_accounts(described):
                return described
        return None

    @cached_property
    def schedule(self) -> dict[str, Any]:
        found: dict[str, Any] = self.aws.client("scheduler").get_schedule(
            Name=self.aws.resource("Schedule")
        )
        return found

    @cached_property
    def last_rows(self) -> list[dict[str, Any]] | None:
        """The accounts in the report of that sweep; None if it has none."""
        if self.last_sweep is None or self.last_sweep["status"] != "SUCCEEDED":
            return None
        id = json.loads(self.last_sweep["output"])["sweep_id"]
        rows: list[dict[str, Any]] = reports.read(self.aws, id)["accounts"]
        return rows


# -- the organization -----------------------------------------------------------------------------


def account(seen: Seen) -> Result:
    try:
        management = seen.organization["MasterAccountId"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "AWSOrganizationsNotInUseException":
            raise
        return Result(
            State.BROKEN,
            f"Account {seen.aws.account} is in no organization. Use the security account of one.",
        )
    if management == seen.aws.account:
        return Result(
            State.BROKEN,
            f"You are in the management account {management}. Rootsweep runs in the security"
            " account; come with its credentials, by --profile for instance.",
        )
    return Result(
        State.FINE, f"You are in {seen.aws.account}; the management account is {management}."
    )


def all_features(seen: Seen) -> Result:
    if seen.organization.get("FeatureSet") == "ALL":
        return Result(State.FINE, "The organization has all features.")
    return Result(
        State.BROKEN,
        "The organization has only consolidated billing. Every account that was invited has to"
        " agree to all features, too; then the management account finishes it with `aws"
        " organizations accept-handshake` and the id of the handshake that this begins.",
        ("aws organizations enable-all-features",),
        Where.MANAGEMENT,
    )


def trusted_access(seen: Seen) -> Result:
    if seen.iam_features == NO_TRUST:
        return Result(
            State.BROKEN,
            f"{_if_security(seen)}IAM has no trusted access to the organization, so it opens no"
            " root sessions. It can be off only where no account administers IAM by delegation, so"
            " this one has to be registered again.",
            _register(seen, IAM),
            Where.MANAGEMENT,
        )
    return Result(State.FINE, "IAM has trusted access to the organization.")


def delegated_administrator(seen: Seen) -> Result:
    if isinstance(seen.iam_features, str):
        return Result(
            State.BROKEN,
            f"{_if_security(seen)}Account {seen.aws.account} is no delegated administrator for IAM:"
            " it opens no root sessions and may not list the accounts.",
            _register(seen, IAM),
            Where.MANAGEMENT,
        )
    return Result(State.FINE, f"{seen.aws.account} is a delegated administrator for IAM.")


def root_credentials_management(seen: Seen) -> Result:
    if "RootCredentialsManagement" in seen.iam_features:
        return Result(State.FINE, "Root credentials management is on.")
    return Result(
        State.BROKEN,
        "Root credentials management is off: AWS opens no root session, and every case is a"
        " removal by hand.",
        ("aws iam enable-organizations-root-credentials-management",),
        Where.MANAGEMENT,
    )


def security_contacts(seen: Seen) -> Result:
    delegated = {
        each["ServicePrincipal"]
        for page in seen.aws.client("organizations")
        .get_paginator("list_delegated_services_for_account")
        .paginate(AccountId=seen.aws.account)
        for each in page["DelegatedServices"]
    }
    if ACCOUNT_MANAGEMENT in delegated:
        return Result(State.FINE, "The SECURITY contacts of the accounts can be read.")
    return Result(
        State.NOTE,
        f"{_if_security(seen)}The SECURITY contacts of the accounts cannot be read: only tags,"
        " DefaultApprover and SecondApprover say who is asked.",
        _register(seen, ACCOUNT_MANAGEMENT),
        Where.MANAGEMENT,
    )


def stack_sets(seen: Seen) -> Result | None:
    if seen.parameter("ScanAccess", "MemberRole") != "MemberRole":
        return None
    trusted = {
        each["ServicePrincipal"]
        for page in seen.aws.client("organizations")
        .get_paginator("list_aws_service_access_for_organization")
        .paginate()
        for each in page["EnabledServicePrincipals"]
    }
    if STACK_SETS in trusted:
        return Result(State.FINE, "CloudFormation has trusted access, for the StackSets.")
    return Result(
        State.NOTE,
        "CloudFormation has no trusted access to the organization, so no service-managed StackSet"
        " puts the audit role into accounts.",
        ("aws cloudformation activate-organizations-access",),
        Where.MANAGEMENT,
    )


def service_control_policies(seen: Seen) -> Result:
    organizations = seen.aws.client("organizations")
    listed = [
        summary
        for page in organizations.get_paginator("list_policies").paginate(Filter=_SCP)
        for summary in page["Policies"]
        if not summary["AwsManaged"]
    ]
    stopping, maybe, repair = [], [], []
    barring: list[str] = []
    may_bar: list[str] = []
    for summary in listed:
        content = organizations.describe_policy(PolicyId=summary["Id"])["Policy"]["Content"]
        found = policies.verdict(content)
        opening = policies.opening(content, roles=seen.openers, region=seen.aws.region)
        if found == opening == Verdict.NO:
            continue
        targets = _targets(seen, summary["Id"])
        name = f"{summary['Id']} ({plain(summary['Name'], 60)})"
        named = f"{name} on {_some(targets)}"
        if opening != Verdict.NO and seen.lineage & set(targets):
            (barring if opening == Verdict.YES else may_bar).append(name)
        if found == Verdict.NO or not targets:
            continue
        if found == Verdict.MAYBE:
            maybe.append(named)
            continue
        stopping.append(named)
        if not summary["Name"].startswith("aws-guardrails-"):
            fixed = shlex.quote(policies.spared(content))
            repair.append(
                f"aws organizations update-policy --policy-id {summary['Id']} --content {fixed}"
            )
    told = []
    if stopping:
        told.append(
            f"Root sessions are denied by {'; '.join(stopping)}: cases there are removals by hand."
            " Spare root sessions (aws:AssumedRoot); in Control Tower's own, by ExemptAssumeRoot of"
            " AWS-GR_RESTRICT_ROOT_USER."
        )
    if barring:
        told.append(
            f"Rootsweep's roles are kept from opening root sessions by {'; '.join(barring)}: every"
            " case is a removal by hand. Spare them; give that of root-session-policy.yaml this"
            " stack's name, Region and RolePath (docs/deploy.md, step 9)."
        )
    if maybe:
        told.append(
            f"By conditions that only a request can show, {'; '.join(maybe)} may deny root"
            " sessions. Cases with the obstacle SERVICE_CONTROL_POLICY tell whether it does."
        )
    if may_bar:
        told.append(
            f"By conditions that only a request can show, {'; '.join(may_bar)} may keep Rootsweep's"
            " roles from opening root sessions."
        )
    if not told:
        return Result(State.FINE, "No service control policy denies what root sessions are for.")
    # Before there is a stack, its name, on which it depends who is spared, may still be another.
    is_broken = stopping or (barring and seen.stack)
    return Result(
        State.BROKEN if is_broken else State.NOTE,
        " ".join(told),
        tuple(repair),
        Where.MANAGEMENT,
    )


def quarantine(seen: Seen) -> Result | None:
    if not seen.parameter("Quarantine", ""):
        return None
    organizations = seen.aws.client("organizations")
    root = organizations.list_roots()["Roots"][0]
    types = {each["Type"] for each in root["PolicyTypes"] if each["Status"] == "ENABLED"}
    repair: list[str] = []
    if _SCP not in types:
        repair.append(
            f"aws organizations enable-policy-type --root-id {root['Id']} --policy-type {_SCP}"
        )
    try:
        content = organizations.describe_resource_policy()["ResourcePolicy"]["Content"]
    except organizations.exceptions.ResourcePolicyNotFoundException:
        content = '{"Version": "2012-10-17", "Statement": []}'
    document = json.loads(content)
    if not _delegates(document, seen.aws.account):
        document["Statement"] = [*policies.listed(document["Statement"]), _delegation(seen)]
        content = shlex.quote(json.dumps(document, separators=(",", ":")))
        repair.append(f"aws organizations put-resource-policy --content {content}")
    if not repair:
        return Result(State.FINE, "The organization lets this account block root users.")
    return Result(
        State.BROKEN,
        "The organization does not let this account attach service control policies, so no root"
        " user can be blocked.",
        tuple(repair),
        Where.MANAGEMENT,
    )


# -- this account ---------------------------------------------------------------------------------


def lambda_concurrency(seen: Seen) -> Result:
    limit = seen.aws.client("lambda").get_account_settings()["AccountLimit"]
    free = limit["UnreservedConcurrentExecutions"]
    batches = int(seen.parameter("MaxConcurrentBatches", "10"))
    if free >= batches + FUNCTIONS_BESIDE_BATCHES:
        return Result(State.FINE, f"Lambda runs {free} functions at once.")
    return Result(
        State.BROKEN,
        f"Lambda runs only {free} functions at once that none has reserved; a sweep takes"
        f" {batches} (MaxConcurrentBatches), and cases take some beside it.",
        (_raise(*LAMBDA_QUOTA, max(1000, 2 * limit["ConcurrentExecutions"])),),
    )


def sender(seen: Seen) -> Result:
    address = seen.parameter("SenderAddress", seen.sender)
    if not address:
        return Result(
            State.UNKNOWN,
            "Which address will mails come from? Say it with --sender, as long as no stack does.",
        )
    identity = senders.verified_identity(seen.aws.client("sesv2"), address)
    if identity:
        return Result(State.FINE, f"SES has verified {identity}.")
    return Result(
        State.BROKEN,
        f"SES has not verified the sender {address} in {seen.aws.region}; no sweep starts. Follow"
        " the link in the mail that comes.",
        (senders.verify(address),),
    )


def ses_sandbox(seen: Seen) -> Result:
    """By what GetAccount says of the request to leave it (API v2 reference, ReviewDetails)."""
    account = seen.aws.client("sesv2").get_account()
    if account["ProductionAccessEnabled"]:
        return Result(State.FINE, "The account is out of the SES sandbox.")
    told = (
        "The account is in the SES sandbox: mails to approvers that are not verified fail, and"
        " their cases end FAILED."
    )
    review = account.get("Details", {}).get("ReviewDetails", {}).get("Status")
    if review == "PENDING":
        return Result(State.BROKEN, f"{told} AWS looks at the request to leave it; wait.")
    if review == "DENIED":
        return Result(
            State.BROKEN, f"{told} AWS has denied the request to leave it; answer its support case."
        )
    return Result(
        State.BROKEN,
        f"{told} AWS decides within about a day; say what is true of you.",
        (
            (
                "aws sesv2 put-account-details --production-access-enabled"
                " --mail-type TRANSACTIONAL --website-url https://example.com"
                " --use-case-description 'Approval mails to owners of AWS accounts'"
            ),
        ),
    )


def ses_sending(seen: Seen) -> Result:
    account = seen.aws.client("sesv2").get_account()
    if account.get("EnforcementStatus") == "SHUTDOWN":
        # PutAccountSendingAttributes cannot resume what AWS has paused (API v2 reference).
        return Result(
            State.BROKEN,
            "AWS has paused the sending of mails of this account; see to its support case.",
        )
    if not account["SendingEnabled"]:
        return Result(
            State.BROKEN,
            f"SES sends nothing for this account ({account.get('EnforcementStatus')}).",
            ("aws sesv2 put-account-sending-attributes --sending-enabled",),
        )
    quota = account["SendQuota"]
    if quota["Max24HourSend"] < 0:
        return Result(State.FINE, "SES sends without a limit.")
    left = int(quota["Max24HourSend"] - quota["SentLast24Hours"])
    # The limit of the sandbox goes with it.
    if left >= FEWEST_MAILS or not account["ProductionAccessEnabled"]:
        return Result(State.FINE, f"SES sends {left} more mails within 24 hours.")
    return Result(
        State.BROKEN,
        f"SES sends only {left} more mails within 24 hours; cases whose mails it refuses end"
        " FAILED.",
        (_raise(*SES_QUOTA, max(50000, 2 * int(quota["Max24HourSend"]))),),
    )


def security_hub(seen: Seen) -> Result | None:
    if not _uses_security_hub(seen):
        return None
    if _answers(seen, "describe_hub"):
        return Result(State.FINE, "Security Hub CSPM is on in this account and Region.")
    return Result(
        State.BROKEN,
        f"Security Hub CSPM is off in this account in {seen.aws.region}: no case becomes a"
        " finding. This turns it on without a standard; AWS charges for findings and checks.",
        ("aws securityhub enable-security-hub --no-enable-default-standards",),
    )


def security_hub_administrator(seen: Seen) -> Result | None:
    """Each Region has its own, which Organizations does not tell (user guide, "Removing or changing
    the delegated administrator"): only the administrator may see the configuration."""
    if not _uses_security_hub(seen):
        return None
    if _answers(seen, "describe_organization_configuration"):
        return Result(State.FINE, "This account is Security Hub's administrator in this Region.")
    return Result(
        State.BROKEN,
        f"{seen.aws.account} is not Security Hub's administrator in {seen.aws.region}: it cannot"
        " see the findings of IAM.4 about other accounts, nor set them to NOTIFIED. A Region"
        " has one: an account that is it now would have to be removed first, and stops managing"
        " Security Hub for the others.",
        (
            (
                "aws securityhub enable-organization-admin-account"
                f" --admin-account-id {seen.aws.account}"
            ),
        ),
        Where.MANAGEMENT,
    )


# -- the stack ------------------------------------------------------------------------------------


def stack_status(seen: Seen) -> Result | None:
    if seen.aws.found is None:
        return None
    status = seen.aws.found.status
    if status in STACK_IS_FINE:
        return Result(State.FINE, f"The stack is {status}.")
    if status in STACK_WORKS:
        return Result(State.NOTE, f"The stack is {status}.")
    command = f"--stack-name {shlex.quote(seen.aws.stack_name)}"
    events = f"aws cloudformation describe-stack-events {command}"
    if status in STACK_ENDS:
        return Result(
            State.BROKEN,
            f"The stack is {status}. Its events say why; then delete it, and deploy it anew"
            " (docs/deploy.md, step 5).",
            (events, f"aws cloudformation delete-stack {command}"),
        )
    if status == "UPDATE_ROLLBACK_FAILED":
        return Result(
            State.BROKEN,
            f"The stack is {status}; its events say why. When the cause is gone:",
            (events, f"aws cloudformation continue-update-rollback {command}"),
        )
    return Result(State.BROKEN, f"The stack is {status}; its events say why:", (events,))


def alert_topic(seen: Seen) -> Result | None:
    if seen.stack is None:
        return None
    topic = seen.stack.outputs["AlertTopicArn"]
    found = [
        each
        for page in seen.aws.client("sns")
        .get_paginator("list_subscriptions_by_topic")
        .paginate(TopicArn=topic)
        for each in page["Subscriptions"]
    ]
    # One that nobody has confirmed has a word in the place of its ARN (API reference, Subscribe).
    confirmed = [each for each in found if each["SubscriptionArn"].startswith("arn:")]
    if confirmed:
        return Result(State.FINE, f"{len(confirmed)} get the alerts.")
    address = seen.stack.parameters.get("AlertAddress")
    return Result(
        State.BROKEN,
        "Nobody gets the alerts"
        + (", for nobody has followed the link in the mail from SNS." if found else "."),
        (
            (
                f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint"
                # No shell runs it before somebody has said which.
                f" {shlex.quote(address) if address else '<address>'}"
            ),
        ),
    )


def kill_switch(seen: Seen) -> Result | None:
    if seen.stack is None:
        return None
    name = seen.stack.outputs["KillSwitchParameter"]
    value = _ssm(seen, name)
    if value == holds.OFF:
        return Result(State.FINE, "The kill switch is off: approved deletions are made.")
    what = "is missing" if value is None else f"is {plain(value, 40)!r}, not 'off'"
    return Result(
        State.BROKEN,
        f"The kill switch {name} {what}: approved deletions wait. When they may go on:",
        (f"aws ssm put-parameter --overwrite --type String --name {name} --value {holds.OFF}",),
    )


def escalation_policy(seen: Seen) -> Result | None:
    if seen.stack is None:
        return None
    name = seen.stack.outputs["EscalationPolicyParameter"]
    value = _ssm(seen, name)
    try:
        if value is None:
            raise escalation.EscalationPolicyError("it is missing")
        ladder = escalation.parse(value)
    except escalation.EscalationPolicyError as error:
        told = f"The escalation policy {name} cannot be used, so no sweep starts: {plain(error)}"
        # The one that the stack was deployed with.
        first = " ".join(seen.stack.parameters["EscalationPolicy"].split())
        try:
            escalation.parse(first)
        except escalation.EscalationPolicyError:
            told += (
                ". Nor can the EscalationPolicy of the stack: give that another one, too, or the"
                " next deployment brings it back. Until then, for instance:"
            )
            first = A_POLICY
        return Result(
            State.BROKEN,
            told,
            (
                (
                    f"aws ssm put-parameter --overwrite --type String --name {name}"
                    f" --value {shlex.quote(first)}"
                ),
            ),
        )
    return Result(State.FINE, f"The escalation policy has {len(ladder)} rungs.")


def schedule(seen: Seen) -> Result | None:
    if seen.stack is None:
        return None
    found = seen.schedule
    if found["State"] == "ENABLED":
        return Result(State.FINE, f"Sweeps start by themselves: {found['ScheduleExpression']}.")
    return Result(
        State.NOTE,
        "No sweep starts by itself.",
        (_with_parameter(seen.stack, "ScheduleState", "ENABLED"),),
    )


def last_sweep(seen: Seen) -> Result | None:
    if seen.stack is None:
        return None
    stuck = _stuck_sweep(seen)
    if stuck:
        execution = stuck["executionArn"]
        return Result(
            State.BROKEN,
            f"A sweep has been RUNNING for more than a day, since {stuck['startDate']:%Y-%m-%d}; it"
            f" takes minutes. Look at {link_or_arn(execution)} where it stands. To"
            " stop it and sweep again, which repeats nothing:",
            (f"aws stepfunctions stop-execution --execution-arn {execution}", _sweep(seen)),
        )
    last = seen.last_sweep
    if last is None:
        return Result(
            State.NOTE,
            "There was no sweep of all accounts yet, or not lately. One tells, too, where the audit"
            " role is missing.",
            (_sweep(seen, " --detect-only"),),
        )
    when = f"{last['startDate']:%Y-%m-%d}"
    if last["status"] != "SUCCEEDED":
        why = plain(f"{last.get('error', '')}: {sweep.cause(last)}", 400)
        return Result(
            State.BROKEN,
            f"The last sweep of all accounts, of {when}, ended {last['status']}: {why}. When the"
            " cause is gone:",
            (_sweep(seen),),
        )
    age = seen.now - last["startDate"]
    if age > LONGEST_WITHOUT_SWEEP and seen.schedule["State"] == "ENABLED":
        expression = seen.schedule["ScheduleExpression"]
        return Result(
            State.BROKEN if _is_weekly(expression) else State.NOTE,
            f"The last sweep of all accounts, of {when}, is {age.days} days old; they are to start"
            f" by themselves: {expression}.",
            (_sweep(seen),),
        )
    others = [row for row in seen.last_rows or [] if _is_unknown(row) and not _lacks_role(row)]
    if others:
        return Result(
            State.NOTE,
            f"The sweep of {when} could not check {_some([row['id'] for row in others])}; why:",
            (_report(seen, json.loads(last["output"])["sweep_id"]),),
        )
    return Result(State.FINE, f"The last sweep of all accounts, of {when}, has SUCCEEDED.")


def member_role(seen: Seen) -> Result | None:
    if seen.stack is None or seen.parameter("ScanAccess", "") != "MemberRole":
        return None
    if seen.last_rows is None:
        return Result(
            State.NOTE,
            "Whether the audit role is in every account is not known before a first sweep of all"
            " of them: only the functions may assume it.",
            (_sweep(seen, " --detect-only"),),
        )
    lacking = [row["id"] for row in seen.last_rows if _lacks_role(row)]
    if not lacking:
        return Result(State.FINE, "The last sweep could assume the audit role in every account.")
    of_members = set(lacking) - {seen.organization["MasterAccountId"]}
    return Result(
        State.BROKEN,
        f"The last sweep could not assume the audit role in {_some(lacking)}: it is not there, or"
        " it trusts another account, stack or path of roles. Put it there, and sweep again."
        + (STACK_SET_AS_IT_IS if of_members else ""),
        _put_member_role(seen, lacking),
        Where.MANAGEMENT,
    )


# -- what they share ------------------------------------------------------------------------------


def _if_security(seen: Seen) -> str:
    """Before there is a stack, any account may be the wrong one to hand powers to."""
    return "" if seen.aws.found else f"If this is the security account ({seen.aws.account}): "


def _uses_security_hub(seen: Seen) -> bool:
    return seen.parameter("SecurityHub", "DISABLED") == "ENABLED"


def _answers(seen: Seen, operation: str) -> bool:
    """Whether Security Hub answers, or refuses because it is off or another one administers it."""
    try:
        getattr(seen.aws.client("securityhub"), operation)()
    except ClientError as error:
        if error.response["Error"]["Code"] not in HUB_IS_OFF:
            raise
        return False
    return True


def _register(seen: Seen, service: str) -> tuple[str, ...]:
    """A delegated administrator needs trusted access, which can be given again and again."""
    return (
        f"aws organizations enable-aws-service-access --service-principal {service}",
        (
            "aws organizations register-delegated-administrator"
            f" --service-principal {service} --account-id {seen.aws.account}"
        ),
    )


def _with_parameter(stack: Stack, name: str, value: str) -> str:
    """An update of nothing but a parameter: no other code than that which runs is deployed.

    AWS::Serverless has to be allowed to expand the template (API reference, UpdateStack).
    """
    kept = [
        f"ParameterKey={each},UsePreviousValue=true"
        for each in sorted(stack.parameters)
        if each != name
    ]
    return (
        f"aws cloudformation update-stack --stack-name {shlex.quote(stack.name)}"
        " --use-previous-template --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
        f" --parameters ParameterKey={name},ParameterValue={value} {' '.join(kept)}"
    )


def _sweep(seen: Seen, more: str = "") -> str:
    return f"rootsweep sweep --stack-name {shlex.quote(seen.aws.stack_name)}{more}"


def _report(seen: Seen, id: str) -> str:
    return f"rootsweep report {id} --stack-name {shlex.quote(seen.aws.stack_name)}"


def _stuck_sweep(seen: Seen) -> dict[str, Any] | None:
    """A sweep that runs for more than a day, as ListExecutions has it."""
    running = seen.aws.client("stepfunctions").list_executions(
        stateMachineArn=seen.aws.stack.outputs["SweepStateMachineArn"],
        statusFilter="RUNNING",
        maxResults=1000,
    )["executions"]
    old: list[dict[str, Any]] = [
        each for each in running if seen.now - each["startDate"] > LONGEST_SWEEP
    ]
    return old[-1] if old else None


def _is_weekly(expression: str) -> bool:
    """Whether a schedule starts something at least once a week.

    rate(value unit) and cron(minutes hours day-of-month month day-of-week year), as EventBridge
    Scheduler has them (User Guide, "Schedule types").
    """
    kind, _, rest = expression.rstrip(")").partition("(")
    parts = rest.split()
    if kind == "rate":
        return not parts[1].startswith("day") or int(parts[0]) <= 7
    return {parts[2], parts[3]} <= {"*", "?"} and "#" not in parts[4] and "L" not in parts[4]


def _raise(service: str, quota: str, value: int) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service}"
        f" --quota-code {quota} --desired-value {value}"
    )


def _targets(seen: Seen, policy_id: str) -> list[str]:
    """What a policy is attached to and binds: nothing binds the management account."""
    pages = seen.aws.client("organizations").get_paginator("list_targets_for_policy")
    return [
        target["TargetId"]
        for page in pages.paginate(PolicyId=policy_id)
        for target in page["Targets"]
        if target["TargetId"] != seen.organization["MasterAccountId"]
    ]


def _delegation(seen: Seen) -> dict[str, Any]:
    return {
        "Sid": "RootsweepQuarantine",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{seen.aws.account}:root"},
        "Action": sorted(QUARANTINE_ACTIONS),
        "Resource": "*",
        "Condition": {"StringEquals": {"organizations:PolicyType": _SCP}},
    }


def _delegates(document: Any, account_id: str) -> bool:
    allowed: set[str] = set()
    for statement in policies.listed(document["Statement"]):
        principals = statement.get("Principal", {})
        named = principals.get("AWS", []) if isinstance(principals, dict) else principals
        if statement["Effect"] == "Allow" and {
            account_id,
            f"arn:aws:iam::{account_id}:root",
        } & set(policies.listed(named)):
            allowed |= set(policies.listed(statement.get("Action", [])))
    return allowed >= QUARANTINE_ACTIONS or bool({"organizations:*", "*"} & allowed)


def _ssm(seen: Seen, name: str) -> str | None:
    ssm = seen.aws.client("ssm")
    try:
        return str(ssm.get_parameter(Name=name)["Parameter"].get("Value", ""))
    except ssm.exceptions.ParameterNotFound:
        return None


def _is_unknown(row: dict[str, Any]) -> bool:
    return bool(row["state"] == AccountState.UNKNOWN)


def _lacks_role(row: dict[str, Any]) -> bool:
    return _is_unknown(row) and row["reason"].startswith("AssumeRole: AccessDenied")


def _put_member_role(seen: Seen, accounts: list[str]) -> tuple[str, ...]:
    """The commands of docs/deploy.md, step 2 for members and step 3 for the management account."""
    name = seen.parameter("AuditRoleName", "rootsweep-audit")
    repair: list[str] = []
    members = [id for id in accounts if id != seen.organization["MasterAccountId"]]
    if members:
        only = f"Accounts={','.join(members)},AccountFilterType=INTERSECTION,"
        repair.append(
            "aws cloudformation create-stack-instances --stack-set-name rootsweep-audit-role"
            f" --deployment-targets {only if len(members) <= MOST_TARGETS else ''}"
            f"OrganizationalUnitIds={seen.root_id} --regions us-east-1 --operation-preferences"
            " MaxConcurrentPercentage=100,FailureTolerancePercentage=100"
        )
    if len(members) < len(accounts):
        values = [
            f"SecurityAccountId={seen.aws.account}",
            f"RootsweepStackName={seen.aws.stack_name}",
            f"AuditRoleName={name}",
            f"RolePath={seen.parameter('RolePath', '/')}",
        ]
        repair.append(
            "aws cloudformation deploy --template-file member-role.yaml --stack-name"
            " rootsweep-audit-role --capabilities CAPABILITY_NAMED_IAM --parameter-overrides "
            + " ".join(map(shlex.quote, values))
        )
    return tuple(repair)


def _some(ids: list[str]) -> str:
    more = len(ids) - MOST_NAMED
    return ", ".join(ids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


CHECKS = (
    # name, how it is looked at, what that calls, after which check
    Check(
        "account",
        account,
        "sts:GetCallerIdentity, organizations:DescribeOrganization",
    ),
    Check("all-features", all_features, "organizations:DescribeOrganization", "account"),
    Check("trusted-access", trusted_access, "iam:ListOrganizationsFeatures", "all-features"),
    Check(
        "delegated-administrator",
        delegated_administrator,
        "iam:ListOrganizationsFeatures",
        "trusted-access",
    ),
    Check(
        "root-credentials-management",
        root_credentials_management,
        "iam:ListOrganizationsFeatures",
        "delegated-administrator",
    ),
    Check(
        "security-contacts",
        security_contacts,
        "organizations:ListDelegatedServicesForAccount",
        "delegated-administrator",
    ),
    Check(
        "stack-sets",
        stack_sets,
        "organizations:ListAWSServiceAccessForOrganization",
        "delegated-administrator",
    ),
    Check(
        "service-control-policies",
        service_control_policies,
        "organizations:ListPolicies, DescribePolicy, ListTargetsForPolicy and ListParents,"
        " cloudformation:DescribeStackResource",
        "delegated-administrator",
    ),
    Check(
        "quarantine",
        quarantine,
        "organizations:ListRoots and DescribeResourcePolicy",
        "delegated-administrator",
    ),
    Check("lambda-concurrency", lambda_concurrency, "lambda:GetAccountSettings", "account"),
    Check("sender", sender, "ses:GetEmailIdentity", "account"),
    Check("ses-sandbox", ses_sandbox, "ses:GetAccount", "account"),
    Check("ses-sending", ses_sending, "ses:GetAccount", "account"),
    Check("security-hub", security_hub, "securityhub:DescribeHub", "account"),
    Check(
        "security-hub-administrator",
        security_hub_administrator,
        "securityhub:DescribeOrganizationConfiguration",
        "security-hub",
    ),
    Check("stack", stack_status, "cloudformation:DescribeStacks", "account"),
    Check("alert-topic", alert_topic, "sns:ListSubscriptionsByTopic", "account"),
    Check("kill-switch", kill_switch, "ssm:GetParameter", "account"),
    Check("escalation-policy", escalation_policy, "ssm:GetParameter", "account"),
    Check(
        "schedule",
        schedule,
        "cloudformation:DescribeStackResource, scheduler:GetSchedule",
        "account",
    ),
    Check(
        "last-sweep",
        last_sweep,
        "states:ListExecutions, states:DescribeExecution, s3:GetObject, scheduler:GetSchedule",
        "account",
    ),
    Check(
        "member-role",
        member_role,
        "states:ListExecutions, states:DescribeExecution, s3:GetObject",
        "last-sweep",
    ),
)
