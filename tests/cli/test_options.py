"""Every flag has help, and every flag of the engine reaches the engine."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.in_process import output_of
from tests.cli.processes import TRACE, understudy

from understudy.cli.options import ArrivalOptions, FleetOptions, OutputOptions
from understudy.engine.config import HASH_ALGORITHMS
from understudy.fleet import EngineChoices, LatencyChoices

OUTPUT = [field.name for field in fields(OutputOptions)]
EXPERIMENT = [
    "policy",
    *(
        field.name
        for group in (FleetOptions, ArrivalOptions, EngineChoices, LatencyChoices)
        for field in fields(group)
    ),
    *OUTPUT,
]
CAPACITY = [
    *("gpu_memory_utilization", "block_size", "max_model_len", "max_num_batched_tokens", "max_num_seqs"),
    *("tensor_parallel_size", "pipeline_parallel_size", "kv_cache_dtype", "kv_cache_memory_bytes"),
    *("num_gpu_blocks_override", "json"),
]

# Values that go together whatever the others are; the context stays below all of them.
ENGINE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "max_model_len": st.integers(1100, 2000),
    "block_size": st.sampled_from([8, 16, 32]),
    "num_gpu_blocks_override": st.integers(400, 5000),
    "gpu_memory_utilization": st.floats(0.9, 1.0),
    "kv_cache_memory_bytes": st.integers(8 * 10**9, 20 * 10**9),
    "kv_cache_dtype": st.sampled_from(["auto", "float16", "bfloat16", "fp8"]),
    "tensor_parallel_size": st.sampled_from([1, 2, 4]),
    "pipeline_parallel_size": st.integers(1, 4),
    "max_num_seqs": st.integers(64, 512),
    "max_num_batched_tokens": st.integers(4096, 9000),
    "max_num_scheduled_tokens": st.integers(1500, 2048),
    "max_num_active_seqs": st.integers(1, 64),
    "enable_prefix_caching": st.booleans(),
    "prefix_caching_hash_algo": st.sampled_from(HASH_ALGORITHMS),
    "enable_chunked_prefill": st.booleans(),
    "scheduling_policy": st.sampled_from(["fcfs", "priority"]),
    "async_scheduling": st.booleans(),
    "watermark": st.floats(0.0, 0.5),
    "scheduler_reserve_full_isl": st.booleans(),
    "long_prefill_token_threshold": st.integers(0, 1000),
    "long_prefill_token_threshold_adaptive": st.booleans(),
    "prefill_schedule_interval": st.integers(1, 5),
}
FOLLOW_FROM_OTHERS = {"num_gpu_blocks", "max_model_len", "max_num_batched_tokens", "max_num_seqs", "latency"}


@pytest.mark.parametrize(
    ("command", "arguments", "flags"),
    [
        ("simulate", ["TRACE"], EXPERIMENT),
        ("compare", ["TRACE"], EXPERIMENT),
        ("demo", [], OUTPUT),
        ("capacity", ["MODEL", "GPU"], CAPACITY),
        ("generate", ["GENERATOR"], []),
        ("step-log", ["CONFIG", "WORKLOAD"], []),
    ],
)
def test_help_explains_every_flag(
    tmp_path: Path, command: str, arguments: list[str], flags: list[str]
) -> None:
    """What can be given, no more and no less, each with a sentence."""
    result = understudy(command, "--help", cwd=tmp_path, env={"COLUMNS": "300"})
    assert (result.status, result.stderr) == (0, "")
    rows = re.findall(
        r"^│ (?:\* )? ?(--[a-z-]+|[A-Z]+)\b.*? {2,}(\S.*?) *│$", result.stdout, flags=re.MULTILINE
    )
    explained = {name: text for name, text in rows if not text.startswith("[")}
    assert set(explained) == {*arguments, *(f"--{name.replace('_', '-')}" for name in flags)}
    assert len(rows) == len(explained)
    listed = understudy("--help", cwd=tmp_path, env={"COLUMNS": "300"}).stdout
    summary = re.search(rf"│ {command} +(\S.*?) *│", listed)
    assert summary is not None
    assert summary[1] in result.stdout


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small trace."""
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    path.write_text(TRACE, encoding="utf-8")
    return path


def simulated(trace: Path, choices: dict[str, Any]) -> Any:
    """Return the summary of a simulation with some flags, on two small engines with a context of 1,024."""
    arguments = [
        word for name, value in {"max_model_len": 1024, **choices}.items() for word in flag(name, value)
    ]
    status, text = output_of("simulate", str(trace), "--json", "--workers", "2", *arguments)
    assert status == 0, text
    return json.loads(text)


def flag(name: str, value: object) -> list[str]:
    """Return a flag as a person writes it."""
    word = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{word}" if value else f"--no-{word}"]
    return [f"--{word}", str(value)]


def test_no_engine_flag_is_forgotten_here() -> None:
    """The properties below draw values for every flag of the engine."""
    assert set(ENGINE_VALUES) == {field.name for field in fields(EngineChoices)}


@settings(max_examples=40)
@given(choices=st.fixed_dictionaries({}, optional=ENGINE_VALUES))
def test_engine_flags_reach_the_engine(trace: Path, choices: dict[str, Any]) -> None:
    """The settings of a run are what was given, and for the rest what they are where nothing was given."""
    chosen, usual = simulated(trace, choices)["settings"], simulated(trace, {})["settings"]
    given_as = {**choices}
    for name in ("gpu_memory_utilization", "kv_cache_memory_bytes"):
        given_as.pop(name, None)
    if "num_gpu_blocks_override" in given_as:
        given_as["num_gpu_blocks"] = given_as.pop("num_gpu_blocks_override")
    assert {name: chosen[name] for name in given_as} == given_as
    others = set(usual) - set(given_as) - FOLLOW_FROM_OTHERS
    assert {name: chosen[name] for name in others} == {name: usual[name] for name in others}


@settings(max_examples=40)
@given(
    choices=st.fixed_dictionaries(
        {}, optional={name: ENGINE_VALUES[name] for name in CAPACITY if name != "json"}
    )
)
def test_memory_flags_give_the_blocks_that_capacity_says(trace: Path, choices: dict[str, Any]) -> None:
    """The flags that simulate and capacity share mean the same to both."""
    shared = {"max_model_len": 1024, **choices}
    words = [word for name, value in shared.items() for word in flag(name, value)]
    status, text = output_of("capacity", "llama-2-13b", "a100-40gb", "--json", *words)
    assert status == 0, text
    assert simulated(trace, choices)["settings"]["num_gpu_blocks"] == json.loads(text)["num_gpu_blocks"]


@settings(max_examples=40)
@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
def test_latency_flags_reach_the_engine(trace: Path, base_ms: int, block_ms: int, decode_ms: int) -> None:
    """A request alone: base and 37 whole blocks of 600 tokens until the first token, then four steps."""
    choices = {
        "limit": 1,
        "async_scheduling": False,
        "prefill_base_seconds": base_ms / 1000,
        "prefill_seconds_per_block": block_ms / 1000,
        "decode_seconds_per_step": decode_ms / 1000,
    }
    (run,) = simulated(trace, choices)["runs"]
    first_ms = base_ms + 37 * block_ms
    assert run["ttft"]["mean"] == pytest.approx(first_ms / 1000, abs=1e-9)
    assert run["e2e"]["mean"] == pytest.approx((first_ms + 4 * decode_ms) / 1000, abs=1e-9)
