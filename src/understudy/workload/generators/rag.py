"""Retrieval-augmented generation: one instruction, then documents that many requests share, then a question.

The documents come in varying order, so two requests that share all of them may share no more than the
instruction as a prefix.
"""

from collections.abc import Iterator
from itertools import chain

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


class Rag(CommonParameters, frozen=True, kw_only=True):
    """Each request reads `documents_per_request` of `documents`, all equally likely, in random order.

    `instruction_tokens` and `document_tokens` are exact, the other lengths are means. Of fewer documents than
    a request may read, it reads all.
    """

    documents: Count = 32
    documents_per_request: Count = 3
    instruction_tokens: Tokens = 256
    document_tokens: Tokens = 512
    question_tokens: Tokens = 32
    output_tokens: Tokens = 128

    @property
    def longest_prompt_tokens(self) -> int:
        """Upper bound of the prompts."""
        documents_tokens = self._num_read * self.document_tokens
        return self.instruction_tokens + documents_tokens + at_most(self.question_tokens)

    @property
    def _num_read(self) -> int:
        return min(self.documents, self.documents_per_request)

    def generate(self) -> Iterator[WorkloadRequest]:
        """Yield the requests. Documents are made anew each time, so that none is held."""
        rng = chance(self.seed, "rag")
        instruction = random_tokens(chance(self.seed, "instruction"), self.instruction_tokens)
        times_ns = poisson_times(chance(self.seed, "arrivals"), self.rate)
        for index, now_ns in zip(range(self.requests), times_ns, strict=False):
            read = rng.sample(range(self.documents), self._num_read)
            question = random_tokens(rng, around(rng, self.question_tokens))
            yield WorkloadRequest(
                request_id=str(index),
                arrival_ns=now_ns,
                prompt=TokenPrompt(
                    (*instruction, *chain.from_iterable(map(self._document, read)), *question)
                ),
                output_tokens=around(rng, self.output_tokens),
            )

    def _document(self, number: int) -> tuple[int, ...]:
        return random_tokens(chance(self.seed, f"document {number}"), self.document_tokens)
