"""Whatever arrives, is aborted or reset at whatever time, the engine keeps its clock and always has work in flight."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.engine.drive import ContextLatency, Gauges

from understudy.engine import Engine, EngineConfig, Request, RequestStatus, SegmentPrompt
from understudy.engine.config import POLICIES

MAX_PROMPT = 40
MAX_OUTPUT = 40
SEGMENT_TOKENS = 8

CONFIGS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    block_size=st.sampled_from([1, 4, 16]),
    spare_blocks=st.sampled_from([0, 5, 100]),
    max_num_seqs=st.sampled_from([1, 4]),
    max_num_batched_tokens=st.sampled_from([8, 64]),
    enable_prefix_caching=st.booleans(),
    scheduling_policy=st.sampled_from(POLICIES),
    async_scheduling=st.booleans(),
)


class EngineMachine(RuleBasedStateMachine):
    """Plays the driver: virtual time goes on to arrivals and to the ends of steps, never back."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.requests: list[Request] = []
        self.gauges = Gauges()

    @initialize(options=CONFIGS, events=st.booleans())
    def start(self, options: dict[str, Any], *, events: bool) -> None:
        """Make a cache into which any single request fits."""
        spare_blocks = options.pop("spare_blocks")
        max_model_len = MAX_PROMPT + MAX_OUTPUT
        num_gpu_blocks = 1 + -(-max_model_len // options["block_size"]) + spare_blocks
        config = EngineConfig(num_gpu_blocks=num_gpu_blocks, max_model_len=max_model_len, **options)
        self.engine = Engine(config, ContextLatency(), observer=self.gauges, record_events=events)

    @rule(
        length=st.integers(1, MAX_PROMPT),
        shared=st.integers(0, MAX_PROMPT // SEGMENT_TOKENS),
        max_tokens=st.integers(1, MAX_OUTPUT),
        priority=st.integers(0, 2),
    )
    def add(self, length: int, shared: int, max_tokens: int, priority: int) -> None:
        """Send a request; an engine that waits for nothing is called at once."""
        serial = len(self.requests)
        segments = range(-(-length // SEGMENT_TOKENS))
        request = Request(
            f"r{serial}",
            SegmentPrompt(
                length, [i if i < shared else 100 * (serial + 1) + i for i in segments], SEGMENT_TOKENS
            ),
            max_tokens,
            serial=serial,
            arrival_time=float(self.now_ns),
            priority=priority,
        )
        self.requests.append(request)
        self.engine.add(request)
        if self.engine.next_ns is None:
            self._step(None)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        """Give up on requests, some of which have ended long ago, some of which come twice."""
        for request in data.draw(st.lists(st.sampled_from(self.requests), max_size=3)):
            self.engine.abort(request.request_id)

    @precondition(lambda self: self.engine.next_ns is not None)
    @rule(until_ns=st.none() | st.integers(0, 100_000))
    def step(self, until_ns: int | None) -> None:
        """Go on to the end of the oldest step, and take later ones at once as far as nothing is to happen."""
        assert self.engine.next_ns is not None
        self.now_ns = self.engine.next_ns
        self._step(None if until_ns is None else self.now_ns + until_ns)

    @precondition(lambda self: self.engine.next_ns is not None)
    @rule(fraction=st.floats(0, 1))
    def wait(self, fraction: float) -> None:
        """Let time pass within a step."""
        assert self.engine.next_ns is not None
        self.now_ns += int((self.engine.next_ns - self.now_ns) * fraction)

    @rule()
    def reset_prefix_cache(self) -> None:
        """Forget the cache, which works if and only if nobody runs."""
        assert self.engine.reset_prefix_cache() is not bool(self.engine.scheduler.running)

    def _step(self, until_ns: int | None) -> None:
        busy_ns = self.engine.busy_ns
        result = self.engine.step(self.now_ns, until_ns=until_ns)
        assert result.next_ns == self.engine.next_ns
        assert self.engine.busy_ns >= busy_ns
        assert all(request.last_token_ns is not None for request in result.outputs)
        times = [at_ns for at_ns, _ in result.events]
        assert times == sorted(times), "events come in the order of their times"
        assert all(self.now_ns <= at_ns for at_ns in times)
        if not self.engine.records_events:
            assert not result.events
        if until_ns is not None:
            assert all(at_ns < max(until_ns, self.now_ns + 1) for at_ns in times)

    @invariant()
    def always_at_work(self) -> None:
        """Be sound, and have a step in flight while any request is unfinished."""
        self.engine.scheduler.check_integrity()
        if any(not request.status.is_finished for request in self.requests):
            assert self.engine.next_ns is not None
        if self.engine.next_ns is not None:
            assert self.engine.next_ns >= self.now_ns, "a step that has ended is completed"

    @invariant()
    def causal(self) -> None:
        """Keep the order of the times of each request."""
        for request in self.requests:
            times = [request.queued_ns, request.scheduled_ns, request.first_token_ns, request.last_token_ns]
            known = [at_ns for at_ns in times if at_ns is not None]
            assert [int(request.arrival_time), *known] == sorted([int(request.arrival_time), *known])
            assert times[: len(known)] == known, "what has not happened is followed by nothing that has"

    def teardown(self) -> None:
        """End everything: each request, if nobody aborted it, with exactly its tokens."""
        if not hasattr(self, "engine"):
            return
        while self.engine.next_ns is not None:
            self.now_ns = self.engine.next_ns
            self._step(None)
            self.always_at_work()
        assert self.engine.scheduler.kv_cache.pool.num_used_blocks == 0
        for request in self.requests:
            if request.status is RequestStatus.FINISHED_LENGTH_CAPPED:
                assert request.num_output_tokens == min(
                    request.max_tokens, MAX_PROMPT + MAX_OUTPUT - request.num_prompt_tokens
                )
            else:
                assert request.status is RequestStatus.FINISHED_ABORTED


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
