"""The router's hot path in a test: real sockets on both sides, a fleet that keeps books, and a look at what is left behind."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.gateway.fake_worker import Answer, FakeWorker, working
from tests.web.raw_client import Answer as Reply
from tests.web.raw_client import parse_answer

from understudy.gateway.admission import Admission
from understudy.gateway.choice import Choice
from understudy.gateway.forward import Forwarder, ForwardSettings
from understudy.gateway.inbound import Inbound
from understudy.gateway.member import Member
from understudy.gateway.observer import Exchange
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream import Upstream, WorkerAddress
from understudy.routing import Decision, RoutingRequest, Watched
from understudy.routing.retry_budget import RetryBudget
from understudy.web import DEFAULT_LIMITS, CorsPolicy, RunningServer, read_body, start_server

MATCHED_BLOCKS = 3
BLOCK_SIZE = 16
PROMPT_TOKENS = 100

ROUTING = RoutingRequest(
    request_id="r", num_prompt_tokens=PROMPT_TOKENS, block_hashes=(), block_size=BLOCK_SIZE, priority=2
)

TLS = Path(__file__).parents[1] / "data" / "tls"

NOBODY = "http://127.0.0.1:1"
"""Where nothing listens."""


class Books:
    """A fleet that asks its workers in their order, and an observer; they check that the books balance."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.is_closed = False
        self.is_failing = False
        self.fails_to_note = False
        self.reason = "next in line"
        self.in_flight: list[Choice] = []
        self.first_tokens: list[Member] = []
        self.finished_with: list[tuple[Member, Outcome]] = []
        self.exchanges: list[Exchange] = []
        self.retries: list[tuple[Member, Outcome]] = []

    def choose(self, inbound: Inbound, tried: Collection[Member]) -> Choice | None:
        """Return the first worker that was not tried."""
        if self.is_failing:
            raise RuntimeError("the policy fails")
        if self.is_closed:
            return None
        for member in self.members:
            if member not in tried:
                return Choice(member, Decision(member.slot, MATCHED_BLOCKS, self.reason), inbound.routing)
        return None

    def dispatched(self, choice: Choice, *, wants_stream: bool) -> Watched | None:  # noqa: ARG002 - Fleet's signature  # noqa: ARG002 - the fleet's
        """Open an entry."""
        self.in_flight.append(choice)
        return None

    def first_token(self, choice: Choice) -> None:
        """Note a token of an entry that is open."""
        assert choice in self.in_flight
        self.first_tokens.append(choice.member)

    def finished(self, choice: Choice, outcome: Outcome) -> None:
        """Close an entry that is open."""
        self.in_flight.remove(choice)
        if self.is_failing:
            raise RuntimeError("the fleet fails")
        self.finished_with.append((choice.member, outcome))

    def answered(self, exchange: Exchange) -> None:
        """Note an exchange."""
        self.exchanges.append(exchange)
        if self.fails_to_note:
            raise RuntimeError("the observer fails")

    def retried(self, member: Member, outcome: Outcome) -> None:
        """Note a retry."""
        self.retries.append((member, outcome))

    @property
    def outcomes(self) -> list[Outcome]:
        """How requests to workers ended, in that order."""
        return [outcome for _, outcome in self.finished_with]


