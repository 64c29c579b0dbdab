"""A DynamoDB table in memory, as far as the product uses one. `test_table.py` holds it to moto's.

Each operation takes a moment (`latency`) in which others run, and then happens all at once.
"""

# ruff: noqa: ARG002, N803, N818 - the names are boto3's and DynamoDB's

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any

from boto3.dynamodb.conditions import AttributeBase, ConditionBase, Size
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

from .clock import Refused, expect

Item = dict[str, Any]
# Small pages, so that whoever does not ask for the next one is found out.
ITEMS_OF_A_PAGE = 25
_MISSING = object()


class ConditionalCheckFailedException(ClientError):
    """When a condition did not hold."""

    def __init__(self, operation: str) -> None:
        error = {
            "Code": "ConditionalCheckFailedException",
            "Message": "The conditional request failed",
        }
        super().__init__({"Error": error}, operation)


class TransactionCanceledException(ClientError):
    """When nothing of a transaction was done, and the reason for each part of it."""

    def __init__(self, codes: Sequence[str]) -> None:
        super().__init__(
            {
                "Error": {
                    "Code": "TransactionCanceledException",
                    "Message": f"Transaction cancelled, reasons [{', '.join(codes)}]",
                },
                "CancellationReasons": [{"Code": code} for code in codes],
            },
            "TransactWriteItems",
        )


class Invalid(Refused):
    """When a request is one that DynamoDB refuses; no part of the product expects that."""


