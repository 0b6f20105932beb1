"""The bytes of quantised weights follow from the config, and where they do not the error says how to state them."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.configs import LLAMA

from understudy.catalog.data_files import known_names, read_entry
from understudy.catalog.fields import Fields
from understudy.catalog.model import Model
from understudy.catalog.model_config import model_from_config
from understudy.errors import InputError

INNER = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
"""Weights of the small Llama's linear layers: in each of two layers queries and output, keys and values, the MLP."""


def _model(config: Mapping[str, object], **quantisation: object) -> Model:
    return model_from_config(Fields({**config, "quantization_config": quantisation}, "config.json"), "test")


def _refusal(**quantisation: object) -> str:
    with pytest.raises(InputError) as caught:
        _model(LLAMA, **quantisation)
    return str(caught.value)


def _inner_bytes(**quantisation: object) -> int:
    """Return the bytes of the linear layers: all but what stays in 16 bits."""
    plain = model_from_config(Fields(LLAMA, "config.json"), "test")
    return _model(LLAMA, **quantisation).weight_bytes - 2 * (plain.num_parameters - INNER)


QUANTISED = [name for name in known_names("model") if read_entry("model", name).has("quantization_config")]


@pytest.mark.parametrize("name", QUANTISED)
def test_the_bytes_of_published_checkpoints_follow_from_their_configs(name: str) -> None:
    """DeepSeek-V3's FP8 in blocks and gpt-oss's MXFP4, to the last byte."""
    values = dict(read_entry("model", name)._values)
    published = values.pop("weight_bytes")
    assert model_from_config(Fields(values, "config.json"), name).weight_bytes == published


QWEN_AWQ: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "vocab_size": 152_064,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": False,
}


def test_a_published_awq_checkpoint_has_its_size() -> None:
    """Qwen/Qwen2.5-7B-Instruct-AWQ is 5.57 GB on the hub."""
    model = _model(QWEN_AWQ, quant_method="awq", bits=4, group_size=128, zero_point=True)
    assert model.weight_bytes == pytest.approx(5.57e9, rel=0.002)


@pytest.mark.parametrize("method", ["awq", "gptq"])
@given(bits=st.sampled_from([2, 3, 4, 8]), group=st.sampled_from([16, 32, 64]))
def test_integers_have_a_scale_and_a_zero_for_each_group(method: str, bits: int, group: int) -> None:
    """All widths are multiples of the groups, so the bytes are bits a weight and 16 + bits a group."""
    expected = (INNER * bits + INNER // group * (16 + bits)) // 8
    assert _inner_bytes(quant_method=method, bits=bits, group_size=group) == expected


def test_a_group_of_minus_one_is_a_whole_column() -> None:
    """GPTQ's way to say that there is one scale for each output."""
    outputs = 2 * (2 * 64 + 2 * 32 + 2 * 128 + 64)
    assert _inner_bytes(quant_method="gptq", bits=4, group_size=-1) == (INNER * 4 + outputs * 20) // 8


FP8_GROUP: dict[str, Any] = {
    "targets": ["Linear"],
    "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
    "input_activations": {"num_bits": 8, "type": "float"},
}


@pytest.mark.parametrize(
    ("quantisation", "bits"),
    [
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "fp8", "weight_block_size": [32, 16]}, 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": FP8_GROUP}}, 8),
    ],
)
def test_other_methods_take_their_bits_and_little_more(quantisation: dict[str, Any], bits: int) -> None:
    """Scales come on top: never nothing, and less than a quarter even of so small a model."""
    assert 0 < _inner_bytes(**quantisation) - INNER * bits // 8 < INNER * bits // 32


@given(rows=st.integers(1, 200), columns=st.integers(1, 200))
def test_blocks_are_counted_by_rows_and_columns(rows: int, columns: int) -> None:
    """A started block has a scale too; the first number goes along the outputs."""
    shapes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    blocks = sum(len(range(0, inputs, columns)) * len(range(0, outputs, rows)) for inputs, outputs in shapes)
    found = _inner_bytes(quant_method="fp8", weight_block_size=[rows, columns])
    assert found == INNER + 2 * 4 * blocks


def test_only_fp8_with_fp8_activations_is_multiplied_in_fp8() -> None:
    """Weights alone in FP8 are unpacked first."""
    alone = {**FP8_GROUP, "input_activations": None}

    def in_fp8(**quantisation: object) -> bool:
        model = _model(LLAMA, **quantisation)
        assert model.quantisation is not None
        return model.quantisation.computes_in_fp8

    assert in_fp8(quant_method="fp8")
    assert in_fp8(quant_method="compressed-tensors", config_groups={"group_0": FP8_GROUP})
    assert not in_fp8(quant_method="compressed-tensors", config_groups={"group_0": alone})
    assert not in_fp8(quant_method="awq", bits=4, group_size=128)


@pytest.mark.parametrize(
    ("quantisation", "complaint"),
    [
        ({}, "quantization_config: quant_method is missing"),
        ({"quant_method": "gguf"}, "quantization_config: quant_method must be one of awq, "),
        ({"quant_method": "awq"}, "quantization_config: bits is missing"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "group_size must be -1 or above 0"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size must be two numbers"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit or load_in_8bit must be true"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "config_groups must hold one group"),
    ],
)
def test_what_no_size_follows_from_is_refused(quantisation: dict[str, Any], complaint: str) -> None:
    """Unless the bytes are stated, and the error says where they are found."""
    message = _refusal(**quantisation)
    assert message.startswith(
        f"config.json, quantization_config: {complaint.removeprefix('quantization_config: ')}"
    )
    if "quant_method" in quantisation:
        assert "weight_bytes" in message
        stated = _model({**LLAMA, "weight_bytes": 12_345}, **quantisation)
        assert stated.weight_bytes == 12_345


def test_layers_left_in_16_bits_are_told() -> None:
    """But not those that are counted so anyway, nor where only experts are quantised."""
    plain = {"quant_method": "awq", "bits": 4, "group_size": 128}
    assert not _model(LLAMA, **plain, modules_to_not_convert=["lm_head", "model.layers.0.mlp.gate"]).notes
    (note,) = _model(LLAMA, **plain, modules_to_not_convert=["lm_head", "layers.0.mlp.gate_proj"]).notes
    assert "layers.0.mlp.gate_proj" in note
    assert not _model(LLAMA, quant_method="mxfp4", modules_to_not_convert=["self_attn"]).notes
