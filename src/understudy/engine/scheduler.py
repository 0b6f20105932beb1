"""The scheduler: which request computes how many tokens in this step, and what becomes of the tokens sampled.

`schedule()` decides a step and returns a StepPlan; `complete(plan, sampled)` takes the step's tokens. With
asynchronous scheduling a second step is scheduled before the first one is completed: tokens in flight are
counted as placeholders. The decisions are those of vllm/v1/core/sched/scheduler.py and async_scheduler.py,
0.33.0, for text models with full attention; each method names the rule that it follows.
"""

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Literal

from understudy.engine.config import EngineConfig
from understudy.engine.decode_group import DecodeGroup, in_order_of_admission
from understudy.engine.events import KVCacheEvent
from understudy.engine.hashing import DEFAULT_HASH_SEED, BlockHasher
from understudy.engine.kv_cache import CachedPrefix, KVCacheManager
from understudy.engine.request import Request, RequestStatus
from understudy.engine.request_queue import request_queue
from understudy.engine.step_plan import Admission, Sampler, StepPlan

PauseScope = Literal["none", "new", "all"]
"""Whom a paused scheduler leaves alone: nobody, requests that wait for admission, or those that run too."""


class Scheduler:
    """Decides steps for the requests of one engine. `pause` may be set at any time."""

    def __init__(
        self, config: EngineConfig, *, hash_seed: str = DEFAULT_HASH_SEED, record_events: bool = False
    ) -> None:
        self.config = config
        self.hasher = (
            BlockHasher(config.prefix_caching_hash_algo, config.block_size, hash_seed)
            if config.enable_prefix_caching
            else None
        )
        self.kv_cache = KVCacheManager(config, self.hasher, record_events=record_events)
        self.requests: dict[str, Request] = {}
        self.running: list[Request] = []
        self.waiting = request_queue(config.scheduling_policy)
        self.num_preemptions = 0
        self.pause: PauseScope = "none"
        self._num_admissions = 0
        self._num_executed_steps = 0
        self._last_prefill_step = -config.prefill_schedule_interval
        self._prefill_is_capacity_bound = False
        self._preempted_by_reset: list[Request] = []

    # -- requests come and go ------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Take a new request; its id must not be in use."""
        assert request.request_id not in self.requests, f"request id {request.request_id!r} is in use"
        if self.hasher is not None:
            request.hash_full_blocks(self.hasher)
        request.end_tokens = min(request.num_prompt_tokens + request.max_tokens, self.config.max_model_len)
        self.requests[request.request_id] = request
        self.waiting.add(request)

    def abort(self, request_ids: Iterable[str]) -> list[Request]:
        """End requests at once; ids that are unknown or have finished are ignored. Returns those that ended."""
        known = [request_id for request_id in dict.fromkeys(request_ids) if request_id in self.requests]
        aborted = [self.requests[request_id] for request_id in known]
        self._remove_from_queues(aborted)
        for request in aborted:
            request.status = RequestStatus.FINISHED_ABORTED
            self._release(request)
        return aborted

    def reset_prefix_cache(self, *, reset_running_requests: bool = False) -> bool:
        """Forget the prefix cache; False while requests hold blocks, unless they are to be preempted first.

        A running request that is preempted this way loses the token that it has in flight.
        """
        if reset_running_requests:
            while self.running:
                request = self.running.pop()
                self._preempt(request, drop_output=True)
                self._preempted_by_reset.append(request)
        return self.kv_cache.reset()

    @property
    def has_requests(self) -> bool:
        """Whether any request has not finished."""
        return bool(self.requests)

    def take_events(self) -> list[KVCacheEvent]:
        """Return the KV-cache events since the last call; vLLM publishes them when a step is completed."""
        return self.kv_cache.take_events()

    # -- deciding a step -----------------------------------------------------------------------------------

    def schedule(self, group: DecodeGroup | None = None) -> StepPlan:
        """Decide the next step: running requests first, then admissions, within one budget of tokens.

        Members of `group` get a token each; then there must be room for all that runs, see `can_group`.
        """
        plan = StepPlan()
        if self.pause == "all":
            self._tell_preempted_by_reset(plan)
            return plan
        cap = self._prefill_cap()
        defers_prefill = self._defers_prefill()
        if group:
            budget, ran_prefill = self._schedule_grouped(group, plan, cap, defers_prefill=defers_prefill)
        else:
            budget, ran_prefill = self._schedule_running(plan, cap, defers_prefill=defers_prefill)
        admitted_prefill = False
        if not plan.preempted:
            if self.pause == "none":
                admitted_prefill = self._schedule_waiting(plan, budget, cap, defers_prefill=defers_prefill)
            if not defers_prefill:
                self._prefill_is_capacity_bound = len(self.waiting) > 0
        if not plan.is_empty:
            self._num_executed_steps += 1
        if ran_prefill or admitted_prefill:
            self._last_prefill_step = self._num_executed_steps
        # Told only now: no preemption by this step, so it kept nobody from being admitted.
        self._tell_preempted_by_reset(plan)
        self._advance(plan)
        return plan

    def _tell_preempted_by_reset(self, plan: StepPlan) -> None:
        plan.preempted += self._preempted_by_reset
        self._preempted_by_reset = []

    def _prefill_cap(self) -> int:
        """Return the most tokens that one request may compute in this step.

        `long_prefill_token_threshold` protects others from a long prompt; a request that is alone has none.
        """
        config = self.config
        cap = config.long_prefill_token_threshold
        num_requests = len(self.running) + len(self.waiting)
        if cap == 0 or num_requests <= 1:
            return config.max_model_len
        if config.long_prefill_token_threshold_adaptive:
            cap = max(cap, config.max_num_batched_tokens // num_requests)
        return cap

    def _defers_prefill(self) -> bool:
        """Whether `prefill_schedule_interval` keeps this step free for decoding."""
        interval = self.config.prefill_schedule_interval
        return (
            interval > 1
            and not self._prefill_is_capacity_bound
            and self._num_executed_steps + 1 - self._last_prefill_step < interval
            and any(not request.is_prefill_chunk for request in self.running)
        )

    def _schedule_running(self, plan: StepPlan, cap: int, *, defers_prefill: bool) -> tuple[int, bool]:
        """Plan the running requests in order; return what is left of the budget, and whether any was in prefill."""
        running, scheduled, extend = self.running, plan.scheduled, self.kv_cache.extend
        budget = self.config.token_budget
        ran_prefill = False
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            index += 1
            num_new = self._tokens_due(request, cap, budget, defers_prefill=defers_prefill)
            if num_new == 0:
                continue
            while not extend(request, num_new):
                victim = self._choose_victim()
                if victim in scheduled:
                    budget += scheduled.pop(victim)
                if running.index(victim) < index:
                    index -= 1
                running.remove(victim)
                self._preempt(victim)
                plan.preempted.append(victim)
                if victim is request:
                    break
            if request.status is RequestStatus.PREEMPTED:
                continue
            scheduled[request] = num_new
            if request.is_prefill_chunk:
                ran_prefill = True
            budget -= num_new
        return budget, ran_prefill

    def _schedule_grouped(
        self, group: DecodeGroup, plan: StepPlan, cap: int, *, defers_prefill: bool
    ) -> tuple[int, bool]:
        """Do as `_schedule_running` where nothing is preempted, without a look at members that need nothing."""
        budget = self.config.token_budget - len(group)
        plan.num_grouped = len(group)
        ran_prefill = False
        members = group.members
        others = [request for request in self.running if request not in members]
        for request in sorted([*group.waking(), *others], key=in_order_of_admission):
            if request in members:
                group.wake(request)
                continue
            num_new = self._tokens_due(request, cap, budget, defers_prefill=defers_prefill)
            if num_new == 0:
                continue
            has_room = self.kv_cache.extend(request, num_new)
            assert has_room, "the caller checks for room"
            plan.scheduled[request] = num_new
            ran_prefill |= request.is_prefill_chunk
            budget -= num_new
        return budget, ran_prefill

    def can_group(self, group: DecodeGroup) -> bool:
        """Whether the next step finds room, without preemption, for the members and for all others that run."""
        num_others = len(self.running) - len(group)
        if len(self.running) > self.config.token_budget:
            return False
        needed = group.num_takers + num_others
        if num_others:
            budget = self.config.token_budget - len(group)
            cap = self._prefill_cap()
            for request in islice(reversed(self.running), num_others):
                needed += (
                    self._tokens_due(request, cap, budget, defers_prefill=False) // self.config.block_size
                )
        return needed <= self.kv_cache.pool.num_free_blocks

    def stays_as_it_is(self) -> bool:
        """Whether no waiting request can be admitted for as long as all that runs does nothing but decode.

        A blocked head needs ceil(tokens / block size) blocks less those of its cached prefix that somebody
        references. While others decode, free blocks only become fewer, and each eviction that could reveal a referenced
        copy of a block takes a free one. New cached blocks could lengthen the prefix, so where the running requests'
        tokens are known, and might be the head's own, the queue must be empty or the batch full.
        """
        running, config = self.running, self.config
        if config.prefill_schedule_interval > 1:
            return False
        if not len(self.waiting) or len(running) >= config.active_seqs_limit:
            return True
        if not config.scheduler_reserve_full_isl:
            return False
        if self.hasher is not None and any(request.token_ids for request in running):
            return False
        return self._head_is_blocked(config.token_budget - len(running))

    def _tokens_due(self, request: Request, cap: int, budget: int, *, defers_prefill: bool) -> int:
        """Return how many tokens a running request would compute in this step."""
        placeholders = request.num_output_placeholders
        if placeholders and self._last_token_is_in_flight(request):
            return 0
        if defers_prefill and request.is_prefill_chunk:
            return 0
        num_computed = request.num_computed_tokens
        num_new = min(request.num_tokens + placeholders - num_computed, cap, budget)
        return max(min(num_new, self.config.max_model_len - num_computed - 1), 0)

    @staticmethod
    def _last_token_is_in_flight(request: Request) -> bool:
        """Whether a step in flight will reach `max_tokens`, so that another would be wasted."""
        placeholders = request.num_output_placeholders
        return (
            request.num_computed_tokens + 2 - placeholders >= request.num_prompt_tokens + request.max_tokens
        )

    def _choose_victim(self) -> Request:
        """Return the request to preempt: the last admitted, or the least urgent and of those the youngest."""
        if self.config.scheduling_policy == "priority":
            return max(self.running, key=lambda request: (request.priority, request.arrival_time))
        return self.running[-1]

    def _schedule_waiting(self, plan: StepPlan, budget: int, cap: int, *, defers_prefill: bool) -> bool:
        """Admit waiting requests strictly in order of service; return whether any has more than one token to compute."""
        waiting, running = self.waiting, self.running
        admitted_prefill = False
        while budget > 0 and waiting and len(running) < self.config.active_seqs_limit:
            request = waiting.peek()
            prefix = self.kv_cache.cached_prefix(request)
            num_missing = request.num_tokens - prefix.num_tokens
            if defers_prefill and num_missing > 1:
                break
            num_new = self._admissible_tokens(num_missing, budget, cap)
            if num_new == 0 or not self.kv_cache.admit(
                request, prefix, num_new, others_running=bool(running)
            ):
                break
            waiting.pop()
            self._admit(request, prefix, plan)
            plan.scheduled[request] = num_new
            admitted_prefill |= num_missing > 1
            budget -= num_new
        return admitted_prefill

    def _head_is_blocked(self, budget: int) -> bool:
        """Whether the next waiting request cannot be admitted with `budget` tokens left; changes nothing."""
        request = self.waiting.peek()
        prefix = self.kv_cache.cached_prefix(request)
        num_new = self._admissible_tokens(request.num_tokens - prefix.num_tokens, budget, self._prefill_cap())
        return num_new == 0 or not self.kv_cache.has_room(
            request, prefix, num_new, others_running=bool(self.running)
        )

    def count_steps(self, count: int) -> None:
        """Count steps that were taken many at once."""
        self._num_executed_steps += count
        self._prefill_is_capacity_bound = len(self.waiting) > 0

    def _admissible_tokens(self, num_missing: int, budget: int, cap: int) -> int:
        """Return how many of the missing tokens a waiting request would compute in this step, 0 if it must wait."""
        num_new = min(num_missing, cap)
        if num_new > budget and not self.config.enable_chunked_prefill:
            return 0
        return min(num_new, budget)

    def _admit(self, request: Request, prefix: CachedPrefix, plan: StepPlan) -> None:
        assert request.num_stale_output_tokens == 0 or request.drop_stale_output, "stale output drains before"
        self.kv_cache.record_admission(request, prefix)
        admission = Admission(request, prefix.num_tokens)
        if request.status is RequestStatus.PREEMPTED:
            plan.resumed.append(admission)
        else:
            plan.new.append(admission)
            request.num_cached_tokens = prefix.num_tokens
        request.status = RequestStatus.RUNNING
        request.num_computed_tokens = prefix.num_tokens
        request.prefill_start = prefix.num_tokens
        request.prefill_end = request.num_tokens
        request.admission = self._num_admissions
        self._num_admissions += 1
        self.running.append(request)

    def _advance(self, plan: StepPlan) -> None:
        """Count the planned tokens as computed, so that the next step can be scheduled before this one runs."""
        awaits_output = self.config.async_scheduling
        for request, num_new in plan.scheduled.items():
            request.num_computed_tokens += num_new
            request.num_in_flight_tokens += num_new
            request.is_prefill_chunk = (
                request.num_computed_tokens < request.num_tokens + request.num_output_placeholders
            )
            if request.is_prefill_chunk:
                plan.mid_prefill.add(request)
            elif awaits_output:
                request.num_output_placeholders += 1

    def _preempt(self, request: Request, *, drop_output: bool = False) -> None:
        """Take back a running request's blocks; it will recompute. A token in flight is still delivered, unless dropped."""
        self.kv_cache.free(request)
        request.status = RequestStatus.PREEMPTED
        request.num_computed_tokens = 0
        request.drop_stale_output = drop_output or (
            request.drop_stale_output and request.num_stale_output_tokens > 0
        )
        request.num_stale_output_tokens = request.num_in_flight_tokens
        request.num_output_placeholders = 0
        request.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.prepend(request)

    # -- completing a step ---------------------------------------------------------------------------------

    def complete(self, plan: StepPlan, sample: Sampler) -> list[Request]:
        """Take the tokens of a step that has run; finished requests give back their blocks at once.

        Returns the requests that got a token, in batch order; the status of some may say that they have finished.
        """
        outputs: list[Request] = []
        finished: list[Request] = []
        mid_prefill, hasher, block_size = plan.mid_prefill, self.hasher, self.config.block_size
        for request, num_new in plan.scheduled.items():
            request.num_in_flight_tokens -= num_new
            is_stale = request.num_stale_output_tokens > 0
            if is_stale:
                request.num_stale_output_tokens -= num_new
            if request in mid_prefill or (is_stale and request.drop_stale_output):
                continue
            if request.status is not RequestStatus.RUNNING and request.status.is_finished:
                continue
            token_ids = None
            if request.needs_tokens:
                token_ids = sample(request, 1)
            request.append_output(token_ids, 1)
            if hasher is not None and request.num_tokens % block_size == 0:
                request.hash_full_blocks(hasher)
            if request.num_output_placeholders and not is_stale:
                # The schedule could not cache a block whose last token was not known yet.
                request.num_output_placeholders -= 1
                computed = request.num_computed_tokens - request.num_in_flight_tokens
                if computed // block_size > request.num_cached_blocks:
                    self.kv_cache.cache_computed(request, computed)
            outputs.append(request)
            # vLLM's order: end of sequence, stop tokens, length.
            if token_ids is not None and request.stops_at(token_ids[0]):
                request.status = RequestStatus.FINISHED_STOPPED
            elif request.num_tokens >= request.end_tokens:
                request.status = RequestStatus.FINISHED_LENGTH_CAPPED
            else:
                continue
            self._release(request)
            finished.append(request)
        if finished:
            self._remove_from_queues(finished)
        return outputs

    def _release(self, request: Request) -> None:
        """Take back the blocks of a request that has finished."""
        self.kv_cache.free(request)
        del self.requests[request.request_id]

    def _remove_from_queues(self, requests: Collection[Request]) -> None:
        gone = set(requests)
        num_running = len(self.running)
        self.running = [request for request in self.running if request not in gone]
        if num_running - len(self.running) < len(gone):
            self.waiting.remove(gone)

    def check_integrity(self) -> None:
        """Assert that no request is lost or in two places, and that blocks and references add up."""
        waiting = list(self.waiting)
        assert len(self.running) + len(waiting) == len(self.requests), "every request is queued once"
        assert {*self.running, *waiting} == set(self.requests.values()), "no request is lost"
        assert all(request.status is RequestStatus.RUNNING for request in self.running)
        assert all(not request.num_blocks for request in waiting), "a waiting request holds no blocks"
        assert len(self.running) <= self.config.active_seqs_limit
        self.kv_cache.check_integrity(self.running)
