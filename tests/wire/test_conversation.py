"""Messages as chat templates read them."""

import json
from typing import Any

import pytest
from tests.wire.judge import LIMITS

from understudy.wire.chat import forwarded_token_ids, parse_chat
from understudy.wire.conversation import conversation
from understudy.wire.errors import ApiError
from understudy.wire.responses import parse_responses, response_messages, template_tools


def _read(*messages: dict[str, Any], as_parts: bool = False) -> list[dict[str, Any]]:
    body = json.dumps({"messages": messages, "max_tokens": 1}).encode()
    return conversation(parse_chat(body, LIMITS).messages, LIMITS, as_parts=as_parts)


def test_parts_of_a_message_are_joined_by_lines_or_kept() -> None:
    """A template takes either text or a list of parts."""
    message = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert _read(message) == [{"role": "user", "content": "a\nb"}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert _read(message, as_parts=True) == [{"role": "user", "content": parts}]
    assert _read({"role": "user"}) == [{"role": "user", "content": ""}]


def test_arguments_of_tool_calls_become_objects() -> None:
    """Whatever is no object becomes an empty one, so that a broken turn does not end the conversation."""
    for text, expected in (('{"a":1}', {"a": 1}), ("", {}), ("[]", {}), ("{", {}), ("5", {})):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
        (read,) = _read({"role": "assistant", "tool_calls": [call]})
        assert read["tool_calls"] == [{**call, "function": {"name": "f", "arguments": expected}}]
    assert _read({"role": "assistant", "content": "a", "tool_calls": []}) == [
        {"role": "assistant", "content": "a"}
    ]


def test_reasoning_names_and_tool_ids_are_kept() -> None:
    """Both names of the reasoning, the participant, the call that a tool answers, the tools of a developer."""
    read = _read(
        {"role": "assistant", "content": "a", "reasoning_content": "r", "name": "n"},
        {"role": "tool", "content": [{"type": "text", "text": "5"}], "tool_call_id": "c"},
        {"role": "developer", "content": "d"},
    )
    assert read == [
        {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r", "name": "n"},
        {"role": "tool", "content": "5", "tool_call_id": "c"},
        {"role": "developer", "content": "d", "tools": None},
    ]


def test_a_line_that_differs_each_time_is_dropped_from_system_prompts() -> None:
    """The rest of the text stays, so that equal prompts have equal tokens."""
    header = "x-anthropic-billing-header: cch=1"
    read = _read({"role": "system", "content": f"{header}\nbe good"}, {"role": "system", "content": header})
    assert [message["content"] for message in read] == ["be good", ""]
    assert _read({"role": "user", "content": header})[0]["content"] == header


def test_tokens_of_a_prefill_worker_replace_the_messages() -> None:
    """Unless the messages hold media or are to be echoed."""
    params = {"prompt_token_ids": [1, 2]}
    for change, expected in (
        ({}, [1, 2]),
        ({"echo": True}, None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
            None,
        ),
    ):
        fields = {"messages": [{"role": "user", "content": "a"}], "kv_transfer_params": params, **change}
        request = parse_chat(json.dumps(fields).encode(), LIMITS)
        assert forwarded_token_ids(request, LIMITS) == expected
        assert "prompt_token_ids" not in (request.kv_transfer_params or {})


def test_items_of_a_response_become_messages() -> None:
    """Calls and reasoning join the assistant's message before them; instructions come first."""
    items: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "r"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "5"},
    ]
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": True}
    body = json.dumps({"input": items, "instructions": "i", "tools": [tool]}).encode()
    request = parse_responses(body, LIMITS)
    system, user, assistant, answer = response_messages(request)
    assert system == {"role": "system", "content": "i"}
    assert user["content"] == items[0]["content"]
    assert (assistant["reasoning"], assistant["content"]) == ("r", "b")
    assert [call["id"] for call in assistant["tool_calls"]] == ["c", "d"]
    assert answer == {"role": "tool", "content": "5", "tool_call_id": "c"}
    assert len(conversation([system, user, assistant, answer], LIMITS)) == 4
    function = {"name": "f", "description": "d", "parameters": {}, "strict": True}
    assert template_tools(request) == [{"type": "function", "function": function}]


def test_unknown_items_and_sealed_reasoning_are_refused() -> None:
    """Each with the word of what it is about."""
    for item, words in (
        ({"type": "magic"}, "Unsupported input item type: magic"),
        ({"type": "reasoning", "encrypted_content": "x"}, "Encrypted content"),
    ):
        request = parse_responses(json.dumps({"input": [item]}).encode(), LIMITS)
        with pytest.raises(ApiError, match=words):
            response_messages(request)


def test_a_template_sees_the_known_fields_of_a_tool() -> None:
    """Optional ones only if they are set; what defers a tool defers its function."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "unknown": 5}
    tools = [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "g", "strict": False}, "defer_loading": True},
    ]
    fields = {"messages": [{"role": "user", "content": "a"}], "tools": tools, "tool_choice": "none"}
    read = parse_chat(json.dumps(fields).encode(), LIMITS).tools
    assert read is not None
    first, second = read
    del function["unknown"]
    assert first.template_fields == {"type": "function", "function": function}
    assert second.template_fields == {
        "type": "function",
        "function": {
            "name": "g",
            "description": None,
            "parameters": None,
            "strict": False,
            "defer_loading": True,
        },
        "defer_loading": True,
    }


def test_part_kinds_that_no_text_model_takes_are_named() -> None:
    """Media, unknown kinds and parts without a kind, each in vLLM's words."""
    for part, words in (
        ({"image_url": "u"}, "m is not a multimodal model"),
        ({"type": "image_url", "image_url": {"url": "u"}}, "m is not a multimodal model"),
        ({"type": "magic"}, "Unsupported chat content part type: 'magic'"),
        ({"type": 5}, "Invalid 'type' field"),
        ({}, "Missing 'type' field"),
        ({"type": "text", "text": 5}, "expected str instance, int found"),
    ):
        with pytest.raises(ApiError, match=words):
            conversation([{"role": "user", "content": [part]}], LIMITS)
    parts = ["a", {"type": "tool_reference", "name": "f"}, {"type": "text", "text": None}]
    assert conversation([{"role": "user", "content": parts}], LIMITS)[0]["content"] == "a\nf"
