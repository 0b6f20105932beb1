"""Asks a worker for the list of all blocks that it holds."""

import asyncio

from understudy.gateway.worker_http import NoAnswerError, WorkerHttp
from understudy.wire.kv_blocks import BlockList, read_kv_blocks

LIST_SECONDS = 10.0
_BYTES_PER_BLOCK = 9
"""A 64-bit integer as MessagePack."""

_OTHER_BYTES = 1024 * 1024
_INLINE_BYTES = 64 * 1024
_NOT_OFFERED = frozenset({401, 403, 404, 405, 501})


async def ask_kv_blocks(http: WorkerHttp, max_blocks: int) -> BlockList | None:
    """Return what a worker holds, None where it does not offer to tell, as vLLM does not.

    Raises NoAnswerError, also where the list is longer than about `max_blocks` copies, and BlockListError.
    """
    most_bytes = _BYTES_PER_BLOCK * max_blocks + _OTHER_BYTES
    answer = await http.get("/kv_blocks", seconds=LIST_SECONDS, most_bytes=most_bytes)
    if answer.status in _NOT_OFFERED:
        return None
    if answer.status != 200:
        raise NoAnswerError(f"answers /kv_blocks with status {answer.status}")
    if len(answer.body) <= _INLINE_BYTES:
        return read_kv_blocks(answer.body)
    return await asyncio.to_thread(read_kv_blocks, answer.body)
