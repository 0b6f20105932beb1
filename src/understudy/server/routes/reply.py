"""What is answered to a request, whole or in events: what all routes have in common.

(vllm/entrypoints/generate/base/serving.py, 0.33.0)
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from understudy.server.context import ServerContext
from understudy.server.engine_clock import NS_PER_SECOND
from understudy.server.orders import AnswerPlan, OrderedSample, PromptInput, orders_of, take_long
from understudy.server.positions import Positions
from understudy.server.routes.incoming import Incoming
from understudy.server.sample import Generation, Sample
from understudy.server.says import NO_TOOLS, ToolUse, texts_to_say
from understudy.server.streamed_answer import Growth
from understudy.wire.answers import AnswerHead
from understudy.wire.errors import ApiError, compact_json
from understudy.wire.fields import StreamOptions
from understudy.wire.json_pieces import BodyEncoder, json_in_pieces
from understudy.wire.sampling import Sampling, check_for_model, check_prompt
from understudy.wire.served_model import answering_name
from understudy.wire.sse import DONE
from understudy.wire.usage import RequestMetrics, Usage, request_metrics


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt of a request, and how its answers are sampled."""

    prompt: PromptInput
    sampling: Sampling

    @property
    def takes_long_to_order(self) -> bool:
        """Whether making its orders takes longer than a step should wait."""
        return take_long(self.sampling, len(self.prompt.token_ids))

    @property
    def takes_long_to_tell(self) -> bool:
        """Whether so does telling the whole answer."""
        sampling = self.sampling
        tells = (sampling.logprobs, sampling.prompt_logprobs, sampling.logprob_token_ids)
        return any(each is not None for each in tells)


class Wanted(Protocol):
    """The fields of a body that all routes know."""

    model: str | None
    stream: bool | None
    priority: int
    cache_salt: str | None


@dataclass(frozen=True, slots=True)
class UsageRules:
    """What a request and the server say about telling token counts."""

    in_last_event: bool
    in_every_event: bool
    with_details: bool

    @classmethod
    def of(cls, context: ServerContext, options: StreamOptions | None) -> "UsageRules":
        """Return the rules for a stream with these options."""
        forced = bool(context.arguments["enable_force_include_usage"])
        wanted = forced or bool(options and options.include_usage)
        continuous = forced or bool(options and options.continuous_usage_stats)
        details = bool(context.arguments["enable_prompt_tokens_details"])
        return cls(wanted, wanted and continuous, details)


