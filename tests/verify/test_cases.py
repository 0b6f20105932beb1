"""Random cases: the same seed gives the same, all are valid, and together they reach every corner."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import EngineConfig
from understudy.verify.cases import BLOCK_SIZES, HASH_ALGORITHMS, Case, random_case
from understudy.verify.recorded import recordings
from understudy.verify.trial import SharedPrefixes, Trial

LIMITS = {"max_num_scheduled_tokens", "max_num_active_seqs", "watermark"}
LIMITS |= {"long_prefill_token_threshold", "long_prefill_token_threshold_adaptive"}


@given(st.integers(), st.sampled_from(["either", "sync", "async"]))
def test_a_case_is_valid_and_repeats(seed: int, mode: str) -> None:
    """The rules of vLLM accept the configuration; every request fits, or is aborted on arrival where nothing fits."""
    is_async = None if mode == "either" else mode == "async"
    case = random_case(seed, async_scheduling=is_async)
    assert random_case(seed, async_scheduling=is_async) == case
    config = EngineConfig(**case.config)
    assert is_async is None or config.async_scheduling is is_async
    room_tokens = (config.num_gpu_blocks - 1) * config.block_size
    for line in case.workload:
        length = len(line["prompt"])
        assert 1 <= length < config.max_model_len
        assert len(line["outputs"]) <= line["max_tokens"]
        fits = min(length + line["max_tokens"], config.max_model_len) - 1 <= room_tokens
        assert fits or line["abort_steps"] == [line["arrive_step"]]
    assert not (case.fills_pipeline and case.resets)
    assert not case.pauses or case.pauses[-1][1] == "none"


@given(st.integers())
def test_hidden_tokens_lose_nothing_that_is_shared(seed: int) -> None:
    """Two prompts share as many tokens as they have segments in common, or are equal."""
    case = random_case(seed)
    if case.segment_tokens is None:
        return
    prefixes = SharedPrefixes(case.segment_tokens)
    prompts = [(line["prompt"], prefixes.prompt(line["prompt"]).segment_ids) for line in case.workload]
    for tokens, segments in prompts:
        for others, other_segments in prompts:
            if tokens != others:
                shared = _num_shared(segments, other_segments) * case.segment_tokens
                assert _num_shared(tokens, others) == shared


def _num_shared(left: object, right: object) -> int:
    assert isinstance(left, list)
    assert isinstance(right, list)
    pairs = zip(left, right, strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_recorded_cases_reach_every_corner(mode: str) -> None:
    """Together they use every option and see every kind of request, of end and of trouble."""
    seen = {
        corner
        for _, recording in recordings()
        if recording.case.config["async_scheduling"] is (mode == "async")
        for corner in _corners(recording.case, recording.trial)
    }
    expected = {
        *LIMITS,
        *(f"block size {size}" for size in BLOCK_SIZES),
        *HASH_ALGORITHMS,
        *("fcfs", "priority", "no caching", "no chunks", "no reservation", "prefill interval", "starved"),
        *("cache_salt", "eos_token_id", "skip_reading_prefix_cache", "lora", "duplicate", "whole blocks"),
        *("abort", "late abort", "stop", "length", "reset True", "reset False", "hidden", "fills pipeline"),
        *("hit", "preemption", "resumption", "eviction", "copies"),
        *(
            f"{what} during a pause of {scope}"
            for scope in ("new", "all")
            for what in ("aborted", "reset", "preempted")
        ),
        *("outputs during a pause of new", "filling during a pause of new", "filling during a pause of all"),
        *(
            "admission behind a pause of new",
            "admission behind a pause of all",
            "resumption behind a pause of new",
        ),
    }
    assert expected <= seen, expected - seen


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_fair_share_of_recorded_cases_has_pauses(mode: str) -> None:
    """A fifth or more, and most have none."""
    paused = [
        any("pause" in record and record["requests"] for record in recording.trial.log)
        for _, recording in recordings()
        if recording.case.config["async_scheduling"] is (mode == "async")
    ]
    assert 1 / 5 <= sum(paused) / len(paused) < 1 / 2


def _pause_corners(case: Case, trial: Trial) -> Iterator[str]:
    """Name what happened while a pause left somebody alone, and right behind it."""
    scope = "none"
    for record in trial.log:
        before, scope = scope, record.get("pause", scope)
        if scope != "none" and record["requests"]:
            happened = (name for name in ("aborted", "reset", "preempted", "outputs") if record.get(name))
            yield from (f"{name} during a pause of {scope}" for name in happened)
            if case.fills_pipeline:
                yield f"filling during a pause of {scope}"
        if before != "none" and scope == "none":
            yield from (f"admission behind a pause of {before}" for _ in record["new"])
            yield from (f"resumption behind a pause of {before}" for _ in record["resumed"])


def _corners(case: Case, trial: Trial) -> Iterator[str]:
    """Name what is special about a case and what came of it."""
    yield from _pause_corners(case, trial)
    config, workload = case.config, case.workload
    yield f"block size {config['block_size']}"
    yield config["prefix_caching_hash_algo"] if config["enable_prefix_caching"] else "no caching"
    yield config["scheduling_policy"]
    yield from (name for name in LIMITS if config[name])
    yield "chunks" if config["enable_chunked_prefill"] else "no chunks"
    yield "reservation" if config["scheduler_reserve_full_isl"] else "no reservation"
    yield "prefill interval" if config["prefill_schedule_interval"] > 1 else "no prefill interval"
    yield "hidden" if case.segment_tokens else "known"
    yield "fills pipeline" if case.fills_pipeline else "reads between"
    prompts = [tuple(line["prompt"]) for line in workload]
    yield "duplicate" if len(set(prompts)) < len(prompts) else "no duplicate"
    size = config["block_size"]
    if size > 1 and any(len(prompt) % size == 0 for prompt in prompts):
        yield "whole blocks"
    yield from (name for line in workload for name in line)
    for record in trial.log:
        yield from (reason for _, _, reason, _ in record["outputs"] if reason)
        yield from (f"reset {answer}" for answer in record.get("reset", ()))
        if "aborted" in record:
            yield "abort" if record["aborted"] else "late abort"
        yield "starved" if record["totals"][0] == 0 else "roomy"
        yield "hit" if any(cached for _, cached in record["new"]) else "miss"
        yield "preemption" if record["preempted"] else "peace"
        yield "resumption" if record["resumed"] else "peace"
        yield from ("eviction" for event in record["events"] if event[0] == "removed")
        stored = [number for event in record["events"] if event[0] == "stored" for number in event[1]]
        if len(stored) > len(set(stored)):
            yield "copies"
