"""What a user can choose about an engine, under vLLM's names and in its spellings; flags of the command line.

It knows what a flag is called and how its value is written, not what follows from it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter, Token

from understudy.engine.config import HashAlgorithm, SchedulingPolicy

AUTO_MAX_MODEL_LEN = -1
"""vLLM's number for a context that is as long as the KV cache has room for."""

_MULTIPLES: Mapping[str, int] = {
    suffix: base**power
    for base, suffixes in ((1000, "kmgt"), (1024, "KMGT"))
    for power, suffix in enumerate(suffixes, start=1)
}


def human_readable_int(text: str) -> int:
    """Return the number that vLLM reads: 8k is 8,000, 8K is 8,192, 25.6k is 25,600; likewise m and M, g and G, t and T.

    Raises ValueError.
    """
    match = re.fullmatch(r"(\d+)(\.\d+)?([kKmMgGtT])", text.strip())
    if match is None:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f'"{text}" is no whole number such as 8192, 8k (8,000) or 8K (8,192)') from None
    whole, fraction, suffix = match.groups()
    if fraction is None:
        return int(whole) * _MULTIPLES[suffix]
    if suffix.isupper():
        raise ValueError(f'"{text}": no fractions of {suffix}; {text.lower()} counts in powers of 1,000')
    return int(float(whole + fraction) * _MULTIPLES[suffix])


def _count(_type: Any, tokens: Sequence[Token]) -> int:
    return human_readable_int(tokens[0].value)


def _context(_type: Any, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    return AUTO_MAX_MODEL_LEN if text.strip().lower() == "auto" else human_readable_int(text)


def _without(name: str) -> Parameter:
    """Let `--enable-NAME` be switched off by vLLM's flag of today and that of its older versions."""
    return Parameter(negative=(f"--disable-{name}", f"--no-enable-{name}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChoices:
    """vLLM's flags that decide how many KV-cache blocks there are; None means its default for the model and the GPU."""

    max_model_len: Annotated[int | None, Parameter(converter=_context)] = None
    """The longest context, prompt and answer together; auto or -1: as long as the KV cache has room for, at most the
    model's. [default: the model's]"""
    block_size: int = 16
    """Tokens in a block of the KV cache."""
    num_gpu_blocks_override: int | None = None
    """Number of blocks, whatever the memory. [default: what the memory holds]"""
    gpu_memory_utilization: Annotated[float, Parameter(alias="--device-memory-utilization")] = 0.92
    """The share of the GPU's memory that vLLM may use."""
    kv_cache_memory_bytes: Annotated[int | None, Parameter(converter=_count)] = None
    """Size of the KV cache, in place of what gpu_memory_utilization leaves."""
    kv_cache_dtype: str = "auto"
    """Type of the cached keys and values: auto, bfloat16, float16, fp8, ..."""
    tensor_parallel_size: Annotated[int, Parameter(alias="-tp")] = 1
    """GPUs that share each layer."""
    pipeline_parallel_size: Annotated[int, Parameter(alias="-pp")] = 1
    """Stages that share the layers; counts for the memory only."""
    max_num_seqs: int | None = None
    """Sequences in a step. [default: vLLM's for the GPU]"""
    max_num_batched_tokens: Annotated[int | None, Parameter(converter=_count)] = None
    """Tokens in a step. [default: vLLM's for the GPU]"""
    enable_chunked_prefill: Annotated[bool, _without("chunked-prefill")] = True
    """Compute long prompts in several steps; without, a step has room for the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoices(MemoryChoices):
    """vLLM's engine flags; None means vLLM's default for the model and the GPU."""

    max_num_scheduled_tokens: Annotated[int | None, Parameter(converter=_count)] = None
    """Tokens that the scheduler may plan for a step. [default: max_num_batched_tokens]"""
    max_num_active_seqs: int | None = None
    """Sequences that may run at once. [default: max_num_seqs]"""
    enable_prefix_caching: Annotated[bool, _without("prefix-caching")] = True
    """Share the blocks of equal prefixes."""
    prefix_caching_hash_algo: HashAlgorithm = "sha256"
    """How blocks are hashed."""
    scheduling_policy: SchedulingPolicy = "fcfs"
    """First come, first served, or by each request's priority."""
    async_scheduling: bool = True
    """Decide a step while the one before it runs."""
    watermark: float = 0.0
    """The share of blocks to keep free when requests are admitted."""
    scheduler_reserve_full_isl: bool = True
    """Admit a request only if its whole prompt fits."""
    long_prefill_token_threshold: int = 0
    """Prompt tokens that one request may compute in a step; 0 means no limit."""
    long_prefill_token_threshold_adaptive: bool = False
    """Raise that limit while few requests share the step."""
    prefill_schedule_interval: int = 1
    """Steps from one that may compute prompts to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyChoices:
    """Constants of the linear model in seconds; None means those of the preset, or derived from the GPU."""

    prefill_base_seconds: float | None = None
    """For a prompt of which something must be computed. [default: the model's on the GPU]"""
    prefill_cached_seconds: float | None = None
    """In place of the base where all full blocks are cached. [default: the model's on the GPU]"""
    prefill_seconds_per_block: float | None = None
    """For each block of a prompt to compute. [default: the model's on the GPU]"""
    decode_seconds_per_step: float | None = None
    """For a step in which anything decodes. [default: the model's on the GPU]"""
