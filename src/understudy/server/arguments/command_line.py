"""What vLLM makes of the words of a command line before its parser sees them."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from understudy.errors import UsageError
from understudy.fleet.choices import human_readable_int
from understudy.server.arguments.values import json_value

_MODEL = re.compile(r"--model(=.+|$)")
_CONFIG = re.compile(r"--config(=.+|$)")
_SERVED_NAME = re.compile(r"--served[-_]model[-_]name(=.+|$)")
_OPTIMISATION_LEVELS = {"0", "1", "2", "3"}


def plain_words(argv: Sequence[str], read_config_file: Callable[[str], list[str]]) -> list[str]:
    """Return the words with the model in front, the config file in place, and dotted flags as JSON.

    `_` in a flag's name becomes `-`, `-O3` becomes `--optimization-level 3`. Raises UsageError where vLLM leaves with
    status 1, and what `read_config_file` raises.
    """
    words = _model_first(list(argv))
    if words and words[0].startswith("-") and not _any(_CONFIG, words) and _any(_SERVED_NAME, words):
        raise UsageError(
            "`model` should be provided as the first positional argument when using `understudy serve`. "
            "i.e. `understudy serve <model> --<arg> <value>`."
        )
    if "--config" in words:
        words = _with_config(words, read_config_file)
    try:
        return _with_dotted_as_json(_renamed(words))
    except RecursionError:
        raise UsageError("the keys of a dotted flag are too deeply nested") from None


def _any(pattern: re.Pattern[str], words: Sequence[str]) -> bool:
    return any(pattern.match(word) for word in words)


def _model_first(words: list[str]) -> list[str]:
    at = next((index for index, word in enumerate(words) if _MODEL.match(word)), None)
    if at is None:
        return words
    if words[at] != "--model":
        return [words[at].removeprefix("--model="), *words[:at], *words[at + 1 :]]
    if at + 1 == len(words):
        raise UsageError("--model needs a value")
    return [words[at + 1], *words[:at], *words[at + 2 :]]


def _with_config(words: list[str], read_config_file: Callable[[str], list[str]]) -> list[str]:
    if words.count("--config") > 1:
        raise UsageError("More than one config file specified!")
    at = words.index("--config")
    if at + 1 == len(words):
        raise UsageError("No config file specified! Please check your command-line arguments.")
    from_file = read_config_file(words[at + 1])
    model = [] if words[0].startswith("-") else words[:1]
    if not model and "--model" not in from_file:
        raise UsageError(
            "No model specified! Please specify model either as a positional argument or in a config file."
        )
    # What comes later wins, so the command line wins.
    return [*model, *from_file, *words[len(model) : at], *words[at + 2 :]]


def _renamed(words: list[str]) -> list[str]:
    renamed: list[str] = []
    for index, word in enumerate(words):
        if word.startswith("--") and not word.startswith("--help="):
            name, equals, value = word.partition("=")
            first, dot, keys = name.partition(".")
            renamed.append(first.replace("_", "-") + dot + keys + equals + value)
        elif word.startswith("-O") and word != "-O":
            renamed += ["--optimization-level", word[2:].removeprefix("=")]
        elif word == "-O" and words[index + 1 : index + 2] and words[index + 1] in _OPTIMISATION_LEVELS:
            renamed.append("--optimization-level")
        else:
            renamed.append(word)
    return renamed


def _with_dotted_as_json(words: list[str]) -> list[str]:
    """Collect `--flag.key value`, `--flag.key=value` and `--flag.key+ one,two` as one JSON object for each flag.

    It is put last, so it replaces what else the flag was given.
    """
    plain: list[str] = []
    dotted: dict[str, dict[str, Any]] = {}
    remaining = iter(words)
    for word in remaining:
        name, equals, text = word.partition("=")
        if not word.startswith("-") or "." not in name:
            plain.append(word)
            continue
        if not equals:
            following = next(remaining, None)
            if following is None:
                raise UsageError(f"{name} needs a value")
            text = following
        value: Any = text.split(",") if name.endswith("+") else _value(text)
        flag, *keys = name.removesuffix("+").split(".")
        for key in reversed(keys):
            value = {key: value}
        _merge(dotted.setdefault(flag, {}), value)
    return [*plain, *(word for flag, value in dotted.items() for word in (flag, json.dumps(value)))]


def _value(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError:
        pass
    try:
        return human_readable_int(text)
    except (ValueError, OverflowError):
        return text


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            old += value
        else:
            into[key] = value
