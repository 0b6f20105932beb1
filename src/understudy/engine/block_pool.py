"""The blocks of a KV cache: reference counts, the queue of free blocks, and which hash is cached where.

A block is an integer; block 0 is the null block, which is never allocated. The order of the free queue is the
order of eviction, and it is vLLM's to the letter (vllm/v1/core/block_pool.py, 0.33.0):

    front: freed blocks without a hash ... then hashed ones, oldest free first :back
           (they hold nothing worth keeping)  (of one request, its last block first)

A prefix hit takes a block out of the middle of the queue. That is done lazily: the entry stays behind as stale and
is skipped when it reaches the front. A block is freed again only behind its own stale entry, so counting stale
entries is enough.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from understudy.engine.events import AllBlocksCleared, BlockRemoved, KVCacheEvent
from understudy.engine.hashing import BlockHash

NULL_BLOCK = 0


class BlockPool:
    """`num_gpu_blocks` blocks, the null block among them.

    Events are appended to `events` unless that is None. The caller checks `num_free_blocks` before it allocates.
    """

    def __init__(self, num_gpu_blocks: int) -> None:
        self.num_gpu_blocks = num_gpu_blocks
        self.num_free_blocks = num_gpu_blocks - 1
        self.num_evicted_blocks = 0
        self.events: list[KVCacheEvent] | None = None
        self._free: deque[int] = deque(range(1, num_gpu_blocks))
        self._stale: dict[int, int] = {}
        self._num_stale = 0
        self._ref_counts = [0] * num_gpu_blocks
        self._hashes: list[BlockHash | None] = [None] * num_gpu_blocks
        self._cached: dict[BlockHash, int] = {}
        self._duplicates: dict[BlockHash, list[int]] = {}

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
        assert count <= self.num_free_blocks, "the caller checks for room"
        self.num_free_blocks -= count
        take, hashes, ref_counts = self._free.popleft, self._hashes, self._ref_counts
        blocks: list[int] = []
        for _ in range(count):
            block = take()
            while self._num_stale and block in self._stale:
                self._forget_stale(block)
                block = take()
            if hashes[block] is not None:
                self._evict(block)
            ref_counts[block] = 1
            blocks.append(block)
        return blocks

    def touch(self, blocks: Iterable[int]) -> None:
        """Reference cached blocks once more; free ones leave the free queue."""
        ref_counts, stale = self._ref_counts, self._stale
        for block in blocks:
            if ref_counts[block] == 0:
                stale[block] = stale.get(block, 0) + 1
                self._num_stale += 1
                self.num_free_blocks -= 1
            ref_counts[block] += 1

    def free(self, blocks: Iterable[int]) -> None:
        """Drop one reference of each block, in the order given (a request's last block first).

        Of those that nobody references any more, the ones without a hash go to the front of the free queue and
        the hashed ones to its back.
        """
        ref_counts, hashes = self._ref_counts, self._hashes
        with_hash: list[int] = []
        without_hash: list[int] = []
        for block in blocks:
            ref_counts[block] -= 1
            if ref_counts[block] == 0:
                (without_hash if hashes[block] is None else with_hash).append(block)
        without_hash.reverse()
        self._free.extendleft(without_hash)
        self._free.extend(with_hash)
        self.num_free_blocks += len(with_hash) + len(without_hash)
        if len(self._free) > 2 * self.num_gpu_blocks:
            self._compact()

    def cache(self, blocks: Sequence[int], hashes: Sequence[BlockHash]) -> None:
        """Give full blocks their hashes. Another block with the same hash stays: copies are not merged."""
        cached, block_hashes = self._cached, self._hashes
        for block, block_hash in zip(blocks, hashes, strict=True):
            block_hashes[block] = block_hash
            if cached.setdefault(block_hash, block) != block:
                self._duplicates.setdefault(block_hash, []).append(block)

    def reset(self) -> bool:
        """Forget everything cached, if no block is referenced; say whether that was so. The queue keeps its order."""
        if self.num_used_blocks:
            return False
        self._cached.clear()
        self._duplicates.clear()
        self._hashes = [None] * self.num_gpu_blocks
        if self.events is not None:
            self.events.append(AllBlocksCleared())
        return True

    def cached_hashes(self) -> list[BlockHash]:
        """Return the hash of every cached block, once for each copy; what a full synchronisation sends."""
        return [block_hash for block_hash in self._hashes if block_hash is not None]

    def free_queue(self) -> list[int]:
        """Return the free blocks in the order in which they will be taken; for tests and checks."""
        stale = dict(self._stale)
        order: list[int] = []
        for block in self._free:
            if stale.get(block, 0):
                stale[block] -= 1
            else:
                order.append(block)
        return order

    def check_integrity(self) -> None:
        """Assert that no block is lost, counted twice, or cached under a hash that it does not carry."""
        free = self.free_queue()
        assert len(free) == len(set(free)) == self.num_free_blocks, "every free block is queued once"
        assert NULL_BLOCK not in free, "the null block is never free"
        unreferenced = {block for block in range(1, self.num_gpu_blocks) if self._ref_counts[block] == 0}
        assert set(free) == unreferenced, "free means that nobody references it"
        assert min(self._ref_counts) >= 0, "a reference is dropped only once"
        assert self._num_stale == sum(self._stale.values()), "stale entries are counted"
        copies = sorted([*self._cached.values(), *(b for blocks in self._duplicates.values() for b in blocks)])
        hashed = [block for block, block_hash in enumerate(self._hashes) if block_hash is not None]
        assert copies == hashed, "a block is in the map if and only if it carries a hash"
        assert all(self._hashes[block] == block_hash for block_hash, block in self._cached.items()), "the map is true"

    def _evict(self, block: int) -> None:
        block_hash = self._hashes[block]
        assert block_hash is not None
        self._hashes[block] = None
        self.num_evicted_blocks += 1
        others = self._duplicates.get(block_hash) if self._duplicates else None
        if others is None:
            del self._cached[block_hash]
        else:
            self._evict_copy(block, block_hash, others)
        if self.events is not None:
            self.events.append(BlockRemoved(block_hash))

    def _evict_copy(self, block: int, block_hash: BlockHash, others: list[int]) -> None:
        if self._cached[block_hash] == block:
            # Put the second copy in the place of the first, where insertion order would have it.
            self._cached[block_hash] = others.pop(0)
        else:
            others.remove(block)
        if not others:
            del self._duplicates[block_hash]

    def _forget_stale(self, block: int) -> None:
        self._num_stale -= 1
        if self._stale[block] == 1:
            del self._stale[block]
        else:
            self._stale[block] -= 1

    def _compact(self) -> None:
        self._free = deque(self.free_queue())
        self._stale.clear()
        self._num_stale = 0
