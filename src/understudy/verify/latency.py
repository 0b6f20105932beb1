"""The linear latency model against its formula, worked out token by token in integers.

vLLM has no such formula: its steps take what its GPU takes. What is shown here is that the model computes what it says,
for every way to cut a prompt into chunks, not that it fits any GPU.
"""

import random
from dataclasses import dataclass

from understudy.latency import LinearLatency, PrefillChunk, StepShape
from understudy.verify.tally import Tallies

PROMPTS = 1_000
_NS_PER_SECOND = 1_000_000_000
_MOST_NS = 10 * _NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Prices:
    """All in nanoseconds."""

    base: int
    cached: int
    block: int
    decode: int


def compare_latency(seed: int) -> Tallies:
    """Price random prompts, cut into random chunks, and random decode steps."""
    rng = random.Random(f"latency {seed}")
    tallies = Tallies()
    for number in range(PROMPTS):
        prices = _Prices(*(rng.randrange(_MOST_NS) for _ in range(4)))
        block_size = rng.choice([1, 2, 8, 16, 32])
        model = LinearLatency(
            prefill_base_seconds=prices.base / _NS_PER_SECOND,
            prefill_cached_seconds=prices.cached / _NS_PER_SECOND,
            prefill_seconds_per_block=prices.block / _NS_PER_SECOND,
            decode_seconds_per_step=prices.decode / _NS_PER_SECOND,
            block_size=block_size,
        )
        _compare_prompt(tallies, rng, model, prices, f"prompt {number}")
        _compare_decodes(tallies, rng, model, prices, f"step {number}")
    return tallies


def _compare_prompt(
    tallies: Tallies, rng: random.Random, model: LinearLatency, prices: _Prices, where: str
) -> None:
    size = model.block_size
    prompt = rng.randint(1, 12 * size)
    cached = rng.randint(0, (prompt - 1) // size) * size
    cuts = sorted(rng.sample(range(cached + 1, prompt), rng.randint(0, min(3, prompt - cached - 1))))
    total = 0
    for start, end in zip([cached, *cuts], [*cuts, prompt], strict=True):
        expected = prices.block * _full_blocks_ending_in(start, end, size)
        if start == cached:
            expected += prices.cached if cached and prompt - cached < size else prices.base
        ours = model.step_ns(StepShape([PrefillChunk(end - start, start, cached, prompt)], 0, 0))
        tallies.compare(
            "prefill_latency",
            f"{where}, tokens {start} to {end} of {prompt}, {cached} cached",
            expected,
            ours,
        )
        total += ours
    all_full_blocks_cached = cached > 0 and _full_blocks_ending_in(cached, prompt, size) == 0
    expected_total = prices.cached if all_full_blocks_cached else prices.base
    expected_total += prices.block * _full_blocks_ending_in(cached, prompt, size)
    tallies.compare("prefill_latency", f"{where}, {prompt} tokens, {cached} cached", expected_total, total)


def _full_blocks_ending_in(start: int, end: int, block_size: int) -> int:
    """Count, token by token, the blocks that tokens `start` to `end` (exclusive) complete."""
    return sum((token + 1) % block_size == 0 for token in range(start, end))


def _compare_decodes(
    tallies: Tallies, rng: random.Random, model: LinearLatency, prices: _Prices, where: str
) -> None:
    num_decodes, context = rng.choice([0, 1, 2, 64, 1024]), rng.randrange(100_000)
    expected = prices.decode if num_decodes else 0
    ours = model.step_ns(StepShape((), num_decodes, context))
    tallies.compare("decode_latency", f"{where}, {num_decodes} sequences", expected, ours)
    if num_decodes:
        count = rng.randint(1, 20)
        tallies.compare(
            "decode_latency",
            f"{where}, {count} steps of {num_decodes} sequences",
            [prices.decode] * count,
            model.decode_steps_ns(num_decodes, context, count),
        )
