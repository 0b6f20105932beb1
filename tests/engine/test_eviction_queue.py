"""EvictionQueue against a plain list, for long enough to see it clear up after itself."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from understudy.engine.eviction_queue import EvictionQueue

CAPACITY = 5
MAX_ENTRIES = 4 * CAPACITY + 32


class EvictionQueueMachine(RuleBasedStateMachine):
    """Keys are put behind, taken from the front, and removed from anywhere; a key is queued once at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: EvictionQueue[int] = EvictionQueue(CAPACITY)
        self.plain: list[int] = []

    @rule(keys=st.permutations(range(CAPACITY)), count=st.integers(1, CAPACITY))
    def put(self, keys: list[int], count: int) -> None:
        """Put keys that are not queued."""
        new = [key for key in keys[:count] if key not in self.plain]
        self.queue.put(new)
        self.plain += new

    @rule(count=st.integers(0, CAPACITY))
    def take(self, count: int) -> None:
        """Take from the front."""
        count = min(count, len(self.plain))
        assert self.queue.take(count) == self.plain[:count]
        del self.plain[:count]

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def remove_and_put_back(self, data: st.DataObject) -> None:
        """Remove a key and queue it again: what a prefix hit and its end do, over and over."""
        key = data.draw(st.sampled_from(self.plain))
        for _ in range(CAPACITY):
            self.queue.remove(key)
            self.plain.remove(key)
            self.queue.put([key])
            self.plain.append(key)

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove a key from wherever it stands."""
        key = data.draw(st.sampled_from(self.plain))
        self.queue.remove(key)
        self.plain.remove(key)

    @rule()
    def clear(self) -> None:
        """Remove everything."""
        self.queue.clear()
        self.plain.clear()

    @invariant()
    def same(self) -> None:
        """Order and length are those of the list, and what was removed does not pile up."""
        assert list(self.queue) == self.plain
        assert len(self.queue) == len(self.plain)
        assert len(self.queue._entries) <= MAX_ENTRIES


TestEvictionQueue = EvictionQueueMachine.TestCase
TestEvictionQueue.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
