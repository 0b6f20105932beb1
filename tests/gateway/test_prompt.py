"""The router reads prompts as the workers do: the same tokens, the same blocks, or nothing where a worker refuses."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving import MODEL, Reply, Served, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.engine import LoRA
from understudy.engine.hashing import BlockHasher, event_hash
from understudy.gateway.prompt import Prompt, PromptReader
from understudy.tokenize import load_tokenizer

Body = dict[str, Any]

_READER = PromptReader(load_tokenizer(), BlockHasher("sha256", 16))

_WORDS = st.lists(
    st.sampled_from(
        ["tell", "me", "of", "the", "sea", "and", "42", "ships", "é", "漢", "\n", "-", "<|user|>"]
    ),
    max_size=60,
)
_TEXT = _WORDS.map(" ".join)
_IDS = st.lists(st.integers(0, 30_000), min_size=1, max_size=120)
_SALT = st.sampled_from([{}, {"cache_salt": "one"}, {"cache_salt": "two"}])
_COMPLETION = st.builds(
    lambda prompt, salt, rest: ("/v1/completions", {"prompt": prompt} | salt | rest),
    _TEXT.filter(bool) | _IDS | st.lists(_IDS, min_size=1, max_size=3) | st.lists(_TEXT.filter(bool), min_size=1),
    _SALT,
    st.sampled_from([{}, {"truncate_prompt_tokens": 20}, {"add_special_tokens": False}]),
)  # fmt: skip
_CONTENT = _TEXT | st.lists(_TEXT.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)
_MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": _CONTENT}),
    min_size=1,
    max_size=5,
)
_TOOLS = [
    {"type": "function", "function": {"name": "sail", "parameters": {"type": "object", "properties": {}}}}
]
_CHAT = st.builds(
    lambda messages, salt, rest: ("/v1/chat/completions", {"messages": messages} | salt | rest),
    _MESSAGES,
    _SALT,
    st.sampled_from(
        [
            {},
            {"tools": _TOOLS, "tool_choice": "none"},
            {"add_generation_prompt": False},
            {"add_generation_prompt": False, "continue_final_message": True},
            {"reasoning_effort": "low", "add_special_tokens": True},
        ]
    ),
)
_RESPONSE = st.builds(
    lambda wanted, rest: ("/v1/responses", {"input": wanted} | rest),
    _TEXT.filter(bool) | _MESSAGES.map(lambda messages: [m | {"content": str(m["content"])} for m in messages]),
    st.sampled_from([{}, {"instructions": "Be brief, and never say more than you know of ships and of the sea."}]),
)  # fmt: skip
_GENERATE = _IDS.map(
    lambda ids: ("/inference/v1/generate", {"token_ids": ids, "sampling_params": {"max_tokens": 1}})
)


@settings(max_examples=40)
@given(calls=st.lists(_COMPLETION | _CHAT | _RESPONSE | _GENERATE, min_size=8, max_size=8))
def test_the_blocks_are_the_workers(calls: Sequence[tuple[str, Body]]) -> None:
    """Every block that the router expects of an accepted request is in the worker's cache, and the tokens are as many."""

    async def main() -> None:
        async with serving("--enable-scale-out") as server:
            for path, body in calls:
                limit = {"max_output_tokens": 16} if path == "/v1/responses" else {"max_tokens": 1}
                limit = {} if path == "/inference/v1/generate" else limit
                await _compare(server, path, body | limit)

    run_in_virtual_time(main())


async def _compare(server: Served, path: str, body: Body) -> None:
    read = _read(path, body)
    reply = await server.post(path, {"model": MODEL} | body)
    if reply.status != 200:
        assert 400 <= reply.status < 500
        return
    assert read is not None, (path, body, reply.text)
    if (tokens := _prompt_tokens(reply, body)) is not None:
        assert read.num_tokens == tokens
    pool = server.worker.frontend.loop.engines[0].scheduler.kv_cache.pool
    held = {event_hash(block_hash) for block_hash in pool.cached_hashes()}
    assert held.issuperset(read.block_hashes)
    assert len(read.block_hashes) == read.num_tokens // 16


