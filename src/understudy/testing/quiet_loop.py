"""An event loop that can tell when it has nothing left to do: no callback is ready, and no socket has anything to say."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from selectors import SelectorKey
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """The system's selector, which calls `on_idle` once instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.on_idle: Callable[[], None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        on_idle = self.on_idle
        if on_idle is None or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.on_idle = None
            on_idle()
        return events


class QuietLoop(asyncio.SelectorEventLoop):
    """A loop whose coroutines may wait for `quiet`. What they run in an executor runs at once, so it is over by then."""

    def __init__(self) -> None:
        self._watched = _Selector()
        super().__init__(self._watched)
        self.set_default_executor(InlineExecutor())
        self._waiting: list[asyncio.Future[None]] = []

    async def quiet(self) -> None:
        """Wait until the loop would sleep: all that has arrived is read, all that is due is done and written."""
        waiting: asyncio.Future[None] = self.create_future()
        self._waiting.append(waiting)
        self._watched.on_idle = self._wake
        await waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class InlineExecutor(ThreadPoolExecutor):
    """Runs what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the result as a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever waits for the future gets it
            future.set_exception(error)
        return future
