"""An asyncio event loop whose time does not pass but jumps: to the next timer, whenever no socket has anything to say."""

import asyncio
import selectors
from collections.abc import Coroutine
from selectors import SelectorKey
from typing import Any, TypeVar

from understudy.testing.quiet_loop import InlineExecutor

T = TypeVar("T")

QUIET_SECONDS = 0.002
"""How long sockets on this machine get, in real time, to bring what was sent to them."""


class _JumpingSelector(selectors.DefaultSelector):
    """Asks the real selector, and moves the loop's clock where that would have waited in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        events = super().select(timeout if timeout is None else QUIET_SECONDS)
        if not events and timeout is not None:
            self.now_seconds += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that starts at time 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.set_default_executor(InlineExecutor())

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now_seconds


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` would, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
