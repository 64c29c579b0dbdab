"""The table of the simulated year, held to moto's: whatever one does, the other does."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import moto
import pytest
from boto3.dynamodb.conditions import Attr, Key
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from . import table as tables

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("aa", "bb", "cc")
KEYS = [{"pk": "p", "sk": f"s{number}"} for number in range(3)]


@pytest.fixture(scope="module")
def real() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        with moto.mock_aws():
            yield boto3.resource("dynamodb").create_table(
                TableName="year",
                AttributeDefinitions=[
                    {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")
                ],
                KeySchema=[
                    {"AttributeName": "pk", "KeyType": "HASH"},
                    {"AttributeName": "sk", "KeyType": "RANGE"},
                ],
                BillingMode="PAY_PER_REQUEST",
            )


texts = st.sampled_from(["", "a", "ab", "YES", "2027-01-01T00:00:00Z"])
numbers = st.integers(-2, 3)
lists = st.lists(texts, max_size=3)
sets = st.sets(st.sampled_from(["x", "y", "z"]), min_size=1)
maps = st.fixed_dictionaries({}, optional={"m": texts, "n": numbers})
# moto takes True for 1 and null for an attribute that is not there, so nothing is compared to them.
comparable = texts | numbers | lists | sets | maps
values = comparable | st.booleans() | st.none()
names = st.sampled_from(NAMES)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> tuple[str, Any, dict[str, Any]]:
    """The same condition as text and as an object of boto3, and the values of the text."""
    kind = draw(st.sampled_from(["exists", "absent", "compare", "size", "begins", "contains"]))
    if depth:
        kind = draw(st.sampled_from([kind, kind, "and", "or", "not"]))
    if kind in ("and", "or"):
        left, right = draw(conditions(depth - 1)), draw(conditions(depth - 1))
        both = left[1] & right[1] if kind == "and" else left[1] | right[1]
        return f"({left[0]}) {kind.upper()} ({right[0]})", both, left[2] | right[2]
    if kind == "not":
        text, condition, given = draw(conditions(depth - 1))
        return f"NOT ({text})", ~condition, given
    name = draw(names)
    placeholder = f":c{draw(st.integers(0, 10**9))}"
    attribute = Attr(name)
    if kind == "exists":
        return f"attribute_exists({name})", attribute.exists(), {}
    if kind == "absent":
        return f"attribute_not_exists({name})", attribute.not_exists(), {}
    if kind in ("begins", "contains"):
        value = draw(st.sampled_from(["a", "x", "YES"]))
        if kind == "begins":
            text, condition = f"begins_with({name}, {placeholder})", attribute.begins_with(value)
        else:
            text, condition = f"contains({name}, {placeholder})", attribute.contains(value)
        return text, condition, {placeholder: value}
    # boto3 has no `<>` for sizes.
    operators = ["=", "<", "<=", ">", ">="] + ["<>"] * (kind == "compare")
    operator = draw(st.sampled_from(operators))
    method = {"=": "eq", "<>": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[operator]
    if kind == "size":
        value = draw(numbers)
        condition = getattr(attribute.size(), method)(value)
        return f"size({name}) {operator} {placeholder}", condition, {placeholder: value}
    value = draw(comparable if operator in ("=", "<>") else texts | numbers)
    condition = getattr(attribute, method)(value)
    return f"{name} {operator} {placeholder}", condition, {placeholder: value}


@st.composite
def updates(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An update that changes each attribute at most once, and its values."""
    given: dict[str, Any] = {}
    clauses: dict[str, list[str]] = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        value, default = f":{name}", f":default_{name}"
        kind = draw(st.sampled_from(["set", "keep", "append", "sum", "remove", "add", "take"]))
        if kind == "set":
            given[value] = draw(values)
            clauses.setdefault("SET", []).append(f"{name} = {value}")
        elif kind == "keep":
            given[value] = draw(values)
            clauses.setdefault("SET", []).append(f"{name} = if_not_exists({name}, {value})")
        elif kind == "append":
            given |= {value: draw(lists), default: []}
            text = f"{name} = list_append(if_not_exists({name}, {default}), {value})"
            clauses.setdefault("SET", []).append(text)
        elif kind == "sum":
            given |= {value: draw(numbers), default: 0}
            text = f"{name} = if_not_exists({name}, {default}) + {value}"
            clauses.setdefault("SET", []).append(text)
        elif kind == "remove":
            clauses.setdefault("REMOVE", []).append(name)
        elif kind == "add":
            given[value] = draw(numbers | sets)
            clauses.setdefault("ADD", []).append(f"{name} {value}")
        else:
            given[value] = draw(sets)
            clauses.setdefault("DELETE", []).append(f"{name} {value}")
    return " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses.items()), given


items = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, comparable))
quiet = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def both(real: Any, before: list[dict[str, Any] | None]) -> list[Any]:
    """Both tables with these items under the keys."""
    for key in KEYS:
        real.delete_item(Key=key)
    ours = tables.Table("year")
    for key, item in zip(KEYS, before, strict=False):
        if item is not None:
            real.put_item(Item=key | item)
            ours.put_item(Item=key | item)
    return [real, ours]


