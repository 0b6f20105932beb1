"""Many decode steps at once, with exactly the effect of as many single ones.

While every running request decodes, none finishes, none is admitted and nothing is preempted, one schedule is like
the next: each request computes one token, takes a block when it enters one and caches a block when it has filled it.
So the steps need not be taken one by one; only the blocks must be taken and cached in the order of single steps.

Why a blocked queue stays blocked: its head needs ceil(tokens / block size) blocks less those of its cached prefix
that somebody references. In a stretch free blocks only become fewer, and each eviction that could reveal a referenced
copy of a block takes a free one. New cached blocks could lengthen the prefix, so where the running requests' tokens are
known, and might be the head's own, the queue must be empty or the batch full.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from understudy.engine.request import Request
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
    for request in running:
        if (
            request.num_in_flight_tokens != in_flight
            or request.num_output_placeholders != in_flight
            or request.num_tokens + in_flight - request.num_computed_tokens != 1
            or request.num_computed_tokens < request.prefill_end
            or request.num_tokens == request.num_prompt_tokens
            or not request.stops_by_length_only
        ):
            return 0
        limit = min(limit, _tokens_to_come(request, config.max_model_len) - in_flight)
    if len(scheduler.waiting) and not _stays_blocked(scheduler):
        return 0
    return limit


def _tokens_to_come(request: Request, max_model_len: int) -> int:
    return min(request.num_prompt_tokens + request.max_tokens, max_model_len) - request.num_tokens


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

    def apply(self, sample: Sampler) -> Iterator[int]:
        """Take the steps: `count` schedules, and the completion of all of them but those left in flight.

        Yields the number of each step that took or cached a block, just after it did; must be run to the end.
        """
        scheduler, count = self._scheduler, self.count
        for request in scheduler.running:
            request.append_output(sample(request, count - 1), count - 1)
            if scheduler.hasher is not None:
                request.hash_full_blocks(scheduler.hasher)
        for step, changes in groupby(self._block_changes(), key=itemgetter(0)):
            for _, index, is_filled in changes:
                request = scheduler.running[index]
                if is_filled:
                    scheduler.kv_cache.cache_computed(
                        request, request.num_computed_tokens + step + self._cache_lead
                    )
                else:
                    scheduler.kv_cache.take_block(request)
            yield step
        for request in scheduler.running:
            request.num_computed_tokens += count
            request.num_in_flight_tokens += 1
            if scheduler.config.async_scheduling:
                request.num_output_placeholders += 1
        scheduler.count_steps(count)

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
