"""What a real server answered, and the way of a body through our functions that stands for the same server."""

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from understudy.wire.chat import chat_sampling, forwarded_token_ids, parse_chat
from understudy.wire.completions import completion_sampling, parse_completion
from understudy.wire.conversation import check_continuation, conversation
from understudy.wire.errors import ApiError
from understudy.wire.limits import ModelLimits
from understudy.wire.responses import (
    check_response_prompt,
    parse_responses,
    response_messages,
    response_sampling,
)
from understudy.wire.sampling import Sampling, check_bad_words, check_for_model, check_prompt
from understudy.wire.sse import DONE
from understudy.wire.tokenization import TokenizeChatRequest, parse_detokenize, parse_tokenize

LIMITS = ModelLimits(max_model_len=4096, vocabulary_size=32000, max_token_id=31999, served_model_names=("m",))
RECORDINGS = Path(__file__).parent / "recordings"


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    path: str
    body: bytes
    content_type: str
    status: int
    answer: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether the server took the request for an error, also where the stream had begun."""
        return self.status != 200 or self.answer.startswith(b'data: {"error"')


@cache
def exchanges() -> tuple[Exchange, ...]:
    """Return the recording of `record_judge.py`."""
    lines = gzip.decompress((RECORDINGS / "judge.jsonl.gz").read_bytes()).decode().split("\n")
    return tuple(_exchange(json.loads(line)) for line in lines)


@cache
def builders() -> dict[str, Any]:
    """Return the recording of `record_builders.py`."""
    recording: dict[str, Any] = json.loads(gzip.decompress((RECORDINGS / "builders.json.gz").read_bytes()))
    return recording


def _exchange(line: dict[str, Any]) -> Exchange:
    body = base64.b64decode(line["base64"]) if "base64" in line else line["body"].encode()
    content_type = line.get("content_type", "application/json")
    return Exchange(line["path"], body, content_type, line["status"], line["answer"].encode())


def encode(text: str) -> list[int]:
    """Stand in for a tokenizer: a token per character."""
    return [5] * len(text)


def refusal_of(exchange: Exchange) -> tuple[int, bytes] | None:
    """Return the status and the body with which we refuse a request, None if we accept it."""
    try:
        return _HANDLERS[exchange.path](exchange.body, exchange.content_type)
    except ApiError as error:
        return error.status, error.body


def _late_refusal(
    checks: Iterable[tuple[Sampling, Sequence[int]]], event: Callable[[ApiError], bytes] | None
) -> tuple[int, bytes] | None:
    """Check what vLLM checks in the engine: a stream that was promised carries the error as its only event."""
    try:
        for sampling, token_ids in checks:
            check_for_model(sampling, LIMITS)
            check_prompt(token_ids, sampling, LIMITS)
            check_bad_words(sampling.bad_words, encode, LIMITS)
    except ApiError as error:
        if event is None:
            raise
        return 200, event(error) + DONE
    return None


def _completion(body: bytes, content_type: str) -> tuple[int, bytes] | None:
    request = parse_completion(body, LIMITS, content_type)
    rules = request.rules(LIMITS)
    prompts = [
        rules.fitted(encode(rules.checked_text(prompt)), is_text=True)
        if isinstance(prompt, str)
        else rules.fitted(prompt, is_text=False)
        for prompt in request.prompts
    ]
    checks = [(completion_sampling(request, len(prompt), LIMITS), prompt) for prompt in prompts]
    return _late_refusal(checks, (lambda error: error.completion_event) if request.stream else None)


def _chat(body: bytes, content_type: str) -> tuple[int, bytes] | None:
    request = parse_chat(body, LIMITS, content_type)
    prompt = forwarded_token_ids(request, LIMITS)
    if prompt is None:
        messages = conversation(request.messages, LIMITS)
        check_continuation(
            continue_final_message=request.continue_final_message,
            add_generation_prompt=request.add_generation_prompt,
        )
        text = "".join(f"<{message['role']}>{message['content']}\n" for message in messages)
        prompt = request.rules(LIMITS).fitted(encode(text), is_text=True)
    checks = [(chat_sampling(request, len(prompt), LIMITS), prompt)]
    return _late_refusal(checks, (lambda error: error.chat_event) if request.stream else None)


def _responses(body: bytes, content_type: str) -> tuple[int, bytes] | None:
    request = parse_responses(body, LIMITS, content_type)
    messages = conversation(response_messages(request), LIMITS)
    text = "".join(f"<{message['role']}>{message['content']}\n" for message in messages)
    prompt = request.rules(LIMITS).fitted(encode(text), is_text=True)
    check_response_prompt(len(prompt), LIMITS)
    checks = [(response_sampling(request, len(prompt), LIMITS), prompt)]
    return _late_refusal(checks, None)


def _tokenize(body: bytes, content_type: str) -> tuple[int, bytes] | None:
    request = parse_tokenize(body, LIMITS, content_type)
    if isinstance(request, TokenizeChatRequest):
        conversation(request.messages, LIMITS)
        check_continuation(
            continue_final_message=request.continue_final_message,
            add_generation_prompt=request.add_generation_prompt,
        )
    return None


def _detokenize(body: bytes, content_type: str) -> tuple[int, bytes] | None:
    parse_detokenize(body, LIMITS, content_type)
    return None


_HANDLERS = {
    "/v1/completions": _completion,
    "/v1/chat/completions": _chat,
    "/tokenize": _tokenize,
    "/detokenize": _detokenize,
    "/v1/responses": _responses,
}
