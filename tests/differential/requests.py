"""Requests by seed and number: the same two give the same bytes, on any machine."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.differential import prompts
from tests.differential.fields import (
    ANYTHING,
    CHAT,
    COMPLETION,
    MESSAGES,
    RESPONSES,
    STREAM_OPTIONS,
    TOKENIZE,
    Field,
)
from tests.differential.message import HttpRequest
from tests.differential.other_routes import other_route
from tests.differential.wire_forms import broken, encoded, headers

_Body = dict[str, Any]
_ODD_STREAMS: tuple[Any, ...] = ("x", 1, "true", None, 2, [], {}, 0.0)
_MOST_GOOD_FIELDS = 6


def request(seed: int, number: int) -> HttpRequest:
    """Return the request of this number in the run of this seed."""
    random = Random(f"{seed}/{number}")
    (kind,) = random.choices(list(_SHARES), list(_SHARES.values()))
    return _KINDS[kind](random, number)


def _post(random: Random, path: str, body: _Body) -> HttpRequest:
    if random.random() < 0.03:
        path += random.choice(("?x=1", "?model=m&n=2", "/", "?"))
    content = broken(random, body) if random.random() < 0.05 else encoded(random, body)
    return HttpRequest("POST", path, headers(random), content)


def _completion(random: Random, number: int) -> _Body:
    body: _Body = {
        "model": "m",
        "prompt": prompts.prompt(random),
        "max_tokens": random.choice((1, 2, 3, 5, 8)),
    }
    _drop(random, body, "model", 0.2)
    _add_good(random, body, COMPLETION)
    _stream(random, body)
    if random.random() < 0.06:
        body |= {"echo": True, "max_tokens": 0}
    if random.random() < 0.4:
        _make_odd(random, body, COMPLETION, ("prompt", prompts.bad_prompt(random)))
    return _named(random, body, number)


def _chat(random: Random, number: int) -> _Body:
    limit = random.choice(("max_tokens", "max_completion_tokens"))
    body: _Body = {
        "model": "m",
        "messages": prompts.conversation(random),
        limit: random.choice((1, 2, 3, 5, 8)),
    }
    _drop(random, body, "model", 0.2)
    _add_good(random, body, CHAT)
    _stream(random, body)
    if body.get("logprobs") and random.random() < 0.7:
        body["top_logprobs"] = random.choice((0, 1, 5))
    if random.random() < 0.06:
        body |= {"tools": CHAT["tools"].odd[1], "tool_choice": random.choice(CHAT["tool_choice"].odd)}
    if random.random() < 0.4:
        _make_odd(random, body, CHAT, ("messages", prompts.bad_conversation(random)))
    if random.random() < 0.06:
        # Without any limit an answer would fill the context: an odd limit stands beside a small one, and is no null.
        body |= {"max_completion_tokens": random.choice(COMPLETION["max_tokens"].odd), "max_tokens": 2}
    return _named(random, body, number)


def _tokenize(random: Random) -> _Body:
    body: _Body = {"model": "m"}
    _drop(random, body, "model", 0.5)
    chat = random.random() < 0.4
    key, value = ("messages", prompts.conversation(random)) if chat else ("prompt", prompts.text(random))
    body[key] = value
    _add_good(random, body, TOKENIZE, most=3)
    if random.random() < 0.3:
        bad = prompts.bad_conversation(random) if chat else random.choice(ANYTHING)
        _make_odd(random, body, TOKENIZE, (key, bad))
    return body


def _detokenize(random: Random) -> _Body:
    body: _Body = {"model": "m", "tokens": prompts.token_ids(random)}
    _drop(random, body, "model", 0.5)
    if random.random() < 0.4:
        body["tokens"] = random.choice(
            (*ANYTHING, [0, 1, 2], [-1], [32_000], [2**31], [2**63], [5, "x"], [5.0], [[5]])
        )
    return body


def _response(random: Random) -> _Body:
    body: _Body = {
        "model": "m",
        "input": prompts.text(random),
        "max_output_tokens": random.choice((1, 2, 3, 5, 8)),
    }
    if random.random() < 0.4:
        body["input"] = [{"role": role, "content": prompts.text(random)} for role in ("system", "user")]
    _add_good(random, body, RESPONSES, most=4)
    if random.random() < 0.3:
        body["stream"] = True
    if random.random() < 0.3:
        _make_odd(random, body, RESPONSES, ("input", random.choice(ANYTHING)))
    return body


def _message(random: Random) -> _Body:
    turns = [{"role": "user", "content": prompts.text(random)}]
    body: _Body = {"model": "m", "messages": turns, "max_tokens": random.choice((1, 2, 3, 5, 8))}
    _add_good(random, body, MESSAGES, most=3)
    if random.random() < 0.4:
        body["stream"] = True
    if random.random() < 0.3:
        _make_odd(random, body, MESSAGES, ("messages", prompts.bad_conversation(random)))
    if random.random() < 0.1:
        body["max_tokens"] = random.choice((0, -1, 5000, "x", 1.5, []))
    return body


def _batch(random: Random, number: int) -> _Body:
    body = _chat(random, number)
    body["messages"] = [prompts.conversation(random) for _ in range(random.randint(1, 3))]
    if random.random() < 0.3:
        body["messages"] = random.choice(([], [[]], prompts.bad_conversation(random), "x", None))
    return body


def _add_good(
    random: Random, body: _Body, fields: Mapping[str, Field], most: int = _MOST_GOOD_FIELDS
) -> None:
    for name in random.sample(sorted(fields), random.randint(0, min(most, len(fields)))):
        body[name] = random.choice(fields[name].good)


def _make_odd(random: Random, body: _Body, fields: Mapping[str, Field], main: tuple[str, Any]) -> None:
    if random.random() < 0.3:
        body[main[0]] = main[1]
        return
    for name in random.sample(sorted(fields), 1 if random.random() < 0.85 else 2):
        field = fields[name]
        body[name] = random.choice(field.odd if random.random() < 0.8 else ANYTHING)
        if name == "max_tokens" and body[name] is None:
            body[name] = 2
    if random.random() < 0.05:
        del body[random.choice(sorted(body))]


def _stream(random: Random, body: _Body) -> None:
    if random.random() < 0.4:
        body["stream"] = True
        if random.random() < 0.6:
            options = STREAM_OPTIONS.good if random.random() < 0.9 else STREAM_OPTIONS.odd
            body["stream_options"] = random.choice(options)
        if random.random() < 0.9:
            body.pop("prompt_logprobs", None)
    elif random.random() < 0.1:
        body["stream"] = random.choice((False, None, *_ODD_STREAMS))


def _named(random: Random, body: _Body, number: int) -> _Body:
    if random.random() < 0.1:
        good = random.random() < 0.8
        body["request_id"] = random.choice(
            (f"r-{number}", f"r {number}/é", "") if good else (1, None, [], True)
        )
    return body


def _drop(random: Random, body: _Body, name: str, chance: float) -> None:
    if random.random() < chance:
        del body[name]


def _completions(random: Random, number: int) -> HttpRequest:
    return _post(random, "/v1/completions", _completion(random, number))


def _chats(random: Random, number: int) -> HttpRequest:
    return _post(random, "/v1/chat/completions", _chat(random, number))


def _batches(random: Random, number: int) -> HttpRequest:
    return _post(random, "/v1/chat/completions/batch", _batch(random, number))


def _invocations(random: Random, number: int) -> HttpRequest:
    body = _completion(random, number) if random.random() < 0.5 else _chat(random, number)
    return _post(random, "/invocations", body)


def _tokens(random: Random, _number: int) -> HttpRequest:
    if random.random() < 0.3:
        return _post(random, "/detokenize", _detokenize(random))
    return _post(random, "/tokenize", _tokenize(random))


def _responses(random: Random, _number: int) -> HttpRequest:
    return _post(random, "/v1/responses", _response(random))


def _messages(random: Random, _number: int) -> HttpRequest:
    path = "/v1/messages/count_tokens" if random.random() < 0.3 else "/v1/messages"
    return _post(random, path, _message(random))


def _others(random: Random, _number: int) -> HttpRequest:
    return other_route(random)


_SHARES = {
    "completions": 34,
    "chats": 34,
    "tokens": 8,
    "others": 14,
    "responses": 4,
    "messages": 4,
    "batches": 1,
    "invocations": 1,
}
"""Parts in a hundred."""
_KINDS: Mapping[str, Callable[[Random, int], HttpRequest]] = {
    "completions": _completions,
    "chats": _chats,
    "tokens": _tokens,
    "others": _others,
    "responses": _responses,
    "messages": _messages,
    "batches": _batches,
    "invocations": _invocations,
}
