"""Figures of amounts: load per worker, matched prefix lengths, believed against true cached tokens."""

from collections.abc import Callable, Sequence

from understudy.fleet.summary import RunSummary, WorkerSummary
from understudy.report.axes import Axis, count_axis, share_axis
from understudy.report.charts import Words, bar_chart, lying_bars
from understudy.report.figure import Caption, Figure, nothing, panels
from understudy.report.formats import count, significant
from understudy.report.rows import bin_label, spread


def load_figures(runs: Sequence[RunSummary]) -> list[Figure]:
    """Return how many requests and tokens each worker had, and how much of the time it was busy."""
    requests = Caption("requests", "Requests per worker", "Requests that the policy sent to each worker.")
    tokens = Caption(
        "tokens",
        "Tokens per worker",
        "Prompt tokens of scheduled requests, cached ones too, plus output tokens.",
    )
    busy = Caption(
        "busy", "Busy time per worker", "The share of the run's duration in which the worker ran a step."
    )
    workers = [worker for run in runs for worker in run.workers]
    requests_axis = count_axis("requests", max((worker.requests for worker in workers), default=0))
    tokens_axis = count_axis("tokens", max((_tokens(worker) for worker in workers), default=0))
    return [
        _load(requests, runs, lambda worker: worker.requests, requests_axis),
        _load(tokens, runs, _tokens, tokens_axis),
        _load(busy, runs, lambda worker: worker.busy_fraction, share_axis("share of time", steps=2)),
    ]


def match_figures(runs: Sequence[RunSummary]) -> list[Figure]:
    """Return the matched prefix lengths, and cached tokens as the router believed and as they were."""
    return [_matched(runs), _belief(runs)]


def _tokens(worker: WorkerSummary) -> int:
    return worker.prompt_tokens + worker.output_tokens


def _load(
    caption: Caption, runs: Sequence[RunSummary], pick: Callable[[WorkerSummary], float | None], y: Axis
) -> Figure:
    if all(pick(worker) is None for run in runs for worker in run.workers):
        return nothing(caption)

    def draw(style: int, run: RunSummary) -> str:
        picked = ((str(worker.worker), pick(worker)) for worker in run.workers)
        bars = [(label, value) for label, value in picked if value is not None]
        said = f"{run.policy}: {spread((value for _, value in bars), significant)}"
        return bar_chart(Words(f"{caption.key}-{style}", caption.title, said), style, bars, "worker", y)

    return Figure(caption, panels(runs, draw))


def _matched(runs: Sequence[RunSummary]) -> Figure:
    how = "Scheduled requests by how many whole blocks of their prompt came from the worker's cache."
    caption = Caption("matched", "Matched prefix lengths, in blocks", how)
    bins = {(each.low, each.high): each for run in runs for each in run.matched_blocks}
    highest = max((each.count for run in runs for each in run.matched_blocks), default=0)
    if not highest:
        return nothing(caption)
    y = count_axis("requests", highest)

    def draw(style: int, run: RunSummary) -> str:
        counts = {(each.low, each.high): each.count for each in run.matched_blocks}
        bars = [(bin_label(bins[place]), float(counts.get(place, 0))) for place in sorted(bins)]
        said = f"{run.policy}: " + ", ".join(f"{label} blocks {count(int(value))}" for label, value in bars)
        return bar_chart(Words(f"matched-{style}", caption.title, said), style, bars, "matched blocks", y)

    return Figure(caption, panels(runs, draw))


def _belief(runs: Sequence[RunSummary]) -> Figure:
    how = (
        "Prompt tokens of scheduled requests: those that the router expected the chosen worker to hold, and "
        "those that the worker took from its cache. A policy that looks at no cache expects none; what a replay's "
        "router expected is not known."
    )
    caption = Caption("belief", "Cached tokens, believed and true", how)
    known = [
        value
        for run in runs
        for value in (run.believed_cached_tokens, run.cached_tokens)
        if value is not None
    ]
    if not known:
        return nothing(caption)
    x = count_axis("tokens", max(known))

    def draw(style: int, run: RunSummary) -> str:
        pairs = (("believed", run.believed_cached_tokens), ("true", run.cached_tokens))
        bars = [(label, float(value or 0), count(value)) for label, value in pairs]
        said = f"{run.policy}: " + ", ".join(f"{label} {text}" for label, _, text in bars)
        return lying_bars(Words(f"belief-{style}", caption.title, said), style, bars, x)

    return Figure(caption, panels(runs, draw))
