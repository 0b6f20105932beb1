"""Answers have a real vLLM server's bytes: its recorded answers, taken apart and built again by our functions."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.wire.judge import LIMITS, Exchange, exchanges

from understudy.wire.answers import AnswerHead, ChoiceEnd
from understudy.wire.chat_answers import ChatChoice, ChatChunks, chat_body, chat_usage_event
from understudy.wire.completion_answers import (
    CompletionChoice,
    CompletionChunks,
    completion_body,
    completion_usage_event,
)
from understudy.wire.response_answers import (
    ResponseEvents,
    ResponseHead,
    message_item,
    response_body,
)
from understudy.wire.responses import ResponsesRequest, parse_responses, response_sampling
from understudy.wire.sse import DONE
from understudy.wire.tokenization import detokenize_body, tokenize_body
from understudy.wire.usage import Usage

FINGERPRINT = "vllm-0.33.0-ee8c6243"


def _accepted(path: str, *, stream: bool) -> list[Exchange]:
    found = [
        exchange
        for exchange in exchanges()
        if exchange.path == path
        and not exchange.is_refusal
        and exchange.answer.startswith((b"data:", b"event:")) == stream
    ]
    assert len(found) > 2
    return found


def _head(answer: dict[str, Any]) -> AnswerHead:
    return AnswerHead(answer["id"], answer["created"], answer["model"], FINGERPRINT)


def _usage(answer: dict[str, Any]) -> Usage:
    usage = answer["usage"]
    return Usage(usage["prompt_tokens"], usage["completion_tokens"])


def _events(exchange: Exchange) -> Iterator[tuple[bytes, dict[str, Any]]]:
    assert exchange.answer.endswith(DONE)
    for event in exchange.answer.removesuffix(DONE).split(b"\n\n")[:-1]:
        yield event + b"\n\n", json.loads(event.removeprefix(b"data: "))


def test_whole_completions_have_the_judges_bytes() -> None:
    """All fields, nulls included, in vLLM's order."""
    for exchange in _accepted("/v1/completions", stream=False):
        answer = json.loads(exchange.answer)
        choices = []
        for choice in answer["choices"]:
            del choice["index"], choice["routed_experts"]
            choices.append(CompletionChoice(**choice))
        assert completion_body(_head(answer), choices, _usage(answer)) == exchange.answer


def test_whole_chats_have_the_judges_bytes() -> None:
    """All fields, nulls included, in vLLM's order."""
    for exchange in _accepted("/v1/chat/completions", stream=False):
        answer = json.loads(exchange.answer)
        choices = []
        for choice in answer["choices"]:
            del choice["index"], choice["routed_experts"]
            message = choice.pop("message")
            choices.append(ChatChoice(message["content"], role=message["role"], **choice))
        built = chat_body(
            _head(answer),
            choices,
            _usage(answer),
            prompt_logprobs=answer["prompt_logprobs"],
            prompt_token_ids=answer["prompt_token_ids"],
            prompt_text=answer["prompt_text"],
        )
        assert built == exchange.answer


def test_streamed_completions_have_the_judges_bytes() -> None:
    """Every chunk of every recorded stream, with and without usage."""
    for exchange in _accepted("/v1/completions", stream=True):
        has_usage_chunk = b'"choices":[]' in exchange.answer
        for event, chunk in _events(exchange):
            if not chunk["choices"]:
                assert completion_usage_event(_head(chunk), _usage(chunk)) == event
                continue
            choice = chunk["choices"][0]
            chunks = CompletionChunks(_head(chunk), choice["index"])
            extra = {
                "prompt_token_ids": choice["prompt_token_ids"],
                "token_ids": choice["token_ids"],
                "usage": _usage(chunk) if "usage" in chunk else None,
            }
            if choice["finish_reason"] is None:
                assert chunks.text(choice["text"], **extra) == event
                continue
            end = _end(choice, has_usage_chunk=has_usage_chunk)
            assert chunks.last(choice["text"], end, **extra) == event


