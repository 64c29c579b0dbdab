"""What `make bench` measures with, at the smallest scale: it counts and waits as it says."""

from __future__ import annotations

import pytest

from bench import cost, measure, model, throttled
from bench.model import Sweep


@pytest.mark.parametrize(
    "way", ["rootsweep", "rootsweep in batches", "floor", "bare floor", "boto3 session"]
)
def test_every_way_finds_the_same_keys_with_two_calls_an_account(way: str) -> None:
    with measure.fake_aws(20, latency_ms=1) as fake:
        spent = measure.run_way(fake, way, 20, 4)
        calls = fake.calls()

    assert spent.found == 1
    # Every way warms up with the accounts that there are.
    assert calls == {"AssumeRole": 40, "GetAccountSummary": 40}


def test_a_token_bucket_of_the_fake_lets_its_rate_through_and_throttles_the_rest() -> None:
    with measure.fake_aws(200, latency_ms=1, rates=["AssumeRole=100:1"]) as fake:
        spent = measure.run_way(fake, "rootsweep", 60, 8)
        calls = fake.calls()

    assert spent.wall > 0.9 * throttled.at_best(60, (100, 1))
    assert calls["AssumeRole throttled"] > 0


def test_the_simulation_checks_everybody_and_is_never_faster_than_the_list() -> None:
    few = Sweep(3_000, 20).run()
    many = Sweep(6_000, 20).run()

    assert few.bound < few.listed < few.checked < few.seconds
    assert few.seconds < many.seconds
    assert few.throttled == 0
    assert Sweep(3_000, 20).run() == few


def test_a_bucket_of_the_simulation_refuses_what_comes_too_fast() -> None:
    sweep = Sweep(40, 1)
    sweep.run()
    bucket = model.Bucket(sweep.world, 1, 2)

    assert [bucket.takes() for _ in range(3)] == [True, True, False]


def test_the_cost_grows_no_faster_than_the_organization() -> None:
    small, large = cost.of_a_sweep(1_000), cost.of_a_sweep(10_000)

    assert small.total < large.total < 10 * small.total
    assert large.total < large.config_and_security_hub / 1000
