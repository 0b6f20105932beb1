"""A summary is the sum of its records and workers."""

import math
import random

import pytest
from hypothesis import given
from tests.fleet.scenes import fleet, fleets, known, law, simulate, turn, workloads

from understudy.engine import EngineConfig
from understudy.fleet import (
    EngineChoices,
    FleetConfig,
    LatencyChoices,
    RequestRecord,
    engine_setup,
    summarise,
)
from understudy.fleet.distribution import distribution
from understudy.routing import load_policy
from understudy.workload import WorkloadRequest


def _durations_ns(records: list[RequestRecord], start: str, end: str) -> list[int]:
    return [
        getattr(record, end) - getattr(record, start)
        for record in records
        if getattr(record, end) is not None
    ]


@law
@given(fleets, workloads)
def test_counts_are_sums_over_records(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """Requests and tokens, each once."""
    simulation = simulate(config, workload)
    summary, records = summarise(simulation), simulation.records
    refused = [record for record in records if record.status == "refused"]
    served = [record for record in records if record.status != "refused"]
    assert summary.policy == config.policy
    assert summary.requests == len(records)
    assert (summary.finished, summary.unfinished) == (len(served), 0)
    assert summary.refused.prompt_longer_than_context == len(refused)
    assert summary.refused.longest_prompt_tokens == max((r.prompt_tokens for r in refused), default=0)
    context = config.engine.max_model_len
    asked = [r.prompt.num_tokens + r.output_tokens for r in workload if r.prompt.num_tokens >= context]
    assert summary.refused.longest_request_tokens == max(asked, default=0)
    assert summary.prompt_tokens == sum(record.prompt_tokens for record in served)
    assert summary.cached_tokens == sum(record.cached_tokens or 0 for record in served)
    assert summary.believed_cached_tokens == sum(r.believed_cached_tokens or 0 for r in served)
    assert summary.output_tokens == sum(record.output_tokens for record in served)
    assert summary.preemptions == sum(known(record.preemptions) for record in served)
    assert known(summary.hit_rate_tokens) * summary.prompt_tokens == pytest.approx(summary.cached_tokens)
    assert known(summary.hit_rate_requests) * len(served) == pytest.approx(
        sum(bool(record.cached_tokens) for record in served)
    )
    assert summary.duration_seconds == (simulation.end_ns - simulation.start_ns) / 10**9


@law
@given(fleets, workloads)
def test_totals_are_sums_over_workers(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """Each served request is some worker's."""
    simulation = simulate(config, workload)
    summary = summarise(simulation)
    workers = summary.workers
    assert [worker.worker for worker in workers] == list(range(config.num_workers))
    for name in ("prompt_tokens", "cached_tokens", "output_tokens", "preemptions", "evicted_blocks"):
        assert getattr(summary, name) == sum(getattr(worker, name) for worker in workers)
    assert summary.finished == sum(worker.requests for worker in workers)
    for worker in workers:
        own = [record for record in simulation.records if record.worker == worker.worker]
        assert worker.requests == len(own)
        assert worker.preemptions == sum(known(record.preemptions) for record in own)
        assert 0.0 <= known(worker.busy_fraction) <= 1.0
        assert 0.0 <= known(worker.kv_usage_mean) <= known(worker.kv_usage_peak) <= 1.0
    assert summary.kv_usage_peak == max(known(worker.kv_usage_peak) for worker in workers)
    assert summary.kv_usage_mean == pytest.approx(
        sum(known(worker.kv_usage_mean) for worker in workers) / len(workers)
    )
    assert summary.failed == {}


@law
@given(fleets, workloads)
def test_latencies_are_those_of_the_records(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """All from arrival; those with something cached and those without make up all."""
    simulation = simulate(config, workload)
    summary = summarise(simulation)
    served = [record for record in simulation.records if record.status != "refused"]
    assert summary.ttft == distribution(_durations_ns(served, "arrival_ns", "first_token_ns"))
    assert summary.e2e == distribution(_durations_ns(served, "arrival_ns", "finish_ns"))
    assert summary.queue == distribution(_durations_ns(served, "arrival_ns", "scheduled_ns"))
    assert summary.ttft_hits.count == sum(bool(record.cached_tokens) for record in served)
    assert summary.ttft_hits.count + summary.ttft_misses.count == summary.ttft.count == len(served)


@law
@given(fleets, workloads)
def test_each_token_but_the_first_has_a_gap(config: FleetConfig, workload: list[WorkloadRequest]) -> None:
    """The gaps of a request add up to the time from its first token to its last."""
    simulation = simulate(config, workload)
    summary = summarise(simulation)
    served = [record for record in simulation.records if record.status != "refused"]
    assert summary.itl.count == sum(record.output_tokens - 1 for record in served)
    decode_ns = sum(_durations_ns(served, "first_token_ns", "finish_ns"))
    gaps_ns = sum(
        gap_ns * count for worker in simulation.workers for gap_ns, count in worker.inter_token_ns.items()
    )
    assert gaps_ns == decode_ns
    assert summary.tpot.count == sum(record.output_tokens > 1 for record in served)


@law
@given(fleets, workloads)
def test_bins_of_matched_blocks_hold_each_request_once(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """Bins adjoin and double: 0, 1, 2-3, 4-7, ..."""
    simulation = simulate(config, workload)
    blocks = [
        (record.cached_tokens or 0) // config.engine.block_size
        for record in simulation.records
        if record.status != "refused"
    ]
    bins = summarise(simulation).matched_blocks
    assert [item.low for item in bins] == [0, *(1 << bits for bits in range(len(bins) - 1))][: len(bins)]
    assert [item.high for item in bins] == [1 << bits for bits in range(len(bins))]
    assert [item.count for item in bins] == [
        sum(item.low <= matched < item.high for matched in blocks) for item in bins
    ]
    assert sum(item.count for item in bins) == len(blocks)
    assert not bins or bins[-1].count


@law
@given(fleets, workloads)
def test_the_series_count_every_request_while_it_is_in_its_engine(
    config: FleetConfig, workload: list[WorkloadRequest]
) -> None:
    """Running and waiting, summed over time, are the time from queued to finish, summed over requests."""
    simulation = simulate(config, workload)
    end_ns = simulation.end_ns - simulation.start_ns
    for worker in summarise(simulation).workers:
        series = known(worker.series)
        width_ns = round(series.interval_seconds * 10**9)
        widths = [min(width_ns, end_ns - start) for start in range(0, end_ns, width_ns)]
        request_ns = math.fsum(
            (running + waiting) * width
            for running, waiting, width in zip(series.running, series.waiting, widths, strict=True)
        )
        own = [record for record in simulation.records if record.worker == worker.worker]
        expected_ns = sum(_durations_ns(own, "queued_ns", "finish_ns"))
        assert request_ns == pytest.approx(expected_ns, rel=1e-9, abs=2 * 0.5e-4 * end_ns + 1e-3)


def test_littles_law() -> None:
    """The mean number in the system is the arrival rate times the mean time in it."""
    setup = engine_setup("llama-2-13b", "a100-40gb", EngineChoices(), LatencyChoices())
    config = FleetConfig(
        engine=setup.config,
        latency=setup.latency,
        num_workers=2,
        policy="least-loaded",
        choose=load_policy("least-loaded"),
    )
    rng = random.Random(1)
    arrivals_ns = sorted(rng.randrange(120 * 10**9) for _ in range(400))
    workload = [
        turn(i, at_ns, i % 40, rng.randrange(100, 600), rng.randrange(20, 300), kind="segments")
        for i, at_ns in enumerate(arrivals_ns)
    ]
    summary = summarise(simulate(config, workload))
    in_system = 0.0
    for worker in summary.workers:
        series = known(worker.series)
        starts = [i * series.interval_seconds for i in range(len(series.running))]
        widths = [min(series.interval_seconds, summary.duration_seconds - start) for start in starts]
        counts = map(sum, zip(series.running, series.waiting, strict=True))
        in_system += math.fsum(c * w for c, w in zip(counts, widths, strict=True)) / summary.duration_seconds
    assert summary.e2e.mean is not None
    assert in_system > 5.0
    assert in_system == pytest.approx(summary.requests_per_second * summary.e2e.mean, rel=0.01)


def test_nothing_divides_by_zero() -> None:
    """A run without requests has rates and shares of 0."""
    engine = EngineConfig(num_gpu_blocks=17, max_model_len=64, block_size=4)
    setup = engine_setup("llama-2-13b", "a100-40gb", EngineChoices(), LatencyChoices())
    config = FleetConfig(
        engine=engine, latency=setup.latency, num_workers=2, policy="prefix", choose=load_policy("prefix")
    )
    summary = summarise(simulate(config, []))
    for name in (
        "duration_seconds",
        "hit_rate_tokens",
        "hit_rate_requests",
        "requests_per_second",
        "output_tokens_per_second",
        "total_tokens_per_second",
        "kv_usage_mean",
        "kv_usage_peak",
    ):
        assert getattr(summary, name) == 0.0
    assert summary.matched_blocks == []
    assert summary.e2e.mean is None


def test_rates_do_not_depend_on_when_the_first_request_comes() -> None:
    """A piece cut out of the middle of a trace gives the same figures as one that starts at zero."""
    config = fleet()
    early = [turn(i, 40_000 * i, i % 3, 30, 10) for i in range(20)]
    late = [turn(i, 10**13 + 40_000 * i, i % 3, 30, 10) for i in range(20)]
    assert summarise(simulate(config, early)) == summarise(simulate(config, late))
