"""Answers of /v1/chat/completions, whole and in chunks.

(vllm/entrypoints/openai/chat_completion, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.wire.answers import AnswerHead, ChoiceChunks, ChoiceEnd, answer_body, usage_event
from understudy.wire.errors import compact_json
from understudy.wire.json_pieces import BodyEncoder
from understudy.wire.sse import encode
from understudy.wire.usage import RequestMetrics, Usage

_CHUNK = "chat.completion.chunk"


@dataclass(frozen=True, slots=True)
class ChatToolCall:
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
    tool_calls: Sequence[ChatToolCall] = ()
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

    def fields(self, index: int) -> dict[str, Any]:
        """Return the choice as an object."""
        return {
            "index": index,
            "message": self.message,
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": self.token_ids,
            "routed_experts": None,
            "weight_versions": self.weight_versions,
        }


def chat_body(
    head: AnswerHead,
    choices: Sequence[ChatChoice],
    usage: Usage,
    *,
    prompt_logprobs: Sequence[dict[str, Any] | None] | None = None,
    prompt_token_ids: Sequence[int] | None = None,
    prompt_text: str | None = None,
    kv_transfer_params: dict[str, Any] | None = None,
    metrics: RequestMetrics | None = None,
    encode_body: BodyEncoder = compact_json,
) -> bytes:
    """Return a whole answer, its choices in order."""
    return answer_body(
        head,
        "chat.completion",
        [choice.fields(index) for index, choice in enumerate(choices)],
        usage,
        of_prompt={
            "prompt_logprobs": prompt_logprobs,
            "prompt_token_ids": prompt_token_ids,
            "prompt_text": prompt_text,
        },
        kv_transfer_params=kv_transfer_params,
        metrics=metrics,
        encode_body=encode_body,
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


def tool_call_start(index: int, call_id: str, name: str, arguments: str | None = None) -> dict[str, Any]:
    """Return the first delta of a tool call; arguments are told if there are any."""
    function = {"name": name} if arguments is None else {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "index": index, "function": function}


def tool_call_more(index: int, arguments: str) -> dict[str, Any]:
    """Return a further delta of a tool call's arguments."""
    return {"index": index, "function": {"arguments": arguments}}


class ChatChunks(ChoiceChunks):
    """The chunks of one choice of a stream."""

    def __init__(self, head: AnswerHead, index: int) -> None:
        super().__init__(head, _CHUNK, index, "delta")
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
        end: ChoiceEnd,
        *,
        logprobs: dict[str, Any] | None = None,
        token_ids: Sequence[int] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return the chunk of the last token."""
        running = self._usage(usage)
        return self._last(delta, end, logprobs=logprobs, token_ids=token_ids, usage=running, of_prompt={})

    @staticmethod
    def _usage(usage: Usage | None) -> dict[str, Any]:
        if usage is None:
            return {}
        return {"usage": {**usage.counts, "completion_tokens_details": usage.completion_details}}


def chat_usage_event(head: AnswerHead, usage: Usage, metrics: RequestMetrics | None = None) -> bytes:
    """Return the chunk that ends a stream whose client asked for its usage."""
    return usage_event(head, _CHUNK, usage, metrics)
