"""vLLM's own parser of `vllm serve`, and its values as JSON; needs an environment with vLLM 0.33."""

import argparse
import contextlib
import dataclasses
import enum
from typing import Any

from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser

KINDS = {
    "str": "text",
    "int": "int",
    "float": "float",
    "loads": "json",
    "human_readable_int": "count",
    "human_readable_int_or_auto": "context",
    "parse_dataclass": "config",
    "union_dict_and_str": "json_or_text",
    "parse_reasoning_parser": "reasoning_parser",
}
LAMBDAS = {"device_ids": "device_ids"}
ACTIONS = {
    "EnableDisableAction": "switch",
    "_StoreTrueAction": "on",
    "_AppendAction": "append",
    "LoRAParserAction": "lora",
}


def parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the parser of the command `vllm` with its one subcommand `serve`, and the parser of that."""
    command = FlexibleArgumentParser(prog="vllm")
    subcommands = command.add_subparsers(required=False, dest="subparser")
    return command, ServeSubcommand().subparser_init(subcommands)


def reader(action: argparse.Action) -> tuple[str, Any, bool]:
    """Return the name of what turns the flag's text into a value, what it wraps, and whether None is accepted."""
    read: Any = action.type
    optional = False
    while getattr(read, "__name__", None) in {"_optional_type", "_parse_type"}:
        optional = optional or read.__name__ == "_optional_type"
        read = read.__closure__[0].cell_contents
    return getattr(read, "__name__", "str"), read, optional


def flag_entry(action: argparse.Action) -> dict[str, Any]:
    """Return the entry of one flag, without what is at its usual value."""
    name, read, optional = reader(action)
    kind = ACTIONS.get(type(action).__name__) or (
        LAMBDAS.get(action.dest, "lower") if name == "<lambda>" else KINDS[name]
    )
    config = read.__defaults__[0].__name__ if kind == "config" else None
    default = None if action.default is argparse.SUPPRESS else as_json(action.default)
    entry: dict[str, Any] = {
        "names": _names(action, kind),
        "kind": kind,
        "config": config,
        "optional": optional or None,
        "nargs": action.nargs if action.nargs in {"+", "?"} else None,
        "const": action.const if action.nargs == "?" else None,
        "choices": None if action.choices is None else list(action.choices),
        "default": {} if dataclasses.is_dataclass(action.default) else default,
    }
    dest = next(option for option in entry["names"] if option.startswith("--"))[2:].replace("-", "_")
    assert dest == action.dest, action
    return {key: value for key, value in entry.items() if value is not None}


def _names(action: argparse.Action, kind: str) -> list[str]:
    """Return the names that are given to vLLM; those that say no follow from them."""
    if kind != "switch":
        return list(action.option_strings)
    return [option for option in action.option_strings if option not in action.negative_option_strings]  # type: ignore[attr-defined]  # of vLLM's own action


def as_json(value: object) -> Any:
    """Return a value of vLLM's namespace as JSON; of a config only the fields that are not at their defaults.

    Of the config of KV events, which acts, all fields are there.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _changed_fields(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(as_json(item) for item in value)
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | None) else str(value)


def _changed_fields(value: Any) -> dict[str, Any]:
    if type(value).__name__ in {"KVEventsConfig", "LoRAModulePath"}:
        return dataclasses.asdict(value)
    default: Any = None
    with contextlib.suppress(TypeError):
        default = type(value)()
    fields = [field.name for field in dataclasses.fields(value) if field.init and hasattr(value, field.name)]
    return {
        name: as_json(getattr(value, name))
        for name in fields
        if default is None or getattr(value, name) != getattr(default, name)
    }
