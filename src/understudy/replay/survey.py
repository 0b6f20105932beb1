"""Reads a whole workload before anything is sent, so that what is wrong with it is told at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from understudy.replay.prompt_tokens import PromptTokens
from understudy.workload import WorkloadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How many requests there are, and of how many the answer is known."""

    num_requests: int
    num_with_outputs: int


def survey(requests: Iterable[WorkloadRequest], tokens: PromptTokens) -> Survey:
    """Look at each request once. Raises what the workload raises, and InputError for prompts that cannot be made."""
    num_requests = num_with_outputs = 0
    for request in requests:
        tokens.check(request.request_id, request.prompt)
        num_requests += 1
        num_with_outputs += request.output_ids is not None
    return Survey(num_requests=num_requests, num_with_outputs=num_with_outputs)
