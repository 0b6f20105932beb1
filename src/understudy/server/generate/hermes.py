"""Tool calls as a model says them, in the format of vLLM's parser `hermes`: written, and read, whole or while they grow.

(vllm/tool_parsers/hermes_tool_parser.py and vllm/parser/abstract_parser.py, 0.33.0)
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from understudy.server.generate.json_text import json_text
from understudy.server.generate.tool_calls import ToolCall, ToolChoice

_OPENING = "<tool_call>"
_CLOSING = "</tool_call>"

_NAME = re.compile(r'"name"\s*:\s*"([^"]+)"')
_ARGUMENTS = re.compile(r'"arguments"\s*:\s*')


@dataclass(slots=True)
class CallPart:
    """What is new of the call of this number: its name, told once and first, or more of the text of its arguments."""

    index: int
    name: str | None = None
    arguments: str | None = None


class Parsed(NamedTuple):
    """What is new of a message. Without content and calls there is nothing to tell yet."""

    content: str | None
    calls: Sequence[CallPart]


def tool_call_text(calls: Sequence[ToolCall], tool_choice: ToolChoice) -> str:
    """Return the text in which a model says the calls, and in which the very same calls are read.

    In vLLM 0.33 the parser reads `<tool_call>` around a JSON object with name and arguments for every choice.
    """
    separator = "\n" if tool_choice == "auto" else ""
    return separator.join(
        f'{_OPENING}\n{{"name": {json_text(call.name)}, "arguments": {call.arguments_json}}}\n{_CLOSING}'
        for call in calls
    )


def whole_calls(text: str) -> tuple[str | None, list[ToolCall]]:
    """Return the content and the calls of a whole text. If one call cannot be read, all of the text is content.

    What follows the first call is no content, nor is mere white space before it.
    """
    try:
        calls = [_call(json.loads(body)) for body in _bodies(text)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return text, []
    if not calls:
        return text, []
    content = text[: text.find(_OPENING)]
    return content if content.strip() else None, calls


class CallStream:
    """Reads a text that grows."""

    def __init__(self) -> None:
        self._unread = ""
        self._has_opened = False
        self._is_inside = False
        self._is_stuck = False
        self._calls: list[_OpenCall] = []

    def grow(self, text: str, *, is_last: bool = False) -> Parsed:
        """Take more text and return what it tells. Text that may be the beginning of a call is held back, to the last."""
        self._unread += text
        content = None if self._has_opened else self._content()
        parts: list[CallPart] = []
        while self._has_opened and not self._is_stuck and (self._is_inside or self._opens()):
            if not self._read_call(parts):
                break
        if is_last and parts and not self._calls[-1].has_arguments:
            # vLLM tells the arguments of a call that has none yet as an empty object, behind whatever it tells last.
            parts[-1].arguments = (parts[-1].arguments or "") + "{}"
        return Parsed(content, parts)

    def _content(self) -> str | None:
        """Take what surely stands before the first call."""
        unread = self._unread
        end = unread.find(_OPENING)
        self._has_opened = end >= 0
        if end < 0:
            end = len(unread) - _overlap(unread, _OPENING)
        self._unread = unread[end:]
        return unread[:end] or None

    def _opens(self) -> bool:
        """Look for the next call; what stands between two is nothing."""
        start = self._unread.find(_OPENING)
        if start < 0:
            self._unread = self._unread[1 - len(_OPENING) :]
            return False
        self._unread = self._unread[start + len(_OPENING) :]
        self._is_inside = True
        self._calls.append(_OpenCall(len(self._calls)))
        return True

    def _read_call(self, parts: list[CallPart]) -> bool:
        """Add what is new of the call that is open; return whether it has been closed, and another may follow."""
        body, closing, rest = self._unread.partition(_CLOSING)
        if not closing and (overlap := _overlap(body, _CLOSING)):
            body = body[:-overlap]
        call = self._calls[-1]
        parts += call.read(body.strip(), is_closed=bool(closing))
        if not closing:
            return False
        self._unread = rest
        self._is_inside = False
        self._is_stuck = not call.has_name
        return True


class _OpenCall:
    """How much of a call has been told."""

    __slots__ = ("_index", "_num_told", "has_arguments", "has_name")

    def __init__(self, index: int) -> None:
        self._index = index
        self._num_told = 0
        self.has_name = False
        self.has_arguments = False

    def read(self, body: str, *, is_closed: bool) -> Iterator[CallPart]:
        """Yield what is new in the text so far between the tags. Without a name there is nothing to tell."""
        if not self.has_name:
            if not (name := _NAME.search(body)):
                return
            self.has_name = True
            yield CallPart(self._index, name=name[1])
        if not (start := _ARGUMENTS.search(body)):
            return
        arguments = body[start.end() :]
        if arguments.endswith("}") and (is_closed or _is_json(body)):
            arguments = arguments[:-1].rstrip()
        if len(arguments) > self._num_told:
            yield CallPart(self._index, arguments=arguments[self._num_told :])
            self._num_told = len(arguments)
            self.has_arguments = True


def _bodies(text: str) -> Iterator[str]:
    """Yield what stands between the tags; the last closing one may be missing."""
    at = 0
    while (start := text.find(_OPENING, at)) >= 0:
        start += len(_OPENING)
        end = text.find(_CLOSING, start)
        at = len(text) if end < 0 else end
        yield text[start:at]


def _call(value: Any) -> ToolCall:
    name, arguments = value["name"], json_text(value["arguments"])
    if not isinstance(name, str):
        raise TypeError("a name is a string")
    return ToolCall(name, arguments)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
