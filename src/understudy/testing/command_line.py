"""From the flags that a test gives to the settings of a server in process."""

import contextlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.errors import UsageError
from understudy.server.arguments import ServeArguments, parse_serve_arguments
from understudy.server.settings import Settings, settings_of
from understudy.testing.clock_handle import ClockKind

DEFAULT_MODEL = "llama-3.1-8b"

_NOT_IN_PROCESS = ("uds", "ssl_certfile", "ssl_keyfile", "startup", "host")
"""Flags that are refused: a server in process has one address, speaks plain HTTP and is there at once."""

_USAGE = re.compile(r".*?error: ", re.DOTALL)


def settings_for(
    flags: Sequence[str],
    options: Mapping[str, object],
    kind: ClockKind,
    environment: Mapping[str, str] | None,
) -> Settings:
    """Resolve flags, and options as more of them, as `understudy serve` would; the port is any free one unless given.

    `environment` None is the process's. Raises UsageError and InputError for what cannot be served.
    """
    if kind not in {"manual", "free", "real"}:
        raise UsageError(f"unknown clock {kind!r}: known are manual, free, real")
    environment = os.environ if environment is None else environment
    words = [*flags, *option_words(options)]
    arguments = _with_a_model(words, environment)
    for dest in _NOT_IN_PROCESS:
        if dest in arguments.given:
            raise UsageError(f"--{dest.replace('_', '-')} has no place in a server in process")
    if kind != "real" and "time_scale" in arguments.given:
        raise UsageError(f"--time-scale needs clock='real', not {kind!r}")
    if kind == "real" and not arguments.values["time_scale"]:
        raise UsageError("--time-scale 0 is clock='free'")
    if "port" not in arguments.given:
        values = {**arguments.values, "port": 0}
        arguments = ServeArguments(
            values=values, given=arguments.given, without_effect=arguments.without_effect
        )
    return settings_of(arguments, environment)


def option_words(options: Mapping[str, object]) -> list[str]:
    """Return options as flags: `max_num_seqs=8`, `enable_lora=True`, `kv_events_config={...}`, lists as several values."""
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        match value:
            case True:
                words.append(f"--{flag}")
            case False:
                words.append(f"--no-{flag}")
            case Mapping():
                words += [f"--{flag}", json.dumps(value)]
            case list() | tuple():
                words += [f"--{flag}", *map(str, value)]
            case _:
                words += [f"--{flag}", str(value)]
    return words


def _with_a_model(words: Sequence[str], environment: Mapping[str, str]) -> ServeArguments:
    """Parse flags; without a model among them the default is served."""
    if words and not words[0].startswith("-"):
        return _parsed(words, environment)
    with contextlib.suppress(UsageError):
        arguments = _parsed(words, environment)
        if "model" in arguments.given:
            return arguments
    return _parsed([DEFAULT_MODEL, *words], environment)


def _parsed(words: Sequence[str], environment: Mapping[str, Any]) -> ServeArguments:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse_serve_arguments(words, environment)
    except SystemExit:
        raise UsageError(_USAGE.sub("", said.getvalue(), count=1).strip()) from None
