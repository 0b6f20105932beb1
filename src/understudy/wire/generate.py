"""Requests and answers of /inference/v1: tokens in, tokens out.

(vllm/entrypoints/scale_out/token_in_token_out, 0.33.0)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, field_validator, model_validator

from understudy.wire.answers import AnswerHead
from understudy.wire.body import JSON_CONTENT_TYPE, parse_body
from understudy.wire.errors import ApiError, compact_json
from understudy.wire.fields import (
    Priority,
    RawBody,
    RepetitionDetectionParams,
    Seed,
    StreamOptions,
    StructuredOutputsParams,
    ThinkingTokenBudget,
    VllmXargs,
    check_cache_salt,
)
from understudy.wire.json_pieces import BodyEncoder
from understudy.wire.limits import ModelLimits
from understudy.wire.logprobs import LEAST_LOGPROB, TokenLogprobs
from understudy.wire.made import Made
from understudy.wire.prompt_length import effective_max_tokens
from understudy.wire.sampling import Sampling, sampling_of
from understudy.wire.served_model import check_model
from understudy.wire.sse import event
from understudy.wire.usage import Usage

OutputMode = Literal["tokens", "text"]


class GenerateSampling(BaseModel):
    """vLLM's sampling parameters as a client of this endpoint gives them."""

    n: int = 1
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    repetition_penalty: float | None = 1.0
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = 0
    min_p: float | None = 0.0
    seed: Seed = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = None
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    skip_special_tokens: bool | None = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    stream_interval: int | None = Field(default=None, ge=1)
    structured_outputs: StructuredOutputsParams | None = None
    logit_bias: dict[str, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] = Field(default_factory=list)
    thinking_token_budget: ThinkingTokenBudget = None
    repetition_detection: RepetitionDetectionParams | None = None
    routed_experts_prompt_start: int = 0
    vllm_xargs: VllmXargs | None = Field(default=None, alias="extra_args")
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    use_beam_search: bool = False


class GenerateRequest(BaseModel):
    """The body of a generate request; media and derendering are not supported."""

    request_id: str = ""
    token_ids: list[int] = Field(min_length=1)
    sampling_params: GenerateSampling
    model: str | None = None
    return_token_ids: bool | None = None
    output_mode: Literal["tokens", "text", "derender"] = "tokens"
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    cache_salt: str | None = Field(default=None, min_length=1, max_length=1024)
    priority: Priority = 0
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: RawBody) -> RawBody:
        if isinstance(data, dict):
            check_cache_salt(data)
        return data

    @field_validator("token_ids")
    @classmethod
    def _known_sign(cls, token_ids: list[int]) -> list[int]:
        if min(token_ids) < 0:
            raise ValueError("token_ids must not contain negative values")
        return token_ids


def parse_generate(
    body: bytes, limits: ModelLimits, max_num_seqs: int, content_type: str = JSON_CONTENT_TYPE
) -> GenerateRequest:
    """Return the request that a body holds; raises ApiError. `max_num_seqs` is the scheduler's limit."""
    request = parse_body(body, _ADAPTER, content_type)
    check_model(request.model, limits)
    n = request.sampling_params.n
    if n > max_num_seqs:
        raise ApiError(
            f"sampling_params.n must be at most the server's max_num_seqs ({max_num_seqs}), got {n}."
        )
    if request.output_mode == "derender":
        raise ApiError("output_mode='derender' is not supported. Use output_mode='tokens' or 'text'.")
    return request


def generate_sampling(request: GenerateRequest, limits: ModelLimits) -> Sampling:
    """Return the sampling of a request; raises ApiError. What the client does not say is neutral, not the server's."""
    given = request.sampling_params
    params = given.model_copy(
        update={
            "kv_transfer_params": request.kv_transfer_params,
            "ec_transfer_params": request.ec_transfer_params,
        }
    )
    max_tokens = given.max_tokens
    if "max_tokens" not in given.model_fields_set:
        max_tokens = effective_max_tokens(None, len(request.token_ids), limits)
    elif max_tokens is None:
        max_tokens = limits.max_model_len - len(request.token_ids)
    return sampling_of(
        params,
        limits,
        n=given.n,
        max_tokens=max_tokens,
        logprobs=given.logprobs,
        prompt_logprobs=given.prompt_logprobs,
        structured_outputs=given.structured_outputs,
    )


