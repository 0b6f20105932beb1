"""The linear model: a price for each block to compute and for each decode step."""

from dataclasses import dataclass

from understudy.errors import UsageError
from understudy.latency.shape import PrefillChunk, StepShape

MAX_PRICE_SECONDS = 1_000_000

_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLatency:
    """Prefill `prefill_base + prefill_per_block x blocks to compute`, decode `decode_per_step`; all in seconds.

    A request whose full blocks are all cached pays `prefill_cached` in place of the base. A prompt computed in
    several chunks pays the base once, with its first chunk, and each block with the chunk that completes it; a
    partial block at the end is free. A step costs the sum of its chunks, and the decode price if anything decodes,
    however many sequences do. Raises UsageError for negative prices.
    """

    prefill_base_seconds: float
    prefill_cached_seconds: float
    prefill_seconds_per_block: float
    decode_seconds_per_step: float
    block_size: int = 16

    def __post_init__(self) -> None:
        for name in (
            "prefill_base_seconds",
            "prefill_cached_seconds",
            "prefill_seconds_per_block",
            "decode_seconds_per_step",
        ):
            if not 0.0 <= getattr(self, name) <= MAX_PRICE_SECONDS:
                raise UsageError(
                    f"{name} must be a number of seconds from 0 to {MAX_PRICE_SECONDS:,}, got {getattr(self, name)}"
                )
        if self.block_size < 1:
            raise UsageError(f"the latency model's block size must be at least 1, got {self.block_size}")

    def step_ns(self, shape: StepShape) -> int:
        """Return how long a step takes: all its chunks, then the decodes."""
        total = sum(self._chunk_ns(chunk) for chunk in shape.prefills)
        if shape.num_decodes:
            total += _to_ns(self.decode_seconds_per_step)
        return total

    def decode_steps_ns(self, num_decodes: int, context_tokens: int, count: int) -> list[int]:
        """Return `count` equal durations: this model does not look at contexts."""
        return [self.step_ns(StepShape((), num_decodes, context_tokens))] * count

    def _chunk_ns(self, chunk: PrefillChunk) -> int:
        size = self.block_size
        end = chunk.context_tokens + chunk.new_tokens
        blocks = end // size - chunk.context_tokens // size
        cost = blocks * _to_ns(self.prefill_seconds_per_block)
        if chunk.context_tokens == chunk.cached_tokens:
            all_cached = (
                chunk.cached_tokens > 0 and chunk.prompt_tokens // size == chunk.cached_tokens // size
            )
            cost += _to_ns(self.prefill_cached_seconds if all_cached else self.prefill_base_seconds)
        return cost


def _to_ns(seconds: float) -> int:
    return round(seconds * _NS_PER_SECOND)
