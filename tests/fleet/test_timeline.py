"""Averages over time, compared with integrals taken report by report."""

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.scenes import law

from understudy.fleet.timeline import MAX_INTERVALS, Timeline

_durations_ns = (
    st.sampled_from([0, 1, 1 << 20, 240 << 20]) | st.integers(0, 1 << 24) | st.integers(0, 1 << 42)
)
_gauges = st.lists(
    st.tuples(_durations_ns, st.integers(0, 10), st.integers(0, 300), st.integers(0, 10**4)), max_size=30
)
_Gauges = list[tuple[int, int, int, int]]
NUM_BLOCKS = 10


def _timeline(gauges: _Gauges, tail_ns: int) -> tuple[Timeline, list[int]]:
    """Report each value after its duration since the one before; return also the times, the end the last."""
    times_ns = list(accumulate([*(duration for duration, *_ in gauges), tail_ns]))
    timeline = Timeline()
    for at_ns, (_, blocks, running, waiting) in zip(times_ns, gauges, strict=False):
        timeline.gauges(at_ns, blocks, running, waiting)
    timeline.finish(times_ns[-1])
    return timeline, times_ns


def _area(gauges: _Gauges, times_ns: list[int], field: int, start_ns: int, end_ns: int) -> int:
    return sum(
        gauge[field] * max(0, min(until_ns, end_ns) - max(from_ns, start_ns))
        for gauge, (from_ns, until_ns) in zip(gauges, pairwise(times_ns), strict=True)
    )


@law
@given(_gauges, _durations_ns)
def test_averages_are_integrals(gauges: _Gauges, tail_ns: int) -> None:
    """Each interval's average is the integral over it, the last one cut at the end of the run."""
    timeline, times_ns = _timeline(gauges, tail_ns)
    end_ns = times_ns[-1]
    series = timeline.series(NUM_BLOCKS, end_ns)
    width_ns = round(series.interval_seconds * 10**9)
    bounds = [(start, min(start + width_ns, end_ns)) for start in range(0, end_ns, width_ns)]
    assert len(series.kv_usage) == len(series.running) == len(series.waiting) == len(bounds)
    for field, scale, digits, averages in (
        (1, NUM_BLOCKS, 6, series.kv_usage),
        (2, 1, 4, series.running),
        (3, 1, 4, series.waiting),
    ):
        assert averages == [
            round(_area(gauges, times_ns, field, start, stop) / ((stop - start) * scale), digits)
            for start, stop in bounds
        ]
    assert timeline.block_ns == _area(gauges, times_ns, 1, 0, end_ns)
    assert timeline.peak_blocks == max((blocks for _, blocks, *_ in gauges), default=0)
    assert timeline.at_ns == end_ns


@law
@given(_gauges, _durations_ns, st.integers(2, 5))
def test_repeating_a_report_changes_nothing(gauges: _Gauges, tail_ns: int, parts: int) -> None:
    """The same values, said several times while they hold, give the same averages."""
    once, times_ns = _timeline(gauges, tail_ns)
    often = Timeline()
    for gauge, (from_ns, until_ns) in zip(gauges, pairwise(times_ns), strict=True):
        for part in range(parts):
            often.gauges(from_ns + (until_ns - from_ns) * part // parts, *gauge[1:])
    often.finish(times_ns[-1])
    assert often.series(NUM_BLOCKS, times_ns[-1]) == once.series(NUM_BLOCKS, times_ns[-1])
    assert often.block_ns == once.block_ns


@law
@given(_gauges, _durations_ns)
def test_the_number_of_intervals_is_bounded(gauges: _Gauges, tail_ns: int) -> None:
    """Long runs have longer intervals, not more; once they had to be merged, at least half as many are in use."""
    timeline, times_ns = _timeline(gauges, tail_ns)
    series = timeline.series(NUM_BLOCKS, times_ns[-1])
    assert len(series.running) <= MAX_INTERVALS
    if series.interval_seconds > Timeline().series(1, 0).interval_seconds:
        assert len(series.running) >= MAX_INTERVALS // 2
