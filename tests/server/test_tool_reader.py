"""Tool calls are told as vLLM tells them, whole, streamed and cut anywhere: see `generate/record_hermes.py`."""

import gzip
import json
import re
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.server.generate.test_tool_calls import TOOLS
from tests.server.metrics.recorded import server_metrics
from tests.wire.judge import LIMITS

from understudy.server.generate import CallStream, NamedTool, Tool, tool_call_text, tool_calls, whole_calls
from understudy.server.routes.chat import message_delta
from understudy.server.routes.responses import item_events
from understudy.server.says import ToolUse
from understudy.server.tool_reader import ToolReader
from understudy.wire.answers import AnswerHead
from understudy.wire.response_answers import ResponseEvents, ResponseHead
from understudy.wire.responses import parse_responses, response_sampling

Json = dict[str, Any]

METRICS = server_metrics(has_tool_parser=True)


@cache
def recordings() -> list[Json]:
    """Return what vLLM made of each text in pieces of each size."""
    data = (Path(__file__).parent / "generate" / "hermes.json.gz").read_bytes()
    recorded: list[Json] = json.loads(gzip.decompress(data))
    return recorded


def _use(recorded: Json) -> ToolUse:
    choice = recorded["choice"]
    return ToolUse([Tool("f")], NamedTool("f") if isinstance(choice, dict) else choice, recorded["parallel"])


def _reader(recorded: Json) -> ToolReader:
    return ToolReader(_use(recorded), METRICS, "chat_completions")


def _pieces(recorded: Json) -> list[str]:
    text, size = recorded["text"], recorded["size"]
    return [*(text[start : start + size] for start in range(0, len(text), size)), ""]


def _grown(reader: ToolReader, piece: str, *, is_last: bool) -> Json | None:
    parsed = reader.grow(piece, is_last=is_last)
    if parsed is None:
        return None
    numberless: Json = json.loads(_numberless(json.dumps(message_delta(parsed))))
    return numberless


def _numberless(text: str) -> str:
    return re.sub(r"(chatcmpl-tool-|msg_|fc_)[0-9a-f]+", r"\1", text)


def test_chats_are_streamed_as_vllm_streams_them() -> None:
    """Every delta of every text, whatever its pieces, and the last one and its reason wherever the text is cut."""
    for recorded in recordings():
        pieces = _pieces(recorded)
        reader = _reader(recorded)
        assert [_grown(reader, piece, is_last=False) for piece in pieces] == recorded["deltas"]
        for number, piece in enumerate(pieces):
            reader = _reader(recorded)
            for earlier in pieces[:number]:
                reader.grow(earlier, is_last=False)
            assert _grown(reader, piece, is_last=True) == recorded["lasts"][number]
            reasons = [reader.finish_reason(reason) for reason in ("length", "stop")]
            assert reasons == recorded["reasons"][number]


def test_whole_chats_are_what_vllm_answers() -> None:
    """Content, calls and reasons wherever the text is cut."""
    for recorded in recordings():
        pieces = _pieces(recorded)
        for number, (content, calls, reasons) in enumerate(recorded["wholes"], start=1):
            reader = _reader(recorded)
            made, told = reader.whole("".join(pieces[:number]))
            assert (made or "" if _use(recorded).is_forced else made) == content
            assert [[call.name, call.arguments_json] for call in told] == calls
            assert [reader.finish_reason(reason) for reason in ("length", "stop")] == reasons


def test_responses_are_streamed_with_vllms_bytes() -> None:
    """Every event but the first two and the last, wherever the text is cut."""
    request = parse_responses(b'{"input":"a"}', LIMITS)
    head = ResponseHead(AnswerHead("r", 5, "m"), request, response_sampling(request, 1, LIMITS))
    with_events = [recorded for recorded in recordings() if "events" in recorded]
    assert with_events
    for recorded in with_events:
        pieces = _pieces(recorded)
        for number, expected in enumerate(recorded["events"], start=1):
            events, reader = ResponseEvents(head), _reader(recorded)
            told = b""
            for place, piece in enumerate(pieces[:number], start=1):
                parsed = reader.grow(piece, is_last=place == number)
                told += b"" if parsed is None else item_events(events, parsed, lambda: None)
            told += events.end_item("incomplete")
            assert _numberless(told.decode()) == expected


@given(
    tools=TOOLS,
    seed=st.integers(0, 99),
    choice=st.sampled_from(["auto", "required"]),
    sizes=st.lists(st.integers(1, 30), min_size=1),
    data=st.data(),
)
def test_streamed_arguments_are_the_beginning_of_the_whole(
    tools: list[Tool], seed: int, choice: Any, sizes: list[int], data: st.DataObject
) -> None:
    """Cut anywhere, in pieces of any size: names and arguments go on as in the whole, and are whole if nothing is cut."""
    calls = tool_calls(tools, choice, parallel=True, rng=Random(seed))
    assume(all("tool_call>" not in call.arguments_json for call in calls))
    text = tool_call_text(calls, choice)
    end = data.draw(st.integers(0, len(text)))
    stream = CallStream()
    names: list[str] = []
    arguments: list[str] = []
    at = 0
    while at < end:
        size = sizes[at % len(sizes)]
        for part in stream.grow(text[at : min(at + size, end)]).calls:
            if part.name is not None:
                names.append(part.name)
                arguments.append("")
            assert part.index == len(names) - 1
            arguments[part.index] += part.arguments or ""
        at += size
    assert names == [call.name for call in calls[: len(names)]]
    for told, call in zip(arguments, calls, strict=False):
        assert call.arguments_json.startswith(told)
    if end == len(text):
        assert arguments == [call.arguments_json for call in calls]
        assert whole_calls(text) == (None if calls else text, calls)


@pytest.mark.parametrize("has_arguments", [False, True])
def test_a_last_piece_makes_up_for_arguments_that_have_not_begun(*, has_arguments: bool) -> None:
    """As vLLM does: a call whose name is the last thing that is told has an empty object of arguments."""
    stream = CallStream()
    text = '<tool_call>\n{"name": "f"' + (', "arguments": {"a' if has_arguments else "")
    parts = stream.grow(text, is_last=True).calls
    assert [part.arguments for part in parts] == ([None, '{"a'] if has_arguments else ["{}"])
