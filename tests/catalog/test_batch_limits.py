"""The limits of a step are those that `vllm serve` 0.33 chooses, and what vLLM refuses is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.catalog import BatchLimits, default_batch_limits, known_gpus, load_gpu
from understudy.errors import UsageError

LARGE, MIDDLE, SMALL = (16384, 1024), (8192, 1024), (2048, 256)

DEFAULTS = {
    "a100-40gb": SMALL,
    "a100-80gb": SMALL,
    "a10g": SMALL,
    "b200": LARGE,
    "h100": MIDDLE,
    "h200": MIDDLE,
    "l4": SMALL,
    "l40s": SMALL,
    "rtx-4090": SMALL,
    "rtx-pro-6000": MIDDLE,
}
"""vLLM 0.33, `vllm serve`: from 160 GiB on, from 70 GiB on except for A100, below."""


def _limits(gpu: str, *, max_model_len: int = 4096, **chosen: Any) -> tuple[int, int]:
    limits = default_batch_limits(load_gpu(gpu), max_model_len=max_model_len, **chosen)
    return limits.max_num_batched_tokens, limits.max_num_seqs


def test_each_gpu_has_the_defaults_of_vllm() -> None:
    """By its memory, and by its name where that is A100."""
    assert {gpu: _limits(gpu) for gpu in known_gpus()} == DEFAULTS


@given(
    gpu=st.sampled_from(sorted(known_gpus())),
    tokens=st.none() | st.integers(4096, 9000),
    seqs=st.none() | st.integers(64, 512),
)
def test_throughput_doubles_what_was_not_chosen(gpu: str, tokens: int | None, seqs: int | None) -> None:
    """As vLLM's --performance-mode does; interactivity changes nothing here."""
    chosen: dict[str, Any] = {"max_num_batched_tokens": tokens, "max_num_seqs": seqs}
    usual, throughput = DEFAULTS[gpu], _limits(gpu, **chosen, performance_mode="throughput")
    assert throughput == (tokens or 2 * usual[0], seqs or min(2 * usual[1], throughput[0]))
    assert _limits(gpu, **chosen, performance_mode="interactivity") == _limits(gpu, **chosen)


def test_fewer_tokens_alone_mean_fewer_sequences() -> None:
    """As in vLLM, 512 tokens alone leave 512 sequences on an H100."""
    assert _limits("h100", max_num_batched_tokens=512) == (512, 512)


def test_no_step_has_more_tokens_than_all_sequences_together() -> None:
    """A single short sequence cannot fill the default."""
    assert _limits("h100", max_model_len=100, max_num_seqs=2) == (200, 2)


def test_without_chunked_prefill_the_longest_prompt_fits_a_step() -> None:
    """The default is raised to the longest prompt; fewer tokens that were set are refused."""
    gpu = load_gpu("l4")
    assert default_batch_limits(gpu, max_model_len=4096, enable_chunked_prefill=False) == BatchLimits(
        max_num_batched_tokens=4096, max_num_seqs=256
    )
    with pytest.raises(UsageError, match="--enable-chunked-prefill"):
        default_batch_limits(
            gpu, max_model_len=4096, enable_chunked_prefill=False, max_num_batched_tokens=2048
        )


def test_more_sequences_than_tokens_are_refused() -> None:
    """The error names both flags."""
    with pytest.raises(UsageError, match=r"--max-num-batched-tokens .* --max-num-seqs"):
        _limits("h100", max_num_batched_tokens=8, max_num_seqs=9)


@pytest.mark.parametrize("name", ["max_model_len", "max_num_batched_tokens", "max_num_seqs"])
def test_nothing_may_be_zero(name: str) -> None:
    """Zero is not taken for unset."""
    with pytest.raises(UsageError, match=f"{name} must be at least 1, got 0"):
        _limits("h100", **{name: 0})


positive = st.integers(1, 100_000)


@given(
    gpu=st.sampled_from(known_gpus()),
    max_model_len=positive,
    tokens=st.none() | positive,
    seqs=st.none() | positive,
    chunked=st.booleans(),
)
def test_what_was_set_is_kept_and_what_was_not_is_valid(
    gpu: str, max_model_len: int, tokens: int | None, seqs: int | None, *, chunked: bool
) -> None:
    """A step has room for one token of each sequence and, without chunked prefill, for the longest prompt."""
    try:
        limits = default_batch_limits(
            load_gpu(gpu),
            max_model_len=max_model_len,
            enable_chunked_prefill=chunked,
            max_num_batched_tokens=tokens,
            max_num_seqs=seqs,
        )
    except UsageError:
        assert tokens is not None or seqs is not None
        return
    assert tokens in {None, limits.max_num_batched_tokens}
    assert seqs in {None, limits.max_num_seqs}
    assert limits.max_num_seqs <= limits.max_num_batched_tokens
    assert chunked or max_model_len <= limits.max_num_batched_tokens
