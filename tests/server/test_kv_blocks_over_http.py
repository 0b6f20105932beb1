"""Promises of GET /kv_blocks: the whole truth about the cache, as of one moment."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from tests.server.serving import Served, serving

from understudy.engine import event_hash
from understudy.wire.kv_blocks import BlockList, read_kv_blocks

FLAGS = ("--max-model-len", "256", "--num-gpu-blocks-override", "60", "--time-scale", "0.01")
LISTS = "--enable-kv-blocks-endpoint"


async def listed(server: Served) -> BlockList:
    """Read the list."""
    async with server.session.get(server.url + "/kv_blocks") as response:
        assert response.status == 200
        assert response.content_type == "application/msgpack"
        return read_kv_blocks(await response.read())


def test_all_blocks_are_listed_with_their_copies() -> None:
    """By rank, with how they are cut and hashed, and the load; without events there is no number of one."""

    async def main() -> None:
        async with serving(*FLAGS, LISTS, "--data-parallel-size", "2", "--block-size", "32") as server:
            for rank in (await listed(server)).ranks:
                assert (rank.blocks, rank.running, rank.waiting, rank.kv_usage) == ([], 0, 0, 0.0)
            work = [server.complete(prompt=[300] * 70, max_tokens=10) for _ in range(4)]
            await asyncio.gather(*work)
            found = await listed(server)
            assert (found.block_size, found.hash_algo) == (32, "sha256")
            for rank, engine in zip(found.ranks, server.worker.frontend.loop.engines, strict=True):
                held = Counter(map(event_hash, engine.scheduler.kv_cache.pool.cached_hashes()))
                assert Counter(rank.blocks) == held
                assert rank.sequence is None
            assert max(Counter(found.blocks).values()) > 1

    asyncio.run(main())


def test_a_list_says_how_far_it_goes(tmp_path: Path) -> None:
    """The number of the first batch of events that is not part of it; what waits for the end of a step is told before."""
    events = json.dumps({"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/kv"})

    async def main() -> None:
        async with serving(*FLAGS, LISTS, "--kv-events-config", events) as server:
            (rank,) = (await listed(server)).ranks
            assert rank.sequence == 0
            publisher = server.worker.publishers[0]
            working = asyncio.create_task(server.complete(prompt=[300] * 70, max_tokens=100))
            while not working.done():
                (rank,) = (await listed(server)).ranks
                assert rank.sequence is not None
                assert rank.sequence <= publisher.next_sequence
            (rank,) = (await listed(server)).ranks
            assert rank.sequence == publisher.next_sequence > 0
            assert rank.blocks
            (again,) = (await listed(server)).ranks
            assert again == rank, "asking publishes nothing"

    asyncio.run(main())


def test_only_the_flag_offers_lists() -> None:
    """And where a key is wanted, for lists too."""

    async def main() -> None:
        async with serving(*FLAGS) as server:
            assert (await server.get("/kv_blocks")).status == 404
        async with serving(*FLAGS, LISTS, "--api-key", "secret") as server:
            assert (await server.get("/kv_blocks")).status == 401
            assert (
                "/kv_blocks"
                not in (await server.get("/openapi.json", {"Authorization": "Bearer secret"})).json["paths"]
            )

    asyncio.run(main())


def test_a_dead_engine_has_no_list() -> None:
    """As it is not healthy."""

    async def main() -> None:
        async with serving(*FLAGS, LISTS, may_fail=True) as server:
            server.worker.crash()
            server.worker.frontend.fail(RuntimeError("gone"))
            assert (await server.get("/kv_blocks")).status == 503

    asyncio.run(main())


@pytest.mark.parametrize("num_ranks", ["1", "3"])
def test_other_requests_go_on_while_lists_are_made(num_ranks: str) -> None:
    """Lists that are asked for all the time change no answer."""

    async def main() -> None:
        async with serving(*FLAGS, LISTS, "--data-parallel-size", num_ranks) as server:
            alone = await server.complete(prompt=[300] * 70, max_tokens=50, seed=1)
            working = asyncio.create_task(server.complete(prompt=[300] * 70, max_tokens=50, seed=1))
            while not working.done():
                await listed(server)
            assert working.result().json["choices"] == alone.json["choices"]
            await server.worker.frontend.idle()
            server.assert_nothing_is_left()

    asyncio.run(main())