class Forwarding:
    """A forwarder in front of workers, and clients for it."""

    def __init__(
        self,
        workers: Sequence[FakeWorker],
        books: Books,
        retry_budget: RetryBudget,
        running: RunningServer,
        inbounds: Sequence[Inbound],
        client_tls: ssl.SSLContext | None,
    ) -> None:
        assert running.port is not None
        self.workers = workers
        self.books = books
        self.retry_budget = retry_budget
        self.running = running
        self.port = running.port
        self.inbounds = inbounds
        self._client_tls = client_tls

    @property
    def worker(self) -> FakeWorker:
        """The first worker."""
        return self.workers[0]

    @property
    def upstream(self) -> Upstream:
        """The connections to the first worker."""
        return self.books.members[0].upstream

    @property
    def exchange(self) -> Exchange:
        """What was told of the only request."""
        assert len(self.books.exchanges) == 1
        return self.books.exchanges[0]

    async def send(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes until it is closed, or reset."""
        async with self.connection() as (reader, writer):
            writer.write(request)
            return await read_all(reader)

    async def ask(
        self, method: str = "POST", target: str = "/v1/x", fields: Sequence[str] = (), body: bytes = b""
    ) -> Reply:
        """Send a request over a connection that ends with it; return the answer, its body unframed."""
        return reply_of(await self.send(request_bytes(method, target, [*fields, "Connection: close"], body)))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Yield a connection to the router."""
        host = "127.0.0.1" if self._client_tls is None else "localhost"
        reader, writer = await asyncio.open_connection(host, self.port, ssl=self._client_tls)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def request_bytes(
    method: str = "POST", target: str = "/v1/x", fields: Sequence[str] = (), body: bytes = b""
) -> bytes:
    """Return a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: router.test", *fields]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def reply_of(data: bytes) -> Reply:
    """Return an answer, its chunks put together; raises AssertionError if it is not whole."""
    reply = parse_answer(data)
    if reply.headers.get("transfer-encoding") == "chunked":
        body, is_whole = unchunked(reply.body)
        assert is_whole
        reply.body = body
    return reply


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """Return what is in chunks, and whether the last one is there and nothing behind it."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, rest == b"\r\n"
        assert rest[length : length + 2] == b"\r\n"
        body, data = body + rest[:length], rest[length + 2 :]
    return body, False


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection is closed, or reset."""
    pieces: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


class _Complaints(logging.Handler):
    """Keeps what the log has of warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@asynccontextmanager
async def forwarding(
    *answers: Answer | None,
    budget: int = 100,
    admission: Callable[[Books], Admission] | None = None,
    cors: CorsPolicy | None = None,
    connect_seconds: float = 1.0,
    prefix: str = "",
    may_fail: bool = False,
    is_tls: bool = False,
    **settings: Any,
) -> AsyncIterator[Forwarding]:
    """Run a forwarder before a worker for each way to answer; None is one that cannot be connected to.

    In the end every request must be in the books as finished and told of once, the budget be whole, the log empty unless
    the router `may_fail`, and no task and no connection left.
    """
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)
    async with working(*(answer for answer in answers if answer is not None)) as workers:
        those_there = iter(workers)
        urls = [NOBODY if answer is None else next(those_there).url for answer in answers]
        upstreams = [
            Upstream(WorkerAddress.parse(url + prefix), connect_seconds=connect_seconds) for url in urls
        ]
        books = Books(
            [Member(upstream.address.url, slot, upstream) for slot, upstream in enumerate(upstreams)]
        )
        retry_budget = RetryBudget(budget, 0)
        inbounds: list[Inbound] = []

        async def read(request: web.Request) -> Inbound:
            inbounds.append(await _read(request))
            return inbounds[-1]

        forwarder = Forwarder(
            books,
            read,
            books,
            retry_budget,
            ForwardSettings(**settings),
            admission=None if admission is None else admission(books),
            cors=cors,
        )
        server_tls, client_tls = tls_contexts() if is_tls else (None, None)
        running = await start_server(forwarder.handle, host="127.0.0.1", ssl_context=server_tls)
        try:
            yield Forwarding(workers, books, retry_budget, running, inbounds, client_tls)
        finally:
            await running.drain(1.0)
            num_left_open = [upstream.num_open - upstream.num_idle for upstream in upstreams]
            for upstream in upstreams:
                upstream.close()
    logging.getLogger().removeHandler(complaints)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not any(num_left_open), "what is not idle is closed"
    assert all(upstream.num_open == 0 for upstream in upstreams)
    assert books.in_flight == []
    assert (retry_budget.active_requests, retry_budget.active_retries) == (0, 0)
    assert len(books.exchanges) == len(inbounds)
    assert may_fail or complaints.messages == []


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return both sides of a connection with a certificate for localhost."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    return server, ssl.create_default_context(cafile=str(TLS / "certificate.pem"))


async def _read(request: web.Request) -> Inbound:
    """Read a request without looking into it."""
    body = await read_body(request, DEFAULT_LIMITS)
    return Inbound(
        method=request.method,
        target=request.raw_path,
        headers=request.raw_headers,
        body=body,
        model="m",
        routing=ROUTING,
        has_prompt=True,
        hashing_ns=7,
        key_id="k",
    )
