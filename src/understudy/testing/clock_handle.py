"""The clock of servers in process, as a test holds it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from understudy.errors import UsageError
from understudy.server.admin import MAX_SECONDS
from understudy.server.engine_clock import NS_PER_SECOND, EngineClock
from understudy.testing.live_server import LiveServer
from understudy.testing.loop_thread import LoopThread
from understudy.testing.timeline import Timeline

ClockKind = Literal["manual", "free", "real"]
"""A test moves it; it jumps from step to step and nothing waits; it goes by the wall clock and `--time-scale`."""

DEFAULT_CLOCK: ClockKind = "free"
"""With a manual clock a test that does not know of it would wait for ever."""

DEFAULT_MAX_SECONDS = 3600.0
"""Engine seconds; with the real clock the wall's."""


class ClockHandle:
    """Tells the time of the engines in seconds and, if it is manual, moves it. Any thread may call.

    `servers` are those that keep this time.
    """

    def __init__(
        self,
        kind: ClockKind,
        thread: LoopThread,
        timeline: Timeline,
        clock: Callable[[], EngineClock],
        servers: Sequence[LiveServer],
    ) -> None:
        self.kind = kind
        self._thread = thread
        self._timeline = timeline
        self._clock = clock
        self._servers = servers

    @property
    def now_seconds(self) -> float:
        """Engine seconds since the start, or since the last reset."""

        async def now() -> float:
            return self._clock().now_ns() / NS_PER_SECOND

        return self._thread.call(now())

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, step by step. What became due has been written to sockets when this returns.

        Only a manual clock can be advanced: raises UsageError for others, and for seconds that are no number from 0 to
        1,000,000,000.
        """
        if self.kind != "manual":
            raise UsageError(f"a {self.kind} clock moves by itself; start the server with clock='manual'")
        self._thread.call(self._timeline.advance(round(_checked("seconds", seconds) * NS_PER_SECOND)))

    def run_until_idle(self, max_seconds: float = DEFAULT_MAX_SECONDS) -> float:
        """Let time pass until nothing is in work, and no stall, late event or fault of the whole server is to come.

        Returns the time then, in seconds. Raises TimeoutError where that takes longer than `max_seconds`, and
        UsageError where these are no number from 0 to 1,000,000,000.
        """
        _checked("max_seconds", max_seconds)
        if not self._thread.call(self._run_until_idle(max_seconds)):
            raise TimeoutError(f"something is still due after {max_seconds:g} seconds")
        return self.now_seconds

    async def _run_until_idle(self, max_seconds: float) -> bool:
        if self.kind == "manual":
            return await self._timeline.run_until_idle(round(max_seconds * NS_PER_SECOND))
        try:
            async with asyncio.timeout(max_seconds):
                await self._thread.loop.quiet()
                for server in list(self._servers):
                    await server.worker.frontend.idle()
                await self._thread.loop.quiet()
        except TimeoutError:
            return False
        return True


def _checked(name: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise UsageError(f"{name} must be a number from 0 to {MAX_SECONDS:,.0f}, got {value!r}")
    return value
