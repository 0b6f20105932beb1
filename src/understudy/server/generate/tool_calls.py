"""Tool calls: whether, which and with which arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeAlias

from understudy.server.generate.constraint_error import malformed_is_refused
from understudy.server.generate.json_text import json_text
from understudy.server.generate.schema import read_schema, write_value
from understudy.server.generate.work import Work

AUTO_CALL_SHARE = 0.5
"""The chance that a model that may call tools does."""

SECOND_CALL_SHARE = 0.25
"""The chance that one that may call several at a time calls two."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called; `parameters` is a JSON schema, None means that it takes none."""

    name: str
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The choice of one function."""

    name: str


ToolChoice: TypeAlias = Literal["none", "auto", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call; the arguments are the text of a JSON object."""

    name: str
    arguments_json: str


def tool_calls(
    tools: Sequence[Tool], tool_choice: ToolChoice, *, parallel: bool, rng: Random
) -> list[ToolCall]:
    """Return the calls that a model makes, none if it answers in words.

    A named function is called once, `required` calls at least one, `auto` tosses a coin. Where `parallel` calls are
    allowed there may be two. Raises ConstraintError for parameters that no arguments can satisfy, or whose arguments take
    more than MAX_WORK_UNITS.
    """
    if tool_choice == "none" or not tools:
        return []
    if isinstance(tool_choice, NamedTool):
        return [_call(tool, rng) for tool in tools if tool.name == tool_choice.name][:1]
    if tool_choice == "auto" and rng.random() >= AUTO_CALL_SHARE:
        return []
    count = 2 if parallel and rng.random() < SECOND_CALL_SHARE else 1
    return [_call(rng.choice(tools), rng) for _ in range(count)]


def _call(tool: Tool, rng: Random) -> ToolCall:
    with malformed_is_refused(f"parameters of {tool.name}"):
        parameters = {"properties": {}, **(tool.parameters or {}), "type": "object"}
        return ToolCall(tool.name, json_text(write_value(read_schema(parameters, Work()), rng)))
