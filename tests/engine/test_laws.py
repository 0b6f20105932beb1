"""Laws that hold for any engine: conservation, causality, no idling, Little's law, and waiting times of queueing theory."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.engine.drive import Arrival, ContextLatency, Run, drive

from understudy.engine import EngineConfig, RequestStatus, SegmentPrompt
from understudy.latency import LatencyModel, LinearLatency

MS = 1_000_000
PREFILL_ONLY = LinearLatency(
    prefill_base_seconds=0.010,
    prefill_cached_seconds=0.010,
    prefill_seconds_per_block=0.0,
    decode_seconds_per_step=0.001,
)


def _one_at_a_time(latency: LatencyModel, arrivals: list[Arrival], *, many_at_once: bool = True) -> Run:
    """Serve arrivals with a single server: one request runs, and a step is scheduled when the last one has ended."""
    config = EngineConfig(
        num_gpu_blocks=64,
        max_model_len=512,
        max_num_seqs=1,
        enable_prefix_caching=False,
        async_scheduling=False,
    )
    return drive(config, latency, arrivals, many_at_once=many_at_once, record_events=False)


ARRIVALS = st.lists(
    st.builds(
        lambda at_us, length, shared, max_tokens, priority: Arrival(
            at_us * 1_000,
            SegmentPrompt(
                length, [shared, *range(100 * (shared + 1), 100 * (shared + 1) + length // 16)], 16
            ),
            max_tokens,
            priority,
        ),
        st.integers(0, 400),
        st.integers(1, 120),
        st.integers(0, 4),
        st.integers(1, 60),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=25,
)
CONFIGS = st.builds(
    EngineConfig,
    num_gpu_blocks=st.sampled_from([14, 20, 200]),
    max_model_len=st.just(200),
    max_num_seqs=st.sampled_from([1, 4, 32]),
    max_num_batched_tokens=st.sampled_from([32, 512]),
    enable_prefix_caching=st.booleans(),
    scheduling_policy=st.sampled_from(["fcfs", "priority"]),
    async_scheduling=st.booleans(),
    scheduler_reserve_full_isl=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(config=CONFIGS, arrivals=ARRIVALS, many_at_once=st.booleans())
def test_laws_of_any_run(*, config: EngineConfig, arrivals: list[Arrival], many_at_once: bool) -> None:
    """Every request ends once, with its tokens, in causal order; the engine works while anybody is there, and only then."""
    run = drive(config, ContextLatency(), arrivals, many_at_once=many_at_once, check=True)
    at_ns = {f"r{serial}": arrival.at_ns for serial, arrival in enumerate(arrivals)}
    assert run.finished_ns.keys() == at_ns.keys()
    assert run.engine.scheduler.kv_cache.pool.num_used_blocks == 0
    for request in run.requests:
        assert request.status is RequestStatus.FINISHED_LENGTH_CAPPED
        assert request.num_output_tokens == request.max_tokens
        times = [at_ns[request.request_id], request.queued_ns, request.scheduled_ns, request.first_token_ns]
        times += [request.last_token_ns, run.finished_ns[request.request_id]]
        known = [time for time in times if time is not None]
        assert len(known) == len(times)
        assert known == sorted(known)
        assert request.last_token_ns == run.finished_ns[request.request_id]
    assert run.engine.busy_ns == _time_with_anybody_there(at_ns, run.finished_ns)


def _time_with_anybody_there(starts: dict[str, int], ends: dict[str, int]) -> int:
    total = covered_until = 0
    for request_id, start in sorted(starts.items(), key=lambda item: item[1]):
        end = ends[request_id]
        total += max(0, end - max(start, covered_until))
        covered_until = max(covered_until, end)
    return total


@settings(max_examples=100, deadline=None)
@given(config=CONFIGS, arrivals=ARRIVALS, many_at_once=st.booleans())
def test_gauges_count_every_request_while_it_is_there(
    *, config: EngineConfig, arrivals: list[Arrival], many_at_once: bool
) -> None:
    """Little's law without rounding: the area under running plus waiting is the sum of the times spent in the engine."""
    run = drive(config, ContextLatency(), arrivals, many_at_once=many_at_once)
    sojourns = 0
    for request in run.requests:
        assert request.queued_ns is not None
        sojourns += run.finished_ns[request.request_id] - request.queued_ns
    assert run.gauges.running_ns + run.gauges.waiting_ns == sojourns


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_littles_law(*, async_scheduling: bool) -> None:
    """Mean number in the system = arrival rate x mean time from sending a request to its end, within 1 %."""
    rng = random.Random(7)
    latency = LinearLatency(
        prefill_base_seconds=0.005,
        prefill_cached_seconds=0.0005,
        prefill_seconds_per_block=0.0025,
        decode_seconds_per_step=0.015,
    )
    at_ns = 0
    arrivals = []
    for serial in range(400):
        at_ns += round(rng.expovariate(1 / (400 * MS)))
        prompt = SegmentPrompt(rng.randrange(20, 400), (serial,), 512)
        arrivals.append(Arrival(at_ns, prompt, rng.randrange(100, 600)))
    config = EngineConfig(
        num_gpu_blocks=924, max_model_len=2048, max_num_seqs=16, async_scheduling=async_scheduling
    )
    run = drive(config, latency, arrivals, many_at_once=True)
    horizon_ns = max(run.finished_ns.values())
    mean_number = (run.gauges.running_ns + run.gauges.waiting_ns) / horizon_ns
    mean_time_ns = sum(
        run.finished_ns[f"r{serial}"] - arrival.at_ns for serial, arrival in enumerate(arrivals)
    ) / len(arrivals)
    assert run.gauges.waiting_ns > 0
    assert mean_number == pytest.approx(len(arrivals) / horizon_ns * mean_time_ns, rel=0.01)


