"""Fleets and workloads so small and tight that everything happens in them: hits, eviction, preemption, refusal."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from tests.engine.drive import ContextLatency

from understudy.engine import EngineConfig, SegmentPrompt, TokenPrompt
from understudy.fleet import FleetConfig, NewsTiming, Simulation
from understudy.latency import LatencyModel, LinearLatency
from understudy.routing import Choose, Knowledge, load_policy
from understudy.workload import Arrivals, OpenLoop, WorkloadRequest

T = TypeVar("T")

law = settings(max_examples=60, deadline=None)
"""How hard the tests of this folder try to break a law."""

MAX_MODEL_LEN = 64

ENGINE = EngineConfig(
    num_gpu_blocks=30,
    max_model_len=MAX_MODEL_LEN,
    block_size=4,
    max_num_seqs=4,
    max_num_batched_tokens=16,
)

engines = st.builds(
    EngineConfig,
    num_gpu_blocks=st.integers(MAX_MODEL_LEN // 4 + 1, 40),
    max_model_len=st.just(MAX_MODEL_LEN),
    block_size=st.just(4),
    max_num_seqs=st.integers(1, 5),
    max_num_batched_tokens=st.sampled_from([8, 16, 64]),
    enable_prefix_caching=st.sampled_from([True, True, True, False]),
    scheduling_policy=st.sampled_from(["fcfs", "priority"]),
    async_scheduling=st.booleans(),
    watermark=st.sampled_from([0.0, 0.1]),
    scheduler_reserve_full_isl=st.booleans(),
)

LINEAR = LinearLatency(
    prefill_base_seconds=5e-6,
    prefill_cached_seconds=5e-7,
    prefill_seconds_per_block=2.5e-6,
    decode_seconds_per_step=15e-6,
    block_size=4,
)
FREE = LinearLatency(
    prefill_base_seconds=0.0,
    prefill_cached_seconds=0.0,
    prefill_seconds_per_block=0.0,
    decode_seconds_per_step=0.0,
)
latencies: st.SearchStrategy[LatencyModel] = st.sampled_from([ContextLatency(), LINEAR, FREE])

_gaps_ns = st.sampled_from([0, 1, 1_000, 10_000, 100_000]) | st.integers(0, 50_000)
_turns = st.tuples(_gaps_ns, st.integers(0, 2), st.integers(1, 70), st.integers(1, 40), st.integers(0, 1))
_Turn = tuple[int, int, int, int, int]

SEGMENT_TOKENS = 8


def turn(
    serial: int, arrival_ns: int, family: int, prompt_tokens: int, output_tokens: int, *, kind: str = "known"
) -> WorkloadRequest:
    """Return a request of a family, all of whose prompts are the beginnings of one text.

    The kind says what is known: `known` prompt and answer, which goes on with the text; only the `prompt`; or
    only the `segments` of the prompt.
    """
    request = WorkloadRequest(
        request_id=f"r{serial}",
        arrival_ns=arrival_ns,
        prompt=TokenPrompt(_text(family, 0, prompt_tokens)),
        output_tokens=output_tokens,
        session_id=f"s{family}",
    )
    if kind == "known":
        return replace(request, output_ids=_text(family, prompt_tokens, output_tokens))
    if kind == "segments":
        ids = [100 * family + index for index in range(-(-prompt_tokens // SEGMENT_TOKENS))]
        return replace(request, prompt=SegmentPrompt(prompt_tokens, ids, SEGMENT_TOKENS))
    return request


def _text(family: int, start: int, length: int) -> list[int]:
    return [1_000 * family + position % 7 for position in range(start, start + length)]


def _requests(drawn: tuple[list[_Turn], str, bool]) -> list[WorkloadRequest]:
    turns, kind, has_sessions = drawn
    arrivals_ns = accumulate(gap_ns for gap_ns, *_ in turns)
    requests = [
        turn(serial, arrival_ns, family, prompt_tokens, output_tokens, kind=kind)
        for serial, (arrival_ns, (_, family, prompt_tokens, output_tokens, _)) in enumerate(
            zip(arrivals_ns, turns, strict=True)
        )
    ]
    return [
        replace(request, priority=priority, session_id=request.session_id if has_sessions else None)
        for request, (*_, priority) in zip(requests, turns, strict=True)
    ]


workloads: st.SearchStrategy[list[WorkloadRequest]] = st.tuples(
    st.lists(_turns, max_size=25) | st.lists(_turns, min_size=15, max_size=25),
    st.sampled_from(["known", "prompt", "segments"]),
    st.booleans(),
).map(_requests)
"""Up to 25 requests of three families, some longer than the context; r0, r1, ... in order of arrival."""


def fleet(
    engine: EngineConfig = ENGINE,
    latency: LatencyModel | None = None,
    *,
    workers: int = 3,
    policy: str = "round-robin",
    choose: Choose | None = None,
    knowledge: Knowledge = Knowledge.EXACT,
    news: NewsTiming | None = None,
    hash_seed: str = "any",
    seed: int = 0,
) -> FleetConfig:
    """Return a small fleet under a built-in policy, or under `choose`."""
    return FleetConfig(
        engine=engine,
        latency=latency or ContextLatency(),
        num_workers=workers,
        policy=policy,
        choose=choose or load_policy(policy),
        knowledge=knowledge,
        news=news or NewsTiming(),
        hash_seed=hash_seed,
        seed=seed,
    )


fleets = st.builds(
    fleet,
    engines,
    latencies,
    workers=st.integers(1, 4),
    policy=st.sampled_from(["prefix", "round-robin", "least-loaded", "random", "session"]),
    knowledge=st.sampled_from(Knowledge),
    news=st.builds(
        NewsTiming,
        delay_ns=st.sampled_from([0, 1_000, 10_000]) | st.integers(0, 50_000),
        heartbeat_ns=st.just(10_000),
        synchronisation_ns=st.sampled_from([10_000, 50_000]),
    ),
)


def simulate(config: FleetConfig, workload: Iterable[WorkloadRequest] | Arrivals) -> Simulation:
    """Run a workload, open-loop unless it says how it arrives, to its end."""
    arrivals = OpenLoop(workload) if isinstance(workload, Iterable) else workload
    simulation = Simulation(config, arrivals)
    simulation.run()
    simulation.finish()
    return simulation


def known(value: T | None) -> T:
    """Return what a simulation always knows; only of a replay it may be None."""
    assert value is not None
    return value