@dataclass(frozen=True, slots=True)
class GenerateChoice:
    """One finished answer, or what is new of it. `text` is told in the text mode only."""

    index: int
    token_ids: Sequence[int]
    finish_reason: str | None
    stop_reason: int | str | None = None
    text: str | None = None
    logprobs: dict[str, Any] | None = None
    weight_versions: list[dict[str, Any]] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The choice as an object."""
        text = {} if self.text is None else {"text": self.text}
        return {
            "index": self.index,
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": self.token_ids,
            "routed_experts": None,
            "sampling_mask": None,
            "weight_versions": self.weight_versions,
            **text,
            "logprobs": self.logprobs,
        }


def generate_logprobs(positions: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """Return log probabilities by token ids, as the token mode tells them."""
    return {"content": Made(_scored, positions)}


def generate_body(
    head: AnswerHead,
    choices: Sequence[GenerateChoice],
    usage: Usage,
    mode: OutputMode,
    *,
    prompt_logprobs: Sequence[dict[str, Any] | None] | None = None,
    prompt_token_ids: Sequence[int] | None = None,
    kv_transfer_params: dict[str, Any] | None = None,
    encode_body: BodyEncoder = compact_json,
) -> bytes:
    """Return a whole answer."""
    return encode_body(
        {
            "request_id": head.id,
            "model": head.model,
            "created": head.created,
            "usage": usage.whole,
            "prompt_logprobs": prompt_logprobs,
            "prompt_token_id_logprobs": None,
            "prompt_token_ids": prompt_token_ids,
            "mm_placeholders": None,
            "metrics": None,
            "kv_transfer_params": kv_transfer_params,
            "ec_transfer_params": None,
            "output_mode": mode,
            "choices": [choice.fields for choice in choices],
        }
    )


def generate_event(
    request_id: str,
    choice: GenerateChoice | None,
    mode: OutputMode,
    *,
    usage: Usage | None = None,
    prompt_token_ids: Sequence[int] | None = None,
) -> bytes:
    """Return one chunk; without a choice it is the last, with the usage."""
    chunk: dict[str, Any] = {"request_id": request_id}
    if choice is None:
        return event(chunk | {"usage": usage and usage.sparse, "output_mode": mode, "choices": []})
    chunk["usage"] = usage and usage.whole
    if prompt_token_ids is not None:
        chunk["prompt_token_ids"] = prompt_token_ids
    return event(chunk | {"output_mode": mode, "choices": [choice.fields]})


def _scored(position: TokenLogprobs) -> dict[str, Any]:
    candidates = [
        {
            "token_id": candidate.token_id,
            "logprob": max(candidate.logprob, LEAST_LOGPROB),
            "rank": candidate.rank,
        }
        for candidate in position.candidates or ()
    ]
    own = next(candidate for candidate in candidates if candidate["token_id"] == position.token_id)
    return {**own, "top_logprobs": candidates}


def scale_out_disabled() -> ApiError:
    """Return the 403 of token-in, token-out endpoints without --enable-scale-out."""
    return ApiError(
        "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them.",
        status=HTTPStatus.FORBIDDEN,
        kind="PermissionDeniedError",
    )


def parse_abort(body: bytes) -> list[str]:
    """Return the ids of requests to abort by /inference/v1/abort_requests; raises ApiError."""
    try:
        fields = json.loads(body)
    except json.JSONDecodeError as error:
        raise _bad_request(f"JSON decode error: {error}") from None
    except (ValueError, RecursionError) as error:
        raise _bad_request(str(error)) from None
    request_ids = fields.get("request_ids") if isinstance(fields, dict) else None
    if request_ids is None:
        raise _bad_request("Missing 'request_ids' in request body")
    return _ids(request_ids)


def _ids(request_ids: object) -> list[str]:
    if isinstance(request_ids, str):
        return [request_ids]
    if isinstance(request_ids, list) and all(isinstance(request_id, str) for request_id in request_ids):
        return list(request_ids)
    raise _bad_request("'request_ids' must be a string or a list of strings")


def _bad_request(detail: str) -> ApiError:
    return ApiError(detail, kind=HTTPStatus.BAD_REQUEST.phrase)


_ADAPTER = TypeAdapter(GenerateRequest)
