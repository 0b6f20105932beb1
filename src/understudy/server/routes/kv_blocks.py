"""GET /kv_blocks: all cached blocks of this worker, for routers that have missed events or get none. Ours, not vLLM's."""

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web

from understudy.engine import BlockHash, event_hash
from understudy.server.routes.answers import get
from understudy.server.worker import Worker
from understudy.wire.kv_blocks import KV_BLOCKS_CONTENT_TYPE, BlockList, RankBlocks, kv_blocks_body

LISTED_WORKER: web.AppKey[Worker] = web.AppKey("listed_worker", Worker)
"""Whose blocks are told."""


async def kv_blocks(request: web.Request) -> web.Response:
    """List the blocks of every rank, each as of one moment between two steps."""
    worker = request.app[LISTED_WORKER]
    if worker.frontend.is_dead:
        return web.Response(status=503)
    ranks = [await _listed(worker, rank) for rank in range(worker.frontend.num_ranks)]
    config = worker.settings.engine_config
    listed = BlockList(block_size=config.block_size, hash_algo=config.prefix_caching_hash_algo, ranks=ranks)
    body = await asyncio.to_thread(kv_blocks_body, listed)
    return web.Response(body=body, content_type=KV_BLOCKS_CONTENT_TYPE)


async def _listed(worker: Worker, rank: int) -> RankBlocks:
    engine = worker.frontend.loop.engines[rank]
    sequence = None
    if worker.publishers:
        # What the cache has done already would else be told again by the events of the step in flight.
        if waiting := engine.take_events(worker.clock.now_ns()):
            worker.publishers[rank].publish(time.time(), [event for _, event in waiting])
        sequence = worker.publishers[rank].next_sequence
    gauges = engine.gauges
    hashes = engine.scheduler.kv_cache.pool.cached_hashes()
    return RankBlocks(
        rank=rank,
        sequence=sequence,
        running=gauges.running,
        waiting=gauges.waiting,
        kv_usage=gauges.kv_usage,
        blocks=await asyncio.to_thread(_event_hashes, hashes),
    )


def _event_hashes(hashes: Sequence[BlockHash]) -> list[int]:
    return [event_hash(block_hash) for block_hash in hashes]


ROUTES: tuple[web.RouteDef, ...] = (get("/kv_blocks", kv_blocks),)
"""They exist with `--enable-kv-blocks-endpoint`."""
