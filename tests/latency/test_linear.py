"""Laws of the linear model: the price of a prompt does not depend on how it is cut, nor that of decoding on who decodes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.latency import LinearLatency, PrefillChunk, StepShape

MS = 1_000_000
PRICES: dict[str, Any] = {
    "prefill_base_seconds": 0.005,
    "prefill_cached_seconds": 0.0005,
    "prefill_seconds_per_block": 0.0025,
    "decode_seconds_per_step": 0.015,
}
LATENCY = LinearLatency(**PRICES)
"""Prices of Llama-2-13B on an A100 40 GB: 5.0 ms a prefill and 2.5 ms a block, 0.5 ms when all is cached, 15.0 ms a decode."""

PROMPTS = st.tuples(st.integers(0, 40), st.integers(1, 700)).map(
    # The cache holds whole blocks, and never all of a prompt.
    lambda draw: (16 * draw[0], 16 * draw[0] + draw[1])
)


def _prefill_ns(cached_tokens: int, prompt_tokens: int, cuts: list[int]) -> int:
    """Price a prefill in chunks that end at the cuts."""
    total = 0
    start = cached_tokens
    for end in [*cuts, prompt_tokens]:
        chunk = PrefillChunk(end - start, start, cached_tokens, prompt_tokens)
        total += LATENCY.step_ns(StepShape((chunk,), 0, 0))
        start = end
    return total


@given(prompt=PROMPTS, data=st.data())
def test_a_prompt_costs_the_same_however_it_is_cut(prompt: tuple[int, int], data: st.DataObject) -> None:
    """The base is paid once, and each full block once."""
    cached_tokens, prompt_tokens = prompt
    places = st.sets(st.integers(cached_tokens + 1, prompt_tokens - 1), max_size=6)
    cuts = sorted(data.draw(places)) if prompt_tokens - cached_tokens > 1 else []
    assert _prefill_ns(cached_tokens, prompt_tokens, cuts) == _prefill_ns(cached_tokens, prompt_tokens, [])


@given(prompt=PROMPTS)
def test_price_of_a_prompt(prompt: tuple[int, int]) -> None:
    """5 ms and 2.5 ms for each full block that is not cached; 0.5 ms if there is none but cached ones."""
    cached_tokens, prompt_tokens = prompt
    blocks = prompt_tokens // 16 - cached_tokens // 16
    base_ns = MS // 2 if cached_tokens and blocks == 0 else 5 * MS
    assert _prefill_ns(cached_tokens, prompt_tokens, []) == base_ns + blocks * 5 * MS // 2


@given(
    prompts=st.lists(PROMPTS, max_size=5),
    num_decodes=st.integers(0, 50),
    context_tokens=st.integers(0, 9_999),
)
def test_a_step_costs_the_sum_of_its_parts(
    prompts: list[tuple[int, int]], num_decodes: int, context_tokens: int
) -> None:
    """Prefills add up; decoding costs 15 ms however many do it, and nothing if nobody does."""
    chunks = [PrefillChunk(end - cached, cached, cached, end) for cached, end in prompts]
    decode_ns = 15 * MS if num_decodes else 0
    parts = sum(_prefill_ns(cached, end, []) for cached, end in prompts) + decode_ns
    assert LATENCY.step_ns(StepShape(chunks, num_decodes, context_tokens)) == parts


@given(num_decodes=st.integers(1, 300), context_tokens=st.integers(0, 10**6), count=st.integers(0, 100))
def test_many_decode_steps_cost_as_much_as_single_ones(
    num_decodes: int, context_tokens: int, count: int
) -> None:
    """Each later step has one token more for each sequence."""
    single = [
        LATENCY.step_ns(StepShape((), num_decodes, context_tokens + i * num_decodes)) for i in range(count)
    ]
    assert list(LATENCY.decode_steps_ns(num_decodes, context_tokens, count)) == single


@pytest.mark.parametrize("name", PRICES)
@pytest.mark.parametrize("price", [-0.001, float("inf"), float("nan")])
def test_refuses_impossible_prices(name: str, price: float) -> None:
    """The message names the price and its value."""
    with pytest.raises(UsageError, match=f"{name} .* got {price}"):
        LinearLatency(**PRICES | {name: price})


@pytest.mark.parametrize("block_size", [0, -16])
def test_refuses_impossible_block_sizes(block_size: int) -> None:
    """A block holds at least one token."""
    with pytest.raises(UsageError, match=f"block size must be at least 1, got {block_size}"):
        LinearLatency(**PRICES, block_size=block_size)
