"""The messages of a request, read and flattened to what a chat template takes.

(vllm/renderers/chat_utils, 0.33.0)
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from understudy.wire.errors import ApiError, internal, refusal
from understudy.wire.limits import ModelLimits
from understudy.wire.messages import Conversation

_TEXT_FIELDS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_MEDIA_TYPES = frozenset(
    [
        "audio_embeds",
        "audio_url",
        "image_embeds",
        "image_pil",
        "image_url",
        "input_audio",
        "input_image",
        "prompt_embeds",
        "video_embeds",
        "video_url",
    ]
)
_MEDIA_FIELDS = (
    "image_url",
    "image_pil",
    "image_embeds",
    "audio_embeds",
    "video_embeds",
    "prompt_embeds",
    "audio_url",
    "input_audio",
    "video_url",
)
_BILLING_HEADER = "x-anthropic-billing-header"


def conversation(messages: Iterable[object], limits: ModelLimits, *, as_parts: bool = False) -> Conversation:
    """Return messages as a chat template reads them; `as_parts` keeps contents as lists of parts.

    Raises ApiError for an empty conversation and for parts that are malformed or no text.
    """
    try:
        read = [_read(message, limits, as_parts=as_parts) for message in messages]
    except (ValueError, TypeError) as error:
        raise ApiError(str(error)) from None
    except KeyError as error:
        raise internal(str(error)) from None
    if not read:
        raise ApiError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    for message in read:
        if message["role"] == "assistant" and "tool_calls" in message:
            _read_calls(message)
    return read


def check_continuation(*, continue_final_message: bool, add_generation_prompt: bool) -> None:
    """Raise ApiError where the defaults clash: to continue the last message, no new one may be started."""
    if continue_final_message and add_generation_prompt:
        raise ApiError(
            "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you"
            " want the model to continue the final message, and add_generation_prompt when you want to add a header"
            " that will prompt it to start a new assistant message instead."
        )


def _read(message: object, limits: ModelLimits, *, as_parts: bool) -> dict[str, Any]:
    if isinstance(message, BaseModel) or not isinstance(message, Mapping):
        raise TypeError("'Message' object is not subscriptable")
    role = message["role"]
    content = message.get("content")
    parts: list[Any] = []
    if isinstance(content, str):
        parts = [{"type": "text", "text": content}]
    elif content is not None:
        parts = list(content)
    if role == "system":
        parts = _without_billing(parts)
    texts = [text for part in parts if (text := _text(part, limits)) is not None]
    read: dict[str, Any] = {"role": role}
    read["content"] = [{"type": "text", "text": text} for text in texts] if as_parts else "\n".join(texts)
    if role == "assistant":
        if message.get("tool_calls") is not None:
            read["tool_calls"] = list(message["tool_calls"])
        if message.get("reasoning") is not None:
            read["reasoning"] = read["reasoning_content"] = message["reasoning"]
    elif role == "tool":
        if "tool_call_id" in message:
            read["tool_call_id"] = message["tool_call_id"]
        read["content"] = "\n".join(texts)
    for name in ("name", "task"):
        if isinstance(message.get(name), str):
            read[name] = message[name]
    if role == "developer":
        read["tools"] = message.get("tools")
    return read


def _text(part: object, limits: ModelLimits) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise ApiError("")
    kind = part.get("type")
    if isinstance(kind, str) and kind in _TEXT_FIELDS:
        text = part.get(_TEXT_FIELDS[kind])
        if text is not None and not isinstance(text, str):
            raise ApiError(f"sequence item 0: expected str instance, {type(text).__name__} found")
        return text
    if kind == "tool_reference":
        return str(part.get("name"))
    has_media = kind is None and any(name in part for name in _MEDIA_FIELDS)
    if has_media or (isinstance(kind, str) and kind in _MEDIA_TYPES):
        name = limits.served_model_names[0]
        raise ApiError(f"{name} is not a multimodal model")
    if kind is None:
        raise refusal("Missing 'type' field in multimodal part.", "type")
    if not isinstance(kind, str):
        raise refusal("Invalid 'type' field in multimodal part.", "type")
    known = ", ".join(sorted({*_MEDIA_TYPES, *_TEXT_FIELDS, "tool_reference"}))
    raise refusal(f"Unsupported chat content part type: {kind!r}. Supported types: {known}.", "type", kind)


def _without_billing(parts: Sequence[Any]) -> list[Any]:
    """Drop the line that Claude Code puts first in every system prompt: it differs each time and defeats caching."""
    kept: list[Any] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not (isinstance(text, str) and text.startswith(_BILLING_HEADER)):
            kept.append(part)
        elif rest := text.partition("\n")[2]:
            kept.append({**part, "text": rest} if isinstance(part, dict) else rest)
    return kept


def _read_calls(message: dict[str, Any]) -> None:
    """Turn the arguments of tool calls to objects: templates want them so. What is no object becomes an empty one."""
    calls = message["tool_calls"]
    if not calls:
        del message["tool_calls"]
        return
    read = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if call.get("type", "function") != "function" or not isinstance(function, dict):
            raise refusal(
                "chat completions only support assistant tool_calls of type 'function'.", "tool_calls"
            )
        read.append({**call, "function": {**function, "arguments": _object(function.get("arguments"))}})
    message["tool_calls"] = read


def _object(arguments: object) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, dict) else {}
