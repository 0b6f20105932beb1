"""A client that leaves takes its request along: the worker's connection is closed at once, whatever was under way."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.gateway.fake_worker import (
    OK,
    STREAM_HEAD,
    Answer,
    Asked,
    chunk,
    hangs,
    says,
    says_and_hangs,
    until,
)
from tests.gateway.forwarding import Books, Forwarding, forwarding, request_bytes
from tests.support.virtual_time import run_in_virtual_time

from understudy.gateway.admission import Admission
from understudy.gateway.observer import CLIENT_LEFT_STATUS
from understudy.gateway.outcome import Outcome

EVENT = b"data: 1\n\n"


def abort(writer: asyncio.StreamWriter) -> None:
    """Leave without a word."""
    writer.transport.abort()


def close(writer: asyncio.StreamWriter) -> None:
    """Leave in an orderly way."""
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Leave by a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def half_close(writer: asyncio.StreamWriter) -> None:
    """Say that nothing more comes; for a stream that is the same."""
    writer.write_eof()


WAYS: list[Callable[[asyncio.StreamWriter], None]] = [abort, close, reset, half_close]


def num_open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def assert_left(router: Forwarding, status: int) -> None:
    """Assert that the worker's only connection is closed, and that the books say why."""
    assert router.worker.left == [0]
    assert router.books.outcomes == [Outcome.CLIENT_LEFT]
    assert (router.exchange.outcome, router.exchange.status) == (Outcome.CLIENT_LEFT, status)
    assert router.upstream.num_open == 0


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (hangs, CLIENT_LEFT_STATUS),
        (says_and_hangs(b"HTTP/1.1 100 Continue\r\n\r\n"), CLIENT_LEFT_STATUS),
        (
            says_and_hangs(b"HTTP/1.1 503 X\r\nX-Understudy-Not-Started: 1\r\nContent-Length: 5\r\n\r\n"),
            CLIENT_LEFT_STATUS,
        ),
        (says_and_hangs(STREAM_HEAD), 200),
        (says_and_hangs(STREAM_HEAD, chunk(EVENT)), 200),
        (says_and_hangs(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), 200),
    ],
)
def test_the_worker_hears_at_once_that_a_client_left(
    leave: Callable[[asyncio.StreamWriter], None], answer: Answer, status: int
) -> None:
    """In whatever way it leaves, however far the answer is: without another byte from the worker, and without time passing."""

    async def scenario() -> None:
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(request_bytes(body=b"hello"))
            if status == 200:
                await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.1)
            leave(writer)
            await until(lambda: bool(router.books.exchanges and router.worker.left))
            assert asyncio.get_running_loop().time() < 0.5
            assert_left(router, status)

    run_in_virtual_time(scenario())


def test_a_client_that_left_costs_no_second_attempt() -> None:
    """It leaves while the router connects: nobody is asked any more."""

    async def scenario() -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            async with forwarding(None, says(OK)) as router:
                address = router.upstream.address
                router.upstream.address = address._replace(port=deaf.getsockname()[1])
                async with router.connection() as (_, writer):
                    writer.write(request_bytes())
                    await until(lambda: bool(router.books.in_flight))
                await until(lambda: bool(router.books.exchanges))
                assert router.worker.asked == []
                assert router.books.outcomes == [Outcome.CLIENT_LEFT]
                assert router.exchange.status == CLIENT_LEFT_STATUS
            for filler in fillers:
                filler.close()

    asyncio.run(scenario())


def test_a_client_may_leave_the_queue() -> None:
    """Nobody is asked for it, and it is in nobody's way."""

    def admission(books: Books) -> Admission:
        return Admission(lambda _model: not books.in_flight, 9, 30.0)

    async def scenario() -> None:
        async with forwarding(hangs, admission=admission) as router, router.connection() as (_, first):
            first.write(request_bytes())
            await until(lambda: bool(router.books.in_flight))
            async with router.connection() as (_, second):
                second.write(request_bytes())
                await until(lambda: len(router.inbounds) == 2)
            await until(lambda: bool(router.books.exchanges))
            assert (router.exchange.attempts, router.exchange.outcome) == (0, None)
            assert router.exchange.status == CLIENT_LEFT_STATUS
            assert len(router.worker.asked) == 1

    asyncio.run(scenario())


def test_a_client_that_leaves_while_it_is_slow_is_noticed() -> None:
    """Though the router waits for it, and reads nothing from the worker."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(STREAM_HEAD)
        while True:
            writer.write(chunk(b"x" * 65536))
            await writer.drain()

    async def scenario() -> None:
        async with forwarding(answer) as router:
            async with router.connection() as (reader, writer):
                writer.write(request_bytes())
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.2)
            await until(lambda: bool(router.books.exchanges and router.worker.left))
            assert_left(router, 200)

    asyncio.run(scenario())


def test_an_answer_that_was_complete_is_no_loss() -> None:
    """A client that leaves after the last byte has had its answer, and the worker's connection is kept."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            async with router.connection() as (reader, writer):
                writer.write(request_bytes())
                await reader.readuntil(b"ok")
            assert router.books.outcomes == [Outcome.COMPLETE]
            assert router.upstream.num_idle == 1

    asyncio.run(scenario())


def test_many_that_come_and_leave_leave_nothing_behind() -> None:
    """Neither files, nor tasks, nor connections, whatever moment they leave at."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        pieces = [STREAM_HEAD, *[chunk(EVENT)] * 3, b"0\r\n\r\n"]
        await says(*pieces)(asked, writer)

    async def visit(router: Forwarding, stay_seconds: float) -> None:
        async with router.connection() as (reader, writer):
            writer.write(request_bytes(body=b"hello"))
            await asyncio.sleep(stay_seconds)
            if not stay_seconds:
                await reader.readuntil(b"0\r\n\r\n")

    async def scenario() -> None:
        async with forwarding(answer) as router:
            await visit(router, 0)
            num_files = num_open_files()
            await asyncio.gather(*(visit(router, number % 40 / 2000) for number in range(200)))
            await until(lambda: len(router.books.exchanges) == 201 and not router.running.num_connections)
            assert set(router.books.outcomes) == {Outcome.COMPLETE, Outcome.CLIENT_LEFT}
            await until(
                lambda: len(router.worker.left) + router.upstream.num_idle == router.worker.num_connections
            )
            # An idle connection has a file on either side of it.
            idle_files = 2 * (router.upstream.num_idle - 1)
            await until(lambda: num_open_files() <= num_files + idle_files)

    asyncio.run(scenario())
