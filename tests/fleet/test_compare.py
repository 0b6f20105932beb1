"""One workload under several policies, and what is kept when somebody interrupts."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.drive import ContextLatency
from tests.fleet.scenes import LINEAR, fleet, fleets, known, law, simulate, turn, workloads

from understudy.engine import EngineConfig
from understudy.fleet import (
    Comparison,
    FleetConfig,
    RunSummary,
    run_policies,
    summarise,
    to_json,
)
from understudy.latency import StepShape
from understudy.routing import load_policy
from understudy.workload import Arrivals, OpenLoop, WorkloadRequest

POLICIES = ("prefix", "round-robin", "least-loaded")
WORKLOAD = [turn(i, 3_000 * i, i % 3, 70 if i % 10 == 9 else 20, 12) for i in range(40)]


class Fresh:
    """Gives the same requests each time it is asked, and counts how often that is."""

    def __init__(self, workload: Sequence[WorkloadRequest]) -> None:
        self.times = 0
        self._workload = workload

    def __call__(self) -> Arrivals:
        """Return arrivals that nobody has taken from."""
        self.times += 1
        return OpenLoop(self._workload)


class InterruptedLatency(ContextLatency):
    """Stands for a user who presses Ctrl-C while some step is decided."""

    def __init__(self, calls: int) -> None:
        self._calls = calls

    def step_ns(self, shape: StepShape) -> int:
        """Raise KeyboardInterrupt at the call before which so many went well."""
        if self._calls == 0:
            raise KeyboardInterrupt
        self._calls -= 1
        return super().step_ns(shape)


def test_each_policy_gets_the_same_requests() -> None:
    """One after another, each on arrivals of its own; a run in company equals a run alone."""
    configs = [fleet(policy=policy) for policy in POLICIES]
    fresh = Fresh(WORKLOAD)
    finished = run_policies(configs, fresh)
    assert not finished.interrupted
    assert fresh.times == len(POLICIES)
    assert [run.summary.policy for run in finished.runs] == list(POLICIES)
    for config, run in zip(configs, finished.runs, strict=True):
        alone = simulate(config, WORKLOAD)
        assert run.records == alone.records
        assert run.summary == summarise(alone)
        assert run.num_shortened == alone.num_shortened


def test_progress_names_the_policy() -> None:
    """It is told of each arrival of each run."""
    told: list[tuple[str, int]] = []
    run_policies(
        [fleet(policy=policy) for policy in POLICIES],
        Fresh(WORKLOAD),
        lambda policy, count: told.append((policy, count)),
    )
    assert told == [(policy, count + 1) for policy in POLICIES for count in range(len(WORKLOAD))]


@pytest.mark.parametrize("arrived", [1, 17, len(WORKLOAD)])
def test_an_interruption_keeps_what_was_done(arrived: int) -> None:
    """Earlier runs stay whole; the one under way holds all that had arrived; later ones do not take place."""
    configs = [fleet(policy=policy) for policy in POLICIES]

    def progress(policy: str, count: int) -> None:
        if (policy, count) == ("round-robin", arrived):
            raise KeyboardInterrupt

    finished = run_policies(configs, Fresh(WORKLOAD), progress)
    assert finished.interrupted
    whole, part = finished.runs
    assert whole == run_policies(configs[:1], Fresh(WORKLOAD)).runs[0]
    assert part.summary.policy == "round-robin"
    assert part.summary.requests == len(part.records) == arrived
    statuses = [record.status for record in part.records]
    assert part.summary.finished == statuses.count("length")
    assert part.summary.refused.prompt_longer_than_context == statuses.count("refused")
    assert part.summary.unfinished == statuses.count("unfinished") > 0
    uninterrupted = simulate(configs[1], WORKLOAD).records
    for record in part.records:
        if record.status != "unfinished":
            assert record == uninterrupted[record.serial]
        else:
            assert record.finish_ns is None


@law
@given(fleets, workloads, st.integers(0, 100))
def test_an_interruption_may_come_in_the_middle_of_a_step(
    config: FleetConfig, workload: list[WorkloadRequest], calls: int
) -> None:
    """Wherever it comes, what is kept holds together and can be written."""
    config = fleet(
        config.engine,
        InterruptedLatency(calls),
        workers=config.num_workers,
        policy=config.policy,
        choose=config.choose,
        knowledge=config.knowledge,
        news=config.news,
    )
    finished = run_policies([config, config], Fresh(workload))
    assert finished.interrupted or len(finished.runs) == 2
    assert len(finished.runs) in {1, 2}
    for run in finished.runs:
        _assert_sound(run.summary)
        serials = [record.serial for record in run.records]
        assert serials == list(range(len(serials)))
    document = to_json(
        Comparison(
            understudy_version="",
            vllm_version="",
            command="",
            trace="",
            trace_sha256=None,
            settings={},
            notes=[],
            interrupted=finished.interrupted,
            runs=[run.summary for run in finished.runs],
        )
    )
    assert msgspec.json.decode(document, type=Comparison).interrupted is finished.interrupted


def _assert_sound(summary: RunSummary) -> None:
    """Shares are shares, also where the run ended in the middle of things."""
    assert summary.requests == (
        summary.finished + summary.unfinished + summary.refused.prompt_longer_than_context
    )
    for worker in summary.workers:
        peak = known(worker.kv_usage_peak)
        assert 0.0 <= known(worker.busy_fraction) <= 1.0
        assert 0.0 <= known(worker.kv_usage_mean) <= peak <= 1.0
        assert all(0.0 <= usage <= peak + 1e-6 for usage in known(worker.series).kv_usage)


def test_errors_are_not_interruptions(tmp_path: Path) -> None:
    """What the user must mend ends all runs."""

    def broken() -> Arrivals:
        raise OSError(f"{tmp_path} is gone")

    with pytest.raises(OSError, match="is gone"):
        run_policies([fleet()], broken)


@pytest.mark.parametrize("policy", ["round-robin", "prefix"])
def test_an_interrupted_run_finds_all_workers_at_one_time(policy: str) -> None:
    """Equal workers with equal work have done the same, and every token that was given is counted."""
    config = fleet(
        EngineConfig(num_gpu_blocks=400, max_model_len=2048, block_size=4),
        LINEAR,
        workers=4,
        policy=policy,
        choose=load_policy(policy),
    )
    answers = [turn(serial, 1_000 * serial, serial, 10, 300, kind="segments") for serial in range(16)]
    workload = [*answers, turn(16, 2_000_000, 99, 10, 300, kind="segments")]

    def progress(_policy: str, count: int) -> None:
        if count == len(workload):
            raise KeyboardInterrupt

    (run,) = run_policies([config], Fresh(workload), progress).runs
    assert run.summary.unfinished == len(workload)
    with_tokens = sum(record.first_token_ns is not None for record in run.records)
    assert run.summary.output_tokens == run.summary.itl.count + with_tokens
    tokens = [record.output_tokens for record in run.records[: len(answers)]]
    assert max(tokens) - min(tokens) <= 4
