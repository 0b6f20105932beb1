"""The blocks of a KV cache: how many are free, who references which, and what is evicted next.

Blocks have no ids here, because no decision needs them. A block without a hash is like any other, so those are only
counted. A cached block goes by its hash; while several blocks hold the same hash, the later ones are Copies.

The order of eviction is vLLM's to the letter (vllm/v1/core/block_pool.py, 0.33.0): blocks without a hash are taken first;
cached ones follow in the order in which they were freed, and of one request the last block first.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import compress, islice, takewhile

from understudy.engine.events import AllBlocksCleared, BlockRemoved, KVCacheEvent
from understudy.engine.eviction_queue import EvictionQueue
from understudy.engine.hashing import BlockHash


class Copy:
    """One more block with a hash that was cached already; itself and no other."""

    __slots__ = ("block_hash",)

    def __init__(self, block_hash: BlockHash) -> None:
        self.block_hash = block_hash


CachedBlock = BlockHash | Copy


class BlockPool:
    """`num_gpu_blocks` blocks; one of them is vLLM's null block, which is never given out.

    Events are appended to `events` unless that is None. The caller checks `num_free_blocks` before it allocates.
    """

    def __init__(self, num_gpu_blocks: int) -> None:
        self.num_gpu_blocks = num_gpu_blocks
        self.num_evicted_blocks = 0
        self.events: list[KVCacheEvent] | None = None
        self._num_blank = num_gpu_blocks - 1
        self._evictable: EvictionQueue[CachedBlock] = EvictionQueue(num_gpu_blocks)
        self._references: dict[CachedBlock, int] = {}
        # The copies of each hash that has any, in order of insertion.
        self._copies: dict[BlockHash, list[Copy]] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody references, cached or not."""
        return self._num_blank + len(self._evictable)

    @property
    def num_used_blocks(self) -> int:
        """Blocks that some request references."""
        return self.num_gpu_blocks - 1 - self.num_free_blocks

    @property
    def usage(self) -> float:
        """Referenced blocks over all but the null block, 0 to 1; cached but unreferenced blocks count as free."""
        if self.num_gpu_blocks == 1:
            return 0.0
        return 1.0 - self.num_free_blocks / (self.num_gpu_blocks - 1)

    @property
    def has_copies(self) -> bool:
        """Whether any hash is held by more than one block, or by a Copy alone."""
        return bool(self._copies)

    def cached_prefix(self, hashes: Iterable[BlockHash], limit: int) -> list[CachedBlock]:
        """Return the longest cached prefix of the first `limit` of a chain of hashes; changes nothing.

        Of several blocks with the same hash the first inserted is taken.
        """
        prefix: list[CachedBlock] = []
        hashes = islice(hashes, limit)
        if not self._copies:
            prefix.extend(takewhile(self._references.__contains__, hashes))
            return prefix
        for block_hash in hashes:
            if block_hash in self._references:
                prefix.append(block_hash)
            elif block_hash in self._copies:
                prefix.append(self._copies[block_hash][0])
            else:
                break
        return prefix

    def num_evictable(self, blocks: Iterable[CachedBlock]) -> int:
        """Return how many of the blocks nobody references: using them costs free blocks."""
        return list(map(self._references.__getitem__, blocks)).count(0)

    def allocate(self, count: int) -> None:
        """Give out `count` blocks, evicting cached ones only where no others are left; at most `num_free_blocks`."""
        blank = min(count, self._num_blank)
        self._num_blank -= blank
        if blank < count:
            self._evict(count - blank)

    def touch(self, blocks: Iterable[CachedBlock]) -> None:
        """Add a reference to each of some cached blocks."""
        references = self._references
        for block in blocks:
            if references[block] == 0:
                self._evictable.remove(block)
            references[block] += 1

    def cache(self, hashes: Sequence[BlockHash]) -> Sequence[CachedBlock]:
        """Give hashes to as many blocks of one request that had none; return what they go by from now on."""
        references, copies = self._references, self._copies
        if references.keys().isdisjoint(hashes) and (not copies or copies.keys().isdisjoint(hashes)):
            references.update(dict.fromkeys(hashes, 1))
            return hashes
        blocks: list[CachedBlock] = []
        for block_hash in hashes:
            block: CachedBlock = block_hash
            if block_hash in references or block_hash in copies:
                block = Copy(block_hash)
                copies.setdefault(block_hash, []).append(block)
            references[block] = 1
            blocks.append(block)
        return blocks

    def free(self, blocks: Sequence[CachedBlock], num_blank: int) -> None:
        """Drop one reference of each block of a request: the cached ones in the order of their tokens, then the others.

        Those that nobody references any more stay cached; the last of them will be evicted first.
        """
        references = self._references
        last_first = blocks[::-1]
        counts = list(map(references.__getitem__, last_first))
        # Others share the first blocks of a prompt, seldom any behind one that they do not share.
        num_own = counts.count(1)
        released = last_first[:num_own]
        if counts[:num_own].count(1) < num_own:
            released = list(compress(last_first, map((1).__eq__, counts)))
        references.update(dict.fromkeys(released, 0))
        self._evictable.put(released)
        if num_own < len(counts):
            for block, count in zip(last_first, counts, strict=True):
                if count > 1:
                    references[block] = count - 1
        self._num_blank += num_blank

    def reset(self) -> bool:
        """Forget everything cached, if no block is referenced; say whether that was so."""
        if self.num_used_blocks:
            return False
        self._references.clear()
        self._copies.clear()
        self._evictable.clear()
        self._num_blank = self.num_gpu_blocks - 1
        if self.events is not None:
            self.events.append(AllBlocksCleared())
        return True

    def cached_hashes(self) -> list[BlockHash]:
        """Return the hash of every cached block, once for each copy; what a full synchronisation sends."""
        return [_hash_of(block) for block in self._references]

    def evictable_hashes(self) -> list[BlockHash]:
        """Return the hashes of the blocks that nobody references, in the order of their eviction."""
        return [_hash_of(block) for block in self._evictable]

    def num_references(self, block: CachedBlock) -> int:
        """Return how many requests use a cached block."""
        return self._references[block]

    def check_integrity(self) -> None:
        """Assert that no block is lost or counted twice."""
        evictable = list(self._evictable)
        assert len(evictable) == len(self._evictable) == len(set(evictable)), (
            "every free block is queued once"
        )
        unreferenced = {block for block, count in self._references.items() if count == 0}
        assert set(evictable) == unreferenced, "evictable means that nobody references it"
        assert min(self._references.values(), default=0) >= 0, "a reference is dropped only once"
        assert self._num_blank >= 0, "no more blocks are given out than there are"
        referenced = len(self._references) - len(unreferenced)
        assert referenced <= self.num_used_blocks, "a referenced block is not free"
        copies = {copy for copies in self._copies.values() for copy in copies}
        assert copies == {block for block in self._references if isinstance(block, Copy)}, "copies are known"
        assert all(self._copies.values()), "hashes without copies are forgotten"

    def _evict(self, count: int) -> None:
        evicted = self._evictable.take(count)
        deque(map(self._references.__delitem__, evicted), maxlen=0)
        self.num_evicted_blocks += count
        if self._copies:
            for block in evicted:
                if isinstance(block, Copy):
                    self._forget_copy(block)
        if self.events is not None:
            self.events.extend(BlockRemoved(_hash_of(block)) for block in evicted)

    def _forget_copy(self, copy: Copy) -> None:
        copies = self._copies[copy.block_hash]
        copies.remove(copy)
        if not copies:
            del self._copies[copy.block_hash]


def _hash_of(block: CachedBlock) -> BlockHash:
    return block.block_hash if isinstance(block, Copy) else block
