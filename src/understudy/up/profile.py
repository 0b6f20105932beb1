"""The file of `--profile`: a fleet of unequal workers, as groups of equal ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from understudy.errors import InputError
from understudy.regular_file import MAX_YAML_BYTES, read_regular
from understudy.server.faults import FaultPlan

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
FlagValue = bool | int | float | str | None | list[Any] | dict[str, Any]


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Equal workers, called NAME-0, NAME-1, ... What is None here is as the command line says for all.

    `flags` are those of `understudy serve` by their names without the dashes. `faults`: a plan, or the path of one.
    """

    name: Name = "worker"
    count: Annotated[int, Meta(ge=1)] = 1
    model: str | None = None
    gpu: str | None = None
    served_model_name: str | list[str] | None = None
    flags: dict[str, FlagValue] = {}
    faults: FaultPlan | str | None = None
    time_scale: float | None = None
    startup: float | str | None = None


def load_profile(path: Path) -> tuple[Group, ...]:
    """Return the groups of a file in YAML or JSON; paths of faults in it are as seen from its folder.

    Raises InputError that names what is wrong and what is accepted.
    """
    data = read_regular(path, MAX_YAML_BYTES)
    try:
        groups = msgspec.yaml.decode(data, type=list[Group])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        accepted = ", ".join(Group.__struct_fields__)
        raise InputError(
            f"--profile {path}: {' '.join(str(error).split())}; accepted is a list of groups with {accepted}"
        ) from error
    if not groups:
        raise InputError(f"--profile {path} has no group of workers")
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--profile {path}: two groups are called {name!r}; give each a name of its own")
    return tuple(_seen_from_here(group, path.parent) for group in groups)


def flag_words(flags: Mapping[str, FlagValue]) -> list[str]:
    """Return flags as words of a command line.

    True is the flag alone, False its negation (`--no-NAME`); a list is the flag and its items, an object is JSON, all
    else is text.
    """
    return [word for name, value in flags.items() for word in _words(name.lstrip("-"), value)]


def _words(name: str, value: FlagValue) -> list[str]:
    match value:
        case True:
            return [f"--{name}"]
        case False:
            return [f"--no-{name}"]
        case list():
            return [
                f"--{name}",
                *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value),
            ]
        case dict():
            return [f"--{name}", json.dumps(value)]
        case _:
            return [f"--{name}", str(value)]


def _seen_from_here(group: Group, folder: Path) -> Group:
    if not isinstance(group.faults, str):
        return group
    return msgspec.structs.replace(group, faults=str(folder / group.faults))
