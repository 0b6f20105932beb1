"""When faults hold, by the engine's clock alone or with a clock outside."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from understudy.server.faults import Crash, Fault, FaultPlan, Refuse, Slow
from understudy.server.faults.hours import FaultHours


@dataclass
class _Clocks:
    engine_seconds: float = 0.0
    outside_seconds: float = 0.0


_seconds = st.integers(0, 20).map(float)
_kinds = st.sampled_from([Refuse, Crash, Slow])
_moves = st.lists(st.tuples(_seconds, _seconds), max_size=8)


def _hours(clocks: _Clocks, *faults: Fault, with_outside: bool = True) -> FaultHours:
    return FaultHours(
        FaultPlan(faults=faults),
        lambda: clocks.engine_seconds,
        (lambda: clocks.outside_seconds) if with_outside else None,
    )


@given(kind=_kinds, begin=_seconds, length=_seconds | st.none(), moves=_moves)
def test_without_a_clock_outside_only_the_engines_counts(
    kind: type[Refuse | Crash | Slow], begin: float, length: float | None, moves: list[tuple[float, float]]
) -> None:
    """From its begin to its end, whenever it is asked."""
    clocks = _Clocks()
    hours = _hours(clocks, kind(at_seconds=begin, for_seconds=length), with_outside=False)
    [fault] = hours.plan.faults
    for engine, outside in moves:
        clocks.engine_seconds += engine
        clocks.outside_seconds += outside
        now = clocks.engine_seconds
        assert hours.holds(fault) is fault.holds(now)
        assert hours.is_over(fault) is (length is not None and now >= begin + length)


@given(kind=_kinds, begin=_seconds, length=_seconds | st.none(), moves=_moves)
def test_with_a_clock_outside_no_fault_outlasts_its_seconds_there(
    kind: type[Refuse | Crash | Slow], begin: float, length: float | None, moves: list[tuple[float, float]]
) -> None:
    """They count from when it is first seen to have begun; those that keep work away last exactly so long."""
    clocks = _Clocks()
    hours = _hours(clocks, kind(at_seconds=begin, for_seconds=length))
    [fault] = hours.plan.faults
    begun: float | None = 0.0 if begin <= 0 else None
    for engine, outside in moves:
        clocks.engine_seconds += engine
        clocks.outside_seconds += outside
        if begun is None and clocks.engine_seconds >= begin:
            begun = clocks.outside_seconds
        is_within = begun is not None and (length is None or clocks.outside_seconds - begun < length)
        if kind is Slow:
            is_within = is_within and fault.holds(clocks.engine_seconds)
        assert hours.holds(fault) is is_within
        assert hours.is_over(fault) is (begun is not None and not is_within)


def test_a_window_that_has_passed_is_over_at_once() -> None:
    """And a fault without a time begins when its plan is set, in a plan of its own or a longer one."""
    clocks = _Clocks(engine_seconds=10, outside_seconds=100)
    hours = _hours(clocks, Refuse(at_seconds=5, for_seconds=5), Crash(for_seconds=5))
    passed, crash = hours.plan.faults
    assert (hours.is_over(passed), hours.holds(crash)) == (True, True)
    clocks.outside_seconds = 104
    hours.plan = FaultPlan(faults=(*hours.plan.faults, Slow()))
    assert (hours.is_over(passed), hours.holds(crash)) == (True, True)
    clocks.outside_seconds = 105
    assert hours.is_over(crash)
