"""A TCP proxy that does to connections what networks and dying machines do; each connection has a fault of its own.

The faults are toxiproxy's, of what the server sends: latency, slicer, limit_data with its end, timeout, down.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER of 0 s."""

_TURNS = 8
"""Of the event loop; more than there are from a connection to its callback."""


class End(StrEnum):
    """What becomes of a connection when its bytes are spent."""

    CLOSE = "close"
    RESET = "reset"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to what the server sends: `latency_seconds` before each piece, pieces of `slice_bytes` (0: as they come).

    After `limit_bytes` (None: never) comes the `end`. Without any of them a connection is clean.
    """

    latency_seconds: float = 0.0
    slice_bytes: int = 0
    limit_bytes: int | None = None
    end: End = End.RESET


CLEAN = Fault()


class FaultyLink:
    """A proxy to a port of this machine; `fault` says what is wrong with the next connection. Run it with `faulty_link`."""

    def __init__(self, target_port: int, fault: Callable[[], Fault] = lambda: CLEAN) -> None:
        self.fault = fault
        self.port = 0
        self.num_connections = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """Where the server is reached through it."""
        return f"http://127.0.0.1:{self.port}"

    async def up(self) -> None:
        """Accept connections, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    def down(self, *, resets: bool = True) -> None:
        """Refuse connections from now on, as a machine without this process does; those that are open are reset with it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if resets:
            for writer in self._open.values():
                _end(writer, End.RESET)

    async def close(self) -> None:
        """Close everything, also what has just been accepted."""
        self.down()
        await _turns()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open))
        # Transports that were aborted close their sockets in the next turn, and the server hears of it then.
        await _turns()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.ensure_future(self._carry(reader, writer, self.fault()))
        self._open[task] = writer

        def ended(_task: asyncio.Task[None]) -> None:
            del self._open[task]
            writer.transport.abort()

        task.add_done_callback(ended)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        """Carry both ways until one side ends."""
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except ConnectionError:
            _end(writer, End.RESET)
            return
        ways = [
            asyncio.ensure_future(_copy(reader, to_server, CLEAN)),
            asyncio.ensure_future(_copy(from_server, writer, fault)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            to_server.transport.abort()
            await asyncio.wait(ways)
            if not writer.is_closing():
                with contextlib.suppress(ConnectionError):
                    writer.close()
                    await writer.wait_closed()


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
    """Carry one way, until its end or the fault's."""
    left_bytes = fault.limit_bytes
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            size = fault.slice_bytes or len(data)
            for piece in (data[at : at + size] for at in range(0, len(data), size)):
                if fault.latency_seconds:
                    await asyncio.sleep(fault.latency_seconds)
                writer.write(piece if left_bytes is None else piece[:left_bytes])
                await writer.drain()
                if left_bytes is not None:
                    left_bytes -= len(piece)
                    if left_bytes <= 0:
                        if fault.end is End.SILENCE:
                            await asyncio.Event().wait()
                        _end(writer, fault.end)
                        return


def _end(writer: asyncio.StreamWriter, end: End) -> None:
    if end is End.RESET and not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()
    else:
        writer.close()


@asynccontextmanager
async def faulty_link(
    target_port: int, fault: Callable[[], Fault] = lambda: CLEAN
) -> AsyncIterator[FaultyLink]:
    """Run a proxy to a port of this machine."""
    link = FaultyLink(target_port, fault)
    await link.up()
    try:
        yield link
    finally:
        await link.close()
