"""Whatever happens in whatever order, the scheduler loses nothing, exceeds nothing and delivers each token once."""

from collections import deque
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.engine import (
    CacheIdentity,
    EngineConfig,
    Request,
    RequestStatus,
    Scheduler,
    StepPlan,
    TokenPrompt,
)
from understudy.engine.config import POLICIES

MAX_PROMPT = 20
MAX_OUTPUT = 12
STOP_EVERY = 5
"""A request that stops by token does so at the first position that is a multiple of this."""

CONFIGS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    block_size=st.sampled_from([1, 2, 4, 7]),
    spare_blocks=st.sampled_from([0, 2, 10, 60]),
    max_model_len=st.sampled_from([MAX_PROMPT + 1, MAX_PROMPT + 6, MAX_PROMPT + MAX_OUTPUT]),
    max_num_seqs=st.sampled_from([1, 3, 8]),
    max_num_batched_tokens=st.sampled_from([8, 32]),
    enable_prefix_caching=st.sampled_from([True, True, False]),
    scheduling_policy=st.sampled_from(POLICIES),
    watermark=st.sampled_from([0.0, 0.3]),
    scheduler_reserve_full_isl=st.booleans(),
    long_prefill_token_threshold=st.sampled_from([0, 3]),
    prefill_schedule_interval=st.sampled_from([1, 3]),
)


