"""Every byte of a GPU is accounted for, and blocks have exactly the size that vLLM gives them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.catalog import (
    Capacity,
    Gpu,
    Model,
    capacity,
    default_batch_limits,
    known_gpus,
    known_models,
    load_gpu,
    load_model,
)
from understudy.catalog.attention import GroupedQueryAttention
from understudy.catalog.data_files import read_entry
from understudy.errors import InputError, UnderstudyError, UsageError

MODELS = {name: load_model(name) for name in known_models()}
GPUS = {name: load_gpu(name) for name in known_gpus()}


def _capacity(model: Model, gpu: Gpu, **arguments: object) -> Capacity:
    limits = {"max_num_batched_tokens": 2048, "max_num_seqs": 256}
    return capacity(model, gpu, **{**limits, **arguments})  # type: ignore[arg-type]  # tests hand in wrong values too


def test_llama_2_13b_on_an_a100_has_924_blocks() -> None:
    """With vLLM's own defaults for that GPU the arithmetic gives the figures that belong to the preset."""
    model, gpu = MODELS["llama-2-13b"], GPUS["a100-40gb"]
    limits = default_batch_limits(gpu, max_model_len=model.max_position_embeddings)
    memory = capacity(
        model, gpu, max_num_batched_tokens=limits.max_num_batched_tokens, max_num_seqs=limits.max_num_seqs
    )
    assert (memory.block_bytes, memory.num_gpu_blocks, memory.notes) == (13_107_200, 924, ())


def test_llama_3_1_8b_on_an_rtx_4090_has_the_blocks_that_vllm_measured() -> None:
    """On that GPU vLLM 0.19 found room for 2,588 blocks, 41,408 tokens with the null block: a run published by LLMServingSim."""
    memory = _capacity(MODELS["llama-3.1-8b"], GPUS["rtx-4090"], gpu_memory_utilization=0.9)
    assert (memory.num_gpu_blocks, memory.kv_cache_tokens + memory.block_size) == (2588, 41_408)


def test_20_gib_hold_the_blocks_of_a_13b_model_that_vllm_logs() -> None:
    """The start-up log of vLLM 0.33 says 26,208 tokens, null block included, for 20 GiB of KV cache and the shape of Llama-2-13B."""
    memory = _capacity(MODELS["llama-2-13b"], GPUS["a100-40gb"], kv_cache_memory_bytes=20 * 2**30)
    assert (memory.num_gpu_blocks, memory.kv_cache_tokens + memory.block_size) == (1638, 26_208)


setups = st.fixed_dictionaries(
    {
        "gpu_memory_utilization": st.floats(0, 1, exclude_min=True),
        "tensor_parallel_size": st.sampled_from([1, 2, 4, 8]),
        "pipeline_parallel_size": st.integers(1, 24),
        "block_size": st.sampled_from([1, 16, 64]),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8"]),
        "max_num_batched_tokens": st.integers(1, 100_000),
        "max_num_seqs": st.integers(1, 2048),
    }
)


@given(model=st.sampled_from(sorted(MODELS)), gpu=st.sampled_from(sorted(GPUS)), setup=setups)
def test_the_terms_add_up_to_the_requested_memory(model: str, gpu: str, setup: dict[str, object]) -> None:
    """Nothing is lost or counted twice, whatever the split; and blocks fill what remains to less than one block."""
    memory = _capacity(MODELS[model], GPUS[gpu], **setup, num_gpu_blocks_override=1)
    terms = (memory.weight_bytes, memory.activation_bytes, memory.cuda_graph_bytes, memory.context_bytes)
    assert min(terms) > 0
    assert sum(terms) + memory.available_bytes == memory.requested_bytes <= memory.total_bytes
    if memory.available_bytes < memory.block_bytes:
        with pytest.raises(InputError, match=f"^{model} does not fit on {gpu}: "):
            _capacity(MODELS[model], GPUS[gpu], **setup)
    else:
        blocks = _capacity(MODELS[model], GPUS[gpu], **setup).num_gpu_blocks
        assert 0 <= memory.available_bytes - blocks * memory.block_bytes < memory.block_bytes


