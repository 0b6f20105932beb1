"""Requests and answers pass as they are: what a worker and a client see is what the other one said."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.fake_worker import (
    LAST_CHUNK,
    OK,
    STREAM_HEAD,
    Answer,
    Asked,
    chunk,
    says,
    until,
)
from tests.gateway.forwarding import (
    BLOCK_SIZE,
    MATCHED_BLOCKS,
    PROMPT_TOKENS,
    forwarding,
    read_all,
    reply_of,
    request_bytes,
)
from tests.web.raw_client import parse_answer

from understudy.gateway.outcome import Outcome
from understudy.web import CorsPolicy

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


def with_length(body: bytes) -> bytes:
    """Return an answer that says how long it is."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_a_request_reaches_the_worker_as_it_was_sent() -> None:
    """Method, target, headers in their order and spelling, and body; without what is of one connection, for the worker's Host."""
    target = "/v1/chat/completions/%2e%2E/a%00b?x=1&y=%20;z#no"
    fields = ["X-B: 2", "x-a: \u00e9 , 3", "X-B: 1", "Authorization: Bearer k", "X-Request-Id: mine"]
    dropped = ["Connection: x-c, close", "X-C: 1", "TE: trailers", "Proxy-Authorization: p"]

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            data = request_bytes("PATCH", target, [*fields, *dropped], b"\0body\xff")
            assert parse_answer(await router.send(data)).status == 200
            (asked,) = router.worker.asked
            assert (asked.method, asked.target, asked.body) == ("PATCH", target, b"\0body\xff")
            host = f"Host: 127.0.0.1:{router.worker.port}"
            expected = [host, *fields, "Content-Length: 6"]
            assert [f"{name}: {value}" for name, value in asked.fields] == expected

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "body", "lengths"),
    [("GET", b"", []), ("POST", b"", ["0"]), ("POST", b"a", ["1"]), ("DELETE", b"a", ["1"])],
)
def test_a_request_says_how_long_it_is_where_it_may_have_a_body(
    method: str, body: bytes, lengths: list[str]
) -> None:
    """By Content-Length, whatever the client used."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            await router.ask(method, body=body)
            assert router.worker.asked[0].values("Content-Length") == lengths

    asyncio.run(scenario())


def test_a_request_without_an_id_gets_one() -> None:
    """The worker and the client see the same, and no two requests have the same."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            replies = [await router.ask() for _ in range(2)]
            ids = [asked.values("X-Request-Id") for asked in router.worker.asked]
            assert ids == [[reply.headers["x-request-id"]] for reply in replies]
            assert ids[0] != ids[1]
            assert [[exchange.request_id] for exchange in router.books.exchanges] == ids

    asyncio.run(scenario())


def test_a_worker_that_tells_the_id_itself_is_not_corrected() -> None:
    """There is one X-Request-Id in the answer, the worker's."""

    async def scenario() -> None:
        async with forwarding(
            says(b"HTTP/1.1 200 OK\r\nX-Request-Id: w\r\nContent-Length: 0\r\n\r\n")
        ) as router:
            data = await router.send(request_bytes(fields=["X-Request-Id: c", "Connection: close"]))
            assert data.lower().count(b"x-request-id:") == 1
            assert parse_answer(data).headers["x-request-id"] == "w"

    asyncio.run(scenario())


def test_an_answer_reaches_the_client_as_it_was_sent() -> None:
    """Status, reason, headers in their order and spelling, Date and Server too; without what is of one connection."""
    passing = b"Date: then\r\nX-B: 2\r\nSERVER: mine\r\nx-b: \xc3\xa9\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    dropped = b"Keep-Alive: timeout=5\r\nConnection: X-C\r\nx-c: 1\r\nTrailer: X-T\r\n"
    answer = b"HTTP/1.1 418 I'm a Teapot\r\n" + dropped + passing + b"Content-Length: 2\r\n\r\nok"

    async def scenario() -> None:
        async with forwarding(says(answer), worker_headers=False) as router:
            data = await router.send(request_bytes(fields=["X-Request-Id: 1", "Connection: close"]))
            expected = b"Content-Length: 2\r\nConnection: close\r\nX-Request-Id: 1\r\n\r\nok"
            assert data == b"HTTP/1.1 418 I'm a Teapot\r\n" + passing + expected
            assert router.exchange.status == 418

    asyncio.run(scenario())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"307 Temporary Redirect"])
