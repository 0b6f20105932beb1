"""A fleet of engines in virtual time, some of which may become slow, behind a router that watches for that.

The engines are the simulator's, with a GPU's latencies: a step costs the reading of weights and of contexts, and
the computation of prompt tokens.
"""

import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from understudy.engine import Engine, EngineConfig, Request, TokenPrompt
from understudy.engine.hashing import BlockHasher
from understudy.latency import StepShape
from understudy.routing import (
    Knowledge,
    PolicyMemory,
    RouterState,
    RoutingRequest,
    SlowWorkers,
    Watched,
    decide,
    load_policy,
    narrowed,
)

NS_PER_SECOND = 1_000_000_000
BLOCK_SIZE = 16
ENGINE = EngineConfig(
    num_gpu_blocks=4_000, max_model_len=16_384, block_size=BLOCK_SIZE, max_num_batched_tokens=8_192
)


@dataclass
class GpuLatency:
    """What an H100 takes for an 8B model, about; `slower` times as long."""

    slower: float = 1.0
    step_seconds: float = 0.007
    second_per_context_token: float = 40e-9
    second_per_prompt_token: float = 25e-6

    def step_ns(self, shape: StepShape) -> int:
        """Return how long a step takes."""
        context_tokens = shape.decode_context_tokens + sum(chunk.context_tokens for chunk in shape.prefills)
        prompt_tokens = sum(chunk.new_tokens for chunk in shape.prefills)
        seconds = (
            self.step_seconds
            + self.second_per_context_token * context_tokens
            + self.second_per_prompt_token * prompt_tokens
        )
        return round(self.slower * seconds * NS_PER_SECOND)

    def decode_steps_ns(self, num_decodes: int, context_tokens: int, count: int) -> Sequence[int]:
        """Return the durations of steps in a row that only decode."""
        return [
            self.step_ns(StepShape((), num_decodes, context_tokens + step * num_decodes))
            for step in range(count)
        ]


@dataclass(frozen=True, order=True)
class Arrival:
    """One request: its prompt is the text of its family followed by its own."""

    at_ns: int
    number: int
    family: int = 0
    shared_tokens: int = 0
    own_tokens: int = 400
    answer_tokens: int = 100


def arrivals(
    seed: int, per_second: float, seconds: float, template: Arrival | None = None, *, families: int = 1
) -> list[Arrival]:
    """Return requests like the template that arrive by chance, of families that are by chance as well."""
    rng = random.Random(seed)
    found: list[Arrival] = []
    at = rng.expovariate(per_second)
    while at < seconds:
        item = replace(
            template or Arrival(0, 0),
            at_ns=round(at * NS_PER_SECOND),
            number=len(found),
            family=rng.randrange(families),
        )
        found.append(item)
        at += rng.expovariate(per_second)
    return found


@dataclass
class _Journey:
    request: RoutingRequest
    worker: int
    watched: Watched
    arrived_ns: int


@dataclass
class SlowFleet:
    """A fleet, a policy, and who judges; `decisions` are the times and workers of all, `accused` whoever was ever slow."""

    num_workers: int
    policy: str = "least-loaded"
    knowledge: Knowledge = Knowledge.OWN
    engine: EngineConfig = ENGINE
    judges: bool = True
    decisions: list[tuple[int, int]] = field(default_factory=list)
    accused: dict[int, int] = field(default_factory=dict)
    ttft_ns: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.latencies = [GpuLatency() for _ in range(self.num_workers)]
        self.engines = [Engine(self.engine, latency) for latency in self.latencies]
        self.state = RouterState(self.num_workers, self.knowledge)
        self.slow_workers = SlowWorkers()
        for slot in range(self.num_workers):
            self.slow_workers.add(slot)
        self._memory = PolicyMemory(random.Random(0))
        self._hasher = BlockHasher("sha256", BLOCK_SIZE, "any")
        self._journeys: dict[str, _Journey] = {}
        self._due: list[tuple[int, int]] = []

    def run(self, requests: Iterable[Arrival], until_ns: int) -> None:
        """Let requests arrive and the engines work until this time."""
        for arrival in sorted(requests):
            self._work_until(arrival.at_ns)
            self._arrive(arrival)
        self._work_until(until_ns)

    def slows_down(self, worker: int, times: float) -> None:
        """Let every later step of a worker take so many times as long as on a healthy one."""
        self.latencies[worker].slower = times

    def _arrive(self, arrival: Arrival) -> None:
        now_ns = arrival.at_ns
        ids = [arrival.family] * arrival.shared_tokens + [
            1_000 + (arrival.number * 7_919 + place * 31) % 100_000 for place in range(arrival.own_tokens)
        ]
        engine_request = Request(f"r{arrival.number}", TokenPrompt(ids), arrival.answer_tokens)
        engine_request.hash_full_blocks(self._hasher)
        request = RoutingRequest(
            request_id=engine_request.request_id,
            num_prompt_tokens=len(ids),
            block_hashes=engine_request.block_hashes,
            block_size=BLOCK_SIZE,
            session_id=f"s{arrival.family}",
        )
        everyone = range(self.num_workers)
        for slot in self.slow_workers.slow(now_ns):
            self.accused.setdefault(slot, now_ns)
        candidates = self.slow_workers.spared(everyone, now_ns) if self.judges else everyone
        fleet = narrowed(self.state.fleet_at(now_ns), candidates)
        decision = decide(load_policy(self.policy), self.policy, request, fleet, self._memory)
        decision = decision._replace(worker=candidates[decision.worker])
        worker = decision.worker
        self.decisions.append((now_ns, worker))
        # Not every policy has looked.
        uncached_tokens = len(ids) - self.state.matched_blocks(request, now_ns)[worker] * BLOCK_SIZE
        self.state.dispatched(request, decision, now_ns)
        watched = self.slow_workers.watch(worker, len(ids), uncached_tokens, now_ns)
        self._journeys[request.request_id] = _Journey(request, worker, watched, now_ns)
        engine = self.engines[worker]
        engine.add(engine_request)
        if engine.next_ns is None:
            self._step(worker, now_ns)

    def _work_until(self, until_ns: int) -> None:
        while self._due and self._due[0][0] <= until_ns:
            now_ns, worker = heapq.heappop(self._due)
            self._step(worker, now_ns)

    def _step(self, worker: int, now_ns: int) -> None:
        result = self.engines[worker].step(now_ns)
        for request in result.outputs:
            self._token(request, now_ns)
        if result.next_ns is not None:
            heapq.heappush(self._due, (result.next_ns, worker))

    def _token(self, request: Request, now_ns: int) -> None:
        journey = self._journeys[request.request_id]
        if request.first_token_ns == now_ns:
            journey.watched.began(now_ns)
            self.state.first_token(request.request_id, journey.worker)
            self.ttft_ns.append((journey.arrived_ns, now_ns - journey.arrived_ns))
        else:
            journey.watched.tokens += 1
        if request.status.is_finished:
            journey.watched.ended(now_ns)
            self.state.finished(request.request_id, journey.worker)
            del self._journeys[request.request_id]
