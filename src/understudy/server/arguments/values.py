"""From a flag's text to its value, for each kind of flag; ArgumentTypeError says what is wrong with the text."""

import json
import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from understudy.catalog import load_gpu
from understudy.errors import UsageError
from understudy.fleet.choices import AUTO_MAX_MODEL_LEN, human_readable_int
from understudy.server.arguments.configs import read_config
from understudy.server.arguments.flags import FieldType, Flag

_SECONDS: Mapping[str, float] = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0}
_MOST_PORT = 65_535
_MOST_SECONDS = 1e9
_TIME_SCALES = (1e-6, 1e6)

Reader = Callable[[str], Any]


def reader_of(flag: Flag, configs: Mapping[str, Mapping[str, FieldType]]) -> Reader:
    """Return what reads the flag's text."""
    read = partial(read_config, fields=configs[flag.config]) if flag.config else _READERS[flag.kind]
    if flag.optional:
        return lambda text: None if text in {"", "None"} else read(text)
    return read


def json_value(text: str) -> Any:
    """Return the value of a JSON text; raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"invalid int value: {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"invalid float value: {text!r}") from None


def _json(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError as error:
        raise ArgumentTypeError(f"invalid JSON {text!r}: {error}") from None


def _count(text: str) -> int:
    try:
        return human_readable_int(text)
    except (ValueError, OverflowError) as error:
        raise ArgumentTypeError(str(error)) from None


def _context(text: str) -> int:
    text = text.strip()
    return AUTO_MAX_MODEL_LEN if text.lower() == "auto" else _count(text)


def _json_or_text(text: str) -> Any:
    return _json(text) if re.fullmatch(r"(?s)\s*{.*}\s*", text) else text


def _lower(text: str) -> str:
    return text.lower().replace("-", "_")


def _device_ids(text: str) -> list[int | str]:
    parts = (part.strip() for part in text.split(","))
    return [_whole(part) if part.isdigit() else part for part in parts]


def _reasoning_parser(text: str) -> str:
    return "" if text.lower() == "none" else text


def _gpu(text: str) -> str:
    try:
        return load_gpu(text).name
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from None


def _amount(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value < math.inf:
        raise ArgumentTypeError(f"must be a number of at least 0, got {text}")
    return value


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(|s|ms|m)", text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no duration such as 30, 30s, 500ms or 2m")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _MOST_SECONDS:
        raise ArgumentTypeError(f"must be at most {_MOST_SECONDS:,.0f} seconds, got {text}")
    return seconds


def _time_scale(text: str) -> float:
    value = _number(text)
    least, most = _TIME_SCALES
    if value != 0 and not least <= value <= most:
        raise ArgumentTypeError(f"must be 0 or a number from {least:f} to {most:,.0f}, got {text}")
    return value


def _port(text: str) -> int:
    value = _whole(text)
    if not 0 <= value <= _MOST_PORT:
        raise ArgumentTypeError(f"must be a port from 0 to {_MOST_PORT}, got {value}")
    return value


_READERS: Mapping[str, Reader] = {
    "text": str,
    "append": str,
    "lora": str,
    "int": _whole,
    "float": _number,
    "json": _json,
    "count": _count,
    "context": _context,
    "json_or_text": _json_or_text,
    "lower": _lower,
    "device_ids": _device_ids,
    "reasoning_parser": _reasoning_parser,
    "gpu": _gpu,
    "amount": _amount,
    "time_scale": _time_scale,
    "duration": _duration,
    "port": _port,
    "path": Path,
}
