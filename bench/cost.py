"""What a sweep costs: counts of a model times the prices of `prices.py`.

The states are counted in the definition of the sweep; how long a batch takes is what the rate of
sessions allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import prices
from .settings import (
    BATCH_SIZE,
    BATCHES_AT_ONCE,
    SESSIONS_A_SECOND,
    TEMPLATE,
    memory_of,
)

# Standard transitions of a sweep of one part, one of them for an alert, and of each part more.
STATES_OF_A_SWEEP = 18
STATES_OF_A_PART = 5
# An Express execution with one state is billed by 64 MB.
EXPRESS_GB = 64 / 1024
# Beside the checks of a batch, in seconds: the invocation, and writing its file.
BESIDE_THE_CHECKS = 0.3
# How long the others run, in seconds: at the least, and more for each 1,000 accounts.
OTHERS = {
    "CheckPrerequisites": (1.5, 0.0),
    "ListAccounts": (2.0, 7.0),
    "OpenCases": (2.0, 0.1),
    "LiftEndedQuarantines": (1.5, 0.0),
    "WarnExceptionOwners": (1.5, 0.1),
    "WriteReport": (1.5, 0.2),
}


@dataclass(frozen=True)
class Cost:
    """Dollars for a sweep, by service, and what the others' way costs for as many accounts."""

    accounts: int
    step_functions: float
    functions: float
    s3: float
    config_and_security_hub: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.step_functions + self.functions + self.s3


def of_a_sweep(accounts: int) -> Cost:
    """What a sweep of so many clean accounts costs."""
    batches = -(-accounts // BATCH_SIZE)
    parts = -(-accounts // (BATCH_SIZE * BATCHES_AT_ONCE))
    seconds = min(accounts, BATCH_SIZE) * BATCHES_AT_ONCE / SESSIONS_A_SECOND + BESIDE_THE_CHECKS
    checks = batches * seconds
    gb_seconds = checks * memory_of("CheckAccounts") / 1024 + sum(
        (least + more * accounts / 1000) * memory_of(function) / 1024
        for function, (least, more) in OTHERS.items()
    )
    # A child is a transition of its parent's, to be on the safe side.
    transitions = STATES_OF_A_SWEEP + STATES_OF_A_PART * (parts - 1) + batches
    return Cost(
        accounts=accounts,
        step_functions=transitions * prices.STATE_TRANSITION
        + batches * prices.EXPRESS_REQUEST
        + checks * EXPRESS_GB * prices.EXPRESS_GB_SECOND,
        functions=gb_seconds * prices.LAMBDA_ARM_GB_SECOND
        + (batches + parts + 6) * prices.LAMBDA_REQUEST,
        s3=(batches + 3 * parts + 6) * (prices.S3_PUT + 2 * prices.S3_GET),
        config_and_security_hub=accounts
        * (prices.CONFIG_RULE_EVALUATION + prices.SECURITY_HUB_CHECK),
    )


def alarm_metrics() -> int:
    """How many metrics the alarms of the template look at; a month has a price for each.

    As it is without parameters: those that only some of them bring are left out.
    """
    count = 0
    for resource in TEMPLATE["Resources"].values():
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Condition" not in resource:
            queries = resource["Properties"].get("Metrics", [{"MetricStat": {}}])
            count += sum("MetricStat" in query for query in queries)
    return count


def of_an_idle_month() -> float:
    """What is paid when nothing happens: the alarms."""
    return alarm_metrics() * prices.ALARM_METRIC_MONTH
