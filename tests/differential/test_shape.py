"""Whatever is changed in an answer of vLLM is found, and what two runs of vLLM need not agree in is not."""

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.differential.compare import differences
from tests.differential.conftest import Recorded
from tests.differential.message import HttpAnswer, HttpRequest

ASKED = HttpRequest("POST", "/v1/completions", (), b'{"prompt": "hello"}')
CHOICE = {
    "index": 0,
    "text": "a",
    "logprobs": None,
    "finish_reason": "length",
    "stop_reason": None,
    "token_ids": [5, 6],
}
COMPLETION = {
    "id": "cmpl-0123456789abcdef",
    "object": "text_completion",
    "created": 7,
    "choices": [CHOICE],
    "system_fingerprint": "vllm-0.33.0-01234567",
    "usage": {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2},
}


def _answer(value: Any, status: int = 200, kind: str = "application/json") -> HttpAnswer:
    return HttpAnswer(status, (("content-type", kind), ("vary", "")), json.dumps(value).encode())


def _stream(*data: Any) -> HttpAnswer:
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in data) + "data: [DONE]\n\n"
    return HttpAnswer(200, (("content-type", "text/event-stream; charset=utf-8"),), body.encode())


def _chunk(
    text: str,
    tokens: list[int],
    index: int = 0,
    finish: str | None = None,
    usage: tuple[int, int] | None = None,
) -> dict[str, Any]:
    choice = {"index": index, "text": text, "finish_reason": finish, "token_ids": tokens}
    counts = (
        {}
        if usage is None
        else {"usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))}
    )
    return {"id": "cmpl-0123456789abcdef", "choices": [choice], **counts}


def _kinds(judge: HttpAnswer, ours: HttpAnswer, asked: HttpRequest = ASKED) -> list[tuple[str, str]]:
    return [(one.kind, one.field) for one in differences(asked, judge, ours)]


def _changed(value: Any, change: Callable[[Any], None]) -> Any:
    new = copy.deepcopy(value)
    change(new)
    return new


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(item)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda body: body.update(id="cmpl-0123456789abcde"), ("value", "body.id")),
        (lambda body: body.update(object="completion"), ("value", "body.object")),
        (lambda body: body.update(created="7"), ("value", "body.created")),
        (lambda body: body.update(created=7.5), ("value", "body.created")),
        (
            lambda body: body.update(system_fingerprint="vllm-0.32.0-01234567"),
            ("value", "body.system_fingerprint"),
        ),
        (lambda body: body.update(model="m"), ("extra", "body.model")),
        (lambda body: body.pop("usage"), ("missing", "body.usage")),
        (lambda body: body["usage"].update(total_tokens=6), ("value", "body.usage.total_tokens")),
        (lambda body: body["usage"].update(total_tokens=5.0), ("type", "body.usage.total_tokens")),
        (lambda body: body["usage"].update(prompt_tokens=True), ("type", "body.usage.prompt_tokens")),
        (
            lambda body: body["usage"].update(prompt_tokens=body["usage"].pop("prompt_tokens")),
            ("order", "body.usage"),
        ),
        (lambda body: body["choices"].append(CHOICE), ("length", "body.choices")),
        (lambda body: body["choices"][0].pop("stop_reason"), ("missing", "body.choices[].stop_reason")),
        (lambda body: body["choices"][0].update(logprobs=0), ("type", "body.choices[].logprobs")),
        (
            lambda body: body["choices"][0].update(finish_reason="stop"),
            ("value", "body.choices[].finish_reason"),
        ),
        (lambda body: body["choices"][0].update(text=None), ("type", "body.choices[].text")),
        (
            lambda body: body["choices"][0].update(token_ids=[5]),
            ("value", "body.choices[].token_ids.counted"),
        ),
        (
            lambda body: body["choices"][0].update(token_ids=[5, "6"]),
            ("length", "body.choices[].token_ids.each"),
        ),
    ],
)
def test_each_change_of_a_body_is_found_where_it_is(
    change: Callable[[Any], None], found: tuple[str, str]
) -> None:
    """Values, types, order, lengths, missing and additional keys are told apart."""
    assert [found] == _kinds(_answer(COMPLETION), _answer(_changed(COMPLETION, change)))


