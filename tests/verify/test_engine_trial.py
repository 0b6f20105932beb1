"""The engine in virtual time against a log of single steps."""

from copy import deepcopy

import pytest

from understudy.verify.cases import Case, random_case
from understudy.verify.engine_trial import KEY, TICK_NS, compare_engine, expected_timeline, suits_engine
from understudy.verify.tally import Tallies
from understudy.verify.trial import run_case

CASES = [case for case in (random_case(seed, num_requests=8) for seed in range(40)) if suits_engine(case)]


@pytest.mark.parametrize("case", CASES)
def test_steps_at_once_equal_single_steps(case: Case) -> None:
    """What our scheduler does step by step is what our engine does in its own time."""
    tallies = Tallies()
    assert compare_engine(case, run_case(case), tallies, "here") is None
    assert tallies[KEY].comparisons >= len(case.workload)


@pytest.mark.parametrize("case", [case for case in CASES if case.config["num_gpu_blocks"] > 1][:8])
def test_another_log_disagrees(case: Case) -> None:
    """An iteration more that computes something cannot pass."""
    theirs = run_case(case)
    step = next(i for i, record in enumerate(theirs.log) if record["scheduled"] and record["completed"])
    theirs.log.insert(step, deepcopy(theirs.log[step]))
    assert compare_engine(case, theirs, Tallies(), "here") is not None


def test_times_follow_from_the_log() -> None:
    """One request, synchronous: a step a token, each a tick long, and the first of them computes the prompt."""
    case = next(case for case in CASES if not case.config["async_scheduling"])
    line = case.workload[0] | {"arrive_step": 0, "max_tokens": 3}
    line = {key: line[key] for key in ("id", "arrive_step", "prompt", "max_tokens", "priority", "outputs")}
    config = case.config | {"max_num_scheduled_tokens": None, "max_num_batched_tokens": 4096}
    config |= {"max_model_len": 4096, "num_gpu_blocks": 5000, "long_prefill_token_threshold": 0}
    alone = Case(config, [line], [], fills_pipeline=True)
    timeline, _ = expected_timeline(alone, run_case(alone))
    times = timeline.requests[line["id"]]
    assert (times.queued_ns, times.scheduled_ns) == (0, 0)
    assert (times.first_token_ns, times.last_token_ns) == (TICK_NS, 3 * TICK_NS)
    assert timeline.num_steps == 3
    assert timeline.gaps_ns == {TICK_NS: 2}


def test_a_step_that_only_preempts_is_followed_by_another() -> None:
    """The one request that decodes finds no room, and the prompts that were put off for it go on at once."""
    config = {
        "num_gpu_blocks": 35,
        "max_model_len": 46,
        "block_size": 2,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 46,
        "enable_prefix_caching": False,
        "async_scheduling": False,
        "long_prefill_token_threshold": 1,
        "prefill_schedule_interval": 2,
    }
    lengths = {"a": (23, 1), "b": (23, 1), "c": (20, 6)}
    workload = [
        {"id": name, "arrive_step": 0, "prompt": [0] * prompt, "max_tokens": answer}
        | {"priority": 0, "outputs": []}
        for name, (prompt, answer) in lengths.items()
    ]
    case = Case(
        {"enable_chunked_prefill": True, "scheduling_policy": "fcfs", **config},
        workload,
        [],
        fills_pipeline=True,
    )
    theirs = run_case(case)
    assert any(record["preempted"] and not record["scheduled"] for record in theirs.log)
    assert compare_engine(case, theirs, Tallies(), "here") is None
