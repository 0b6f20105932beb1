"""Gpu: what a datasheet says about an accelerator."""

from dataclasses import dataclass

from understudy.catalog.data_files import known_names, read_entry

_MOST_MEMORY_BYTES = 2**50


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One accelerator. `memory_bytes` is what the driver reports; CUDA, which vLLM asks, offers up to 2 % less.

    FLOP/s are of dense matrices with accumulation in float32, None where the GPU lacks the type; the interconnect
    is the link to other GPUs, both directions together. `vllm_device_name` is the name by which vLLM's rules know it.
    """

    name: str
    source: str
    vllm_device_name: str
    compute_capability: str
    memory_bytes: int
    memory_bandwidth_bytes_per_second: float
    dense_fp16_flops_per_second: float
    dense_fp8_flops_per_second: float | None
    interconnect_bytes_per_second: float


def known_gpus() -> tuple[str, ...]:
    """Return the names of all GPUs in the catalogue, sorted."""
    return known_names("gpu")


def load_gpu(name: str) -> Gpu:
    """Return the GPU of a catalogue name such as a100-40gb. Raises UsageError for a name that is not known."""
    entry = read_entry("gpu", name)
    fp8 = "dense_fp8_flops_per_second"
    return Gpu(
        name=entry.text("name"),
        source=entry.text("source"),
        vllm_device_name=entry.text("vllm_device_name"),
        compute_capability=entry.text("compute_capability"),
        memory_bytes=entry.whole("memory_bytes", most=_MOST_MEMORY_BYTES),
        memory_bandwidth_bytes_per_second=entry.number("memory_bandwidth_bytes_per_second"),
        dense_fp16_flops_per_second=entry.number("dense_fp16_flops_per_second"),
        dense_fp8_flops_per_second=entry.number(fp8) if entry.has(fp8) else None,
        interconnect_bytes_per_second=entry.number("interconnect_bytes_per_second"),
    )
