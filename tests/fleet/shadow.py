"""What a fleet's workers did, done again: each by itself, in single steps, as far as one likes to look."""

from collections.abc import Sequence
from itertools import takewhile

from understudy.engine import BlockHash, BlockRemoved, BlockStored, Engine, KVCacheEvent, Request
from understudy.fleet import RequestRecord, Simulation
from understudy.routing import PrefixIndex
from understudy.workload import WorkloadRequest

NEVER_NS = 1 << 62


class Shadow:
    """One worker of a finished simulation from its start up to a time that only moves forward.

    `events` are what the engine has published, `finished_ns` when requests ended, `requests` all that arrived.
    """

    def __init__(self, simulation: Simulation, worker: int, workload: Sequence[WorkloadRequest]) -> None:
        config = simulation.config
        self.events: list[tuple[int, KVCacheEvent]] = []
        self.requests: dict[str, Request] = {}
        self.finished_ns: dict[str, int] = {}
        self.engine = Engine(
            config.engine, config.latency, sample=self._sample, hash_seed=config.hash_seed, record_events=True
        )
        self._max_model_len = config.engine.max_model_len
        items = {item.request_id: item for item in workload}
        self._to_come = [
            (record, items[record.request_id]) for record in simulation.records if record.worker == worker
        ]
        self._to_come.reverse()
        self._outputs = {item.request_id: item.output_ids for _, item in self._to_come}
        self._start_ns: int | None = None

    def forward(self, until_ns: int) -> Engine:
        """Let everything happen that happens before this time, and return the engine as it is then."""
        while (now_ns := min(self._next_arrival_ns, self._next_step_ns)) < until_ns:
            if now_ns == self._next_arrival_ns:
                self._arrive(now_ns)
            else:
                self._start_ns = None
                result = self.engine.step(now_ns)
                self.events.extend(result.events)
                ended = (request.request_id for request in result.outputs if request.status.is_finished)
                self.finished_ns.update(dict.fromkeys(ended, now_ns))
        return self.engine

    @property
    def _next_arrival_ns(self) -> int:
        return self._to_come[-1][0].arrival_ns if self._to_come else NEVER_NS

    @property
    def _next_step_ns(self) -> int:
        due_ns = self.engine.next_ns if self._start_ns is None else self._start_ns
        return NEVER_NS if due_ns is None else due_ns

    def _arrive(self, now_ns: int) -> None:
        record, item = self._to_come.pop()
        request = Request(
            item.request_id,
            item.prompt,
            min(item.output_tokens, self._max_model_len - item.prompt.num_tokens),
            serial=record.serial,
            arrival_time=float(now_ns),
            priority=item.priority,
        )
        self.requests[item.request_id] = request
        self.engine.add(request)
        if self.engine.next_ns is None:
            self._start_ns = now_ns

    def _sample(self, request: Request, count: int) -> Sequence[int] | None:
        outputs = self._outputs[request.request_id]
        position = request.num_output_tokens
        return None if outputs is None else outputs[position : position + count]


def shadows(simulation: Simulation, workload: Sequence[WorkloadRequest]) -> list[Shadow]:
    """Return the shadows of all workers, at the start."""
    return [Shadow(simulation, worker.index, workload) for worker in simulation.workers]


def cached_blocks(engine: Engine, hashes: Sequence[BlockHash]) -> int:
    """Return how many of these hashes the engine itself would find from the first on."""
    cached = set(engine.scheduler.kv_cache.pool.cached_hashes())
    return len(list(takewhile(cached.__contains__, hashes)))


def announced_blocks(events: Sequence[KVCacheEvent], hashes: Sequence[BlockHash]) -> int:
    """Return how many of these hashes a listener to these events takes to be cached from the first on."""
    index = PrefixIndex(1)
    for event in events:
        if isinstance(event, BlockStored):
            index.stored(0, event.block_hashes)
        else:
            assert isinstance(event, BlockRemoved)
            index.removed(0, [event.block_hash])
    return index.longest_prefixes(hashes)[0]


def in_flight_at(records: Sequence[RequestRecord], now: RequestRecord, worker: int) -> list[RequestRecord]:
    """Return the requests of a worker that arrived before this one and have not finished before it arrives."""
    return [
        record
        for record in records[: now.serial]
        if record.worker == worker and record.finish_ns is not None and record.finish_ns >= now.arrival_ns
    ]
