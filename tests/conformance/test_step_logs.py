"""Our step logs against those of vLLM's own scheduler, line by line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.random_cases import BLOCK_SIZES, HASH_ALGORITHMS, Case, Json
from tests.conformance.recordings import engine_config, read_recording, step_requests

from understudy.engine.step_log import step_log

RECORDINGS = sorted((Path(__file__).parent / "step_logs").glob("*.json.gz"))
UNUSUAL_OPTIONS = {
    "max_num_scheduled_tokens",
    "max_num_active_seqs",
    "watermark",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name.split(".")[0])
def test_step_log_equals_the_recording(path: Path) -> None:
    """Every iteration: tokens, admissions, preemptions, ends, queues, free blocks and events; and nothing is lost."""
    case, hash_seed, recorded = read_recording(path)
    ours = step_log(engine_config(case), step_requests(case), hash_seed=hash_seed, check=True)
    for expected, record in zip(recorded, ours, strict=True):
        assert json.loads(json.dumps(record)) == expected


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_recordings_reach_every_corner(mode: str) -> None:
    """Twelve recordings a mode; together they use every option and see every kind of request and of end."""
    recordings = [read_recording(path) for path in RECORDINGS if path.name.startswith(mode)]
    assert len(recordings) == 12
    assert all(case.config["async_scheduling"] is (mode == "async") for case, _, _ in recordings)
    seen = {corner for case, _, log in recordings for corner in corners(case, log)}
    expected = {
        *UNUSUAL_OPTIONS,
        *(f"block size {size}" for size in BLOCK_SIZES),
        *HASH_ALGORITHMS,
        *("fcfs", "priority", "no caching", "no chunks", "no reservation", "prefill interval"),
        *("salt", "duplicate", "whole blocks", "abort", "stop", "length"),
        *("hit", "preemption", "resumption", "eviction"),
    }
    assert expected <= seen, expected - seen


def corners(case: Case, log: list[Json]) -> Iterator[str]:
    """Name what is special about a case and its log."""
    config, workload = case
    yield f"block size {config['block_size']}"
    yield config["prefix_caching_hash_algo"] if config["enable_prefix_caching"] else "no caching"
    yield config["scheduling_policy"]
    yield from (name for name in UNUSUAL_OPTIONS if config[name])
    yield "chunks" if config["enable_chunked_prefill"] else "no chunks"
    yield "reservation" if config["scheduler_reserve_full_isl"] else "no reservation"
    if config["prefill_schedule_interval"] > 1:
        yield "prefill interval"
    prompts = [tuple(request["prompt"]) for request in workload]
    if len(set(prompts)) < len(prompts):
        yield "duplicate"
    if any(len(prompt) % config["block_size"] == 0 for prompt in prompts) and config["block_size"] > 1:
        yield "whole blocks"
    if any("cache_salt" in request for request in workload):
        yield "salt"
    yield from (reason for line in log for _, reason in line["finished"])
    if sum(len(line["finished"]) for line in log) < len(workload):
        yield "abort"
    for line in log:
        if any(cached for _, cached in line["new"]):
            yield "hit"
        if line["preempted"]:
            yield "preemption"
        if line["resumed"]:
            yield "resumption"
        if any(event[0] == "removed" for event in line["events"]):
            yield "eviction"
