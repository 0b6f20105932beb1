"""Write the data file of flags: `python -m tests.server.arguments.dump_vllm_flags > vllm-0.33-flags.json`.

It needs an environment with vLLM 0.33, as `record_vllm_parses` does, and none of vLLM's own variables set.
"""

import dataclasses
import json
import sys
from typing import Any

from pydantic import TypeAdapter
from tests.server.arguments.vllm_parser import flag_entry, parsers, reader

ORIGIN = "vLLM 0.33.0 (Apache-2.0), dumped from the argument parser of `vllm serve`"

JSON_TYPES = {"boolean": "bool", "integer": "int", "number": "float", "string": "str", "null": "null"}


def config_fields(config: Any) -> dict[str, Any]:
    """Return each field's JSON types joined by `|`, or the values that it can have."""
    return {field.name: _field_type(field.type) for field in dataclasses.fields(config) if field.init}


def _field_type(annotation: Any) -> Any:
    try:
        schema = TypeAdapter(annotation).json_schema()
    except Exception:  # noqa: BLE001 - types that have no JSON schema
        return "any"
    parts = schema.get("anyOf", [schema])
    if any("$ref" in part or "$defs" in part or "description" in part or "format" in part for part in parts):
        return "any"
    if any("enum" in part or "const" in part for part in parts):
        if {"type": "string"} in parts:
            return "|".join(JSON_TYPES[part] for part in dict.fromkeys(part["type"] for part in parts))
        return [
            value
            for part in parts
            for value in ([None] if part.get("type") == "null" else part.get("enum") or [part["const"]])
        ]
    return "|".join(
        {"array": "list", "object": "dict"}.get(part["type"]) or JSON_TYPES[part["type"]] for part in parts
    )


def main() -> None:
    """Print the file, a flag and a config a line."""
    _, serve = parsers()
    groups, configs = [], {}
    for group in serve._action_groups:
        flags = [action for action in group._group_actions if action.option_strings and action.dest != "help"]
        if not flags:
            continue
        lines = ",\n".join(f"  {json.dumps(flag_entry(action))}" for action in flags)
        groups.append(f'{{"title": {json.dumps(group.title)}, "flags": [\n{lines}\n]}}')
        for action in flags:
            name, read, _ = reader(action)
            if name == "parse_dataclass":
                configs[read.__defaults__[0].__name__] = config_fields(read.__defaults__[0])
    config_lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(fields)}" for name, fields in configs.items()
    )
    sys.stdout.write(
        f'{{"origin": {json.dumps(ORIGIN)},\n"groups": [{", ".join(groups)}],\n"configs": {{\n{config_lines}\n}}}}\n'
    )


main()
