"""What a model must say because a request constrains it, as texts by sample: structured outputs and tool calls."""

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
from understudy.wire.errors import ApiError
from understudy.wire.sampling import Sampling


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that an answer may call, whether it must, and whether several at a time."""

    tools: Sequence[Tool] = ()
    choice: ToolChoice = "none"
    parallel: bool = True

    @property
    def is_possible(self) -> bool:
        """Whether any tool may be called; then vLLM's parser looks for calls."""
        return bool(self.tools) and self.choice != "none"

    @property
    def is_forced(self) -> bool:
        """Whether a tool must be called."""
        return self.is_possible and self.choice != "auto"

    @property
    def is_named(self) -> bool:
        """Whether the tool to call is given."""
        return isinstance(self.choice, NamedTool)


NO_TOOLS = ToolUse()


def texts_to_say(
    context: ServerContext, sampling: Sampling, prompt_token_ids: Sequence[int], use: ToolUse = NO_TOOLS
) -> list[str | None]:
    """Return for each sample the text of its tool calls, else one that satisfies its constraint, None without one.

    Raises ApiError.
    """
    if sampling.structured_outputs is None and not use.is_possible:
        return [None] * sampling.n
    keys = _keys(context, sampling, prompt_token_ids)
    try:
        calls = [_calls_text(use, key) for key in keys]
        return [
            _constrained(sampling, key) if text is None else text
            for text, key in zip(calls, keys, strict=True)
        ]
    except ConstraintError as error:
        raise ApiError(str(error)) from None


def _calls_text(use: ToolUse, key: bytes) -> str | None:
    calls = tool_calls(use.tools, use.choice, parallel=use.parallel, rng=keyed_random(key, "tools"))
    return tool_call_text(calls, use.choice) if calls else None


def _constrained(sampling: Sampling, key: bytes) -> str | None:
    given = sampling.structured_outputs
    if given is None:
        return None
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
    return text_for(constraint, keyed_random(key, "constraint"))


def _keys(context: ServerContext, sampling: Sampling, prompt_token_ids: Sequence[int]) -> list[bytes]:
    asked = Question(
        prompt_token_ids=prompt_token_ids,
        prompt_digest=prompt_digest(prompt_token_ids),
        max_tokens=1,
        seed=sampling.seed,
    )
    return [question_key(context.seed, replace(asked, sample_index=number)) for number in range(sampling.n)]
