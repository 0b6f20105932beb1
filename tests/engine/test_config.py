"""EngineConfig refuses what vLLM refuses, and says which option is wrong and what it may be."""

from typing import Any

import pytest

from understudy.engine import EngineConfig
from understudy.errors import UsageError

SMALLEST: dict[str, Any] = {
    "num_gpu_blocks": 2,
    "max_model_len": 16,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 16,
}


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("num_gpu_blocks", 1),
        ("max_model_len", 1),
        ("block_size", 1),
        ("max_num_seqs", 1),
        ("max_num_batched_tokens", 1),
        ("max_num_scheduled_tokens", 1),
        ("max_num_active_seqs", 1),
        ("long_prefill_token_threshold", 0),
        ("prefill_schedule_interval", 1),
    ],
)
def test_numbers_have_a_least_value(name: str, least: int) -> None:
    """The least value is accepted, the one below is not."""
    others = {"max_num_seqs": 1} if name == "max_num_batched_tokens" else {}
    config = SMALLEST | others
    assert getattr(EngineConfig(**config | {name: least}), name) == least
    with pytest.raises(UsageError, match=f"^{name} must be at least {least}, got {least - 1}$"):
        EngineConfig(**config | {name: least - 1})


@pytest.mark.parametrize("watermark", [-0.1, 1.0, float("nan")])
def test_watermark_is_a_fraction(watermark: float) -> None:
    """All of the cache cannot be kept free."""
    with pytest.raises(UsageError, match=f"^watermark must be at least 0 and below 1, got {watermark}$"):
        EngineConfig(**SMALLEST, watermark=watermark)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("scheduling_policy", "fcfs, priority"),
        ("prefix_caching_hash_algo", "sha256, sha256_cbor, xxhash, xxhash_cbor"),
    ],
)
def test_names_are_known(name: str, known: str) -> None:
    """The message lists what there is."""
    config = SMALLEST | {name: "lifo"}
    with pytest.raises(UsageError, match=f"^{name} must be one of {known}, got lifo$"):
        EngineConfig(**config)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"max_num_seqs": 17}, ("max_num_batched_tokens (16)", "max_num_seqs (17)")),
        (
            {"max_model_len": 17, "enable_chunked_prefill": False},
            ("max_num_batched_tokens (16)", "max_model_len (17)", "chunked prefill"),
        ),
        ({"long_prefill_token_threshold": 17}, ("long_prefill_token_threshold (17)", "max_model_len (16)")),
        ({"max_num_active_seqs": 5}, ("max_num_active_seqs (5)", "max_num_seqs (4)")),
        ({"max_num_scheduled_tokens": 17}, ("max_num_scheduled_tokens (17)", "max_num_batched_tokens (16)")),
    ],
)
def test_options_must_agree(options: dict[str, Any], names: tuple[str, ...]) -> None:
    """The message names both options and their values; one less is accepted."""
    config = SMALLEST | options
    with pytest.raises(UsageError) as refusal:
        EngineConfig(**config)
    assert all(name in str(refusal.value) for name in names)
    (changed,) = (name for name, value in options.items() if value is not False)
    EngineConfig(**config | {changed: options[changed] - 1})


def test_limits_of_a_step() -> None:
    """The narrower options, where they are given, decide."""
    config = EngineConfig(**SMALLEST)
    assert (config.token_budget, config.active_seqs_limit) == (16, 4)
    config = EngineConfig(**SMALLEST, max_num_scheduled_tokens=7, max_num_active_seqs=3)
    assert (config.token_budget, config.active_seqs_limit) == (7, 3)
    assert EngineConfig(**SMALLEST, async_scheduling=True).pipeline_depth == 2
    assert EngineConfig(**SMALLEST, async_scheduling=False).pipeline_depth == 1
