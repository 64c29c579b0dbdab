"""What the event source mapping of a DynamoDB stream does and MiniStack does not.

Source: Lambda Developer Guide, "Process Amazon DynamoDB records with Lambda" and "Configuring error
handling controls": a failing batch is split in two if BisectBatchOnFunctionError says so, which
uses up no attempt, retried MaximumRetryAttempts times, and then discarded to the destination on
failure. Each mapping goes at its own pace, whatever others do.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from importlib.metadata import version
from typing import Any

from ministack.core.arn import parse_arn
from ministack.services import dynamodb, lambda_svc

from local.pretend import MINISTACK

if version("ministack") != MINISTACK:
    raise ImportError(f"local/dynamodb_streams.py fits ministack {MINISTACK}")

# AWS does not say how long it waits between attempts. Where it is not set, MiniStack's own way
# stays, which tries for ever: fifty attempts would be over sooner than anybody mends a permission.
RETRY_SECONDS = float(os.environ.get("STREAM_RETRY_SECONDS", "0"))

_busy: set[str] = set()
_lock = threading.Lock()


def install() -> None:
    if RETRY_SECONDS:
        lambda_svc._poll_dynamodb_streams = poll


def poll() -> bool:
    """Let each mapping that is idle go on. Tells the caller that there is nothing to wait for."""
    for account, region, mapping in lambda_svc._iter_all_esms():
        source = parse_arn(mapping.get("EventSourceArn", ""))
        if source.service != "dynamodb" or not mapping.get("Enabled", True):
            continue
        with _lock:
            if mapping["UUID"] in _busy:
                continue
            _busy.add(mapping["UUID"])
        context = contextvars.copy_context()
        context.run(lambda_svc._request_account_id.set, account)
        context.run(lambda_svc._request_region.set, region)
        if context.run(_next_batch, mapping) is None:
            _rest(mapping)
            continue
        threading.Thread(target=context.run, args=(_work, mapping), daemon=True).start()
    return False


def _rest(mapping: dict[str, Any]) -> None:
    with _lock:
        _busy.discard(mapping["UUID"])


def _work(mapping: dict[str, Any]) -> None:
    """Deliver batch after batch, until there is none."""
    try:
        while batch := _next_batch(mapping):
            start, records = batch
            wanted = lambda_svc._apply_filter_criteria(records, mapping)
            if wanted:
                _deliver(mapping, wanted)
            with lambda_svc._dynamodb_stream_positions_lock:
                lambda_svc._dynamodb_stream_positions[mapping["UUID"]] = start + len(records)
    finally:
        _rest(mapping)


def _next_batch(mapping: dict[str, Any]) -> tuple[int, list[dict[str, Any]]] | None:
    """Where the next records begin, and the records."""
    source = parse_arn(mapping["EventSourceArn"])
    stream = lambda_svc._dynamodb_stream_table_from_arn_spec(source)
    if stream is None:
        return None
    table, _ = stream
    known = dynamodb._tables.get(table)
    if not known or known.get("LatestStreamArn") != mapping["EventSourceArn"]:
        return None
    horizon, end = dynamodb.stream_start_position(table), dynamodb.stream_end_position(table)
    with lambda_svc._dynamodb_stream_positions_lock:
        positions = lambda_svc._dynamodb_stream_positions
        latest = mapping.get("StartingPosition", "LATEST") != "TRIM_HORIZON"
        first = positions.setdefault(mapping["UUID"], end if latest else horizon)
    start = max(first, horizon)
    records = dynamodb.stream_records_since(table, start, mapping.get("BatchSize", 100))
    return (start, records) if records else None


def _deliver(mapping: dict[str, Any], records: list[dict[str, Any]]) -> None:
    attempts = 1 + int(mapping.get("MaximumRetryAttempts", -1))
    result: dict[str, Any] = {}
    # Without a maximum it retries until the records expire, which nobody here waits for.
    while attempts:
        function, _ = lambda_svc._get_func_record_for_qualifier(
            mapping["FunctionName"], mapping.get("Qualifier")
        )
        result = lambda_svc._execute_function(function, {"Records": records})
        if not result.get("error"):
            mapping["LastProcessingResult"] = "OK"
            return
        mapping["LastProcessingResult"] = "PROBLEM: Function call failed"
        if len(records) > 1 and mapping.get("BisectBatchOnFunctionError"):
            half = len(records) // 2
            _deliver(mapping, records[:half])
            _deliver(mapping, records[half:])
            return
        attempts -= 1
        time.sleep(RETRY_SECONDS)
    lambda_svc._send_ddb_stream_failure_record(
        mapping,
        function,
        records,
        mapping["EventSourceArn"],
        result,
        "RetryAttemptsExhausted",
    )
