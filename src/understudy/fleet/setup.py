"""From what a user chose (model, GPU, vLLM's engine flags) to an engine's configuration and its latency."""

from dataclasses import dataclass

from understudy.catalog import (
    BatchLimits,
    Capacity,
    Gpu,
    LinearConstants,
    Model,
    capacity,
    check_context_fits,
    default_batch_limits,
    derived_linear,
    load_gpu,
    load_model,
    load_preset,
)
from understudy.engine import EngineConfig
from understudy.engine.config import HashAlgorithm, SchedulingPolicy
from understudy.latency import LatencyModel, LinearLatency


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoices:
    """vLLM's engine flags; None means vLLM's default for the model and the GPU."""

    max_model_len: int | None = None
    """The longest context, prompt and answer together. [default: the model's]"""
    block_size: int = 16
    """Tokens in a block of the KV cache."""
    num_gpu_blocks_override: int | None = None
    """Number of blocks, whatever the memory. [default: what the memory holds]"""
    gpu_memory_utilization: float = 0.92
    """The share of the GPU's memory that vLLM may use."""
    kv_cache_memory_bytes: int | None = None
    """Size of the KV cache, in place of what gpu_memory_utilization leaves."""
    kv_cache_dtype: str = "auto"
    """Type of the cached keys and values: auto, bfloat16, float16, fp8, ..."""
    tensor_parallel_size: int = 1
    """GPUs that share each layer."""
    pipeline_parallel_size: int = 1
    """Stages that share the layers; counts for the memory only."""
    max_num_seqs: int | None = None
    """Sequences in a step. [default: vLLM's for the GPU]"""
    max_num_batched_tokens: int | None = None
    """Tokens in a step. [default: vLLM's for the GPU]"""
    max_num_scheduled_tokens: int | None = None
    """Tokens that the scheduler may plan for a step. [default: max_num_batched_tokens]"""
    max_num_active_seqs: int | None = None
    """Sequences that may run at once. [default: max_num_seqs]"""
    enable_prefix_caching: bool = True
    """Share the blocks of equal prefixes."""
    prefix_caching_hash_algo: HashAlgorithm = "sha256"
    """How blocks are hashed."""
    enable_chunked_prefill: bool = True
    """Compute long prompts in several steps."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What a GPU's memory is spent on, and the choices that it follows from."""

    model: Model
    gpu: Gpu
    max_model_len: int
    limits: BatchLimits
    capacity: Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """An engine ready to be made, where its numbers come from, and what a user should know about them."""

    model: Model
    gpu: Gpu
    config: EngineConfig
    capacity: Capacity
    latency: LatencyModel
    latency_source: str
    notes: tuple[str, ...]


def memory_of(model_name: str, gpu_name: str, choices: EngineChoices) -> MemoryPlan:
    """Return what the GPU's memory is spent on.

    Raises UsageError for unknown names and for what vLLM refuses, InputError for a model file that cannot be read
    or a model that does not fit.
    """
    model, gpu = load_model(model_name), load_gpu(gpu_name)
    max_model_len = model.max_position_embeddings if choices.max_model_len is None else choices.max_model_len
    limits = default_batch_limits(
        gpu,
        max_model_len=max_model_len,
        enable_chunked_prefill=choices.enable_chunked_prefill,
        max_num_batched_tokens=choices.max_num_batched_tokens,
        max_num_seqs=choices.max_num_seqs,
    )
    memory = capacity(
        model,
        gpu,
        gpu_memory_utilization=choices.gpu_memory_utilization,
        block_size=choices.block_size,
        tensor_parallel_size=choices.tensor_parallel_size,
        pipeline_parallel_size=choices.pipeline_parallel_size,
        kv_cache_dtype=choices.kv_cache_dtype,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_num_seqs=limits.max_num_seqs,
        kv_cache_memory_bytes=choices.kv_cache_memory_bytes,
        num_gpu_blocks_override=choices.num_gpu_blocks_override,
    )
    return MemoryPlan(model=model, gpu=gpu, max_model_len=max_model_len, limits=limits, capacity=memory)


def engine_setup(
    model_name: str, gpu_name: str, choices: EngineChoices, latency: LatencyChoices
) -> EngineSetup:
    """Resolve a user's choices as `vllm serve` would at start; raises as `memory_of`, and where no request fits."""
    plan = memory_of(model_name, gpu_name, choices)
    model, gpu, max_model_len, memory = plan.model, plan.gpu, plan.max_model_len, plan.capacity
    check_context_fits(memory.num_gpu_blocks, choices.block_size, max_model_len)
    config = EngineConfig(
        num_gpu_blocks=memory.num_gpu_blocks,
        max_model_len=max_model_len,
        block_size=choices.block_size,
        max_num_seqs=plan.limits.max_num_seqs,
        max_num_batched_tokens=plan.limits.max_num_batched_tokens,
        max_num_scheduled_tokens=choices.max_num_scheduled_tokens,
        max_num_active_seqs=choices.max_num_active_seqs,
        enable_prefix_caching=choices.enable_prefix_caching,
        prefix_caching_hash_algo=choices.prefix_caching_hash_algo,
        enable_chunked_prefill=choices.enable_chunked_prefill,
        scheduling_policy=choices.scheduling_policy,
        async_scheduling=choices.async_scheduling,
        watermark=choices.watermark,
        scheduler_reserve_full_isl=choices.scheduler_reserve_full_isl,
        long_prefill_token_threshold=choices.long_prefill_token_threshold,
        long_prefill_token_threshold_adaptive=choices.long_prefill_token_threshold_adaptive,
        prefill_schedule_interval=choices.prefill_schedule_interval,
    )
    notes = list(memory.notes)
    if max_model_len > model.max_position_embeddings:
        notes.append(
            f"max_model_len {max_model_len} is beyond the {model.max_position_embeddings} tokens of {model.name}; "
            "vLLM takes it only with VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."
        )
    constants, source = _latency_constants(model, gpu, choices.tensor_parallel_size, latency)
    return EngineSetup(
        model=model,
        gpu=gpu,
        config=config,
        capacity=memory,
        latency=constants,
        latency_source=source,
        notes=tuple(notes),
    )


def _latency_constants(
    model: Model, gpu: Gpu, tensor_parallel_size: int, choices: LatencyChoices
) -> tuple[LinearLatency, str]:
    preset = load_preset(model.name, gpu.name) if tensor_parallel_size == 1 else None
    base: LinearConstants = preset.latency if preset else derived_linear(model, gpu, tensor_parallel_size)
    chosen = {
        name: getattr(choices, name)
        for name in LatencyChoices.__dataclass_fields__
        if getattr(choices, name) is not None
    }
    latency = LinearLatency(
        **{name: chosen.get(name, getattr(base, name)) for name in LatencyChoices.__dataclass_fields__},
        block_size=base.block_size,
    )
    source = base.source
    if chosen:
        source = f"{', '.join(chosen)} as given; else {source}"
    return latency, source
