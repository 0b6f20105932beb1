"""When requests arrive, whatever their trace says: at random, in bursts, evenly, or as recorded but faster.

Each function takes requests in their order and yields them in the same order with new times, in whole
nanoseconds, that never run back. The first arrives at 0, except in `scaled`. Rates are in requests per
second.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, count
from random import Random

from understudy.errors import UsageError
from understudy.workload.request import WorkloadRequest

MIN_RATE = 1e-6
MAX_RATE = 1e6

_NS_PER_SECOND = 1_000_000_000


def poisson(requests: Iterable[WorkloadRequest], rate: float, seed: int) -> Iterator[WorkloadRequest]:
    """Let requests arrive independently of each other, `rate` of them a second on average.

    Raises UsageError for a rate out of bounds.
    """
    _check("rate", rate, MIN_RATE, MAX_RATE)
    return _arriving(requests, poisson_times(Random(seed), rate))


def bursty(
    requests: Iterable[WorkloadRequest], rate: float, seed: int, burstiness: float
) -> Iterator[WorkloadRequest]:
    """Let requests arrive with gaps of a gamma distribution, as `vllm bench serve --burstiness` does.

    The distribution has the shape `burstiness` and the scale 1 / (rate x burstiness): 1 is Poisson, lower
    comes in heavier bursts, higher is more even. The coefficient of variation of the gaps is 1 /
    sqrt(burstiness). Unlike vLLM, nothing stretches the gaps afterwards so that the last request meets the
    rate exactly.

    Raises UsageError for a rate or burstiness out of bounds.
    """
    _check("rate", rate, MIN_RATE, MAX_RATE)
    _check("burstiness", burstiness, 0.001, 1000.0)
    rng = Random(seed)
    scale_seconds = 1.0 / (rate * burstiness)
    gaps = (round(rng.gammavariate(burstiness, scale_seconds) * _NS_PER_SECOND) for _ in count())
    return _arriving(requests, accumulate(gaps, initial=0))


def constant(requests: Iterable[WorkloadRequest], rate: float) -> Iterator[WorkloadRequest]:
    """Let requests arrive evenly. Raises UsageError for a rate out of bounds."""
    _check("rate", rate, MIN_RATE, MAX_RATE)
    gap_ns = _NS_PER_SECOND / _as_written(rate)
    return _arriving(requests, (index * gap_ns.numerator // gap_ns.denominator for index in count()))


def scaled(requests: Iterable[WorkloadRequest], speed: float) -> Iterator[WorkloadRequest]:
    """Let requests arrive `speed` times as fast as they would. Raises UsageError if out of bounds."""
    _check("speed", speed, 1e-6, 1e6)
    factor = 1 / _as_written(speed)
    return (
        replace(request, arrival_ns=request.arrival_ns * factor.numerator // factor.denominator)
        for request in requests
    )


def poisson_times(rng: Random, rate: float) -> Iterator[int]:
    """Yield the times, in nanoseconds from 0, of a Poisson process without end that has an event at 0."""
    gaps = (round(rng.expovariate(rate) * _NS_PER_SECOND) for _ in count())
    return accumulate(gaps, initial=0)


def _arriving(requests: Iterable[WorkloadRequest], times_ns: Iterable[int]) -> Iterator[WorkloadRequest]:
    return (
        replace(request, arrival_ns=time_ns) for request, time_ns in zip(requests, times_ns, strict=False)
    )


def _as_written(number: float) -> Fraction:
    """Return the number that a person wrote: 0.1 is a tenth, which the float is not quite."""
    return Fraction(repr(number))


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} must be a number from {low:g} to {high:g}, got {value}")
