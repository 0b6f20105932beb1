"""Reads what was recorded of vLLM and is shipped with the package."""

from importlib.resources import files
from typing import Any

import msgspec

from understudy import VLLM_VERSION
from understudy.errors import InputError


def load_recording(name: str) -> dict[str, Any]:
    """Return `evidence/NAME.json`. Raises InputError if another vLLM was recorded than the one that we stand in for."""
    data = (files("understudy.verify") / "evidence" / f"{name}.json").read_bytes()
    recording: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    if recording["vllm"] != VLLM_VERSION:
        raise InputError(
            f"the recording {name} is of vLLM {recording['vllm']}, but understudy stands in for vLLM {VLLM_VERSION}: record it again"
        )
    return recording
