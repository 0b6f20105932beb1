"""Another worker is asked only while that is safe, never the same one twice, and within a budget."""

import asyncio
import json
import socket

import pytest
from tests.gateway.fake_worker import OK, STREAM_HEAD, Answer, Asked, chunk, hangs, says, until
from tests.gateway.forwarding import Books, forwarding, read_all, request_bytes
from tests.support.virtual_time import run_in_virtual_time
from tests.web.raw_client import Answer as Reply

from understudy.gateway.admission import Admission
from understudy.gateway.outcome import Outcome
from understudy.gateway.relay import MAX_HELD_BYTES


def refusal(status: int = 503, *, is_marked: bool = True, body: bytes = b"full") -> bytes:
    """Return a refusal; marked, it says that nothing was started."""
    marker = b"x-understudy-not-STARTED: 1\r\n" if is_marked else b""
    head = b"HTTP/1.1 %d Full\r\nRetry-After: 7\r\n%bContent-Length: %d\r\n\r\n"
    return head % (status, marker, len(body)) + body


def error_of(reply: Reply) -> dict[str, object]:
    """Return the error of an answer in vLLM's shape."""
    assert reply.headers["content-type"].startswith("application/json")
    error: dict[str, object] = json.loads(reply.body)["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == reply.status
    return error


def test_a_worker_that_cannot_be_reached_costs_nothing() -> None:
    """The next one gets the same request, body and all, and the client sees nothing of it."""

    async def scenario() -> None:
        async with forwarding(None, None, says(OK)) as router:
            reply = await router.ask(target="/a", fields=["X-Request-Id: 1"], body=b"hello")
            assert (reply.status, reply.body) == (200, b"ok")
            assert reply.headers["x-understudy-worker"] == router.worker.url
            (asked,) = router.worker.asked
            assert (asked.target, asked.body, asked.values("X-Request-Id")) == ("/a", b"hello", ["1"])
            assert router.books.outcomes == [
                Outcome.CONNECT_FAILED,
                Outcome.CONNECT_FAILED,
                Outcome.COMPLETE,
            ]
            failed = [(member, Outcome.CONNECT_FAILED) for member in router.books.members[:2]]
            assert router.books.retries == failed
            assert router.exchange.attempts == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["mine", "\u00e9", "\udcff"])
def test_an_error_names_the_request(name: str) -> None:
    """By the client's own id, as far as that is text."""

    async def scenario() -> None:
        async with forwarding(None) as router:
            reply = await router.ask(fields=[f"X-Request-Id: {name}"])
            told = name.encode("utf-8", "surrogateescape").decode(errors="replace")
            assert reply.headers["x-request-id"].encode("latin-1").decode() == told
            assert router.exchange.request_id == told

    asyncio.run(scenario())


@pytest.mark.parametrize(("num_workers", "retries", "attempts"), [(2, 3, 2), (6, 3, 4), (6, 0, 1), (6, 1, 2)])
def test_no_worker_that_can_be_reached_is_a_502(num_workers: int, retries: int, attempts: int) -> None:
    """After each was tried once, or as many as the retries allow."""

    async def scenario() -> None:
        async with forwarding(*[None] * num_workers, retries=retries) as router:
            reply = await router.ask(fields=["X-Request-Id: mine"])
            assert reply.status == 502
            assert reply.headers["x-request-id"] == "mine"
            assert error_of(reply)["type"] == "BadGatewayError"
            assert [member.slot for member, _ in router.books.finished_with] == list(range(attempts))
            assert router.exchange.status == 502

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [429, 503])
def test_a_worker_that_has_not_started_is_passed_over(status: int) -> None:
    """If it says so: the client gets another one's answer, and no token is counted for the first."""

    async def scenario() -> None:
        async with forwarding(says(refusal(status)), says(OK)) as router:
            reply = await router.ask(body=b"hello")
            assert (reply.status, reply.body) == (200, b"ok")
            assert [worker.asked[0].body for worker in router.workers] == [b"hello", b"hello"]
            assert router.books.outcomes == [Outcome.REFUSED, Outcome.COMPLETE]
            assert router.books.first_tokens == [router.books.members[1]]
            assert router.upstream.num_idle == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        refusal(429, is_marked=False),
        refusal(503, is_marked=False),
        refusal(500),
        refusal(502),
        refusal(504),
        refusal(400),
    ],
)
def test_all_other_answers_are_final(answer: bytes) -> None:
    """Without the marker, or with it on another status, a worker may have begun: the client gets its answer, and nobody is asked."""

    async def scenario() -> None:
        async with forwarding(says(answer), says(OK)) as router:
            reply = await router.ask()
            assert (reply.status, reply.body) == (int(answer[9:12]), b"full")
            assert router.workers[1].asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "pieces",
    [
        [refusal(body=b"last")],
        [refusal(body=b""), b""],
        [
            b"HTTP/1.1 503 Full\r\nX-Understudy-Not-Started: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"0\r\n\r\n",
        ],
    ],
)
def test_refused_by_all_the_client_gets_the_last_refusal(pieces: list[bytes]) -> None:
    """As the worker worded it, with its headers, and once."""

    async def scenario() -> None:
        async with forwarding(says(refusal()), says(*pieces)) as router:
            reply = await router.ask()
            assert reply.status == 503
            assert reply.body == (b"last" if b"last" in pieces[0] else b"")
            assert reply.headers["x-understudy-worker"] == router.workers[1].url
            assert reply.headers["x-understudy-not-started"] == "1"
            assert router.books.outcomes == [Outcome.REFUSED, Outcome.REFUSED]
            assert (router.exchange.status, router.exchange.body_bytes) == (503, len(reply.body))

    asyncio.run(scenario())


