"""The death of a worker's engine, after which its server answers for a little while and ends.

(watchdog_loop and terminate_if_errored of vllm/entrypoints/launchers/launcher.py, 0.33.0)
"""

import asyncio
import contextlib
from collections.abc import Mapping

from understudy.errors import UsageError

WATCHDOG_SECONDS = 5.0
"""How long a server goes on whose engine has died, unless a request is refused for it: VLLM_WATCHDOG_TIME_S."""

_KEEP_ALIVE = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"


class EngineDeath:
    """Whether the engine has died, and whether a client has learnt of it by a status."""

    def __init__(self) -> None:
        self._has_happened = asyncio.Event()
        self._is_told = asyncio.Event()

    @property
    def has_happened(self) -> bool:
        """Whether the engine has died."""
        return self._has_happened.is_set()

    def happened(self) -> None:
        """Hear that the engine has died."""
        self._has_happened.set()

    def answered(self, status: int) -> None:
        """Hear with which status a request was answered; only of a dead engine's 500 anything follows."""
        if self.has_happened and status == 500:
            self._is_told.set()

    async def wait(self) -> None:
        """Wait until the engine dies."""
        await self._has_happened.wait()

    async def wait_for_end(self) -> None:
        """Wait until the server of a dead engine is to end: when a request has been refused, or else soon."""
        await self._has_happened.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCHDOG_SECONDS):
                await self._is_told.wait()


def outlives_its_engine(environment: Mapping[str, str]) -> bool:
    """Return whether VLLM_KEEP_ALIVE_ON_ENGINE_DEATH says that the server goes on. Raises UsageError for what is no number."""
    value = environment.get(_KEEP_ALIVE, "0")
    try:
        return bool(int(value))
    except ValueError:
        raise UsageError(f"{_KEEP_ALIVE} must be 0 or 1, got {value!r}") from None
