"""Writes the command line that repeats a run: every choice that differs from its default, in a fixed order."""

import shlex
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any


def command_line(words: Sequence[str], options: Sequence[Any]) -> str:
    """Return `understudy`, the words, and a flag for each field of the option groups that is not at its default."""
    flags: list[str] = []
    for group in options:
        for field in fields(group):
            value = getattr(group, field.name)
            if value != field.default:
                flags += _flag(field, value)
    return shlex.join(["understudy", *words, *flags])


def _flag(field: Field[Any], value: object) -> list[str]:
    name = field.name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]
