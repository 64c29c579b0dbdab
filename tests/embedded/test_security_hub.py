"""Security Hub CSPM on the embedded AWS. Each test names the page of AWS that it follows."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from local.security_hub import NAMESPACES

from .conftest import MANAGEMENT, REGION, SECURITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Aws

KEYS, CLEAN, CLOSED, KEY_MAKER = (f"3333333333{n}" for n in (33, 34, 38, 42))
PRINCIPAL = {"ServicePrincipal": "securityhub.amazonaws.com"}
PRODUCT = f"arn:aws:securityhub:{REGION}:{SECURITY}:product/{SECURITY}/default"
CONTROLS = f"arn:aws:securityhub:{REGION}::product/aws/securityhub"
TYPE = f"{NAMESPACES[0]}/AWS Security Best Practices"


@pytest.fixture(scope="module")
def hub(aws: Aws) -> Iterator[Any]:
    """Security Hub in the security account, which administers it for the organization."""
    designate(aws)
    yield aws.client("securityhub")
    organizations = aws.client("organizations", MANAGEMENT)
    organizations.deregister_delegated_administrator(AccountId=SECURITY, **PRINCIPAL)
    organizations.disable_aws_service_access(**PRINCIPAL)


def designate(aws: Aws, account: str = SECURITY) -> None:
    client = aws.client("securityhub", MANAGEMENT)
    client.enable_organization_admin_account(AdminAccountId=account)


def finding(id: str, day: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "SchemaVersion": "2018-10-08",
        "Id": id,
        "ProductArn": PRODUCT,
        "GeneratorId": "rootsweep",
        "AwsAccountId": SECURITY,
        "CreatedAt": "2026-01-01T00:00:00Z",
        "UpdatedAt": f"2026-01-{day:02}T00:00:00.000Z",
        "Title": "a root access key",
        "Description": "There is a root access key.",
        "FindingProviderFields": {"Severity": {"Label": "HIGH"}, "Types": [TYPE]},
        "Resources": [{"Type": "AwsAccount", "Id": f"AWS::::Account:{KEYS}"}],
        **more,
    }


def get(hub: Any, **wanted: str) -> list[dict[str, Any]]:
    filters = {name: [{"Value": value, "Comparison": "EQUALS"}] for name, value in wanted.items()}
    found: list[dict[str, Any]] = hub.get_findings(Filters=filters)["Findings"]
    return found


def refused(hub: Any, *findings: dict[str, Any]) -> list[tuple[str, str]]:
    answer = hub.batch_import_findings(Findings=list(findings))
    assert answer["FailedCount"] == len(answer["FailedFindings"])
    assert answer["SuccessCount"] == len(findings) - answer["FailedCount"]
    return [(each["ErrorCode"], each["ErrorMessage"]) for each in answer["FailedFindings"]]


def set_workflow(hub: Any, found: dict[str, Any], status: str) -> dict[str, Any]:
    answer: dict[str, Any] = hub.batch_update_findings(
        FindingIdentifiers=[{name: found[name] for name in ("Id", "ProductArn")}],
        Workflow={"Status": status},
        Note={"Text": "a case is open", "UpdatedBy": "rootsweep"},
    )
    return answer


# -- the hub, and the administrator ---------------------------------------------------------------


def test_it_is_off_until_it_is_turned_on_in_an_account_and_region(aws: Aws) -> None:
    """API reference, EnableSecurityHub, DescribeHub, DisableSecurityHub: InvalidAccessException."""
    client = aws.client("securityhub", CLEAN)
    calls: list[Callable[[], Any]] = [
        client.describe_hub,
        client.disable_security_hub,
        client.get_findings,
        client.describe_organization_configuration,
        lambda: client.batch_import_findings(Findings=[finding("off")]),
        lambda: set_workflow(client, finding("off"), "NOTIFIED"),
    ]
    text = f"InvalidAccessException.*Account {CLEAN} is not subscribed to AWS Security Hub"
    for call in calls:
        with pytest.raises(ClientError, match=text):
            call()
    client.enable_security_hub(EnableDefaultStandards=False)
    arn = f"arn:aws:securityhub:{REGION}:{CLEAN}:hub/default"
    assert client.describe_hub()["HubArn"] == arn
    with pytest.raises(ClientError, match="ResourceConflictException"):
        client.enable_security_hub()
    client.disable_security_hub()
    with pytest.raises(ClientError, match=text):
        client.describe_hub()


def test_the_management_account_designates_the_administrator(aws: Aws, hub: Any) -> None:
    """User guide, "Integrating Security Hub CSPM with AWS Organizations": the hub is turned on and
    the account delegated. API reference, DescribeOrganizationConfiguration."""
    management = aws.client("securityhub", MANAGEMENT)
    organizations = aws.client("organizations", MANAGEMENT)
    assert hub.describe_hub()["ControlFindingGenerator"] == "SECURITY_CONTROL"
    listed = management.list_organization_admin_accounts()["AdminAccounts"]
    assert listed == [{"AccountId": SECURITY, "Status": "ENABLED"}]
    assert hub.describe_organization_configuration()["MemberAccountLimitReached"] is False

    def delegates() -> list[str]:
        answer = organizations.list_delegated_administrators(**PRINCIPAL)
        return [each["Id"] for each in answer["DelegatedAdministrators"]]

    assert delegates() == [SECURITY]
    with pytest.raises(ClientError, match="InvalidAccessException"):
        hub.enable_organization_admin_account(AdminAccountId=SECURITY)
    with pytest.raises(ClientError, match="ResourceConflictException"):
        designate(aws, CLEAN)
    with pytest.raises(ClientError, match="InvalidAccessException"):
        hub.disable_security_hub()

    management.disable_organization_admin_account(AdminAccountId=SECURITY)
    with pytest.raises(ClientError, match=f"{SECURITY} is not an administrator for this org"):
        hub.describe_organization_configuration()
    # "The Security Hub CSPM API only removes the administrator from the Region of the call."
    assert delegates() == [SECURITY]
    designate(aws)
    # "If you use the Organizations API, it is automatically removed in all Regions."
    organizations.deregister_delegated_administrator(AccountId=SECURITY, **PRINCIPAL)
    with pytest.raises(ClientError, match="not an administrator"):
        hub.describe_organization_configuration()
    designate(aws)


# -- findings of products -------------------------------------------------------------------------


def test_a_finding_is_imported(hub: Any) -> None:
    """API reference, BatchImportFindings, FindingProviderFields, Severity, Workflow."""
    assert refused(hub, finding("made"), finding("told", Workflow={"Status": "NOTIFIED"})) == []
    [made] = get(hub, Id="made", ProductArn=PRODUCT, RecordState="ACTIVE", WorkflowStatus="NEW")
    assert made["Severity"] == {"Label": "HIGH", "Normalized": 70}
    assert made["Types"] == [TYPE]
    assert (made["Region"], made["ProductName"]) == (REGION, "Default")
    assert made["ProductFields"]["aws/securityhub/FindingId"] == f"{PRODUCT}/made"
    assert len(get(hub, Id="told", WorkflowStatus="NOTIFIED")) == 1


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"AwsAccountId": KEYS}, "InvalidAccess", ""),
        ({"ProductArn": PRODUCT.replace(REGION, "eu-west-1")}, "InvalidAccess", ""),
        ({"ProductArn": PRODUCT.replace(SECURITY, KEYS)}, "InvalidAccess", ""),
        ({"SchemaVersion": "1"}, "InvalidInput", "data.SchemaVersion should be equal"),
        ({"Id": "i" * 513}, "InvalidInput", "data.Id should NOT be longer than 512"),
        ({"Title": "t" * 257}, "InvalidInput", "data.Title should NOT be longer than 256"),
        ({"Title": " "}, "InvalidInput", "data.Title should match pattern"),
        ({"Description": "d" * 1025}, "InvalidInput", "data.Description should NOT be longer"),
        ({"UpdatedAt": "2026-01-01"}, "InvalidInput", "data.UpdatedAt should match format"),
        ({"Resources": []}, "InvalidInput", "data.Resources should NOT have fewer than 1 items"),
        ({"FindingProviderFields": {"Types": [TYPE]}}, "InvalidInput", "'FindingProviderFields'"),
        (
            {"FindingProviderFields": {"Severity": {"Label": "BAD"}, "Types": [TYPE]}},
            "InvalidInput",
            "data.FindingProviderFields.Severity.Label should be equal",
        ),
        (
            {"FindingProviderFields": {"Severity": {"Label": "LOW"}, "Types": ["Keys"]}},
            "InvalidInput",
            "data.Types should match pattern",
        ),
        ({"ProductFields": {"x": "y" * 2049}}, "InvalidInput", "data.ProductFields"),
        ({"Workflow": {"Status": "DONE"}}, "InvalidInput", "data.Workflow.Status"),
    ],
)
def test_a_finding_that_is_refused_fails_alone(
    hub: Any, more: dict[str, Any], code: str, text: str
) -> None:
    """User guide, "BatchImportFindings for finding providers": FailedFindings."""
    [(found, message)] = refused(hub, finding("beside"), finding("bad") | more)
    assert found == code
    assert text in message
    assert get(hub, Id="bad") == []
    assert len(get(hub, Id="beside")) == 1


def test_a_hundred_findings_are_imported_at_once(hub: Any) -> None:
    """API reference, BatchImportFindings; more are refused as a whole."""
    findings = [finding(f"many-{n}") for n in range(101)]
    with pytest.raises(ClientError, match="InvalidInputException"):
        hub.batch_import_findings(Findings=findings)
    assert refused(hub, *findings[:100]) == []
    assert len(get(hub, Title="a root access key", Id="many-99")) == 1


def test_an_update_is_later_and_leaves_customers_their_fields(hub: Any) -> None:
    """User guide, "Determining whether to create or update a finding", "Restricted fields"."""
    refused(hub, finding("updated", 2))
    assert refused(hub, finding("updated", 2, Title="same"), finding("updated", Title="old")) == []
    [found] = get(hub, Id="updated")
    assert found["Title"] == "a root access key"
    set_workflow(hub, found, "NOTIFIED")
    severity = {"FindingProviderFields": {"Severity": {"Label": "LOW"}, "Types": [TYPE]}}
    note = {"Text": "mine", "UpdatedBy": "provider", "UpdatedAt": "2026-01-03T00:00:00Z"}
    customers = {"Workflow": {"Status": "NEW"}, "Note": note}
    refused(hub, finding("updated", 3, Title="new", **severity, **customers))
    [found] = get(hub, Id="updated", NoteUpdatedBy="rootsweep")
    assert (found["Title"], found["Severity"]["Label"]) == ("new", "LOW")
    assert found["Workflow"]["Status"] == "NOTIFIED"
    assert found["UpdatedAt"] == "2026-01-03T00:00:00.000Z"


@pytest.mark.parametrize(
    ("status", "then"),
    [("NOTIFIED", "NEW"), ("RESOLVED", "NEW"), ("SUPPRESSED", "SUPPRESSED"), ("NEW", "NEW")],
)
def test_a_finding_that_comes_back_is_new_unless_it_is_suppressed(
    hub: Any, status: str, then: str
) -> None:
    """User guide, "Setting the workflow status of findings"."""
    id = f"back-{status}"
    refused(hub, finding(id, 1))
    set_workflow(hub, get(hub, Id=id)[0], status)
    refused(hub, finding(id, 2, RecordState="ARCHIVED"))
    assert get(hub, Id=id, RecordState="ARCHIVED")[0]["Workflow"]["Status"] == status
    refused(hub, finding(id, 3))
    assert get(hub, Id=id, RecordState="ACTIVE")[0]["Workflow"]["Status"] == then


# -- what is looked for, and changed --------------------------------------------------------------


def test_findings_come_by_pages_and_filters(hub: Any) -> None:
    """API reference, GetFindings, StringFilter: AND of fields, OR of values."""
    refused(hub, *(finding(f"page-{n}", Title=f"title {n % 2}") for n in range(5)))
    prefix = {"Id": [{"Value": "page-", "Comparison": "PREFIX"}]}
    first = hub.get_findings(Filters=prefix, MaxResults=3)
    second = hub.get_findings(Filters=prefix, MaxResults=3, NextToken=first["NextToken"])
    assert [len(each["Findings"]) for each in (first, second)] == [3, 2]
    assert "NextToken" not in second
    ids = [{"Value": f"page-{n}", "Comparison": "EQUALS"} for n in (0, 1, 2)]
    title = [{"Value": "title 0", "Comparison": "EQUALS"}]
    found = hub.get_findings(Filters={"Id": ids, "Title": title})["Findings"]
    assert [each["Id"] for each in found] == ["page-0", "page-2"]
    other = [{"Value": f"page-{n}", "Comparison": "NOT_EQUALS"} for n in (0, 1)]
    found = hub.get_findings(Filters={"Id": prefix["Id"] + other})["Findings"]
    assert [each["Id"] for each in found] == ["page-2", "page-3", "page-4"]


@pytest.mark.parametrize(
    "call",
    [
        {"Filters": {"Keyword": [{"Value": "root"}]}},
        {"Filters": {"Id": [{"Value": "page", "Comparison": "CONTAINS"}]}},
        {"Filters": {"Id": [{"Value": "page"}]}},
        {"Filters": {"Id": [{"Value": str(n), "Comparison": "EQUALS"} for n in range(21)]}},
        {"Filters": {"Id": [{"Value": "a", "Comparison": c} for c in ("EQUALS", "NOT_EQUALS")]}},
        {"SortCriteria": [{"Field": "Id"}]},
        {"MaxResults": 101},
        {"NextToken": "?"},
    ],
)
def test_what_is_not_pretended_or_too_much_is_refused(hub: Any, call: dict[str, Any]) -> None:
    """API reference, GetFindings: up to 10 attributes with up to 20 values each."""
    with pytest.raises(ClientError, match="InvalidInputException"):
        hub.get_findings(**call)


def test_what_is_not_updated_is_said_finding_by_finding(hub: Any) -> None:
    """API reference, BatchUpdateFindingsUnprocessedFinding."""
    refused(hub, finding("once"), finding("twice"))
    once, twice, none = ({"Id": id, "ProductArn": PRODUCT} for id in ("once", "twice", "not-there"))
    answer = hub.batch_update_findings(
        FindingIdentifiers=[once, twice, twice, none], Workflow={"Status": "RESOLVED"}
    )
    assert answer["ProcessedFindings"] == [once]
    assert [each["ErrorCode"] for each in answer["UnprocessedFindings"]] == [
        "DuplicatedFindingIdentifier",
        "DuplicatedFindingIdentifier",
        "FindingNotFound",
    ]
    long = {"Text": "n" * 513, "UpdatedBy": "rootsweep"}
    [failed] = hub.batch_update_findings(FindingIdentifiers=[once], Note=long)[
        "UnprocessedFindings"
    ]
    assert (failed["FindingIdentifier"], failed["ErrorCode"]) == (once, "InvalidInput")
    assert [each["Workflow"]["Status"] for each in get(hub, Id="once")] == ["RESOLVED"]
    with pytest.raises(ClientError, match="Severity is not pretended"):
        hub.batch_update_findings(FindingIdentifiers=[once], Severity={"Label": "LOW"})
    with pytest.raises(ClientError, match="InvalidInputException"):
        hub.batch_update_findings(FindingIdentifiers=[{**once, "Id": str(n)} for n in range(101)])


# -- control IAM.4 --------------------------------------------------------------------------------


def iam_4(hub: Any, *accounts: str, **more: str) -> list[dict[str, Any]]:
    """Of some accounts, or of all that the caller sees."""
    found = get(hub, ComplianceSecurityControlId="IAM.4", RecordState="ACTIVE", **more)
    return [each for each in found if not accounts or each["AwsAccountId"] in accounts]


def test_iam_4_tells_which_account_has_root_keys(hub: Any) -> None:
    """Audit Manager User Guide, "AWS Security Hub CSPM": an example of an IAM.4 finding."""
    [found] = iam_4(hub, KEYS, ComplianceStatus="FAILED")
    start = f"arn:aws:securityhub:{REGION}:{KEYS}:security-control/IAM.4/finding/"
    assert found["Id"].startswith(start)
    assert (found["ProductArn"], found["GeneratorId"]) == (CONTROLS, "security-control/IAM.4")
    assert found["Resources"][0]["Id"] == f"AWS::::Account:{KEYS}"
    assert found["Severity"]["Label"] == "CRITICAL"
    assert found["Workflow"]["Status"] == "NEW"
    [passed] = iam_4(hub, CLEAN)
    assert passed["Compliance"]["Status"] == "PASSED"
    assert passed["Workflow"]["Status"] == "RESOLVED"
    assert iam_4(hub, CLOSED) == []


def test_iam_4_follows_the_keys_and_stays_the_same_finding(aws: Aws, hub: Any) -> None:
    """User guide, "Setting the workflow status of findings": a control that passes is RESOLVED,
    and NEW when it fails again."""
    root = aws.client("iam", KEY_MAKER)
    for left in root.list_access_keys()["AccessKeyMetadata"]:
        root.delete_access_key(AccessKeyId=left["AccessKeyId"])
    key = root.create_access_key()["AccessKey"]["AccessKeyId"]
    [before] = iam_4(hub, KEY_MAKER, ComplianceStatus="FAILED")
    set_workflow(hub, before, "NOTIFIED")
    root.delete_access_key(AccessKeyId=key)
    [passed] = iam_4(hub, KEY_MAKER)
    assert (passed["Id"], passed["CreatedAt"]) == (before["Id"], before["CreatedAt"])
    assert passed["Compliance"]["Status"] == "PASSED"
    assert passed["Workflow"]["Status"] == "RESOLVED"
    assert passed["Note"]["UpdatedBy"] == "rootsweep"
    assert passed["Severity"]["Label"] == "INFORMATIONAL"
    key = root.create_access_key()["AccessKey"]["AccessKeyId"]
    [again] = iam_4(hub, KEY_MAKER)
    assert again["Compliance"]["Status"] == "FAILED"
    assert again["Workflow"]["Status"] == "NEW"
    set_workflow(hub, again, "SUPPRESSED")
    root.delete_access_key(AccessKeyId=key)
    assert iam_4(hub, KEY_MAKER)[0]["Workflow"]["Status"] == "SUPPRESSED"


def test_members_see_and_change_their_own_findings_only(aws: Aws, hub: Any) -> None:
    """API reference, BatchUpdateFindings: administrators those of members, too."""
    member = aws.client("securityhub", KEYS)
    member.enable_security_hub()
    assert [each["AwsAccountId"] for each in iam_4(member)] == [KEYS]
    [other] = iam_4(hub, KEY_MAKER)
    [failed] = set_workflow(member, other, "RESOLVED")["UnprocessedFindings"]
    assert failed["ErrorCode"] == "FindingNotFound"
    [found] = iam_4(hub, KEYS)
    assert set_workflow(hub, found, "NOTIFIED")["UnprocessedFindings"] == []
    assert iam_4(member)[0]["Workflow"]["Status"] == "NOTIFIED"
    management = aws.client("securityhub", MANAGEMENT)
    management.disable_organization_admin_account(AdminAccountId=SECURITY)
    assert [each["AwsAccountId"] for each in iam_4(hub)] == [SECURITY]
    [failed] = set_workflow(hub, found, "NEW")["UnprocessedFindings"]
    assert failed["ErrorCode"] == "FindingNotFound"
    designate(aws)


# -- permissions, and faults ----------------------------------------------------------------------


def test_calls_are_authorized_on_the_product_and_on_the_hub(aws: Aws, hub: Any) -> None:
    """Service Authorization Reference, AWS Security Hub."""
    [found] = iam_4(hub, KEYS)
    arn = f"arn:aws:securityhub:{REGION}:{SECURITY}:hub/default"

    def may(action: str, resource: str, **condition: Any) -> dict[str, Any]:
        allowed = {"Effect": "Allow", "Action": f"securityhub:{action}", "Resource": resource}
        return {**allowed, "Condition": condition} if condition else allowed

    def client(name: str, *statements: dict[str, Any]) -> Any:
        return aws.client("securityhub", credentials=aws.role(name, *statements))

    calls: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "BatchImportFindings": (
            PRODUCT,
            lambda hub: hub.batch_import_findings(Findings=[finding("x")]),
        ),
        "BatchUpdateFindings": (arn, lambda hub: set_workflow(hub, found, "NOTIFIED")),
        "DescribeHub": (arn, lambda hub: hub.describe_hub()),
        "GetFindings": (arn, lambda hub: hub.get_findings()),
    }
    for action, (resource, call) in calls.items():
        others = [name for name in calls if name != action]
        call(client(f"may-{action}", may(action, resource)))
        for role in (
            client(f"not-{action}", *(may(each, "*") for each in others)),
            client(f"other-{action}", may(action, resource.replace(REGION, "eu-west-1"))),
        ):
            with pytest.raises(ClientError, match="AccessDenied") as denied:
                call(role)
            assert f"securityhub:{action}" in str(denied.value)

    # What a finding may be set to.
    status = {"securityhub:ASFFSyntaxPath/Workflow.Status": "NOTIFIED"}
    limited = client("notifies", may("BatchUpdateFindings", arn, StringEquals=status))
    set_workflow(limited, found, "NOTIFIED")
    with pytest.raises(ClientError, match="AccessDenied"):
        set_workflow(limited, found, "SUPPRESSED")
    target = {"securityhub:TargetAccount": KEYS}
    with pytest.raises(ClientError, match="AccessDenied"):
        calls["BatchImportFindings"][1](
            client("imports", may("BatchImportFindings", PRODUCT, StringEquals=target))
        )


CALLING = """
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

