"""What a source of news about what a worker holds is good for."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias


class SourceState(StrEnum):
    """Of the KV events of one worker, or of its lists of blocks."""

    UNKNOWN = "unknown"
    """The worker has not answered yet."""
    ABSENT = "absent"
    """It offers none, or none that can be had."""
    FOLLOWED = "followed"
    """What it holds is known from them."""
    DIFFERS = "differs"
    """It cuts or hashes blocks otherwise than the router, so they tell nothing."""


SourceChanged: TypeAlias = Callable[[int, SourceState, str | None], None]
"""Takes a worker's slot, a state that is new, and a sentence on why that goes on from "the worker", None where it is followed.

Whoever keeps what workers hold is told something only from "followed" until the next state, and "followed" comes first.
"""
