"""vLLM's block pool, said as simply as possible, however slow: block ids, a free list, counts and a map of hashes."""

from collections.abc import Sequence

from understudy.engine import AllBlocksCleared, BlockHash, BlockRemoved, KVCacheEvent


class BlockByBlockPool:
    """Blocks go by their ids, 1 to `num_blocks` - 1; `copies` has those of each hash in the order of insertion."""

    def __init__(self, num_blocks: int) -> None:
        self.free_queue = list(range(1, num_blocks))
        self.ref_counts = dict.fromkeys(range(1, num_blocks), 0)
        self.hash_of: dict[int, BlockHash] = {}
        self.copies: dict[BlockHash, list[int]] = {}
        self.events: list[KVCacheEvent] = []

    def allocate(self, count: int) -> list[int]:
        """Take the first free blocks; what they held is forgotten."""
        blocks = [self.free_queue.pop(0) for _ in range(count)]
        for block in blocks:
            self.ref_counts[block] = 1
            if block in self.hash_of:
                block_hash = self.hash_of.pop(block)
                self.copies[block_hash].remove(block)
                self.events.append(BlockRemoved(block_hash))
        return blocks

    def touch(self, blocks: Sequence[int]) -> None:
        """Count one more reference of each block, and unlink it from the free list."""
        for block in blocks:
            if self.ref_counts[block] == 0:
                self.free_queue.remove(block)
            self.ref_counts[block] += 1

    def free(self, blocks: Sequence[int]) -> None:
        """Put what nobody references into the free list, last block first: without a hash in front, others behind."""
        for block in blocks:
            self.ref_counts[block] -= 1
        released = [block for block in reversed(blocks) if self.ref_counts[block] == 0]
        without_hash = [block for block in released if block not in self.hash_of]
        with_hash = [block for block in released if block in self.hash_of]
        self.free_queue = without_hash + self.free_queue + with_hash

    def cache(self, blocks: Sequence[int], hashes: Sequence[BlockHash]) -> None:
        """Add to the map; nothing is merged."""
        for block, block_hash in zip(blocks, hashes, strict=True):
            self.hash_of[block] = block_hash
            self.copies.setdefault(block_hash, []).append(block)

    def cached_prefix(self, hashes: Sequence[BlockHash]) -> list[int]:
        """Take the first inserted copy of each hash, up to the first that has none."""
        blocks = []
        for block_hash in hashes:
            if not self.copies.get(block_hash):
                break
            blocks.append(self.copies[block_hash][0])
        return blocks

    def reset(self) -> bool:
        """Forget all hashes, if every block is free; the free list keeps its order."""
        if any(self.ref_counts.values()):
            return False
        self.hash_of.clear()
        self.copies.clear()
        self.events.append(AllBlocksCleared())
        return True
