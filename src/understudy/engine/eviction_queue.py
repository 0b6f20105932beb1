"""Pieces of cached runs, and the queue of those that nobody references, in the order of their eviction.

The queue is a linked list, as vLLM's own of blocks is: a prefix hit takes a piece out of the middle.
"""

from collections.abc import Iterator

from understudy.engine.hash_chain import BlockHash


class Piece:
    """Cached blocks `start` to `end` (exclusive) of the run `key`, each with the same number of references.

    `ahead` and `behind` are its neighbours in the eviction queue; a piece has them only while it stands there.
    """

    __slots__ = ("ahead", "behind", "end", "key", "references", "start")

    ahead: "Piece"
    behind: "Piece"

    def __init__(self, key: BlockHash, start: int, end: int, references: int) -> None:
        self.key = key
        self.start = start
        self.end = end
        self.references = references

    def __len__(self) -> int:
        return self.end - self.start


class EvictionQueue:
    """Pieces, the next to be evicted first; `num_blocks` is how many blocks they hold."""

    def __init__(self) -> None:
        self.num_blocks = 0
        # Stands behind the last piece and ahead of the first.
        self._edge = edge = Piece(0, 0, 0, 0)
        edge.ahead = edge.behind = edge

    def __iter__(self) -> Iterator[Piece]:
        piece = self._edge.behind
        while piece is not self._edge:
            yield piece
            piece = piece.behind

    @property
    def first(self) -> Piece:
        """The piece to be evicted next; there must be one."""
        return self._edge.behind

    def append(self, piece: Piece) -> None:
        """Put a piece behind all others."""
        self.num_blocks += piece.end - piece.start
        self.put_ahead(piece, self._edge)

    def put_ahead(self, rest: Piece, piece: Piece) -> None:
        """Put what was split off from a piece of the queue ahead of it."""
        rest.ahead = piece.ahead
        rest.behind = piece
        piece.ahead.behind = rest
        piece.ahead = rest

    def remove(self, piece: Piece) -> None:
        """Take out a piece, wherever it stands."""
        self.num_blocks -= piece.end - piece.start
        piece.ahead.behind = piece.behind
        piece.behind.ahead = piece.ahead
        # Stale neighbours would keep each other in memory.
        del piece.ahead, piece.behind

    def shrink_first(self, count: int) -> None:
        """Take the last `count` blocks from the piece to be evicted next, but not all."""
        self._edge.behind.end -= count
        self.num_blocks -= count
