"""One workload under one or more policies: runs them one after another and keeps what is done when interrupted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.fleet.record import RequestRecord
from understudy.fleet.simulation import FleetConfig, Simulation
from understudy.fleet.summarise import summarise
from understudy.fleet.summary import RunSummary
from understudy.workload import Arrivals

ProgressCallback = Callable[[str, int], None]
"""Told the policy and how many of its requests have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """What one policy came to."""

    summary: RunSummary
    records: list[RequestRecord]
    num_shortened: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRuns:
    """All runs that took place, the last one perhaps in part."""

    runs: list[FinishedRun]
    interrupted: bool


def run_policies(
    configs: Sequence[FleetConfig],
    arrivals: Callable[[], Arrivals],
    progress: ProgressCallback = lambda _policy, _count: None,
) -> FinishedRuns:
    """Run each configuration on fresh arrivals, which must be the same each time.

    A KeyboardInterrupt ends the run that is under way; what it has finished is kept, later runs do not take place.
    """
    runs: list[FinishedRun] = []
    for config in configs:
        try:
            run, interrupted = _run(config, arrivals, progress)
        except KeyboardInterrupt:
            if not runs:
                raise
            return FinishedRuns(runs=runs, interrupted=True)
        runs.append(run)
        if interrupted:
            return FinishedRuns(runs=runs, interrupted=True)
    return FinishedRuns(runs=runs, interrupted=False)


def _run(
    config: FleetConfig, arrivals: Callable[[], Arrivals], progress: ProgressCallback
) -> tuple[FinishedRun, bool]:
    """Return what one policy came to, and whether it was interrupted."""
    simulation = Simulation(config, arrivals())
    interrupted = False
    try:
        simulation.run(lambda count: progress(config.policy, count))
    except KeyboardInterrupt:
        interrupted = True
    simulation.finish()
    run = FinishedRun(
        summary=summarise(simulation), records=simulation.records, num_shortened=simulation.num_shortened
    )
    return run, interrupted
