"""Promises of reading which models a worker serves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import LoRA
from understudy.errors import InputError
from understudy.gateway.served_models import read_models
from understudy.wire.limits import ModelLimits
from understudy.wire.model_list import LoadedAdapter, models_body


def test_names_and_adapters_are_read() -> None:
    """From the list that vLLM's servers answer; an adapter has its path, which counts in hashes."""
    limits = ModelLimits(
        max_model_len=9, vocabulary_size=9, max_token_id=8, served_model_names=("m", "alias")
    )
    body = models_body(limits, "root", [LoadedAdapter("poet", "/poet")], 0, iter(["a", "b", "c"]))
    assert read_models(body) == {"m": None, "alias": None, "poet": LoRA("poet", "/poet")}


@given(
    body=st.binary(max_size=50)
    | st.dictionaries(st.text(), st.integers()).map(lambda x: json.dumps(x).encode())
)
def test_what_is_no_list_is_one_error(body: bytes) -> None:
    """Whatever a worker sends."""
    with pytest.raises(InputError, match=r"^gives a malformed answer to /v1/models: "):
        read_models(body)


def test_a_list_without_end_is_refused() -> None:
    """Nobody serves so many."""
    body = json.dumps({"data": [{"id": str(number)} for number in range(10_001)]}).encode()
    with pytest.raises(InputError, match="names 10001 models"):
        read_models(body)
