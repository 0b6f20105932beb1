"""Requests of /v1/responses: text and function calls.

(vllm/entrypoints/openai/responses, 0.33.0)

Input items and tools are read as loose objects, not as the OpenAI SDK's forty types, so the words about wrong ones are
our own; their status is vLLM's.
"""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from understudy.wire.body import JSON_CONTENT_TYPE, parse_body
from understudy.wire.chat import check_chat_template
from understudy.wire.errors import ApiError, refusal
from understudy.wire.fields import (
    Priority,
    RawBody,
    RepetitionDetectionParams,
    Seed,
    StopParam,
    StructuredOutputsParams,
    TopLogprobsParam,
    VllmXargs,
    WireModel,
    check_cache_salt,
)
from understudy.wire.limits import ModelLimits
from understudy.wire.media import check_media_arguments
from understudy.wire.prompt_length import PromptRules, effective_max_tokens
from understudy.wire.sampling import Sampling, sampling_of
from understudy.wire.served_model import check_model

_KIND = "invalid_request_error"
_LOGPROBS = "message.output_text.logprobs"

Include = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
]


_ROLES = ("user", "assistant", "system", "developer")
_TOOL_TYPES = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "custom",
        "file_search",
        "function",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)


def _checked_item(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        if item.get("role") not in _ROLES:
            raise ValueError("role must be 'user', 'assistant', 'system' or 'developer'")
        content = item.get("content")
        parts = content if isinstance(content, list) else []
        if not isinstance(content, str | list) or not all(isinstance(part, dict) for part in parts):
            raise ValueError("content must be a string or a list of parts")
    elif kind == "function_call" and not all(
        isinstance(item.get(name), str) for name in ("call_id", "name", "arguments")
    ):
        raise ValueError("call_id, name and arguments must be strings")
    elif kind == "function_call_output" and not isinstance(item.get("call_id"), str):
        raise ValueError("call_id must be a string")
    return item


def _checked_tool(tool: dict[str, Any]) -> dict[str, Any]:
    kind = tool.get("type")
    if not isinstance(kind, str) or kind not in _TOOL_TYPES:
        raise ValueError(f"type must be one of {', '.join(sorted(_TOOL_TYPES))}")
    if kind in {"function", "custom"} and not isinstance(tool.get("name"), str):
        raise ValueError("name must be a string")
    parameters = tool.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ValueError("parameters must be an object")
    return tool


InputItem = Annotated[dict[str, Any], AfterValidator(_checked_item)]
Tool = Annotated[dict[str, Any], AfterValidator(_checked_tool)]


class PromptCacheOptions(WireModel):
    """Wishes about prompt caching, which are repeated in the answer and otherwise ignored."""

    mode: Literal["implicit", "explicit"] = "implicit"
    ttl: Literal["30m"] = "30m"
    comparison_response_id: str | None = None
    prewarm: bool | None = None


class ResponsesRequest(WireModel):
    """The body of a responses request, every field of vLLM in its order."""

    background: bool | None = False
    include: list[Include] | None = None
    input: str | list[InputItem]
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] | None = None
    model: str | None = None
    logit_bias: dict[str, float] | None = None
    parallel_tool_calls: bool | None = True
    previous_response_id: str | None = None
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include_reasoning: bool = True
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] = "auto"
    store: bool | None = True
    stream: bool | None = False
    temperature: float | None = None
    text: dict[str, Any] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] = "auto"
    tools: list[Tool] = Field(default_factory=list)
    top_logprobs: TopLogprobsParam = 0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    truncation: Literal["auto", "disabled"] | None = "disabled"
    user: str | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    prompt_cache_key: str | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: str | None = None
    watermarking: bool | None = None
    request_id: str = ""
    session_id: str | None = None
    media_io_kwargs: dict[str, dict[str, Any]] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    priority: Priority = 0
    mm_payload: Literal["tensors", "none"] = "tensors"
    return_mm_kwargs: bool | None = None
    cache_salt: str | None = Field(default=None, min_length=1, max_length=1024)
    enable_response_messages: bool = False
    previous_input_messages: list[dict[str, Any]] | None = None
    structured_outputs: StructuredOutputsParams | None = None
    repetition_penalty: float | None = None
    seed: Seed = None
    stop: StopParam = Field(default_factory=list)
    stop_token_ids: list[int] | None = Field(default_factory=list)
    ignore_eos: bool = False
    vllm_xargs: VllmXargs | None = None
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: RawBody) -> RawBody:
        """Check what depends on several fields, before their types."""
        if not isinstance(data, dict):
            return data
        _check_tool_choice(data)
        if data.get("prompt") is not None:
            raise refusal("prompt template is not supported", "prompt")
        if data.get("background") and not data.get("store", True):
            raise refusal("background can only be used when `store` is true", "background")
        check_cache_salt(data)
        if data.get("prompt_cache_retention") == "in-memory":
            data["prompt_cache_retention"] = "in_memory"
        return data

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer's text comes with log probabilities."""
        return _LOGPROBS in (self.include or ())

    def rules(self, limits: ModelLimits) -> PromptRules:
        """Return what may be done with the prompt."""
        truncate = None if self.truncation == "disabled" else -1
        return PromptRules(limits, self.max_output_tokens, "max_output_tokens", truncate)


