"""Derives the prices of the linear latency model from datasheets, where nobody has measured them.

Decoding is bound by memory bandwidth, prefill by arithmetic; each reaches a fixed share of the peak. Left out: reading
the KV cache, the attention part of a prefill that grows with its context, and pipeline parallelism.
"""

from understudy.catalog.gpu import Gpu
from understudy.catalog.linear_constants import LinearConstants
from understudy.catalog.model import BYTES_PER_VALUE, Model

BLOCK_SIZE = 16
"""Tokens of the block that is priced."""

MEMORY_EFFICIENCY = 0.8
"""Share of the peak bandwidth at which a step reads weights. Chosen between kernels alone, which reach 0.92 on an RTX
PRO 6000 (Llama-3.1-8B, tables of LLMServingSim), and whole steps of 2023, 0.6 on A100 (Llama-2-70B, splitwise-sim)."""

COMPUTE_EFFICIENCY = 0.6
"""Share of the dense peak that a prefill reaches. The same sources give 0.85 (RTX PRO 6000), 0.66 (two A100) and 0.46
(two H100) for 2,048 tokens."""

OVERHEAD_SECONDS = 0.002
"""Assumed: launches, sampling and scheduling, for each prefill and each decode step."""

CACHED_SHARE = 0.1
"""Assumed: a prefill that is all cached costs a tenth of the base, as in the preset of Llama-2-13B on an A100."""

_FLOPS_PER_PARAMETER = 2
_ALL_REDUCES_PER_LAYER = 2


def derived_linear(model: Model, gpu: Gpu, tensor_parallel_size: int) -> LinearConstants:
    """Return the prices of a model on GPUs that share each layer.

    A decode step reads all weights once, but of the input embedding only its tokens' rows; of a mixture of experts
    all too, as a busy batch meets nearly all experts. A block of a prefill costs two operations for each active
    parameter and token, in FP8 where weights and GPU have it, and two all-reduces a layer, which in decode steps are
    too small to count; the output is computed for the last token alone, which the overhead covers. Raises UsageError
    if the heads cannot be split.
    """
    model.attention.check_split(tensor_parallel_size)
    step_bytes = model.step_bytes / tensor_parallel_size
    flops = BLOCK_SIZE * _FLOPS_PER_PARAMETER * model.num_active_parameters / tensor_parallel_size
    decode = step_bytes / (gpu.memory_bandwidth_bytes_per_second * MEMORY_EFFICIENCY)
    prefill = flops / (_peak_flops_per_second(model, gpu) * COMPUTE_EFFICIENCY)
    return LinearConstants(
        prefill_base_seconds=OVERHEAD_SECONDS,
        prefill_cached_seconds=OVERHEAD_SECONDS * CACHED_SHARE,
        prefill_seconds_per_block=prefill + _all_reduce_seconds(model, gpu, tensor_parallel_size),
        decode_seconds_per_step=decode + OVERHEAD_SECONDS,
        block_size=BLOCK_SIZE,
        source=(
            f"derived from the datasheet of {gpu.name} and the size of {model.name}, not measured: "
            f"{MEMORY_EFFICIENCY:.0%} of the memory bandwidth, {COMPUTE_EFFICIENCY:.0%} of the dense peak, "
            f"{OVERHEAD_SECONDS * 1000:g} ms overhead"
        ),
    )


def _peak_flops_per_second(model: Model, gpu: Gpu) -> float:
    in_fp8 = model.quantisation is not None and model.quantisation.computes_in_fp8
    if in_fp8 and gpu.dense_fp8_flops_per_second is not None:
        return gpu.dense_fp8_flops_per_second
    return gpu.dense_fp16_flops_per_second


def _all_reduce_seconds(model: Model, gpu: Gpu, tensor_parallel_size: int) -> float:
    """Return how long a ring takes to sum the block's hidden states; each GPU sends at half of the link's figure."""
    hidden_bytes = BLOCK_SIZE * model.hidden_size * BYTES_PER_VALUE
    sent_bytes = hidden_bytes * 2 * (tensor_parallel_size - 1) / tensor_parallel_size
    all_reduces = _ALL_REDUCES_PER_LAYER * model.num_hidden_layers
    return all_reduces * sent_bytes / (gpu.interconnect_bytes_per_second / 2)
