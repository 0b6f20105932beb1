"""Finds a model: by its catalogue name, by its Hugging Face id, or in a config.json on disk."""

import os
from pathlib import Path

from understudy.catalog.data_files import folded, known_names, read_entry
from understudy.catalog.fields import Fields, read_file
from understudy.catalog.model import Model
from understudy.catalog.model_config import model_from_config
from understudy.errors import InputError, unknown_name


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
    path = _config_path(text)
    if path is not None:
        config = read_file(path)
        return model_from_config(
            config, path.resolve().parent.name if path.name == "config.json" else path.stem
        )
    entry = _find_entry(text)
    if entry is not None:
        return model_from_config(entry, entry.text("name"))
    if text and Path(text).is_dir():
        raise InputError(f"{text} is a directory without a config.json")
    raise unknown_name("model", text, known_models())


def models_with_context(num_tokens: int) -> tuple[str, ...]:
    """Return the names of the catalogue's models whose context holds that many tokens, prompt and output together."""
    return tuple(name for name in known_models() if load_model(name).max_position_embeddings >= num_tokens)


def _config_path(text: str) -> Path | None:
    path = Path(text)
    if path.suffix == ".json":
        return path
    try:
        return path / "config.json" if text and (path / "config.json").is_file() else None
    except OSError as error:
        raise InputError(f"cannot read {text}: {error.strerror}") from error


def _find_entry(name: str) -> Fields | None:
    names = known_models()
    if folded(name) in names:
        return read_entry("model", name)
    for entry in (read_entry("model", known) for known in names):
        ids = (entry.text("hugging_face_id"), *entry.texts("same_shape_hugging_face_ids"))
        if name.casefold() in (known_id.casefold() for known_id in ids):
            return entry
    return None
