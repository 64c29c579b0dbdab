"""Log lines that say which sweep, case and account they are about.

Lambda writes each line as JSON and puts what a record has beyond its own fields beside the message
(Lambda Developer Guide, "Working with Lambda function logs in Python"), so that CloudWatch Logs
Insights finds everything about a case by `filter case_id = "…"`.
"""

from __future__ import annotations

import functools
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

C = TypeVar("C")
T = TypeVar("T")

log = logging.getLogger()
_ids: ContextVar[dict[str, str]] = ContextVar("ids", default={})  # noqa: B039 - never changed
_make_record = logging.getLogRecordFactory()


def _record_with_ids(*args: Any, **named: Any) -> logging.LogRecord:
    record = _make_record(*args, **named)
    error = record.exc_info[1] if record.exc_info else None
    vars(record).update(_ids.get() | getattr(error, "log_ids", {}))
    return record


logging.setLogRecordFactory(_record_with_ids)


@contextmanager
def about(*, sweep_id: str = "", case_id: str = "", account_id: str = "") -> Iterator[None]:
    """What is logged inside has these ids too; that of a case names its account.

    So has the line about an error that leaves it, wherever that is logged. A thread begins without
    any, so what runs in one says again what it is about.
    """
    account_id = account_id or case_id.partition("-")[0]
    ids = {"sweep_id": sweep_id, "case_id": case_id, "account_id": account_id}
    before = _ids.set(_ids.get() | {name: id for name, id in ids.items() if id})
    try:
        yield
    except Exception as error:
        error.log_ids = _ids.get() | getattr(error, "log_ids", {})  # type: ignore[attr-defined]
        raise
    finally:
        _ids.reset(before)


def invocation(handler: Callable[[dict[str, Any], C], T]) -> Callable[[dict[str, Any], C], T]:
    """A handler that leaves a line when it is done, or the error that it ended with.

    The event's `sweep_id` and `case_id` are in all its lines. Nothing else of an event is, nor of
    what is returned: a task token may be among it.
    """

    @functools.wraps(handler)
    def logged(event: dict[str, Any], context: C) -> T:
        with about(sweep_id=event.get("sweep_id", ""), case_id=event.get("case_id", "")):
            try:
                result = handler(event, context)
            except Exception:
                log.exception("failed")
                raise
            log.info("done")
            return result

    return logged
