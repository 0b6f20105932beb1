"""The blocks of a KV cache: reference counts, the queue of free blocks, and which hash is cached where.

A block is an integer; block 0 is the null block, which is never allocated. The order of the free queue is the
order of eviction, and it is vLLM's to the letter (vllm/v1/core/block_pool.py, 0.33.0): freed blocks without a hash go to
the front, hashed ones to the back, and of one request the last block first.
"""

from collections.abc import Iterable, Sequence

from understudy.engine.events import AllBlocksCleared, BlockRemoved, KVCacheEvent
from understudy.engine.free_queue import FreeQueue
from understudy.engine.hashing import BlockHash

NULL_BLOCK = 0


class BlockPool:
    """`num_gpu_blocks` blocks, the null block among them.

    Events are appended to `events` unless that is None. The caller checks `num_free_blocks` before it allocates.
    """

    def __init__(self, num_gpu_blocks: int) -> None:
        self.num_gpu_blocks = num_gpu_blocks
        self.num_evicted_blocks = 0
        self.events: list[KVCacheEvent] | None = None
        self._free = FreeQueue(range(NULL_BLOCK + 1, num_gpu_blocks))
        self._ref_counts = [0] * num_gpu_blocks
        self._hashes: list[BlockHash | None] = [None] * num_gpu_blocks
        self._cached: dict[BlockHash, int] = {}
        # Further copies of a cached hash, in order of insertion; a hash without any is absent.
        self._copies: dict[BlockHash, list[int]] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody references, cached or not."""
        return len(self._free)

    @property
    def num_used_blocks(self) -> int:
        """Blocks that some request references."""
        return self.num_gpu_blocks - 1 - len(self._free)

    @property
    def usage(self) -> float:
        """Referenced blocks over all but the null block, 0 to 1; cached but unreferenced blocks count as free."""
        if self.num_gpu_blocks == 1:
            return 0.0
        return 1.0 - len(self._free) / (self.num_gpu_blocks - 1)

    def ref_count(self, block: int) -> int:
        """Return how many requests use the block."""
        return self._ref_counts[block]

    def cached_prefix(self, hashes: Iterable[BlockHash]) -> list[int]:
        """Return the blocks that hold the longest cached prefix of a chain of hashes; changes nothing.

        Of several copies the first inserted is taken.
        """
        lookup = self._cached.get
        blocks: list[int] = []
        for block_hash in hashes:
            block = lookup(block_hash)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def num_evictable(self, blocks: Iterable[int]) -> int:
        """Return how many of the blocks nobody references: using them costs free blocks."""
        return list(map(self._ref_counts.__getitem__, blocks)).count(0)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks from the front of the free queue, evicting what they cache; at most `num_free_blocks`."""
        blocks = self._free.take(count)
        hashes, ref_counts = self._hashes, self._ref_counts
        evicted: list[BlockHash] = []
        for block in blocks:
            ref_counts[block] = 1
            block_hash = hashes[block]
            if block_hash is not None:
                evicted.append(block_hash)
                if block_hash in self._copies:
                    self._forget_copy(block_hash, block)
                else:
                    del self._cached[block_hash]
                hashes[block] = None
        self.num_evicted_blocks += len(evicted)
        if self.events is not None:
            self.events.extend(map(BlockRemoved, evicted))
        return blocks

    def touch(self, blocks: Iterable[int]) -> None:
        """Reference cached blocks once more; free ones leave the free queue."""
        ref_counts = self._ref_counts
        for block in blocks:
            if ref_counts[block] == 0:
                self._free.remove(block)
            ref_counts[block] += 1

    def free(self, blocks: Sequence[int], num_cached: int) -> None:
        """Drop one reference of each block of a request, of which the first `num_cached` carry a hash.

        Of those that nobody references any more, the ones without a hash are the next to be taken, the last block
        foremost; the others follow all that are free already, the last block first.
        """
        ref_counts = self._ref_counts
        released: list[int] = []
        for block in reversed(blocks[:num_cached]):
            count = ref_counts[block] - 1
            ref_counts[block] = count
            if count == 0:
                released.append(block)
        self._free.put_last(released)
        without_hash = blocks[num_cached:]
        for block in without_hash:
            ref_counts[block] = 0
        self._free.put_first(without_hash)

    def cache(self, blocks: Sequence[int], hashes: Sequence[BlockHash]) -> None:
        """Give full blocks their hashes. Another block with the same hash stays: copies are not merged."""
        cached, block_hashes = self._cached, self._hashes
        for block, block_hash in zip(blocks, hashes, strict=True):
            block_hashes[block] = block_hash
            if cached.setdefault(block_hash, block) != block:
                self._copies.setdefault(block_hash, []).append(block)

    def reset(self) -> bool:
        """Forget everything cached, if no block is referenced; say whether that was so. The queue keeps its order."""
        if self.num_used_blocks:
            return False
        self._cached.clear()
        self._copies.clear()
        self._hashes = [None] * self.num_gpu_blocks
        if self.events is not None:
            self.events.append(AllBlocksCleared())
        return True

    def cached_hashes(self) -> list[BlockHash]:
        """Return the hash of every cached block, once for each copy; what a full synchronisation sends."""
        return [block_hash for block_hash in self._hashes if block_hash is not None]

    def free_queue(self) -> list[int]:
        """Return the free blocks in the order in which they will be taken; for tests and checks."""
        return list(self._free)

    def check_integrity(self) -> None:
        """Assert that no block is lost, counted twice, or cached under a hash that it does not carry."""
        free = self.free_queue()
        assert len(free) == len(set(free)) == self.num_free_blocks, "every free block is queued once"
        assert NULL_BLOCK not in free, "the null block is never free"
        unreferenced = {block for block in range(1, self.num_gpu_blocks) if self._ref_counts[block] == 0}
        assert set(free) == unreferenced, "free means that nobody references it"
        assert min(self._ref_counts) >= 0, "a reference is dropped only once"
        copies = sorted([*self._cached.values(), *(b for blocks in self._copies.values() for b in blocks)])
        hashed = [block for block, block_hash in enumerate(self._hashes) if block_hash is not None]
        assert copies == hashed, "a block is in the map if and only if it carries a hash"
        assert all(self._hashes[block] == block_hash for block_hash, block in self._cached.items()), (
            "the map is true"
        )

    def _forget_copy(self, block_hash: BlockHash, block: int) -> None:
        """Forget one of several blocks with the same hash; the order of the others stays."""
        copies = self._copies[block_hash]
        if self._cached[block_hash] == block:
            self._cached[block_hash] = copies.pop(0)
        else:
            copies.remove(block)
        if not copies:
            del self._copies[block_hash]
