"""The routes /inference/v1/generate and /inference/v1/abort_requests: tokens in, tokens out.

(vllm/entrypoints/scale_out/token_in_token_out, 0.33.0)
"""

import time
from collections.abc import Sequence

from aiohttp import web

from understudy.server.context import ServerContext, context_of
from understudy.server.http import DEFAULT_LIMITS, read_json
from understudy.server.orders import AnswerPlan, OrderedSample, PromptInput, orders_of, take_long
from understudy.server.positions import Positions
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
    total_usage,
)
from understudy.server.sample import Generation, Sample
from understudy.server.says import texts_to_say
from understudy.server.streamed_answer import Growth
from understudy.wire.completion_answers import AnswerHead
from understudy.wire.generate import (
    GenerateChoice,
    GenerateRequest,
    OutputMode,
    generate_body,
    generate_event,
    generate_logprobs,
    generate_sampling,
    parse_abort,
    parse_generate,
    scale_out_disabled,
)
from understudy.wire.logprobs import chat_logprobs, prompt_logprobs
from understudy.wire.sampling import Sampling, check_for_model, check_prompt
from understudy.wire.served_model import answering_name
from understudy.wire.sse import DONE
from understudy.wire.usage import Usage


async def generate(request: web.Request) -> web.StreamResponse:
    """Answer a prompt of token ids."""
    context = context_of(request)
    arrival_ns = context.frontend.clock.now_ns()
    body = await read_json(request, DEFAULT_LIMITS)
    faults = injected_faults(context, body)
    limits = context.limits
    content_type = request.headers.get("Content-Type", "")
    wanted = parse_generate(body, limits, context.engine_config.max_num_seqs, content_type)
    sampling = generate_sampling(wanted, limits)
    check_queue(context, sampling.n)
    request_id = request_id_of(request, "generate-tokens-", given_id(wanted))
    prompt = PromptInput(token_ids=wanted.token_ids)
    answer = _Generate(context, wanted, sampling, request_id)

    def orders() -> Sequence[OrderedSample]:
        check_for_model(sampling, limits)
        check_prompt(prompt.token_ids, sampling, limits)
        plan = AnswerPlan(
            model=answer.head.model,
            priority=priority_of(request, wanted.priority),
            cache_salt=wanted.cache_salt,
            limits_itself=wanted.sampling_params.max_tokens is not None,
            says=texts_to_say(context, sampling, prompt.token_ids),
        )
        answer.samples = orders_of(context, prompt, sampling, plan, prompt_id=request_id)
        return answer.samples

    job = GenerationJob(
        request_id=request_id,
        arrival_ns=arrival_ns,
        orders=orders,
        body=answer.whole,
        writer=answer,
        error_event=lambda error: error.chat_event + DONE,
        is_streamed=bool(wanted.stream),
        orders_take_long=take_long(sampling, len(prompt.token_ids)),
        body_takes_long=sampling.logprobs is not None or sampling.prompt_logprobs is not None,
        rank=rank_of(request),
    )
    return await respond(request, context, job, faults)


class _Generate:
    """One request's answer, whole or in events."""

    def __init__(
        self, context: ServerContext, wanted: GenerateRequest, sampling: Sampling, request_id: str
    ) -> None:
        self.head = AnswerHead(request_id, int(time.time()), answering_name(wanted.model, context.limits))
        self.samples: list[OrderedSample] = []
        self._context = context
        self._wanted = wanted
        self._sampling = sampling
        self._mode: OutputMode = "text" if wanted.output_mode == "text" else "tokens"
        options = wanted.stream_options
        self._usage = UsageRules.of(
            context,
            include=bool(options and options.include_usage),
            continuous=bool(options and options.continuous_usage_stats),
        )
        self._told = [0] * sampling.n

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        told_prompt = None
        if self._sampling.prompt_logprobs is not None:
            told_prompt = prompt_logprobs(self._positions(0).of_prompt(self._wanted.token_ids))
        return generate_body(
            self.head,
            [
                self._choice(sample, sample.output_token_ids, self._text(sample), 0)
                for sample in generation.samples
            ],
            total_usage(generation, self._sampling.n, self._usage, told_by=0),
            self._mode,
            prompt_logprobs=told_prompt,
            prompt_token_ids=self._wanted.token_ids if self._wanted.return_token_ids else None,
        )

    def growth(self, growth: Growth) -> bytes:
        """Return the event for what is new of a choice."""
        index = growth.sample.order.index
        first = self._told[index]
        self._told[index] += len(growth.token_ids)
        num_prompt = len(self._wanted.token_ids)
        shows_prompt = self._wanted.return_token_ids and first == 0
        return generate_event(
            self.head.id,
            self._choice(growth.sample, growth.token_ids, growth.text, first),
            self._mode,
            usage=Usage(num_prompt, self._told[index]) if self._usage.in_every_event else None,
            prompt_token_ids=self._wanted.token_ids if shows_prompt else None,
        )

    def end(self, generation: Generation) -> bytes:
        """Return the event with the usage, if it is wanted, and the last one."""
        if not self._usage.in_last_event:
            return DONE
        usage = total_usage(generation, self._sampling.n, self._usage, told_by=0)
        return generate_event(self.head.id, None, self._mode, usage=usage) + DONE

    def _choice(self, sample: Sample, token_ids: Sequence[int], text: str, first: int) -> GenerateChoice:
        logprobs = None
        if self._sampling.logprobs is not None:
            told = self._positions(sample.order.index).of_output(token_ids, first)
            in_text = self._mode == "text"
            logprobs = chat_logprobs(told, self._sampling.logprobs) if in_text else generate_logprobs(told)
        return GenerateChoice(
            sample.order.index,
            list(token_ids),
            sample.finish_reason,
            sample.stop_reason,
            text=text if self._mode == "text" else None,
            logprobs=logprobs,
        )

    @staticmethod
    def _text(sample: Sample) -> str:
        return "" if sample.order.text is None else sample.order.text.text

    def _positions(self, index: int) -> Positions:
        context = self._context
        return Positions(
            context.tokenizer, context.limits.vocabulary_size, self._sampling, self.samples[index].key
        )


async def abort_requests(request: web.Request) -> web.Response:
    """End requests by their ids."""
    request_ids = parse_abort(await read_json(request, DEFAULT_LIMITS))
    context_of(request).frontend.abort_prompts(request_ids)
    return web.Response(status=200)


async def disabled(_request: web.Request) -> web.Response:
    """Say that these routes are off."""
    raise scale_out_disabled()


_PATHS = (
    "/inference/v1/generate",
    "/inference/v1/abort_requests",
    "/v1/completions/render",
    "/v1/chat/completions/render",
    "/v1/messages/render",
    "/v1/responses/render",
    "/v1/completions/derender",
    "/v1/chat/completions/derender",
)

ROUTES: tuple[web.RouteDef, ...] = (
    post("/inference/v1/generate", generate),
    post("/inference/v1/abort_requests", abort_requests),
)
"""They exist with `--enable-scale-out`."""

DISABLED_ROUTES: tuple[web.RouteDef, ...] = tuple(post(path, disabled) for path in _PATHS)
"""They exist without."""
