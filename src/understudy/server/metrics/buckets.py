"""Bucket bounds of vLLM's histograms, by family, and what `--custom-histogram-buckets` may put in their place.

(vllm/v1/metrics/buckets.py and vllm/config/observability.py, 0.33.0)
"""

import math
from collections.abc import Mapping, Sequence
from itertools import count, pairwise, takewhile

from understudy.errors import UsageError

FIXED_BUCKETS: Mapping[str, tuple[float, ...]] = {
    "request_latency": (
        *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
        *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
    ),
    "time_to_first_token": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
        *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
    ),
    "inter_token_latency": (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
        *(10.0, 20.0, 40.0, 80.0),
    ),
    "iteration_tokens": (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "request_params_n": (1, 2, 5, 10, 20),
    "request_num_preemptions": (1, 2, 3, 4, 5, 10, 20),
    "kv_cache_residency": (
        *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60),
        *(120, 300, 600, 1200, 1800),
    ),
}
"""The families whose default bounds depend on nothing; seconds or counts."""

BUCKET_FAMILIES: frozenset[str] = frozenset({*FIXED_BUCKETS, "request_tokens"})
"""Every name that `--custom-histogram-buckets` takes."""


def one_two_five(max_value: int) -> tuple[int, ...]:
    """Return 1, 2, 5, 10, 20, 50, ... up to `max_value`."""
    series = (mantissa * 10**exponent for exponent in count() for mantissa in (1, 2, 5))
    return tuple(takewhile(lambda bound: bound <= max_value, series))


def histogram_buckets(
    max_model_len: int, custom: Mapping[str, Sequence[float]] | None = None
) -> Mapping[str, tuple[float, ...]]:
    """Return the bounds of every family; those of token counts end at `max_model_len`, those in `custom` are taken whole.

    `custom` has passed `check_custom_buckets`.
    """
    replaced = {family: tuple(bounds) for family, bounds in (custom or {}).items()}
    return {**FIXED_BUCKETS, "request_tokens": one_two_five(max_model_len), **replaced}


def check_custom_buckets(custom: Mapping[str, object]) -> Mapping[str, tuple[float, ...]]:
    """Return the families of `--custom-histogram-buckets` with their bounds as floats.

    Raises UsageError, in vLLM's words, where vLLM refuses to start.
    """
    return {family: _checked_bounds(family, bounds) for family, bounds in custom.items()}


def _checked_bounds(family: str, bounds: object) -> tuple[float, ...]:
    if family not in BUCKET_FAMILIES:
        raise UsageError(
            f"custom_histogram_buckets: unknown bucket family {family!r}; known families: {sorted(BUCKET_FAMILIES)}"
        )
    where = f"custom_histogram_buckets[{family!r}]"
    if not isinstance(bounds, list):
        raise UsageError(f"{where}: must be a list of numbers, got {bounds!r}")
    for bound in bounds:
        if isinstance(bound, bool):
            raise UsageError(f"{where}: bound {bound!r} must be a number, not a boolean")
        if not isinstance(bound, int | float):
            raise UsageError(f"{where}: bound {bound!r} must be a number")
    if not bounds:
        raise UsageError(f"{where}: bucket list must not be empty")
    checked = [float(bound) for bound in bounds]
    for number in checked:
        if not math.isfinite(number) or number <= 0:
            raise UsageError(f"{where}: bound {number!r} must be finite and greater than 0")
    if any(lower >= upper for lower, upper in pairwise(checked)):
        raise UsageError(f"{where}: bounds {checked} must be strictly increasing")
    return tuple(checked)
