"""The queue of cached blocks that nobody references, oldest first: the order in which they are evicted.

A prefix hit takes a block out of the middle. That is done lazily: the entry stays behind as stale and is skipped when
its turn comes. A block is queued again only behind its own stale entry, so it is enough to count stale entries.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class EvictionQueue(Generic[Key]):
    """Keys in the order in which they were put; holds a bounded multiple of `capacity` entries, stale or not."""

    def __init__(self, capacity: int) -> None:
        self._length = 0
        self._entries: list[Key] = []
        self._head = 0
        self._stale: dict[Key, int] = {}
        self._max_entries = 2 * capacity + 16

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Key]:
        return iter(_without_stale(self._entries[self._head :], self._stale.copy()))

    def put(self, keys: Sequence[Key]) -> None:
        """Put keys behind all others."""
        self._entries += keys
        self._length += len(keys)
        if len(self._entries) - self._head > self._max_entries:
            self._entries = _without_stale(self._entries[self._head :], self._stale)
            self._head = 0

    def take(self, count: int) -> list[Key]:
        """Remove and return the first `count` keys; there must be as many."""
        assert count <= self._length, "the caller checks for room"
        self._length -= count
        keys: list[Key] = []
        while len(keys) < count:
            end = self._head + count - len(keys)
            entries = self._entries[self._head : end]
            self._head = end
            if self._stale and not self._stale.keys().isdisjoint(entries):
                entries = _without_stale(entries, self._stale)
            keys = keys + entries if keys else entries
        if self._head > self._max_entries:
            del self._entries[: self._head]
            self._head = 0
        return keys

    def remove(self, key: Key) -> None:
        """Take out a key, wherever it stands."""
        self._stale[key] = self._stale.get(key, 0) + 1
        self._length -= 1

    def clear(self) -> None:
        """Take out everything."""
        self._length = self._head = 0
        self._entries = []
        self._stale = {}


def _without_stale(entries: Sequence[Key], stale: dict[Key, int]) -> list[Key]:
    """Return the entries that are not stale, and forget of `stale` those that were."""
    keys: list[Key] = []
    for key in entries:
        count = stale.get(key, 0)
        if count == 0:
            keys.append(key)
        elif count == 1:
            del stale[key]
        else:
            stale[key] = count - 1
    return keys
