"""Tells content from tool calls in the answer of one sample, as vLLM's parser does, and counts how often it looks.

(vllm/parser/abstract_parser.py and vllm/entrypoints/serve/utils/tool_calls_utils.py, 0.33.0)
"""

import secrets
from collections.abc import Sequence

from understudy.server.generate import CallStream, Parsed, ToolCall, whole_calls
from understudy.server.metrics import ServerMetrics
from understudy.server.says import ToolUse


def new_call_id() -> str:
    """Return a number for a call, as clients are told it."""
    return f"chatcmpl-tool-{secrets.token_hex(8)}"


class ToolReader:
    """Reads one answer, whole or while it grows; `request_type` is how the metrics name the route."""

    def __init__(self, use: ToolUse, metrics: ServerMetrics, request_type: str) -> None:
        self._use = use
        self._metrics = metrics
        self._request_type = request_type
        self._stream = CallStream()
        self._has_called = False

    def whole(self, text: str) -> tuple[str | None, Sequence[ToolCall]]:
        """Return content and calls of a whole answer; with a call that was cut short all of it is content.

        Mere white space is no content where a tool had to be called.
        """
        content, calls = whole_calls(text)
        self._looked(is_streaming=False, is_tool_called=bool(calls))
        if self._use.is_forced and not text.strip():
            content = None
        return content, calls if self._use.parallel else calls[:1]

    def grow(self, text: str, *, is_last: bool) -> Parsed | None:
        """Return what more text of the answer tells, None where it tells nothing yet."""
        content, parts = self._stream.grow(text, is_last=is_last)
        self._looked(is_streaming=True, is_tool_called=bool(parts))
        if content is None and not parts:
            return None
        return Parsed(content, parts if self._use.parallel else [part for part in parts if not part.index])

    def finish_reason(self, finish_reason: str) -> str:
        """Return why a chat ended, given the engine's reason; a tool that had to be called does not show in it."""
        is_told = self._has_called and finish_reason == "stop" and not self._use.is_named
        return "tool_calls" if is_told else finish_reason

    def _looked(self, *, is_streaming: bool, is_tool_called: bool) -> None:
        self._has_called = self._has_called or is_tool_called
        self._metrics.tool_parsed(
            self._request_type, is_streaming=is_streaming, is_tool_called=is_tool_called
        )
