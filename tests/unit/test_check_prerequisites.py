from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import check_prerequisites
import pytest
from botocore.exceptions import ClientError

from rootsweep import sender
from rootsweep.errors import InvalidSweepInputError, PrerequisiteError
from rootsweep.pages import IncompleteAnswerError

from .builders import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.stub import Stubber

    Stub = Callable[[Any], Stubber]

ARN = "arn:aws:states:eu-west-1:222222222222:execution:rootsweep-sweep:a"
STARTED = "2026-03-04T05:06:07.123Z"
SENDER = "rootsweep@mail.example.com"
DOMAIN = "mail.example.com"
PARENT = "example.com"
PARAMETER = "/rootsweep/escalation-policy"
POLICY = [
    {"after": "7d", "notify": ["approvers"], "remind_every": "2d"},
    {"after": "12h", "notify": ["default_approver", "ciso@example.com"]},
]


def run(given: Any) -> dict[str, Any]:
    event = {"input": given, "execution_arn": ARN, "started_at": STARTED}
    return check_prerequisites.handler(event, None)


def refusal(given: Any = None) -> str:
    with pytest.raises(PrerequisiteError) as error:
        run(given or {})
    return str(error.value)


def with_organization(stub: Stub, features: str | None = "ALL") -> None:
    stubbed = stub(check_prerequisites.organizations)
    organization = {"FeatureSet": features} if features else {}
    stubbed.add_response("describe_organization", {"Organization": organization}, {})
    stubbed.add_response("list_accounts", {}, {"MaxResults": 1})


def with_features(stub: Stub, *features: str) -> None:
    stub(check_prerequisites.iam).add_response(
        "list_organizations_features", {"EnabledFeatures": list(features)}, {}
    )


def with_identity(stubbed: Stubber, identity: str, verified: bool | None) -> None:
    if verified is None:
        stubbed.add_client_error("get_email_identity", "NotFoundException")
    else:
        stubbed.add_response(
            "get_email_identity",
            {"VerifiedForSendingStatus": verified},
            {"EmailIdentity": identity},
        )


def with_sender(stub: Stub) -> None:
    with_identity(stub(check_prerequisites.ses), SENDER, verified=True)


def with_policy(stub: Stub, text: str = json.dumps(POLICY)) -> None:
    stub(check_prerequisites.ssm).add_response(
        "get_parameter", {"Parameter": {"Value": text}}, {"Name": PARAMETER}
    )


def with_audit_by_root_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_prerequisites, "USES_MEMBER_ROLE", False)


def test_a_sweep_that_can_do_its_work_gets_an_id(stub: Stub) -> None:
    with_organization(stub)
    with_features(stub, "RootSessions", "RootCredentialsManagement")
    with_sender(stub)
    with_policy(stub)

    request = run({"accounts": [ACCOUNT]})

    assert request.pop("sweep_id").startswith("20260304T050607Z-")
    assert request == {
        "accounts": (ACCOUNT,),
        "organizational_units": (),
        "detect_only": False,
        "escalation_policy": [
            {"after_seconds": 604800, "notify": ["approvers"], "remind_every_seconds": 172800},
            {"after_seconds": 43200, "notify": ["default_approver", "ciso@example.com"]},
        ],
        "started_at": STARTED,
    }


def test_a_malformed_request_is_refused_before_anything_is_called(stub: Stub) -> None:
    stub(check_prerequisites.organizations)

    with pytest.raises(InvalidSweepInputError, match="account: unknown field"):
        run({"account": ACCOUNT})


def test_detecting_needs_an_organization_and_nothing_else(stub: Stub) -> None:
    with_organization(stub)
    for client in (check_prerequisites.iam, check_prerequisites.ses, check_prerequisites.ssm):
        stub(client)

    request = run({"detect_only": True})

    assert (request["detect_only"], request["escalation_policy"]) == (True, [])


def test_without_an_organization_there_is_nothing_to_sweep(stub: Stub) -> None:
    stub(check_prerequisites.organizations).add_client_error(
        "describe_organization", "AWSOrganizationsNotInUseException"
    )

    assert "in no organization" in refusal()


@pytest.mark.parametrize("detect_only", [True, False])
def test_an_account_that_may_not_list_is_told_how_it_may(stub: Stub, detect_only: bool) -> None:
    stubbed = stub(check_prerequisites.organizations)
    organization = {"Organization": {"FeatureSet": "ALL"}}
    stubbed.add_response("describe_organization", organization, {})
    stubbed.add_client_error("list_accounts", "AccessDeniedException")

    assert "register-delegated-administrator" in refusal({"detect_only": detect_only})


@pytest.mark.parametrize("features", ["CONSOLIDATED_BILLING", None])
def test_an_organization_without_all_features_is_refused(stub: Stub, features: str | None) -> None:
    with_organization(stub, features)

    assert "enable-all-features" in refusal()


