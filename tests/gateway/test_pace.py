"""A client's pace is the worker's: what a slow one has not read is held by nobody but the systems on the way."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.gateway.fake_worker import LAST_CHUNK, OK, STREAM_HEAD, Asked, chunk, hangs, says, until
from tests.gateway.forwarding import Forwarding, forwarding, request_bytes, unchunked
from tests.support.virtual_time import run_in_virtual_time

from understudy.gateway.client import LINGER_SECONDS, MAX_UNSENT_BYTES, ClientAnswer
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream.connection import READ_BYTES

PIECE = bytes(range(256)) * 256
NUM_PIECES = 512
CLIENT_BUFFER_BYTES = 64 * 1024
MAX_STREAM_BYTES = 128 * 1024
SYSTEMS_BYTES = 16 * 1024 * 1024
"""More than sockets' buffers on both sides hold, and less than the whole answer."""

TYPES = [b"text/event-stream", b"application/json"]


class Flood:
    """A worker that sends as fast as it is read."""

    def __init__(self, content_type: bytes) -> None:
        self.num_sent = 0
        self._head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type
        )

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """Answer; whoever asks for something else is answered at once."""
        if asked.target == "/other":
            await says(OK)(asked, writer)
            return
        writer.write(self._head)
        for _ in range(NUM_PIECES):
            writer.write(chunk(PIECE))
            await writer.drain()
            self.num_sent += len(PIECE)
        writer.write(LAST_CHUNK)


@asynccontextmanager
async def slow_client(router: Forwarding) -> AsyncIterator[socket.socket]:
    """Yield a client's socket with a small buffer; a request has been sent on it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", router.port))
        await asyncio.get_running_loop().sock_sendall(sock, request_bytes(fields=["Connection: close"]))
        yield sock


async def at_rest(flood: Flood) -> int:
    """Wait until the worker can send no more; return how much it has sent."""
    num_sent = -1
    while num_sent != flood.num_sent:
        num_sent = flood.num_sent
        await asyncio.sleep(0.05)
    return num_sent


@pytest.mark.parametrize("content_type", TYPES)
def test_a_slow_client_holds_the_worker_and_not_the_routers_memory(
    content_type: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most that waits in the router stays within the bound, others are served meanwhile, and in the end all arrives."""
    assert MAX_UNSENT_BYTES + 2 * READ_BYTES <= MAX_STREAM_BYTES, (
        "what waits, what was read last, and its copy"
    )
    most_waiting = 0
    write = ClientAnswer.write

    def watched_write(client: ClientAnswer, piece: bytes, *, is_last: bool) -> None:
        nonlocal most_waiting
        write(client, piece, is_last=is_last)
        most_waiting = max(most_waiting, client._transport.get_write_buffer_size())

    monkeypatch.setattr(ClientAnswer, "write", watched_write)

    async def scenario() -> None:
        flood = Flood(content_type)
        async with forwarding(flood.answer) as router, slow_client(router) as sock:
            num_sent = await at_rest(flood)
            assert len(PIECE) <= num_sent < SYSTEMS_BYTES
            assert 0 < most_waiting <= MAX_STREAM_BYTES
            assert (await router.ask(target="/other")).body == b"ok"
            assert flood.num_sent == num_sent
            body, is_whole = unchunked_fast(await read_socket(sock))
            assert is_whole
            assert body == PIECE * NUM_PIECES
            assert most_waiting <= MAX_STREAM_BYTES
            assert router.books.outcomes == [Outcome.COMPLETE, Outcome.COMPLETE]

    asyncio.run(scenario())


async def read_socket(sock: socket.socket) -> bytes:
    """Return the body of an answer, with its framing, as far as it comes."""
    pieces: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
            pieces.append(piece)
    return b"".join(pieces).partition(b"\r\n\r\n")[2]


def unchunked_fast(data: bytes) -> tuple[bytes, bool]:
    """Return what is in many chunks, and whether the last one is there."""
    pieces: list[bytes] = []
    position = 0
    while (line_end := data.find(b"\r\n", position)) >= 0:
        length = int(data[position:line_end], 16)
        if length == 0:
            return b"".join(pieces), data[position:] == LAST_CHUNK
        pieces.append(data[line_end + 2 : line_end + 2 + length])
        position = line_end + length + 4
    return b"".join(pieces), False


def test_a_client_that_reads_nothing_is_left_after_the_idle_time() -> None:
    """And the worker's connection with it, so neither is held for ever."""

    async def scenario() -> None:
        flood = Flood(TYPES[0])
        async with forwarding(flood.answer) as router, slow_client(router) as sock:
            await until_left(router)
            # At first the systems on the way still take some; only from then on nothing moves.
            assert 300 <= asyncio.get_running_loop().time() < 610
            await until(lambda: router.worker.left == [0])
            assert not unchunked_fast(await read_socket(sock))[1]

    run_in_virtual_time(scenario())


async def until_left(router: Forwarding) -> None:
    """Wait for the end of the only request, which its client has left."""
    while not router.books.exchanges:  # noqa: ASYNC110 - the time limit of the test is the bound
        await asyncio.sleep(1)
    assert router.exchange.outcome is Outcome.CLIENT_LEFT


