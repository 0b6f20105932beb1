"""Routers that hear one worker in a test: what they know of it, and what the worker really holds."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.server.serving import Served

from understudy.engine import LoRA, event_hash
from understudy.engine.config import HashAlgorithm
from understudy.gateway.kv_events import EventSubscriber, HashCheck, event_context
from understudy.gateway.source_state import SourceState
from understudy.gateway.worker_http import WorkerHttp, question_session

SLOT = 3


@dataclass
class Heard:
    """A sink that counts copies of one slot, and holds its callers to their word."""

    held: Counter[int] = field(default_factory=Counter)
    states: list[tuple[SourceState, str | None]] = field(default_factory=list)
    num_synchronised: int = 0

    @property
    def state(self) -> SourceState:
        """The last one."""
        return self.states[-1][0] if self.states else SourceState.UNKNOWN

    def changed(self, slot: int, state: SourceState, sentence: str | None) -> None:
        """Hear what the source is good for: a state is new, and where nothing can be known, nothing is."""
        assert slot == SLOT
        assert state is not self.state
        assert (sentence is None) == (state is SourceState.FOLLOWED)
        assert not self.held
        self.states.append((state, sentence))

    def stored(self, worker: int, hashes: Sequence[int]) -> None:
        """Add."""
        self._assert_may_be_told(worker)
        self.held.update(hashes)

    def removed(self, worker: int, hashes: Sequence[int]) -> None:
        """Take away."""
        self._assert_may_be_told(worker)
        self.held -= Counter(hashes)

    def cleared(self, worker: int) -> None:
        """Forget."""
        self._assert_may_be_told(worker)
        self.held.clear()

    def synchronised(self, worker: int, hashes: Sequence[int]) -> None:
        """Replace."""
        self._assert_may_be_told(worker)
        self.held = Counter(hashes)
        self.num_synchronised += 1

    def _assert_may_be_told(self, worker: int) -> None:
        assert worker == SLOT
        assert self.state is SourceState.FOLLOWED


@asynccontextmanager
async def hearing(
    url: str,
    *,
    algorithm: HashAlgorithm = "sha256",
    block_size: int = 16,
    seed: str | None = None,
    adapters: dict[str, LoRA] | None = None,
    max_batch_bytes: int = 1024 * 1024,
) -> AsyncIterator[tuple[EventSubscriber, Heard]]:
    """Subscribe to the worker at a URL."""
    heard = Heard()
    context = event_context()
    async with question_session() as session:
        subscriber = EventSubscriber(
            SLOT,
            WorkerHttp(url, session),
            heard,
            HashCheck(algorithm, block_size, seed, (adapters or {}).get),
            heard.changed,
            context=context,
            max_blocks=10_000,
            max_batch_bytes=max_batch_bytes,
        )
        subscriber.start()
        try:
            yield subscriber, heard
        finally:
            await subscriber.close()
            context.term()


def really_held(server: Served) -> Counter[int]:
    """Return what the engines of a worker hold."""
    engines = server.worker.frontend.loop.engines
    return Counter(
        event_hash(block) for engine in engines for block in engine.scheduler.kv_cache.pool.cached_hashes()
    )
