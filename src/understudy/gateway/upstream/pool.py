"""The connections to one worker: a new request gets the one that was used last."""

import asyncio
import ssl

from understudy.gateway.upstream.address import WorkerAddress
from understudy.gateway.upstream.connection import UpstreamConnection

IDLE_SECONDS = 4.0
"""How long an unused connection is kept: less than the 5 s of vLLM's server (VLLM_HTTP_TIMEOUT_KEEP_ALIVE), so that it is
we who close it, and not the worker while a request is on its way."""

CONNECT_SECONDS = 1.0
_TURNS_TO_HEAR = 16
"""Turns of the event loop within which a connection that is there is heard of."""


class ConnectFailedError(Exception):
    """There is no connection to the worker; the message says why."""


class Upstream:
    """The connections to one worker; `ssl_context` is needed for one at an https address."""

    def __init__(
        self,
        address: WorkerAddress,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        assert address.is_tls == (ssl_context is not None)
        self.address = address
        self._ssl_context = ssl_context
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._is_closed = False
        self._open: set[UpstreamConnection] = set()
        # In the order of use, the last used at the end.
        self._idle: dict[UpstreamConnection, None] = {}
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def num_open(self) -> int:
        """Connections, idle or not."""
        return len(self._open)

    @property
    def num_idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def idle_connection(self) -> UpstreamConnection | None:
        """Return a connection that is open, out of those kept."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_fresh:
                return connection
            connection.close()
        return None

    async def connect(self) -> UpstreamConnection:
        """Return a new connection; raises ConnectFailedError."""
        connecting = asyncio.get_running_loop().create_task(self._connected())
        try:
            await asyncio.wait([connecting], timeout=self._connect_seconds)
            # Where this process itself was late, the connection may be there, and only not be heard of yet.
            for _ in range(_TURNS_TO_HEAR):
                if connecting.done():
                    break
                await asyncio.sleep(0)
            if not connecting.done():
                raise ConnectFailedError(f"no connection within {self._connect_seconds:g} s")
            connection = connecting.result()
        except (OSError, UnicodeError) as error:
            raise ConnectFailedError(getattr(error, "strerror", None) or str(error)) from error
        finally:
            await _ended(connecting)
        if self._is_closed:
            connection.close()
            raise ConnectFailedError("the worker has left")
        if connection.is_closed:
            raise ConnectFailedError("the worker closed it at once")
        self._open.add(connection)
        return connection

    async def _connected(self) -> UpstreamConnection:
        address = self.address
        _, connection = await asyncio.get_running_loop().create_connection(
            self._connection,
            address.host,
            address.port,
            ssl=self._ssl_context,
            server_hostname=address.host if self._ssl_context else None,
        )
        return connection

    def close(self) -> None:
        """Close idle connections now, and each of the others after its answer."""
        self._is_closed = True
        idle, self._idle = self._idle, {}
        for connection in idle:
            connection.close()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def abort(self) -> None:
        """Close all connections at once; requests on their way end as where the worker breaks off."""
        self.close()
        for connection in list(self._open):
            connection.break_off()

    def _connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._keep, self._lost)

    def _keep(self, connection: UpstreamConnection) -> None:
        if self._is_closed:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since_seconds = loop.time()
        self._idle[connection] = None
        if self._expiry is None:
            self._expiry = loop.call_later(self._idle_seconds, self._expire)

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _expire(self) -> None:
        """Close what was not used for long."""
        self._expiry = None
        loop = asyncio.get_running_loop()
        for connection in list(self._idle):
            until_seconds = connection.idle_since_seconds + self._idle_seconds
            if until_seconds > loop.time():
                self._expiry = loop.call_at(until_seconds, self._expire)
                return
            del self._idle[connection]
            connection.close()


async def _ended(connecting: asyncio.Task[UpstreamConnection]) -> None:
    """Leave no attempt behind: one that nobody waits for any more is given up, or closed if it came too late."""
    if connecting.done():
        return
    connecting.cancel()
    await asyncio.wait([connecting])
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
