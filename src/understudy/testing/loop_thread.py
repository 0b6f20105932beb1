"""A background thread with an event loop of its own, to which other threads hand coroutines."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from understudy.testing.quiet_loop import QuietLoop

T = TypeVar("T")

THREAD_NAME = "understudy-testing"


class LoopThread:
    """Runs from its making until `close`."""

    def __init__(self) -> None:
        self.loop = QuietLoop()
        self._stop = asyncio.Event()
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result, or raise what it raises."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            work.close()
            raise RuntimeError(
                "a server in process is used from other threads than its own, while it is open"
            )
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and the thread; what still runs there by then is a mistake of ours."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        assert not self._left_behind, f"tasks were left behind: {self._left_behind}"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._stop.wait()
        await self.loop.quiet()
        self._left_behind = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task}
