"""Applications that each put their own system prompt before whatever their users write."""

from collections.abc import Iterator

from understudy.engine import TokenPrompt
from understudy.workload.generators.parameters import (
    CommonParameters,
    Count,
    Tokens,
    around,
    at_most,
    chance,
    random_tokens,
)
from understudy.workload.request import WorkloadRequest
from understudy.workload.timing import poisson_times


class SystemPrompts(CommonParameters, frozen=True, kw_only=True):
    """`groups` equally busy applications; `system_tokens` is exact, the other lengths are means."""

    groups: Count = 16
    system_tokens: Tokens = 1024
    user_tokens: Tokens = 128
    output_tokens: Tokens = 128

    @property
    def longest_prompt_tokens(self) -> int:
        """Upper bound of the prompts."""
        return self.system_tokens + at_most(self.user_tokens)

    def generate(self) -> Iterator[WorkloadRequest]:
        """Yield the requests. System prompts are made anew each time, so that none is held."""
        rng = chance(self.seed, "system-prompts")
        times_ns = poisson_times(chance(self.seed, "arrivals"), self.rate)
        for index, now_ns in zip(range(self.requests), times_ns, strict=False):
            group = rng.randrange(self.groups)
            system = random_tokens(chance(self.seed, f"system prompt {group}"), self.system_tokens)
            user = random_tokens(rng, around(rng, self.user_tokens))
            yield WorkloadRequest(
                request_id=str(index),
                arrival_ns=now_ns,
                prompt=TokenPrompt(system + user),
                output_tokens=around(rng, self.output_tokens),
            )
