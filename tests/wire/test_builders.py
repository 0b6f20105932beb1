"""What a server without a GPU leaves null has the bytes of vLLM's own classes: see `record_builders.py`."""

import json
from functools import cache
from itertools import repeat

import pytest
from tests.wire.judge import LIMITS, builders

from understudy.wire.answers import AnswerHead
from understudy.wire.chat_answers import (
    ChatChoice,
    ChatChunks,
    ChatToolCall,
    chat_body,
    chat_usage_event,
    content_delta,
    tool_call_more,
    tool_call_start,
)
from understudy.wire.completion_answers import (
    CompletionChoice,
    CompletionChunks,
    completion_body,
    completion_usage_event,
)
from understudy.wire.errors import compact_json, internal
from understudy.wire.fingerprint import FingerprintMode, system_fingerprint
from understudy.wire.generate import (
    GenerateChoice,
    generate_body,
    generate_event,
    generate_logprobs,
)
from understudy.wire.logprobs import (
    Candidate,
    TokenLogprobs,
    chat_logprobs,
    completion_logprobs,
    next_offset,
    prompt_logprobs,
    response_logprobs,
)
from understudy.wire.model_list import LoadedAdapter, models_body
from understudy.wire.response_answers import ResponseEvents, ResponseHead
from understudy.wire.responses import parse_responses, response_sampling
from understudy.wire.sse import encode
from understudy.wire.usage import RequestMetrics, Usage, request_metrics

HEAD = AnswerHead("x-1", 5, "m")
USAGE = Usage(3, 2, cached_tokens=1, created_cache_tokens=2, reasoning_tokens=1)


@cache
def _positions() -> list[TokenLogprobs]:
    positions = []
    for position in builders()["positions"]:
        candidates = position["candidates"]
        if candidates is not None:
            candidates = [
                Candidate(token_id, text, float("-inf") if logprob is None else logprob, rank)
                for token_id, text, logprob, rank in candidates
            ]
        positions.append(TokenLogprobs(position["token_id"], position["text"], candidates))
    return positions


def test_logprobs_have_vllms_bytes_in_both_shapes() -> None:
    """For every count, with texts or ids as tokens, with chosen or all candidates; whole and in chunks."""
    cases = builders()["logprobs"]
    assert len(cases) == 16
    for case in cases:
        options = {"as_token_ids": case["as_token_ids"], "all_candidates": case["all_candidates"]}
        made = completion_logprobs(_positions(), case["wanted"], first_offset=3, **options)
        assert compact_json(made).decode() == case["completion"]
        assert CompletionChunks(HEAD, 0).text("t", logprobs=made).decode() == case["completion_chunk"]
        chat = chat_logprobs(_positions()[1:], case["wanted"], **options)
        assert compact_json(chat).decode() == case["chat"]
        assert ChatChunks(HEAD, 0).text("t", logprobs=chat).decode() == case["chat_chunk"]


def test_responses_tell_what_chats_tell_in_an_order_of_their_own() -> None:
    """A token, its bytes and its log probability, in whole answers; streamed text has no bytes, and no list for -1."""
    made = list(response_logprobs(_positions()[1:], 2))
    assert made == list(chat_logprobs(_positions()[1:], 2)["content"])
    for entry in made:
        assert list(entry) == ["token", "bytes", "logprob", "top_logprobs"]
        assert all(list(each) == ["token", "bytes", "logprob"] for each in entry["top_logprobs"])
    assert [entry["top_logprobs"] for entry in response_logprobs(_positions()[1:], -1)] == [[] for _ in made]
    events = ResponseEvents(_response_head())
    opening, delta = events.text("t", "msg-1", made).split(b"event: response.output_text.delta\n")
    assert b'"logprobs":[]' in opening
    assert b'"bytes"' not in delta
    assert delta.count(b'"logprob":') == sum(1 + len(entry["top_logprobs"]) for entry in made)
    assert encode(made) in events.end_item("completed")


def test_offsets_go_on_where_the_last_chunk_ended() -> None:
    """Two objects in sequence tell the offsets of one."""
    whole = completion_logprobs(_positions(), 1)
    first = completion_logprobs(_positions()[:2], 1)
    second = completion_logprobs(_positions()[2:], 1, first_offset=next_offset(first, 0))
    assert first["text_offset"] + second["text_offset"] == whole["text_offset"]
    assert next_offset(completion_logprobs([], 1), 7) == 7


