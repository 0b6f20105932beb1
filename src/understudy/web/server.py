"""Listens, and stops in an orderly way."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from understudy.web.address import bound_socket, cannot_listen, share
from understudy.web.connection import Connection, Connections
from understudy.web.entry import Entry
from understudy.web.limits import DEFAULT_LIMITS, HttpLimits
from understudy.web.root_path import ROOT_PATH, below_root_path

_BACKLOG = 2048
"""Connections that wait to be accepted: uvicorn's default."""

_CANCEL_SECONDS = 0.1
"""What a cancelled handler gets to clean up behind itself."""


Listen = Callable[[int], Awaitable[asyncio.Server]]
"""Opens the address that a server is to be reached at, on a port where it has one."""


class RunningServer:
    """A server that accepts connections; end it with `drain`."""

    def __init__(
        self,
        runner: web.AppRunner,
        connections: Connections,
        *,
        listen: Listen,
        listener: asyncio.Server,
        uds: str | None,
    ) -> None:
        self._runner = runner
        self._connections = connections
        self._listen = listen
        self._listener: asyncio.Server | None = listener
        self._uds = uds
        self.port: int | None = None if uds else int(listener.sockets[0].getsockname()[1])

    @property
    def is_accepting(self) -> bool:
        """Whether new connections are accepted."""
        return self._listener is not None

    def refuse(self) -> None:
        """Accept no new connections until `accept`; those that are open go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def accept(self) -> None:
        """Accept connections again, at the same address; raises OSError where somebody else has taken it."""
        if self._listener is None:
            self._listener = await self._listen(self.port or 0)

    def leave(self) -> None:
        """Close each connection as soon as what is in work on it is answered; at once if nothing is."""
        for connection in list(self._connections.served):
            connection.leave()

    def break_connections(self) -> None:
        """Break all connections off, as a process that dies."""
        for connection in [*self._connections.served, *self._connections.refused]:
            connection.abort()

    async def replace(self, app: web.Application) -> None:
        """Serve another application from now on, as a process that was restarted, but without a gap for new connections."""
        runner, self._runner = self._runner, await _set_up(app, self._connections)
        self.break_connections()
        await runner.cleanup()

    @property
    def num_connections(self) -> int:
        """Connections that are served."""
        return len(self._connections.served)

    async def drain(self, timeout_seconds: float) -> None:
        """Accept nothing more, finish what is in work, and close; after `timeout_seconds` handlers are cancelled."""
        self._connections.is_leaving = True
        self.refuse()
        self.leave()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connections.all_closed.wait(), timeout_seconds)
        await self._runner.cleanup()
        for connection in [*self._connections.served, *self._connections.refused]:
            connection.abort()
        await self._connections.all_closed.wait()
        if self._uds is not None:
            _remove(Path(self._uds))


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _set_up(app: web.Application, connections: Connections) -> web.AppRunner:
    """Let new connections be served by an application."""

    async def name_server(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = connections.server_name
        if connections.is_leaving:
            response.headers["Connection"] = "close"

    app.on_response_prepare.append(name_server)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_CANCEL_SECONDS)
    await runner.setup()
    server = runner.server
    assert server is not None
    if root_path := app.get(ROOT_PATH):
        server.request_factory = below_root_path(root_path, server.request_factory)
    server.request_handler = Entry(
        server.request_handler, app.router, connections.limits, connections.server_name
    )
    connections.server = server
    return runner


async def start_server(
    app: web.Application | Handler,
    *,
    host: str = "",
    port: int = 0,
    bound: socket.socket | None = None,
    uds: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    limits: HttpLimits = DEFAULT_LIMITS,
    server_name: str = "uvicorn",
) -> RunningServer:
    """Serve an application, or one handler for every path, and return once connections are accepted.

    Listens on `uds`, a path, if that is given, else on `host` and `port` as of `bound_socket`; `bound` has that
    address if it is held already, and is closed with the server. A handler is cancelled when its client is gone.
    Raises UsageError where the address cannot be had.
    """
    if not isinstance(app, web.Application):
        handler, app = app, web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
    connections = Connections(limits, server_name)
    runner = await _set_up(app, connections)

    def connect() -> Connection:
        assert connections.server is not None, "it is set up"
        return Connection(connections.server, connections)

    loop = asyncio.get_running_loop()
    handshake_seconds = None if ssl_context is None else limits.header_seconds

    async def listen_at(held: socket.socket) -> asyncio.Server:
        share(held)
        try:
            return await loop.create_server(
                connect,
                sock=held,
                ssl=ssl_context,
                ssl_handshake_timeout=handshake_seconds,
                backlog=_BACKLOG,
            )
        except BaseException:
            held.close()
            raise

    async def listen(at_port: int) -> asyncio.Server:
        if uds is None:
            return await listen_at(bound_socket(host, at_port))
        return await loop.create_unix_server(
            connect, uds, ssl=ssl_context, ssl_handshake_timeout=handshake_seconds, backlog=_BACKLOG
        )

    try:
        listener = await (listen(port) if bound is None else listen_at(bound))
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        raise cannot_listen(uds or f"{host or '*'}:{port}", error) from error
    return RunningServer(runner, connections, listen=listen, listener=listener, uds=uds)
