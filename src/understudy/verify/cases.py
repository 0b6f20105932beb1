"""Random configurations and workloads that reach every corner of the scheduler.

It knows neither vLLM nor our engine, so that whoever compares the two can use it on either side. A case is plain JSON
in vLLM's words; every option of the configuration is written out, so nothing depends on anyone's defaults.
"""

import random
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Literal

Json = dict[str, Any]

Pause = Literal["none", "new", "all"]

HASH_ALGORITHMS = ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor")
BLOCK_SIZES = (1, 2, 3, 4, 8, 16, 32)
VOCABULARY = 40
"""Small, so that stop tokens and repeated blocks happen."""
END_OF_SEQUENCE = 7
NUM_REQUESTS = (4, 8, 16, 24, 32)


@dataclass(frozen=True, slots=True)
class Case:
    """A configuration and what comes to it; time is counted in iterations of the scheduler.

    `workload` holds requests as the step log has them, and besides `abort_steps`, `eos_token_id`,
    `skip_reading_prefix_cache` and `lora`. `resets` are pairs: the iteration, and whether running requests are preempted
    for it. `pauses` are pairs too: the iteration, and whom the scheduler leaves alone from then on, "none", "new" or "all".
    With `fills_pipeline` an iteration that follows on one that only scheduled or preempted takes no arrivals, aborts, resets
    and pauses, as an engine does that schedules until its pipeline is full. With `segment_tokens` all tokens are
    different but for what prompts share, and those share whole segments of so many tokens or are equal: a trace that hides
    its tokens can name all that is shared.
    """

    config: Json
    workload: list[Json]
    resets: list[tuple[int, bool]]
    fills_pipeline: bool = False
    segment_tokens: int | None = None
    pauses: list[tuple[int, Pause]] = field(default_factory=list)


def random_case(
    seed: object, *, async_scheduling: bool | None = None, num_requests: int | None = None
) -> Case:
    """Return the case of a seed, of either mode unless told which; every request fits by itself, so the workload ends.

    In one of a hundred there is no block but vLLM's null block, and every request is aborted before it could run.
    """
    rng = random.Random(f"{seed} {async_scheduling}")
    if async_scheduling is None:
        async_scheduling = rng.random() < 0.5
    block_size = rng.choice([*BLOCK_SIZES, rng.randrange(1, 33)])
    segment_tokens = rng.choice(_segments(block_size)) if rng.random() < 0.25 else None
    workload = _Workload(rng, block_size, segment_tokens).requests(num_requests or rng.choice(NUM_REQUESTS))
    fills_pipeline = rng.random() < 0.5
    resets = [] if fills_pipeline else _resets(rng, workload)
    config = _config(rng, block_size, workload)
    if rng.random() < 0.01:
        config["num_gpu_blocks"] = 1
        for request in workload:
            request["abort_steps"] = [request["arrive_step"]]
    if config["enable_chunked_prefill"]:
        _tighten(rng, config, workload)
    config["async_scheduling"] = async_scheduling
    return Case(config, workload, resets, fills_pipeline, segment_tokens, _pauses(rng, workload))


def _segments(block_size: int) -> list[int]:
    return [1, 5, block_size, 2 * block_size, 3 * block_size + 1]


