"""Where every byte of a GPU goes when vLLM starts, and how many KV-cache blocks remain.

The bytes of a block are vLLM's exactly. What weights and overheads leave for blocks, vLLM measures on the GPU at
start-up; here it is arithmetic, with constants that are named and explained below.
"""

import math
from dataclasses import dataclass

from understudy.catalog.gpu import Gpu
from understudy.catalog.model import BYTES_PER_VALUE, Model
from understudy.errors import InputError, UsageError

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
    num_gpu_blocks_override was; `notes` then say so. `num_gpu_blocks` counts vLLM's null block, which holds no tokens.
    """

    model: str
    gpu: str
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
    published preset of Llama-2-13B on an A100 40 GB has its 924 blocks, and Llama-3.1-8B on an RTX 4090 (vLLM 0.19,
    gpu_memory_utilization 0.9, 2,048 batched tokens, 256 sequences; published by LLMServingSim) its measured 2,588.

    Bytes of a block (vLLM 0.33): for each layer, `block_size x values that a token caches x bytes of a value`. With
    latent attention that is the latent vector, the same on every tensor-parallel GPU; else keys and values of the
    heads that the GPU holds.

    Raises UsageError for arguments out of range, InputError if no block is left; num_gpu_blocks_override is believed
    without a check of the memory.
    """
    _check_arguments(locals())
    model.attention.check_split(tensor_parallel_size)
    layers = math.ceil(model.num_hidden_layers / pipeline_parallel_size)
    requested_bytes = math.ceil(gpu.memory_bytes * gpu_memory_utilization)
    weight_bytes = math.ceil(model.weight_bytes / (tensor_parallel_size * pipeline_parallel_size))
    activation_bytes = _activation_bytes(model, max_num_batched_tokens, max_num_seqs, tensor_parallel_size)
    cuda_graph_bytes = CUDA_GRAPH_BYTES_PER_LAYER * layers
    notes = list(model.notes)
    if kv_cache_memory_bytes is None:
        available_bytes = requested_bytes - weight_bytes - activation_bytes - cuda_graph_bytes - CONTEXT_BYTES
    else:
        available_bytes = kv_cache_memory_bytes
        notes.append("kv_cache_memory_bytes sets the KV cache's size, whatever gpu_memory_utilization says.")
    page_bytes = (
        block_size
        * model.attention.cached_values_per_token(tensor_parallel_size)
        * _KV_DTYPE_BYTES[kv_cache_dtype]
    )
    block_bytes = page_bytes * layers
