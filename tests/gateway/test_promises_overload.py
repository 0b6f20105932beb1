"""More than the router can take is refused at once and in words; what is too large, too slow or ambiguous reaches no worker."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.playing_vllm import PATH, completions, streams
from tests.gateway.promised import Ending, Verdict, ask, promised, verdicts
from tests.gateway.routed import routed
from tests.support.virtual_time import run_in_virtual_time
from tests.web.raw_client import parse_answer, say
from tests.web.test_malformed import MALFORMED, MALFORMED_CHUNKS

ANSWER_SECONDS = 1.0
NUM_TOKENS = 5
CAPACITY = 8
"""Answers at a time: 2 workers with 4 each."""
QUEUE = 8
LIMITS: dict[str, Any] = {
    "max_in_flight_per_worker": CAPACITY // 2,
    "queue_size": QUEUE,
    "queue_seconds": 30.0,
}
WELL = streams(ANSWER_SECONDS / NUM_TOKENS)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


def test_what_is_beyond_the_queue_is_refused_at_once() -> None:
    """By 429 with Retry-After, in no time, while all that got in are answered whole."""

    async def scenario() -> None:
        async with promised(WELL, WELL, **LIMITS) as (router, workers):
            now = asyncio.get_running_loop().time

            async def timed(number: int) -> tuple[Ending, float]:
                start_seconds = now()
                ending = await ask(router.session, router.url, str(number), f"{number}")
                return ending, now() - start_seconds

            answered = await asyncio.gather(*(timed(number) for number in range(100)))
            refused = [(ending, seconds) for ending, seconds in answered if ending.status == 429]
            assert len(refused) == 100 - CAPACITY - QUEUE
            for ending, seconds in refused:
                assert ending.headers["Retry-After"] == "1"
                assert json.loads(ending.text)["error"]["code"] == 429
                assert seconds < 0.1
            others = [ending for ending, _ in answered if ending.status != 429]
            assert verdicts(others) == {Verdict.COMPLETE: CAPACITY + QUEUE}
            assert sum(len(completions(worker)) for worker in workers) == CAPACITY + QUEUE

    run_in_virtual_time(scenario())


def test_overload_takes_nothing_from_what_is_answered() -> None:
    """At three times what the workers can do, they do at least 90 % of it, and what waits stays within the bound."""
    seconds = 20.0

    async def scenario() -> tuple[int, int]:
        async with promised(WELL, WELL, **LIMITS) as (router, _):
            most_waiting = 0

            async def one(number: int) -> Ending:
                nonlocal most_waiting
                await asyncio.sleep(number / (3 * CAPACITY / ANSWER_SECONDS))
                ending = await ask(router.session, router.url, str(number), f"{number}")
                most_waiting = max(most_waiting, router.router.admission.num_waiting)
                return ending

            num_requests = round(3 * CAPACITY / ANSWER_SECONDS * seconds)
            ways = verdicts(await asyncio.gather(*(one(number) for number in range(num_requests))))
            assert ways[Verdict.COMPLETE] + ways[Verdict.REFUSED] == num_requests
            return ways[Verdict.COMPLETE], most_waiting

    num_complete, most_waiting = run_in_virtual_time(scenario())
    assert num_complete >= 0.9 * CAPACITY / ANSWER_SECONDS * seconds
    assert most_waiting <= QUEUE


def test_connections_beyond_the_limit_are_refused_and_others_served() -> None:
    """By 503; as soon as one of them goes, another one may come."""

    async def scenario() -> None:
        async with promised(streams()) as (router, _):
            connections = router.running._connections
            connections.limits = replace(connections.limits, connections=50)
            port = router.running.port
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            assert port is not None
            for _ in range(20):
                assert parse_answer(await say(port, SMUGGLED)).status == 503
            assert router.running.num_connections == 50
            _, leaving = idle.pop()
            leaving.transport.abort()
            await asyncio.sleep(0.1)
            assert (await ask(router.session, router.url)).verdict() is Verdict.COMPLETE
            for _, writer in idle:
                writer.transport.abort()

    run_in_virtual_time(scenario())


def test_clients_that_trickle_are_shut_out_and_hold_up_nobody() -> None:
    """Five hundred that send a byte a second have their 10 s; meanwhile answers take no longer than theirs."""

    async def trickle(port: int) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        closed = asyncio.ensure_future(reader.read())
        now = asyncio.get_running_loop().time
        start_seconds = now()
        for byte in b"POST /v1/completions HTTP/1.1\r\nX-Long: " + b"x" * 100:
            writer.write(bytes([byte]))
            await asyncio.wait([closed], timeout=1.0)
            if closed.done():
                break
        closed.cancel()
        writer.transport.abort()
        return now() - start_seconds

    async def scenario() -> None:
        async with promised(WELL) as (router, _):
            now = asyncio.get_running_loop().time
            assert router.running.port is not None
            trickling = [asyncio.create_task(trickle(router.running.port)) for _ in range(500)]
            for number in range(8):
                start_seconds = now()
                assert (await ask(router.session, router.url, str(number))).verdict() is Verdict.COMPLETE
                assert now() - start_seconds < 1.1 * ANSWER_SECONDS
            assert max(await asyncio.gather(*trickling)) < 12

    run_in_virtual_time(scenario())


def request(head: str, body: bytes = b"") -> bytes:
    """Return a request by POST."""
    return f"POST {PATH} HTTP/1.1\r\nHost: t\r\n{head}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("X-Long: " + "x" * 70_000), 431),
        (request("\r\n".join(f"X-{number}: 1" for number in range(120))), 431),
        (request(f"Content-Length: {33 * 1024 * 1024}"), 413),
    ],
    ids=["64 KiB of headers", "100 headers", "32 MiB"],
)
def test_what_is_too_large_is_refused_before_it_is_read(sent: bytes, status: int) -> None:
    """And no worker hears of it."""

    async def scenario() -> None:
        async with promised(streams()) as (router, (worker,)):
            assert router.running.port is not None
            assert parse_answer(await say(router.running.port, sent)).status == status
            assert completions(worker) == []

    run_in_virtual_time(scenario())


def test_deep_and_broken_json_is_the_workers_to_refuse() -> None:
    """The router reads no prompt in it and passes it on; the client gets a real worker's 400, and never a 500."""
    bodies = [
        b"[" * 5000,
        b'{"prompt": ' * 5000,
        b'{"prompt": "\xff"}',
        b"",
        b"{",
        b'{"prompt": [[[1]]], "model": 3}',
    ]

    async def scenario() -> None:
        async with routed(1, has_events=False, knowledge="own") as router:
            for body in bodies:
                reply = await router.post(PATH, body, {"Content-Type": "application/json"})
                assert reply.status == 400, reply

    asyncio.run(scenario())


