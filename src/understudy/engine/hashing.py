"""Block hashes exactly as vLLM 0.33 computes them: chained, salted, with all four of its algorithms.

hash(block i) = H((hash of block i-1, token ids of block i, extra keys or None)), and the chain starts from
NONE_HASH = H(seed string). The seed is `PYTHONHASHSEED` where a process sets it, else `vllm-none-hash`; it is
an argument here, because the core reads no environment.
(vllm/v1/core/kv_cache_utils.py and vllm/utils/hashing.py, 0.33.0)
"""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.engine.config import HashAlgorithm
from understudy.engine.hash_chain import BlockHash, HashChain
from understudy.errors import UsageError

ExtraKeys = tuple[tuple[object, ...], ...]

DEFAULT_HASH_SEED = "vllm-none-hash"

_PICKLE_PROTOCOL = 5  # the highest of every Python that vLLM 0.33 supports
_EVENT_HASH_BYTES = 8
_EVENT_HASH_MASK = (1 << 8 * _EVENT_HASH_BYTES) - 1


@dataclass(frozen=True, slots=True)
class LoRA:
    """The adapter of a request; its path counts, so re-pointing a name invalidates its blocks."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class MultiModalItem:
    """An image, audio or video in the prompt: its identity and the placeholder tokens that it takes."""

    identifier: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """What besides its tokens decides whether a block can be shared. Items are sorted by offset."""

    lora: LoRA | None = None
    items: tuple[MultiModalItem, ...] = ()
    salt: str | None = None

    def extra_keys(self, start: int, end: int) -> ExtraKeys | None:
        """Return the extra keys of the block that holds tokens `start` to `end` (exclusive), None if there are none."""
        if not (self.items or self.salt or self.lora):
            return None
        keys: list[tuple[object, ...]] = []
        if self.lora is not None:
            keys.append(("lora", self.lora.name, self.lora.path))
        keys.extend(
            ("mm", item.identifier, item.offset - start)
            for item in self.items
            if item.offset < end and start < item.offset + item.length
        )
        if self.salt and start == 0:
            keys.append(("cache_salt", self.salt))
        return tuple(keys) or None


def hash_function(algorithm: HashAlgorithm) -> Callable[[object], bytes]:
    """Return vLLM's function of that name; raises UsageError where an optional package is missing."""
    serialise = _cbor_dumps() if algorithm.endswith("_cbor") else _pickle_dumps
    digest = _xxh3_128_digest() if algorithm.startswith("xxhash") else _sha256_digest
    return lambda value: digest(serialise(value))


def _pickle_dumps(value: object) -> bytes:
    return pickle.dumps(value, protocol=_PICKLE_PROTOCOL)


def _sha256_digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _cbor_dumps() -> Callable[[object], bytes]:
    try:
        import cbor2  # noqa: PLC0415 - an extra, needed for two of the four algorithms only
    except ImportError as error:
        raise UsageError(
            "the *_cbor hash algorithms need the cbor2 package: pip install 'understudy[hash]'"
        ) from error

    def dumps(value: object) -> bytes:
        return cbor2.dumps(value, canonical=True)

    return dumps


def _xxh3_128_digest() -> Callable[[bytes], bytes]:
    try:
        import xxhash  # noqa: PLC0415 - an extra, needed for two of the four algorithms only
    except ImportError as error:
        raise UsageError(
            "the xxhash* hash algorithms need the xxhash package: pip install 'understudy[hash]'"
        ) from error
    digest: Callable[[bytes], bytes] = xxhash.xxh3_128_digest
    return digest


class BlockHasher:
    """Hashes the full blocks of token sequences under one algorithm, block size and seed."""

    def __init__(self, algorithm: HashAlgorithm, block_size: int, seed: str = DEFAULT_HASH_SEED) -> None:
        self.block_size = block_size
        self._hash = hash_function(algorithm)
        self.none_hash = self._hash(seed)

    def hash_block(
        self, parent: BlockHash | None, token_ids: Sequence[int], extra_keys: ExtraKeys | None
    ) -> bytes:
        """Return the hash of one full block; `parent` None means that it is the first."""
        return self._hash((parent or self.none_hash, tuple(token_ids), extra_keys))

    def extend(self, hashes: HashChain, token_ids: Sequence[int], identity: CacheIdentity) -> None:
        """Append to `hashes` those of all full blocks of `token_ids` that it does not hold yet."""
        size = self.block_size
        parent = hashes[-1] if hashes else None
        for start in range(len(hashes) * size, len(token_ids) - size + 1, size):
            parent = self.hash_block(
                parent, token_ids[start : start + size], identity.extra_keys(start, start + size)
            )
            hashes.append(parent)


def event_hash(block_hash: BlockHash) -> int:
    """Return the unsigned 64-bit integer that KV events carry: the last eight bytes, big-endian."""
    if isinstance(block_hash, int):
        return block_hash & _EVENT_HASH_MASK
    return int.from_bytes(block_hash[-_EVENT_HASH_BYTES:], "big")
