"""A worker's connections: kept, checked before they are used again, and closed before the worker closes them."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.fake_worker import LAST_CHUNK, OK, Answer, FakeWorker, chunk, hangs, says, until, working
from tests.gateway.forwarding import tls_contexts
from tests.support.virtual_time import run_in_virtual_time

from understudy.errors import UsageError
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream import (
    AnswerHead,
    ConnectFailedError,
    Failure,
    Upstream,
    UpstreamConnection,
    WorkerAddress,
)
from understudy.gateway.upstream.connection import READ_BYTES
from understudy.gateway.upstream.pool import IDLE_SECONDS

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Collected:
    """A receiver that keeps what it gets, and checks the order of the calls."""

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self.body = b""
        self.longest = 0
        self.failure: Failure | None = None
        self.ended = asyncio.Event()

    def begin(self, head: AnswerHead) -> None:
        """Take the head, once."""
        assert self.head is None
        assert not self.ended.is_set()
        self.head = head

    def data(self, piece: bytes, *, is_last: bool) -> None:
        """Take a piece; nothing comes behind the last one."""
        assert self.head is not None
        assert not self.ended.is_set()
        self.body += piece
        self.longest = max(self.longest, len(piece))
        if is_last:
            self.ended.set()

    def fail(self, failure: Failure) -> None:
        """Take a failure; nothing comes behind it."""
        assert not self.ended.is_set()
        self.failure = failure
        self.ended.set()


async def ask(connection: UpstreamConnection, request: bytes = REQUEST, body: bytes = b"") -> Collected:
    """Send a request and return what came of it."""
    collected = Collected()
    connection.send(request, body, collected, is_head=request.startswith(b"HEAD"))
    await collected.ended.wait()
    return collected


@asynccontextmanager
async def upstream_to(answer: Answer) -> AsyncIterator[tuple[Upstream, FakeWorker]]:
    """Yield the connections to a worker."""
    async with working(answer) as (worker,):
        upstream = Upstream(WorkerAddress.parse(worker.url))
        yield upstream, worker
        upstream.close()
        await until(lambda: upstream.num_open == 0)


def test_the_connection_used_last_is_used_next() -> None:
    """So that those that are not needed grow old and are closed."""

    async def scenario() -> None:
        async with upstream_to(says(OK)) as (upstream, worker):
            connections = [await upstream.connect() for _ in range(3)]
            for connection in connections:
                assert (await ask(connection)).body == b"ok"
            assert (upstream.num_open, upstream.num_idle) == (3, 3)
            for _ in range(4):
                connection = upstream.idle_connection() or connections[0]
                assert connection is connections[2]
                await ask(connection)
            assert worker.num_connections == 3

    asyncio.run(scenario())


def test_unused_connections_are_closed_before_the_worker_does() -> None:
    """Each after its own time, which is less than the five seconds of vLLM's server."""
    assert IDLE_SECONDS < 5

    async def scenario() -> None:
        async with upstream_to(says(OK)) as (upstream, worker):
            first, second = await upstream.connect(), await upstream.connect()
            await ask(first)
            await asyncio.sleep(1)
            await ask(second)
            await asyncio.sleep(IDLE_SECONDS - 1.1)
            assert worker.left == []
            await asyncio.sleep(0.2)
            assert worker.left == [0]
            assert upstream.idle_connection() is second
            await ask(second)
            await asyncio.sleep(IDLE_SECONDS - 0.1)
            assert worker.left == [0]
            await asyncio.sleep(0.2)
            assert worker.left == [0, 1]

    run_in_virtual_time(scenario())


