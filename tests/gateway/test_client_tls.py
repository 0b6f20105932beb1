"""Towards clients all is the same over TLS."""

import asyncio

import pytest
from tests.gateway.fake_worker import LAST_CHUNK, STREAM_HEAD, Asked, chunk, says, says_and_hangs, until
from tests.gateway.forwarding import forwarding, read_all, request_bytes, unchunked

from understudy.gateway.client import MAX_UNSENT_BYTES, ClientAnswer
from understudy.gateway.outcome import Outcome
from understudy.gateway.upstream.connection import READ_BYTES

EVENTS = [b"data: %d\n\n" % number for number in range(3)]


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_stream_passes_and_its_break_shows(is_whole: bool) -> None:  # noqa: FBT001 - a case
    """Event by event, then its end, or the error."""
    pieces = [STREAM_HEAD, *map(chunk, EVENTS)]
    answer = says(*pieces, LAST_CHUNK) if is_whole else says(*pieces, closes=True)

    async def scenario() -> None:
        async with forwarding(answer, is_tls=True) as router:
            data = await router.send(request_bytes(fields=["Connection: close"]))
            body, ends = unchunked(data.partition(b"\r\n\r\n")[2])
            assert ends == is_whole
            assert body.startswith(b"".join(EVENTS))
            assert (b'"error"' in body) != is_whole

    asyncio.run(scenario())


def test_leaving_is_heard() -> None:
    """Before the worker says another byte."""

    async def scenario() -> None:
        async with forwarding(says_and_hangs(STREAM_HEAD, chunk(EVENTS[0])), is_tls=True) as router:
            async with router.connection() as (reader, writer):
                writer.write(request_bytes())
                await reader.readuntil(EVENTS[0])
            await until(lambda: bool(router.books.exchanges and router.worker.left))
            assert router.books.outcomes == [Outcome.CLIENT_LEFT]

    asyncio.run(scenario())


def test_no_more_waits_for_a_slow_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than without TLS, but for what the encryption adds; and all arrives in the end."""
    most_waiting = 0
    write = ClientAnswer.write

    def watched_write(client: ClientAnswer, piece: bytes, *, is_last: bool) -> None:
        nonlocal most_waiting
        write(client, piece, is_last=is_last)
        most_waiting = max(most_waiting, client._transport.get_write_buffer_size())

    monkeypatch.setattr(ClientAnswer, "write", watched_write)
    body = bytes(24 << 20)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)(asked, writer)

    async def scenario() -> None:
        async with forwarding(answer, is_tls=True) as router, router.connection() as (reader, writer):
            writer.write(request_bytes(fields=["Connection: close"]))
            await reader.readuntil(b"\r\n\r\n")
            await until(lambda: most_waiting > MAX_UNSENT_BYTES)
            assert most_waiting <= MAX_UNSENT_BYTES + 2 * READ_BYTES
            assert await read_all(reader) == body
            assert most_waiting <= MAX_UNSENT_BYTES + 2 * READ_BYTES

    asyncio.run(scenario())