def test_whole_answers_have_vllms_bytes() -> None:
    """Tool calls, reasoning, prompt log probabilities, details of usage, transfer parameters, metrics."""
    metrics = RequestMetrics(time_to_first_token_ms=1.5, queue_time_ms=0.00001)
    scored = prompt_logprobs([_positions()[0], _positions()[1]])
    choice = CompletionChoice("t", "stop", prompt_logprobs=scored)
    completion = completion_body(
        HEAD, [choice], USAGE, kv_transfer_params={"remote_block_ids": [1, 2]}, metrics=metrics
    )
    assert completion.decode() == builders()["whole"]["completion"]
    calls = [ChatToolCall("call-1", "f", '{"a":1}')]
    answer = ChatChoice(None, "tool_calls", tool_calls=calls, reasoning="because")
    chat = chat_body(
        HEAD, [answer], USAGE, prompt_logprobs=scored, kv_transfer_params={"a": 1}, metrics=metrics
    )
    assert chat.decode() == builders()["whole"]["chat"]


def test_chunks_have_vllms_bytes() -> None:
    """Tool calls, reasoning, running usage, and the last chunk with its details."""
    chunks = ChatChunks(HEAD, 0)
    usage = Usage(3, 2, cached_tokens=1, reasoning_tokens=1)
    head = AnswerHead(HEAD.id, HEAD.created, HEAD.model, "f")
    metrics = RequestMetrics(time_to_first_token_ms=1.5, queue_time_ms=0.25)
    built = {
        "tool_start": chunks.delta(content_delta(tool_calls=[tool_call_start(0, "call-1", "f", "")])),
        "tool_more": chunks.delta(content_delta(tool_calls=[tool_call_more(0, '{"a"')])),
        "reasoning": chunks.delta(content_delta(reasoning="hm")),
        "both": chunks.delta(content_delta("so", "hm")),
        "usage": chunks.text("t", usage=usage),
        "nothing": chunks.delta(content_delta()),
        "completion_end": completion_usage_event(head, usage, metrics),
        "chat_end": chat_usage_event(head, usage, metrics),
    }
    assert {name: chunk.decode() for name, chunk in built.items()} == builders()["chunks"]


def test_metrics_are_vllms() -> None:
    """A time is told where both of its moments came."""
    for case in builders()["metrics"]:
        queued, scheduled, first, last = case["moments"]
        assert request_metrics(queued, scheduled, first, last, case["tokens"]).whole == case["metrics"]


@pytest.mark.parametrize("mode", ["full", "hash", "custom", "none"])
def test_fingerprints_are_vllms(mode: FingerprintMode) -> None:
    """The full one names every degree of parallelism above one."""
    made = system_fingerprint(
        mode,
        "0123456789abcdef",
        custom_value="mine",
        tensor_parallel=2,
        pipeline_parallel=3,
        data_parallel=4,
        expert_parallel=True,
    )
    assert made == builders()["fingerprints"][mode]


def test_the_list_of_models_has_vllms_bytes() -> None:
    """A card per served name, then one per adapter."""
    adapters = [LoadedAdapter("l", "/loras/l")]
    assert models_body(LIMITS, "/models/m", adapters, 5, repeat("1")).decode() == builders()["models"]


def _response_head() -> ResponseHead:
    request = parse_responses(b'{"input":"a"}', LIMITS)
    return ResponseHead(HEAD, request, response_sampling(request, 1, LIMITS))


def test_a_streamed_function_call_has_vllms_bytes() -> None:
    """Its item, its arguments piece by piece, and both again at the end."""
    events = ResponseEvents(_response_head())
    made = events.start_call("fc-1", "call-1", "f") + events.arguments('{"a"') + events.arguments(":1}")
    made += events.end_item("completed")
    assert made.decode() == builders()["response_events"]


def test_tokens_out_have_vllms_bytes() -> None:
    """Whole answers of both modes, and a chunk without the fields that vLLM leaves out of chunks."""
    recorded, usage = builders()["generate"], Usage(3, 1)
    scored = generate_logprobs([TokenLogprobs(6, "b", [Candidate(6, "b", -0.5, 2)])])
    choice = GenerateChoice(0, [6], "length", logprobs=scored)
    whole = generate_body(HEAD, [choice], usage, "tokens", prompt_token_ids=[1, 2, 3])
    assert whole.decode() == recorded["tokens"]
    text = generate_body(HEAD, [GenerateChoice(0, [6], "length", text="t")], usage, "text")
    assert text.decode() == recorded["text"]
    chunk = generate_event("x-1", GenerateChoice(0, [6], None, logprobs=scored), "tokens")
    left_out = '"prompt_token_ids":null,"mm_placeholders":null,"metrics":null,'
    assert chunk.decode() == f"data: {recorded['chunk'].replace(left_out, '')}\n\n"
    last = generate_event("x-1", None, "tokens", usage=usage)
    assert json.loads(last.removeprefix(b"data: "))["usage"] == usage.counts


def test_an_error_has_vllms_keys() -> None:
    """Message, type, parameter, code."""
    recorded = json.loads(builders()["error"])
    assert [*internal().fields["error"]] == [*recorded["error"]]  # type: ignore[misc] # an object
