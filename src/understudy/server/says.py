"""What a model must say because a request constrains it: structured outputs and tool calls, as texts by sample."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from understudy.server.context import ServerContext
from understudy.server.generate import (
    Constraint,
    ConstraintError,
    NamedTool,
    Question,
    Tool,
    ToolChoice,
    keyed_random,
    prompt_digest,
    question_key,
    text_for,
    tool_call_text,
    tool_calls,
)
from understudy.server.generate import ToolCall as Call
from understudy.wire.chat import ChatRequest
from understudy.wire.chat_answers import ToolCall
from understudy.wire.errors import ApiError
from understudy.wire.sampling import Sampling
from understudy.wire.tools import NamedToolChoice


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """The tool calls of one answer and the raw text in which they are said, None for an answer in words.

    `spans` are where each call's arguments stand in the text. A forced single tool does not show in the reason to end.
    """

    text: str | None
    calls: Sequence[ToolCall]
    spans: Sequence[tuple[int, int]]
    is_named: bool

    def shown(self, text: str) -> tuple[str, list[str]]:
        """Return, for the raw text so far, what of it is content, and of each call that has begun its arguments."""
        if self.text is None:
            return text, []
        return "", [text[start:end] for start, end in self.spans if len(text) >= start]

    def parsed(
        self, text: str, finish_reason: str | None
    ) -> tuple[str | None, Sequence[ToolCall], str | None]:
        """Return content, calls and reason to end of a whole answer; what was cut short is content."""
        if self.text is None:
            return text, (), finish_reason
        calls = [call for call, (_, end) in zip(self.calls, self.spans, strict=True) if len(text) >= end]
        if not calls:
            return text, (), finish_reason
        return None, calls, self.finish_reason(finish_reason or "stop")

    def finish_reason(self, finish_reason: str) -> str:
        """Return the reason that a client is told, given the engine's."""
        called = self.text is not None and finish_reason == "stop" and not self.is_named
        return "tool_calls" if called else finish_reason


def texts_to_say(
    context: ServerContext, sampling: Sampling, prompt_token_ids: Sequence[int]
) -> list[str | None]:
    """Return for each sample the text that satisfies its constraint, None without one; raises ApiError."""
    given = sampling.structured_outputs
    if given is None:
        return [None] * sampling.n
    constraint = Constraint(
        json=given.json,
        regex=given.regex,
        choice=given.choice,
        grammar=given.grammar,
        json_object=given.json_object,
        structural_tag=given.structural_tag,
        disable_any_whitespace=given.disable_any_whitespace,
        disable_additional_properties=given.disable_additional_properties,
        whitespace_pattern=given.whitespace_pattern,
    )
    try:
        return [
            text_for(constraint, keyed_random(key, "constraint"))
            for key in _keys(context, sampling, prompt_token_ids)
        ]
    except ConstraintError as error:
        raise ApiError(str(error)) from None


def tools_to_call(
    context: ServerContext, wanted: ChatRequest, sampling: Sampling, prompt_token_ids: Sequence[int]
) -> list[ToolPlan]:
    """Return for each sample of a chat its tool calls; nothing where no tool may be called. Raises ApiError."""
    tools = [Tool(tool.function.name, tool.function.parameters) for tool in wanted.tools or ()]
    match wanted.tool_choice:
        case NamedToolChoice(function=function):
            choice: ToolChoice = NamedTool(function.name)
        case None:
            choice = "none"
        case word:
            choice = word
    parallel = wanted.parallel_tool_calls is not False
    return plans_of_calls(context, tools, choice, sampling, prompt_token_ids, parallel=parallel)


def plans_of_calls(
    context: ServerContext,
    tools: Sequence[Tool],
    choice: ToolChoice,
    sampling: Sampling,
    prompt_token_ids: Sequence[int],
    *,
    parallel: bool,
) -> list[ToolPlan]:
    """Return for each sample its tool calls; nothing where no tool may be called.

    A choice of the model's own needs a parser that finds its calls. Raises ApiError.
    """
    limits = context.limits
    may_choose = limits.enable_auto_tool_choice and limits.has_tool_parser
    if not tools or choice == "none" or (choice == "auto" and not may_choose):
        return []
    try:
        return [
            _plan(
                tool_calls(tools, choice, parallel=parallel, rng=keyed_random(key, "tools")),
                choice,
            )
            for key in _keys(context, sampling, prompt_token_ids)
        ]
    except ConstraintError as error:
        raise ApiError(str(error)) from None


def _plan(calls: Sequence[Call], choice: ToolChoice) -> ToolPlan:
    is_named = isinstance(choice, NamedTool)
    if not calls:
        return ToolPlan(None, (), (), is_named)
    text = tool_call_text(calls, choice)
    spans: list[tuple[int, int]] = []
    position = 0
    for call in calls:
        start = text.index(call.arguments_json, text.index('"arguments": ', position))
        position = start + len(call.arguments_json)
        spans.append((start, position))
    told = [
        ToolCall(f"chatcmpl-tool-{secrets.token_hex(8)}", call.name, call.arguments_json) for call in calls
    ]
    return ToolPlan(text, told, spans, is_named)


def _keys(context: ServerContext, sampling: Sampling, prompt_token_ids: Sequence[int]) -> list[bytes]:
    asked = Question(
        prompt_token_ids=prompt_token_ids,
        prompt_digest=prompt_digest(prompt_token_ids),
        max_tokens=1,
        seed=sampling.seed,
    )
    return [question_key(context.seed, replace(asked, sample_index=number)) for number in range(sampling.n)]
