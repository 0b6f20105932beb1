"""Workers that lie: what they say of themselves is bounded and believed only where it can be, and others do not suffer for it."""

import asyncio
import json
from collections.abc import Callable
from itertools import count

import pytest
from tests.gateway.fake_worker import Answer, Asked, FakeWorker, hangs, says
from tests.gateway.playing_vllm import METRICS, answer_bytes, completions, streams
from tests.gateway.promised import Verdict, ask, promised, verdicts
from tests.support.virtual_time import run_in_virtual_time

from understudy.routing import Health

PIECE = b"x" * (1 << 20)


async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer without an end."""
    del asked
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(PIECE)
        await writer.drain()


NOISE = b'{"data": [{"id": 3}, 7, {"id": "' + b"n" * 1000 + b'"}], "blocks": "\xff'
NONSENSE: dict[str, Answer] = {
    "hangs": hangs,
    "endless": endless,
    "noise": says(answer_bytes(200, NOISE)),
    "deep": says(answer_bytes(200, b"[" * 100_000)),
    "not http": says(b"\x00\x01\x02\r\n\r\n", closes=True),
    "cut": says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", closes=True),
    "redirect": says(answer_bytes(302, b"", "Location: http://127.0.0.1:1/")),
    "absurd load": says(answer_bytes(200, METRICS.replace(b" 0.0", b" -9e999"))),
    "empty": says(answer_bytes(200, b"")),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("knowledge", ["auto", "heartbeat"])
def test_nonsense_beside_requests_hurts_nobody(nonsense: str, knowledge: str) -> None:
    """On any page but that of its health: requests go on, also to that worker, and the router knows what it knew."""
    answer = NONSENSE[nonsense]
    pages = dict.fromkeys(("/metrics", "/v1/models", "/kv_blocks", "/kv_event_sources", "/tokenize"), answer)

    async def scenario() -> None:
        async with promised(
            streams(), streams(), pages=[pages, {}], knowledge=knowledge, synchronisation_seconds=1.0
        ) as (routed, workers):
            await asyncio.sleep(8)
            endings = [
                await ask(routed.session, routed.url, "r", f"{number} hello {'x ' * 99}")
                for number in range(40)
            ]
            assert verdicts(endings) == {Verdict.COMPLETE: 40}
            assert min(len(completions(worker)) for worker in workers) > 0
            pages_served = await routed.get("/metrics")
            assert pages_served.status == 200
            fleet = routed.router.fleet
            assert [fleet.health_of(member) for member in fleet] == [Health.HEALTHY] * 2
            for figures in fleet.figures():
                assert (figures.running, figures.waiting, figures.kv_usage) == (0, 0, 0.0)
            assert all(len(member.models) <= 2 for member in fleet)

    run_in_virtual_time(scenario())


@pytest.mark.parametrize("nonsense", ["hangs", "endless", "not http", "cut", "redirect"])
def test_a_health_page_that_is_none_is_bad_health(nonsense: str) -> None:
    """Such a worker gets nothing, and the other one all."""

    async def scenario() -> None:
        pages = [{"/health": NONSENSE[nonsense]}, {}]
        async with promised(streams(), streams(), pages=pages, num_ready=1) as (routed, workers):
            await asyncio.sleep(10)
            endings = [await ask(routed.session, routed.url, "r", f"{number} hello") for number in range(20)]
            assert verdicts(endings) == {Verdict.COMPLETE: 20}
            assert completions(workers[0]) == []

    run_in_virtual_time(scenario())


async def pauses(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Begin an answer, and never go on."""
    await says(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ")(asked, writer)
    await hangs(asked, writer)


LIES: dict[str, Callable[[FakeWorker], Answer]] = {
    "500": lambda _: says(answer_bytes(500, json.dumps({"error": {"message": "mine"}}).encode())),
    "garbage": lambda _: says(b"\x00 garbage\r\n\r\n", closes=True),
    "closes": lambda _: says(b"", closes=True),
    "pauses": lambda _: pauses,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_only_seems_healthy_is_ejected(lie: str) -> None:
    """Of 100 requests five at most are lost to it in its 30 s, and each of their clients is told."""

    async def scenario() -> None:
        async with promised(LIES[lie], streams(), streams(), idle_seconds=1.0) as (routed, workers):
            numbers = count()
            endings = [
                await ask(routed.session, routed.url, "r", f"{next(numbers)} hello {'x ' * 99}")
                for _ in range(100)
            ]
            ways = verdicts(endings)
            assert ways[Verdict.WRONG] == 0
            assert ways[Verdict.COMPLETE] == 95
            assert len(completions(workers[0])) == 5

    run_in_virtual_time(scenario())


def test_a_worker_that_never_answers_gets_no_more_than_its_share() -> None:
    """It holds what it has, as a worker does that computes long prompts, and everybody else's requests go to others."""

    async def scenario() -> None:
        async with promised(lambda _: hangs, streams(), streams()) as (routed, workers):
            asking = [
                asyncio.create_task(ask(routed.session, routed.url, "r", f"{number} hello {'x ' * 99}"))
                for number in range(10)
            ]
            await asyncio.sleep(1)
            num_held = len(completions(workers[0]))
            assert num_held <= 5
            endings = [
                await ask(routed.session, routed.url, "r", f"{number} y {'y ' * 99}") for number in range(60)
            ]
            assert verdicts(endings) == {Verdict.COMPLETE: 60}
            assert len(completions(workers[0])) == num_held
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            await asyncio.sleep(0.1)

    run_in_virtual_time(scenario())