def parse_responses(
    body: bytes, limits: ModelLimits, content_type: str = JSON_CONTENT_TYPE
) -> ResponsesRequest:
    """Return the request that a body holds; raises ApiError. Nothing is stored, so no earlier response is known."""
    request = parse_body(body, _ADAPTER, content_type)
    check_model(request.model, limits)
    if request.store and request.background:
        raise ApiError(
            "This vLLM engine does not support `store=True` and therefore does not support the background mode. To"
            " enable these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` when launching"
            " the vLLM server.",
            kind=_KIND,
            param="background",
        )
    if request.previous_input_messages and request.previous_response_id:
        raise ApiError(
            "Only one of `previous_input_messages` and `previous_response_id` can be set.",
            kind=_KIND,
            param="previous_response_id",
        )
    check_chat_template(None, request.chat_template_kwargs, limits)
    if request.previous_response_id is not None:
        raise response_not_found(request.previous_response_id)
    check_media_arguments(request, limits)
    request.rules(limits).check()
    return request


def response_not_found(response_id: str) -> ApiError:
    """Return the 404 of a response that is not stored: none ever is without VLLM_ENABLE_RESPONSES_API_STORE."""
    return ApiError(
        f"Response with id '{response_id}' not found.",
        status=HTTPStatus.NOT_FOUND,
        kind=_KIND,
        param="response_id",
    )


def check_response_prompt(prompt_tokens: int, limits: ModelLimits) -> None:
    """Raise ApiError for a prompt that leaves no room for an answer."""
    if prompt_tokens >= limits.max_model_len:
        raise ApiError(
            f"The engine prompt length {prompt_tokens} exceeds the max_model_len {limits.max_model_len}. Please reduce"
            " prompt.",
            kind=_KIND,
            param="input",
        )


def response_sampling(request: ResponsesRequest, prompt_tokens: int, limits: ModelLimits) -> Sampling:
    """Return the sampling for a prompt of so many tokens; raises ApiError."""
    truncate = None if request.truncation == "disabled" else -1
    return sampling_of(
        _Shared(request),
        limits,
        n=1,
        max_tokens=effective_max_tokens(request.max_output_tokens, prompt_tokens, limits, truncate),
        logprobs=request.top_logprobs if request.wants_logprobs else None,
        prompt_logprobs=None,
        structured_outputs=_constraint(request),
    )


class _Shared:
    """A responses request with the fields of completions that it has not, at their defaults."""

    min_tokens: int = 0
    logprob_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    repetition_detection: RepetitionDetectionParams | None = None
    thinking_token_budget: int | None = None
    stream_interval: int | None = None
    routed_experts_prompt_start: int = 0
    use_beam_search: bool = False

    def __init__(self, request: ResponsesRequest) -> None:
        self.bad_words: list[str] = []
        self.presence_penalty = request.presence_penalty
        self.frequency_penalty = request.frequency_penalty
        self.repetition_penalty = request.repetition_penalty
        self.temperature = request.temperature
        self.top_p = request.top_p
        self.top_k = request.top_k
        self.min_p = request.min_p
        self.seed = request.seed
        self.stop = request.stop
        self.stop_token_ids = request.stop_token_ids
        self.ignore_eos = request.ignore_eos
        self.include_stop_str_in_output = request.include_stop_str_in_output
        self.skip_special_tokens = request.skip_special_tokens
        self.spaces_between_special_tokens = request.spaces_between_special_tokens
        self.logit_bias = request.logit_bias
        self.vllm_xargs = request.vllm_xargs
        self.kv_transfer_params = request.kv_transfer_params
        self.ec_transfer_params = request.ec_transfer_params