def _prompt(text: int, length: int) -> list[int]:
    """Two texts share the first half of the longest prompt."""
    return [position if position < MAX_PROMPT // 2 else 100 * text + position for position in range(length)]


class SchedulerMachine(RuleBasedStateMachine):
    """Adds, aborts, schedules, completes and resets. The token that is sampled at position p of a request is p."""

    async_scheduling = False

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.in_flight: deque[tuple[StepPlan, dict[Request, int]]] = deque()
        self.preempted_by_reset: list[Request] = []
        self.must_complete = False

    @initialize(options=CONFIGS)
    def start(self, options: dict[str, Any]) -> None:
        """Make a cache into which any single request fits."""
        spare_blocks = options.pop("spare_blocks")
        num_gpu_blocks = 1 + -(-(MAX_PROMPT + MAX_OUTPUT) // options["block_size"]) + spare_blocks
        self.config = EngineConfig(
            num_gpu_blocks=num_gpu_blocks, async_scheduling=self.async_scheduling, **options
        )
        self.scheduler = Scheduler(self.config, record_events=True)

    @rule(
        text=st.integers(0, 2),
        length=st.integers(1, MAX_PROMPT),
        max_tokens=st.integers(1, MAX_OUTPUT),
        priority=st.integers(0, 2),
        salt=st.sampled_from([None, "salt"]),
        stops=st.booleans(),
    )
    def add(
        self, *, text: int, length: int, max_tokens: int, priority: int, salt: str | None, stops: bool
    ) -> None:
        """Send a request."""
        serial = len(self.requests)
        request = Request(
            f"r{serial}",
            TokenPrompt(_prompt(text, length)),
            max_tokens,
            serial=serial,
            arrival_time=float(serial),
            priority=priority,
            identity=CacheIdentity(salt=salt),
            stop_token_ids=range(0, MAX_PROMPT + MAX_OUTPUT, STOP_EVERY) if stops else (),
        )
        self.requests.append(request)
        self.scheduler.add(request)

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        """Name ids, of which some are unknown, some have finished, and some come twice."""
        known = [request.request_id for request in self.requests]
        request_ids = data.draw(st.lists(st.sampled_from(["nobody", *known]), max_size=3))
        going = [
            request
            for request in self.requests
            if request.request_id in request_ids and not request.status.is_finished
        ]
        aborted = self.scheduler.abort(request_ids)
        assert set(aborted) == set(going)
        assert len(aborted) == len(going)
        assert all(request.status is RequestStatus.FINISHED_ABORTED for request in going)

    @rule(reset_running_requests=st.sampled_from([False, False, True]))
    def reset_prefix_cache(self, *, reset_running_requests: bool) -> None:
        """Succeed if nobody runs, or if the running are to be preempted."""
        idle = not self.scheduler.running
        if reset_running_requests:
            self.preempted_by_reset += reversed(self.scheduler.running)
        done = self.scheduler.reset_prefix_cache(reset_running_requests=reset_running_requests)
        assert done is (idle or reset_running_requests)
        if done:
            assert self.scheduler.kv_cache.pool.cached_hashes() == []

    @precondition(lambda self: len(self.in_flight) < self.config.pipeline_depth and not self.must_complete)
    @rule()
    def schedule(self) -> None:
        """Decide a step within the limits."""
        plan = self.scheduler.schedule()
        made_room = plan.preempted[: len(plan.preempted) - len(self.preempted_by_reset)]
        assert plan.preempted == [*made_room, *self.preempted_by_reset], "resets are told with the next plan"
        self.preempted_by_reset = []
        self.must_complete = bool(plan.is_empty and self.in_flight)
        if plan.is_empty:
            return
        assert all(num_new > 0 for num_new in plan.scheduled.values())
        assert sum(plan.scheduled.values()) <= self.config.token_budget
        assert not (made_room and (plan.new or plan.resumed)), "whoever preempts admits nobody"
        assert set(plan.scheduled) <= set(self.scheduler.running)
        positions = {request: request.num_computed_tokens for request in plan.scheduled}
        self.in_flight.append((plan, positions))

    @precondition(lambda self: self.in_flight)
    @rule()
    def complete(self) -> None:
        """End the oldest step in flight."""
        self.must_complete = False
        plan, positions = self.in_flight.popleft()
        before = {request: request.num_output_tokens for request in plan.scheduled}
        outputs = self.scheduler.complete(plan, lambda request, _count: [positions[request]])
        assert set(outputs) <= set(plan.scheduled) - plan.mid_prefill
        for request, count in before.items():
            assert request.num_output_tokens - count == (request in outputs)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Add up requests, blocks and tokens."""
        self.scheduler.check_integrity()
        self.scheduler.take_events()
        size = self.config.block_size
        for request in self.scheduler.running:
            assert request.num_blocks >= -(-request.num_computed_tokens // size), (
                "computed tokens have a place"
            )
        for request in self.requests:
            start, end = request.num_prompt_tokens, request.num_tokens
            assert list(request.token_ids[start:]) == list(range(start, end)), "each token once, in order"
            assert end <= self._end(request)

    def teardown(self) -> None:
        """Everything ends, and gives everything back."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(10_000):
            if not (self.in_flight or self.scheduler.has_requests):
                break
            if len(self.in_flight) < self.config.pipeline_depth and not self.must_complete:
                self.schedule()
            else:
                self.complete()
            self.nothing_is_lost()
        assert not self.scheduler.has_requests
        assert self.scheduler.kv_cache.pool.num_used_blocks == 0
        for request in self.requests:
            stopped_by = [
                p for p in range(request.num_prompt_tokens, request.num_tokens) if request.stops_at(p)
            ]
            match request.status:
                case RequestStatus.FINISHED_STOPPED:
                    assert stopped_by == [request.num_tokens - 1]
                case RequestStatus.FINISHED_LENGTH_CAPPED:
                    assert request.num_tokens == self._end(request)
                    assert not stopped_by
                case status:
                    assert status is RequestStatus.FINISHED_ABORTED

    def _end(self, request: Request) -> int:
        return min(request.num_prompt_tokens + request.max_tokens, self.config.max_model_len)


class AsyncSchedulerMachine(SchedulerMachine):
    """The same with a second step in flight."""

    async_scheduling = True


TestScheduler = SchedulerMachine.TestCase
TestAsyncScheduler = AsyncSchedulerMachine.TestCase
TestScheduler.settings = TestAsyncScheduler.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)


@pytest.mark.parametrize("async_scheduling", [False, True])
def test_an_abort_that_comes_twice_counts_once(*, async_scheduling: bool) -> None:
    """A client may disconnect and be cancelled between two steps."""
    scheduler = Scheduler(EngineConfig(num_gpu_blocks=9, max_model_len=64, async_scheduling=async_scheduling))
    request = Request("twice", TokenPrompt(range(10)), 5)
    scheduler.add(request)
    scheduler.schedule()
    assert scheduler.abort(["twice", "twice"]) == [request]
    scheduler.check_integrity()


def test_a_token_in_flight_is_lost_when_its_request_is_reset_and_runs_again() -> None:
    """As in vLLM, whose position would else be sampled twice: once by the lost step, once by the next."""
    scheduler = Scheduler(EngineConfig(num_gpu_blocks=9, max_model_len=64, async_scheduling=True))
    request = Request("reset", TokenPrompt(range(10)), 5)
    scheduler.add(request)
    lost = scheduler.schedule()
    assert scheduler.reset_prefix_cache(reset_running_requests=True)
    again = scheduler.schedule()
    assert list(again.scheduled) == [request]
    assert scheduler.complete(lost, lambda _request, _count: [1]) == []
    assert scheduler.complete(again, lambda _request, _count: [2]) == [request]
    assert request.token_ids[10:] == [2]


@pytest.mark.parametrize(("num_tokens", "is_admitted"), [(12, True), (13, False)])
def test_the_watermark_holds_only_while_others_run(*, num_tokens: int, is_admitted: bool) -> None:
    """Of eight blocks four are to stay free: nobody is held up alone, the next may fill three beside one that runs."""
    config = EngineConfig(
        num_gpu_blocks=9, max_model_len=64, block_size=4, watermark=0.5, enable_prefix_caching=False
    )
    alone = Scheduler(config)
    alone.add(Request("all", TokenPrompt(range(31)), 1))
    assert len(alone.schedule().new) == 1
    scheduler = Scheduler(config)
    scheduler.add(Request("first", TokenPrompt(range(3)), 1))
    scheduler.schedule()
    scheduler.add(Request("next", TokenPrompt(range(num_tokens)), 1))
    assert bool(scheduler.schedule().new) is is_admitted