def test_redirects_are_the_clients_to_follow(version: str, status: bytes) -> None:
    """They pass like any answer, and nobody else is asked."""
    answer = b"HTTP/1.1 %b\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n" % status

    async def scenario() -> None:
        async with forwarding(says(answer), says(OK)) as router:
            data = await router.send(f"GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            reply = parse_answer(data)
            assert (reply.status, reply.headers["location"]) == (int(status[:3]), "http://127.0.0.1:9/")
            assert router.workers[1].asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("target", "host"),
    [("http://127.0.0.1:9/v1/x", "a"), ("//127.0.0.1:9/v1/x", "127.0.0.1:9"), ("/v1/x", "127.0.0.1:9")],
)
def test_a_request_cannot_choose_its_host(target: str, host: str) -> None:
    """Neither by an absolute target, which is not found, nor by Host."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            status = parse_answer(await router.send(request.encode())).status
            assert status == (404 if target.startswith("http") else 200)
            for asked in router.worker.asked:
                assert asked.values("Host") == [f"127.0.0.1:{router.worker.port}"]
                assert asked.target == target

    asyncio.run(scenario())


def test_a_worker_below_a_path_is_asked_there() -> None:
    """The path of its URL stands before every target."""

    async def scenario() -> None:
        async with forwarding(says(OK), prefix="/below/") as router:
            await router.ask(target="/v1/x?y")
            assert router.worker.asked[0].target == "/below/v1/x?y"

    asyncio.run(scenario())


def test_answers_say_who_gave_them_and_why() -> None:
    """In one line of ASCII each, whatever a policy gives as its reason; what a worker says in these headers does not count."""
    answer = b"HTTP/1.1 200 OK\r\nX-Understudy-Worker: other\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        async with forwarding(says(answer)) as router:
            router.books.reason = "so\r\nX-Evil: 1\u2603"
            reply = await router.ask()
            assert reply.headers["x-understudy-worker"] == router.worker.url
            assert reply.headers["x-understudy-reason"] == "so??X-Evil: 1?"
            assert "x-evil" not in reply.headers

    asyncio.run(scenario())


def test_the_routers_headers_can_be_left_out() -> None:
    """Then nothing tells of the worker."""

    async def scenario() -> None:
        async with forwarding(says(OK), worker_headers=False) as router:
            reply = await router.ask()
            assert not any(name.startswith("x-understudy") for name in reply.headers)

    asyncio.run(scenario())


def test_cors_is_the_routers_where_it_has_a_policy() -> None:
    """Its headers replace the worker's, whose Vary stays a part of what the answer depends on."""
    answer = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        async with forwarding(says(answer), cors=CorsPolicy(["http://a"])) as router:
            data = await router.send(request_bytes(fields=["Origin: http://a", "Connection: close"]))
            assert data.lower().count(b"access-control-allow-origin") == 1
            headers = parse_answer(data).headers
            assert headers["access-control-allow-origin"] == "http://a"
            assert headers["vary"] == "Accept, Origin"

    asyncio.run(scenario())


