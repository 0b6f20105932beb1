"""Bytes of a block, number of blocks and longest context against vLLM's classes and its arithmetic at start-up."""

import re
from typing import Any

from understudy.catalog import Model, capacity, check_context_fits, load_gpu, load_model
from understudy.errors import UsageError
from understudy.verify.evidence_files import load_recording
from understudy.verify.tally import Tallies


def compare_capacity() -> Tallies:
    """Compare every recorded model, split and cache type, and every context."""
    recording = load_recording("capacity")
    tallies = Tallies()
    for entry in recording["models"]:
        model = load_model(entry["model"])
        for case in entry["cases"]:
            _compare_blocks(tallies, model, case)
    for case in recording["contexts"]:
        _compare_context(tallies, case)
    return tallies


def _compare_blocks(tallies: Tallies, model: Model, case: dict[str, Any]) -> None:
    where = (
        f"{model.name}, tensor parallel {case['tensor_parallel_size']}, pipeline parallel {case['pipeline_parallel_size']}, "
        f"{case['kv_cache_dtype']}, {case['block_size']} tokens a block"
    )
    choices = {name: case[name] for name in ("tensor_parallel_size", "pipeline_parallel_size", "block_size")}
    for memory, blocks in case["num_gpu_blocks"]:
        ours = capacity(
            model,
            load_gpu("h200"),  # of no account: the size of the KV cache is given
            max_num_batched_tokens=8192,
            max_num_seqs=1024,
            kv_cache_dtype=case["kv_cache_dtype"],
            kv_cache_memory_bytes=memory,
            **choices,
        )
        tallies.compare("total_blocks", f"{memory:,} bytes, {where}", blocks, ours.num_gpu_blocks)
    tallies.compare("bytes_per_block", f"one layer, {where}", case["page_bytes"], ours.page_bytes)
    tallies.compare("bytes_per_block", f"all layers, {where}", case["block_bytes"], ours.block_bytes)


def _compare_context(tallies: Tallies, case: dict[str, Any]) -> None:
    num_blocks, size, length = case["num_gpu_blocks"], case["block_size"], case["max_model_len"]
    where = f"{length:,} tokens, {num_blocks} blocks of {size} tokens"
    fits, longest = True, None
    try:
        check_context_fits(num_blocks, size, length)
    except UsageError as error:
        fits = False
        estimate = re.search(r"at most (\d+), the estimated maximum model length", str(error))
        longest = int(estimate[1]) if estimate else None
    tallies.compare("context_fit", f"fits, {where}", case["fits"], fits)
    if (case["longest"], longest) != (None, None):
        tallies.compare("context_fit", f"longest that fits, {where}", case["longest"], longest)