def response_messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    """Return the input as the messages of a chat; raises ApiError for an item of an unknown kind."""
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        return [*messages, {"role": "user", "content": request.input}]
    first = len(messages)
    for item in request.input:
        previous = messages[-1] if len(messages) > first and messages[-1]["role"] == "assistant" else None
        _append_item(messages, item, previous)
    return messages


def template_tools(request: ResponsesRequest) -> list[dict[str, Any]] | None:
    """Return the functions as a chat template sees them, None if there are none."""
    tools = []
    for tool in request.tools:
        if tool.get("type") == "function":
            function = {name: tool.get(name) for name in ("name", "description", "parameters")}
            function |= {
                name: tool[name] for name in ("strict", "defer_loading") if tool.get(name) is not None
            }
            tools.append({"type": "function", "function": function})
    return tools or None


def _append_item(
    messages: list[dict[str, Any]], item: dict[str, Any], previous: dict[str, Any] | None
) -> None:
    kind = item.get("type")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "function": function, "type": "function"}
        if previous is None:
            messages.append({"role": "assistant", "tool_calls": [call]})
        else:
            previous.setdefault("tool_calls", []).append(call)
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        messages.append({"role": "tool", "content": item.get("output"), "tool_call_id": item.get("call_id")})
    elif kind == "reasoning":
        _extend(messages, previous, "reasoning", _reasoning_text(item))
    elif item.get("role") == "assistant" and (text := _assistant_text(item)) is not None:
        _extend(messages, previous, "content", text)
    elif "role" in item:
        messages.append({name: item[name] for name in ("role", "content", "name") if name in item})
    else:
        raise refusal(f"Unsupported input item type: {kind}", "input")


def _extend(messages: list[dict[str, Any]], previous: dict[str, Any] | None, name: str, text: str) -> None:
    """Add a text to the assistant's message before if that has none of its kind, else as a new message."""
    if previous is not None and previous.get(name) is None:
        previous[name] = text
    else:
        messages.append({"role": "assistant", name: text})


def _reasoning_text(item: dict[str, Any]) -> str:
    if item.get("encrypted_content"):
        raise refusal("Encrypted content is not supported.", "input")
    for parts in (item.get("content"), item.get("summary")):
        if isinstance(parts, list) and parts and isinstance(parts[0], dict):
            return str(parts[0].get("text"))
    return ""


def _assistant_text(item: dict[str, Any]) -> str | None:
    content = item.get("content")
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = content[0].get("text")
    return content if isinstance(content, str) else None


def _check_tool_choice(data: RawBody) -> None:
    tools, choice = data.get("tools"), data.get("tool_choice", "auto")
    is_named = isinstance(choice, dict) and choice.get("type") in {"function", "custom"}
    if not tools:
        if choice in ("auto", "none"):
            data["tool_choice"] = "none"
        elif choice == "required":
            raise refusal("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")
        elif is_named:
            raise refusal("Tool choice 'function' not found in 'tools' parameter.", "tool_choice")
    elif is_named:
        names = [tool.get("name") for tool in tools if isinstance(tool, dict)]
        if not choice.get("name") or choice["name"] not in names:
            raise refusal("Tool choice 'function' not found in 'tools' parameter.", "tool_choice")


def _constraint(request: ResponsesRequest) -> StructuredOutputsParams | None:
    text_format = (request.text or {}).get("format")
    if not isinstance(text_format, dict):
        return request.structured_outputs
    if request.structured_outputs is not None:
        raise refusal("Cannot specify both structured_outputs and text.format", "structured_outputs")
    if text_format.get("type") == "json_object":
        return StructuredOutputsParams(json_object=True)
    if text_format.get("type") == "json_schema" and isinstance(text_format.get("schema"), dict):
        return StructuredOutputsParams(json=text_format["schema"])
    return None


_ADAPTER = TypeAdapter(ResponsesRequest)
