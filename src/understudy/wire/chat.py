"""Requests of /v1/chat/completions.

(vllm/entrypoints/openai/chat_completion and vllm/renderers/online_renderer.py, 0.33.0)
"""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, TypeAdapter, model_validator

from understudy.wire.body import JSON_CONTENT_TYPE, parse_body
from understudy.wire.errors import ApiError, refusal
from understudy.wire.fields import (
    AnyResponseFormat,
    RawBody,
    Seed,
    StopParam,
    StreamOptions,
    ThinkingTokenBudget,
    TopLogprobsParam,
    WireModel,
    check_cache_salt,
    check_logprob_counts,
    check_response_format,
    check_stream_options,
    check_structural_tag,
    constraint,
)
from understudy.wire.limits import ModelLimits
from understudy.wire.media import check_media_arguments
from understudy.wire.messages import ChatMessageParam
from understudy.wire.prompt_length import PromptRules, effective_max_tokens
from understudy.wire.sampling import Sampling, check_vocabulary, sampling_of
from understudy.wire.served_model import check_model
from understudy.wire.shared_fields import CacheFields, DecodingFields, TellingFields
from understudy.wire.tools import ChatTool, NamedToolChoice, check_tool_choice

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class _Conversation(WireModel):
    """The first fields of a chat request: the messages, the tools, and how to answer."""

    messages: list[ChatMessageParam]
    model: str | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = False
    top_logprobs: TopLogprobsParam = 0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    presence_penalty: float | None = None
    response_format: AnyResponseFormat | None = None
    seed: Seed = None
    stop: StopParam = Field(default_factory=list)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[ChatTool] | None = None
    tool_choice: (
        Literal["none"] | Literal["auto"] | Literal["required"] | NamedToolChoice | None  # noqa: PYI030 - each is tried and named in errors
    ) = "none"
    reasoning_effort: ReasoningEffort | None = None
    thinking_token_budget: ThinkingTokenBudget = None
    include_reasoning: bool = True
    parallel_tool_calls: bool | None = True
    user: str | None = None


class _Rendering(WireModel):
    """Which log probabilities are told, and how messages become a prompt."""

    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] = Field(default_factory=list)
    echo: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    documents: list[dict[str, str]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, dict[str, Any]] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None


class _PromptText(WireModel):
    """A field between two runs of shared ones."""

    return_prompt_text: bool | None = None


class ChatRequest(CacheFields, _PromptText, TellingFields, _Rendering, DecodingFields, _Conversation):
    """The body of a chat request, every field of vLLM in its order."""

    stream_interval: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: RawBody) -> RawBody:
        """Check what depends on several fields, before their types: vLLM's order is last written, first run."""
        if not isinstance(data, dict):
            return data
        _check_messages(data)
        _check_prompt_token_ids(data)
        check_generation_prompt(data)
        check_tool_choice(data)
        _check_structured_outputs(data)
        _check_logprobs(data)
        check_stream_options(data)
        check_response_format(data)
        _normalise_messages(data)
        check_cache_salt(data)
        return data

    @model_validator(mode="after")
    def _read_tool_calls(self) -> Self:
        """Read the tool calls, which are validated only now; a wrong one is the client's error."""
        for message in self.messages:
            if isinstance(message, dict):
                fields = cast("dict[str, Any]", message)
                calls = fields.get("tool_calls")
                if calls is not None and not isinstance(calls, list):
                    fields["tool_calls"] = list(calls)
        return self

    @property
    def wanted_max_tokens(self) -> int | None:
        """How long an answer is wanted at most, None if nothing is said."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_choices(self) -> int:
        """How many answers are wanted."""
        return 1 if self.n is None else self.n

    def rules(self, limits: ModelLimits) -> PromptRules:
        """Return what may be done with the prompt."""
        param = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return PromptRules(
            limits, self.wanted_max_tokens, param, self.truncate_prompt_tokens, self.truncation_side
        )


def parse_chat(body: bytes, limits: ModelLimits, content_type: str = JSON_CONTENT_TYPE) -> ChatRequest:
    """Return the request that a body holds; raises ApiError for everything that needs no tokenizer to be seen.

    The parts of messages are still unread: `conversation` reads them.
    """
    request = parse_body(body, _ADAPTER, content_type)
    check_model(request.model, limits)
    _check_tool_parsing(request, limits)
    check_chat_template(request.chat_template, request.chat_template_kwargs, limits)
    check_media_arguments(request, limits)
    request.rules(limits).check()
    return request


def chat_sampling(request: ChatRequest, prompt_tokens: int, limits: ModelLimits) -> Sampling:
    """Return the sampling for a prompt of so many tokens; raises ApiError."""
    prompt_logprobs = request.prompt_logprobs
    if prompt_logprobs is None and request.echo:
        prompt_logprobs = request.top_logprobs
    return sampling_of(
        request,
        limits,
        n=request.num_choices,
        max_tokens=effective_max_tokens(
            request.wanted_max_tokens, prompt_tokens, limits, request.truncate_prompt_tokens
        ),
        logprobs=request.top_logprobs if request.logprobs and not request.logprob_token_ids else None,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=constraint(request.structured_outputs, request.response_format),
    )


def forwarded_token_ids(request: ChatRequest, limits: ModelLimits) -> list[int] | None:
    """Return the prompt's tokens if a prefill worker forwarded them, so that the messages need not be rendered.

    Raises ApiError where they are no token ids of this model.
    """
    params = request.kv_transfer_params
    token_ids = params.pop("prompt_token_ids", None) if params else None
    if token_ids is None or request.echo:
        return None
    name = "kv_transfer_params.prompt_token_ids"
    is_list = isinstance(token_ids, list) and token_ids
    if not is_list or any(type(token_id) is not int or token_id < 0 for token_id in token_ids):
        raise refusal(
            "`kv_transfer_params['prompt_token_ids']` must be a non-empty list of non-negative integers.",
            name,
        )
    check_vocabulary(token_ids, limits, name)
    return list(token_ids)


def check_generation_prompt(data: RawBody) -> None:
    """Raise ApiError where the last message is to be continued and a new one to be started."""
    if data.get("continue_final_message") and data.get("add_generation_prompt"):
        raise refusal("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")


def check_chat_template(template: str | None, kwargs: dict[str, Any] | None, limits: ModelLimits) -> None:
    """Raise ApiError for a template of the client's own."""
    brings_its_own = template is not None or (kwargs and kwargs.get("chat_template") is not None)
    if brings_its_own and not limits.trust_request_chat_template:
        raise ApiError(
            "Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with"
            " untrusted chat template."
        )


