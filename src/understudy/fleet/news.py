"""How news of the workers reaches the router: at once, late, in heartbeats, or not at all.

The router's state knows nothing of delays; this is where they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from understudy.engine import BlockRemoved, BlockStored, KVCacheEvent
from understudy.errors import UsageError
from understudy.fleet.worker import Worker
from understudy.routing import DelayLine, Knowledge, RouterState

NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsTiming:
    """How late and how often the router hears of its workers; raises UsageError for times that cannot be."""

    delay_ns: int = NS_PER_SECOND // 20
    heartbeat_ns: int = NS_PER_SECOND
    synchronisation_ns: int = 5 * NS_PER_SECOND

    def __post_init__(self) -> None:
        if self.delay_ns < 0:
            raise UsageError(
                "the router's knowledge cannot be older than no time: the delay must be at least 0"
            )
        if self.heartbeat_ns <= 0 or self.synchronisation_ns <= 0:
            raise UsageError("the intervals of heartbeats and full synchronisations must be greater than 0")
        if self.synchronisation_ns % self.heartbeat_ns:
            raise UsageError(
                f"synchronisation_seconds ({self.synchronisation_ns / NS_PER_SECOND:g}) must be a multiple of "
                f"heartbeat_seconds ({self.heartbeat_ns / NS_PER_SECOND:g}): a full list comes with a heartbeat"
            )


class _Load(NamedTuple):
    running: int
    waiting: int
    kv_usage: float
    at_ns: int


class _Blocks(NamedTuple):
    hashes: list[bytes | int]


class News:
    """The news of one worker on its way to the router."""

    def __init__(self, worker: Worker, state: RouterState, timing: NewsTiming) -> None:
        self._worker = worker
        self._state = state
        self._timing = timing
        knowledge = state.knowledge_of(worker.index)
        self._is_exact = knowledge is Knowledge.EXACT
        self._hears_events = knowledge in (Knowledge.EXACT, Knowledge.EVENTS)
        self._has_heartbeat = knowledge in (Knowledge.EVENTS, Knowledge.HEARTBEAT)
        self._on_the_way: DelayLine[KVCacheEvent | _Load | _Blocks] = DelayLine()
        self._next_heartbeat_ns = timing.heartbeat_ns

    @property
    def next_heartbeat_ns(self) -> int | None:
        """When the worker's state must be looked at, None where nobody wants to know."""
        return self._next_heartbeat_ns if self._has_heartbeat else None

    def happened(self, events: Iterable[tuple[int, KVCacheEvent]]) -> None:
        """Take KV events, each with its time."""
        if not self._hears_events:
            return
        for at_ns, event in events:
            if self._is_exact:
                self._tell(event)
            else:
                self._on_the_way.push(at_ns + self._timing.delay_ns, event)

    def heartbeat(self) -> None:
        """Send the worker's state as it is at `next_heartbeat_ns`."""
        at_ns = self._next_heartbeat_ns
        # Under a policy that never looks, nobody else would fetch the news, and it would pile up.
        self._hear(at_ns)
        self._on_the_way.push(at_ns + self._timing.delay_ns, self._load(at_ns))
        if not self._hears_events and at_ns % self._timing.synchronisation_ns == 0:
            blocks = _Blocks(self._worker.engine.scheduler.kv_cache.pool.cached_hashes())
            self._on_the_way.push(at_ns + self._timing.delay_ns, blocks)
        self._next_heartbeat_ns += self._timing.heartbeat_ns

    def skip_repetitions(self, now_ns: int) -> None:
        """Leave out heartbeats of an idle worker up to now that others, still to be sent, will repeat in time."""
        timing = self._timing
        window_ns = timing.delay_ns + timing.heartbeat_ns + timing.synchronisation_ns
        periods = (now_ns - window_ns - self._next_heartbeat_ns) // timing.synchronisation_ns
        if periods > 0:
            self._next_heartbeat_ns += periods * timing.synchronisation_ns

    def deliver(self, now_ns: int) -> None:
        """Tell the router everything that has reached it by now."""
        if self._is_exact:
            self._tell(self._load(now_ns))
        self._hear(now_ns)

    def _hear(self, now_ns: int) -> None:
        for item in self._on_the_way.pop_due(now_ns):
            self._tell(item)

    def _load(self, at_ns: int) -> _Load:
        engine = self._worker.engine
        return _Load(len(engine.scheduler.running), engine.num_waiting, self._worker.kv_usage, at_ns)

    def _tell(self, item: KVCacheEvent | _Load | _Blocks) -> None:
        state, worker = self._state, self._worker.index
        match item:
            case BlockStored(block_hashes=hashes):
                state.stored(worker, hashes)
            case BlockRemoved(block_hash=block_hash):
                state.removed(worker, (block_hash,))
            case _Load():
                state.reported(worker, item.running, item.waiting, item.kv_usage, item.at_ns)
            case _Blocks():
                state.synchronised(worker, item.hashes)
            case _:
                state.cleared(worker)
