"""What Amazon SQS does and MiniStack does not: dead letters go back by a message move task.

Source: SQS API reference, StartMessageMoveTask; SQS Developer Guide, "Using dead-letter queues".
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions
from ministack.core.concurrency import esm_wake
from ministack.services import sqs

from local import pretend

if TYPE_CHECKING:
    from collections.abc import Callable


def install() -> None:
    sqs._HANDLERS["StartMessageMoveTask"] = start_message_move_task
    # Others wrap this function too, so the one to fall back to is the one found now.
    iam_actions.extract_resource_arn = _resource_arn_before(iam_actions.extract_resource_arn)


def start_message_move_task(data: dict[str, Any], _queue_url: str) -> dict[str, Any]:
    """Move what a dead-letter queue has, each message to the queue that it came from.

    At once, where AWS takes its time. To another queue it is not pretended. "Redriven messages are
    considered new messages with a new messageID and enqueueTime". A message that came from no queue
    stays, where on AWS the task fails.
    """
    dead_letters = sqs._queue_by_arn(data.get("SourceArn", ""))
    if dead_letters is None:
        raise sqs._Err("ResourceNotFoundException", "The resource that you specified doesn't exist")
    if data.get("DestinationArn"):
        raise sqs._Err("UnsupportedOperation", "A DestinationArn is not pretended")
    sources = {queue["attributes"]["QueueArn"]: queue for queue in sqs._queues.values()}
    if not any(_is_moved_to(data["SourceArn"], queue) for queue in sources.values()):
        message = "Source queue must be configured as a Dead Letter Queue."
        raise sqs._Err("InvalidParameterValue", message)
    kept = []
    for message in dead_letters["messages"]:
        source = sources.get(message["sys"].get("DeadLetterQueueSourceArn"))
        if source is None or message["visible_at"] > time.time():
            kept.append(message)
            continue
        now = time.time()
        told = {**message["sys"], "SentTimestamp": str(int(now * 1000))}
        del told["DeadLetterQueueSourceArn"]
        new = {"id": str(uuid.uuid4()), "sent_at": now, "visible_at": now, "sys": told}
        new |= {"receive_count": 0, "first_receive_at": None, "receipt_handle": None}
        source["messages"].append({**message, **new})
    dead_letters["messages"] = kept
    esm_wake.set()
    return {"TaskHandle": uuid.uuid4().hex}


def _is_moved_to(arn: str, queue: dict[str, Any]) -> bool:
    policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
    return bool(policy.get("deadLetterTargetArn") == arn)


def _resource_arn_before(original: Callable[..., str]) -> Callable[..., str]:
    """What a policy can limit the task to: the dead-letter queue.

    Source: Service Authorization Reference, Amazon SQS.
    """

    def extract_resource_arn(service: str, *request: Any) -> str:
        source = pretend.json_object(request[3]).get("SourceArn") if service == "sqs" else None
        return str(source or original(service, *request))

    return extract_resource_arn
