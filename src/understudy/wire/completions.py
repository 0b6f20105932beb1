"""Requests of /v1/completions.

(vllm/entrypoints/openai/completion and vllm/renderers/online_renderer.py, 0.33.0)
"""

from typing import Annotated, cast

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
    WireModel,
    check_cache_salt,
    check_logprob_counts,
    check_response_format,
    check_stream_options,
    check_structural_tag,
    constraint,
)
from understudy.wire.limits import MAX_COMPLETION_PROMPTS, MAX_SAMPLES, ModelLimits
from understudy.wire.media import check_media_arguments
from understudy.wire.prompt_length import PromptRules, effective_max_tokens
from understudy.wire.sampling import Sampling, sampling_of
from understudy.wire.served_model import check_model
from understudy.wire.shared_fields import CacheFields, DecodingFields, TellingFields

DEFAULT_MAX_TOKENS = 16


class _Prompts(WireModel):
    """The first fields of a completion request: what is to be completed, and how."""

    model: str | None = None
    prompt: (
        list[Annotated[int, Field(ge=0)]] | list[list[Annotated[int, Field(ge=0)]]] | str | list[str] | None
    ) = None
    echo: bool | None = False
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: int | None = None
    max_tokens: int | None = DEFAULT_MAX_TOKENS
    n: int = 1
    presence_penalty: float | None = None
    seed: Seed = None
    stop: StopParam = Field(default_factory=list)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None


class _Constraints(WireModel):
    """Which tokens may be said, and which log probabilities are told."""

    allowed_token_ids: list[int] | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    bad_words: list[str] = Field(default_factory=list)
    prompt_embeds: bytes | list[bytes] | None = None
    add_special_tokens: bool = True
    response_format: AnyResponseFormat | None = None