class Table:
    """The table, and the client and the resource through which the product comes to it."""

    def __init__(self, name: str, *, latency: Callable[[str], None] = lambda _: None) -> None:
        self.name = name
        self.observers: list[Callable[[Item | None, Item | None], None]] = []
        self.latency = latency
        self.loses_answer: Callable[[], bool] = lambda: False
        self._items: dict[str, dict[str, Item]] = {}
        exceptions = SimpleNamespace(
            ConditionalCheckFailedException=ConditionalCheckFailedException,
            TransactionCanceledException=TransactionCanceledException,
        )
        self.meta = SimpleNamespace(
            client=SimpleNamespace(
                transact_write_items=self._transact_write_items, exceptions=exceptions
            )
        )

    def every_item(self) -> list[Item]:
        """All items, for those who look at the world from outside."""
        return [item for part in self._items.values() for item in part.values()]

    def part(self, pk: str) -> list[Item]:
        """All items with this partition key, for the same."""
        return list(self._items.get(pk, {}).values())

    def look(self, pk: str, sk: str) -> Item | None:
        """An item, without a copy and without taking time; for those outside, who only look."""
        return self._items.get(pk, {}).get(sk)

    def forget(self, item: Item) -> None:
        """What TTL does."""
        self._put(item, None)

    # -- what the product calls, with boto3's names -------------------------------------------

    def get_item(self, *, Key: Item, ConsistentRead: bool = False) -> Item:
        self.latency("GetItem")
        item = self._at(_key(Key))
        return {} if item is None else {"Item": _copy(item)}

    def put_item(
        self, *, Item: Item, ConditionExpression: str | None = None, ReturnValues: str = "NONE"
    ) -> Item:
        self.latency("PutItem")
        item = _normal(Item)
        for _ in self._attempts():
            old = self._at(_key(item))
            self._check(old, ConditionExpression, {}, {}, "PutItem")
            self._write_all([_Write(None, item)], "PutItem")
        expect(ReturnValues in ("NONE", "ALL_OLD"), ReturnValues)
        return {"Attributes": _copy(old)} if old and ReturnValues == "ALL_OLD" else {}

    def update_item(
        self,
        *,
        Key: Item,
        UpdateExpression: str,
        ConditionExpression: str | ConditionBase | None = None,
        ExpressionAttributeNames: dict[str, str] | None = None,
        ExpressionAttributeValues: Item | None = None,
        ReturnValues: str = "NONE",
        ReturnValuesOnConditionCheckFailure: str = "NONE",
    ) -> Item:
        self.latency("UpdateItem")
        for _ in self._attempts():
            try:
                write = self._update(
                    Key,
                    UpdateExpression,
                    ConditionExpression,
                    ExpressionAttributeNames or {},
                    ExpressionAttributeValues or {},
                )
            except ConditionalCheckFailedException as failed:
                old = self._at(_key(Key))
                if old is not None and ReturnValuesOnConditionCheckFailure == "ALL_OLD":
                    serialize = TypeSerializer().serialize
                    failed.response["Item"] = {  # type: ignore[typeddict-unknown-key]
                        name: serialize(value) for name, value in old.items()
                    }
                raise
            self._write_all([write], "UpdateItem")
        if ReturnValues == "NONE":
            return {}
        expect(ReturnValues == "ALL_NEW", ReturnValues)
        return {"Attributes": _copy(write.new)}

    def delete_item(
        self,
        *,
        Key: Item,
        ConditionExpression: str | ConditionBase | None = None,
        ExpressionAttributeNames: dict[str, str] | None = None,
        ExpressionAttributeValues: Item | None = None,
    ) -> Item:
        self.latency("DeleteItem")
        for _ in self._attempts():
            write = self._delete(
                Key,
                ConditionExpression,
                ExpressionAttributeNames or {},
                ExpressionAttributeValues or {},
            )
            self._write_all([write], "DeleteItem")
        return {}

    def query(
        self,
        *,
        KeyConditionExpression: ConditionBase,
        FilterExpression: ConditionBase | None = None,
        ExclusiveStartKey: Item | None = None,
        ConsistentRead: bool = False,
        ProjectionExpression: str = "",
        Select: str = "",
    ) -> Item:
        expect((ProjectionExpression, Select) == ("", ""), "a part of an item")
        self.latency("Query")
        pk, begin = _key_condition(KeyConditionExpression)
        after = ExclusiveStartKey["sk"] if ExclusiveStartKey else ""
        names = sorted(sk for sk in self._items.get(pk, {}) if sk.startswith(begin) and sk > after)
        page = [self._items[pk][sk] for sk in names[:ITEMS_OF_A_PAGE]]
        answer: Item = {
            "Items": [
                _copy(item)
                for item in page
                if FilterExpression is None or _holds(FilterExpression, item)
            ]
        }
        if len(names) > ITEMS_OF_A_PAGE:
            answer["LastEvaluatedKey"] = {"pk": pk, "sk": page[-1]["sk"]}
        return answer

    def batch_get_item(self, *, RequestItems: Item) -> Item:
        """The resource's operation; of more than a few keys some are left for the next call."""
        self.latency("BatchGetItem")
        ((name, request),) = RequestItems.items()
        expect(name == self.name, name)
        names = request.get("ExpressionAttributeNames", {})
        read = [names[each] for each in request.get("ProjectionExpression", "").split(", ") if each]
        expect(
            request.keys()
            <= {"Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"},
            request,
        )
        keys = [_key(key) for key in request["Keys"]]
        if not 0 < len(keys) <= 100 or len(set(keys)) < len(keys):
            raise Invalid("BatchGetItem takes from 1 to 100 different keys")
        # In an order of its own, as DynamoDB does.
        found = [item for key in reversed(keys[:40]) if (item := self._at(key)) is not None]
        if read:
            found = [{key: item[key] for key in read if key in item} for item in found]
        answer: Item = {"Responses": {name: [_copy(item) for item in found]}}
        rest = request["Keys"][40:]
        answer["UnprocessedKeys"] = {name: {**request, "Keys": rest}} if rest else {}
        return answer

    def _transact_write_items(self, *, TransactItems: list[Item]) -> Item:
        self.latency("TransactWriteItems")
        writes: list[_Write] = []
        codes = []
        for part in TransactItems:
            ((operation, request),) = part.items()
            request = dict(request)
            expect(request.pop("TableName") == self.name, part)
            condition = request.pop("ConditionExpression", None)
            names = request.pop("ExpressionAttributeNames", {})
            values = request.pop("ExpressionAttributeValues", {})
            try:
                if operation == "Put":
                    item = _normal(request.pop("Item"))
                    self._check(self._at(_key(item)), condition, names, values, operation)
                    writes.append(_Write(None, item))
                elif operation == "Update":
                    key, update = request.pop("Key"), request.pop("UpdateExpression")
                    writes.append(self._update(key, update, condition, names, values))
                elif operation == "Delete":
                    writes.append(self._delete(request.pop("Key"), condition, names, values))
                else:
                    expect(operation == "ConditionCheck", operation)
                    key = request.pop("Key")
                    self._check(self._at(_key(key)), condition, names, values, operation)
                codes.append("None")
            except ConditionalCheckFailedException:
                codes.append("ConditionalCheckFailed")
            expect(not request, request)
        keys = [
            _key(part.get("Key") or part["Item"])
            for each in TransactItems
            for part in each.values()
        ]
        if not 0 < len(keys) <= 100 or len(set(keys)) < len(keys):
            raise Invalid("a transaction has 1 to 100 parts, each about another item")
        if any(code != "None" for code in codes):
            raise TransactionCanceledException(codes)
        self._write_all(writes, "TransactWriteItems")
        return {}

    # -- how it is done ------------------------------------------------------------------------

    def _attempts(self) -> range:
        """A write whose answer is lost is sent again by boto3; transactions carry a token."""
        return range(2 if self.loses_answer() else 1)

    def _at(self, key: tuple[str, str]) -> Item | None:
        return self._items.get(key[0], {}).get(key[1])

    def _check(
        self, item: Item | None, condition: Any, names: Item, values: Item, operation: str
    ) -> None:
        if isinstance(condition, str):
            compiled = _compiled_condition(condition)
            _require_all_used(compiled.used, names, values)
            holds = compiled.run(item or {}, names, _normal(values))
        else:
            holds = condition is None or _holds(condition, item or {})
        if not holds:
            raise ConditionalCheckFailedException(operation)

    def _update(
        self, key: Item, expression: str, condition: Any, names: Item, values: Item
    ) -> _Write:
        old = self._at(_key(key))
        values = _normal(values)
        update = _compiled_update(expression)
        used = update.used
        if isinstance(condition, str):
            used = used | _compiled_condition(condition).used
            if not _compiled_condition(condition).run(old or {}, names, values):
                raise ConditionalCheckFailedException("UpdateItem")
        elif condition is not None and not _holds(condition, old or {}):
            raise ConditionalCheckFailedException("UpdateItem")
        _require_all_used(used, names, values)
        return _Write(old, update.run(old or dict(key), names, values))

    def _delete(self, key: Item, condition: Any, names: Item, values: Item) -> _Write:
        old = self._at(_key(key))
        self._check(old, condition, names, values, "DeleteItem")
        return _Write(old or dict(key), None)

    def _write_all(self, writes: Sequence[_Write], operation: str) -> None:
        for write in writes:
            item = write.new or write.old
            expect(item is not None, operation)
            self._put(item, write.new)

    def _put(self, about: Item, new: Item | None) -> None:
        part = self._items.setdefault(about["pk"], {})
        old = part.pop(about["sk"], None)
        if new is not None:
            part[about["sk"]] = new
        if not part:
            del self._items[about["pk"]]
        if old is not None or new is not None:
            for observer in self.observers:
                observer(old, new)


