"""The route /v1/chat/completions.

(vllm/entrypoints/openai/chat_completion/serving.py, 0.33.0)
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from aiohttp import web

from understudy.server.context import ServerContext
from understudy.server.generate import NamedTool, Parsed, Tool, ToolCall, ToolChoice
from understudy.server.orders import PromptInput
from understudy.server.power import PAUSED_KIND
from understudy.server.prompts import encode_text, last_user_text
from understudy.server.routes.answers import post
from understudy.server.routes.generation import respond
from understudy.server.routes.incoming import Incoming, incoming
from understudy.server.routes.rendering import rendered
from understudy.server.routes.reply import Asked, Reply, UsageRules, head_of, weight_versions
from understudy.server.sample import Generation, Sample
from understudy.server.says import ToolUse
from understudy.server.streamed_answer import Growth
from understudy.server.tool_reader import ToolReader, new_call_id
from understudy.wire.answers import ChoiceEnd
from understudy.wire.chat import ChatRequest, chat_sampling, forwarded_token_ids, parse_chat
from understudy.wire.chat_answers import (
    ChatChoice,
    ChatChunks,
    ChatToolCall,
    chat_body,
    chat_usage_event,
    content_delta,
    tool_call_more,
    tool_call_start,
)
from understudy.wire.errors import ApiError
from understudy.wire.logprobs import chat_logprobs, prompt_logprobs
from understudy.wire.messages import Conversation
from understudy.wire.sse import DONE
from understudy.wire.tools import NamedToolChoice
from understudy.wire.usage import Usage


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    arrived = await incoming(request)
    limits = arrived.limits
    wanted = parse_chat(arrived.body, limits, arrived.content_type)
    arrived.check_queue(wanted.num_choices)
    messages, prompt = await _prompt(arrived.context, wanted)
    sampling = chat_sampling(wanted, len(prompt.token_ids), limits)
    return await respond(arrived, _Chat(arrived, wanted, messages, Asked(prompt, sampling)))


async def _prompt(context: ServerContext, wanted: ChatRequest) -> tuple[Conversation, PromptInput]:
    """Return the conversation, and its prompt as tokens that fit; raises ApiError."""
    limits = context.limits
    rules = wanted.rules(limits)
    forwarded = forwarded_token_ids(wanted, limits)
    if forwarded is not None:
        return [], PromptInput(token_ids=rules.fitted(forwarded, is_text=False))
    kwargs: dict[str, Any] = {}
    if wanted.documents is not None:
        kwargs["documents"] = wanted.documents
    if wanted.reasoning_effort is not None:
        kwargs["reasoning_effort"] = wanted.reasoning_effort
    messages, text = rendered(context, wanted, kwargs)
    token_ids = await encode_text(
        context, rules.checked_text(text), add_special_tokens=wanted.add_special_tokens
    )
    return messages, PromptInput(
        token_ids=rules.fitted(token_ids, is_text=True),
        text=text,
        last_user_text=last_user_text(messages),
    )


def _tool_use(wanted: ChatRequest) -> ToolUse:
    match wanted.tool_choice:
        case NamedToolChoice(function=function):
            choice: ToolChoice = NamedTool(function.name)
        case None:
            choice = "none"
        case word:
            choice = word
    tools = [Tool(tool.function.name, tool.function.parameters) for tool in wanted.tools or ()]
    return ToolUse(tools, choice, parallel=wanted.parallel_tool_calls is not False)


class _Chat(Reply):
    """One request's answer, whole or in events."""

    tells_created_tokens = True

    def __init__(self, arrived: Incoming, wanted: ChatRequest, messages: Conversation, asked: Asked) -> None:
        context, num_choices, use = arrived.context, asked.sampling.n, _tool_use(wanted)
        super().__init__(
            arrived,
            wanted,
            head_of(arrived, wanted.model, arrived.answer_id("chatcmpl-", wanted), is_signed=True),
            [asked],
            usage=UsageRules.of(context, wanted.stream_options),
            use=use,
            limits_itself=wanted.wanted_max_tokens is not None,
        )
        self._wanted = wanted
        self._messages = messages
        self._prompt = asked.prompt
        self._sampling = asked.sampling
        self._readers = [
            ToolReader(use, context.metrics, "chat_completions") if use.is_possible else None
            for _ in range(num_choices)
        ]
        self._as_token_ids = self._shows_ids(is_wanted=wanted.return_tokens_as_token_ids)
        self._tells_only_text = (
            not wanted.logprobs and not wanted.return_token_ids and not self._usage.in_every_event
        )
        self._chunks = [ChatChunks(self.head, index) for index in range(num_choices)]
        self._told = [0] * num_choices
        self._has_begun = False
        self._weight_version = arrived.weight_version(is_wanted=wanted.return_weight_versions)

    # -- whole ---------------------------------------------------------------------------------------------

    def whole(self, generation: Generation) -> bytes:
        """Return the whole answer."""
        wanted = self._wanted
        told_prompt = None
        if self._sampling.prompt_logprobs is not None:
            told_prompt = prompt_logprobs(self._positions(0).of_prompt(self._prompt.token_ids))
        return chat_body(
            self.head,
            [self._choice(sample) for sample in generation.samples],
            self._total(generation),
            prompt_logprobs=told_prompt,
            prompt_token_ids=self._prompt.token_ids if wanted.return_token_ids else None,
            prompt_text=self._prompt.text if wanted.return_prompt_text else None,
            metrics=self._times(generation),
            encode_body=self._encode_body,
        )

    def _choice(self, sample: Sample) -> ChatChoice:
        wanted = self._wanted
        assert sample.order.text is not None, "chats have text"
        text, token_ids = sample.order.text.text, list(sample.output_token_ids)
        content: str | None = text
        finish_reason = sample.finish_reason
        calls: Sequence[ToolCall] = ()
        if (reader := self._readers[sample.order.index]) is not None:
            content, calls = reader.whole(text)
            finish_reason = reader.finish_reason(finish_reason or "stop")
            if self._use.is_forced:
                content = content or ""
        if wanted.echo:
            content = self._echo() + (content or "")
        return ChatChoice(
            content=content,
            finish_reason=finish_reason,
            role=self._role,
            tool_calls=[ChatToolCall(new_call_id(), call.name, call.arguments_json) for call in calls],
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
        reader = self._readers[index]
        if self._tells_only_text and reader is None and growth.text and sample.finish_reason is None:
            return chunks.text(growth.text)
        delta = self._delta(growth, reader, is_first=not first_position)
        logprobs = self._logprobs(index, growth.token_ids, first_position)
        token_ids = growth.token_ids if wanted.return_token_ids else None
        usage = None
        if self._usage.in_every_event:
            usage = Usage(len(self._prompt.token_ids), self._told[index])
        finish_reason = sample.finish_reason
        if finish_reason is None:
            if delta is None and logprobs is None and token_ids is None:
                return b""
            return chunks.delta(delta or {}, logprobs=logprobs, token_ids=token_ids, usage=usage)
        end = ChoiceEnd(
            finish_reason if reader is None else reader.finish_reason(finish_reason),
            sample.stop_reason,
            weight_versions(self._weight_version, sample),
            self._usage.in_last_event,
        )
        return chunks.last(delta or {}, end, logprobs=logprobs, token_ids=token_ids, usage=usage)

    def _delta(self, growth: Growth, reader: ToolReader | None, *, is_first: bool) -> dict[str, Any] | None:
        """Return what is new of a message, None where there is nothing to tell."""
        if is_first and not growth.token_ids:
            return {}
        if reader is None:
            is_hidden = not growth.text and self._limits.parses_tool_calls
            return None if is_hidden else content_delta(growth.text)
        parsed = reader.grow(growth.text, is_last=growth.sample.finish_reason is not None)
        return None if parsed is None else message_delta(parsed)

    def end(self, generation: Generation) -> bytes:
        """Return the event with the usage, if it is wanted, and the last one."""
        return self._last_events(generation, partial(chat_usage_event, self.head))

    def error_event(self, error: ApiError) -> bytes:
        """Return what tells of an error in a stream and ends it: as in vLLM a pause is an internal error there."""
        if error.kind == PAUSED_KIND:
            error = ApiError(error.message, status=error.status, kind="InternalServerError")
        return error.chat_event + DONE

    # -- parts ---------------------------------------------------------------------------------------------

    @property
    def _role(self) -> str:
        if self._wanted.add_generation_prompt or not self._messages:
            return str(self._context.arguments["response_role"])
        return str(self._messages[-1]["role"])

    def _echo(self) -> str:
        last = self._messages[-1] if self._messages else None
        return str(last["content"] or "") if last is not None and last["role"] == self._role else ""

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


def message_delta(parsed: Parsed) -> dict[str, Any]:
    """Return what is new of a message in which calls are looked for; every call gets a number when its name is told."""
    calls = [
        tool_call_more(part.index, part.arguments or "")
        if part.name is None
        else tool_call_start(part.index, new_call_id(), part.name, part.arguments)
        for part in parsed.calls
    ]
    return {"content": parsed.content} | content_delta(tool_calls=calls)


ROUTES: tuple[web.RouteDef, ...] = (post("/v1/chat/completions", chat_completions),)
