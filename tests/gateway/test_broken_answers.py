"""An answer that is not whole is never taken for one that is, and garbage never reaches a client."""

import asyncio
import json
import socket

import pytest
from tests.gateway.fake_worker import (
    LAST_CHUNK,
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
from tests.gateway.forwarding import Forwarding, forwarding, read_all, request_bytes, unchunked
from tests.support.virtual_time import run_in_virtual_time
from tests.web.raw_client import parse_answer

from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream.connection import MAX_HEAD_BYTES, READ_BYTES

EVENT = b'data: {"choices":[]}\n\n'


def error_event(data: bytes) -> dict[str, object]:
    """Return the error that a stream, without its head, ends with; there is no [DONE] and no last chunk."""
    body, is_whole = unchunked(data)
    assert not is_whole
    assert b"[DONE]" not in body
    *_, last, nothing = body.split(b"\n\n")
    assert nothing == b""
    error: dict[str, object] = json.loads(last.strip().removeprefix(b"data: "))["error"]
    return error


def body_of(data: bytes) -> bytes:
    """Return what comes behind the head of an answer."""
    return data.partition(b"\r\n\r\n")[2]


def breaks_by_reset(*pieces: bytes) -> Answer:
    """Return an answer that begins with these bytes and ends with a reset, as of a process that is killed."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(asked, writer)
        await asyncio.sleep(0.01)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await hangs(asked, writer)

    return answer


def assert_broken(router: Forwarding) -> None:
    """Assert that one worker was asked, that what it did is known as broken, and that its connection is not used again."""
    assert router.books.outcomes == [Outcome.BROKEN]
    assert router.exchange.outcome is Outcome.BROKEN
    assert router.upstream.num_open == 0


# -- within the body ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [[], [EVENT], [EVENT, EVENT]])
@pytest.mark.parametrize("break_off", [breaks_by_reset, lambda *pieces: says(*pieces, closes=True)])
def test_a_stream_that_breaks_off_ends_with_an_error(events: list[bytes], break_off: object) -> None:
    """All that came, then one event in vLLM's shape, then the end of the connection, without its mark."""
    assert callable(break_off)

    async def scenario() -> None:
        async with forwarding(break_off(STREAM_HEAD, *map(chunk, events)), says(OK)) as router:
            data = body_of(await router.send(request_bytes()))
            assert data.startswith(b"".join(map(chunk, events)))
            assert error_event(data) == {
                "message": "The worker broke off its answer.",
                "type": "BadGatewayError",
                "param": None,
                "code": 502,
            }
            assert unchunked(data)[0].count(b"data: ") == len(events) + 1
            assert router.workers[1].asked == []
            assert router.exchange.status == 200
            assert_broken(router)

    asyncio.run(scenario())


@pytest.mark.parametrize("part", [b'data: {"cho', b"data: {}\n", b"data: {}\r", b":"])
def test_an_error_is_no_part_of_an_event_that_was_cut(part: bytes) -> None:
    """The event that broke off ends first, so a client that reads events finds the error whole."""

    async def scenario() -> None:
        async with forwarding(says(STREAM_HEAD, chunk(EVENT), chunk(part), closes=True)) as router:
            data = body_of(await router.send(request_bytes()))
            assert error_event(data)["code"] == 502
            assert unchunked(data)[0].startswith(EVENT + part + b"\n\ndata: ")

    asyncio.run(scenario())


@pytest.mark.parametrize("separator", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_between_events_nothing_is_added(separator: bytes) -> None:
    """Whatever line ends a worker uses."""

    async def scenario() -> None:
        async with forwarding(says(STREAM_HEAD, chunk(b"data: 1" + separator), closes=True)) as router:
            body, _ = unchunked(body_of(await router.send(request_bytes())))
            assert body.startswith(b"data: 1" + separator + b"data: {")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Type: text/event-stream\r\nContent-Length: 100",
        b"Content-Type: text/event-stream\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked",
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked",
        b"Content-Type: application/json\r\nContent-Length: 100",
        b"Transfer-Encoding: chunked",
    ],
)
def test_where_no_event_can_be_added_the_framing_shows_the_break(fields: bytes) -> None:
    """Of what was sent there is neither the end nor anything that the worker did not say."""
    body = chunk(b"begun") if b"chunked" in fields else b"begun"

    async def scenario() -> None:
        async with forwarding(says(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % fields, body, closes=True)) as router:
            data = body_of(await router.send(request_bytes()))
            assert data in {b"", body}
            assert_broken(router)

    asyncio.run(scenario())