class _Write(SimpleNamespace):
    """An item before and after, None where there is none."""

    def __init__(self, old: Item | None, new: Item | None) -> None:
        super().__init__(old=old, new=new)


def _key(item: Item) -> tuple[str, str]:
    pk, sk = item["pk"], item["sk"]
    if not pk or not sk:
        raise Invalid("an empty key")
    return pk, sk


def _copy(value: Any) -> Any:
    """A deep copy of what DynamoDB holds."""
    kind = type(value)
    if kind is dict:
        return {name: _copy(part) for name, part in value.items()}
    if kind is list:
        return [_copy(part) for part in value]
    if kind is set:
        return set(value)
    return value


def _normal(value: Any) -> Any:
    """A deep copy of what boto3 takes, as boto3 gives it back."""
    if value is None or isinstance(value, (bool, bytes, Decimal)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, dict):
        return {str(name): _normal(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(part) for part in value]
    if isinstance(value, (set, frozenset)) and value:
        return {_normal(part) for part in value}
    raise Invalid(f"boto3 does not store {value!r}")


# -- conditions that are boto3 objects ---------------------------------------------------------


def _holds(condition: Any, item: Item) -> bool:
    expression = condition.get_expression()
    operator, values = expression["operator"], expression["values"]
    if operator == "AND":
        return all(_holds(part, item) for part in values)
    if operator == "OR":
        return any(_holds(part, item) for part in values)
    if operator == "NOT":
        return not _holds(values[0], item)
    return _compare(operator, [_operand(value, item) for value in values])


def _operand(value: Any, item: Item) -> Any:
    if isinstance(value, Size):
        return _size(_operand(value._values[0], item))
    if isinstance(value, AttributeBase):
        found: Any = item
        for name in value.name.split("."):
            found = found.get(name, _MISSING) if isinstance(found, dict) else _MISSING
        return found
    return _normal(value)


def _key_condition(condition: Any) -> tuple[str, str]:
    """The partition key and the beginning of the sort key."""
    expression = condition.get_expression()
    begin = ""
    if expression["operator"] == "AND":
        condition, more = expression["values"]
        more = more.get_expression()
        expect((more["operator"], more["values"][0].name) == ("begins_with", "sk"), more)
        begin = more["values"][1]
        expression = condition.get_expression()
    expect((expression["operator"], expression["values"][0].name) == ("=", "pk"), expression)
    return expression["values"][1], begin


def _type(value: Any) -> str:
    """The type by which DynamoDB compares; True is no number."""
    if isinstance(value, set):
        return f"set of {_type(next(iter(value)))}"
    return type(value).__name__


def _compare(operator: str, values: list[Any]) -> bool:
    first = values[0]
    if operator == "attribute_exists":
        return first is not _MISSING
    if operator == "attribute_not_exists":
        return first is _MISSING
    if operator == "<>":
        return not _compare("=", values)
    if any(value is _MISSING for value in values):
        return False
    if operator == "=":
        return _type(first) == _type(values[1]) and first == values[1]
    if operator == "IN":
        # boto3 has the list as one value, expressions have many.
        rest = values[1] if len(values) == 2 and isinstance(values[1], list) else values[1:]
        return any(_compare("=", [first, value]) for value in rest)
    if operator == "begins_with":
        return isinstance(first, str) and first.startswith(values[1])
    if operator == "contains":
        if isinstance(first, str):
            return isinstance(values[1], str) and values[1] in first
        return isinstance(first, (list, set)) and any(
            _compare("=", [part, values[1]]) for part in first
        )
    if len({_type(value) for value in values}) > 1 or not isinstance(first, (str, bytes, Decimal)):
        return False
    if operator == "BETWEEN":
        return bool(values[1] <= first <= values[2])
    return {
        "<": lambda: first < values[1],
        "<=": lambda: first <= values[1],
        ">": lambda: first > values[1],
        ">=": lambda: first >= values[1],
    }[operator]()


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return Decimal(len(value.encode()))
    if isinstance(value, (bytes, list, set, dict)):
        return Decimal(len(value))
    return _MISSING


# -- expressions that are text -----------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(<>|<=|>=|[=<>(),.+\-\[\]])|(#[A-Za-z0-9_]+)|(:[A-Za-z0-9_]+)"
    r"|([A-Za-z_][A-Za-z0-9_]*)|([0-9]+))"
)
_RESERVED = frozenset(ReservedKeywords.get_reserved_keywords())
_FUNCTIONS = {
    "attribute_exists": 1,
    "attribute_not_exists": 1,
    "begins_with": 2,
    "contains": 2,
}
Run = Callable[[Item, Item, Item], Any]
Path = tuple[str | int, ...]


