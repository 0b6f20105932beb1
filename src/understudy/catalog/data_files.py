"""Finds and reads the catalogue's own data files, one JSON object for each model, GPU and preset."""

import json
from importlib.resources import files
from typing import Literal

from understudy.catalog.fields import Fields
from understudy.errors import unknown_name

Kind = Literal["model", "gpu", "preset"]

_ROOT = files("understudy.catalog") / "data"


def folded(name: str) -> str:
    """Return a name as the catalogue spells names: small letters, with `-` for `_` and spaces."""
    return name.casefold().replace("_", "-").replace(" ", "-")


def known_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of all entries of a kind, sorted."""
    folder = _ROOT / f"{kind}s"
    return tuple(
        sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))
    )


def read_entry(kind: Kind, name: str) -> Fields:
    """Return the fields of one entry. Raises UsageError, with near names, for a name that is not known."""
    names = known_names(kind)
    name = folded(name)
    if name not in names:
        raise unknown_name(kind, name, names)
    file = _ROOT / f"{kind}s" / f"{name}.json"
    return Fields(json.loads(file.read_text(encoding="utf-8")), origin=f"the catalogue's {kind} {name}")