# -- framing ------------------------------------------------------------------------------------------------


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return data in pieces that end at these places."""
    edges = sorted({0, len(data), *(each for each in cuts if each < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def chunked(pieces: Sequence[bytes]) -> bytes:
    """Return pieces as chunks, the last one included."""
    return b"".join(chunk(piece) for piece in pieces if piece) + LAST_CHUNK


@settings(max_examples=25, deadline=None)
@given(
    bodies=st.lists(st.lists(st.binary(max_size=60), max_size=4), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 300), max_size=6),
    framing=st.sampled_from(["length", "chunks", "close"]),
)
def test_bodies_are_identical_in_whatever_pieces_they_come(
    bodies: list[list[bytes]], cuts: list[int], framing: str
) -> None:
    """Both ways, in chunks or not, over one connection or several, and the router's own framing holds them."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        whole = asked.body
        if framing == "length":
            data = with_length(whole)
        elif framing == "chunks":
            data = CHUNKED + chunked(cut(whole, cuts))
        else:
            data = UNTIL_CLOSE + whole
        await says(*cut(data, cuts), closes=framing == "close")(asked, writer)

    async def scenario() -> None:
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            for pieces in bodies:
                head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                for piece in cut(head + chunked(pieces), cuts):
                    writer.write(piece)
                    await asyncio.sleep(0)
                assert await read_reply(reader) == b"".join(pieces)
            assert [asked.body for asked in router.worker.asked] == [b"".join(pieces) for pieces in bodies]

    asyncio.run(scenario())


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """Read one answer from a connection that goes on, and return its body."""
    data = await reader.readuntil(b"\r\n\r\n")
    headers = parse_answer(data).headers
    if "content-length" in headers:
        assert "transfer-encoding" not in headers
        return await reader.readexactly(int(headers["content-length"]))
    assert headers["transfer-encoding"] == "chunked"
    body = b""
    while length := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(length)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HEAD", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "5"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
    ],
)
def test_answers_without_a_body_end_with_their_heads(method: str, answer: bytes, length: str | None) -> None:
    """To HEAD, and of the statuses that have none: no chunk, and the connection can be used again, on both sides."""

    async def scenario() -> None:
        async with forwarding(says(answer)) as router, router.connection() as (reader, writer):
            for _ in range(2):
                writer.write(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                headers = parse_answer(await reader.readuntil(b"\r\n\r\n")).headers
                assert headers.get("content-length") == length
                assert headers.keys().isdisjoint({"transfer-encoding", "connection"})
            assert router.worker.num_connections == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        says(with_length(b"hello")),
        says(CHUNKED + chunked([b"hel", b"lo"])),
        says(CHUNKED + chunk(b"hel"), chunk(b"lo"), LAST_CHUNK),
    ],
)
@pytest.mark.parametrize("fields", ["", "Connection: keep-alive\r\n"])
def test_a_client_of_http_1_0_gets_no_chunks(answer: Answer, fields: str) -> None:
    """What has no length ends with the connection, which else is kept if the client asked for that."""

    async def scenario() -> None:
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(f"GET / HTTP/1.0\r\nHost: a\r\n{fields}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 200 OK\r\n")
            assert b"Transfer-Encoding" not in head
            assert await reader.readexactly(5) == b"hello"
            is_kept = bool(fields) and b"Content-Length" in head
            assert (b"Connection: keep-alive" in head, b"Connection: close" in head) == (is_kept, not is_kept)
            if is_kept:
                writer.write(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
                assert (await read_all(reader)).endswith(b"\r\n\r\nhello")
            else:
                assert await reader.read() == b""

    asyncio.run(scenario())


def test_interim_answers_are_not_passed_on() -> None:
    """The client gets the one that counts; `Expect` is answered by the router, and the worker does not see it."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

    async def scenario() -> None:
        for pieces in ([interim + hints + OK], [interim, hints + OK], [interim, hints, OK]):
            async with forwarding(says(*pieces)) as router:
                request = request_bytes(fields=["Expect: 100-continue", "Connection: close"], body=b"hello")
                data = await router.send(request)
                assert data.startswith(interim + b"HTTP/1.1 200 OK\r\n")
                assert data.count(b"HTTP/1.1") == 2
                assert router.worker.asked[0].values("Expect") == []
                assert router.worker.asked[0].body == b"hello"

    asyncio.run(scenario())


def test_trailers_are_dropped() -> None:
    """The body is whole without them, and the worker's connection is used again."""
    answer = CHUNKED + chunk(b"hello") + b"0\r\nX-T: 1\r\n\r\n"

    async def scenario() -> None:
        async with forwarding(says(answer)) as router:
            for _ in range(2):
                data = await router.send(request_bytes(fields=["Connection: close"]))
                assert reply_of(data).body == b"hello"
                assert b"X-T" not in data
            assert router.worker.num_connections == 1

    asyncio.run(scenario())


def test_every_piece_goes_out_when_it_comes() -> None:
    """The head too: the client has each event before the worker makes the next."""
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(STREAM_HEAD)
        while event := await turns.get():
            writer.write(chunk(event))
        writer.write(LAST_CHUNK)

    async def scenario() -> None:
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(request_bytes())
            await reader.readuntil(b"\r\n\r\n")
            assert router.books.first_tokens == []
            for number in range(5):
                event = b"data: %d\n\n" % number
                turns.put_nowait(event)
                assert await reader.readexactly(len(chunk(event))) == chunk(event)
                assert router.books.first_tokens == router.books.members
            assert router.books.in_flight != []
            turns.put_nowait(b"")
            assert await reader.readexactly(len(LAST_CHUNK)) == LAST_CHUNK

    asyncio.run(scenario())


def test_nobody_is_made_to_change_protocols() -> None:
    """A worker is not asked to, and the connection goes on with the next request."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router, router.connection() as (reader, writer):
            fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            writer.write(request_bytes("GET", "/a", fields) + request_bytes("GET", "/b"))
            for _ in range(2):
                assert await read_reply(reader) == b"ok"
            assert [asked.target for asked in router.worker.asked] == ["/a", "/b"]
            assert router.worker.asked[0].values("Upgrade") == []
            assert router.worker.asked[0].values("Connection") == []

    asyncio.run(scenario())


def test_a_client_may_send_the_next_request_before_the_answer() -> None:
    """Pipelined requests are answered one after the other, in their order."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await says(CHUNKED + chunk(asked.target.encode()), LAST_CHUNK)(asked, writer)

    async def scenario() -> None:
        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(b"".join(request_bytes(target=f"/{number}") for number in range(4)))
            for number in range(4):
                assert await read_reply(reader) == b"/%d" % number
            assert router.worker.num_connections == 1

    asyncio.run(scenario())


# -- what is told of it -------------------------------------------------------------------------------------


async def told(answer: Answer) -> int | None:
    """Return how many cached tokens an answer is taken to tell of."""
    async with forwarding(answer) as router:
        await router.ask()
        return router.exchange.actual_cached_tokens


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage":{"prompt_tokens_details":{"cached_tokens":48}}}', 48),
        (b'{"usage": {"prompt_tokens_details": {"cached_tokens": 0}}}', 0),
        (b'{"usage":{"prompt_tokens_details":null}}', None),
        (b'{"text":"\\"cached_tokens\\":7"}', None),
        (b'{"cached_tokens":null}', None),
    ],
)
def test_what_was_cached_is_read_from_the_usage(body: bytes, expected: int | None) -> None:
    """Of a whole answer, or of the last event of a stream that tells; never from a text that looks like it."""
    events = [b'data: {"usage":{"cached_tokens":1}}\n\n', b"data: " + body + b"\n\n", b"data: [DONE]\n\n"]
    stream = [STREAM_HEAD, *map(chunk, events[1:]), LAST_CHUNK]

    async def scenario() -> None:
        assert await told(says(with_length(body))) == expected
        assert await told(says(*stream)) == expected
        if expected is not None:
            assert await told(says(STREAM_HEAD, *map(chunk, events), LAST_CHUNK)) == expected

    asyncio.run(scenario())


