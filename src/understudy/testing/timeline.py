"""Moves one manual clock for all servers that share it: from one thing that is due to the next, each fully done."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from understudy.server.engine_clock import ManualClock
from understudy.testing.quiet_loop import QuietLoop


class OnClock(Protocol):
    """What waits for a clock."""

    def next_ns(self) -> int | None:
        """Return when something is due, None for never."""

    async def wake(self) -> None:
        """Do what is due by now."""


class Timeline:
    """A manual clock and who waits for it. Use it in the loop; calls from several tasks take turns."""

    def __init__(self, loop: QuietLoop) -> None:
        self.clock = ManualClock()
        self.servers: list[OnClock] = []
        self._loop = loop
        self._one_mover = asyncio.Lock()

    def restart(self) -> None:
        """Let it be 0 again, for servers that are about to be made anew."""
        self.clock = ManualClock()

    async def advance(self, duration_ns: int) -> None:
        """Move the clock step by step; when this returns, all that became due has been done and written to sockets."""
        async with self._one_mover:
            await self._loop.quiet()
            target_ns = self.clock.now_ns() + duration_ns
            await self._take_what_is_due(target_ns)
            await self._move(target_ns)

    async def run_until_idle(self, max_duration_ns: int) -> bool:
        """Move the clock until nothing is due any more; False if that takes longer than `max_duration_ns`."""
        async with self._one_mover:
            await self._loop.quiet()
            return await self._take_what_is_due(self.clock.now_ns() + max_duration_ns)

    async def _take_what_is_due(self, until_ns: int) -> bool:
        while (due_ns := self._next_ns()) is not None:
            if due_ns > until_ns:
                return False
            await self._move(due_ns)
        return True

    def _next_ns(self) -> int | None:
        due = _known([self.clock.next_timer_ns, *(server.next_ns() for server in self.servers)])
        return min(due, default=None)

    async def _move(self, at_ns: int) -> None:
        self.clock.move_to(max(at_ns, self.clock.now_ns()))
        for server in list(self.servers):
            await server.wake()
        await self._loop.quiet()


def _known(moments: Iterable[int | None]) -> list[int]:
    return [moment for moment in moments if moment is not None]