def _chat_event(chunk: dict[str, Any], *, has_usage_chunk: bool) -> bytes:
    if not chunk["choices"]:
        return chat_usage_event(_head(chunk), _usage(chunk))
    choice = chunk["choices"][0]
    delta, usage = choice["delta"], _usage(chunk) if "usage" in chunk else None
    chunks = ChatChunks(_head(chunk), choice["index"])
    if "role" in delta:
        return chunks.role(
            delta["role"],
            prompt_token_ids=chunk["prompt_token_ids"],
            prompt_text=chunk["prompt_text"],
            usage=usage,
        )
    if "token_ids" not in choice:
        return chunks.echo(delta["content"], usage)
    if choice["finish_reason"] is None:
        return chunks.text(delta["content"], token_ids=choice["token_ids"], usage=usage)
    end = _end(choice, has_usage_chunk=has_usage_chunk)
    return chunks.last(delta, end, token_ids=choice["token_ids"], usage=usage)


def _end(choice: dict[str, Any], *, has_usage_chunk: bool) -> ChoiceEnd:
    return ChoiceEnd(
        choice["finish_reason"], choice["stop_reason"], choice["weight_versions"], has_usage_chunk
    )


def test_streamed_chats_have_the_judges_bytes() -> None:
    """Every chunk of every recorded stream: roles, echoes, text, ends, usage."""
    kinds = set()
    for exchange in _accepted("/v1/chat/completions", stream=True):
        has_usage_chunk = b'"choices":[]' in exchange.answer
        for event, chunk in _events(exchange):
            assert _chat_event(chunk, has_usage_chunk=has_usage_chunk) == event
            kinds.add(tuple(chunk["choices"][0]) if chunk["choices"] else ())
    assert len(kinds) == 4


def _response_head(request: ResponsesRequest, answer: dict[str, Any]) -> ResponseHead:
    sampling = response_sampling(request, 5, LIMITS)
    return ResponseHead(AnswerHead(answer["id"], answer["created_at"], answer["model"]), request, sampling)


def _response_usage(answer: dict[str, Any]) -> Usage:
    usage = answer["usage"]
    details = usage["input_tokens_details"]
    return Usage(
        usage["input_tokens"],
        usage["output_tokens"],
        cached_tokens=details["cached_tokens"],
        created_cache_tokens=details["cache_write_tokens"],
    )


def test_whole_responses_have_the_judges_bytes() -> None:
    """What the request asked for comes back with its defaults, then what came of it."""
    for exchange in _accepted("/v1/responses", stream=False):
        answer = json.loads(exchange.answer)
        head = _response_head(parse_responses(exchange.body, LIMITS), answer)
        item = answer["output"][0]
        output = [message_item(item["id"], item["content"][0]["text"], item["status"])]
        built = response_body(head, output, answer["status"], _response_usage(answer))
        assert built == exchange.answer


def test_streamed_responses_have_the_judges_bytes() -> None:
    """All events of every recorded stream, in their order and numbered."""
    for exchange in _accepted("/v1/responses", stream=True):
        data = [json.loads(event.split(b"data: ", 1)[1]) for event in exchange.answer.split(b"\n\n")[:-1]]
        last = data[-1]["response"]
        events = ResponseEvents(_response_head(parse_responses(exchange.body, LIMITS), last))
        built = events.start()
        for event in data:
            if event["type"] == "response.output_text.delta":
                built += events.text(event["delta"], event["item_id"])
        built += events.end_item(last["output"][0]["status"]) + events.end(
            last["status"], _response_usage(last)
        )
        assert built == exchange.answer


def test_tokenizations_have_the_judges_bytes() -> None:
    """Both directions, with and without the tokens' strings."""
    for exchange in _accepted("/tokenize", stream=False):
        answer = json.loads(exchange.answer)
        assert tokenize_body(answer["tokens"], LIMITS, answer["token_strs"]) == exchange.answer
    for exchange in _accepted("/detokenize", stream=False):
        assert detokenize_body(json.loads(exchange.answer)["prompt"]) == exchange.answer


@pytest.mark.parametrize("chunks", [CompletionChunks, ChatChunks])
def test_the_template_gives_the_same_chunk_as_the_long_way(
    chunks: type[CompletionChunks] | type[ChatChunks],
) -> None:
    """A chunk of text alone is glued together; the same chunk with an empty list of ids differs in that list only."""
    made = chunks(AnswerHead('i"d', 5, "möd\n", FINGERPRINT), 3)
    glued = made.text('a"\u2028\x00é')
    assert glued == made.text('a"\u2028\x00é', token_ids=[]).replace(b'"token_ids":[]', b'"token_ids":null')
    json.loads(glued.removeprefix(b"data: "))
