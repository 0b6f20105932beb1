"""Lists of large answers, which would be too much at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

S = TypeVar("S")
T = TypeVar("T")


class Made(Sequence[T], Generic[S, T]):
    """A list whose items are made from others whenever they are read."""

    __slots__ = ("_make", "_sources")

    def __init__(self, make: Callable[[S], T], sources: Sequence[S]) -> None:
        self._make = make
        self._sources = sources

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[T]:
        return map(self._make, self._sources)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(source) for source in self._sources[index]]
        return self._make(self._sources[index])


def listed(value: object) -> list[object]:
    """Return such a list as one that an encoder knows; raises TypeError for anything else."""
    if isinstance(value, Made):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
