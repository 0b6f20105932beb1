"""One sample of one prompt on its way through an engine, and the group of all samples of an HTTP request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from understudy.engine import CacheIdentity, Request
from understudy.server.answer_text import AnswerText
from understudy.server.generate import Answer

NO_IDENTITY = CacheIdentity()

_FILLER_TOKEN_ID = 0
"""What the engine gets where no token could be made; nobody else ever sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOrder:
    """What the engine and the detokenizer need to know of one sample.

    `prompt_id` names the prompt to operators who want to end it, all its samples at once. `index` is the place of the
    sample among the choices of the answer, `max_tokens` the effective limit, `num_samples` the request's n. `text` is None where nobody will read text (`detokenize` off).
    """

    prompt_id: str
    index: int
    prompt_token_ids: Sequence[int]
    answer: Answer
    text: AnswerText | None
    max_tokens: int
    num_samples: int = 1
    eos_token_id: int | None = None
    stop_token_ids: frozenset[int] = frozenset()
    skip_reading_prefix_cache: bool = False
    identity: CacheIdentity = NO_IDENTITY
    priority: int = 0
    stream_interval: int = 1


class SampleRequest(Request):
    """The engine's request of a sample."""

    __slots__ = ("sample",)

    sample: "Sample"


def sample_answer(request: Request, count: int) -> Sequence[int]:
    """Return the next `count` tokens that the emulated model says to a SampleRequest: the engine's sampler."""
    assert isinstance(request, SampleRequest), "this server's engines have no others"
    sample = request.sample
    try:
        return sample.order.answer.tokens(request.num_output_tokens, count)
    except Exception as error:  # noqa: BLE001 - one bad answer must not stop the step of all others
        sample.failure = error
        return [_FILLER_TOKEN_ID] * count


class Sample:
    """A sample in work: the engine's request, the text so far, and how it ended."""

    __slots__ = (
        "arrival_ns",
        "failure",
        "finish_reason",
        "generation",
        "last_token_ns",
        "num_generated",
        "num_preemptions_seen",
        "num_sent",
        "order",
        "rank",
        "request",
        "stop_reason",
    )

    def __init__(
        self, order: SampleOrder, request: SampleRequest, generation: "Generation", rank: int
    ) -> None:
        self.order = order
        self.request = request
        request.sample = self
        self.generation = generation
        self.rank = rank
        self.arrival_ns = generation.arrival_ns
        self.failure: Exception | None = None
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self.num_generated = 0
        self.num_sent = 0
        self.num_preemptions_seen = 0
        self.last_token_ns: int | None = None

    @property
    def output_token_ids(self) -> Sequence[int]:
        """The tokens of the answer; after a stop string the engine's may be more."""
        start = self.request.num_prompt_tokens
        return self.request.token_ids[start : start + self.num_generated]


class SampleListener(Protocol):
    """Who is told of an answer while it grows. Called from within a step: it must not wait, and not raise."""

    def grown(self, sample: Sample, token_ids: Sequence[int], text: str) -> None:
        """Take the tokens and the text since the last call; `sample.finish_reason` is set with the last of them."""


class Generation:
    """All samples of one HTTP request. `done` has a result when every sample has finished.

    The result is None, or an exception where the engine failed.
    """

    __slots__ = ("arrival_ns", "done", "listener", "num_unfinished", "request_id", "samples")

    def __init__(self, request_id: str, arrival_ns: int, listener: SampleListener | None) -> None:
        self.request_id = request_id
        self.arrival_ns = arrival_ns
        self.listener = listener
        self.samples: list[Sample] = []
        self.num_unfinished = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_finished(self) -> bool:
        """Whether no more tokens will come."""
        return self.done.done()

    def sample_finished(self) -> None:
        """Count a sample that has finished."""
        self.num_unfinished -= 1
        if not self.num_unfinished and not self.done.done():
            self.done.set_result(None)

    def release(self) -> None:
        """Let go of what refers to itself in a circle, when the answer is out: it is gone at once, without a collector."""
        for sample in self.samples:
            del sample.request
        self.samples.clear()
        self.listener = None

    def fail(self, error: Exception) -> None:
        """End with an error."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # whoever waits for it may have gone
