"""Workers that answer as a test says: byte for byte, on a real socket, with a record of what they were asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

SECONDS = 10.0
"""A bound for what takes milliseconds."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Asked:
    """A request as a worker got it; header names are as they came."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    connection: int

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for other, value in self.fields if other.lower() == name.lower()]


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]
"""Writes an answer; the connection stays open behind it unless the answer closes it."""


@dataclass
class FakeWorker:
    """A worker, and all it was asked. `left` holds the numbers of the connections that the router has closed."""

    answer: Answer
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    num_connections: int = 0

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    def protocol(self) -> asyncio.Protocol:
        """Return what serves the next connection."""
        reader = asyncio.StreamReader(limit=1 << 22)
        return _WatchedProtocol(reader, self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = writer.transport.get_protocol()
        assert isinstance(protocol, _WatchedProtocol)
        number = self.num_connections
        self.num_connections += 1
        leaving = asyncio.ensure_future(protocol.gone.wait())
        try:
            while (asked := await _read_request(reader, number)) is not None:
                self.asked.append(asked)
                answering = asyncio.ensure_future(self.answer(asked, writer))
                try:
                    await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done():
                        return
                    answering.result()
                finally:
                    answering.cancel()
        except ConnectionError:
            pass
        finally:
            self.left.append(number)
            leaving.cancel()
            if not protocol.is_lost:
                writer.transport.abort()


class _WatchedProtocol(asyncio.StreamReaderProtocol):
    """Says so as soon as its client has closed."""

    def __init__(self, reader: asyncio.StreamReader, serve: Any) -> None:
        super().__init__(reader, serve)
        self.gone = asyncio.Event()
        self.is_lost = False

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.gone.set()
        super().connection_lost(exc)


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.decode("utf-8", "surrogateescape").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = line.split(" ")
    assert version == "HTTP/1.1"
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    lengths = [value for name, value in fields if name.lower() == "content-length"]
    assert len(lengths) <= 1, "the router frames a request in one way"
    assert not any(name.lower() == "transfer-encoding" for name, _ in fields)
    body = await reader.readexactly(int(lengths[0])) if lengths else b""
    return Asked(method, target, fields, body, connection)


def says(*pieces: bytes, closes: bool = False) -> Answer:
    """Return an answer of these bytes, each piece in a packet of its own."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.002)
            if writer.is_closing():
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()
        if closes:
            writer.close()
            await asyncio.sleep(SECONDS)

    return answer


async def hangs(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    del asked, writer
    await asyncio.Event().wait()


def says_and_hangs(*pieces: bytes) -> Answer:
    """Return an answer that begins with these bytes, and never goes on."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(asked, writer)
        await hangs(asked, writer)

    return answer


@asynccontextmanager
async def working(*answers: Answer) -> AsyncIterator[list[FakeWorker]]:
    """Run a worker for each way to answer."""
    workers = [FakeWorker(answer) for answer in answers]
    servers = []
    for worker in workers:
        server = await asyncio.get_running_loop().create_server(worker.protocol, "127.0.0.1", 0, backlog=1024)
        worker.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield workers
    finally:
        for server in servers:
            server.close()
        await until(lambda: all(len(worker.left) == worker.num_connections for worker in workers))


async def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so."""
    async with asyncio.timeout(SECONDS):
        while not is_so():  # noqa: ASYNC110 - of what others do no event tells
            await asyncio.sleep(0.001)
