"""The `system_fingerprint` of answers.

(vllm/entrypoints/serve/utils/fingerprint.py, 0.33.0)
"""

from typing import Literal

from understudy import VLLM_VERSION

FingerprintMode = Literal["full", "hash", "custom", "none"]

_HASH_DIGITS = 8


def system_fingerprint(
    mode: FingerprintMode,
    config_hash: str,
    *,
    custom_value: str | None = None,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    data_parallel: int = 1,
    expert_parallel: bool = False,
) -> str | None:
    """Return the fingerprint of a server; `config_hash` stands for vLLM's hash of its whole configuration."""
    if mode == "none":
        return None
    if mode == "custom":
        return custom_value
    parts = [f"vllm-{VLLM_VERSION}"]
    if mode == "full":
        degrees = (("tp", tensor_parallel), ("pp", pipeline_parallel), ("dp", data_parallel))
        parts.extend(f"{name}{degree}" for name, degree in degrees if degree > 1)
        if expert_parallel:
            parts.append("ep")
    return "-".join([*parts, config_hash[:_HASH_DIGITS]])