@pytest.mark.parametrize("excess", [0, 1])
def test_a_long_refusal_is_not_kept(excess: int) -> None:
    """What is longer than the limit goes to the client, whole; what is not gives way to another worker's answer."""
    body = b"x" * (MAX_HELD_BYTES + excess)

    async def scenario() -> None:
        async with forwarding(says(refusal(body=body)), says(OK)) as router:
            reply = await router.ask()
            assert (reply.status, reply.body) == ((503, body) if excess else (200, b"ok"))

    asyncio.run(scenario())


def test_a_refusal_that_breaks_off_is_a_502() -> None:
    """What has gone wrong once may be wrong about not having started."""
    answer = refusal(body=b"whole")[:-1]

    async def scenario() -> None:
        async with forwarding(says(answer, closes=True), says(OK)) as router:
            assert (await router.ask()).status == 502
            assert router.workers[1].asked == []
            assert router.books.outcomes == [Outcome.BROKEN]

    asyncio.run(scenario())


async def takes_and_leaves(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Close without a byte."""
    del asked
    writer.close()
    await asyncio.sleep(1)


async def takes_and_resets(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Reset without a byte."""
    del asked
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    await asyncio.sleep(1)


@pytest.mark.parametrize("answer", [takes_and_leaves, takes_and_resets])
@pytest.mark.parametrize("opted_in", [False, True])
def test_a_worker_that_leaves_without_a_word_may_have_begun(answer: Answer, opted_in: bool) -> None:  # noqa: FBT001 - a case
    """So nobody else is asked, unless the operator says that this is better than an error."""

    async def scenario() -> None:
        async with forwarding(answer, says(OK), retry_unanswered=opted_in) as router:
            reply = await router.ask(body=b"hello")
            assert reply.status == (200 if opted_in else 502)
            assert len(router.workers[1].asked) == opted_in
            assert router.books.outcomes == [Outcome.UNANSWERED, Outcome.COMPLETE][: 1 + opted_in]
            if not opted_in:
                assert "before it answered" in str(error_of(reply)["message"])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "begun", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 X\r\nX-Understudy-Not-Started: 1\r\n"]
)
def test_a_single_byte_of_an_answer_ends_all_retries(begun: bytes) -> None:
    """Even if the operator opted in and the client has nothing yet."""

    async def scenario() -> None:
        async with forwarding(says(begun, closes=True), says(OK), retry_unanswered=True) as router:
            assert (await router.ask()).status == 502
            assert router.workers[1].asked == []
            assert router.books.outcomes == [Outcome.BROKEN]

    asyncio.run(scenario())


def test_retries_stay_within_their_budget() -> None:
    """Beyond it a request is answered with what it has."""

    async def scenario() -> None:
        async with forwarding(None, says(refusal()), says(OK), budget=0) as router:
            assert (await router.ask()).status == 502
        async with forwarding(says(refusal()), says(OK), budget=0) as router:
            assert (await router.ask()).status == 503
        async with forwarding(None, says(refusal()), says(OK), budget=1) as router:
            assert (await router.ask()).status == 200

    asyncio.run(scenario())


