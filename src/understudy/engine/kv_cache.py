"""KVCacheManager: how long is the cached prefix, can this request have room for n more tokens, take it all back.

Callers never see a block: what the pool looks like inside is nobody's business but this file's and the pool's.
(vllm/v1/core/kv_cache_manager.py, 0.33.0, for one group of full-attention layers)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.engine.block_pool import BlockPool, PiecePart
from understudy.engine.config import EngineConfig
from understudy.engine.events import BlockStored, KVCacheEvent
from understudy.engine.hashing import BlockHasher
from understudy.engine.request import Request, RequestStatus


@dataclass(slots=True)
class PrefixCacheStats:
    """Counted at each admission, in tokens; admissions after a preemption are kept apart, as in vLLM."""

    requests: int = 0
    queries: int = 0
    hits: int = 0
    preempted_requests: int = 0
    preempted_queries: int = 0
    preempted_hits: int = 0


class CachedPrefix:
    """A prefix found in the cache. Good until the cache changes; only KVCacheManager looks inside."""

    __slots__ = ("num_blocks", "num_tokens", "parts")

    def __init__(self, parts: Sequence[PiecePart], block_size: int) -> None:
        self.parts = parts
        self.num_blocks = sum(end - start for _, start, end in parts)
        self.num_tokens = self.num_blocks * block_size


class KVCacheManager:
    """The KV cache of one engine. `hasher` is None exactly when prefix caching is off."""

    def __init__(
        self, config: EngineConfig, hasher: BlockHasher | None, *, record_events: bool = False
    ) -> None:
        self.pool = BlockPool(config.num_gpu_blocks)
        self.stats = PrefixCacheStats()
        self._hasher = hasher
        self._block_size = config.block_size
        self._max_model_len = config.max_model_len
        self._watermark_blocks = int(config.watermark * config.num_gpu_blocks)
        self._reserve_full_prompt = config.scheduler_reserve_full_isl
        self._nothing = CachedPrefix((), config.block_size)
        if record_events:
            self.record_events()

    @property
    def records_events(self) -> bool:
        """Whether events are recorded."""
        return self.pool.events is not None

    def record_events(self) -> None:
        """Record events from now on."""
        self.pool.events = []

    def cached_prefix(self, request: Request) -> CachedPrefix:
        """Find the longest cached prefix; it ends before the last token, which must be computed to sample the next."""
        if not self.looks_up(request):
            return self._nothing
        limit = (request.num_tokens - 1) // self._block_size
        return CachedPrefix(self.pool.cached_prefix(request.block_hashes, limit), self._block_size)

    def looks_up(self, request: Request) -> bool:
        """Whether the request reads the prefix cache at all."""
        return self._hasher is not None and not request.skip_reading_prefix_cache

    def admit(
        self, request: Request, prefix: CachedPrefix, num_new_tokens: int, *, others_running: bool
    ) -> bool:
        """Give a waiting request its cached prefix and room for `num_new_tokens` more; False changes nothing.

        With `scheduler_reserve_full_isl` there must be room for all its tokens, though only those of this step
        are taken. Hit blocks that nobody references count as taken from the free ones.
        """
        if not self.has_room(request, prefix, num_new_tokens, others_running=others_running):
            return False
        pool = self.pool
        end = min(prefix.num_tokens + num_new_tokens, self._max_model_len)
        request.held = pool.touch(prefix.parts)
        request.num_blocks = -(-end // self._block_size)
        request.num_cached_blocks = prefix.num_blocks
        pool.allocate(request.num_blocks - prefix.num_blocks)
        self._cache_full_blocks(request, min(prefix.num_tokens + num_new_tokens, request.num_tokens))
        return True

    def has_room(
        self, request: Request, prefix: CachedPrefix, num_new_tokens: int, *, others_running: bool
    ) -> bool:
        """Whether `admit` would succeed."""
        headroom = self._watermark_blocks if others_running else 0
        taken = headroom + self.pool.num_evictable(prefix.parts) - prefix.num_blocks
        length = prefix.num_tokens + num_new_tokens
        if self._reserve_full_prompt:
            length = max(length, request.num_tokens)
        needed = -(-min(length, self._max_model_len) // self._block_size)
        return taken + needed <= self.pool.num_free_blocks

    def extend(self, request: Request, num_new_tokens: int) -> bool:
        """Give a running request room for `num_new_tokens` more and cache the blocks that they fill; False changes nothing."""
        length = request.num_computed_tokens + num_new_tokens
        if length > request.num_blocks * self._block_size:
            missing = -(-min(length, self._max_model_len) // self._block_size) - request.num_blocks
            if missing > self.pool.num_free_blocks:
                return False
            self.pool.allocate(missing)
            request.num_blocks += missing
        if length >= (request.num_cached_blocks + 1) * self._block_size:
            self._cache_full_blocks(request, min(length, request.num_tokens))
        return True

    def cache_computed(self, request: Request, num_computed_tokens: int) -> None:
        """Cache the full blocks among the first `num_computed_tokens`."""
        self._cache_full_blocks(request, num_computed_tokens)

    def free(self, request: Request) -> None:
        """Take back all blocks of a request; those with a hash stay cached until they are needed."""
        self.pool.free(request.held, request.num_blocks - request.num_cached_blocks)
        request.num_blocks = request.num_cached_blocks = 0
        request.held = []

    def record_admission(self, request: Request, prefix: CachedPrefix) -> None:
        """Count the lookup of a request that was admitted, if it made one."""
        if not self.looks_up(request):
            return
        stats = self.stats
        if request.status is RequestStatus.PREEMPTED:
            stats.preempted_requests += 1
            stats.preempted_queries += request.num_tokens
            stats.preempted_hits += prefix.num_tokens
        else:
            stats.requests += 1
            stats.queries += request.num_tokens
            stats.hits += prefix.num_tokens

    def reset(self) -> bool:
        """Forget the cache; False, and nothing changes, while any request holds blocks."""
        return self.pool.reset()

    def take_events(self) -> list[KVCacheEvent]:
        """Return and forget the events since the last call."""
        events = self.pool.events
        if not events:
            return []
        self.pool.events = []
        return events

    def check_integrity(self, requests: Sequence[Request]) -> None:
        """Assert that the pool is sound and that `requests` hold exactly the references that it counts."""
        num_blank = sum(request.num_blocks - request.num_cached_blocks for request in requests)
        self.pool.check_integrity([request.held for request in requests], num_blank)

    def _cache_full_blocks(self, request: Request, num_tokens: int) -> None:
        first, end = request.num_cached_blocks, num_tokens // self._block_size
        if end <= first or self._hasher is None:
            return
        self.pool.cache(request.block_hashes, first, end, request.held)
        request.num_cached_blocks = end
        if self.pool.events is not None:
            self.pool.events.append(self._stored(request, first, end))

    def _stored(self, request: Request, first: int, end: int) -> BlockStored:
        size = self._block_size
        return BlockStored(
            block_hashes=tuple(request.block_hashes[first:end]),
            parent_block_hash=request.block_hashes[first - 1] if first else None,
            token_ids=tuple(request.token_ids[first * size : end * size]),
            block_size=size,
            extra_keys=tuple(
                request.identity.extra_keys(i * size, (i + 1) * size) for i in range(first, end)
            ),
        )
