"""A prefix index for guesses: what was sent to a worker lately is probably still in its cache.

Nobody tells a guessing router what a worker evicts, so it keeps a bounded number of blocks a worker and
forgets those that it sent longest ago.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from understudy.routing.prefix_index import PrefixIndex


class RecentPrefixIndex(PrefixIndex):
    """A `PrefixIndex` with at most `max_blocks_per_worker` blocks a worker, those stored last.

    Storing a block again makes it recent and adds no copy. Within one call the first block counts as the
    most recent: a prompt is forgotten from its end, which is also how vLLM evicts, since a block without
    those before it is worth nothing.
    """

    def __init__(self, num_workers: int, max_blocks_per_worker: int) -> None:
        super().__init__(num_workers)
        self._max_blocks = max_blocks_per_worker
        self._recent: list[OrderedDict[Hashable, None]] = [OrderedDict() for _ in range(num_workers)]

    def stored(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note that the worker has been given these blocks, and forget the oldest beyond the bound."""
        recent = self._recent[worker]
        new: list[Hashable] = []
        for block in reversed(hashes):
            if block in recent:
                recent.move_to_end(block)
            else:
                recent[block] = None
                new.append(block)
        super().stored(worker, new)
        excess = len(recent) - self._max_blocks
        if excess > 0:
            super().removed(worker, [recent.popitem(last=False)[0] for _ in range(excess)])

    def removed(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Forget these blocks of the worker."""
        recent = self._recent[worker]
        for block in hashes:
            recent.pop(block, None)
        super().removed(worker, hashes)

    def replace(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Forget all that was known of the worker and store these blocks."""
        self._recent[worker].clear()
        super().replace(worker, ())
        self.stored(worker, hashes)

    def check_integrity(self) -> None:
        """Assert that all that is kept agrees with itself and with the bound."""
        super().check_integrity()
        for worker, recent in enumerate(self._recent):
            assert recent.keys() == self._held_by(worker)
            assert len(recent) <= self._max_blocks
            assert not self._extra_copies[worker]