def test_a_body_that_lasts_as_long_as_its_connection_is_reset() -> None:
    """So a client of HTTP/1.0 does not take the end of what broke off for the end of the answer."""

    async def scenario() -> None:
        answer = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"begun"), closes=True)
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert_broken(router)

    asyncio.run(scenario())


def test_a_stream_for_http_1_0_ends_with_the_error_too() -> None:
    """Without chunks, which it does not know."""

    async def scenario() -> None:
        async with forwarding(says(STREAM_HEAD, chunk(EVENT), closes=True)) as router:
            data = body_of(await router.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"))
            assert data.startswith(EVENT + b'data: {"error"')
            assert data.endswith(b"}\n\n")

    asyncio.run(scenario())


def test_an_answer_until_the_close_that_is_reset_is_broken() -> None:
    """Only an orderly close is its end."""

    async def scenario() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        async with forwarding(breaks_by_reset(head, b"begun")) as router:
            assert not unchunked(body_of(await router.send(request_bytes())))[1]
            assert_broken(router)

    asyncio.run(scenario())


@pytest.mark.parametrize("garbage", [b"zz\r\n", b"5\r\nhelloX", b"-1\r\n", b"\0", b"5\r\nhel"])
def test_garbage_within_a_stream_ends_it(garbage: bytes) -> None:
    """What was valid before it arrives, and nothing of it but what may be a body."""

    async def scenario() -> None:
        async with forwarding(says(STREAM_HEAD, chunk(EVENT), garbage, closes=True)) as router:
            data = body_of(await router.send(request_bytes()))
            assert error_event(data)["code"] == 502
            assert unchunked(data)[0].removeprefix(EVENT)[:5] in {b"data:", b"hello", b"hel\n\n"}
            assert_broken(router)

    asyncio.run(scenario())


def test_an_answer_that_stands_still_is_ended() -> None:
    """After the idle time, counted from the last byte; before the first one there is no limit."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1000)
        writer.write(STREAM_HEAD)
        for _ in range(5):
            await asyncio.sleep(299)
            writer.write(chunk(EVENT))
        await hangs(asked, writer)

    async def scenario() -> None:
        async with forwarding(answer) as router:
            data = body_of(await router.send(request_bytes()))
            assert error_event(data)["message"] == "The worker paused its answer for more than 300 seconds."
            assert data.startswith(chunk(EVENT) * 5)
            passed_seconds = asyncio.get_running_loop().time() - (1000 + 5 * 299)
            assert 300 <= passed_seconds < 301
            assert_broken(router)

    run_in_virtual_time(scenario())


# -- before and around the body -----------------------------------------------------------------------------

GARBAGE: dict[str, bytes] = {
    "no HTTP": b"hello\r\n\r\n",
    "another protocol": b"SSH-2.0-x\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "another protocol from now on": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "a length beyond 64 bits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    "a coding that is not chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "a coding below the chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a control character": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x07K\r\nContent-Length: 0\r\n\r\n",
    "a bare carriage return": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "a line without a colon": b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
    "garbage for a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n",
    "a header that is too long": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Len",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_502(garbage: bytes) -> None:
    """The client gets nothing of it, nobody else is asked, and the connection is not used again."""

    async def scenario() -> None:
        for pieces in ([garbage], [garbage[:7], garbage[7:]]):
            async with forwarding(says(*pieces, closes=True), says(OK), retry_unanswered=True) as router:
                data = await router.send(request_bytes(fields=["Connection: close"]))
                assert parse_answer(data).status == 502
                assert data.count(b"HTTP/1.1") == 1
                assert json.loads(body_of(data))["error"]["type"] == "BadGatewayError"
                assert router.workers[1].asked == []
                assert_broken(router)

    asyncio.run(scenario())


@pytest.mark.parametrize("endless", [b"X: %b\r\n" % (b"a" * 1000), b"HTTP/1.1 100 Continue\r\n\r\n", b"a"])
def test_a_head_without_end_is_not_read_without_end(endless: bytes) -> None:
    """Be it of headers, of interim answers or of one long line: it is given up at the limit."""
    num_sent = 0

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal num_sent
        del asked
        if not endless.startswith(b"HTTP"):
            writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not writer.is_closing():
            writer.write(endless)
            await writer.drain()
            num_sent += len(endless)
            if num_sent % READ_BYTES < len(endless):
                await asyncio.sleep(0.001)

    async def scenario() -> None:
        async with forwarding(answer) as router:
            assert (await router.ask()).status == 502
            assert_broken(router)
            assert num_sent < MAX_HEAD_BYTES * 16

    asyncio.run(scenario())


def test_an_answer_that_is_shorter_than_it_says_is_broken() -> None:
    """The client's own count shows it."""

    async def scenario() -> None:
        async with forwarding(
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", closes=True)
        ) as router:
            data = await router.send(request_bytes())
            assert b"Content-Length: 9\r\n" in data
            assert body_of(data) in {b"", b"hello"}
            assert_broken(router)

    asyncio.run(scenario())


@pytest.mark.parametrize("excess", [b"!", OK, LAST_CHUNK])
@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_an_answer_that_is_whole_stays_so(excess: bytes, framing: bytes) -> None:
    """Whatever comes in one packet with its end; the connection is not used again."""
    head = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing
    body = b"hello" if b"Length" in framing else chunk(b"hello") + LAST_CHUNK

    async def scenario() -> None:
        async with forwarding(says(head, body + excess)) as router:
            reply = await router.ask()
            assert (reply.status, reply.body) == (200, b"hello")
            assert router.books.outcomes == [Outcome.COMPLETE]
            assert router.upstream.num_idle == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("excess", [b"!", OK, LAST_CHUNK])
@pytest.mark.parametrize("is_apart", [False, True])
def test_what_comes_behind_an_answer_reaches_nobody(excess: bytes, is_apart: bool) -> None:  # noqa: FBT001 - a case
    """Neither the client that asked nor the next one, which gets a connection that is clean."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    numbers = iter(range(10))

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if next(numbers):
            await says(OK)(asked, writer)
        else:
            await says(*([first, excess] if is_apart else [first + excess]))(asked, writer)

    async def scenario() -> None:
        async with forwarding(answer) as router:
            reply = await router.ask()
            assert (reply.status, reply.body) == (200, b"hello") or reply.status == 502
            if is_apart:
                await until(lambda: router.upstream.num_open == 0)
            reply = await router.ask()
            assert (reply.status, reply.body) == (200, b"ok")
            assert router.worker.num_connections == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer", [says(STREAM_HEAD, chunk(EVENT), closes=True), says_and_hangs(STREAM_HEAD)]
)
def test_a_fleet_that_shrinks_takes_its_streams_along(answer: Answer) -> None:
    """Closing a worker's connections at once breaks its streams off, which their clients hear."""

    async def scenario() -> None:
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(request_bytes())
            await reader.readuntil(b"\r\n\r\n")
            router.upstream.abort()
            assert error_event(await read_all(reader))["code"] == 502
            assert_broken(router)

    asyncio.run(scenario())