class CompletionRequest(CacheFields, TellingFields, _Constraints, DecodingFields, _Prompts):
    """The body of a completion request, every field of vLLM in its order."""

    thinking_token_budget: ThinkingTokenBudget = None
    stream_interval: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: RawBody) -> RawBody:
        """Check what depends on several fields, before their types: vLLM's order is last written, first run."""
        if not isinstance(data, dict):
            return data
        _check_prompt_count(data)
        _check_prompt(data)
        check_stream_options(data)
        _check_logprobs(data)
        _check_structured_outputs(data)
        check_response_format(data)
        if data.get("max_tokens") is None:
            data = {**data, "max_tokens": DEFAULT_MAX_TOKENS}
        check_cache_salt(data)
        return data

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one, as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt:
            return []
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return cast("list[str | list[int]]", self.prompt)

    @property
    def wanted_max_tokens(self) -> int:
        """What `max_tokens` says; null means the default."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def only_echoes(self) -> bool:
        """Whether nothing but the prompt is wanted; one token is made all the same."""
        return bool(self.echo) and self.max_tokens == 0

    def rules(self, limits: ModelLimits) -> PromptRules:
        """Return what may be done with the prompts."""
        return PromptRules(
            limits, self.max_tokens or 0, "max_tokens", self.truncate_prompt_tokens, self.truncation_side
        )


def parse_completion(
    body: bytes, limits: ModelLimits, content_type: str = JSON_CONTENT_TYPE
) -> CompletionRequest:
    """Return the request that a body holds; raises ApiError for everything that needs no tokenizer to be seen."""
    request = parse_body(body, _ADAPTER, content_type)
    if request.stream and request.use_beam_search:
        raise ApiError("Streaming is not currently supported with beam search")
    check_model(request.model, limits)
    _check_suffix(request)
    if request.prompt_embeds is not None:
        if request.echo:
            raise ApiError("Echo is unsupported with prompt embeds.")
        if request.prompt_logprobs is not None:
            raise ApiError("prompt_logprobs is not compatible with prompt embeds.")
    check_media_arguments(request, limits)
    request.rules(limits).check()
    if request.prompt_embeds:
        raise refusal("You must set `--enable-prompt-embeds` to input `prompt_embeds`.", "prompt_embeds")
    prompts = request.prompts
    if not prompts:
        raise refusal("You must pass at least one prompt", "prompt")
    if len(prompts) * request.n > MAX_SAMPLES:
        raise refusal(f"prompts times n must be at most {MAX_SAMPLES}, got {len(prompts) * request.n}.", "n")
    return request


def completion_sampling(request: CompletionRequest, prompt_tokens: int, limits: ModelLimits) -> Sampling:
    """Return the sampling for one prompt of so many tokens; raises ApiError."""
    max_tokens = effective_max_tokens(
        request.wanted_max_tokens, prompt_tokens, limits, request.truncate_prompt_tokens
    )
    prompt_logprobs = request.prompt_logprobs
    if prompt_logprobs is None and request.echo:
        prompt_logprobs = request.logprobs
    return sampling_of(
        request,
        limits,
        n=request.n,
        max_tokens=1 if request.only_echoes else max_tokens,
        logprobs=None if request.logprob_token_ids else request.logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=constraint(request.structured_outputs, request.response_format),
    )


def _check_prompt_count(data: RawBody) -> None:
    for name in ("prompt", "prompt_embeds"):
        value = data.get(name)
        if not isinstance(value, list) or len(value) <= MAX_COMPLETION_PROMPTS:
            continue
        if name == "prompt" and isinstance(value[0], int):
            continue
        raise refusal(
            f"{name} list length {len(value)} exceeds the maximum allowed count of {MAX_COMPLETION_PROMPTS}. To"
            " increase this limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable.",
            name,
        )


def _check_prompt(data: RawBody) -> None:
    prompt, embeds = data.get("prompt"), data.get("prompt_embeds")
    if (prompt is None or prompt == "") and (embeds is None or embeds == []):
        raise refusal("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")


def _check_logprobs(data: RawBody) -> None:
    token_ids, beam, echo = data.get("logprob_token_ids"), data.get("use_beam_search"), data.get("echo")
    logprobs = data.get("logprobs")
    if token_ids and beam:
        raise refusal("`logprob_token_ids` is not supported with beam search.", "logprob_token_ids")
    if beam and echo and logprobs is not None:
        raise refusal(
            "`echo` with `logprobs` is not supported with beam search because beam search does not compute prompt"
            " logprobs.",
            "echo",
        )
    if token_ids and echo and data.get("max_tokens") == 0:
        raise refusal(
            "`logprob_token_ids` is not supported when `echo=True` and `max_tokens=0` because no output tokens are"
            " generated.",
            "logprob_token_ids",
        )
    if token_ids and logprobs is None:
        raise refusal("when using `logprob_token_ids`, `logprobs` must be set.", "logprob_token_ids")
    check_logprob_counts(data, "logprobs")


def _check_structured_outputs(data: RawBody) -> None:
    outputs = data.get("structured_outputs")
    if outputs is None:
        return
    if sum(outputs.get(kind) is not None for kind in ("json", "regex", "choice")) > 1:
        raise refusal(
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
            "structured_outputs",
        )
    check_structural_tag(outputs)


def _check_suffix(request: CompletionRequest) -> None:
    if request.suffix is None:
        return
    if request.echo:
        raise ApiError("Echo is unsupported with suffix.", param="suffix")
    if request.prompt_embeds is not None:
        raise ApiError("suffix is not supported with prompt_embeds", param="suffix")
    if request.truncate_prompt_tokens is not None:
        raise ApiError("suffix is not supported with truncate_prompt_tokens", param="suffix")
    prompt = request.prompt
    is_text = isinstance(prompt, str) or (
        isinstance(prompt, list) and all(isinstance(item, str) for item in prompt)
    )
    if not is_text:
        raise ApiError("suffix requires text prompt input for FIM completion rendering", param="suffix")
    if prompt:
        raise ApiError("suffix is only supported for models with FIM completion rendering", param="suffix")


_ADAPTER = TypeAdapter(CompletionRequest)
