"""A streamed answer that is written straight from the step loop: no task and no queue a stream.

aiohttp sends the headers and ends the answer; what lies between goes to the transport at once, in the chunks of
HTTP/1.1. Where the client reads too slowly `is_congested` says so, and whoever writes waits with what it has.
"""

import asyncio
from collections.abc import Mapping

from aiohttp import web

MAX_UNSENT_BYTES = 64 * 1024
"""What may wait for a slow client before tokens are put together in one event."""

_CHUNK_BYTES = 12
"""At most this goes around the events of a chunk."""


class EventStream:
    """Server-sent events as the answer to one request.

    With `gathers` what is sent in one turn of the event loop goes out at its end, in one system call.
    """

    __slots__ = (
        "_gathered",
        "_gathers",
        "_is_chunked",
        "_most_unsent_bytes",
        "_request",
        "_transport",
        "response",
    )

    def __init__(self, request: web.Request, *, gathers: bool = False) -> None:
        self._request = request
        self._gathers = gathers
        self._gathered: list[bytes] = []
        self._transport = request.transport
        self.response = web.StreamResponse()
        self._is_chunked = False
        self._most_unsent_bytes = 0

    async def start(self, headers: Mapping[str, str]) -> None:
        """Send the status and the headers."""
        response = self.response
        response.headers.update(headers)
        self._is_chunked = self._request.version >= (1, 1)
        if self._is_chunked:
            response.enable_chunked_encoding()
        await response.prepare(self._request)

    @property
    def is_congested(self) -> bool:
        """Whether the client has much to read still."""
        if self._most_unsent_bytes <= MAX_UNSENT_BYTES or self._transport is None:
            return False
        self._flush()
        self._most_unsent_bytes = self._transport.get_write_buffer_size()
        return self._most_unsent_bytes > MAX_UNSENT_BYTES

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._transport is None or self._transport.is_closing()

    def send(self, data: bytes) -> None:
        """Send some events; a client that has gone gets nothing."""
        transport = self._transport
        # A chunk of no bytes would be the end of the answer.
        if not data or transport is None or transport.is_closing():
            return
        self._most_unsent_bytes += len(data) + _CHUNK_BYTES
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
        if not self._gathers:
            transport.write(chunk)
            return
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(chunk)

    def _flush(self) -> None:
        if self._gathered and self._transport is not None:
            self._transport.write(b"".join(self._gathered))
            self._gathered.clear()

    def break_off(self) -> None:
        """Close the connection behind what was sent, without the end that an answer has."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Break the connection off, with what the client has not taken yet."""
        self._flush()
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> web.StreamResponse:
        """Finish the answer, when the client has read it."""
        self._flush()
        await self.response.write_eof()
        return self.response
