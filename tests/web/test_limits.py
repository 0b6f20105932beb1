"""What a client may take: beyond a limit it gets one answer, or none, and the server is rid of it."""

import asyncio
from dataclasses import replace

import pytest
from tests.web.raw_client import SECONDS, ask, parse_answer, port_of, say, serving, until

from understudy.web import HttpLimits

SHORT = HttpLimits(
    header_seconds=0.05, body_seconds=0.05, linger_seconds=0.05, min_body_bytes_per_second=1_000_000_000
)
SMALL = HttpLimits(linger_seconds=0.5, header_bytes=4096, header_count=10, body_bytes=1000)
HEAD = b"GET /health HTTP/1.1\r\nHost: test\r\n"
ECHO = b"POST /echo HTTP/1.1\r\nHost: test\r\n"


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"G", b""),
        (b"GET /health", b"x"),
        (b"GET /health HTTP/1.1\r\n", b"X"),
        (HEAD, b"X"),
        (HEAD + b"\r", b""),
    ],
)
@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["at first", "on a kept connection"])
def test_headers_that_do_not_come_to_an_end_end_the_connection(
    begun: bytes, more: bytes, before: bytes
) -> None:
    """However far they got, and however many bytes still trickle in."""

    async def scenario() -> None:
        async with serving(SHORT) as (server, application):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            if before:
                writer.write(before)
                await reader.readuntil(b"ok")
            writer.write(begun)
            trickle = asyncio.create_task(_trickle(writer, more))
            assert await asyncio.wait_for(reader.read(), SECONDS) == b""
            trickle.cancel()
            await asyncio.wait([trickle])
            writer.close()
            assert application.handled == (["/health"] if before else [])

    asyncio.run(scenario())


async def _trickle(writer: asyncio.StreamWriter, piece: bytes) -> None:
    while True:
        await asyncio.sleep(0.02)
        writer.write(piece)
        await writer.drain()


def test_waiting_for_an_answer_is_no_slowness() -> None:
    """A deadline for headers ends with them, however long the handler takes."""

    async def scenario() -> None:
        async with serving(SHORT) as (server, application):
            answer = asyncio.create_task(ask(port_of(server), "/slow"))
            await asyncio.sleep(3 * SHORT.header_seconds)
            application.release.set()
            assert (await answer).body == b"released"

    asyncio.run(scenario())


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_come_is_timed_out(framing: bytes) -> None:
    """408, and the connection ends."""

    async def scenario() -> None:
        async with serving(SHORT) as (server, application):
            data = await say(port_of(server), ECHO + framing + b"\r\n5\r\nhello\r\n")
            assert parse_answer(data).status == 408
            assert application.handled == []

    asyncio.run(scenario())


