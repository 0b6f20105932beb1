"""Whether a worker turns texts and conversations into the same tokens as this router; else no prefix can be found."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from understudy.errors import InputError
from understudy.gateway.worker_http import WorkerHttp
from understudy.tokenize import Message, Tokenizer

TEXT = (
    "The answer is 42, isn't it? Prices rose by 12.5 % to $1,234.\n\n"
    "    def f(x_1): return x_1 ** 2\t# naïve café, Größe, Привет, 東京, 🙂\n"
)
"""Words, figures, spaces, code, and scripts in which tokenizers differ."""

CHAT: Sequence[Message] = (
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Japan?"},
)
"""Of roles that every template has."""

_SECONDS = 10.0
_MOST_BYTES = 1024 * 1024
_OK = 200


class _Tokens(msgspec.Struct):
    tokens: list[int]


_decode = msgspec.json.Decoder(_Tokens).decode


async def tokenizer_agrees(
    http: WorkerHttp, tokenizer: Tokenizer, chat_template: str | None, model: str | None = None
) -> str | None:
    """Return a sentence that goes on from "the worker" where tokens differ, None where they do not or it tells none.

    `chat_template` is the text of the one that replaces the tokenizer's, `model` the name to ask for. Raises NoAnswerError
    where the worker cannot be asked now.
    """
    named = {} if model is None else {"model": model}
    theirs = await _tokens(http, {**named, "prompt": TEXT})
    if theirs is not None:
        ours = tokenizer.encode(TEXT)
        if theirs != ours:
            return (
                f"has another tokenizer: {_difference(theirs, ours)} of a text; --tokenizer must be the worker's folder or "
                "tokenizer.json"
            )
    theirs = await _tokens(http, {**named, "messages": CHAT})
    if theirs is None:
        return None
    try:
        ours = tokenizer.encode(_rendered(tokenizer, chat_template), add_special_tokens=False)
    except InputError as error:
        return f"takes conversations, which this router cannot render: {' '.join(str(error).split())}"
    if theirs == ours:
        return None
    return f"has another chat template: {_difference(theirs, ours)} of a conversation; --chat-template must be the worker's"


async def _tokens(http: WorkerHttp, question: Mapping[str, Any]) -> list[int] | None:
    answer = await http.post(
        "/tokenize", msgspec.json.encode(question), seconds=_SECONDS, most_bytes=_MOST_BYTES
    )
    if answer.status != _OK:
        return None
    try:
        return _decode(answer.body).tokens
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _rendered(tokenizer: Tokenizer, chat_template: str | None) -> str:
    messages = CHAT
    if tokenizer.content_format(chat_template) == "openai":
        messages = [
            {**message, "content": [{"type": "text", "text": message["content"]}]} for message in CHAT
        ]
    return tokenizer.chat_prompt(messages, add_generation_prompt=True, chat_template=chat_template)


def _difference(theirs: Sequence[int], ours: Sequence[int]) -> str:
    pairs = enumerate(zip(theirs, ours, strict=False))
    first = next((index for index, (a, b) in pairs if a != b), min(len(theirs), len(ours)))
    return f"it makes {len(theirs)} tokens, the router {len(ours)}, unlike from token {first}"
