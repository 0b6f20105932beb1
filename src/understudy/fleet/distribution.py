"""Distributions of durations: exact nearest-rank quantiles of integers, reported in seconds."""

from collections.abc import Iterable, Mapping
from itertools import accumulate

from understudy.fleet.summary import CURVE_POINTS, Distribution

_NS_PER_SECOND = 1_000_000_000


def distribution(durations_ns: Iterable[int]) -> Distribution:
    """Return the distribution of some durations in nanoseconds."""
    values = sorted(durations_ns)
    return _summarise(values, range(1, len(values) + 1), sum(values))


def weighted_distribution(counts: Mapping[int, int]) -> Distribution:
    """Return the distribution of durations in nanoseconds that were seen so many times each."""
    values = sorted(counts)
    ranks = list(accumulate(counts[value] for value in values))
    return _summarise(values, ranks, sum(value * counts[value] for value in values))


def _summarise(values: list[int], ranks: range | list[int], total: int) -> Distribution:
    """Summarise sorted values; `ranks[i]` says how many of all are no greater than `values[i]`."""
    if not values:
        return Distribution(count=0, mean=None, p50=None, p90=None, p99=None, max=None, curve=[])
    count = ranks[-1]
    percentiles = [_nearest_rank(values, ranks, percent) for percent in range(CURVE_POINTS)]
    return Distribution(
        count=count,
        mean=total / count / _NS_PER_SECOND,
        p50=percentiles[50],
        p90=percentiles[90],
        p99=percentiles[99],
        max=percentiles[100],
        curve=percentiles,
    )


def _nearest_rank(values: list[int], ranks: range | list[int], percent: int) -> float:
    rank = max(-(-percent * ranks[-1] // 100), 1)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if ranks[middle] < rank:
            low = middle + 1
        else:
            high = middle
    return values[low] / _NS_PER_SECOND
