"""BlockPool, which has no block ids, against a plain model that has: vLLM's free list, counts and map of hashes."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from understudy.engine import AllBlocksCleared, BlockRemoved, KVCacheEvent
from understudy.engine.block_pool import BlockPool, CachedBlock, Copy

NUM_BLOCKS = 14
TEXTS = st.integers(0, 2)


class PlainPool:
    """What vLLM's block pool does, said as simply as possible, however slow."""

    def __init__(self, num_blocks: int) -> None:
        self.free_queue = list(range(1, num_blocks))
        self.ref_counts = dict.fromkeys(range(1, num_blocks), 0)
        self.hash_of: dict[int, int] = {}
        self.copies: dict[int, list[int]] = {}
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

    def cache(self, blocks: Sequence[int], hashes: Sequence[int]) -> None:
        """Add to the map; nothing is merged."""
        for block, block_hash in zip(blocks, hashes, strict=True):
            self.hash_of[block] = block_hash
            self.copies.setdefault(block_hash, []).append(block)

    def cached_prefix(self, hashes: Sequence[int]) -> list[int]:
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


class Table:
    """The blocks of one request that writes a text; `cached` is how the pool calls the first of them."""

    def __init__(self, text: int, blocks: list[int], cached: list[CachedBlock]) -> None:
        self.text = text
        self.blocks = blocks
        self.cached = cached

    @property
    def num_blank(self) -> int:
        """Blocks that have no hash yet."""
        return len(self.blocks) - len(self.cached)


def _hashes(text: int, start: int, end: int) -> list[int]:
    """Two texts agree in their first two blocks, and in no other."""
    return [index if index < 2 else 100 * (text + 1) + index for index in range(start, end)]


class BlockPoolMachine(RuleBasedStateMachine):
    """Does the same to both pools and compares everything that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.pool.events = []
        self.plain = PlainPool(NUM_BLOCKS)
        self.tables: list[Table] = []
        # What the pool calls each cached block of the plain one.
        self.name_of: dict[int, CachedBlock] = {}

    @rule(text=TEXTS, length=st.integers(0, NUM_BLOCKS), extra=st.integers(0, 5))
    def admit(self, text: int, length: int, extra: int) -> None:
        """Take the cached prefix of a text, and some blocks more."""
        hashes = _hashes(text, 0, NUM_BLOCKS)
        prefix = self.pool.cached_prefix(hashes, length)
        blocks = self.plain.cached_prefix(hashes[:length])
        assert prefix == [self.name_of[block] for block in blocks]
        num_evictable = sum(self.plain.ref_counts[block] == 0 for block in blocks)
        assert self.pool.num_evictable(prefix) == num_evictable
        if num_evictable + extra > len(self.plain.free_queue):
            return
        self.pool.touch(prefix)
        self.plain.touch(blocks)
        self.pool.allocate(extra)
        self.tables.append(Table(text, [*blocks, *self.plain.allocate(extra)], list(prefix)))

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), count=st.integers(0, 3))
    def extend(self, data: st.DataObject, count: int) -> None:
        """Take more blocks for a table."""
        table = data.draw(st.sampled_from(self.tables))
        count = min(count, len(self.plain.free_queue))
        self.pool.allocate(count)
        table.blocks += self.plain.allocate(count)

    @precondition(lambda self: any(table.num_blank for table in self.tables))
    @rule(data=st.data())
    def cache(self, data: st.DataObject) -> None:
        """Give the next blocks of a table their hashes; other blocks may carry the same."""
        table = data.draw(st.sampled_from([table for table in self.tables if table.num_blank]))
        start = len(table.cached)
        end = data.draw(st.integers(start + 1, len(table.blocks)))
        blocks, hashes = table.blocks[start:end], _hashes(table.text, start, end)
        names = self.pool.cache(hashes)
        self.plain.cache(blocks, hashes)
        self.name_of |= zip(blocks, names, strict=True)
        table.cached += names

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """Give a table back."""
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.pool.free(table.cached, table.num_blank)
        self.plain.free(table.blocks)

    @rule()
    def reset(self) -> None:
        """Forget the cache; refused while a block is in use."""
        assert self.pool.reset() is self.plain.reset()

    @invariant()
    def same(self) -> None:
        """Nothing that can be asked tells the two apart."""
        pool, plain = self.pool, self.plain
        pool.check_integrity()
        assert pool.num_free_blocks == len(plain.free_queue)
        assert pool.num_used_blocks == NUM_BLOCKS - 1 - len(plain.free_queue)
        assert pool.usage == 1.0 - len(plain.free_queue) / (NUM_BLOCKS - 1)
        hashes_of_free = [plain.hash_of.get(block) for block in plain.free_queue]
        num_blank = hashes_of_free.count(None)
        assert hashes_of_free == [None] * num_blank + pool.evictable_hashes(), "the order of eviction"
        cached_hashes = sorted(
            block_hash for block_hash in pool.cached_hashes() if isinstance(block_hash, int)
        )
        assert cached_hashes == sorted(plain.hash_of.values())
        for block in plain.hash_of:
            assert pool.num_references(self.name_of[block]) == plain.ref_counts[block]
        assert pool.has_copies is any(
            len(names) > 1 or isinstance(names[0], Copy) for names in self._names_of_each_hash()
        )
        assert pool.events == plain.events
        assert pool.num_evicted_blocks == sum(isinstance(event, BlockRemoved) for event in plain.events)

    def _names_of_each_hash(self) -> list[list[CachedBlock]]:
        return [[self.name_of[block] for block in blocks] for blocks in self.plain.copies.values() if blocks]


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_pool_of_the_null_block_alone() -> None:
    """It has nothing to give, and is never in use."""
    pool = BlockPool(1)
    assert (pool.num_free_blocks, pool.num_used_blocks, pool.usage) == (0, 0, 0.0)


def test_blocks_without_a_hash_are_taken_before_anything_is_evicted() -> None:
    """Of five blocks three are cached and five others free: seven can be had, then the last cached one goes first."""
    pool = BlockPool(11)
    pool.events = []
    pool.allocate(5)
    pool.free(pool.cache([b"one", b"two", b"three"]), num_blank=2)
    pool.allocate(7)
    assert pool.events == []
    pool.allocate(2)
    assert pool.events == [BlockRemoved(b"three"), BlockRemoved(b"two")]