@settings(deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(0, 100_000), st.integers(1, 200), st.integers(1, 40)), min_size=1, max_size=40
    ),
    many_at_once=st.booleans(),
)
def test_waits_of_a_single_server(*, requests: list[tuple[int, int, int]], many_at_once: bool) -> None:
    """Lindley's recursion to the nanosecond: each request starts when it has come and the one before it has gone."""
    arrivals = []
    at_ns = 0
    for serial, (gap_ns, length, max_tokens) in enumerate(requests):
        at_ns += gap_ns
        arrivals.append(Arrival(at_ns, SegmentPrompt(length, (serial,), 512), max_tokens))
    run = _one_at_a_time(ContextLatency(), arrivals, many_at_once=many_at_once)
    server_is_free_ns = 0
    for arrival, request in zip(arrivals, run.requests, strict=True):
        assert request.scheduled_ns == max(arrival.at_ns, server_is_free_ns)
        alone = _one_at_a_time(ContextLatency(), [Arrival(0, arrival.prompt, arrival.max_tokens)])
        server_is_free_ns = request.scheduled_ns + alone.finished_ns["r0"]
        assert run.finished_ns[request.request_id] == server_is_free_ns


@pytest.mark.parametrize(
    ("load", "num_runs"),
    # As many runs as bring the standard error of the mean below 0.8 %: it grows with the load.
    [(0.3, 3), (0.6, 4), (0.8, 24)],
)
def test_waiting_time_of_an_m_d_1_queue(load: float, num_runs: int) -> None:
    """Poisson arrivals, constant service S: the mean wait is S x load / (2 (1 - load)) (Pollaczek and Khinchine), within 2 %."""
    service_ns, num_requests = 10 * MS, 40_000
    horizon_ns = round(num_requests * service_ns / load)
    prompt = SegmentPrompt(10, (0,), 16)
    total_wait_ns = 0
    for seed in range(num_runs):
        rng = random.Random(seed)
        # A Poisson process, given how many arrive, is that many independent uniform times.
        arrivals = [
            Arrival(at_ns, prompt, 1)
            for at_ns in sorted(rng.randrange(horizon_ns) for _ in range(num_requests))
        ]
        run = _one_at_a_time(PREFILL_ONLY, arrivals)
        assert run.engine.busy_ns == num_requests * service_ns
        for arrival, request in zip(arrivals, run.requests, strict=True):
            assert request.scheduled_ns is not None
            total_wait_ns += request.scheduled_ns - arrival.at_ns
    mean_wait_ns = total_wait_ns / (num_runs * num_requests)
    assert mean_wait_ns == pytest.approx(service_ns * load / (2 * (1 - load)), rel=0.02)