def _prompt_tokens(reply: Reply, body: Body) -> int | None:
    """Return what the worker counted, unless it counted several prompts."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and not isinstance(prompt[0], int) and len(prompt) > 1:
        return None
    usage = reply.json.get("usage") or {}
    return usage.get("prompt_tokens", usage.get("input_tokens"))


def _read(path: str, body: Body, adapters: dict[str, LoRA] | None = None) -> Prompt | None:
    return _READER.read(path, json.dumps({"model": MODEL} | body).encode(), adapters or {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"prompt": {"a": 1}}',
        b'{"prompt": [1, "a"]}',
        b'{"prompt": "a", "priority": "high"}',
        b'{"messages": []}',
        b'{"messages": "hello"}',
        b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"}',
        b'{"input": 3}',
        b'{"token_ids": "x"}',
        b'{"prompt": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"prompt": ' + b"[" * 100_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/inference/v1/generate"]
)
def test_what_is_no_prompt_is_none(path: str, body: bytes) -> None:
    """A body that no worker can read never raises here; it has at most the empty prompt."""
    read = _READER.read(path, body, {})
    assert read is None or (read.num_tokens, read.block_hashes) == (0, [])


def test_adapters_and_salts_part_prompts() -> None:
    """One text under another adapter, or another salt, shares no block."""
    ids = list(range(64))
    adapters = {"poet": LoRA("poet", "/adapters/poet")}
    plain = _read("/v1/completions", {"prompt": ids})
    salted = _read("/v1/completions", {"prompt": ids, "cache_salt": "a"})
    poet = _read("/v1/completions", {"prompt": ids, "model": "poet"}, adapters)
    assert plain
    assert salted
    assert poet
    hashes = [*plain.block_hashes, *salted.block_hashes, *poet.block_hashes]
    assert len(set(hashes)) == len(hashes) == 12


def test_who_asks_is_read() -> None:
    """Model, priority and user are the body's."""
    read = _read(
        "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "priority": 3, "user": "u"}
    )
    assert read
    assert (read.model, read.priority, read.session_id) == (MODEL, 3, "u")


_LONG = "tell me of the sea and of 42 ships " * 20


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": _LONG}),
        ("/v1/completions", {"prompt": _LONG, "logprobs": 1}),
        ("/v1/completions", {"prompt": _LONG, "echo": True}),
        ("/v1/completions", {"prompt": _LONG, "echo": True, "logprobs": 0}),
        ("/v1/completions", {"prompt": list(range(100)), "echo": True, "logprobs": 1}),
        ("/v1/completions", {"prompt": list(range(100)), "prompt_logprobs": 0}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": _LONG}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": _LONG}], "prompt_logprobs": 1}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": _LONG}], "echo": True}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": _LONG}], "logprobs": True, "top_logprobs": 1},
        ),
    ],
)
def test_blocks_are_expected_where_the_cache_is_read(path: str, body: Body) -> None:
    """A request asked again has blocks to be found if and only if the worker finds some: for a prompt's logprobs it does not look."""

    async def main() -> None:
        async with serving("--enable-prompt-tokens-details") as server:
            asked = {"model": MODEL, "max_tokens": 1} | body
            for _ in range(2):
                reply = await server.post(path, asked)
            cached_tokens = reply.json["usage"]["prompt_tokens_details"]["cached_tokens"]
            read = _read(path, body)
            assert read is not None
            assert bool(read.block_hashes) == bool(cached_tokens)

    run_in_virtual_time(main())


def test_a_generated_prompt_with_logprobs_has_no_blocks() -> None:
    """As anywhere else, though its wishes stand in a part of their own."""
    for sampling, count in (({}, 6), ({"prompt_logprobs": 1}, 0)):
        read = _read("/inference/v1/generate", {"token_ids": list(range(100)), "sampling_params": sampling})
        assert read is not None
        assert (read.num_tokens, len(read.block_hashes)) == (100, count)
