"""Two hundred cases of one approver: one mail, and a page that reads no more than it has to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import approval_page
import pytest
import request_approval

from rootsweep import cases, mailing

from .builders import ACCOUNT, a_waiting_case, contents
from .mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = 200


@pytest.fixture
def waiting(table: Any) -> list[cases.Case]:
    """Copies of one, for moto takes minutes to open as many."""
    case = a_waiting_case(table, now=datetime.now(UTC))
    originals = [item for item in contents(table) if item["sk"].startswith(("CASE", "REQUEST#"))]
    ids = [f"5000000{n:05}" for n in range(CASES)]
    with table.batch_writer() as batch:
        for id in ids:
            for item in originals:
                copy = {
                    name: value.replace(ACCOUNT, id) if isinstance(value, str) else value
                    for name, value in item.items()
                }
                batch.put_item(Item=copy)
    for item in originals:
        table.delete_item(Key={"pk": item["pk"], "sk": item["sk"]})
    return [cases.load(table, case_id=case.id.replace(ACCOUNT, id)) for id in ids]


@pytest.fixture
def post(table: Any) -> mailing.Post:  # noqa: ARG001
    mailbox: Any = Mailbox()
    return replace(request_approval.post, ses=mailbox)


@pytest.fixture
def reads() -> Iterator[Counter[str]]:
    """How often the page asks the table, by operation."""
    counted: Counter[str] = Counter()

    def count(model: Any, **_: object) -> None:
        counted[model.name] += 1

    events = approval_page.dynamodb.meta.client.meta.events
    events.register("before-call.dynamodb", count)
    yield counted
    events.unregister("before-call.dynamodb", count)


def test_all_are_in_one_mail_and_each_is_reminded_of_in_one_more(
    waiting: list[cases.Case], post: mailing.Post, table: Any
) -> None:
    for case in waiting:
        mailing.see_to_it(post, case)
    mailbox: Any = post.ses
    assert len(mailbox.sent) == 1
    assert f"{CASES} accounts" in mailbox.subject(0)
    assert "And 160 more, on the page" in mailbox.text(0)

    for case in waiting:
        key = {"pk": f"CASE#{case.id}", "sk": "CASE"}
        table.update_item(
            Key=key,
            UpdateExpression="SET reminder = :one",
            ExpressionAttributeValues={":one": 1},
        )
    for case in waiting:
        mailing.see_to_it(post, cases.load(table, case_id=case.id))

    assert len(mailbox.sent) == 2
    assert "You were asked about all of them before." in mailbox.text(1)


def test_the_page_takes_two_reads_for_each_hundred_cases_and_stays_small(
    waiting: list[cases.Case], post: mailing.Post, reads: Counter[str]
) -> None:
    mailing.see_to_it(post, waiting[0])
    mailbox: Any = post.ses
    link = mailbox.link(0)
    reads.clear()

    answer = approval_page.handler({"httpMethod": "GET", "pathParameters": {"link": link}}, None)

    assert answer["statusCode"] == 200
    assert f"{CASES} accounts with root access keys wait for you" in answer["body"]
    assert len(answer["body"].encode()) < 30_000
    # The link, its approver, the list of what they are asked, how these cases stand, and those
    # that are shown.
    assert reads == {"GetItem": 2, "Query": 1, "BatchGetItem": CASES / 100 + 1}
