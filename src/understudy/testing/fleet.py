"""Servers that share a thread, a loop and a clock."""

from understudy.errors import UsageError
from understudy.server.engine_clock import EngineClock, FreeClock, ScaledClock
from understudy.server.settings import Settings
from understudy.testing.clock_handle import ClockHandle, ClockKind
from understudy.testing.handle import ServerHandle
from understudy.testing.live_server import LiveServer
from understudy.testing.loop_thread import LoopThread
from understudy.testing.timeline import Timeline


class Fleet:
    """Equal servers; `handles` are for tests. Free clocks are each server's own, others are shared.

    The thread ends with the last server. Raises UsageError where an address cannot be had.
    """

    def __init__(self, count: int, settings: Settings, kind: ClockKind) -> None:
        if count < 1:
            raise UsageError(f"a fleet has at least 1 server, got {count}")
        self.handles: list[ServerHandle] = []
        self._kind = kind
        self._settings = settings
        self._servers: list[LiveServer] = []
        self._thread = LoopThread()
        self._timeline = Timeline(self._thread.loop)
        self._scaled: ScaledClock | None = None
        try:
            for _ in range(count):
                self._open()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether any server is left."""
        return bool(self._servers)

    def reset(self) -> None:
        """Let all servers be as at the start, and the clock at 0."""
        self._thread.call(self._restart_all())

    def close(self) -> None:
        """Close all servers and end the thread; may be called again."""
        while self._servers:
            self._close(self._servers[0])
        self._thread.close()

    def _open(self) -> None:
        async def open_server() -> LiveServer:
            timeline = self._timeline if self._kind == "manual" else None
            return await LiveServer.open(self._settings, self._clock(), timeline)

        server = self._thread.call(open_server())
        self._servers.append(server)
        clock = ClockHandle(
            self._kind,
            self._thread,
            self._timeline,
            lambda: server.worker.clock,
            [server] if self._kind == "free" else self._servers,
        )
        self.handles.append(
            ServerHandle(
                self._thread,
                server,
                clock,
                restart=lambda: self._thread.call(self._restart(server)),
                close=lambda: self._close(server),
            )
        )

    def _clock(self) -> EngineClock:
        match self._kind:
            case "manual":
                return self._timeline.clock
            case "free":
                return FreeClock()
            case "real":
                if self._scaled is None:
                    scale = self._settings.arguments.values["time_scale"]
                    self._scaled = ScaledClock(self._thread.loop, scale)
                return self._scaled

    async def _restart(self, server: LiveServer) -> None:
        if server not in self._servers:
            raise RuntimeError("a server that is closed cannot be reset")
        if len(self._servers) == 1:
            await self._restart_all()
        else:
            await server.restart(self._clock())

    async def _restart_all(self) -> None:
        self._timeline.restart()
        self._scaled = None
        for server in self._servers:
            await server.restart(self._clock())

    def _close(self, server: LiveServer) -> None:
        if server not in self._servers:
            return
        self._servers.remove(server)
        self._thread.call(server.close())
        if not self._servers:
            self._thread.close()
