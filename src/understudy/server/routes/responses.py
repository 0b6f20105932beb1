"""The routes of /v1/responses: text and function calls. Nothing is stored, as in vLLM unless told otherwise.

(vllm/entrypoints/openai/responses/serving.py, 0.33.0)
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from understudy.server.generate import NamedTool, Parsed, Tool, ToolCall, ToolChoice
from understudy.server.orders import PromptInput
from understudy.server.prompts import encode_text, last_user_text, render_chat
from understudy.server.routes.answers import post
from understudy.server.routes.generation import respond
from understudy.server.routes.incoming import Incoming, incoming
from understudy.server.routes.reply import Asked, Reply, UsageRules, head_of
from understudy.server.sample import Generation
from understudy.server.says import NO_TOOLS, ToolUse
from understudy.server.streamed_answer import Growth
from understudy.server.tool_reader import ToolReader, new_call_id
from understudy.wire.conversation import conversation
from understudy.wire.errors import ApiError
from understudy.wire.logprobs import response_logprobs
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


async def create_response(request: web.Request) -> web.StreamResponse:
    """Answer an input."""
    arrived = await incoming(request)
    wanted = parse_responses(arrived.body, arrived.limits, arrived.content_type)
    arrived.check_queue(1)
    prompt = await _prompt(arrived, wanted)
    check_response_prompt(len(prompt.token_ids), arrived.limits)
    sampling = response_sampling(wanted, len(prompt.token_ids), arrived.limits)
    return await respond(arrived, _Response(arrived, wanted, Asked(prompt, sampling)))


async def _prompt(arrived: Incoming, wanted: ResponsesRequest) -> PromptInput:
    context, rules = arrived.context, wanted.rules(arrived.limits)
    messages = conversation(response_messages(wanted), arrived.limits)
    text = render_chat(context, messages, tools=template_tools(wanted), kwargs=wanted.chat_template_kwargs)
    token_ids = await encode_text(context, rules.checked_text(text), add_special_tokens=False)
    return PromptInput(
        token_ids=rules.fitted(token_ids, is_text=True),
        text=text,
        last_user_text=last_user_text(messages),
    )


def _tool_use(wanted: ResponsesRequest) -> ToolUse:
    tools = [
        Tool(tool["name"], tool.get("parameters")) for tool in wanted.tools if tool.get("type") == "function"
    ]
    choice: ToolChoice
    match wanted.tool_choice:
        case dict() as named:
            choice = NamedTool(str(named.get("name"))) if named.get("type") == "function" else "auto"
        case word:
            choice = word
    return ToolUse(tools, choice, parallel=wanted.parallel_tool_calls is not False)


class _Response(Reply):
    """One request's answer, whole or in events."""

    tells_created_tokens = True

    def __init__(self, arrived: Incoming, wanted: ResponsesRequest, asked: Asked) -> None:
        use = _tool_use(wanted) if arrived.limits.parses_tool_calls else NO_TOOLS
        super().__init__(
            arrived,
            wanted,
            head_of(arrived, wanted.model, arrived.answer_id("resp_", wanted, counts_empty=False)),
            [asked],
            usage=UsageRules(in_last_event=True, in_every_event=False, with_details=True),
            use=use,
            limits_itself=wanted.max_output_tokens is not None,
        )
        self._sampling = asked.sampling
        self._reader = ToolReader(use, arrived.context.metrics, "responses") if use.is_possible else None
        self._head = ResponseHead(self.head, wanted, asked.sampling)
        self._events = ResponseEvents(self._head)
        self._num_told = 0

    # -- whole ---------------------------------------------------------------------------------------------

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        sample = generation.samples[0]
        assert sample.order.text is not None, "responses have text"
        status = status_of(sample.finish_reason)
        content: str | None = sample.order.text.text
        calls: Sequence[ToolCall] = ()
        if self._reader is not None:
            content, calls = self._reader.whole(content or "")
        output: list[dict[str, Any]] = []
        if content or not self._limits.parses_tool_calls:
            logprobs = self._logprobs(list(sample.output_token_ids), 0)
            output.append(
                message_item(
                    f"msg_{secrets.token_hex(8)}", content or "", "completed" if calls else status, logprobs
                )
            )
        for number, call in enumerate(calls, start=1):
            output.append(
                function_call_item(
                    f"fc_{secrets.token_hex(8)}",
                    new_call_id(),
                    call.name,
                    call.arguments_json,
                    status if number == len(calls) else "completed",
                )
            )
        return response_body(self._head, output, status, self._total(generation), self._encode_body)

    # -- streamed ------------------------------------------------------------------------------------------

    def opening(self) -> bytes:
        """Return the events before any token."""
        return self._events.start()

    def growth(self, growth: Growth) -> bytes:
        """Return the events for what is new."""
        first = self._num_told
        self._num_told += len(growth.token_ids)
        parsed: Parsed | None = Parsed(growth.text, ())
        if self._reader is not None:
            parsed = self._reader.grow(growth.text, is_last=growth.sample.finish_reason is not None)
        if parsed is None:
            return b""
        return item_events(self._events, parsed, lambda: self._logprobs(growth.token_ids, first))

    def end(self, generation: Generation) -> bytes:
        """Return the events behind the last token."""
        status = status_of(generation.samples[0].finish_reason)
        counts = self._total(generation)
        return self._events.end_item(status) + self._events.end(
            "incomplete" if status == "incomplete" else "completed", counts
        )

    def error_event(self, _error: ApiError) -> bytes:
        """Return nothing: vLLM has no event of an error that fits, and breaks the stream off."""
        return b""

    # -- parts ---------------------------------------------------------------------------------------------

    def _logprobs(self, token_ids: Sequence[int], first_position: int) -> Sequence[dict[str, Any]] | None:
        if self._sampling.logprobs is None:
            return None
        return response_logprobs(
            self._positions(0).of_output(token_ids, first_position),
            self._sampling.logprobs,
            as_token_ids=self._shows_ids(),
        )


def item_events(
    events: ResponseEvents, parsed: Parsed, logprobs: Callable[[], Sequence[dict[str, Any]] | None]
) -> bytes:
    """Return the events of what is new, text and calls; `logprobs` are those of the tokens that brought it."""
    told = b""
    if parsed.content:
        told += events.text(parsed.content, f"msg_{secrets.token_hex(8)}", logprobs())
    for part in parsed.calls:
        if part.name is not None:
            told += events.start_call(f"fc_{secrets.token_hex(8)}", new_call_id(), part.name)
        if part.arguments:
            told += events.arguments(part.arguments)
    return told


async def stored_response(request: web.Request) -> web.Response:
    """Refuse to find a response: none is stored."""
    raise response_not_found(request.match_info["response_id"])


ROUTES: tuple[web.RouteDef, ...] = (
    post("/v1/responses", create_response),
    web.get("/v1/responses/{response_id}", stored_response, allow_head=False),
    post("/v1/responses/{response_id}/cancel", stored_response),
)
