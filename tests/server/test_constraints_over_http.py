"""Structured outputs and tool calls through the API: what was asked for is what comes, streamed or whole."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.serving import MODEL, Json, Metrics, Reply, serving
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.engine_clock import FreeClock

FLAGS = ("--max-model-len", "8192", "--max-num-seqs", "16")
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
MESSAGES = [{"role": "user", "content": "What is the weather in Reykjavík?"}]
MANY_TOKENS = 4000

PERSON: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "ü"]}, "minItems": 1, "maxItems": 4},
        "home": {"type": "object", "properties": {"zip": {"type": "string", "pattern": r"^\d{5}$"}}, "required": ["zip"]},
    },
    "required": ["name", "age", "home"],
    "additionalProperties": False,
}  # fmt: skip
SCHEMAS: Sequence[Json] = (
    PERSON,
    {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 2},
    {"anyOf": [{"type": "null"}, {"type": "number", "minimum": 2}]},
    {"type": "object", "properties": {}},
)


def _tool(name: str, parameters: Json | None) -> Json:
    function = {"name": name} | ({} if parameters is None else {"parameters": parameters})
    return {"type": "function", "function": function}


WEATHER = _tool("weather", PERSON)
TIME = _tool(
    "time", {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
)
BARE = _tool("ping", None)


async def _text(reply: Reply) -> str:
    assert reply.status == 200, reply.text
    text: str
    if reply.events:
        deltas = [choice.get("delta", choice) for event in reply.events for choice in event["choices"]]
        text = "".join(delta.get("content") or delta.get("text") or "" for delta in deltas)
    else:
        (choice,) = reply.json["choices"]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    return text


@settings(max_examples=15)
@given(schema=st.sampled_from(SCHEMAS), seed=st.integers(0, 10**6), is_streamed=st.booleans())
def test_answers_keep_to_their_schema(schema: Json, *, seed: int, is_streamed: bool) -> None:
    """By `response_format`, by `structured_outputs`, in chats and completions; the answer ends by itself."""

    async def main() -> None:
        async with serving(*FLAGS, clock=FreeClock()) as server:
            common: Json = {"max_tokens": MANY_TOKENS, "seed": seed, "stream": is_streamed}
            response_format = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
            replies = [
                await server.chat(messages=MESSAGES, response_format=response_format, **common),
                await server.chat(messages=MESSAGES, structured_outputs={"json": schema}, **common),
                await server.complete(prompt="Who?", response_format=response_format, **common),
                await server.complete(
                    prompt="Who?", structured_outputs={"json": json.dumps(schema)}, **common
                ),
            ]
            for reply in replies:
                jsonschema.validate(json.loads(await _text(reply)), schema)
                last = (reply.events[-1] if reply.events else reply.json)["choices"][0]
                assert last["finish_reason"] == "stop"
            free = await server.chat(messages=MESSAGES, response_format={"type": "json_object"}, **common)
            assert isinstance(json.loads(await _text(free)), dict)

    run_in_virtual_time(main())


@settings(max_examples=15)
@given(
    regex=st.sampled_from([r"\d{3}-[a-f]+", r"(yes|no)!", r"[A-Z][a-z]{2,9}( [A-Z][a-z]+)?", "ä+b"]),
    choice=st.lists(st.sampled_from(["one", "zwei", "trois words", "四"]), min_size=1, unique=True),
    seed=st.integers(0, 10**6),
    is_streamed=st.booleans(),
)
def test_answers_match_and_choose(regex: str, choice: list[str], *, seed: int, is_streamed: bool) -> None:
    """A regular expression as a whole, a choice as it stands, each of n samples by itself."""

    async def main() -> None:
        async with serving(*FLAGS, clock=FreeClock()) as server:
            common: Json = {
                "prompt": "Say it.",
                "max_tokens": MANY_TOKENS,
                "seed": seed,
                "stream": is_streamed,
            }
            matching = await server.complete(structured_outputs={"regex": regex}, **common)
            assert re.fullmatch(regex, await _text(matching))
            assert (
                await _text(await server.complete(structured_outputs={"choice": choice}, **common)) in choice
            )
            several = await server.complete(
                structured_outputs={"choice": choice}, **common | {"stream": False, "n": 3}
            )
            assert {one["text"] for one in several.json["choices"]} <= set(choice)

    run_in_virtual_time(main())


_CHOICES = st.sampled_from(["auto", "required", {"type": "function", "function": {"name": "time"}}])


@settings(max_examples=40)
@given(
    tools=st.sampled_from([[TIME], [WEATHER, TIME], [WEATHER, TIME, BARE]]),
    choice=_CHOICES,
    parallel=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_tool_calls(tools: list[Json], choice: Any, *, parallel: bool, seed: int) -> None:
    """Known tools, arguments by their schemas, vLLM's reasons to end; a stream adds up to the whole answer."""

    async def main() -> tuple[Json, Reply, Metrics]:
        async with serving(*FLAGS, *TOOLS, clock=FreeClock()) as server:
            body: Json = {
                "messages": MESSAGES, "tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel,
                "max_tokens": 400, "seed": seed,
            }  # fmt: skip
            whole = await server.chat(**body)
            assert whole.status == 200, whole.text
            stream = await server.chat(**body, stream=True)
            return whole.json["choices"][0], stream, await server.metrics()

    whole, stream, page = run_in_virtual_time(main())
    message = whole["message"]
    calls = [
        (call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", ())
    ]
    is_named = isinstance(choice, dict)
    if calls:
        assert message["content"] == (None if choice == "auto" else "")
        assert whole["finish_reason"] == ("stop" if is_named else "tool_calls")
    else:
        assert choice == "auto"
        assert message["content"]
    assert len(calls) <= (2 if parallel and not is_named else 1)
    by_name = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), by_name[name])
        assert not is_named or name == "time"
    assert _streamed(stream) == (calls, message["content"] or None, whole["finish_reason"])
    looks = "vllm:tool_call_parser_invocations_total"
    outcome = "tool_call" if calls else "no_tool_call"
    assert (
        page.total(looks, mode="non_streaming")
        == page.total(looks, mode="non_streaming", outcome=outcome)
        == 1
    )
    assert (page.total(looks, mode="streaming", outcome="tool_call") > 0) is bool(calls)


