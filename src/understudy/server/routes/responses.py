"""The routes of /v1/responses: text and function calls. Nothing is stored, as in vLLM unless told otherwise.

(vllm/entrypoints/openai/responses/serving.py, 0.33.0)
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from understudy.server.context import ServerContext, context_of
from understudy.server.generate import NamedTool, Tool, ToolChoice
from understudy.server.http import DEFAULT_LIMITS, read_json
from understudy.server.orders import AnswerPlan, OrderedSample, PromptInput, orders_of, take_long
from understudy.server.positions import Positions
from understudy.server.prompts import encode_text, last_user_text, render_chat
from understudy.server.routes.answers import post
from understudy.server.routes.generation import (
    GenerationJob,
    UsageRules,
    check_queue,
    injected_faults,
    priority_of,
    rank_of,
    request_id_of,
    respond,
    total_usage,
)
from understudy.server.sample import Generation
from understudy.server.says import ToolPlan, plans_of_calls, texts_to_say
from understudy.server.streamed_answer import Growth
from understudy.wire.chat_answers import ToolCall
from understudy.wire.completion_answers import AnswerHead
from understudy.wire.conversation import conversation
from understudy.wire.logprobs import chat_logprobs
from understudy.wire.response_answers import (
    ResponseEvents,
    ResponseHead,
    function_call_item,
    message_item,
    response_body,
    status_of,
)
from understudy.wire.responses import (
    ResponsesRequest,
    check_response_prompt,
    parse_responses,
    response_messages,
    response_not_found,
    response_sampling,
    template_tools,
)
from understudy.wire.sampling import Sampling, check_for_model
from understudy.wire.served_model import answering_name
from understudy.wire.usage import Usage


async def create_response(request: web.Request) -> web.StreamResponse:
    """Answer an input."""
    context = context_of(request)
    arrival_ns = context.frontend.clock.now_ns()
    body = await read_json(request, DEFAULT_LIMITS)
    faults = injected_faults(context, body)
    limits = context.limits
    wanted = parse_responses(body, limits, request.headers.get("Content-Type", ""))
    check_queue(context, 1)
    rules = wanted.rules(limits)
    messages = conversation(response_messages(wanted), limits)
    text = render_chat(context, messages, tools=template_tools(wanted), kwargs=wanted.chat_template_kwargs)
    token_ids = await encode_text(context, rules.checked_text(text), add_special_tokens=False)
    token_ids = rules.fitted(token_ids, is_text=True)
    check_response_prompt(len(token_ids), limits)
    sampling = response_sampling(wanted, len(token_ids), limits)
    prompt = PromptInput(
        token_ids=token_ids,
        text=text,
        last_user_text=last_user_text(messages),
    )
    request_id = request_id_of(request, "resp_", wanted.request_id or None)
    answer = _Response(context, wanted, sampling, request_id)

    def orders() -> Sequence[OrderedSample]:
        check_for_model(sampling, limits)
        plans = plans_of_calls(
            context,
            _functions(wanted),
            _choice(wanted),
            sampling,
            token_ids,
            parallel=wanted.parallel_tool_calls is not False,
        )
        says = [plan.text for plan in plans] or texts_to_say(context, sampling, token_ids)
        plan = AnswerPlan(
            model=answer.head.model,
            priority=priority_of(request, wanted.priority),
            cache_salt=wanted.cache_salt,
            limits_itself=wanted.max_output_tokens is not None,
            says=says,
        )
        samples = orders_of(context, prompt, sampling, plan, prompt_id=request_id)
        answer.ordered(samples, plans)
        return samples

    job = GenerationJob(
        request_id=request_id,
        arrival_ns=arrival_ns,
        orders=orders,
        body=answer.whole,
        writer=answer,
        error_event=lambda _error: b"",  # vLLM's stream just ends
        is_streamed=bool(wanted.stream),
        orders_take_long=bool(wanted.tools) or take_long(sampling, len(token_ids)),
        body_takes_long=sampling.logprobs is not None,
        rank=rank_of(request),
        opening=answer.opening,
    )
    return await respond(request, context, job, faults)


def _functions(wanted: ResponsesRequest) -> list[Tool]:
    return [
        Tool(tool["name"], tool.get("parameters")) for tool in wanted.tools if tool.get("type") == "function"
    ]


def _choice(wanted: ResponsesRequest) -> ToolChoice:
    choice = wanted.tool_choice
    if isinstance(choice, dict):
        return NamedTool(str(choice.get("name"))) if choice.get("type") == "function" else "auto"
    return choice


class _Response:
    """One request's answer, whole or in events."""

    def __init__(
        self,
        context: ServerContext,
        wanted: ResponsesRequest,
        sampling: Sampling,
        request_id: str,
    ) -> None:
        self.head = AnswerHead(request_id, int(time.time()), answering_name(wanted.model, context.limits))
        self.samples: list[OrderedSample] = []
        self._context = context
        self._wanted = wanted
        self._sampling = sampling
        self._calls: ToolPlan | None = None
        self._may_call = False
        self._usage = UsageRules(in_last_event=True, in_every_event=False, with_details=True)
        self._head = ResponseHead(self.head, wanted, sampling)
        self._events = ResponseEvents(self._head)
        self._text = ""
        self._num_told = 0
        self._has_begun = False
        self._open_call = -1
        self._num_shown = 0
        self._call_ids: list[str] = []

    def ordered(self, samples: list[OrderedSample], plans: Sequence[ToolPlan]) -> None:
        """Take what was asked of the engine, and the calls of functions if there may be any."""
        self.samples = samples
        self._calls = plans[0] if plans and plans[0].text is not None else None
        self._may_call = bool(plans)

    # -- whole ---------------------------------------------------------------------------------------------

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        sample = generation.samples[0]
        assert sample.order.text is not None, "responses have text"
        status = status_of(sample.finish_reason)
        content: str | None = sample.order.text.text
        output: list[dict[str, Any]] = []
        calls: Sequence[ToolCall] = ()
        if self._calls is not None:
            content, calls, _ = self._calls.parsed(content or "", sample.finish_reason)
            output = [
                function_call_item(
                    f"fc_{secrets.token_hex(8)}",
                    f"call_{secrets.token_hex(8)}",
                    call.name,
                    call.arguments,
                    "completed",
                )
                for call in calls
            ]
        self._count_parsed(is_streaming=False, is_tool_called=bool(calls))
        if content is not None:
            logprobs = self._logprobs(list(sample.output_token_ids), 0)
            output.insert(0, message_item(f"msg_{secrets.token_hex(8)}", content, status, logprobs))
        return response_body(self._head, output, status, self._counts(generation))

    # -- streamed ------------------------------------------------------------------------------------------

    def opening(self) -> bytes:
        """Return the events before any token."""
        return self._events.start()

    def growth(self, growth: Growth) -> bytes:
        """Return the events for what is new."""
        first = self._num_told
        self._num_told += len(growth.token_ids)
        self._text += growth.text
        if self._calls is not None:
            events = self._call_events(self._calls)
            self._count_parsed(is_streaming=True, is_tool_called=bool(events))
            return events
        self._count_parsed(is_streaming=True, is_tool_called=False)
        events = b""
        if not self._has_begun:
            self._has_begun = True
            events = self._events.start_message(f"msg_{secrets.token_hex(8)}")
        return events + self._events.text(growth.text, self._logprobs(growth.token_ids, first))

    def _call_events(self, plan: ToolPlan) -> bytes:
        """Return the events of function calls whose arguments have grown, begun or ended."""
        events = b""
        _, shown = plan.shown(self._text)
        for index, (call, (start, end)) in enumerate(zip(plan.calls, plan.spans, strict=True)):
            if index >= len(shown) or index < self._open_call:
                continue
            if index > self._open_call:
                self._open_call = index
                self._call_ids.append(f"call_{secrets.token_hex(8)}")
                events += self._events.start_call(f"fc_{secrets.token_hex(8)}", self._call_ids[-1], call.name)
                self._num_shown = 0
            arguments = shown[index]
            if len(arguments) > self._num_shown:
                events += self._events.arguments(arguments[self._num_shown :])
                self._num_shown = len(arguments)
                if len(arguments) == end - start:
                    events += self._events.end_call(self._call_ids[-1], call.name, arguments)
        return events

    def end(self, generation: Generation) -> bytes:
        """Return the events behind the last token."""
        status = status_of(generation.samples[0].finish_reason)
        events = self._events.end_message(status) if self._has_begun else b""
        counts = self._counts(generation)
        return events + self._events.end("incomplete" if status == "incomplete" else "completed", counts)

    # -- parts ---------------------------------------------------------------------------------------------

    def _count_parsed(self, *, is_streaming: bool, is_tool_called: bool) -> None:
        """Count that vLLM's tool parser would have looked at the answer, or at what is new of it."""
        if self._may_call:
            self._context.metrics.tool_parsed(
                "responses", is_streaming=is_streaming, is_tool_called=is_tool_called
            )

    def _counts(self, generation: Generation) -> Usage:
        block_size = self._context.engine_config.block_size
        return total_usage(generation, 1, self._usage, told_by=0, block_size=block_size)

    def _logprobs(self, token_ids: Sequence[int], first_position: int) -> list[dict[str, Any]] | None:
        if self._sampling.logprobs is None:
            return None
        context = self._context
        positions = Positions(
            context.tokenizer, context.limits.vocabulary_size, self._sampling, self.samples[0].key
        )
        told = chat_logprobs(positions.of_output(token_ids, first_position), self._sampling.logprobs)
        content: list[dict[str, Any]] = told["content"]
        return content


async def stored_response(request: web.Request) -> web.Response:
    """Refuse to find a response: none is stored."""
    raise response_not_found(request.match_info["response_id"])


ROUTES: tuple[web.RouteDef, ...] = (
    post("/v1/responses", create_response),
    web.get("/v1/responses/{response_id}", stored_response, allow_head=False),
    post("/v1/responses/{response_id}/cancel", stored_response),
)
