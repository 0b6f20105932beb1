"""GuessedBlocks against a model that keeps a plain list of blocks and times from oldest to most recent."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from understudy.routing import GuessedBlocks, PrefixIndex

LIMIT = 5
MAX_AGE_NS = 10
WORKER = 1


class GuessedBlocksMachine(RuleBasedStateMachine):
    """Tells the guesses of one worker and a model the same story; a neighbour in the index holds everything."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.model: list[tuple[int, int]] = []

    @initialize(max_age_ns=st.sampled_from([None, MAX_AGE_NS]))
    def begin(self, max_age_ns: int | None) -> None:
        """Start with nothing sent."""
        self.max_age_ns = max_age_ns
        self.index = PrefixIndex(2)
        self.index.stored(0, range(10))
        self.guesses = GuessedBlocks(self.index, WORKER, LIMIT, max_age_ns)

    @rule(hashes=st.lists(st.integers(0, 9), max_size=8), passed_ns=st.integers(0, 4))
    def sent(self, hashes: list[int], passed_ns: int) -> None:
        """Send a prompt: its first block is the most recent of all."""
        self.now_ns += passed_ns
        self.guesses.sent(hashes, self.now_ns)
        newest_first = [(block, self.now_ns) for block in dict.fromkeys(hashes)]
        others = [item for item in self._not_too_old() if item[0] not in hashes]
        self.model = (others + newest_first[::-1])[-LIMIT:]

    @rule(passed_ns=st.integers(0, 12))
    def forget_old(self, passed_ns: int) -> None:
        """Let time pass."""
        self.now_ns += passed_ns
        self.guesses.forget_old(self.now_ns)
        self.model = self._not_too_old()

    def _not_too_old(self) -> list[tuple[int, int]]:
        age_ns = self.max_age_ns
        return [item for item in self.model if age_ns is None or self.now_ns - item[1] < age_ns]

    @invariant()
    def the_index_knows_the_same_blocks(self) -> None:
        """Find the model's blocks at the worker, each once, and its neighbour left alone."""
        self.index.check_integrity()
        held = [block for block in range(10) if self.index.longest_prefixes([block])[WORKER]]
        assert held == sorted(block for block, _ in self.model)
        assert self.index.blocks_held(WORKER) == len(self.model) <= LIMIT
        assert self.index.blocks_held(0) == 10
        assert not self.index._extra_copies[WORKER]
        assert self.index.unknown_removals == 0


GuessedBlocksMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_any_story_told_to_guesses_and_model_ends_the_same = GuessedBlocksMachine.TestCase


@given(prompt_blocks=st.integers(1, 30), limit=st.integers(1, 30))
def test_a_prompt_is_forgotten_from_its_end(prompt_blocks: int, limit: int) -> None:
    """Of a prompt that does not fit, the beginning stays known, which alone is of use."""
    index = PrefixIndex(1)
    GuessedBlocks(index, 0, limit).sent(range(prompt_blocks), 0)
    assert index.longest_prefixes(range(prompt_blocks)) == [min(prompt_blocks, limit)]


@given(limit=st.integers(1, 20), prompts=st.lists(st.integers(1, 30), max_size=10))
def test_an_index_with_the_same_bound_loses_nothing(limit: int, prompts: list[int]) -> None:
    """The index is never told of more than the bound, not even between two things that it is told."""
    index = PrefixIndex(1, limit)
    guesses = GuessedBlocks(index, 0, limit)
    for number, blocks in enumerate(prompts):
        guesses.sent([(number, place) for place in range(blocks)], number)
    assert index.num_beyond_bound == 0
