"""Requests and answers of /tokenize and /detokenize.

(vllm/entrypoints/serve/tokenize, 0.33.0)
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, model_validator

from understudy.wire.body import JSON_CONTENT_TYPE, parse_body
from understudy.wire.chat import check_chat_template, check_generation_prompt
from understudy.wire.errors import compact_json
from understudy.wire.fields import RawBody, WireModel
from understudy.wire.limits import INT64_MAX, ModelLimits
from understudy.wire.media import check_media_arguments
from understudy.wire.messages import ChatMessageParam
from understudy.wire.served_model import check_model
from understudy.wire.tools import ChatTool


class TokenizeCompletionRequest(WireModel):
    """A text to tokenize."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True
    return_token_strs: bool | None = False


class TokenizeChatRequest(WireModel):
    """A chat to render and tokenize."""

    model: str | None = None
    messages: list[ChatMessageParam]
    add_generation_prompt: bool = True
    return_token_strs: bool | None = False
    continue_final_message: bool = False
    add_special_tokens: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, dict[str, Any]] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    tools: list[ChatTool] | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, data: RawBody) -> RawBody:
        if isinstance(data, dict):
            check_generation_prompt(data)
        return data


class DetokenizeRequest(WireModel):
    """Token ids to turn into text."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, le=INT64_MAX)]]


TokenizeRequest = TokenizeCompletionRequest | TokenizeChatRequest


def parse_tokenize(
    body: bytes, limits: ModelLimits, content_type: str = JSON_CONTENT_TYPE
) -> TokenizeRequest:
    """Return the request that a body holds; raises ApiError."""
    request = parse_body(body, _TOKENIZE, content_type)
    check_model(request.model, limits)
    if isinstance(request, TokenizeChatRequest):
        check_chat_template(request.chat_template, request.chat_template_kwargs, limits)
    check_media_arguments(request, limits)
    return request


def parse_detokenize(
    body: bytes, limits: ModelLimits, content_type: str = JSON_CONTENT_TYPE
) -> DetokenizeRequest:
    """Return the request that a body holds; raises ApiError."""
    request = parse_body(body, _DETOKENIZE, content_type)
    check_model(request.model, limits)
    return request


def tokenize_body(
    token_ids: Sequence[int], limits: ModelLimits, token_strs: Sequence[str] | None = None
) -> bytes:
    """Return the answer of /tokenize; `token_strs` are the vocabulary's own strings, if they were asked for."""
    return compact_json(
        {
            "count": len(token_ids),
            "max_model_len": limits.max_model_len,
            "tokens": token_ids,
            "token_strs": token_strs,
        }
    )


def detokenize_body(text: str) -> bytes:
    """Return the answer of /detokenize."""
    return compact_json({"prompt": text})


_TOKENIZE: TypeAdapter[TokenizeRequest] = TypeAdapter(TokenizeRequest)
_DETOKENIZE = TypeAdapter(DetokenizeRequest)
