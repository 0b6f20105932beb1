"""Where every byte of a GPU goes when vLLM starts, and how many KV-cache blocks remain.

The bytes of a block are vLLM's, for full attention in all layers. What weights and overheads leave for blocks, vLLM
measures on the GPU at start-up; here it is arithmetic, with constants that are named and explained below.
"""

import math
from dataclasses import dataclass

from understudy.catalog.gpu import Gpu
from understudy.catalog.model import BYTES_PER_VALUE, Model
from understudy.errors import InputError, UsageError, unknown_name

CONTEXT_BYTES = 500 * 2**20
"""CUDA context, libraries and allocator slack on each GPU; fitted, see `capacity`."""

CUDA_GRAPH_BYTES_PER_LAYER = 15 * 2**20
"""CUDA graphs of all captured batch sizes; fitted, see `capacity`."""

_LOGIT_BYTES = 4
_KV_DTYPE_BYTES = {
    "auto": BYTES_PER_VALUE,
    "float16": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The memory of one GPU, term by term; with pipeline parallelism, of a GPU of the stage with most layers.

    `available_bytes = requested_bytes - weight_bytes - activation_bytes - cuda_graph_bytes - context_bytes`, unless
    kv_cache_memory_bytes was given, and `num_gpu_blocks = available_bytes // block_bytes`, unless
    num_gpu_blocks_override was; `notes` then say so. `num_gpu_blocks` counts vLLM's null block, which holds
    no tokens: `kv_cache_tokens = (num_gpu_blocks - 1) x block_size`, where vLLM's start-up log says a block more.
    """

    model: str
    model_source: str
    gpu: str
    gpu_source: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    gpu_memory_utilization: float
    total_bytes: int
    requested_bytes: int
    weight_bytes: int
    activation_bytes: int
    cuda_graph_bytes: int
    context_bytes: int
    available_bytes: int
    num_layers: int
    block_size: int
    page_bytes: int
    block_bytes: int
    num_gpu_blocks: int
    kv_cache_tokens: int
    notes: tuple[str, ...]


def capacity(
    model: Model,
    gpu: Gpu,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    gpu_memory_utilization: float = 0.92,
    block_size: int = 16,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    kv_cache_dtype: str = "auto",
    kv_cache_memory_bytes: int | None = None,
    num_gpu_blocks_override: int | None = None,
) -> Capacity:
    """Return how a GPU's memory is spent, and how many KV-cache blocks it holds.

    Approximations: weights are split evenly over all GPUs; the context takes CONTEXT_BYTES and CUDA graphs
    CUDA_GRAPH_BYTES_PER_LAYER a layer; the activation peak is the larger of the forward pass, with
    `2 x hidden + 3 x feed-forward width of this GPU` values for each of max_num_batched_tokens, and of the sampler,
    with a float32 logit for each of max_num_seqs and the vocabulary. The two constants are fitted so that the
    preset of Llama-2-13B on an A100 40 GB has its 924 blocks, and Llama-3.1-8B on an RTX 4090 (vLLM 0.19,
    gpu_memory_utilization 0.9, 2,048 batched tokens, 256 sequences; published by LLMServingSim) its measured 2,588.

    Bytes of a block (vLLM 0.33): for each layer, `block_size x values that a token caches x bytes of a value`. With
    latent attention that is the latent vector, the same on every tensor-parallel GPU; else keys and values of the
    heads that the GPU holds.

    Raises UsageError for arguments out of range, InputError if no block is left. kv_cache_memory_bytes and
    num_gpu_blocks_override are believed: whether so much memory is there is not checked.
    """
    _check_at_least_one(
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        block_size=block_size,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        num_gpu_blocks_override=num_gpu_blocks_override,
    )
    if not 0 < gpu_memory_utilization <= 1:
        raise UsageError(
            f"gpu_memory_utilization must be above 0 and at most 1, got {gpu_memory_utilization}"
        )
    if pipeline_parallel_size > model.num_hidden_layers:
        raise UsageError(
            f"pipeline_parallel_size ({pipeline_parallel_size}) must not exceed the {model.num_hidden_layers} layers"
        )
    model.attention.check_split(tensor_parallel_size)
    layers = math.ceil(model.num_hidden_layers / pipeline_parallel_size)
    requested_bytes = math.ceil(gpu.memory_bytes * gpu_memory_utilization)
    weight_bytes = -(-model.weight_bytes // (tensor_parallel_size * pipeline_parallel_size))
    activation_bytes = _activation_bytes(model, max_num_batched_tokens, max_num_seqs, tensor_parallel_size)
    cuda_graph_bytes = CUDA_GRAPH_BYTES_PER_LAYER * layers
    available_bytes = requested_bytes - weight_bytes - activation_bytes - cuda_graph_bytes - CONTEXT_BYTES
    notes = list(model.notes)
    if kv_cache_memory_bytes is not None:
        available_bytes = kv_cache_memory_bytes
        notes.append(
            "kv_cache_memory_bytes sets the size of the KV cache, whatever gpu_memory_utilization says."
        )
    page_bytes = (
        block_size
        * model.attention.cached_values_per_token(tensor_parallel_size)
        * _value_bytes(kv_cache_dtype)
    )
    block_bytes = page_bytes * layers
    num_gpu_blocks = available_bytes // block_bytes
    if num_gpu_blocks_override is not None:
        num_gpu_blocks = num_gpu_blocks_override
        notes.append("num_gpu_blocks_override sets the number of blocks, whatever the memory holds.")
    result = Capacity(
        model=model.name,
        model_source=model.source,
        gpu=gpu.name,
        gpu_source=gpu.source,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
        total_bytes=gpu.memory_bytes,
        requested_bytes=requested_bytes,
        weight_bytes=weight_bytes,
        activation_bytes=activation_bytes,
        cuda_graph_bytes=cuda_graph_bytes,
        context_bytes=CONTEXT_BYTES,
        available_bytes=available_bytes,
        num_layers=layers,
        block_size=block_size,
        page_bytes=page_bytes,
        block_bytes=block_bytes,
        num_gpu_blocks=num_gpu_blocks,
        kv_cache_tokens=(num_gpu_blocks - 1) * block_size,
        notes=tuple(notes),
    )
    if num_gpu_blocks < 1:
        raise _no_block_left(result)
    return result


def _check_at_least_one(**arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")


def _activation_bytes(model: Model, num_tokens: int, num_seqs: int, tensor_parallel_size: int) -> int:
    width = 2 * model.hidden_size + 3 * math.ceil(model.active_width / tensor_parallel_size)
    return max(num_tokens * width * BYTES_PER_VALUE, num_seqs * model.vocab_size * _LOGIT_BYTES)


def _value_bytes(kv_cache_dtype: str) -> int:
    if kv_cache_dtype not in _KV_DTYPE_BYTES:
        raise unknown_name("kv_cache_dtype", kv_cache_dtype, _KV_DTYPE_BYTES)
    return _KV_DTYPE_BYTES[kv_cache_dtype]


def _no_block_left(memory: Capacity) -> InputError:
    remedies = ["--gpu-memory-utilization", "--tensor-parallel-size"]
    if memory.weight_bytes > memory.total_bytes:
        lack = f"{_gib(memory.weight_bytes)} of weights on each GPU, which has {_gib(memory.total_bytes)}"
        remedies.remove("--gpu-memory-utilization")
    elif memory.weight_bytes > memory.requested_bytes:
        lack = f"{_gib(memory.weight_bytes)} of weights on each GPU, and vLLM may use {_gib(memory.requested_bytes)}"
    else:
        lack = f"{_gib(max(0, memory.available_bytes))} are left for the KV cache, less than one block"
    return InputError(
        f"{memory.model} does not fit on {memory.gpu}: {lack}; raise {' or '.join(remedies)}, or take a larger GPU"
    )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
