"""BlockPool, which keeps pieces of runs, against vLLM's, which keeps blocks with ids."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.engine.block_by_block_pool import BlockByBlockPool

from understudy.engine import BlockHash, BlockRemoved, HashChain, SegmentPrompt
from understudy.engine.block_pool import BlockPool, Holding

NUM_BLOCKS = 40
# Each id names all that comes before it.
TEXTS = [(1, 2), (1, 3)]
SEGMENT_TOKENS = 10
ANSWER = 20
# They need not divide a segment, and may exceed it.
BLOCK_SIZES = [1, 1, 1, 2, 3, 11]
LIMITS = st.sampled_from([0, NUM_BLOCKS]) | st.integers(0, 2 * SEGMENT_TOKENS)
COUNTS = st.integers(0, 2 * SEGMENT_TOKENS)


@dataclass
class Table:
    """The blocks of one request: `hashes` of all that it may ever have, ids in one pool, holdings in the other.

    Of `blocks`, the first `num_cached` have their hash.
    """

    hashes: HashChain
    blocks: list[int]
    num_cached: int
    held: list[Holding] = field(default_factory=list)


def _bytes_of(hashes: HashChain) -> HashChain:
    """Return a chain whose blocks are runs by themselves, as where token ids are known."""
    chain = HashChain()
    for block_hash in hashes:
        chain.append(str(block_hash).encode())
    return chain


class BlockPoolMachine(RuleBasedStateMachine):
    """Does the same to both pools and compares everything that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.pool.events = []
        self.model = BlockByBlockPool(NUM_BLOCKS)
        self.tables: list[Table] = []
        self.num_requests = 0

    @initialize(block_size=st.sampled_from(BLOCK_SIZES), tokens_are_known=st.booleans())
    def start(self, *, block_size: int, tokens_are_known: bool) -> None:
        """Choose the size of blocks and the kind of hashes."""
        self.block_size = block_size
        self.tokens_are_known = tokens_are_known

    def _hashes(self, text: int, num_tokens: int) -> HashChain:
        """Return the chain of a prompt that is the start of a text, and of an answer that is nobody else's."""
        segments = -(-num_tokens // SEGMENT_TOKENS)
        hashes = SegmentPrompt(num_tokens, TEXTS[text][:segments], SEGMENT_TOKENS).block_hashes(
            self.block_size
        )
        self.num_requests += 1
        hashes.extend_run(-1000 * self.num_requests, len(hashes) + ANSWER)
        return _bytes_of(hashes) if self.tokens_are_known else hashes

    @rule(
        text=st.integers(0, len(TEXTS) - 1),
        num_tokens=st.integers(1, 2 * SEGMENT_TOKENS),
        limit=LIMITS,
        extra=COUNTS,
        num_computed=COUNTS,
    )
    def admit(self, text: int, num_tokens: int, limit: int, extra: int, num_computed: int) -> None:
        """Take the cached prefix of a prompt, up to any block, and some blocks more; some of these are computed."""
        self._admit(self._hashes(text, num_tokens), limit, extra, num_computed)

    def _admit(self, hashes: HashChain, limit: int, extra: int, num_computed: int) -> None:
        limit = min(limit, len(hashes))
        prefix = self.pool.cached_prefix(hashes, limit)
        blocks = self.model.cached_prefix(hashes[:limit])
        assert sum(end - start for _, start, end in prefix) == len(blocks)
        references = [piece.references for piece, start, end in prefix for _ in range(start, end)]
        assert references == [self.model.ref_counts[block] for block in blocks], "the copy that is used"
        num_evictable = references.count(0)
        assert self.pool.num_evictable(prefix) == num_evictable
        extra = min(extra, len(hashes) - len(blocks))
        if num_evictable + extra > len(self.model.free_queue):
            return
        held = self.pool.touch(prefix)
        self.model.touch(blocks)
        self.pool.allocate(extra)
        table = Table(hashes, [*blocks, *self.model.allocate(extra)], len(blocks), held)
        self.tables.append(table)
        self._cache(table, num_computed)

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), count=COUNTS)
    def extend(self, data: st.DataObject, count: int) -> None:
        """Take more blocks for a table."""
        table = data.draw(st.sampled_from(self.tables))
        count = min(count, len(self.model.free_queue), len(table.hashes) - len(table.blocks))
        self.pool.allocate(count)
        table.blocks += self.model.allocate(count)

    @precondition(lambda self: any(table.num_cached < len(table.blocks) for table in self.tables))
    @rule(data=st.data(), count=COUNTS)
    def cache(self, data: st.DataObject, count: int) -> None:
        """Give the next blocks of a table their hashes; other blocks may carry the same."""
        self._cache(
            data.draw(st.sampled_from([t for t in self.tables if t.num_cached < len(t.blocks)])), count
        )

    def _cache(self, table: Table, count: int) -> None:
        start = table.num_cached
        end = min(start + count, len(table.blocks))
        self.pool.cache(table.hashes, start, end, table.held)
        self.model.cache(table.blocks[start:end], table.hashes[start:end])
        table.num_cached = end

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """Give a table back."""
        self._free(self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1))))

    def _free(self, table: Table) -> None:
        self.pool.free(table.held, len(table.blocks) - table.num_cached)
        self.model.free(table.blocks)

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), limit=LIMITS, extra=COUNTS, num_computed=COUNTS)
    def preempt(self, data: st.DataObject, limit: int, extra: int, num_computed: int) -> None:
        """Give a table back, and admit its request again: now its own answer may be cached, too."""
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self._free(table)
        self._admit(table.hashes, limit, extra, num_computed)

    @rule()
    def reset(self) -> None:
        """Forget the cache; refused while a block is in use."""
        assert self.pool.reset() is self.model.reset()

    @invariant()
    def same(self) -> None:
        """Nothing that can be asked tells the two apart."""
        pool, model = self.pool, self.model
        num_blank = sum(len(table.blocks) - table.num_cached for table in self.tables)
        pool.check_integrity([table.held for table in self.tables], num_blank)
        assert pool.num_free_blocks == len(model.free_queue)
        assert pool.num_used_blocks == NUM_BLOCKS - 1 - len(model.free_queue)
        assert pool.usage == 1.0 - len(model.free_queue) / (NUM_BLOCKS - 1)
        hashes_of_free = [model.hash_of.get(block) for block in model.free_queue]
        num_blank = hashes_of_free.count(None)
        assert hashes_of_free == [None] * num_blank + pool.evictable_hashes(), "the order of eviction"
        assert self._references() == {
            block_hash: [model.ref_counts[block] for block in blocks]
            for block_hash, blocks in model.copies.items()
            if blocks
        }, "the copies of each hash, in the order of insertion"
        assert sorted(map(str, pool.cached_hashes())) == sorted(map(str, model.hash_of.values()))
        assert pool.events == model.events
        assert pool.num_evicted_blocks == sum(isinstance(event, BlockRemoved) for event in model.events)

    def _references(self) -> dict[BlockHash, list[int]]:
        """Return how often each copy of each hash is referenced."""
        references: dict[BlockHash, list[int]] = {}
        for key, pieces in self.pool._pieces.items():
            for piece in pieces:
                for number in range(piece.start, piece.end):
                    block_hash = key + number if isinstance(key, int) else key
                    references.setdefault(block_hash, []).append(piece.references)
        return references


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)


