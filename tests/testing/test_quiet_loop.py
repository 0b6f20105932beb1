"""An event loop that knows when it has nothing left to do."""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st

from understudy.testing.quiet_loop import QuietLoop

T = TypeVar("T")


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=QuietLoop) as runner:
        return runner.run(main)


def _quiet_loop() -> QuietLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuietLoop)
    return loop


@given(depth=st.integers(0, 50), width=st.integers(1, 5))
def test_quiet_comes_after_every_chain_of_callbacks(depth: int, width: int) -> None:
    """However many turns of the loop what is ready brings with it."""

    async def main() -> int:
        done = 0

        async def chain() -> None:
            nonlocal done
            for _ in range(depth):
                await asyncio.sleep(0)
            done += 1

        tasks = [asyncio.create_task(chain()) for _ in range(width)]
        await _quiet_loop().quiet()
        assert all(task.done() for task in tasks)
        return done

    assert _run(main()) == width


@given(data=st.binary(min_size=1, max_size=300_000))
def test_quiet_comes_after_all_that_was_sent_to_its_sockets(data: bytes) -> None:
    """What the system has for a socket is read first."""

    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        with theirs:
            theirs.setblocking(False)
            num_sent = theirs.send(data)
            await _quiet_loop().quiet()
            received = await reader.readexactly(min(num_sent, 1 << 16)) if num_sent else b""
            writer.close()
            await writer.wait_closed()
            return received

    received = _run(main())
    assert received
    assert data.startswith(received)


def test_quiet_does_not_wait_for_timers() -> None:
    """A timer of the wall clock is not due yet, so nothing is to do."""

    async def main() -> bool:
        timer = asyncio.create_task(asyncio.sleep(1000))
        await _quiet_loop().quiet()
        was_done = timer.done()
        timer.cancel()
        return was_done

    assert _run(main()) is False


def test_an_executor_has_done_its_work_when_it_is_quiet() -> None:
    """In the loop's own thread, so that there is nothing to wait for; errors are raised where they belong."""

    async def main() -> tuple[list[int], str]:
        threads: list[int] = []
        loop = _quiet_loop()
        work = loop.run_in_executor(None, lambda: threads.append(threading.get_ident()))
        fails = loop.run_in_executor(None, lambda: 1 // 0)
        await loop.quiet()
        await work
        return threads, repr(fails.exception())

    assert _run(main()) == (
        [threading.get_ident()],
        repr(ZeroDivisionError("integer division or modulo by zero")),
    )


def test_everyone_who_waits_is_told() -> None:
    """Several may wait at a time, and again afterwards; one who gave up harms nobody."""

    async def main() -> None:
        loop = _quiet_loop()
        gave_up = asyncio.create_task(loop.quiet())
        await asyncio.sleep(0)
        gave_up.cancel()
        await asyncio.gather(*(loop.quiet() for _ in range(3)))
        await loop.quiet()

    _run(main())
