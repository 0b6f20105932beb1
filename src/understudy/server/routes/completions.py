"""The route /v1/completions.

(vllm/entrypoints/openai/completion/serving.py, 0.33.0)
"""

from collections.abc import Sequence
from functools import partial

from aiohttp import web

from understudy.server.context import ServerContext
from understudy.server.orders import OrderedSample, PromptInput
from understudy.server.prompts import encode_text
from understudy.server.routes.answers import post
from understudy.server.routes.generation import respond
from understudy.server.routes.incoming import Incoming, incoming
from understudy.server.routes.reply import Asked, Reply, UsageRules, head_of, weight_versions
from understudy.server.sample import Generation, Sample
from understudy.server.streamed_answer import Growth
from understudy.wire.answers import ChoiceEnd
from understudy.wire.completion_answers import (
    CompletionChoice,
    CompletionChunks,
    completion_body,
    completion_usage_event,
)
from understudy.wire.completions import CompletionRequest, completion_sampling, parse_completion
from understudy.wire.logprobs import TokenLogprobs, completion_logprobs, next_offset, prompt_logprobs
from understudy.wire.usage import Usage


async def completions(request: web.Request) -> web.StreamResponse:
    """Complete prompts."""
    arrived = await incoming(request)
    wanted = parse_completion(arrived.body, arrived.limits, arrived.content_type)
    arrived.check_queue(wanted.n)
    asked = [
        Asked(prompt, completion_sampling(wanted, len(prompt.token_ids), arrived.limits))
        for prompt in await _prompts(arrived.context, wanted)
    ]
    return await respond(arrived, _Completion(arrived, wanted, asked))


async def _prompts(context: ServerContext, wanted: CompletionRequest) -> list[PromptInput]:
    """Return the prompts as tokens that fit; raises ApiError."""
    rules = wanted.rules(context.limits)
    prompts: list[PromptInput] = []
    for prompt in wanted.prompts:
        if isinstance(prompt, str):
            text = rules.checked_text(prompt)
            token_ids = await encode_text(context, text, add_special_tokens=wanted.add_special_tokens)
            prompts.append(PromptInput(token_ids=rules.fitted(token_ids, is_text=True), text=prompt))
        else:
            token_ids = rules.fitted(prompt, is_text=False)
            shown = (
                context.tokenizer.decode(token_ids, skip_special_tokens=False)
                if wanted.echo and not wanted.return_token_ids
                else None
            )
            prompts.append(PromptInput(token_ids=token_ids, text=shown))
    return prompts