@contextmanager
def plain_worker() -> Iterator[tuple[Upstream, socket.socket]]:
    """Yield the connections to a socket that the test reads and writes itself, without a loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Upstream(WorkerAddress.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")), listener


@pytest.mark.parametrize("stray", [b"", b"HTTP/1.1 408 Timeout\r\nConnection: close\r\n\r\n", b"!"])
@pytest.mark.parametrize("is_noticed", [False, True])
def test_a_connection_that_the_worker_has_left_or_spoken_on_is_not_used(
    stray: bytes,
    is_noticed: bool,  # noqa: FBT001 - a case
) -> None:
    """Whether the loop has heard of it yet or not: what nobody asked for is no answer to anybody."""

    async def scenario() -> None:
        with plain_worker() as (upstream, listener):
            connection = await upstream.connect()
            peer, _ = listener.accept()
            collected = Collected()
            connection.send(REQUEST, b"", collected, is_head=False)
            peer.sendall(OK)
            await collected.ended.wait()
            assert upstream.num_idle == 1
            if stray:
                peer.sendall(stray)
            else:
                peer.close()
            if is_noticed:
                await until(lambda: upstream.num_open == 0)
            assert upstream.idle_connection() is None
            await until(lambda: upstream.num_open == 0)
            peer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        (OK, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"ok") + LAST_CHUNK, True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
    ],
)
def test_a_connection_is_kept_if_the_worker_allows(answer: bytes, is_kept: bool) -> None:  # noqa: FBT001 - a case
    """As its answer says."""

    async def scenario() -> None:
        async with upstream_to(says(answer)) as (upstream, worker):
            assert (await ask(await upstream.connect())).body == b"ok"
            assert upstream.num_idle == is_kept
            await until(lambda: len(worker.left) == (not is_kept))

    asyncio.run(scenario())


def test_a_connection_with_an_unsent_request_is_not_kept() -> None:
    """A worker that answers before it has read all may never read the rest."""

    async def scenario() -> None:
        with plain_worker() as (upstream, listener):
            connection = await upstream.connect()
            peer, _ = listener.accept()
            collected = Collected()
            connection.send(REQUEST, bytes(32 << 20), collected, is_head=False)
            peer.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await collected.ended.wait()
            assert collected.head is not None
            assert collected.head.status == 413
            await until(lambda: upstream.num_open == 0)
            peer.close()

    asyncio.run(scenario())


def test_after_closing_nothing_is_kept() -> None:
    """Idle connections go at once, those in use with their answers."""

    async def scenario() -> None:
        release = asyncio.Event()

        async def answer(_: object, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(OK)

        async with upstream_to(answer) as (upstream, worker):
            asking = asyncio.ensure_future(ask(await upstream.connect()))
            await until(lambda: bool(worker.asked))
            upstream.close()
            release.set()
            assert (await asking).body == b"ok"
            assert upstream.num_idle == 0
            await until(lambda: upstream.num_open == 0)

    asyncio.run(scenario())


def test_an_abort_is_heard_by_the_worker_and_by_nobody_else() -> None:
    """The receiver gets no call any more."""

    async def scenario() -> None:
        async with upstream_to(hangs) as (upstream, worker):
            connection = await upstream.connect()
            collected = Collected()
            connection.send(REQUEST, b"", collected, is_head=False)
            await until(lambda: bool(worker.asked))
            connection.abort()
            await until(lambda: bool(worker.left))
            assert upstream.num_open == 0
            assert not collected.ended.is_set()

    asyncio.run(scenario())


def test_aborting_all_ends_what_is_under_way() -> None:
    """Who waits for an answer hears that it broke off; what is idle goes without a word."""

    async def scenario() -> None:
        async with upstream_to(says(OK)) as (upstream, worker):
            await ask(await upstream.connect())
            worker.answer = hangs
            asking = asyncio.ensure_future(ask(await upstream.connect()))
            await until(lambda: len(worker.asked) == 2)
            upstream.abort()
            assert (await asking).failure == Failure(
                Outcome.UNANSWERED, "The worker closed the connection before it answered."
            )
            await until(lambda: upstream.num_open == 0)

    asyncio.run(scenario())


def test_connections_do_not_wait_for_more_to_send() -> None:
    """TCP_NODELAY is set, and the system watches for peers that vanish."""

    async def scenario() -> None:
        async with upstream_to(says(OK)) as (upstream, _):
            connection = await upstream.connect()
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            connection.close()

    asyncio.run(scenario())


def test_a_connection_that_cannot_be_had_is_an_error() -> None:
    """Which says why; a name that is none is one, too."""

    async def scenario() -> None:
        for url, words in [("http://127.0.0.1:1", "failed|refused"), (f"http://{'a' * 70}.test:80", "label")]:
            upstream = Upstream(WorkerAddress.parse(url))
            with pytest.raises(ConnectFailedError, match=words):
                await upstream.connect()
            assert upstream.num_open == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("is_trusted", [False, True])
def test_workers_may_speak_tls(is_trusted: bool) -> None:  # noqa: FBT001 - a case
    """With a certificate for their name, by somebody who is trusted; connections are kept as others are."""
    server, trusting = tls_contexts()
    client = trusting if is_trusted else ssl.create_default_context()

    async def scenario() -> None:
        worker = FakeWorker(says(OK))
        listener = await asyncio.get_running_loop().create_server(worker.protocol, "127.0.0.1", 0, ssl=server)
        port = listener.sockets[0].getsockname()[1]
        upstream = Upstream(WorkerAddress.parse(f"https://localhost:{port}"), ssl_context=client)
        if is_trusted:
            for _ in range(2):
                connection = upstream.idle_connection() or await upstream.connect()
                assert (await ask(connection)).body == b"ok"
            assert worker.num_connections == 1
        else:
            with pytest.raises(ConnectFailedError):
                await upstream.connect()
        upstream.close()
        await until(lambda: upstream.num_open == 0 and len(worker.left) == worker.num_connections)
        listener.close()

    asyncio.run(scenario())


def test_a_connection_that_is_lost_as_soon_as_it_is_made_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request was sent on it, so another worker may get it."""
    made = UpstreamConnection.connection_made

    def made_and_lost(connection: UpstreamConnection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        transport.close()

    monkeypatch.setattr(UpstreamConnection, "connection_made", made_and_lost)

    async def scenario() -> None:
        async with upstream_to(says(OK)) as (upstream, _):
            with pytest.raises(ConnectFailedError):
                await upstream.connect()
            assert upstream.num_open == 0

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=200), max_size=5),
    cuts=st.lists(st.integers(1, 600), max_size=8),
    is_cut_short=st.booleans(),
)
def test_a_body_comes_whole_or_not_at_all_as_whole(
    pieces: list[bytes],
    cuts: list[int],
    is_cut_short: bool,  # noqa: FBT001 - a case
) -> None:
    """However its bytes are cut; if the last one is missing, all that came is a prefix, and that it broke off is told."""
    sent = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, pieces)) + LAST_CHUNK
    )
    if is_cut_short:
        sent = sent[:-1]
    edges = sorted({0, len(sent), *(each for each in cuts if each < len(sent))})
    parts = [sent[start:end] for start, end in pairwise(edges)]

    async def scenario() -> None:
        async with upstream_to(says(*parts, closes=is_cut_short)) as (upstream, _):
            collected = await ask(await upstream.connect())
            if is_cut_short:
                assert collected.failure is not None
                assert collected.failure.outcome is Outcome.BROKEN
            else:
                assert collected.failure is None
            assert collected.body == b"".join(pieces)

    asyncio.run(scenario())