def _config(rng: random.Random, block_size: int, workload: list[Json]) -> Json:
    longest_prompt = max(len(request["prompt"]) for request in workload)
    longest = max(len(request["prompt"]) + request["max_tokens"] for request in workload)
    max_model_len = rng.choice([longest + 1, longest + 1, longest, longest_prompt + 9])
    # The last token of an answer is never computed, so it takes no room.
    blocks_of_longest = -(-(min(longest, max_model_len) - 1) // block_size)
    max_num_seqs = rng.choice([1, 2, 4, 8, 16, 16, 64])
    chunked = rng.random() < 0.8
    least_budget = max(max_num_seqs, 1 if chunked else max_model_len)
    max_num_batched_tokens = max(least_budget, rng.choice([1, 16, 33, 64, 256, 2048]))
    least_scheduled = 1 if chunked else max_model_len
    is_budget_lower = max_num_batched_tokens > least_scheduled + 3 and rng.random() < 0.2
    return {
        "num_gpu_blocks": 1 + max(1, int(blocks_of_longest * rng.choice([1.0, 1.2, 1.5, 2.0, 3.0, 8.0]))),
        "max_model_len": max_model_len,
        "block_size": block_size,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "max_num_scheduled_tokens": (
            rng.randrange(least_scheduled, rng.choice([least_scheduled + 3, max_num_batched_tokens]) + 1)
            if is_budget_lower
            else None
        ),
        "max_num_active_seqs": rng.randrange(1, max_num_seqs + 1) if rng.random() < 0.2 else None,
        "enable_prefix_caching": rng.random() < 0.85,
        "prefix_caching_hash_algo": rng.choice(HASH_ALGORITHMS),
        "enable_chunked_prefill": chunked,
        "scheduling_policy": rng.choice(["fcfs", "priority"]),
        "watermark": rng.choice([0.0, 0.0, 0.01, 0.05, 0.2, 0.9]),
        "scheduler_reserve_full_isl": rng.random() < 0.6,
        "long_prefill_token_threshold": min(rng.choice([0, 0, 0, 1, 5, 20, max_model_len]), max_model_len),
        "long_prefill_token_threshold_adaptive": rng.random() < 0.3,
        "prefill_schedule_interval": rng.choice([1, 1, 1, 2, 5, 50]),
    }


def _tighten(rng: random.Random, config: Json, workload: list[Json]) -> None:
    """Make what seldom meets by chance meet in some configurations with chunked prefill."""
    kind = rng.random()
    if kind < 0.1 and config["max_num_seqs"] > 2:
        # More may run than the budget has tokens for.
        config["max_num_scheduled_tokens"] = 2
        config["prefill_schedule_interval"] = rng.choice([2, 5, 50])
    elif kind < 0.3:
        # Several prompts are computed at a time, and somebody has to make room for somebody else in the middle of them.
        blocks = [-(-(len(line["prompt"]) + line["max_tokens"]) // config["block_size"]) for line in workload]
        config |= {
            "num_gpu_blocks": 1 + max(blocks),
            "max_num_seqs": 16,
            "max_num_batched_tokens": rng.choice([16, 24]),
            "max_num_scheduled_tokens": None,
            "max_num_active_seqs": None,
            "scheduler_reserve_full_isl": False,
            "watermark": 0.0,
            "long_prefill_token_threshold": min(rng.choice([3, 7]), config["max_model_len"]),
            "long_prefill_token_threshold_adaptive": False,
            "prefill_schedule_interval": 1,
        }


def _resets(rng: random.Random, workload: list[Json]) -> list[tuple[int, bool]]:
    if rng.random() < 0.5:
        return []
    last_step = 30 + max(request["arrive_step"] for request in workload)
    preempts = rng.choice([0.0, 0.5, 1.0])
    return [(step, rng.random() < preempts) for step in sorted(rng.choices(range(last_step), k=6))]


def _pauses(rng: random.Random, workload: list[Json]) -> list[tuple[int, Pause]]:
    """Draw pauses for a few cases; the last one ends."""
    if rng.random() < 0.7:
        return []
    last_step = 30 + max(request["arrive_step"] for request in workload)
    steps = sorted(rng.choices(range(last_step), k=5))
    scopes: list[Pause] = ["none", "new", "all"]
    return [*((step, rng.choice(scopes)) for step in steps), (last_step, "none")]


class _Workload:
    """Draws requests that share prefixes with each other in all the ways that prompts do."""

    def __init__(self, rng: random.Random, block_size: int, segment_tokens: int | None) -> None:
        hides_tokens = segment_tokens is not None
        self._rng = rng
        self._block_size = block_size
        self._longest_piece = min(10 * block_size, 160)
        self._longest_answer = rng.choice([1, 12, 40, 80])
        self._shared_unit = segment_tokens or 1
        self._unique_tokens = count() if hides_tokens else None
        self._system_prompts = [self._tokens(self._length()) for _ in range(3)]
        self._earlier: list[Json] = []
        self._may_abort, self._may_skip = rng.random() < 0.6, rng.random() < 0.3
        self._may_salt, self._may_stop = (rng.random() < 0.6 and not hides_tokens for _ in range(2))
        self._may_end, self._may_adapt = (rng.random() < 0.3 and not hides_tokens for _ in range(2))

    def requests(self, num_requests: int) -> list[Json]:
        rng = self._rng
        gap = rng.choice([1, 3, 8, 25])
        step = 0
        for number in range(num_requests):
            step += rng.randrange(gap)
            request: Json = {
                "id": f"r{number}",
                "arrive_step": step,
                "prompt": self._prompt(),
                "max_tokens": rng.randrange(1, self._longest_answer + 1),
                "priority": rng.randrange(3),
            }
            request["outputs"] = self._answer(request["max_tokens"])
            self._earlier.append(request | self._oddities(step))
        # The order of the list decides only between arrivals in the same iteration.
        rng.shuffle(self._earlier)
        return self._earlier

    def _oddities(self, step: int) -> Json:
        rng = self._rng
        oddities: Json = {}
        if self._may_abort and rng.random() < 0.15:
            abort_step = step + rng.randrange(60)
            oddities["abort_steps"] = rng.choice(
                [[abort_step], [abort_step, abort_step], [abort_step, abort_step + 3]]
            )
        if self._may_salt and rng.random() < 0.3:
            oddities["cache_salt"] = rng.choice(["one", "two"])
        if self._may_stop and rng.random() < 0.4:
            oddities["stop_token_ids"] = rng.sample(range(VOCABULARY), 2)
        if self._may_end and rng.random() < 0.5:
            oddities["eos_token_id"] = END_OF_SEQUENCE
        if self._may_skip and rng.random() < 0.2:
            oddities["skip_reading_prefix_cache"] = True
        if self._may_adapt and rng.random() < 0.4:
            oddities["lora"] = rng.choice(["poet", "painter"])
        return oddities

    def _prompt(self) -> list[int]:
        rng = self._rng
        kind = rng.choice(["new", "system", "system", "duplicate", "next turn", "whole blocks", "token"])
        earlier = rng.choice(self._earlier) if self._earlier else None
        if earlier is not None and kind == "duplicate":
            return list(earlier["prompt"])
        if earlier is not None and kind == "next turn" and len(earlier["prompt"]) < 2 * self._longest_piece:
            answer = earlier["outputs"] if self._unique_tokens is None else []
            return [*self._shared(earlier["prompt"]), *answer, *self._tokens(rng.randrange(1, 20))]
        if kind == "token":
            return self._tokens(1)
        if kind == "new":
            return self._tokens(self._length())
        system = rng.choice(self._system_prompts)
        if kind == "whole blocks":
            num_blocks = max(1, len(system) // self._block_size)
            shared = self._shared(system[: num_blocks * self._block_size])
            return shared + self._tokens(num_blocks * self._block_size - len(shared))
        shared = self._shared(system[: rng.randrange(len(system) + 1)])
        return shared + self._tokens(rng.randrange(1, 30))

    def _shared(self, token_ids: list[int]) -> list[int]:
        return token_ids[: len(token_ids) // self._shared_unit * self._shared_unit]

    def _answer(self, max_tokens: int) -> list[int]:
        # Fewer outputs than tokens: the model then samples token 0.
        may_be_short = self._unique_tokens is None
        return self._tokens(max_tokens - self._rng.choice([0, 0, 0, int(may_be_short)]))

    def _length(self) -> int:
        return self._rng.randrange(1, self._longest_piece + 1)

    def _tokens(self, length: int) -> list[int]:
        if self._unique_tokens is not None:
            return list(islice(self._unique_tokens, length))
        return [self._rng.randrange(VOCABULARY) for _ in range(length)]
