"""LinearConstants: the prices of the linear latency model, and where they come from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearConstants:
    """Seconds for a prefill, cached or not, for each block of `block_size` tokens, and for each decode step."""

    prefill_base_seconds: float
    prefill_cached_seconds: float
    prefill_seconds_per_block: float
    decode_seconds_per_step: float
    block_size: int
    source: str
