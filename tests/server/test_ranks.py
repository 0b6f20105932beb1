"""Data parallelism: several engines behind one address, each with a cache, metrics and events of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import zmq
import zmq.asyncio
from tests.server.serving import Metrics, serving
from tests.support.virtual_time import run_in_virtual_time

RANKS = 3
FLAGS = ("--max-model-len", "1024", "--max-num-seqs", "8", "--data-parallel-size", str(RANKS))
BODY: dict[str, Any] = {"prompt": [300] * 64, "max_tokens": 4}


def _by_rank(page: Metrics, name: str) -> list[float]:
    return [page.total(name, engine=str(rank)) for rank in range(RANKS)]


def _to(rank: int) -> Mapping[str, str]:
    return {"X-data-parallel-rank": str(rank)}


def test_a_header_names_the_rank() -> None:
    """The request is computed there and nowhere else, with that rank's cache."""

    async def main() -> None:
        async with serving(*FLAGS, "--enable-prompt-tokens-details") as server:
            cached = [
                (await server.complete(_to(rank), **BODY)).json["usage"]["prompt_tokens_details"][
                    "cached_tokens"
                ]
                for rank in (1, 1, 2, 1)
            ]
            assert cached == [0, 48, 0, 48]
            page = await server.metrics()
            assert _by_rank(page, "vllm:request_success_total") == [0, 3, 1]
            assert _by_rank(page, "vllm:prompt_tokens_total") == [0, 3 * 64, 64]
            assert _by_rank(page, "vllm:generation_tokens_total") == [0, 3 * 4, 4]

    run_in_virtual_time(main())


def test_a_rank_that_is_not_there() -> None:
    """400 with vLLM's words, in a stream as its only event; a header that is no number does not count."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            for rank in (-1, RANKS):
                message = f"data_parallel_rank {rank} is out of range [0, {RANKS})."
                refused = await server.complete(_to(rank), **BODY)
                assert (refused.status, refused.json["error"]["message"]) == (400, message)
                streamed = await server.complete(_to(rank), **BODY, stream=True)
                assert [event["error"]["message"] for event in streamed.events] == [message]
            assert (await server.complete({"X-data-parallel-rank": "two"}, **BODY)).status == 200

    run_in_virtual_time(main())


def test_requests_spread_over_idle_ranks() -> None:
    """Without a header the ranks take turns, whatever prefixes they hold."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            await asyncio.gather(*(server.complete(**BODY) for _ in range(4 * RANKS)))
            assert _by_rank(await server.metrics(), "vllm:request_success_total") == [4.0] * RANKS
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()

    run_in_virtual_time(main())


def test_each_rank_publishes_its_events_on_a_port_of_its_own() -> None:
    """That of the flag plus the rank; an address without a wildcard is one that the ranks connect to."""

    async def main() -> None:
        async with subscribers() as (first_port, sockets):
            config = {"enable_kv_cache_events": True, "endpoint": f"tcp://127.0.0.1:{first_port}"}
            flags = (*FLAGS, "--kv-events-config", json.dumps(config), "--time-scale", "0.01")
            async with serving(*flags) as server:
                for number in count():
                    await server.complete(_to(1), prompt=[300 + number] * 64, max_tokens=1)
                    if await sockets[1].poll(10):
                        break
                topic, sequence, _ = await sockets[1].recv_multipart()
                assert (topic, len(sequence)) == (b"", 8)
                assert not await sockets[0].poll(0)
                assert not await sockets[2].poll(0)

    asyncio.run(main())


@asynccontextmanager
async def subscribers() -> AsyncIterator[tuple[int, Sequence[zmq.asyncio.Socket]]]:
    """Yield subscribers that are bound to ports in a row, and the first of these."""
    with zmq.asyncio.Context() as context:
        while True:
            sockets = [context.socket(zmq.SUB) for _ in range(RANKS)]
            try:
                first_port = sockets[0].bind_to_random_port("tcp://127.0.0.1")
                for rank, other in enumerate(sockets[1:], start=1):
                    other.bind(f"tcp://127.0.0.1:{first_port + rank}")
                for one in sockets:
                    one.subscribe(b"")
                yield first_port, sockets
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise
            else:
                return
            finally:
                for one in sockets:
                    one.close(linger=0)
