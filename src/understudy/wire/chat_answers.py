"""Answers of /v1/chat/completions, whole and in chunks.

(vllm/entrypoints/openai/chat_completion, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.wire.completion_answers import AnswerHead
from understudy.wire.errors import compact_json
from understudy.wire.sse import encode
from understudy.wire.usage import RequestMetrics, Usage


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool: its number, the function's name and the arguments as JSON text."""

    id: str
    name: str
    arguments: str

    @property
    def fields(self) -> dict[str, Any]:
        """The call in a whole message."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One finished message. Optional fields are told only if the request asks for them."""

    content: str | None
    finish_reason: str | None
    role: str = "assistant"
    tool_calls: Sequence[ToolCall] = ()
    reasoning: str | None = None
    stop_reason: int | str | None = None
    logprobs: dict[str, Any] | None = None
    token_ids: Sequence[int] | None = None
    weight_versions: list[dict[str, Any]] | None = None

    @property
    def message(self) -> dict[str, Any]:
        """The message as an object."""
        message: dict[str, Any] = {
            "role": self.role,
            "content": self.content,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        if self.tool_calls:
            message["tool_calls"] = [call.fields for call in self.tool_calls]
        message["reasoning"] = self.reasoning
        return message


def chat_body(
    head: AnswerHead,
    choices: Sequence[ChatChoice],
    usage: Usage,
    *,
    prompt_logprobs: list[dict[str, Any] | None] | None = None,
    prompt_token_ids: Sequence[int] | None = None,
    prompt_text: str | None = None,
    kv_transfer_params: dict[str, Any] | None = None,
    metrics: RequestMetrics | None = None,
) -> bytes:
    """Return a whole answer, its choices in order."""
    return compact_json(
        {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [
                {
                    "index": index,
                    "message": choice.message,
                    "logprobs": choice.logprobs,
                    "finish_reason": choice.finish_reason,
                    "stop_reason": choice.stop_reason,
                    "token_ids": choice.token_ids,
                    "routed_experts": None,
                    "weight_versions": choice.weight_versions,
                }
                for index, choice in enumerate(choices)
            ],
            "service_tier": None,
            "system_fingerprint": head.system_fingerprint,
            "usage": usage.whole,
            "prompt_logprobs": prompt_logprobs,
            "prompt_token_ids": prompt_token_ids,
            "prompt_text": prompt_text,
            "kv_transfer_params": kv_transfer_params,
            "ec_transfer_params": None,
            "metrics": None if metrics is None else metrics.whole,
        }
    )


def content_delta(
    content: str | None = None, reasoning: str | None = None, tool_calls: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return what is new of a message: only what is set, and nothing where a chunk ends without text."""
    delta: dict[str, Any] = {}
    if content is not None:
        delta["content"] = content
    if reasoning is not None:
        delta["reasoning"] = reasoning
    if tool_calls:
        delta["tool_calls"] = list(tool_calls)
    return delta


def tool_call_start(index: int, call_id: str, name: str, arguments: str = "") -> dict[str, Any]:
    """Return the first delta of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "index": index, "function": function}


def tool_call_more(index: int, arguments: str) -> dict[str, Any]:
    """Return a further delta of a tool call's arguments."""
    return {"index": index, "function": {"arguments": arguments}}


class ChatChunks:
    """The chunks of one choice of a stream. What never changes is encoded once."""

    def __init__(self, head: AnswerHead, index: int) -> None:
        self._fingerprint = head.system_fingerprint
        self._prefix = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{"index":%d,"delta":'
            % (encode(head.id), head.created, encode(head.model), index)
        )
        self._content_prefix = self._prefix + b'{"content":'
        self._content_suffix = (
            b'},"logprobs":null,"finish_reason":null,"token_ids":null}],"kv_transfer_params":null}\n\n'
        )

    def role(
        self,
        role: str = "assistant",
        *,
        prompt_token_ids: Sequence[int] | None = None,
        prompt_text: str | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return the chunk that opens a choice."""
        rest = self._usage(usage)
        rest["prompt_token_ids"] = prompt_token_ids
        rest["prompt_text"] = prompt_text
        tail = {"logprobs": None, "finish_reason": None}
        return self._chunk({"role": role, "content": ""}, tail, rest)

    def echo(self, content: str, usage: Usage | None = None) -> bytes:
        """Return the chunk that repeats the last message, where the request asks for it."""
        return self._chunk(
            {"content": content}, {"logprobs": None, "finish_reason": None}, self._usage(usage)
        )

    def text(
        self,
        content: str,
        *,
        logprobs: dict[str, Any] | None = None,
        token_ids: Sequence[int] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return the chunk of new text; `usage` is the running count where it is wanted in every chunk."""
        if logprobs is None and token_ids is None and usage is None:
            return self._content_prefix + encode(content) + self._content_suffix
        return self.delta({"content": content}, logprobs=logprobs, token_ids=token_ids, usage=usage)

    def delta(
        self,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        token_ids: Sequence[int] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return a chunk of whatever is new, see `content_delta`."""
        tail = {"logprobs": logprobs, "finish_reason": None, "token_ids": token_ids}
        return self._chunk(delta, tail, {**self._usage(usage), "kv_transfer_params": None})

    def last(
        self,
        delta: dict[str, Any],
        finish_reason: str,
        *,
        stop_reason: int | str | None = None,
        logprobs: dict[str, Any] | None = None,
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
            "token_ids": token_ids,
            "weight_versions": weight_versions,
        }
        rest = self._usage(usage)
        if self._fingerprint is not None and not has_usage_chunk:
            rest["system_fingerprint"] = self._fingerprint
        rest["kv_transfer_params"] = kv_transfer_params
        return self._chunk(delta, tail, rest)

    @staticmethod
    def _usage(usage: Usage | None) -> dict[str, Any]:
        if usage is None:
            return {}
        return {"usage": {**usage.counts, "completion_tokens_details": usage.completion_details}}

    def _chunk(self, delta: dict[str, Any], tail: dict[str, Any], rest: dict[str, Any]) -> bytes:
        end = b"," + encode(rest)[1:] if rest else b"}"
        return b"%b%b,%b]%b\n\n" % (self._prefix, encode(delta), encode(tail)[1:], end)
