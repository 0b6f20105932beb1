"""PrefixIndex against a model that keeps a multiset of hashes a worker and looks every prefix up one by one."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.routing import PrefixIndex
from understudy.routing.prefix_index import SPARE_NAMES

NUM_WORKERS = 3
worker_ids = st.integers(0, NUM_WORKERS - 1)
# Few enough hashes that duplicates, unknown removals and shared prefixes are common; both kinds that engines use.
blocks = st.sampled_from([0, 1, 2, 3, 2**64 - 1, b"a", b"b", b"c"])
block_lists = st.lists(blocks, max_size=8)


def brute_force_prefix(held: Counter[int | bytes], hashes: Sequence[int | bytes]) -> int:
    """Count the leading hashes that are held."""
    return next((depth for depth, block in enumerate(hashes) if not held[block]), len(hashes))


class PrefixIndexMachine(RuleBasedStateMachine):
    """Tells an index and a model the same story, which begins with fewer workers than it ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown_removals = 0
        self.num_beyond_bound = 0

    @initialize(bound=st.none() | st.integers(1, 8))
    def begin(self, bound: int | None) -> None:
        """Start with an empty index."""
        self.bound = 1_000 if bound is None else bound
        self.index = PrefixIndex(NUM_WORKERS, bound)
        self.model: list[Counter[int | bytes]] = [Counter() for _ in range(NUM_WORKERS)]

    @precondition(lambda self: len(self.model) < NUM_WORKERS + 3)
    @rule()
    def joined(self) -> None:
        """Add a worker."""
        assert self.index.add_worker() == len(self.model)
        self.model.append(Counter())

    @rule(worker=worker_ids, hashes=block_lists)
    def stored(self, worker: int, hashes: list[int | bytes]) -> None:
        """Cache blocks on a worker."""
        self.index.stored(worker, hashes)
        held = self.model[worker]
        for block in hashes:
            if held[block] or len(+held) < self.bound:
                held[block] += 1
            else:
                self.num_beyond_bound += 1

    @rule(worker=worker_ids, hashes=block_lists)
    def removed(self, worker: int, hashes: list[int | bytes]) -> None:
        """Drop blocks from a worker, known or not."""
        self.index.removed(worker, hashes)
        for block in hashes:
            if self.model[worker][block]:
                self.model[worker][block] -= 1
            else:
                self.unknown_removals += 1

    @rule(worker=worker_ids)
    def cleared(self, worker: int) -> None:
        """Drop everything from a worker."""
        self.index.cleared(worker)
        self.model[worker].clear()

    @rule(worker=worker_ids, hashes=block_lists)
    def replaced(self, worker: int, hashes: list[int | bytes]) -> None:
        """Synchronise a worker fully."""
        self.index.replace(worker, hashes)
        kept = list(dict.fromkeys(hashes))[: self.bound]
        self.num_beyond_bound += len(set(hashes)) - len(kept)
        self.model[worker] = Counter(block for block in hashes if block in kept)

    @rule(hashes=block_lists)
    def prefixes_agree(self, hashes: list[int | bytes]) -> None:
        """One walk finds on every worker what looking hash by hash finds."""
        assert self.index.longest_prefixes(hashes) == [
            brute_force_prefix(held, hashes) for held in self.model
        ]

    @invariant()
    def counts_agree(self) -> None:
        """Everything that can be asked without a prompt agrees, and the index with itself."""
        self.index.check_integrity()
        assert self.index.unknown_removals == self.unknown_removals
        assert self.index.num_beyond_bound == self.num_beyond_bound
        assert self.index.num_workers == len(self.model)
        assert [self.index.blocks_held(worker) for worker in range(len(self.model))] == [
            len(+held) for held in self.model
        ]


PrefixIndexMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_any_story_told_to_index_and_model_ends_the_same = PrefixIndexMachine.TestCase


def test_duplicate_outlives_one_removal() -> None:
    """A hash stored twice on a worker is held until it was removed twice."""
    index = PrefixIndex(2)
    index.stored(1, [7])
    index.stored(1, [7])
    index.removed(1, [7])
    assert index.longest_prefixes([7]) == [0, 1]
    index.removed(1, [7])
    assert index.longest_prefixes([7]) == [0, 0]
    assert index.unknown_removals == 0


def test_equal_hashes_of_an_evicted_block_do_not_leak() -> None:
    """An index whose workers dropped all that they stored keeps no entry."""
    index = PrefixIndex(4)
    for worker in range(4):
        index.stored(worker, range(100))
    for worker in range(4):
        index.removed(worker, range(100))
    assert not index._masks


@given(
    hashes=st.lists(st.integers(), unique=True, max_size=20),
    num_workers=st.sampled_from([1, 2, 59, 60, 61, 120, 130]),
    data=st.data(),
)
def test_each_worker_is_matched_up_to_its_first_gap(
    hashes: list[int], num_workers: int, data: st.DataObject
) -> None:
    """Workers that hold different lengths of one prompt are each matched at theirs, also beyond 64 workers."""
    depths = data.draw(st.lists(st.integers(0, len(hashes)), min_size=num_workers, max_size=num_workers))
    index = PrefixIndex(num_workers)
    for worker, depth in enumerate(depths):
        index.stored(worker, hashes[:depth] + hashes[depth + 1 :])
    assert index.longest_prefixes(hashes) == depths


@given(bound=st.integers(1, 40), prompts=st.lists(st.integers(1, 30), max_size=10))
def test_memory_is_bounded_at_every_moment(bound: int, prompts: list[int]) -> None:
    """However much a worker says that it has stored, no more is kept of it than the bound, its first."""
    index = PrefixIndex(1, bound)
    for number, blocks in enumerate(prompts):
        index.stored(0, [(number, place) for place in range(blocks)])
        assert len(index._masks) == index.blocks_held(0) == min(bound, sum(prompts[: number + 1]))
        index.check_integrity()
    assert index.num_beyond_bound == max(0, sum(prompts) - bound)


def test_churn_leaves_no_names_behind() -> None:
    """A worker that evicts as much as it stores costs no more after a long time than after a short one."""
    index = PrefixIndex(2)
    index.stored(1, range(100))
    for number in range(1_000):
        index.stored(0, [1_000 + number])
        if number >= 100:
            index.removed(0, [1_000 + number - 100])
        index.check_integrity()
    assert len(index._names[0]) <= 100 + 50 + SPARE_NAMES
    index.cleared(0)
    index.check_integrity()
    assert index.longest_prefixes(range(100)) == [0, 100]


def test_neighbours_share_what_says_who_holds_them() -> None:
    """In a large fleet the blocks of a prompt held by the same workers need one large number, not one each."""
    index = PrefixIndex(4_000)
    for worker in (3_999, 17):
        index.stored(worker, range(100))
    assert len({id(mask) for mask in index._masks.values()}) == 1


def test_integrity_check_sees_a_lost_block() -> None:
    """The check is able to fail: a mask dropped behind the index's back is found."""
    index = PrefixIndex(1)
    index.stored(0, [1, 2])
    del index._masks[1]
    with pytest.raises(AssertionError):
        index.check_integrity()