def _check_messages(data: RawBody) -> None:
    iter(data.get("messages", []))


def _check_prompt_token_ids(data: RawBody) -> None:
    params = data.get("kv_transfer_params")
    if (
        isinstance(params, dict)
        and params.get("prompt_token_ids") is not None
        and _has_media(data.get("messages"))
    ):
        params.pop("prompt_token_ids")


def _has_media(messages: object) -> bool:
    if not isinstance(messages, list):
        return False
    parts = [
        part
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict)
    ]
    return any(part.get("type", "text") not in _TEXT_PARTS for part in parts)


_TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "thinking", "tool_reference")


def _check_structured_outputs(data: RawBody) -> None:
    outputs = data.get("structured_outputs")
    if outputs is None:
        return
    count = sum(outputs.get(kind) is not None for kind in ("json", "regex", "choice"))
    if count > 1:
        raise refusal(
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice')."
        )
    if count > 0 and data.get("tool_choice", "none") not in ("none", "auto", "required"):
        raise refusal("You can only either use constraints for structured outputs or tools, not both.")
    check_structural_tag(outputs)


def _check_logprobs(data: RawBody) -> None:
    if data.get("logprob_token_ids") and data.get("use_beam_search"):
        raise refusal("`logprob_token_ids` is not supported with beam search.", "logprob_token_ids")
    if data.get("logprob_token_ids") and not data.get("logprobs"):
        raise refusal("when using `logprob_token_ids`, `logprobs` must be set to true.", "logprob_token_ids")
    check_logprob_counts(data, "top_logprobs")
    top = data.get("top_logprobs")
    if top is not None and (top == -1 or top > 0) and not data.get("logprobs"):
        raise refusal("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")


def _normalise_messages(data: RawBody) -> None:
    messages = data.get("messages")
    if not isinstance(messages, list):
        return
    for message in messages:
        if not isinstance(message, dict):
            continue
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            message["tool_calls"] = list(calls)
        reasoning = message.pop("reasoning_content", None)
        if reasoning is not None and message.get("reasoning") is None:
            message["reasoning"] = reasoning


def _check_tool_parsing(request: ChatRequest, limits: ModelLimits) -> None:
    choice = request.tool_choice
    if limits.parses_tool_calls or choice is None or choice == "none":
        return
    if isinstance(choice, NamedToolChoice):
        raise ApiError(f'tool_choice=function "{choice.function.name}" requires --tool-call-parser to be set')
    if choice == "required":
        raise ApiError('tool_choice="required" requires --tool-call-parser to be set')
    if not limits.enable_auto_tool_choice:
        raise ApiError(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )


_ADAPTER = TypeAdapter(ChatRequest)