def test_a_retry_counts_until_its_answer_begins() -> None:
    """A long stream that began with one does not keep others from theirs."""
    turn = asyncio.Event()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        await turn.wait()
        writer.write(chunk(b"data: 1\n\n"))
        await hangs(asked, writer)

    async def scenario() -> None:
        async with forwarding(None, answer, budget=1) as router, router.connection() as (reader, writer):
            writer.write(request_bytes())
            await reader.readuntil(b"\r\n\r\n")
            assert router.retry_budget.active_retries == 1
            turn.set()
            await reader.readuntil(b"data: 1\n\n")
            assert router.retry_budget.active_retries == 0

    asyncio.run(scenario())


def test_connecting_takes_no_longer_than_it_may() -> None:
    """A worker whose machine says nothing is passed over after that time."""

    async def scenario() -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            # What fills its queue keeps all others waiting.
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            async with forwarding(None, says(OK), connect_seconds=1.0) as router:
                address = router.upstream.address
                router.upstream.address = address._replace(port=deaf.getsockname()[1])
                start_seconds = asyncio.get_running_loop().time()
                assert (await router.ask()).status == 200
                assert 1.0 <= asyncio.get_running_loop().time() - start_seconds < 1.1
                assert router.books.outcomes == [Outcome.CONNECT_FAILED, Outcome.COMPLETE]
            for filler in fillers:
                filler.close()

    run_in_virtual_time(scenario())


def test_without_a_worker_there_is_a_503() -> None:
    """In vLLM's shape, with the time after which to try again; nobody was asked."""

    async def scenario() -> None:
        async with forwarding(says(OK)) as router:
            router.books.is_closed = True
            reply = await router.ask()
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert error_of(reply)["type"] == "Service Unavailable"
            told = router.exchange
            assert (told.status, told.attempts, told.outcome, told.worker) == (503, 0, None, None)

    asyncio.run(scenario())


def test_a_full_fleet_lets_requests_wait() -> None:
    """As many as may: one more gets 429 at once, and one that waited its time 503."""

    def admission(books: Books) -> Admission:
        return Admission(lambda _model: not books.in_flight, 1, 30.0)

    async def scenario() -> None:
        async with forwarding(hangs, admission=admission) as router, router.connection() as (_, writer):
            writer.write(request_bytes())
            await until(lambda: bool(router.books.in_flight))
            waiting = asyncio.ensure_future(router.ask())
            await until(lambda: len(router.inbounds) == 2)
            refused, late = await router.ask(), await waiting
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert error_of(refused)["type"] == "Too Many Requests"
            assert (late.status, late.headers["retry-after"]) == (503, "1")
            assert len(router.worker.asked) == 1

    run_in_virtual_time(scenario())


def test_an_error_of_the_routers_own_is_a_500() -> None:
    """The client gets no part of an answer, and the books balance all the same."""

    async def scenario() -> None:
        async with forwarding(says(OK), may_fail=True) as router:
            router.books.is_failing = True
            data = await router.send(request_bytes(fields=["Connection: close"]))
            assert data.startswith(b"HTTP/1.1 500 ")
            assert b"policy" not in data
            assert router.exchange.status == 500

    asyncio.run(scenario())


def test_an_error_of_the_routers_own_puts_nothing_behind_an_answer() -> None:
    """A client that has some of one gets the end of the connection."""
    release = asyncio.Event()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await release.wait()
        writer.write(b"0\r\n\r\n")

    async def scenario() -> None:
        async with forwarding(answer, may_fail=True) as router, router.connection() as (reader, writer):
            writer.write(request_bytes())
            await reader.readuntil(b"data: 1\n\n")
            router.books.is_failing = True
            release.set()
            assert b"HTTP" not in await read_all(reader)
            assert router.exchange.status == 500

    asyncio.run(scenario())


def test_an_observer_that_fails_puts_nothing_behind_an_answer() -> None:
    """Which the client would take for the answer to its next request."""

    async def scenario() -> None:
        async with forwarding(says(OK), may_fail=True) as router:
            router.books.fails_to_note = True
            assert (await router.send(request_bytes())).count(b"HTTP/1.1") == 1

    asyncio.run(scenario())


def test_failing_over_waits_for_nothing() -> None:
    """A worker that refuses its connection adds no pause: in time that only jumps when all wait, none passes."""

    async def scenario() -> None:
        async with forwarding(None, says(refusal()), says(OK)) as router:
            assert (await router.ask()).status == 200
            assert asyncio.get_running_loop().time() == 0.0

    run_in_virtual_time(scenario())
