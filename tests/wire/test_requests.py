"""Requests are accepted and refused as a real vLLM server does: same statuses, same bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.judge import Exchange, exchanges, refusal_of

from understudy.wire.chat import ChatRequest
from understudy.wire.completions import CompletionRequest
from understudy.wire.responses import ResponsesRequest

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
OWN_WORDS = "items and tools are not read as the SDK's types, so the list of what they are not differs"
DIFFERENCES = {
    (
        CHAT,
        b'"routed_experts_prompt_start": 4000',
    ): "the message tells the prompt's length by the judge's tokenizer",
    (RESPONSES, b'"input": [5]'): OWN_WORDS,
    (RESPONSES, b'"role": "robot"'): OWN_WORDS,
    (RESPONSES, b'"content": 5'): OWN_WORDS,
    (RESPONSES, b'"content": [5]'): OWN_WORDS,
    (RESPONSES, b'"input": [{"type": "function_call"'): OWN_WORDS,
    (RESPONSES, b'"tools": [5]'): OWN_WORDS,
    (RESPONSES, b'"type": "magic"'): OWN_WORDS,
    (RESPONSES, b'"tools": [{"type": "function"}]'): OWN_WORDS,
    (RESPONSES, b'"parameters": 5'): OWN_WORDS,
}
"""Paths and parts of recorded bodies whose answers differ in their bytes, not in their status, and why."""

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


def _differs(exchange: Exchange) -> bool:
    return any(exchange.path == path and part in exchange.body for path, part in DIFFERENCES)


REFUSED = [exchange for exchange in exchanges() if exchange.is_refusal]
PATHS = sorted({exchange.path for exchange in exchanges()})
ACCEPTED = [exchange for exchange in exchanges() if not exchange.is_refusal]


def test_the_recording_covers_all_kinds_of_answers() -> None:
    """A thousand answers at least, of every status and path."""
    assert len(REFUSED) >= 800
    assert len(ACCEPTED) >= 200
    assert {exchange.status for exchange in exchanges()} == {200, 400, 404, 500}


@pytest.mark.parametrize("path", PATHS)
def test_every_refusal_has_the_judges_status_and_bytes(path: str) -> None:
    """Whatever vLLM refuses we refuse in its words."""
    for exchange in REFUSED:
        if exchange.path == path and not _differs(exchange):
            assert refusal_of(exchange) == (exchange.status, exchange.answer), exchange.body


def test_every_difference_is_still_a_refusal() -> None:
    """The listed differences concern words alone, and each is needed."""
    differing = [exchange for exchange in REFUSED if _differs(exchange)]
    assert len(differing) == len(DIFFERENCES)
    for exchange in differing:
        refused = refusal_of(exchange)
        assert refused is not None
        assert refused[0] == exchange.status
        assert refused[1] != exchange.answer


@pytest.mark.parametrize("path", PATHS)
def test_everything_that_the_judge_accepts_is_accepted(path: str) -> None:
    """Odd values that pydantic converts, unknown fields and nulls are no errors."""
    for exchange in ACCEPTED:
        if exchange.path == path:
            assert refusal_of(exchange) is None, exchange.body


FIELDS = sorted({*CompletionRequest.model_fields, *ChatRequest.model_fields, *ResponsesRequest.model_fields})
BASES = {"prompt": "a", "messages": [{"role": "user", "content": "a"}], "tokens": [5], "input": "a"}


@pytest.mark.parametrize("nested", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900])
def test_no_field_is_nested_too_deeply_for_an_answer(nested: str) -> None:
    """JSON that Python can still read never exhausts the stack later."""
    for field in (*FIELDS, "input", "tools"):
        fields = {name: json.dumps(value) for name, value in BASES.items()} | {field: nested}
        body = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
        for path in PATHS:
            refused = refusal_of(Exchange(path, body.encode(), "application/json", 200, b""))
            assert refused is None or refused[0] in {200, 400, 404, 500}


@pytest.mark.parametrize(
    ("response_format", "outputs"),
    [
        ('{"type":"structural_tag","format":%s}', "null"),
        ('{"type":"json_schema","json_schema":{"name":"s","schema":%s}}', "null"),
        ('{"type":"json_schema","json_schema":{"name":"s","schema":%s}}', '{"regex":"a"}'),
        ("null", '{"json":%s}'),
        ("null", '{"json":%s,"grammar":"a"}'),
    ],
)
def test_no_constraint_is_nested_too_deeply_for_an_answer(response_format: str, outputs: str) -> None:
    """A schema that no grammar could be made of is refused, in whatever field it comes."""
    nested = '{"a":' * 900 + "1" + "}" * 900
    body = f'{{"prompt":"a","response_format":{response_format},"structured_outputs":{outputs}}}'
    refused = refusal_of(
        Exchange("/v1/completions", body.replace("%s", nested).encode(), "application/json", 200, b"")
    )
    assert refused is not None
    assert refused[0] == 400


@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=6), raw=JSON_VALUES)
def test_no_body_does_anything_but_pass_or_raise_an_api_error(
    changes: dict[str, object], raw: object
) -> None:
    """Any JSON value, and any field set to anything, is a request or a refusal."""
    for body in (json.dumps({**BASES, **changes}).encode(), json.dumps(raw).encode()):
        for path in PATHS:
            refused = refusal_of(Exchange(path, body, "application/json", 200, b""))
            assert refused is None or refused[0] in {200, 400, 404, 500}
