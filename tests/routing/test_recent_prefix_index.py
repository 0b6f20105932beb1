"""RecentPrefixIndex against a model that keeps, for each worker, a plain list from oldest to most recent."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from understudy.routing import RecentPrefixIndex

NUM_WORKERS = 2
LIMIT = 5
worker_ids = st.integers(0, NUM_WORKERS - 1)
block_lists = st.lists(st.integers(0, 9), max_size=8)


class RecentPrefixIndexMachine(RuleBasedStateMachine):
    """Tells an index and a model the same story."""

    def __init__(self) -> None:
        super().__init__()
        self.index = RecentPrefixIndex(NUM_WORKERS, LIMIT)
        self.model: list[list[int]] = [[] for _ in range(NUM_WORKERS)]

    @rule(worker=worker_ids, hashes=block_lists)
    def stored(self, worker: int, hashes: list[int]) -> None:
        """Send a prompt: its first block is the most recent of all."""
        self.index.stored(worker, hashes)
        newest_first = list(dict.fromkeys(hashes))
        others = [block for block in self.model[worker] if block not in newest_first]
        self.model[worker] = (others + newest_first[::-1])[-LIMIT:]

    @rule(worker=worker_ids, hashes=block_lists)
    def removed(self, worker: int, hashes: list[int]) -> None:
        """Forget blocks."""
        self.index.removed(worker, hashes)
        self.model[worker] = [block for block in self.model[worker] if block not in hashes]

    @rule(worker=worker_ids, hashes=block_lists)
    def replaced(self, worker: int, hashes: list[int]) -> None:
        """Forget everything but these blocks."""
        self.index.replace(worker, hashes)
        self.model[worker] = list(dict.fromkeys(hashes))[::-1][-LIMIT:]

    @rule(worker=worker_ids)
    def cleared(self, worker: int) -> None:
        """Forget everything."""
        self.index.cleared(worker)
        self.model[worker] = []

    @invariant()
    def same_blocks(self) -> None:
        """Each worker holds the model's blocks, and never more than the bound."""
        self.index.check_integrity()
        for worker, held in enumerate(self.model):
            assert self.index.blocks_held(worker) == len(held) <= LIMIT
            assert [block for block in range(10) if self.index.longest_prefixes([block])[worker]] == sorted(
                held
            )


RecentPrefixIndexMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
test_any_story_told_to_index_and_model_ends_the_same = RecentPrefixIndexMachine.TestCase


@given(prompt_blocks=st.integers(1, 30), limit=st.integers(1, 30))
def test_a_prompt_is_forgotten_from_its_end(prompt_blocks: int, limit: int) -> None:
    """Of a prompt that does not fit, the beginning stays known, which alone is of use."""
    index = RecentPrefixIndex(1, limit)
    index.stored(0, range(prompt_blocks))
    assert index.longest_prefixes(range(prompt_blocks)) == [min(prompt_blocks, limit)]