def test_chance_is_no_difference() -> None:
    """Ids, moments, generated text, sampled tokens and the hash of the configuration may be others."""
    other = _changed(
        COMPLETION,
        lambda body: body.update(
            id="cmpl-fedcba9876543210", created=9, system_fingerprint="vllm-0.33.0-89abcdef"
        ),
    )
    other["choices"][0].update(text="something else", token_ids=[900, 901])
    assert _kinds(_answer(COMPLETION), _answer(other)) == []


def test_status_headers_and_ends_of_answers_are_compared() -> None:
    """The values of some headers and the names of all are compared, and whether the answer came to its end."""
    answer = _answer(COMPLETION)
    bare = HttpAnswer(200, (("content-type", "application/json"),), answer.body)
    cut = HttpAnswer(200, answer.headers, answer.body, whole=False)
    assert _kinds(answer, _answer(COMPLETION, status=201)) == [("status", "status")]
    assert ("value", "headers.content-type") in _kinds(
        answer, _answer(COMPLETION, kind="application/json; charset=utf-8")
    )
    assert _kinds(answer, bare) == [("missing", "headers.vary")]
    assert _kinds(bare, answer) == [("extra", "headers.vary")]
    assert _kinds(answer, cut) == [("value", "whole")]


def test_the_methods_of_an_allow_header_have_no_order() -> None:
    """Which methods there are is compared, their order is not."""
    one, same, other = (
        HttpAnswer(405, (("allow", allow),), b"") for allow in ("GET, HEAD", "HEAD, GET", "GET")
    )
    assert _kinds(one, same) == []
    assert _kinds(one, other) == [("value", "headers.allow")]


def test_a_prompt_that_is_echoed_must_be_the_prompt() -> None:
    """The text of an echo begins with the prompt, and is the prompt if nothing is generated."""
    echo = HttpRequest("POST", "/v1/completions", (), b'{"prompt": "hello", "echo": true}')
    alone = HttpRequest("POST", "/v1/completions", (), b'{"prompt": [5], "echo": true, "max_tokens": 0}')
    said = [
        _answer({"choices": [{"text": text}]}) for text in ("hello, you", "hello! it is", "goodbye", "hello")
    ]
    assert _kinds(said[0], said[1], echo) == []
    assert _kinds(said[0], said[2], echo) == [("value", "body.choices[].text")]
    assert _kinds(said[0], said[1], alone) == [("value", "body.choices[].text")]


def test_logprobs_are_counted_not_valued() -> None:
    """Which tokens and how likely is free; how many, with how many alternatives and of which form is not."""

    def scored(alternatives: int, tokens: int = 2, number: Any = -0.5, name: str = "a") -> HttpAnswer:
        top = [{f"{name}{place}": number for place in range(alternatives)}] * tokens
        scores = {"text_offset": [0] * tokens, "token_logprobs": [number] * tokens, "tokens": [name] * tokens}
        return _answer({"choices": [{"logprobs": {**scores, "top_logprobs": top}}]})

    assert _kinds(scored(2), scored(2, number=-1.25, name="b")) == []
    assert _kinds(scored(2), scored(3))
    assert _kinds(scored(2), scored(2, tokens=3))
    assert _kinds(scored(2), scored(2, number=-1))
    assert _kinds(scored(2), scored(2, name="token_id:5"))


def test_how_tokens_were_merged_into_events_does_not_count() -> None:
    """As long as the tokens, the kinds of events and their order are the same."""
    single = [_chunk(text, [token], usage=(3, 1)) for token, text in enumerate("abc")]
    merged = [_chunk("a", [0], usage=(3, 1)), _chunk("bc", [1, 2], usage=(3, 3))]
    end = _chunk("d", [3], finish="length", usage=(3, 4))
    assert _kinds(_stream(*single, end), _stream(*merged, end)) == []
    assert _kinds(_stream(*single, end), _stream(*merged[:1], end))
    assert _kinds(_stream(*single, end), _stream(*single, _chunk("d", [3], finish="length", usage=(3, 5))))


