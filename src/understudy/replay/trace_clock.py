"""The trace's clock during a replay: the event loop's time, `speed` times as fast."""

import asyncio

_NS_PER_SECOND = 1_000_000_000


class TraceClock:
    """Nanoseconds of the trace's time. It shows `start_ns` when it is made, and never runs back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, start_ns: int, speed: float) -> None:
        self._loop = loop
        self._start_ns = start_ns
        self._ns_per_loop_second = _NS_PER_SECOND * speed
        self._start_seconds = loop.time()

    def now_ns(self) -> int:
        """Return the time."""
        return self._start_ns + round((self._loop.time() - self._start_seconds) * self._ns_per_loop_second)

    def seconds_until(self, at_ns: int) -> float:
        """Return how long to wait for a time on a clock on the wall; negative if it has passed."""
        due = self._start_seconds + (at_ns - self._start_ns) / self._ns_per_loop_second
        return due - self._loop.time()

    def wall_seconds(self, duration_ns: int) -> float:
        """Return how long a stretch of the trace's time takes on a clock on the wall."""
        return duration_ns / self._ns_per_loop_second