def _streamed(stream: Reply) -> tuple[list[tuple[str, str]], str | None, str]:
    assert stream.ends_with_done
    names: dict[int, str] = {}
    arguments: dict[int, str] = defaultdict(str)
    content = ""
    for event in stream.events:
        delta = event["choices"][0]["delta"]
        content += delta.get("content") or ""
        for call in delta.get("tool_calls", ()):
            if "name" in call["function"]:
                assert call["index"] not in names
                assert call["id"].startswith("chatcmpl-tool-")
                names[call["index"]] = call["function"]["name"]
            arguments[call["index"]] += call["function"].get("arguments", "")
    assert list(names) == list(range(len(names)))
    reason: str = stream.events[-1]["choices"][0]["finish_reason"]
    return [(names[index], arguments[index]) for index in names], content or None, reason


BEGINNING = '<tool_call>\n{"name": "weather", "arguments": '


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_tool_call_that_is_cut_short(path: str) -> None:
    """Whatever the limit, a stream tells the beginning of the call; a whole answer tells it as text, as it stands."""
    is_chat = path.startswith("/v1/chat")
    given: Json = {"messages": MESSAGES, "tools": [WEATHER]} if is_chat else {"input": "Weather?"}
    if not is_chat:
        given["tools"] = [{"type": "function"} | WEATHER["function"]]
    limit = "max_tokens" if is_chat else "max_output_tokens"

    async def main() -> None:
        async with serving(*FLAGS, *TOOLS, clock=FreeClock()) as server:
            body: Json = {"model": MODEL, "tool_choice": "required", "parallel_tool_calls": False} | given
            names, whole, _ = _told(await server.post(path, body | {limit: MANY_TOKENS, "stream": True}))
            assert names == ["weather"]
            assert jsonschema.Draft202012Validator(PERSON).is_valid(json.loads(whole))
            beginnings = set()
            for count in range(1, MANY_TOKENS):
                names, arguments, is_cut = _told(
                    await server.post(path, body | {limit: count, "stream": True})
                )
                if not is_cut:
                    break
                beginnings.add(arguments)
                assert whole.startswith(arguments) or arguments == "{}"
                text, calls = _answered(await server.post(path, body | {limit: count}))
                if calls:
                    assert calls == [("weather", whole)]
                    assert arguments == whole
                else:
                    assert BEGINNING.startswith(text[: len(BEGINNING)])
                    assert (names == ["weather"]) is ('"weather"' in text)
            assert arguments == whole
            assert len(beginnings) > 10

    run_in_virtual_time(main())


def _told(stream: Reply) -> tuple[list[str], str, bool]:
    """Return the names and the arguments that a stream tells, and whether it says that it was cut short."""
    names: list[str] = []
    arguments = ""
    if stream.events[0].get("type") != "response.created":
        assert stream.ends_with_done
        for event in stream.events:
            for call in event["choices"][0]["delta"].get("tool_calls", ()):
                names += [call["function"]["name"]] if "name" in call["function"] else []
                arguments += call["function"].get("arguments", "")
        return names, arguments, stream.events[-1]["choices"][0]["finish_reason"] == "length"
    for event in stream.events:
        match event["type"]:
            case "response.output_item.added":
                names.append(event["item"]["name"])
            case "response.function_call_arguments.delta":
                arguments += event["delta"]
            case "response.function_call_arguments.done":
                assert event["arguments"] == arguments
    return names, arguments, stream.events[-1]["type"] == "response.incomplete"


def _answered(reply: Reply) -> tuple[str, list[tuple[str, str]]]:
    """Return the text and the calls of an answer that is whole but cut short."""
    if "choices" in reply.json:
        (choice,) = reply.json["choices"]
        assert choice["finish_reason"] == "length"
        calls = [call["function"] for call in choice["message"].get("tool_calls", ())]
        return choice["message"]["content"], [(call["name"], call["arguments"]) for call in calls]
    assert reply.json["status"] == "incomplete"
    (item,) = reply.json["output"]
    assert item["status"] == "incomplete"
    if item["type"] == "message":
        return item["content"][0]["text"], []
    return "", [(item["name"], item["arguments"])]


def test_a_parser_that_is_not_enabled_is_none() -> None:
    """Without `--enable-auto-tool-choice` vLLM loads no parser: chats that need one are refused, responses are words."""

    async def main() -> None:
        async with serving(*FLAGS, "--tool-call-parser", "hermes") as server:
            refused = await server.chat(messages=MESSAGES, tools=[WEATHER], tool_choice="required")
            assert refused.status == 400
            assert "requires --tool-call-parser to be set" in refused.json["error"]["message"]
            tools = [{"type": "function"} | WEATHER["function"]]
            body: Json = {"model": MODEL, "input": "hi", "tools": tools, "tool_choice": "required"}
            answer = await server.post("/v1/responses", body | {"max_output_tokens": 5})
            (item,) = answer.json["output"]
            assert item["type"] == "message"
            assert "<" not in item["content"][0]["text"]

    run_in_virtual_time(main())
