"""KV-cache events as values: what a router needs to know which worker holds which prefix."""

from dataclasses import dataclass

from understudy.engine.hash_chain import BlockHash


@dataclass(frozen=True, slots=True)
class BlockStored:
    """Full blocks of one request entered the cache; `block_hashes` in order of their tokens.

    `parent_block_hash` is the hash of the block before the first one, None at the start of a prompt.
    `token_ids` covers all the blocks, and is empty where a trace hides them. `extra_keys` has an entry a
    block, None where only the tokens decide.
    """

    block_hashes: tuple[BlockHash, ...]
    parent_block_hash: BlockHash | None
    token_ids: tuple[int, ...]
    block_size: int
    extra_keys: tuple[tuple[object, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class BlockRemoved:
    """One copy of a block was evicted. Another copy of the same hash may remain: count copies."""

    block_hash: BlockHash


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """The whole cache was reset."""


KVCacheEvent = BlockStored | BlockRemoved | AllBlocksCleared
