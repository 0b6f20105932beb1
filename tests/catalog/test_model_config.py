"""A Hugging Face config becomes the model that it describes, or one clear complaint with file and key."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.configs import LLAMA, LLAMA_PARAMETERS, write_config

from understudy.catalog import load_model
from understudy.catalog.attention import GroupedQueryAttention
from understudy.catalog.data_files import known_names, read_entry
from understudy.catalog.fields import Fields
from understudy.catalog.model import Model
from understudy.catalog.model_config import model_from_config
from understudy.errors import InputError


def _model(config: Mapping[str, object], **changes: object) -> Model:
    return model_from_config(Fields({**config, **changes}, "config.json"), "test")


def _refusal(config: Mapping[str, object], **changes: object) -> str:
    with pytest.raises(InputError) as caught:
        _model(config, **changes)
    message = str(caught.value)
    assert message.startswith("config.json")
    assert "\n" not in message
    return message


NEEDED = [
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
]
WHOLE = [*NEEDED[1:], "num_key_value_heads", "head_dim"]


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named(key: str) -> None:
    """Absent and null are the same."""
    assert _refusal(LLAMA, **{key: None}) == f"config.json: {key} is missing"
    assert (
        _refusal({name: value for name, value in LLAMA.items() if name != key})
        == f"config.json: {key} is missing"
    )


@pytest.mark.parametrize("key", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, math.inf, 10**30, True, "4096", [4096], {}])
def test_a_size_that_is_no_size_is_named(key: str, value: object) -> None:
    """Zero heads, numbers as text, NaN and what no memory could hold are refused with key and value."""
    message = _refusal(LLAMA, **{key: value})
    assert f"{key} must be a whole number from 1" in message
    assert message.endswith(f"got {value!r}")


def test_a_long_value_is_shortened() -> None:
    """An error is a line that can be read."""
    assert len(_refusal(LLAMA, hidden_size=[[list(range(1000))] * 1000])) < 300


@pytest.mark.parametrize("key", ["tie_word_embeddings", "attention_bias", "mlp_bias"])
def test_a_flag_is_true_or_false(key: str) -> None:
    """A number or a text is no flag."""
    values: list[object] = [1, "true", []]
    for value in values:
        assert f"{key} must be true or false" in _refusal(LLAMA, **{key: value})


def test_an_unlike_architecture_is_refused_with_all_that_are_known() -> None:
    """Without Llama's keys, or with those of another kind, the error lists what is accepted."""
    message = _refusal(LLAMA, model_type="mamba")
    assert "got 'mamba'" in message
    known = {read_entry("model", name).text("model_type") for name in known_names("model")}
    assert all(architecture in message for architecture in known)
    like = {**LLAMA, "hidden_act": "silu"}
    assert "model_type must be one of" in _refusal(like, model_type="gpt_neox", num_key_value_heads=None)
    assert "model_type must be one of" in _refusal(like, model_type="nemotron", hidden_act="relu2")
    for key in ("num_experts", "kv_lora_rank", "mamba_d_state", "is_encoder_decoder"):
        assert "model_type must be one of" in _refusal(like, model_type="new", **{key: 8})


def test_an_unknown_architecture_with_llamas_keys_counts_as_llama() -> None:
    """And a note says so, with its name."""
    model = _model(LLAMA, model_type="olmo", hidden_act="silu")
    assert replace(model, notes=()) == _model(LLAMA)
    assert any("olmo" in note and "counted as Llama" in note for note in model.notes)
    assert not _model(LLAMA, hidden_act="silu").notes


PUBLISHED: dict[str, tuple[Mapping[str, object], int]] = {
    "google/gemma-2-2b": (
        {
            "model_type": "gemma2",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "vocab_size": 256_000,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "max_position_embeddings": 8192,
            "sliding_window": 4096,
        },
        2_614_341_888,
    ),
    "google/gemma-3-1b-it": (
        {
            "model_type": "gemma3_text",
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "vocab_size": 262_144,
            "num_hidden_layers": 26,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 32_768,
        },
        999_885_952,
    ),
    "microsoft/Phi-3-mini-4k-instruct": (
        {
            "model_type": "phi3",
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "vocab_size": 32_064,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        },
        3_821_079_552,
    ),
    "Qwen/Qwen2.5-7B": (
        {
            "model_type": "qwen2",
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "vocab_size": 152_064,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": False,
        },
        7_615_616_512,
    ),
}
"""The keys that matter of configs on Hugging Face, and the parameters that the hub shows for the checkpoint."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_of_other_models_are_those_that_were_published(name: str) -> None:
    """To the last weight; Gemma's configs leave out that the output is the embedding."""
    config, num_parameters = PUBLISHED[name]
    assert _model(config).num_parameters == num_parameters


