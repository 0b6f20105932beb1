"""The queue in front of a fleet that has its fill: bounded in length and in time.

Requests wait in the order of their priority, lower first as in vLLM, and of arrival. It knows nothing of workers: whoever
makes it says whether there is room.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

RETRY_AFTER_SECONDS = 1
"""What a refused client is told to wait: the time within which a worker's health is looked at again."""


class _Place(NamedTuple):
    priority: int
    number: int
    turn: asyncio.Future[None]


class QueueFullError(Exception):
    """Too many requests wait already."""


class QueueTimeoutError(Exception):
    """A request waited as long as it may."""


class Admission:
    """Lets requests in while `has_room` says so of their model, holds up to `max_waiting` others for `max_seconds`.

    Who waits for one model is not held up by those who wait for another.
    """

    def __init__(self, has_room: Callable[[str | None], bool], max_waiting: int, max_seconds: float) -> None:
        self.max_waiting = max_waiting
        self.max_seconds = max_seconds
        self._has_room = has_room
        self._numbers = count()
        self._waiting: dict[str | None, list[_Place]] = {}
        self._num_waiting = 0

    @property
    def num_waiting(self) -> int:
        """How many requests wait."""
        return self._num_waiting

    async def enter(self, priority: int, model: str | None = None) -> None:
        """Return when the request may be given to a worker, before the event loop does anything else.

        Raises QueueFullError or QueueTimeoutError.
        """
        if model not in self._waiting and self._has_room(model):
            return
        if self._num_waiting >= self.max_waiting:
            raise QueueFullError
        self._num_waiting += 1
        try:
            async with asyncio.timeout(self.max_seconds):
                await self._turn(priority, next(self._numbers), model)
        except TimeoutError:
            raise QueueTimeoutError from None
        finally:
            self._num_waiting -= 1
            # Whoever is let in takes the room in this turn of the loop; there may be more, for others.
            asyncio.get_running_loop().call_soon(self.room_made)

    async def _turn(self, priority: int, number: int, model: str | None) -> None:
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue = self._waiting.setdefault(model, [])
            # Those who gave up are else taken out only when their turn comes.
            if len(queue) >= 2 * self.max_waiting:
                queue[:] = [place for place in queue if not place.turn.done()]
                heapq.heapify(queue)
            heapq.heappush(queue, _Place(priority, number, turn))
            await turn
            if self._has_room(model):
                return

    def room_made(self) -> None:
        """Let the next in turn for each model in, if there is room now; to be called whenever there may be."""
        for model, queue in list(self._waiting.items()):
            while queue and queue[0].turn.done():
                heapq.heappop(queue)
            if queue and self._has_room(model):
                heapq.heappop(queue).turn.set_result(None)
            if not queue:
                del self._waiting[model]
