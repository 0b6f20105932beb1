"""Reads variables of the environment as vLLM does."""

from collections.abc import Mapping


def is_set(environment: Mapping[str, str], variable: str) -> bool:
    """Return whether a variable switches something on."""
    return environment.get(variable, "0").strip().lower() in {"1", "true"}
