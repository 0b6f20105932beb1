"""What a command line says: a value for each flag, and which of them were given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArguments:
    """A parsed command line of `vllm serve`, with the flags of our own.

    `values`: by dest (`max_model_len`), with vLLM's default for what was not given; the value of a flag that takes a
    JSON object with named fields holds only the fields that were given. `model` is the positional model or `--model`.
    `host` is 127.0.0.1 where vLLM listens everywhere because none was given.
    `given`: dests that the command line or the config file sets.
    `without_effect`: names of flags given that change nothing here, in the order in which they were given.
    """

    values: Mapping[str, Any]
    given: frozenset[str]
    without_effect: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAModule:
    """One adapter of `--lora-modules`, `name=path` or a JSON object."""

    name: str
    path: str
    base_model_name: str | None = None
    is_3d_lora_weight: bool = False
