"""Many decode steps at once are the same as single ones, in every field."""

import random
from collections import Counter

import pytest
from tests.engine.drive import Arrival, ContextLatency, Run, drive

from understudy.engine import EngineConfig, Request, SegmentPrompt, TokenPrompt
from understudy.latency import LatencyModel, LinearLatency

LINEAR = LinearLatency(
    prefill_base_seconds=0.005,
    prefill_cached_seconds=0.0005,
    prefill_seconds_per_block=0.0025,
    decode_seconds_per_step=0.015,
)


def _state(run: Run) -> dict[str, object]:
    scheduler = run.engine.scheduler
    pool = scheduler.kv_cache.pool
    return {
        "requests": [
            (
                r.request_id,
                r.status,
                r.queued_ns,
                r.scheduled_ns,
                r.first_token_ns,
                r.last_token_ns,
                r.num_tokens,
                r.num_cached_tokens,
                r.num_preemptions,
                tuple(r.token_ids),
                tuple(r.block_hashes),
            )
            for r in run.requests
        ],
        "finished": run.finished_ns,
        "events": run.events,
        "free queue": pool.evictable_hashes(),
        "cached": Counter(pool.cached_hashes()),
        "evicted": pool.num_evicted_blocks,
        "stats": scheduler.kv_cache.stats,
        "steps": run.engine.num_steps,
        "busy": run.engine.busy_ns,
        "gauges": run.gauges,
    }


def _outputs(request: Request, count: int) -> list[int]:
    rng = random.Random(request.serial)
    tokens = [rng.randrange(3) for _ in range(request.max_tokens)]
    return tokens[request.num_output_tokens :][:count]


def _workload(rng: random.Random, block_size: int, *, known: bool) -> list[Arrival]:
    arrivals = []
    at_ns = 0
    for serial in range(rng.randrange(5, 40)):
        at_ns += rng.choice([0, 1, 5_000, 40_000_000, 300_000_000]) * rng.randrange(3)
        length = rng.randrange(1, 12 * block_size)
        if known:
            prompt: TokenPrompt | SegmentPrompt = TokenPrompt([rng.randrange(2) for _ in range(length)])
        else:
            segments = -(-length // 32)
            shared = rng.randrange(segments + 1)
            ids = [*range(shared), *(1_000 + serial * 100 + i for i in range(segments - shared))]
            prompt = SegmentPrompt(length, ids, 32)
        stop = (2,) if known and rng.random() < 0.2 else ()
        arrivals.append(Arrival(at_ns, prompt, rng.randrange(1, 80), rng.randrange(2), stop))
    return arrivals


@pytest.mark.parametrize("seed", range(150))
@pytest.mark.parametrize("latency", [LINEAR, ContextLatency()], ids=["linear", "context"])
def test_many_steps_at_once_equal_single_steps(seed: int, latency: LatencyModel) -> None:
    """Times, tokens, cache, queue order, events, statistics and gauges do not depend on how steps are taken."""
    rng = random.Random(seed)
    block_size = rng.choice([1, 2, 4, 16])
    known = rng.random() < 0.4
    arrivals = _workload(rng, block_size, known=known)
    longest = max(a.prompt.num_tokens + a.max_tokens for a in arrivals)
    config = EngineConfig(
        num_gpu_blocks=int((longest // block_size + 2) * rng.choice([1.0, 1.2, 2.0, 5.0])) + 2,
        max_model_len=rng.choice([longest + 1, longest, max(a.prompt.num_tokens for a in arrivals) + 20]),
        block_size=block_size,
        max_num_seqs=rng.choice([1, 3, 16]),
        max_num_batched_tokens=rng.choice([16, 64, 512]),
        async_scheduling=rng.random() < 0.6,
        enable_prefix_caching=rng.random() < 0.8,
        scheduling_policy=rng.choice(["fcfs", "fcfs", "priority"]),
        watermark=rng.choice([0.0, 0.0, 0.1]),
        scheduler_reserve_full_isl=rng.random() < 0.8,
        prefill_schedule_interval=rng.choice([1, 1, 1, 3]),
    )
    sample = _outputs if known else lambda _request, _count: None
    events = rng.random() < 0.5
    single = drive(config, latency, arrivals, many_at_once=False, sample=sample, record_events=events)
    many = drive(
        config, latency, arrivals, many_at_once=True, sample=sample, record_events=events, check=True
    )
    single_state, many_state = _state(single), _state(many)
    for name, expected in single_state.items():
        assert expected == many_state[name], name
    assert many.calls <= single.calls


def test_a_long_answer_takes_few_calls() -> None:
    """A lone request's thousand tokens do not cost a thousand calls."""
    config = EngineConfig(num_gpu_blocks=200, max_model_len=2048)
    run = drive(config, LINEAR, [Arrival(0, SegmentPrompt(100, (0,), 512), 1_000)], many_at_once=True)
    assert run.engine.num_steps == 1_000
    assert run.calls < 10