def test_a_client_that_reads_now_and_then_is_waited_for() -> None:
    """As long as it takes something within each idle time."""

    async def scenario() -> None:
        flood = Flood(TYPES[0])
        async with forwarding(flood.answer) as router, slow_client(router) as sock:
            for _ in range(8):
                await asyncio.sleep(200)
                # A system may tell of less than a segment, here 64 KiB, only with the next.
                for _ in range(3):
                    assert await asyncio.get_running_loop().sock_recv(sock, 1 << 16)
            assert router.books.exchanges == []
            assert router.worker.left == []

    run_in_virtual_time(scenario())


def test_a_worker_that_breaks_while_its_client_is_slow_is_heard_in_the_end() -> None:
    """The client reads what had come, then the error; the router waited with both."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + chunk(b"data: " + PIECE * 64 + b"\n\n"))
        await writer.drain()
        writer.close()
        await asyncio.sleep(1)

    async def scenario() -> None:
        async with forwarding(answer) as router, slow_client(router) as sock:
            body, is_whole = unchunked_fast(await read_socket(sock))
            assert not is_whole
            assert body.startswith(b"data: " + PIECE * 64 + b'\n\ndata: {"error"')
            assert router.books.outcomes == [Outcome.BROKEN]

    asyncio.run(scenario())


class Filling:
    """A worker that sends just so much that something waits in the router, and then what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._waits = asyncio.Event()
        self.is_full = asyncio.Event()
        self.go_on = asyncio.Event()
        self.then: bytes = b""
        write = ClientAnswer.write

        def watched_write(client: ClientAnswer, piece: bytes, *, is_last: bool) -> None:
            write(client, piece, is_last=is_last)
            if client._transport.get_write_buffer_size():
                self._waits.set()

        monkeypatch.setattr(ClientAnswer, "write", watched_write)

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """Answer; without `then` the connection is closed."""
        writer.write(STREAM_HEAD)
        while not self._waits.is_set():
            writer.write(chunk(b"x" * 8192))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self.is_full.set()
        await self.go_on.wait()
        if self.then:
            writer.write(self.then)
            await hangs(asked, writer)
        writer.close()
        await hangs(asked, writer)


def test_a_stream_that_breaks_does_not_wait_for_a_client_that_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may take the last bytes within some seconds, then its connection is closed."""

    async def scenario() -> None:
        filling = Filling(monkeypatch)
        async with forwarding(filling.answer) as router, slow_client(router):
            await filling.is_full.wait()
            filling.go_on.set()
            await asyncio.sleep(LINGER_SECONDS - 1)
            assert router.books.outcomes == [Outcome.BROKEN]
            assert router.running.num_connections == 1
            await asyncio.sleep(2)
            assert router.running.num_connections == 0

    run_in_virtual_time(scenario())


def test_a_slow_client_that_reads_in_time_hears_of_the_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that came, then the error, though the connection is being closed meanwhile."""

    async def scenario() -> None:
        filling = Filling(monkeypatch)
        async with forwarding(filling.answer) as router, slow_client(router) as sock:
            await filling.is_full.wait()
            filling.go_on.set()
            await asyncio.sleep(LINGER_SECONDS - 1)
            body, is_whole = unchunked_fast(await read_socket(sock))
            assert not is_whole
            assert body.endswith(b'"code": 502}}\n\n')
            await asyncio.sleep(2)
            assert router.running.num_connections == 0

    run_in_virtual_time(scenario())


@pytest.mark.parametrize(
    ("then", "outcome"), [(chunk(b"data: 1\n\n"), Outcome.CLIENT_LEFT), (b"", Outcome.BROKEN)]
)
def test_a_slow_client_that_half_closes_gets_nothing_more(
    then: bytes, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection closes behind what it has yet to read, and the worker's with the next byte."""

    async def scenario() -> None:
        filling = Filling(monkeypatch)
        filling.then = then
        async with forwarding(filling.answer) as router, slow_client(router) as sock:
            await filling.is_full.wait()
            sock.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.1)
            filling.go_on.set()
            await until(lambda: bool(router.books.exchanges and router.worker.left))
            assert router.books.outcomes == [outcome]
            body, is_whole = unchunked_fast(await read_socket(sock))
            assert body == b"x" * len(body)
            assert not is_whole

    asyncio.run(scenario())


def test_a_request_is_sent_at_the_workers_pace() -> None:
    """A long body arrives whole at a worker that reads slowly, and its connection is used again."""
    body = PIECE * 64

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            for _ in range(2):
                assert (await router.ask(body=body)).status == 200
            assert [asked.body for asked in router.worker.asked] == [body, body]
            await until(lambda: router.upstream.num_idle == 1)

    asyncio.run(scenario())


def test_unchunking_agrees_with_the_other_one() -> None:
    """What these tests read by is what all others read by."""
    data = chunk(b"a" * 20) + chunk(b"b") + LAST_CHUNK
    assert unchunked_fast(data) == unchunked(data) == (b"a" * 20 + b"b", True)