def _run(*, length: int) -> HashChain:
    hashes = HashChain()
    hashes.extend_run(0, length)
    return hashes


def test_a_pool_of_the_null_block_alone() -> None:
    """It has nothing to give, and is never in use."""
    pool = BlockPool(1)
    assert (pool.num_free_blocks, pool.num_used_blocks, pool.usage) == (0, 0, 0.0)


def test_blocks_without_a_hash_are_taken_before_anything_is_evicted() -> None:
    """Of five blocks three are cached and five others free: seven can be had, then the last cached one goes first."""
    pool = BlockPool(11)
    pool.events = []
    pool.allocate(5)
    held: list[Holding] = []
    pool.cache(_run(length=3), 0, 3, held)
    pool.free(held, num_blank=2)
    pool.allocate(7)
    assert pool.events == []
    pool.allocate(2)
    assert pool.events == [BlockRemoved(2), BlockRemoved(1)]


def test_blocks_of_a_run_that_come_and_go_together_are_one_piece() -> None:
    """However many blocks a run has, and however many steps they came in."""
    pool = BlockPool(1_001)
    hashes, held = _run(length=1_000), list[Holding]()
    pool.allocate(1_000)
    for start in range(0, 1_000, 10):
        pool.cache(hashes, start, start + 10, held)
    assert len(held) == 1
    pool.free(held, num_blank=0)
    assert len(pool.cached_prefix(hashes, 1_000)) == 1
