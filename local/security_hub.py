"""Security Hub CSPM, which MiniStack lacks: findings in ASFF, who sees them, and control IAM.4.

Sources: Security Hub API reference of each operation and its errors; the user guide's pages
"BatchImportFindings for finding providers", "BatchUpdateFindings for customers", "Setting the
workflow status of findings", "Integrating Security Hub CSPM with AWS Organizations", "Removing or
changing the delegated administrator"; Service Authorization Reference, AWS Security Hub.

It is off in every account and Region, and there is no administrator, until somebody calls. Where
there is one, all accounts of the organization are its members, with IAM.4 turned on. AWS needs up
to a day to see that keys are gone, and minutes for BatchUpdateFindings; here both are there at the
next look. No aggregation of Regions, standards, insights, rules or events.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import iam_actions, responses, router

from local import pretend
from local.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local.pretend import Handler, Member, Pretend, Response

SERVICE = "securityhub"
PRINCIPAL = "securityhub.amazonaws.com"
MOST_FINDINGS = 100
MOST_BYTES = 240 * 1024
MOST_FILTERS, MOST_VALUES = 10, 20
IAM_4 = "IAM.4"

# What only BatchUpdateFindings changes, once there is a finding.
OF_CUSTOMERS = ("Note", "UserDefinedFields", "VerificationState", "Workflow")
# What providers give in FindingProviderFields.
OF_PROVIDERS = ("Confidence", "Criticality", "RelatedFindings", "Severity", "Types")
REQUIRED = (
    "SchemaVersion",
    "Id",
    "ProductArn",
    "GeneratorId",
    "AwsAccountId",
    "CreatedAt",
    "UpdatedAt",
    "Title",
    "Description",
    "Resources",
)
# Most characters (API reference, AwsSecurityFinding).
LENGTHS = {
    "CompanyName": 128,
    "Description": 1024,
    "GeneratorId": 512,
    "Id": 512,
    "Note.Text": 512,
    "ProductArn": 2048,
    "ProductName": 128,
    "Remediation.Recommendation.Text": 512,
    "Title": 256,
}
# Most characters of keys and of values, of 50 at most.
MAPS = {"ProductFields": (128, 2048), "UserDefinedFields": (128, 1024)}
NORMALIZED = {"INFORMATIONAL": 0, "LOW": 1, "MEDIUM": 40, "HIGH": 70, "CRITICAL": 90}
STATUSES = ("NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED")
CHOICES = {
    "Compliance.Status": ("PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"),
    "FindingProviderFields.Severity.Label": tuple(NORMALIZED),
    "RecordState": ("ACTIVE", "ARCHIVED"),
    "SchemaVersion": ("2018-10-08",),
    "Severity.Label": tuple(NORMALIZED),
    "Workflow.Status": STATUSES,
}
NAMESPACES = (
    "Software and Configuration Checks",
    "TTPs",
    "Effects",
    "Unusual Behaviors",
    "Sensitive Data Identifications",
)
# What is filtered by, and which field of a finding that is; any other filter is refused.
FILTERS = {
    "AwsAccountId": "AwsAccountId",
    "ComplianceSecurityControlId": "Compliance.SecurityControlId",
    "ComplianceStatus": "Compliance.Status",
    "GeneratorId": "GeneratorId",
    "Id": "Id",
    "NoteUpdatedBy": "Note.UpdatedBy",
    "ProductArn": "ProductArn",
    "ProductName": "ProductName",
    "RecordState": "RecordState",
    "ResourceId": "Resources.Id",
    "ResourceType": "Resources.Type",
    "SeverityLabel": "Severity.Label",
    "Title": "Title",
    "Type": "Types",
    "WorkflowStatus": "Workflow.Status",
}


def install(organization: Pretend) -> None:
    handlers: dict[str, Handler] = app.SERVICE_HANDLERS
    handlers[SERVICE] = _handler(SecurityHub(organization))
    router.SERVICE_PATTERNS[SERVICE] = {"credential_scope": SERVICE}
    iam_actions.SERVICE_TO_IAM_NAMESPACE[SERVICE] = SERVICE
    iam_actions._BOTOCORE_SERVICE_MAP[SERVICE] = [SERVICE]
    _know_resources()


class SecurityHub:
    """The hubs of all accounts and Regions, their findings, and each Region's administrator."""

    def __init__(self, organization: Pretend) -> None:
        self._organization = organization
        self._enabled: dict[tuple[str, str], str] = {}
        self._administrators: dict[str, str] = {}
        # By Region, the ARN of the product, and the id that the product gave.
        self._findings: dict[tuple[str, str, str], dict[str, Any]] = {}

    def answer(self, operation: str | None, data: dict[str, Any]) -> dict[str, Any]:
        """The answer to one of the operations. Raises ApiError."""
        caller = responses.get_account_id(), responses.get_region()
        operations: dict[str | None, Callable[..., dict[str, Any]]] = {
            "EnableSecurityHub": self._enable,
            "EnableOrganizationAdminAccount": self._designate,
            "DisableOrganizationAdminAccount": self._dismiss,
            "ListOrganizationAdminAccounts": self._list_administrators,
        }
        of_subscribers: dict[str | None, Callable[..., dict[str, Any]]] = {
            "BatchImportFindings": self._import,
            "BatchUpdateFindings": self._update,
            "DescribeHub": self._describe,
            "DescribeOrganizationConfiguration": self._configuration,
            "DisableSecurityHub": self._disable,
            "GetFindings": self._get,
        }
        if operation in operations:
            return operations[operation](*caller, data)
        if operation not in of_subscribers:
            raise ApiError("InvalidInputException", f"{operation} is not pretended")
        if caller not in self._enabled:
            # The words of AWS. BatchImportFindings may say it by InvalidAccess for each finding,
            # too: the user guide says that, and the API reference has InvalidAccessException.
            raise ApiError(
                "InvalidAccessException",
                f"Account {caller[0]} is not subscribed to AWS Security Hub",
            )
        return of_subscribers[operation](*caller, data)

    # -- the hub, and the administrator ---------------------------------------------------------

    def _enable(self, account: str, region: str, _data: dict[str, Any]) -> dict[str, Any]:
        if (account, region) in self._enabled:
            raise ApiError(
                "ResourceConflictException", "Account is already subscribed to Security Hub"
            )
        self._enabled[account, region] = _now()
        return {}

    def _disable(self, account: str, region: str, _data: dict[str, Any]) -> dict[str, Any]:
        """Findings are kept for 90 days. What AWS says to an administrator is not documented."""
        if self._administrator(region) == account:
            raise ApiError(
                "InvalidAccessException",
                f"Account {account} is the Security Hub administrator of the organization",
            )
        del self._enabled[account, region]
        return {}

    def _describe(self, account: str, region: str, _data: dict[str, Any]) -> dict[str, Any]:
        return {
            "HubArn": _hub(account, region),
            "SubscribedAt": self._enabled[account, region],
            "AutoEnableControls": True,
            "ControlFindingGenerator": "SECURITY_CONTROL",
        }

    def _designate(self, account: str, region: str, data: dict[str, Any]) -> dict[str, Any]:
        """The administrator of this Region. It is delegated in Organizations, and its hub turned
        on. The code for a second one is not documented."""
        self._require_management(account, data)
        administrator = str(data.get("AdminAccountId"))
        if administrator not in self._organization.members:
            raise ApiError("InvalidInputException", f"Account {administrator} is not a member")
        if self._administrator(region) not in (None, administrator):
            raise ApiError("ResourceConflictException", "There is an administrator already.")
        self._administrators[region] = administrator
        self._organization.trusted.setdefault(PRINCIPAL, time.time())
        if administrator != self._organization.management:
            services = self._organization.delegates.setdefault(administrator, {})
            services.setdefault(PRINCIPAL, time.time())
        self._enabled.setdefault((administrator, region), _now())
        return {"AdminAccountId": administrator, "Feature": "SecurityHub"}

    def _dismiss(self, account: str, region: str, data: dict[str, Any]) -> dict[str, Any]:
        """In this Region only; in Organizations the account stays the delegate."""
        self._require_management(account, data)
        if self._administrator(region) != data.get("AdminAccountId"):
            raise ApiError("InvalidInputException", "This is not the administrator.")
        del self._administrators[region]
        return {}

    def _list_administrators(
        self, account: str, region: str, data: dict[str, Any]
    ) -> dict[str, Any]:
        self._require_management(account, data)
        found = self._administrator(region)
        accounts = [{"AccountId": found, "Status": "ENABLED"}] if found else []
        return {"AdminAccounts": accounts, "Feature": "SecurityHub"}

    def _configuration(self, account: str, region: str, _data: dict[str, Any]) -> dict[str, Any]:
        """Only for the administrator of this Region; the refusal in the words that AWS has for
        UpdateOrganizationConfiguration."""
        if self._administrator(region) != account:
            raise ApiError(
                "InvalidAccessException",
                f"Account {account} is not an administrator for this organization",
            )
        return {
            "AutoEnable": True,
            "AutoEnableStandards": "DEFAULT",
            "MemberAccountLimitReached": False,
            "OrganizationConfiguration": {"ConfigurationType": "LOCAL", "Status": "ENABLED"},
        }

    def _administrator(self, region: str) -> str | None:
        """Deregistered in Organizations, an account is the administrator nowhere."""
        found = self._administrators.get(region)
        is_one = found and self._organization.administrator(found, PRINCIPAL)
        return found if is_one else None

    def _require_management(self, account: str, data: dict[str, Any]) -> None:
        if account != self._organization.management:
            raise ApiError(
                "InvalidAccessException",
                f"Account {account} is not the management account of an organization",
            )
        if data.get("Feature", "SecurityHub") != "SecurityHub":
            raise ApiError("InvalidInputException", "This Feature is not pretended")

    # -- findings of products -------------------------------------------------------------------

    def _import(self, account: str, region: str, data: dict[str, Any]) -> dict[str, Any]:
        findings = data.get("Findings") or []
        if not 1 <= len(findings) <= MOST_FINDINGS:
            raise ApiError(
                "InvalidInputException",
                f"Invalid parameter 'Findings'. Between 1 and {MOST_FINDINGS} findings.",
            )
        failed = []
        for finding in findings:
            refused = _refusal(finding, account, region)
            if refused:
                failed.append(
                    {
                        "Id": str(finding.get("Id") or "unknown"),
                        "ErrorCode": refused.code,
                        "ErrorMessage": refused.message,
                    }
                )
            else:
                self._put(region, finding)
        return {
            "FailedCount": len(failed),
            "SuccessCount": len(findings) - len(failed),
            "FailedFindings": failed,
        }

    def _put(self, region: str, finding: dict[str, Any]) -> None:
        """Make a finding, or put another in its place; one that is not newer is ignored."""
        key = region, finding["ProductArn"], finding["Id"]
        old = self._findings.get(key)
        if old and not _is_later(finding["UpdatedAt"], old["UpdatedAt"]):
            return
        provided = {name: finding[name] for name in OF_PROVIDERS if name in finding}
        provided |= finding.get("FindingProviderFields", {})
        severity = {"Normalized": NORMALIZED[provided["Severity"]["Label"]], **provided["Severity"]}
        new = {
            "ProductName": "Default",
            "CompanyName": "Personal",
            "RecordState": "ACTIVE",
            "Workflow": {"Status": "NEW"},
            **finding,
            **provided,
            "FindingProviderFields": provided,
            "Severity": severity,
            "Region": region,
            "WorkflowState": "NEW",
            "ProcessedAt": _now(),
            "ProductFields": {
                **finding.get("ProductFields", {}),
                "aws/securityhub/FindingId": f"{finding['ProductArn']}/{finding['Id']}",
                "aws/securityhub/ProductName": "Default",
                "aws/securityhub/CompanyName": "Personal",
            },
        }
        if old:
            new = {name: value for name, value in new.items() if name not in OF_CUSTOMERS}
            new |= {name: old[name] for name in OF_CUSTOMERS if name in old}
            new["Workflow"] = {"Status": _workflow(old, new)}
        self._findings[key] = new

    def _get(self, account: str, region: str, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("SortCriteria"):
            raise ApiError("InvalidInputException", "SortCriteria is not pretended")
        matches = _filter(data.get("Filters") or {})
        size = data.get("MaxResults", MOST_FINDINGS)
        if not 1 <= size <= MOST_FINDINGS:
            raise ApiError("InvalidInputException", "MaxResults has to be between 1 and 100.")
        found = [each for each in self._visible(account, region).values() if matches(each)]
        start = pretend._offset(data.get("NextToken"))
        page: dict[str, Any] = {"Findings": found[start : start + size]}
        if start + size < len(found):
            page["NextToken"] = base64.b64encode(f"from:{start + size}".encode()).decode()
        return page

    def _update(self, account: str, region: str, data: dict[str, Any]) -> dict[str, Any]:
        """Of the fields those that only customers change; the others are not pretended."""
        identifiers = data.get("FindingIdentifiers") or []
        if not 1 <= len(identifiers) <= MOST_FINDINGS:
            raise ApiError(
                "InvalidInputException", f"Between 1 and {MOST_FINDINGS} FindingIdentifiers."
            )
        unknown = data.keys() - {"FindingIdentifiers", *OF_CUSTOMERS}
        if unknown:
            raise ApiError("InvalidInputException", f"{', '.join(unknown)} is not pretended")
        given = {name: data[name] for name in OF_CUSTOMERS if name in data}
        if "Note" in given:
            given["Note"] = {**given["Note"], "UpdatedAt": _now()}
        visible = self._visible(account, region)
        keys = [(each["ProductArn"], each["Id"]) for each in identifiers]
        times = Counter(keys)
        processed, unprocessed = [], []
        for key, identifier in zip(keys, identifiers, strict=True):
            if times[key] > 1:
                code, text = "DuplicatedFindingIdentifier", "Finding Identifier is duplicated"
            elif key not in visible:
                code, text = "FindingNotFound", "Finding Not Found"
            elif any(_problems(given)):
                code, text = "InvalidInput", "Invalid Input"
            else:
                visible[key].update(given)
                processed.append(identifier)
                continue
            error = {"ErrorCode": code, "ErrorMessage": text}
            unprocessed.append({"FindingIdentifier": identifier, **error})
        return {"ProcessedFindings": processed, "UnprocessedFindings": unprocessed}

    def _visible(self, account: str, region: str) -> dict[tuple[str, str], dict[str, Any]]:
        """An account's own findings; for the administrator those of the members, too."""
        self._check_root_keys(region)
        accounts = {account}
        if self._administrator(region) == account:
            accounts |= self._organization.members.keys()
        return {
            (product, id): finding
            for (where, product, id), finding in self._findings.items()
            if where == region and finding["AwsAccountId"] in accounts
        }

    # -- control IAM.4 --------------------------------------------------------------------------

    def _check_root_keys(self, region: str) -> None:
        """The finding of IAM.4 about each account that is ACTIVE, as it would be after the check.

        An account without keys has one too, which has passed. "For findings from controls, if
        Compliance.Status is PASSED, Security Hub CSPM automatically sets the workflow status to
        RESOLVED"; one that is SUPPRESSED stays so here.
        """
        for member in self._organization.members.values():
            if member.state != "ACTIVE":
                continue
            new = _iam_4(member, region)
            key = region, new["ProductArn"], new["Id"]
            old = self._findings.get(key)
            status = new["Compliance"]["Status"]
            if old and old["Compliance"]["Status"] == status:
                continue
            if old:
                new |= {name: old[name] for name in (*OF_CUSTOMERS, "CreatedAt") if name in old}
            workflow = _workflow(old, new) if old else "NEW"
            if status == "PASSED" and workflow != "SUPPRESSED":
                workflow = "RESOLVED"
            self._findings[key] = {**new, "Workflow": {"Status": workflow}}


def _iam_4(member: Member, region: str) -> dict[str, Any]:
    """The consolidated finding of the control about an account.

    After the example of AWS Audit Manager User Guide, "AWS Security Hub CSPM", "When consolidated
    findings is turned on", which is one of IAM.4 that has passed.
    """
    account, now = member.account.id, _now()
    product = f"arn:aws:securityhub:{region}::product/aws/securityhub"
    control = f"arn:aws:securityhub:{region}:{account}:security-control/{IAM_4}"
    id = f"{control}/finding/{uuid.uuid5(uuid.NAMESPACE_URL, control)}"
    label, status = ("CRITICAL", "FAILED") if member.keys else ("INFORMATIONAL", "PASSED")
    severity = {"Label": label, "Original": label}
    provided = {
        "Severity": severity,
        "Types": ["Software and Configuration Checks/Industry and Regulatory Standards"],
    }
    return {
        "SchemaVersion": "2018-10-08",
        "Id": id,
        "ProductArn": product,
        "ProductName": "Security Hub",
        "CompanyName": "AWS",
        "Region": region,
        "GeneratorId": f"security-control/{IAM_4}",
        "AwsAccountId": account,
        "FirstObservedAt": now,
        "LastObservedAt": now,
        "CreatedAt": now,
        "UpdatedAt": now,
        **provided,
        "Severity": {**severity, "Normalized": NORMALIZED[label]},
        "Title": "IAM root user access key should not exist",
        "Description": "This AWS control checks whether the root user access key is available.",
        "Resources": [
            {
                "Type": "AwsAccount",
                "Id": f"AWS::::Account:{account}",
                "Partition": "aws",
                "Region": region,
            }
        ],
        "Compliance": {"Status": status, "SecurityControlId": IAM_4},
        "WorkflowState": "NEW",
        "RecordState": "ACTIVE",
        "FindingProviderFields": provided,
        "ProcessedAt": now,
    }


# -- what is a finding ----------------------------------------------------------------------------


def _refusal(finding: dict[str, Any], account: str, region: str) -> ApiError | None:
    """Why a finding is not imported, as ErrorCode and ErrorMessage of ImportFindingsError.

    The user guide has InvalidAccess for accounts and products that may not; AWS has been seen to
    refuse the whole call with AccessDeniedException, for the product of a partner. The words of
    InvalidInput are those of AWS.
    """
    default = f"arn:aws:securityhub:{region}:{account}:product/{account}/default"
    problems = [*_problems(finding, is_whole=True)]
    if problems:
        text = f"Finding does not adhere to Amazon Finding Format. {', '.join(problems)}."
        return ApiError("InvalidInput", text)
    if finding["AwsAccountId"] != account or finding["ProductArn"] != default:
        return ApiError("InvalidAccess", "The account may not import findings of this product.")
    return None


def _problems(finding: dict[str, Any], is_whole: bool = False) -> Iterator[str]:
    """What is wrong with the fields that are there, and with a whole finding without others."""
    for field in REQUIRED if is_whole else ():
        if field not in finding:
            yield f"data should have required property '{field}'"
    for field, most in LENGTHS.items():
        for value in _values(finding, field):
            if len(value) > most:
                yield f"data.{field} should NOT be longer than {most} characters"
            if not value.strip():
                yield f'data.{field} should match pattern ".*\\S.*"'
    for field, choices in CHOICES.items():
        if any(value not in choices for value in _values(finding, field)):
            yield f"data.{field} should be equal to one of the allowed values"
    for field, (key, most) in MAPS.items():
        pairs = finding.get(field, {})
        if len(pairs) > 50:
            yield f"data.{field} should NOT have more than 50 properties"
        if any(len(name) > key or len(value) > most for name, value in pairs.items()):
            yield f"data.{field} should NOT have keys or values that are longer"
    if is_whole:
        yield from _problems_of_whole(finding)


def _problems_of_whole(finding: dict[str, Any]) -> Iterator[str]:
    for field in ("CreatedAt", "UpdatedAt", "FirstObservedAt", "LastObservedAt"):
        if None in map(_moment, _values(finding, field)):
            yield f'data.{field} should match format "date-time"'
    resources = finding.get("Resources", [])
    if "Resources" in finding and not resources:
        yield "data.Resources should NOT have fewer than 1 items"
    if len(resources) > 32:
        yield "data.Resources should NOT have more than 32 items"
    for number, resource in enumerate(resources):
        for field in ("Type", "Id"):
            if not resource.get(field):
                yield f"data.Resources[{number}] should have required property '{field}'"
    provided = finding.get("FindingProviderFields", {})
    if not any("Types" in each and _values(each, "Severity.Label") for each in (finding, provided)):
        yield "data should have required property 'FindingProviderFields'"
        yield "data should match some schema in anyOf"
    for each in (finding, provided):
        types = each.get("Types", [])
        if any(type.split("/")[0] not in NAMESPACES or type.count("/") > 2 for type in types):
            yield "data.Types should match pattern"
        if len(types) > 50:
            yield "data.Types should NOT have more than 50 items"
    if len(json.dumps(finding).encode()) > MOST_BYTES:
        yield "data should NOT be larger than 240 KB"


def _workflow(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The workflow status after an update: NEW again if it says that something is wrong again."""
    was, now = (each.get("Compliance", {}).get("Status") for each in (old, new))
    is_back = (old["RecordState"], new["RecordState"]) == ("ARCHIVED", "ACTIVE")
    again = is_back or (was == "PASSED" and now not in ("PASSED", None))
    status = str(old["Workflow"]["Status"])
    return "NEW" if again and status in ("NOTIFIED", "RESOLVED") else status


# -- what is looked for ---------------------------------------------------------------------------


def _filter(filters: dict[str, list[dict[str, str]]]) -> Callable[[dict[str, Any]], bool]:
    """Whether a finding is looked for: by every field, for any of the values of a field.

    Values that a field may not have are joined by AND (API reference, StringFilter).
    """
    if len(filters) > MOST_FILTERS:
        raise ApiError("InvalidInputException", f"Up to {MOST_FILTERS} attributes to filter by.")
    for field, wanted in filters.items():
        if field not in FILTERS:
            raise ApiError("InvalidInputException", f"The filter {field} is not pretended")
        if len(wanted) > MOST_VALUES:
            raise ApiError("InvalidInputException", f"Up to {MOST_VALUES} values for {field}.")
        comparisons = {each.get("Comparison") for each in wanted}
        if not comparisons <= {"EQUALS", "NOT_EQUALS", "PREFIX"}:
            raise ApiError("InvalidInputException", f"A Comparison of {field} is not pretended")
        if comparisons >= {"EQUALS", "NOT_EQUALS"}:
            raise ApiError("InvalidInputException", f"{field} has EQUALS and NOT_EQUALS.")

    def matches(finding: dict[str, Any]) -> bool:
        return all(_is_one(_values(finding, FILTERS[name]), filters[name]) for name in filters)

    return matches


def _is_one(values: list[str], wanted: list[dict[str, str]]) -> bool:
    barred = {each["Value"] for each in wanted if each["Comparison"] == "NOT_EQUALS"}
    sought = [each for each in wanted if each["Comparison"] != "NOT_EQUALS"]
    is_sought = any(
        value == each["Value"]
        or (each["Comparison"] == "PREFIX" and value.startswith(each["Value"]))
        for value in values
        for each in sought
    )
    return not barred & set(values) and (is_sought or not sought)


def _values(finding: Mapping[str, Any], path: str) -> list[Any]:
    """What a finding has at a path like `Resources.Id`, of each element of a list."""
    found: list[Any] = [finding]
    for name in path.split("."):
        found = [each[name] for each in found if each.get(name) is not None]
        found = [each for some in found for each in (some if isinstance(some, list) else [some])]
    return found


# -- the wire -------------------------------------------------------------------------------------


def _handler(hub: SecurityHub) -> Handler:
    async def handle(
        method: str, path: str, _headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        operation = iam_actions._match_rest_action(SERVICE, method, path, query)
        in_url = {name: pretend._one(value) for name, value in query.items()}
        try:
            with hub._organization.lock:
                answer = hub.answer(operation, {**pretend.json_object(body), **in_url})
        except ApiError as error:
            return pretend._json_error(SERVICE, error)
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    return handle


def _know_resources() -> None:
    """What a call is authorized on: the products of the findings to import, else the hub.

    Of the condition keys securityhub:TargetAccount, and securityhub:ASFFSyntaxPath of the fields
    that BatchUpdateFindings sets. Source: Service Authorization Reference.
    """
    resource_arn = iam_actions.extract_resource_arn
    tag_context = iam_actions.request_tag_context

    def extract_resource_arn(service: str, *rest: Any) -> str:
        first = str(resource_arn(service, *rest))
        if service != SERVICE:
            return first
        method, path, _headers, body, _params, region, account = rest
        if iam_actions._match_rest_action(SERVICE, method, path) != "BatchImportFindings":
            return _hub(account, region)
        found = {str(each.get("ProductArn")): None for each in _findings_of(body)}
        first, *further = found or ["*"]
        pretend._further.set(tuple(further))
        return first

    def request_tag_context(
        service: str, action: str, body: bytes, params: dict[str, Any]
    ) -> dict[str, Any]:
        context: dict[str, Any] = tag_context(service, action, body, params)
        if action == "securityhub:BatchImportFindings":
            accounts = {str(each.get("AwsAccountId")): None for each in _findings_of(body)}
            context = {**context, "securityhub:TargetAccount": list(accounts)}
        if action == "securityhub:BatchUpdateFindings":
            data = pretend.json_object(body)
            for path in ("Note.Text", "Note.UpdatedBy", "VerificationState", "Workflow.Status"):
                if value := _values(data, path):
                    context = {**context, f"securityhub:ASFFSyntaxPath/{path}": value[0]}
        return context

    iam_actions.extract_resource_arn = extract_resource_arn
    iam_actions.request_tag_context = request_tag_context


def _findings_of(body: bytes) -> list[dict[str, Any]]:
    return pretend.json_object(body).get("Findings") or []


def _hub(account: str, region: str) -> str:
    return f"arn:aws:securityhub:{region}:{account}:hub/default"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_later(text: str, other: str) -> bool:
    moments = _moment(text), _moment(other)
    return moments[0] is not None and moments[1] is not None and moments[0] > moments[1]


def _moment(text: str) -> datetime | None:
    """The time of a timestamp with its time zone; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
