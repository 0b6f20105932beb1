"""Series over time, made short enough to draw: averages of the whole fleet or of one worker."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from understudy.fleet.summary import RunSummary, Series

Point = tuple[float, float]
"""Seconds from the start of the run, and a value."""

Pick = Callable[[Series], list[float]]


def fleet_mean(run: RunSummary, pick: Pick, most_points: int) -> list[Point]:
    """Return the mean over the workers; a worker whose series ended earlier no longer counts."""
    return _combined(run, pick, most_points, fmean)


def fleet_sum(run: RunSummary, pick: Pick, most_points: int) -> list[Point]:
    """Return the sum over the workers; a worker whose series ended earlier adds nothing."""
    return _combined(run, pick, most_points, math.fsum)


def thinned(values: Sequence[float], interval_seconds: float, most_points: int) -> list[Point]:
    """Return at most so many points, each the average of equally many values, at the middle of their time."""
    size = _group_size(len(values), most_points)
    points = []
    for start in range(0, len(values), size):
        group = values[start : start + size]
        points.append(((start + len(group) / 2) * interval_seconds, fmean(group)))
    return points


def _combined(
    run: RunSummary, pick: Pick, most_points: int, combine: Callable[[list[float]], float]
) -> list[Point]:
    """Thin every worker's series in step with the longest, then combine them; all have the same interval."""
    known = [worker.series for worker in run.workers if worker.series is not None]
    longest = max(known, key=lambda series: len(pick(series)), default=None)
    if longest is None:
        return []
    size = _group_size(len(pick(longest)), most_points)
    each = [_group_means(pick(series), size) for series in known]
    moments = [seconds for seconds, _ in thinned(pick(longest), longest.interval_seconds, most_points)]
    return [
        (seconds, combine([means[index] for means in each if index < len(means)]))
        for index, seconds in enumerate(moments)
    ]


def _group_size(length: int, most_points: int) -> int:
    return max(math.ceil(length / most_points), 1)


def _group_means(values: Sequence[float], size: int) -> list[float]:
    return [fmean(values[start : start + size]) for start in range(0, len(values), size)]
