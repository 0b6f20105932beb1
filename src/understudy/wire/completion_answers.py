"""Answers of /v1/completions, whole and in chunks.

(vllm/entrypoints/openai/completion, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.wire.answers import AnswerHead, ChoiceChunks, ChoiceEnd, answer_body, usage_event
from understudy.wire.errors import compact_json
from understudy.wire.json_pieces import BodyEncoder
from understudy.wire.sse import encode
from understudy.wire.usage import RequestMetrics, Usage

_KIND = "text_completion"


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """One finished text. Optional fields are told only if the request asks for them."""

    text: str
    finish_reason: str | None
    stop_reason: int | str | None = None
    logprobs: dict[str, Any] | None = None
    token_ids: Sequence[int] | None = None
    prompt_logprobs: Sequence[dict[str, Any] | None] | None = None
    prompt_token_ids: Sequence[int] | None = None
    weight_versions: list[dict[str, Any]] | None = None

    def fields(self, index: int) -> dict[str, Any]:
        """Return the choice as an object."""
        return {
            "index": index,
            "text": self.text,
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": self.token_ids,
            "prompt_logprobs": self.prompt_logprobs,
            "prompt_token_ids": self.prompt_token_ids,
            "routed_experts": None,
            "weight_versions": self.weight_versions,
        }


def completion_body(
    head: AnswerHead,
    choices: Sequence[CompletionChoice],
    usage: Usage,
    *,
    kv_transfer_params: dict[str, Any] | None = None,
    metrics: RequestMetrics | None = None,
    encode_body: BodyEncoder = compact_json,
) -> bytes:
    """Return a whole answer; choices come prompt by prompt, and are numbered in this order."""
    return answer_body(
        head,
        _KIND,
        [choice.fields(index) for index, choice in enumerate(choices)],
        usage,
        of_prompt={},
        kv_transfer_params=kv_transfer_params,
        metrics=metrics,
        encode_body=encode_body,
    )


class CompletionChunks(ChoiceChunks):
    """The chunks of one choice of a stream."""

    def __init__(self, head: AnswerHead, index: int) -> None:
        super().__init__(head, _KIND, index, "text")
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
        return self._chunk(delta, tail, {**_running(usage), "kv_transfer_params": None})

    def last(
        self,
        delta: str,
        end: ChoiceEnd,
        *,
        logprobs: dict[str, Any] | None = None,
        prompt_token_ids: Sequence[int] | None = None,
        token_ids: Sequence[int] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return the chunk of the last token."""
        return self._last(
            delta,
            end,
            logprobs=logprobs,
            token_ids=token_ids,
            usage=_running(usage),
            of_prompt={"prompt_token_ids": prompt_token_ids},
        )


def completion_usage_event(head: AnswerHead, usage: Usage, metrics: RequestMetrics | None = None) -> bytes:
    """Return the chunk that ends a stream whose client asked for its usage."""
    return usage_event(head, _KIND, usage, metrics)


def _running(usage: Usage | None) -> dict[str, Any]:
    return {} if usage is None else {"usage": usage.counts}
