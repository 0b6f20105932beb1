"""The answer to one client, written straight to its transport: in the router's own framing, the body as it came.

aiohttp reads the request and keeps the connection; of the answer it only learns that it has been sent.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Mapping

from aiohttp import HttpVersion11, web

from understudy.gateway.headers import OF_ANSWERS, OF_CORS, REQUEST_ID, passing
from understudy.gateway.upstream import AnswerHead
from understudy.web import CorsPolicy

MAX_UNSENT_BYTES = 64 * 1024
"""So much may wait for a client before its worker is not read any more; asyncio's own bound for TCP."""

LINGER_SECONDS = 10.0
"""How long a client that is told why its stream ends may take for the last bytes."""

_BODILESS = frozenset({204, 304})
_LAST_CHUNK = b"0\r\n\r\n"
_EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing resets."""


class ClientAnswer:
    """What one client is answered. `own_lines` are headers of the router; with `cors`, those of CORS are its own, too."""

    __slots__ = (
        "_cors",
        "_is_chunked",
        "_is_until_close",
        "_last_piece",
        "_own_lines",
        "_protocol",
        "_request",
        "_request_id",
        "_takes_events",
        "_transport",
        "_unsent",
        "has_begun",
        "is_stream",
        "keeps_alive",
    )

    def __init__(self, request: web.Request, request_id: bytes, cors: CorsPolicy | None) -> None:
        transport = request.transport
        assert transport is not None, "a handler is cancelled when its client is gone"
        if request.secure:
            # By default asyncio lets eight times as much wait where there is TLS.
            transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        self._request = request
        self._request_id = request_id
        self._cors = cors
        self._transport = transport
        self._protocol = request.protocol
        self._unsent = b""
        self._last_piece = b""
        self._is_chunked = False
        self._is_until_close = False
        self._takes_events = False
        self.has_begun = False
        self.is_stream = False
        self.keeps_alive = request.keep_alive

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._transport.is_closing()

    @property
    def is_congested(self) -> bool:
        """Whether the client has much to read still."""
        return self._protocol.writing_paused

    def begin(self, head: AnswerHead, own_lines: bytes) -> None:
        """Make the head; it goes out with what is written first."""
        request = self._request
        own = OF_ANSWERS if self._cors is None else OF_ANSWERS | OF_CORS
        lines, values = passing(head.fields, own)
        is_http11 = request.version >= HttpVersion11
        length = values.get(b"content-length")
        if length is not None and head.status != 204:
            own_lines += b"Content-Length: %b\r\n" % length
        elif request.method == "HEAD" or head.status in _BODILESS:
            pass
        elif is_http11:
            self._is_chunked = True
            own_lines += b"Transfer-Encoding: chunked\r\n"
        else:
            self._is_until_close = True
            self.keeps_alive = False
        if not self.keeps_alive:
            own_lines += b"Connection: close\r\n"
        elif not is_http11:
            own_lines += b"Connection: keep-alive\r\n"
        if REQUEST_ID.lower() not in values:
            own_lines += b"%b: %b\r\n" % (REQUEST_ID, self._request_id)
        if self._cors is not None:
            own_lines += _cors_lines(self._cors, request.headers.get("Origin"), values)
        self.is_stream = values.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        self._takes_events = self.is_stream and length is None and b"content-encoding" not in values
        self._unsent = b"HTTP/1.%d %d %b\r\n%b%b\r\n" % (
            request.version[1],
            head.status,
            head.reason,
            lines,
            own_lines,
        )
        self.has_begun = True

    def write(self, piece: bytes, *, is_last: bool) -> None:
        """Send some of the body, or its end."""
        data = b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked and piece else piece
        if self._unsent:
            data = self._unsent + data
            self._unsent = b""
        if is_last and self._is_chunked:
            data += _LAST_CHUNK
        self._last_piece = piece
        if data:
            self._transport.write(data)

    async def drain(self, patience_seconds: float) -> None:
        """Return when the client has read most of what it was sent.

        Raises ConnectionError where it is gone, or does not read a byte for so long.
        """
        if not self.is_congested:
            return
        # One wait for all rounds: aiohttp's cannot be waited for again once it was cancelled.
        draining = asyncio.ensure_future(self._is_drained())
        try:
            while True:
                num_unread = self._num_unread_bytes
                await asyncio.wait([draining], timeout=patience_seconds)
                if draining.done():
                    break
                if self._num_unread_bytes == num_unread:
                    self.abort()
                    break
        finally:
            draining.cancel()
        if not draining.done() or not draining.result():
            raise ConnectionResetError("the client is gone, or does not read its answer")

    async def _is_drained(self) -> bool:
        """Wait until the client has read most of what it was sent; return whether it has."""
        try:
            await self._request.writer.drain()
        except ConnectionError:
            return False
        return True

    @property
    def _num_unread_bytes(self) -> int:
        """What the client has not taken yet: of a slow one, more in the system than here."""
        num_bytes = self._transport.get_write_buffer_size()
        sock: socket.socket = self._transport.get_extra_info("socket")
        # Of systems that do not tell, what waits here has to do.
        with contextlib.suppress(OSError):
            num_bytes += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return num_bytes

    async def break_off(self, event: bytes, patience_seconds: float) -> None:
        """End an answer that has begun so that it cannot be taken for whole; a stream of events ends with `event`."""
        self.keeps_alive = False
        if self.is_gone:
            return
        if not self._takes_events:
            if self._is_until_close:
                sock: socket.socket = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
            return
        # An event that was cut in the middle ends here, lest this one be taken for a part of it.
        is_between_events = not self._last_piece or self._last_piece.endswith(_EVENT_ENDS)
        self.write(event if is_between_events else b"\n\n" + event, is_last=False)
        with contextlib.suppress(ConnectionError):
            await self.drain(patience_seconds)
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        # A transport of asyncio that has closed behind its last byte cannot be aborted any more.
        if self._transport.get_write_buffer_size():
            self._transport.abort()

    def abort(self) -> None:
        """Close without sending what the client has not taken."""
        self.keeps_alive = False
        self._transport.abort()

    def for_aiohttp(self, status: int, patience_seconds: float) -> web.StreamResponse:
        """Return what a handler returns when the answer has been sent; `patience_seconds` is that of `drain`."""
        return _SentAnswer(self, status, patience_seconds)


class _SentAnswer(web.StreamResponse):
    """An answer that has been sent."""

    def __init__(self, client: ClientAnswer, status: int, patience_seconds: float) -> None:
        super().__init__(status=status)
        self._client = client
        self._patience_seconds = patience_seconds

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can have another request."""
        return self._client.keeps_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Leave it as it is."""

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp's signature
        """Wait until the client has read most of it; raises ConnectionError if it does not."""
        await self._client.drain(self._patience_seconds)


def _cors_lines(cors: CorsPolicy, origin: str | None, values: Mapping[bytes, bytes]) -> bytes:
    vary = [values[b"vary"].decode("latin-1")] if b"vary" in values else []
    headers = cors.answer_headers(origin, vary)
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
