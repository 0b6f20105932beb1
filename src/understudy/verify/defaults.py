"""Default flags against those that vLLM's own configuration code chose, GPU by GPU."""

from typing import Any

from understudy.catalog import Gpu, default_batch_limits
from understudy.engine import EngineConfig
from understudy.errors import UsageError
from understudy.fleet import EngineChoices
from understudy.verify.evidence_files import load_recording
from understudy.verify.tally import Tallies


def compare_defaults() -> Tallies:
    """Compare every flag that nobody gave, and the limits of a step for many choices of the other flags."""
    recording = load_recording("defaults")
    tallies = Tallies()
    _compare_flags(tallies, recording["flags"])
    for entry in recording["gpus"]:
        gpu = _gpu(entry)
        for case in entry["limits"]:
            where = f"limits of a step, {gpu.name} with {gpu.memory_bytes:,} bytes, {case['flags']}"
            tallies.compare("default_flags", where, case["limits"], _limits(gpu, case["flags"]))
    return tallies


def _compare_flags(tallies: Tallies, flags: dict[str, Any]) -> None:
    choices, fields = EngineChoices(), EngineConfig.__dataclass_fields__
    for name, theirs in flags.items():
        tallies.compare("default_flags", f"{name} of the command line", theirs, getattr(choices, name))
        if name in fields:
            tallies.compare("default_flags", f"{name} of the engine", theirs, fields[name].default)


def _limits(gpu: Gpu, flags: dict[str, Any]) -> list[int] | None:
    """Return the tokens and sequences of a step, or None where we refuse to start."""
    try:
        limits = default_batch_limits(gpu, **flags)
    except UsageError:
        return None
    return [limits.max_num_batched_tokens, limits.max_num_seqs]


def _gpu(entry: dict[str, Any]) -> Gpu:
    """Return a GPU of which only is known what the rule looks at."""
    return Gpu(
        name=entry["vllm_device_name"],
        source="recorded",
        vllm_device_name=entry["vllm_device_name"],
        compute_capability=entry["compute_capability"],
        memory_bytes=entry["memory_bytes"],
        memory_bandwidth_bytes_per_second=1.0,
        dense_fp16_flops_per_second=1.0,
        dense_fp8_flops_per_second=None,
        interconnect_bytes_per_second=1.0,
    )
