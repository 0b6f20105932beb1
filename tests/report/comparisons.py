"""Comparisons to report on: drawn by hypothesis, degenerate ones too, or of a given size."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

from understudy.fleet.summary import (
    CURVE_POINTS,
    Bin,
    Comparison,
    Distribution,
    Refusals,
    RunSummary,
    Series,
    WorkerSummary,
)

T = TypeVar("T")

TAME_TEXT = st.text(alphabet="xyz0123-<>&\"'", max_size=12)
"""Text that cannot spell a word by which the tests recognise a mistake."""

seconds = st.one_of(st.just(0.0), st.floats(min_value=1e-9, max_value=1e5))
shares = st.floats(min_value=0, max_value=1)
counts = st.integers(min_value=0, max_value=10**9)
rates = st.one_of(st.just(0.0), st.floats(min_value=1e-3, max_value=1e6))


REASONS = ("http-503", "broken")


def perhaps(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """Draw a value, or None as where the clients of a replay cannot know it."""
    return st.one_of(values, st.none())


def distribution(values: Sequence[float]) -> Distribution:
    """Return what a simulation would say of these values: quantiles by nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return Distribution(count=0, mean=None, p50=None, p90=None, p99=None, max=None, curve=[])

    def ranked(percent: int) -> float:
        return ordered[max(-(-percent * len(ordered) // 100) - 1, 0)]

    return Distribution(
        count=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        p50=ranked(50),
        p90=ranked(90),
        p99=ranked(99),
        max=ordered[-1],
        curve=[ranked(percent) for percent in range(CURVE_POINTS)],
    )


distributions = st.lists(seconds, max_size=8).map(distribution)


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Draw series of one length, empty ones too."""
    length = draw(st.integers(0, 6))
    amounts = st.lists(st.floats(min_value=0, max_value=1e4), min_size=length, max_size=length)
    return Series(
        interval_seconds=draw(st.sampled_from([0.001, 1.0, 60.0])),
        kv_usage=draw(st.lists(shares, min_size=length, max_size=length)),
        running=draw(amounts),
        waiting=draw(amounts),
    )


def workers(number: int) -> st.SearchStrategy[WorkerSummary]:
    """Draw what one worker did, perhaps nothing."""
    return st.builds(
        WorkerSummary,
        worker=st.just(number),
        requests=counts,
        prompt_tokens=counts,
        cached_tokens=perhaps(counts),
        output_tokens=counts,
        busy_fraction=perhaps(shares),
        kv_usage_mean=perhaps(shares),
        kv_usage_peak=perhaps(shares),
        preemptions=perhaps(counts),
        evicted_blocks=perhaps(counts),
        series=perhaps(series()),
    )


@st.composite
def bins(draw: st.DrawFn) -> list[Bin]:
    """Draw adjoining bins, perhaps none, perhaps all empty."""
    edges = sorted(draw(st.sets(st.integers(0, 5000), max_size=6)))
    return [Bin(low=low, high=high, count=draw(st.integers(0, 1000))) for low, high in pairwise(edges)]


@st.composite
def runs(draw: st.DrawFn, policies: st.SearchStrategy[str] = TAME_TEXT) -> RunSummary:
    """Draw a run, whose figures need not agree with one another."""
    number_of_workers = draw(st.integers(0, 3))
    return draw(
        st.builds(
            RunSummary,
            policy=policies,
            requests=counts,
            finished=counts,
            refused=st.builds(
                Refusals,
                prompt_longer_than_context=counts,
                longest_prompt_tokens=counts,
                longest_request_tokens=counts,
            ),
            unfinished=counts,
            duration_seconds=seconds,
            prompt_tokens=counts,
            cached_tokens=perhaps(counts),
            believed_cached_tokens=perhaps(counts),
            output_tokens=counts,
            hit_rate_tokens=perhaps(shares),
            hit_rate_requests=perhaps(shares),
            ttft=distributions,
            ttft_hits=distributions,
            ttft_misses=distributions,
            tpot=distributions,
            itl=distributions,
            e2e=distributions,
            queue=distributions,
            requests_per_second=rates,
            output_tokens_per_second=rates,
            total_tokens_per_second=rates,
            preemptions=perhaps(counts),
            evicted_blocks=perhaps(counts),
            kv_usage_mean=perhaps(shares),
            kv_usage_peak=perhaps(shares),
            matched_blocks=bins(),
            workers=st.tuples(*(workers(number) for number in range(number_of_workers))).map(list),
            failed=st.dictionaries(st.sampled_from(REASONS), counts, max_size=2),
            kind=st.sampled_from(["simulation", "replay"]),
        )
    )


def comparisons(
    text: st.SearchStrategy[str] = TAME_TEXT, most_runs: int = 3
) -> st.SearchStrategy[Comparison]:
    """Draw a comparison; `text` is everything that comes from outside."""
    values = st.one_of(
        text, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
    )
    return st.builds(
        Comparison,
        understudy_version=text,
        vllm_version=perhaps(text),
        command=text,
        trace=text,
        trace_sha256=st.one_of(st.none(), text),
        settings=st.dictionaries(text, values, max_size=3),
        notes=st.lists(text, max_size=2),
        interrupted=st.booleans(),
        runs=st.lists(runs(text), min_size=1, max_size=most_runs),
    )


def sample(policies: Sequence[str], workers: int = 2, moments: int = 30, text: str = "text") -> Comparison:
    """Return a comparison in which every part has values; `text` stands wherever text comes from outside."""
    return Comparison(
        understudy_version=text,
        vllm_version=text,
        command=text,
        trace=text,
        trace_sha256=text,
        settings={text: text, "seed": 1, "switch": True, "unset": None},
        notes=[text],
        interrupted=True,
        runs=[_run(policy, place, workers, moments) for place, policy in enumerate(policies)],
    )


def _run(policy: str, place: int, workers: int, moments: int) -> RunSummary:
    values = [0.013 * 1.07**step * (1 + place) for step in range(120)]
    spread = distribution(values)
    wave = [0.5 + 0.5 * math.sin(moment / 7 + place) for moment in range(moments)]
    each = Series(interval_seconds=1.0, kv_usage=wave, running=[value * 97.3 for value in wave], waiting=wave)
    return RunSummary(
        policy=policy,
        requests=120,
        finished=120,
        refused=Refusals(
            prompt_longer_than_context=2, longest_prompt_tokens=9000, longest_request_tokens=9004
        ),
        unfinished=1,
        duration_seconds=float(moments),
        prompt_tokens=90_000_000,
        cached_tokens=41_000_000,
        believed_cached_tokens=47_000_000,
        output_tokens=7_000_000,
        hit_rate_tokens=0.41,
        hit_rate_requests=0.63,
        ttft=spread,
        ttft_hits=spread,
        ttft_misses=spread,
        tpot=spread,
        itl=spread,
        e2e=spread,
        queue=spread,
        requests_per_second=4.2,
        output_tokens_per_second=812.0,
        total_tokens_per_second=20_812.0,
        preemptions=12,
        evicted_blocks=34_567,
        kv_usage_mean=0.55,
        kv_usage_peak=0.99,
        matched_blocks=[Bin(low=0, high=1, count=70), Bin(low=1, high=64, count=50)],
        workers=[_worker(number, each) for number in range(workers)],
    )


def _worker(number: int, each: Series) -> WorkerSummary:
    return WorkerSummary(
        worker=number,
        requests=100_000 + number,
        prompt_tokens=9_000_000 + number,
        cached_tokens=4_000_000 + number,
        output_tokens=700_000 + number,
        busy_fraction=0.7,
        kv_usage_mean=0.5,
        kv_usage_peak=0.9,
        preemptions=6,
        evicted_blocks=17_000,
        series=each,
    )
