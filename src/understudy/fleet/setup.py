"""From what a user chose (model, GPU, vLLM's engine flags) to an engine's configuration and its latency."""

from dataclasses import dataclass, fields

from understudy.catalog import (
    BatchLimits,
    Capacity,
    Gpu,
    LinearConstants,
    Model,
    PerformanceMode,
    capacity,
    check_context_fits,
    default_batch_limits,
    derived_linear,
    load_gpu,
    load_model,
    load_preset,
    longest_that_fits,
)
from understudy.engine import EngineConfig
from understudy.fleet.choices import AUTO_MAX_MODEL_LEN, EngineChoices, LatencyChoices, MemoryChoices
from understudy.latency import LinearLatency


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
    latency: LinearLatency
    latency_source: str
    notes: tuple[str, ...]


def memory_of(
    model_name: str,
    gpu_name: str,
    choices: MemoryChoices,
    performance_mode: PerformanceMode = "balanced",
) -> MemoryPlan:
    """Return what the GPU's memory is spent on.

    Raises UsageError for unknown names and for what vLLM refuses, InputError for a model file that cannot be read
    or a model that does not fit.
    """
    model, gpu = load_model(model_name), load_gpu(gpu_name)
    is_auto = choices.max_model_len == AUTO_MAX_MODEL_LEN
    max_model_len = choices.max_model_len
    if max_model_len is None or is_auto:
        max_model_len = model.default_max_model_len
    limits = default_batch_limits(
        gpu,
        max_model_len=max_model_len,
        enable_chunked_prefill=choices.enable_chunked_prefill,
        max_num_batched_tokens=choices.max_num_batched_tokens,
        max_num_seqs=choices.max_num_seqs,
        performance_mode=performance_mode,
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
    longest = longest_that_fits(memory.num_gpu_blocks, choices.block_size)
    if is_auto and longest > 0:
        max_model_len = min(max_model_len, longest)
    return MemoryPlan(model=model, gpu=gpu, max_model_len=max_model_len, limits=limits, capacity=memory)


def engine_setup(
    model_name: str,
    gpu_name: str,
    choices: EngineChoices,
    latency: LatencyChoices,
    performance_mode: PerformanceMode = "balanced",
) -> EngineSetup:
    """Resolve a user's choices as `vllm serve` would at start; raises as `memory_of`, and where no request fits."""
    plan = memory_of(model_name, gpu_name, choices, performance_mode)
    model, gpu, max_model_len, memory = plan.model, plan.gpu, plan.max_model_len, plan.capacity
    check_context_fits(memory.num_gpu_blocks, choices.block_size, max_model_len)
    names = {field.name for field in fields(EngineConfig)} & {field.name for field in fields(choices)}
    resolved = {
        "num_gpu_blocks": memory.num_gpu_blocks,
        "max_model_len": max_model_len,
        "max_num_seqs": plan.limits.max_num_seqs,
        "max_num_batched_tokens": plan.limits.max_num_batched_tokens,
    }
    config = EngineConfig(**({name: getattr(choices, name) for name in names} | resolved))
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
        latency=constants,
        latency_source=source,
        notes=tuple(notes),
    )


def _latency_constants(
    model: Model, gpu: Gpu, tensor_parallel_size: int, choices: LatencyChoices
) -> tuple[LinearLatency, str]:
    preset = load_preset(model.name, gpu.name) if tensor_parallel_size == 1 else None
    base: LinearConstants = preset or derived_linear(model, gpu, tensor_parallel_size)
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