@pytest.mark.parametrize("features", [[], ["RootSessions"]])
def test_without_root_credentials_management_no_root_session_could_check_an_account(
    stub: Stub, features: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_audit_by_root_sessions(monkeypatch)
    with_organization(stub)
    with_features(stub, *features)

    assert "enable-organizations-root-credentials-management" in refusal()


@pytest.mark.parametrize("features", [[], ["RootSessions"], None])
def test_where_a_member_role_checks_the_accounts_keys_are_found_and_removed_by_hand(
    stub: Stub, features: list[str] | None
) -> None:
    with_organization(stub)
    if features is None:
        stub(check_prerequisites.iam).add_client_error(
            "list_organizations_features", "ServiceAccessNotEnabledException"
        )
    else:
        with_features(stub, *features)
    with_sender(stub)
    with_policy(stub)

    assert run({})["sweep_id"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ServiceAccessNotEnabledException", "enable-aws-service-access"),
        (
            "AccountNotManagementOrDelegatedAdministratorException",
            "register-delegated-administrator",
        ),
    ],
)
def test_what_is_missing_for_root_sessions_is_said_with_the_command(
    stub: Stub, code: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_audit_by_root_sessions(monkeypatch)
    with_organization(stub)
    stub(check_prerequisites.iam).add_client_error("list_organizations_features", code)

    assert advice in refusal()


@pytest.mark.parametrize(("address", "domain"), [(True, None), (None, True), (False, True)])
def test_the_address_or_its_domain_has_to_be_verified(
    stub: Stub, address: bool | None, domain: bool | None
) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    stubbed = stub(check_prerequisites.ses)
    with_identity(stubbed, SENDER, address)
    if not address:
        with_identity(stubbed, DOMAIN, domain)
    with_policy(stub)

    assert run({})["sweep_id"]


@pytest.mark.parametrize(("address", "domain"), [(None, None), (False, False), (False, None)])
def test_a_sender_that_nobody_verified_is_refused_with_the_command(
    stub: Stub, address: bool | None, domain: bool | None
) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    stubbed = stub(check_prerequisites.ses)
    with_identity(stubbed, SENDER, address)
    with_identity(stubbed, DOMAIN, domain)
    with_identity(stubbed, PARENT, domain)

    assert f"aws ses verify-email-identity --email-address {SENDER} and" in refusal()


def test_a_domain_lets_mails_come_from_the_domains_below_it(stub: Stub) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    stubbed = stub(check_prerequisites.ses)
    with_identity(stubbed, SENDER, None)
    with_identity(stubbed, DOMAIN, None)
    with_identity(stubbed, PARENT, verified=True)
    with_policy(stub)

    assert run({})["sweep_id"]


def test_the_command_takes_an_address_for_what_it_is() -> None:
    assert sender.verify("o'$x@example.com").endswith("""--email-address 'o'"'"'$x@example.com'""")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "it is not JSON"),
        ("[]", "it must be a list of at least one rung"),
        ('[{"after": "7d"}]', "rung 1: notify: is missing"),
        ('[{"after": "7 days", "notify": ["approvers"]}]', "rung 1: after: '7 days' is not"),
    ],
)
def test_an_escalation_policy_that_cannot_be_used_is_refused_with_what_is_wrong(
    stub: Stub, text: str, wrong: str
) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    with_sender(stub)
    with_policy(stub, text)

    message = refusal()

    assert f"The escalation policy {PARAMETER} cannot be used: {wrong}" in message
    assert f"aws ssm put-parameter --overwrite --name {PARAMETER}" in message


def test_an_escalation_policy_that_is_missing_is_named_with_the_command(stub: Stub) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    with_sender(stub)
    stub(check_prerequisites.ssm).add_client_error("get_parameter", "ParameterNotFound")

    message = refusal()

    assert f"There is no escalation policy {PARAMETER}" in message
    assert "put-parameter" in message


def test_a_hiccup_of_ssm_is_no_missing_prerequisite(stub: Stub) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    with_sender(stub)
    stub(check_prerequisites.ssm).add_client_error("get_parameter", "ThrottlingException")

    with pytest.raises(ClientError, match="Throttling"):
        run({})


def test_a_hiccup_of_ses_is_no_missing_prerequisite(stub: Stub) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    stub(check_prerequisites.ses).add_client_error("get_email_identity", "TooManyRequestsException")

    with pytest.raises(ClientError):
        run({})


def test_an_answer_that_does_not_say_whether_the_sender_is_verified_does_not_say_that_it_is_not(
    stub: Stub,
) -> None:
    with_organization(stub)
    with_features(stub, "RootCredentialsManagement")
    stubbed = stub(check_prerequisites.ses)
    stubbed.add_response("get_email_identity", {}, {"EmailIdentity": SENDER})

    with pytest.raises(IncompleteAnswerError, match=SENDER):
        run({})


@pytest.mark.parametrize("operation", ["describe_organization", "list_accounts"])
def test_a_hiccup_of_organizations_is_no_missing_prerequisite(stub: Stub, operation: str) -> None:
    stubbed = stub(check_prerequisites.organizations)
    if operation == "list_accounts":
        organization = {"Organization": {"FeatureSet": "ALL"}}
        stubbed.add_response("describe_organization", organization, {})
    stubbed.add_client_error(operation, "ServiceException")

    with pytest.raises(ClientError, match="ServiceException"):
        run({})


def test_a_hiccup_of_iam_is_no_missing_prerequisite(stub: Stub) -> None:
    with_organization(stub)
    stub(check_prerequisites.iam).add_client_error("list_organizations_features", "Throttling")

    with pytest.raises(ClientError, match="Throttling"):
        run({})
