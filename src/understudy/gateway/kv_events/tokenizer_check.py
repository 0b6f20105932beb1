"""Whether a worker turns texts and conversations into the same tokens as this router; else no prefix can be found."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from understudy.engine import BlockHasher, CacheIdentity, event_hash
from understudy.engine.hash_chain import HashChain
from understudy.gateway.prompt import PromptReader
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
    router = _TokenHashes(tokenizer, chat_template)
    named = {} if model is None else {"model": model}
    theirs = await _tokens(http, {**named, "prompt": TEXT})
    if theirs is not None:
        ours = router.of_question("/v1/completions", {"prompt": TEXT})
        if ours != router.of_tokens(theirs):
            return (
                f"has another tokenizer: {_difference(router.of_tokens(theirs), ours)} of a text; --tokenizer must be the "
                "worker's folder or tokenizer.json"
            )
    theirs = await _tokens(http, {**named, "messages": CHAT})
    if theirs is None:
        return None
    ours = router.of_question("/v1/chat/completions", {"messages": CHAT})
    if ours is None:
        return "takes conversations, which this router cannot render: --chat-template must be the worker's"
    if ours == router.of_tokens(theirs):
        return None
    return (
        f"has another chat template: {_difference(router.of_tokens(theirs), ours)} of a conversation; --chat-template must be "
        "the worker's"
    )


class _TokenHashes:
    """A hash for each token of a prompt, by the very code that reads clients' requests."""

    def __init__(self, tokenizer: Tokenizer, chat_template: str | None) -> None:
        self._hasher = BlockHasher("sha256", block_size=1)
        self._reader = PromptReader(tokenizer, self._hasher, chat_template)

    def of_question(self, path: str, body: Mapping[str, Any]) -> list[int] | None:
        """Return those of the prompt in a request; None where it cannot be read."""
        prompt = self._reader.read(path, msgspec.json.encode(body), {})
        return None if prompt is None else list(prompt.block_hashes)

    def of_tokens(self, token_ids: Sequence[int]) -> list[int]:
        """Return those of a prompt that is known."""
        hashes = HashChain()
        self._hasher.extend(hashes, token_ids, CacheIdentity())
        return [event_hash(each) for each in hashes]


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


def _difference(theirs: Sequence[int], ours: Sequence[int] | None) -> str:
    same = [a == b for a, b in zip(theirs, ours or (), strict=False)]
    return f"it makes {len(theirs)} tokens, the router {len(ours or ())}, the first {sum(same)} alike,"
