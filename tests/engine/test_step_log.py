"""The step log refuses workloads that cannot be run; what it answers to others is compared with vLLM's own elsewhere."""

from dataclasses import replace

import pytest

from understudy.engine import EngineConfig
from understudy.engine import step_log as module
from understudy.engine.step_log import StepRequest, step_log
from understudy.errors import InputError

CONFIG = EngineConfig(num_gpu_blocks=5, max_model_len=64, block_size=4)
REQUEST = StepRequest(id="one", arrive_step=0, prompt=(1, 2, 3), max_tokens=4, outputs=(5, 6))


def test_it_ends_with_the_last_request() -> None:
    """Four tokens take four steps, of which the last two sample token 0; a gap before an arrival is logged, too."""
    late = replace(REQUEST, id="late", arrive_step=7)
    records = list(step_log(replace(CONFIG, async_scheduling=False), [late, REQUEST], check=True))
    assert [record["scheduled"] for record in records] == [
        *([["one", 3]], [["one", 1]], [["one", 1]], [["one", 1]]),
        *([], [], []),
        *([["late", 3]], [["late", 1]], [["late", 1]], [["late", 1]]),
    ]
    assert [record["step"] for record in records] == list(range(11))
    assert [record["finished"] for record in records if record["finished"]] == [
        [["one", "length"]],
        [["late", "length"]],
    ]


def test_a_stop_token_among_the_exhausted_outputs() -> None:
    """Token 0 follows the outputs that are given, and may be the one that stops."""
    stopping = replace(REQUEST, stop_token_ids=(0,))
    records = list(step_log(replace(CONFIG, async_scheduling=False), [stopping]))
    assert len(records) == 3
    assert records[-1]["finished"] == [["one", "stop"]]


def test_refuses_two_requests_with_one_id() -> None:
    """Neither would be known by its id."""
    with pytest.raises(InputError, match=r"two requests .*'one'"):
        list(step_log(CONFIG, [REQUEST, REQUEST]))


def test_refuses_a_request_that_cannot_fit() -> None:
    """The message names the request, what it needs and what there is; the largest that fits runs to its end."""
    largest = replace(REQUEST, max_tokens=14)
    records = list(step_log(CONFIG, [largest], check=True))
    assert records[-1]["finished"] == [["one", "length"]]
    with pytest.raises(InputError, match=r"'one'.* 5 blocks.* 4 "):
        list(step_log(CONFIG, [replace(REQUEST, max_tokens=15)]))


def test_refuses_a_workload_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a named limit."""
    monkeypatch.setattr(module, "MAX_STEPS", 3)
    with pytest.raises(InputError, match="does not end within 3 steps"):
        list(step_log(CONFIG, [REQUEST]))
