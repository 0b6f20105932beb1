"""A control: prompts that have nothing in common, so that no prefix cache can help."""

from collections.abc import Iterator

from understudy.engine import TokenPrompt
from understudy.workload.generators.parameters import (
    CommonParameters,
    Tokens,
    around,
    at_most,
    chance,
    random_tokens,
)
from understudy.workload.request import WorkloadRequest
from understudy.workload.timing import poisson_times


class Unshared(CommonParameters, frozen=True, kw_only=True):
    """Prompts of random tokens; the lengths are means."""

    prompt_tokens: Tokens = 1024
    output_tokens: Tokens = 128

    @property
    def longest_prompt_tokens(self) -> int:
        """Upper bound of the prompts."""
        return at_most(self.prompt_tokens)

    def generate(self) -> Iterator[WorkloadRequest]:
        """Yield the requests."""
        rng = chance(self.seed, "unshared")
        times_ns = poisson_times(chance(self.seed, "arrivals"), self.rate)
        for index, now_ns in zip(range(self.requests), times_ns, strict=False):
            yield WorkloadRequest(
                request_id=str(index),
                arrival_ns=now_ns,
                prompt=TokenPrompt(random_tokens(rng, around(rng, self.prompt_tokens))),
                output_tokens=around(rng, self.output_tokens),
            )