class _Compiled(SimpleNamespace):
    """An expression as a function of item, names and values, and the placeholders it uses."""

    def __init__(self, run: Run, used: frozenset[str]) -> None:
        super().__init__(run=run, used=used)


def _require_all_used(used: frozenset[str], names: Item, values: Item) -> None:
    given = {*names, *values}
    if given != used:
        raise Invalid(f"placeholders given and not used or the reverse: {given ^ used}")


@cache
def _compiled_condition(text: str) -> _Compiled:
    parser = _Parser(text)
    run = parser.condition()
    parser.end()
    return _Compiled(run, frozenset(parser.used))


@cache
def _compiled_update(text: str) -> _Compiled:
    parser = _Parser(text)
    actions = parser.update()
    parser.end()

    def run(item: Item, names: Item, values: Item) -> Item:
        # Every value is computed from the item as it was before.
        changes = [
            (kind, [names.get(part, part) for part in path], value and value(item, names, values))
            for kind, path, value in actions
        ]
        new = dict(item)
        paths = [path for _, path, _ in changes]
        for number, path in enumerate(paths):
            for other in paths[number + 1 :]:
                shorter = min(len(path), len(other))
                if path[:shorter] == other[:shorter]:
                    raise Invalid(f"two paths overlap: {path} and {other}")
            if path[0] in ("pk", "sk"):
                raise Invalid("a key is no attribute to update")
        for kind, path, value in changes:
            if value is _MISSING:
                raise Invalid(f"{text!r} refers to an attribute that is not there")
            _change(new, kind, path, value)
        return new

    return _Compiled(run, frozenset(parser.used))


