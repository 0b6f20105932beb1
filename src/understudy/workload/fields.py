"""The fields of workload records: their types, their limits, and what an error says that they must be.

A limit keeps a slip, such as a length in bytes or a time in nanoseconds, from looking like an endless run.
"""

from collections.abc import Iterator
from typing import Annotated, get_args

from msgspec import Meta

MAX_TOKENS = 1 << 24
"""Longest prompt or answer, in tokens."""

MAX_TOKEN_ID = (1 << 32) - 1

MAX_SEGMENT_ID = (1 << 53) - 1
"""Largest integer that every JSON library reads exactly."""

MAX_ARRIVAL_NS = 10**18
"""Latest arrival, about 31 years after the start."""

MAX_PRIORITY = (1 << 31) - 1

TokenCount = Annotated[
    int, Meta(ge=1, le=MAX_TOKENS, description=f"a positive integer of at most {MAX_TOKENS:,}")
]
TokenId = Annotated[int, Meta(ge=0, le=MAX_TOKEN_ID)]
TokenIds = Annotated[
    tuple[TokenId, ...],
    Meta(
        min_length=1,
        max_length=MAX_TOKENS,
        description=f"a list of token ids, integers from 0 to {MAX_TOKEN_ID:,}",
    ),
]
SegmentIds = Annotated[
    tuple[Annotated[int, Meta(ge=0, le=MAX_SEGMENT_ID)], ...],
    Meta(min_length=1, description=f"a list of integers from 0 to {MAX_SEGMENT_ID:,}"),
]
Name = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
Priority = Annotated[
    int,
    Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description=f"an integer of at most {MAX_PRIORITY:,} either way"),
]


def description(field_type: object) -> str:
    """Return what a field of this type must be, in words."""
    return next(_descriptions(field_type))


def _descriptions(field_type: object) -> Iterator[str]:
    metadata: tuple[Meta, ...] = getattr(field_type, "__metadata__", ())
    yield from (meta.description for meta in metadata if meta.description is not None)
    for part in get_args(field_type):
        yield from _descriptions(part)
