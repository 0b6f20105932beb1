"""One connection of a client: aiohttp's protocol, with deadlines and limits around its parser."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from understudy.web.answers import error_answer, internal_error, invalid_request, raw_error_answer
from understudy.web.limits import HttpLimits

_TOO_MANY_HEADERS = "Too many headers received"
"""What aiohttp's parser says; there is no class of error for it."""

_TURNS_AFTER_EOF = 16
"""Turns of the event loop in which a half-closed client still gets an answer that nothing holds up, as from uvicorn."""


class Connections:
    """The connections of a server: those that it serves, and those that it has yet to get rid of.

    `server` is who serves the next one.
    """

    def __init__(self, limits: HttpLimits, server_name: str) -> None:
        self.limits = limits
        self.server_name = server_name
        self.server: web.Server | None = None
        self.is_leaving = False
        self.served: set[Connection] = set()
        self.refused: set[Connection] = set()
        self.all_closed = asyncio.Event()
        self.all_closed.set()

    def add(self, connection: "Connection") -> bool:
        """Take in a connection; False where it is not to be served."""
        is_served = len(self.served) < self.limits.connections and not self.is_leaving
        (self.served if is_served else self.refused).add(connection)
        self.all_closed.clear()
        return is_served

    def discard(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.served.discard(connection)
        self.refused.discard(connection)
        if not self.served and not self.refused:
            self.all_closed.set()


class Connection(RequestHandler):
    """A connection that cannot be held open by a client that sends slowly, or too much."""

    # `_wire` is the transport: aiohttp forgets its own when it closes it, though that may still have much to send.
    __slots__ = (
        "_body",
        "_connections",
        "_head_bytes",
        "_head_timer",
        "_is_refused",
        "_is_served",
        "_wire",
    )

    def __init__(self, server: web.Server, connections: Connections) -> None:
        limits = connections.limits
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keep_alive_seconds,
            lingering_time=limits.linger_seconds,
            access_log=None,  # type: ignore[arg-type]  # None turns the log off; aiohttp says Logger
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.header_count,
            auto_decompress=False,
        )
        self._connections = connections
        self._is_served = False
        self._is_refused = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request that has come is not answered yet."""
        return bool(self._messages) or (self._request_count > 0 and self._waiter is None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where there are too many."""
        self._wire = cast("asyncio.Transport", transport)
        self._is_served = self._connections.add(self)
        if self._is_served:
            super().connection_made(transport)
        elif len(self._connections.refused) > self._connections.limits.connections:
            self._wire.abort()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        if self._is_served:
            super().connection_lost(exc)
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the parser, and see how far the headers of a request have come."""
        if self._is_refused:
            return
        num_requests = self._request_count
        super().data_received(data)
        if self._request_count != num_requests:
            self._head_complete()
        elif data and self._body is None:
            self._head_continues(len(data))
        if self._body is not None and self._body.is_eof():
            self._body = None

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio takes True here; aiohttp says None
        """Let what is in work be answered if it needs no waiting; True keeps the transport open for that."""
        if self._is_refused or self.ssl_context is not None or not self.is_busy:
            return False
        self._after_turns(_TURNS_AFTER_EOF, self._close_transport)
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; clients get no parser's words
    ) -> web.StreamResponse:
        """Return the answer to what is no request, or to what a handler did not catch."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, LineTooLong) or (
            isinstance(exc, BadHttpMessage) and exc.message == _TOO_MANY_HEADERS
        ):
            answer = error_answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, close=True)
        elif status == HTTPStatus.BAD_REQUEST:
            answer = invalid_request()
        else:
            self.log_exception("error handling a request", exc_info=exc)
            answer = internal_error()
        answer.headers["Server"] = self._connections.server_name
        return answer

    def leave(self) -> None:
        """Close as soon as nothing is in work; at once if nothing is."""
        if self.is_busy:
            self.close()
        else:
            self.force_close()

    def abort(self) -> None:
        """Close without sending what the client has not taken."""
        self._wire.abort()

    def _head_complete(self) -> None:
        self._stop_head_timer()
        self._head_bytes = 0
        if self._messages:
            payload = self._messages[-1][1]
            self._body = None if payload.is_eof() else payload

    def _head_continues(self, num_bytes: int) -> None:
        limits = self._connections.limits
        self._head_bytes += num_bytes
        if self._head_bytes > limits.header_bytes and not self.is_busy:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(
                limits.header_seconds, self._head_overdue, self._request_count
            )

    def _head_overdue(self, num_requests: int) -> None:
        self._head_timer = None
        if self._request_count == num_requests:
            self._close_transport()

    def _refuse(self, status: HTTPStatus) -> None:
        """Send one answer, and listen no more; closed at once, the client's system might throw the answer away."""
        self._is_refused = True
        self._stop_head_timer()
        self._wire.write(raw_error_answer(status, self._connections.server_name))
        if self._wire.can_write_eof():
            self._wire.write_eof()
        self._head_timer = self._loop.call_later(self._connections.limits.linger_seconds, self.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_transport(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _after_turns(self, num_turns: int, callback: Callable[[], None]) -> None:
        if num_turns == 0:
            callback()
        else:
            self._loop.call_soon(self._after_turns, num_turns - 1, callback)
