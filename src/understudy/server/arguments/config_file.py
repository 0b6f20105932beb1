"""`--config FILE.yaml`: a file's keys and values as words of the command line."""

import json
from pathlib import Path
from typing import Any

import yaml

from understudy.errors import InputError
from understudy.regular_file import MAX_YAML_BYTES, read_regular


def read_config_file(path: str) -> list[str]:
    """Return the words that say what the file says, as vLLM reads it.

    True is the flag alone; False and an empty list are passed over; a list is the flag and its items; an object is
    JSON; all else is text. Raises InputError for a file that cannot be read or is no YAML mapping of names.
    """
    extension = path.rsplit(".", maxsplit=1)[-1]
    if extension not in {"yaml", "yml"}:
        raise InputError(f"Config file must be of a yaml/yml type. {extension} supplied")
    return [word for key, value in _mapping(path).items() for word in _words(path, key, value)]


def _mapping(path: str) -> dict[Any, Any]:
    data = read_regular(Path(path), MAX_YAML_BYTES)
    try:
        content = yaml.safe_load(data.decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path!r} as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a YAML mapping such as port: 8000")
    return content


def _words(path: str, key: Any, value: Any) -> list[str]:
    if not isinstance(key, str):
        raise InputError(f"{path}: {key!r} is no name of a flag")
    flag = f"--{key}"
    match value:
        case True:
            return [flag]
        case False | []:
            return []
        case list():
            return [flag, *map(str, value)]
        case dict():
            try:
                return [flag, json.dumps(value)]
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(f"{path}: {key} cannot be written as JSON: {error}") from error
        case _:
            return [flag, str(value)]
