"""The answer of GET /kv_blocks: all cached blocks of a worker as MessagePack, for routers that have missed events or get none.

It is ours; vLLM has no such route. A map with `block_size`, `hash_algo` and `ranks`, an entry for each data-parallel engine.
"""

from collections.abc import Sequence

import msgspec

from understudy.errors import InputError

KV_BLOCKS_CONTENT_TYPE = "application/msgpack"


class BlockListError(InputError):
    """What a worker sent is no list of its blocks."""


class RankBlocks(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine holds: the 64-bit hash of each cached block, once for each copy, as KV events carry it.

    `sequence` is the number of the first batch of events that is not yet part of the list, None where the engine publishes
    none. `running` and `waiting` are requests, `kv_usage` is the share of the cache in use, 0 to 1.
    """

    rank: int
    sequence: int | None
    running: int
    waiting: int
    kv_usage: float
    blocks: Sequence[int]


class BlockList(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker holds, by rank, and how it cuts and hashes blocks."""

    block_size: int
    hash_algo: str
    ranks: Sequence[RankBlocks]

    @property
    def blocks(self) -> list[int]:
        """The blocks of all ranks, once for each copy."""
        return [block for rank in self.ranks for block in rank.blocks]


_decode = msgspec.msgpack.Decoder(BlockList).decode


def kv_blocks_body(listed: BlockList) -> bytes:
    """Return the bytes of a list."""
    return msgspec.msgpack.encode(listed)


def read_kv_blocks(body: bytes) -> BlockList:
    """Return the list in an answer's body; raises BlockListError."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BlockListError(f"malformed list of KV blocks: {' '.join(str(error).split())}") from None
