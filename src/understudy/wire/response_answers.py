"""Answers of /v1/responses, whole and as events.

(vllm/entrypoints/openai/responses, 0.33.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from understudy.wire.answers import AnswerHead
from understudy.wire.errors import compact_json
from understudy.wire.json_pieces import BodyEncoder
from understudy.wire.responses import ResponsesRequest
from understudy.wire.sampling import Sampling
from understudy.wire.sse import encode, named_event
from understudy.wire.usage import Usage

Status = Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What all states of one response have in common."""

    head: AnswerHead
    request: ResponsesRequest
    sampling: Sampling


def status_of(finish_reason: str | None) -> Status:
    """Return the status of a response, or of one of its items, by why it ended."""
    return "incomplete" if finish_reason == "length" else "completed"


def message_item(
    item_id: str, text: str, status: Status, logprobs: Sequence[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return a message of the assistant as an output item."""
    content = [_text_part(text, logprobs)] if text else []
    return _message(item_id, content, status)


def function_call_item(
    item_id: str, call_id: str, name: str, arguments: str, status: Status
) -> dict[str, Any]:
    """Return a function call as an output item."""
    return {
        "arguments": arguments,
        "call_id": call_id,
        "name": name,
        "type": "function_call",
        "id": item_id,
        "async": None,
        "caller": None,
        "namespace": None,
        "status": status,
    }


def response_body(
    head: ResponseHead,
    output: Sequence[dict[str, Any]],
    status: Status,
    usage: Usage | None,
    encode_body: BodyEncoder = compact_json,
) -> bytes:
    """Return a whole response."""
    return encode_body(response_fields(head, output, status, usage))


def response_fields(
    head: ResponseHead, output: Sequence[dict[str, Any]], status: Status, usage: Usage | None
) -> dict[str, Any]:
    """Return a response as an object: what the request asked for, repeated, and what came of it."""
    request, sampling = head.request, head.sampling
    cache_options = request.prompt_cache_options
    return {
        "id": head.head.id,
        "created_at": head.head.created,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": request.instructions,
        "metadata": request.metadata,
        "model": head.head.model,
        "object": "response",
        "output": list(output),
        "parallel_tool_calls": True if request.parallel_tool_calls is None else request.parallel_tool_calls,
        "temperature": sampling.temperature,
        "tool_choice": request.tool_choice,
        "tools": [_tool(tool) for tool in request.tools],
        "top_p": sampling.top_p,
        "background": bool(request.background),
        "max_output_tokens": sampling.max_tokens,
        "max_tool_calls": request.max_tool_calls,
        "previous_response_id": request.previous_response_id,
        "prompt": None,
        "prompt_cache_options": None
        if cache_options is None
        else {
            "mode": cache_options.mode,
            "ttl": cache_options.ttl,
            "comparison_response_id": cache_options.comparison_response_id,
        },
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "reasoning": _with_defaults(request.reasoning, _REASONING),
        "safety_identifier": request.safety_identifier,
        "service_tier": request.service_tier,
        "status": status,
        "text": _text_config(request.text),
        "top_logprobs": sampling.logprobs,
        "truncation": request.truncation,
        "usage": None if usage is None else _usage(usage),
        "user": request.user,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


_REASONING = ("context", "effort", "generate_summary", "mode", "summary")
_FUNCTION = (
    "name",
    "parameters",
    "strict",
    "type",
    "allowed_callers",
    "async",
    "defer_loading",
    "description",
    "output_schema",
)
_JSON_SCHEMA = ("name", "schema", "type", "description", "strict")


def _with_defaults(given: dict[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    if given is None:
        return None
    return {name: given.get(name) for name in names} | {
        name: value for name, value in given.items() if name not in names
    }


def _tool(tool: dict[str, Any]) -> dict[str, Any] | None:
    return _with_defaults(tool, _FUNCTION) if tool.get("type") == "function" else tool


def _text_config(text: dict[str, Any] | None) -> dict[str, Any] | None:
    config = _with_defaults(text, ("format", "verbosity"))
    if (
        config is not None
        and isinstance(config["format"], dict)
        and config["format"].get("type") == "json_schema"
    ):
        config["format"] = _with_defaults(config["format"], _JSON_SCHEMA)
    return config


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.created_cache_tokens or 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens or 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _message(item_id: str, content: list[dict[str, Any]], status: Status) -> dict[str, Any]:
    return {
        "id": item_id,
        "content": content,
        "role": "assistant",
        "status": status,
        "type": "message",
        "phase": None,
    }


def _text_part(text: str, logprobs: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _without_bytes(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a token's log probabilities as the events of new text tell them."""
    top = [{"token": each["token"], "logprob": each["logprob"]} for each in entry["top_logprobs"]]
    return {"token": entry["token"], "logprob": entry["logprob"], "top_logprobs": top}


class ResponseEvents:
    """The events of one streamed response, numbered as they are made. Items come one after the other."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        self._item: _Message | _FunctionCall | None = None

    def start(self) -> bytes:
        """Return the two events that open a response."""
        fields = response_fields(self._head, (), "in_progress", None)
        return self._event("response.created", response=fields) + self._event(
            "response.in_progress", response=fields
        )

    def text(self, delta: str, item_id: str, logprobs: Sequence[dict[str, Any]] | None = None) -> bytes:
        """Return the events of new text, which opens a message under this id unless one is open."""
        opening = b""
        if not isinstance(self._item, _Message):
            opening = self._start_message(item_id)
        message = self._item
        assert isinstance(message, _Message), "it is open"
        message.text.append(delta)
        message.logprobs += logprobs or ()
        number = self._sequence
        self._sequence += 1
        return opening + b'%b%b%b%b%b%d,"type":"response.output_text.delta"}\n\n' % (
            b'event: response.output_text.delta\ndata: {"content_index":0,"delta":',
            encode(delta),
            message.middle,
            encode([_without_bytes(entry) for entry in logprobs or ()]),
            message.suffix,
            number,
        )

    def start_call(self, item_id: str, call_id: str, name: str) -> bytes:
        """Return the events that end what is open and open a function call."""
        ending = self.end_item("completed")
        self._item = _FunctionCall(item_id, call_id, name)
        item = function_call_item(item_id, call_id, name, "", "in_progress")
        return ending + self._event("response.output_item.added", item=item, output_index=len(self._output))

    def arguments(self, delta: str) -> bytes:
        """Return the event of further arguments of the call that is open."""
        call = self._item
        assert isinstance(call, _FunctionCall), "arguments follow the start of a call"
        call.arguments.append(delta)
        return self._event(
            "response.function_call_arguments.delta",
            delta=delta,
            item_id=call.item_id,
            output_index=len(self._output),
        )

    def end_item(self, status: Status) -> bytes:
        """Return the events that end the message or the function call that is open; none if nothing is."""
        match self._item:
            case _Message() as message:
                events, item = self._end_message(message, status)
            case _FunctionCall() as call:
                events, item = self._end_call(call, status)
            case None:
                return b""
        events += self._event("response.output_item.done", item=item, output_index=len(self._output))
        self._output.append(item)
        self._item = None
        return events

    def _start_message(self, item_id: str) -> bytes:
        ending = self.end_item("completed")
        index = len(self._output)
        self._item = _Message(item_id, index)
        item = self._event(
            "response.output_item.added", item=_message(item_id, [], "in_progress"), output_index=index
        )
        part = self._event(
            "response.content_part.added",
            content_index=0,
            item_id=item_id,
            output_index=index,
            part=_text_part("", []),
        )
        return ending + item + part

    def _end_message(self, message: "_Message", status: Status) -> tuple[bytes, dict[str, Any]]:
        index, item_id, text = len(self._output), message.item_id, "".join(message.text)
        part = _text_part(text, message.logprobs or None)
        events = self._event(
            "response.output_text.done",
            content_index=0,
            item_id=item_id,
            logprobs=[],
            output_index=index,
            text=text,
        )
        events += self._event(
            "response.content_part.done", content_index=0, item_id=item_id, output_index=index, part=part
        )
        return events, _message(item_id, [part], status)

    def _end_call(self, call: "_FunctionCall", status: Status) -> tuple[bytes, dict[str, Any]]:
        arguments = "".join(call.arguments)
        # vLLM's class does not know the name, so it comes after all that it knows.
        done = {
            "arguments": arguments,
            "item_id": call.item_id,
            "output_index": len(self._output),
            "sequence_number": self._sequence,
            "type": "response.function_call_arguments.done",
            "name": call.name,
        }
        self._sequence += 1
        events = named_event("response.function_call_arguments.done", done)
        return events, function_call_item(call.item_id, call.call_id, call.name, arguments, status)

    def end(self, status: Literal["completed", "incomplete"], usage: Usage) -> bytes:
        """Return the last event."""
        return self._event(
            f"response.{status}", response=response_fields(self._head, self._output, status, usage)
        )

    def _event(self, kind: str, **fields: object) -> bytes:
        before = {name: value for name, value in fields.items() if name < "sequence_number"}
        after = {name: value for name, value in fields.items() if name > "sequence_number"}
        event = named_event(kind, {**before, "sequence_number": self._sequence, **after, "type": kind})
        self._sequence += 1
        return event


class _Message:
    """A message that is open."""

    def __init__(self, item_id: str, output_index: int) -> None:
        self.item_id = item_id
        self.text: list[str] = []
        self.logprobs: list[dict[str, Any]] = []
        self.middle = b',"item_id":%b,"logprobs":' % encode(item_id)
        self.suffix = b',"output_index":%d,"sequence_number":' % output_index


class _FunctionCall:
    """A function call that is open."""

    def __init__(self, item_id: str, call_id: str, name: str) -> None:
        self.item_id = item_id
        self.call_id = call_id
        self.name = name
        self.arguments: list[str] = []
