"""Quantiles by their definition, counted out."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import law

from understudy.fleet.distribution import distribution, weighted_distribution
from understudy.fleet.summary import CURVE_POINTS

_durations = st.lists(st.integers(0, 20) | st.integers(0, 10**18), max_size=150)


def _quantile(values: list[int], percent: int) -> float:
    """Return the smallest value such that at least so many percent of all are no greater, in seconds."""
    return (
        min(
            value
            for value in values
            if 100 * sum(other <= value for other in values) >= percent * len(values)
        )
        / 10**9
    )


@law
@given(_durations.filter(bool))
def test_quantiles_are_nearest_rank(values: list[int]) -> None:
    """Every point of the curve is a value that was seen, the one that the definition names."""
    found = distribution(values)
    assert found.count == len(values)
    assert found.curve == [_quantile(values, percent) for percent in range(CURVE_POINTS)]
    assert (found.p50, found.p90, found.p99, found.max) == (
        found.curve[50],
        found.curve[90],
        found.curve[99],
        max(values) / 10**9,
    )
    assert found.mean == pytest.approx(float(Fraction(sum(values), len(values) * 10**9)), rel=1e-12)


@law
@given(_durations)
def test_counting_equals_listing(values: list[int]) -> None:
    """Values with how often each was seen have the distribution of all of them, in whatever order."""
    assert weighted_distribution(Counter(values)) == distribution(values)
    assert distribution(reversed(values)) == distribution(values)


@pytest.mark.parametrize("found", [distribution([]), weighted_distribution({})])
def test_nothing_has_no_quantiles(found: object) -> None:
    """Where there was no value there is no number, not a zero."""
    assert found == distribution(())
    empty = distribution(())
    assert (empty.count, empty.curve) == (0, [])
    assert {empty.mean, empty.p50, empty.p90, empty.p99, empty.max} == {None}
