"""Tokens in and out, aborts, and which name an answer carries."""

from dataclasses import replace

import pytest
from tests.wire.judge import LIMITS

from understudy.wire.errors import ApiError, overloaded
from understudy.wire.generate import generate_sampling, parse_abort, parse_generate, scale_out_disabled
from understudy.wire.served_model import answering_name


def test_refusals_of_a_server_in_a_state_tell_it() -> None:
    """Disabled endpoints are forbidden, a full queue is unavailable."""
    assert scale_out_disabled().body == (
        b'{"error":{"message":"Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable'
        b' them.","type":"PermissionDeniedError","param":null,"code":403}}'
    )
    assert (overloaded("busy").status, overloaded("busy").kind) == (503, "Service Unavailable")


def test_answers_carry_the_first_name_or_the_adapters() -> None:
    """Whatever alias was asked for."""
    limits = replace(LIMITS, served_model_names=("m", "alias"), lora_names=frozenset({"l"}))
    names = [answering_name(name, limits) for name in (None, "", "m", "alias", "l")]
    assert names == ["m", "m", "m", "m", "l"]


def test_requests_to_abort_are_named_or_refused() -> None:
    """One id or a list of them."""
    assert parse_abort(b'{"request_ids":["a","b"]}') == ["a", "b"]
    assert parse_abort(b'{"request_ids":"a"}') == ["a"]
    for body in (b"{", b"\xff", b"{}", b"[]", b'{"request_ids":5}', b'{"request_ids":[5]}'):
        with pytest.raises(ApiError) as refused:
            parse_abort(body)
        assert (refused.value.status, refused.value.kind) == (400, "Bad Request")


def test_tokens_in_are_bounded_by_the_context_and_not_by_sixteen() -> None:
    """A client that says nothing of a length gets all that fits; one that says null too."""
    for params, expected in (("{}", 4093), ('{"max_tokens":null}', 4093), ('{"max_tokens":9}', 9)):
        body = b'{"token_ids":[1,2,3],"sampling_params":%b}' % params.encode()
        assert generate_sampling(parse_generate(body, LIMITS, 8), LIMITS).max_tokens == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ('"token_ids":[]', "at least 1 item"),
        ('"token_ids":[-1]', "must not contain negative values"),
        ('"token_ids":[1],"sampling_params":{"n":9}', "must be at most the server's max_num_seqs"),
        ('"token_ids":[1],"output_mode":"derender"', "is not supported"),
        ('"token_ids":[1],"model":"nope"', "does not exist"),
        ('"token_ids":[1],"cache_salt":""', "non-empty string"),
    ],
)
def test_wrong_tokens_in_are_refused(fields: str, words: str) -> None:
    """With the status of a client's error and words that name the field."""
    body = b'{"sampling_params":{},%b}' % fields.encode()
    with pytest.raises(ApiError, match=words):
        parse_generate(body, LIMITS, 8)
