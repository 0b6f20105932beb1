"""Lets those faults happen that strike the whole server: refused connections and crashes, at their times."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from understudy.server.engine_clock import NS_PER_SECOND, Timer
from understudy.server.faults import Crash, Refuse
from understudy.server.worker import Worker
from understudy.web import RunningServer

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02
"""How often it is looked whether a fault begins or ends, whatever the clock says: the plan may change at any time."""


class FaultTimetable:
    """Follows the plan of a server: as an asynchronous context while it is open, or whenever it is told to `look`.

    `application` makes what serves the worker when it is back from a crash.
    """

    def __init__(
        self, worker: Worker, running: RunningServer, application: Callable[[Worker], web.Application]
    ) -> None:
        self._worker = worker
        self._running = running
        self._application = application
        self._crashed: list[Crash] = []
        self._looked_seconds = -math.inf
        self._one_look = asyncio.Lock()
        self._is_due = asyncio.Event()
        self._due_ns: int | None = None
        self._timer: Timer | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()

    async def look(self) -> None:
        """Let faults begin and end that are due by now; a crash whose time is over strikes too if it began since the last look.

        A worker whose engine has died is left alone: its server ends.
        """
        async with self._one_look:
            if self._worker.death.has_happened:
                return
            now_seconds = self._worker.clock.now_ns() / NS_PER_SECOND
            hours = self._worker.faults.hours
            hours.look()
            faults = hours.plan.faults
            self._crashed = [crash for crash in self._crashed if any(crash is fault for fault in faults)]
            is_down = False
            for fault in faults:
                if isinstance(fault, Crash) and self._strikes(fault, now_seconds):
                    await self._crash(fault)
                is_down = is_down or (isinstance(fault, Refuse | Crash) and hours.holds(fault))
            self._looked_seconds = now_seconds
            if is_down and self._running.is_accepting:
                self._worker.metrics.fault_injected("refuse")
                self._running.refuse()
            elif not is_down and not self._running.is_accepting:
                await self._running.accept()

    def next_ns(self) -> int | None:
        """Return when it is worth while to look again by the plan of now, None for never."""
        now_ns = self._worker.clock.now_ns()
        moments = [
            moment
            for fault in self._worker.faults.plan.faults
            if isinstance(fault, Refuse | Crash)
            for moment in (fault.begin_seconds, fault.end_seconds)
            if now_ns / NS_PER_SECOND < moment < math.inf
        ]
        return max(now_ns + 1, math.ceil(min(moments) * NS_PER_SECOND)) if moments else None

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
            except OSError as error:
                _log.error("Cannot listen again yet: %s", error)
            self._set_timer()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._is_due.wait()
            self._is_due.clear()

    def _set_timer(self) -> None:
        """Let the clock say when to look again, so that a fault strikes whatever work runs at its time."""
        due_ns = self.next_ns()
        if due_ns == self._due_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        clock = self._worker.clock
        self._due_ns = due_ns
        self._timer = None if due_ns is None else clock.call_after(due_ns - clock.now_ns(), self._now_due)

    def _now_due(self) -> None:
        self._due_ns = None
        self._is_due.set()

    def _strikes(self, crash: Crash, now_seconds: float) -> bool:
        if any(crash is other for other in self._crashed):
            return False
        is_down = self._worker.faults.hours.holds(crash)
        return is_down or self._looked_seconds <= crash.begin_seconds <= now_seconds

    async def _crash(self, crash: Crash) -> None:
        _log.warning("Injected fault: crash")
        self._crashed.append(crash)
        self._worker.metrics.fault_injected("crash")
        if self._running.is_accepting:
            self._running.refuse()
        self._worker.crash()
        await self._running.replace(self._application(self._worker))
