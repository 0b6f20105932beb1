"""From a user's choices to an engine: vLLM's defaults where nothing is said, and where each number comes from."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.configs import LLAMA, write_config
from tests.fleet.scenes import law

from understudy.catalog import derived_linear, known_gpus, known_models, load_gpu, load_model, load_preset
from understudy.engine import EngineConfig
from understudy.errors import InputError, UsageError
from understudy.fleet import EngineChoices, EngineSetup, LatencyChoices, engine_setup, memory_of

MODEL, GPU = "llama-2-13b", "a100-40gb"
CONSTANTS = tuple(field.name for field in fields(LatencyChoices))


def _setup(
    choices: EngineChoices | None = None,
    latency: LatencyChoices | None = None,
    model: str = MODEL,
    gpu: str = GPU,
) -> EngineSetup:
    return engine_setup(model, gpu, choices or EngineChoices(), latency or LatencyChoices())


def _constants(setup: EngineSetup) -> dict[str, float]:
    return {name: getattr(setup.latency, name) for name in CONSTANTS}


def test_defaults_are_those_of_vllm() -> None:
    """Llama-2-13B on an A100 40 GB: 924 blocks, as vLLM 0.2 already reported, and the limits of a small GPU."""
    config = _setup().config
    assert config == EngineConfig(
        num_gpu_blocks=924, max_model_len=4096, max_num_seqs=256, max_num_batched_tokens=2048
    )
    assert _setup().notes == ()


def test_flags_reach_the_engine() -> None:
    """What the user says is what the engine gets, under the same names."""
    choices = EngineChoices(
        max_model_len=1_000,
        block_size=32,
        num_gpu_blocks_override=77,
        max_num_seqs=9,
        max_num_batched_tokens=1_234,
        max_num_scheduled_tokens=1_000,
        max_num_active_seqs=8,
        enable_prefix_caching=False,
        prefix_caching_hash_algo="sha256_cbor",
        enable_chunked_prefill=False,
        scheduling_policy="priority",
        async_scheduling=False,
        watermark=0.01,
        scheduler_reserve_full_isl=False,
        long_prefill_token_threshold=500,
        long_prefill_token_threshold_adaptive=True,
        prefill_schedule_interval=2,
    )
    config, default = asdict(_setup(choices).config), asdict(_setup().config)
    assert config.pop("num_gpu_blocks") == choices.num_gpu_blocks_override
    assert config == {name: getattr(choices, name) for name in config}
    assert all(config[name] != default[name] for name in config), "each flag was moved off its default"


@law
@given(st.sampled_from(known_models()), st.sampled_from(known_gpus()), st.integers(1, 10_000))
def test_an_engine_must_hold_its_longest_request(model: str, gpu: str, max_model_len: int) -> None:
    """One block for each 16 tokens, and the null block; with one less the start fails, as vLLM's does."""
    needed = -(-max_model_len // 16)
    choices = EngineChoices(max_model_len=max_model_len, num_gpu_blocks_override=needed + 1)
    config = _setup(choices, model=model, gpu=gpu).config
    assert (config.num_gpu_blocks, config.max_model_len) == (needed + 1, max_model_len)
    with pytest.raises(UsageError, match=rf"\({max_model_len}\) needs {needed} KV-cache blocks"):
        _setup(replace(choices, num_gpu_blocks_override=needed), model=model, gpu=gpu)


@law
@given(st.sampled_from(known_models()), st.integers(2, 20_000), st.sampled_from([8, 16, 32]))
def test_an_automatic_context_is_the_longest_that_starts(model: str, blocks: int, block_size: int) -> None:
    """As long as the cache, at most the model's; a token more would be refused or beyond the model."""
    choices = EngineChoices(max_model_len=-1, num_gpu_blocks_override=blocks, block_size=block_size)
    context = _setup(choices, model=model, gpu="b200").config.max_model_len
    assert context == min((blocks - 1) * block_size, load_model(model).max_position_embeddings)


def test_an_automatic_context_needs_room_for_a_token() -> None:
    """The null block alone is no room."""
    with pytest.raises(UsageError, match="none is usable"):
        _setup(EngineChoices(max_model_len=-1, num_gpu_blocks_override=1))


def test_a_context_that_must_be_asked_for_is_not_the_default(tmp_path: Path) -> None:
    """Of LongRoPE vLLM takes the short context, and the long one without complaint when told."""
    scaling = {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 128}
    path = str(write_config(tmp_path, {**LLAMA, **scaling}))
    assert _setup(model=path).config.max_model_len == 128
    asked = _setup(EngineChoices(max_model_len=512), model=path)
    assert asked.config.max_model_len == 512
    assert not asked.notes


def test_memory_can_be_planned_where_no_request_fits() -> None:
    """`memory_of` says where the memory goes; only an engine needs room for a request."""
    choices = EngineChoices(num_gpu_blocks_override=10)
    assert memory_of(MODEL, GPU, choices).capacity.num_gpu_blocks == 10
    with pytest.raises(UsageError, match="needs 256 KV-cache blocks, but 9 are usable"):
        _setup(choices)


@pytest.mark.parametrize(("max_model_len", "num_notes"), [(4095, 0), (4096, 0), (4097, 1)])
def test_a_context_beyond_the_models_is_noted(max_model_len: int, num_notes: int) -> None:
    """Because vLLM takes it only when told twice."""
    notes = _setup(EngineChoices(max_model_len=max_model_len)).notes
    assert len(notes) == num_notes
    assert all("4097" in note and "VLLM_ALLOW_LONG_MAX_MODEL_LEN" in note for note in notes)


def test_a_preset_prices_its_model_on_its_gpu() -> None:
    """The stated constants, with their source."""
    preset = load_preset(MODEL, GPU)
    assert preset is not None
    setup = _setup()
    assert _constants(setup) == {name: getattr(preset, name) for name in CONSTANTS}
    assert setup.latency_source == preset.source


@pytest.mark.parametrize(
    ("gpu", "parallel"), [("a100-80gb", 1), (GPU, 2)], ids=["no preset", "preset for one GPU only"]
)
def test_without_a_preset_constants_are_derived(gpu: str, parallel: int) -> None:
    """And say so."""
    setup = _setup(EngineChoices(tensor_parallel_size=parallel), gpu=gpu)
    derived = derived_linear(load_model(MODEL), load_gpu(gpu), parallel)
    assert _constants(setup) == {name: getattr(derived, name) for name in CONSTANTS}
    assert setup.latency_source == derived.source


@law
@given(st.dictionaries(st.sampled_from(CONSTANTS), st.floats(0, 1), min_size=1))
def test_constants_given_stand_in_place_of_the_others(chosen: dict[str, float]) -> None:
    """Each by itself, zero too; the source names them and what the others come from."""
    setup, plain = _setup(latency=LatencyChoices(**chosen)), _setup()
    assert _constants(setup) == {**_constants(plain), **chosen}
    assert all(name in setup.latency_source for name in chosen)
    assert setup.latency_source.endswith(f"else {plain.latency_source}")


@pytest.mark.parametrize(
    ("model", "gpu", "choices", "latency", "message"),
    [
        ("lama-2-13b", GPU, {}, {}, "unknown model 'lama-2-13b': did you mean"),
        (MODEL, "a100", {}, {}, "unknown gpu 'a100': did you mean"),
        (MODEL, GPU, {"max_model_len": 0}, {}, "max_model_len must be at least 1, got 0"),
        (MODEL, GPU, {"max_model_len": 20_000}, {}, "lower --max-model-len to at most 14768"),
        (MODEL, GPU, {"block_size": 0}, {}, "block_size"),
        (MODEL, GPU, {"max_num_seqs": 0}, {}, "max_num_seqs must be at least 1, got 0"),
        (MODEL, GPU, {"max_num_seqs": 9, "max_num_batched_tokens": 8}, {}, "max_num_batched_tokens"),
        (MODEL, GPU, {"tensor_parallel_size": 3}, {}, "tensor_parallel_size"),
        (MODEL, GPU, {"gpu_memory_utilization": 1.5}, {}, "gpu_memory_utilization"),
        (MODEL, GPU, {"watermark": 1.0}, {}, "watermark"),
        (MODEL, GPU, {}, {"decode_seconds_per_step": -1.0}, "decode_seconds_per_step must be a"),
        (MODEL, GPU, {}, {"prefill_base_seconds": float("nan")}, "prefill_base_seconds must be a"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    model: str, gpu: str, choices: dict[str, int], latency: dict[str, float], message: str
) -> None:
    """The error names what was wrong."""
    with pytest.raises(UsageError) as caught:
        engine_setup(model, gpu, EngineChoices(**choices), LatencyChoices(**latency))  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_too_large_for_the_gpu_is_refused() -> None:
    """Llama-2-70B in 16 bits has 140 GB of weights."""
    with pytest.raises(InputError, match="llama-2-70b"):
        _setup(model="llama-2-70b")
