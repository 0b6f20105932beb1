"""Which worker holds which cached blocks, and how far the cache of every worker reaches into a prompt.

One flat dict maps a block hash to a bitmask of workers. A hash stands for the whole prompt up to the end of
its block, so no tree is needed: a prompt's prefix is found by walking its hashes until nobody holds one.
"""

from collections.abc import Hashable, Sequence


class PrefixIndex:
    """Blocks held by each of `num_workers` workers, with copies counted.

    vLLM does not merge equal blocks: it can hold one hash several times and says "stored" and "removed" for
    each copy. So a worker holds a hash until it was removed as often as it was stored.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.unknown_removals = 0
        """How many removals named a block that the worker was not known to hold; they change nothing."""
        self._masks: dict[Hashable, int] = {}
        self._extra_copies: list[dict[Hashable, int]] = [{} for _ in range(num_workers)]
        self._num_held = [0] * num_workers
        # What the last full synchronisation left, until anything else changes: spares the next one a search.
        self._synchronised: list[set[Hashable] | None] = [set() for _ in range(num_workers)]

    def blocks_held(self, worker: int) -> int:
        """Return how many different blocks the worker holds; copies count once."""
        return self._num_held[worker]

    def stored(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note that the worker has cached these blocks, each once more than before."""
        masks = self._masks
        get = masks.get
        bit = 1 << worker
        repeated = 0
        for block in hashes:
            mask = get(block, 0)
            if mask & bit:
                extra = self._extra_copies[worker]
                extra[block] = extra.get(block, 0) + 1
                repeated += 1
            else:
                masks[block] = mask | bit
        self._num_held[worker] += len(hashes) - repeated
        self._synchronised[worker] = None

    def removed(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Note that the worker has dropped one copy of each of these blocks."""
        masks = self._masks
        get = masks.get
        extra = self._extra_copies[worker]
        bit = 1 << worker
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
        self._synchronised[worker] = None

    def cleared(self, worker: int) -> None:
        """Note that the worker holds nothing any more."""
        self.replace(worker, ())

    def replace(self, worker: int, hashes: Sequence[Hashable]) -> None:
        """Forget all that was known of the worker: it holds exactly these blocks, a hash once for each copy.

        Costs as much as the difference when nothing but synchronisations were heard of the worker since the
        last one, else one search through the whole index.
        """
        masks = self._masks
        bit = 1 << worker
        before = self._held_by(worker)
        after = set(hashes)
        for block in before - after:
            if masks[block] == bit:
                del masks[block]
            else:
                masks[block] ^= bit
        for block in after - before:
            masks[block] = masks.get(block, 0) | bit
        self._num_held[worker] = len(after)
        self._extra_copies[worker] = _copies_beyond_first(hashes) if len(after) < len(hashes) else {}
        self._synchronised[worker] = after

    def longest_prefixes(self, hashes: Sequence[Hashable]) -> list[int]:
        """Return for each worker how many of these hashes it holds from the first on without a gap."""
        alive = (1 << self.num_workers) - 1
        matched = [0] * self.num_workers
        for depth, mask in enumerate(map(self._masks.get, hashes)):
            still_alive = alive & mask if mask is not None else 0
            if still_alive != alive:
                _record(matched, alive ^ still_alive, depth)
                alive = still_alive
                if not alive:
                    return matched
        _record(matched, alive, len(hashes))
        return matched

    def check_integrity(self) -> None:
        """Assert that all that is kept agrees with itself; takes time in proportion to the index."""
        everyone = 1 << self.num_workers
        assert all(0 < mask < everyone for mask in self._masks.values())
        for worker in range(self.num_workers):
            held = self._search(worker)
            assert self._num_held[worker] == len(held)
            assert self._synchronised[worker] in (None, held)
            for block, copies in self._extra_copies[worker].items():
                assert copies > 0
                assert block in held

    def _held_by(self, worker: int) -> set[Hashable]:
        synchronised = self._synchronised[worker]
        return self._search(worker) if synchronised is None else synchronised

    def _search(self, worker: int) -> set[Hashable]:
        bit = 1 << worker
        return {block for block, mask in self._masks.items() if mask & bit}


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
    while workers:
        lowest = workers & -workers
        matched[lowest.bit_length() - 1] = depth
        workers ^= lowest