def test_how_choices_interleave_does_not_count() -> None:
    """Each choice's own events keep their order."""
    ends = [_chunk("b", [1], index, "length") for index in range(2)]
    begins = [_chunk("a", [0], index) for index in range(2)]
    one = _stream(begins[0], begins[1], ends[0], ends[1])
    assert _kinds(one, _stream(begins[1], ends[1], begins[0], ends[0])) == []
    assert _kinds(one, _stream(ends[0], begins[1], begins[0], ends[1]))


def test_what_stands_around_the_text_of_a_stream_counts() -> None:
    """Opening events, the event of the usage, the end mark and bytes after the last event are compared."""
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    text = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "length"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 3}}
    whole = _stream(role, text, usage)
    without_end = HttpAnswer(200, whole.headers, whole.body.replace(b"data: [DONE]\n\n", b""))
    with_rest = HttpAnswer(200, whole.headers, whole.body + b"data: x")
    for other in (_stream(text, usage), _stream(role, text), _stream(role, usage), without_end, with_rest):
        assert _kinds(whole, other)
    assert _kinds(
        whole,
        _stream(_changed(role, lambda body: body["choices"][0]["delta"].update(content="a")), text, usage),
    )


def test_recorded_answers_are_like_themselves(recorded: Recorded) -> None:
    """The comparison takes every answer that vLLM gave."""
    assert all(differences(asked, answer, answer) == [] for asked, answer in recorded)


@given(number=st.integers(0, 10**6))
def test_any_change_of_a_recorded_body_is_found(recorded: Recorded, number: int) -> None:
    """A key that is gone, a new one, keys in another order, a null that is a number, and another text of an error."""
    random = Random(number)
    asked, answer = random.choice([one for one in recorded if one[1].body.startswith(b'{"')])
    body = json.loads(answer.body)
    one = random.choice([one for one in _objects(body) if one])
    key = random.choice(sorted(one))
    changes: dict[str, Callable[[], Any]] = {
        "gone": lambda: one.pop(key),
        "new": lambda: one.update(new_one=None),
    }
    if len(one) > 1 and not _keys_are_tokens(one):
        first = next(iter(one))
        changes["order"] = lambda: one.update({first: one.pop(first)})
    if one[key] is None:
        changes["null"] = lambda: one.update({key: 0})
    if isinstance(body.get("error"), dict) and isinstance(one[key], str):
        changes["text"] = lambda: one.update({key: one[key] + "."})
    changes[random.choice(sorted(changes))]()
    changed = HttpAnswer(answer.status, answer.headers, json.dumps(body).encode(), answer.whole)
    assert differences(asked, answer, changed)


def _keys_are_tokens(value: dict[str, Any]) -> bool:
    """Return whether it is an object of alternatives to a token, whose order is by chance."""
    return all(
        isinstance(item, float) or (isinstance(item, dict) and "logprob" in item) for item in value.values()
    )


@given(number=st.integers(0, 10**6))
def test_any_event_of_a_recorded_stream_that_loses_a_key_is_found(recorded: Recorded, number: int) -> None:
    """Each key of each event is looked at."""
    random = Random(number)
    asked, answer = random.choice(
        [one for one in recorded if one[1].body.startswith((b"data: {", b"event: "))]
    )
    blocks = answer.body.decode().split("\n\n")
    place = random.choice([place for place, block in enumerate(blocks) if "data: {" in block])
    before, mark, data = blocks[place].partition("data: ")
    value = json.loads(data)
    one = random.choice([one for one in _objects(value) if one])
    del one[random.choice(sorted(one))]
    blocks[place] = before + mark + json.dumps(value)
    changed = HttpAnswer(answer.status, answer.headers, "\n\n".join(blocks).encode(), answer.whole)
    assert differences(asked, answer, changed)
