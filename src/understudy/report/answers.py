"""The answer in a line: what each policy achieved, against a baseline where there is one."""

from collections.abc import Sequence

from understudy.fleet.summary import RunSummary
from understudy.report.formats import duration, percent, plural

_USUAL_BASELINE = "round-robin"


def baseline_of(runs: Sequence[RunSummary]) -> RunSummary:
    """Return the run that others are measured against: round-robin where it ran, otherwise the first."""
    return next((run for run in runs if run.policy == _USUAL_BASELINE), runs[0])


def achievement(run: RunSummary, baseline: RunSummary) -> str:
    """Return what the policy achieved: '41.0 % of prompt tokens from cache, p99 TTFT ..., ... less than ...'."""
    parts = []
    if run.prompt_tokens:
        parts.append(f"{percent(run.hit_rate_tokens)} of prompt tokens from cache")
    if run.ttft.p99 is None:
        parts.append("no request finished")
    else:
        parts.append(f"p99 TTFT {duration(run.ttft.p99)}")
        if run is not baseline and baseline.ttft.p99 is not None:
            parts.append(_difference(run.ttft.p99 - baseline.ttft.p99, baseline.policy))
    parts += _shortfalls(run)
    return ", ".join(parts)


def _difference(seconds: float, against: str) -> str:
    if not round(seconds, 6):
        return f"the same as {against}"
    return f"{duration(abs(seconds))} {'less' if seconds < 0 else 'more'} than {against}"


def _shortfalls(run: RunSummary) -> list[str]:
    refused = run.refused.prompt_longer_than_context
    parts = []
    if refused:
        parts.append(f"{plural(refused, 'request')} refused")
    if run.unfinished:
        parts.append(f"{plural(run.unfinished, 'request')} unfinished")
    return parts
