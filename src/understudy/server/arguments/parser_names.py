"""The parsers of tool calls and of reasoning that vLLM knows by name; it does not start with another one."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from understudy.errors import UsageError

_SHORTEST_PLUGIN = 4
"""vLLM loads no plugin whose path has fewer characters."""


class ParserNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What vLLM's registries list, in their order."""

    origin: str
    tool_call_parsers: tuple[str, ...]
    reasoning_parsers: tuple[str, ...]


@cache
def parser_names() -> ParserNames:
    """Return the names, read once."""
    data = (files("understudy.server.arguments") / "data" / "vllm-0.33-parsers.json").read_bytes()
    return msgspec.json.decode(data, type=ParserNames)


def check_parser_names(values: Mapping[str, Any]) -> None:
    """Raise UsageError for a parser that vLLM does not know; a plugin, which is not read here, may bring any name.

    The parser of tool calls counts only with `--enable-auto-tool-choice`, as in vLLM.
    """
    names = parser_names()
    if values["enable_auto_tool_choice"] and not _has_plugin(values["tool_parser_plugin"]):
        _check("tool call", values["tool_call_parser"], names.tool_call_parsers)
    structured = values["structured_outputs_config"] or {}
    plugin = values["reasoning_parser_plugin"] or structured.get("reasoning_parser_plugin")
    if not _has_plugin(plugin):
        _check("reasoning", values["reasoning_parser"], names.reasoning_parsers)
        _check("reasoning", structured.get("reasoning_parser"), names.reasoning_parsers)


def _has_plugin(path: str | None) -> bool:
    return path is not None and len(path) >= _SHORTEST_PLUGIN


def _check(what: str, name: str | None, known: Sequence[str]) -> None:
    if name and name not in known:
        raise UsageError(f"invalid {what} parser: {name} (chose from {{ {','.join(known)} }})")
