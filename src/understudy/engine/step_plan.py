"""What the scheduler says of one step, and who knows the tokens that the step samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from understudy.engine.request import Request

Sampler = Callable[[Request, int], Sequence[int] | None]
"""Gives the next `count` output tokens of a request, None where nobody knows them; it depends on nothing else."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that entered the running batch, with the prompt tokens that the cache saved it."""

    request: Request
    cached_tokens: int


@dataclass(slots=True)
class StepPlan:
    """One step: tokens to compute for each request, in batch order, and what changed since the last plan.

    `preempted` are those who had to make room, then those preempted for a reset since the last plan.
    `mid_prefill` are the scheduled requests that will still have prompt to compute, and so sample no token.
    `num_grouped` counts requests beside those in `scheduled`, the members of a DecodeGroup: one token each.
    """

    scheduled: dict[Request, int] = field(default_factory=dict)
    mid_prefill: set[Request] = field(default_factory=set)
    new: list[Admission] = field(default_factory=list)
    resumed: list[Admission] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    num_grouped: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the step computes nothing."""
        return not (self.scheduled or self.num_grouped)
