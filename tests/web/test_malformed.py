"""No request is taken for another than it is: what is ambiguous is refused, and the connection ends."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.web.raw_client import parse_answer, port_of, say, serving

SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: test\r\n\r\n"
ECHO = b"POST /echo HTTP/1.1\r\nHost: test\r\n"
HEALTH = b"GET /health HTTP/1.1\r\n"

MALFORMED: dict[str, bytes] = {
    "length and chunks": ECHO + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": ECHO + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": ECHO + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two equal lengths": ECHO + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": ECHO + b"Content-Length: 0, 0\r\n\r\n",
    "a signed length": ECHO + b"Content-Length: +0\r\n\r\n",
    "a negative length": ECHO + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": ECHO + b"Content-Length: 0x0\r\n\r\n",
    "an empty length": ECHO + b"Content-Length: \r\n\r\n",
    "a length beyond 64 bits": ECHO + b"Content-Length: 18446744073709551616\r\n\r\n",
    "an unknown coding": ECHO + b"Transfer-Encoding: cow\r\n\r\n",
    "chunks before another coding": ECHO + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": ECHO + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a coding with a tab before the colon": ECHO + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a coding with a vertical tab": ECHO + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEALTH + b"Host: test\r\nX : 1\r\n\r\n",
    "no colon": HEALTH + b"Host: test\r\nX\r\n\r\n",
    "no name": HEALTH + b"Host: test\r\n: 1\r\n\r\n",
    "a folded value": HEALTH + b"Host: test\r\nX: 1\r\n 2\r\n\r\n",
    "a folded first line": HEALTH + b" X: 1\r\nHost: test\r\n\r\n",
    "a bare line feed": HEALTH + b"Host: test\nX: 1\r\n\r\n",
    "only bare line feeds": b"GET /health HTTP/1.1\nHost: test\n\n",
    "a bare carriage return": HEALTH + b"Host: test\rX: 1\r\n\r\n",
    "a NUL in a value": HEALTH + b"Host: test\r\nX: a\0b\r\n\r\n",
    "a NUL in a name": HEALTH + b"Host: test\r\nX\0: b\r\n\r\n",
    "a NUL in the target": b"GET /health\0 HTTP/1.1\r\nHost: test\r\n\r\n",
    "no host": HEALTH + b"X: 1\r\n\r\n",
    "two hosts": HEALTH + b"Host: test\r\nHost: other\r\n\r\n",
    "two equal hosts": HEALTH + b"Host: test\r\nHost: test\r\n\r\n",
    "a host with a path": HEALTH + b"Host: test/v1\r\n\r\n",
    "a host with a user": HEALTH + b"Host: user@test\r\n\r\n",
    "a host with a space": HEALTH + b"Host: test other\r\n\r\n",
    "a host with a wrong port": HEALTH + b"Host: test:80a\r\n\r\n",
    "a host with an open bracket": HEALTH + b"Host: [::1\r\n\r\n",
    "a space in the target": b"GET /health /v1 HTTP/1.1\r\nHost: test\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: test\r\n\r\n",
    "a target that is no path": b"GET health HTTP/1.1\r\nHost: test\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "an unknown version": b"GET /health HTTP/3.7\r\nHost: test\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"FOO /health HTTP/1.1\r\nHost: test\r\n\r\n",
    "a method in lower case": b"get /health HTTP/1.1\r\nHost: test\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
}

MALFORMED_CHUNKS: dict[str, bytes] = {
    "a size that is no number": b"x\r\nhello\r\n0\r\n\r\n",
    "a signed size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a chunk that is too long": b"3\r\nhello\r\n0\r\n\r\n",
    "a bare line feed behind a size": b"5\nhello\r\n0\r\n\r\n",
    "a bare line feed behind a chunk": b"5\r\nhello\n0\r\n\r\n",
    "a bare line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a space behind a size": b"5 \r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_refused_with_all_that_follows(request_bytes: bytes) -> None:
    """Whether it comes alone, with more, or byte by byte: 400, closed, and no handler runs."""

    async def scenario() -> None:
        async with serving() as (server, application):
            sent = request_bytes + SMUGGLED
            for pieces in ([request_bytes], [sent], [sent[at : at + 1] for at in range(len(sent))]):
                data = await say(port_of(server), *pieces)
                # Where many bytes follow the error, the system may drop the answer that has not been read.
                assert data.count(b"HTTP/1.") <= 1
                if len(pieces) == 1:
                    assert parse_answer(data).status == 400
            assert application.handled == []

    asyncio.run(scenario())


@pytest.mark.parametrize("chunks", MALFORMED_CHUNKS.values(), ids=MALFORMED_CHUNKS.keys())
def test_malformed_chunks_end_the_connection(chunks: bytes) -> None:
    """Nothing behind them is taken for a request, and no handler gets such a body."""

    async def scenario() -> None:
        async with serving() as (server, application):
            data = await say(
                port_of(server), ECHO + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + SMUGGLED
            )
            assert parse_answer(data).status == 400
            assert data.count(b"HTTP/1.") == 1
            assert application.handled == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "host", ["test", "test:80", "127.0.0.1:8000", "[::1]:8000", "[::1]", "a-b.c_d", "test:", ""]
)
def test_a_host_may_be_a_name_or_an_address(host: str) -> None:
    """With or without a port."""

    async def scenario() -> None:
        async with serving() as (server, _):
            request = f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            assert parse_answer(await say(port_of(server), request.encode())).status == 200

    asyncio.run(scenario())


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 400)), data=st.data())
def test_requests_may_come_in_any_pieces(cuts: list[int], data: st.DataObject) -> None:
    """Pipelined requests with bodies of both kinds are all answered, in their order."""
    bodies = data.draw(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
    sent = b""
    for number, body in enumerate(bodies):
        if number % 2:
            sent += ECHO + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            sent += ECHO + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    sent += b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})

    async def scenario() -> None:
        async with serving() as (server, application):
            answers = await say(port_of(server), *(sent[start:end] for start, end in pairwise(edges)))
            assert application.handled == ["/echo"] * len(bodies) + ["/health"]
            position = 0
            for body in [*bodies, b"ok"]:
                position = answers.index(b"\r\n\r\n" + body, position) + 4 + len(body)

    asyncio.run(scenario())
