"""Flags whose value is a JSON object with named fields, such as `--kv-events-config`."""

import re
from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any, Literal, Union

from understudy.fleet.choices import human_readable_int
from understudy.server.arguments.flags import FieldType

_TYPES: Mapping[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "list": list[Any],
    "dict": dict[str, Any],
    "null": None,
    "any": Any,
}
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")')
_SHORT_NUMBER = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")


def read_config(text: str, fields: Mapping[str, FieldType]) -> dict[str, Any]:
    """Return the given fields of a JSON object, converted as pydantic converts them for vLLM.

    Numbers outside strings may be short: `{"hwm": 100k}`. Raises ArgumentTypeError for a field that is not known
    or not of its type. Neither types inside lists and dicts are looked at, nor rules between fields.
    """
    # Few start a server with such a flag, and importing pydantic takes longer than all else here.
    from pydantic import ConfigDict, ValidationError, create_model  # noqa: PLC0415

    types: dict[str, Any] = {name: (_annotation(kind), None) for name, kind in fields.items()}
    model = create_model("Config", __config__=ConfigDict(extra="forbid", protected_namespaces=()), **types)
    try:
        given: dict[str, Any] = model.model_validate_json(_long_numbers(text)).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise ArgumentTypeError("; ".join(_problem(dict(item)) for item in error.errors())) from None
    except (ValueError, OverflowError) as error:
        raise ArgumentTypeError(str(error)) from None
    return given


def _annotation(kind: FieldType) -> Any:
    if isinstance(kind, str):
        return Union[tuple(_TYPES[part] for part in kind.split("|"))]  # noqa: UP007 - the parts are known at run time
    return Literal[kind]


def _long_numbers(text: str) -> str:
    parts = _STRING.split(text)
    parts[::2] = [
        _SHORT_NUMBER.sub(lambda match: str(human_readable_int(match[0])), part) for part in parts[::2]
    ]
    return "".join(parts)


def _problem(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    return f"{place}: {item['msg']}" if place else str(item["msg"])