def test_a_nested_gemma_relies_on_the_defaults_of_its_class() -> None:
    """The text_config of google/gemma-3-4b-it has no heads and no context: they are those of the class."""
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }
    model = _model({"model_type": "gemma3", "text_config": text})
    assert model.max_position_embeddings == 131_072
    assert model.attention == GroupedQueryAttention(
        hidden_size=2560, num_heads=8, num_key_value_heads=4, head_dim=256, qk_norm=True
    )
    assert len(model.notes) == 2


def test_heads_must_divide() -> None:
    """Heads that cannot share key-value heads or the hidden size evenly are refused."""
    assert "num_key_value_heads must divide num_attention_heads (4)" in _refusal(LLAMA, num_key_value_heads=3)
    assert "hidden_size must be a multiple" in _refusal(LLAMA, num_attention_heads=3, num_key_value_heads=3)


def test_without_key_value_heads_each_head_has_its_own() -> None:
    """The key is absent from configs with multi-head attention."""
    assert _model(LLAMA, num_key_value_heads=None) == _model(LLAMA, num_key_value_heads=4)


def test_biases_and_tied_embeddings_are_counted() -> None:
    """Each key adds or takes exactly its own weights."""
    tied = _model(LLAMA, tie_word_embeddings=True).num_parameters
    attention = _model(LLAMA, attention_bias=True).num_parameters
    mlp = _model(LLAMA, mlp_bias=True).num_parameters
    assert LLAMA_PARAMETERS - tied == 100 * 64
    assert attention - LLAMA_PARAMETERS == 2 * (64 + 2 * 32 + 64)
    assert mlp - LLAMA_PARAMETERS == 2 * (2 * 128 + 64)


def test_the_language_model_of_a_nested_config_is_read() -> None:
    """Keys of text_config win; a note says that other parts are not counted."""
    nested = _model({"model_type": "wrapper", "text_config": LLAMA, "attention_bias": True})
    assert nested.num_parameters == _model(LLAMA, attention_bias=True).num_parameters
    assert any("text_config" in note for note in nested.notes)


def test_errors_in_a_nested_config_name_file_part_and_key(tmp_path: Path) -> None:
    """The reader is told where to look."""
    path = write_config(
        tmp_path, {"model_type": "wrapper", "text_config": {**LLAMA, "num_attention_heads": 0}}
    )
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert f"{path}, text_config: num_attention_heads must be" in str(caught.value)
    assert "text_config must be an object" in _refusal(LLAMA, text_config=[])


def test_sliding_windows_are_told_where_they_are_used() -> None:
    """A window that no layer uses gets no note."""
    sliding, full = "sliding_attention", "full_attention"
    assert _model(LLAMA, sliding_window=128).notes
    assert _model(LLAMA, sliding_window=128, layer_types=[sliding, full]).notes
    assert not _model(LLAMA, sliding_window=128, layer_types=[full, full]).notes
    assert not _model(LLAMA, sliding_window=128, use_sliding_window=False).notes
    assert not _model(LLAMA, sliding_window=128, model_type="qwen2").notes
    assert "layer_types must have one entry for each" in _refusal(LLAMA, layer_types=[full])
    assert "layer_types must hold only" in _refusal(LLAMA, layer_types=[full, "linear_attention"])


def test_dense_layers_among_experts_are_counted_as_such() -> None:
    """Both ways to say which layers have experts are understood: a step, and a list of exceptions."""
    moe = {
        **LLAMA,
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    }
    all_sparse, every_second = _model(moe), _model(moe, decoder_sparse_step=2)
    dense, experts = 3 * 64 * 128, 8 * 64 + 8 * 3 * 64 * 32
    assert all_sparse.num_parameters - every_second.num_parameters == experts - dense
    assert every_second == _model(moe, mlp_only_layers=[0])
    assert "num_experts_per_tok must be a whole number from 1 to 8" in _refusal(moe, num_experts_per_tok=9)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_any_value_of_any_key_is_accepted_or_refused_with_one_line(data: st.DataObject) -> None:
    """No config from a file can do anything but become a model or an InputError."""
    config = json.loads(json.dumps(_entry(data.draw(st.sampled_from(known_names("model"))))))
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[key] = data.draw(JSON_VALUES)
    try:
        model = _model(config)
    except InputError:
        _refusal(config)
    else:
        assert 0 < model.num_active_parameters < model.num_parameters
        assert 0 <= model.step_bytes <= model.weight_bytes
        assert model.default_max_model_len >= 1


def _entry(name: str) -> Mapping[str, object]:
    return read_entry("model", name)._values
