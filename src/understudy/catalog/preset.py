"""Preset: the latency of one model on one GPU, as somebody stated or measured it."""

from dataclasses import dataclass

from understudy.catalog.data_files import known_names, read_entry
from understudy.catalog.linear_constants import LinearConstants


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Prices that stand in place of derived ones for this model on one of these GPUs."""

    model: str
    gpu: str
    latency: LinearConstants


def load_preset(model_name: str, gpu_name: str) -> Preset | None:
    """Return the preset of a model and a GPU, by their catalogue names; None if there is none."""
    name = f"{model_name}--{gpu_name}"
    if name not in known_names("preset"):
        return None
    entry = read_entry("preset", name)
    latency = entry.part("latency")
    return Preset(
        model=entry.text("model"),
        gpu=entry.text("gpu"),
        latency=LinearConstants(
            prefill_base_seconds=latency.number("prefill_base_seconds"),
            prefill_cached_seconds=latency.number("prefill_cached_seconds"),
            prefill_seconds_per_block=latency.number("prefill_seconds_per_block"),
            decode_seconds_per_step=latency.number("decode_seconds_per_step"),
            block_size=latency.whole("block_size"),
            source=entry.text("source"),
        ),
    )
