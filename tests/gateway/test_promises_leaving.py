"""Clients that leave, and clients that read slowly, before real workers: nothing is left behind, and nobody else notices."""

import asyncio
import socket
from random import Random

from tests.gateway.fake_worker import LAST_CHUNK, STREAM_HEAD, Answer, Asked, FakeWorker, chunk, until
from tests.gateway.playing_vllm import streams
from tests.gateway.promised import Verdict, ask, assert_at_rest, promised, use_loop_time
from tests.gateway.routed import Routed, routed
from tests.server.serving import MODEL, raw_request
from tests.support.virtual_time import run_in_virtual_time

PATH = "/v1/completions"
STEP_SECONDS = 0.05
SLOW_ENGINE = ("--prefill-base-seconds", str(STEP_SECONDS), "--decode-seconds-per-step", str(STEP_SECONDS))
NUM_LEAVING = 300
MOST_BYTES_OF_A_STREAM = 128 * 1024


async def leave_at(routed: Routed, number: int, seconds: float) -> None:
    """Ask for a long answer, and break off after so many seconds."""
    body = {"model": MODEL, "prompt": f"{number % 7} " + "word " * 50, "max_tokens": 2000, "ignore_eos": True}
    reader, writer = await asyncio.open_connection("127.0.0.1", routed.running.port)
    writer.write(raw_request(PATH, body | {"stream": number % 3 > 0}))
    await asyncio.sleep(seconds)
    if number % 2:
        writer.transport.abort()
    else:
        writer.close()
    del reader


def test_hundreds_of_clients_that_leave_leave_nothing() -> None:
    """By the engine's next step it has all blocks back; no task, connection, request or measurement is left, here or there."""

    async def scenario() -> None:
        random = Random(3)
        async with routed(2, *SLOW_ENGINE, has_events=False, knowledge="own") as router:
            use_loop_time(router)
            num_tasks = len(asyncio.all_tasks())
            await asyncio.gather(
                *(leave_at(router, number, random.random() * 3) for number in range(NUM_LEAVING))
            )
            await asyncio.sleep(2 * STEP_SECONDS)
            for worker in router.workers:
                worker.assert_nothing_is_left()
            assert_at_rest(router)
            await asyncio.sleep(10)
            assert router.running.num_connections == 0
            assert all(member.upstream.num_open == 0 for member in router.router.fleet)
            assert len(asyncio.all_tasks()) <= num_tasks

    run_in_virtual_time(scenario())


async def floods(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Send 8 MB as fast as they are read."""
    del asked
    writer.write(STREAM_HEAD)
    for _ in range(512):
        writer.write(chunk(b"data: " + b"x" * 16384 + b"\n\n"))
        await writer.drain()
    writer.write(LAST_CHUNK)
    await writer.drain()


def test_slow_readers_hold_little_and_hold_up_nobody() -> None:
    """Behind 30 clients that read nothing of 8 MB each, at most 128 KiB wait in the router for each; a stream beside keeps its pace."""
    num_slow, num_tokens, pause_seconds = 30, 5, 0.2

    def answer_of(worker: FakeWorker) -> Answer:
        well = streams(pause_seconds, num_tokens)(worker)

        async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await (floods if b"flood" in asked.body else well)(asked, writer)

        return answer

    async def scenario() -> None:
        async with promised(answer_of) as (router, _):
            slow = []
            for _ in range(num_slow):
                narrow = socket.socket()
                narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                narrow.setblocking(False)
                await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", router.running.port))
                narrow.send(raw_request(PATH, {"model": "m", "prompt": "flood", "stream": True}))
                slow.append(narrow)
            await asyncio.sleep(1)
            start_seconds = asyncio.get_running_loop().time()
            beside = await ask(router.session, router.url)
            assert beside.verdict(num_tokens) is Verdict.COMPLETE
            assert asyncio.get_running_loop().time() - start_seconds < 1.1 * num_tokens * pause_seconds
            connections = router.running._connections.served
            unsent = [connection._wire.get_write_buffer_size() for connection in connections]
            assert sum(size > 0 for size in unsent) == num_slow
            assert max(unsent) <= MOST_BYTES_OF_A_STREAM
            for narrow in slow:
                narrow.close()
            await until(lambda: router.router.fleet.in_flight(next(iter(router.router.fleet))) == 0)

    run_in_virtual_time(scenario())
