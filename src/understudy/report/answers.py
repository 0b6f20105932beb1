"""The answer in a line: what each policy achieved, against a baseline where there is one."""

from collections.abc import Sequence

from understudy.fleet.summary import Comparison, RunSummary
from understudy.report.formats import count, duration, percent, plural

_USUAL_BASELINE = "round-robin"


def answers(comparison: Comparison) -> list[str]:
    """Return a sentence for each run, in order; a run stopped early is not measured against others."""
    complete = comparison.runs[:-1] if comparison.interrupted else comparison.runs
    baseline = baseline_of(complete)
    return [
        achievement(run, baseline if place < len(complete) else None)
        for place, run in enumerate(comparison.runs)
    ]


def number_of_runs(runs: Sequence[RunSummary]) -> str:
    """Return how many policies are compared: runs, where some are replays."""
    if all(run.kind == "simulation" for run in runs):
        return plural(len(runs), "policy", "policies")
    return plural(len(runs), "run")


def interruption(comparison: Comparison) -> str | None:
    """Return what a reader must know of runs that were stopped early, or None where all are whole."""
    if not comparison.interrupted:
        return None
    return (
        f"Interrupted: the run of {comparison.runs[-1].policy} was stopped early. Its figures cover only "
        "what had happened until then, and no policy after it was run."
    )


def baseline_of(runs: Sequence[RunSummary]) -> RunSummary | None:
    """Return the run that others are measured against: round-robin where it ran, or else the first, if any."""
    return next((run for run in runs if run.policy == _USUAL_BASELINE), next(iter(runs), None))


def achievement(run: RunSummary, baseline: RunSummary | None) -> str:
    """Return what the policy achieved: '41.0% of prompt tokens from cache; p99 TTFT ..., ... less than'."""
    parts = []
    if run.prompt_tokens and run.hit_rate_tokens is not None:
        parts.append(f"{percent(run.hit_rate_tokens)} of prompt tokens from cache")
    parts.append(_ttft(run, baseline))
    if run.refused.prompt_longer_than_context:
        parts.append(f"{count(run.refused.prompt_longer_than_context)} refused")
    if run.failed:
        parts.append(f"{count(sum(run.failed.values()))} failed")
    if run.unfinished:
        parts.append(f"{count(run.unfinished)} unfinished")
    return "; ".join(parts)


def _ttft(run: RunSummary, baseline: RunSummary | None) -> str:
    if run.ttft.p99 is None:
        return "no request finished"
    said = f"p99 TTFT {duration(run.ttft.p99)}"
    if baseline is None or baseline is run or baseline.ttft.p99 is None:
        return said
    more_seconds = run.ttft.p99 - baseline.ttft.p99
    if not round(more_seconds, 6):
        return f"{said}, the same as {baseline.policy}"
    direction = "less" if more_seconds < 0 else "more"
    return f"{said}, {duration(abs(more_seconds))} {direction} than {baseline.policy}"