def test_an_exchange_has_all_facts_of_a_request() -> None:
    """Who asked what of whom, what came of it, and times in their order."""
    events = [b"data: %d\n\n" % number for number in range(3)]

    async def scenario() -> None:
        async with forwarding(None, says(STREAM_HEAD, *map(chunk, events), LAST_CHUNK)) as router:
            fields = ["traceparent: 00-1", "X-Request-Id: mine"]
            await router.ask("POST", "/v1/x?secret", fields, b"hello")
            told = router.exchange
            assert (told.method, told.path, told.model, told.status) == ("POST", "/v1/x", "m", 200)
            assert (told.request_id, told.traceparent, told.key_id) == ("mine", "00-1", "k")
            assert (told.worker, told.reason) == (router.worker.url, "next in line")
            assert (told.outcome, told.attempts, told.is_stream) == (Outcome.COMPLETE, 2, True)
            assert (told.has_prompt, told.prompt_tokens, told.request_bytes) == (True, PROMPT_TOKENS, 5)
            assert told.predicted_cached_tokens == MATCHED_BLOCKS * BLOCK_SIZE
            assert (told.body_bytes, told.chunks) == (len(b"".join(events)), 3)
            times = [
                told.received_ns,
                told.dispatched_ns,
                told.answered_ns,
                told.first_byte_ns,
                told.ended_ns,
            ]
            assert all(time is not None for time in times)
            assert times == sorted(times, key=lambda time: time or 0)
            assert 7 < told.routing_ns < told.ended_ns - told.received_ns + 7

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "outcome", "has_token"),
    [
        (200, Outcome.COMPLETE, True),
        (404, Outcome.COMPLETE, False),
        (429, Outcome.REFUSED, False),
        (500, Outcome.SERVER_ERROR, False),
        (503, Outcome.REFUSED, False),
    ],
)
def test_the_fleet_hears_how_it_went(status: int, outcome: Outcome, has_token: bool) -> None:  # noqa: FBT001 - a case
    """Once a request: the first token of a success, and the outcome by the status."""

    async def scenario() -> None:
        answer = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status
        async with forwarding(says(answer), says(OK)) as router:
            assert (await router.ask()).status == status
            assert router.books.outcomes == [outcome]
            assert len(router.books.first_tokens) == has_token
            assert router.exchange.outcome is outcome

    asyncio.run(scenario())


def test_a_long_answer_does_not_hold_its_request() -> None:
    """Once nobody else can be asked, the body is let go."""

    async def scenario() -> None:
        release = asyncio.Event()

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            del asked
            writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
            await release.wait()
            writer.write(LAST_CHUNK)

        async with forwarding(answer) as router, router.connection() as (reader, writer):
            writer.write(request_bytes(body=b"x" * 100_000))
            await reader.readuntil(b"data: 1\n\n")
            assert router.inbounds[0].body == b""
            assert router.worker.asked[0].body == b"x" * 100_000
            release.set()
            await until(lambda: bool(router.books.exchanges))
            assert router.exchange.request_bytes == 100_000

    asyncio.run(scenario())
