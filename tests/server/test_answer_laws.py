"""What a client puts together from a stream is what it would have got whole, and counts are what was counted."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving import Json, Reply, Served, serving
from tests.support.virtual_time import run_in_virtual_time

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


class Ask(NamedTuple):
    """A request without the fields that say how it is to be answered."""

    path: str
    body: Json


_OPTIONS: Mapping[str, st.SearchStrategy[Any]] = {
    "n": st.integers(1, 3),
    "stop": st.lists(st.sampled_from(["e", " t", "ing", "s b", "er c", "zzz"]), min_size=1, max_size=2),
    "include_stop_str_in_output": st.booleans(),
    "min_tokens": st.integers(1, 3),
    "seed": st.integers(0, 5),
    "ignore_eos": st.just(value=True),
    "return_token_ids": st.just(value=True),
    "skip_special_tokens": st.just(value=False),
    "logit_bias": st.just({"400": 100.0, "401": 100.0}),
    "bad_words": st.just(["the", " of the"]),
    "temperature": st.floats(0.1, 2.0),
    "return_tokens_as_token_ids": st.just(value=True),
    "stop_token_ids": st.just([400]),
}
_WORDS = st.sampled_from(["", "Tell me", "Écris-moi un poème 🙂", "a b c d e f g h"])


def _bodies(**required: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    fields: dict[str, st.SearchStrategy[Any]] = {"max_tokens": st.integers(3, 14), **required}
    return st.fixed_dictionaries(fields, optional={**_OPTIONS})


_COMPLETION_EXTRAS = st.sampled_from(
    [{}, {}, {"echo": True}, {"logprobs": 2}, {"logprobs": 0, "echo": True}, {"echo": True, "max_tokens": 0}]
)
_CHAT_EXTRAS = st.sampled_from(
    [
        {},
        {},
        {"logprobs": True, "top_logprobs": 2},
        {"echo": True, "add_generation_prompt": False, "continue_final_message": True},
    ]
)
_PROMPTS = st.one_of(
    _WORDS.filter(bool),
    st.lists(st.integers(300, 900), min_size=1, max_size=20),
    st.just(["one prompt", "two prompts"]),
)
_MESSAGES = _WORDS.map(
    lambda text: [{"role": "user", "content": "Begin."}, {"role": "assistant", "content": text + "!"}]
)
_ASKS = st.one_of(
    st.builds(
        lambda body, extra: Ask(COMPLETIONS, _consistent(body | extra)),
        _bodies(prompt=_PROMPTS),
        _COMPLETION_EXTRAS,
    ),
    st.builds(
        lambda body, extra: Ask(CHAT, _consistent(body | extra)), _bodies(messages=_MESSAGES), _CHAT_EXTRAS
    ),
)


def _consistent(body: Json) -> Json:
    """Leave out what the server would refuse."""
    if not body["max_tokens"]:
        body = {name: value for name, value in body.items() if name != "min_tokens"}
    return body


_FLAGS = st.sampled_from(
    [
        (),
        ("--stream-interval", "4"),
        ("--no-async-scheduling", "--time-scale", "0.1"),
        ("--num-gpu-blocks-override", "12", "--max-model-len", "150", "--max-num-batched-tokens", "64"),
    ]
)


@settings(max_examples=60)
@given(flags=_FLAGS, asks=st.lists(_ASKS, min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_a_stream_adds_up_to_the_whole_answer(flags: Sequence[str], asks: list[Ask], order: Random) -> None:
    """Texts, tokens, log probabilities, reasons to end and usage; one chunk ends a choice, and [DONE] the stream."""
    limits = () if "--max-model-len" in flags else ("--max-model-len", "2048", "--max-num-seqs", "16")
    for ask, whole, stream in run_in_virtual_time(_both((*flags, *limits), asks, order)):
        assert (whole.status, stream.status) == (200, 200), (ask, whole.text, stream.text)
        assert stream.num_done == 1
        assert stream.ends_with_done
        _check_same(ask, whole.json, stream.events)


async def _both(flags: Sequence[str], asks: Sequence[Ask], order: Random) -> list[tuple[Ask, Reply, Reply]]:
    async with serving(*flags) as server:

        async def later(ask: Ask, extra: Json) -> Reply:
            await asyncio.sleep(order.random() / 10)
            return await server.post(ask.path, {"model": "llama-3.1-8b"} | ask.body | extra)

        options = {"include_usage": True, "continuous_usage_stats": order.random() < 0.5}
        replies = await asyncio.gather(
            *(later(ask, {}) for ask in asks),
            *(later(ask, {"stream": True, "stream_options": options}) for ask in asks),
        )
        await _idle(server)
        server.assert_nothing_is_left()
    return list(zip(asks, replies[: len(asks)], replies[len(asks) :], strict=True))


async def _idle(server: Served) -> None:
    await server.worker.frontend.idle()


def _check_same(ask: Ask, whole: Json, events: Sequence[Json]) -> None:
    *chunks, last = events
    assert last["choices"] == []
    assert last["usage"] == {name: value for name, value in whole["usage"].items() if value is not None}
    by_index: dict[int, list[Json]] = defaultdict(list)
    for chunk in chunks:
        for choice in chunk["choices"]:
            by_index[choice["index"]].append(choice | {"usage": chunk.get("usage")})
    assert sorted(by_index) == [choice["index"] for choice in whole["choices"]]
    for choice in whole["choices"]:
        pieces = by_index[choice["index"]]
        assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        for name in ("finish_reason", "stop_reason"):
            assert pieces[-1][name] == choice[name]
        assert "".join(map(_text, pieces)) == _text(choice), ask
        assert _joined(piece.get("token_ids") for piece in pieces) == (choice["token_ids"] or [])
        _check_logprobs(choice, pieces)
        counted = [piece["usage"]["completion_tokens"] for piece in pieces if piece["usage"]]
        assert counted == sorted(counted)
    if ask.body.get("return_token_ids"):
        told = sum(len(choice["token_ids"]) for choice in whole["choices"])
        assert told == whole["usage"]["completion_tokens"]


def _text(choice: Json) -> str:
    message = choice.get("message") or choice.get("delta")
    text: str = choice["text"] if message is None else message.get("content", "")
    return text


def _check_logprobs(choice: Json, pieces: Sequence[Json]) -> None:
    told = [piece["logprobs"] for piece in pieces if piece["logprobs"] is not None]
    if choice["logprobs"] is None:
        assert not told
        return
    for name, values in choice["logprobs"].items():
        assert _joined(one[name] for one in told) == values, name


def _joined(parts: Any) -> list[Any]:
    return [item for part in parts if part is not None for item in part]


@settings(max_examples=20)
@given(asks=st.lists(_ASKS, min_size=2, max_size=4), order=st.randoms(use_true_random=False))
def test_the_same_request_gets_the_same_text(asks: list[Ask], order: Random) -> None:
    """In whatever company, at whatever time scale, on a server that was started anew."""

    async def texts(scale: str, company: Sequence[Ask], together: bool) -> dict[str, list[str]]:  # noqa: FBT001 # local
        flags = ("--max-model-len", "2048", "--max-num-seqs", "8", "--time-scale", scale)
        async with serving(*flags) as server:

            async def send(ask: Ask) -> Reply:
                return await server.post(ask.path, {"model": "llama-3.1-8b"} | ask.body)

            if together:
                replies = await asyncio.gather(*map(send, company))
            else:
                replies = [await send(ask) for ask in company]
        return {
            repr(ask): [_text(choice) for choice in reply.json["choices"]]
            for ask, reply in zip(company, replies, strict=True)
        }

    shuffled = order.sample(asks, len(asks))
    first = run_in_virtual_time(texts("1", asks, together=True))
    assert first == run_in_virtual_time(texts("0.1", shuffled, together=False))
