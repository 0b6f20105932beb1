"""`understudy capacity`: where every byte of a GPU goes, and how many KV-cache blocks remain."""

import sys
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from understudy.catalog import Capacity, check_context_fits
from understudy.cli.options import GpuName, Memory, ModelName
from understudy.errors import UsageError
from understudy.fleet import MemoryChoices, MemoryPlan, memory_of, to_json

_GIB = 2**30
_MIB = 2**20
_TABLE_WIDTH = 120
"""More than any row takes: rows are for machines to split too, so none is folded to fit a narrow terminal."""


def capacity(
    model: ModelName,
    gpu: GpuName,
    /,
    *,
    engine: Memory = MemoryChoices(),
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print each term of a GPU's memory under vLLM, and the number of KV-cache blocks.

    Parameters
    ----------
    json
        Print one JSON document.
    """
    plan = memory_of(model, gpu, engine)
    memory = replace(plan.capacity, notes=(*plan.capacity.notes, *_notes(plan)))
    if json:
        sys.stdout.buffer.write(to_json(memory))
    else:
        _print(memory, engine)


def _notes(plan: MemoryPlan) -> list[str]:
    """Say so if vLLM would not start: the memory can be planned nonetheless."""
    try:
        check_context_fits(plan.capacity.num_gpu_blocks, plan.capacity.block_size, plan.max_model_len)
    except UsageError as error:
        return [f"vLLM would not start: {error}."]
    return []


def _print(memory: Capacity, choices: MemoryChoices) -> None:
    """Print the terms as a sum that adds up, or, where the KV cache is as large as was asked for, as a list."""
    console = Console(soft_wrap=True, width=_TABLE_WIDTH)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()

    def row(label: str, count: int, why: str = "", *, unit: str = "GiB") -> None:
        size = {"GiB": f"{count / _GIB:,.2f} GiB", "MiB": f"{count / _MIB:,.2f} MiB", "": ""}[unit]
        table.add_row(label, f"{count:,}", size, why)

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
    row(
        "one block",
        memory.block_bytes,
        f"{memory.num_layers} layers x {memory.page_bytes:,} bytes",
        unit="MiB",
    )
    is_quotient = choices.num_gpu_blocks_override is None
    why = "KV cache / one block, rounded down" if is_quotient else "as given"
    row("blocks", memory.num_gpu_blocks, why, unit="")
    row("tokens", memory.kv_cache_tokens, f"(blocks - 1) x {memory.block_size}", unit="")
    console.print(f"{memory.model} on {_gpus(memory)}", highlight=False, markup=False)
    console.print(table, highlight=False)
    for note in memory.notes:
        console.print(f"* {note}", highlight=False, markup=False)
    console.print(f"Model: {memory.model_source}", highlight=False, markup=False)
    console.print(f"GPU: {memory.gpu_source}", highlight=False, markup=False)


def _gpus(memory: Capacity) -> str:
    tensor, pipeline = memory.tensor_parallel_size, memory.pipeline_parallel_size
    if tensor * pipeline == 1:
        return memory.gpu
    split = f"tensor parallel {tensor}, pipeline parallel {pipeline}"
    return f"{tensor * pipeline} x {memory.gpu} ({split}); figures are of one GPU"
