"""The shape of a step, and what every latency model answers about it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class PrefillChunk(NamedTuple):
    """Prompt tokens of one request that a step computes.

    `context_tokens` are computed already, `cached_tokens` of them by the prefix cache (so the chunk is the
    request's first exactly when both are equal), and `prompt_tokens` is where its prefill will end.
    """

    new_tokens: int
    context_tokens: int
    cached_tokens: int
    prompt_tokens: int


class StepShape(NamedTuple):
    """What one step computes: prefill chunks, and one token for each of `num_decodes` sequences.

    `decode_context_tokens` is the sum of what those sequences have computed before the step.
    """

    prefills: Sequence[PrefillChunk]
    num_decodes: int
    decode_context_tokens: int


class LatencyModel(Protocol):
    """Maps a step's shape to its duration in nanoseconds.

    Durations are integers, so that sums are exact in any order.
    """

    def step_ns(self, shape: StepShape) -> int:
        """Return how long a step of this shape takes."""
        ...

    def decode_steps_ns(self, num_decodes: int, context_tokens: int, count: int) -> Sequence[int]:
        """Return the duration of each of `count` steps in a row that do nothing but decode.

        The first has the given sum of contexts, each later one `num_decodes` tokens more. Element i equals
        `step_ns` of that step.
        """
        ...
