"""The tools of a chat request, and which of them the model is to use.

(vllm/entrypoints/openai/chat_completion, 0.33.0)
"""

from typing import Any, Literal

from understudy.wire.errors import refusal
from understudy.wire.fields import RawBody, WireModel

_USAGE = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'


class FunctionDefinition(WireModel):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None


class ChatTool(WireModel):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: FunctionDefinition
    defer_loading: bool | None = None

    @property
    def template_fields(self) -> dict[str, Any]:
        """The tool as a chat template sees it: its known fields, the optional ones only if they are set."""
        function: dict[str, Any] = {
            name: getattr(self.function, name) for name in ("name", "description", "parameters")
        }
        if self.function.strict is not None:
            function["strict"] = self.function.strict
        deferred = self.function.defer_loading
        deferred = self.defer_loading if deferred is None else deferred
        if deferred is not None:
            function["defer_loading"] = deferred
        tool: dict[str, Any] = {"type": self.type, "function": function}
        if self.defer_loading is not None:
            tool["defer_loading"] = self.defer_loading
        return tool


class NamedFunction(WireModel):
    """The name of a function."""

    name: str


class NamedToolChoice(WireModel):
    """The one tool that the model must call."""

    function: NamedFunction
    type: Literal["function"] = "function"


def check_tool_choice(data: RawBody) -> None:
    """Raise ApiError for a choice that the tools do not allow; set the choice to "auto" where only tools are given."""
    if data.get("tools") == []:
        raise refusal(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.",
            "tools",
        )
    if "tool_choice" not in data and data.get("tools"):
        data["tool_choice"] = "auto"
    choice = data.get("tool_choice")
    if choice is None or choice == "none":
        return
    if data.get("tools") is None:
        raise refusal("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if isinstance(choice, dict):
        _check_named(choice, data["tools"])
    elif choice not in ("auto", "required"):
        raise refusal(
            f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or "required" are supported.',
            "tool_choice",
        )


def _check_named(choice: dict[str, Any], tools: RawBody) -> None:
    function = choice.get("function")
    if not isinstance(function, dict):
        raise refusal(
            f"Invalid value for `function`: `{function}` in `tool_choice`! {_USAGE}", "tool_choice.function"
        )
    if "name" not in function:
        raise refusal(
            f"Expected field `name` in `function` in `tool_choice`! {_USAGE}", "tool_choice.function.name"
        )
    name = function["name"]
    if not isinstance(name, str) or not name:
        raise refusal(
            f"Invalid `name` in `function`: `{name}` in `tool_choice`! {_USAGE}", "tool_choice.function.name"
        )
    if not any(tool["function"]["name"] == name for tool in tools):
        raise refusal(
            "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"
        )
