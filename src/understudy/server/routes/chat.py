"""The route /v1/chat/completions.

(vllm/entrypoints/openai/chat_completion/serving.py, 0.33.0)
"""

import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from understudy.server.context import ServerContext, context_of
from understudy.server.http import DEFAULT_LIMITS, read_json
from understudy.server.orders import AnswerPlan, OrderedSample, PromptInput, orders_of, take_long
from understudy.server.positions import Positions
from understudy.server.prompts import encode_text, last_user_text, render_chat
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
from understudy.server.says import ToolPlan, texts_to_say, tools_to_call
from understudy.server.streamed_answer import Growth
from understudy.wire.chat import ChatRequest, chat_sampling, forwarded_token_ids, parse_chat
from understudy.wire.chat_answers import (
    ChatChoice,
    ChatChunks,
    ToolCall,
    chat_body,
    content_delta,
    tool_call_more,
    tool_call_start,
)
from understudy.wire.completion_answers import AnswerHead, chat_usage_event
from understudy.wire.conversation import check_continuation, conversation
from understudy.wire.logprobs import chat_logprobs, prompt_logprobs
from understudy.wire.messages import Conversation
from understudy.wire.sampling import Sampling, check_for_model, check_prompt
from understudy.wire.served_model import answering_name
from understudy.wire.sse import DONE
from understudy.wire.usage import Usage


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    context = context_of(request)
    arrival_ns = context.frontend.clock.now_ns()
    body = await read_json(request, DEFAULT_LIMITS)
    faults = injected_faults(context, body)
    limits = context.limits
    wanted = parse_chat(body, limits, request.headers.get("Content-Type", ""))
    check_queue(context, wanted.num_choices)
    messages, prompt = await _prompt(context, wanted)
    sampling = chat_sampling(wanted, len(prompt.token_ids), limits)
    request_id = request_id_of(request, "chatcmpl-", given_id(wanted))
    answer = _Chat(
        context,
        wanted,
        messages,
        prompt,
        sampling,
        request_id=request_id,
        weight_version=weight_version_of(request, wanted),
    )

    def orders() -> Sequence[OrderedSample]:
        check_for_model(sampling, limits)
        check_prompt(prompt.token_ids, sampling, limits)
        tools = tools_to_call(context, wanted, sampling, prompt.token_ids)
        says = [each.text for each in tools] or texts_to_say(context, sampling, prompt.token_ids)
        plan = AnswerPlan(
            model=answer.head.model,
            priority=priority_of(request, wanted.priority),
            cache_salt=wanted.cache_salt,
            limits_itself=wanted.wanted_max_tokens is not None,
            says=says,
        )
        samples = orders_of(context, prompt, sampling, plan, prompt_id=request_id)
        answer.ordered(samples, tools)
        return samples

    job = GenerationJob(
        request_id=request_id,
        arrival_ns=arrival_ns,
        orders=orders,
        body=answer.whole,
        writer=answer,
        error_event=lambda error: error.chat_event + DONE,
        is_streamed=bool(wanted.stream),
        orders_take_long=bool(wanted.tools) or take_long(sampling, len(prompt.token_ids)),
        body_takes_long=sampling.logprobs is not None or sampling.prompt_logprobs is not None,
        rank=rank_of(request),
    )
    return await respond(request, context, job, faults)


async def _prompt(context: ServerContext, wanted: ChatRequest) -> tuple[Conversation, PromptInput]:
    """Return the conversation, and its prompt as tokens that fit; raises ApiError."""
    limits = context.limits
    rules = wanted.rules(limits)
    forwarded = forwarded_token_ids(wanted, limits)
    if forwarded is not None:
        return [], PromptInput(token_ids=rules.fitted(forwarded, is_text=False))
    messages = conversation(wanted.messages, limits)
    check_continuation(
        continue_final_message=wanted.continue_final_message,
        add_generation_prompt=wanted.add_generation_prompt,
    )
    kwargs = dict(wanted.chat_template_kwargs or {})
    if wanted.documents is not None:
        kwargs["documents"] = wanted.documents
    if wanted.reasoning_effort is not None:
        kwargs["reasoning_effort"] = wanted.reasoning_effort
    text = render_chat(
        context,
        messages,
        add_generation_prompt=wanted.add_generation_prompt,
        continue_final_message=wanted.continue_final_message,
        tools=None if wanted.tools is None else [tool.template_fields for tool in wanted.tools],
        chat_template=wanted.chat_template,
        kwargs=kwargs,
    )
    token_ids = await encode_text(
        context, rules.checked_text(text), add_special_tokens=wanted.add_special_tokens
    )
    return messages, PromptInput(
        token_ids=rules.fitted(token_ids, is_text=True),
        text=text,
        last_user_text=last_user_text(messages),
    )


