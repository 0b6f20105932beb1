"""Finds a model: by its catalogue name, by its Hugging Face id, or in a config.json on disk."""

import os
from pathlib import Path

from understudy.catalog.data_files import known_names, read_entry
from understudy.catalog.fields import read_file
from understudy.catalog.model import Model
from understudy.catalog.model_config import model_from_config
from understudy.errors import unknown_name


def known_models() -> tuple[str, ...]:
    """Return the names of all models in the catalogue, sorted."""
    return known_names("model")


def load_model(name_or_path: str | os.PathLike[str]) -> Model:
    """Return the model of a catalogue name (llama-2-13b), a Hugging Face id of the catalogue, or a config.json.

    Anything that ends in .json, and any directory that holds a config.json, is read as a Hugging Face config; its
    name is that of its directory, or of the file where that is not called config.json. Raises UsageError for an
    unknown name, InputError for a file that cannot be read or is not accepted.
    """
    text = os.fspath(name_or_path)
    path = Path(text)
    if path.suffix != ".json" and (path / "config.json").is_file():
        path /= "config.json"
    if path.suffix == ".json":
        name = path.resolve().parent.name if path.name == "config.json" else path.stem
        return model_from_config(read_file(path), name)
    return _catalogue_model(text)


def _catalogue_model(name: str) -> Model:
    names = known_models()
    if name in names:
        return model_from_config(read_entry("model", name), name)
    for known in names:
        entry = read_entry("model", known)
        if entry.text("hugging_face_id").casefold() == name.casefold():
            return model_from_config(entry, known)
    raise unknown_name("model", name, names)