def _change(item: Any, kind: str, path: list[Any], value: Any) -> None:
    """Change an item of which no part is shared above the end of the path."""
    *way, last = path
    for part in way:
        try:
            item[part] = item[part].copy()
            item = item[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            raise Invalid(f"no such path: {path}") from None
    if isinstance(last, int) is not isinstance(item, list):
        raise Invalid(f"no such path: {path}")
    if kind == "SET":
        if isinstance(item, list) and last >= len(item):
            item.append(_copy(value))
        else:
            item[last] = _copy(value)
    elif kind == "REMOVE":
        if isinstance(item, dict):
            item.pop(last, None)
        elif last < len(item):
            del item[last]
    elif kind == "ADD":
        present = item.get(last)
        if isinstance(value, Decimal):
            if not isinstance(present, (Decimal, type(None))):
                raise Invalid("ADD to what is no number")
            item[last] = (present or Decimal(0)) + value
        elif isinstance(value, set) and (present is None or _type(present) == _type(value)):
            item[last] = (present or set()) | value
        else:
            raise Invalid("ADD is for numbers and for sets of the same type")
    else:
        assert kind == "DELETE", kind
        present = item.get(last)
        if not isinstance(value, set) or not (present is None or _type(present) == _type(value)):
            raise Invalid("DELETE is for sets of the same type")
        rest = (present or set()) - value
        item.pop(last, None)
        if rest:
            item[last] = rest


class _Parser:
    """Reads condition and update expressions (DynamoDB guide, "Expression syntax")."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.used: set[str] = set()
        self.tokens: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise Invalid(f"{text!r}: cannot be read at {position}")
            self.tokens.append(match[match.lastindex or 0])
            position = match.end()

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, expected: str = "") -> str:
        if not self.tokens or expected not in ("", self.tokens[0].upper()):
            raise Invalid(f"{self.text!r}: {expected or 'more'} expected, not {self.peek()!r}")
        return self.tokens.pop(0)

    def takes(self, word: str) -> bool:
        """Whether the next word is this one; then it is taken."""
        if self.peek().upper() != word:
            return False
        self.tokens.pop(0)
        return True

    def end(self) -> None:
        if self.tokens:
            raise Invalid(f"{self.text!r}: {self.peek()!r} not understood")

    # Conditions, from the loosest binding to the tightest.

    def condition(self) -> Run:
        parts = [self._and()]
        while self.takes("OR"):
            parts.append(self._and())
        return lambda *given: any(part(*given) for part in parts)

    def _and(self) -> Run:
        parts = [self._not()]
        while self.takes("AND"):
            parts.append(self._not())
        return lambda *given: all(part(*given) for part in parts)

    def _not(self) -> Run:
        if self.takes("NOT"):
            part = self._not()
            return lambda *given: not part(*given)
        if self.takes("("):
            part = self.condition()
            self.take(")")
            return part
        name = self.peek().lower()
        if name in _FUNCTIONS and self.tokens[1:2] == ["("]:
            self.take()
            operands = self._arguments(_FUNCTIONS[name])
            return lambda *given: _compare(name, [operand(*given) for operand in operands])
        operands = [self._operand()]
        operator = self.take().upper()
        if operator == "BETWEEN":
            operands.append(self._operand())
            self.take("AND")
            operands.append(self._operand())
        elif operator == "IN":
            operands += self._arguments(0)
            return lambda *given: any(
                _compare("=", [operands[0](*given), operand(*given)]) for operand in operands[1:]
            )
        elif operator in ("=", "<>", "<", "<=", ">", ">="):
            operands.append(self._operand())
        else:
            raise Invalid(f"{self.text!r}: {operator!r} not understood")
        return lambda *given: _compare(operator, [operand(*given) for operand in operands])

    def _arguments(self, count: int) -> list[Run]:
        self.take("(")
        arguments = [self._operand()]
        while self.takes(","):
            arguments.append(self._operand())
        self.take(")")
        if count and len(arguments) != count:
            raise Invalid(f"{self.text!r}: a function has too many operands or too few")
        return arguments

    def _operand(self) -> Run:
        token = self.peek()
        if token.startswith(":"):
            self.take()
            self.used.add(token)
            return lambda _, __, values: values[token]
        if token.lower() == "size" and self.tokens[1:2] == ["("]:
            self.take()
            [operand] = self._arguments(1)
            return lambda *given: _size(operand(*given))
        path = self._path()

        def run(item: Item, names: Item, _: Item) -> Any:
            value: Any = item
            for part in path:
                try:
                    value = value[names.get(part, part)]
                except (KeyError, IndexError, TypeError):
                    return _MISSING
            return value

        return run

    def _path(self) -> Path:
        parts: list[str | int] = [self._name()]
        while self.peek() in (".", "["):
            if self.take() == ".":
                parts.append(self._name())
            else:
                parts.append(int(self.take()))
                self.take("]")
        return tuple(parts)

    def _name(self) -> str:
        name = self.take()
        if name.startswith("#"):
            self.used.add(name)
        elif not (name[0].isalpha() or name[0] == "_"):
            raise Invalid(f"{self.text!r}: {name!r} is no name")
        elif name.upper() in _RESERVED:
            raise Invalid(f"{self.text!r}: {name!r} is a reserved word")
        return name

    # Updates.

    def update(self) -> list[tuple[str, Path, Run | None]]:
        actions: list[tuple[str, Path, Run | None]] = []
        seen: set[str] = set()
        while self.tokens:
            kind = self.take().upper()
            if kind not in ("SET", "REMOVE", "ADD", "DELETE") or kind in seen:
                raise Invalid(f"{self.text!r}: {kind!r} not understood")
            seen.add(kind)
            while True:
                path = self._path()
                value: Run | None = None
                if kind == "SET":
                    self.take("=")
                    value = self._sum()
                elif kind != "REMOVE":
                    value = self._operand()
                actions.append((kind, path, value))
                if not self.takes(","):
                    break
        return actions

    def _sum(self) -> Run:
        first = self._value()
        if self.peek() not in ("+", "-"):
            return first
        sign = 1 if self.take() == "+" else -1
        second = self._value()

        def run(*given: Any) -> Any:
            one, other = first(*given), second(*given)
            if not (isinstance(one, Decimal) and isinstance(other, Decimal)):
                raise Invalid(f"{self.text!r}: a sum of what is no number")
            return one + sign * other

        return run

    def _value(self) -> Run:
        name = self.peek().lower()
        if self.tokens[1:2] != ["("] or name == "size":
            return self._operand()
        self.take()
        self.take("(")
        if name == "if_not_exists":
            path = self._operand()
            self.take(",")
            default = self._value()

            def present(*given: Any) -> Any:
                value = path(*given)
                return default(*given) if value is _MISSING else value

            result = present
        elif name == "list_append":
            first = self._value()
            self.take(",")
            second = self._value()

            def appended(*given: Any) -> Any:
                one, other = first(*given), second(*given)
                if not (isinstance(one, list) and isinstance(other, list)):
                    raise Invalid(f"{self.text!r}: list_append is for lists")
                return one + other

            result = appended
        else:
            raise Invalid(f"{self.text!r}: {name!r} is no function")
        self.take(")")
        return result
