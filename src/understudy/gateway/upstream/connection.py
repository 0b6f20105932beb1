"""One connection to a worker: sends a request, and hands on the answer from within the reading of the socket.

aiohttp's parser, llhttp, takes the framing apart. It accepts some that is malformed; what matters to a proxy is refused
here. No future and no task stand between the worker's bytes and who gets them.
"""

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.hdrs import TRANSFER_ENCODING
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import StreamReader

from understudy.gateway.headers import has_control_characters
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream.answer import AnswerHead, Failure, Receiver

READ_BYTES = 16 * 1024
"""Most that is read at a time, so that a client's buffer cannot get much fuller than where it calls a halt."""

MAX_HEAD_BYTES = 64 * 1024
"""Longest head of an answer, interim answers included."""

MAX_HEADERS = 128

_NO_LIMIT = 1 << 30
"""Pieces are taken out of the parser as soon as they are in it."""

_JOINED_BYTES = 64 * 1024
"""A body up to this goes out in one piece with its head."""

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""A worker whose machine is gone without a word is noticed after 60 s, also where the first byte may take any time."""

_LOST = "The worker closed the connection before it answered."
_BROKE_OFF = "The worker broke off its answer."
_GARBAGE = "The worker's answer is not valid HTTP."


class _Unpaced(BaseProtocol):
    """Stands for a connection towards aiohttp's parser, which cannot hold it: `pause_reading` of the transport does."""

    def __init__(self) -> None:
        """Leave out what would need an event loop."""

    def pause_reading(self) -> None:
        """Go on."""

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Go on."""


_UNPACED = _Unpaced()

_of_thread = threading.local()


def _read_buffer() -> memoryview:
    """Return what all connections of a thread read into, each of them emptying it at once."""
    buffer: memoryview | None = getattr(_of_thread, "buffer", None)
    if buffer is None:
        buffer = _of_thread.buffer = memoryview(bytearray(READ_BYTES))
    return buffer


class UpstreamConnection(asyncio.BufferedProtocol):
    """A connection that is made. It has at most one request at a time.

    `on_free` is called when it may have the next one, `on_lost` when it is closed.
    """

    __slots__ = (
        "_buffer",
        "_head_bytes",
        "_is_lost",
        "_loop",
        "_on_free",
        "_on_lost",
        "_parser",
        "_payload",
        "_poll",
        "_receiver",
        "_should_close",
        "_transport",
        "idle_since_seconds",
    )

    def __init__(
        self,
        on_free: Callable[["UpstreamConnection"], None],
        on_lost: Callable[["UpstreamConnection"], None],
    ) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._buffer = _read_buffer()
        self._receiver: Receiver | None = None
        self._parser: Any = None
        self._payload: StreamReader | None = None
        self._head_bytes = 0
        self._should_close = False
        self._is_lost = False
        self.idle_since_seconds = 0.0

    def send(self, head: bytes, body: bytes, receiver: Receiver, *, is_head: bool) -> None:
        """Send a request, whose answer `receiver` gets; to HEAD, `is_head`, that has no body."""
        assert self._receiver is None, "one request at a time"
        self._receiver = receiver
        self._payload = None
        self._head_bytes = 0
        self._parser = HttpResponseParser(
            _UNPACED,
            self._loop,
            _NO_LIMIT,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=MAX_HEADERS,
            response_with_body=not is_head,
            read_until_eof=True,
            auto_decompress=False,
        )
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport.is_closing()

    @property
    def is_fresh(self) -> bool:
        """Whether the worker has neither closed an idle connection nor sent anything, read or not."""
        return not self.is_closed and not self._poll.poll(0)

    def pause(self) -> None:
        """Read nothing more until `resume`; the worker's side is held by the system."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Close a connection that is idle."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way; the receiver hears nothing more."""
        self._forget()
        if not self._is_lost:
            self._transport.abort()

    def break_off(self) -> None:
        """Close at once; the receiver hears that no more comes."""
        self._fail(_BROKE_OFF)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it was lost
        """Tell who waits for an answer."""
        self._is_lost = True
        self._on_lost(self)
        if self._receiver is not None:
            self._fail(_BROKE_OFF)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        receiver = self._receiver
        if receiver is None:
            # Nothing was asked.
            self.abort()
            return
        payload = self._payload
        try:
            messages, _, _ = self._parser.feed_data(self._buffer[:nbytes].tobytes())
        except HttpProcessingError:
            self._head_bytes += nbytes
            self._garbled()
            return
        is_new = payload is None
        if payload is None:
            self._head_bytes += nbytes
            payload = self._begin(messages)
            if payload is None:
                return
        elif messages:
            self._should_close = True
        piece = payload.read_nowait()
        if payload.is_eof():
            self._complete(piece)
        elif piece or is_new:
            receiver.data(piece, is_last=False)

    def eof_received(self) -> None:
        """End an answer that lasts as long as the connection; to all others this is its loss, of which asyncio tells."""
        if self._payload is None:
            return
        try:
            self._parser.feed_eof()
        except HttpProcessingError:
            return
        self._complete(b"")

    def _begin(self, messages: Sequence[tuple[RawResponseMessage, StreamReader]]) -> StreamReader | None:
        """Hand on the head of an answer; return its body, or None if there is no head yet, or none that is valid."""
        final = [(message, payload) for message, payload in messages if message.code >= 200]
        if not final:
            if self._head_bytes > MAX_HEAD_BYTES or any(message.code == 101 for message, _ in messages):
                self._fail(_GARBAGE)
            return None
        message, payload = final[0]
        fields = message.raw_headers
        reason = message.reason.encode("utf-8", "surrogateescape")
        if has_control_characters([(b"", reason), *fields]) or not _is_framing_known(message):
            self._fail(_GARBAGE)
            return None
        # What follows an answer that nobody asked for makes the connection unfit for the next.
        self._should_close = message.should_close or len(final) > 1
        self._payload = payload
        receiver = self._receiver
        assert receiver is not None
        receiver.begin(AnswerHead(message.code, reason, fields))
        return payload if self._receiver is not None else None

    def _complete(self, piece: bytes) -> None:
        """Hand on the end of an answer, and be free for the next request if the worker allows."""
        receiver = self._receiver
        assert receiver is not None
        self._forget()
        if self._transport.get_write_buffer_size():
            # The worker answered without having read the request, and may never read it.
            self._transport.abort()
        elif self._should_close:
            self._transport.close()
        elif not self.is_closed:
            self._on_free(self)
        receiver.data(piece, is_last=True)

    def _garbled(self) -> None:
        """Hand on what is valid of the body, and end; an answer that is whole stays so, whatever comes behind it."""
        payload, receiver = self._payload, self._receiver
        if payload is None or receiver is None:
            self._fail(_GARBAGE)
            return
        self._should_close = True
        piece = payload.read_nowait()
        if payload.is_eof():
            self._complete(piece)
            return
        if piece:
            receiver.data(piece, is_last=False)
        self._fail(_GARBAGE)

    def _fail(self, message: str) -> None:
        """End an exchange without the rest of an answer."""
        receiver = self._receiver
        is_unanswered = self._head_bytes == 0
        self.abort()
        if receiver is not None:
            if is_unanswered:
                receiver.fail(Failure(Outcome.UNANSWERED, _LOST))
            else:
                receiver.fail(Failure(Outcome.BROKEN, message))

    def _forget(self) -> None:
        self._receiver = None
        self._payload = None
        self._parser = None


def _is_framing_known(message: RawResponseMessage) -> bool:
    """Return whether the body's coding for the way is none or chunked; with another, it would reach the client coded."""
    codings = message.headers.getall(TRANSFER_ENCODING, ())
    return not codings or (len(codings) == 1 and codings[0].lower() == "chunked")
