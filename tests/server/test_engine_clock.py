"""Clocks of engines: timers on each of them."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.support.virtual_time import run_in_virtual_time

from understudy.server.engine_clock import NS_PER_SECOND, FreeClock, ManualClock, ScaledClock, Timer

durations = st.lists(st.integers(0, 50), max_size=20)


@given(durations=durations, cancelled=st.sets(st.integers(0, 19)), stride=st.integers(1, 60))
def test_manual_timers_fire_at_their_times_in_order(
    durations: list[int], cancelled: set[int], stride: int
) -> None:
    """Whatever the stride of whoever moves the clock; those that are cancelled never do."""
    clock = ManualClock()
    fired: list[tuple[int, int]] = []
    timers: list[Timer] = [
        clock.call_after(duration, lambda number=number: fired.append((clock.now_ns(), number)))  # type: ignore[misc]
        for number, duration in enumerate(durations)
    ]
    for number in cancelled & set(range(len(timers))):
        timers[number].cancel()
    kept = sorted((duration, number) for number, duration in enumerate(durations) if number not in cancelled)
    assert clock.next_timer_ns == (kept[0][0] if kept else None)
    while clock.now_ns() < 60:
        clock.move_to(clock.now_ns() + stride)
    assert fired == kept
    assert clock.next_timer_ns is None


@given(delays=durations)
def test_manual_timers_may_set_others(delays: list[int]) -> None:
    """A chain of timers ends when the sum of its delays has passed, even within one stride."""
    clock = ManualClock()
    seen: list[int] = []

    def next_one(number: int) -> None:
        seen.append(clock.now_ns())
        if number < len(delays):
            clock.call_after(delays[number], lambda: next_one(number + 1))

    next_one(0)
    clock.move_to(sum(delays))
    assert seen == [sum(delays[:number]) for number in range(len(delays) + 1)]


def test_scaled_timers_take_as_much_of_the_loops_time() -> None:
    """Half of it at a scale of 0.5; cancelled, they never come."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        told: list[float] = []
        ScaledClock(loop, 0.5).call_after(4 * NS_PER_SECOND, lambda: told.append(loop.time()))
        ScaledClock(loop, 0.5).call_after(1, lambda: told.append(-1.0)).cancel()
        await asyncio.sleep(10)
        return told

    assert run_in_virtual_time(main()) == [2.0]


@given(
    seconds=st.lists(st.integers(0, 20), max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    leaps=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=5),
)
def test_free_timers_take_the_time_of_either_clock(
    seconds: list[int], cancelled: set[int], leaps: list[tuple[int, int]]
) -> None:
    """Each fires once, when the loop's clock or the steps have come so far, and not before; cancelled, never."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = FreeClock()
        fired: list[int] = []
        timers = [
            clock.call_after(duration * NS_PER_SECOND, lambda number=number: fired.append(number))  # type: ignore[misc]
            for number, duration in enumerate(seconds)
        ]
        for number in cancelled & set(range(len(timers))):
            timers[number].cancel()
        for wait_seconds, leap_seconds in leaps:
            await asyncio.sleep(wait_seconds + 0.5)
            clock.step_started(clock.now_ns() + leap_seconds * NS_PER_SECOND)
            await asyncio.sleep(0)
            passed_seconds = max(loop.time(), clock.now_ns() / NS_PER_SECOND)
            due = {number for number, duration in enumerate(seconds) if duration <= passed_seconds}
            assert sorted(fired) == sorted(due - cancelled)
        await asyncio.sleep(30)
        assert sorted(fired) == sorted(set(range(len(seconds))) - cancelled)

    run_in_virtual_time(main())
