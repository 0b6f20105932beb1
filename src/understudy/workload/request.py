"""One request of a workload: what a client sends, and what the model will answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.engine import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRequest:
    """A request as a trace or a generator gives it.

    `arrival_ns` counts nanoseconds from the start of the workload. `output_tokens` is how many tokens the
    model will answer; `output_ids`, where known, are those tokens. `session_id` ties the turns of one
    conversation together; only session-aware policies and closed-loop arrivals look at it.
    """

    request_id: str
    arrival_ns: int
    prompt: Prompt
    output_tokens: int
    output_ids: Sequence[int] | None = None
    session_id: str | None = None
    priority: int = 0
    cache_salt: str | None = None
