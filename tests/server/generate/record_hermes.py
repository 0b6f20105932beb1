"""Record what vLLM's own parser and its handlers make of texts with tool calls, cut everywhere.

    VLLM_TARGET_DEVICE=cpu HF_HUB_OFFLINE=1 python tests/server/generate/record_hermes.py tests/data/tokenizer/byte_level

Run it with a Python that has vLLM 0.33.0; it writes `hermes.json.gz` beside itself. Each text comes in pieces of several
sizes: `deltas` are what a chat tells of them one by one, `lasts` what it tells of each if it is the last, `reasons` why the
chat ended if the engine said "length" or "stop" then, `wholes` the same for answers that are not streamed, and
`events` those of /v1/responses, behind the head, up to each piece.
"""

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.message_assembly import assemble_chat_message_fields
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.stream_processor import ChatStreamProcessor
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.openai.responses.streaming_events import SimpleStreamingEventProcessor, split_delta
from vllm.entrypoints.openai.responses.utils import response_item_status
from vllm.entrypoints.serve.utils.tool_calls_utils import (
    maybe_filter_parallel_tool_calls,
    resolve_finish_reason,
)
from vllm.parser.parser_manager import ParserManager

PARSER = ParserManager.get_parser("hermes", None, enable_auto_tools=True)
TOKENIZER = AutoTokenizer.from_pretrained(sys.argv[1])
TOOL: dict[str, Any] = {"name": "f", "parameters": {"type": "object"}}
NAMED = {"type": "function", "function": {"name": "f"}}
SIZES = (1, 3, 8, 50)
SIZES_WITH_EVENTS = (3, 50)
ANY_TOKEN = [5]


def _call(arguments: str, name: str = "f") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


ONE = _call('{"city": "Reykjav\u00edk", "days": 5}')
TWO = _call('{"a": {"b": [1, {}]}}') + "\n" + _call("{}", "g")
CASES: list[tuple[str, Any, bool]] = [
    (ONE, "auto", True),
    (ONE, "required", True),
    (ONE, NAMED, True),
    ("Let me see. " + TWO, "auto", True),
    (TWO.replace("\n<tool_call>", "<tool_call>"), "required", True),
    ("  \n" + TWO, "auto", False),
    (_call(r'{"a": "} \" <tool </tool {\\", "b": "<"}'), "required", True),
    ('<tool_call>{"name":"f","arguments":{"x":1.50}}</tool_call> and more <tool_call>', "auto", True),
    ('<tool_call>{"arguments": {"name": "x"}, "name": "f"}</tool_call>', "auto", True),
    (_call("5", "") + _call("{}"), "auto", True),
    (_call('[1, "} "]') + " between " + _call("null"), "auto", True),
    (_call("{} ") + _call('{"a": 1}} '), "required", True),
    ("Words, a < b, and at the end <tool_", "auto", True),
    ("", "required", True),
    (" \n ", "required", True),
]


def _fields(delta: Any) -> Any:
    return None if delta is None else json.loads(_nameless(delta.model_dump_json(exclude_unset=True)))


def _nameless(text: str) -> str:
    return re.sub(r"(chatcmpl-tool-|msg_|fc_)[0-9a-f]+", r"\1", text)


def _chat_steps(request: ChatCompletionRequest, pieces: list[str], reason: str | None) -> Any:
    processor = ChatStreamProcessor(
        request, PARSER(TOKENIZER, request.tools), enable_auto_tools=True, parser_cls=PARSER
    )
    last = len(pieces) - 1
    return [
        processor.step(piece, ANY_TOKEN, reason if number == last else None, [1])
        for number, piece in enumerate(pieces)
    ]


def _whole(request: ChatCompletionRequest, text: str) -> Any:
    reasoning, content, calls = PARSER(TOKENIZER, request.tools).parse(text, request, enable_auto_tools=True)
    fields = assemble_chat_message_fields(
        request, reasoning, content, calls, enable_auto_tools=True, parser_cls=PARSER
    )
    told = [[call.function.name, call.function.arguments] for call in fields.tool_calls]
    reasons = [resolve_finish_reason(reason, request, bool(told)) for reason in ("length", "stop")]
    return [fields.content, told, reasons]


def _events(request: ResponsesRequest, pieces: list[str]) -> str:
    parser, processor = PARSER(TOKENIZER, request.tools), SimpleStreamingEventProcessor(tools=request.tools)
    events: list[Any] = []
    for number, piece in enumerate(pieces, start=1):
        delta = parser.parse_delta(
            piece, ANY_TOKEN, request, prompt_token_ids=[1], finished=number == len(pieces)
        )
        if not delta:
            continue
        for part in split_delta(maybe_filter_parallel_tool_calls(delta, request)):
            state, call = processor.resolve_target_state(part)
            if state.name == "NONE":
                continue
            if processor.needs_transition(state, call):
                events += processor.close_current()
                events += processor.open(state, call)
            events += processor.emit_delta(part, None, lambda _output: [])
    events += processor.close_current(response_item_status("length"))
    for number, event in enumerate(events):
        event.sequence_number = number
    lines = [
        f"event: {event.type}\ndata: {event.model_dump_json(indent=None, by_alias=True)}\n\n"
        for event in events
    ]
    return _nameless("".join(lines))


def _recorded(text: str, choice: Any, *, parallel: bool, size: int) -> dict[str, Any]:
    tools = [{"type": "function", "function": TOOL}]
    chat = ChatCompletionRequest(
        messages=[{"role": "user", "content": "x"}],
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
    )
    pieces = [text[start : start + size] for start in range(0, len(text), size)] + [""]
    ends = range(1, len(pieces) + 1)
    recorded: dict[str, Any] = {
        "text": text, "size": size, "choice": choice, "parallel": parallel,
        "deltas": [_fields(step.delta) for step in _chat_steps(chat, pieces, None)],
        "lasts": [_fields(_chat_steps(chat, pieces[:end], "length")[-1].delta) for end in ends],
        "reasons": [
            [_chat_steps(chat, pieces[:end], reason)[-1].finish_reason for reason in ("length", "stop")]
            for end in ends
        ],
        "wholes": [_whole(chat, "".join(pieces[:end])) for end in ends],
    }  # fmt: skip
    if size in SIZES_WITH_EVENTS:
        response = ResponsesRequest(
            input="x", tools=[{"type": "function", **TOOL}], parallel_tool_calls=parallel
        )
        recorded["events"] = [_events(response, pieces[:end]) for end in ends]
    return recorded


if __name__ == "__main__":
    recording = [
        _recorded(text, choice, parallel=parallel, size=size)
        for text, choice, parallel in CASES
        for size in SIZES
    ]
    path = Path(__file__).with_name("hermes.json.gz")
    path.write_bytes(gzip.compress(json.dumps(recording, ensure_ascii=False).encode(), mtime=0))