class _Completion(Reply):
    """One request's answer, whole or in events."""

    def __init__(self, arrived: Incoming, wanted: CompletionRequest, asked: Sequence[Asked]) -> None:
        super().__init__(
            arrived,
            wanted,
            head_of(arrived, wanted.model, arrived.answer_id("cmpl-", wanted), is_signed=True),
            asked,
            usage=UsageRules.of(arrived.context, wanted.stream_options),
        )
        self._wanted = wanted
        self._as_token_ids = self._shows_ids(is_wanted=wanted.return_tokens_as_token_ids)
        self._tells_only_text = (
            wanted.logprobs is None and not wanted.return_token_ids and not self._usage.in_every_event
        )
        self._chunks: dict[int, CompletionChunks] = {}
        self._told: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._scored: dict[int, Sequence[TokenLogprobs]] = {}
        self._weight_version = arrived.weight_version(is_wanted=wanted.return_weight_versions)

    def _prompt_id(self, number: int) -> str:
        return f"{self.head.id}-{number}"

    def orders(self) -> Sequence[OrderedSample]:
        """Make the orders, and find what is told of the prompts' tokens; all samples of a prompt tell the same."""
        samples = super().orders()
        for number, each in enumerate(self._asked):
            if each.sampling.prompt_logprobs is not None:
                positions = self._positions(number * self._num_samples)
                self._scored[number] = positions.of_prompt(each.prompt.token_ids)
        return samples

    # -- whole ---------------------------------------------------------------------------------------------

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        return completion_body(
            self.head,
            [self._choice(sample) for sample in generation.samples],
            self._total(generation, told_by=-1),
            metrics=self._times(generation),
            encode_body=self._encode_body,
        )

    def _choice(self, sample: Sample) -> CompletionChoice:
        wanted, prompt = self._wanted, self._prompt(sample)
        assert sample.order.text is not None, "completions have text"
        text, token_ids = sample.order.text.text, list(sample.output_token_ids)
        if wanted.echo:
            text = self._echo(prompt) + ("" if wanted.only_echoes else text)
        return CompletionChoice(
            text=text,
            finish_reason=sample.finish_reason,
            stop_reason=sample.stop_reason,
            logprobs=self._logprobs(sample, token_ids, is_first=True),
            token_ids=token_ids if wanted.return_token_ids else None,
            prompt_logprobs=self._prompt_logprobs(sample),
            prompt_token_ids=prompt.token_ids if wanted.return_token_ids else None,
            weight_versions=weight_versions(self._weight_version, sample),
        )

    # -- streamed ------------------------------------------------------------------------------------------

    def growth(self, growth: Growth) -> bytes:
        """Return the event for what is new of a choice."""
        sample, wanted = growth.sample, self._wanted
        index = sample.order.index
        chunks = self._chunks.get(index)
        is_first = chunks is None
        if chunks is None:
            chunks = self._chunks[index] = CompletionChunks(self.head, index)
        elif self._tells_only_text and sample.finish_reason is None:
            return chunks.text(growth.text)
        prompt = self._prompt(sample)
        text = growth.text
        if is_first and wanted.echo:
            text = self._echo(prompt) + ("" if wanted.only_echoes else text)
        told = self._told.get(index, 0)
        self._told[index] = told + len(growth.token_ids)
        logprobs = self._logprobs(sample, growth.token_ids, is_first=is_first)
        shows_prompt = is_first and (wanted.echo or wanted.return_token_ids)
        prompt_token_ids = prompt.token_ids if shows_prompt else None
        token_ids = growth.token_ids if wanted.return_token_ids else None
        usage = None
        if self._usage.in_every_event:
            usage = Usage(len(prompt.token_ids), self._told[index])
        if sample.finish_reason is None:
            return chunks.text(
                text, logprobs=logprobs, prompt_token_ids=prompt_token_ids, token_ids=token_ids, usage=usage
            )
        end = ChoiceEnd(
            sample.finish_reason,
            sample.stop_reason,
            weight_versions(self._weight_version, sample),
            self._usage.in_last_event,
        )
        return chunks.last(
            text, end, logprobs=logprobs, prompt_token_ids=prompt_token_ids, token_ids=token_ids, usage=usage
        )

    def end(self, generation: Generation) -> bytes:
        """Return the event with the usage, if it is wanted, and the last one."""
        return self._last_events(generation, partial(completion_usage_event, self.head))

    # -- parts ---------------------------------------------------------------------------------------------

    def _prompt(self, sample: Sample) -> PromptInput:
        return self._asked[sample.order.index // self._num_samples].prompt

    def _echo(self, prompt: PromptInput) -> str:
        return "" if self._wanted.return_token_ids else prompt.text or ""

    def _prompt_logprobs(self, sample: Sample) -> Sequence[dict[str, object] | None] | None:
        scored = self._scored.get(sample.order.index // self._num_samples)
        return None if scored is None else prompt_logprobs(scored)

    def _logprobs(
        self, sample: Sample, token_ids: Sequence[int], *, is_first: bool
    ) -> dict[str, object] | None:
        """Return the log probabilities of new tokens, on the first occasion with those of an echoed prompt."""
        wanted = self._wanted
        if wanted.logprobs is None:
            return None
        index = sample.order.index
        told: list[TokenLogprobs] = []
        if is_first and wanted.echo:
            told += self._scored[index // self._num_samples]
        if not wanted.only_echoes:
            first = self._told.get(index, len(token_ids)) - len(token_ids)
            told += self._positions(index).of_output(token_ids, first)
        offset = self._offsets.get(index, 0)
        result = completion_logprobs(
            told,
            wanted.logprobs,
            first_offset=offset,
            as_token_ids=self._as_token_ids,
            all_candidates=wanted.logprob_token_ids is not None,
        )
        self._offsets[index] = next_offset(result, offset)
        return result


ROUTES: tuple[web.RouteDef, ...] = (post("/v1/completions", completions),)
