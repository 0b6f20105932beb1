"""Thinned series: averages are kept, and time with them."""

from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.comparisons import sample

from understudy.fleet.summary import RunSummary
from understudy.report.timelines import fleet_mean, fleet_sum, thinned

values = st.lists(st.floats(min_value=0, max_value=1e4), max_size=40)


def run_of(*all_series: list[float]) -> RunSummary:
    """Return a run whose workers had these numbers of running requests."""
    run = sample(["one"], workers=len(all_series)).runs[0]
    workers = [
        replace(worker, series=replace(worker.series, running=series))
        for worker, series in zip(run.workers, all_series, strict=True)
        if worker.series is not None
    ]
    return replace(run, workers=workers)


@given(values, st.integers(1, 50))
def test_thinning_keeps_the_integral_over_time(series: list[float], most_points: int) -> None:
    """At most so many points stand for all values: each one's value times its span adds up to the same."""
    points = thinned(series, 2.0, most_points)
    assert len(points) <= most_points
    area, end = 0.0, 0.0
    for middle, value in points:
        span = (middle - end) * 2
        assert span > 0
        area += span * value
        end += span
    assert end == 2.0 * len(series)
    assert area == pytest.approx(2.0 * sum(series))


@given(st.integers(0, 30), st.integers(1, 4), st.integers(1, 40), st.data())
def test_the_fleet_is_its_workers_together(length: int, workers: int, most: int, data: st.DataObject) -> None:
    """The sum of the fleet is the thinned sum of the workers, and the mean is the sum over their number."""
    one = st.lists(st.floats(min_value=0, max_value=1e4), min_size=length, max_size=length)
    each = [data.draw(one) for _ in range(workers)]
    run = run_of(*each)
    together = thinned([sum(column) for column in zip(*each, strict=True)], 1.0, most)
    summed = fleet_sum(run, lambda series: series.running, most)
    meant = fleet_mean(run, lambda series: series.running, most)
    assert (
        [moment for moment, _ in together]
        == [moment for moment, _ in summed]
        == [moment for moment, _ in meant]
    )
    assert [value for _, value in together] == pytest.approx([value for _, value in summed])
    assert [value for _, value in summed] == pytest.approx([value * workers for _, value in meant])


@given(st.lists(values, max_size=4))
def test_series_of_unequal_length_are_joined_as_far_as_they_go(each: list[list[float]]) -> None:
    """A worker that stopped early adds nothing to the sum and does not lower the mean."""
    run = run_of(*each)
    longest = max((len(series) for series in each), default=0)
    columns = [[series[index] for series in each if index < len(series)] for index in range(longest)]
    assert [fmean(column) for column in columns] == [
        value for _, value in fleet_mean(run, lambda series: series.running, 40)
    ]
    summed = [value for _, value in fleet_sum(run, lambda series: series.running, 40)]
    assert summed == pytest.approx([sum(column) for column in columns])
