"""Many decode steps at once, with exactly the effect of as many single ones.

While every running request decodes, none finishes, none is admitted and nothing is preempted, one schedule is like
the next: each request computes one token, takes a block when it enters one and caches a block when it has filled it.
So the steps need not be taken one by one; only the blocks must be taken and cached in the order of single steps.

Why a blocked queue stays blocked: its head needs ceil(tokens / block size) blocks less those of its cached prefix
that somebody references. In a stretch free blocks only become fewer, and each eviction that could reveal a referenced
copy of a block takes a free one. New cached blocks could lengthen the prefix, so where the running requests' tokens are
known, and might be the head's own, the queue must be empty or the batch full.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from understudy.engine.scheduler import Sampler, Scheduler, StepPlan


def max_stretch(scheduler: Scheduler) -> int:
    """Return how many of the next schedules must be alike as far as requests go; less than 2 means none.

    Called where a schedule is due, with `pipeline_depth - 1` steps in flight.
    """
    running, config = scheduler.running, scheduler.config
    if not running or len(running) > config.token_budget or config.prefill_schedule_interval > 1:
        return 0
    in_flight = config.pipeline_depth - 1
    limit = config.max_model_len
    # The last admitted are the likeliest to be in prefill still.
    for request in reversed(running):
        if (
            request.num_in_flight_tokens != in_flight
            or request.num_output_placeholders != in_flight
            or request.num_tokens + in_flight - request.num_computed_tokens != 1
            or request.num_computed_tokens < request.prefill_end
            or request.num_tokens == request.num_prompt_tokens
            or not request.stops_by_length_only
        ):
            return 0
        limit = min(limit, request.end_tokens - request.num_tokens - in_flight)
    if len(scheduler.waiting) and not _stays_blocked(scheduler):
        return 0
    return limit


def _stays_blocked(scheduler: Scheduler) -> bool:
    running, config = scheduler.running, scheduler.config
    if len(running) >= config.active_seqs_limit:
        return True
    if not config.scheduler_reserve_full_isl:
        return False
    if scheduler.hasher is not None and any(
        len(request.token_ids) == request.num_tokens for request in running
    ):
        return False
    return scheduler.head_is_blocked(config.token_budget - len(running))


class DecodeStretch:
    """A stretch of at most `count` steps that the cache has room for; `apply` takes them."""

    def __init__(self, scheduler: Scheduler, count: int) -> None:
        self._scheduler = scheduler
        size = scheduler.config.block_size
        # (step, position in the batch) of each block taken: the step whose token is the first of a block.
        taken = [
            (step, index)
            for index, request in enumerate(scheduler.running)
            for step in range(-request.num_computed_tokens % size, count, size)
        ]
        taken.sort()
        room = scheduler.kv_cache.pool.num_free_blocks
        if len(taken) > room:
            count = taken[room][0]
            taken = [entry for entry in taken[:room] if entry[0] < count]
        self.count = count
        self._taken = taken

    def apply(self, sample: Sampler) -> Iterator[tuple[int, int]]:
        """Take the steps: `count` schedules, and the completion of all of them but those left in flight.

        Yields the number of each step that took or cached a block, just after it did, with the number of blocks
        used then; must be run to the end.
        """
        scheduler, count = self._scheduler, self.count
        for request in scheduler.running:
            token_ids = sample(request, count - 1) if request.needs_tokens else None
            request.append_output(token_ids, count - 1)
            if scheduler.hasher is not None:
                request.hash_full_blocks(scheduler.hasher)
        if scheduler.kv_cache.records_events or any(request.token_ids for request in scheduler.running):
            yield from self._change_blocks_in_order()
        else:
            yield from self._change_blocks_at_once()
        for request in scheduler.running:
            request.num_computed_tokens += count
            request.num_in_flight_tokens += 1
            if scheduler.config.async_scheduling:
                request.num_output_placeholders += 1
        scheduler.count_steps(count)

    def _change_blocks_in_order(self) -> Iterator[tuple[int, int]]:
        kv_cache = self._scheduler.kv_cache
        for step, changes in groupby(self._block_changes(), key=itemgetter(0)):
            for _, index, is_filled in changes:
                request = self._scheduler.running[index]
                if is_filled:
                    kv_cache.cache_computed(request, request.num_computed_tokens + step + self._cache_lead)
                else:
                    kv_cache.take_blocks(request, 1)
            yield step, kv_cache.pool.num_used_blocks

    def _change_blocks_at_once(self) -> Iterator[tuple[int, int]]:
        """Take and cache blocks where the order cannot matter.

        Nobody hears of events, and blocks of tokens that nobody knows equal no other, so that what is cached has no
        bearing on what is evicted.
        """
        kv_cache, running = self._scheduler.kv_cache, self._scheduler.running
        used_blocks = kv_cache.pool.num_used_blocks
        for index, count in Counter(index for _, index in self._taken).items():
            kv_cache.take_blocks(running[index], count)
        for request in running:
            kv_cache.cache_computed(request, request.num_computed_tokens + self.count - 1 + self._cache_lead)
        for step, count in Counter(step for step, _ in self._taken).items():
            used_blocks += count
            yield step, used_blocks

    @property
    def _cache_lead(self) -> int:
        """How much sooner than it takes the next block a request caches the one before.

        A block is cached by the first schedule that sees all of its tokens sampled. With a step in flight that is
        the schedule that takes the next block, just after it does; without one, the schedule before.
        """
        return 0 if self._scheduler.config.async_scheduling else 1

    def _block_changes(self) -> list[tuple[int, int, bool]]:
        """Return (step, position in the batch, False for taken or True for filled) in the order of single steps."""
        changes = [(step, index, False) for step, index in self._taken]
        if self._scheduler.hasher is None:
            return changes
        size, lead = self._scheduler.config.block_size, self._cache_lead
        for index, request in enumerate(self._scheduler.running):
            first = (-request.num_computed_tokens - lead) % size
            changes.extend((step, index, True) for step in range(first, self.count, size))
        changes.sort()
        return changes

    def plan(self) -> StepPlan:
        """Return the plan that each of the steps has."""
        return StepPlan(dict.fromkeys(self._scheduler.running, 1))