def test_ambiguous_requests_reach_neither_of_two_workers() -> None:
    """All of the corpus, alone and with a request behind it: 400, the connection closed, and nothing seen upstream."""
    chunked = b"POST /v1/x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    corpus = [*MALFORMED.values(), *(chunked + chunks for chunks in MALFORMED_CHUNKS.values())]

    async def scenario() -> None:
        async with promised(streams(), streams()) as (router, workers):
            assert router.running.port is not None
            for malformed in corpus:
                for sent in (malformed, malformed + SMUGGLED):
                    data = await say(router.running.port, sent)
                    assert data.count(b"HTTP/1.") <= 1
                    assert not data or parse_answer(data).status == 400
            probes = {"/health", "/metrics", "/v1/models", "/tokenize"}
            assert {asked.target for worker in workers for asked in worker.asked} <= probes

    run_in_virtual_time(scenario())


def test_a_router_that_drains_finishes_what_it_has() -> None:
    """Streams that run come to their end, and connections without a request are closed at once."""

    async def scenario() -> None:
        async with promised(WELL) as (router, _):
            reader, _writer = await asyncio.open_connection("127.0.0.1", router.running.port)
            asking = asyncio.create_task(ask(router.session, router.url))
            await asyncio.sleep(0.5)
            draining = asyncio.create_task(router.running.drain(120))
            await asyncio.sleep(0)
            assert await reader.read() == b""
            assert not router.running.is_accepting
            assert (await asking).verdict() is Verdict.COMPLETE
            await draining
            _writer.close()

    run_in_virtual_time(scenario())
