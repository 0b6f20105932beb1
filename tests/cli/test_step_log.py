"""`understudy step-log`: vLLM's own log where there is a recording, and one line for what cannot run."""

import json
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.processes import understudy
from tests.conformance.recordings import read_recording

from understudy.engine import EngineConfig, step_log
from understudy.engine.step_log import StepRequest
from understudy.errors import InputError

RECORDINGS = Path(__file__).parents[1] / "conformance" / "step_logs"
CONFIG = {
    "block_size": 4,
    "num_gpu_blocks": 8,
    "max_model_len": 24,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 16,
}
REQUEST = {"id": "a", "arrive_step": 0, "prompt": [1, 2, 3, 4, 5], "max_tokens": 3, "outputs": [6, 7, 8]}


def write(folder: Path, config: object, requests: list[object]) -> None:
    """Write a configuration and a workload; a text stands as it is."""
    (folder / "config.json").write_text(
        config if isinstance(config, str) else json.dumps(config), encoding="utf-8"
    )
    lines = [line if isinstance(line, str) else json.dumps(line) for line in requests]
    (folder / "workload.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize("name", ["sync_0200", "sync_0205", "async_0200", "async_0205"])
def test_it_prints_the_log_of_vllm(tmp_path: Path, name: str) -> None:
    """Line by line what vLLM's scheduler decided, with the seed of the hashes from PYTHONHASHSEED as vLLM takes it."""
    case, hash_seed, recorded = read_recording(RECORDINGS / f"{name}.json.gz")
    write(tmp_path, case.config, [*case.workload])
    result = understudy(
        "step-log", "config.json", "workload.jsonl", cwd=tmp_path, env={"PYTHONHASHSEED": hash_seed}
    )
    assert (result.status, result.stderr) == (0, "")
    assert [json.loads(line) for line in result.stdout.splitlines()] == recorded


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({**CONFIG, "blok_size": 16}, ("unknown setting 'blok_size'", "block_size")),
        ({**CONFIG, "block_size": "x"}, ("block_size", "int")),
        ({**CONFIG, "block_size": 0}, ("block_size", "at least 1")),
        ({**CONFIG, "scheduling_policy": "lifo"}, ("scheduling_policy", "lifo")),
        ({"block_size": 4}, ("num_gpu_blocks",)),
        ([], ("object",)),
        ("{", ("truncated",)),
        ("", ("truncated",)),
    ],
)
def test_a_bad_configuration(tmp_path: Path, config: object, told: tuple[str, ...]) -> None:
    """One line with the file and the setting."""
    write(tmp_path, config, [REQUEST])
    result = understudy("step-log", "config.json", "workload.jsonl", cwd=tmp_path)
    assert result.status == 1
    assert all(part in result.error for part in ("config.json", *told)), result.error


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({**REQUEST, "id": "b", "arive_step": 1}, ("line 2", "unknown field 'arive_step'", "arrive_step")),
        ({"id": "b"}, ("line 2", "arrive_step")),
        ({**REQUEST, "id": "b", "max_tokens": "3"}, ("line 2", "max_tokens", "int")),
        ({**REQUEST, "id": "b", "max_tokens": 0}, ("line 2", "max_tokens", "at least 1")),
        ({**REQUEST, "id": "b", "prompt": []}, ("line 2", "prompt", "at least one")),
        ({**REQUEST, "id": "b", "prompt": [5, -1]}, ("line 2", "prompt", "-1")),
        ({**REQUEST, "id": "b", "arrive_step": -1}, ("line 2", "arrive_step", "-1")),
        ({**REQUEST, "id": "b", "arrive_step": 10**9}, ("line 2", "arrive_step", "199,999")),
        ("[]", ("line 2", "object")),
        ("{", ("line 2", "truncated")),
        (REQUEST, ("two requests", "'a'")),
        ({**REQUEST, "id": "b", "prompt": [1] * 24}, ("'b'", "24 tokens", "max_model_len is 24")),
    ],
)
def test_a_bad_workload(tmp_path: Path, second: object, told: tuple[str, ...]) -> None:
    """One line with the file, and the line and field or the request; nothing is printed before."""
    write(tmp_path, CONFIG, [REQUEST, second])
    result = understudy("step-log", "config.json", "workload.jsonl", cwd=tmp_path)
    assert result.status == 1
    assert all(part in result.error for part in ("workload.jsonl", *told)), result.error


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Named in one line, as is a workload without requests."""
    result = understudy("step-log", "config.json", "workload.jsonl", cwd=tmp_path)
    assert (result.status, "config.json" in result.error) == (1, True)
    write(tmp_path, CONFIG, [])
    result = understudy("step-log", "config.json", "workload.jsonl", cwd=tmp_path)
    assert (result.status, "holds no requests" in result.error) == (1, True)


@given(
    block_size=st.integers(1, 5),
    num_prompt_tokens=st.integers(1, 12),
    max_tokens=st.integers(1, 12),
    usable_blocks=st.integers(1, 12),
    max_model_len=st.integers(13, 20),
    flags=st.fixed_dictionaries(
        {
            "async_scheduling": st.booleans(),
            "enable_prefix_caching": st.booleans(),
            "scheduler_reserve_full_isl": st.booleans(),
            "watermark": st.sampled_from([0.0, 0.3]),
        }
    ),
)
def test_a_lone_request_ends_if_and_only_if_it_fits(
    *,
    block_size: int,
    num_prompt_tokens: int,
    max_tokens: int,
    usable_blocks: int,
    max_model_len: int,
    flags: dict[str, Any],
) -> None:
    """What is refused before the first step would never finish; what is let in does."""
    config = EngineConfig(
        block_size=block_size,
        num_gpu_blocks=usable_blocks + 1,
        max_model_len=max_model_len,
        max_num_seqs=2,
        max_num_batched_tokens=64,
        **flags,
    )
    prompt = tuple(range(num_prompt_tokens))
    request = StepRequest(id="a", arrive_step=0, prompt=prompt, max_tokens=max_tokens, outputs=())
    with patch.object(step_log, "_check_fits"):
        unchecked = islice(step_log.step_log(config, [request]), 300)
        ends = any(line["finished"] for line in unchecked)
    if ends:
        assert list(step_log.step_log(config, [request], check=True))[-1]["finished"] == [["a", "length"]]
    else:
        with pytest.raises(InputError, match="'a'"):
            next(step_log.step_log(config, [request]))
