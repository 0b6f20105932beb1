"""The fleet in virtual time: arrivals, a policy that gives each a worker, and the workers' engines.

Workers meet only in the router. So a worker is brought forward when somebody looks at it: when a policy asks for
what the router knows, when it gets a request, at the end. With arrivals that wait for answers (a closed loop) the
workers advance together, in the order of time.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from understudy.engine import CacheIdentity, EngineConfig, Request, SegmentPrompt
from understudy.engine.hashing import DEFAULT_HASH_SEED, BlockHasher
from understudy.errors import InputError, UsageError
from understudy.fleet.news import News, NewsTiming
from understudy.fleet.record import Dispatched, RequestRecord
from understudy.fleet.worker import NEVER_NS, Worker
from understudy.latency import LatencyModel
from understudy.routing import (
    Choose,
    Decision,
    FleetView,
    Knowledge,
    PolicyMemory,
    RouterState,
    RoutingRequest,
    WorkerView,
    decide,
)
from understudy.workload import Arrivals, WorkloadRequest

MAX_WORKERS = 4096
SLICE_NS = 1_000_000_000
"""How far workers may be apart in virtual time while no request arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """A fleet of equal workers, 1 to MAX_WORKERS, behind one router; raises UsageError for another number.

    `seed` feeds whatever the policy leaves to chance.
    """

    engine: EngineConfig
    latency: LatencyModel
    num_workers: int
    policy: str
    choose: Choose
    knowledge: Knowledge = Knowledge.EXACT
    news: NewsTiming = field(default_factory=NewsTiming)
    hash_seed: str = DEFAULT_HASH_SEED
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_workers <= MAX_WORKERS:
            raise UsageError(f"the number of workers must be from 1 to {MAX_WORKERS}, got {self.num_workers}")


