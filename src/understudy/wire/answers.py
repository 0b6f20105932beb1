"""What answers of completions and of chats share: their head, whole bodies, and the frame of their chunks.

(vllm/entrypoints/openai/completion and chat_completion, 0.33.0)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.wire.json_pieces import BodyEncoder
from understudy.wire.sse import encode, event
from understudy.wire.usage import RequestMetrics, Usage


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What all parts of an answer have in common; `created` is in seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None = None

    def fields(self, kind: str) -> dict[str, Any]:
        """Return the head as the first fields of an object of a kind."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """How a choice of a stream ended; its last chunk carries the fingerprint unless a chunk with the usage will follow."""

    finish_reason: str
    stop_reason: int | str | None = None
    weight_versions: list[dict[str, Any]] | None = None
    has_usage_chunk: bool = False
    kv_transfer_params: dict[str, Any] | None = None


def answer_body(
    head: AnswerHead,
    kind: str,
    choices: Sequence[dict[str, Any]],
    usage: Usage,
    *,
    of_prompt: Mapping[str, Any],
    kv_transfer_params: dict[str, Any] | None,
    metrics: RequestMetrics | None,
    encode_body: BodyEncoder,
) -> bytes:
    """Return a whole answer; `of_prompt` are the fields of a kind of its own that tell of the prompt."""
    return encode_body(
        {
            **head.fields(kind),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": head.system_fingerprint,
            "usage": usage.whole,
            **of_prompt,
            "kv_transfer_params": kv_transfer_params,
            "ec_transfer_params": None,
            "metrics": None if metrics is None else metrics.whole,
        }
    )


def usage_event(head: AnswerHead, kind: str, usage: Usage, metrics: RequestMetrics | None) -> bytes:
    """Return the chunk that ends a stream whose client asked for its usage."""
    chunk = head.fields(kind) | {"choices": [], "usage": usage.sparse}
    if head.system_fingerprint is not None:
        chunk["system_fingerprint"] = head.system_fingerprint
    if metrics is not None:
        chunk["metrics"] = metrics.sparse
    return event(chunk)


class ChoiceChunks:
    """The chunks of one choice of a stream, whose news stand in the field `name`. What never changes is encoded once."""

    def __init__(self, head: AnswerHead, kind: str, index: int, name: str) -> None:
        self._fingerprint = head.system_fingerprint
        self._prefix = b'data: %b,"choices":[{"index":%d,%b:' % (
            encode(head.fields(kind))[:-1],
            index,
            encode(name),
        )

    def _chunk(self, news: object, tail: dict[str, Any], rest: dict[str, Any]) -> bytes:
        """Return a chunk: `tail` tells more of the choice, `rest` of the answer."""
        end = b"," + encode(rest)[1:] if rest else b"}"
        return b"%b%b,%b]%b\n\n" % (self._prefix, encode(news), encode(tail)[1:], end)

    def _last(
        self,
        news: object,
        end: ChoiceEnd,
        *,
        logprobs: dict[str, Any] | None,
        token_ids: Sequence[int] | None,
        usage: Mapping[str, Any],
        of_prompt: Mapping[str, Any],
    ) -> bytes:
        """Return the last chunk of the choice, with fields that tell of the prompt and of the usage so far."""
        tail = {
            "logprobs": logprobs,
            "finish_reason": end.finish_reason,
            "stop_reason": end.stop_reason,
            **of_prompt,
            "token_ids": token_ids,
            "weight_versions": end.weight_versions,
        }
        rest = dict(usage)
        if self._fingerprint is not None and not end.has_usage_chunk:
            rest["system_fingerprint"] = self._fingerprint
        rest["kv_transfer_params"] = end.kv_transfer_params
        return self._chunk(news, tail, rest)
