"""The blocks of a KV cache: how many are free, who references which, and what is evicted next.

Blocks have no ids here, because no decision needs them. Those without a hash are like each other, so they are only
counted. Those with one are kept in pieces of runs, so that the costs follow the number of runs: blocks that are cached,
referenced and freed together stay together, and a piece is split where a request shares only a part of it.

The order of eviction is vLLM's to the letter (vllm/v1/core/block_pool.py, 0.33.0): blocks without a hash are taken first;
cached ones follow in the order in which they were freed, and of one request the last block first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeAlias

from understudy.engine.events import AllBlocksCleared, BlockRemoved, KVCacheEvent
from understudy.engine.eviction_queue import EvictionQueue, Piece
from understudy.engine.hash_chain import BlockHash, HashChain, hashes_of

PiecePart: TypeAlias = tuple[Piece, int, int]
"""Blocks of a piece: the number of the first within the run, and of the one behind the last."""

Holding: TypeAlias = tuple[Piece, int]
"""What a request references: a piece and all that was split off from it since, up to this block of the run (exclusive)."""


class BlockPool:
    """`num_gpu_blocks` blocks; one of them is vLLM's null block, which is never given out.

    Events are appended to `events` unless that is None. The caller checks `num_free_blocks` before it allocates.
    """

    def __init__(self, num_gpu_blocks: int) -> None:
        self.num_gpu_blocks = num_gpu_blocks
        self.num_evicted_blocks = 0
        self.events: list[KVCacheEvent] | None = None
        self._num_blank = num_gpu_blocks - 1
        self._evictable = EvictionQueue()
        # Of each run in the order of insertion; what is split off from a piece stands right behind it.
        self._pieces: dict[BlockHash, list[Piece]] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that nobody references, cached or not."""
        return self._num_blank + self._evictable.num_blocks

    @property
    def num_used_blocks(self) -> int:
        """Blocks that some request references."""
        return self.num_gpu_blocks - 1 - self.num_free_blocks

    @property
    def usage(self) -> float:
        """Referenced blocks over all but the null block, 0 to 1; cached but unreferenced blocks count as free."""
        if self.num_gpu_blocks == 1:
            return 0.0
        return 1.0 - self.num_free_blocks / (self.num_gpu_blocks - 1)

    def cached_prefix(self, hashes: HashChain, limit: int) -> list[PiecePart]:
        """Return the longest cached prefix of the first `limit` blocks of a chain; changes nothing.

        Of several blocks with the same hash the first inserted is taken.
        """
        prefix: list[PiecePart] = []
        for key, start, end in hashes.runs(0, limit):
            number = start
            while number < end:
                piece = self._first_copy(key, number)
                if piece is None:
                    return prefix
                # The blocks behind `number` are the first inserted, too: whoever used an earlier copy of one of them
                # used an earlier one of `number` before it, which is evicted only after it.
                stop = min(piece.end, end)
                prefix.append((piece, number, stop))
                number = stop
        return prefix

    def num_evictable(self, prefix: Iterable[PiecePart]) -> int:
        """Return how many blocks of a prefix nobody references: using them costs free blocks."""
        return sum(end - start for piece, start, end in prefix if not piece.references)

    def allocate(self, count: int) -> None:
        """Give out `count` blocks, evicting cached ones only where no others are left; at most `num_free_blocks`."""
        blank = min(count, self._num_blank)
        self._num_blank -= blank
        if blank < count:
            self._evict(count - blank)

    def touch(self, prefix: Iterable[PiecePart]) -> list[Holding]:
        """Add a reference to each block of a prefix, found since the last change; return what the request holds now."""
        held: list[Holding] = []
        for found, start, end in prefix:
            piece = found if found.start == start else self._split(found, start)
            if end < piece.end:
                self._split(piece, end)
            if not piece.references:
                self._evictable.remove(piece)
            piece.references += 1
            held.append((piece, end))
        return held

    def cache(self, hashes: HashChain, start: int, end: int, held: list[Holding]) -> None:
        """Give blocks `start` to `end` (exclusive) of a request their hashes, and add them to what it holds."""
        for key, first, stop in hashes.runs(start, end):
            pieces = self._pieces.get(key)
            if pieces is None:
                pieces = self._pieces[key] = []
            elif pieces[-1].references == 1 and held and held[-1] == (pieces[-1], first):
                pieces[-1].end = stop
                held[-1] = (pieces[-1], stop)
                continue
            piece = Piece(key, first, stop, 1)
            pieces.append(piece)
            held.append((piece, stop))

    def free(self, held: Sequence[Holding], num_blank: int) -> None:
        """Drop one reference of each block of a request: the cached ones in the order of their tokens, then the others.

        Those that nobody references any more stay cached; the last of them will be evicted first.
        """
        for piece, end in reversed(held):
            for part in reversed(self._split_pieces(piece, end)):
                part.references -= 1
                if not part.references:
                    self._evictable.append(part)
        self._num_blank += num_blank

    def reset(self) -> bool:
        """Forget everything cached, if no block is referenced; say whether that was so."""
        if self.num_used_blocks:
            return False
        self._pieces.clear()
        self._evictable = EvictionQueue()
        self._num_blank = self.num_gpu_blocks - 1
        if self.events is not None:
            self.events.append(AllBlocksCleared())
        return True

    def cached_hashes(self) -> list[BlockHash]:
        """Return the hash of every cached block, once for each copy; what a full synchronisation sends."""
        return [
            block_hash
            for piece in chain.from_iterable(self._pieces.values())
            for block_hash in hashes_of(piece.key, piece.start, piece.end)
        ]

    def evictable_hashes(self) -> list[BlockHash]:
        """Return the hashes of the blocks that nobody references, in the order of their eviction."""
        return [
            block_hash
            for piece in self._evictable
            for block_hash in reversed(hashes_of(piece.key, piece.start, piece.end))
        ]

    def check_integrity(self, holders: Iterable[Sequence[Holding]], num_blank: int) -> None:
        """Assert that no block is lost or counted twice; `holders` hold all that is referenced, and `num_blank` more."""
        pieces = set(chain.from_iterable(self._pieces.values()))
        assert all(self._pieces.values()), "runs without pieces are forgotten"
        assert all(piece.start < piece.end for piece in pieces), "pieces without blocks are forgotten"
        evictable = list(self._evictable)
        assert len(evictable) == len(set(evictable)), "every free piece is queued once"
        assert sum(map(len, evictable)) == self._evictable.num_blocks, "free blocks are counted"
        assert set(evictable) == {piece for piece in pieces if not piece.references}, (
            "evictable means that nobody references it"
        )
        assert self._num_blank >= 0, "no more blocks are given out than there are"
        references = Counter(
            part for held in holders for piece, end in held for part in self._split_pieces(piece, end)
        )
        assert references == {piece: piece.references for piece in pieces if piece.references}, (
            "references add up"
        )
        assert sum(map(len, references)) + num_blank == self.num_used_blocks, "no other block is in use"

    def _first_copy(self, key: BlockHash, number: int) -> Piece | None:
        """Return the first inserted piece with a block of a run."""
        for piece in self._pieces.get(key, ()):
            if piece.start <= number < piece.end:
                return piece
        return None

    def _split(self, piece: Piece, number: int) -> Piece:
        """Let a piece end before a block, and return the rest of it."""
        rest = Piece(piece.key, number, piece.end, piece.references)
        piece.end = number
        pieces = self._pieces[piece.key]
        pieces.insert(pieces.index(piece) + 1, rest)
        if not piece.references:
            # The last blocks go first.
            self._evictable.put_ahead(rest, piece)
        return rest

    def _split_pieces(self, piece: Piece, end: int) -> Sequence[Piece]:
        """Return a piece that reached up to `end`, and all that was split off from it."""
        if piece.end == end:
            return (piece,)
        pieces = self._pieces[piece.key]
        first = last = pieces.index(piece)
        while pieces[last].end < end:
            last += 1
        return pieces[first : last + 1]

    def _evict(self, count: int) -> None:
        self.num_evicted_blocks += count
        while count:
            piece = self._evictable.first
            length = piece.end - piece.start
            num_evicted = min(count, length)
            if self.events is not None:
                hashes = hashes_of(piece.key, piece.end - num_evicted, piece.end)
                self.events.extend(map(BlockRemoved, reversed(hashes)))
            if num_evicted < length:
                self._evictable.shrink_first(num_evicted)
            else:
                self._evictable.remove(piece)
                self._forget(piece)
            count -= num_evicted

    def _forget(self, piece: Piece) -> None:
        pieces = self._pieces[piece.key]
        pieces.remove(piece)
        if not pieces:
            del self._pieces[piece.key]
