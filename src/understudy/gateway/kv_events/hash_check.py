"""Whether a worker hashes blocks as this router does, told from what it stores; and if not, what would have to change."""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from understudy.engine import BlockHasher, LoRA, event_hash
from understudy.engine.config import HASH_ALGORITHMS, HashAlgorithm
from understudy.engine.hashing import DEFAULT_HASH_SEED, ExtraKeys
from understudy.errors import UsageError
from understudy.wire.kv_blocks import BlockList
from understudy.wire.kv_event_reader import Stored


class Agreement(Enum):
    """What is known of a worker's hashes."""

    PENDING = "pending"
    AGREES = "agrees"
    DIFFERS = "differs"


class HashCheck:
    """Looks at blocks that begin a prompt until one of them tells; that decides until `reset`.

    `seed` is PYTHONHASHSEED of the workers' processes, None where they have none. `adapter` returns the adapter that
    workers serve under a name; blocks of one that is not known tell nothing.
    Raises UsageError where an algorithm needs a package that is missing.
    """

    def __init__(
        self,
        algorithm: HashAlgorithm,
        block_size: int,
        seed: str | None,
        adapter: Callable[[str], LoRA | None] = lambda _name: None,
    ) -> None:
        self.state = Agreement.PENDING
        self.sentence: str | None = None
        """Where hashes differ: what to change, in words that go on from "the worker"."""
        self._algorithm = algorithm
        self._seed = seed
        self._adapter = adapter
        self._hasher = BlockHasher(algorithm, block_size, _seed_or_default(seed))

    @property
    def is_pending(self) -> bool:
        """Whether nothing has told yet."""
        return self.state is Agreement.PENDING

    @property
    def differs(self) -> bool:
        """Whether the worker's blocks cannot be found by this router's hashes."""
        return self.state is Agreement.DIFFERS

    def reset(self) -> None:
        """Begin anew: the worker may have been started with other flags."""
        self.state = Agreement.PENDING
        self.sentence = None

    def look(self, event: Stored) -> None:
        """Compare the first block of an event, read with its tokens, if it begins a prompt."""
        size = event.block_size
        if not self.is_pending or event.parent is not None or not event.hashes or len(event.token_ids) < size:
            return
        if size != self._hasher.block_size:
            self._differ(_other_block_size(size))
            return
        if event.has_lookahead:
            self._differ("hashes blocks with tokens behind them, which a router cannot know")
            return
        try:
            keys = self._tagged_keys(event)
        except _UnknownKeyError:
            return
        token_ids, theirs = event.token_ids[:size], event.hashes[0]
        if _hash(self._hasher, token_ids, keys) == theirs:
            self.state = Agreement.AGREES
        else:
            self._differ(self._what_would_fit(token_ids, keys, theirs))

    def look_at_list(self, listed: BlockList) -> None:
        """Compare what a list of blocks says of them."""
        if listed.block_size != self._hasher.block_size:
            self._differ(_other_block_size(listed.block_size))
        elif listed.hash_algo != self._algorithm:
            self._differ(f"hashes blocks otherwise: --prefix-caching-hash-algo {listed.hash_algo} would fit")

    def _differ(self, sentence: str) -> None:
        self.state = Agreement.DIFFERS
        self.sentence = sentence

    def _what_would_fit(self, token_ids: Sequence[int], keys: ExtraKeys | None, theirs: int) -> str:
        for hasher, algorithm, seed in self._others():
            if _hash(hasher, token_ids, keys) == theirs:
                changes = []
                if algorithm != self._algorithm:
                    changes.append(f"--prefix-caching-hash-algo {algorithm}")
                if seed != self._seed:
                    changes.append("no --hash-seed")
                return f"hashes blocks otherwise: {' and '.join(changes)} would fit"
        return (
            "hashes blocks as no algorithm does: --hash-seed must be the PYTHONHASHSEED of its process, and xxhash is random "
            "without one"
        )

    def _others(self) -> Iterator[tuple[BlockHasher, HashAlgorithm, str | None]]:
        """Return the ways to hash that could be meant, those with the given seed first."""
        for seed in dict.fromkeys((self._seed, None)):
            for algorithm in HASH_ALGORITHMS:
                try:
                    hasher = BlockHasher(algorithm, self._hasher.block_size, _seed_or_default(seed))
                except UsageError:
                    continue
                yield hasher, algorithm, seed

    def _tagged_keys(self, event: Stored) -> ExtraKeys | None:
        """Return the extra keys of the first block with the tags that its hash has and events leave out."""
        keys: Sequence[Any] = event.extra_keys[0] or () if event.extra_keys else ()
        tagged: list[tuple[object, ...]] = []
        if event.lora_name is not None:
            adapter = self._adapter(event.lora_name)
            if adapter is None or not keys or keys[0] != adapter.name:
                raise _UnknownKeyError
            tagged.append(("lora", adapter.name, adapter.path))
            keys = keys[1:]
        for key in keys:
            match key:
                case [str() as identifier, int() as offset]:
                    tagged.append(("mm", identifier, offset))
                case bytes():
                    tagged.append(("prompt_embeds", key))
                case str():
                    tagged.append(("cache_salt", key))
                case _:
                    raise _UnknownKeyError
        return tuple(tagged) or None


class _UnknownKeyError(Exception):
    """The hash depends on what the event does not say, such as the path of an adapter, or on something new."""


def _other_block_size(size: int) -> str:
    return f"has blocks of {size} tokens: --block-size {size} would fit"


def _seed_or_default(seed: str | None) -> str:
    return DEFAULT_HASH_SEED if seed is None else seed


def _hash(hasher: BlockHasher, token_ids: Sequence[int], keys: ExtraKeys | None) -> int:
    return event_hash(hasher.hash_block(None, token_ids, keys))
