"""Figures of latency: cumulative curves of all policies over one another."""

from collections.abc import Sequence

from understudy.fleet.summary import Distribution, RunSummary
from understudy.report.axes import Axis, latency_axis, share_axis
from understudy.report.charts import Line, Words, line_chart
from understudy.report.figure import Caption, Figure, legend, nothing, of_each
from understudy.report.formats import duration

_CURVE = "A line shows which share was at or below a time; it joins the quantiles 0%, 1%, ... 100%."


def latency_figures(runs: Sequence[RunSummary]) -> list[Figure]:
    """Return the curves of TTFT, TPOT, ITL and E2E, and of TTFT by cache hit."""
    ttft = Caption(
        "ttft",
        "Time to first token (TTFT), cumulative",
        f"From arrival to the first output token, of finished requests. {_CURVE}",
    )
    tpot = Caption(
        "tpot",
        "Time per output token (TPOT), cumulative",
        f"Of each finished request, the mean over its output tokens after the first. {_CURVE}",
    )
    itl = Caption(
        "itl",
        "Inter-token latency (ITL), cumulative",
        f"The gap before every output token but a request's first. {_CURVE}",
    )
    e2e = Caption(
        "e2e",
        "End-to-end latency (E2E), cumulative",
        f"From arrival to the last output token, of finished requests. {_CURVE}",
    )
    y = share_axis("share of requests")
    return [
        _curves(ttft, runs, [run.ttft for run in runs], "TTFT", y),
        _curves(tpot, runs, [run.tpot for run in runs], "TPOT", y),
        _curves(itl, runs, [run.itl for run in runs], "ITL", share_axis("share of tokens")),
        _curves(e2e, runs, [run.e2e for run in runs], "E2E", y),
        *_hits_and_misses(runs),
    ]


def _hits_and_misses(runs: Sequence[RunSummary]) -> list[Figure]:
    hits = Caption(
        "hits",
        "TTFT of cache hits, cumulative",
        f"Finished requests with any cached prompt token, be it one block only; same axes as misses. {_CURVE}",
    )
    misses = Caption(
        "misses",
        "TTFT of cache misses, cumulative",
        f"Finished requests without a cached prompt token; same axes as hits. {_CURVE}",
    )
    found_hits = [run.ttft_hits for run in runs]
    found_misses = [run.ttft_misses for run in runs]
    x, y = latency_axis("TTFT", found_hits + found_misses), share_axis("share of requests")
    return [_drawn(hits, runs, found_hits, x, y), _drawn(misses, runs, found_misses, x, y)]


def _curves(
    caption: Caption, runs: Sequence[RunSummary], found: Sequence[Distribution], name: str, y: Axis
) -> Figure:
    return _drawn(caption, runs, found, latency_axis(name, found), y)


def _drawn(
    caption: Caption, runs: Sequence[RunSummary], found: Sequence[Distribution], x: Axis, y: Axis
) -> Figure:
    if not any(each.curve for each in found):
        return nothing(caption)
    said = of_each(runs, (f"median {duration(each.p50)}, p99 {duration(each.p99)}" for each in found))
    lines = [Line(style, _points(each.curve)) for style, each in enumerate(found)]
    drawing = line_chart(Words(caption.key, caption.title, said), lines, x, y)
    return Figure(caption, legend(runs) + drawing)


def _points(curve: Sequence[float]) -> list[tuple[float, float]]:
    last = max(len(curve) - 1, 1)
    return [(value, index / last) for index, value in enumerate(curve)]
