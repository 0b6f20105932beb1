"""Models of the catalogue have their published sizes, and a config.json on disk is read or refused with one line."""

import os
from pathlib import Path

import pytest
from tests.catalog.configs import LLAMA, LLAMA_PARAMETERS, write_config

from understudy.catalog import known_models, load_model, models_with_context
from understudy.catalog.data_files import read_entry
from understudy.catalog.feed_forward import MixtureOfExperts
from understudy.catalog.model import Model
from understudy.errors import InputError, UsageError

CONTEXTS = {
    "deepseek-v3": 163840,
    "gpt-oss-120b": 131072,
    "gpt-oss-20b": 131072,
    "llama-2-13b": 4096,
    "llama-2-70b": 4096,
    "llama-2-7b": 4096,
    "llama-3.1-70b": 131072,
    "llama-3.1-8b": 131072,
    "mistral-7b": 32768,
    "mixtral-8x7b": 32768,
    "qwen3-30b-a3b": 40960,
    "qwen3-32b": 40960,
    "qwen3-8b": 40960,
}
"""The max_position_embeddings of the models' own config.json on Hugging Face."""

PUBLISHED_BILLIONS = {
    "deepseek-v3": (671, 37),
    "gpt-oss-120b": (116.83, 5.13),
    "gpt-oss-20b": (20.91, 3.61),
    "mixtral-8x7b": (46.7, 12.9),
    "qwen3-30b-a3b": (30.5, 3.3),
}
"""All and active parameters as the model cards and technical reports round them. Those of gpt-oss leave the embedding
out of the active ones."""


@pytest.mark.parametrize("name", known_models())
def test_the_parameters_are_those_that_were_published(name: str) -> None:
    """Counting by architecture gives the published number, to the last weight."""
    assert load_model(name).num_parameters == read_entry("model", name).whole("num_parameters", most=10**12)


@pytest.mark.parametrize(("name", "billions"), PUBLISHED_BILLIONS.items())
def test_mixtures_of_experts_use_as_many_parameters_as_their_cards_say(
    name: str, billions: tuple[float, float]
) -> None:
    """All and active parameters agree with the rounded figures that people quote, within 2 %."""
    model = load_model(name)
    embedding = model.vocab_size * model.hidden_size
    active = model.num_active_parameters + embedding * (1 if name.startswith("gpt-oss") else 2)
    assert (model.num_parameters / 1e9, active / 1e9) == pytest.approx(billions, rel=0.02)


def test_the_contexts_are_those_of_the_published_configs() -> None:
    """Each model takes as many tokens as its config says."""
    assert {name: load_model(name).max_position_embeddings for name in known_models()} == CONTEXTS


@pytest.mark.parametrize("name", known_models())
def test_other_checkpoints_take_two_bytes_a_weight(name: str) -> None:
    """Weights that are not quantised are float16 or bfloat16."""
    model = load_model(name)
    if model.quantisation is None:
        assert model.weight_bytes == 2 * model.num_parameters
    else:
        assert model.weight_bytes < 2 * model.num_parameters


@pytest.mark.parametrize("name", known_models())
def test_only_experts_are_idle(name: str) -> None:
    """A dense model uses all its weights for every token but embedding and output, a mixture of experts fewer."""
    model = load_model(name)
    mixed = any(isinstance(layer, MixtureOfExperts) for layer in model.feed_forwards)
    embeddings = 2 * model.vocab_size * model.hidden_size
    assert mixed == (model.num_active_parameters + embeddings < model.num_parameters)


def test_what_is_approximated_is_said() -> None:
    """Notes tell of sliding windows, MXFP4 and the layer that is left out."""
    assert any("Sliding-window" in note for note in load_model("gpt-oss-20b").notes)
    assert any("MXFP4" in note for note in load_model("gpt-oss-120b").notes)
    assert any("multi-token-prediction" in note for note in load_model("deepseek-v3").notes)


@pytest.mark.parametrize("name", known_models())
def test_a_model_is_found_by_its_hugging_face_ids(name: str) -> None:
    """The ids in an entry lead to it, in any case, and to no other."""
    entry = read_entry("model", name)
    for known_id in (entry.text("hugging_face_id"), *entry.texts("same_shape_hugging_face_ids")):
        assert load_model(known_id) == load_model(known_id.upper()) == load_model(name)


def test_an_unknown_model_is_refused_with_near_names() -> None:
    """The error suggests what was meant, for a short name and for an id."""
    with pytest.raises(UsageError, match=r"unknown model 'lama-2-13b': did you mean llama-2-13b"):
        load_model("lama-2-13b")
    with pytest.raises(UsageError, match=r"did you mean .*llama-3\.1-70b"):
        load_model("meta-llama/Llama-3.2-70B")


@pytest.mark.parametrize("num_tokens", [1, 4096, 4097, 100_000, 163_840, 163_841])
def test_models_with_context_are_exactly_those_that_hold_so_many_tokens(num_tokens: int) -> None:
    """The list is right at the limit and one beyond it."""
    assert models_with_context(num_tokens) == tuple(
        name for name, most in CONTEXTS.items() if most >= num_tokens
    )


def test_a_config_is_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    """Both lead to the same model, named after the folder, with its file as the source."""
    path = write_config(tmp_path / "tiny", LLAMA)
    model = load_model(path)
    assert (model.name, model.source) == ("tiny", str(path))
    assert model.num_parameters == LLAMA_PARAMETERS
    assert model == load_model(path.parent) == load_model(str(path.parent))


def test_a_config_by_another_name_names_the_model(tmp_path: Path) -> None:
    """A file that is not called config.json says itself what the model is called."""
    assert load_model(write_config(tmp_path, LLAMA).rename(tmp_path / "tiny.json")).name == "tiny"


def test_a_relative_folder_is_named_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` is a folder like any other."""
    write_config(tmp_path / "tiny", LLAMA)
    monkeypatch.chdir(tmp_path / "tiny")
    assert load_model(".").name == load_model("config.json").name == "tiny"


def test_an_empty_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config.json that happens to lie in the working directory is not meant by nothing."""
    write_config(tmp_path, LLAMA)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="unknown model ''"):
        load_model("")


def test_a_folder_without_a_config_does_not_hide_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results kept in a folder that is named after a model do no harm."""
    (tmp_path / "llama-2-13b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_model("llama-2-13b") == load_model("meta-llama/Llama-2-13b-hf")


def _refusal(path: str | os.PathLike[str]) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path)
    return str(caught.value)


def test_paths_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file, a folder without a config, a folder in a file's place and a name beyond all limits."""
    assert _refusal(tmp_path) == f"{tmp_path} is a directory without a config.json"
    missing = tmp_path / "missing.json"
    assert _refusal(missing) == f"cannot read {missing}: No such file or directory"
    (tmp_path / "folder.json").mkdir()
    assert "folder.json: Is a directory" in _refusal(tmp_path / "folder.json")
    assert _refusal(f"{'x' * 5000}.json").endswith("File name too long")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "is not valid JSON"),
        (b"[]", "must hold a JSON object, got a list"),
        (b"null", "must hold a JSON object, got a NoneType"),
        (b"{}", "model_type is missing"),
    ],
)
def test_a_file_that_is_no_json_object_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    """Whatever the bytes, the error is one line with the file in it."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    message = _refusal(tmp_path)
    assert str(path) in message
    assert complaint in message
    assert "\n" not in message


def test_a_model_is_frozen(tmp_path: Path) -> None:
    """Two loads of a file are equal, and hash alike: a model is a value."""
    first: Model = load_model(write_config(tmp_path, LLAMA))
    assert {first} == {load_model(tmp_path)}
