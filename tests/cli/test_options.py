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

from understudy.cli.options import ArrivalOptions, ArrivalPattern, FleetOptions, OutputOptions
from understudy.cli.replay import SendingOptions
from understudy.engine.config import HASH_ALGORITHMS
from understudy.fleet import EngineChoices, LatencyChoices, MemoryChoices

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
REPLAY = [
    *("url", "api_key"),
    *(field.name for group in (SendingOptions, ArrivalPattern) for field in fields(group)),
    *OUTPUT,
]
CAPACITY = [*(field.name for field in fields(MemoryChoices)), "json"]

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
    "max_num_scheduled_tokens": st.integers(2000, 2048),
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
FOLLOW_FROM_OTHERS = {
    *("num_gpu_blocks", "max_model_len", "max_num_batched_tokens", "max_num_seqs", "latency"),
    *(field.name for field in fields(LatencyChoices)),
}


@pytest.mark.parametrize(
    ("command", "arguments", "flags"),
    [
        ("simulate", ["TRACE"], EXPERIMENT),
        ("compare", ["TRACE"], [*EXPERIMENT, "with"]),
        ("replay", ["TRACE"], REPLAY),
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
        r"^│ (?:\* )? *(--[a-z-]+|[A-Z]+)\b.*? {2,}(\S.*?) *│$", result.stdout, flags=re.MULTILINE
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
    if "num_gpu_blocks_override" in given_as:
        given_as["num_gpu_blocks"] = given_as["num_gpu_blocks_override"]
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


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        ("-tp 2", "tensor_parallel_size", 2),
        ("-pp 2", "pipeline_parallel_size", 2),
        ("--max-model-len 1k", "max_model_len", 1000),
        ("--max-model-len 1K", "max_model_len", 1024),
        ("--max-num-batched-tokens 4.5k", "max_num_batched_tokens", 4500),
        ("--max-num-scheduled-tokens 2K", "max_num_scheduled_tokens", 2048),
        ("--kv-cache-memory-bytes 9G", "kv_cache_memory_bytes", 9 * 2**30),
        ("--device-memory-utilization 0.95", "gpu_memory_utilization", 0.95),
        ("--disable-prefix-caching", "enable_prefix_caching", False),
        ("--no-enable-prefix-caching", "enable_prefix_caching", False),
        ("--disable-chunked-prefill", "enable_chunked_prefill", False),
        ("--max-model-len auto", "max_model_len", 4096),
        ("--max-model-len -1 --num-gpu-blocks-override 101", "max_model_len", 1600),
    ],
)
def test_flags_may_be_spelt_as_vllm_takes_them(trace: Path, flags: str, name: str, value: float) -> None:
    """Short names, counts with a suffix, both ways to switch off, and a context as long as the cache."""
    status, text = output_of("simulate", str(trace), "--json", *flags.split())
    assert status == 0, text
    assert json.loads(text)["settings"][name] == value


NEWS = ("news_delay_seconds", "heartbeat_seconds", "synchronisation_seconds")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--knowledge exact", ()),
        ("--knowledge own", ()),
        ("--knowledge events", (0.05, 1.0)),
        ("--knowledge events --heartbeat-seconds 3", (0.05, 3.0)),
        ("--knowledge heartbeat", (0.05, 1.0, 5.0)),
        ("--knowledge heartbeat --heartbeat-seconds 3 --news-delay-seconds 0", (0.0, 3.0, 15.0)),
        ("--knowledge heartbeat --synchronisation-seconds 2", (0.05, 1.0, 2.0)),
    ],
)
def test_settings_list_the_delays_that_apply(trace: Path, flags: str, expected: tuple[float, ...]) -> None:
    """With their values, given or not; what does nothing under the router's knowledge is not there."""
    status, text = output_of("simulate", str(trace), "--json", *flags.split())
    assert status == 0, text
    found = json.loads(text)["settings"]
    assert tuple(found[name] for name in NEWS if name in found) == expected
    assert [name for name in NEWS if name in found] == list(NEWS[: len(expected)])


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
    summary = simulated(trace, choices)
    constants = {
        name: summary["settings"][name] for name in choices if name.endswith(("_seconds", "_block", "_step"))
    }
    assert constants == {name: choices[name] for name in constants}
    assert len(constants) == 3
    (run,) = summary["runs"]
    first_ms = base_ms + 37 * block_ms
    assert run["ttft"]["mean"] == pytest.approx(first_ms / 1000, abs=1e-9)
    assert run["e2e"]["mean"] == pytest.approx((first_ms + 4 * decode_ms) / 1000, abs=1e-9)
