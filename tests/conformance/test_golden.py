"""Replays recordings of vLLM's own scheduler through ours: every decision, event and statistic is equal.

The recordings also hold physical block ids, which our engine does not have.
"""

import gzip
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from understudy.engine import (
    BlockRemoved,
    BlockStored,
    EngineConfig,
    KVCacheEvent,
    Request,
    Scheduler,
    StepPlan,
    TokenPrompt,
    event_hash,
)

GOLDEN = sorted(Path(__file__).parent.glob("golden/*.jsonl.gz"))
END_OF_SEQUENCE = 7
BLOCK_IDS = ("blocks", "free_head", "free_order")
OPTIONS = ("scheduler_reserve_full_isl", "watermark", "long_prefill_token_threshold")

Line = dict[str, Any]


class Replay:
    """Our scheduler, told what vLLM's was told, answering in the words of the recording."""

    def __init__(self, config: Line) -> None:
        self.config = EngineConfig(
            num_gpu_blocks=config["blocks"],
            block_size=config["bs"],
            max_num_seqs=config["seqs"],
            max_num_batched_tokens=config["budget"],
            max_model_len=config["maxlen"],
            async_scheduling=config["async_"],
            scheduling_policy=config.get("policy", "fcfs"),
            enable_prefix_caching=config.get("apc", True),
            enable_chunked_prefill=config.get("chunked", True),
            prefix_caching_hash_algo=config.get("algo", "sha256"),
            **{name: config[name] for name in OPTIONS if name in config},
        )
        self.scheduler = Scheduler(self.config, record_events=config.get("events", True))
        if self.scheduler.hasher is not None:
            assert config["none_hash"] == self.scheduler.hasher.none_hash.hex()
        self.in_flight: deque[tuple[StepPlan, dict[Request, int]]] = deque()
        self.eos_at_pos: dict[str, int | None] = {}
        self.finished: list[str] = []
        self.reported: set[str] = set()
        self.counted = (0, 0, 0, 0)

    def answer(self, line: Line) -> Line:
        """Do what the line says and return the line that we would have recorded."""
        operation = getattr(self, f"_{line['op']}")
        answer: Line = {"op": line["op"], **operation(line)}
        self.scheduler.check_integrity()
        return answer

    def _add(self, line: Line) -> Line:
        self.eos_at_pos[line["id"]] = line["eos_at_pos"]
        self.scheduler.add(
            Request(
                line["id"],
                TokenPrompt(line["prompt"]),
                line["max_tokens"],
                priority=line["priority"],
                arrival_time=line["arrival"],
                eos_token_id=END_OF_SEQUENCE,
            )
        )
        return line

    def _abort(self, line: Line) -> Line:
        self.finished.extend(request.request_id for request in self.scheduler.abort([line["id"]]))
        return line

    def _reset_prefix_cache(self, _line: Line) -> Line:
        return {"ok": self.scheduler.reset_prefix_cache()}

    def _schedule(self, line: Line) -> Line:
        plan = self.scheduler.schedule()
        tokens = {}
        for request in plan.scheduled:
            position = request.num_computed_tokens
            at_end = position == self.eos_at_pos[request.request_id]
            tokens[request] = END_OF_SEQUENCE if at_end else 1000 + position
        self.in_flight.append((plan, tokens))
        finished, self.finished = self.finished, []
        assert sorted(line["finished"]) == sorted(finished)
        assert list(line["tokens"]) == _ids(plan.scheduled), "batch order"
        return {
            "tokens": {r.request_id: n for r, n in plan.scheduled.items()},
            "computed_before": {r.request_id: r.num_computed_tokens - n for r, n in plan.scheduled.items()},
            "new": _ids([admission.request for admission in (*plan.new, *plan.resumed)]),
            "preempted": sorted(_ids(plan.preempted)),
            "finished": line["finished"],
            "running": _ids(self.scheduler.running),
            "waiting": _ids(list(self.scheduler.waiting)),
            "free": self.scheduler.kv_cache.pool.num_free_blocks,
        }

    def _update(self, _line: Line) -> Line:
        plan, tokens = self.in_flight.popleft()
        outputs = []
        for request in self.scheduler.complete(plan, lambda request, _count: [tokens[request]]):
            reason = request.status.value if request.status.is_finished else None
            if reason is not None:
                self.finished.append(request.request_id)
            first = request.request_id not in self.reported
            self.reported.add(request.request_id)
            cached = request.num_cached_tokens if first else None
            outputs.append([request.request_id, [request.token_ids[-1]], reason, cached])
        stats = self.scheduler.kv_cache.stats
        counts = (stats.queries, stats.hits, stats.preempted_queries, stats.preempted_hits)
        changes = [now - then for now, then in zip(counts, self.counted, strict=True)]
        self.counted = counts
        pool = self.scheduler.kv_cache.pool
        return {
            "outputs": outputs,
            "events": [_event(event) for event in self.scheduler.take_events()],
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "usage": pool.usage,
            **dict(zip(("queries", "hits", "preempted_queries", "preempted_hits"), changes, strict=True)),
        }

    def _end(self, _line: Line) -> Line:
        pool = self.scheduler.kv_cache.pool
        return {"free": pool.num_free_blocks}


def _ids(requests: Sequence[Request] | dict[Request, int]) -> list[str]:
    return [request.request_id for request in requests]


def _event(event: KVCacheEvent) -> list[object]:
    match event:
        case BlockStored():
            extra = [keys and [_untagged(key) for key in keys] for keys in event.extra_keys]
            return [
                "S",
                [event_hash(block_hash) for block_hash in event.block_hashes],
                None if event.parent_block_hash is None else event_hash(event.parent_block_hash),
                list(event.token_ids),
                extra if any(extra) else None,
            ]
        case BlockRemoved():
            return ["R", [event_hash(event.block_hash)]]
        case _:
            return ["C"]


def _untagged(key: object) -> object:
    assert isinstance(key, tuple)
    return key[1]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.split(".")[0])
def test_golden_recording(path: Path) -> None:
    """Told the same, our scheduler answers what vLLM's answered, line by line."""
    with gzip.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    replay = Replay(lines[0])
    for number, line in enumerate(lines[1:], start=2):
        if line["op"] == "schedule":
            line["preempted"] = sorted(line["preempted"])
        answer = replay.answer(line)
        for block_ids in BLOCK_IDS:
            line.pop(block_ids, None)
        assert line == answer, f"line {number}"


def test_all_recordings_are_here() -> None:
    """Twenty recordings, half of them of asynchronous scheduling."""
    assert len(GOLDEN) == 20
    assert sum(path.name.startswith("async") for path in GOLDEN) == 10
