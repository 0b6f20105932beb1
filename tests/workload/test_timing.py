"""The laws of arrival times: their mean, their variation, their order, and that nothing else changes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import inf, isclose, nan, sqrt
from statistics import fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.engine import TokenPrompt
from understudy.errors import UsageError
from understudy.workload import WorkloadRequest, bursty, constant, poisson, scaled

NS_PER_SECOND = 10**9
NUM_GAPS = 20_000

rates = st.floats(1e-6, 1e6)


def requests(times_ns: Iterable[int]) -> list[WorkloadRequest]:
    """Return one request for each time."""
    return [
        WorkloadRequest(
            request_id=str(index),
            arrival_ns=time_ns,
            prompt=TokenPrompt((index,)),
            output_tokens=1,
            priority=index,
        )
        for index, time_ns in enumerate(times_ns)
    ]


def gaps_seconds(retimed: Iterable[WorkloadRequest]) -> list[float]:
    """Return the times between requests."""
    times = [request.arrival_ns for request in retimed]
    assert times[0] == 0
    return [(later - earlier) / NS_PER_SECOND for earlier, later in pairwise(times)]


@pytest.mark.parametrize("rate", [0.01, 3.0, 1000.0])
@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0, None])
def test_mean_and_variation_are_those_of_the_distribution(rate: float, burstiness: float | None) -> None:
    """Gaps have the mean 1/rate and the variation 1/sqrt(burstiness), which is 1 for Poisson."""
    workload = requests(range(NUM_GAPS + 1))
    retimed = poisson(workload, rate, 7) if burstiness is None else bursty(workload, rate, 7, burstiness)
    gaps = gaps_seconds(retimed)
    variation = 1 / sqrt(burstiness or 1.0)
    five_sigma = 5 * variation / sqrt(NUM_GAPS)
    assert isclose(fmean(gaps) * rate, 1.0, abs_tol=five_sigma)
    assert isclose(pstdev(gaps) / fmean(gaps), variation, rel_tol=0.1)


@settings(deadline=None)
@given(rates, st.integers(2, 500))
def test_even_arrivals_never_drift(rate: float, count: int) -> None:
    """The nth request arrives n / rate seconds after the first, to the nanosecond."""
    last = list(constant(requests([0] * count), rate))[-1]
    numerator, denominator = (count - 1) * NS_PER_SECOND, rate
    assert isclose(last.arrival_ns, numerator / denominator, rel_tol=1e-12, abs_tol=1)


def test_a_rate_means_what_is_written() -> None:
    """A tenth of a request a second is one every ten seconds, though the float 0.1 is no tenth."""
    times = [request.arrival_ns for request in constant(requests([0] * 4), 0.1)]
    assert times == [0, 10 * NS_PER_SECOND, 20 * NS_PER_SECOND, 30 * NS_PER_SECOND]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**18)).map(sorted), st.floats(1e-3, 1e3))
def test_scaling_divides_every_time(times_ns: list[int], speed: float) -> None:
    """Twice the speed is half the time; the original speed changes nothing."""
    workload = requests(times_ns)
    assert list(scaled(workload, 1.0)) == workload
    for before, after in zip(workload, scaled(workload, speed), strict=True):
        assert isclose(after.arrival_ns, before.arrival_ns / speed, rel_tol=1e-12, abs_tol=1)


RETIMERS: list[Callable[[list[WorkloadRequest], float, int], Iterator[WorkloadRequest]]] = [
    poisson,
    lambda workload, rate, seed: bursty(workload, rate, seed, 0.01),
    lambda workload, rate, _seed: constant(workload, rate),
    lambda workload, rate, _seed: scaled(workload, rate),
]


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**15)).map(sorted), rates, st.integers(0, 2**63), st.sampled_from(range(4)))
def test_only_the_time_changes_and_never_runs_back(
    times_ns: list[int], rate: float, seed: int, which: int
) -> None:
    """Requests keep their order and everything else; the same seed gives the same times."""
    workload = requests(times_ns)
    retimed = list(RETIMERS[which](workload, rate, seed))
    assert retimed == list(RETIMERS[which](workload, rate, seed))
    assert [
        replace(request, arrival_ns=time_ns) for request, time_ns in zip(retimed, times_ns, strict=True)
    ] == workload
    assert all(isinstance(request.arrival_ns, int) for request in retimed)
    assert all(earlier.arrival_ns <= later.arrival_ns for earlier, later in pairwise(retimed))


@pytest.mark.parametrize("value", [0.0, -1.0, nan, inf, 1e-300, 1e300])
@pytest.mark.parametrize("which", range(4))
def test_rates_out_of_bounds_are_refused_at_once(value: float, which: int) -> None:
    """The error comes with the call, before any request is read."""
    with pytest.raises(UsageError, match=r"must be a number from 1e-06 to 1e\+06, got"):
        RETIMERS[which]([], value, 0)


@pytest.mark.parametrize("burstiness", [0.0, -1.0, nan, inf])
def test_burstiness_out_of_bounds_is_refused(burstiness: float) -> None:
    """A gamma distribution has a positive shape."""
    with pytest.raises(UsageError, match=r"burstiness must be a number from 0\.001 to 1000, got"):
        bursty([], 1.0, 0, burstiness)
