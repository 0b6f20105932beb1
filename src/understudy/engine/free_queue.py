"""The queue of free blocks, in the order in which they will be taken.

It has two parts: a stack of blocks that hold nothing worth keeping, taken first, and behind it the cached ones, oldest
first. A prefix hit takes a block out of the middle of the cached ones. That is done lazily: the entry stays behind as
stale and is skipped when its turn comes. A block is queued again only behind its own stale entry, so it is enough
to count stale entries.
"""

from collections.abc import Iterator, Sequence


class FreeQueue:
    """Free blocks; at first the given ones, in their order."""

    def __init__(self, blocks: Sequence[int]) -> None:
        self._length = len(blocks)
        self._stack: list[int] = []
        self._cached = list(blocks)
        self._head = 0
        self._stale: dict[int, int] = {}
        self._max_entries = 2 * len(blocks) + 16

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        yield from reversed(self._stack)
        yield from _without_stale(self._cached[self._head :], self._stale.copy())

    def take(self, count: int) -> list[int]:
        """Remove and return the first `count` blocks; there must be as many."""
        assert count <= self._length, "the caller checks for room"
        self._length -= count
        stack = self._stack
        blocks: list[int] = []
        while stack and len(blocks) < count:
            blocks.append(stack.pop())
        while len(blocks) < count:
            end = self._head + count - len(blocks)
            entries = self._cached[self._head : end]
            self._head = end
            if self._stale and not self._stale.keys().isdisjoint(entries):
                entries = _without_stale(entries, self._stale)
            blocks += entries
        if self._head > self._max_entries:
            del self._cached[: self._head]
            self._head = 0
        return blocks

    def put_first(self, blocks: Sequence[int]) -> None:
        """Put blocks in front of all others, the last one foremost."""
        self._stack += blocks
        self._length += len(blocks)

    def put_last(self, blocks: Sequence[int]) -> None:
        """Put blocks behind all others."""
        self._cached += blocks
        self._length += len(blocks)
        if len(self._cached) - self._head > self._max_entries:
            self._cached = _without_stale(self._cached[self._head :], self._stale)
            self._head = 0

    def remove(self, block: int) -> None:
        """Take out a block that was put last, wherever it stands now."""
        self._stale[block] = self._stale.get(block, 0) + 1
        self._length -= 1


def _without_stale(entries: Sequence[int], stale: dict[int, int]) -> list[int]:
    """Return the entries that are not stale, and forget of `stale` those that were."""
    blocks: list[int] = []
    for block in entries:
        count = stale.get(block, 0)
        if count == 0:
            blocks.append(block)
        elif count == 1:
            del stale[block]
        else:
            stale[block] = count - 1
    return blocks
