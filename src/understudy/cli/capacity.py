"""`understudy capacity`: where every byte of a GPU goes, and how many KV-cache blocks remain."""

import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from understudy.catalog import Capacity
from understudy.fleet import EngineChoices, memory_of, to_json

_GIB = 2**30


def capacity(
    model: str,
    gpu: str,
    /,
    *,
    gpu_memory_utilization: float = 0.92,
    block_size: int = 16,
    max_model_len: int | None = None,
    max_num_batched_tokens: int | None = None,
    max_num_seqs: int | None = None,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    kv_cache_dtype: str = "auto",
    kv_cache_memory_bytes: int | None = None,
    num_gpu_blocks_override: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print each term of a GPU's memory under vLLM, and the number of KV-cache blocks.

    Parameters
    ----------
    model
        A model of the catalogue, or the path of a Hugging Face config.json.
    gpu
        A GPU of the catalogue.
    gpu_memory_utilization
        The share of the memory that vLLM may use.
    block_size
        Tokens in a block.
    max_model_len
        The longest context. [default: the model's]
    max_num_batched_tokens
        Tokens in a step. [default: vLLM's for this GPU]
    max_num_seqs
        Sequences in a step. [default: vLLM's for this GPU]
    tensor_parallel_size
        GPUs that share each layer.
    pipeline_parallel_size
        Stages that share the layers.
    kv_cache_dtype
        Type of the cached keys and values: auto, bfloat16, float16, fp8, ...
    kv_cache_memory_bytes
        Size of the KV cache, in place of what gpu_memory_utilization leaves.
    num_gpu_blocks_override
        Number of blocks, whatever the memory.
    json
        Print one JSON document.
    """
    choices = EngineChoices(
        gpu_memory_utilization=gpu_memory_utilization,
        block_size=block_size,
        max_model_len=max_model_len,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        kv_cache_dtype=kv_cache_dtype,
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        num_gpu_blocks_override=num_gpu_blocks_override,
    )
    memory = memory_of(model, gpu, choices).capacity
    if json:
        sys.stdout.buffer.write(to_json(memory))
    else:
        _print(memory, choices)


def _print(memory: Capacity, choices: EngineChoices) -> None:
    """Print the terms as a sum that adds up, or, where the KV cache is as large as was asked for, as a list."""
    console = Console(soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()

    def row(label: str, count: int, why: str = "", *, is_bytes: bool = True) -> None:
        table.add_row(label, f"{count:,}", f"{count / _GIB:,.2f} GiB" if is_bytes else "", why)

    is_sum = choices.kv_cache_memory_bytes is None
    minus = "- " if is_sum else ""
    row("memory of the GPU", memory.total_bytes)
    if is_sum:
        row("for vLLM", memory.requested_bytes, f"x {memory.gpu_memory_utilization}, rounded up")
    row(f"{minus}weights", memory.weight_bytes)
    row(f"{minus}activation peak", memory.activation_bytes)
    row(f"{minus}CUDA graphs", memory.cuda_graph_bytes)
    row(f"{minus}CUDA context", memory.context_bytes)
    row("= KV cache" if is_sum else "KV cache", memory.available_bytes, "" if is_sum else "as given")
    row("one block", memory.block_bytes, f"{memory.num_layers} layers x {memory.page_bytes:,} bytes")
    is_quotient = choices.num_gpu_blocks_override is None
    why = "KV cache / one block, rounded down" if is_quotient else "as given"
    row("blocks", memory.num_gpu_blocks, why, is_bytes=False)
    row("tokens", memory.kv_cache_tokens, f"(blocks - 1) x {memory.block_size}", is_bytes=False)
    console.print(
        f"{memory.model} on {memory.gpu}, a GPU of {memory.tensor_parallel_size} x {memory.pipeline_parallel_size}"
    )
    console.print(table, highlight=False)
    for note in memory.notes:
        console.print(f"* {note}", highlight=False, markup=False)
