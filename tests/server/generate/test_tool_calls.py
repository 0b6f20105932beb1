"""Laws of tool calls."""

import json
import re
from random import Random

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from tests.server.generate.schemas import SCHEMAS, Schema

from understudy.server.generate import NamedTool, Tool, tool_call_text, tool_calls

_OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), SCHEMAS, max_size=3).map(
    lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)}
)
TOOLS = st.lists(st.none() | _OBJECTS, min_size=1, max_size=3).map(
    lambda schemas: [Tool(f"tool_{index}", schema) for index, schema in enumerate(schemas)]
)


@given(
    tools=TOOLS,
    seed=st.integers(0, 99),
    choice=st.sampled_from(["auto", "required", "named"]),
    parallel=st.booleans(),
)
def test_calls_are_of_tools_that_exist_with_arguments_that_fit(
    tools: list[Tool], seed: int, choice: str, *, parallel: bool
) -> None:
    """A named or required call always comes, and only parallel calls are more than one."""
    tool_choice = NamedTool(tools[-1].name) if choice == "named" else choice
    calls = tool_calls(tools, tool_choice, parallel=parallel, rng=Random(seed))  # type: ignore[arg-type]  # sampled
    schemas: dict[str, Schema] = {tool.name: dict(tool.parameters or {"type": "object"}) for tool in tools}
    for call in calls:
        jsonschema.Draft202012Validator(schemas[call.name]).validate(json.loads(call.arguments_json))
    assert len(calls) <= (2 if parallel and choice != "named" else 1)
    assert calls or choice == "auto"
    assert choice != "named" or [call.name for call in calls] == [tools[-1].name]


@given(tools=TOOLS, seed=st.integers(0, 99))
def test_the_text_holds_the_very_calls(tools: list[Tool], seed: int) -> None:
    """What vLLM's parser `hermes` reads from the text is what was called."""
    calls = tool_calls(tools, "required", parallel=True, rng=Random(seed))
    expected = [(call.name, call.arguments_json) for call in calls]
    hermes = re.findall(r"<tool_call>(.*?)</tool_call>", tool_call_text(calls, "required"), re.DOTALL)
    if all("</tool_call>" not in arguments for _, arguments in expected):
        objects = [json.loads(found) for found in hermes]
        told = [(one["name"], json.dumps(one["arguments"], ensure_ascii=False)) for one in objects]
        assert told == expected


def test_tools_that_may_not_be_called_are_not() -> None:
    """`none` calls nothing, `auto` about every other time."""
    tools = [Tool("f")]
    assert tool_calls(tools, "none", parallel=True, rng=Random(0)) == []
    num_calling = sum(bool(tool_calls(tools, "auto", parallel=True, rng=Random(seed))) for seed in range(400))
    assert 150 < num_calling < 250