def outcome(call: Any, **request: Any) -> Any:
    """What a call came to: an answer, a failed condition, or a refusal of any kind.

    moto breaks where DynamoDB only finds that a condition does not hold; then it has no say.
    """
    try:
        answer = call(**request)
    except tables.Invalid:
        return "refused"
    except ClientError as error:
        code = error.response["Error"]["Code"]
        reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", [])]
        if {"AttributeError", "TypeError", "ValueError"}.intersection(reasons):
            reject()
        found: Any = error.response.get("Item", {})
        item = {name: TypeDeserializer().deserialize(value) for name, value in found.items()}
        return "refused" if code == "ValidationException" else [code, reasons, item]
    except (AttributeError, TypeError, ValueError):
        reject()
    return {name: answer[name] for name in ("Attributes", "Items") if name in answer}


def content(table: Any) -> list[Any]:
    return [table.get_item(Key=key, ConsistentRead=True).get("Item") for key in KEYS]


@quiet
@given(before=st.none() | items, update=updates(), condition=conditions(), as_text=st.booleans())
def test_an_update_does_what_it_does_in_moto(
    real: Any,
    before: dict[str, Any] | None,
    update: tuple[str, dict[str, Any]],
    condition: tuple[str, Any, dict[str, Any]],
    as_text: bool,
) -> None:
    text, given = update
    request: dict[str, Any] = {
        "Key": KEYS[0],
        "UpdateExpression": text,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if as_text:
        given = given | condition[2]
    request["ConditionExpression"] = condition[0] if as_text else condition[1]
    if given:
        request["ExpressionAttributeValues"] = given
    theirs, ours = both(real, [before])
    came_to = outcome(ours.update_item, **request)
    assert came_to == outcome(theirs.update_item, **request)
    # moto has done half of an update when it finds that it must refuse it.
    unchanged = [None if before is None else KEYS[0] | before, None, None]
    assert content(ours) == (unchanged if came_to == "refused" else content(theirs))


@quiet
@given(before=st.lists(st.none() | items, min_size=3, max_size=3), data=st.data())
def test_a_transaction_does_all_or_nothing_as_in_moto(
    real: Any, before: list[dict[str, Any] | None], data: st.DataObject
) -> None:
    parts = []
    for key in KEYS:
        condition, _, given = data.draw(conditions(depth=1))
        part: dict[str, Any] = {"TableName": "year", "ConditionExpression": condition}
        kind = data.draw(st.sampled_from(["Put", "Update", "Delete", "ConditionCheck"]))
        if kind == "Put":
            part["Item"] = key | data.draw(items)
        else:
            part["Key"] = key
        if kind == "Update":
            part["UpdateExpression"] = "SET zz = :update"
            given = given | {":update": 1}
        if given:
            part["ExpressionAttributeValues"] = given
        parts.append({kind: part})
    theirs, ours = both(real, before)
    assert outcome(ours.meta.client.transact_write_items, TransactItems=parts) == outcome(
        theirs.meta.client.transact_write_items, TransactItems=parts
    )
    assert content(ours) == content(theirs)


@quiet
@given(before=st.lists(st.none() | items, min_size=3, max_size=3), condition=conditions())
def test_a_query_finds_what_it_finds_in_moto(
    real: Any,
    before: list[dict[str, Any] | None],
    condition: tuple[str, Any, dict[str, Any]],
) -> None:
    theirs, ours = both(real, before)
    request = {
        "KeyConditionExpression": Key("pk").eq("p") & Key("sk").begins_with("s"),
        "FilterExpression": condition[1],
    }
    assert outcome(ours.query, **request) == outcome(theirs.query, **request)


def test_a_query_comes_in_pages() -> None:
    table = tables.Table("year")
    for number in range(60):
        table.put_item(Item={"pk": "p", "sk": f"{number:02}"})
    pages, request = [], {"KeyConditionExpression": Key("pk").eq("p")}
    while True:
        answer = table.query(**request)
        pages.append([item["sk"] for item in answer["Items"]])
        if "LastEvaluatedKey" not in answer:
            break
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    assert [len(page) for page in pages] == [25, 25, 10]
    assert [name for page in pages for name in page] == [f"{number:02}" for number in range(60)]


def test_what_is_read_is_a_copy() -> None:
    table = tables.Table("year")
    given = {"pk": "p", "sk": "s", "list": [{"a": 1}], "number": 2}
    table.put_item(Item=given)
    given["list"].append("later")
    read = table.get_item(Key={"pk": "p", "sk": "s"})["Item"]
    assert read["number"] == Decimal(2)
    read["list"][0]["a"] = 3
    assert table.look("p", "s") == {"pk": "p", "sk": "s", "list": [{"a": 1}], "number": 2}


@pytest.mark.parametrize(
    ("update", "given"),
    [
        ("SET keys = :a", {":a": 1}),  # a reserved word
        ("SET aa = :a", {":a": 1, ":b": 1}),  # a value that is not used
        ("SET aa = :a, aa = :a", {":a": 1}),
        ("SET aa = :a, aa.bb = :a", {":a": 1}),
        ("SET aa = bb", {}),  # an attribute that is not there
        ("SET sk = :a", {":a": "x"}),
        ("SET aa = :a", {":a": set()}),
        ("SET aa = :a", {":a": 1.5}),
        ("MAKE aa = :a", {":a": 1}),
    ],
)
def test_what_dynamodb_refuses_is_refused(update: str, given: dict[str, Any]) -> None:
    table = tables.Table("year")
    with pytest.raises(tables.Invalid):
        table.update_item(
            Key={"pk": "p", "sk": "s"}, UpdateExpression=update, ExpressionAttributeValues=given
        )
