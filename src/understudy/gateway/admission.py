"""The queue in front of a fleet that has its fill: bounded in length and in time.

Requests wait in the order of their priority, lower first as in vLLM, and of arrival. It knows nothing of workers: whoever
makes it says whether there is room.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

RETRY_AFTER_SECONDS = 1
"""What a refused client is told to wait: the time within which a worker's health is looked at again."""


class QueueFullError(Exception):
    """Too many requests wait already."""


class QueueTimeoutError(Exception):
    """A request waited as long as it may."""


class Admission:
    """Lets requests in while `has_room` says so, holds up to `max_waiting` others for `max_seconds`."""

    def __init__(self, has_room: Callable[[], bool], max_waiting: int, max_seconds: float) -> None:
        self.max_waiting = max_waiting
        self.max_seconds = max_seconds
        self._has_room = has_room
        self._numbers = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._num_waiting = 0

    @property
    def num_waiting(self) -> int:
        """How many requests wait."""
        return self._num_waiting

    async def enter(self, priority: int) -> None:
        """Return when the request may be given to a worker, before the event loop does anything else.

        Raises QueueFullError or QueueTimeoutError.
        """
        if self._has_room() and not self._num_waiting:
            return
        if self._num_waiting >= self.max_waiting:
            raise QueueFullError
        self._num_waiting += 1
        try:
            async with asyncio.timeout(self.max_seconds):
                await self._turn(priority, next(self._numbers))
        except TimeoutError:
            raise QueueTimeoutError from None
        finally:
            self._num_waiting -= 1
            # Whoever is let in takes the room in this turn of the loop; there may be more, for others.
            asyncio.get_running_loop().call_soon(self.room_made)

    async def _turn(self, priority: int, number: int) -> None:
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._forget_those_who_left()
            heapq.heappush(self._waiting, (priority, number, turn))
            await turn
            if self._has_room():
                return

    def _forget_those_who_left(self) -> None:
        """Keep the heap within twice the bound: those who gave up are else taken out only when their turn comes."""
        if len(self._waiting) >= 2 * self.max_waiting:
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapq.heapify(self._waiting)

    def room_made(self) -> None:
        """Let the next in turn in, if there is room now; to be called whenever a worker has finished a request, or joined."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        if self._waiting and self._has_room():
            heapq.heappop(self._waiting)[2].set_result(None)
