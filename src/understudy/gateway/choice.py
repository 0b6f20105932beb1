"""The decision for one request, with the worker that it means."""

from typing import NamedTuple

from understudy.gateway.member import Member
from understudy.routing import Decision, RoutingRequest


class Choice(NamedTuple):
    """A worker for one attempt of a request, and why."""

    member: Member
    decision: Decision
    request: RoutingRequest


def usable_tokens(matched_blocks: int, request: RoutingRequest) -> int:
    """Return how many tokens a worker need not compute if it holds these blocks: it computes the last token in any case."""
    return (
        min(matched_blocks, max(request.num_prompt_tokens - 1, 0) // request.block_size) * request.block_size
    )
