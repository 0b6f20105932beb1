"""Replaces in a JSON value what depends on chance or on the sampled tokens by what kind of thing it is; the rules: `shape`."""

import json
import re
from typing import Any

from tests.differential.message import HttpRequest

_RANDOM_ID = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{16})(?![0-9a-f])")
_FINGERPRINT = re.compile(r"-[0-9a-f]{8}(?![0-9a-f])")
_GENERATED = re.compile(
    r"(data\.)?(choices\[\]\.((message|delta)\.content|text)|(response\.)?output\[\]\.content\[\]\.text"
    r"|item\.content\[\]\.text|part\.text|content\[\]\.text|delta|delta\.text|text)"
)
_MOMENTS = frozenset({"created", "created_at", "completed_at", "sequence_number"})
_OF_THE_CACHE = frozenset(
    {"cached_tokens", "cache_write_tokens", "created_cache_tokens", "cached_tokens_per_turn"}
)
_SHORTEST_ECHO = 5
"""Generated text begins with fewer characters by chance."""


def without_chance(request: HttpRequest, value: Any) -> Any:
    """Return a copy of an answer's JSON value, or of an event that holds one, with only what must agree."""
    return _Walk(request).value("", "", value, {})


def token_kind(token: str) -> str:
    """Return what a token of logprobs counts as: its id tells only that it is one."""
    return "token_id:<number>" if re.fullmatch(r"token_id:\d+", token) else "<text>"


def once(items: list[Any]) -> list[Any]:
    """Return the items without those that equal the one before, in the order of their keys too."""
    written = [json.dumps(item) for item in items]
    return [item for place, item in enumerate(items) if place == 0 or written[place] != written[place - 1]]


class _Walk:
    """The rules for the answer to one request."""

    def __init__(self, request: HttpRequest) -> None:
        self._echoed, self._echo_alone = _echo(request)

    def value(self, name: str, path: str, value: Any, parent: dict[str, Any]) -> Any:
        """Return what counts of the value at `path`, whose key is `name`."""
        if isinstance(value, dict):
            return self._object(path, value)
        if isinstance(value, list):
            return self._list(name, path, value)
        if isinstance(value, str):
            return self._text(name, path, value, parent)
        return _kind(value) if name in _MOMENTS | _OF_THE_CACHE else value

    def _object(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        if isinstance(value.get("error"), dict | str):
            return {key: _ids_counted(item) for key, item in value.items()}
        if path.endswith("choices[].logprobs"):
            return _logprobs(value)
        return {key: self.value(key, f"{path}.{key}".lstrip("."), item, value) for key, item in value.items()}

    def _list(self, name: str, path: str, value: list[Any]) -> Any:
        if path.endswith("choices[].token_ids"):
            return {"counted": len(value), "each": once([_kind(item) for item in value])}
        if name == "prompt_logprobs":
            return {"counted": len(value), "each": once([_alternatives(item) for item in value])}
        return [self.value("", f"{path}[]", item, {}) for item in value]

    def _text(self, name: str, path: str, value: str, parent: dict[str, Any]) -> str:
        if name == "root":
            return "<text>"
        if name == "system_fingerprint":
            return _FINGERPRINT.sub("-<8 digits>", value)
        if not _GENERATED.fullmatch(path):
            return _counted(value)
        if self._echo_alone or (value == "" and "role" in parent):
            return value
        return next((f"{text}<text>" for text in self._echoed if value.startswith(text)), "<text>")


def _echo(request: HttpRequest) -> tuple[list[str], bool]:
    """Return the texts that an answer may repeat before its own, longest first, and whether it has no text of its own."""
    try:
        body = json.loads(request.body)
    except ValueError:
        return [], False
    if not isinstance(body, dict) or body.get("echo") is not True:
        return [], False
    prompt = body.get("prompt")
    texts = prompt if isinstance(prompt, list) else [prompt]
    long = {text for text in texts if isinstance(text, str) and len(text) >= _SHORTEST_ECHO}
    return sorted(long, key=len, reverse=True), body.get("max_tokens") == 0


def _logprobs(value: dict[str, Any]) -> dict[str, Any]:
    """Count the tokens of `choices[].logprobs`, which completions hold in several lists and chats in one of objects."""
    lengths = {len(item) for item in value.values() if isinstance(item, list)}
    return {
        "counted": max(lengths, default=0),
        "lengths agree": len(lengths) <= 1,
        "each": {
            key: once([_of_a_token(item) for item in part]) if isinstance(part, list) else part
            for key, part in value.items()
        },
    }


def _of_a_token(item: Any) -> Any:
    return _chat_token(item) if isinstance(item, dict) and "token" in item else _alternatives(item)


def _chat_token(token: Any) -> Any:
    if not isinstance(token, dict):
        return _kind(token)
    return {
        key: [_chat_token(item) for item in value]
        if key == "top_logprobs" and isinstance(value, list)
        else _kind(value)
        for key, value in token.items()
    }


def _alternatives(item: Any) -> Any:
    """Return how many tokens with what there are at a place; the keys are tokens or their ids."""
    if not isinstance(item, dict):
        return _kind(item)
    keys = once(sorted("<number>" if key.isdigit() else token_kind(key) for key in item))
    each = [
        {name: _kind(part) for name, part in value.items()} if isinstance(value, dict) else _kind(value)
        for value in item.values()
    ]
    return {"tokens": len(item), "keys": keys, "each": once(each)}


def _kind(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return "<number>"
    if isinstance(value, float):
        return "<number with a point>"
    if isinstance(value, str):
        return token_kind(value)
    return "<list>" if isinstance(value, list) else "<object>"


def _counted(text: str) -> str:
    return _RANDOM_ID.sub(lambda match: f"<{len(match[0])} digits>", text)


def _ids_counted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ids_counted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_ids_counted(item) for item in value]
    return _counted(value) if isinstance(value, str) else value
