"""What time it is for the engines of a server: the event loop's time, faster or slower, or no waiting at all."""

import asyncio
import heapq
import math
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

NS_PER_SECOND = 1_000_000_000

_SAME_ORIGIN_SECONDS = 0.1
"""A loop whose time is nearer to the monotonic clock's than this counts from the same moment."""

_EARLY_SECONDS = 0.0005
"""Timers come up to a millisecond late, asyncio's and uvloop's. So much earlier, some are early, and wait on in short turns."""


class Timer(Protocol):
    """Something that is to happen later."""

    def cancel(self) -> None:
        """Let it not happen."""


class EngineClock(Protocol):
    """Engine time in nanoseconds since the server started; it never goes back."""

    waits: bool
    """Whether a step takes time. Without, steps follow each other as fast as they can be decided."""

    def now_ns(self) -> int:
        """Return the engine's time."""

    def step_started(self, at_ns: int) -> None:
        """Hear that the engines have come as far as `at_ns`."""

    def loop_time(self, at_ns: int) -> float:
        """Return when to wake up for `at_ns`, in seconds of the event loop's time; infinity if that is unknown."""

    def wall_seconds(self, duration_ns: int) -> float:
        """Return how long a stretch of engine time takes outside."""

    def call_after(self, duration_ns: int, callback: Callable[[], None]) -> Timer:
        """Call back in the event loop when so much engine time has passed."""


class ScaledClock:
    """The time of an event loop; `scale` outside seconds pass for each second of the engine.

    `seconds` is a finer clock of the same origin. `early_seconds` is how much earlier the loop is to be woken, because its
    timers are late.
    """

    waits = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scale: float,
        *,
        seconds: Callable[[], float] | None = None,
        early_seconds: float = 0.0,
    ) -> None:
        assert scale > 0
        self._loop = loop
        self._seconds = seconds or loop.time
        self._start_seconds = self._seconds()
        self._early_seconds = early_seconds
        self._ns_per_loop_second = NS_PER_SECOND / scale

    def now_ns(self) -> int:
        """Return the engine's time."""
        return math.floor((self._seconds() - self._start_seconds) * self._ns_per_loop_second + 0.5)

    def step_started(self, at_ns: int) -> None:
        """Time passes by itself."""

    def loop_time(self, at_ns: int) -> float:
        """Return when to wake up for `at_ns`: rather too early than too late, whoever comes too early waits on."""
        return self._start_seconds + at_ns / self._ns_per_loop_second - self._early_seconds

    def wall_seconds(self, duration_ns: int) -> float:
        """Return how long a stretch of engine time takes outside."""
        return duration_ns / self._ns_per_loop_second

    def call_after(self, duration_ns: int, callback: Callable[[], None]) -> Timer:
        """Call back when so much engine time has passed."""
        return asyncio.get_running_loop().call_later(self.wall_seconds(duration_ns), callback)


class FreeClock:
    """Engine time that passes in steps only: it is as late as the latest step, and stands still while nothing runs.

    So what waits for a time waits by the event loop's clock too, second for second, until either has come so far.
    """

    waits = False

    def __init__(self) -> None:
        self._now_ns = 0
        self._timers = _Timers()

    def now_ns(self) -> int:
        """Return when the latest step started."""
        return self._now_ns

    def step_started(self, at_ns: int) -> None:
        """Let time be as late as `at_ns`; what that wakes is called soon, not from within the step."""
        self._now_ns = max(self._now_ns, at_ns)
        while (timer := self._timers.take_due(self._now_ns)) is not None:
            asyncio.get_running_loop().call_soon(timer.fire)

    def loop_time(self, at_ns: int) -> float:
        """Everything is due at once."""
        del at_ns
        return 0.0

    def wall_seconds(self, duration_ns: int) -> float:
        """Nothing takes time."""
        del duration_ns
        return 0.0

    def call_after(self, duration_ns: int, callback: Callable[[], None]) -> Timer:
        """Call back when so much time has passed, the engine's or the event loop's."""
        timer = _OneTimer(callback)
        self._timers.add(self._now_ns + duration_ns, timer)
        timer.fallback = asyncio.get_running_loop().call_later(duration_ns / NS_PER_SECOND, timer.fire)
        return timer


class _OneTimer:
    """A callback that waits for somebody to fire it; `fallback`, if it is set, is who else will."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback
        self.fallback: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Let it not happen."""
        self._callback = None
        if self.fallback is not None:
            self.fallback.cancel()

    @property
    def is_over(self) -> bool:
        """Whether nothing is to happen any more."""
        return self._callback is None

    def fire(self) -> None:
        """Let it happen, once."""
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()


class _Timers:
    """Timers in the order of their times, equal ones in that of their making."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, _OneTimer]] = []
        self._serials = count()

    def add(self, due_ns: int, timer: _OneTimer) -> None:
        """Let a timer be due at a time."""
        heapq.heappush(self._waiting, (due_ns, next(self._serials), timer))

    @property
    def next_ns(self) -> int | None:
        """When the next timer is due, None without any."""
        while self._waiting and self._waiting[0][2].is_over:
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def take_due(self, by_ns: int) -> _OneTimer | None:
        """Return the next timer if it is due by that time; it waits no more."""
        due_ns = self.next_ns
        return None if due_ns is None or due_ns > by_ns else heapq.heappop(self._waiting)[2]


class ManualClock:
    """Engine time that passes only when somebody moves it: for tests that hold the clock in their hands.

    Idle engines, too, start only when whoever moves the clock wakes them: all that arrives before arrives together.
    """

    waits = True

    def __init__(self) -> None:
        self._now_ns = 0
        self._timers = _Timers()

    def now_ns(self) -> int:
        """Return what it was moved to."""
        return self._now_ns

    @property
    def next_timer_ns(self) -> int | None:
        """When the next timer is due, None without any."""
        return self._timers.next_ns

    def move_to(self, at_ns: int) -> None:
        """Let it be `at_ns`, and call back whom that wakes, each at its own time; it never goes back."""
        assert at_ns >= self._now_ns, "time does not go back"
        while (due_ns := self._timers.next_ns) is not None and (timer := self._timers.take_due(at_ns)):
            self._now_ns = due_ns
            timer.fire()
        self._now_ns = at_ns

    def call_after(self, duration_ns: int, callback: Callable[[], None]) -> Timer:
        """Call back when it has been moved so far."""
        timer = _OneTimer(callback)
        self._timers.add(self._now_ns + duration_ns, timer)
        return timer

    def step_started(self, at_ns: int) -> None:
        """Time passes by hand."""

    def loop_time(self, at_ns: int) -> float:
        """No time of the event loop brings it nearer."""
        del at_ns
        return math.inf

    def wall_seconds(self, duration_ns: int) -> float:
        """Nothing is ever late."""
        del duration_ns
        return 0.0


def engine_clock(loop: asyncio.AbstractEventLoop, scale: float) -> EngineClock:
    """Return the clock for a time scale, 0 for no waiting; finer than the loop's own, which uvloop's is in milliseconds."""
    if not scale:
        return FreeClock()
    has_same_origin = abs(loop.time() - time.monotonic()) < _SAME_ORIGIN_SECONDS
    seconds = time.monotonic if has_same_origin else None
    return ScaledClock(loop, scale, seconds=seconds, early_seconds=_EARLY_SECONDS)