def test_a_long_body_gets_the_time_that_its_length_allows() -> None:
    """Beyond the flat deadline, by the slowest rate that is accepted."""

    async def scenario() -> None:
        limits = replace(SHORT, min_body_bytes_per_second=100)
        async with serving(limits) as (server, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(ECHO + b"Connection: close\r\nContent-Length: 500\r\n\r\n")
            await asyncio.sleep(3 * limits.body_seconds)
            writer.write(b"x" * 500)
            assert parse_answer(await asyncio.wait_for(reader.read(), SECONDS)).body == b"x" * 500
            writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("keep_alive_seconds", [0.02, 0.1])
@pytest.mark.parametrize("sent", [b"", HEAD + b"\r\n"])
def test_an_idle_connection_is_closed(sent: bytes, keep_alive_seconds: float) -> None:
    """Whether it never asked, or does not ask again."""

    async def scenario() -> None:
        async with serving(HttpLimits(keep_alive_seconds=keep_alive_seconds)) as (server, application):
            assert (await say(port_of(server), sent) == b"") is (sent == b"")
            assert len(application.handled) == bool(sent)

    asyncio.run(scenario())


OVERSIZED_HEADS = {
    "too many headers": HEAD + b"X: 1\r\n" * 11 + b"\r\n",
    "a long value": HEAD + b"X: " + b"x" * 5000 + b"\r\n\r\n",
    "a long name": HEAD + b"x" * 5000 + b": 1\r\n\r\n",
    "a long target": b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    "headers that are too long together": HEAD
    + b"".join(b"X%d: %b\r\n" % (n, b"x" * 1000) for n in range(5))
    + b"\r\n",
    "headers without end": HEAD + b"".join(b"X%d: %b\r\n" % (n, b"x" * 1000) for n in range(5)),
}


@pytest.mark.parametrize("in_pieces_of", [10, 1000, 1_000_000])
@pytest.mark.parametrize("head", OVERSIZED_HEADS.values(), ids=OVERSIZED_HEADS.keys())
def test_headers_that_are_too_large_are_refused(head: bytes, in_pieces_of: int) -> None:
    """431 in JSON, once, and closed."""

    async def scenario() -> None:
        async with serving(SMALL) as (server, application):
            pieces = [head[start : start + in_pieces_of] for start in range(0, len(head), in_pieces_of)]
            answer = parse_answer(await say(port_of(server), *pieces))
            assert answer.status == 431
            assert answer.headers["content-type"] == "application/json"
            assert answer.body == b'{"detail":"Request Header Fields Too Large"}'
            assert application.handled == []

    asyncio.run(scenario())


def test_headers_at_the_limit_pass() -> None:
    """One header less than too many, some bytes less than too long."""

    async def scenario() -> None:
        async with serving(SMALL) as (server, _):
            head = HEAD + b"Connection: close\r\n" + b"X: 1\r\n" * 7 + b"X: " + b"x" * 3900 + b"\r\n\r\n"
            assert parse_answer(await say(port_of(server), head)).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "request_bytes",
    [
        ECHO + b"Content-Length: 1001\r\n\r\n",
        ECHO + b"Content-Length: 99999999999999\r\n\r\n",
        ECHO + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
        ECHO + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001,
    ],
)
def test_a_body_that_is_too_long_is_refused_before_its_end(request_bytes: bytes) -> None:
    """413 and closed, though the body never ends."""

    async def scenario() -> None:
        async with serving(SMALL) as (server, application):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(request_bytes)
            answer = parse_answer(await asyncio.wait_for(reader.readuntil(b"}"), SECONDS))
            assert answer.status == 413
            assert answer.headers["connection"] == "close"
            writer.close()
            assert application.handled == []

    asyncio.run(scenario())


def test_a_body_at_the_limit_passes() -> None:
    """To the byte."""

    async def scenario() -> None:
        async with serving(SMALL) as (server, _):
            assert (await ask(port_of(server), "/echo", "POST", body=b"x" * 1000)).body == b"x" * 1000

    asyncio.run(scenario())


def test_a_compressed_body_stays_as_it_is() -> None:
    """Nothing is unpacked, so nothing can swell."""

    async def scenario() -> None:
        async with serving(SMALL) as (server, _):
            answer = await ask(port_of(server), "/echo", "POST", ["Content-Encoding: gzip"], b"no gzip")
            assert (answer.status, answer.body) == (200, b"no gzip")

    asyncio.run(scenario())


def test_connections_beyond_the_limit_are_refused_until_others_go() -> None:
    """503 in JSON, and those that are open are served."""

    async def scenario() -> None:
        async with serving(HttpLimits(connections=3)) as (server, _):
            port = port_of(server)
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await until(lambda: server.num_connections == 3)
            for _ in range(5):
                answer = await ask(port, "/health")
                assert (answer.status, answer.body) == (503, b'{"detail":"Service Unavailable"}')
                assert answer.headers["connection"] == "close"
            for reader, writer in opened:
                writer.write(HEAD + b"Connection: close\r\n\r\n")
                assert parse_answer(await asyncio.wait_for(reader.read(), SECONDS)).status == 200
                writer.close()
            await until(lambda: server.num_connections == 0)
            assert (await ask(port, "/health")).status == 200

    asyncio.run(scenario())


def test_refused_connections_do_not_pile_up() -> None:
    """No more of them are told why than may be served; the others just end."""

    async def scenario() -> None:
        async with serving(HttpLimits(connections=2, linger_seconds=0.2)) as (server, _):
            clients = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(10)]
            answers = await asyncio.gather(*(_rest(reader) for reader, _ in clients[2:]))
            assert [parse_answer(answer).status for answer in answers if answer] == [503, 503]
            assert server.num_connections == 2
            for _, writer in clients:
                writer.close()

    asyncio.run(scenario())


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), SECONDS)
    except ConnectionError:
        return b""
