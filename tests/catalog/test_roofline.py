"""Derived prices obey the physics that they are derived from, and say that nobody measured them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.catalog import derived_linear, known_gpus, known_models, load_gpu, load_model
from understudy.catalog.roofline import MEMORY_EFFICIENCY, OVERHEAD_SECONDS
from understudy.errors import UsageError

models = st.sampled_from(known_models())
gpus = st.sampled_from(known_gpus())
sizes = st.sampled_from([1, 2, 4, 8])


@given(model_name=models, gpu_name=gpus, size=sizes)
def test_nothing_is_faster_than_the_hardware(model_name: str, gpu_name: str, size: int) -> None:
    """Weights are not read faster than the memory is, nor multiplied faster than the peak of all GPUs together."""
    model, gpu = load_model(model_name), load_gpu(gpu_name)
    prices = derived_linear(model, gpu, size)
    peak = gpu.dense_fp8_flops_per_second or gpu.dense_fp16_flops_per_second
    flops = 2 * prices.block_size * model.num_active_parameters
    assert prices.decode_seconds_per_step > model.step_bytes / (size * gpu.memory_bandwidth_bytes_per_second)
    assert prices.prefill_seconds_per_block > flops / (size * peak)
    assert 0 < prices.prefill_cached_seconds < prices.prefill_base_seconds


@given(model_name=models, gpu_name=gpus, size=sizes)
def test_the_source_says_that_it_is_not_a_measurement(model_name: str, gpu_name: str, size: int) -> None:
    """Whoever reads a result sees what it rests on."""
    source = derived_linear(load_model(model_name), load_gpu(gpu_name), size).source
    assert "not measured" in source
    assert model_name in source
    assert gpu_name in source


@given(model_name=models, gpu_name=gpus, size=st.sampled_from([2, 4, 8]))
def test_gpus_share_the_reading_but_must_talk(model_name: str, gpu_name: str, size: int) -> None:
    """Decode scales with the GPUs but for the overhead; prefill scales worse, by the all-reduces."""
    model, gpu = load_model(model_name), load_gpu(gpu_name)
    one, many = derived_linear(model, gpu, 1), derived_linear(model, gpu, size)
    reading = (one.decode_seconds_per_step - OVERHEAD_SECONDS) / size
    assert many.decode_seconds_per_step - OVERHEAD_SECONDS == pytest.approx(reading)
    assert many.prefill_seconds_per_block > one.prefill_seconds_per_block / size


def test_a_prompt_pays_for_active_weights_and_a_step_for_all() -> None:
    """On one GPU, Mixtral-8x7B and Llama-2-13B compare as their active weights and as their bytes do."""
    gpu, mixtral, llama = load_gpu("h200"), load_model("mixtral-8x7b"), load_model("llama-2-13b")
    sparse, dense = derived_linear(mixtral, gpu, 1), derived_linear(llama, gpu, 1)
    active = mixtral.num_active_parameters / llama.num_active_parameters
    assert sparse.prefill_seconds_per_block / dense.prefill_seconds_per_block == pytest.approx(active)
    reading = [prices.decode_seconds_per_step - OVERHEAD_SECONDS for prices in (sparse, dense)]
    assert reading[0] / reading[1] == pytest.approx(mixtral.step_bytes / llama.step_bytes)


def test_a_larger_vocabulary_makes_no_prompt_dearer() -> None:
    """Of the embedding a token takes one row, and the output is for the last token: only steps read it, once."""
    model, gpu = load_model("llama-3.1-8b"), load_gpu("h100")
    larger = replace(model, vocab_size=2 * model.vocab_size)
    tied = replace(larger, tie_word_embeddings=True)
    prices = [derived_linear(each, gpu, 1) for each in (model, larger, tied)]
    assert len({price.prefill_seconds_per_block for price in prices}) == 1
    more = prices[1].decode_seconds_per_step - prices[0].decode_seconds_per_step
    output_bytes = 2 * model.vocab_size * model.hidden_size
    assert more == pytest.approx(output_bytes / (gpu.memory_bandwidth_bytes_per_second * MEMORY_EFFICIENCY))
    assert prices[2].decode_seconds_per_step == prices[1].decode_seconds_per_step


def test_fp8_weights_are_multiplied_in_fp8_where_the_gpu_can() -> None:
    """DeepSeek-V3 gains by the FP8 of an H100, in the ratio of the peaks; bfloat16 weights do not."""
    h100 = load_gpu("h100")
    without = replace(h100, dense_fp8_flops_per_second=None)
    assert h100.dense_fp8_flops_per_second is not None

    def gain(model_name: str) -> float:
        slow, fast = (derived_linear(load_model(model_name), gpu, 1) for gpu in (without, h100))
        return slow.prefill_seconds_per_block / fast.prefill_seconds_per_block

    assert gain("deepseek-v3") == pytest.approx(
        h100.dense_fp8_flops_per_second / h100.dense_fp16_flops_per_second
    )
    assert gain("llama-3.1-8b") == 1


@pytest.mark.parametrize("size", [0, -1, 3])
def test_heads_that_cannot_be_split_are_refused(size: int) -> None:
    """The error is the one of the capacity."""
    with pytest.raises(UsageError, match="tensor_parallel_size"):
        derived_linear(load_model("llama-2-13b"), load_gpu("h100"), size)
