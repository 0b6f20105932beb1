"""Answers of /v1/completions, whole and in chunks.

(vllm/entrypoints/openai/completion, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.wire.errors import compact_json
from understudy.wire.sse import encode, event
from understudy.wire.usage import RequestMetrics, Usage


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What all parts of an answer have in common; `created` is in seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """One finished text. Optional fields are told only if the request asks for them."""

    text: str
    finish_reason: str | None
    stop_reason: int | str | None = None
    logprobs: dict[str, Any] | None = None
    token_ids: Sequence[int] | None = None
    prompt_logprobs: list[dict[str, Any] | None] | None = None
    prompt_token_ids: Sequence[int] | None = None
    weight_versions: list[dict[str, Any]] | None = None


def completion_body(
    head: AnswerHead,
    choices: Sequence[CompletionChoice],
    usage: Usage,
    *,
    kv_transfer_params: dict[str, Any] | None = None,
    metrics: RequestMetrics | None = None,
) -> bytes:
    """Return a whole answer; choices come prompt by prompt, and are numbered in this order."""
    return compact_json(
        {
            "id": head.id,
            "object": "text_completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {
                    "index": index,
                    "text": choice.text,
                    "logprobs": choice.logprobs,
                    "finish_reason": choice.finish_reason,
                    "stop_reason": choice.stop_reason,
                    "token_ids": choice.token_ids,
                    "prompt_logprobs": choice.prompt_logprobs,
                    "prompt_token_ids": choice.prompt_token_ids,
                    "routed_experts": None,
                    "weight_versions": choice.weight_versions,
                }
                for index, choice in enumerate(choices)
            ],
            "service_tier": None,
            "system_fingerprint": head.system_fingerprint,
            "usage": usage.whole,
            "kv_transfer_params": kv_transfer_params,
            "ec_transfer_params": None,
            "metrics": None if metrics is None else metrics.whole,
        }
    )


class CompletionChunks:
    """The chunks of one choice of a stream. What never changes is encoded once."""

    def __init__(self, head: AnswerHead, index: int) -> None:
        self._fingerprint = head.system_fingerprint
        self._prefix = (
            b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[{"index":%d,"text":'
            % (encode(head.id), head.created, encode(head.model), index)
        )
        self._suffix = (
            b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null,'
            b'"weight_versions":null}],"kv_transfer_params":null}\n\n'
        )

    def text(
        self,
        delta: str,
        *,
        logprobs: dict[str, Any] | None = None,
        prompt_token_ids: Sequence[int] | None = None,
        token_ids: Sequence[int] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return the chunk of new text; `usage` is the running count where it is wanted in every chunk."""
        if logprobs is None and token_ids is None and usage is None and prompt_token_ids is None:
            return self._prefix + encode(delta) + self._suffix
        tail = {
            "logprobs": logprobs,
            "finish_reason": None,
            "stop_reason": None,
            "prompt_token_ids": prompt_token_ids,
            "token_ids": token_ids,
            "weight_versions": None,
        }
        return self._chunk(delta, tail, {} if usage is None else {"usage": usage.counts})

    def last(
        self,
        delta: str,
        finish_reason: str,
        *,
        stop_reason: int | str | None = None,
        logprobs: dict[str, Any] | None = None,
        prompt_token_ids: Sequence[int] | None = None,
        token_ids: Sequence[int] | None = None,
        weight_versions: list[dict[str, Any]] | None = None,
        usage: Usage | None = None,
        has_usage_chunk: bool = False,
        kv_transfer_params: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the chunk of the last token; it carries the fingerprint unless a usage chunk will follow."""
        tail = {
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            "stop_reason": stop_reason,
            "prompt_token_ids": prompt_token_ids,
            "token_ids": token_ids,
            "weight_versions": weight_versions,
        }
        rest: dict[str, Any] = {} if usage is None else {"usage": usage.counts}
        if self._fingerprint is not None and not has_usage_chunk:
            rest["system_fingerprint"] = self._fingerprint
        return self._chunk(delta, tail, rest, kv_transfer_params)

    def _chunk(
        self,
        delta: str,
        tail: dict[str, Any],
        rest: dict[str, Any],
        kv_transfer_params: dict[str, Any] | None = None,
    ) -> bytes:
        rest["kv_transfer_params"] = kv_transfer_params
        return b"%b%b,%b],%b\n\n" % (self._prefix, encode(delta), encode(tail)[1:], encode(rest)[1:])


def completion_usage_event(head: AnswerHead, usage: Usage, metrics: RequestMetrics | None = None) -> bytes:
    """Return the chunk that ends a stream whose client asked for its usage."""
    return event(_usage_chunk(head, "text_completion", usage, metrics))


def chat_usage_event(head: AnswerHead, usage: Usage, metrics: RequestMetrics | None = None) -> bytes:
    """Return the same chunk of a chat."""
    return event(_usage_chunk(head, "chat.completion.chunk", usage, metrics))


def _usage_chunk(head: AnswerHead, kind: str, usage: Usage, metrics: RequestMetrics | None) -> dict[str, Any]:
    chunk: dict[str, Any] = {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "choices": [],
        "usage": usage.sparse,
    }
    if head.system_fingerprint is not None:
        chunk["system_fingerprint"] = head.system_fingerprint
    if metrics is not None:
        chunk["metrics"] = metrics.sparse
    return chunk
