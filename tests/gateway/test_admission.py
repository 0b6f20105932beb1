"""The queue in front of a full fleet: bounded, in order, and nobody is lost in it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.virtual_time import run_in_virtual_time

from understudy.gateway.admission import Admission, QueueFullError, QueueTimeoutError


class Room:
    """A fleet that has room for so many requests."""

    def __init__(self, size: int, max_waiting: int = 100, max_seconds: float = 30.0) -> None:
        self.size = size
        self.taken = 0
        self.admission = Admission(lambda _model: self.taken < self.size, max_waiting, max_seconds)

    async def use(self, seconds: float, priority: int = 0, order: list[int] | None = None) -> None:
        """Enter, stay, and leave."""
        await self.admission.enter(priority)
        assert self.taken < self.size, "nobody is let in where there is no room"
        self.taken += 1
        if order is not None:
            order.append(priority)
        await asyncio.sleep(seconds)
        self.taken -= 1
        self.admission.room_made()


@given(
    size=st.integers(1, 4),
    stays=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 3)), max_size=30),
)
def test_everybody_gets_in_and_nobody_too_many(size: int, stays: list[tuple[int, int, int]]) -> None:
    """Whatever the stays, starts and priorities: all are served in the end, and the queue is empty again."""

    async def one(room: Room, seconds: int, start: int, priority: int) -> None:
        await asyncio.sleep(start)
        await room.use(seconds, priority)

    async def main() -> Room:
        room = Room(size, max_seconds=1e6)
        await asyncio.gather(*(one(room, *stay) for stay in stays))
        return room

    room = run_in_virtual_time(main())
    assert room.taken == room.admission.num_waiting == 0


def test_the_urgent_go_first_then_the_first_come() -> None:
    """A lower priority value is let in before a higher one that came earlier."""

    async def main() -> list[int]:
        room, order = Room(1), list[int]()
        async with asyncio.TaskGroup() as tasks:
            for priority in (5, 5, 3, 0, 3):
                tasks.create_task(room.use(1, priority, order))
                await asyncio.sleep(0.01)
        return order

    assert run_in_virtual_time(main()) == [5, 0, 3, 3, 5]


def test_a_full_queue_refuses_at_once() -> None:
    """One more than may wait is refused without waiting."""

    async def main() -> None:
        room = Room(0, max_waiting=2)
        waiting = [asyncio.create_task(room.use(1)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await room.admission.enter(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert room.admission.num_waiting == 0

    run_in_virtual_time(main())


def test_nobody_waits_longer_than_told() -> None:
    """A request that finds no room in time is told so when the time is over."""

    async def main() -> float:
        room = Room(0, max_seconds=30)
        with pytest.raises(QueueTimeoutError):
            await room.admission.enter(0)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == pytest.approx(30)


def test_room_for_many_lets_many_in() -> None:
    """When a worker joins, as many go in as it has room for, though only one was called."""

    async def main() -> int:
        room = Room(0)
        waiting = [asyncio.create_task(room.use(1000)) for _ in range(9)]
        await asyncio.sleep(0)
        room.size = 7
        room.admission.room_made()
        await asyncio.sleep(1)
        taken = room.taken
        await _cancelled(waiting)
        return taken

    assert run_in_virtual_time(main()) == 7


def test_those_who_leave_take_no_memory() -> None:
    """Clients that give up while the queue stands still are forgotten."""

    async def main() -> int:
        room = Room(0, max_waiting=4)
        stays = asyncio.create_task(room.use(1))
        await asyncio.sleep(0)
        for _ in range(100):
            await _cancelled([leaver := asyncio.create_task(room.use(1))], after_turns=1)
            assert leaver.cancelled()
        size = sum(map(len, room.admission._waiting.values()))
        await _cancelled([stays])
        return size

    assert run_in_virtual_time(main()) <= 8


async def _cancelled(tasks: list[asyncio.Task[None]], after_turns: int = 0) -> None:
    for _ in range(after_turns):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_one_models_crowd_does_not_hold_up_anothers_requests() -> None:
    """Who waits for a model whose workers are full stands in nobody else's way, and is let in only by its own room."""

    async def main() -> list[str]:
        full, order = {"crowded"}, list[str]()
        admission = Admission(lambda model: model not in full, 10, 30)

        async def enter(model: str) -> None:
            await admission.enter(0, model)
            order.append(model)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(enter("crowded"))
            await asyncio.sleep(0)
            tasks.create_task(enter("other"))
            await asyncio.sleep(1)
            admission.room_made()
            await asyncio.sleep(1)
            assert order == ["other"]
            full.clear()
            admission.room_made()
        return order

    assert run_in_virtual_time(main()) == ["other", "crowded"]
