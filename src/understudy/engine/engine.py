"""Engine: a scheduler and a latency model make steps that take time. Whoever drives it decides what the time is.

The pipeline is vLLM's: a step is scheduled as soon as the one before it starts (asynchronous scheduling) or ends.
Requests and aborts are read from an inbox between steps only.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NamedTuple, Protocol

from understudy.engine.config import EngineConfig
from understudy.engine.decode_group import DecodeGroup
from understudy.engine.events import KVCacheEvent
from understudy.engine.hashing import DEFAULT_HASH_SEED
from understudy.engine.request import Request
from understudy.engine.scheduler import Scheduler
from understudy.engine.step_plan import Sampler, StepPlan
from understudy.latency import LatencyModel, PrefillChunk, StepShape


class EngineObserver(Protocol):
    """Who wants to know what happens inside; all times in nanoseconds."""

    def gauges(self, at_ns: int, used_blocks: int, running: int, waiting: int) -> None:
        """Take the state that holds from `at_ns` until the next call."""

    def inter_token(self, gap_ns: int, count: int) -> None:
        """Take the time between a token and the one before it, seen `count` times."""


class Gauges(NamedTuple):
    """The state of an engine at one moment: requests by their place, and the share of the KV cache in use, 0 to 1."""

    running: int
    waiting: int
    kv_usage: float


class StepResult(NamedTuple):
    """What one call of `Engine.step` did.

    `completed` is the state when the step that ended had been completed and nothing else had happened, which is what
    vLLM's metrics show; None where no step ended, or where `until_ns` was given. `outputs` are the requests that got a token from the step that ended (not those of steps taken many at once, where
    nobody's first or last token is), `events` the KV-cache events, each with its time. `next_ns` says when to call again, None when there is nothing to wait for.
    """

    outputs: list[Request]
    events: list[tuple[int, KVCacheEvent]]
    next_ns: int | None
    completed: Gauges | None


@dataclass(slots=True)
class _StepInFlight:
    plan: StepPlan
    end_ns: int


def unknown_tokens(_request: Request, _count: int) -> None:
    """Sample tokens that nobody knows: for traces that give lengths only."""


class Engine:
    """One vLLM engine. `add` and `abort` may be called at any time, `step` when `StepResult.next_ns` has come.

    After `add` to an engine that waits for nothing (`next_ns` is None), call `step` at once.
    """

    def __init__(
        self,
        config: EngineConfig,
        latency: LatencyModel,
        *,
        sample: Sampler = unknown_tokens,
        observer: EngineObserver | None = None,
        hash_seed: str = DEFAULT_HASH_SEED,
        record_events: bool = False,
    ) -> None:
        self.scheduler = Scheduler(config, hash_seed=hash_seed, record_events=record_events)
        self.busy_ns = 0
        self.num_steps = 0
        self._config = config
        self._latency = latency
        self._sample = sample
        self._observer = observer
        scheduler = self.scheduler
        self._group = DecodeGroup(config, scheduler.kv_cache, scheduler.hasher, sample)
        self._group_token_ns: int | None = None
        self._inbox: deque[Request] = deque()
        self._aborts: list[str] = []
        self._in_flight: deque[_StepInFlight] = deque()
        self._events: list[tuple[int, KVCacheEvent]] = []

    @property
    def next_ns(self) -> int | None:
        """When the oldest step in flight ends."""
        return self._in_flight[0].end_ns if self._in_flight else None

    @property
    def gauges(self) -> Gauges:
        """The state now; requests in the inbox are nowhere yet."""
        scheduler = self.scheduler
        return Gauges(len(scheduler.running), len(scheduler.waiting), scheduler.kv_cache.pool.usage)

    @property
    def num_waiting(self) -> int:
        """Requests that are not running, those in the inbox included."""
        return len(self.scheduler.waiting) + len(self._inbox)

    def add(self, request: Request) -> None:
        """Put a request into the inbox. Its prompt must leave room for one token within `max_model_len`."""
        assert request.num_prompt_tokens < self._config.max_model_len, (
            "the caller refuses prompts that are too long"
        )
        self._inbox.append(request)

    def abort(self, request_id: str) -> None:
        """Ask for the end of a request; it takes effect between steps, and unknown ids are ignored."""
        self._aborts.append(request_id)

    def step(self, now_ns: int, *, until_ns: int | None = None) -> StepResult:
        """Complete the step that ends now, if one does, and schedule until the pipeline is full.

        Where nothing arrives before `until_ns` (exclusive) and nothing is paused, requests that only decode are advanced
        as a group, and steps in which all do so are taken many at once. The result is the same as that of single steps.
        """
        outputs: list[Request] = []
        completed: Gauges | None = None
        if self._in_flight:
            outputs = self._complete(now_ns)
            if until_ns is None:
                completed = self.gauges
        self._read_inbox(now_ns)
        if until_ns is None or self.scheduler.pause != "none":
            self._dissolve_group()
        elif len(self._in_flight) == self._config.pipeline_depth - 1:
            self._gather_group(now_ns)
            if self._take_many_steps(now_ns, until_ns):
                return StepResult(outputs, self._published(), self.next_ns, completed)
        self._fill_pipeline(now_ns)
        self._report_gauges(now_ns)
        return StepResult(outputs, self._published(), self.next_ns, completed)

    @property
    def records_events(self) -> bool:
        """Whether KV-cache events are recorded."""
        return self.scheduler.kv_cache.records_events

    def record_events(self) -> None:
        """Record KV-cache events from now on."""
        self.scheduler.kv_cache.record_events()

    def take_events(self, now_ns: int) -> list[tuple[int, KVCacheEvent]]:
        """Return the events that wait for the next step to be completed, which is when vLLM publishes them."""
        self._take_events(now_ns)
        return self._published()

    def settle(self) -> None:
        """Bring the output tokens of all requests up to date, to be read when no further step will be taken."""
        self._group.settle()

    def reset_prefix_cache(self, *, reset_running_requests: bool = False) -> bool:
        """Forget the prefix cache; False while any request holds blocks, unless all are to be preempted first."""
        if reset_running_requests:
            self._dissolve_group()
        return self.scheduler.reset_prefix_cache(reset_running_requests=reset_running_requests)

    def _complete(self, now_ns: int) -> list[Request]:
        step = self._in_flight[0]
        assert step.end_ns <= now_ns, "a step is completed when it has ended"
        self._in_flight.popleft()
        outputs = self.scheduler.complete(step.plan, self._sample)
        self._observe_outputs(outputs, now_ns)
        self._observe_group(now_ns)
        self._take_events(now_ns)
        return outputs

    def _observe_outputs(self, outputs: Sequence[Request], now_ns: int) -> None:
        last_tokens_ns: list[int] = []
        for request in outputs:
            if request.last_token_ns is None:
                request.first_token_ns = now_ns
            else:
                last_tokens_ns.append(request.last_token_ns)
            request.last_token_ns = now_ns
        if self._observer is not None:
            for then_ns, same in groupby(last_tokens_ns):
                self._observer.inter_token(now_ns - then_ns, len(list(same)))

    def _read_inbox(self, now_ns: int) -> None:
        while self._inbox:
            request = self._inbox.popleft()
            request.queued_ns = now_ns
            self.scheduler.add(request)
        if self._aborts:
            self._dissolve_group()
            self.scheduler.abort(self._aborts)
            self._aborts.clear()

    def _fill_pipeline(self, now_ns: int) -> None:
        while len(self._in_flight) < self._config.pipeline_depth:
            plan = self.scheduler.schedule(self._group)
            if not plan.is_empty:
                for admission in plan.new:
                    admission.request.scheduled_ns = now_ns
                self._launch(plan, now_ns, self._latency.step_ns(_shape(plan, self._group)))
                self._group.advance()
                continue
            if self._in_flight:
                break
            self._take_events(now_ns)
            # Prompts may have been put off in favour of the one request that decodes, and that found no room.
            if not plan.preempted:
                break
        may_stall = self._in_flight or self.scheduler.pause != "none"
        assert may_stall or not self.scheduler.has_requests, "some request can never be scheduled"

    def _launch(self, plan: StepPlan, now_ns: int, duration_ns: int) -> None:
        start_ns = max(now_ns, self._in_flight[-1].end_ns) if self._in_flight else now_ns
        self._in_flight.append(_StepInFlight(plan, start_ns + duration_ns))
        self.busy_ns += duration_ns
        self.num_steps += 1

    # -- decoding in a group -------------------------------------------------------------------------------

    def _gather_group(self, now_ns: int) -> None:
        """Let those leave the group, and join it, for whom it is time; or dissolve it where memory is short."""
        group, plans = self._group, [step.plan for step in self._in_flight]
        group.leave_when_due(plans, self._group_token_ns)
        joiners: list[Request] = []
        for request in reversed(self.scheduler.running):
            if request in group:
                break
            joiners.append(request)
        # Only the first of the batch can be members: one that computes a prompt uses up the budget of those behind.
        for request in reversed(joiners):
            if request.last_token_ns != now_ns or group.steps_of(request) < 1:
                break
            group.join(request, plans)
            self._group_token_ns = now_ns
        if not self.scheduler.can_group(group):
            self._dissolve_group()

    def _dissolve_group(self) -> None:
        if self._group:
            self._group.dissolve([step.plan for step in self._in_flight], self._group_token_ns)

    def _take_many_steps(self, now_ns: int, until_ns: int) -> bool:
        """Take as many steps as can be scheduled before `until_ns`, if nothing but decoding happens in them.

        Returns False, and does nothing, if that is not at least two.
        """
        group, in_flight = self._group, self._in_flight
        if (
            not group
            or len(group) < len(self.scheduler.running)
            or any(step.plan.scheduled for step in in_flight)
        ):
            return False
        count = group.steps_to_leave
        if count < 2 or not self.scheduler.stays_as_it_is():
            return False
        durations = self._latency.decode_steps_ns(len(group), group.context_tokens, count)
        start_ns = in_flight[0].end_ns if in_flight else now_ns
        ends = list(accumulate(durations, initial=start_ns))
        # Step i is scheduled when the pipeline has room for it: as step i-1 ends, or as it starts.
        schedules = [now_ns, *ends] if in_flight else ends
        count = group.steps_with_room(bisect_left(schedules, until_ns, 0, count))
        if count < 2:
            return False
        self._report_gauges(now_ns)
        records_events = self.records_events
        for step in range(count):
            if step:
                self._observe_group(schedules[step])
            if waking := group.waking():
                for request in waking:
                    group.wake(request)
                self._report_gauges(schedules[step])
            group.advance()
            if records_events and step + 1 < count:
                self._take_events(schedules[step + 1])
        in_flight.clear()
        for end_ns in ends[count + 1 - self._config.pipeline_depth : count + 1]:
            in_flight.append(_StepInFlight(StepPlan(num_grouped=len(group)), end_ns))
        self.scheduler.count_steps(count)
        self.busy_ns += sum(durations[:count])
        self.num_steps += count
        return True

    def _observe_group(self, now_ns: int) -> None:
        """Every member gets a token whenever a step ends."""
        if self._group and self._group_token_ns is not None:
            if self._observer is not None:
                self._observer.inter_token(now_ns - self._group_token_ns, len(self._group))
            self._group_token_ns = now_ns

    def _report_gauges(self, now_ns: int) -> None:
        if self._observer is not None:
            scheduler = self.scheduler
            used_blocks = scheduler.kv_cache.pool.num_used_blocks
            self._observer.gauges(now_ns, used_blocks, len(scheduler.running), len(scheduler.waiting))

    def _published(self) -> list[tuple[int, KVCacheEvent]]:
        events, self._events = self._events, []
        return events

    def _take_events(self, now_ns: int) -> None:
        if events := self.scheduler.take_events():
            self._events.extend((now_ns, event) for event in events)


def _shape(plan: StepPlan, group: DecodeGroup) -> StepShape:
    prefills: list[PrefillChunk] = []
    num_decodes, context_tokens = len(group), group.context_tokens
    for request, num_new in plan.scheduled.items():
        computed = request.num_computed_tokens - num_new
        if computed < request.prefill_end:
            prefills.append(PrefillChunk(num_new, computed, request.prefill_start, request.prefill_end))
        else:
            num_decodes += 1
            context_tokens += computed
    return StepShape(prefills, num_decodes, context_tokens)
