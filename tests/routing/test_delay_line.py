"""DelayLine: what was pushed comes out once, in order, and never early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.routing import DelayLine

times = st.lists(st.integers(0, 50), max_size=20).map(sorted)


@given(pushed=times, asked=times)
def test_items_come_out_in_order_and_on_time(pushed: list[int], asked: list[int]) -> None:
    """Whatever is asked when, each item comes out at the first question at or after its time."""
    line: DelayLine[int] = DelayLine()
    for number, visible_at_ns in enumerate(pushed):
        line.push(visible_at_ns, number)
    seen = 0
    for now_ns in asked:
        due = list(line.pop_due(now_ns))
        expected = [number for number, visible_at_ns in enumerate(pushed) if visible_at_ns <= now_ns]
        assert due == expected[seen:]
        seen = len(expected)
        assert len(line) == len(pushed) - seen


def test_items_not_taken_stay() -> None:
    """Whoever stops in the middle finds the rest later."""
    line: DelayLine[str] = DelayLine()
    line.push(1, "a")
    line.push(1, "b")
    assert next(line.pop_due(1)) == "a"
    assert list(line.pop_due(1)) == ["b"]


def test_time_does_not_go_back() -> None:
    """News older than the last, or a question about the past, is a mistake of the caller's."""
    line: DelayLine[str] = DelayLine()
    line.push(5, "a")
    with pytest.raises(AssertionError):
        line.push(4, "b")
    list(line.pop_due(7))
    with pytest.raises(AssertionError):
        list(line.pop_due(6))