class Simulation:
    """One run of a workload through a fleet; `run` may be called once.

    `records` are in order of arrival once `finish` was called, `start_ns` is the first arrival, `end_ns` is when
    the last request finished (of an interrupted run: the latest time that anything is known of), and `num_shortened` counts the answers that the context had no room for, which vLLM cuts short.
    `longest_refused_tokens` is the most that a refused request had in its prompt and asked for together.
    """

    def __init__(self, config: FleetConfig, arrivals: Arrivals) -> None:
        self.config = config
        self.records: list[RequestRecord] = []
        self.now_ns = 0
        self.start_ns = 0
        self.end_ns = 0
        self.num_shortened = 0
        self.longest_refused_tokens = 0
        knowledge = config.knowledge
        self._arrivals = arrivals
        self._state = RouterState(config.num_workers, knowledge)
        self._memory = PolicyMemory(Random(config.seed))
        self._known_outputs: dict[str, Sequence[int]] = {}
        self._in_flight: dict[str, Dispatched] = {}
        self._num_arrived = 0
        self.workers = [
            Worker(
                index,
                config.engine,
                config.latency,
                sample=self._sample,
                hash_seed=config.hash_seed,
                record_events=knowledge is Knowledge.EVENTS,
            )
            for index in range(config.num_workers)
        ]
        self._news = [News(worker, self._state, config.news) for worker in self.workers]

    def run(self, on_arrival: Callable[[int], None] = lambda _count: None) -> None:
        """Run to the end of the workload. `on_arrival` is told how many requests have arrived.

        Raises what the workload or the policy raise, all of them understudy's errors.
        """
        while (arrival_ns := self._next_arrival_ns()) is not None:
            request = self._arrivals.pop()
            assert request.arrival_ns == arrival_ns >= self.now_ns, "the clock never runs back"
            self.now_ns = arrival_ns
            if self._num_arrived == 0:
                self._start(arrival_ns)
            self._num_arrived += 1
            self._receive(request)
            on_arrival(self._num_arrived)
        # In slices, so that an interruption finds all workers at about the same time.
        while any(worker.next_ns is not None for worker in self.workers):
            due_ns = min(worker.next_ns for worker in self.workers if worker.next_ns is not None)
            self.now_ns = max(self.now_ns, due_ns) + SLICE_NS
            self._advance_all(self.now_ns)

    def _start(self, now_ns: int) -> None:
        self.start_ns = self.end_ns = now_ns
        for worker in self.workers:
            worker.timeline.start(now_ns)

    def finish(self) -> None:
        """Close the books, after `run` ended or was interrupted: requests still in flight count as unfinished."""
        if self._in_flight:
            self._come_together()
        self.records.extend(item.record("unfinished", None) for item in self._in_flight.values())
        self._in_flight.clear()
        self.records.sort()
        for worker in self.workers:
            worker.timeline.finish(self.end_ns)

    def _come_together(self) -> None:
        """Bring all workers of an interrupted run to the latest time that anything is known of.

        One that was interrupted within a step stays where it is, and all do if there is another interruption.
        """
        self.end_ns = max(self.end_ns, self.now_ns, *(worker.timeline.at_ns for worker in self.workers))
        with suppress(KeyboardInterrupt):
            for worker in self.workers:
                if worker.is_sound:
                    self._advance(worker, self.end_ns)
                    worker.engine.settle()

    def _next_arrival_ns(self) -> int | None:
        """Return when the next request arrives; where arrivals wait for answers, the workers must give them first."""
        if not self._arrivals.feedback:
            return self._arrivals.peek_ns()
        while True:
            arrival_ns = self._arrivals.peek_ns()
            worker = min(
                self.workers, key=lambda worker: NEVER_NS if worker.next_ns is None else worker.next_ns
            )
            if worker.next_ns is None or (arrival_ns is not None and arrival_ns <= worker.next_ns):
                return arrival_ns
            # An answer may bring an arrival at once, so nobody may run ahead of the others, nor of its own answers.
            others = (
                other.next_ns for other in self.workers if other is not worker and other.next_ns is not None
            )
            limit_ns = worker.next_ns if worker.may_answer else min(others, default=NEVER_NS)
            if arrival_ns is not None:
                limit_ns = min(limit_ns, arrival_ns)
            self._advance(worker, max(limit_ns, worker.next_ns + 1), once=True)

    def _receive(self, item: WorkloadRequest) -> None:
        engine_config = self.config.engine
        serial = self._num_arrived - 1
        self._check_id(item.request_id)
        if item.prompt.num_tokens >= engine_config.max_model_len:
            self._refuse(item, serial)
            return
        request = self._engine_request(item, serial)
        block_size = engine_config.block_size
        routing_request = RoutingRequest(
            request_id=item.request_id,
            num_prompt_tokens=request.num_prompt_tokens,
            block_hashes=request.block_hashes,
            block_size=block_size,
            session_id=item.session_id,
            priority=item.priority,
        )
        decision = decide(
            self.config.choose, self.config.policy, routing_request, _LazyFleet(self), self._memory
        )
        self._dispatch(request, routing_request, decision)

    def _check_id(self, request_id: str) -> None:
        namesake = self._in_flight.get(request_id)
        if namesake is None:
            return
        self._advance(self.workers[namesake.worker], self.now_ns)
        if request_id in self._in_flight:
            raise InputError(f"request id {request_id!r} arrives again before the first one has finished")

    def _dispatch(self, request: Request, routing_request: RoutingRequest, decision: Decision) -> None:
        self._advance(self.workers[decision.worker], self.now_ns)
        block_size = self.config.engine.block_size
        usable_blocks = min(decision.matched_blocks, (request.num_prompt_tokens - 1) // block_size)
        self._in_flight[request.request_id] = Dispatched(
            request, self.now_ns, decision.worker, usable_blocks * block_size, decision.reason
        )
        self._state.dispatched(routing_request, decision, self.now_ns)
        self.workers[decision.worker].add(request, self.now_ns)

    def _refuse(self, item: WorkloadRequest, serial: int) -> None:
        """Answer as vLLM does when a prompt leaves no room for a token: with an error, at once."""
        request_tokens = item.prompt.num_tokens + item.output_tokens
        self.longest_refused_tokens = max(self.longest_refused_tokens, request_tokens)
        self.records.append(
            RequestRecord(
                serial, item.request_id, "refused", item.arrival_ns, item.prompt.num_tokens, output_tokens=0
            )
        )
        self._arrivals.finished(item.request_id, item.arrival_ns)

    def _engine_request(self, item: WorkloadRequest, serial: int) -> Request:
        if item.cache_salt is not None and isinstance(item.prompt, SegmentPrompt):
            raise InputError(f"request {item.request_id!r}: a cache salt needs a prompt of token ids")
        room_tokens = self.config.engine.max_model_len - item.prompt.num_tokens
        self.num_shortened += item.output_tokens > room_tokens
        request = Request(
            item.request_id,
            item.prompt,
            min(item.output_tokens, room_tokens),
            serial=serial,
            arrival_time=float(item.arrival_ns),
            priority=item.priority,
            identity=CacheIdentity(salt=item.cache_salt),
        )
        request.hash_full_blocks(self._hasher)
        if item.output_ids is not None:
            self._known_outputs[item.request_id] = item.output_ids
        return request

    @cached_property
    def _hasher(self) -> BlockHasher:
        """The router hashes prompts as its workers do, also where their caching is off."""
        engine = self.config.engine
        return BlockHasher(engine.prefix_caching_hash_algo, engine.block_size, self.config.hash_seed)

    def _sample(self, request: Request, count: int) -> Sequence[int] | None:
        """Return what the workload says that the model answers, None where it gives lengths only."""
        outputs = self._known_outputs.get(request.request_id)
        position = request.num_output_tokens
        return None if outputs is None else outputs[position : position + count]

    def _advance_all(self, until_ns: int) -> None:
        for worker in self.workers:
            self._advance(worker, until_ns)

    def _advance(self, worker: Worker, until_ns: int, *, once: bool = False) -> None:
        """Bring one worker forward, stopping for its heartbeats; what is due at `until_ns` itself stays to be done.

        `once` stops after one call of its engine.
        """
        news = self._news[worker.index]
        while True:
            if worker.next_ns is None:
                news.skip_repetitions(until_ns)
            heartbeat_ns = NEVER_NS if news.next_heartbeat_ns is None else news.next_heartbeat_ns
            called = self._run_worker(worker, min(heartbeat_ns, until_ns), once=once)
            if heartbeat_ns > until_ns or (called and once):
                return
            news.heartbeat()

    def _run_worker(self, worker: Worker, until_ns: int, *, once: bool) -> bool:
        """Let a worker take its steps before `until_ns`, or the first of them; return whether there was any."""
        news, called = self._news[worker.index], False
        for now_ns, result in worker.run_until(until_ns):
            called = True
            news.happened(result.events)
            for request in result.outputs:
                if request.first_token_ns == now_ns:
                    self._state.first_token(request.request_id, worker.index)
                if request.status.is_finished:
                    self._finished(request, now_ns)
            if once:
                break
        return called

    def _finished(self, request: Request, now_ns: int) -> None:
        self.end_ns = max(self.end_ns, now_ns)
        item = self._in_flight.pop(request.request_id)
        self._known_outputs.pop(request.request_id, None)
        self.records.append(item.record(request.status.value, now_ns))
        self._state.finished(request.request_id, item.worker)
        self._arrivals.finished(request.request_id, now_ns)

    def _listen(self) -> None:
        """Make exact knowledge so: take what has not been published yet, and from the first look on, all events."""
        for worker, news in zip(self.workers, self._news, strict=True):
            if worker.engine.records_events:
                news.happened(worker.engine.take_events(self.now_ns))
            else:
                worker.engine.record_events()
                self._state.synchronised(worker.index, worker.engine.scheduler.kv_cache.pool.cached_hashes())

    def known_fleet(self) -> FleetView:
        """Bring all workers and the router's knowledge of them up to now."""
        self._advance_all(self.now_ns)
        if self.config.knowledge is Knowledge.EXACT:
            self._listen()
        for news in self._news:
            news.deliver(self.now_ns)
        return self._state.fleet_at(self.now_ns)


class _LazyFleet:
    """What a policy sees; the workers are brought up to date only if it looks at them."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    @cached_property
    def _known(self) -> FleetView:
        return self._simulation.known_fleet()

    def __len__(self) -> int:
        return len(self._simulation.workers)

    @property
    def slots(self) -> Sequence[int]:
        """Every worker's own index."""
        return range(len(self))

    @property
    def keys(self) -> Sequence[int]:
        """The same: here no worker has a name of its own."""
        return range(len(self))

    @property
    def workers(self) -> Sequence[WorkerView]:
        """All workers, by index."""
        return self._known.workers

    def matched_blocks(self, request: RoutingRequest) -> Sequence[int]:
        """Return for each worker how many blocks of the prompt the router takes it to hold."""
        return self._known.matched_blocks(request)
