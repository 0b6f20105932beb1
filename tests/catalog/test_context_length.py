"""The context of a config is the one that vLLM 0.33 makes of it: expected figures are those of its ModelConfig."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.configs import LLAMA

from understudy.catalog.fields import Fields
from understudy.catalog.model import Model
from understudy.catalog.model_config import model_from_config
from understudy.errors import InputError


def _model(**changes: object) -> Model:
    config = {**LLAMA, "max_position_embeddings": 1000, **changes}
    return model_from_config(Fields(config, "config.json"), "test")


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 4000),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 4000),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.5}}, 2500),
        ({"rope_scaling": {"type": "linear", "factor": None}}, 1000),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, 2000),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 500}}, 1000),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 1000),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, 1000),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3], "factor": 3.0}}, 3000),
        ({"rope_scaling": {"type": "default"}}, 1000),
        ({"rope_scaling": None}, 1000),
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 1000),
        ({"model_max_length": 2600}, 2600),
        ({"model_max_length": 600}, 600),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, 2000),
    ],
)
def test_the_scaling_of_positions_counts_as_in_vllm(config: dict[str, Any], tokens: int) -> None:
    """Factors count for linear and dynamic scaling; with YaRN, Llama 3's and M-RoPE the length holds them already."""
    model = _model(**config)
    assert (model.default_max_model_len, model.max_position_embeddings) == (tokens, tokens)


@pytest.mark.parametrize("kind", ["longrope", "su"])
def test_longrope_starts_with_its_short_context(kind: str) -> None:
    """Phi-3's long contexts must be asked for; the key beside rope_scaling decides, not one within."""
    scaling = {"type": kind, "short_factor": [1.0], "long_factor": [2.0]}
    model = _model(rope_scaling=scaling, original_max_position_embeddings=250)
    assert (model.default_max_model_len, model.max_position_embeddings) == (250, 1000)
    within = _model(rope_scaling={**scaling, "original_max_position_embeddings": 250})
    assert within.default_max_model_len == 1000


@given(factor=st.floats() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2))
def test_any_factor_gives_a_context_or_one_line(factor: object) -> None:
    """No number is too large, too small or too odd."""
    scaling = {"type": "linear", "factor": factor}
    try:
        model = _model(rope_scaling=scaling)
    except InputError:
        with pytest.raises(
            InputError, match=r"^config\.json.*: (factor|max_position_embeddings) must be .*$"
        ):
            _model(rope_scaling=scaling)
    else:
        assert 1 <= model.max_position_embeddings < 2**31
