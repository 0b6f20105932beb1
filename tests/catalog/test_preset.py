"""Presets give the linear latency model its prices."""

from dataclasses import asdict, fields

import pytest

from understudy.catalog import LinearConstants, derived_linear, load_gpu, load_model, load_preset
from understudy.latency import LinearLatency, PrefillChunk, StepShape


def _latency(constants: LinearConstants) -> LinearLatency:
    prices = asdict(constants)
    del prices["source"]
    return LinearLatency(**prices)


def test_the_prices_of_llama_2_13b_on_an_a100_are_as_stated() -> None:
    """A prompt takes 5.0 ms and 2.5 ms a block, 0.5 ms when all is cached, a decode step 15.0 ms."""
    preset = load_preset("llama-2-13b", "a100-40gb")
    assert preset is not None
    latency = _latency(preset)

    def prefill_ms(new_tokens: int, cached_tokens: int) -> float:
        chunk = PrefillChunk(new_tokens, cached_tokens, cached_tokens, cached_tokens + new_tokens)
        return latency.step_ns(StepShape((chunk,), 0, 0)) / 1e6

    assert prefill_ms(new_tokens=160, cached_tokens=0) == 5.0 + 10 * 2.5
    assert prefill_ms(new_tokens=1, cached_tokens=160) == 0.5
    assert latency.step_ns(StepShape((), 8, 1000)) / 1e6 == 15.0


def test_without_a_preset_there_is_none() -> None:
    """Unknown pairs and names that look like paths are just not there."""
    assert load_preset("llama-2-13b", "h100") is None
    assert load_preset("../presets/llama-2-13b", "a100-40gb") is None


@pytest.mark.parametrize("gpu", ["a100-40gb", "h100"])
def test_constants_have_every_field_of_the_linear_model(gpu: str) -> None:
    """Preset or derived, they can be handed on by name."""
    constants = load_preset("llama-2-13b", gpu)
    constants = constants or derived_linear(load_model("llama-2-13b"), load_gpu(gpu), 1)
    names = {field.name for field in fields(_latency(constants))}
    assert {field.name for field in fields(constants)} == {*names, "source"}
