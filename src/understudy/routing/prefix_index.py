"""Which worker holds which cached blocks, and how far the cache of every worker reaches into a prompt.

One flat dict maps a block hash to a bitmask of workers. A hash stands for the whole prompt up to the end of
its block, so no tree is needed: a prompt's prefix is found by walking its hashes until nobody holds one.
"""

from collections.abc import Hashable, Iterable, Sequence
from itertools import islice

SPARE_NAMES = 64
"""How many names of blocks that it has dropped are kept of the smallest worker; of larger ones half of what they hold."""

_WORD_BITS = 60
_WORD = (1 << _WORD_BITS) - 1


class PrefixIndex:
    """Blocks held by each of `num_workers` workers, more of which may be added, with copies counted.

    vLLM does not merge equal blocks: it can hold one hash several times and says "stored" and "removed" for
    each copy. So a worker holds a hash until it was removed as often as it was stored.

    Of no worker more than `max_blocks_per_worker` different blocks are known at any moment: what is stored beyond
    is left out, and its removal later is one of an unknown block.
    """

    def __init__(self, num_workers: int, max_blocks_per_worker: int | None = None) -> None:
        self.unknown_removals = 0
        """How many removals named a block that the worker was not known to hold; they change nothing."""
        self.num_beyond_bound = 0
        """How many blocks were left out because their worker had as many as may be known."""
        self._max_blocks = max_blocks_per_worker
        self._masks: dict[Hashable, int] = {}
        self._bits: list[int] = []
        self._extra_copies: list[dict[Hashable, int]] = []
        self._num_held: list[int] = []
        # Each block that the worker holds is named here, so that nobody has to search the whole index for them.
        self._names: list[list[Hashable]] = []
        for _ in range(num_workers):
            self.add_worker()

    @property
    def num_workers(self) -> int:
        """How many workers there are."""
        return len(self._bits)

    def add_worker(self) -> int:
        """Add a worker that holds nothing, and return its number: one more than the last."""
        worker = len(self._bits)
        self._bits.append(1 << worker)
        self._extra_copies.append({})
        self._num_held.append(0)
        self._names.append([])
        return worker

    def blocks_held(self, worker: int) -> int:
        """Return how many different blocks the worker holds; copies count once."""
        return self._num_held[worker]

    def stored(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note that the worker has cached these blocks, each once more than before."""
        masks = self._masks
        get, name = masks.get, self._names[worker].append
        bit = self._bits[worker]
        held = self._num_held[worker]
        limit = held + len(hashes) if self._max_blocks is None else self._max_blocks
        # Neighbours in a prompt tend to be held by the same workers; then one number serves them all.
        before, after = 0, bit
        for block in hashes:
            mask = get(block, 0)
            if mask & bit:
                extra = self._extra_copies[worker]
                extra[block] = extra.get(block, 0) + 1
            elif held < limit:
                if mask is not before:
                    before, after = mask, mask | bit if mask else bit
                masks[block] = after
                name(block)
                held += 1
            else:
                self.num_beyond_bound += 1
        self._num_held[worker] = held
        self._tidy_names(worker)

    def removed(self, worker: int, hashes: Iterable[Hashable]) -> None:
        """Note that the worker has dropped one copy of each of these blocks."""
        masks = self._masks
        get = masks.get
        extra = self._extra_copies[worker]
        bit = self._bits[worker]
        dropped = 0
        for block in hashes:
            mask = get(block, 0)
            if not mask & bit:
                self.unknown_removals += 1
                continue
            if extra and block in extra:
                _drop_copy(extra, block)
                continue
            if mask == bit:
                del masks[block]
            else:
                masks[block] = mask ^ bit
            dropped += 1
        self._num_held[worker] -= dropped
        self._tidy_names(worker)

    def cleared(self, worker: int) -> None:
        """Note that the worker holds nothing any more."""
        self.replace(worker, ())

    def replace(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Forget all that was known of the worker: it holds exactly these blocks, a hash once for each copy.

        Where they are more than may be known, the first of them.
        """
        masks = self._masks
        bit = self._bits[worker]
        before = self._held_by(worker)
        after = set(hashes)
        copies = _copies_beyond_first(hashes) if len(after) < len(hashes) else {}
        if self._max_blocks is not None and len(after) > self._max_blocks:
            self.num_beyond_bound += len(after) - self._max_blocks
            after = set(islice(dict.fromkeys(hashes), self._max_blocks))
            copies = {block: count for block, count in copies.items() if block in after}
        for block in before - after:
            if masks[block] == bit:
                del masks[block]
            else:
                masks[block] ^= bit
        for block in after - before:
            mask = masks.get(block, 0)
            masks[block] = mask | bit if mask else bit
        self._num_held[worker] = len(after)
        self._extra_copies[worker] = copies
        self._names[worker] = list(after)

    def longest_prefixes(self, hashes: Sequence[Hashable]) -> list[int]:
        """Return for each worker how many of these hashes it holds from the first on without a gap."""
        alive = (1 << len(self._bits)) - 1
        matched = [0] * len(self._bits)
        for depth, mask in enumerate(map(self._masks.get, hashes)):
            still_alive = alive & mask if mask is not None else 0
            if still_alive != alive:
                if depth:
                    _record(matched, alive ^ still_alive, depth)
                alive = still_alive
                if not alive:
                    return matched
        _record(matched, alive, len(hashes))
        return matched

    def check_integrity(self) -> None:
        """Assert that all that is kept agrees with itself; takes time in proportion to the index."""
        everyone = 1 << len(self._bits)
        assert all(0 < mask < everyone for mask in self._masks.values())
        for worker, bit in enumerate(self._bits):
            held = {block for block, mask in self._masks.items() if mask & bit}
            assert self._num_held[worker] == len(held)
            assert self._max_blocks is None or len(held) <= self._max_blocks
            assert self._held_by(worker) == held
            assert len(self._names[worker]) <= _most_names(len(held))
            for block, copies in self._extra_copies[worker].items():
                assert copies > 0
                assert block in held

    def _held_by(self, worker: int) -> set[Hashable]:
        get, bit = self._masks.get, self._bits[worker]
        return {block for block in self._names[worker] if get(block, 0) & bit}

    def _tidy_names(self, worker: int) -> None:
        if len(self._names[worker]) > _most_names(self._num_held[worker]):
            self._names[worker] = list(self._held_by(worker))


def _most_names(num_held: int) -> int:
    return num_held + num_held // 2 + SPARE_NAMES


def _drop_copy(extra: dict[Hashable, int], block: Hashable) -> None:
    if extra[block] == 1:
        del extra[block]
    else:
        extra[block] -= 1


def _copies_beyond_first(hashes: Sequence[Hashable]) -> dict[Hashable, int]:
    seen: set[Hashable] = set()
    extra: dict[Hashable, int] = {}
    for block in hashes:
        if block in seen:
            extra[block] = extra.get(block, 0) + 1
        else:
            seen.add(block)
    return extra


def _record(matched: list[int], workers: int, depth: int) -> None:
    """Set `matched` to `depth` for each worker in the bitmask."""
    first = 0
    # Word by word: arithmetic on one number with a bit for each of thousands of workers would be slow.
    while workers:
        word = workers & _WORD
        while word:
            lowest = word & -word
            matched[first + lowest.bit_length() - 1] = depth
            word ^= lowest
        workers >>= _WORD_BITS
        first += _WORD_BITS
