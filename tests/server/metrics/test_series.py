"""Our series hold what the library's own would hold after the same observations."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter as LibraryCounter
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client import Summary as LibrarySummary
from prometheus_client.samples import Sample

from understudy.server.metrics.series import Counter, Histogram, Summary

BOUNDS = st.lists(
    st.floats(min_value=0.001, max_value=1e9, allow_nan=False), min_size=1, max_size=12, unique=True
).map(sorted)
VALUES = st.lists(st.one_of(st.floats(min_value=0, max_value=1e10), st.integers(0, 10**7)), max_size=40)


def _shown(samples: Iterable[Sample]) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, dict(sample.labels), sample.value)
        for sample in samples
        if not sample.name.endswith("_created")
    ]


@given(bounds=BOUNDS, values=VALUES)
def test_histogram_is_the_librarys(bounds: list[float], values: list[float]) -> None:
    """Same buckets, count and sum, to the last bit, also for values that are bounds themselves."""
    ours = Histogram({}, None, bounds)
    theirs = LibraryHistogram("name", "help", buckets=bounds, registry=None)
    for value in [*values, *bounds]:
        ours.observe(value)
        theirs.observe(value)
    (family,) = theirs.collect()
    assert _shown(ours.samples("name")) == _shown(family.samples)


@given(bounds=BOUNDS, value=st.floats(min_value=0, max_value=1e6), count=st.integers(0, 500))
def test_observing_at_once_is_observing_one_by_one(bounds: list[float], value: float, count: int) -> None:
    """An observation with a count fills the buckets as so many observations do, and sums up to the same."""
    at_once, one_by_one = Histogram({}, None, bounds), Histogram({}, None, bounds)
    at_once.observe(value, count)
    for _ in range(count):
        one_by_one.observe(value)
    ours, expected = _shown(at_once.samples("name")), _shown(one_by_one.samples("name"))
    assert ours[:-1] == expected[:-1]
    assert math.isclose(ours[-1][2], expected[-1][2], rel_tol=1e-9)


@given(values=VALUES)
def test_summary_is_the_librarys(values: list[float]) -> None:
    """Same count and sum."""
    ours = Summary({"handler": "none"}, None)
    theirs = LibrarySummary("name", "help", ["handler"], registry=None)
    for value in values:
        ours.observe(value)
        theirs.labels("none").observe(value)
    theirs.labels("none")
    (family,) = theirs.collect()
    assert _shown(ours.samples("name")) == _shown(family.samples)


@given(values=st.lists(st.integers(0, 10**12), max_size=40))
def test_counter_is_the_librarys(values: list[int]) -> None:
    """Same total."""
    ours = Counter({}, None)
    theirs = LibraryCounter("name", "help", registry=None)
    for value in values:
        ours.value += value
        theirs.inc(value)
    (family,) = theirs.collect()
    assert _shown(ours.samples("name")) == _shown(family.samples)


@pytest.mark.parametrize("series", [Counter({}, 5.5), Histogram({}, 5.5, (1,)), Summary({}, 5.5)])
def test_series_say_when_they_began(series: Counter | Histogram | Summary) -> None:
    """The last sample is the time of creation."""
    *_, last = series.samples("name")
    assert (last.name, last.value) == ("name_created", 5.5)