def test_no_piece_is_longer_than_what_is_read_at_a_time() -> None:
    """So what waits for a client grows by little at a time."""
    body = bytes(4 << 20)

    async def scenario() -> None:
        async with upstream_to(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)) as (
            upstream,
            _,
        ):
            collected = await ask(await upstream.connect())
            assert collected.body == body
            assert collected.longest <= READ_BYTES

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "name", "host", "port", "authority", "prefix"),
    [
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000", "10.0.0.7", 8000, b"10.0.0.7:8000", ""),
        ("http://a.test/", "http://a.test", "a.test", 80, b"a.test", ""),
        ("https://a.test/x/y/", "https://a.test/x/y", "a.test", 443, b"a.test", "/x/y"),
        ("http://[::1]:8000", "http://[::1]:8000", "::1", 8000, b"[::1]:8000", ""),
    ],
)
def test_an_address_is_read_from_a_url(
    url: str, name: str, host: str, port: int, authority: bytes, prefix: str
) -> None:
    """Its name has no slash at the end, so one worker has one name."""
    address = WorkerAddress.parse(url)
    assert (address.url, address.host, address.port) == (name, host, port)
    assert (address.authority, address.prefix) == (authority, prefix)
    assert address.is_tls == url.startswith("https")
    assert WorkerAddress.parse(address.url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "10.0.0.7:8000",
        "ftp://a",
        "http://",
        "http://:8000",
        "http://a:0",
        "http://a:99999",
        "http://a:b",
        "http://[::1",
        "http://u:p@a",
        "http://a?b",
        "http://a#b",
        "http://a b",
        "http://a/\r\nX: 1",
        "http://\u00e9",
    ],
)
def test_what_is_no_address_is_told(url: str) -> None:
    """With what is accepted, in one line."""
    with pytest.raises(UsageError, match="expected a URL as in") as raised:
        WorkerAddress.parse(url)
    assert "\n" not in str(raised.value)


def test_a_router_that_is_late_itself_does_not_blame_the_worker() -> None:
    """A connection that is there when the time is over counts, though the loop could not hear of it before."""

    async def main() -> None:
        async with working(says(OK)) as [worker]:
            upstream = Upstream(WorkerAddress.parse(worker.url), connect_seconds=0.01)
            connecting = asyncio.create_task(upstream.connect())
            await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251 - the loop is held up
            connection = await connecting
            assert upstream.num_open == 1
            connection.close()

    asyncio.run(main())
