"""No request hides in another: what is ambiguous is refused before any worker hears of it, and what passes is framed anew."""

import asyncio

import pytest
from tests.gateway.fake_worker import OK, says
from tests.gateway.forwarding import forwarding, reply_of, request_bytes
from tests.web.raw_client import parse_answer, say
from tests.web.test_malformed import MALFORMED, MALFORMED_CHUNKS

SMUGGLED = request_bytes("GET", "/smuggled")
CHUNKS = b"POST /v1/x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_reaches_no_worker(request_bytes: bytes) -> None:
    """Alone, with a request behind it, or byte by byte: 400 and the end of the connection."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            sent = request_bytes + SMUGGLED
            for pieces in ([request_bytes], [sent], [sent[at : at + 1] for at in range(len(sent))]):
                data = await say(router.port, *pieces)
                assert data.count(b"HTTP/1.") <= 1
                if len(pieces) == 1:
                    assert parse_answer(data).status == 400
            assert router.worker.asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize("chunks", MALFORMED_CHUNKS.values(), ids=MALFORMED_CHUNKS.keys())
def test_malformed_chunks_reach_no_worker(chunks: bytes) -> None:
    """Neither do those before them, nor what comes behind."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            data = await say(router.port, CHUNKS + chunks + SMUGGLED)
            assert parse_answer(data).status == 400
            assert data.count(b"HTTP/1.") == 1
            assert router.worker.asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        CHUNKS.replace(b"chunked\r\n", b"chunked\r\nConnection: Content-Length\r\n"),
        CHUNKS.replace(b"chunked\r\n", b"chunked\r\nConnection: Host, Transfer-Encoding\r\n"),
        CHUNKS.replace(b"chunked\r\n", b"chunked\r\nContent_Length: 0\r\nTransfer_Encoding: identity\r\n"),
        CHUNKS.replace(
            b"chunked\r\n", b"chunked\r\nX-Original-URL: /smuggled\r\nTrailer: Content-Length\r\n"
        ),
    ],
)
@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"0\r\nX: 1\r\nHost: other\r\n\r\n", b"0;x=y\r\n\r\n"])
def test_a_request_within_a_body_stays_a_body(head: bytes, end: bytes) -> None:
    """Whatever headers, extensions and trailers are there, the worker gets one request of one length, to itself."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router, router.connection() as (reader, writer):
            writer.write(head + b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED) + end)
            answered = await reader.readuntil(b"\r\n\r\nok")
            assert reply_of(answered).status == 200
            (asked,) = router.worker.asked
            assert (asked.target, asked.body) == ("/v1/x", SMUGGLED)
            assert asked.values("Content-Length") == [str(len(SMUGGLED))]
            assert asked.values("Host") == [f"127.0.0.1:{router.worker.port}"]

    asyncio.run(scenario())


@pytest.mark.parametrize("length", [b"5", b"0"])
def test_a_length_that_a_client_takes_back_counts(length: bytes) -> None:
    """`Connection: Content-Length` cannot make a body the next request."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            body = b"hello"[: int(length)]
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close, content-length\r\nContent-Length: %b\r\n\r\n"
            assert parse_answer(await router.send(head % length + body)).status == 200
            (asked,) = router.worker.asked
            assert asked.body == body
            assert asked.values("Content-Length") == [length.decode()]

    asyncio.run(scenario())