@given(
    model=st.sampled_from(sorted(MODELS)),
    parts=st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 24)),
)
def test_all_gpus_together_hold_all_weights(model: str, parts: tuple[int, int]) -> None:
    """A split loses no weight and rounds up by less than a byte on each GPU."""
    tensor, pipeline = parts
    memory = _capacity(
        MODELS[model],
        GPUS["b200"],
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        num_gpu_blocks_override=1,
    )
    assert 0 <= memory.weight_bytes * tensor * pipeline - MODELS[model].weight_bytes < tensor * pipeline
    assert memory.num_layers == math.ceil(MODELS[model].num_hidden_layers / pipeline)


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("block_size", [16, 32])
def test_a_block_has_the_bytes_that_the_config_says(name: str, block_size: int) -> None:
    """Keys and values of all heads in all layers; with latent attention the vector and its rotary part."""
    config = read_entry("model", name)
    if config.has("kv_lora_rank"):
        values = config.whole("kv_lora_rank") + config.whole("qk_rope_head_dim")
    else:
        heads = config.whole("num_attention_heads")
        head_dim = config.whole("head_dim", default=config.whole("hidden_size") // heads)
        values = 2 * config.whole("num_key_value_heads") * head_dim
    memory = _capacity(MODELS[name], GPUS["b200"], block_size=block_size, num_gpu_blocks_override=1)
    assert memory.block_bytes == 2 * values * config.whole("num_hidden_layers") * block_size
    assert memory.page_bytes * memory.num_layers == memory.block_bytes


def test_tensor_parallelism_splits_heads_but_never_a_head_nor_a_latent_vector() -> None:
    """Qwen3-30B-A3B has 4 key-value heads: 8 GPUs hold one each, twice. DeepSeek-V3's vector is on every GPU."""

    def page_bytes(name: str, tensor_parallel_size: int) -> int:
        return _capacity(
            MODELS[name], GPUS["b200"], tensor_parallel_size=tensor_parallel_size, num_gpu_blocks_override=1
        ).page_bytes

    whole = page_bytes("qwen3-30b-a3b", 1)
    assert [page_bytes("qwen3-30b-a3b", size) for size in (2, 4, 8)] == [whole // 2, whole // 4, whole // 4]
    assert len({page_bytes("deepseek-v3", size) for size in (1, 2, 4, 8)}) == 1


def test_an_fp8_cache_has_blocks_of_half_the_bytes() -> None:
    """And so about twice as many."""
    model, gpu = MODELS["llama-3.1-8b"], GPUS["h100"]
    full, half = _capacity(model, gpu), _capacity(model, gpu, kv_cache_dtype="fp8")
    assert full.block_bytes == 2 * half.block_bytes
    assert half.num_gpu_blocks - 2 * full.num_gpu_blocks in {0, 1}


@pytest.mark.parametrize("blocks", [1, 7, 10**6])
def test_an_override_is_believed_and_noted(blocks: int) -> None:
    """Tests of small caches need no small GPU; a model that would not fit is no hindrance."""
    memory = _capacity(MODELS["deepseek-v3"], GPUS["l4"], num_gpu_blocks_override=blocks)
    assert (memory.num_gpu_blocks, memory.kv_cache_tokens) == (blocks, 16 * (blocks - 1))
    assert any("num_gpu_blocks_override" in note for note in memory.notes)


def test_given_bytes_of_cache_are_believed_and_noted() -> None:
    """The memory utilisation then has no say, and less than a block is refused."""
    model, gpu = MODELS["llama-2-13b"], GPUS["a100-40gb"]
    memory = _capacity(model, gpu, kv_cache_memory_bytes=13_107_200, gpu_memory_utilization=0.1)
    assert memory.num_gpu_blocks == 1
    assert any("kv_cache_memory_bytes" in note for note in memory.notes)
    with pytest.raises(InputError, match="less than one block"):
        _capacity(model, gpu, kv_cache_memory_bytes=13_107_199)


def test_weights_that_do_not_fit_are_said_to_be_the_reason() -> None:
    """The error gives both figures and names the flags that help."""
    with pytest.raises(
        InputError, match=r"24\.24 GiB of weights .* 20\.00 GiB; raise --gpu-memory-utilization or --tensor-p"
    ):
        _capacity(MODELS["llama-2-13b"], GPUS["a100-40gb"], gpu_memory_utilization=0.5)


def test_no_share_of_a_gpu_is_advised_where_all_of_it_is_too_little() -> None:
    """Weights beyond the whole memory need more GPUs or a larger one."""
    with pytest.raises(
        InputError, match=r"128\.48 GiB of weights .* has 40\.00 GiB; raise --tensor-p"
    ) as caught:
        _capacity(MODELS["llama-2-70b"], GPUS["a100-40gb"])
    assert "--gpu-memory-utilization" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("gpu_memory_utilization", 0.0),
        ("gpu_memory_utilization", 1.01),
        ("gpu_memory_utilization", math.nan),
        ("block_size", 0),
        ("tensor_parallel_size", 0),
        ("tensor_parallel_size", 3),
        ("pipeline_parallel_size", -1),
        ("pipeline_parallel_size", 41),
        ("kv_cache_dtype", "int3"),
        ("kv_cache_memory_bytes", 0),
        ("num_gpu_blocks_override", 0),
        ("max_num_batched_tokens", 0),
        ("max_num_seqs", 0),
    ],
)
def test_an_argument_out_of_range_is_named(argument: str, value: float | str) -> None:
    """One line says which argument cannot be, with vLLM's name of it."""
    with pytest.raises(UsageError, match=argument):
        _capacity(MODELS["llama-2-13b"], GPUS["a100-40gb"], **{argument: value})


def test_heads_that_cannot_be_split_are_refused() -> None:
    """Like vLLM: key-value heads are split or replicated evenly."""
    attention = GroupedQueryAttention(hidden_size=64, num_heads=12, num_key_value_heads=4, head_dim=16)
    model = replace(MODELS["llama-3.1-8b"], attention=attention)
    for accepted in (1, 2, 4, 12):
        assert _capacity(model, GPUS["h100"], tensor_parallel_size=accepted).num_gpu_blocks > 0
    with pytest.raises(UsageError, match="must divide the 4 key-value heads or be a multiple of them"):
        _capacity(model, GPUS["h100"], tensor_parallel_size=6)


@given(setup=setups, more=st.floats(0, 1))
def test_more_memory_never_gives_fewer_blocks(setup: dict[str, object], more: float) -> None:
    """Blocks grow with gpu_memory_utilization."""

    def blocks(gpu_memory_utilization: object) -> int:
        try:
            given_setup = {**setup, "gpu_memory_utilization": gpu_memory_utilization}
            return _capacity(MODELS["llama-3.1-8b"], GPUS["a100-80gb"], **given_setup).num_gpu_blocks
        except UnderstudyError:
            return 0

    less = setup["gpu_memory_utilization"]
    assert isinstance(less, float)
    assert blocks(less) <= blocks(min(1.0, less + more))
