"""What the events of one worker mean for what it holds.

A router wants to know which prefixes are in the GPU's cache, so of each rank it follows the blocks of one cache:

- Medium: events of other media (CPU, storage, and whatever else a KV connector calls its tiers) are passed over. They name the
  same hashes, so that counted together with the GPU's a block would seem to be held that is not, or the other way round.
  Only the GPU's pool reports without a medium (older versions), or as "GPU".
- Group: a model with several kinds of attention keeps groups of blocks, and each group reports the same hashes. A hit needs
  the blocks of all groups, but only full attention needs every block from the first one on; so its first group is followed,
  whose prefix is the most that can be hit. Where no group has full attention the first of all is followed.
- "All blocks cleared" names neither: it clears. A connector's pool may have meant only itself; then less is known than could
  be, and nothing wrong.

vLLM counts copies: what was stored twice is held until it was removed twice. (vllm/v1/core/block_pool.py,
kv_cache_manager.py, kv_cache_interface.py and v1/simple_kv_offload/manager.py, 0.33.0)
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from understudy.gateway.kv_events.hash_check import HashCheck
from understudy.wire.kv_event_reader import Cleared, Event, Stored

_GPU = frozenset({"GPU", None})
_MOST_GROUPS = 256
_FULL_ATTENTION = frozenset({"full_attention", "mla_attention", "sink_full_attention", None})


class BlockSink(Protocol):
    """Who keeps what workers hold, as `RouterState` does; hashes are 64-bit integers."""

    def stored(self, worker: int, hashes: Sequence[int]) -> None:
        """Note that a worker has cached these blocks, each once more than before."""

    def removed(self, worker: int, hashes: Sequence[int]) -> None:
        """Note that a worker has dropped one copy of each of these blocks."""

    def cleared(self, worker: int) -> None:
        """Note that a worker holds nothing any more, or nothing that is known."""

    def synchronised(self, worker: int, hashes: Sequence[int]) -> None:
        """Note that a worker holds exactly these blocks, a hash once for each copy."""


class WorkerBlocks:
    """Tells `sink` what the worker in a slot holds, all ranks together, at most `max_blocks` of a rank if there are several.

    `judged` is called when `check` has come to know. Where hashes differ all is cleared before, and nothing is told after;
    where they agree again, after the worker has started over, telling begins after it.
    """

    def __init__(
        self,
        slot: int,
        sink: BlockSink,
        ranks: Collection[int],
        check: HashCheck,
        judged: Callable[[], None],
        *,
        max_blocks: int,
    ) -> None:
        self._check = check
        self._judged = judged
        self._tells = not check.differs
        self._groups = {rank: _FollowedGroup() for rank in ranks}
        if len(ranks) == 1:
            self._ranks: dict[int, _OnlyRank | _OneOfSeveral] = {
                rank: _OnlyRank(slot, sink) for rank in ranks
            }
        else:
            self._ranks = {rank: _OneOfSeveral(slot, sink, max_blocks) for rank in ranks}

    @property
    def wants_tokens(self) -> bool:
        """Whether events are to be read with their tokens."""
        return self._check.is_pending

    def apply(self, rank: int, events: Sequence[Event]) -> None:
        """Take the events of a batch."""
        group = self._groups[rank]
        removed: list[int] = []
        for event in events:
            if isinstance(event, Cleared):
                removed = []
                self._clear(rank)
            elif event.medium not in _GPU:
                continue
            elif isinstance(event, Stored):
                if group.changes_with(event):
                    removed = []
                    self._clear(rank)
                if group.is_of(event.group):
                    self._remove(rank, removed)
                    removed = []
                    self._store(rank, event)
            elif group.is_of(event.group):
                removed += event.hashes
        self._remove(rank, removed)

    def forget(self, rank: int, *, started_over: bool) -> None:
        """Forget what a rank holds; if it has started over, its hashes are looked at again."""
        self._clear(rank)
        if started_over:
            self._groups[rank] = _FollowedGroup()
            self.look_again()

    def look_again(self) -> None:
        """Look at hashes again: the worker may have been started with other flags."""
        self._check.reset()

    def synchronise(self, rank: int, hashes: Sequence[int]) -> None:
        """Take the list of all that a rank holds, a hash once for each copy."""
        if self._tells:
            self._ranks[rank].synchronised(hashes)

    def clear(self) -> None:
        """Forget what all ranks hold."""
        for rank in self._ranks:
            self._clear(rank)

    def _store(self, rank: int, event: Stored) -> None:
        if self._check.is_pending:
            self._check.look(event)
            if self._check.differs:
                self.clear()
                self._tells = False
                self._judged()
            elif not self._check.is_pending:
                self._judged()
                self._tells = True
        if self._tells:
            self._ranks[rank].stored(event.hashes)

    def _remove(self, rank: int, hashes: Sequence[int]) -> None:
        if hashes and self._tells:
            self._ranks[rank].removed(hashes)

    def _clear(self, rank: int) -> None:
        if self._tells:
            self._ranks[rank].cleared()


class _FollowedGroup:
    """Chooses the group of a rank that is followed, from the kinds that its events tell; before them it is the first."""

    def __init__(self) -> None:
        self._kinds: dict[int, str | None] = {}
        self._followed = 0

    def is_of(self, group: int | None) -> bool:
        """Whether an event of this group counts."""
        return (group or 0) == self._followed

    def changes_with(self, event: Stored) -> bool:
        """Learn of a group from an event; whether another group is followed from now on than was before."""
        group = event.group or 0
        if group in self._kinds or len(self._kinds) == _MOST_GROUPS:
            return False
        self._kinds[group] = event.spec_kind
        full = [group for group, kind in self._kinds.items() if kind in _FULL_ATTENTION]
        before, self._followed = self._followed, min(full or self._kinds)
        return before != self._followed


class _OnlyRank:
    """A rank that is all of a worker: the sink keeps what it holds."""

    def __init__(self, slot: int, sink: BlockSink) -> None:
        self._slot = slot
        self._sink = sink

    def stored(self, hashes: Sequence[int]) -> None:
        self._sink.stored(self._slot, hashes)

    def removed(self, hashes: Sequence[int]) -> None:
        self._sink.removed(self._slot, hashes)

    def cleared(self) -> None:
        self._sink.cleared(self._slot)

    def synchronised(self, hashes: Sequence[int]) -> None:
        self._sink.synchronised(self._slot, hashes)


class _OneOfSeveral:
    """A rank among others. What it holds is kept here, too: the sink cannot tell whose copy a copy is."""

    def __init__(self, slot: int, sink: BlockSink, max_blocks: int) -> None:
        self._slot = slot
        self._sink = sink
        self._max_blocks = max_blocks
        self._copies: Counter[int] = Counter()

    def stored(self, hashes: Sequence[int]) -> None:
        taken = hashes[: max(0, self._max_blocks - len(self._copies))]
        self._copies.update(taken)
        self._sink.stored(self._slot, taken)

    def removed(self, hashes: Sequence[int]) -> None:
        copies = self._copies
        known = []
        for block in hashes:
            if count := copies.get(block, 0):
                known.append(block)
                if count == 1:
                    del copies[block]
                else:
                    copies[block] = count - 1
        self._sink.removed(self._slot, known)

    def cleared(self) -> None:
        self._sink.removed(self._slot, list(self._copies.elements()))
        self._copies.clear()

    def synchronised(self, hashes: Sequence[int]) -> None:
        held = Counter(hashes[: self._max_blocks])
        self._sink.removed(self._slot, list((self._copies - held).elements()))
        self._sink.stored(self._slot, list((held - self._copies).elements()))
        self._copies = held
