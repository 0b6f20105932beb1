"""One emulated worker in the loop of a background thread: opened, restarted behind the same port, closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Self

from aiohttp import web

from understudy.server.admin import admin_application, start_admin
from understudy.server.application import application
from understudy.server.engine_clock import NS_PER_SECOND, EngineClock
from understudy.server.fault_timetable import FaultTimetable
from understudy.server.faults import FaultPlan
from understudy.server.serve import SERVER_NAME
from understudy.server.settings import Settings
from understudy.server.worker import Worker
from understudy.testing.request_log import RequestLog
from understudy.testing.timeline import Timeline
from understudy.web import RunningServer, start_server


class LiveServer:
    """Use it in the loop. `make_clock` gives the clock to a worker that starts; `timeline` moves it, None if it moves by itself."""

    def __init__(self, worker: Worker, running: RunningServer, log: RequestLog) -> None:
        self.worker = worker
        self.running = running
        self.log = log
        self.admin: RunningServer | None = None
        self._timeline: Timeline | None = None
        self._timetable = self._new_timetable()
        self._following = contextlib.AsyncExitStack()

    @classmethod
    async def open(cls, settings: Settings, clock: EngineClock, timeline: Timeline | None) -> Self:
        """Serve by a clock; `timeline` moves it, None if it moves by itself. Raises UsageError where an address cannot be had."""
        worker, log = Worker(settings, clock), RequestLog()
        values = settings.arguments.values
        try:
            running = await start_server(
                _application(worker, log), host=values["host"], port=values["port"], server_name=SERVER_NAME
            )
        except BaseException:
            await worker.close()
            raise
        server = cls(worker, running, log)
        try:
            server._timeline = timeline
            if timeline is not None:
                timeline.servers.append(server)
            await server._follow_faults()
            if (admin_port := values["admin_port"]) is not None:
                server.admin = await start_admin(server._admin_application(), admin_port)
        except BaseException:
            await server.close()
            raise
        return server

    async def restart(self, clock: EngineClock) -> None:
        """Be as if just opened: another worker at the same addresses. Connections break; new ones are never refused."""
        await self._following.aclose()
        self.worker = Worker(self.worker.settings, clock, predecessor=self.worker)
        self.log.clear()
        await self.running.replace(_application(self.worker, self.log))
        await self._follow_faults()
        if self.admin is not None:
            await self.admin.replace(self._admin_application())

    async def close(self) -> None:
        """Serve no more; what is in work breaks off."""
        await self._following.aclose()
        if self._timeline is not None:
            self._timeline.servers.remove(self)
        self.running.break_connections()
        for listener in (self.running, self.admin):
            if listener is not None:
                await listener.drain(0)
        await self.worker.close()

    async def set_faults(self, plan: FaultPlan) -> None:
        """Replace the plan of faults; what holds now has begun when this returns."""
        self.worker.faults.plan = plan
        await self._timetable.look()

    def next_ns(self) -> int | None:
        """Return when a step is due, or a fault of the whole server."""
        moments = (self.worker.frontend.loop.next_ns, self._timetable.next_ns())
        return min((moment for moment in moments if moment is not None), default=None)

    async def wake(self) -> None:
        """Take the steps and let the faults happen that are due by now."""
        self.worker.frontend.loop.wake()
        await self._timetable.look()

    async def _follow_faults(self) -> None:
        self._timetable = self._new_timetable()
        await self._timetable.look()
        if self._timeline is None:
            await self._following.enter_async_context(self._timetable)
        await self._following.enter_async_context(_running(self._end_with_the_engine()))

    async def _end_with_the_engine(self) -> None:
        """Serve no more when the engine dies, as a process that ends: who is connected gets an answer, and nobody else comes in."""
        await self.worker.death.wait()
        self.running.refuse()
        self.running.leave()

    def _new_timetable(self) -> FaultTimetable:
        return FaultTimetable(self.worker, self.running, lambda worker: _application(worker, self.log))

    def _admin_application(self) -> web.Application:
        timeline = self._timeline

        async def advance(seconds: float) -> None:
            assert timeline is not None, "there is a clock to move"
            await timeline.advance(round(seconds * NS_PER_SECOND))

        move = None if timeline is None else advance
        return admin_application(self.worker, self.running, self._timetable, move)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine while the context is open."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _application(worker: Worker, log: RequestLog) -> web.Application:
    app = application(worker)
    log.install(app)
    return app