class Reply(ABC):
    """One request's answer. `orders` and `whole` are made in a thread where they may take long, so that steps are not held up.

    `asked` holds the prompts, all with the same number of samples. `limits_itself` is False where only the context
    bounds the answers.
    """

    tells_created_tokens: ClassVar[bool] = False
    """Whether the tokens are told that the request added to the cache."""

    def __init__(
        self,
        arrived: Incoming,
        wanted: Wanted,
        head: AnswerHead,
        asked: Sequence[Asked],
        *,
        usage: UsageRules,
        use: ToolUse = NO_TOOLS,
        limits_itself: bool = True,
    ) -> None:
        self.head = head
        self.is_streamed = bool(wanted.stream)
        self.orders_take_long = use.is_possible or any(each.takes_long_to_order for each in asked)
        self.whole_takes_long = any(each.takes_long_to_tell for each in asked)
        self._encode_body: BodyEncoder = json_in_pieces if self.whole_takes_long else compact_json
        self._context = arrived.context
        self._limits = arrived.limits
        self._asked = asked
        self._num_samples = asked[0].sampling.n
        self._use = use
        self._usage = usage
        self._plan = AnswerPlan(
            model=head.model,
            priority=arrived.priority(wanted.priority),
            cache_salt=wanted.cache_salt,
            limits_itself=limits_itself,
        )
        self._samples: list[OrderedSample] = []

    # -- what is asked of the engine -----------------------------------------------------------------------

    def orders(self) -> Sequence[OrderedSample]:
        """Make the orders, as vLLM does when its engine takes the request; raises ApiError."""
        for number, each in enumerate(self._asked):
            prompt, sampling = each.prompt, each.sampling
            if self._use.is_possible:
                # vLLM's parser turns this off: the tags of calls may be special tokens.
                sampling = replace(sampling, skip_special_tokens=False)
            check_for_model(sampling, self._limits)
            check_prompt(prompt.token_ids, sampling, self._limits)
            says = texts_to_say(self._context, sampling, prompt.token_ids, self._use)
            self._samples += orders_of(
                self._context,
                prompt,
                sampling,
                replace(self._plan, says=says),
                prompt_id=self._prompt_id(number),
                first_index=number * self._num_samples,
            )
        return self._samples

    def _prompt_id(self, _number: int) -> str:
        return self.head.id

    # -- what is told --------------------------------------------------------------------------------------

    @abstractmethod
    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""

    def opening(self) -> bytes:
        """Return the events before any token."""
        return b""

    @abstractmethod
    def growth(self, growth: Growth) -> bytes:
        """Return the events for what is new of a choice; `growth.sample.finish_reason` is set with the last of it."""

    @abstractmethod
    def end(self, generation: Generation) -> bytes:
        """Return the events behind the last sample."""

    def error_event(self, error: ApiError) -> bytes:
        """Return what tells of an error in a stream and ends it; nothing where the stream breaks off instead."""
        return error.completion_event + DONE

    # -- parts ---------------------------------------------------------------------------------------------

    def _last_events(
        self, generation: Generation, usage_event: Callable[[Usage, RequestMetrics | None], bytes]
    ) -> bytes:
        """Return the event with the usage, if it is wanted, and the last one."""
        if not self._usage.in_last_event:
            return DONE
        return usage_event(self._total(generation), self._times(generation)) + DONE

    def _positions(self, index: int) -> Positions:
        """Return what tells of the tokens of a sample."""
        sampling = self._asked[index // self._num_samples].sampling
        key = self._samples[index].key
        return Positions(self._context.tokenizer, self._limits.vocabulary_size, sampling, key)

    def _shows_ids(self, *, is_wanted: bool | None = None) -> bool:
        """Return whether tokens are told as "token_id:5", by the request or else by the server."""
        by_default: bool = self._context.arguments["return_tokens_as_token_ids"]
        return by_default if is_wanted is None else is_wanted

    def _total(self, generation: Generation, *, told_by: int = 0) -> Usage:
        """Return the token counts of all samples, each prompt once; the cached tokens are those of the sample `told_by`."""
        samples = generation.samples
        prompt_tokens = sum(sample.request.num_prompt_tokens for sample in samples[:: self._num_samples])
        completion_tokens = sum(sample.num_generated for sample in samples)
        if not self._usage.with_details:
            return Usage(prompt_tokens, completion_tokens)
        request = samples[told_by].request
        cached = request.num_cached_tokens or 0
        created = None
        if self.tells_created_tokens:
            block_size = self._context.engine_config.block_size
            created = max(0, request.num_prompt_tokens // block_size * block_size - cached)
        return Usage(prompt_tokens, completion_tokens, cached, created)

    def _times(self, generation: Generation) -> RequestMetrics | None:
        """Return how long the only sample of a request took, if the server tells that."""
        if len(generation.samples) > 1 or not self._context.arguments["enable_per_request_metrics"]:
            return None
        sample = generation.samples[0]
        request = sample.request
        moments = (request.queued_ns, request.scheduled_ns, request.first_token_ns, sample.last_token_ns)
        # A moment at time 0 would read as one that never came.
        queued, scheduled, first, last = (0.0 if at is None else at / NS_PER_SECOND + 1.0 for at in moments)
        return request_metrics(queued, scheduled, first, last, sample.num_generated)


def head_of(arrived: Incoming, model: str | None, answer_id: str, *, is_signed: bool = False) -> AnswerHead:
    """Return the head of an answer that is made now; one that is signed carries the server's fingerprint."""
    fingerprint = arrived.context.system_fingerprint if is_signed else None
    return AnswerHead(answer_id, int(time.time()), answering_name(model, arrived.limits), fingerprint)


def weight_versions(version: str | None, sample: Sample) -> list[dict[str, Any]] | None:
    """Return which tokens of an answer the weights of which version made: ours never change in between."""
    return None if version is None else [{"version": version, "start": 0, "end": sample.num_generated}]
