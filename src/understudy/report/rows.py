"""The comparison as labelled rows of text, a cell for every policy: one source for the terminal and the HTML table.

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
        _row("unfinished", runs, lambda run: count(run.unfinished)),
        _row("duration", runs, lambda run: duration(run.duration_seconds)),
    ]
    if any(run.refused.prompt_longer_than_context for run in runs):
        longest = _row("longest prompt, tokens", runs, lambda run: count(run.refused.longest_prompt_tokens))
        rows.insert(3, longest)
    how = (
        "A request is refused where vLLM would answer with an error, because its prompt is longer than the "
        "context. The duration is virtual time, from the start of the run to its end."
    )
    return Section("Requests", how, tuple(rows))


def _cache(runs: Sequence[RunSummary]) -> Section:
    rows = (
        _row(
            "hit rate, tokens",
            runs,
            lambda run: percent(run.hit_rate_tokens) if run.prompt_tokens else MISSING,
        ),
        _row(
            "hit rate, requests",
            runs,
            lambda run: percent(run.hit_rate_requests) if run.requests else MISSING,
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
        "Hit rate: cached over all prompt tokens of scheduled requests, and the share of requests with any cached "
        "token. Believed is what the router expected, true what the chosen worker held. Matched blocks: the range "
        "of block counts that holds the quantile. KV use: referenced blocks over all blocks but the null block."
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
        "Of finished requests, from arrival. TTFT: to the first output token. TPOT: mean time of the further output "
        "tokens of a request. ITL: the gap before each further output token. E2E: to the last output token. "
        "Queue wait: until first scheduled. Quantiles by nearest rank."
    )
    return Section("Latency", how, rows)


def _hits_and_misses(runs: Sequence[RunSummary]) -> Section:
    rows = (
        _row("requests with a hit", runs, lambda run: count(run.ttft_hits.count)),
        *_quantiles("TTFT of hits", runs, lambda run: run.ttft_hits),
        _row("requests without", runs, lambda run: count(run.ttft_misses.count)),
        *_quantiles("TTFT of misses", runs, lambda run: run.ttft_misses),
    )
    how = "Finished requests with any cached prompt token are hits, all others are misses."
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
    return Section("Throughput", "Finished requests, and their tokens, over the duration of the run.", rows)


def _load(runs: Sequence[RunSummary]) -> Section:
    rows = [
        _row("workers", runs, lambda run: count(len(run.workers))),
        _row("requests per worker", runs, lambda run: _least_and_most(run, lambda worker: worker.requests)),
    ]
    if all(len(run.workers) <= _FEW_WORKERS for run in runs):
        rows.append(_row("requests of each", runs, _requests_of_each))
    rows += [
        _row(
            "prompt tokens per worker",
            runs,
            lambda run: _least_and_most(run, lambda worker: worker.prompt_tokens),
        ),
        _row(
            "output tokens per worker",
            runs,
            lambda run: _least_and_most(run, lambda worker: worker.output_tokens),
        ),
        _row(
            "busy per worker", runs, lambda run: spread((each.busy_fraction for each in run.workers), percent)
        ),
    ]
    how = (
        "The least and the most that any worker had. Busy: the share of the duration in which it ran a step."
    )
    return Section("Load", how, tuple(rows))


def _least_and_most(run: RunSummary, pick: Callable[[WorkerSummary], int]) -> str:
    return spread((pick(worker) for worker in run.workers), lambda value: count(int(value)))


def _requests_of_each(run: RunSummary) -> str:
    return " ".join(count(worker.requests) for worker in run.workers) or MISSING
