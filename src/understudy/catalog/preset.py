"""Presets: the latency of a model on a GPU, as somebody stated or measured it."""

from understudy.catalog.data_files import known_names, read_entry
from understudy.catalog.linear_constants import LinearConstants


def load_preset(model_name: str, gpu_name: str) -> LinearConstants | None:
    """Return the prices that stand in place of derived ones, by the catalogue's names; None if there are none."""
    name = f"{model_name}--{gpu_name}"
    if name not in known_names("preset"):
        return None
    entry = read_entry("preset", name)
    latency = entry.part("latency")
    return LinearConstants(
        prefill_base_seconds=latency.number("prefill_base_seconds"),
        prefill_cached_seconds=latency.number("prefill_cached_seconds"),
        prefill_seconds_per_block=latency.number("prefill_seconds_per_block"),
        decode_seconds_per_step=latency.number("decode_seconds_per_step"),
        block_size=latency.whole("block_size"),
        source=entry.text("source"),
    )
