"""Random configurations and step-domain workloads that reach every corner of the scheduler.

It knows neither vLLM nor our engine, so that whoever compares the two can use it on either side. A case is plain JSON
in vLLM's words; every option of the configuration is written out, so nothing depends on anyone's defaults.
"""

import random
from typing import Any, NamedTuple

Json = dict[str, Any]

HASH_ALGORITHMS = ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")
BLOCK_SIZES = (1, 2, 3, 4, 8, 16, 32)
VOCABULARY = 40
"""Small, so that stop tokens and repeated blocks happen."""


class Case(NamedTuple):
    """A configuration and the requests that come to it."""

    config: Json
    workload: list[Json]


def random_case(seed: int, *, async_scheduling: bool, num_requests: int = 40) -> Case:
    """Return the case of a seed; every request fits into the cache by itself, so the workload ends."""
    rng = random.Random(f"{seed} {async_scheduling}")
    block_size = rng.choice(BLOCK_SIZES)
    workload = _Workload(rng, block_size).requests(num_requests)
    longest_prompt = max(len(request["prompt"]) for request in workload)
    longest = max(len(request["prompt"]) + request["max_tokens"] for request in workload)
    max_model_len = rng.choice([longest + 1, longest + 1, longest, longest_prompt + 9])
    blocks_of_longest = -(-min(longest, max_model_len) // block_size)
    max_num_seqs = rng.choice([1, 4, 8, 16, 16])
    chunked = rng.random() < 0.8
    max_num_batched_tokens = max(max_num_seqs, rng.choice([16, 33, 64, 256]), 0 if chunked else max_model_len)
    config = {
        "num_gpu_blocks": 1 + int(blocks_of_longest * rng.choice([1.0, 1.2, 1.5, 2.0, 3.0, 8.0])),
        "max_model_len": max_model_len,
        "block_size": block_size,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "max_num_scheduled_tokens": (
            rng.randrange(1, max_num_batched_tokens + 1) if chunked and rng.random() < 0.15 else None
        ),
        "max_num_active_seqs": rng.randrange(1, max_num_seqs + 1) if rng.random() < 0.2 else None,
        "enable_prefix_caching": rng.random() < 0.85,
        "prefix_caching_hash_algo": rng.choice(HASH_ALGORITHMS),
        "enable_chunked_prefill": chunked,
        "scheduling_policy": rng.choice(["fcfs", "priority"]),
        "async_scheduling": async_scheduling,
        "watermark": rng.choice([0.0, 0.0, 0.05, 0.2]),
        "scheduler_reserve_full_isl": rng.random() < 0.6,
        "long_prefill_token_threshold": rng.choice([0, 0, 5, 20]),
        "long_prefill_token_threshold_adaptive": rng.random() < 0.3,
        "prefill_schedule_interval": rng.choice([1, 1, 1, 2, 5]),
    }
    return Case(config, workload)


class _Workload:
    """Draws requests that share prefixes with each other in all the ways that prompts do."""

    def __init__(self, rng: random.Random, block_size: int) -> None:
        self._rng = rng
        self._block_size = block_size
        self._longest_piece = min(10 * block_size, 160)
        self._system_prompts = [self._tokens(self._length()) for _ in range(3)]
        self._earlier: list[Json] = []

    def requests(self, count: int) -> list[Json]:
        rng = self._rng
        gap = rng.choice([1, 3, 8])
        may_abort, may_salt, may_stop = (rng.random() < 0.6 for _ in range(3))
        step = 0
        for number in range(count):
            step += rng.randrange(gap)
            request: Json = {
                "id": f"r{number}",
                "arrive_step": step,
                "prompt": self._prompt(),
                "max_tokens": rng.randrange(1, 40),
                "priority": rng.randrange(3),
            }
            # Fewer outputs than tokens: the model then samples token 0.
            request["outputs"] = self._tokens(request["max_tokens"] - rng.choice([0, 0, 0, 1]))
            if may_abort and rng.random() < 0.15:
                request["abort_step"] = step + rng.randrange(60)
            if may_salt and rng.random() < 0.3:
                request["cache_salt"] = rng.choice(["one", "two"])
            if may_stop and rng.random() < 0.4:
                request["stop_token_ids"] = rng.sample(range(VOCABULARY), 2)
            self._earlier.append(request)
        # The order of the file decides only between arrivals in the same step.
        rng.shuffle(self._earlier)
        return self._earlier

    def _prompt(self) -> list[int]:
        rng = self._rng
        kind = rng.choice(["new", "system", "system", "duplicate", "next turn", "whole blocks"])
        earlier = rng.choice(self._earlier) if self._earlier else None
        if earlier is not None and kind == "duplicate":
            return list(earlier["prompt"])
        if earlier is not None and kind == "next turn" and len(earlier["prompt"]) < 2 * self._longest_piece:
            return [*earlier["prompt"], *earlier["outputs"], *self._tokens(rng.randrange(1, 20))]
        if kind == "new":
            return self._tokens(self._length())
        system = rng.choice(self._system_prompts)
        if kind == "whole blocks":
            num_blocks = max(1, len(system) // self._block_size)
            return (system + self._tokens(self._block_size))[: num_blocks * self._block_size]
        return [*system[: rng.randrange(len(system) + 1)], *self._tokens(rng.randrange(1, 30))]

    def _length(self) -> int:
        return self._rng.randrange(1, self._longest_piece + 1)

    def _tokens(self, count: int) -> list[int]:
        return [self._rng.randrange(VOCABULARY) for _ in range(count)]
