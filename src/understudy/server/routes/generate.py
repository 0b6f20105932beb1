"""The routes /inference/v1/generate and /inference/v1/abort_requests: tokens in, tokens out.

(vllm/entrypoints/scale_out/token_in_token_out, 0.33.0)
"""

from collections.abc import Sequence

from aiohttp import web

from understudy.server.context import context_of
from understudy.server.orders import PromptInput
from understudy.server.routes.answers import post
from understudy.server.routes.generation import respond
from understudy.server.routes.incoming import Incoming, incoming
from understudy.server.routes.reply import Asked, Reply, UsageRules, head_of
from understudy.server.sample import Generation, Sample
from understudy.server.streamed_answer import Growth
from understudy.web import DEFAULT_LIMITS, read_json
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
from understudy.wire.usage import RequestMetrics, Usage


async def generate(request: web.Request) -> web.StreamResponse:
    """Answer a prompt of token ids."""
    arrived = await incoming(request)
    max_num_seqs = arrived.context.engine_config.max_num_seqs
    wanted = parse_generate(arrived.body, arrived.limits, max_num_seqs, arrived.content_type)
    sampling = generate_sampling(wanted, arrived.limits)
    arrived.check_queue(sampling.n)
    asked = Asked(PromptInput(token_ids=wanted.token_ids), sampling)
    return await respond(arrived, _Generate(arrived, wanted, asked))


class _Generate(Reply):
    """One request's answer, whole or in events."""

    def __init__(self, arrived: Incoming, wanted: GenerateRequest, asked: Asked) -> None:
        super().__init__(
            arrived,
            wanted,
            head_of(arrived, wanted.model, arrived.answer_id("generate-tokens-", wanted)),
            [asked],
            usage=UsageRules.of(arrived.context, wanted.stream_options),
            limits_itself=wanted.sampling_params.max_tokens is not None,
        )
        self._wanted = wanted
        self._sampling = asked.sampling
        self._mode: OutputMode = "text" if wanted.output_mode == "text" else "tokens"
        self._told = [0] * asked.sampling.n

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
            self._total(generation),
            self._mode,
            prompt_logprobs=told_prompt,
            prompt_token_ids=self._wanted.token_ids if self._wanted.return_token_ids else None,
            encode_body=self._encode_body,
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

        def usage_event(usage: Usage, _times: RequestMetrics | None) -> bytes:
            return generate_event(self.head.id, None, self._mode, usage=usage)

        return self._last_events(generation, usage_event)

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


async def abort_generations(request: web.Request) -> web.Response:
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
    post("/inference/v1/abort_requests", abort_generations),
)
"""They exist with `--enable-scale-out`."""

DISABLED_ROUTES: tuple[web.RouteDef, ...] = tuple(post(path, disabled) for path in _PATHS)
"""They exist without."""
