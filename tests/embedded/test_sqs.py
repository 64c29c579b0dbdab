"""SQS as AWS documents it, where MiniStack alone answers differently."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from .conftest import Aws


class Queues:
    """A queue whose messages become dead letters after one receipt."""

    def __init__(self, aws: Aws) -> None:
        self.sqs = aws.client("sqs")
        self.dead_letters = self.make()
        policy = {"deadLetterTargetArn": self.arn(self.dead_letters), "maxReceiveCount": 1}
        self.queue = self.make(RedrivePolicy=json.dumps(policy), VisibilityTimeout="0")

    def make(self, **attributes: str) -> str:
        name = uuid.uuid4().hex
        return str(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def arn(self, url: str) -> str:
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(found["Attributes"]["QueueArn"])

    def take(self, url: str, seconds: float = 5) -> dict[str, Any] | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self.sqs.receive_message(QueueUrl=url, AttributeNames=["All"])
            if "Messages" in answer:
                [message] = answer["Messages"]
                return dict(message)
            time.sleep(0.05)
        return None

    def move(self, url: str, **more: str) -> None:
        self.sqs.start_message_move_task(SourceArn=self.arn(url), **more)


@pytest.fixture
def queues(aws: Aws) -> Queues:
    return Queues(aws)


def test_dead_letters_go_back_to_where_they_came_from_as_new_messages(queues: Queues) -> None:
    """API reference, StartMessageMoveTask: without a DestinationArn "the messages will be redriven
    back to their respective original source queues"."""
    sent = queues.sqs.send_message(QueueUrl=queues.queue, MessageBody="it")["MessageId"]
    assert queues.take(queues.queue)
    assert queues.take(queues.queue, 0.5) is None  # It is moved now.

    queues.move(queues.dead_letters)

    message = queues.take(queues.queue)
    assert message
    assert message["Body"] == "it"
    assert message["MessageId"] != sent
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert queues.take(queues.dead_letters, 0.2) is None
    # Once more dead, it can be moved again.
    assert queues.take(queues.queue, 0.5) is None
    queues.move(queues.dead_letters)
    assert queues.take(queues.queue)


def test_what_came_from_no_queue_stays(queues: Queues) -> None:
    """The same: sources that are no queues, "such as AWS Lambda or Amazon SNS topics, are currently
    not supported"."""
    queues.sqs.send_message(QueueUrl=queues.dead_letters, MessageBody="of a function")
    queues.move(queues.dead_letters)
    assert queues.take(queues.queue, 0.3) is None
    assert queues.take(queues.dead_letters)


def test_only_a_queue_of_dead_letters_can_be_moved_and_by_who_may(aws: Aws, queues: Queues) -> None:
    with pytest.raises(ClientError, match="Dead Letter Queue"):
        queues.move(queues.queue)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        queues.sqs.start_message_move_task(SourceArn=queues.arn(queues.queue) + "x")
    action = "sqs:StartMessageMoveTask"
    for url, is_allowed in ((queues.queue, False), (queues.dead_letters, True)):
        may = {"Effect": "Allow", "Action": action, "Resource": queues.arn(url)}
        sqs = aws.client("sqs", credentials=aws.role(uuid.uuid4().hex, may))
        source = queues.arn(queues.dead_letters)
        if is_allowed:
            assert sqs.start_message_move_task(SourceArn=source)["TaskHandle"]
        else:
            with pytest.raises(ClientError, match="AccessDenied"):
                sqs.start_message_move_task(SourceArn=source)
