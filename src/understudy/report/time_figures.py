"""Figures over virtual time: KV use, running and waiting requests, of the fleet and of every worker."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from understudy.fleet.summary import RunSummary
from understudy.report.axes import Axis, count_axis, share_axis, time_axis
from understudy.report.charts import SMALL, Line, Words, line_chart
from understudy.report.figure import Caption, Figure, legend, nothing, of_each
from understudy.report.formats import count, percent, significant
from understudy.report.rows import spread
from understudy.report.timelines import Pick, Point, fleet_mean, fleet_sum, thinned

_MOST_POINTS = 200
_MOST_WORKERS = 64
_POINTS_OF_ALL_WORKERS = 6000
_FEWEST_POINTS_OF_A_WORKER, _MOST_POINTS_OF_A_WORKER = 24, 100

_AVERAGES = "Averages over equal spans of virtual time"


def time_figures(runs: Sequence[RunSummary]) -> list[Figure]:
    """Return KV use, running and waiting requests over time, and KV use of each of several workers."""
    kv = Caption(
        "kv",
        "KV cache in use, mean of the workers",
        f"Referenced blocks over all blocks but the null block. {_AVERAGES}, then the mean over the workers.",
    )
    summed = f"{_AVERAGES}, then the sum over the workers."
    kv_use = [fleet_mean(run, lambda series: series.kv_usage, _MOST_POINTS) for run in runs]
    fleet = [
        _over_time(kv, runs, kv_use, share_axis("share of KV blocks"), percent),
        _fleet_count(
            Caption("running", "Requests running, whole fleet", summed), runs, lambda series: series.running
        ),
        _fleet_count(
            Caption("waiting", "Requests waiting, whole fleet", summed), runs, lambda series: series.waiting
        ),
    ]
    several_workers = any(len(run.workers) > 1 for run in runs)
    return [*fleet, _every_worker(runs)] if several_workers else fleet


def _fleet_count(caption: Caption, runs: Sequence[RunSummary], pick: Pick) -> Figure:
    found = [fleet_sum(run, pick, _MOST_POINTS) for run in runs]
    highest = max((value for points in found for _, value in points), default=0.0)
    return _over_time(caption, runs, found, count_axis("requests", highest), significant)


def _over_time(
    caption: Caption,
    runs: Sequence[RunSummary],
    found: Sequence[list[Point]],
    y: Axis,
    text: Callable[[float], str],
) -> Figure:
    if not any(found):
        return nothing(caption)
    words = Words(caption.key, caption.title, _range_of_each(runs, found, text))
    lines = [Line(style, points) for style, points in enumerate(found)]
    return Figure(caption, legend(runs) + line_chart(words, lines, _whole_time(runs), y))


def _every_worker(runs: Sequence[RunSummary]) -> Figure:
    numbers = sorted({worker.worker for run in runs for worker in run.workers})
    shown = numbers[:_MOST_WORKERS]
    budget = _POINTS_OF_ALL_WORKERS // max(len(shown) * len(runs), 1)
    most_points = min(max(budget, _FEWEST_POINTS_OF_A_WORKER), _MOST_POINTS_OF_A_WORKER)
    by_worker = {number: [_kv_use(run, number, most_points) for run in runs] for number in shown}
    axis = _whole_time(runs, most_steps=3)
    caption = Caption("kv-workers", "KV cache in use, worker by worker", _how_of_workers(axis, len(numbers)))
    if not any(points for found in by_worker.values() for points in found):
        return nothing(caption)
    drawn = "".join(
        _small(runs, number, found, replace(axis, label="")) for number, found in by_worker.items()
    )
    return Figure(caption, f'{legend(runs)}<div class="small">{drawn}</div>', wide=True)


def _how_of_workers(axis: Axis, workers: int) -> str:
    how = f"The same averages, of each worker alone. Across: {axis.label}; up: share of KV blocks."
    if workers > _MOST_WORKERS:
        how += f" The first {_MOST_WORKERS} of {count(workers)} workers."
    return how


def _small(runs: Sequence[RunSummary], number: int, found: Sequence[list[Point]], x: Axis) -> str:
    words = Words(f"kv-w{number}", f"KV cache in use, worker {number}", _range_of_each(runs, found, percent))
    lines = [Line(style, points) for style, points in enumerate(found)]
    drawing = line_chart(words, lines, x, share_axis("", steps=2), SMALL)
    return f'<div class="panel"><p>worker {number}</p>{drawing}</div>'


def _kv_use(run: RunSummary, number: int, most_points: int) -> list[Point]:
    series = next((worker.series for worker in run.workers if worker.worker == number), None)
    return thinned(series.kv_usage, series.interval_seconds, most_points) if series else []


def _range_of_each(
    runs: Sequence[RunSummary], found: Sequence[list[Point]], text: Callable[[float], str]
) -> str:
    return of_each(runs, (spread((value for _, value in points), text) for points in found))


def _whole_time(runs: Sequence[RunSummary], most_steps: int = 5) -> Axis:
    """Return an axis from the start to the end of the longest run."""
    return time_axis("virtual time", max(run.duration_seconds for run in runs), most_steps)
