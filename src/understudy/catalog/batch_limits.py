"""How many tokens and sequences `vllm serve` puts into a step when the user does not say."""

from dataclasses import dataclass
from typing import Literal

from understudy.catalog.gpu import Gpu
from understudy.errors import UsageError

_GIB = 2**30
_GB10_COMPUTE_CAPABILITY = "12.1"


PerformanceMode = Literal["balanced", "interactivity", "throughput"]
"""vLLM's names; its batch limits differ for throughput only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The most tokens and the most sequences in one step."""

    max_num_batched_tokens: int
    max_num_seqs: int


def default_batch_limits(
    gpu: Gpu,
    *,
    max_model_len: int,
    enable_chunked_prefill: bool = True,
    max_num_batched_tokens: int | None = None,
    max_num_seqs: int | None = None,
    performance_mode: PerformanceMode = "balanced",
) -> BatchLimits:
    """Return the limits of `vllm serve` 0.33 on a CUDA GPU; those that the user set are kept as they are.

    Unset ones start from the GPU's memory, doubled for throughput, and are adjusted in vLLM's order: without chunked prefill the longest
    prompt must fit one step; no step holds more tokens than all sequences have; no step more sequences than
    tokens. Raises UsageError, with vLLM's flag names, for what vLLM refuses.
    """
    for name, value in (
        ("max_model_len", max_model_len),
        ("max_num_batched_tokens", max_num_batched_tokens),
        ("max_num_seqs", max_num_seqs),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    start = _start(gpu, 2 if performance_mode == "throughput" else 1)
    tokens, seqs = max_num_batched_tokens, max_num_seqs
    if tokens is None:
        tokens = start.max_num_batched_tokens
        if not enable_chunked_prefill:
            tokens = max(tokens, max_model_len)
        tokens = min(tokens, (seqs or start.max_num_seqs) * max_model_len)
    if seqs is None:
        seqs = min(start.max_num_seqs, tokens)
    _check(tokens, seqs, max_model_len, enable_chunked_prefill=enable_chunked_prefill)
    return BatchLimits(max_num_batched_tokens=tokens, max_num_seqs=seqs)


def _start(gpu: Gpu, factor: int) -> BatchLimits:
    if gpu.memory_bytes >= 160 * _GIB:
        return BatchLimits(max_num_batched_tokens=16384 * factor, max_num_seqs=1024 * factor)
    excluded = "a100" in gpu.vllm_device_name.lower() or gpu.compute_capability == _GB10_COMPUTE_CAPABILITY
    if gpu.memory_bytes >= 70 * _GIB and not excluded:
        return BatchLimits(max_num_batched_tokens=8192 * factor, max_num_seqs=1024 * factor)
    return BatchLimits(max_num_batched_tokens=2048 * factor, max_num_seqs=256 * factor)


def _check(tokens: int, seqs: int, max_model_len: int, *, enable_chunked_prefill: bool) -> None:
    if tokens < seqs:
        raise UsageError(
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs ({seqs}): "
            "raise --max-num-batched-tokens or lower --max-num-seqs"
        )
    if tokens < max_model_len and not enable_chunked_prefill:
        raise UsageError(
            f"max_num_batched_tokens ({tokens}) is smaller than max_model_len ({max_model_len}) and chunked prefill is "
            "off: raise --max-num-batched-tokens, lower --max-model-len or give --enable-chunked-prefill"
        )
