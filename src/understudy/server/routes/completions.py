"""The route /v1/completions.

(vllm/entrypoints/openai/completion/serving.py, 0.33.0)
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from understudy.server.context import ServerContext, context_of
from understudy.server.http import DEFAULT_LIMITS, read_json
from understudy.server.orders import AnswerPlan, OrderedSample, PromptInput, orders_of, take_long
from understudy.server.positions import Positions
from understudy.server.prompts import encode_text
from understudy.server.routes.answers import post
from understudy.server.routes.generation import (
    GenerationJob,
    UsageRules,
    check_queue,
    given_id,
    injected_faults,
    priority_of,
    rank_of,
    request_id_of,
    respond,
    times_of,
    total_usage,
    weight_version_of,
    weight_versions,
)
from understudy.server.sample import Generation, Sample
from understudy.server.says import texts_to_say
from understudy.server.streamed_answer import Growth
from understudy.wire.completion_answers import (
    AnswerHead,
    CompletionChoice,
    CompletionChunks,
    completion_body,
    completion_usage_event,
)
from understudy.wire.completions import CompletionRequest, completion_sampling, parse_completion
from understudy.wire.logprobs import TokenLogprobs, completion_logprobs, next_offset, prompt_logprobs
from understudy.wire.sampling import Sampling, check_for_model, check_prompt
from understudy.wire.served_model import answering_name
from understudy.wire.sse import DONE
from understudy.wire.usage import Usage


async def completions(request: web.Request) -> web.StreamResponse:
    """Complete prompts."""
    context = context_of(request)
    arrival_ns = context.frontend.clock.now_ns()
    body = await read_json(request, DEFAULT_LIMITS)
    faults = injected_faults(context, body)
    limits = context.limits
    wanted = parse_completion(body, limits, request.headers.get("Content-Type", ""))
    check_queue(context, wanted.n)
    prompts = await _prompts(context, wanted)
    samplings = [completion_sampling(wanted, len(prompt.token_ids), limits) for prompt in prompts]
    answer = _Completion(
        context,
        wanted,
        prompts,
        samplings,
        request_id=request_id_of(request, "cmpl-", given_id(wanted)),
        weight_version=weight_version_of(request, wanted),
    )
    plan = AnswerPlan(
        model=answer.head.model,
        priority=priority_of(request, wanted.priority),
        cache_salt=wanted.cache_salt,
    )

    def orders() -> list[OrderedSample]:
        for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True)):
            check_for_model(sampling, limits)
            check_prompt(prompt.token_ids, sampling, limits)
            answer.samples += orders_of(
                context,
                prompt,
                sampling,
                replace(plan, says=texts_to_say(context, sampling, prompt.token_ids)),
                prompt_id=f"{answer.head.id}-{number}",
                first_index=number * wanted.n,
            )
            answer.score_prompt(number)
        return answer.samples

    job = GenerationJob(
        request_id=answer.head.id,
        arrival_ns=arrival_ns,
        orders=orders,
        body=answer.whole,
        writer=answer,
        error_event=lambda error: error.completion_event + DONE,
        is_streamed=bool(wanted.stream),
        orders_take_long=any(
            take_long(sampling, len(prompt.token_ids))
            for prompt, sampling in zip(prompts, samplings, strict=True)
        ),
        body_takes_long=wanted.logprobs is not None or wanted.prompt_logprobs is not None,
        rank=rank_of(request),
    )
    return await respond(request, context, job, faults)


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


class _Completion:
    """One request's answer, whole or in events."""

    def __init__(
        self,
        context: ServerContext,
        wanted: CompletionRequest,
        prompts: Sequence[PromptInput],
        samplings: Sequence[Sampling],
        *,
        request_id: str,
        weight_version: str | None,
    ) -> None:
        self.head = AnswerHead(
            request_id,
            int(time.time()),
            answering_name(wanted.model, context.limits),
            context.system_fingerprint,
        )
        self.samples: list[OrderedSample] = []
        self._context = context
        self._wanted = wanted
        self._prompts = prompts
        self._samplings = samplings
        options = wanted.stream_options
        self._usage = UsageRules.of(
            context,
            include=bool(options and options.include_usage),
            continuous=bool(options and options.continuous_usage_stats),
        )
        as_ids = wanted.return_tokens_as_token_ids
        self._as_token_ids = context.arguments["return_tokens_as_token_ids"] if as_ids is None else as_ids
        self._tells_only_text = (
            wanted.logprobs is None and not wanted.return_token_ids and not self._usage.in_every_event
        )
        self._chunks: dict[int, CompletionChunks] = {}
        self._told: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._scored: dict[int, Sequence[TokenLogprobs]] = {}
        self._weight_version = weight_version

    def score_prompt(self, number: int) -> None:
        """Find what is told of a prompt's tokens, if that is wanted; all its samples tell the same."""
        sampling = self._samplings[number]
        if sampling.prompt_logprobs is not None:
            key = self.samples[number * self._wanted.n].key
            self._scored[number] = self._positions_by(sampling, key).of_prompt(
                self._prompts[number].token_ids
            )

    # -- whole ---------------------------------------------------------------------------------------------

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        last = len(generation.samples) - 1
        usage = total_usage(generation, self._wanted.n, self._usage, told_by=last)
        return completion_body(
            self.head,
            [self._choice(sample) for sample in generation.samples],
            usage,
            metrics=times_of(generation.samples[0]) if self._tells_times else None,
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
        return chunks.last(
            text,
            sample.finish_reason,
            stop_reason=sample.stop_reason,
            logprobs=logprobs,
            prompt_token_ids=prompt_token_ids,
            token_ids=token_ids,
            weight_versions=weight_versions(self._weight_version, sample),
            usage=usage,
            has_usage_chunk=self._usage.in_last_event,
        )

    def end(self, generation: Generation) -> bytes:
        """Return the event with the usage, if it is wanted, and the last one."""
        if not self._usage.in_last_event:
            return DONE
        usage = total_usage(generation, self._wanted.n, self._usage, told_by=0)
        times = times_of(generation.samples[0]) if self._tells_times else None
        return completion_usage_event(self.head, usage, times) + DONE

    # -- parts ---------------------------------------------------------------------------------------------

    @property
    def _tells_times(self) -> bool:
        return bool(self._context.arguments["enable_per_request_metrics"]) and len(self.samples) == 1

    def _prompt(self, sample: Sample) -> PromptInput:
        return self._prompts[sample.order.index // self._wanted.n]

    def _echo(self, prompt: PromptInput) -> str:
        return "" if self._wanted.return_token_ids else prompt.text or ""

    def _positions(self, sample: Sample) -> Positions:
        index = sample.order.index
        return self._positions_by(self._samplings[index // self._wanted.n], self.samples[index].key)

    def _positions_by(self, sampling: Sampling, key: bytes) -> Positions:
        return Positions(self._context.tokenizer, self._context.limits.vocabulary_size, sampling, key)

    def _prompt_logprobs(self, sample: Sample) -> list[dict[str, object] | None] | None:
        scored = self._scored.get(sample.order.index // self._wanted.n)
        return None if scored is None else prompt_logprobs(scored)

    def _logprobs(
        self, sample: Sample, token_ids: Sequence[int], *, is_first: bool
    ) -> dict[str, object] | None:
        """Return the log probabilities of new tokens, on the first occasion with those of an echoed prompt."""
        wanted = self._wanted
        if wanted.logprobs is None:
            return None
        positions = self._positions(sample)
        index = sample.order.index
        told: list[TokenLogprobs] = []
        if is_first and wanted.echo:
            told += self._scored[index // wanted.n]
        if not wanted.only_echoes:
            first = self._told.get(index, len(token_ids)) - len(token_ids)
            told += positions.of_output(token_ids, first)
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
