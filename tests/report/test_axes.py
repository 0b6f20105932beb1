"""Axes: order is kept, marks lie where they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.comparisons import distribution, distributions, seconds

from understudy.fleet.summary import Distribution
from understudy.report.axes import Axis, count_axis, latency_axis, share_axis, time_axis

SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}

axes = st.one_of(
    st.floats(min_value=0, max_value=1e12).map(lambda high: count_axis("n", high)),
    seconds.map(lambda high: time_axis("t", high)),
    st.lists(distributions, max_size=3).map(lambda found: latency_axis("t", found)),
    st.sampled_from([2, 4]).map(lambda steps: share_axis("share", steps)),
)


def marked(text: str, axis: Axis) -> float:
    """Return the value that a mark's text stands for."""
    if text.endswith("%"):
        return float(text[:-1]) / 100
    scale = SUFFIXES.get(text[-1], 1.0)
    unit = axis.label.partition("(")[2].rstrip(")").partition(",")[0]
    return float(text.rstrip("kMGT")) * scale * UNITS.get(unit, 1.0)


@given(axes, st.floats(min_value=0, max_value=1e12), st.floats(min_value=0, max_value=1e12))
def test_a_greater_value_never_lies_lower(axis: Axis, one: float, other: float) -> None:
    """Every value gets a place from 0 to 1, in the order of the values, with the ends at 0 and 1."""
    low, high = sorted([one, other])
    assert 0 <= axis.fraction(low) <= axis.fraction(high) <= 1
    assert (axis.fraction(axis.low), axis.fraction(axis.high)) == (0, 1)


@given(axes)
def test_marks_stand_where_they_say(axis: Axis) -> None:
    """There are a few marks, rising, between the ends, and each one's text with the unit is its value."""
    values = [value for value, _ in axis.marks]
    assert 1 <= len(values) <= 8
    assert sorted(set(values)) == values
    assert axis.low <= values[0] <= values[-1] <= axis.high * (1 + 1e-9)
    assert values == pytest.approx([marked(text, axis) for _, text in axis.marks], rel=1e-5)


@given(st.floats(min_value=0, max_value=1e12))
def test_a_count_axis_reaches_the_highest_value(highest: float) -> None:
    """No bar is cut off, and the axis is at most twice as high as it need be."""
    axis = count_axis("n", highest)
    assert highest <= axis.high * (1 + 1e-9)
    assert axis.high <= max(2 * highest, 1)


@given(seconds, st.integers(3, 8))
def test_a_time_axis_is_marked_beyond_zero(highest: float, most_steps: int) -> None:
    """However few the marks, their distance can be read off."""
    assert 2 <= len(time_axis("t", highest, most_steps).marks) <= most_steps + 1


@given(st.lists(distributions, max_size=3))
def test_a_latency_axis_holds_all_curves(found: list[Distribution]) -> None:
    """The slowest of all requests lies at the right end."""
    slowest = max((each.max for each in found if each.max), default=None)
    assert slowest is None or slowest == latency_axis("t", found).high


@pytest.mark.parametrize(("slowest", "logarithmic"), [(19.0, False), (21.0, True)])
def test_a_long_tail_makes_a_latency_axis_logarithmic(slowest: float, *, logarithmic: bool) -> None:
    """From twenty times the median on, the typical request would be lost on a linear axis."""
    axis = latency_axis("t", [distribution([1.0] * 10 + [slowest])])
    assert logarithmic == axis.logarithmic == ("log scale" in axis.label)
