"""SES as AWS documents it, where MiniStack alone answers differently.

Each test names its source in the SES Developer Guide, unless it says otherwise.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGION, SECURITY

if TYPE_CHECKING:
    from .conftest import Aws

SENDER = "rootsweep@example.com"
BUS = f"arn:aws:events:{REGION}:{SECURITY}:event-bus/default"
IDENTITY = f"arn:aws:ses:{REGION}:{SECURITY}:identity/{SENDER}"
# The function writes each event it gets into a table, where the test looks.
CODE = """
import json, os, boto3
def handler(event, context):
    table = boto3.client("dynamodb", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    table.put_item(TableName="bounces", Item={
        "address": {"S": event["detail"]["bounce"]["bouncedRecipients"][0]["emailAddress"]},
        "event": {"S": json.dumps(event)},
    })
"""


def destination(name: str, enabled: bool, *types: str) -> dict[str, Any]:
    return {
        "Type": "AWS::SES::ConfigurationSetEventDestination",
        "Properties": {
            "ConfigurationSetName": {"Ref": name},
            "EventDestination": {
                "Enabled": enabled,
                "MatchingEventTypes": list(types),
                "EventBridgeDestination": {"EventBusArn": BUS},
            },
        },
    }


def configuration_set(name: str) -> dict[str, Any]:
    return {"Type": "AWS::SES::ConfigurationSet", "Properties": {"Name": name}}


@pytest.fixture(scope="module")
def mail(aws: Aws) -> Any:
    """A stack with three configuration sets and a rule that hands bounces to a function."""
    aws.client("dynamodb").create_table(
        TableName="bounces",
        KeySchema=[{"AttributeName": "address", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "address", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    function = aws.function(
        "bounces", CODE, {"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": "*"}
    )
    pattern = {"source": ["aws.ses"], "detail-type": ["Email Bounced"]}
    template = {
        "Resources": {
            "Mails": configuration_set("mails"),
            "Bounces": destination("Mails", True, "BOUNCE"),
            "Deaf": configuration_set("deaf"),
            "Off": destination("Deaf", False, "BOUNCE"),
            "Deliveries": destination("Deaf", True, "DELIVERY"),
            "Rule": {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": pattern,
                    "Targets": [{"Id": "function", "Arn": function}],
                },
            },
        }
    }
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(StackName="mails", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="mails", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    client = aws.client("sesv2")
    client.create_email_identity(EmailIdentity=SENDER)
    return client


def send(client: Any, address: str, name: str | None = "mails") -> str:
    extra = {"ConfigurationSetName": name} if name else {}
    body = {"Text": {"Data": "Please decide"}}
    answer = client.send_email(
        FromEmailAddress=SENDER,
        Destination={"ToAddresses": [address]},
        Content={"Simple": {"Subject": {"Data": "Approval"}, "Body": body}},
        EmailTags=[{"Name": "case", "Value": "c-1"}],
        **extra,
    )
    return str(answer["MessageId"])


def bounce_of(aws: Aws, address: str) -> dict[str, Any] | None:
    found = aws.client("dynamodb").get_item(TableName="bounces", Key={"address": {"S": address}})
    return json.loads(found["Item"]["event"]["S"]) if "Item" in found else None


def wait_for_bounce(aws: Aws, address: str) -> dict[str, Any]:
    for _ in range(100):
        event = bounce_of(aws, address)
        if event is not None:
            return event
        time.sleep(0.1)
    raise AssertionError(f"no bounce of {address}")


def test_a_bounce_is_an_event_on_the_default_bus(aws: Aws, mail: Any) -> None:
    """ "Monitoring SES events using Amazon EventBridge", "Using the mailbox simulator", and
    "Contents of event data that Amazon SES publishes": the Bounce and the Mail object."""
    address = "bounce+c-1@simulator.amazonses.com"
    message = send(mail, address)
    event = wait_for_bounce(aws, address)
    assert (event["source"], event["detail-type"]) == ("aws.ses", "Email Bounced")
    assert event["resources"] == [f"arn:aws:ses:{REGION}:{SECURITY}:configuration-set/mails"]
    detail = event["detail"]
    assert (detail["eventType"], detail["bounce"]["bounceType"]) == ("Bounce", "Permanent")
    assert detail["bounce"]["bounceSubType"] == "General"
    assert detail["bounce"]["timestamp"]
    assert detail["bounce"]["feedbackId"]
    assert detail["bounce"]["bouncedRecipients"] == [
        {
            "emailAddress": address,
            "action": "failed",
            "status": "5.1.1",
            "diagnosticCode": "smtp; 550 5.1.1 user unknown",
        }
    ]
    assert detail["mail"]["messageId"] == message
    assert detail["mail"]["destination"] == [address]
    assert detail["mail"]["tags"]["ses:configuration-set"] == ["mails"]
    assert detail["mail"]["tags"]["case"] == ["c-1"]


def test_an_address_on_the_suppression_list_bounces(aws: Aws, mail: Any) -> None:
    """ "Using the account-level suppression list": the mail is taken, and the event says so."""
    listed, taken_off = "Gone@example.com", "back@example.com"
    for address in (listed, taken_off):
        mail.put_suppressed_destination(EmailAddress=address, Reason="BOUNCE")
    mail.delete_suppressed_destination(EmailAddress=taken_off)
    send(mail, taken_off)
    send(mail, listed)
    bounce = wait_for_bounce(aws, listed)["detail"]["bounce"]
    assert bounce["bounceType"] == "Permanent"
    assert bounce["bounceSubType"] == "OnAccountSuppressionList"
    assert bounce_of(aws, taken_off) is None
    with pytest.raises(ClientError, match="NotFoundException"):
        mail.delete_suppressed_destination(EmailAddress=taken_off)


def test_nothing_is_published_without_a_destination_for_bounces(aws: Aws, mail: Any) -> None:
    """ "Monitor email sending using event publishing": only through a configuration set with an
    enabled destination for the event. SES API v2 reference, SendEmail: unknown sets are 404."""
    send(mail, "bounce+none@simulator.amazonses.com", None)
    send(mail, "bounce+deaf@simulator.amazonses.com", "deaf")
    send(mail, "success@simulator.amazonses.com")
    last = "bounce+last@simulator.amazonses.com"
    send(mail, last)
    wait_for_bounce(aws, last)
    for label in ("bounce+none", "bounce+deaf", "success"):
        assert bounce_of(aws, f"{label}@simulator.amazonses.com") is None
    with pytest.raises(ClientError, match="NotFoundException"):
        send(mail, "success@simulator.amazonses.com", "unknown")


@pytest.mark.usefixtures("mail")
def test_sending_is_authorized_on_the_identity_and_on_the_set(aws: Aws) -> None:
    """Service Authorization Reference, SES v2: SendEmail takes both resources."""
    arn = f"arn:aws:ses:{REGION}:{SECURITY}:configuration-set/mails"
    condition = {"StringEquals": {"ses:FromAddress": SENDER}}
    statement = {"Effect": "Allow", "Action": "ses:SendEmail", "Condition": condition}
    identity_only = aws.role("sender", {**statement, "Resource": IDENTITY})
    client = aws.client("sesv2", credentials=identity_only)
    send(client, "success@simulator.amazonses.com", None)
    with pytest.raises(ClientError, match="AccessDenied") as refused:
        send(client, "success@simulator.amazonses.com")
    assert f"ses:SendEmail on resource: {arn} because" in str(refused.value)
    both = aws.role("sender-with-set", {**statement, "Resource": [IDENTITY, arn]})
    send(aws.client("sesv2", credentials=both), "success@simulator.amazonses.com")
    set_only = aws.role("sender-of-set", {**statement, "Resource": arn})
    with pytest.raises(ClientError, match="AccessDenied") as refused:
        send(aws.client("sesv2", credentials=set_only), "success@simulator.amazonses.com")
    assert f"on resource: {IDENTITY} because" in str(refused.value)


def test_an_identity_is_created_once_and_verified_again_by_version_1(aws: Aws) -> None:
    """SES API v2 reference, CreateEmailIdentity; v1 reference, VerifyEmailIdentity."""
    ses, address = aws.client("sesv2"), "again@example.com"
    aws.client("ses").verify_email_identity(EmailAddress=address)
    assert ses.get_email_identity(EmailIdentity=address)["VerifiedForSendingStatus"]

    with pytest.raises(ClientError, match="AlreadyExistsException"):
        ses.create_email_identity(EmailIdentity=address)
    aws.client("ses").verify_email_identity(EmailAddress=address)


def test_the_account_has_the_limits_of_the_sandbox_while_it_is_in_it(aws: Aws) -> None:
    """ "Service quotas in Amazon SES"; SES API v2 reference, PutAccountDetails, GetAccount,
    PutAccountSendingAttributes."""
    ses = aws.client("sesv2")

    def account(*, production: bool) -> Any:
        ses.put_account_details(
            MailType="TRANSACTIONAL",
            WebsiteURL="https://example.com",
            ProductionAccessEnabled=production,
        )
        return ses.get_account()

    quota = account(production=False)["SendQuota"]
    assert (quota["Max24HourSend"], quota["MaxSendRate"]) == (200, 1)
    assert account(production=True)["SendQuota"]["Max24HourSend"] >= 50000
    ses.put_account_sending_attributes(SendingEnabled=False)
    assert not ses.get_account()["SendingEnabled"]
    ses.put_account_sending_attributes(SendingEnabled=True)
    assert ses.get_account()["SendingEnabled"]
