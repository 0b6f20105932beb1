"""The comparison as labelled rows of text, a cell for every policy: the source of both tables, text and HTML.

Knows what each figure means, not how a table is drawn.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from understudy.fleet.summary import Bin, Distribution, RunSummary, WorkerSummary
from understudy.report.formats import MISSING, count, duration, percent, significant

_FEW_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: its name, and its text for each run in order."""

    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that belong together, and one line on how they are computed."""

    title: str
    how: str
    rows: tuple[Row, ...]


def table_sections(runs: Sequence[RunSummary]) -> list[Section]:
    """Return everything that a comparison shows in figures."""
    return [
        _requests(runs),
        _cache(runs),
        _latency(runs),
        _hits_and_misses(runs),
        _throughput(runs),
        _load(runs),
    ]


def quantile_bin(bins: Iterable[Bin], quantile: float) -> Bin | None:
    """Return the bin that holds the quantile by nearest rank, or None where nothing was counted."""
    ordered = sorted(bins, key=lambda each: each.low)
    needed = quantile * sum(each.count for each in ordered)
    seen = 0
    for each in ordered:
        seen += each.count
        if each.count and seen >= needed:
            return each
    return None


def bin_label(each: Bin) -> str:
    """Return the whole numbers in a bin: '0', or '4-7' for 4 (inclusive) to 8 (exclusive)."""
    last = each.high - 1
    return f"{each.low}" if last <= each.low else f"{each.low}-{last}"


def spread(values: Iterable[float], text: Callable[[float], str]) -> str:
    """Return 'smallest .. largest', one value where they read the same."""
    known = list(values)
    if not known:
        return MISSING
    low, high = text(min(known)), text(max(known))
    return low if low == high else f"{low} .. {high}"


def _row(label: str, runs: Sequence[RunSummary], text: Callable[[RunSummary], str]) -> Row:
    return Row(label, tuple(text(run) for run in runs))


def _requests(runs: Sequence[RunSummary]) -> Section:
    rows = [
        _row("requests", runs, lambda run: count(run.requests)),
        _row("finished", runs, lambda run: count(run.finished)),
        _row("refused, too long", runs, lambda run: count(run.refused.prompt_longer_than_context)),
        *_failures(runs),
        _row("unfinished", runs, lambda run: count(run.unfinished)),
        _row("duration", runs, lambda run: duration(run.duration_seconds)),
    ]
    if any(run.refused.prompt_longer_than_context for run in runs):
        longest = _row("longest prompt, tokens", runs, lambda run: count(run.refused.longest_prompt_tokens))
        rows.insert(3, longest)
    how = (
        "A request is refused where vLLM would answer with an error, because its prompt leaves no room for a "
        "token in the context. Failed requests got no whole answer for another reason. The duration is from the "
        "first arrival to the end of the last request. The time of a simulation is virtual; that of a replay is the "
        "trace's, as its clients saw it pass, and what they cannot see is missing."
    )
    return Section("Requests", how, tuple(rows))


def _failures(runs: Sequence[RunSummary]) -> list[Row]:
    """Return how many requests failed, and if any did, how many for which reason."""
    reasons = sorted({reason for run in runs for reason in run.failed})
    return [
        _row("failed", runs, lambda run: count(sum(run.failed.values()))),
        *(
            Row(f"failed, {reason}", tuple(count(run.failed.get(reason, 0)) for run in runs))
            for reason in reasons
        ),
    ]


def _cache(runs: Sequence[RunSummary]) -> Section:
    rows = (
        _row(
            "hit rate, tokens",
            runs,
            lambda run: percent(run.hit_rate_tokens if run.prompt_tokens else None),
        ),
        _row(
            "hit rate, requests",
            runs,
            lambda run: percent(run.hit_rate_requests if run.prompt_tokens else None),
        ),
        _row("prompt tokens", runs, lambda run: count(run.prompt_tokens)),
        _row("cached tokens, true", runs, lambda run: count(run.cached_tokens)),
        _row("cached tokens, believed", runs, lambda run: count(run.believed_cached_tokens)),
        _row("matched blocks, p50", runs, lambda run: _bin_at(run, 0.5)),
        _row("matched blocks, p90", runs, lambda run: _bin_at(run, 0.9)),
        _row("KV use, mean", runs, lambda run: percent(run.kv_usage_mean)),
        _row("KV use, peak", runs, lambda run: percent(run.kv_usage_peak)),
        _row("preemptions", runs, lambda run: count(run.preemptions)),
        _row("evicted blocks", runs, lambda run: count(run.evicted_blocks)),
    )
    how = (
        "Of scheduled requests. Hit rate: cached over all prompt tokens, and the share of requests with any "
        "cached token. Believed is what the router expected, true what the worker took from its cache. Matched "
        "blocks: the range of block counts that holds the quantile. KV use: referenced blocks over all blocks "
        "but the null block; its mean over time and workers, and the peak of any worker."
    )
    return Section("Prefix cache", how, rows)


def _bin_at(run: RunSummary, quantile: float) -> str:
    found = quantile_bin(run.matched_blocks, quantile)
    return MISSING if found is None else bin_label(found)


def _latency(runs: Sequence[RunSummary]) -> Section:
    rows = (
        *_quantiles("TTFT", runs, lambda run: run.ttft),
        *_quantiles("TPOT", runs, lambda run: run.tpot),
        *_quantiles("ITL", runs, lambda run: run.itl),
        *_quantiles("E2E", runs, lambda run: run.e2e),
        *_quantiles("queue wait", runs, lambda run: run.queue),
    )
    how = (
        "Of finished requests. TTFT: from arrival to the first output token. TPOT: a request's "
        "mean time per further output token. ITL: the gap before each output token but a request's first, of "
        "all requests. E2E: from arrival to the last output token. Queue wait: from arrival until first "
        "scheduled. Quantiles by nearest rank."
    )
    return Section("Latency", how, rows)


def _hits_and_misses(runs: Sequence[RunSummary]) -> Section:
    rows = (
        _row("requests with a hit", runs, lambda run: count(run.ttft_hits.count)),
        *_quantiles("TTFT of hits", runs, lambda run: run.ttft_hits),
        _row("requests without", runs, lambda run: count(run.ttft_misses.count)),
        *_quantiles("TTFT of misses", runs, lambda run: run.ttft_misses),
    )
    how = "Finished requests with any cached prompt token are hits, all others are misses. A hit may be of one block only."
    return Section("TTFT by cache hit", how, rows)


def _quantiles(
    name: str, runs: Sequence[RunSummary], pick: Callable[[RunSummary], Distribution]
) -> tuple[Row, ...]:
    return (
        _row(f"{name} mean", runs, lambda run: duration(pick(run).mean)),
        _row(f"{name} p50", runs, lambda run: duration(pick(run).p50)),
        _row(f"{name} p90", runs, lambda run: duration(pick(run).p90)),
        _row(f"{name} p99", runs, lambda run: duration(pick(run).p99)),
    )


def _throughput(runs: Sequence[RunSummary]) -> Section:
    rows = (
        _row("requests/s", runs, lambda run: significant(run.requests_per_second)),
        _row("output tokens/s", runs, lambda run: significant(run.output_tokens_per_second)),
        _row("all tokens/s", runs, lambda run: significant(run.total_tokens_per_second)),
    )
    how = (
        "Over the duration: finished requests, output tokens, and output tokens with the prompt tokens of "
        "scheduled requests."
    )
    return Section("Throughput", how, rows)


def _load(runs: Sequence[RunSummary]) -> Section:
    rows = (
        _row("workers", runs, lambda run: count(len(run.workers))),
        *_requests_of_workers(runs),
        *_least_and_most("prompt tokens", runs, lambda worker: worker.prompt_tokens, _whole),
        *_least_and_most("output tokens", runs, lambda worker: worker.output_tokens, _whole),
        *_least_and_most("busy", runs, lambda worker: worker.busy_fraction, percent),
    )
    how = (
        "The least and the most of any worker. Prompt tokens: of scheduled requests, cached ones too. Busy: the "
        "share of the duration in which a worker ran a step."
    )
    return Section("Load per worker", how, rows)


def _requests_of_workers(runs: Sequence[RunSummary]) -> tuple[Row, ...]:
    """Return the requests of each worker where they are few, otherwise the least and the most."""
    numbers = sorted({worker.worker for run in runs for worker in run.workers})
    if len(numbers) > _FEW_WORKERS:
        return _least_and_most("requests", runs, lambda worker: worker.requests, _whole)
    return tuple(
        Row(f"requests, worker {number}", tuple(_requests_of_worker(run, number) for run in runs))
        for number in numbers
    )


def _requests_of_worker(run: RunSummary, number: int) -> str:
    return next((count(worker.requests) for worker in run.workers if worker.worker == number), MISSING)


def _least_and_most(
    name: str,
    runs: Sequence[RunSummary],
    pick: Callable[[WorkerSummary], float | None],
    text: Callable[[float], str],
) -> tuple[Row, Row]:
    def of_workers(run: RunSummary, choose: Callable[[Iterable[float]], float]) -> str:
        known = [value for worker in run.workers if (value := pick(worker)) is not None]
        return text(choose(known)) if known else MISSING

    return (
        _row(f"{name}, least", runs, lambda run: of_workers(run, min)),
        _row(f"{name}, most", runs, lambda run: of_workers(run, max)),
    )


def _whole(value: float) -> str:
    return count(int(value))