hub = boto3.client("securityhub", config=Config(retries={"total_max_attempts": 1}))

def handler(event, context):
    try:
        getattr(hub, event["call"])(**event["with"])
    except ClientError as error:
        return [error.response["Error"]["Code"], error.operation_name]
    return ["", ""]
"""
CODES = {
    "throttling": "LimitExceededException",
    "server_error": "InternalException",
    "access_denied": "AccessDeniedException",
}


def test_calls_of_functions_fail_as_the_rules_say(aws: Aws, hub: Any) -> None:
    """API reference, BatchImportFindings, errors."""
    everything = {"Effect": "Allow", "Action": "securityhub:*", "Resource": "*"}
    aws.function("HubFunction", CALLING, everything)
    update = {"FindingIdentifiers": [{"Id": "x", "ProductArn": PRODUCT}]}
    calls = {
        "BatchImportFindings": ("batch_import_findings", {"Findings": [finding("by-function")]}),
        "BatchUpdateFindings": ("batch_update_findings", update),
        "GetFindings": ("get_findings", {}),
    }
    for (operation, (method, given)), (kind, code) in zip(
        calls.items(), CODES.items(), strict=True
    ):
        rule = {"function": "HubFunction", "operation": f"securityhub:{operation}"}
        body = json.dumps({**rule, "kind": kind, "times": 1}).encode()
        request = urllib.request.Request(f"{aws.endpoint}/_rootsweep/faults", body)
        urllib.request.urlopen(request, timeout=10).close()
        event = json.dumps({"call": method, "with": given})

        def call(event: str = event) -> Any:
            answer = aws.client("lambda").invoke(FunctionName="HubFunction", Payload=event)
            return json.load(answer["Payload"])

        assert call() == [code, operation]
        assert call() == ["", ""]
    assert len(get(hub, Id="by-function")) == 1
