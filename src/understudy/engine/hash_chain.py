"""The block hashes of a request, kept in runs: where a trace names long segments these are few, however many the blocks.

The blocks of a run are numbered from 0. Its `key` tells it from all other runs of the engine: the hash of block n is the
integer key + n. A block whose hash is bytes is a run by itself, and the hash is the key.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias, overload

BlockHash: TypeAlias = bytes | int
"""Bytes where token ids are known; an integer where a trace gives only identities."""

RunPart: TypeAlias = tuple[BlockHash, int, int]
"""The key of a run, and the numbers of the first of some of its blocks and of the one behind the last."""


def hashes_of(key: BlockHash, start: int, end: int) -> Sequence[BlockHash]:
    """Return the hashes of blocks `start` to `end` (exclusive) of a run."""
    return range(key + start, key + end) if isinstance(key, int) else (key,)


class HashChain(Sequence[BlockHash]):
    """The hashes of the full blocks of a request, in the order of their tokens; it only grows."""

    __slots__ = ("_bounds", "_keys")

    def __init__(self) -> None:
        self._keys: list[BlockHash] = []
        # Run i holds the blocks of the chain from _bounds[i] to _bounds[i + 1].
        self._bounds = [0]

    def __len__(self) -> int:
        return self._bounds[-1]

    @overload
    def __getitem__(self, index: int) -> BlockHash: ...

    @overload
    def __getitem__(self, index: slice) -> list[BlockHash]: ...

    def __getitem__(self, index: int | slice) -> BlockHash | list[BlockHash]:
        """Return the hash of one block, or a list of those of some."""
        places = range(len(self))[index]
        if isinstance(places, int):
            return self._hashes(places, places + 1)[0]
        return self._hashes(places.start, places.stop) if places.step == 1 else [self[i] for i in places]

    def __iter__(self) -> Iterator[BlockHash]:
        if len(self._keys) == len(self):
            return iter(self._keys)
        return chain.from_iterable(hashes_of(*part) for part in self.runs(0, len(self)))

    def runs(self, start: int, end: int) -> Iterable[RunPart]:
        """Iterate over the runs, or parts of them, that make up blocks `start` to `end` (exclusive) of the chain."""
        keys, bounds = self._keys, self._bounds
        if start < end and start >= bounds[-2]:
            # Nearly always: a block more of an answer.
            return ((keys[-1], start - bounds[-2], end - bounds[-2]),)
        return self._runs(start, end)

    def _runs(self, start: int, end: int) -> Iterator[RunPart]:
        keys, bounds = self._keys, self._bounds
        run = bisect_right(bounds, start) - 1
        while start < end:
            first = bounds[run]
            run += 1
            stop = min(end, bounds[run])
            yield keys[run - 1], start - first, stop - first
            start = stop

    def append(self, block_hash: BlockHash) -> None:
        """Add one block that is a run by itself."""
        self._keys.append(block_hash)
        self._bounds.append(self._bounds[-1] + 1)

    def extend_run(self, key: BlockHash, end: int) -> None:
        """Let a run, the last one or a new one, reach up to block `end` (exclusive) of the chain, if that is longer."""
        keys, bounds = self._keys, self._bounds
        if end <= bounds[-1]:
            return
        if keys and keys[-1] == key:
            bounds[-1] = end
        else:
            keys.append(key)
            bounds.append(end)

    def _hashes(self, start: int, end: int) -> list[BlockHash]:
        return [block_hash for part in self.runs(start, end) for block_hash in hashes_of(*part)]
