"""News on its way: things that happen now and become known later, in the order in which they happened."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayLine(Generic[T]):
    """A queue of items, each with the time in nanoseconds from which on it is visible.

    Times never go back: neither those pushed, nor those asked for.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[int, T]] = deque()
        self._last_pushed_ns = 0
        self._last_asked_ns = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, visible_at_ns: int, item: T) -> None:
        """Add an item that becomes visible at this time, no earlier than the one before it."""
        assert visible_at_ns >= self._last_pushed_ns
        self._last_pushed_ns = visible_at_ns
        self._items.append((visible_at_ns, item))

    def pop_due(self, now_ns: int) -> Iterator[T]:
        """Take out, one by one, the items visible at this time; those not taken stay."""
        assert now_ns >= self._last_asked_ns
        self._last_asked_ns = now_ns
        items = self._items
        while items and items[0][0] <= now_ns:
            yield items.popleft()[1]
