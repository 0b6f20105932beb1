"""What `simulate`, `compare` and `demo` do: check every choice, run the policies, print and write the results."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

from understudy import VLLM_VERSION, __version__
from understudy.cli.advice import notes_on
from understudy.cli.beside import load_results, with_others
from understudy.cli.command_line import command_line
from understudy.cli.options import ArrivalOptions, FleetOptions, OutputOptions
from understudy.cli.progress import progress_on
from understudy.cli.results import plain_text, results_path, tell
from understudy.cli.user_policy import load_user_policy
from understudy.fleet import (
    Comparison,
    EngineChoices,
    EngineSetup,
    FinishedRuns,
    FleetConfig,
    LatencyChoices,
    ResultsFolder,
    engine_setup,
    run_policies,
    write_results,
)
from understudy.report import comparison_html
from understudy.routing import Choose, load_policy
from understudy.workload import Trace, open_trace


@dataclass(frozen=True, slots=True)
class Experiment:
    """One command line, parsed; `words` are what stands before the flags of the option groups."""

    words: Sequence[str]
    trace: str
    policies: Sequence[str]
    fleet: FleetOptions
    arrivals: ArrivalOptions
    engine: EngineChoices
    latency: LatencyChoices
    output: OutputOptions
    beside: Sequence[Path] = ()
    """Folders of results to be put beside those of the policies."""


def run_experiment(experiment: Experiment) -> int:
    """Run an experiment, print and write what it found, and return the exit status."""
    # A user's policy may print, but standard output is for the JSON document alone.
    with redirect_stdout(sys.stderr) if experiment.output.json else nullcontext():
        comparison, path = _run(experiment)
    return tell(comparison, path, as_json=experiment.output.json)


def _run(experiment: Experiment) -> tuple[Comparison, Path | None]:
    """Return the results, and their folder if there is one; all that can be checked is checked before the first run."""
    experiment.fleet.check()
    experiment.arrivals.check()
    others = [load_results(folder) for folder in experiment.beside]
    setup = engine_setup(experiment.fleet.model, experiment.fleet.gpu, experiment.engine, experiment.latency)
    configs = [_fleet_config(experiment, setup, name) for name in experiment.policies]
    trace = open_trace(experiment.trace, limit=experiment.arrivals.limit)
    with ExitStack() as stack:
        path = results_path(experiment.output)
        folder = None if path is None else stack.enter_context(ResultsFolder(path))
        with progress_on(sys.stderr, experiment.arrivals.limit or trace.num_requests) as progress:
            finished = run_policies(
                configs, lambda: experiment.arrivals.arrange(trace, experiment.fleet.seed), progress
            )
        comparison = with_others(_comparison(experiment, setup, trace, finished), others)
        if folder is not None:
            records = {run.summary.policy: run.records for run in finished.runs}
            write_results(folder, comparison, records, comparison_html(comparison))
    return comparison, path


def _fleet_config(experiment: Experiment, setup: EngineSetup, policy: str) -> FleetConfig:
    return FleetConfig(
        engine=setup.config,
        latency=setup.latency,
        num_workers=experiment.fleet.workers,
        policy=plain_text(policy),
        choose=_choose(policy),
        knowledge=experiment.fleet.router_knowledge(),
        news=experiment.fleet.news_timing(),
        seed=experiment.fleet.seed,
    )


def _choose(policy: str) -> Choose:
    return load_user_policy(policy) if ":" in policy or policy.endswith(".py") else load_policy(policy)


def _comparison(
    experiment: Experiment, setup: EngineSetup, trace: Trace, finished: FinishedRuns
) -> Comparison:
    engine, latency = experiment.engine, setup.latency
    options = (experiment.fleet, experiment.arrivals, engine, experiment.latency)
    chosen = asdict(experiment.fleet) | asdict(experiment.arrivals)
    settings = {
        **{name: value for name, value in chosen.items() if value is not None},
        **experiment.fleet.news_seconds(),
        **asdict(setup.config),
        "num_gpu_blocks_override": engine.num_gpu_blocks_override,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "kv_cache_memory_bytes": engine.kv_cache_memory_bytes,
        "kv_cache_dtype": engine.kv_cache_dtype,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "pipeline_parallel_size": engine.pipeline_parallel_size,
        "trace_format": trace.format,
        "prefill_base_seconds": latency.prefill_base_seconds,
        "prefill_cached_seconds": latency.prefill_cached_seconds,
        "prefill_seconds_per_block": latency.prefill_seconds_per_block,
        "prefill_tokens_per_block": latency.block_size,
        "decode_seconds_per_step": latency.decode_seconds_per_step,
        "latency": setup.latency_source,
    }
    return Comparison(
        understudy_version=__version__,
        vllm_version=VLLM_VERSION,
        command=plain_text(command_line(experiment.words, options)),
        trace=plain_text(trace.name),
        trace_sha256=trace.sha256,
        settings=settings,
        notes=[*setup.notes, *notes_on(finished.runs, setup, experiment.fleet.model, experiment.engine)],
        interrupted=finished.interrupted,
        runs=[run.summary for run in finished.runs],
    )