class _Chat:
    """One request's answer, whole or in events."""

    def __init__(
        self,
        context: ServerContext,
        wanted: ChatRequest,
        messages: Conversation,
        prompt: PromptInput,
        sampling: Sampling,
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
        self._messages = messages
        self._prompt = prompt
        self._sampling = sampling
        self._tools: Sequence[ToolPlan] = ()
        options = wanted.stream_options
        self._usage = UsageRules.of(
            context,
            include=bool(options and options.include_usage),
            continuous=bool(options and options.continuous_usage_stats),
        )
        as_ids = wanted.return_tokens_as_token_ids
        self._as_token_ids = context.arguments["return_tokens_as_token_ids"] if as_ids is None else as_ids
        self._tells_only_text = (
            not wanted.logprobs and not wanted.return_token_ids and not self._usage.in_every_event
        )
        self._chunks = [ChatChunks(self.head, index) for index in range(sampling.n)]
        self._told = [0] * sampling.n
        self._calls: list[_CallStream | None] = []
        self._has_begun = False
        self._weight_version = weight_version

    def ordered(self, samples: list[OrderedSample], tools: Sequence[ToolPlan]) -> None:
        """Take what was asked of the engine, and the tool calls of each sample if there may be any."""
        self.samples = samples
        self._tools = tools
        self._calls = [None if plan.text is None else _CallStream(plan) for plan in tools]

    # -- whole ---------------------------------------------------------------------------------------------

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        wanted = self._wanted
        usage = total_usage(
            generation,
            self._sampling.n,
            self._usage,
            told_by=0,
            block_size=self._context.engine_config.block_size,
        )
        told_prompt = None
        if self._sampling.prompt_logprobs is not None:
            told_prompt = prompt_logprobs(self._positions(0).of_prompt(self._prompt.token_ids))
        return chat_body(
            self.head,
            [self._choice(sample) for sample in generation.samples],
            usage,
            prompt_logprobs=told_prompt,
            prompt_token_ids=self._prompt.token_ids if wanted.return_token_ids else None,
            prompt_text=self._prompt.text if wanted.return_prompt_text else None,
            metrics=times_of(generation.samples[0]) if self._tells_times else None,
        )

    def _choice(self, sample: Sample) -> ChatChoice:
        wanted = self._wanted
        assert sample.order.text is not None, "chats have text"
        text, token_ids = sample.order.text.text, list(sample.output_token_ids)
        calls: Sequence[ToolCall] = ()
        finish_reason = sample.finish_reason
        content: str | None = text
        if self._tools:
            content, calls, finish_reason = self._tools[sample.order.index].parsed(text, finish_reason)
            self._count_parsed(is_streaming=False, is_tool_called=bool(calls))
        if wanted.echo:
            content = self._echo() + (content or "")
        return ChatChoice(
            content=content,
            finish_reason=finish_reason,
            role=self._role,
            tool_calls=calls,
            stop_reason=sample.stop_reason,
            logprobs=self._logprobs(sample.order.index, token_ids, 0),
            token_ids=token_ids if wanted.return_token_ids else None,
            weight_versions=weight_versions(self._weight_version, sample),
        )

    # -- streamed ------------------------------------------------------------------------------------------

    def growth(self, growth: Growth) -> bytes:
        """Return the events for what is new of a choice; the first of all open every choice."""
        opening = b""
        if not self._has_begun:
            self._has_begun = True
            opening = self._opening()
        return opening + self._event(growth)

    def _opening(self) -> bytes:
        wanted, prompt = self._wanted, self._prompt
        usage = Usage(len(prompt.token_ids), 0) if self._usage.in_every_event else None
        events = b"".join(
            chunks.role(
                self._role,
                prompt_token_ids=prompt.token_ids if wanted.return_token_ids else None,
                prompt_text=prompt.text if wanted.return_prompt_text else None,
                usage=usage,
            )
            for chunks in self._chunks
        )
        if wanted.echo and (echo := self._echo()):
            events += b"".join(chunks.echo(echo, usage) for chunks in self._chunks)
        return events

    def _event(self, growth: Growth) -> bytes:
        sample, wanted = growth.sample, self._wanted
        index = sample.order.index
        chunks = self._chunks[index]
        first_position = self._told[index]
        self._told[index] += len(growth.token_ids)
        if self._tells_only_text and not self._calls and sample.finish_reason is None:
            return chunks.text(growth.text)
        logprobs = self._logprobs(index, growth.token_ids, first_position)
        token_ids = growth.token_ids if wanted.return_token_ids else None
        usage = None
        if self._usage.in_every_event:
            usage = Usage(len(self._prompt.token_ids), self._told[index])
        finish_reason = sample.finish_reason
        calls = self._calls[index] if self._calls else None
        if calls is None:
            if self._tools:
                self._count_parsed(is_streaming=True, is_tool_called=False)
            if finish_reason is None:
                return chunks.text(growth.text, logprobs=logprobs, token_ids=token_ids, usage=usage)
            delta = content_delta(growth.text) if growth.token_ids or first_position else {}
        else:
            delta = calls.delta(growth.text)
            self._count_parsed(is_streaming=True, is_tool_called=bool(delta))
            if finish_reason is None:
                if not delta and logprobs is None and token_ids is None:
                    return b""
                return chunks.delta(delta, logprobs=logprobs, token_ids=token_ids, usage=usage)
            finish_reason = calls.finish_reason(finish_reason)
        return chunks.last(
            delta,
            finish_reason,
            stop_reason=sample.stop_reason,
            logprobs=logprobs,
            token_ids=token_ids,
            weight_versions=weight_versions(self._weight_version, sample),
            usage=usage,
            has_usage_chunk=self._usage.in_last_event,
        )

    def end(self, generation: Generation) -> bytes:
        """Return the event with the usage, if it is wanted, and the last one."""
        if not self._usage.in_last_event:
            return DONE
        usage = total_usage(
            generation,
            self._sampling.n,
            self._usage,
            told_by=0,
            block_size=self._context.engine_config.block_size,
        )
        times = times_of(generation.samples[0]) if self._tells_times else None
        return chat_usage_event(self.head, usage, times) + DONE

    # -- parts ---------------------------------------------------------------------------------------------

    def _count_parsed(self, *, is_streaming: bool, is_tool_called: bool) -> None:
        """Count that vLLM's tool parser would have looked at a choice, or at what is new of one."""
        self._context.metrics.tool_parsed(
            "chat_completions", is_streaming=is_streaming, is_tool_called=is_tool_called
        )

    @property
    def _role(self) -> str:
        if self._wanted.add_generation_prompt or not self._messages:
            return str(self._context.arguments["response_role"])
        return str(self._messages[-1]["role"])

    @property
    def _tells_times(self) -> bool:
        return bool(self._context.arguments["enable_per_request_metrics"]) and self._sampling.n == 1

    def _echo(self) -> str:
        last = self._messages[-1] if self._messages else None
        return str(last["content"] or "") if last is not None and last["role"] == self._role else ""

    def _positions(self, index: int) -> Positions:
        context = self._context
        return Positions(
            context.tokenizer, context.limits.vocabulary_size, self._sampling, self.samples[index].key
        )

    def _logprobs(self, index: int, token_ids: Sequence[int], first_position: int) -> dict[str, Any] | None:
        wanted = self._wanted
        if not wanted.logprobs:
            return None
        return chat_logprobs(
            self._positions(index).of_output(token_ids, first_position),
            wanted.top_logprobs or 0,
            as_token_ids=self._as_token_ids,
            all_candidates=wanted.logprob_token_ids is not None,
        )


class _CallStream:
    """Turns the raw text of tool calls, as it grows, into deltas: a call's name when it is known, then its arguments."""

    def __init__(self, plan: ToolPlan) -> None:
        self._plan = plan
        self._text = ""
        self._num_told = [-1] * len(plan.calls)

    def delta(self, text: str) -> dict[str, Any]:
        """Return what is new of the message."""
        self._text += text
        _, shown = self._plan.shown(self._text)
        calls: list[dict[str, Any]] = []
        for index, (call, arguments) in enumerate(zip(self._plan.calls, shown, strict=False)):
            start = self._num_told[index]
            if start < 0:
                calls.append(tool_call_start(index, call.id, call.name, arguments))
            elif len(arguments) > start:
                calls.append(tool_call_more(index, arguments[start:]))
            self._num_told[index] = len(arguments)
        return content_delta(tool_calls=calls)

    def finish_reason(self, finish_reason: str) -> str:
        """Return the reason to tell, given the engine's."""
        return self._plan.finish_reason(finish_reason)


ROUTES: tuple[web.RouteDef, ...] = (post("/v1/chat/completions", chat_completions),)
